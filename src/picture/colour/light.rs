//! Curves between stored values, light, and what the model sees.

use std::sync::OnceLock;

use rayon::prelude::*;

/// How the values of a picture stand to light, and so how they are shown to the model, which knows
/// photographs in sRGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Light {
    /// Encoded for a display (sRGB, gamma 1.8 to 2.6, BT.709, L*, …): near enough to sRGB that the
    /// model sees the values as they are.
    Display,
    /// Proportional to light. Shown to the model with sRGB's curve.
    Linear,
    /// Light is the value to this power, which is far from any display's. Shown with sRGB's curve.
    Gamma(f64),
    /// Perceptual quantizer (SMPTE ST 2084), absolute luminance up to 10,000 cd/m². Shown as it is:
    /// see [`Hlg`](Self::Hlg).
    Pq,
    /// Hybrid log-gamma (BT.2100), scene light. Shown as it is.
    ///
    /// Both HDR curves are perceptual encodings of [0, 1] as sRGB's is, with less contrast in what is
    /// no highlight, so that the model sees a plausible if flat picture, no value is lost on the
    /// way, and an error of the model's has the same visible size all over the range. A curve that
    /// puts reference white (203 cd/m²) near the display's would have to clip the highlights or
    /// squeeze them into a few values, where errors of the model's become large ones of luminance.
    Hlg,
}

/// The decoding exponents of displays. Below and above, values are not shown as they are. (PNG's gAMA of 0.7 and 0.33.)
const DISPLAY_EXPONENTS: std::ops::RangeInclusive<f64> = (1.0 / 0.7)..=(1.0 / 0.33);

/// The exponents for which 16-bit samples survive the way to the model and back in single precision.
const EXPONENTS: std::ops::RangeInclusive<f64> = 0.2..=5.0;

impl Light {
    /// Of values that are light to the power of `1 / exponent`.
    ///
    /// An exponent that no picture has (below 0.2, above 5, or not a number) says nothing, and is
    /// taken as a display's.
    pub(super) fn of_exponent(exponent: f64) -> Light {
        if DISPLAY_EXPONENTS.contains(&exponent) || !EXPONENTS.contains(&exponent) {
            Light::Display
        } else if (exponent - 1.0).abs() < 0.02 {
            Light::Linear
        } else {
            Light::Gamma(exponent)
        }
    }

    /// Whether the model sees the values as they are stored.
    pub(crate) fn is_display(self) -> bool {
        !matches!(self, Light::Linear | Light::Gamma(_))
    }

    /// Stored values in [0, 1] to those that the model sees; what is outside is clamped.
    ///
    /// Every 16-bit sample comes back from [`from_model`](Self::from_model).
    pub(crate) fn to_model(self, values: &mut [f32]) {
        match self {
            Light::Linear => linear_to_srgb().apply(values),
            Light::Gamma(exponent) => {
                Table::new(move |value| encode_srgb(value.powf(exponent))).apply(values);
            }
            Light::Display | Light::Pq | Light::Hlg => {}
        }
    }

    /// Values as the model sees them in [0, 1] to stored ones; what is outside is clamped.
    #[allow(clippy::wrong_self_convention)] // the reverse of `to_model`
    pub(crate) fn from_model(self, values: &mut [f32]) {
        match self {
            Light::Linear => {
                static TABLE: OnceLock<Table> = OnceLock::new();
                TABLE.get_or_init(|| Table::new(decode_srgb)).apply(values);
            }
            Light::Gamma(exponent) => {
                Table::new(move |value| decode_srgb(value).powf(1.0 / exponent)).apply(values);
            }
            Light::Display | Light::Pq | Light::Hlg => {}
        }
    }
}

/// Linear light to sRGB's encoding.
pub(super) fn linear_to_srgb() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(encode_srgb))
}

/// IEC 61966-2-1, of light in [0, 1].
pub(super) fn encode_srgb(light: f64) -> f64 {
    if light <= 0.003_130_8 {
        12.92 * light
    } else {
        1.055 * light.powf(1.0 / 2.4) - 0.055
    }
}

/// IEC 61966-2-1, to light in [0, 1].
fn decode_srgb(value: f64) -> f64 {
    if value <= 0.040_45 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

type Function = Box<dyn Fn(f64) -> f64 + Send + Sync>;

/// A function of [0, 1], by linear interpolation between the 16-bit samples.
pub(super) struct Table {
    at_samples: Vec<f32>,
    function: Function,
}

const STEPS: f32 = 65_535.0;

/// A power below 1 is too steep here for interpolation.
const COMPUTED_BELOW: f32 = 1.0 / 256.0;

impl Table {
    fn new(function: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Table {
        let samples = 0..=65_535_u16;
        let at = |sample| function(f64::from(sample) / f64::from(STEPS)) as f32;
        Table {
            at_samples: samples.map(at).collect(),
            function: Box::new(function),
        }
    }

    /// At `value`, clamped to [0, 1]. NaN stays.
    pub(super) fn at(&self, value: f32) -> f32 {
        let value = value.clamp(0.0, 1.0);
        if value < COMPUTED_BELOW {
            return (self.function)(f64::from(value)) as f32;
        }
        let position = value * STEPS;
        let below = (position as usize).min(65_534);
        let (low, high) = (self.at_samples[below], self.at_samples[below + 1]);
        low + (position - below as f32) * (high - low)
    }

    fn apply(&self, values: &mut [f32]) {
        values.par_chunks_mut(1 << 16).for_each(|values| {
            for value in values {
                *value = self.at(*value);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: [Light; 7] = [
        Light::Linear,
        Light::Gamma(0.2),
        Light::Gamma(0.45),
        Light::Gamma(0.9),
        Light::Gamma(1.3),
        Light::Gamma(3.2),
        Light::Gamma(5.0),
    ];

    #[test]
    fn every_sample_survives_the_way_to_the_model_and_back() {
        for light in FAR {
            for max in [255.0, 65_535.0] {
                let samples: Vec<f32> = (0..=max as u32).map(|sample| sample as f32).collect();
                let mut values: Vec<f32> = samples.iter().map(|sample| sample / max).collect();
                light.to_model(&mut values);
                let shown = values.clone();
                light.from_model(&mut values);
                let back: Vec<f32> = values
                    .iter()
                    .map(|value| (value * max + 0.5).floor())
                    .collect();
                assert_eq!(back, samples, "{light:?}");
                assert!(shown.is_sorted(), "{light:?}");
                assert_eq!((shown[0], shown[shown.len() - 1]), (0.0, 1.0), "{light:?}");
            }
        }
    }

    #[test]
    fn the_curve_between_the_samples_is_srgbs() {
        let mut values: Vec<f32> = (0..=100_000).map(|i| i as f32 / 100_000.0).collect();
        let light = values.clone();
        Light::Linear.to_model(&mut values);
        for (&light, &value) in light.iter().zip(&values) {
            let exact = encode_srgb(f64::from(light));
            assert!(
                (f64::from(value) - exact).abs() < 3e-7,
                "{light}: {value}, {exact}"
            );
        }
        let shown = values.clone();
        Light::Linear.from_model(&mut values);
        for (&shown, &value) in shown.iter().zip(&values) {
            let exact = decode_srgb(f64::from(shown));
            assert!(
                (f64::from(value) - exact).abs() < 3e-7,
                "{shown}: {value}, {exact}"
            );
        }
    }

    #[test]
    fn known_values() {
        let mut gray = [0.214_041_14, 0.5, 0.002];
        Light::Linear.to_model(&mut gray);
        for (found, expected) in gray.iter().zip([0.5, 0.735_357, 0.025_84]) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }

    #[test]
    fn what_is_outside_is_clamped_and_nan_stays() {
        for light in FAR {
            let mut values = [-0.5, 1.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            light.from_model(&mut values);
            assert_eq!(
                (values[0], values[1], values[3], values[4]),
                (0.0, 1.0, 1.0, 0.0)
            );
            assert!(values[2].is_nan());
        }
    }

    #[test]
    fn values_for_displays_are_shown_as_they_are() {
        let values = [0.1, 0.7, 1.5, -1.0];
        for light in [Light::Display, Light::Pq, Light::Hlg] {
            let mut shown = values;
            light.to_model(&mut shown);
            light.from_model(&mut shown);
            assert_eq!(shown, values);
            assert!(light.is_display());
        }
        assert!(FAR.iter().all(|light| !light.is_display()));
    }

    #[test]
    fn exponents() {
        for display in [
            1.8,
            2.2,
            2.4,
            2.6,
            1.45,
            3.0,
            f64::NAN,
            f64::INFINITY,
            0.0,
            20.0,
        ] {
            assert_eq!(Light::of_exponent(display), Light::Display, "{display}");
        }
        assert_eq!(Light::of_exponent(1.0), Light::Linear);
        assert_eq!(Light::of_exponent(1.000_01), Light::Linear);
        assert_eq!(Light::of_exponent(1.25), Light::Gamma(1.25));
        assert_eq!(Light::of_exponent(4.0), Light::Gamma(4.0));
    }
}
