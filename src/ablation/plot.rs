//! The picture of an ablation, as an SVG for light and dark pages.

use maud::{Markup, PreEscaped, html};

use super::report::{Report, ReportRow};
use super::rows::Row;
use crate::drawing::{Axis, diamond, dot, grid, labels_below, line, polyline, text};

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

/// Draws Table 1 as differences to HI-Diff, this run's beside the paper's, and the PSNR by T: a file of its own.
pub fn svg(report: &Report) -> String {
    drawing(report, html! { style { (PreEscaped(STYLE)) } }).into_string()
}

/// The same for a page that says how it looks.
pub(crate) fn unstyled(report: &Report) -> Markup {
    drawing(report, html! {})
}

fn drawing(report: &Report, style: Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) }
            width=(WIDTH) height=(HEIGHT) role="img" {
            title { "PSNR of the rows of Table 1 against HI-Diff's, and PSNR by the number of reverse steps" }
            (style)
            rect .ground width=(WIDTH) height=(HEIGHT) rx="8" {}
            (table(report))
            (sweep(report))
        }
    }
}

fn table(report: &Report) -> Markup {
    let (left, right, top, bottom) = (130.0, 430.0, 66.0, 276.0);
    let title = text("title", 24.0, 32.0, "Table 1: PSNR less HI-Diff's (dB)");
    let rows: Vec<&ReportRow> = report.table().collect();
    let measured = |row: &ReportRow| row.to_hi_diff.map(|difference| difference.mean);
    if !rows.iter().any(|row| measured(row).is_some()) {
        return html! { (title) (text("quiet", 24.0, 56.0, "HI-Diff is not done yet.")) };
    }
    let ours = Row::HiDiff.published().map_or(f64::NAN, |paper| paper.psnr);
    let published = |row: &ReportRow| row.published.map(|paper| paper.psnr - ours);

    let values = rows.iter().flat_map(|row| {
        let (mean, error) = (measured(row).unwrap_or(0.0), error(row));
        [mean - error, mean + error, published(row).unwrap_or(0.0)]
    });
    let axis = Axis::over(values, left, right);
    let height = (bottom - top) / rows.len() as f64;
    let legend = bottom + 40.0;
    html! {
        (title)
        @for x in axis.ticks().into_iter().map(|tick| axis.at(tick)) {
            (line("grid", (x, top), (x, bottom)))
        }
        (labels_below(&axis, bottom))
        (line("zero", (axis.at(0.0), top), (axis.at(0.0), bottom)))
        @for (index, row) in rows.iter().enumerate() {
            @let y = top + (index as f64 + 0.5) * height;
            (text("", 24.0, y - 2.0, &row.title))
            (text("quiet", 24.0, y + 14.0, &format!("{:.2} dB", row.mean.psnr)))
            @if let Some(difference) = published(row) {
                (diamond(axis.at(difference), y))
            }
            @if let Some(difference) = measured(row) {
                (line("run", (axis.at(difference - error(row)), y), (axis.at(difference + error(row)), y)))
                (dot(axis.at(difference), y))
            }
        }
        (dot(left + 5.0, legend - 4.0))
        (text("quiet", left + 16.0, legend, "this run, ± standard error"))
        (diamond(left + 190.0, legend - 4.0))
        (text("quiet", left + 202.0, legend, "paper, on GoPro"))
    }
}

/// The standard error of the difference to HI-Diff.
fn error(row: &ReportRow) -> f64 {
    row.to_hi_diff
        .and_then(|difference| difference.standard_error)
        .unwrap_or(0.0)
}

fn sweep(report: &Report) -> Markup {
    let (left, right, top, bottom) = (520.0, 850.0, 66.0, 276.0);
    let title = text("title", 478.0, 32.0, "Fig. 3: PSNR (dB) by reverse steps T");
    let rows = report.sweep();
    if rows.is_empty() {
        return html! { (title) (text("quiet", 478.0, 56.0, "No T is done yet.")) };
    }
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

    let points = rows
        .iter()
        .map(|row| (horizontal(row), vertical.at(row.mean.psnr)));
    html! {
        (title)
        (grid(&vertical, left, right))
        (polyline("run", points))
        @for row in &rows {
            @let (x, psnr) = (horizontal(row), row.mean.psnr);
            @let (low, high) = (vertical.at(psnr - error(row)), vertical.at(psnr + error(row)));
            (text("quiet middle", x, bottom + 18.0, &steps(row).to_string()))
            (line("run", (x, low), (x, high)))
            (dot(x, vertical.at(psnr)))
            @if row.row == Row::HiDiff {
                (text("quiet middle", x, vertical.at(psnr) - 12.0, &format!("HI-Diff {psnr:.2}")))
            }
        }
        (text("quiet", left, bottom + 40.0, "± standard error of the difference to HI-Diff"))
    }
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
}
