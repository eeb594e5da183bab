//! A model's means by dataset, and how its gains are distributed.

use maud::{Markup, html};

use super::super::page::{TableRow, counted, line, section, table};
use crate::drawing::histogram;
use crate::evaluation::Protocol;
use crate::evaluation::published::published;
use crate::evaluation::results::{DatasetResult, ImageResult};
use crate::numbers::{fixed, signed};

/// The datasets, each with the paper's rows below it.
pub(super) fn summary(datasets: &[DatasetResult]) -> Markup {
    let headings = [
        "Dataset",
        "PSNR before (dB)",
        "after (dB)",
        "gain (dB)",
        "SSIM before",
        "after",
        "gain",
        "Images",
        "Failed",
        "Protocol",
    ];
    let mut rows = Vec::new();
    for dataset in datasets {
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
        let row = TableRow::new("", &dataset.name);
        let row = figures.into_iter().fold(row, TableRow::number);
        rows.push(
            row.number(dataset.images.len())
                .number(dataset.failures.len())
                .text(dataset.protocol.name()),
        );
        for paper in published(&dataset.name) {
            let (psnr, ssim) = (fixed(paper.psnr, 2), fixed(paper.ssim, 3));
            let figures = ["", &psnr, "", "", &ssim, "", "", ""];
            let name = format!("{}, trained on {}", paper.model, paper.trained_on);
            let row = TableRow::new("published", name);
            let row = figures.into_iter().fold(row, TableRow::number);
            rows.push(row.text(paper.protocol.name()));
        }
    }
    let protocols = [Protocol::Gopro, Protocol::Basicsr, Protocol::Realblur];
    let used = |protocol: &Protocol| datasets.iter().any(|it| it.protocol == *protocol);
    let inside = html! {
        (table("Summary", &headings, &rows))
        ul .quiet.notes {
            @for protocol in protocols.iter().filter(|it| used(it)) {
                li { "Protocol " code { (protocol.name()) } ": " (protocol.figures()) "." }
            }
            @if datasets.iter().any(|dataset| !published(&dataset.name).is_empty()) {
                li {
                    "Lines in lighter type are the HI-Diff paper's (Tables 2 and 3). They compare only with figures by \
                     the same protocol, over the whole test set."
                }
            }
        }
    };
    section("summary", "Summary", inside)
}

/// A histogram for each dataset.
pub(super) fn distribution(datasets: &[DatasetResult]) -> Markup {
    if datasets.iter().all(|dataset| dataset.images.is_empty()) {
        return html! {};
    }
    let inside = html! {
        div .grid {
            @for dataset in datasets.iter().filter(|dataset| !dataset.images.is_empty()) {
                (gains(dataset))
            }
        }
    };
    section("distribution", "PSNR gain, image by image", inside)
}

fn gains(dataset: &DatasetResult) -> Markup {
    let mut gains: Vec<f64> = dataset.images.iter().map(ImageResult::gain).collect();
    gains.sort_by(f64::total_cmp);
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
    html! {
        div .card {
            h3 { bdi { (dataset.name) } }
            @if let Some(drawing) = histogram::svg(&gains) { (drawing) }
            (line(&facts))
        }
    }
}
