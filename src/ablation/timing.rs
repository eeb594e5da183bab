//! How many steps a duration pays for: a few steps of each row, and one image, are timed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::budget::{CHECKPOINTS, GLANCE, scaled};
use super::rows::Row;
use super::run::{AblationOptions, Say};
use super::score::score;
use crate::config::{Config, PatchConfig, StageConfig};
use crate::data::dataset::PairReader;
use crate::data::pairs::Pair;
use crate::data::schedule::PatchSchedule;
use crate::error::{Error, Result};
use crate::inference::Deblurrer;
use crate::model::HiDiff;
use crate::training::{Devices, Display, Stages, TrainingOptions, train};
use burn::tensor::backend::AutodiffBackend;

/// Steps of a stage in the configuration that is timed: enough for every patch size to have its share.
const STEPS: usize = 1_000_000;

/// Steps timed at first, and the seconds that they should take; as long as they do not, more are timed.
const FIRST_TIMED: usize = 4;
const MOST_TIMED: usize = 256;
const ENOUGH_SECONDS: f64 = 2.0;

/// The steps of each stage that training and scoring `rows` within `time` allows, timing included.
pub(super) fn steps_within<B: AutodiffBackend>(
    time: Duration,
    base: &Config,
    options: &AblationOptions,
    rows: &[Row],
    held_out: &[Pair],
    devices: &Devices<B>,
    say: Say,
) -> Result<usize> {
    let start = Instant::now();
    say(format_args!(
        "timing a few steps of each of {} rows",
        rows.len()
    ));
    fs::create_dir_all(&options.out).map_err(Error::io(&options.out))?;
    let scratch = tempfile::Builder::new()
        .prefix(".hi-diff-timing-")
        .tempdir_in(&options.out)
        .map_err(Error::io(&options.out))?;
    let base = scaled(base, STEPS, options.sizes)?;

    let mut shared_stage_one = None;
    let (mut step, mut checkpoints, mut image) = (0.0, 0.0, None);
    for &row in rows {
        let config = row.config(&base)?;
        let timer = Timer {
            config: &config,
            options,
            folder: scratch.path().join(row.to_string()),
            devices,
        };
        let mut seconds = 0.0;
        let mut trained = match &shared_stage_one {
            Some(weights) if row.shares_stage_one() => PathBuf::clone(weights),
            _ => {
                let (per_step, weights) = timer.per_step(Stages::One, None)?;
                let stage = &config.training.stage_one;
                seconds += per_step * typical_steps(stage);
                checkpoints += checkpoints_of(stage);
                if row.shares_stage_one() {
                    shared_stage_one = Some(weights.clone());
                }
                weights
            }
        };
        if row != Row::Baseline {
            let (per_step, weights) = timer.per_step(Stages::Two, Some(trained))?;
            let stage = &config.training.stage_two;
            seconds += per_step * typical_steps(stage);
            checkpoints += checkpoints_of(stage);
            trained = weights;
        }
        say(format_args!(
            "{}: {seconds:.3} s for each step of the budget",
            row.title()
        ));
        step += seconds;
        if image.is_none() {
            image = Some(per_image::<B>(&trained, held_out, devices)?);
        }
    }

    let images =
        (rows.len() * held_out.len()) as f64 + checkpoints * GLANCE.min(held_out.len()) as f64;
    let scoring = image.unwrap_or(0.0) * images;
    let timing = start.elapsed().as_secs_f64();
    let steps = ((time.as_secs_f64() - timing - scoring) / step).floor();
    if steps >= 1.0 {
        return Ok(steps as usize);
    }
    let reason = format!(
        "the budget is too small: one step of everything takes {step:.1} s, scoring {scoring:.0} s, and timing this took {timing:.0} s"
    );
    Err(Error::Training(reason))
}

/// The entry that holds for most steps: the one that is timed.
fn typical(stage: &StageConfig) -> Option<&PatchConfig> {
    stage.patches.iter().max_by_key(|entry| entry.iterations)
}

/// Steps of the typical size that have the work of the whole stage, for each step of the budget; work is taken to go
/// with the pixels.
fn typical_steps(stage: &StageConfig) -> f64 {
    let work = PatchSchedule::new(&stage.patches).pixels(0, stage.iterations);
    let typical = typical(stage).map_or(1.0, |entry| {
        (entry.batch * entry.patch * entry.patch) as f64
    });
    work / typical / STEPS as f64
}

fn checkpoints_of(stage: &StageConfig) -> f64 {
    (CHECKPOINTS * stage.iterations) as f64 / STEPS as f64
}

/// A configuration with so many steps a stage, all of its typical size, and as little else as can be.
fn short(config: &Config, steps: usize) -> Result<Config> {
    config.changed("of the ablation's timing", |config| {
        let training = &mut config.training;
        for stage in [&mut training.stage_one, &mut training.stage_two] {
            let entry = typical(stage).cloned();
            stage.iterations = steps;
            stage.patches = entry.into_iter().collect();
        }
        training.validation.every = steps;
        training.validation.images = 1;
    })
}

/// Times the training of one row.
struct Timer<'a, B: AutodiffBackend> {
    config: &'a Config,
    options: &'a AblationOptions,
    folder: PathBuf,
    devices: &'a Devices<B>,
}

impl<B: AutodiffBackend> Timer<'_, B> {
    /// Seconds of a step of the typical size, and the weights after a few. What a run costs at its beginning and end
    /// is taken off: a run of one step is timed as well.
    fn per_step(&self, stages: Stages, initial: Option<PathBuf>) -> Result<(f64, PathBuf)> {
        let stage = if stages == Stages::Two { "two" } else { "one" };
        let timed = |name: &str, steps: usize| {
            let options = TrainingOptions {
                data: self.options.data.clone(),
                validation: self.options.validation.clone(),
                out: self.folder.join(format!("{stage}-{name}")),
                stages,
                resume: false,
                initial: initial.clone(),
                display: Display::Quiet,
                command: None,
                after_validation: None,
                stop: self.options.stop.clone(),
            };
            let start = Instant::now();
            let report = train::<B>(&short(self.config, steps)?, &options, self.devices)?;
            Ok::<_, Error>((start.elapsed().as_secs_f64(), report.weights))
        };
        timed("warm-up", 1)?; // files are cached, kernels tuned
        let (once, _) = timed("once", 1)?;
        let mut steps = FIRST_TIMED;
        loop {
            let (seconds, weights) = timed(&steps.to_string(), 1 + steps)?;
            let more = seconds - once;
            if more >= ENOUGH_SECONDS || steps >= MOST_TIMED {
                // A run of one step that something else slowed down must not make the others free.
                let least = seconds / (1 + steps) as f64 / 4.0;
                return Ok(((more / steps as f64).max(least), weights));
            }
            steps *= 4;
        }
    }
}

/// Seconds to deblur and score an image.
fn per_image<B: AutodiffBackend>(
    weights: &Path,
    held_out: &[Pair],
    devices: &Devices<B>,
) -> Result<f64> {
    let model = HiDiff::<B::InnerBackend>::load(weights, &devices.main())?;
    let deblurrer = Deblurrer::new(model, devices.main());
    let first = PairReader::new(held_out.iter().take(1).cloned().collect(), 0);
    score(&first, Some(&deblurrer), 0)?; // warm-up
    let start = Instant::now();
    score(&first, Some(&deblurrer), 0)?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ablation::budget::PatchOverride;

    #[test]
    fn work_goes_with_the_pixels_and_baseline_has_both_stages() {
        let base = Config::parse(
            r#"
            [training.stage_one]
            iterations = 1_800
            patches = [{ patch = 64, batch = 4, iterations = 1_800 }]
            [training.stage_two]
            iterations = 400
            patches = [
                { patch = 64, batch = 4, iterations = 300 },
                { patch = 96, batch = 2, iterations = 100 },
            ]
            "#,
            "test",
        );
        let base = scaled(&base.unwrap(), STEPS, PatchOverride::default()).unwrap();
        let (one, two) = (&base.training.stage_one, &base.training.stage_two);
        assert_eq!(typical_steps(one), 1.0);
        // Three quarters at 4·64², a quarter at 2·96².
        let expected = 0.75 + 0.25 * (2.0 * 96.0 * 96.0) / (4.0 * 64.0 * 64.0);
        assert!((typical_steps(two) - expected).abs() < 1e-9);
        let baseline = Row::Baseline.config(&base).unwrap();
        let whole = typical_steps(&baseline.training.stage_one);
        assert!((whole - 1.0 - expected).abs() < 1e-9, "{whole}");
        assert_eq!(
            checkpoints_of(&baseline.training.stage_one),
            2.0 * CHECKPOINTS as f64
        );
    }
}
