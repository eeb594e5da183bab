//! The `[training]` table. It stands here, since it is read by builds that do not train too.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checks::Check;
use crate::error::Result;
use crate::model::Network;

/// How the two stages are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Seed of the weights, the patches and the noise.
    pub seed: u64,
    /// LE and Transformer together (paper, section 3.1).
    pub stage_one: StageConfig,
    /// Transformer, LE_DM and denoiser (paper, section 3.2).
    pub stage_two: StageConfig,
    /// Whether stage two trains the Transformer with the diffusion, or the diffusion alone by Eq. 7.
    pub objective: Objective,
    /// What both stages minimise.
    pub loss: LossConfig,
    /// Weights to start from, of perhaps another configuration: what fits is taken. `--init` replaces it.
    pub init: Option<PathBuf>,
    /// Networks whose weights stay as they are, in either stage.
    pub freeze: Vec<Network>,
    /// Decay of the running average of the weights; 0 for none. With an average, it is what is validated and what
    /// becomes the weight file.
    pub ema: f64,
    /// Which weights a stage results in.
    pub result: StageResult,
    /// A stage ends when so many validations in a row have not raised the best score; 0 for never.
    pub early_stopping: usize,
    /// Number format of the Transformer's activations in training. Weights, optimiser, diffusion and losses stay in
    /// single precision.
    pub precision: TrainingPrecision,
    /// Whether the backward pass computes cheap activations again instead of keeping them: less memory, more time.
    pub gradient_checkpointing: bool,
    /// The devices that share each step's batch, by number.
    pub devices: Vec<usize>,
    /// How several devices work together.
    pub parallel: Parallel,
    /// Validation during training.
    pub validation: ValidationConfig,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            stage_one: StageConfig::default(),
            stage_two: StageConfig::default(),
            objective: Objective::Joint,
            loss: LossConfig::default(),
            init: None,
            freeze: Vec::new(),
            ema: 0.0,
            result: StageResult::Last,
            early_stopping: 0,
            precision: TrainingPrecision::F32,
            gradient_checkpointing: false,
            devices: vec![0],
            parallel: Parallel::Gather,
            validation: ValidationConfig::default(),
        }
    }
}

/// Which weights a stage results in: what becomes the weight file, and what stage two starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageResult {
    /// Those after the last step.
    #[default]
    Last,
    /// Those of the validation with the highest score, the latest among equals.
    Best,
}

/// Number format of activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingPrecision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision; a step whose gradient is not finite is left out.
    F16,
    /// The half-size format with single precision's range.
    Bf16,
}

/// How several devices work together. Either way each takes its part of a step's batch, and the gradient is the mean
/// over the whole batch, as on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parallel {
    /// The first device gathers the gradients and makes the step (Burn's multi-device strategy).
    #[default]
    Gather,
    /// Every device has the optimiser, and the gradients are reduced among them (Burn's distributed-data-parallel
    /// strategy; CUDA with the feature `ddp`).
    Ddp,
}

/// Of what the losses are made. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Between output and sharp image.
    pub pixel: PixelLossKind,
    /// Weight of the difference of output and sharp image in the frequency domain, beside the pixel loss's 1.
    pub frequency: f64,
    /// Weight of the difference of each channel's mean light, beside the pixel loss's 1.
    pub light: f64,
    /// Weight of stage two's `L1(z, ẑ)` with the objective [`Joint`](Objective::Joint).
    pub prior: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            pixel: PixelLossKind::L1,
            frequency: 0.0,
            light: 0.0,
            prior: 1.0,
        }
    }
}

/// How output and sharp image are compared, pixel by pixel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelLossKind {
    /// The mean absolute difference (the paper).
    #[default]
    L1,
    /// The mean of `√(d² + 0.001²)`, d the difference.
    Charbonnier,
}

/// What stage two optimises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// `L1(output, sharp) + L1(z, ẑ)` through the whole reverse chain.
    #[default]
    Joint,
    /// Eq. 7 alone; the Transformer stays as stage one left it (ablation "Split-Training").
    Split,
}

/// One training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageConfig {
    /// Optimiser steps.
    pub iterations: usize,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The learning rate by iteration.
    pub learning_rate: LearningRateConfig,
    /// Bound of the gradient's norm over all parameters; 0 for none.
    pub clip: f64,
    /// Parts into which a step's batch is cut, one after the other, to save memory. The gradient is that of the whole
    /// batch.
    pub accumulation: usize,
    /// Patch and batch size by iteration: each entry holds for its `iterations`, the last one to the end.
    pub patches: Vec<PatchConfig>,
}

impl Default for StageConfig {
    fn default() -> Self {
        let patch = |patch, batch, iterations| PatchConfig {
            patch,
            batch,
            iterations,
        };
        Self {
            iterations: 300_000,
            optimizer: OptimizerConfig::default(),
            learning_rate: LearningRateConfig::default(),
            clip: 0.01,
            accumulation: 1,
            patches: vec![
                patch(128, 64, 20_000),
                patch(160, 40, 20_000),
                patch(192, 32, 20_000),
                patch(256, 16, 20_000),
                patch(320, 8, 20_000),
                patch(384, 8, 200_000),
            ],
        }
    }
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (the release).
    #[default]
    Adamw,
    /// Adam (the paper).
    Adam,
    /// Muon for the weights that are matrices, AdamW for the others.
    Muon,
}

/// The optimiser and its constants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which optimiser.
    pub kind: OptimizerKind,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay; none with `adam`.
    pub weight_decay: f64,
    /// With `muon`: the matrices' learning rate, as a multiple of the others'.
    pub matrices: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adamw,
            betas: [0.9, 0.999],
            weight_decay: 1e-4,
            matrices: 3.0,
        }
    }
}

/// Cosine annealing in cycles: within cycle i the rate falls from `initial · restart_weights[i]` to `minima[i]`
/// over `periods[i]` iterations. During the first `warm_up` iterations it rises instead, from nothing to `initial`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningRateConfig {
    /// The rate at the start.
    pub initial: f64,
    /// Iterations of each cycle.
    pub periods: Vec<usize>,
    /// The factor on `initial` at the start of each cycle.
    pub restart_weights: Vec<f64>,
    /// The rate at the end of each cycle.
    pub minima: Vec<f64>,
    /// Iterations of linear warm-up.
    pub warm_up: usize,
}

impl Default for LearningRateConfig {
    fn default() -> Self {
        Self {
            initial: 2e-4,
            periods: vec![100_000, 200_000],
            restart_weights: vec![1.0, 1.0],
            minima: vec![2e-4, 1e-6],
            warm_up: 0,
        }
    }
}

/// Patch and batch size for a number of iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// Side of the square patches in pixels, a multiple of 8.
    pub patch: usize,
    /// Patches in a step, over all devices.
    pub batch: usize,
    /// Iterations before the next entry.
    pub iterations: usize,
}

/// Validation, checkpoints and log lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Iterations between validations; each ends with a checkpoint.
    pub every: usize,
    /// At most this many images are deblurred.
    pub images: usize,
    /// Iterations between log lines.
    pub log_every: usize,
    /// Checkpoints kept, besides the best.
    pub keep: usize,
    /// Of how many images blur, output and sharp are kept side by side, at each validation.
    pub pictures: usize,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            every: 4_000,
            images: 64,
            log_every: 100,
            keep: 2,
            pictures: 2,
        }
    }
}

impl TrainingConfig {
    pub(crate) fn validate(&self, check: &Check) -> Result<()> {
        self.stage_one.validate(check, "training.stage_one")?;
        self.stage_two.validate(check, "training.stage_two")?;
        let loss = &self.loss;
        check.number("training.loss.frequency", loss.frequency, 0.0, f64::MAX)?;
        check.number("training.loss.light", loss.light, 0.0, f64::MAX)?;
        check.number("training.loss.prior", loss.prior, 0.0, f64::MAX)?;
        let validation = &self.validation;
        check.size("training.validation.every", validation.every, 1, usize::MAX)?;
        check.size(
            "training.validation.images",
            validation.images,
            1,
            usize::MAX,
        )?;
        check.size(
            "training.validation.log_every",
            validation.log_every,
            1,
            usize::MAX,
        )?;
        check.size("training.validation.keep", validation.keep, 1, usize::MAX)?;
        check.that(
            (0.0..1.0).contains(&self.ema),
            "training.ema",
            self.ema,
            "a number from 0 to below 1",
        )?;
        check.that(
            !self.devices.is_empty(),
            "training.devices",
            &self.devices,
            "one or more device numbers",
        )?;
        check.that(
            self.parallel == Parallel::Gather || self.precision == TrainingPrecision::F32,
            "training.precision",
            self.precision,
            "\"f32\" with `parallel = \"ddp\"`",
        )?;
        check.that(
            self.parallel == Parallel::Gather || self.early_stopping == 0,
            "training.early_stopping",
            self.early_stopping,
            "0 with `parallel = \"ddp\"`, whose devices would not end together",
        )?;
        let stages = [
            ("stage_one", &self.stage_one),
            ("stage_two", &self.stage_two),
        ];
        for (stage, config) in stages {
            for (index, entry) in config.patches.iter().enumerate() {
                check.that(
                    entry.batch >= self.devices.len(),
                    &format!("training.{stage}.patches[{index}].batch"),
                    entry.batch,
                    "at least one patch for each of training.devices",
                )?;
            }
        }
        Ok(())
    }
}

impl StageConfig {
    pub(crate) fn validate(&self, check: &Check, stage: &str) -> Result<()> {
        let key = |name: &str| format!("{stage}.{name}");
        check.size(&key("iterations"), self.iterations, 1, usize::MAX)?;
        check.number(&key("clip"), self.clip, 0.0, f64::MAX)?;
        check.size(&key("accumulation"), self.accumulation, 1, usize::MAX)?;
        let moment = |beta: f64| (0.0..1.0).contains(&beta);
        check.that(
            self.optimizer.betas.into_iter().all(moment),
            &key("optimizer.betas"),
            self.optimizer.betas,
            "two numbers from 0 to below 1",
        )?;
        let decay = self.optimizer.weight_decay;
        check.number(&key("optimizer.weight_decay"), decay, 0.0, f64::MAX)?;
        let matrices = self.optimizer.matrices;
        check.number(&key("optimizer.matrices"), matrices, 1e-6, 1e6)?;

        let rate = &self.learning_rate;
        check.number(&key("learning_rate.initial"), rate.initial, 0.0, f64::MAX)?;
        check.that(
            !rate.periods.is_empty() && rate.periods.iter().all(|&period| period > 0),
            &key("learning_rate.periods"),
            &rate.periods,
            "one or more cycles of one or more iterations",
        )?;
        for (name, values) in [
            ("restart_weights", &rate.restart_weights),
            ("minima", &rate.minima),
        ] {
            check.that(
                values.len() == rate.periods.len() && values.iter().all(|value| *value >= 0.0),
                &key(&format!("learning_rate.{name}")),
                values,
                "a number that is not negative for each of the periods",
            )?;
        }

        check.that(
            !self.patches.is_empty(),
            &key("patches"),
            &self.patches,
            "one or more",
        )?;
        for (index, entry) in self.patches.iter().enumerate() {
            let key = |name: &str| format!("{stage}.patches[{index}].{name}");
            check.that(
                entry.patch > 0 && entry.patch.is_multiple_of(8),
                &key("patch"),
                entry.patch,
                "a multiple of 8",
            )?;
            check.size(&key("batch"), entry.batch, 1, usize::MAX)?;
            check.size(&key("iterations"), entry.iterations, 1, usize::MAX)?;
        }
        Ok(())
    }
}
