//! Drawings as SVG: their elements, axes with round ticks, curves and histograms.

mod axis;
#[cfg(feature = "train")]
pub(crate) mod curves;
pub(crate) mod histogram;

pub(crate) use axis::Axis;

use std::fmt::{self, Write};

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

    pub fn polyline(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!(
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        ));
    }

    /// A line across the drawing for each tick of the axis `up`, with its label on the left.
    pub fn grid(&mut self, up: &Axis, left: f64, right: f64) {
        for tick in up.ticks() {
            let y = up.at(tick);
            self.line("grid", (left, y), (right, y));
            self.text("quiet end", left - 8.0, y + 4.0, &up.label(tick));
        }
    }

    /// Below `y`, the label of each tick of the axis `across`.
    pub fn labels_below(&mut self, across: &Axis, y: f64) {
        for tick in across.ticks() {
            self.text(
                "quiet middle",
                across.at(tick),
                y + 18.0,
                &across.label(tick),
            );
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
