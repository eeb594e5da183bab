//! The images: pictures of some, numbers of all.

use maud::{Markup, html};

use super::super::page::{counted, section};
use super::super::picture::QUALITY;
use super::super::viewer::{Pictures, viewer};
use super::{ARTICLES, chosen, place};
use crate::error::Result;
use crate::evaluation::results::{DatasetResult, ImageResult};
use crate::numbers::{fixed, signed};

/// For pictures and table alike; there where the script shows it.
pub(super) fn filter(datasets: &[DatasetResult]) -> Markup {
    html! {
        @if datasets.len() > 1 {
            p .toolbar #filter hidden {
                label {
                    "Dataset "
                    select {
                        option value="" { "all" }
                        @for (index, dataset) in datasets.iter().enumerate() {
                            option value=(index) { (dataset.name) }
                        }
                    }
                }
            }
        }
    }
}

/// The images with pictures, each by the index of its dataset and its own.
pub(super) fn shown(datasets: &[DatasetResult], most: usize) -> Vec<(usize, usize)> {
    // The largest losses first: who looks for faults should not have to scroll.
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (index, dataset) in datasets.iter().enumerate() {
        places.extend(
            chosen(dataset, most)
                .into_iter()
                .map(|image| (index, image)),
        );
    }
    let gain_at = |place: &(usize, usize)| datasets[place.0].images[place.1].gain();
    places.sort_by(|a, b| gain_at(a).total_cmp(&gain_at(b)));
    places
}

/// Before and after of so many images, with [`ARTICLES`] in place of each one's [`article`].
pub(super) fn pictures(datasets: &[DatasetResult], shown: usize) -> Markup {
    if shown == 0 {
        return html! {};
    }
    let total: usize = datasets.iter().map(|dataset| dataset.images.len()).sum();
    let which = if shown < total {
        "the largest losses and the largest gains of each dataset"
    } else {
        "every image"
    };
    let inside = html! {
        p .quiet {
            (shown) " of " (counted(total, "image", "images")) ": " (which) ". Scores are of the images themselves; \
            the pictures are JPEGs of quality " (QUALITY) ", and their differences include what that costs. \
            Ctrl or ⌘ with the wheel zooms, both sides together."
        }
        p .toolbar #order hidden {
            "Order "
            button type="button" data-order="losses" aria-pressed="true" { "Losses first" } " "
            button type="button" data-order="gains" aria-pressed="false" { "Gains first" } " "
            button type="button" data-order="name" aria-pressed="false" { "By name" }
        }
        div #shown { (ARTICLES) }
    };
    section("pictures", "Pictures", inside)
}

/// An image, before and after.
pub(super) fn article(
    datasets: &[DatasetResult],
    (dataset_index, image_index): (usize, usize),
    pictures: &mut dyn FnMut(&DatasetResult, &ImageResult) -> Result<Option<Pictures>>,
) -> Result<Markup> {
    let dataset = &datasets[dataset_index];
    let image = &dataset.images[image_index];
    let gain = image.gain();
    Ok(html! {
        article .card id=(anchor(dataset_index, image_index)) data-dataset=(dataset_index) data-gain=(gain)
            data-name=(image.restored.name) style={ "--side: " (image.width) } {
            h3 { bdi { (place(datasets, dataset, &image.restored.name)) } }
            p .quiet.facts {
                span {
                    "PSNR " (fixed(image.blurred.psnr, 2)) " → " (fixed(image.restored.scores.psnr, 2)) " dB, "
                    strong class=(class(gain)) { (signed(gain, 2)) }
                } " "
                span { "SSIM " (fixed(image.blurred.ssim, 4)) " → " (fixed(image.restored.scores.ssim, 4)) } " "
                span { (size(image)) } " "
                span { (fixed(image.seconds, 2)) " s" }
            }
            @for warning in &image.restored.warnings { p .warning { (warning) } }
            @match pictures(dataset, image)? {
                Some(pictures) => (viewer(&image.restored.name, &pictures)?),
                None => p .quiet { "No pictures are kept." },
            }
        }
    })
}

fn anchor(dataset: usize, image: usize) -> String {
    format!("picture-{dataset}-{image}")
}

fn class(gain: f64) -> &'static str {
    if gain < 0.0 { "loss" } else { "gain" }
}

fn size(image: &ImageResult) -> String {
    format!("{}×{}", image.width, image.height)
}

/// The table of all images.
pub(super) fn table(datasets: &[DatasetResult], most: usize) -> Markup {
    if datasets.iter().all(|dataset| dataset.images.is_empty()) {
        return html! {};
    }
    let several = datasets.len() > 1;
    let numbers = [
        "PSNR before (dB)",
        "PSNR after (dB)",
        "Gain (dB)",
        "SSIM before",
        "SSIM after",
        "Size",
        "Time (s)",
    ];
    let inside = html! {
        div .scroll.tall role="region" aria-label="All images" tabindex="0" {
            table .sortable {
                thead {
                    tr {
                        @if several { (heading("Dataset", "", "none")) }
                        (heading("Name", "", if several { "none" } else { "ascending" }))
                        @for number in numbers { (heading(number, "number", "none")) }
                    }
                }
                tbody {
                    @for (dataset_index, dataset) in datasets.iter().enumerate() {
                        @let pictured = chosen(dataset, most);
                        @for (image_index, image) in dataset.images.iter().enumerate() {
                            tr data-dataset=(dataset_index) {
                                @if several { td { bdi { (dataset.name) } } }
                                th scope="row" {
                                    @if pictured.contains(&image_index) {
                                        a href={ "#" (anchor(dataset_index, image_index)) } { bdi { (image.restored.name) } }
                                    } @else {
                                        bdi { (image.restored.name) }
                                    }
                                    @for warning in &image.restored.warnings { " " span .warning { (warning) } }
                                }
                                (figures(image))
                            }
                        }
                    }
                }
            }
        }
    };
    section("images", "All images", inside)
}

/// A column's heading that sorts by it.
fn heading(text: &str, class: &str, sorted: &str) -> Markup {
    html! { th class=(class) scope="col" aria-sort=(sorted) { button type="button" { (text) } } }
}

/// An image's numbers: how each is written, and to sort by.
fn figures(image: &ImageResult) -> Markup {
    let (before, after, gain) = (&image.blurred, &image.restored.scores, image.gain());
    let figure = |value: f64, text: String| html! { td .number data-value=(value) { (text) } };
    html! {
        (figure(before.psnr, fixed(before.psnr, 2)))
        (figure(after.psnr, fixed(after.psnr, 2)))
        td .number.(class(gain)) data-value=(gain) { (signed(gain, 2)) }
        (figure(before.ssim, fixed(before.ssim, 4)))
        (figure(after.ssim, fixed(after.ssim, 4)))
        (figure((image.width * image.height) as f64, size(image)))
        (figure(image.seconds, fixed(image.seconds, 2)))
    }
}
