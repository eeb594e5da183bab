//! How long each row is trained: one number of steps for all, given or found from a duration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::{Config, LearningRateConfig, PatchConfig, StageConfig};
use crate::data::schedule::PatchSchedule;
use crate::error::Result;

/// Checkpoints of a stage at least, so that a stopped run loses little.
pub(super) const CHECKPOINTS: usize = 4;

/// Images deblurred at a checkpoint at most: a look at the progress, since a row's score is over all held-out pairs.
pub(super) const GLANCE: usize = 4;

/// Lines of progress of a stage at least.
const LINES: usize = 10;

/// What the user can pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Optimiser steps of each stage of each row.
    Steps(usize),
    /// Time for all rows together.
    Time(Duration),
}

/// A whole number of steps, or numbers with the units `h`, `m` (or `min`) and `s`: `1000`, `90m`, `1h30m`.
impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected steps, as in 1000, or a duration, as in 2h, 90m or 1h30m".to_string();
        if let Ok(steps) = text.replace('_', "").parse() {
            return match steps {
                0 => Err("expected at least one step".into()),
                steps => Ok(Self::Steps(steps)),
            };
        }
        let (mut rest, mut seconds) = (text.trim(), 0.0);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (number, unit) = rest.split_at(digits.ok_or_else(expected)?);
            let number: f64 = number.parse().map_err(|_| expected())?;
            let end = unit
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(unit.len());
            let (unit, after) = unit.split_at(end);
            seconds += number
                * match unit {
                    "h" => 3_600.0,
                    "m" | "min" => 60.0,
                    "s" => 1.0,
                    _ => return Err(expected()),
                };
            rest = after.trim_start();
        }
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if !duration.is_zero() => Ok(Self::Time(duration)),
            _ => Err(expected()),
        }
    }
}

/// As it is read.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => {
                let (hours, minutes) = (time.as_secs() / 3_600, time.as_secs() / 60 % 60);
                let seconds = time.as_secs_f64() - (hours * 3_600 + minutes * 60) as f64;
                let mut part = |number: f64, unit| match number {
                    0.0 => Ok(()),
                    number => write!(f, "{number}{unit}"),
                };
                part(hours as f64, "h")?;
                part(minutes as f64, "m")?;
                part(seconds, "s")
            }
        }
    }
}

/// Patch and batch size for all steps, where they replace the configuration's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PatchOverride {
    /// Side of the patches in pixels.
    pub patch: Option<usize>,
    /// Patches in a step.
    pub batch: Option<usize>,
}

/// A base configuration for another number of steps a stage: patch sizes and learning-rate cycles keep their shares of
/// the stage. Checkpoints and progress lines come often enough for the length, on no more images than a glance needs.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for sizes that cannot be trained on.
pub fn scaled(base: &Config, steps: usize, sizes: PatchOverride) -> Result<Config> {
    base.changed("of the ablation", |config| {
        let training = &mut config.training;
        training.stage_one = scaled_stage(&training.stage_one, steps, sizes);
        training.stage_two = scaled_stage(&training.stage_two, steps, sizes);
        let validation = &mut training.validation;
        validation.every = validation.every.min(steps.div_ceil(CHECKPOINTS));
        validation.images = validation.images.min(GLANCE);
        validation.log_every = validation.log_every.min(steps.div_ceil(LINES));
    })
}

fn scaled_stage(stage: &StageConfig, steps: usize, sizes: PatchOverride) -> StageConfig {
    StageConfig {
        iterations: steps,
        optimizer: stage.optimizer.clone(),
        learning_rate: scaled_rate(&stage.learning_rate, stage.iterations, steps),
        clip: stage.clip,
        accumulation: stage.accumulation,
        patches: scaled_patches(stage, steps, sizes),
    }
}

fn scaled_patches(stage: &StageConfig, steps: usize, sizes: PatchOverride) -> Vec<PatchConfig> {
    // What an entry really gets: the last holds to the end, and the stage may end before.
    let schedule = PatchSchedule::new(&stage.patches);
    let phases = schedule.phases().iter();
    let lengths: Vec<usize> = phases
        .map(|phase| phase.steps_between(0, stage.iterations))
        .collect();
    let lengths = shares(&lengths, stage.iterations, steps);
    let mut patches: Vec<PatchConfig> = Vec::new();
    for (entry, iterations) in stage.patches.iter().zip(lengths) {
        let patch = sizes.patch.unwrap_or(entry.patch);
        let batch = sizes.batch.unwrap_or(entry.batch);
        match patches.last_mut() {
            _ if iterations == 0 => {}
            Some(before) if (before.patch, before.batch) == (patch, batch) => {
                before.iterations += iterations;
            }
            _ => patches.push(PatchConfig {
                patch,
                batch,
                iterations,
            }),
        }
    }
    patches
}

fn scaled_rate(rate: &LearningRateConfig, iterations: usize, steps: usize) -> LearningRateConfig {
    let mut scaled = LearningRateConfig {
        initial: rate.initial,
        periods: Vec::new(),
        restart_weights: Vec::new(),
        minima: Vec::new(),
        warm_up: (rate.warm_up as u128 * steps as u128 / iterations.max(1) as u128) as usize,
    };
    let periods = shares(&rate.periods, iterations, steps);
    let cycles = periods
        .into_iter()
        .zip(&rate.restart_weights)
        .zip(&rate.minima);
    for ((period, &weight), &minimum) in cycles {
        if period > 0 {
            scaled.periods.push(period);
            scaled.restart_weights.push(weight);
            scaled.minima.push(minimum);
        }
    }
    if scaled.periods.is_empty() {
        // Cycles so short that none has a step: the first one, for a step.
        scaled.periods.push(1);
        scaled.restart_weights.extend(rate.restart_weights.first());
        scaled.minima.extend(rate.minima.first());
    }
    scaled
}

/// Lengths that add up to `total` as lengths that add up to `steps`. Their ends are rounded, not they themselves.
fn shares(lengths: &[usize], total: usize, steps: usize) -> Vec<usize> {
    let scale = steps as f64 / total as f64;
    let (mut passed, mut before) = (0_usize, 0_usize);
    lengths
        .iter()
        .map(|&length| {
            passed = passed.saturating_add(length);
            let end = (passed as f64 * scale).round() as usize;
            let share = end - before;
            before = end;
            share
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_steps_or_durations() {
        let time = |seconds| Ok(Budget::Time(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("1000", Ok::<_, String>(Budget::Steps(1_000))),
            ("100_000", Ok(Budget::Steps(100_000))),
            ("2h", time(7_200)),
            ("90m", time(5_400)),
            ("90min", time(5_400)),
            ("1h30m", time(5_400)),
            ("1.5h", time(5_400)),
            ("45s", time(45)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
            let budget = expected.unwrap();
            assert_eq!(budget.to_string().parse(), Ok(budget), "{budget}");
        }
        for wrong in ["", "0", "h", "2x", "2h30", "-1", "0s", "1.5", "1e400h"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }

    fn sizes(config: &StageConfig) -> Vec<(usize, usize, usize)> {
        let entries = config.patches.iter();
        entries
            .map(|entry| (entry.patch, entry.batch, entry.iterations))
            .collect()
    }

    #[test]
    fn patches_and_cycles_keep_their_shares() {
        let base = Config::preset("gopro").unwrap();
        let config = scaled(&base, 1_500, PatchOverride::default()).unwrap();
        let stage = &config.training.stage_two;
        assert_eq!(stage.iterations, 1_500);
        assert_eq!(
            sizes(stage),
            [
                (128, 64, 100),
                (160, 40, 100),
                (192, 32, 100),
                (256, 16, 100),
                (320, 8, 100),
                (384, 8, 1_000)
            ]
        );
        assert_eq!(stage.learning_rate.periods, [500, 1_000]);
        assert_eq!(stage.learning_rate.minima, [2e-4, 1e-6]);
        let validation = &config.training.validation;
        assert_eq!(
            (validation.every, validation.images, validation.log_every),
            (375, 4, 100)
        );
    }

    #[test]
    fn few_steps_leave_the_longest_entries() {
        let base = Config::preset("gopro").unwrap();
        for steps in 1..20 {
            let config = scaled(&base, steps, PatchOverride::default()).unwrap();
            let stage = &config.training.stage_one;
            let total: usize = stage.patches.iter().map(|entry| entry.iterations).sum();
            assert_eq!(total, steps);
            assert_eq!(stage.learning_rate.periods.iter().sum::<usize>(), steps);
            assert_eq!(stage.patches.last().unwrap().patch, 384);
        }
    }

    #[test]
    fn the_full_number_of_steps_changes_nothing() {
        let base = Config::preset("ablation/hi-diff").unwrap();
        let config = scaled(&base, 100_000, PatchOverride::default()).unwrap();
        assert_eq!(config.training.stage_one, base.training.stage_one);
        assert_eq!(config.training.stage_two, base.training.stage_two);
    }

    #[test]
    fn given_sizes_hold_for_all_steps() {
        let base = Config::preset("gopro").unwrap();
        let both = PatchOverride {
            patch: Some(64),
            batch: Some(4),
        };
        let config = scaled(&base, 300, both).unwrap();
        assert_eq!(sizes(&config.training.stage_one), [(64, 4, 300)]);
        let patch = PatchOverride {
            batch: None,
            ..both
        };
        let batches: Vec<_> = sizes(&scaled(&base, 300, patch).unwrap().training.stage_one);
        assert_eq!(
            batches,
            [
                (64, 64, 20),
                (64, 40, 20),
                (64, 32, 20),
                (64, 16, 20),
                (64, 8, 220)
            ]
        );
    }

    #[test]
    fn a_stage_that_ends_before_its_entries_do_is_scaled_as_it_runs() {
        let base = Config::preset("gopro").unwrap();
        let base = base.changed("test", |base| base.training.stage_one.iterations = 40_000);
        let base = base.unwrap();
        let config = scaled(&base, 10, PatchOverride::default()).unwrap();
        assert_eq!(
            sizes(&config.training.stage_one),
            [(128, 64, 5), (160, 40, 5)]
        );
    }
}
