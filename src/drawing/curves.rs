//! Numbers by iteration, as curves.

use maud::{Markup, html};

use super::axis::{Axis, range};
use super::{grid, labels_below, line, polyline, tenths, text};
use crate::numbers::thousands;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 222.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 330.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 178.0;

/// A curve has no more points than a screen has pixels for it.
const MOST_POINTS: usize = 400;
/// So few points are marked.
const MARKED_POINTS: usize = 60;
/// From this ratio of the greatest to the least value, a chart that may be logarithmic is.
const LOGARITHMIC_FROM: f64 = 8.0;
/// The style has this many colours.
const COLOURS: usize = 9;

/// Curves over the same iterations.
pub(crate) struct Chart {
    /// What the numbers are, with their unit.
    pub title: &'static str,
    /// Iterations that there will be.
    pub iterations: usize,
    /// Whether a logarithmic scale suits the numbers.
    pub may_be_logarithmic: bool,
    pub curves: Vec<Curve>,
}

pub(crate) struct Curve {
    /// Named in the legend, if there are several.
    pub name: String,
    /// Of the style's colours.
    pub colour: usize,
    /// Iterations and numbers; where a number is not finite, the curve has a gap.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    /// A chart of one curve.
    pub fn single(title: &'static str, iterations: usize, points: Vec<(f64, f64)>) -> Self {
        Self {
            title,
            iterations,
            may_be_logarithmic: false,
            curves: vec![Curve {
                name: String::new(),
                colour: 0,
                points,
            }],
        }
    }

    pub fn logarithmic(self) -> Self {
        Self {
            may_be_logarithmic: true,
            ..self
        }
    }

    /// The chart as a figure of a page; none without a finite number.
    pub fn figure(&self) -> Option<Markup> {
        let curves: Vec<(&Curve, Vec<(f64, f64)>)> = self
            .curves
            .iter()
            .map(|curve| (curve, thinned(&curve.points)))
            .collect();
        let values = || curves.iter().flat_map(|curve| &curve.1);
        let (low, high) = range(values().map(|point| point.1))?;
        let end = values()
            .map(|point| point.0)
            .fold(self.iterations as f64, f64::max);
        let across = Axis::between(0.0, end.max(1.0), LEFT, RIGHT);
        let logarithmic = self.may_be_logarithmic && low > 0.0 && high / low >= LOGARITHMIC_FROM;
        let up = if logarithmic {
            Axis::logarithmic(low / 1.15, high * 1.15, BOTTOM, TOP)
        } else {
            let room = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-9);
            // What is never negative is not drawn as if it could be.
            let bottom = if low >= 0.0 {
                (low - room).max(0.0)
            } else {
                low - room
            };
            Axis::between(bottom, high + room, BOTTOM, TOP)
        };

        let scale = if logarithmic { " (logarithmic)" } else { "" };
        let colour = |curve: &Curve| format!("c{}", curve.colour % COLOURS);
        Some(html! {
            figure .chart {
                svg .plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
                    title { (self.title) " by iteration" }
                    (text("title", 4.0, 18.0, &format!("{}{scale}", self.title)))
                    (grid(&up, LEFT, RIGHT))
                    (line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM)))
                    (labels_below(&across, BOTTOM))
                    (text("quiet middle", (LEFT + RIGHT) / 2.0, HEIGHT - 8.0, "iteration"))
                    @for (curve, points) in &curves {
                        (draw(curve, &colour(curve), points, &across, &up))
                    }
                }
                @if curves.len() > 1 {
                    figcaption .legend {
                        @for (curve, _) in &curves { span class=(colour(curve)) { (curve.name) } }
                    }
                }
            }
        })
    }
}

fn draw(curve: &Curve, colour: &str, points: &[(f64, f64)], across: &Axis, up: &Axis) -> Markup {
    html! {
        @for part in points.split(|point| !point.1.is_finite()) {
            @if part.len() > 1 {
                (polyline(&format!("curve {colour}"), part.iter().map(|&(x, y)| (across.at(x), up.at(y)))))
            }
            @if points.len() <= MARKED_POINTS || part.len() == 1 {
                @for &(x, y) in part {
                    circle class={ "point " (colour) } cx=(tenths(across.at(x))) cy=(tenths(up.at(y))) r="2.5" {
                        title {
                            @if !curve.name.is_empty() { (curve.name) ": " }
                            (number(y)) " after " (thousands(x as u64))
                        }
                    }
                }
            }
        }
    }
}

/// With four significant digits.
fn number(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    match magnitude {
        magnitude if (-4.0..4.0).contains(&magnitude) => {
            format!("{value:.*}", (3.0 - magnitude) as usize)
        }
        _ => format!("{value:.3e}"),
    }
}

/// Means of as many points in a row as make the curve short enough. A mean over something that is not finite is not.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let sum = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
        (sum(|point| point.0) / count, sum(|point| point.1) / count)
    };
    points.chunks(together).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<(f64, f64)> {
        let numbered = values.iter().enumerate();
        numbered
            .map(|(index, &value)| (10.0 * (1 + index) as f64, value))
            .collect()
    }

    #[test]
    fn a_curve_has_a_gap_where_a_number_is_not_finite() {
        let chart = Chart::single(
            "Loss",
            100,
            points(&[0.3, 0.2, f64::NAN, 0.1, f64::INFINITY, 0.05]),
        );
        let figure = chart.figure().unwrap().into_string();
        assert_eq!(figure.matches("<polyline").count(), 1, "{figure}");
        assert_eq!(figure.matches("<circle").count(), 4, "{figure}");
        assert!(
            !figure.contains("NaN") && !figure.contains("inf"),
            "{figure}"
        );
        assert!(figure.contains("0.2000 after 20"), "{figure}");
        assert!(
            Chart::single("Loss", 100, points(&[f64::NAN]))
                .figure()
                .is_none()
        );
    }

    #[test]
    fn long_curves_are_means_and_wide_ranges_logarithmic() {
        let values: Vec<f64> = (0..3_000).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
        let linear = Chart::single("Loss", 30_000, points(&values));
        assert_eq!(thinned(&linear.curves[0].points).len(), 375);
        let linear = linear.figure().unwrap().into_string();
        assert!(!linear.contains("logarithmic") && !linear.contains("<circle"));
        let figure = Chart::single("Loss", 30_000, points(&values))
            .logarithmic()
            .figure();
        assert!(figure.unwrap().0.contains("Loss (logarithmic)"));
    }

    #[test]
    fn equal_and_zero_numbers_are_drawn() {
        for value in [0.0, 2e-4, 31.7, -4.0] {
            let figure = Chart::single("PSNR", 0, points(&[value, value]))
                .logarithmic()
                .figure()
                .unwrap()
                .into_string();
            assert!(
                !figure.contains("NaN") && !figure.contains("inf"),
                "{figure}"
            );
        }
    }

    #[test]
    fn several_curves_have_a_legend_of_text() {
        let mut chart = Chart::single("PSNR", 20, points(&[1.0, 2.0]));
        chart.curves.push(Curve {
            name: "<b>".into(),
            colour: 1,
            points: points(&[2.0, 1.0]),
        });
        let figure = chart.figure().unwrap().into_string();
        assert!(
            figure.contains("<span class=\"c1\">&lt;b&gt;</span>"),
            "{figure}"
        );
    }
}
