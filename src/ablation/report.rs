//! The table of an ablation, as Markdown and, by `serde`, as JSON.

use serde::{Deserialize, Serialize};

use super::rows::{Published, Row};
use super::score::{Difference, Mean, PairScore, difference, mean};
use crate::config::{Config, PatchConfig};
use crate::numbers::{signed, thousands};

/// What a row is found to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Parameters of the inference networks.
    pub params: u64,
    /// Multiply-accumulates at 3×256×256, all reverse steps.
    pub macs: u64,
    /// The held-out images, in order.
    pub scores: Vec<PairScore>,
}

/// All rows that are done, and what they have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// As the user gave it.
    pub budget: String,
    /// Optimiser steps of each stage.
    pub steps: usize,
    /// Seed of weights, patches and noise.
    pub seed: u64,
    /// Patch and batch sizes of stage one.
    pub stage_one_patches: Vec<PatchConfig>,
    /// Patch and batch sizes of stage two.
    pub stage_two_patches: Vec<PatchConfig>,
    /// Held-out images.
    pub images: usize,
    /// The blurred input of the held-out images.
    pub blurred: Mean,
    /// Table 1 in the paper's order, then the sweep's other T.
    pub rows: Vec<ReportRow>,
    /// Rows that were asked for and are not done.
    pub missing: Vec<String>,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportRow {
    /// What kind of row it is; in JSON by its name on the command line.
    #[serde(rename = "name")]
    pub row: Row,
    /// The name in tables.
    pub title: String,
    /// Reverse steps, T; none without a diffusion.
    pub timesteps: Option<usize>,
    /// Parameters of the inference networks.
    pub params: u64,
    /// Multiply-accumulates at 3×256×256, all reverse steps.
    pub macs: u64,
    /// PSNR and SSIM over the held-out images.
    #[serde(flatten)]
    pub mean: Mean,
    /// PSNR less that of the blurred input.
    pub to_blurred: Option<Difference>,
    /// PSNR less that of HI-Diff; none while HI-Diff is not done.
    pub to_hi_diff: Option<Difference>,
    /// The paper's figures, for a row of Table 1.
    pub published: Option<Published>,
}

impl Report {
    /// The report of `finished` rows, which are in order, on what `config`, HI-Diff's, and the budget say.
    pub fn new(
        config: &Config,
        budget: &str,
        blurred: &[PairScore],
        finished: &[(Row, Finished)],
        missing: &[Row],
    ) -> Self {
        let reference = finished.iter().find(|(row, _)| *row == Row::HiDiff);
        let rows = finished.iter().map(|(row, result)| ReportRow {
            row: *row,
            title: row.title(),
            timesteps: match row {
                Row::Baseline => None,
                Row::Timesteps(steps) => Some(*steps),
                _ => Some(config.diffusion.timesteps),
            },
            params: result.params,
            macs: result.macs,
            mean: mean(&result.scores),
            to_blurred: difference(&result.scores, blurred),
            to_hi_diff: reference.and_then(|(_, hi)| difference(&result.scores, &hi.scores)),
            published: row.published(),
        });
        let training = &config.training;
        Self {
            budget: budget.to_string(),
            steps: training.stage_one.iterations,
            seed: training.seed,
            stage_one_patches: training.stage_one.patches.clone(),
            stage_two_patches: training.stage_two.patches.clone(),
            images: blurred.len(),
            blurred: mean(blurred),
            rows: rows.collect(),
            missing: missing.iter().map(Row::to_string).collect(),
        }
    }

    /// The rows of Table 1.
    pub fn table(&self) -> impl Iterator<Item = &ReportRow> {
        self.rows.iter().filter(|row| Row::TABLE.contains(&row.row))
    }

    /// HI-Diff by its number of reverse steps, the fewest first.
    pub fn sweep(&self) -> Vec<&ReportRow> {
        let swept = |row: &&ReportRow| matches!(row.row, Row::HiDiff | Row::Timesteps(_));
        let mut rows: Vec<_> = self.rows.iter().filter(swept).collect();
        rows.sort_by_key(|row| row.timesteps);
        rows
    }
}

impl ReportRow {
    /// The difference to HI-Diff in dB with its standard error, for a table; a dash where there is none.
    pub fn difference_text(&self) -> String {
        match self.to_hi_diff {
            Some(difference) if self.row != Row::HiDiff => {
                let error = difference.standard_error;
                let error = error.map_or_else(String::new, |error| format!(" ± {error:.2}"));
                format!("{}{error}", signed(difference.mean, 2))
            }
            _ => "–".to_string(),
        }
    }
}

/// The report as a page that shows `picture`, a file beside it.
pub fn markdown(report: &Report, picture: &str) -> String {
    let mut page = format!(
        "# Ablations\n\n\
         {} optimiser steps a stage for every row (budget: {}), seed {}.\n\
         Stage one: {}. Stage two: {}.\n\n\
         Means over {} held-out images. Their blurred input: {:.2} dB, SSIM {:.4}.\n",
        thousands(report.steps as u64),
        report.budget,
        report.seed,
        sizes(&report.stage_one_patches),
        sizes(&report.stage_two_patches),
        report.images,
        report.blurred.psnr,
        report.blurred.ssim_volumetric,
    );
    if !report.missing.is_empty() {
        page.push_str(&format!("\nNot done yet: {}.\n", report.missing.join(", ")));
    }
    page.push_str(&format!(
        "\n![PSNR of the rows of Table 1 against HI-Diff's, and PSNR by the number of reverse steps]({picture})\n"
    ));
    table(report, &mut page);
    sweep(report, &mut page);
    page.push_str(
        "\n- PSNR and SSIM are of whole images, restored and rounded to 8 bits. SSIM is the volumetric one\n  \
         (`ssim_volumetric`), which MATLAB computes of an RGB array and which papers quote for GoPro.\n\
         - ± is the standard error of the mean difference, image by image. It covers the choice of the images, not that \
         of the\n  training's seed: differences of a few standard errors may still be chance.\n\
         - MACs are of a 256×256 image and all T passes of the denoiser; the paper counts one pass.\n\
         - HI-Diff, Split-Training and every T start their stage two from one stage one. Baseline has a single stage with \
         the\n  steps of both.\n\
         - The paper's figures are of GoPro, 100,000 iterations a stage, 32 patches of 192×192 in each: its differences \
         can be\n  compared with these, its PSNR and SSIM cannot.\n",
    );
    page
}

fn table(report: &Report, page: &mut String) {
    if report.table().next().is_none() {
        return;
    }
    page.push_str(
        "\n## Table 1\n\n\
         | | parameters | MACs (G) | PSNR (dB) | SSIM | to HI-Diff (dB) | paper: parameters (M) | MACs (G) | PSNR (dB) | SSIM | to HI-Diff (dB) |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let ours = Row::HiDiff.published().map_or(f64::NAN, |paper| paper.psnr);
    for row in report.table() {
        let paper = row.published.map_or_else(String::new, |paper| {
            let difference = match row.row {
                Row::HiDiff => "–".to_string(),
                _ => signed(paper.psnr - ours, 2),
            };
            format!(
                "{:.2} | {:.2} | {:.2} | {:.4} | {difference}",
                paper.params_m, paper.macs_g, paper.psnr, paper.ssim
            )
        });
        page.push_str(&format!(
            "| {} | {} | {} | {:.2} | {:.4} | {} | {paper} |\n",
            row.title,
            thousands(row.params),
            giga(row.macs),
            row.mean.psnr,
            row.mean.ssim_volumetric,
            row.difference_text(),
        ));
    }
}

fn sweep(report: &Report, page: &mut String) {
    let rows = report.sweep();
    if rows.len() < 2 {
        return;
    }
    page.push_str(
        "\n## Reverse steps (Fig. 3)\n\n\
         | T | MACs (G) | PSNR (dB) | SSIM | to HI-Diff (dB) |\n\
         |--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        page.push_str(&format!(
            "| {} | {} | {:.2} | {:.4} | {} |\n",
            row.timesteps.unwrap_or_default(),
            giga(row.macs),
            row.mean.psnr,
            row.mean.ssim_volumetric,
            row.difference_text(),
        ));
    }
}

/// Two digits, or as many as a small model needs.
pub(crate) fn giga(macs: u64) -> String {
    let giga = macs as f64 / 1e9;
    match giga {
        giga if giga >= 10.0 => format!("{giga:.2}"),
        giga if giga >= 0.1 => format!("{giga:.3}"),
        giga => format!("{giga:.5}"),
    }
}

pub(crate) fn sizes(patches: &[PatchConfig]) -> String {
    let entries = patches.iter().map(|entry| {
        format!(
            "{} × {}² for {}",
            entry.batch,
            entry.patch,
            thousands(entry.iterations as u64)
        )
    });
    format!("{} steps", entries.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ablation::budget::{PatchOverride, scaled};

    /// Rows of Table 1 and two T, on two images.
    pub fn example() -> Report {
        let base = Config::preset("ablation/hi-diff").unwrap();
        let config = scaled(&base, 1_200, PatchOverride::default()).unwrap();
        let scores = |first: f64, second: f64| -> Vec<PairScore> {
            [("a", first), ("b", second)]
                .map(|(name, psnr)| PairScore {
                    name: name.into(),
                    psnr,
                    ssim_volumetric: psnr / 40.0,
                })
                .to_vec()
        };
        let finished = [
            (Row::Baseline, 26.0, 24.0),
            (Row::SplitTraining, 25.0, 24.0),
            (Row::HiDiff, 26.5, 24.9),
            (Row::Timesteps(1), 26.0, 24.0),
            (Row::Timesteps(16), 26.4, 25.0),
        ]
        .map(|(row, first, second)| {
            let finished = Finished {
                params: 23_985_583,
                macs: 125_490_000_000,
                scores: scores(first, second),
            };
            (row, finished)
        });
        Report::new(
            &config,
            "2h",
            &scores(24.0, 23.0),
            &finished,
            &[Row::SingleGuide],
        )
    }

    #[test]
    fn the_page_has_each_row_with_its_doubt_and_the_papers_figures() {
        let page = markdown(&example(), "ablation.svg");
        for line in [
            "1,200 optimiser steps a stage for every row (budget: 2h), seed 0.",
            "Stage one: 32 × 192² for 1,200 steps. Stage two: 32 × 192² for 1,200 steps.",
            "Means over 2 held-out images. Their blurred input: 23.50 dB, SSIM 0.5875.",
            "Not done yet: single-guide.",
            "| Baseline | 23,985,583 | 125.49 | 25.00 | 0.6250 | −0.70 ± 0.20 | 19.13 | 117.25 | 31.96 | 0.9528 | −0.28 |",
            "| HI-Diff | 23,985,583 | 125.49 | 25.70 | 0.6425 | – | 23.99 | 125.47 | 32.24 | 0.9558 | – |",
            "| 1 | 125.49 | 25.00 | 0.6250 | −0.70 ± 0.20 |",
            "| 8 | 125.49 | 25.70 | 0.6425 | – |",
            "| 16 | 125.49 | 25.70 | 0.6425 | 0.00 ± 0.10 |",
        ] {
            assert!(
                page.lines().any(|found| found == line),
                "{line:?} is not in\n{page}"
            );
        }
    }

    #[test]
    fn json_names_the_ssim_and_each_row() {
        let json = serde_json::json!(example());
        assert_eq!(json["images"], 2);
        assert_eq!(json["blurred"]["psnr"], 23.5);
        let split = &json["rows"][1];
        assert_eq!(split["name"], "split-training");
        assert_eq!(split["ssim_volumetric"], 0.6125);
        assert_eq!(split["timesteps"], 8);
        assert_eq!(split["published"]["psnr"], 30.73);
        let doubt = split["to_hi_diff"]["standard_error"].as_f64().unwrap();
        assert!((doubt - 0.3).abs() < 1e-9, "{doubt}");
        assert_eq!(json["rows"][0]["timesteps"], serde_json::Value::Null);
        assert_eq!(json["missing"][0], "single-guide");
    }

    #[test]
    fn a_report_comes_back_from_its_json() {
        let mut report = example();
        report.rows[1].mean.psnr = f64::INFINITY;
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn numbers_are_written_for_reading() {
        assert_eq!(
            [giga(117_250_000_000), giga(2_860_000_000), giga(41_234_000)],
            ["117.25", "2.860", "0.04123"]
        );
    }
}
