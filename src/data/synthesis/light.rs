//! Between 8-bit sRGB and the linear light that a sensor integrates.

use std::sync::LazyLock;

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Linear light of a pixel, 0 to 1, with a fourth lane that pads it to one SIMD register.
pub(super) type Light = [f32; 4];

/// The sRGB transfer function (IEC 61966-2-1) tabulated for 8 bits.
static LINEAR: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|code| decode(code as f64 / 255.0) as f32));

fn decode(encoded: f64) -> f64 {
    if encoded <= 0.04045 {
        encoded / 12.92
    } else {
        ((encoded + 0.055) / 1.055).powf(2.4)
    }
}

/// The nearest 8-bit code of a linear value; values beyond [0, 1] saturate as on a sensor.
pub(super) fn encode(linear: f32) -> u8 {
    let encoded = if linear <= 0.003_130_8 {
        linear * 12.92
    } else {
        1.055 * linear.powf(1.0 / 2.4) - 0.055
    };
    (encoded * 255.0).round().clamp(0.0, 255.0) as u8
}

pub(super) fn linear(code: u8) -> f32 {
    LINEAR[usize::from(code)]
}

pub(super) fn to_light(pixel: &Rgb<u8>) -> Light {
    let [r, g, b] = pixel.0.map(linear);
    [r, g, b, 0.0]
}

/// Rounds `light`, row by row, to an 8-bit image.
pub(super) fn to_image(light: &[Light], width: u32, height: u32) -> RgbImage {
    let mut image = RgbImage::new(width, height);
    for (pixel, light) in image.pixels_mut().zip(light) {
        pixel.0 = [encode(light[0]), encode(light[1]), encode(light[2])];
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
            assert_eq!(encode(linear(code)), code, "through {}", linear(code));
        }
    }

    #[test]
    fn values_beyond_the_sensor_saturate() {
        assert_eq!([encode(-0.5), encode(1.5), encode(f32::NAN)], [0, 255, 0]);
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
