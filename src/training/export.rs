//! The weights in a run's checkpoints, also while the run goes on: nothing is written, and no backend for gradients needed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use burn::module::Module;

use super::checkpoint::{self, RunState};
use super::stage::Stage;
use super::{StageOne, StageTwo};
use crate::config::{Config, Prior};
use crate::error::{Error, Result};
use crate::model::HiDiff;
use burn::tensor::backend::Backend;

/// Which checkpoint of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest that is whole.
    #[default]
    Last,
    /// The one with the highest validation score.
    Best,
    /// The one after so many optimiser steps.
    Iteration(usize),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Last),
            "best" => Ok(Self::Best),
            number => number
                .parse()
                .map(Self::Iteration)
                .map_err(|_| "expected last, best or an iteration".to_string()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Best => f.write_str("best"),
            Self::Iteration(iteration) => iteration.fmt(f),
        }
    }
}

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Exported<B: Backend> {
    /// Of which stage it is.
    pub stage: Stage,
    /// Optimiser steps of the stage.
    pub iteration: usize,
    /// What the run was started with.
    pub config: Config,
    /// The networks: after stage one with LE, after stage two without it, as the run itself leaves them.
    pub model: HiDiff<B>,
    /// What is wrong with newer checkpoints, where the last one was asked for.
    pub problems: Vec<String>,
}

/// A place with checkpoints.
#[derive(Debug)]
pub struct Checkpoints {
    stage: Stage,
    folder: PathBuf,
    /// The only one that is meant.
    number: Option<usize>,
}

impl Checkpoints {
    /// The checkpoints at `path`: a run's folder (of stage two if it has begun, else of stage one), a stage's folder in it, or
    /// the file `model-….mpk` of one checkpoint. None if it is neither.
    ///
    /// # Errors
    /// [`Error::Weights`] for a run without checkpoints.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        // The folder's name says which stage it is, also where the path as given does not end in it.
        let Ok(path) = &path.canonicalize() else {
            return Ok(None);
        };
        let of = |folder: &Path, number| {
            let name = folder.file_name()?;
            let stage = Stage::ALL
                .into_iter()
                .find(|stage| name == stage.folder())?;
            checkpoint::is_stage(folder).then(|| Self {
                stage,
                folder: folder.to_path_buf(),
                number,
            })
        };
        if path.is_file() {
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(checkpoint::number_of_module);
            let folder = path.parent().and_then(Path::parent);
            return Ok(number
                .zip(folder)
                .and_then(|(number, folder)| of(folder, Some(number))));
        }
        let stages = Stage::ALL.map(|stage| path.join(stage.folder()));
        let with_checkpoints = |folder: &&PathBuf| !checkpoint::with_module(folder).is_empty();
        let newest = stages.iter().rev().find(with_checkpoints);
        match newest
            .and_then(|folder| of(folder, None))
            .or_else(|| of(path, None))
        {
            Some(found) => Ok(Some(found)),
            None if path.join(super::run::CONFIG_FILE).is_file()
                && stages.iter().any(|stage| stage.is_dir()) =>
            {
                Err(Error::weights(path, "no checkpoint has been written yet"))
            }
            None => Ok(None),
        }
    }

    /// The networks of one of them, on `device`: their running average if there is one and it is wanted.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is no such checkpoint, with those there are, or if it is damaged.
    pub fn load<B: Backend>(
        &self,
        which: Which,
        average: bool,
        device: &B::Device,
    ) -> Result<Exported<B>> {
        let fail = |reason: String| Error::weights(&self.folder, reason);
        if let Some(number) = self.number {
            return self.read(number, average, device).map_err(fail);
        }
        let numbers = checkpoint::with_module(&self.folder);
        let mut problems = Vec::new();
        if which == Which::Last {
            for number in numbers.into_iter().rev() {
                match self.read(number, average, device) {
                    Ok(exported) => {
                        return Ok(Exported {
                            problems,
                            ..exported
                        });
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            problems.insert(0, "no checkpoint can be read".to_string());
            return Err(fail(problems.join("\n  ")));
        }
        let mut states = Vec::new();
        for number in numbers {
            match RunState::load(&self.folder, number) {
                Ok(state) => states.push((number, state)),
                Err(problem) => problems.push(problem),
            }
        }
        let best = states
            .last()
            .and_then(|(_, state)| state.history.best())
            .map(|best| best.checkpoint);
        let chosen = states.iter().find(|(number, state)| match which {
            Which::Iteration(iteration) => state.iteration == iteration,
            _ => Some(*number) == best,
        });
        if let Some((number, _)) = chosen {
            return self.read(*number, average, device).map_err(fail);
        }
        let there = states.iter().map(|(number, state)| {
            let best = if Some(*number) == best { " (best)" } else { "" };
            format!("{}{best}", state.iteration)
        });
        let there = match there.collect::<Vec<_>>() {
            none if none.is_empty() => "none".to_string(),
            there => there.join(", "),
        };
        problems.insert(
            0,
            format!(
                "no checkpoint {which} of {}; there are those after iterations {there}",
                self.stage
            ),
        );
        Err(fail(problems.join("\n  ")))
    }

    fn read<B: Backend>(
        &self,
        number: usize,
        average: bool,
        device: &B::Device,
    ) -> Result<Exported<B>, String> {
        let RunState {
            iteration, config, ..
        } = RunState::load(&self.folder, number)?;
        let (networks, mean) = match self.stage {
            Stage::One => {
                let record = checkpoint::module::<B, StageOne<B>>(&self.folder, number, device)?;
                (record.model, record.average)
            }
            Stage::Two => {
                let record = checkpoint::module::<B, StageTwo<B>>(&self.folder, number, device)?;
                (record.model, record.average)
            }
        };
        let networks = mean.filter(|_| average).unwrap_or(networks);
        let mut model = config.init_training::<B>(device).load_record(networks);
        if self.stage == Stage::Two || config.model.prior == Prior::None {
            model.latent_encoder = None;
        }
        Ok(Exported {
            stage: self.stage,
            iteration,
            config,
            model,
            problems: Vec::new(),
        })
    }
}
