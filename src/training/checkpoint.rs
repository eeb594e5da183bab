//! Checkpoints: written whole, kept by age and by PSNR, found again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::record::{
    FileRecorder, FullPrecisionSettings, NamedMpkBytesRecorder, Recorder, RecorderError,
};
use burn::tensor::backend::Backend;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::data::loader::{OnFailure, Scores};
use crate::error::{Error, Result};

/// The folder of a stage's checkpoints, as Burn names it.
const FOLDER: &str = "checkpoint";

/// The parts of a checkpoint, as Burn names their files.
const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

const EXTENSION: &str = "mpk";

const HISTORY: &str = "validation.json";

/// Burn's MessagePack records as files that appear whole or not at all.
#[derive(Debug, Default, Clone)]
pub struct WholeFileRecorder(NamedMpkBytesRecorder<FullPrecisionSettings>);

impl<B: Backend> FileRecorder<B> for WholeFileRecorder {
    fn file_extension() -> &'static str {
        EXTENSION
    }
}

impl<B: Backend> Recorder<B> for WholeFileRecorder {
    type Settings = FullPrecisionSettings;
    type RecordArgs = PathBuf;
    type RecordOutput = ();
    type LoadArgs = PathBuf;

    fn save_item<I: Serialize>(&self, item: I, path: PathBuf) -> Result<(), RecorderError> {
        let bytes = Recorder::<B>::save_item(&self.0, item, ())?;
        let write = write_whole(&path.with_extension(EXTENSION), &bytes);
        write.map_err(|error| RecorderError::Unknown(error.to_string()))
    }

    fn load_item<I: DeserializeOwned>(&self, path: &mut PathBuf) -> Result<I, RecorderError> {
        let path = path.with_extension(EXTENSION);
        let describe = |error| format!("{}: {error}", path.display());
        let mut bytes =
            fs::read(&path).map_err(|error| RecorderError::Unknown(describe(error)))?;
        Recorder::<B>::load_item(&self.0, &mut bytes)
    }
}

/// Writes a file beside its place and renames it, replacing what was there.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(Error::io(path))
}

/// The newest checkpoint of a stage of which no part is missing: the `Learner`'s epoch after which it was written.
pub fn latest(stage: &Path) -> Option<usize> {
    complete(stage).last().copied()
}

fn complete(stage: &Path) -> BTreeSet<usize> {
    let epochs = |part: &str| -> BTreeSet<usize> {
        let Ok(entries) = fs::read_dir(stage.join(FOLDER)) else {
            return BTreeSet::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let prefix = format!("{part}-");
        let suffix = format!(".{EXTENSION}");
        names
            .filter_map(|name| name.strip_prefix(&prefix)?.strip_suffix(&suffix)?.parse().ok())
            .collect()
    };
    PARTS.into_iter().map(epochs).reduce(|all, part| &all & &part).unwrap_or_default()
}

/// One validation of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The `Learner`'s epoch.
    pub epoch: usize,
    /// Optimiser steps done.
    pub iteration: usize,
    /// Mean PSNR in dB; none without validation images.
    pub psnr: Option<f64>,
}

/// The validations of a stage, kept beside its checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History(pub Vec<Validation>);

impl History {
    /// The validations up to `epoch`; none if the file is missing. An unreadable file counts as missing, since only
    /// the memory of which checkpoint was best hangs on it.
    pub fn load(stage: &Path, epoch: usize) -> Self {
        let text = fs::read_to_string(stage.join(HISTORY)).unwrap_or_default();
        let mut history: Self = serde_json::from_str(&text).unwrap_or_default();
        history.0.retain(|validation| validation.epoch <= epoch);
        history
    }

    /// The validation with the highest PSNR, the latest among equals.
    pub fn best(&self) -> Option<Validation> {
        let scored = self.0.iter().filter(|validation| validation.psnr.is_some_and(f64::is_finite));
        scored
            .max_by(|a, b| a.psnr.unwrap_or_default().total_cmp(&b.psnr.unwrap_or_default()))
            .copied()
    }

    fn save(&self, stage: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.0);
        let text = text.map_err(|error| Error::Training(error.to_string()))?;
        write_whole(&stage.join(HISTORY), &text)
    }
}

/// Saves after every validation, and keeps the last few checkpoints and the best.
pub struct KeepLastAndBest {
    stage: PathBuf,
    keep: usize,
    every: usize,
    iterations: usize,
    scores: Scores,
    history: History,
    kept: BTreeSet<usize>,
    on_failure: OnFailure,
}

impl KeepLastAndBest {
    /// The strategy for a stage's folder. `keep` counts the last checkpoints; an epoch has `every` iterations up to
    /// `iterations` in all; `scores` are those of the validation before each checkpoint.
    pub fn new(
        stage: &Path,
        keep: usize,
        every: usize,
        iterations: usize,
        scores: Scores,
        on_failure: OnFailure,
    ) -> Self {
        let kept = complete(stage);
        let history = History::load(stage, kept.last().copied().unwrap_or(0));
        let stage = stage.to_path_buf();
        Self { stage, keep, every, iterations, scores, history, kept, on_failure }
    }

    fn decide(&mut self, epoch: usize) -> Vec<CheckpointingAction> {
        self.kept.insert(epoch);
        let mut wanted: BTreeSet<usize> =
            self.kept.iter().rev().take(self.keep.max(1)).copied().collect();
        wanted.extend(self.history.best().map(|best| best.epoch));
        let delete = self.kept.difference(&wanted).map(|&old| CheckpointingAction::Delete(old));
        let actions = std::iter::once(CheckpointingAction::Save).chain(delete).collect();
        self.kept.retain(|epoch| wanted.contains(epoch));
        actions
    }
}

impl CheckpointingStrategy for KeepLastAndBest {
    /// The PSNR is taken from the validation loader's scores and not from Burn's event store, which a thread of its
    /// own fills and which may lack the last images yet.
    fn checkpointing(&mut self, epoch: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        let iteration = (epoch * self.every).min(self.iterations);
        self.history.0.push(Validation { epoch, iteration, psnr: self.scores.mean() });
        if let Err(error) = self.history.save(&self.stage) {
            (self.on_failure)(error);
        }
        self.decide(epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;

    fn strategy(stage: &Path, keep: usize) -> KeepLastAndBest {
        let fail: OnFailure = Arc::new(|error| panic!("{error}"));
        KeepLastAndBest::new(stage, keep, 10, 95, Scores::default(), fail)
    }

    fn pretend(stage: &Path, epoch: usize, parts: &[&str]) {
        for part in parts {
            let path = stage.join(FOLDER).join(format!("{part}-{epoch}.{EXTENSION}"));
            write_whole(&path, b"record").unwrap();
        }
    }

    #[test]
    fn the_last_ones_and_the_best_are_kept() {
        let folder = TempDir::new().unwrap();
        let mut strategy = strategy(folder.path(), 2);
        let mut present = BTreeSet::new();
        let scores = [20.0, 25.0, 24.0, 23.0, 26.0, 22.0, 21.0];
        let mut remaining = Vec::new();
        for (epoch, psnr) in (1..).zip(scores) {
            strategy.history.0.push(Validation { epoch, iteration: 0, psnr: Some(psnr) });
            for action in strategy.decide(epoch) {
                match action {
                    CheckpointingAction::Save => assert!(present.insert(epoch)),
                    CheckpointingAction::Delete(old) => assert!(present.remove(&old)),
                }
            }
            remaining.push(present.iter().copied().collect::<Vec<_>>());
        }
        let expected: [&[usize]; 7] =
            [&[1], &[1, 2], &[2, 3], &[2, 3, 4], &[4, 5], &[5, 6], &[5, 6, 7]];
        assert_eq!(remaining, expected);
    }

    #[test]
    fn the_latest_checkpoint_is_one_with_all_parts() {
        let folder = TempDir::new().unwrap();
        assert_eq!(latest(folder.path()), None);
        pretend(folder.path(), 9, &PARTS);
        pretend(folder.path(), 10, &PARTS);
        pretend(folder.path(), 11, &["model", "optim"]);
        assert_eq!(latest(folder.path()), Some(10));
    }

    #[test]
    fn a_resumed_run_remembers_the_best_and_forgets_what_was_lost() {
        let folder = TempDir::new().unwrap();
        let validation = |epoch, psnr| Validation { epoch, iteration: epoch * 10, psnr: Some(psnr) };
        let history = History(vec![validation(1, 30.0), validation(2, 25.0), validation(3, 31.0)]);
        history.save(folder.path()).unwrap();
        pretend(folder.path(), 1, &PARTS);
        pretend(folder.path(), 2, &PARTS);
        let strategy = strategy(folder.path(), 1);
        assert_eq!(strategy.history.best(), Some(validation(1, 30.0)));
        assert_eq!(strategy.kept, BTreeSet::from([1, 2]));
    }

    #[test]
    fn records_come_back_as_they_were() {
        let folder = TempDir::new().unwrap();
        let recorder = WholeFileRecorder::default();
        let path = folder.path().join("scheduler-3");
        type B = burn::backend::Flex;
        Recorder::<B>::save_item(&recorder, vec![1_usize, 2, 3], path.clone()).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "nothing but the file: {names:?}");
        let mut path = path;
        let found: Vec<usize> = Recorder::<B>::load_item(&recorder, &mut path).unwrap();
        assert_eq!(found, [1, 2, 3]);
        let missing = folder.path().join("scheduler-4");
        let missing = Recorder::<B>::load_item::<usize>(&recorder, &mut missing.clone());
        assert!(missing.unwrap_err().to_string().contains("scheduler-4"));
    }
}
