//! Drawings as SVG: their elements, and axes with round ticks.

use std::fmt::{self, Write};

use crate::numbers::{fixed, thousands};

/// Text that means itself in HTML and SVG, between tags and in quoted attributes, whatever characters it has.
pub(crate) struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Not allowed in XML, and made something else by HTML.
            '\n' | '\t' => f.write_char(character),
            character if character.is_control() => f.write_char('\u{fffd}'),
            character => f.write_char(character),
        })
    }
}

/// SVG elements one after the other.
#[derive(Default)]
pub(crate) struct Drawing(pub String);

impl Drawing {
    /// An element as it is.
    pub fn put(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let text = Escaped(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        ));
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    pub fn dot(&mut self, x: f64, y: f64) {
        self.put(format_args!(
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"
        ));
    }

    pub fn diamond(&mut self, x: f64, y: f64) {
        self.put(format_args!(
            "<path class=\"paper\" d=\"M{x:.1} {:.1}l6 6l-6 6l-6 -6z\"/>",
            y - 6.0
        ));
    }
}

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
pub(crate) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
}

/// The next of 1, 2 and 5 times a power of ten.
pub(crate) fn round_step(rough: f64) -> f64 {
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

    #[test]
    fn text_that_is_markup_is_text() {
        let hostile = "<script>alert('1')</script>&amp;\"\u{0}\u{1b}";
        assert_eq!(
            Escaped(hostile).to_string(),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&quot;\u{fffd}\u{fffd}"
        );
        let mut drawing = Drawing::default();
        drawing.text("quiet", 1.0, 2.0, "a < b");
        assert!(drawing.0.contains(">a &lt; b<"), "{}", drawing.0);
    }
}
