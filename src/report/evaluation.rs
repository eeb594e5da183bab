//! The page of an evaluation.

use std::io::Write;

use super::histogram;
use super::page::{Page, Row, counted};
use super::picture::QUALITY;
use super::viewer::{self, Pictures};
use crate::drawing::Escaped;
use crate::error::Result;
use crate::evaluation::Protocol;
use crate::evaluation::published::published;
use crate::evaluation::results::{DatasetResult, Evaluation, ImageResult, extremes};
use crate::numbers::{fixed, signed};

/// Writes the page of `evaluation` on `out`.
///
/// The page has pictures of at most `most` images of each dataset: those that [`chosen`] names. `pictures` is asked
/// for one image after the other, none of which is kept; where it has none, the page goes without.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if `out` cannot be written, [`Error::Shape`](crate::Error::Shape) if an image's
/// pictures are not of the same size, and the errors of `pictures`.
pub fn write(
    out: &mut dyn Write,
    evaluation: &Evaluation,
    most: usize,
    pictures: &mut dyn FnMut(&DatasetResult, &ImageResult) -> Result<Option<Pictures>>,
) -> Result<()> {
    let datasets = &evaluation.datasets;
    let names: Vec<&str> = datasets
        .iter()
        .map(|dataset| dataset.name.as_str())
        .collect();
    let heading = format!("Evaluation on {}", names.join(", "));
    let facts = [
        format!("weights {}", evaluation.weights),
        format!("backend {}", evaluation.backend),
        format!("seed {}", evaluation.seed),
        format!("hi-diff {}", evaluation.version),
    ];
    let mut page = Page::begin(out, &format!("{heading} · hi-diff"), &heading, &facts)?;
    problems(&mut page, datasets)?;
    summary(&mut page, datasets)?;
    distribution(&mut page, datasets)?;
    filter(&mut page, datasets)?;
    shown(&mut page, datasets, most, pictures)?;
    images(&mut page, datasets, most)?;
    origin(&mut page, evaluation)?;
    page.end()
}

/// Which images of a dataset get pictures, in its order: the `most` images with the largest losses and the largest
/// gains of PSNR, half and half; all where there are no more.
pub fn chosen(dataset: &DatasetResult, most: usize) -> Vec<usize> {
    let mut indices = extremes(&dataset.images, most);
    indices.sort_unstable();
    indices
}

/// In dB. An image that was right before and after has gained nothing.
fn gain(image: &ImageResult) -> f64 {
    let (before, after) = (image.blurred.psnr, image.restored.psnr);
    if before == after { 0.0 } else { after - before }
}

/// What keeps the figures from being all that was asked for stands first.
fn problems(page: &mut Page, datasets: &[DatasetResult]) -> Result<()> {
    let failures: usize = datasets.iter().map(|dataset| dataset.failures.len()).sum();
    let warned = |dataset: &DatasetResult| {
        dataset
            .images
            .iter()
            .filter(|image| !image.warnings.is_empty())
            .count()
    };
    let warnings: usize = datasets.iter().map(warned).sum();
    if failures + warnings == 0 {
        return Ok(());
    }
    page.put(format_args!("<div class=\"problems\" role=\"note\">\n"))?;
    if failures > 0 {
        let count = counted(failures, "image has", "images have");
        page.put(format_args!(
            "<p><strong>{count} no scores</strong> and no part in the means.</p>\n<ul>\n"
        ))?;
        for dataset in datasets {
            for failure in &dataset.failures {
                page.put(format_args!(
                    "<li><bdi>{}</bdi>: {}</li>\n",
                    Escaped(&place(datasets, dataset, &failure.name)),
                    Escaped(&failure.reason)
                ))?;
            }
        }
        page.put(format_args!("</ul>\n"))?;
    }
    if warnings > 0 {
        let count = counted(warnings, "image comes", "images come");
        page.put(format_args!(
            "<p><strong>{count} with a warning</strong>, marked in the table.</p>\n<ul>\n"
        ))?;
        for dataset in datasets {
            for image in dataset
                .images
                .iter()
                .filter(|image| !image.warnings.is_empty())
            {
                page.put(format_args!(
                    "<li><bdi>{}</bdi>: {}</li>\n",
                    Escaped(&place(datasets, dataset, &image.name)),
                    Escaped(&image.warnings.join("; "))
                ))?;
            }
        }
        page.put(format_args!("</ul>\n"))?;
    }
    page.put(format_args!("</div>\n"))
}

/// An image's name, with its dataset's where there are several.
fn place(datasets: &[DatasetResult], dataset: &DatasetResult, name: &str) -> String {
    match datasets.len() {
        1 => name.to_string(),
        _ => format!("{}: {name}", dataset.name),
    }
}

fn summary(page: &mut Page, datasets: &[DatasetResult]) -> Result<()> {
    page.section("summary", "Summary")?;
    let headings = [
        "Dataset",
        "Protocol",
        "Images",
        "Failed",
        "PSNR before (dB)",
        "after (dB)",
        "gain (dB)",
        "SSIM before",
        "after",
        "gain",
    ];
    let mut rows = Vec::new();
    for dataset in datasets {
        let mut row = Row::new("", &dataset.name)
            .text(dataset.protocol.name())
            .number(dataset.images.len())
            .number(dataset.failures.len());
        let mut figures = ["–"; 6].map(str::to_string);
        if let (Some(before), Some(after)) = (dataset.blurred, dataset.restored) {
            figures = [
                fixed(before.psnr, 2),
                fixed(after.psnr, 2),
                signed(after.psnr - before.psnr, 2),
                fixed(before.ssim, 4),
                fixed(after.ssim, 4),
                signed(after.ssim - before.ssim, 4),
            ];
        }
        for figure in figures {
            row = row.number(figure);
        }
        rows.push(row);
        for paper in published(&dataset.name) {
            let name = format!("{}, trained on {}", paper.model, paper.trained_on);
            rows.push(
                Row::new("published", name)
                    .text(paper.protocol.name())
                    .number("")
                    .number("")
                    .number("")
                    .number(fixed(paper.psnr, 2))
                    .number("")
                    .number("")
                    .number(fixed(paper.ssim, 3))
                    .number(""),
            );
        }
    }
    page.table("Summary", &headings, &rows)?;
    page.put(format_args!("<ul class=\"quiet notes\">\n"))?;
    for protocol in [Protocol::Gopro, Protocol::Basicsr, Protocol::Realblur] {
        if datasets.iter().any(|dataset| dataset.protocol == protocol) {
            page.put(format_args!(
                "<li>Protocol <code>{protocol}</code>: {}.</li>\n",
                protocol.figures()
            ))?;
        }
    }
    if datasets
        .iter()
        .any(|dataset| !published(&dataset.name).is_empty())
    {
        page.put(format_args!(
            "<li>Lines in lighter type are the HI-Diff paper's (Tables 2 and 3). They compare only with figures by the same protocol, over the whole test set.</li>\n"
        ))?;
    }
    page.put(format_args!("</ul>\n"))?;
    page.end_section()
}

fn distribution(page: &mut Page, datasets: &[DatasetResult]) -> Result<()> {
    if datasets.iter().all(|dataset| dataset.images.is_empty()) {
        return Ok(());
    }
    page.section("distribution", "PSNR gain, image by image")?;
    page.put(format_args!("<div class=\"grid\">\n"))?;
    for dataset in datasets.iter().filter(|dataset| !dataset.images.is_empty()) {
        let mut gains: Vec<f64> = dataset.images.iter().map(gain).collect();
        gains.sort_by(f64::total_cmp);
        page.put(format_args!(
            "<div class=\"card\">\n<h3><bdi>{}</bdi></h3>\n",
            Escaped(&dataset.name)
        ))?;
        if let Some(drawing) = histogram::svg(&gains) {
            page.put(format_args!("{drawing}"))?;
        }
        let count = gains.len();
        let better = gains.iter().filter(|&&gain| gain > 0.0).count();
        let median = (gains[(count - 1) / 2] + gains[count / 2]) / 2.0;
        let mut facts = vec![
            format!("{better} of {} better", counted(count, "image", "images")),
            format!("median {} dB", signed(median, 2)),
            format!("worst {}", signed(gains[0], 2)),
            format!("best {}", signed(gains[count - 1], 2)),
        ];
        let infinite = gains.iter().filter(|gain| gain.is_infinite()).count();
        if infinite > 0 {
            facts.push(format!("{infinite} infinite, not drawn"));
        }
        page.put(format_args!("<p class=\"quiet facts\">"))?;
        for fact in facts {
            page.put(format_args!("<span>{}</span> ", Escaped(&fact)))?;
        }
        page.put(format_args!("</p>\n</div>\n"))?;
    }
    page.put(format_args!("</div>\n"))?;
    page.end_section()
}

/// For pictures and table alike; there where the script shows it.
fn filter(page: &mut Page, datasets: &[DatasetResult]) -> Result<()> {
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

fn shown(
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
    let gain_at = |place: &(usize, usize)| gain(&datasets[place.0].images[place.1]);
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
         and their differences include what that costs. Ctrl with the wheel zooms, both sides together.</p>\n\
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
        let gain = gain(image);
        page.put(format_args!(
            "<article class=\"card\" id=\"{}\" data-dataset=\"{dataset_index}\" data-gain=\"{gain}\" data-name=\"{}\">\n\
             <h3><bdi>{}</bdi></h3>\n<p class=\"quiet facts\">",
            anchor(dataset_index, image_index),
            Escaped(&image.name),
            Escaped(&place(datasets, dataset, &image.name)),
        ))?;
        let class = if gain < 0.0 { "loss" } else { "gain" };
        page.put(format_args!(
            "<span>PSNR {} → {} dB, <strong class=\"{class}\">{}</strong></span> \
             <span>SSIM {} → {}</span> <span>{}×{}</span> <span>{:.2} s</span></p>\n",
            fixed(image.blurred.psnr, 2),
            fixed(image.restored.psnr, 2),
            signed(gain, 2),
            fixed(image.blurred.ssim, 4),
            fixed(image.restored.ssim, 4),
            image.width,
            image.height,
            image.seconds,
        ))?;
        for warning in &image.warnings {
            page.put(format_args!(
                "<p class=\"warning\">{}</p>\n",
                Escaped(warning)
            ))?;
        }
        match pictures(dataset, image)? {
            Some(pictures) => viewer::put(page, &image.name, &pictures)?,
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

fn images(page: &mut Page, datasets: &[DatasetResult], most: usize) -> Result<()> {
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
        page.put(format_args!("{}", Heading("Dataset", "none")))?;
    }
    page.put(format_args!(
        "{}",
        Heading("Name", if several { "none" } else { "ascending" })
    ))?;
    for heading in [
        "PSNR before (dB)",
        "PSNR after (dB)",
        "Gain (dB)",
        "SSIM before",
        "SSIM after",
        "Size",
        "Time (s)",
    ] {
        page.put(format_args!("{}", Heading(heading, "none")))?;
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
            let name = Escaped(&image.name);
            page.put(format_args!("<th scope=\"row\">"))?;
            match pictured.binary_search(&image_index) {
                Ok(_) => page.put(format_args!(
                    "<a href=\"#{}\"><bdi>{name}</bdi></a>",
                    anchor(dataset_index, image_index)
                ))?,
                Err(_) => page.put(format_args!("<bdi>{name}</bdi>"))?,
            }
            for warning in &image.warnings {
                page.put(format_args!(
                    " <span class=\"warning\">{}</span>",
                    Escaped(warning)
                ))?;
            }
            let gain = gain(image);
            let class = if gain < 0.0 { "loss" } else { "gain" };
            page.put(format_args!("</th>{}{}<td class=\"number {class}\" data-value=\"{gain}\">{}</td>{}{}{}{}</tr>\n",
                Figure(image.blurred.psnr, &fixed(image.blurred.psnr, 2)),
                Figure(image.restored.psnr, &fixed(image.restored.psnr, 2)),
                signed(gain, 2),
                Figure(image.blurred.ssim, &fixed(image.blurred.ssim, 4)),
                Figure(image.restored.ssim, &fixed(image.restored.ssim, 4)),
                Figure((image.width * image.height) as f64, &format!("{}×{}", image.width, image.height)),
                Figure(image.seconds, &fixed(image.seconds, 2)),
            ))?;
        }
    }
    page.put(format_args!("</tbody>\n</table>\n</div>\n"))?;
    page.end_section()
}

/// A column's heading that sorts by it.
struct Heading<'a>(&'a str, &'a str);

impl std::fmt::Display for Heading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(text, sorted) = self;
        write!(
            f,
            "<th scope=\"col\" aria-sort=\"{sorted}\"><button type=\"button\">{text}</button></th>"
        )
    }
}

/// A number to sort by, and how it is written.
struct Figure<'a>(f64, &'a str);

impl std::fmt::Display for Figure<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(value, text) = self;
        write!(f, "<td class=\"number\" data-value=\"{value}\">{text}</td>")
    }
}

fn origin(page: &mut Page, evaluation: &Evaluation) -> Result<()> {
    page.section("origin", "How this was made")?;
    page.code(&evaluation.command)?;
    let folders: Vec<String> = evaluation
        .datasets
        .iter()
        .map(|dataset| format!("{} ({})", dataset.folder, dataset.name))
        .collect();
    page.facts(&[
        ("Version", Some(format!("hi-diff {}", evaluation.version))),
        ("Weights", Some(evaluation.weights.clone())),
        ("Backend", Some(evaluation.backend.clone())),
        ("Seed of the noise", Some(evaluation.seed.to_string())),
        ("Data", Some(folders.join(", "))),
    ])?;
    let config = toml::to_string(&evaluation.config)
        .map_err(|error| crate::Error::Training(error.to_string()))?;
    page.folded_code("Configuration of the model (TOML)", &config)?;
    page.end_section()
}
