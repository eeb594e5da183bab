//! Drawings as SVG: their elements, axes with round ticks, curves and histograms.

mod axis;
#[cfg(feature = "train")]
pub(crate) mod curves;
pub(crate) mod histogram;

pub(crate) use axis::Axis;

use maud::{Markup, html};

// Empty elements are written with `{}`, which closes them: unlike HTML, SVG has none that go without an end.

/// A length or place with one decimal: finer is not seen.
fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

pub(crate) fn text(class: &str, x: f64, y: f64, text: &str) -> Markup {
    html! { text class=(class) x=(tenths(x)) y=(tenths(y)) { (text) } }
}

pub(crate) fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Markup {
    html! {
        line class=(class) x1=(tenths(from.0)) y1=(tenths(from.1)) x2=(tenths(to.0)) y2=(tenths(to.1)) {}
    }
}

pub(crate) fn polyline(class: &str, points: impl Iterator<Item = (f64, f64)>) -> Markup {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    html! { polyline class=(class) points=(points.join(" ")) {} }
}

/// A line across the drawing for each tick of the axis `up`, with its label on the left.
pub(crate) fn grid(up: &Axis, left: f64, right: f64) -> Markup {
    html! {
        @for tick in up.ticks() {
            @let y = up.at(tick);
            (line("grid", (left, y), (right, y)))
            (text("quiet end", left - 8.0, y + 4.0, &up.label(tick)))
        }
    }
}

/// Below `y`, the label of each tick of the axis `across`.
pub(crate) fn labels_below(across: &Axis, y: f64) -> Markup {
    html! {
        @for tick in across.ticks() {
            (text("quiet middle", across.at(tick), y + 18.0, &across.label(tick)))
        }
    }
}

pub(crate) fn dot(x: f64, y: f64) -> Markup {
    html! { circle .dot cx=(tenths(x)) cy=(tenths(y)) r="5" {} }
}

pub(crate) fn diamond(x: f64, y: f64) -> Markup {
    html! { path .paper d={ "M" (tenths(x)) " " (tenths(y - 6.0)) "l6 6l-6 6l-6 -6z" } {} }
}
