//! The page of an ablation, from what the study leaves in its folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::page::{self, TableRow, folded_code, page, put, section};
use super::training::{Run, StageLog, commands};
use crate::ablation::report::{ReportRow, giga, sizes};
use crate::ablation::run::{PLAN_FILE, REPORT_FILES, SHARED_STAGE_ONE};
use crate::ablation::{Report, Row, plot};
use crate::drawing::curves::{Chart, Curve};
use crate::error::{Error, Result};
use crate::numbers::{fixed, signed, thousands};
use crate::training::Stage;
use crate::training::calls::Call;
use crate::whole::write_whole;

/// The page's name in the study's folder.
pub const FILE: &str = "ablation.html";

/// Writes the page of the study in `folder` there, as `ablation.html`, in place of an earlier one. Returns its path.
/// The study must have a report, if only an empty one.
///
/// # Errors
/// [`Error::Io`] if the study's files cannot be read or the page cannot be written, [`Error::Data`] if its report is
/// damaged; an earlier page is then as it was.
pub fn write_beside(folder: &Path) -> Result<PathBuf> {
    let study = Study::read(folder)?;
    let path = folder.join(FILE);
    write_whole(&path, true, |file| write(file, &study))?;
    Ok(path)
}

/// What a study's folder says of it.
#[derive(Debug, Clone)]
pub struct Study {
    /// The rows that are done.
    pub report: Report,
    /// The commands that made the study.
    pub calls: Vec<Call>,
    /// The budget and HI-Diff's configuration as TOML.
    pub plan: String,
    /// The trainings by title, done or not.
    pub runs: Vec<(String, Run)>,
}

impl Study {
    /// Reads the study in `folder`.
    ///
    /// # Errors
    /// As [`write_beside`].
    pub fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(Error::io(&path))
        };
        let report =
            serde_json::from_str(&text(REPORT_FILES[0])?).map_err(|error| Error::Data {
                path: folder.join(REPORT_FILES[0]),
                reason: error.to_string(),
            })?;
        Ok(Self {
            report,
            calls: Call::all(folder)?,
            plan: text(PLAN_FILE)?,
            runs: runs(&folder.join("runs"))?,
        })
    }
}

/// The stage one that rows share, then the rows in the report's order.
fn runs(folder: &Path) -> Result<Vec<(String, Run)>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let row: Option<Row> = name.parse().ok();
        let title = match row {
            Some(row) => row.title(),
            None if name == SHARED_STAGE_ONE => "Stage one, shared".to_string(),
            None => name,
        };
        found.push((row, title, Run::read(&entry.path())?));
    }
    found.retain(|(_, _, run)| !run.stages.is_empty());
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    Ok(found
        .into_iter()
        .map(|(_, title, run)| (title, run))
        .collect())
}

/// Writes the page of `study` on `out`.
///
/// # Errors
/// [`Error::Io`] if `out` cannot be written.
pub fn write(out: &mut dyn Write, study: &Study) -> Result<()> {
    let report = &study.report;
    let mut facts = vec![
        format!("{} optimiser steps a stage", thousands(report.steps as u64)),
        format!("budget {}", report.budget),
        format!("seed {}", report.seed),
        format!("{} held-out images", report.images),
    ];
    if !report.missing.is_empty() {
        facts.push(format!("not done yet: {}", report.missing.join(", ")));
    }
    let picture = html! {
        div .scroll.study role="region" aria-label="Picture of the results" tabindex="0" { (plot::unstyled(report)) }
    };
    let origin = html! {
        (commands(&study.calls))
        (page::facts(&[
            ("Stage one", sizes(&report.stage_one_patches)),
            ("Stage two", sizes(&report.stage_two_patches)),
        ]))
        (folded_code("Budget and HI-Diff's configuration (TOML)", &study.plan))
    };
    let main = html! {
        (section("result", "Results", picture))
        (table(report))
        (sweep(report))
        (curves(&study.runs))
        (section("origin", "How this was made", origin))
    };
    put(out, &page("Ablations", &facts, main).0)
}

fn table(report: &Report) -> Markup {
    if report.table().next().is_none() {
        return html! {};
    }
    let headings = [
        "Model",
        "PSNR (dB)",
        "SSIM",
        "To HI-Diff (dB)",
        "Parameters",
        "MACs (G)",
    ];
    let ours = Row::HiDiff.published().map_or(f64::NAN, |paper| paper.psnr);
    let mut rows = vec![
        TableRow::new("", "Blurred input")
            .number(fixed(report.blurred.psnr, 2))
            .number(fixed(report.blurred.ssim_volumetric, 4))
            .number("–")
            .number("–")
            .number("–"),
    ];
    for row in report.table() {
        rows.push(
            scores(&row.title, row)
                .number(thousands(row.params))
                .number(giga(row.macs)),
        );
        if let Some(paper) = row.published {
            let difference = match row.row {
                Row::HiDiff => "–".to_string(),
                _ => signed(paper.psnr - ours, 2),
            };
            rows.push(
                TableRow::new("published", "paper, on GoPro")
                    .number(fixed(paper.psnr, 2))
                    .number(fixed(paper.ssim, 4))
                    .number(difference)
                    .number(format!("{:.2} M", paper.params_m))
                    .number(fixed(paper.macs_g, 2)),
            );
        }
    }
    let inside = html! {
        (page::table("Table 1", &headings, &rows))
        ul .quiet.notes {
            li {
                "PSNR and SSIM are of whole images, restored and rounded to 8 bits. SSIM is the volumetric one, which \
                 papers quote for GoPro."
            }
            li {
                "± is the standard error of the mean difference, image by image. It covers the choice of the images, \
                 not that of the training's seed: differences of a few standard errors may still be chance."
            }
            li { "MACs are of a 256×256 image and all T passes of the denoiser; the paper counts one pass." }
            li {
                "The paper's figures are of GoPro, 100,000 iterations a stage: its differences can be compared with \
                 these, its PSNR and SSIM cannot."
            }
        }
    };
    section("table", "Table 1", inside)
}

/// What both tables have.
fn scores(name: &str, row: &ReportRow) -> TableRow {
    TableRow::new("", name)
        .number(fixed(row.mean.psnr, 2))
        .number(fixed(row.mean.ssim_volumetric, 4))
        .number(row.difference_text())
}

fn sweep(report: &Report) -> Markup {
    let swept = report.sweep();
    if swept.len() < 2 {
        return html! {};
    }
    let rows: Vec<TableRow> = swept
        .into_iter()
        .map(|row| {
            let steps = row.timesteps.unwrap_or_default();
            scores(&format!("T = {steps}"), row).number(giga(row.macs))
        })
        .collect();
    let headings = [
        "HI-Diff with",
        "PSNR (dB)",
        "SSIM",
        "To HI-Diff (dB)",
        "MACs (G)",
    ];
    let table = page::table("Reverse steps", &headings, &rows);
    section("sweep", "Reverse steps (Fig. 3)", table)
}

/// All trainings in one chart for each number and stage, and each by itself.
fn curves(runs: &[(String, Run)]) -> Markup {
    if runs.is_empty() {
        return html! {};
    }
    let pixel_loss = |log: &StageLog| log.trained(|record| record.pixel_loss);
    let diffusion_loss = |log: &StageLog| log.trained(|record| record.diffusion_loss);
    let psnr = |log: &StageLog| log.validated(|record| Some(record.psnr));
    let charts = [
        together("Stage one: pixel loss", Stage::One, runs, &pixel_loss).logarithmic(),
        together("Stage one: validation PSNR (dB)", Stage::One, runs, &psnr),
        together(
            "Stage two: diffusion loss",
            Stage::Two,
            runs,
            &diffusion_loss,
        )
        .logarithmic(),
        together("Stage two: validation PSNR (dB)", Stage::Two, runs, &psnr),
    ];
    let name = |title: &str, log: &StageLog| match title.starts_with(log.stage.title()) {
        true => title.to_string(),
        false => format!("{title}: {}", log.stage),
    };
    let inside = html! {
        div .grid.wide { @for figure in charts.iter().filter_map(Chart::figure) { (figure) } }
        @for (title, run) in runs {
            @for log in &run.stages { details { summary { (name(title, log)) } (log.charts()) } }
        }
    };
    section("curves", "Training curves", inside)
}

/// One number of one stage, of every training that has it. A training has the same colour everywhere.
fn together(
    title: &'static str,
    stage: Stage,
    runs: &[(String, Run)],
    points: &dyn Fn(&StageLog) -> Vec<(f64, f64)>,
) -> Chart {
    let mut chart = Chart {
        title,
        iterations: 0,
        may_be_logarithmic: false,
        curves: Vec::new(),
    };
    for (colour, (name, run)) in runs.iter().enumerate() {
        for log in run.stages.iter().filter(|log| log.stage == stage) {
            chart.iterations = chart.iterations.max(log.iterations());
            let points = points(log);
            if !points.is_empty() {
                chart.curves.push(Curve {
                    name: name.clone(),
                    colour,
                    points,
                });
            }
        }
    }
    chart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ablation::report::tests::example;

    #[test]
    fn a_page_has_rows_and_the_runs_of_those_that_are_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(matches!(write_beside(folder.path()), Err(Error::Io { .. })));
        write(PLAN_FILE, "budget = '<b>'");
        write(REPORT_FILES[0], "{}");
        let error = write_beside(folder.path()).unwrap_err().to_string();
        assert!(error.contains(REPORT_FILES[0]), "{error}");

        write(REPORT_FILES[0], &serde_json::to_string(&example()).unwrap());
        for (run, stage) in [("stage-one", 1), ("single-guide", 2), ("<b>", 1)] {
            let record = format!(
                r#"{{"kind":"validation","stage":{stage},"iteration":10,"psnr":30.25,"ssim":0.8,"images":3}}"#
            );
            write(&format!("runs/{run}/log.jsonl"), &record);
        }
        let path = write_beside(folder.path()).unwrap();
        let page = fs::read_to_string(path).unwrap();
        for part in [
            "1,200 optimiser steps a stage",
            "not done yet: single-guide",
            "−0.70 ± 0.20",
            "paper, on GoPro",
            "T = 16",
            "Single-Guide: stage two",
            "'&lt;b&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<b>") && !page.contains("<style>\n  text"));
    }
}
