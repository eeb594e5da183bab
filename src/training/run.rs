//! A training run, from folders of photographs to a weight file.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use burn::module::{AutodiffModule, Module};
use burn::tensor::DType;
use burn::tensor::backend::{AutodiffBackend, Backend};

use super::average;
use super::calls::Call;
use super::checkpoint::{latest, write_whole};
use super::devices::Devices;
use super::init;
use super::learner::StageRun;
use super::options::{Display, TrainingOptions, TrainingReport};
use super::resume;
use super::stack;
use super::stage::{Stage, Stages};
use super::stage_one::StageOne;
use super::stage_two::StageTwo;
use crate::config::{Config, Prior, TrainingPrecision};
use crate::data::pairs::{Pair, Source, TrainingPairs, ValidationSet, training_pairs};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::model::HiDiff;
use crate::weights::{Precision, StateDict, save_safetensors};

/// What a run leaves in its folder, beside a folder for each stage.
pub(crate) const CONFIG_FILE: &str = "config.toml";
pub(crate) const STAGE_ONE_WEIGHTS: &str = "stage-one.safetensors";
pub(crate) const FINAL_WEIGHTS: &str = "model.safetensors";
pub(crate) const LOG: &str = "log.jsonl";
pub(super) const TENSORBOARD: &str = "tensorboard";
pub(crate) const PICTURES: &str = "pictures";

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
    stack::with_room("training", || train_here(config, options, devices))
        .map_err(|error| Error::Training(error.to_string()))?
}

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
        let backend = <B::InnerBackend as Backend>::name(device);
        Call::new(command, backend).append(&options.out)?;
    }

    let mut stages = Vec::new();
    let (ema, training) = (config.training.ema, &config.training);
    if first == Stage::One && !stage_one_done {
        let make = |settings| StageOne::new(model.freeze(&training.freeze), ema, settings);
        let (stage, report) = StageRun::new(&run, Stage::One).train(make, devices)?;
        model = average::learning(HiDiff::from_inner(stage.result()));
        stages.push(report);
        save(&model, config, &stage_one_weights)?;
    }

    let mut weights = stage_one_weights;
    if options.stages.include(Stage::Two, config.model.prior) {
        let objective = training.objective;
        let make =
            |settings| StageTwo::new(model.freeze(&training.freeze), objective, ema, settings);
        let (stage, report) = StageRun::new(&run, Stage::Two).train(make, devices)?;
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
fn check_precision<B: AutodiffBackend>(
    precision: TrainingPrecision,
    devices: &Devices<B>,
) -> Result<()> {
    let (dtype, name) = match precision {
        TrainingPrecision::F32 => return Ok(()),
        TrainingPrecision::F16 => (DType::F16, "f16"),
        TrainingPrecision::Bf16 => (DType::BF16, "bf16"),
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

/// What both stages share.
pub(super) struct Run<'a> {
    pub config: &'a Config,
    pub options: &'a TrainingOptions,
    pub train: Vec<Pair>,
    pub sources: Vec<Source>,
    pub validation: Vec<ValidationSet>,
}

impl<'a> Run<'a> {
    fn prepare(config: &'a Config, options: &'a TrainingOptions) -> Result<Self> {
        options.stages.check(config)?;
        let (data, validation) = (options.data.as_deref(), options.validation.as_deref());
        let images = config.training.validation.images;
        let TrainingPairs {
            train,
            sources,
            validation,
            reports,
            unreadable,
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
        if options.display == Display::Lines {
            for image in unreadable {
                eprintln!("warning: {image}; its pair is passed over");
            }
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

    fn has_stage(&self, stage: Stage) -> bool {
        self.options.out.join(stage.folder()).exists()
    }

    /// A training goes on when its standard output is closed.
    pub fn say(&self, text: std::fmt::Arguments<'_>) {
        if self.options.display == Display::Lines {
            writeln!(stdout(), "{text}").ok();
        }
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
