//! Between 8-bit sRGB and the linear light that a sensor integrates.

use std::sync::LazyLock;

use image::RgbImage;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Linear light of a pixel, 0 to 1, with a fourth lane that pads it to one SIMD register.
pub(super) type Light = [f32; 4];

/// The sRGB transfer function (IEC 61966-2-1) and its inverse, tabulated for 8 bits.
struct Codes {
    linear: [f32; 256],
    /// From where on a linear value has the next code.
    ends: [f32; 256],
    /// The code at which to begin to look, by the linear value in steps of `1 / STEPS`.
    starts: [u8; STEPS + 1],
}

/// Fine enough that no step holds more than two codes' ends.
const STEPS: usize = 4096;

static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let ends = std::array::from_fn(|code| decode((code as f64 + 0.5) / 255.0) as f32);
    let code_of = |linear: f32| ends[..255].partition_point(|&end| end <= linear) as u8;
    Codes {
        linear: std::array::from_fn(|code| decode(code as f64 / 255.0) as f32),
        ends,
        starts: std::array::from_fn(|step| code_of(step as f32 / STEPS as f32)),
    }
});

/// The linear light of an encoded value.
pub(super) fn decode(encoded: f64) -> f64 {
    if encoded <= 0.04045 {
        encoded / 12.92
    } else {
        ((encoded + 0.055) / 1.055).powf(2.4)
    }
}

/// The inverse of [`decode`].
pub(super) fn encode(linear: f64) -> f64 {
    if linear <= 0.003_130_8 {
        linear * 12.92
    } else {
        1.055 * linear.powf(1.0 / 2.4) - 0.055
    }
}

/// Each value of some light by a function of it.
pub(super) fn map(light: &mut [Light], function: impl Fn(f64) -> f64) {
    for value in light.iter_mut().flat_map(|pixel| &mut pixel[..3]) {
        *value = function(f64::from(*value)) as f32;
    }
}

impl Codes {
    /// The nearest 8-bit code of a linear value; values beyond [0, 1] saturate as on a sensor.
    fn encode(&self, linear: f32) -> u8 {
        // A cast takes NaN and what is negative to 0.
        let step = (linear * STEPS as f32) as usize;
        let mut code = self.starts[step.min(STEPS)];
        while code < 255 && self.ends[usize::from(code)] <= linear {
            code += 1;
        }
        code
    }

    fn light(&self, pixel: [u8; 3]) -> Light {
        let [r, g, b] = pixel.map(|code| self.linear[usize::from(code)]);
        [r, g, b, 0.0]
    }
}

/// Appends the linear light of 8-bit RGB pixels.
pub(super) fn extend_with_light(light: &mut Vec<Light>, pixels: &[u8]) {
    let codes = &*CODES;
    light.extend(
        pixels
            .chunks_exact(3)
            .map(|rgb| codes.light([rgb[0], rgb[1], rgb[2]])),
    );
}

/// Rounds rows of light to an 8-bit image.
pub(super) fn to_image<'a>(
    rows: impl Iterator<Item = &'a [Light]>,
    [width, height]: [usize; 2],
) -> RgbImage {
    let codes = &*CODES;
    let mut image = RgbImage::new(width as u32, height as u32);
    let lines = image.chunks_exact_mut(3 * width.max(1));
    for (light, codes_of) in rows.zip(lines) {
        for (light, rgb) in light.iter().zip(codes_of.chunks_exact_mut(3)) {
            for (code, value) in rgb.iter_mut().zip(light) {
                *code = codes.encode(*value);
            }
        }
    }
    image
}

/// Adds a sensor's noise: Gaussian, with variance `read² + shot² · light`.
pub(super) fn add_noise(light: &mut [Light], read: f32, shot: f32, rng: &mut impl Rng) {
    if read == 0.0 && shot == 0.0 {
        return;
    }
    for value in light.iter_mut().flat_map(|pixel| &mut pixel[..3]) {
        let normal: f32 = StandardNormal.sample(rng);
        *value += normal * (read * read + shot * shot * value.max(0.0)).sqrt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in 0..=255 {
            let linear = CODES.linear[usize::from(code)];
            assert_eq!(CODES.encode(linear), code, "through {linear}");
        }
    }

    #[test]
    fn the_nearest_code_is_found_everywhere() {
        for step in 0..=100_000 {
            let linear = step as f32 / 100_000.0;
            let encoded = if linear <= 0.003_130_8 {
                linear * 12.92
            } else {
                1.055 * linear.powf(1.0 / 2.4) - 0.055
            };
            let distance = (encoded * 255.0 - f32::from(CODES.encode(linear))).abs();
            assert!(distance < 0.5001, "{linear} is {distance} codes away");
        }
    }

    #[test]
    fn values_beyond_the_sensor_saturate() {
        let found = [-0.5, 1.5, f32::INFINITY, f32::NAN].map(|value| CODES.encode(value));
        assert_eq!(found, [0, 255, 255, 0]);
    }

    #[test]
    fn noise_has_the_promised_variance() {
        let (read, shot, level) = (0.02_f32, 0.05_f32, 0.4_f32);
        let mut light = vec![[level; 4]; 40_000];
        add_noise(&mut light, read, shot, &mut StdRng::seed_from_u64(1));
        let deviations = light
            .iter()
            .flat_map(|pixel| &pixel[..3])
            .map(|value| f64::from(value - level).powi(2));
        let found = (deviations.sum::<f64>() / 120_000.0).sqrt();
        let expected = f64::from(read * read + shot * shot * level).sqrt();
        assert!(
            (found / expected - 1.0).abs() < 0.02,
            "standard deviation {found}, expected {expected}"
        );
    }
}
