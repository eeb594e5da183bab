//! A training run, from folders of photographs to a weight file.

use std::fs;
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::module::{AutodiffModule, Module};
use burn::train::metric::LearningRateMetric;
use burn::train::{InferenceStep, Interrupter, Learner, SupervisedTraining, TrainStep};

use super::checkpoint::{
    History, KeepLastAndBest, Validation, WholeFileRecorder, latest, write_whole,
};
use super::display::{Lines, Schedule};
use super::learning_rate::CyclicCosine;
use super::metrics::{
    DiffusionLoss, GradientNormMetric, ImageScore, PixelLoss, Psnr, QuantityMetric, StepLosses,
};
use super::stage_one::StageOne;
use super::stage_two::StageTwo;
use crate::backend::AutodiffBackend;
use crate::config::{Config, Objective, Prior, StageConfig};
use crate::data::dataset::{DEFAULT_CACHE_BYTES, PairReader, SampleStream, StreamConfig};
use crate::data::layout::Part;
use crate::data::loader::{
    Batch, NoiseShape, OnFailure, PatchLoader, PatchLoaderSettings, ValidationImage,
    ValidationLoader,
};
use crate::data::pairs::{Pair, find_pairs, split_for_validation};
use crate::data::random::{Purpose, seed_at};
use crate::error::{Error, Result};
use crate::model::HiDiff;
use crate::weights::{LoadOptions, Network, Precision, StateDict, Weights, save_safetensors};

/// What a run leaves in its folder, beside a folder for each stage.
const CONFIG_FILE: &str = "config.toml";
const STAGE_ONE_WEIGHTS: &str = "stage-one.safetensors";
const FINAL_WEIGHTS: &str = "model.safetensors";

/// What to train, besides what the configuration says.
#[derive(Debug, Clone)]
pub struct TrainingOptions {
    /// Folder of the training pairs; replaces `data.train`.
    pub data: Option<PathBuf>,
    /// Folder of the validation pairs; replaces `data.validation`.
    pub validation: Option<PathBuf>,
    /// Folder that the run is written to.
    pub out: PathBuf,
    /// The stages to run.
    pub stages: Stages,
    /// Whether to go on with the run that `out` holds.
    pub resume: bool,
    /// Weights to start from: of LE and the Transformer for stage one, of stage one's result for stage two alone.
    pub initial: Option<PathBuf>,
    /// How progress is shown.
    pub display: Display,
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
    /// The last validation.
    pub last: Option<Validation>,
    /// The validation with the highest PSNR.
    pub best: Option<Validation>,
    /// Time spent in this call.
    pub elapsed: Duration,
}

/// Trains a model as `config` says and writes its weights.
///
/// In `options.out` lie afterwards `config.toml`, for each stage a folder with checkpoints and Burn's metric logs,
/// `stage-one.safetensors` with LE, and `model.safetensors`, the result. Checkpoints are written after every
/// `training.validation.every` iterations, and a resumed run goes on from the newest.
///
/// # Errors
/// [`Error::Data`] for pairs that do not match, [`Error::Refused`] if `out` holds a run and `resume` is false,
/// [`Error::Training`] if there is nothing to resume or the training was stopped, [`Error::Config`] if the
/// configuration lacks what is needed or differs from that of the run to resume; and errors of files and images.
pub fn train<B: AutodiffBackend>(
    config: &Config,
    options: &TrainingOptions,
    device: &B::Device,
) -> Result<TrainingReport> {
    let run = Run::prepare(config, options)?;
    B::seed(device, config.training.seed);
    // Forking initialises every parameter now and in order, so that the weights depend on the seed alone.
    let mut model = config.init_training::<B>(device).fork(device);
    if let Some(path) = &options.initial {
        model = load(model, path, options.stages)?;
    }

    let mut stages = Vec::new();
    let stage_one_weights = options.out.join(STAGE_ONE_WEIGHTS);
    if options.stages != Stages::Two {
        if options.resume && stage_one_weights.is_file() {
            run.say(format_args!(
                "stage one is done: {}",
                stage_one_weights.display()
            ));
            model = load(model, &stage_one_weights, options.stages)?;
        } else {
            let metrics = Shown {
                pixel: true,
                diffusion: false,
            };
            let (stage, report) = run.stage(
                Stage::One,
                StageOne::new(model),
                &config.training.stage_one,
                metrics,
                device,
            )?;
            model = HiDiff::from_inner(stage.model);
            stages.push(report);
            save(&model, config, &stage_one_weights)?;
        }
    } else if options.initial.is_none() {
        if !stage_one_weights.is_file() {
            let reason = format!(
                "stage two needs stage one's weights: give --init, or a folder with {STAGE_ONE_WEIGHTS}"
            );
            return Err(Error::Training(reason));
        }
        model = load(model, &stage_one_weights, options.stages)?;
    }

    let mut weights = stage_one_weights;
    if options.stages != Stages::One && config.model.prior != Prior::None {
        let objective = config.training.objective;
        let metrics = Shown {
            pixel: objective == Objective::Joint,
            diffusion: true,
        };
        let stage = StageTwo::new(model, objective);
        let (stage, report) = run.stage(
            Stage::Two,
            stage,
            &config.training.stage_two,
            metrics,
            device,
        )?;
        model = HiDiff::from_inner(stage.model);
        stages.push(report);
    }
    if options.stages != Stages::One || config.model.prior == Prior::None {
        weights = options.out.join(FINAL_WEIGHTS);
        model.latent_encoder = None;
        save(&model, config, &weights)?;
    }
    Ok(TrainingReport { stages, weights })
}

/// The two stages, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    One = 1,
    Two = 2,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::One => "stage one",
            Self::Two => "stage two",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::One => "stage-one",
            Self::Two => "stage-two",
        }
    }
}

/// Which losses a stage has.
struct Shown {
    pixel: bool,
    diffusion: bool,
}

/// What both stages share.
struct Run<'a> {
    config: &'a Config,
    options: &'a TrainingOptions,
    train: Vec<Pair>,
    validation: Vec<Pair>,
}

impl<'a> Run<'a> {
    fn prepare(config: &'a Config, options: &'a TrainingOptions) -> Result<Self> {
        if options.stages == Stages::Two && config.model.prior == Prior::None {
            return Err(Error::Training(
                "a model without a prior has no stage two".into(),
            ));
        }
        let data = options.data.as_ref().or(config.data.train.as_ref());
        let data = data.ok_or_else(|| Error::Training("no folder of training pairs".into()))?;
        let layout = config.data.layout;
        let found = find_pairs(data, layout, Part::Train)?;
        let mut reports = vec![found.to_string()];
        let validation = options
            .validation
            .as_ref()
            .or(config.data.validation.as_ref());
        let (train, validation) = match validation {
            Some(folder) => {
                let held_out = find_pairs(folder, layout, Part::Test)?;
                reports.push(held_out.to_string());
                (found.pairs, held_out.pairs)
            }
            None => split_for_validation(found.pairs, config.data.validation_share),
        };
        let run = Self {
            config,
            options,
            train,
            validation,
        };
        run.claim_folder()?;
        for report in reports {
            run.say(format_args!("{report}"));
        }
        run.say(format_args!(
            "{} pairs to train on, {} to validate on",
            run.train.len(),
            run.validation.len().min(config.training.validation.images)
        ));
        Ok(run)
    }

    /// Writes the configuration to the run's folder, or compares it with what is there.
    fn claim_folder(&self) -> Result<()> {
        let path = self.options.out.join(CONFIG_FILE);
        match (path.is_file(), self.options.resume) {
            (false, true) => {
                let reason = format!("nothing to resume: there is no {}", path.display());
                Err(Error::Training(reason))
            }
            (true, true) => self.check_resumable(&path),
            (true, false) if self.options.stages != Stages::Two || self.has_stage(Stage::Two) => {
                let reason = "a training run is here: resume it, or choose another folder";
                Err(Error::Refused {
                    path: self.options.out.clone(),
                    reason: reason.into(),
                })
            }
            (true, false) => self.check_resumable(&path),
            (false, false) => {
                let text = toml::to_string(self.config);
                let text = text.map_err(|error| Error::Training(error.to_string()))?;
                write_whole(&path, text.as_bytes())
            }
        }
    }

    fn has_stage(&self, stage: Stage) -> bool {
        self.options.out.join(stage.folder()).exists()
    }

    /// Refuses to resume with another model, or with other positions in the run.
    fn check_resumable(&self, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let before = Config::parse(&text, &path.display().to_string())?;
        let now = self.config;
        let same = [
            ("model", before.model == now.model),
            ("diffusion", before.diffusion == now.diffusion),
            ("training.seed", before.training.seed == now.training.seed),
            (
                "training.validation.every",
                before.training.validation.every == now.training.validation.every,
            ),
            (
                "training.stage_one.patches",
                before.training.stage_one.patches == now.training.stage_one.patches,
            ),
            (
                "training.stage_two.patches",
                before.training.stage_two.patches == now.training.stage_two.patches,
            ),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((key, _)) => Err(Error::Config {
                origin: path.display().to_string(),
                key: key.to_string(),
                reason: "the run was begun with another value; it cannot be resumed with this one"
                    .to_string(),
            }),
        }
    }

    fn say(&self, text: std::fmt::Arguments<'_>) {
        if self.options.display == Display::Lines {
            println!("{text}");
        }
    }

    /// Trains one stage from its newest checkpoint, or from the beginning.
    fn stage<B, M>(
        &self,
        stage: Stage,
        module: M,
        config: &StageConfig,
        shown: Shown,
        device: &B::Device,
    ) -> Result<(M::InnerModule, StageReport)>
    where
        B: AutodiffBackend,
        M: TrainStep<Input = Batch<B>, Output = StepLosses<B::InnerBackend>>
            + AutodiffModule<B>
            + std::fmt::Display
            + 'static,
        M::InnerModule:
            InferenceStep<Input = ValidationImage<B::InnerBackend>, Output = ImageScore>,
    {
        let started = Instant::now();
        let settings = &self.config.training.validation;
        let (every, iterations) = (settings.every, config.iterations);
        let folder = self.options.out.join(stage.folder());
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let checkpoint = if self.options.resume {
            latest(&folder)
        } else {
            None
        };
        let done = (checkpoint.unwrap_or(0) * every).min(iterations);
        if done > 0 {
            self.say(format_args!(
                "{}: going on after iteration {done}",
                stage.name()
            ));
        }

        let interrupter = Interrupter::new();
        let failure = Failure::new(interrupter.clone());
        let seed = seed_at(self.config.training.seed, Purpose::Stage, stage as u64, 0);
        let noise = self.noise_shape();
        let stream = SampleStream::new(
            PairReader::new(self.train.clone(), DEFAULT_CACHE_BYTES),
            StreamConfig {
                seed,
                iterations,
                patches: config.patches.clone(),
                augment: self.config.data.augment,
                noise_len: noise.values(),
                timesteps: self.config.diffusion.timesteps,
            },
        )?;
        let loader = PatchLoader::<B>::new(
            Arc::new(stream),
            PatchLoaderSettings {
                every,
                workers: self.config.data.workers,
                noise,
                on_failure: failure.handler(),
            },
            done,
            device.clone(),
        );
        let validation = ValidationLoader::<B::InnerBackend>::new(
            PairReader::new(self.validation.clone(), DEFAULT_CACHE_BYTES / 4),
            settings.images,
            seed,
            noise,
            failure.handler(),
            device.clone(),
        );
        let strategy = KeepLastAndBest::new(
            &folder,
            settings.keep,
            every,
            iterations,
            validation.scores(),
            failure.handler(),
        );

        let optimizer = config
            .optimizer
            .init::<M, B>(config.clip, interrupter.clone());
        let norm = optimizer.gradient_norm();
        let mut training = SupervisedTraining::new(&folder, Arc::new(loader), Arc::new(validation))
            .with_application_logger(None)
            .with_interrupter(interrupter.clone())
            .with_file_checkpointer(WholeFileRecorder::default())
            .with_checkpointing_strategy(strategy)
            .num_epochs(iterations.div_ceil(every))
            .metric_train_numeric(GradientNormMetric::new(norm))
            .metric_train_numeric(LearningRateMetric::new())
            .metric_valid_numeric(QuantityMetric::<Psnr>::default());
        if shown.pixel {
            training = training.metric_train_numeric(QuantityMetric::<PixelLoss>::default());
        }
        if shown.diffusion {
            training = training.metric_train_numeric(QuantityMetric::<DiffusionLoss>::default());
        }
        let lines = |out| {
            let schedule = Schedule::new(config, every);
            Lines::new(out, stage.name(), schedule, settings.log_every, done)
        };
        training = match self.options.display {
            Display::Dashboard => training,
            Display::Lines => training.renderer(lines(Box::new(stdout()) as Out)),
            Display::Quiet => training.renderer(lines(Box::new(std::io::sink()) as Out)),
        };
        if let Some(checkpoint) = checkpoint {
            training = training.checkpoint(checkpoint);
        }

        let scheduler = CyclicCosine::new(config.learning_rate.clone());
        let result = training.launch(Learner::new(module, optimizer, scheduler));
        failure.into_result()?;

        let history = History::load(&folder, usize::MAX);
        let report = StageReport {
            name: stage.name(),
            iterations,
            last: history.0.last().copied(),
            best: history.best(),
            elapsed: started.elapsed(),
        };
        Ok((result.model, report))
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

type Out = Box<dyn std::io::Write + Send + Sync>;

/// What went wrong on a thread that cannot return an error; it stops the training.
struct Failure {
    first: Arc<Mutex<Option<Error>>>,
    interrupter: Interrupter,
}

impl Failure {
    fn new(interrupter: Interrupter) -> Self {
        Self {
            first: Arc::default(),
            interrupter,
        }
    }

    fn handler(&self) -> OnFailure {
        let (first, interrupter) = (Arc::clone(&self.first), self.interrupter.clone());
        Arc::new(move |error| {
            interrupter.stop(Some(&error.to_string()));
            first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        })
    }

    fn into_result(self) -> Result<()> {
        if let Some(error) = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            return Err(error);
        }
        if self.interrupter.should_stop() {
            let reason = self.interrupter.get_message();
            let reason = reason.unwrap_or_else(|| "stopped".to_string());
            return Err(Error::Training(format!(
                "{reason}; --resume goes on from the last checkpoint"
            )));
        }
        Ok(())
    }
}

/// Loads the networks that a weight file has. LE_DM and the denoiser may be missing, since stage two makes them; for
/// stage two alone LE must be there.
fn load<B: AutodiffBackend>(
    mut model: HiDiff<B>,
    path: &Path,
    stages: Stages,
) -> Result<HiDiff<B>> {
    let weights = Weights::open(path)?;
    let present = weights.networks();
    let needed = |network| match network {
        Network::Transformer => true,
        Network::LatentEncoder => stages == Stages::Two,
        Network::ConditionEncoder | Network::Denoiser => false,
    };
    let options = LoadOptions::default();
    for network in Network::ALL {
        if !needed(network) && !present.contains(&network) {
            continue;
        }
        match network {
            Network::Transformer => weights.apply(network, &mut model.transformer, &options)?,
            Network::LatentEncoder => apply(&weights, network, &mut model.latent_encoder)?,
            Network::ConditionEncoder => apply(&weights, network, &mut model.condition_encoder)?,
            Network::Denoiser => apply(&weights, network, &mut model.denoiser)?,
        }
    }
    Ok(model)
}

fn apply<B: AutodiffBackend, M: Module<B>>(
    weights: &Weights,
    network: Network,
    module: &mut Option<M>,
) -> Result<()> {
    match module {
        Some(module) => weights.apply(network, module, &LoadOptions::default()),
        None => Ok(()),
    }
}

/// Writes the networks that a model has. The run's folder is its own, so what is there is replaced.
fn save<B: AutodiffBackend>(model: &HiDiff<B>, config: &Config, path: &Path) -> Result<()> {
    save_safetensors(
        path,
        config,
        &StateDict::of_model(model),
        Precision::Full,
        true,
    )
}
