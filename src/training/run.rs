//! A training run, from folders of photographs to a weight file.

use std::fs;
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::module::{AutodiffModule, Module};
use burn::tensor::DType;
use burn::tensor::backend::Backend as BurnBackend;
use burn::train::metric::LearningRateMetric;
use burn::train::{
    InferenceStep, Interrupter, Learner, SupervisedTraining, TrainStep, TrainingStrategy,
};

use super::average;
use super::calls::Call;
use super::checkpoint::{
    self, EarlyStopping, History, Interval, KeepLastAndBest, RunState, SealedRecorder, Validation,
    latest, write_whole,
};
use super::dashboard::{Nothing, Watch, dashboard};
use super::devices::Devices;
use super::init;
use super::learning_rate::CyclicCosine;
use super::log::recorder::OnFailure;
use super::log::{JsonLines, Lines, Pictures, Record, Recorder, Sink, TensorBoard};
use super::metrics::{
    DiffusionLoss, FrequencyLoss, Gain, GradientNormMetric, ImageScore, NoFiles, PixelLoss, Psnr,
    QuantityMetric, Ssim, StepLosses, StepRecording, ValidationRecording,
};
use super::optimizer::{AfterStep, Overflow};
use super::resume;
use super::stage_one::StageOne;
use super::stage_two::StageTwo;
use super::step::{LossScale, StepSettings};
use crate::config::{
    Config, Network, Objective, Parallel, Precision, Prior, StageConfig, StageResult,
};
use crate::data::dataset::{DEFAULT_CACHE_BYTES, PairReader, SampleStream, StreamConfig};
use crate::data::loader::{
    Batch, NoiseShape, PatchLoader, PatchLoaderSettings, ValidationImage, ValidationLoader,
};
use crate::data::pairs::{Pair, Source, TrainingPairs, ValidationSet, training_pairs};
use crate::data::random::{Purpose, seed_at};
use crate::data::stop::Stop;
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::model::HiDiff;
use crate::weights::{Precision as Stored, StateDict, save_safetensors};
use burn::tensor::backend::AutodiffBackend;

/// What a run leaves in its folder, beside a folder for each stage.
pub(crate) const CONFIG_FILE: &str = "config.toml";
const STAGE_ONE_WEIGHTS: &str = "stage-one.safetensors";
const FINAL_WEIGHTS: &str = "model.safetensors";
pub(crate) const LOG: &str = "log.jsonl";
const TENSORBOARD: &str = "tensorboard";
pub(crate) const PICTURES: &str = "pictures";

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

/// Calls a hook after each validation.
struct AfterValidation {
    hook: Hook,
    folder: PathBuf,
}

impl Sink for AfterValidation {
    fn write(&mut self, record: &Record) -> Result<()> {
        match record {
            Record::Validation(_) => self.hook.call(&self.folder),
            Record::Train(_) => Ok(()),
        }
    }
}

/// Which stages of the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    /// LE and Transformer.
    One,
    /// Transformer and diffusion, from stage one's weights.
    Two,
    /// One after the other. A model without a prior has stage one only.
    Both,
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
    /// `stage one` or `stage two`.
    pub name: &'static str,
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

/// Trains a model as `config` says and writes its weights.
///
/// In `options.out` lie afterwards `config.toml`, `calls.jsonl` with the commands, `log.jsonl` with all numbers, `tensorboard/` with the same as event
/// files, `stage-one/` and `stage-two/` with checkpoints and validation pictures, `stage-one.safetensors` with LE, and
/// `model.safetensors`, the result. Checkpoints are written after every `training.validation.every` iterations and
/// where the run is stopped. A resumed run ends in the same weights as one that was never interrupted.
///
/// # Errors
/// [`Error::Data`] for pairs that do not match, [`Error::Refused`] if `out` holds a run and `resume` is false,
/// [`Error::Stopped`] if the training was stopped before its end, with the reason, [`Error::Config`] if the
/// configuration lacks what is needed or differs from that of the run to resume; and errors of files and images.
pub fn train<B: AutodiffBackend>(
    config: &Config,
    options: &TrainingOptions,
    devices: &Devices<B>,
) -> Result<TrainingReport> {
    std::thread::scope(|scope| {
        let training = std::thread::Builder::new()
            .name("training".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || train_here(config, options, devices));
        let training = training.map_err(|error| Error::Training(error.to_string()))?;
        training
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A model and its records pass by value, and are too large for the stack of a thread as the system makes it.
const STACK_BYTES: usize = 64 << 20;

fn train_here<B: AutodiffBackend>(
    config: &Config,
    options: &TrainingOptions,
    devices: &Devices<B>,
) -> Result<TrainingReport> {
    check_precision(config.training.precision, devices)?;
    let config = &init::settled(config, options)?;
    let run = Run::prepare(config, options)?;
    let device = &devices.main();
    B::seed(device, config.training.seed);
    // Forking initialises every parameter now and in order, so that the weights depend on the seed alone.
    let mut model = config.init_training::<B>(device).fork(device);
    let stage_one_weights = options.out.join(STAGE_ONE_WEIGHTS);
    let stage_one_done = stage_one_weights.is_file()
        && match options.stages {
            Stages::Two => options.initial.is_none(),
            Stages::One | Stages::Both => options.resume,
        };
    let first = match options.stages {
        Stages::Two => Stage::Two,
        Stages::One | Stages::Both => Stage::One,
    };
    if stage_one_done {
        if first == Stage::One {
            let path = stage_one_weights.display();
            run.say(format_args!("stage one is done: {path}"));
        }
        model = init::load(model, &stage_one_weights, options.stages)?;
    } else if !run.has_checkpoint(first) {
        if let Some(path) = &config.training.init {
            let frozen = &config.training.freeze;
            let (started, lines) = init::start_from(model, path, options.stages, frozen)?;
            model = started;
            for line in lines {
                run.say(format_args!("{line}"));
            }
        } else if first == Stage::Two {
            let reason = format!(
                "stage two needs stage one's weights: give --init, or a folder with {STAGE_ONE_WEIGHTS}"
            );
            return Err(Error::Training(reason));
        }
    }

    let _lock = run.claim_folder()?;
    if let Some(command) = &options.command {
        let backend = <B::InnerBackend as BurnBackend>::name(device);
        Call::new(command, backend).append(&options.out)?;
    }

    let mut stages = Vec::new();
    let (ema, training) = (config.training.ema, &config.training);
    if first == Stage::One && !stage_one_done {
        let metrics = Shown {
            pixel: true,
            frequency: training.loss.frequency > 0.0,
            diffusion: false,
        };
        let make = |settings| StageOne::new(model.freeze(&training.freeze), ema, settings);
        let (stage, report) = run.stage(Stage::One, make, &training.stage_one, metrics, devices)?;
        model = average::learning(HiDiff::from_inner(stage.result()));
        stages.push(report);
        save(&model, config, &stage_one_weights)?;
    }

    let mut weights = stage_one_weights;
    if options.stages != Stages::One && config.model.prior != Prior::None {
        let objective = training.objective;
        let metrics = Shown {
            pixel: objective == Objective::Joint,
            frequency: objective == Objective::Joint && training.loss.frequency > 0.0,
            diffusion: true,
        };
        let make =
            |settings| StageTwo::new(model.freeze(&training.freeze), objective, ema, settings);
        let (stage, report) = run.stage(Stage::Two, make, &training.stage_two, metrics, devices)?;
        model = HiDiff::from_inner(stage.result());
        stages.push(report);
    }
    if options.stages != Stages::One || config.model.prior == Prior::None {
        weights = options.out.join(FINAL_WEIGHTS);
        model.latent_encoder = None;
        save(&model, config, &weights)?;
    }
    Ok(TrainingReport { stages, weights })
}

/// Refuses a number format that the backend does not compute in.
fn check_precision<B: AutodiffBackend>(precision: Precision, devices: &Devices<B>) -> Result<()> {
    let (dtype, name) = match precision {
        Precision::F32 => return Ok(()),
        Precision::F16 => (DType::F16, "f16"),
        Precision::Bf16 => (DType::BF16, "bf16"),
    };
    let device = devices.main();
    if B::supports_dtype(&device, dtype) {
        return Ok(());
    }
    Err(Error::Config {
        origin: B::name(&device),
        key: "training.precision".to_string(),
        reason: format!("\"{name}\": this device does not compute in it; use \"f32\""),
    })
}

/// The two stages, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    One = 1,
    Two = 2,
}

impl Stage {
    pub(super) const ALL: [Self; 2] = [Self::One, Self::Two];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "stage one",
            Self::Two => "stage two",
        }
    }

    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::One => "stage-one",
            Self::Two => "stage-two",
        }
    }
}

impl Stage {
    /// The networks that learn if none is frozen.
    fn learns(self, config: &Config) -> &'static [Network] {
        match (self, config.model.prior, config.training.objective) {
            (_, Prior::None, _) => &[Network::Transformer],
            (Self::One, ..) => &[Network::Transformer, Network::LatentEncoder],
            (Self::Two, _, Objective::Joint) => &[
                Network::Transformer,
                Network::ConditionEncoder,
                Network::Denoiser,
            ],
            (Self::Two, _, Objective::Split) => &[Network::ConditionEncoder, Network::Denoiser],
        }
    }
}

/// Refuses a stage in which nothing would learn.
fn check_frozen(config: &Config, stages: Stages) -> Result<()> {
    let guided = config.model.prior != Prior::None;
    let frozen = &config.training.freeze;
    for (stage, runs) in [
        (Stage::One, stages != Stages::Two),
        (Stage::Two, stages != Stages::One && guided),
    ] {
        let learns = stage.learns(config);
        if runs && learns.iter().all(|network| frozen.contains(network)) {
            let names: Vec<_> = learns.iter().map(|network| network.name()).collect();
            return Err(Error::Config {
                origin: stage.name().to_string(),
                key: "training.freeze".to_string(),
                reason: format!(
                    "nothing is left to learn: leave out one of {}, or this stage",
                    names.join(", ")
                ),
            });
        }
    }
    Ok(())
}

/// Which losses a stage has.
struct Shown {
    pixel: bool,
    frequency: bool,
    diffusion: bool,
}

/// What both stages share.
struct Run<'a> {
    config: &'a Config,
    options: &'a TrainingOptions,
    train: Vec<Pair>,
    sources: Vec<Source>,
    validation: Vec<ValidationSet>,
}

impl<'a> Run<'a> {
    fn prepare(config: &'a Config, options: &'a TrainingOptions) -> Result<Self> {
        if options.stages == Stages::Two && config.model.prior == Prior::None {
            return Err(Error::Training(
                "a model without a prior has no stage two".into(),
            ));
        }
        check_frozen(config, options.stages)?;
        let (data, validation) = (options.data.as_deref(), options.validation.as_deref());
        let images = config.training.validation.images;
        let TrainingPairs {
            train,
            sources,
            validation,
            reports,
        } = training_pairs(&config.data, data, validation)?;
        let run = Self {
            config,
            options,
            train,
            sources,
            validation,
        };
        run.check_folder()?;
        for report in reports {
            run.say(format_args!("{report}"));
        }
        run.say(format_args!(
            "{} pairs to train on, {} to validate on",
            run.train.len(),
            run.validation
                .iter()
                .map(|set| set.pairs.len().min(images))
                .sum::<usize>()
        ));
        Ok(run)
    }

    /// Whether the run may have its folder, with the run that is there or none.
    fn check_folder(&self) -> Result<()> {
        let path = self.options.out.join(CONFIG_FILE);
        let goes_on = self.options.resume
            || (self.options.stages == Stages::Two && !self.has_stage(Stage::Two));
        match (path.is_file(), goes_on) {
            (true, false) => {
                let reason = "a training run is here: resume it, or choose another folder";
                return Err(Error::Refused {
                    path: self.options.out.clone(),
                    reason: reason.into(),
                });
            }
            (true, true) => {
                let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
                let origin = path.display().to_string();
                let before = Config::parse(&text, &origin)?;
                let changes = resume::check(&origin, &before, self.config)?;
                if changes.is_empty() {
                    return Ok(());
                }
                self.say(format_args!("changed since the run was begun:"));
                for change in changes {
                    self.say(format_args!("  {change}"));
                }
            }
            (false, true) if self.options.resume => self.say(format_args!(
                "nothing to resume in {}: starting from the beginning",
                self.options.out.display()
            )),
            (false, _) => {}
        }
        Ok(())
    }

    /// Holds the run's folder and writes the configuration to it, once nothing is left that a user could have got wrong.
    fn claim_folder(&self) -> Result<Lock> {
        let lock = Lock::hold(&self.options.out)?;
        let path = self.options.out.join(CONFIG_FILE);
        let text = toml::to_string(self.config);
        let text = text.map_err(|error| Error::Training(error.to_string()))?;
        write_whole(&path, text.as_bytes())?;
        Ok(lock)
    }

    /// Whether the stage goes on from what it has saved, rather than from its beginning.
    fn has_checkpoint(&self, stage: Stage) -> bool {
        self.options.resume && latest(&self.options.out.join(stage.folder())).0.is_some()
    }

    fn reader(&self, pairs: &[Pair], cache_bytes: usize) -> PairReader {
        PairReader::new(pairs.to_vec(), cache_bytes).blurring(self.config.data.blur.clone())
    }

    fn has_stage(&self, stage: Stage) -> bool {
        self.options.out.join(stage.folder()).exists()
    }

    fn say(&self, text: std::fmt::Arguments<'_>) {
        if self.options.display == Display::Lines {
            println!("{text}");
        }
    }

    /// Where a stage goes on: the newest usable checkpoint, or the beginning.
    fn position(&self, stage: Stage, folder: &Path) -> Result<(Option<usize>, RunState)> {
        let start = RunState::start(self.config, fingerprint(&self.train, &self.sources));
        if !self.options.resume {
            return Ok((None, start));
        }
        let (newest, problems) = latest(folder);
        for problem in &problems {
            eprintln!("warning: {problem}; going back to the checkpoint before");
        }
        let Some(newest) = newest else {
            return Ok((None, start));
        };
        let origin = format!("checkpoint {} of {}", newest.number, stage.name());
        resume::check(&origin, &newest.state.config, self.config)?;
        if newest.state.pairs != start.pairs {
            return Err(Error::Training(
                "the training pairs are not those that the run was begun with; it cannot be resumed with others".into(),
            ));
        }
        let state = RunState {
            config: self.config.clone(),
            ..newest.state
        };
        self.say(format_args!(
            "{}: going on after iteration {}",
            stage.name(),
            state.iteration
        ));
        Ok((Some(newest.number), state))
    }

    /// Trains one stage from its newest checkpoint, or from the beginning.
    fn stage<B, M>(
        &self,
        stage: Stage,
        make: impl FnOnce(StepSettings) -> Result<M>,
        config: &StageConfig,
        shown: Shown,
        devices: &Devices<B>,
    ) -> Result<(M::InnerModule, StageReport)>
    where
        B: AutodiffBackend,
        M: TrainStep<Input = Batch<B>, Output = StepLosses<B::InnerBackend>>
            + AutodiffModule<B>
            + AfterStep
            + std::fmt::Display
            + 'static,
        M::InnerModule:
            InferenceStep<Input = ValidationImage<B::InnerBackend>, Output = ImageScore>,
    {
        let started = Instant::now();
        let training = &self.config.training;
        let settings = &training.validation;
        let interval = Interval {
            every: settings.every,
            iterations: config.iterations,
        };
        let folder = self.options.out.join(stage.folder());
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let (checkpoint, state) = self.position(stage, &folder)?;
        let (done, validate_first) = (state.iteration, !state.validated);
        let ended = state.history.ends(training.early_stopping);

        let stop = self.options.stop.clone();
        let interrupter = Interrupter::new();
        let seed = seed_at(training.seed, Purpose::Stage, stage as u64, 0);
        let noise = self.noise_shape();
        let stream = SampleStream::new(
            self.reader(&self.train, DEFAULT_CACHE_BYTES),
            self.sources.clone(),
            StreamConfig {
                seed,
                iterations: config.iterations,
                patches: config.patches.clone(),
                augment: self.config.data.augment,
                noise_len: noise.values(),
                timesteps: self.config.diffusion.timesteps,
            },
        )?;
        let loader = PatchLoader::<B>::new(
            Arc::new(stream),
            PatchLoaderSettings {
                every: settings.every,
                workers: self.config.data.workers,
                noise,
                stop: stop.clone(),
            },
            done,
            validate_first,
            devices.main(),
        );
        let validation = ValidationLoader::<B::InnerBackend>::new(
            self.reader(
                &self
                    .validation
                    .iter()
                    .flat_map(|set| set.pairs.clone())
                    .collect::<Vec<_>>(),
                DEFAULT_CACHE_BYTES / 4,
            ),
            &self
                .validation
                .iter()
                .map(|set| set.pairs.len())
                .collect::<Vec<_>>(),
            [settings.images, settings.pictures],
            seed,
            noise,
            stop.clone(),
            devices.main(),
        );
        let epochs = match ended {
            true => 0,
            false => interval.left(done) + usize::from(validate_first),
        };
        let early_stopping = EarlyStopping::new(training.early_stopping);
        let strategy = KeepLastAndBest::new(
            &folder,
            settings.keep,
            interval,
            state,
            validation.scores(),
            early_stopping.clone(),
            stop.clone(),
            interrupter.clone(),
        );

        let loss_scale = LossScale::default();
        let overflow = match training.precision {
            Precision::F16 => Overflow::Skip(loss_scale.clone()),
            Precision::F32 | Precision::Bf16 => Overflow::Stop,
        };
        let optimizer = config
            .optimizer
            .init::<M, B>(config.clip, overflow, interrupter.clone());
        let norms = optimizer.gradient_norms();
        let recorder = self.recorder(stage, config, done, &stop)?;
        let recorder = Arc::new(Mutex::new(recorder));
        let sets = self.validation.iter().map(|set| set.name.clone());
        let mut supervised =
            SupervisedTraining::new(&folder, Arc::new(loader), Arc::new(validation))
                .with_application_logger(None)
                .with_interrupter(interrupter.clone())
                .with_file_checkpointer(SealedRecorder::default())
                .with_checkpointing_strategy(strategy)
                .early_stopping(early_stopping)
                .with_metric_logger(NoFiles)
                .with_training_strategy(TrainingStrategy::Default(devices.strategy()))
                .num_epochs(checkpoint.unwrap_or(0) + epochs)
                .metric_train(StepRecording::new(recorder.clone(), norms.clone()))
                .metric_valid(ValidationRecording::new(recorder, sets))
                .metric_train_numeric(GradientNormMetric::new(norms))
                .metric_train_numeric(LearningRateMetric::new());
        supervised = match self.validation.as_slice() {
            [_] => supervised
                .metric_valid_numeric(QuantityMetric::<Psnr>::default())
                .metric_valid_numeric(QuantityMetric::<Gain>::default())
                .metric_valid_numeric(QuantityMetric::<Ssim>::default()),
            sets => sets.iter().enumerate().fold(
                supervised,
                |supervised, (set, ValidationSet { name, .. })| {
                    supervised
                        .metric_valid_numeric(QuantityMetric::<Psnr>::of_set(set, name))
                        .metric_valid_numeric(QuantityMetric::<Gain>::of_set(set, name))
                        .metric_valid_numeric(QuantityMetric::<Ssim>::of_set(set, name))
                },
            ),
        };
        if shown.pixel {
            supervised = supervised.metric_train_numeric(QuantityMetric::<PixelLoss>::default());
        }
        if shown.frequency {
            supervised =
                supervised.metric_train_numeric(QuantityMetric::<FrequencyLoss>::default());
        }
        if shown.diffusion {
            supervised =
                supervised.metric_train_numeric(QuantityMetric::<DiffusionLoss>::default());
        }
        let asking = Interrupter::new();
        supervised = match dashboard(self.options.display, &asking, checkpoint) {
            Some(dashboard) => supervised.renderer(dashboard),
            None => supervised.renderer(Nothing),
        };
        if let Some(checkpoint) = checkpoint {
            supervised = supervised.checkpoint(checkpoint);
        }

        let module = make(StepSettings {
            accumulation: config.accumulation,
            precision: training.precision,
            loss_scale,
            loss: training.loss.clone(),
        })?;
        let ddp = training.parallel == Parallel::Ddp && devices.count() > 1;
        // Burn's distributed strategy asks for the rate once a step for each of the devices.
        let scheduler = CyclicCosine::new(
            config.learning_rate.clone(),
            if ddp { devices.count() } else { 1 },
        );
        let watch = Watch::start(asking, stop.clone());
        let result = supervised.launch(Learner::new(module, optimizer, scheduler));
        drop(watch);
        self.check_end(stage, &folder, &stop, &interrupter)?;
        let state = checkpoint::prune(&folder, settings.keep);
        let (done, history) = match state {
            Some(state) => (state.iteration, state.history),
            None => (config.iterations, History::default()),
        };
        let mut report = StageReport {
            name: stage.name(),
            iterations: done,
            ended_early: done < config.iterations,
            last: history.0.last().copied(),
            best: history.best(),
            result: done,
            elapsed: started.elapsed(),
        };
        if report.ended_early {
            self.say(format_args!(
                "{}: ended early after iteration {done}: no better score in {} validations",
                stage.name(),
                training.early_stopping
            ));
        }
        let best = report.best.filter(|best| best.iteration != done);
        let Some(best) = best.filter(|_| training.result == StageResult::Best) else {
            return Ok((result.model, report));
        };
        report.result = best.iteration;
        let record = checkpoint::module::<B::InnerBackend, M::InnerModule>(
            &folder,
            best.checkpoint,
            &devices.main(),
        )
        .map_err(|reason| {
            let advice = "resume with training.result = \"last\" to do without it";
            Error::Training(format!(
                "the best checkpoint cannot be read; {advice}: {reason}"
            ))
        })?;
        Ok((result.model.load_record(record), report))
    }

    /// The log of a stage, to all places where it goes.
    fn recorder(
        &self,
        stage: Stage,
        config: &StageConfig,
        done: usize,
        stop: &Stop,
    ) -> Result<Recorder> {
        let out = &self.options.out;
        let number = stage as u8;
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(JsonLines::open(out.join(LOG), number, done)?),
            Box::new(TensorBoard::create(
                out.join(TENSORBOARD),
                stage.folder(),
                done,
            )?),
            Box::new(Pictures::new(out.join(stage.folder()).join(PICTURES))),
        ];
        if self.options.display == Display::Lines {
            sinks.push(Box::new(Lines::new(stdout())));
        }
        // The last, since it is to find what the others write.
        if let Some(hook) = self.options.after_validation.clone() {
            let folder = out.clone();
            sinks.push(Box::new(AfterValidation { hook, folder }));
        }
        let stop = stop.clone();
        let on_failure: OnFailure = Arc::new(move |error| stop.fail(error, None));
        let log_every = self.config.training.validation.log_every;
        Ok(Recorder::new(
            number, config, log_every, done, sinks, on_failure,
        ))
    }

    /// An error unless the stage has come to its end.
    fn check_end(
        &self,
        stage: Stage,
        folder: &Path,
        stop: &Stop,
        interrupter: &Interrupter,
    ) -> Result<()> {
        let reason = match stop.take_failure() {
            Some(error) => error.to_string(),
            None if stop.is_asked() => "interrupted".to_string(),
            None if interrupter.should_stop() => interrupter
                .get_message()
                .unwrap_or_else(|| "stopped".to_string()),
            None => return Ok(()),
        };
        let saved = latest(folder).0.map(|newest| newest.state.iteration);
        let next = match saved {
            Some(iteration) => format!(
                "{} is saved up to iteration {iteration}: the same command with --resume goes on from there",
                stage.name()
            ),
            None => "no checkpoint has been written yet: --resume begins anew".to_string(),
        };
        Err(Error::Stopped {
            what: "training",
            reason,
            next,
        })
    }

    fn noise_shape(&self) -> NoiseShape {
        let model = &self.config.model;
        let draws = 1 + crate::diffusion::Sampler::new(&self.config.diffusion).noise_steps();
        NoiseShape {
            draws,
            tokens: model.prior_tokens(),
            channels: model.prior_channels(),
        }
    }
}

/// A number that other pairs, or the same in another order, or with other weights of their sources, do not have.
fn fingerprint(pairs: &[Pair], sources: &[Source]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for pair in pairs {
        hasher.update(pair.name.as_bytes());
        hasher.update(&[0]);
        hasher.update(&(pair.width as u64).to_le_bytes());
        hasher.update(&(pair.height as u64).to_le_bytes());
        if pair.blur.is_none() {
            hasher.update(b"sharp");
        }
    }
    // Of a single source, neither the length nor the weight says anything more.
    for source in sources.iter().skip(1) {
        hasher.update(&(source.pairs as u64).to_le_bytes());
        hasher.update(&(source.weight / sources[0].weight).to_le_bytes());
    }
    (pairs.len() as u64) << 32 | u64::from(hasher.finalize())
}

/// Writes the networks that a model has. The run's folder is its own, so what is there is replaced.
fn save<B: AutodiffBackend>(model: &HiDiff<B>, config: &Config, path: &Path) -> Result<()> {
    save_safetensors(
        path,
        config,
        &StateDict::of_model(model),
        Stored::Full,
        true,
    )
}
