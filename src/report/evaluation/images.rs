//! The images: pictures of some, numbers of all.

use std::fmt;

use super::super::page::{Page, counted};
use super::super::picture::QUALITY;
use super::super::viewer::{self, Pictures};
use super::{chosen, place};
use crate::drawing::Escaped;
use crate::error::Result;
use crate::evaluation::results::{DatasetResult, ImageResult};
use crate::numbers::{fixed, signed};

/// For pictures and table alike; there where the script shows it.
pub(super) fn filter(page: &mut Page, datasets: &[DatasetResult]) -> Result<()> {
    if datasets.len() < 2 {
        return Ok(());
    }
    page.put(format_args!(
        "<p class=\"toolbar\" id=\"filter\" hidden><label>Dataset <select>\n<option value=\"\">all</option>\n"
    ))?;
    for (index, dataset) in datasets.iter().enumerate() {
        page.put(format_args!(
            "<option value=\"{index}\">{}</option>\n",
            Escaped(&dataset.name)
        ))?;
    }
    page.put(format_args!("</select></label></p>\n"))
}

/// Before and after.
pub(super) fn pictures(
    page: &mut Page,
    datasets: &[DatasetResult],
    most: usize,
    pictures: &mut dyn FnMut(&DatasetResult, &ImageResult) -> Result<Option<Pictures>>,
) -> Result<()> {
    // The largest losses first: who looks for faults should not have to scroll.
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (index, dataset) in datasets.iter().enumerate() {
        places.extend(
            chosen(dataset, most)
                .into_iter()
                .map(|image| (index, image)),
        );
    }
    if places.is_empty() {
        return Ok(());
    }
    let gain_at = |place: &(usize, usize)| datasets[place.0].images[place.1].gain();
    places.sort_by(|a, b| gain_at(a).total_cmp(&gain_at(b)));

    page.section("pictures", "Pictures")?;
    let total: usize = datasets.iter().map(|dataset| dataset.images.len()).sum();
    let which = if places.len() < total {
        "the largest losses and the largest gains of each dataset"
    } else {
        "every image"
    };
    page.put(format_args!(
        "<p class=\"quiet\">{} of {}: {which}. Scores are of the images themselves; the pictures are JPEGs of quality {QUALITY}, \
         and their differences include what that costs. Ctrl or ⌘ with the wheel zooms, both sides together.</p>\n\
         <p class=\"toolbar\" id=\"order\" hidden>Order \
         <button type=\"button\" data-order=\"losses\" aria-pressed=\"true\">Losses first</button> \
         <button type=\"button\" data-order=\"gains\" aria-pressed=\"false\">Gains first</button> \
         <button type=\"button\" data-order=\"name\" aria-pressed=\"false\">By name</button></p>\n\
         <div id=\"shown\">\n",
        places.len(),
        counted(total, "image", "images"),
    ))?;
    for (dataset_index, image_index) in places {
        let dataset = &datasets[dataset_index];
        let image = &dataset.images[image_index];
        let gain = image.gain();
        page.put(format_args!(
            "<article class=\"card\" id=\"{}\" data-dataset=\"{dataset_index}\" data-gain=\"{gain}\" data-name=\"{}\" style=\"--side: {}\">\n\
             <h3><bdi>{}</bdi></h3>\n<p class=\"quiet facts\">",
            anchor(dataset_index, image_index),
            Escaped(&image.restored.name),
            image.width,
            Escaped(&place(datasets, dataset, &image.restored.name)),
        ))?;
        let class = if gain < 0.0 { "loss" } else { "gain" };
        page.put(format_args!(
            "<span>PSNR {} → {} dB, <strong class=\"{class}\">{}</strong></span> \
             <span>SSIM {} → {}</span> <span>{}×{}</span> <span>{:.2} s</span></p>\n",
            fixed(image.blurred.psnr, 2),
            fixed(image.restored.scores.psnr, 2),
            signed(gain, 2),
            fixed(image.blurred.ssim, 4),
            fixed(image.restored.scores.ssim, 4),
            image.width,
            image.height,
            image.seconds,
        ))?;
        for warning in &image.restored.warnings {
            page.put(format_args!(
                "<p class=\"warning\">{}</p>\n",
                Escaped(warning)
            ))?;
        }
        match pictures(dataset, image)? {
            Some(pictures) => viewer::put(page, &image.restored.name, &pictures)?,
            None => page.put(format_args!(
                "<p class=\"quiet\">No pictures are kept.</p>\n"
            ))?,
        }
        page.put(format_args!("</article>\n"))?;
    }
    page.put(format_args!("</div>\n"))?;
    page.end_section()
}

fn anchor(dataset: usize, image: usize) -> String {
    format!("picture-{dataset}-{image}")
}

/// The table of all images.
pub(super) fn table(page: &mut Page, datasets: &[DatasetResult], most: usize) -> Result<()> {
    if datasets.iter().all(|dataset| dataset.images.is_empty()) {
        return Ok(());
    }
    page.section("images", "All images")?;
    page.put(format_args!(
        "<div class=\"scroll tall\" role=\"region\" aria-label=\"All images\" tabindex=\"0\">\n\
         <table class=\"sortable\">\n<thead><tr>"
    ))?;
    let several = datasets.len() > 1;
    if several {
        page.put(format_args!("{}", Heading("Dataset", "", "none")))?;
    }
    let sorted = if several { "none" } else { "ascending" };
    page.put(format_args!("{}", Heading("Name", "", sorted)))?;
    for heading in [
        "PSNR before (dB)",
        "PSNR after (dB)",
        "Gain (dB)",
        "SSIM before",
        "SSIM after",
        "Size",
        "Time (s)",
    ] {
        page.put(format_args!("{}", Heading(heading, "number", "none")))?;
    }
    page.put(format_args!("</tr></thead>\n<tbody>\n"))?;
    for (dataset_index, dataset) in datasets.iter().enumerate() {
        let pictured = chosen(dataset, most);
        for (image_index, image) in dataset.images.iter().enumerate() {
            page.put(format_args!("<tr data-dataset=\"{dataset_index}\">"))?;
            if several {
                page.put(format_args!(
                    "<td><bdi>{}</bdi></td>",
                    Escaped(&dataset.name)
                ))?;
            }
            let name = Escaped(&image.restored.name);
            page.put(format_args!("<th scope=\"row\">"))?;
            match pictured.binary_search(&image_index) {
                Ok(_) => page.put(format_args!(
                    "<a href=\"#{}\"><bdi>{name}</bdi></a>",
                    anchor(dataset_index, image_index)
                ))?,
                Err(_) => page.put(format_args!("<bdi>{name}</bdi>"))?,
            }
            for warning in &image.restored.warnings {
                page.put(format_args!(
                    " <span class=\"warning\">{}</span>",
                    Escaped(warning)
                ))?;
            }
            let gain = image.gain();
            let class = if gain < 0.0 { "loss" } else { "gain" };
            page.put(format_args!("</th>{}{}<td class=\"number {class}\" data-value=\"{gain}\">{}</td>{}{}{}{}</tr>\n",
                Figure(image.blurred.psnr, &fixed(image.blurred.psnr, 2)),
                Figure(image.restored.scores.psnr, &fixed(image.restored.scores.psnr, 2)),
                signed(gain, 2),
                Figure(image.blurred.ssim, &fixed(image.blurred.ssim, 4)),
                Figure(image.restored.scores.ssim, &fixed(image.restored.scores.ssim, 4)),
                Figure((image.width * image.height) as f64, &format!("{}×{}", image.width, image.height)),
                Figure(image.seconds, &fixed(image.seconds, 2)),
            ))?;
        }
    }
    page.put(format_args!("</tbody>\n</table>\n</div>\n"))?;
    page.end_section()
}

/// A column's heading that sorts by it: text, class, and how it is sorted.
struct Heading<'a>(&'a str, &'a str, &'a str);

impl fmt::Display for Heading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, class, sorted) = self;
        write!(
            f,
            "<th scope=\"col\" class=\"{class}\" aria-sort=\"{sorted}\"><button type=\"button\">{text}</button></th>"
        )
    }
}

/// A number to sort by, and how it is written.
struct Figure<'a>(f64, &'a str);

impl fmt::Display for Figure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, text) = self;
        write!(f, "<td class=\"number\" data-value=\"{value}\">{text}</td>")
    }
}
