//! Values along a line of a drawing, with round ticks.

use crate::numbers::{fixed, thousands};

/// Values on a line of the drawing.
pub(crate) struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    scale: Scale,
}

enum Scale {
    /// With ticks this far apart.
    Linear { step: f64 },
    /// To the base 10.
    Logarithmic,
}

impl Axis {
    /// From `start` to `end` of the drawing, with room around the values and about four round ticks.
    pub fn over(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 0.0));
        let room = ((high - low) * 0.1).max(0.02);
        Self::between(low - room, high + room, start, end)
    }

    /// From `low`, at `start` of the drawing, to `high`, at its `end`.
    pub fn between(low: f64, high: f64, start: f64, end: f64) -> Self {
        let step = round_step((high - low) / 4.0);
        Self {
            low,
            high,
            start,
            end,
            scale: Scale::Linear { step },
        }
    }

    /// As [`between`](Self::between), each power of ten as long as the others; both ends are above zero.
    pub fn logarithmic(low: f64, high: f64, start: f64, end: f64) -> Self {
        Self {
            low,
            high,
            start,
            end,
            scale: Scale::Logarithmic,
        }
    }

    pub fn at(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear { .. } => value,
            Scale::Logarithmic => value.log10(),
        };
        let (low, high) = (place(self.low), place(self.high));
        self.start + (place(value) - low) / (high - low) * (self.end - self.start)
    }

    pub fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear { step } => {
                // An end that is a tick is one, whatever its digits beyond the ninth.
                let (first, last) = (
                    (self.low / step - 1e-9).ceil(),
                    (self.high / step + 1e-9).floor(),
                );
                (first as i64..=last as i64)
                    .map(|tick| tick as f64 * step)
                    .collect()
            }
            Scale::Logarithmic => {
                let (low, high) = (self.low.log10(), self.high.log10());
                let factors: &[f64] = if high - low > 2.0 {
                    &[1.0]
                } else {
                    &[1.0, 2.0, 5.0]
                };
                let powers = low.floor() as i32..=high.floor() as i32;
                powers
                    .flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)))
                    .filter(|tick| (self.low..=self.high).contains(tick))
                    .collect()
            }
        }
    }

    /// A tick's label, with the digits that the steps need.
    pub fn label(&self, tick: f64) -> String {
        let unit = match self.scale {
            Scale::Linear { step } => step,
            Scale::Logarithmic => tick,
        };
        if tick != 0.0 && unit < 1e-3 {
            return format!("{tick:.1e}").replace(".0e", "e").replace('-', "−");
        }
        let digits = (-unit.log10().floor()).max(0.0) as usize;
        match digits {
            0 if tick >= 1e4 => thousands(tick as u64),
            _ if tick == 0.0 && unit < 1e-3 => "0".to_string(),
            _ => fixed(tick, digits),
        }
    }
}

/// The least and the greatest of the finite values.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
}

/// The next of 1, 2 and 5 times a power of ten.
pub(super) fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (values, expected) in [
            ([-1.51, 0.0], vec!["−1.5", "−1.0", "−0.5", "0.0"]),
            ([25.91, 26.02], vec!["25.90", "25.95", "26.00"]),
            ([20.0, 30.0], vec!["20", "25", "30"]),
            (
                [26.0, 26.0],
                vec!["25.98", "25.99", "26.00", "26.01", "26.02"],
            ),
        ] {
            let axis = Axis::over(values.into_iter(), 0.0, 100.0);
            assert_eq!(labels(&axis), expected, "{values:?}");
            assert!(axis.at(values[0]) > 0.0 && axis.at(values[1]) < 100.0);
        }
    }

    #[test]
    fn labels_are_short_for_great_and_small_numbers() {
        let rates = Axis::between(0.0, 3e-4, 0.0, 100.0);
        assert_eq!(labels(&rates), ["0", "1e−4", "2e−4", "3e−4"]);
        let iterations = Axis::between(0.0, 300_000.0, 0.0, 100.0);
        assert_eq!(labels(&iterations), ["0", "100,000", "200,000", "300,000"]);
    }

    #[test]
    fn powers_of_ten_are_equally_long_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic(0.01, 1.0, 0.0, 100.0);
        assert!((axis.at(0.1) - 50.0).abs() < 1e-9);
        assert_eq!(
            labels(&axis),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
        );
        let long = Axis::logarithmic(2e-5, 3.0, 0.0, 100.0);
        assert_eq!(labels(&long), ["1e−4", "0.001", "0.01", "0.1", "1"]);
    }
}
