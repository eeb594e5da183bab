//! Checkpoints: written whole, sealed against damage, kept by age and by PSNR, found again.
//!
//! A checkpoint is four files of one number in the stage's folder `checkpoint/`: `model`, `optim` and `scheduler`, which
//! Burn writes through [`SealedRecorder`], and `run`, which says where in the run it stands. The data stream and all
//! noise follow from seed and iteration, so nothing else is needed to go on bit for bit.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use burn::record::{
    FileRecorder, FullPrecisionSettings, NamedMpkBytesRecorder, Record, Recorder, RecorderError,
};
use burn::tensor::backend::Backend;
use burn::train::EarlyStoppingStrategy;
use burn::train::Interrupter;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stack;
use crate::config::Config;
use crate::data::loader::ValidationScores;
use crate::data::stop::Stop;
use crate::error::{Error, Result};
use crate::whole;

/// The folder of a stage's checkpoints, as Burn names it.
const FOLDER: &str = "checkpoint";

/// The parts of a checkpoint that Burn writes, as it names their files.
const PARTS: [&str; 3] = [MODEL, "optim", "scheduler"];

const MODEL: &str = "model";

const EXTENSION: &str = "mpk";

/// Ends every sealed file, after the CRC-32 of what is before.
const SEAL: &[u8; 8] = b"hi-diff1";

const SEAL_BYTES: usize = 4 + SEAL.len();

/// Burn's MessagePack records as files that appear whole or not at all, and whose damage is noticed.
#[derive(Debug, Default, Clone)]
pub struct SealedRecorder(NamedMpkBytesRecorder<FullPrecisionSettings>);

impl<B: Backend> FileRecorder<B> for SealedRecorder {
    fn file_extension() -> &'static str {
        EXTENSION
    }
}

impl<B: Backend> Recorder<B> for SealedRecorder {
    type Settings = FullPrecisionSettings;
    type RecordArgs = PathBuf;
    type RecordOutput = ();
    type LoadArgs = PathBuf;

    fn record<R: Record<B>>(&self, record: R, path: PathBuf) -> Result<(), RecorderError> {
        with_room(|| {
            let bytes = Recorder::<B>::record(&self.0, record, ())?;
            write_sealed(bytes, &path)
        })
    }

    fn load<R: Record<B>>(&self, path: PathBuf, device: &B::Device) -> Result<R, RecorderError> {
        with_room(|| {
            let bytes = unsealed(&path).map_err(RecorderError::Unknown)?;
            Recorder::<B>::load(&self.0, bytes, device)
        })
    }

    fn save_item<I: Serialize>(&self, item: I, path: PathBuf) -> Result<(), RecorderError> {
        write_sealed(Recorder::<B>::save_item(&self.0, item, ())?, &path)
    }

    fn load_item<I: DeserializeOwned>(&self, path: &mut PathBuf) -> Result<I, RecorderError> {
        let mut bytes = unsealed(path).map_err(RecorderError::Unknown)?;
        Recorder::<B>::load_item(&self.0, &mut bytes)
    }
}

/// Burn reads and writes checkpoints in a thread of its own, with the stack that the system gives it.
fn with_room<T: Send>(
    work: impl FnOnce() -> Result<T, RecorderError> + Send,
) -> Result<T, RecorderError> {
    stack::with_room("checkpoint", work)
        .map_err(|error| RecorderError::Unknown(error.to_string()))?
}

fn write_sealed(mut bytes: Vec<u8>, path: &Path) -> Result<(), RecorderError> {
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(SEAL);
    let write = write_whole(&path.with_extension(EXTENSION), &bytes);
    write.map_err(|error| RecorderError::Unknown(error.to_string()))
}

/// What a sealed file holds, or what is wrong with it.
fn unsealed(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.with_extension(EXTENSION);
    let fail = |reason: &str| format!("{}: {reason}", path.display());
    let mut bytes = fs::read(&path).map_err(|error| fail(&error.to_string()))?;
    let content = bytes.len().saturating_sub(SEAL_BYTES);
    match bytes[content..].split_at_checked(4) {
        Some((crc, seal)) if seal == SEAL => {
            if crc != crc32fast::hash(&bytes[..content]).to_le_bytes() {
                return Err(fail("damaged: its checksum does not match"));
            }
        }
        _ => return Err(fail("damaged: its end is missing")),
    }
    bytes.truncate(content);
    Ok(bytes)
}

/// Writes a file that appears whole or not at all, replacing what was there, and waits for the disk to have it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    whole::write_whole(path, true, |file| {
        let write = file.write_all(bytes).and_then(|()| file.flush());
        write
            .and_then(|()| file.get_ref().sync_all())
            .map_err(Error::io(path))
    })
}

/// Of checkpoints; another number where the optimiser's state is another.
const FORMAT: u32 = 1;

/// Where in a stage a checkpoint stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Of the files beside it; what was written before there were numbers is 0.
    #[serde(default)]
    pub(super) format: u32,
    /// Optimiser steps done: also the position in the data stream, and of all noise.
    pub iteration: usize,
    /// Whether the validation that is due here has been made.
    pub validated: bool,
    /// The validations so far.
    pub history: History,
    /// A fingerprint of the training pairs.
    pub pairs: u64,
    /// What the run was started with, the seed included.
    pub config: Config,
}

impl RunState {
    /// Before the first step.
    pub fn start(config: &Config, pairs: u64) -> Self {
        Self {
            format: FORMAT,
            iteration: 0,
            validated: true,
            history: History::default(),
            pairs,
            config: config.clone(),
        }
    }

    /// Whether this version can go on from the files beside it, and not only take weights from them.
    pub(super) fn is_resumable(&self) -> bool {
        self.format == FORMAT
    }

    fn path(stage: &Path, number: usize) -> PathBuf {
        stage.join(FOLDER).join(format!("run-{number}.json"))
    }

    fn save(&self, stage: &Path, number: usize) -> Result<()> {
        let text = serde_json::to_vec_pretty(self);
        let text = text.map_err(|error| Error::Training(error.to_string()))?;
        write_whole(&Self::path(stage, number), &text)
    }

    pub(super) fn load(stage: &Path, number: usize) -> Result<Self, String> {
        let path = Self::path(stage, number);
        let fail = |reason: String| format!("{}: {reason}", path.display());
        let text = fs::read(&path).map_err(|error| fail(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| fail(format!("damaged: {error}")))
    }
}

/// A stage's checkpoint to go on from.
#[derive(Debug)]
pub struct Checkpoint {
    /// Checkpoints are numbered from 1; the `Learner` calls it an epoch.
    pub number: usize,
    /// Where it stands.
    pub state: RunState,
}

/// The newest checkpoint of a stage that is complete and undamaged, and what is wrong with newer ones.
pub fn latest(stage: &Path) -> (Option<Checkpoint>, Vec<String>) {
    let mut problems = Vec::new();
    for number in numbers(stage).into_iter().rev() {
        let state = PARTS
            .iter()
            .try_for_each(|part| unsealed(&part_path(stage, part, number)).map(drop))
            .and_then(|()| RunState::load(stage, number));
        match state {
            Ok(state) => return (Some(Checkpoint { number, state }), problems),
            Err(problem) => problems.push(problem),
        }
    }
    (None, problems)
}

fn part_path(stage: &Path, part: &str, number: usize) -> PathBuf {
    stage
        .join(FOLDER)
        .join(format!("{part}-{number}.{EXTENSION}"))
}

/// The record of a stage's module in a checkpoint, or what is wrong with its file.
pub(super) fn module<B: Backend, M: Module<B>>(
    stage: &Path,
    number: usize,
    device: &B::Device,
) -> Result<M::Record, String> {
    let path = part_path(stage, MODEL, number);
    let record = Recorder::<B>::load(&SealedRecorder::default(), path, device);
    record.map_err(|error| match error {
        RecorderError::Unknown(reason) => reason,
        error => error.to_string(),
    })
}

/// The numbers of the checkpoints whose module is there.
pub(super) fn with_module(stage: &Path) -> Vec<usize> {
    let is_there = |number: &usize| part_path(stage, MODEL, *number).is_file();
    numbers(stage).into_iter().filter(is_there).collect()
}

/// The number of the checkpoint whose module is the file of this name.
pub(super) fn number_of_module(name: &str) -> Option<usize> {
    let number = name.strip_prefix(MODEL)?.strip_prefix('-')?;
    number
        .strip_suffix(EXTENSION)?
        .strip_suffix('.')?
        .parse()
        .ok()
}

/// Whether a stage's folder has checkpoints, be they whole or not.
pub(super) fn is_stage(folder: &Path) -> bool {
    folder.join(FOLDER).is_dir()
}

/// The numbers of all checkpoints of which there is a part.
fn numbers(stage: &Path) -> BTreeSet<usize> {
    let Ok(entries) = fs::read_dir(stage.join(FOLDER)) else {
        return BTreeSet::new();
    };
    let number = |name: &str| {
        let stem = name.strip_suffix(".mpk").or(name.strip_suffix(".json"))?;
        stem.rsplit_once('-')?.1.parse().ok()
    };
    entries
        .flatten()
        .filter_map(|entry| number(&entry.file_name().to_string_lossy()))
        .collect()
}

/// Removes all checkpoints of a stage that has come to its end but the last `keep` and the best, and returns where the
/// stage stands.
pub fn prune(stage: &Path, keep: usize) -> Option<RunState> {
    let state = latest(stage).0?.state;
    let all = numbers(stage);
    let wanted = wanted(&all, keep, &state.history);
    for number in all.difference(&wanted) {
        remove(stage, *number);
    }
    Some(state)
}

/// A file that stays for want of permission does no harm.
fn remove(stage: &Path, number: usize) {
    for part in PARTS {
        fs::remove_file(part_path(stage, part, number)).ok();
    }
    fs::remove_file(RunState::path(stage, number)).ok();
}

fn wanted(all: &BTreeSet<usize>, last: usize, history: &History) -> BTreeSet<usize> {
    let mut wanted: BTreeSet<usize> = all.iter().rev().take(last).copied().collect();
    wanted.extend(history.best().map(|best| best.checkpoint));
    wanted
}

/// One validation of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The checkpoint after it.
    pub checkpoint: usize,
    /// Optimiser steps done.
    pub iteration: usize,
    /// The score that decides what is best: the mean over the validation sets of their mean PSNR in dB. None without
    /// validation images.
    pub psnr: Option<f64>,
    /// Mean over the sets of their SSIM per channel.
    pub ssim: Option<f64>,
}

/// The validations of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History(pub Vec<Validation>);

impl History {
    /// The validation with the highest PSNR, the latest among equals.
    pub fn best(&self) -> Option<Validation> {
        let scored = self
            .0
            .iter()
            .filter(|validation| validation.psnr.is_some_and(f64::is_finite));
        scored
            .max_by(|a, b| {
                a.psnr
                    .unwrap_or_default()
                    .total_cmp(&b.psnr.unwrap_or_default())
            })
            .copied()
    }

    /// Whether a stage ends here that ends when so many validations in a row have not raised the score, 0 for never.
    pub fn ends(&self, early_stopping: usize) -> bool {
        let scores = self.0.iter().map(|validation| validation.psnr);
        exhausted(scores, early_stopping).is_some()
    }
}

/// After how many scores a stage ends early, if it does: when `patience` scores in a row were no better than the best
/// before them, or no numbers; never with a patience of 0, nor before the first score.
pub(crate) fn exhausted(
    scores: impl IntoIterator<Item = Option<f64>>,
    patience: usize,
) -> Option<usize> {
    let (mut best, mut since) = (None, 0);
    for (index, score) in scores.into_iter().enumerate() {
        let score = score.filter(|score| score.is_finite());
        // None is less than any score.
        if score > best {
            (best, since) = (score, 0);
        } else if best.is_some() {
            since += 1;
        }
        if patience > 0 && since >= patience {
            return Some(index + 1);
        }
    }
    None
}

/// Ends a stage between two intervals when its validations get no better. Burn asks it after each checkpoint.
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    patience: usize,
    over: Arc<AtomicBool>,
}

impl EarlyStopping {
    /// After so many validations in a row without a better score; 0 for never.
    pub fn new(patience: usize) -> Self {
        Self {
            patience,
            over: Arc::default(),
        }
    }

    fn judge(&self, history: &History) {
        self.over
            .store(history.ends(self.patience), Ordering::Relaxed);
    }
}

impl EarlyStoppingStrategy for EarlyStopping {
    fn should_stop(&mut self, _: usize, _: &EventStoreClient) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// How far a stage goes, and where it is validated.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// Iterations between validations.
    pub every: usize,
    /// Iterations in all.
    pub iterations: usize,
}

impl Interval {
    /// Where the interval ends that begins at or holds `iteration`.
    pub fn end(self, iteration: usize) -> usize {
        ((iteration / self.every + 1) * self.every).min(self.iterations)
    }

    /// Intervals from `iteration` to the end.
    pub fn left(self, iteration: usize) -> usize {
        match iteration < self.iterations {
            true => self.iterations.div_ceil(self.every) - iteration / self.every,
            false => 0,
        }
    }
}

/// Saves after every interval and where the run is asked to end, and keeps the last few checkpoints and the best.
pub struct KeepLastAndBest {
    stage: PathBuf,
    keep: usize,
    interval: Interval,
    state: RunState,
    /// A validation comes before the first step.
    validate_first: bool,
    scores: ValidationScores,
    early_stopping: EarlyStopping,
    stop: Stop,
    interrupter: Interrupter,
}

impl KeepLastAndBest {
    /// The strategy for a stage's folder from `state` on. `keep` counts the last checkpoints besides the one being
    /// written; `scores` are those of the validation before each checkpoint, by which `early_stopping` is told.
    #[allow(clippy::too_many_arguments)] // Handles, each of which has its own owner.
    pub fn new(
        stage: &Path,
        keep: usize,
        interval: Interval,
        state: RunState,
        scores: ValidationScores,
        early_stopping: EarlyStopping,
        stop: Stop,
        interrupter: Interrupter,
    ) -> Self {
        Self {
            stage: stage.to_path_buf(),
            keep,
            interval,
            validate_first: !state.validated,
            state,
            scores,
            early_stopping,
            stop,
            interrupter,
        }
    }

    /// The state after the interval that ends now, or where the run is asked to end.
    fn advance(&mut self, number: usize) {
        let planned = match std::mem::take(&mut self.validate_first) {
            true => self.state.iteration,
            false => self.interval.end(self.state.iteration),
        };
        let asked = self.stop.end();
        self.state.iteration = asked.map_or(planned, |end| end.min(planned));
        // A validation that was left early, or not begun, is made when the run goes on.
        let due = self.state.iteration == planned;
        self.state.validated = !due || self.scores.is_complete();
        if due && self.state.validated {
            let score = self.scores.mean();
            self.state.history.0.push(Validation {
                checkpoint: number,
                iteration: self.state.iteration,
                psnr: score.map(|score| score.psnr),
                ssim: score.map(|score| score.ssim),
            });
            self.early_stopping.judge(&self.state.history);
        }
    }

    fn decide(&mut self, number: usize) -> Result<Vec<CheckpointingAction>> {
        self.advance(number);
        // Burn writes each part in a thread of its own: the newest complete checkpoint is deleted only once one after
        // it is complete, and the one being written does not count.
        let mut all = numbers(&self.stage);
        all.insert(number);
        let wanted = wanted(&all, self.keep.max(1) + 1, &self.state.history);
        let unwanted: Vec<usize> = all.difference(&wanted).copied().collect();
        self.state.save(&self.stage, number)?;
        for number in &unwanted {
            fs::remove_file(RunState::path(&self.stage, *number)).ok();
        }
        let delete = unwanted.into_iter().map(CheckpointingAction::Delete);
        Ok(std::iter::once(CheckpointingAction::Save)
            .chain(delete)
            .collect())
    }
}

impl CheckpointingStrategy for KeepLastAndBest {
    /// The scores are the validation loader's and not those of Burn's event store, which a thread of its own fills and
    /// which may lack the last images yet.
    fn checkpointing(&mut self, number: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        if self.interrupter.should_stop() || self.stop.is_torn() {
            self.interrupter.stop(None);
            return Vec::new();
        }
        let actions = self.decide(number).unwrap_or_else(|error| {
            self.stop.fail(error, None);
            Vec::new()
        });
        if self.stop.is_asked() {
            self.interrupter.stop(None);
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::data::loader::ValidationScore;

    type B = burn::backend::Flex;

    fn strategy(stage: &Path, keep: usize, state: RunState) -> KeepLastAndBest {
        let interval = Interval {
            every: 10,
            iterations: 95,
        };
        let scores = ValidationScores::default();
        let (stop, interrupter) = (Stop::new(), Interrupter::new());
        let early = EarlyStopping::new(0);
        KeepLastAndBest::new(
            stage,
            keep,
            interval,
            state,
            scores,
            early,
            stop,
            interrupter,
        )
    }

    fn start() -> RunState {
        RunState::start(&Config::default(), 1)
    }

    fn save(stage: &Path, number: usize, parts: &[&str]) {
        for part in parts {
            let path = stage.join(FOLDER).join(format!("{part}-{number}"));
            Recorder::<B>::save_item(&SealedRecorder::default(), number, path).unwrap();
        }
    }

    /// Does what Burn does with the strategy's decision.
    fn checkpoint(strategy: &mut KeepLastAndBest, number: usize) {
        for action in strategy.decide(number).unwrap() {
            match action {
                CheckpointingAction::Save => save(&strategy.stage, number, &PARTS),
                CheckpointingAction::Delete(old) => remove(&strategy.stage, old),
            }
        }
    }

    #[test]
    fn the_last_ones_and_the_best_are_kept() {
        let folder = TempDir::new().unwrap();
        let mut strategy = strategy(folder.path(), 1, start());
        let scores = [20.0, 25.0, 24.0, 23.0, 26.0, 22.0, 21.0];
        let mut remaining = Vec::new();
        for (number, psnr) in (1..).zip(scores) {
            strategy.scores.begin(1);
            let score = ValidationScore {
                psnr,
                ssim: 0.5,
                gain: 0.0,
            };
            strategy.scores.push(0, score);
            checkpoint(&mut strategy, number);
            remaining.push(Vec::from_iter(numbers(folder.path())));
        }
        let expected: [&[usize]; 7] = [
            &[1],
            &[1, 2],
            &[2, 3],
            &[2, 3, 4],
            &[4, 5],
            &[5, 6],
            &[5, 6, 7],
        ];
        assert_eq!(remaining, expected);
        prune(folder.path(), 1);
        assert_eq!(Vec::from_iter(numbers(folder.path())), [5, 7]);
    }

    #[test]
    fn a_damaged_or_incomplete_checkpoint_falls_back_to_the_one_before() {
        let folder = TempDir::new().unwrap();
        assert!(latest(folder.path()).0.is_none());
        let mut strategy = strategy(folder.path(), 5, start());
        for number in 1..=4 {
            checkpoint(&mut strategy, number);
        }
        save(folder.path(), 5, &["model", "optim"]);
        let file = |name| folder.path().join(FOLDER).join(name);
        let mut bytes = fs::read(file("optim-4.mpk")).unwrap();
        bytes[0] ^= 1;
        fs::write(file("optim-4.mpk"), bytes).unwrap();
        let bytes = fs::read(file("model-3.mpk")).unwrap();
        fs::write(file("model-3.mpk"), &bytes[..bytes.len() - 1]).unwrap();

        let (found, problems) = latest(folder.path());
        let found = found.unwrap();
        assert_eq!((found.number, found.state.iteration), (2, 20));
        for (problem, part) in problems.iter().zip(["scheduler-5", "optim-4", "model-3"]) {
            assert!(problem.contains(part), "{problem}");
        }
        fs::write(file("run-2.json"), "{").unwrap();
        assert_eq!(latest(folder.path()).0.unwrap().number, 1);
    }

    #[test]
    fn a_stop_is_saved_where_it_happens_and_its_validation_made_up_for() {
        let folder = TempDir::new().unwrap();
        let mut first = strategy(folder.path(), 2, start());
        checkpoint(&mut first, 1);
        first.stop.begin(14);
        first.stop.ask();
        checkpoint(&mut first, 2);
        let state = latest(folder.path()).0.unwrap().state;
        assert_eq!((state.iteration, state.validated), (14, true));

        let mut second = strategy(folder.path(), 2, state);
        second.stop.begin(20);
        second.stop.ask();
        second.scores.begin(1);
        checkpoint(&mut second, 3);
        let state = latest(folder.path()).0.unwrap().state;
        assert_eq!((state.iteration, state.validated), (20, false));

        let mut third = strategy(folder.path(), 2, state);
        checkpoint(&mut third, 4);
        checkpoint(&mut third, 5);
        let state = latest(folder.path()).0.unwrap().state;
        let at = |validation: &Validation| (validation.checkpoint, validation.iteration);
        let history: Vec<_> = state.history.0.iter().map(at).collect();
        assert_eq!(history, [(1, 10), (4, 20), (5, 30)]);
    }

    #[test]
    fn a_stage_ends_when_its_scores_have_not_risen_for_long_enough() {
        let scores = [20.0, 22.0, 21.0, 22.0, 23.0, 22.0, f64::NAN, 21.0].map(Some);
        for (patience, end) in [
            (0, None),
            (1, Some(3)),
            (2, Some(4)),
            (3, Some(8)),
            (4, None),
        ] {
            assert_eq!(exhausted(scores, patience), end, "{patience}");
        }
        assert_eq!(exhausted([None; 9], 2), None, "nothing to judge by");
        let validation = |psnr| Validation {
            checkpoint: 1,
            iteration: 1,
            psnr,
            ssim: None,
        };
        let history = History(scores[..4].iter().copied().map(validation).collect());
        assert!(history.ends(2) && !history.ends(3) && !history.ends(0));
    }

    #[test]
    fn intervals_end_at_their_multiples_and_at_the_end() {
        let interval = Interval {
            every: 3,
            iterations: 8,
        };
        let ends: Vec<_> = (0..8).map(|iteration| interval.end(iteration)).collect();
        assert_eq!(ends, [3, 3, 3, 6, 6, 6, 8, 8]);
        let left: Vec<_> = (0..9).map(|iteration| interval.left(iteration)).collect();
        assert_eq!(left, [3, 3, 3, 2, 2, 2, 1, 1, 0]);
    }

    #[test]
    fn records_come_back_as_they_were() {
        let folder = TempDir::new().unwrap();
        let recorder = SealedRecorder::default();
        let mut path = folder.path().join("scheduler-3");
        Recorder::<B>::save_item(&recorder, vec![1_usize, 2, 3], path.clone()).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "nothing but the file: {names:?}");
        let found: Vec<usize> = Recorder::<B>::load_item(&recorder, &mut path).unwrap();
        assert_eq!(found, [1, 2, 3]);
        let mut missing = folder.path().join("scheduler-4");
        let missing = Recorder::<B>::load_item::<usize>(&recorder, &mut missing);
        assert!(missing.unwrap_err().to_string().contains("scheduler-4"));
    }
}
