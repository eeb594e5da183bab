//! The page of a training run, from what the run leaves in its folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::curves::Chart;
use super::page::{Page, Row, counted};
use super::viewer::{self, Pictures};
use crate::drawing::Escaped;
use crate::error::{Error, Result};
use crate::numbers::{fixed, thousands};
use crate::training::calls::Call;
use crate::training::log::pictures::apart;
use crate::training::log::{Record, TrainRecord, ValidationRecord};
use crate::training::run::{CONFIG_FILE, LOG, PICTURES};
use crate::whole::write_whole;

/// The page's name in the run's folder.
pub const FILE: &str = "report.html";

/// So many validation images of a stage are shown, of its last validation.
const MOST_PICTURES: usize = 4;
/// Longer tables of validations are folded.
const LONG_TABLE: usize = 12;

/// Writes the page of the run in `folder` there, as `report.html`, in place of an earlier one. Returns its path.
///
/// # Errors
/// [`Error::Io`] if the run's files cannot be read or the page cannot be written; an earlier page is then as it was.
pub fn write_beside(folder: &Path) -> Result<PathBuf> {
    let run = Run::read(folder)?;
    let path = folder.join(FILE);
    write_whole(&path, true, |file| write(file, &run))?;
    Ok(path)
}

/// What a run's folder says of it.
#[derive(Debug, Clone)]
pub struct Run {
    /// The run's folder.
    pub folder: PathBuf,
    /// The commands that made the run.
    pub calls: Vec<Call>,
    /// The configuration as TOML.
    pub config: String,
    /// Stages one and two, as far as they have begun.
    pub stages: Vec<Stage>,
}

/// What the log has of a stage.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// 1 or 2.
    pub number: u8,
    /// Means over steps, in order.
    pub training: Vec<TrainRecord>,
    /// Validations, in order.
    pub validations: Vec<ValidationRecord>,
    /// Picture files of the last validation that has some.
    pub pictures: Vec<PathBuf>,
}

impl Run {
    /// Reads the run in `folder`. What is not there yet is empty, and what is no record in its log is left out.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            match path.is_file() {
                true => fs::read(&path).map_err(Error::io(&path)),
                false => Ok(Vec::new()),
            }
        };
        let (log, config) = (text(LOG)?, text(CONFIG_FILE)?);
        let records = log
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok());
        let mut stages = [1, 2].map(|number| Stage {
            number,
            ..Stage::default()
        });
        for record in records {
            let number = match &record {
                Record::Train(record) => record.stage,
                Record::Validation(record) => record.stage,
            };
            let stage = stages.iter_mut().find(|stage| stage.number == number);
            match (stage, record) {
                (Some(stage), Record::Train(record)) => stage.training.push(record),
                (Some(stage), Record::Validation(record)) => stage.validations.push(record),
                (None, _) => {}
            }
        }
        let mut stages: Vec<Stage> = stages.into();
        stages.retain(|stage| !stage.training.is_empty() || !stage.validations.is_empty());
        for stage in &mut stages {
            stage.pictures = latest_pictures(folder, stage.number);
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            calls: Call::all(folder)?,
            config: String::from_utf8_lossy(&config).into_owned(),
            stages,
        })
    }
}

/// Files are called `<iteration>-<name>.png`.
fn latest_pictures(folder: &Path, stage: u8) -> Vec<PathBuf> {
    let stage = if stage == 1 { "stage-one" } else { "stage-two" };
    let Ok(entries) = fs::read_dir(folder.join(stage).join(PICTURES)) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut numbered: Vec<(usize, PathBuf)> = paths
        .filter_map(|path| Some((iteration_and_name(&path)?.0, path)))
        .collect();
    numbered.sort();
    let last = numbered.last().map_or(0, |picture| picture.0);
    numbered.retain(|picture| picture.0 == last);
    numbered.truncate(MOST_PICTURES);
    numbered.into_iter().map(|picture| picture.1).collect()
}

fn iteration_and_name(path: &Path) -> Option<(usize, String)> {
    let name = path.file_name()?.to_string_lossy();
    let (iteration, name) = name.strip_suffix(".png")?.split_once('-')?;
    Some((iteration.parse().ok()?, name.to_string()))
}

impl Stage {
    /// `Stage one` or `Stage two`.
    pub fn title(&self) -> &'static str {
        match self.number {
            1 => "Stage one",
            _ => "Stage two",
        }
    }

    /// Optimiser steps in all.
    pub(super) fn iterations(&self) -> usize {
        self.training.last().map_or(0, |record| record.iterations)
    }

    fn progress(&self) -> String {
        let done = self.training.last().map_or(0, |record| record.iteration);
        format!(
            "{} of {} iterations",
            thousands(done as u64),
            thousands(self.iterations() as u64)
        )
    }

    fn best(&self) -> Option<&ValidationRecord> {
        let finite = self
            .validations
            .iter()
            .filter(|record| !record.psnr.is_nan());
        finite.max_by(|a, b| a.psnr.total_cmp(&b.psnr))
    }

    /// A number of the training records by iteration.
    pub(super) fn trained(&self, number: impl Fn(&TrainRecord) -> Option<f64>) -> Vec<(f64, f64)> {
        let numbered = |record: &TrainRecord| Some((record.iteration as f64, number(record)?));
        self.training.iter().filter_map(numbered).collect()
    }

    /// A number of the validations by iteration.
    pub(super) fn validated(&self, number: impl Fn(&ValidationRecord) -> f64) -> Vec<(f64, f64)> {
        let numbered = |record: &ValidationRecord| (record.iteration as f64, number(record));
        self.validations.iter().map(numbered).collect()
    }

    fn charts(&self) -> Vec<String> {
        let chart = |title, points| Chart::single(title, self.iterations(), points);
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let charts = [
            chart("Pixel loss", self.trained(|record| record.pixel_loss)).logarithmic(),
            chart(
                "Diffusion loss",
                self.trained(|record| record.diffusion_loss),
            )
            .logarithmic(),
            chart("Validation PSNR (dB)", self.validated(|record| record.psnr)),
            chart(
                "Validation SSIM (per channel)",
                self.validated(|record| record.ssim),
            ),
            chart(
                "Learning rate",
                self.trained(|record| Some(record.learning_rate)),
            ),
            chart(
                "Gradient norm before clipping",
                self.trained(|record| record.gradient_norm),
            )
            .logarithmic(),
            chart(
                "Images per second",
                self.trained(|record| Some(record.images_per_second)),
            ),
            chart(
                "Resident memory (MiB)",
                self.trained(|record| record.memory_bytes.map(mebibytes)),
            ),
        ];
        charts.iter().filter_map(Chart::figure).collect()
    }

    /// The curves side by side.
    pub(super) fn put_charts(&self, page: &mut Page) -> Result<()> {
        page.put(format_args!("<div class=\"grid\">\n"))?;
        for figure in self.charts() {
            page.put(format_args!("{figure}"))?;
        }
        page.put(format_args!("</div>\n"))
    }

    fn put_validations(&self, page: &mut Page) -> Result<()> {
        if self.validations.is_empty() {
            return Ok(());
        }
        let best = self.best().map(|record| record.iteration);
        let rows: Vec<Row> = self
            .validations
            .iter()
            .map(|record| {
                let class = if Some(record.iteration) == best {
                    "best"
                } else {
                    ""
                };
                Row::new(class, thousands(record.iteration as u64))
                    .number(fixed(record.psnr, 3))
                    .number(fixed(record.ssim, 4))
                    .number(record.images)
            })
            .collect();
        let headings = [
            "After iteration",
            "PSNR (dB)",
            "SSIM (per channel)",
            "Images",
        ];
        let label = format!("{}: validations", self.title());
        let folded = rows.len() > LONG_TABLE;
        if folded {
            let count = counted(rows.len(), "validation", "validations");
            page.put(format_args!(
                "<details><summary>{count}, the best in bold</summary>\n"
            ))?;
        } else {
            page.put(format_args!("<h3 class=\"apart\">Validations</h3>\n"))?;
        }
        page.table(&label, &headings, &rows)?;
        if folded {
            page.put(format_args!("</details>\n"))?;
        }
        Ok(())
    }

    /// A file that cannot be read is said to be so; it must not stop a training.
    fn put_pictures(&self, page: &mut Page) -> Result<()> {
        if self.pictures.is_empty() {
            return Ok(());
        }
        page.put(format_args!(
            "<h3 class=\"apart\">Validation pictures</h3>\n"
        ))?;
        for path in &self.pictures {
            let Some((iteration, name)) = iteration_and_name(path) else {
                continue;
            };
            page.put(format_args!(
                "<article class=\"card\"><h3><bdi>{}</bdi></h3>\n<p class=\"quiet\">After iteration {}</p>\n",
                Escaped(&name),
                thousands(iteration as u64)
            ))?;
            let composed = image::open(path).map(image::DynamicImage::into_rgb8);
            match composed.as_ref().ok().and_then(apart) {
                Some([blurred, restored, sharp]) => {
                    let pictures = Pictures {
                        blurred,
                        restored,
                        sharp,
                    };
                    viewer::put(page, &name, &pictures)?;
                }
                None => page.put(format_args!(
                    "<p class=\"warning\">The picture could not be read.</p>\n"
                ))?,
            }
            page.put(format_args!("</article>\n"))?;
        }
        Ok(())
    }
}

/// Writes the page of `run` on `out`.
///
/// # Errors
/// [`Error::Io`] if `out` cannot be written.
pub fn write(out: &mut dyn Write, run: &Run) -> Result<()> {
    let mut facts: Vec<String> = Vec::new();
    for stage in &run.stages {
        facts.push(format!("{}: {}", stage.title(), stage.progress()));
    }
    if let Some(record) = run.stages.last().and_then(Stage::best) {
        facts.push(format!(
            "best validation {} dB after {}",
            fixed(record.psnr, 2),
            thousands(record.iteration as u64)
        ));
    }
    if run.stages.is_empty() {
        facts.push("nothing is logged yet".to_string());
    }
    let heading = format!("Training {}", run.folder.display());
    let mut page = Page::begin(out, &format!("{heading} · hi-diff"), &heading, &facts)?;
    for stage in &run.stages {
        let heading = format!("{}: {}", stage.title(), stage.progress());
        page.section(&format!("stage-{}", stage.number), &heading)?;
        stage.put_charts(&mut page)?;
        stage.put_validations(&mut page)?;
        stage.put_pictures(&mut page)?;
        page.end_section()?;
    }
    page.section("origin", "How this was made")?;
    put_calls(&mut page, &run.calls)?;
    page.folded_code("Configuration of the run (TOML)", &run.config)?;
    page.end_section()?;
    page.end()
}

/// The commands, and what ran them.
pub(super) fn put_calls(page: &mut Page, calls: &[Call]) -> Result<()> {
    if calls.is_empty() {
        return page.put(format_args!(
            "<p class=\"quiet\">The command is not written down.</p>\n"
        ));
    }
    for call in calls {
        page.code(&call.command)?;
        page.put(format_args!(
            "<p class=\"quiet\">hi-diff {}, backend {}</p>\n",
            Escaped(&call.version),
            Escaped(&call.backend)
        ))?;
    }
    Ok(())
}
