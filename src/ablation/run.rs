//! The run: every row trained, scored and reported; stopped at any time, it goes on where it was.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend as BurnBackend;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::budget::{Budget, PatchOverride, scaled};
use super::report::{Finished, Report};
use super::rows::{Row, check_base};
use super::score::{PairScore, mean, score};
use super::timing::steps_within;
use super::{plot, report};
use crate::config::Config;
use crate::data::dataset::{DEFAULT_CACHE_BYTES, PairReader};
use crate::data::pairs::{Pair, training_pairs};
use crate::data::stop::Stop;
use crate::error::{Error, Result};
use crate::inference::Deblurrer;
use crate::lock::Lock;
use crate::model::HiDiff;
use crate::training::calls::Call;
use crate::training::resume::changes;
use crate::training::run::{CONFIG_FILE, FINAL_WEIGHTS, STAGE_ONE_WEIGHTS};
use crate::training::{Devices, Display, Hook, Stage, Stages, TrainingOptions, train};
use crate::whole::write_whole;
use burn::tensor::backend::AutodiffBackend;

/// What an ablation leaves in its folder, beside `runs/` with a training for each row and `rows/` with their scores.
pub(crate) const PLAN_FILE: &str = "plan.toml";
const BLURRED_FILE: &str = "blurred.json";
pub(crate) const REPORT_FILES: [&str; 3] = ["ablation.json", "ablation.md", "ablation.svg"];

/// The training of `runs/` that HI-Diff, Split-Training and every T start from.
pub(crate) const SHARED_STAGE_ONE: &str = Stage::One.folder();

/// Side of the image whose multiply-accumulates are counted, the paper's.
const COUNTED_SIDE: usize = 256;

/// What to compare, besides what the base configuration says.
#[derive(Debug, Clone)]
pub struct AblationOptions {
    /// Folder of the training pairs; replaces `data.train`.
    pub data: Option<PathBuf>,
    /// Folders of the held-out pairs; replaces `data.validation`. Without either, a share of the training pairs.
    pub validation: Option<Vec<PathBuf>>,
    /// Folder that the study is written to.
    pub out: PathBuf,
    /// The rows; none for all.
    pub rows: Option<Vec<Row>>,
    /// How long each row is trained; a resumed study may leave it out.
    pub budget: Option<Budget>,
    /// Patch and batch size in place of the configuration's.
    pub sizes: PatchOverride,
    /// Whether to go on with the study that `out` holds.
    pub resume: bool,
    /// How each training's progress is shown.
    pub display: Display,
    /// The command line, to be written down in the study's folder.
    pub command: Option<String>,
    /// Called with the study's folder whenever its report has been written.
    pub after_row: Option<Hook>,
    /// Ends the study after the step being made, with a checkpoint.
    pub stop: Stop,
}

/// Hears a line of progress.
pub type Say<'a> = &'a dyn Fn(fmt::Arguments<'_>);

/// Trains the rows, scores them on the held-out pairs and writes `ablation.json`, `ablation.md` and `ablation.svg` into
/// `options.out`, anew after each row. `base` is HI-Diff's configuration; `say` hears which row of how many is at work.
///
/// A resumed study keeps the rows that are done, goes on with an unfinished row from its newest checkpoint, and may add
/// rows. Whatever changes a row's training must be as it was.
///
/// # Errors
/// [`Error::Config`] if `base` is not HI-Diff or differs from that of the study to resume, [`Error::Data`] for pairs
/// that do not match or without any held out, [`Error::Refused`] if `out` holds a study and `resume` is false,
/// [`Error::Training`] if there is nothing to resume, no budget or too small a one; and errors of training and files.
pub fn ablate<B: AutodiffBackend>(
    base: &Config,
    options: &AblationOptions,
    devices: &Devices<B>,
    say: Say,
) -> Result<Report> {
    check_base(base, "of the ablation")?;
    let rows = chosen(options.rows.as_deref(), base.diffusion.timesteps);
    for row in &rows {
        row.config(base)?;
    }
    let held_out = held_out(base, options)?;
    let before = StudyPlan::read(&options.out, options.resume)?;
    let is_new = before.is_none();
    let plan = match before {
        Some(plan) => plan.checked(base, options)?,
        None => StudyPlan::new::<B>(base, options, &rows, &held_out, devices, say)?,
    };
    let _lock = Lock::hold(&options.out)?;
    if is_new {
        plan.write(&options.out)?;
    }
    if let Some(command) = &options.command {
        let backend = <B::InnerBackend as BurnBackend>::name(&devices.main());
        Call::new(command, backend).append(&options.out)?;
    }
    let held_out =
        PairReader::new(held_out, DEFAULT_CACHE_BYTES / 4).blurring(base.data.blur.clone());
    let blurred = blurred::<B>(&options.out, &held_out)?;
    say(format_args!(
        "{} rows, {} steps a stage; the blurred input of the {} held-out images has {:.2} dB",
        rows.len(),
        plan.steps,
        blurred.len(),
        mean(&blurred).psnr
    ));
    let study = Study {
        plan,
        options,
        rows,
        held_out,
        blurred,
        say,
    };
    study.run::<B>(devices)
}

/// The rows in the order of training: HI-Diff first, with which the others are compared.
fn chosen(rows: Option<&[Row]>, timesteps: usize) -> Vec<Row> {
    let all = Row::all(timesteps);
    let mut rows: Vec<Row> = rows.unwrap_or(&all).to_vec();
    rows.iter_mut()
        .for_each(|row| *row = row.normalised(timesteps));
    rows.sort_unstable_by_key(|&row| (row != Row::HiDiff, row));
    rows.dedup();
    rows
}

fn held_out(base: &Config, options: &AblationOptions) -> Result<Vec<Pair>> {
    let (data, validation) = (options.data.as_deref(), options.validation.as_deref());
    let sets = training_pairs(&base.data, data, validation)?.validation;
    let pairs: Vec<Pair> = sets.into_iter().flat_map(|set| set.pairs).collect();
    if pairs.is_empty() {
        return Err(Error::Data {
            path: data
                .or(base.data.train.as_deref())
                .unwrap_or(Path::new(""))
                .to_path_buf(),
            reason: "no pairs are held out to score the rows on: name a folder of them".into(),
        });
    }
    Ok(pairs)
}

/// What a study was begun with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyPlan {
    /// As the user gave it.
    budget: String,
    /// Optimiser steps of each stage.
    steps: usize,
    /// HI-Diff's configuration for that many steps.
    config: Config,
}

impl StudyPlan {
    /// The plan of a study to resume; none where a new one begins.
    fn read(out: &Path, resume: bool) -> Result<Option<Self>> {
        let path = out.join(PLAN_FILE);
        match (path.is_file(), resume) {
            (true, false) => Err(Error::Refused {
                path: out.to_path_buf(),
                reason: "an ablation is here: resume it, or choose another folder".into(),
            }),
            (false, true) => {
                let reason = format!("nothing to resume: there is no {}", path.display());
                Err(Error::Training(reason))
            }
            (false, false) => Ok(None),
            (true, true) => {
                let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
                let plan = toml::from_str(&text).map_err(|error| Error::Data {
                    path,
                    reason: error.message().to_string(),
                })?;
                Ok(Some(plan))
            }
        }
    }

    fn new<B: AutodiffBackend>(
        base: &Config,
        options: &AblationOptions,
        rows: &[Row],
        held_out: &[Pair],
        devices: &Devices<B>,
        say: Say,
    ) -> Result<Self> {
        let budget = options.budget.ok_or_else(|| {
            Error::Training("no budget: how many steps a stage, or how much time in all?".into())
        })?;
        let steps = match budget {
            Budget::Steps(steps) => steps,
            Budget::Time(time) => {
                let steps = steps_within::<B>(time, base, options, rows, held_out, devices, say)?;
                say(format_args!("{budget} pays for {steps} steps a stage"));
                steps
            }
        };
        let plan = Self {
            budget: budget.to_string(),
            steps,
            config: scaled(base, steps, options.sizes)?,
        };
        Ok(plan)
    }

    fn write(&self, out: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|error| Error::Training(error.to_string()))?;
        write(&out.join(PLAN_FILE), text.as_bytes())
    }

    /// Refuses to go on with another model, budget or training.
    fn checked(self, base: &Config, options: &AblationOptions) -> Result<Self> {
        let refuse = |key: &str, before: &str, now: &str| {
            Err(Error::Config {
                origin: options.out.join(PLAN_FILE).display().to_string(),
                key: key.to_string(),
                reason: format!(
                    "the ablation was begun with {before} and cannot be resumed with {now}"
                ),
            })
        };
        let budget = options.budget.map(|budget| budget.to_string());
        if let Some(budget) = budget.filter(|budget| *budget != self.budget) {
            return refuse("budget", &self.budget, &budget);
        }
        let now = scaled(base, self.steps, options.sizes)?;
        let decides = [
            "model.",
            "diffusion.",
            "training.",
            "data.augment",
            "data.blur",
        ];
        let changes = changes(&self.config, &now)?;
        let mut changes = changes.into_iter();
        match changes.find(|change| decides.iter().any(|key| change.key.starts_with(key))) {
            None => Ok(self),
            Some(change) => refuse(&change.key, &change.before, &change.now),
        }
    }
}

/// The scores of the blurred images themselves, which also hold a study to its pairs.
fn blurred<B: AutodiffBackend>(out: &Path, held_out: &PairReader) -> Result<Vec<PairScore>> {
    let path = out.join(BLURRED_FILE);
    if path.is_file() {
        let scores: Vec<PairScore> = read_json(&path)?;
        let names = scores.iter().map(|score| &score.name);
        if !names.eq(held_out.pairs().iter().map(|pair| &pair.name)) {
            return Err(Error::Data {
                path,
                reason: "the ablation was begun with other held-out pairs".into(),
            });
        }
        return Ok(scores);
    }
    let scores = score::<B::InnerBackend>(held_out, None, 0)?;
    write_json(&path, &scores)?;
    Ok(scores)
}

/// A study under way.
struct Study<'a> {
    plan: StudyPlan,
    options: &'a AblationOptions,
    rows: Vec<Row>,
    held_out: PairReader,
    blurred: Vec<PairScore>,
    say: Say<'a>,
}

impl Study<'_> {
    fn run<B: AutodiffBackend>(&self, devices: &Devices<B>) -> Result<Report> {
        let mut report = self.report()?;
        let total = self.rows.len();
        for (index, &row) in self.rows.iter().enumerate() {
            let place = format!("[{}/{total}] {}", index + 1, row.title());
            if let Some(finished) = self.finished(row)? {
                let psnr = mean(&finished.scores).psnr;
                (self.say)(format_args!("{place}: done before, PSNR {psnr:.2} dB"));
                continue;
            }
            let finished = self.row::<B>(row, &place, devices)?;
            write_json(&self.result_path(row), &finished)?;
            report = self.report()?;
            let mean = mean(&finished.scores);
            (self.say)(format_args!(
                "{place}: PSNR {:.2} dB, SSIM {:.4}",
                mean.psnr, mean.ssim_volumetric
            ));
        }
        Ok(report)
    }

    /// Trains and scores a row.
    fn row<B: AutodiffBackend>(
        &self,
        row: Row,
        place: &str,
        devices: &Devices<B>,
    ) -> Result<Finished> {
        let weights = self.weights::<B>(row, place, devices)?;
        (self.say)(format_args!(
            "{place}: scoring {} images",
            self.held_out.len()
        ));
        let model = HiDiff::<B::InnerBackend>::load(&weights, &devices.main())?;
        let cost = model.summary(COUNTED_SIDE, COUNTED_SIDE).total;
        let deblurrer = Deblurrer::new(model, devices.main());
        let seed = self.plan.config.training.seed;
        Ok(Finished {
            params: cost.params,
            macs: cost.macs,
            scores: score(&self.held_out, Some(&deblurrer), seed)?,
        })
    }

    /// The row's weights, trained here unless they are there.
    fn weights<B: AutodiffBackend>(
        &self,
        row: Row,
        place: &str,
        devices: &Devices<B>,
    ) -> Result<PathBuf> {
        let folder = self.run_folder(&row.to_string());
        let weights = folder.join(FINAL_WEIGHTS);
        if weights.is_file() {
            return Ok(weights);
        }
        let config = row.config(&self.plan.config)?;
        let (stages, initial) = if row.shares_stage_one() {
            let stage_one = self.shared_stage_one::<B>(place, devices)?;
            (Stages::Two, Some(stage_one))
        } else {
            (Stages::Both, None)
        };
        let steps = config.training.stage_one.iterations;
        match (row, stages) {
            (Row::Baseline, _) => {
                (self.say)(format_args!("{place}: its one stage, {steps} steps"));
            }
            (_, Stages::Two) => {
                (self.say)(format_args!("{place}: stage two, {steps} steps"));
            }
            _ => (self.say)(format_args!("{place}: both stages, {steps} steps each")),
        }
        self.train::<B>(&config, stages, initial, folder, devices)
    }

    fn shared_stage_one<B: AutodiffBackend>(
        &self,
        place: &str,
        devices: &Devices<B>,
    ) -> Result<PathBuf> {
        let folder = self.run_folder(SHARED_STAGE_ONE);
        let weights = folder.join(STAGE_ONE_WEIGHTS);
        if weights.is_file() {
            return Ok(weights);
        }
        (self.say)(format_args!(
            "{place}: stage one, {} steps, for HI-Diff, Split-Training and every T",
            self.plan.steps
        ));
        self.train::<B>(&self.plan.config, Stages::One, None, folder, devices)
    }

    fn train<B: AutodiffBackend>(
        &self,
        config: &Config,
        stages: Stages,
        initial: Option<PathBuf>,
        out: PathBuf,
        devices: &Devices<B>,
    ) -> Result<PathBuf> {
        let options = TrainingOptions {
            data: self.options.data.clone(),
            validation: self.options.validation.clone(),
            stages,
            resume: out.join(CONFIG_FILE).is_file(),
            out,
            initial,
            display: self.options.display,
            command: None,
            after_validation: None,
            stop: self.options.stop.clone(),
        };
        Ok(train::<B>(config, &options, devices)?.weights)
    }

    /// Writes the report of the rows that are done, of earlier calls too, and returns it.
    fn report(&self) -> Result<Report> {
        let mut candidates = Row::all(self.plan.config.diffusion.timesteps);
        candidates.extend(&self.rows);
        candidates.sort_unstable();
        candidates.dedup();
        let mut finished = Vec::new();
        for row in candidates {
            finished.extend(self.finished(row)?.map(|result| (row, result)));
        }
        let done = |row: &Row| finished.iter().any(|(other, _)| other == row);
        let missing = self.rows.iter().copied().filter(|row| !done(row));
        let missing: Vec<Row> = missing.collect();
        let report = Report::new(
            &self.plan.config,
            &self.plan.budget,
            &self.blurred,
            &finished,
            &missing,
        );
        let [json, markdown, svg] = REPORT_FILES.map(|name| self.options.out.join(name));
        write_json(&json, &report)?;
        write(&svg, plot::svg(&report).as_bytes())?;
        let picture = REPORT_FILES[2];
        write(&markdown, report::markdown(&report, picture).as_bytes())?;
        if let Some(hook) = &self.options.after_row {
            hook.call(&self.options.out)?;
        }
        Ok(report)
    }

    fn finished(&self, row: Row) -> Result<Option<Finished>> {
        let path = self.result_path(row);
        if !path.is_file() {
            return Ok(None);
        }
        let finished: Finished = read_json(&path)?;
        let names = finished.scores.iter().map(|score| &score.name);
        if !names.eq(self.blurred.iter().map(|score| &score.name)) {
            return Err(Error::Data {
                path,
                reason: "the row was scored on other pairs than the blurred input".into(),
            });
        }
        Ok(Some(finished))
    }

    fn run_folder(&self, name: &str) -> PathBuf {
        self.options.out.join("runs").join(name)
    }

    fn result_path(&self, row: Row) -> PathBuf {
        self.options.out.join("rows").join(format!("{row}.json"))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, true, |file| {
        file.write_all(bytes).map_err(Error::io(path))
    })
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value);
    write(
        path,
        &text.map_err(|error| Error::Training(error.to_string()))?,
    )
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::Data {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}
