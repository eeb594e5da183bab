//! The picture of an ablation, as an SVG for light and dark pages.

use std::fmt::Write;

use super::report::{Report, ReportRow, signed};
use super::rows::Row;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 330.0;

/// Colours by the reader's scheme; the ground is drawn too, since a page may have another than the reader's system.
const STYLE: &str = "\
  text { font: 13px system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 14px; }
  .quiet { fill: #656d76; font-size: 12px; }
  .middle { text-anchor: middle; }
  .end { text-anchor: end; }
  .ground { fill: #ffffff; }
  .grid { stroke: #dde1e6; }
  .zero { stroke: #656d76; stroke-dasharray: 4 3; }
  .run { stroke: #0969da; stroke-width: 2; fill: none; }
  .dot { fill: #0969da; }
  .paper { stroke: #bc4c00; stroke-width: 2; fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .ground { fill: #0d1117; }
    .grid { stroke: #2f353d; }
    .zero { stroke: #9198a1; }
    .run { stroke: #4493f8; }
    .dot { fill: #4493f8; }
    .paper { stroke: #f0883e; fill: #0d1117; }
  }
";

/// Draws Table 1 as differences to HI-Diff, this run's beside the paper's, and the PSNR by T.
pub fn svg(report: &Report) -> String {
    let mut drawing = Drawing(String::new());
    drawing.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">"
    ));
    drawing.put(format_args!(
        "<title>PSNR of the rows of Table 1 against HI-Diff's, and PSNR by the number of reverse steps</title>"
    ));
    drawing.put(format_args!("<style>\n{STYLE}</style>"));
    drawing.put(format_args!(
        "<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>"
    ));
    table(report, &mut drawing);
    sweep(report, &mut drawing);
    drawing.put(format_args!("</svg>"));
    drawing.0
}

struct Drawing(String);

impl Drawing {
    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        ));
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn dot(&mut self, x: f64, y: f64) {
        self.put(format_args!(
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"
        ));
    }

    fn diamond(&mut self, x: f64, y: f64) {
        self.put(format_args!(
            "<path class=\"paper\" d=\"M{x:.1} {:.1}l6 6l-6 6l-6 -6z\"/>",
            y - 6.0
        ));
    }
}

/// Values on a line of the drawing.
struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    step: f64,
}

impl Axis {
    /// From `start` to `end` of the drawing, with room around the values and about four round ticks.
    fn over(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
        let room = ((high - low) * 0.1).max(0.02);
        let (low, high) = (low - room, high + room);
        let rough = (high - low) / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0]
            .into_iter()
            .find(|factor| factor * power >= rough);
        Self {
            low,
            high,
            start,
            end,
            step: factor.unwrap_or(10.0) * power,
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (first, last) = (
            (self.low / self.step).ceil(),
            (self.high / self.step).floor(),
        );
        (first as i64..=last as i64).map(|tick| tick as f64 * self.step)
    }

    /// A tick's label, with the digits that the steps need.
    fn label(&self, tick: f64) -> String {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        format!("{tick:.digits$}").replace('-', "−")
    }
}

fn table(report: &Report, drawing: &mut Drawing) {
    let (left, right, top, bottom) = (130.0, 430.0, 66.0, 276.0);
    drawing.text("title", 24.0, 32.0, "Table 1: PSNR less HI-Diff's (dB)");
    let rows: Vec<&ReportRow> = report.table().collect();
    let measured = |row: &ReportRow| row.to_hi_diff.map(|difference| difference.mean);
    if !rows.iter().any(|row| measured(row).is_some()) {
        drawing.text("quiet", 24.0, 56.0, "HI-Diff is not done yet.");
        return;
    }
    let ours = Row::HiDiff.published().map_or(f64::NAN, |paper| paper.psnr);
    let published = |row: &ReportRow| row.published.map(|paper| paper.psnr - ours);
    let spread = |row: &ReportRow| {
        row.to_hi_diff
            .and_then(|difference| difference.standard_error)
    };

    let values = rows.iter().flat_map(|row| {
        let (mean, error) = (measured(row).unwrap_or(0.0), spread(row).unwrap_or(0.0));
        [mean - error, mean + error, published(row).unwrap_or(0.0)]
    });
    let axis = Axis::over(values, left, right);
    for tick in axis.ticks() {
        let x = axis.at(tick);
        drawing.line("grid", (x, top), (x, bottom));
        drawing.text("quiet middle", x, bottom + 18.0, &axis.label(tick));
    }
    drawing.line("zero", (axis.at(0.0), top), (axis.at(0.0), bottom));

    let height = (bottom - top) / rows.len() as f64;
    for (index, row) in rows.iter().enumerate() {
        let y = top + (index as f64 + 0.5) * height;
        drawing.text("", 24.0, y - 2.0, &row.title);
        drawing.text("quiet", 24.0, y + 14.0, &format!("{:.2} dB", row.mean.psnr));
        if let Some(difference) = published(row) {
            drawing.diamond(axis.at(difference), y);
        }
        if let Some(difference) = measured(row) {
            let error = spread(row).unwrap_or(0.0);
            drawing.line(
                "run",
                (axis.at(difference - error), y),
                (axis.at(difference + error), y),
            );
            drawing.dot(axis.at(difference), y);
        }
    }
    let legend = bottom + 40.0;
    drawing.dot(left + 5.0, legend - 4.0);
    drawing.text("quiet", left + 16.0, legend, "this run, ± standard error");
    drawing.diamond(left + 190.0, legend - 4.0);
    drawing.text("quiet", left + 202.0, legend, "paper, on GoPro");
}

fn sweep(report: &Report, drawing: &mut Drawing) {
    let (left, right, top, bottom) = (520.0, 850.0, 66.0, 276.0);
    drawing.text("title", 478.0, 32.0, "Fig. 3: PSNR (dB) by reverse steps T");
    let rows = report.sweep();
    if rows.is_empty() {
        drawing.text("quiet", 478.0, 56.0, "No T is done yet.");
        return;
    }
    let error = |row: &ReportRow| {
        let difference = row
            .to_hi_diff
            .and_then(|difference| difference.standard_error);
        difference.unwrap_or(0.0)
    };
    let values = rows
        .iter()
        .flat_map(|row| [row.mean.psnr - error(row), row.mean.psnr + error(row)]);
    let vertical = Axis::over(values, bottom, top);
    let steps = |row: &ReportRow| row.timesteps.unwrap_or(1) as f64;
    let (first, last) = (steps(rows[0]).log2(), steps(rows[rows.len() - 1]).log2());
    // Each T is a tick of its own, on a logarithmic scale.
    let horizontal = |row: &ReportRow| {
        let share = (steps(row).log2() - first) / (last - first).max(1.0);
        left + 24.0 + share * (right - left - 48.0)
    };

    for tick in vertical.ticks() {
        let y = vertical.at(tick);
        drawing.line("grid", (left, y), (right, y));
        drawing.text("quiet end", left - 8.0, y + 4.0, &vertical.label(tick));
    }
    let points: Vec<String> = rows
        .iter()
        .map(|row| format!("{:.1},{:.1}", horizontal(row), vertical.at(row.mean.psnr)))
        .collect();
    drawing.put(format_args!(
        "<polyline class=\"run\" points=\"{}\"/>",
        points.join(" ")
    ));
    for row in &rows {
        let (x, psnr) = (horizontal(row), row.mean.psnr);
        drawing.text("quiet middle", x, bottom + 18.0, &format!("{}", steps(row)));
        drawing.line(
            "run",
            (x, vertical.at(psnr - error(row))),
            (x, vertical.at(psnr + error(row))),
        );
        drawing.dot(x, vertical.at(psnr));
        if row.row == Row::HiDiff {
            let label = format!("HI-Diff {}", signed(psnr).trim_start_matches('+'));
            drawing.text("quiet middle", x, vertical.at(psnr) - 12.0, &label);
        }
    }
    drawing.text(
        "quiet",
        left,
        bottom + 40.0,
        "± standard error of the difference to HI-Diff",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ablation::report::tests::example;

    fn count(drawing: &str, part: &str) -> usize {
        drawing.matches(part).count()
    }

    #[test]
    fn each_row_is_drawn_once() {
        let drawing = svg(&example());
        // Three rows of Table 1 and three T, and one in the legend.
        assert_eq!(count(&drawing, "<circle class=\"dot\""), 3 + 3 + 1);
        assert_eq!(count(&drawing, "<path class=\"paper\""), 3 + 1);
        for title in ["Baseline", "Split-Training", "HI-Diff", "25.70 dB"] {
            assert!(drawing.contains(&format!(">{title}<")), "{title}");
        }
        assert!(drawing.contains("prefers-color-scheme: dark"));
        assert!(
            !drawing.contains("NaN") && !drawing.contains("inf"),
            "{drawing}"
        );
    }

    #[test]
    fn a_partial_report_says_what_is_lacking() {
        let mut report = example();
        report.rows.clear();
        let drawing = svg(&report);
        assert!(
            drawing.contains("HI-Diff is not done yet.") && drawing.contains("No T is done yet.")
        );
        assert_eq!(count(&drawing, "<circle"), 0);
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
            let labels: Vec<_> = axis.ticks().map(|tick| axis.label(tick)).collect();
            assert_eq!(labels, expected, "{values:?}");
            assert!(axis.at(values[0]) > 0.0 && axis.at(values[1]) < 100.0);
        }
    }
}
