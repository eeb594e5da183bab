//! What to train, besides what the configuration says; and what a run says that it did.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::Validation;
use super::stage::{Stage, Stages};
use crate::data::stop::Stop;
use crate::error::Result;

/// What to train, besides what the configuration says.
#[derive(Debug, Clone)]
pub struct TrainingOptions {
    /// Folder of the training pairs; replaces `data.train`.
    pub data: Option<PathBuf>,
    /// Folders of the validation pairs, each a set; replaces `data.validation`.
    pub validation: Option<Vec<PathBuf>>,
    /// Folder that the run is written to.
    pub out: PathBuf,
    /// The stages to run.
    pub stages: Stages,
    /// Whether to go on with the run that `out` holds.
    pub resume: bool,
    /// Weights to start from, as far as they fit; replaces `training.init`. Stage two alone needs all of LE.
    pub initial: Option<PathBuf>,
    /// How progress is shown.
    pub display: Display,
    /// The command line, to be written down in the run's folder.
    pub command: Option<String>,
    /// Called with the run's folder after each validation, when its numbers and pictures are there.
    pub after_validation: Option<Hook>,
    /// Ends the run after the step being made, with a checkpoint.
    pub stop: Stop,
}

impl TrainingOptions {
    /// Both stages from the beginning, on the pairs that the configuration names, with lines on standard output.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            data: None,
            validation: None,
            out: out.into(),
            stages: Stages::Both,
            resume: false,
            initial: None,
            display: Display::Lines,
            command: None,
            after_validation: None,
            stop: Stop::new(),
        }
    }
}

/// What is done with a folder whenever something new lies there. If it fails, the training stops with a checkpoint, as
/// for a log that cannot be written.
#[derive(Clone)]
pub struct Hook(Arc<Act>);

type Act = dyn Fn(&Path) -> Result<()> + Send + Sync;

impl Hook {
    /// A hook that calls `act`.
    pub fn new(act: impl Fn(&Path) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(act))
    }

    pub(crate) fn call(&self, folder: &Path) -> Result<()> {
        (self.0)(folder)
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// How a training's progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Burn's dashboard if standard output is a terminal and the crate is built with it.
    Dashboard,
    /// Lines on standard output.
    Lines,
    /// Nothing.
    Quiet,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct TrainingReport {
    /// The stages that were run, in order.
    pub stages: Vec<StageReport>,
    /// The weights of the last stage, with the configuration.
    pub weights: PathBuf,
}

/// What a stage did.
#[derive(Debug, Clone)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// Optimiser steps in all.
    pub iterations: usize,
    /// Whether early stopping ended it before those that were configured.
    pub ended_early: bool,
    /// The last validation.
    pub last: Option<Validation>,
    /// The validation with the highest score.
    pub best: Option<Validation>,
    /// Optimiser steps after which the weights that the stage resulted in were there.
    pub result: usize,
    /// Time spent in this call.
    pub elapsed: Duration,
}
