//! An evaluation as the Markdown table of a paper.

use std::fmt::Write;

use super::published::{PublishedRow, published};
use super::results::{Evaluation, Scores};
use crate::numbers::fixed;

/// A row for this model and for each published one: PSNR and SSIM on every dataset.
pub fn markdown(evaluation: &Evaluation) -> String {
    let datasets = &evaluation.datasets;
    let mut text = String::from("# Evaluation\n\n|");
    for dataset in datasets {
        let _ = write!(text, " | {} PSNR (dB) | SSIM", escaped(&dataset.name));
    }
    text.push_str(" |\n|---");
    text.push_str(&"|--:|--:".repeat(datasets.len()));
    text.push_str("|\n");

    row(
        &mut text,
        "blurred input",
        4,
        datasets.iter().map(|dataset| dataset.blurred),
    );
    row(
        &mut text,
        "**this run**",
        4,
        datasets.iter().map(|dataset| dataset.restored),
    );
    for (model, training) in published_models(evaluation) {
        let scores = datasets.iter().map(|dataset| {
            let mut rows = published(&dataset.name).iter();
            let row = rows.find(|row| row.model == model && training_of(row) == training)?;
            (row.protocol == dataset.protocol).then_some(Scores {
                psnr: row.psnr,
                ssim: row.ssim,
            })
        });
        let title = format!("{model}, trained on {training} (paper)");
        row(&mut text, &title, 3, scores);
    }
    text.push_str(&notes(evaluation));
    text
}

/// The models that have figures on one of the datasets, each with what it was trained on.
fn published_models(evaluation: &Evaluation) -> Vec<(&'static str, &'static str)> {
    let mut models = Vec::new();
    for dataset in &evaluation.datasets {
        for row in published(&dataset.name) {
            let model = (row.model, training_of(row));
            if row.protocol == dataset.protocol && !models.contains(&model) {
                models.push(model);
            }
        }
    }
    // The trainings apart, in the order of the paper's tables.
    models.sort_by_key(|(_, training)| *training);
    models
}

/// Each camera's part of RealBlur has a model of its own, which the table has in one row.
fn training_of(row: &PublishedRow) -> &'static str {
    match row.trained_on {
        "RealBlur-J" | "RealBlur-R" => "RealBlur",
        other => other,
    }
}

fn notes(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    for dataset in &evaluation.datasets {
        let seconds: f64 = dataset.images.iter().map(|image| image.seconds).sum();
        let _ = write!(
            text,
            "\n- {}: protocol `{}`, {}; {} images",
            escaped(&dataset.name),
            dataset.protocol,
            dataset.protocol.figures(),
            dataset.images.len(),
        );
        if !dataset.images.is_empty() {
            let _ = write!(
                text,
                ", {:.2} s each",
                seconds / dataset.images.len() as f64
            );
        }
        let warned = dataset
            .images
            .iter()
            .filter(|image| !image.restored.warnings.is_empty());
        match warned.count() {
            0 => {}
            warned => {
                let _ = write!(text, "; {warned} with a warning, see `evaluation.json`");
            }
        }
        match dataset.failures.len() {
            0 => {}
            failed => {
                let _ = write!(text, "; **{failed} failed and are not in the means**");
            }
        }
    }
    let _ = write!(
        text,
        "\n- Weights `{}`, seed {}, {}, hi-diff {}.\n\n```sh\n{}\n```\n",
        evaluation.weights.replace('`', "'"),
        evaluation.seed,
        evaluation.backend,
        evaluation.version,
        evaluation.command
    );
    text
}

/// A name from outside, without what Markdown would take for more than text.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '(' | ')' | '#' | '|'
            | '!' => {
                text.extend(['\\', c]);
            }
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

/// SSIM with as many digits as are known.
fn row(
    text: &mut String,
    title: &str,
    digits: usize,
    scores: impl Iterator<Item = Option<Scores>>,
) {
    let _ = write!(text, "| {title}");
    for scores in scores {
        let _ = match scores {
            Some(scores) => write!(
                text,
                " | {} | {:.digits$}",
                decibels(scores.psnr),
                scores.ssim
            ),
            None => write!(text, " | – | –"),
        };
    }
    text.push_str(" |\n");
}

/// With two digits, as papers have it.
pub fn decibels(psnr: f64) -> String {
    fixed(psnr, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Protocol;
    use crate::evaluation::results::{DatasetResult, Failure, ImageResult, ImageScores};

    fn dataset(name: &str, protocol: Protocol, psnr: f64) -> DatasetResult {
        let blurred = Scores {
            psnr: 25.64,
            ssim: 0.85,
        };
        let restored = Scores {
            psnr,
            ssim: 0.96429,
        };
        DatasetResult {
            name: name.into(),
            folder: name.into(),
            protocol,
            blurred: Some(blurred),
            restored: Some(restored),
            count: 1,
            images: vec![ImageResult {
                restored: ImageScores::new("1", restored),
                width: 1280,
                height: 720,
                seconds: 15.04,
                blurred,
            }],
            failures: Vec::new(),
        }
    }

    fn lines(datasets: Vec<DatasetResult>) -> Vec<String> {
        let evaluation = Evaluation {
            command: "hi-diff eval --data a".into(),
            version: "0.1.0".into(),
            weights: "gopro.safetensors".into(),
            backend: "flex".into(),
            attention: "global".into(),
            seed: 7,
            config: Default::default(),
            datasets,
        };
        markdown(&evaluation).lines().map(String::from).collect()
    }

    #[test]
    fn the_papers_rows_stand_below_on_the_datasets_they_have() {
        let lines = lines(vec![
            dataset("GoPro", Protocol::Gopro, 33.334),
            dataset("RealBlur-J", Protocol::Realblur, f64::INFINITY),
        ]);
        let expected = [
            "| | GoPro PSNR (dB) | SSIM | RealBlur-J PSNR (dB) | SSIM |",
            "|---|--:|--:|--:|--:|",
            "| blurred input | 25.64 | 0.8500 | 25.64 | 0.8500 |",
            "| **this run** | 33.33 | 0.9643 | ∞ | 0.9643 |",
        ];
        assert_eq!(lines[2..6], expected);
        let gopro = "| HI-Diff, trained on GoPro (paper) | 33.33 | 0.964 | 29.15 | 0.890 |";
        let realblur = "| HI-Diff, trained on RealBlur (paper) | – | – | 33.70 | 0.941 |";
        for row in [gopro, realblur] {
            assert!(
                lines.iter().any(|line| line == row),
                "{row} is not in {lines:#?}"
            );
        }
    }

    #[test]
    fn figures_of_another_protocol_are_left_out_and_failures_are_told() {
        let mut other = dataset("GoPro", Protocol::Basicsr, 33.0);
        other.failures.push(Failure {
            name: "2".into(),
            reason: "torn".into(),
        });
        let lines = lines(vec![other]);
        assert!(
            !lines.iter().any(|line| line.contains("(paper)")),
            "{lines:#?}"
        );
        let note = lines
            .iter()
            .find(|line| line.starts_with("- GoPro"))
            .unwrap();
        assert!(
            note.contains("`basicsr`") && note.contains("1 failed"),
            "{note}"
        );
    }

    #[test]
    fn names_from_outside_stay_text() {
        let lines = lines(vec![dataset("a|b `<c>`", Protocol::Gopro, 30.0)]);
        assert_eq!(lines[2], r"| | a\|b \`\<c\>\` PSNR (dB) | SSIM |");
    }
}
