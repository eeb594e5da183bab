//! Between the values that the model sees and linear light.

use moxcms::{ToneReprCurve, TransferCharacteristics};

use super::encoding::srgb_curve;

const SAMPLES: usize = 65_536;

/// A rising curve from values to light, straight between the 16-bit samples.
pub(crate) struct Transfer {
    light: Vec<f32>,
}

impl Transfer {
    /// sRGB's where the curve cannot be gone back by: where it is flat somewhere, falls, or is none.
    pub(super) fn of_curve(curve: &ToneReprCurve) -> Transfer {
        Self::rising(curve).unwrap_or_else(Self::srgb)
    }

    pub(super) fn srgb() -> Transfer {
        Self::rising(&srgb_curve()).expect("sRGB's curve rises")
    }

    /// Of PQ, absolute luminance; of HLG, the light of a display with the nominal system gamma of 1.2.
    pub(super) fn of_hdr(transfer: TransferCharacteristics) -> Transfer {
        Self::sampled(|value| transfer.linearize(value) as f32)
    }

    fn rising(curve: &ToneReprCurve) -> Option<Transfer> {
        let evaluator = curve.make_linear_evaluator().ok()?;
        let transfer = Self::sampled(|value| evaluator.evaluate_value(value as f32));
        let mut pairs = transfer.light.windows(2);
        // False for NaN.
        pairs.all(|pair| pair[0] < pair[1]).then_some(transfer)
    }

    fn sampled(light: impl Fn(f64) -> f32) -> Transfer {
        let at = |sample| light(sample as f64 / (SAMPLES - 1) as f64);
        Transfer {
            light: (0..SAMPLES).map(at).collect(),
        }
    }

    /// `from` and `to`, mixed in linear light: `from` at a share of 0 and `to` at 1, both exactly, and beyond `to` above 1.
    /// Light that no value in [0, 1] has becomes 0 or 1.
    pub(crate) fn mix(&self, from: f32, to: f32, share: f32) -> f32 {
        if share == 0.0 || from == to {
            return from;
        }
        if share == 1.0 {
            return to;
        }
        let [dark, bright] = [from, to].map(|value| self.light(value));
        self.value(dark + share * (bright - dark))
    }

    /// Of a value in [0, 1].
    pub(crate) fn light(&self, value: f32) -> f32 {
        let position = value.clamp(0.0, 1.0) * (SAMPLES - 1) as f32;
        let below = (position as usize).min(SAMPLES - 2);
        let (low, high) = (self.light[below], self.light[below + 1]);
        low + (position - below as f32) * (high - low)
    }

    /// The value in [0, 1] that has this light, or is nearest to it.
    pub(crate) fn value(&self, light: f32) -> f32 {
        let above = self.light.partition_point(|&found| found <= light);
        if above == 0 {
            return 0.0;
        }
        if above == SAMPLES {
            return 1.0;
        }
        let (low, high) = (self.light[above - 1], self.light[above]);
        let way = (light - low) / (high - low);
        ((above - 1) as f32 + way) / (SAMPLES - 1) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Transfer> {
        let gamma = |exponent| Transfer::of_curve(&ToneReprCurve::Parametric(vec![exponent]));
        vec![
            Transfer::srgb(),
            gamma(1.8),
            gamma(2.2),
            Transfer::of_hdr(TransferCharacteristics::Smpte2084),
            Transfer::of_hdr(TransferCharacteristics::Hlg),
        ]
    }

    #[test]
    fn every_16_bit_sample_comes_back_from_light() {
        for (number, transfer) in all().iter().enumerate() {
            for sample in 0..=65_535_u16 {
                let value = f32::from(sample) / 65_535.0;
                let back = 65_535.0 * transfer.value(transfer.light(value));
                assert!((back - f32::from(sample)).abs() < 0.1, "{number}: {sample}");
            }
        }
    }

    #[test]
    fn mixing_is_linear_in_light_and_exact_at_both_ends() {
        for transfer in all() {
            assert_eq!(transfer.mix(0.2, 0.7, 0.0), 0.2);
            assert_eq!(transfer.mix(0.2, 0.7, 1.0), 0.7);
            assert_eq!(transfer.mix(0.3, 0.3, 0.6), 0.3);
            for share in [0.25_f32, 0.5, 1.2] {
                let found = transfer.light(transfer.mix(0.2, 0.7, share));
                let expected = (1.0 - share) * transfer.light(0.2) + share * transfer.light(0.7);
                assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
            }
            assert_eq!(transfer.mix(0.5, 1.0, 1.5), 1.0);
            assert_eq!(transfer.mix(0.5, 0.0, 1.5), 0.0);
        }
    }

    #[test]
    fn half_of_black_and_white_is_half_the_light() {
        let [srgb, _, gamma, pq, hlg] = &all()[..] else {
            panic!("five curves");
        };
        // IEC 61966-2-1; 0.5^(1/2.2); SMPTE ST 2084 of 5,000 cd/m²; BT.2100.
        for (transfer, expected) in [(srgb, 0.735_36), (gamma, 0.729_74), (pq, 0.926_55)] {
            let found = transfer.mix(0.0, 1.0, 0.5);
            assert!((found - expected).abs() < 2e-4, "{found}, {expected}");
        }
        assert!((hlg.light(1.0) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn curves_without_a_way_back_are_taken_as_srgb() {
        for curve in [
            ToneReprCurve::Lut(vec![0, 0, 30_000, 65_535]),
            ToneReprCurve::Lut(vec![65_535, 0]),
            ToneReprCurve::Parametric(vec![f32::NAN]),
        ] {
            let transfer = Transfer::of_curve(&curve);
            assert!((transfer.light(0.5) - 0.214_04).abs() < 1e-4, "{curve:?}");
        }
    }
}
