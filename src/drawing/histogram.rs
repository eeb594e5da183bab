//! How gains are distributed, as bars.

use maud::{Markup, html};

use super::axis::{Axis, range, round_step};
use super::{labels_below, line, tenths, text};
use crate::numbers::fixed;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 226.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 346.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 180.0;

/// About this many bars.
const BARS: f64 = 18.0;
/// In dB: finer bars say nothing.
const NARROWEST: f64 = 0.01;

/// Draws how many of the finite `gains`, in dB, lie where; bars meet at zero, so that each is of losses or of gains.
/// None without a finite value.
pub(crate) fn svg(gains: &[f64]) -> Option<Markup> {
    let (low, high) = range(gains.iter().copied())?;
    // Zero is always there: whether images got better or worse is the question.
    let (low, high) = (low.min(0.0), high.max(0.0));
    let step = round_step(((high - low) / BARS).max(NARROWEST));
    let first = (low / step).floor() as i64;
    let last = ((high / step).floor() as i64).max(first + 3);
    let mut counts = vec![0_usize; (last - first + 1) as usize];
    for gain in gains.iter().filter(|gain| gain.is_finite()) {
        counts[((gain / step).floor() as i64 - first) as usize] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0);

    let across = Axis::between(first as f64 * step, (last + 1) as f64 * step, LEFT, RIGHT);
    let up = Axis::between(0.0, most as f64 * 1.05, BOTTOM, TOP);
    let bar = |index: usize, count: usize| {
        let from = (first + index as i64) as f64 * step;
        let class = if from < 0.0 { "loss" } else { "gain" };
        let (x, y) = (across.at(from), up.at(count as f64));
        let width = (across.at(from + step) - x - 1.0).max(1.0);
        let digits = if step < 0.1 { 2 } else { 1 };
        html! {
            rect class={ "bar " (class) } x=(tenths(x + 0.5)) y=(tenths(y))
                width=(tenths(width)) height=(tenths(BOTTOM - y)) {
                title { (fixed(from, digits)) " to " (fixed(from + step, digits)) " dB: " (count) }
            }
        }
    };
    Some(html! {
        svg .plot.histogram viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
            title { "Histogram of the PSNR gains in dB" }
            @for tick in up.ticks().into_iter().filter(|tick| tick.fract() == 0.0) {
                (line("grid", (LEFT, up.at(tick)), (RIGHT, up.at(tick))))
                (text("quiet end", LEFT - 8.0, up.at(tick) + 4.0, &tick.to_string()))
            }
            @for (index, &count) in counts.iter().enumerate().filter(|bar| *bar.1 > 0) {
                (bar(index, count))
            }
            (labels_below(&across, BOTTOM))
            (line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM)))
            (line("zero", (across.at(0.0), TOP - 6.0), (across.at(0.0), BOTTOM)))
            (text("middle", (LEFT + RIGHT) / 2.0, HEIGHT - 8.0, "PSNR gain (dB)"))
            (text("", 4.0, 14.0, "images"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_a_bar_on_its_side_of_zero() {
        let gains = [-0.31, -0.02, 0.0, 0.4, 0.41, 2.6, f64::INFINITY, f64::NAN];
        let drawing = svg(&gains).unwrap().into_string();
        let images = |class: &str| -> usize {
            let class = format!("\"bar {class}\"");
            let bars = drawing.split(&class).skip(1);
            let title = |bar: &str| -> usize {
                let text = bar.split_once("dB: ").unwrap().1;
                text.split_once('<').unwrap().0.parse().unwrap()
            };
            bars.map(title).sum()
        };
        assert_eq!((images("loss"), images("gain")), (2, 4), "{drawing}");
        assert!(
            !drawing.contains("NaN") && !drawing.contains("inf"),
            "{drawing}"
        );
    }

    #[test]
    fn equal_gains_and_none_at_all_are_drawn() {
        for gains in [[0.0; 3], [1.25; 3], [-1e-9; 3], [60.0; 3]] {
            let drawing = svg(&gains).unwrap().into_string();
            assert_eq!(drawing.matches("<rect class=\"bar").count(), 1, "{drawing}");
            assert!(drawing.contains("dB: 3<"), "{drawing}");
            assert!(
                !drawing.contains("NaN") && !drawing.contains("inf"),
                "{drawing}"
            );
        }
        assert!(svg(&[]).is_none());
        assert!(svg(&[f64::INFINITY]).is_none());
    }
}
