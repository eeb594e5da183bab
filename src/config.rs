//! The TOML configuration: the model, its diffusion, the data and the training.
//!
//! Every key has a default, the published GoPro model's, so a file says only what differs. Unknown keys, wrong
//! types and impossible values are errors that name the key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub mod blur;

use crate::error::{Error, Result};
use blur::BlurModel;

/// The presets of `configs/`, by file name.
const PRESETS: &[(&str, &str)] = &[
    ("gopro", include_str!("../configs/gopro.toml")),
    ("realblur-j", include_str!("../configs/realblur-j.toml")),
    ("realblur-r", include_str!("../configs/realblur-r.toml")),
    ("hi-diff-2", include_str!("../configs/hi-diff-2.toml")),
    ("paper", include_str!("../configs/paper.toml")),
    ("small", include_str!("../configs/small.toml")),
    ("tiny", include_str!("../configs/tiny.toml")),
    (
        "ablation/baseline",
        include_str!("../configs/ablation/baseline.toml"),
    ),
    (
        "ablation/single-guide",
        include_str!("../configs/ablation/single-guide.toml"),
    ),
    (
        "ablation/split-training",
        include_str!("../configs/ablation/split-training.toml"),
    ),
    (
        "ablation/hi-diff",
        include_str!("../configs/ablation/hi-diff.toml"),
    ),
];

/// A whole configuration file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The networks.
    pub model: ModelConfig,
    /// The diffusion of the prior.
    pub diffusion: DiffusionConfig,
    /// Where training images come from. No part of a weight file.
    #[serde(skip_serializing_if = "is_default")]
    pub data: DataConfig,
    /// How both stages are trained. No part of a weight file.
    #[serde(skip_serializing_if = "is_default")]
    pub training: TrainingConfig,
}

/// How the prior reaches the Transformer (paper, Table 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// `z₁` and `z₂` through cross-attention at levels 1 to 3, `z₃` by modulation at level 4.
    #[default]
    MultiScale,
    /// The same `z` through cross-attention at all four levels ("Single-Guide").
    SingleScale,
    /// A plain Restormer ("Baseline"): no encoder, no denoiser.
    None,
}

/// The networks' shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// How the prior guides the Transformer.
    pub prior: Prior,
    /// The prior has `group²` tokens.
    pub group: usize,
    /// The prior has `4 · embed_dim` channels.
    pub embed_dim: usize,
    /// The image-to-image network.
    pub transformer: TransformerSettings,
    /// LE and LE_DM. Unused where `prior` is `none`.
    pub latent_encoder: LatentEncoderSettings,
    /// The denoising network. Unused where `prior` is `none`.
    pub denoiser: DenoiserSettings,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            prior: Prior::MultiScale,
            group: 4,
            embed_dim: 64,
            transformer: TransformerSettings::default(),
            latent_encoder: LatentEncoderSettings::default(),
            denoiser: DenoiserSettings::default(),
        }
    }
}

impl ModelConfig {
    /// Tokens of the prior, N.
    pub fn prior_tokens(&self) -> usize {
        self.group * self.group
    }

    /// Channels of the prior, C'.
    pub fn prior_channels(&self) -> usize {
        4 * self.embed_dim
    }
}

/// The layer normalisation over channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// `(x − mean) / √(var + ε) · weight + bias`.
    #[default]
    WithBias,
    /// `x / √(var + ε) · weight`, the variance still about the mean.
    BiasFree,
}

/// The Transformer (paper, section 3.1 and Fig. 1a).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerSettings {
    /// Channels at level 1; each level below has twice as many.
    pub dim: usize,
    /// Blocks at levels 1 to 4; the decoder has as many as the encoder.
    pub blocks: [usize; 4],
    /// Blocks after the last decoder level.
    pub refinement_blocks: usize,
    /// Attention heads at levels 1 to 4.
    pub heads: [usize; 4],
    /// GDFN's hidden channels are `floor(C · expansion)`.
    pub expansion: f64,
    /// Whether the convolutions, and HIM's query and key-value maps, have a bias.
    pub bias: bool,
    /// The layer normalisation.
    pub norm: NormKind,
}

impl Default for TransformerSettings {
    fn default() -> Self {
        Self {
            dim: 48,
            blocks: [3, 5, 6, 6],
            refinement_blocks: 4,
            heads: [1, 2, 4, 8],
            expansion: 2.66,
            bias: false,
            norm: NormKind::WithBias,
        }
    }
}

/// Which published latent encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatentEncoderVariant {
    /// GELU, one head convolution, mixer of width `embed_dim` (GoPro).
    #[default]
    Gelu,
    /// LeakyReLU(0.1), three head convolutions, mixer of width `4 · embed_dim` (RealBlur, HI-Diff-2).
    Lrelu,
}

/// The latent encoders LE and LE_DM (paper, Fig. 1e).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatentEncoderSettings {
    /// Which published encoder.
    pub variant: LatentEncoderVariant,
    /// Residual blocks, L.
    pub blocks: usize,
    /// Hidden width of the mixer's token map, as a multiple of N.
    pub patch_expansion: f64,
    /// Hidden width of the mixer's channel map, as a multiple of its width.
    pub channel_expansion: f64,
}

impl Default for LatentEncoderSettings {
    fn default() -> Self {
        Self {
            variant: LatentEncoderVariant::Gelu,
            blocks: 6,
            patch_expansion: 0.5,
            channel_expansion: 4.0,
        }
    }
}

/// The denoising network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "variant", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DenoiserSettings {
    /// Mixer blocks over the tokens (GoPro).
    Mixer {
        /// Width H.
        #[serde(default = "mixer_hidden")]
        hidden: usize,
        /// Mixer blocks.
        #[serde(default = "mixer_blocks")]
        blocks: usize,
        /// Hidden width of the token map, as a multiple of N.
        #[serde(default = "mixer_patch_expansion")]
        patch_expansion: f64,
        /// Hidden width of the channel map, as a multiple of H.
        #[serde(default = "mixer_channel_expansion")]
        channel_expansion: f64,
    },
    /// Linear layers on each token by itself (RealBlur, HI-Diff-2).
    Mlp {
        /// Layers between the first and the prediction, n.
        #[serde(default = "mlp_layers")]
        layers: usize,
    },
}

fn mixer_hidden() -> usize {
    512
}
fn mixer_blocks() -> usize {
    2
}
fn mixer_patch_expansion() -> f64 {
    0.5
}
fn mixer_channel_expansion() -> f64 {
    2.0
}
fn mlp_layers() -> usize {
    4
}

impl Default for DenoiserSettings {
    fn default() -> Self {
        Self::Mixer {
            hidden: mixer_hidden(),
            blocks: mixer_blocks(),
            patch_expansion: mixer_patch_expansion(),
            channel_expansion: mixer_channel_expansion(),
        }
    }
}

/// What the denoiser predicts and how one reverse step is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerKind {
    /// Predicts the noise; the posterior mean, no noise added (GoPro release).
    #[default]
    Eps,
    /// Predicts the prior itself; the posterior mean, no noise added (RealBlur release).
    X0,
    /// Predicts the noise; Eq. 6, noise added except at the last step (the paper).
    Ancestral,
}

/// How β grows with the timestep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The names are the formulas'; see `diffusion::schedule`.
pub enum ScheduleKind {
    /// In β; with the `x0` sampler, as in the RealBlur release, in √β.
    #[default]
    Linear,
    /// In √β.
    Quad,
    Warmup10,
    Warmup50,
    Const,
    Jsd,
    Cosine,
}

/// The diffusion in the latent space (paper, section 3.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// The reverse step.
    pub sampler: SamplerKind,
    /// Steps, T.
    pub timesteps: usize,
    /// The formula for β.
    pub schedule: ScheduleKind,
    /// The first β.
    pub beta_start: f64,
    /// The last β.
    pub beta_end: f64,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            sampler: SamplerKind::Eps,
            timesteps: 8,
            schedule: ScheduleKind::Linear,
            beta_start: 0.1,
            beta_end: 0.99,
        }
    }
}

/// How a dataset keeps its blurry and sharp images, as downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `{train,test}/<sequence>/{blur,sharp}/`.
    Gopro,
    /// The same with `blur_gamma/`, the blur of which was made after gamma correction.
    GoproGamma,
    /// `{train,test}/` with blurry images at any depth, and `GT/` with the sharp ones by file name.
    Hide,
    /// `RealBlur_J_{train,test}_list.txt` with a `target input` pair of paths a line.
    RealblurJ,
    /// `RealBlur_R_{train,test}_list.txt`, likewise.
    RealblurR,
    /// `input/` and `target/`, in a folder or in its `train/` and `test/`.
    InputTarget,
    /// `blur/` and `sharp/`, likewise.
    BlurSharp,
    /// Sharp photographs alone, at any depth, which training blurs as it draws them.
    Sharp,
}

impl Layout {
    /// What `data.layout` calls looking at the folder; in this crate, no layout.
    pub const AUTO: &'static str = "auto";
    /// All layouts.
    pub const ALL: [Self; 8] = [
        Self::Gopro,
        Self::GoproGamma,
        Self::Hide,
        Self::RealblurJ,
        Self::RealblurR,
        Self::InputTarget,
        Self::BlurSharp,
        Self::Sharp,
    ];
    /// What a configuration may say, [`AUTO`](Self::AUTO) included.
    pub const NAMES: &'static [&'static str] = &[
        Self::AUTO,
        Self::Gopro.name(),
        Self::GoproGamma.name(),
        Self::Hide.name(),
        Self::RealblurJ.name(),
        Self::RealblurR.name(),
        Self::InputTarget.name(),
        Self::BlurSharp.name(),
        Self::Sharp.name(),
    ];
    /// The same where only pairs will do.
    pub const PAIR_NAMES: &'static [&'static str] = &[
        Self::AUTO,
        Self::Gopro.name(),
        Self::GoproGamma.name(),
        Self::Hide.name(),
        Self::RealblurJ.name(),
        Self::RealblurR.name(),
        Self::InputTarget.name(),
        Self::BlurSharp.name(),
    ];

    /// Its name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gopro => "gopro",
            Self::GoproGamma => "gopro-gamma",
            Self::Hide => "hide",
            Self::RealblurJ => "realblur-j",
            Self::RealblurR => "realblur-r",
            Self::InputTarget => "input-target",
            Self::BlurSharp => "blur-sharp",
            Self::Sharp => "sharp",
        }
    }

    /// The layout of one of [`NAMES`](Self::NAMES); none for [`AUTO`](Self::AUTO), and for other names.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name)
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !Self::NAMES.contains(&name.as_str()) {
            return Err(serde::de::Error::unknown_variant(&name, Self::NAMES));
        }
        Ok(Self::named(&name))
    }

    fn serialize<S: Serializer>(layout: &Option<Self>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(layout.map_or(Self::AUTO, Self::name))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the training images are and how they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of the training pairs, in one of the [layouts](Layout); `--data` replaces it and `sources`.
    pub train: Option<PathBuf>,
    /// Folders of validation pairs, each a set with scores of its own; in TOML one folder or an array of them. Without
    /// one, `validation_share` of the training pairs.
    #[serde(
        serialize_with = "one_or_many::serialize",
        deserialize_with = "one_or_many::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub validation: Vec<PathBuf>,
    /// The layout of the folders; `auto`, here none, detects each.
    #[serde(
        serialize_with = "Layout::serialize",
        deserialize_with = "Layout::deserialize"
    )]
    pub layout: Option<Layout>,
    /// Share of the training pairs kept for validation where there is no folder for it.
    pub validation_share: f64,
    /// Whether patches are flipped and rotated.
    pub augment: bool,
    /// Threads that read, blur and crop images.
    pub workers: usize,
    /// Several folders to train on, in place of `train`.
    pub sources: Vec<SourceConfig>,
    /// How photographs of the layout [`Sharp`](Layout::Sharp) are blurred.
    pub blur: BlurModel,
}

/// A folder to train on, beside others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The folder.
    pub path: PathBuf,
    /// How it holds its images; `auto`, here none, detects it.
    #[serde(
        default,
        serialize_with = "Layout::serialize",
        deserialize_with = "Layout::deserialize"
    )]
    pub layout: Option<Layout>,
    /// How many samples are taken from it, beside the other sources' weights.
    #[serde(default = "source_weight")]
    pub weight: f64,
}

fn source_weight() -> f64 {
    1.0
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: None,
            validation: Vec::new(),
            layout: None,
            validation_share: 0.05,
            augment: true,
            workers: 2,
            sources: Vec::new(),
            blur: BlurModel::default(),
        }
    }
}

/// Folders, in TOML one of them or an array.
mod one_or_many {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a folder or an array of folders")]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<PathBuf>, D::Error> {
        // In JSON, as checkpoints of earlier versions have it, none is `null`.
        Ok(match Option::<OneOrMany>::deserialize(d)? {
            None => Vec::new(),
            Some(OneOrMany::One(folder)) => vec![folder],
            Some(OneOrMany::Many(folders)) => folders,
        })
    }

    pub fn serialize<S: Serializer>(folders: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        match folders {
            [folder] => folder.serialize(serializer),
            folders => folders.serialize(serializer),
        }
    }
}

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
    pub precision: Precision,
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
            precision: Precision::F32,
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

/// A network of the model, as weight files divide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The image-to-image network, `net_g`.
    Transformer,
    /// LE, which sees the sharp image: needed for training only, `net_le`.
    LatentEncoder,
    /// LE_DM, which sees the blurry image: `net_le_dm`.
    ConditionEncoder,
    /// The denoising network, `net_d`.
    Denoiser,
}

/// Number format of activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
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
    /// Weight of stage two's `L1(z, ẑ)` with the objective [`Joint`](Objective::Joint).
    pub prior: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            pixel: PixelLossKind::L1,
            frequency: 0.0,
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
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adamw,
            betas: [0.9, 0.999],
            weight_decay: 1e-4,
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Config {
    /// The names of the embedded presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// An embedded preset such as `gopro` or `ablation/baseline`.
    ///
    /// # Errors
    /// [`Error::UnknownConfig`] if there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        match PRESETS.iter().find(|(preset, _)| *preset == name) {
            Some((name, text)) => Self::parse(text, name),
            None => Err(Error::UnknownConfig {
                name: name.to_string(),
                presets: Self::presets().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// A preset by name, or else the TOML file of that path.
    ///
    /// # Errors
    /// As [`preset`](Self::preset) and [`parse`](Self::parse), or [`Error::Io`].
    pub fn load(name_or_path: &str) -> Result<Self> {
        let path = Path::new(name_or_path);
        if !path.is_file() {
            return Self::preset(name_or_path);
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, name_or_path)
    }

    /// As [`load`](Self::load), with `changes` made to what was read.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`with`](Self::with).
    pub fn load_with(name_or_path: &str, changes: &[Setting]) -> Result<Self> {
        Self::load(name_or_path)?.with(name_or_path, changes)
    }

    /// This configuration with `changes` made one after the other, and then checked as a file is. `origin` is what errors
    /// call the configuration itself.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, and whether the value is one of the changes.
    pub fn with(&self, origin: &str, changes: &[Setting]) -> Result<Self> {
        if changes.is_empty() {
            return Ok(self.clone());
        }
        let fail = |key: &str, reason: String| Error::Config {
            origin: origin.to_string(),
            key: key.to_string(),
            reason,
        };
        let table = toml::Table::try_from(self);
        let mut table = table.map_err(|error| fail("(top level)", error.to_string()))?;
        for change in changes {
            change.make(&mut table)?;
        }
        let all = || changes.iter().map(Setting::to_string).collect::<Vec<_>>();
        let checked = Self::read(table, origin).and_then(|config| {
            config.validate(origin)?;
            Ok(config)
        });
        checked.map_err(|error| match error {
            Error::Config { key, reason, .. } => {
                let own = changes.iter().rev().find(|change| change.concerns(&key));
                let origin = match own {
                    Some(change) => change.to_string(),
                    None => format!("{origin} with {}", all().join(" ")),
                };
                Error::Config {
                    origin,
                    key,
                    reason,
                }
            }
            error => error,
        })
    }

    /// Reads and checks a configuration in TOML. `origin` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, what was found and what was expected.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let document = toml::Deserializer::parse(text).map_err(|error| Error::Config {
            origin: origin.to_string(),
            key: "(syntax)".to_string(),
            reason: syntax_reason(text, &error),
        })?;
        let config = Self::read(document, origin)?;
        config.validate(origin)?;
        Ok(config)
    }

    fn read<'de>(
        document: impl Deserializer<'de, Error = toml::de::Error>,
        origin: &str,
    ) -> Result<Self> {
        serde_path_to_error::deserialize(document).map_err(|error| {
            let path = error.path().to_string();
            let key = if path == "." {
                "(top level)".to_string()
            } else {
                path
            };
            Error::Config {
                origin: origin.to_string(),
                key,
                reason: error.into_inner().message().to_string(),
            }
        })
    }

    /// Checks that every value can be used.
    ///
    /// # Errors
    /// [`Error::Config`] for the first that cannot.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let check = Check { origin };
        self.model.validate(&check)?;
        self.diffusion.validate(&check)?;
        self.data.validate(&check)?;
        self.training.validate(&check)
    }

    /// The model and diffusion alone: what a weight file carries.
    pub fn without_training(&self) -> Self {
        Self {
            data: DataConfig::default(),
            training: TrainingConfig::default(),
            ..self.clone()
        }
    }
}

/// A change to a configuration, `key=value` on the command line: a key in full, such as `training.ema`, and its value in
/// TOML. What is no TOML value is a string, so that `model.prior=none` needs no quotes.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    key: String,
    value: toml::Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("expected key=value, such as training.ema=0.999")?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(|part| part.trim().is_empty()) {
            return Err(format!(
                "`{key}`: expected a key in full, such as training.ema"
            ));
        }
        let document: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
        // A line break in the text could begin a second key.
        let parsed = document.filter(|table| table.len() == 1);
        let parsed = parsed.and_then(|mut table| table.remove("value"));
        Ok(Self {
            key: key.to_string(),
            value: parsed.unwrap_or_else(|| toml::Value::String(value.to_string())),
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--set {}={}", self.key, self.value)
    }
}

impl Setting {
    fn make(&self, table: &mut toml::Table) -> Result<()> {
        let mut table = table;
        let mut parts = self.key.split('.').map(str::trim).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_string(), self.value.clone());
                break;
            }
            let inner = table
                .entry(part)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = inner.as_table_mut().ok_or_else(|| Error::Config {
                origin: self.to_string(),
                key: self.key.clone(),
                reason: format!("`{part}` is a value and has no keys of its own"),
            })?;
        }
        Ok(())
    }

    /// Whether an error at `key` is about this change: at it, within it, or at what it is a part of.
    fn concerns(&self, key: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        within(key, &self.key) || within(&self.key, key)
    }
}

fn syntax_reason(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    format!("line {line}: {}", error.message().trim())
}

/// Makes validation errors.
struct Check<'a> {
    origin: &'a str,
}

impl Check<'_> {
    fn that(&self, good: bool, key: &str, found: impl fmt::Debug, expected: &str) -> Result<()> {
        if good {
            return Ok(());
        }
        Err(Error::Config {
            origin: self.origin.to_string(),
            key: key.to_string(),
            reason: format!("found {found:?}, expected {expected}"),
        })
    }

    fn size(&self, key: &str, found: usize, least: usize, most: usize) -> Result<()> {
        let expected = format!("an integer from {least} to {most}");
        self.that((least..=most).contains(&found), key, found, &expected)
    }

    fn number(&self, key: &str, found: f64, least: f64, most: f64) -> Result<()> {
        let expected = format!("a number from {least} to {most}");
        self.that((least..=most).contains(&found), key, found, &expected)
    }
}

/// Far above any model that fits a machine, and low enough that sizes cannot overflow.
const MOST_CHANNELS: usize = 65_536;
const MOST_BLOCKS: usize = 1_024;

impl ModelConfig {
    fn validate(&self, check: &Check) -> Result<()> {
        check.size("model.group", self.group, 1, 64)?;
        check.size("model.embed_dim", self.embed_dim, 1, MOST_CHANNELS)?;
        if self.prior == Prior::MultiScale {
            check.that(
                self.group >= 2,
                "model.group",
                self.group,
                "at least 2 with the multi-scale prior, which makes a quarter as many tokens",
            )?;
        }
        self.transformer.validate(check)?;
        self.latent_encoder.validate(check, self.prior_tokens())?;
        self.denoiser.validate(check, self.prior_tokens())
    }
}

impl TransformerSettings {
    fn validate(&self, check: &Check) -> Result<()> {
        check.size("model.transformer.dim", self.dim, 2, MOST_CHANNELS)?;
        check.that(
            self.dim.is_multiple_of(2),
            "model.transformer.dim",
            self.dim,
            "an even number, since each resampling halves or doubles it",
        )?;
        for (level, &blocks) in self.blocks.iter().enumerate() {
            check.size(
                &format!("model.transformer.blocks[{level}]"),
                blocks,
                0,
                MOST_BLOCKS,
            )?;
        }
        check.size(
            "model.transformer.refinement_blocks",
            self.refinement_blocks,
            0,
            MOST_BLOCKS,
        )?;
        for (level, &heads) in self.heads.iter().enumerate() {
            let key = format!("model.transformer.heads[{level}]");
            let channels = self.dim << level;
            check.that(
                heads > 0 && channels.is_multiple_of(heads),
                &key,
                heads,
                &format!("a divisor of the level's {channels} channels"),
            )?;
        }
        check.number("model.transformer.expansion", self.expansion, 0.0, 64.0)?;
        check.that(
            self.dim as f64 * self.expansion >= 1.0,
            "model.transformer.expansion",
            self.expansion,
            "at least one hidden channel",
        )
    }
}

impl LatentEncoderSettings {
    fn validate(&self, check: &Check, tokens: usize) -> Result<()> {
        check.size("model.latent_encoder.blocks", self.blocks, 0, MOST_BLOCKS)?;
        expansion(
            check,
            "model.latent_encoder.patch_expansion",
            self.patch_expansion,
            tokens,
        )?;
        expansion(
            check,
            "model.latent_encoder.channel_expansion",
            self.channel_expansion,
            1,
        )
    }
}

impl DenoiserSettings {
    fn validate(&self, check: &Check, tokens: usize) -> Result<()> {
        match *self {
            Self::Mixer {
                hidden,
                blocks,
                patch_expansion,
                channel_expansion,
            } => {
                check.size("model.denoiser.hidden", hidden, 1, MOST_CHANNELS)?;
                check.size("model.denoiser.blocks", blocks, 0, MOST_BLOCKS)?;
                expansion(
                    check,
                    "model.denoiser.patch_expansion",
                    patch_expansion,
                    tokens,
                )?;
                expansion(
                    check,
                    "model.denoiser.channel_expansion",
                    channel_expansion,
                    hidden,
                )
            }
            Self::Mlp { layers } => check.size("model.denoiser.layers", layers, 0, MOST_BLOCKS),
        }
    }
}

fn expansion(check: &Check, key: &str, value: f64, width: usize) -> Result<()> {
    check.number(key, value, 0.0, 64.0)?;
    check.that(
        width as f64 * value >= 1.0,
        key,
        value,
        "at least one hidden unit",
    )
}

impl DiffusionConfig {
    fn validate(&self, check: &Check) -> Result<()> {
        check.size("diffusion.timesteps", self.timesteps, 1, 10_000)?;
        check.that(
            self.schedule != ScheduleKind::Jsd || self.sampler == SamplerKind::X0,
            "diffusion.schedule",
            self.schedule,
            "one that ends below β = 1, unless the sampler is x0: nothing of the prior is left to find in pure noise",
        )?;
        let inside = |beta: f64| beta > 0.0 && beta < 1.0;
        let expected = "a number above 0 and below 1";
        check.that(
            inside(self.beta_start),
            "diffusion.beta_start",
            self.beta_start,
            expected,
        )?;
        check.that(
            inside(self.beta_end),
            "diffusion.beta_end",
            self.beta_end,
            expected,
        )?;
        check.that(
            self.beta_start <= self.beta_end,
            "diffusion.beta_end",
            self.beta_end,
            "no less than diffusion.beta_start",
        )
    }
}

impl DataConfig {
    fn validate(&self, check: &Check) -> Result<()> {
        let share = self.validation_share;
        check.that(
            (0.0..1.0).contains(&share),
            "data.validation_share",
            share,
            "a number from 0 to below 1",
        )?;
        check.size("data.workers", self.workers, 1, 1_024)?;
        check.that(
            self.train.is_none() || self.sources.is_empty(),
            "data.sources",
            "data.train beside it",
            "one of the two: a single folder, or the sources",
        )?;
        for (index, source) in self.sources.iter().enumerate() {
            check.that(
                source.weight.is_finite() && source.weight > 0.0,
                &format!("data.sources[{index}].weight"),
                source.weight,
                "a number above 0",
            )?;
        }
        self.blur.check(check)
    }
}

impl TrainingConfig {
    fn validate(&self, check: &Check) -> Result<()> {
        self.stage_one.validate(check, "training.stage_one")?;
        self.stage_two.validate(check, "training.stage_two")?;
        let loss = &self.loss;
        check.number("training.loss.frequency", loss.frequency, 0.0, f64::MAX)?;
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
            self.parallel == Parallel::Gather || self.precision == Precision::F32,
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
    fn validate(&self, check: &Check, stage: &str) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Config> {
        let changes: Vec<Setting> = changes.iter().map(|text| text.parse().unwrap()).collect();
        Config::load_with("gopro", &changes)
    }

    #[test]
    fn changes_are_made_one_after_the_other() {
        let config = changed(&[
            "training.ema=0.9",
            "training.ema = 0.999",
            "model.transformer.blocks=[1,1,2,2]",
            "model.prior=none",
            "data.validation=held out",
            "training.stage_two={ iterations = 7, clip = 1 }",
        ])
        .unwrap();
        assert_eq!(config.training.ema, 0.999);
        assert_eq!(config.model.transformer.blocks, [1, 1, 2, 2]);
        assert_eq!(config.model.prior, Prior::None);
        assert_eq!(config.data.validation, [Path::new("held out")]);
        let stage = &config.training.stage_two;
        assert_eq!((stage.iterations, stage.clip), (7, 1.0));
        assert_eq!(
            stage.accumulation,
            StageConfig::default().accumulation,
            "a table takes the place of the whole one"
        );
        assert_eq!(changed(&[]).unwrap(), Config::preset("gopro").unwrap());
    }

    #[test]
    fn a_change_that_cannot_be_made_is_an_error_that_names_it() {
        for (change, expected) in [
            (
                "training.ema=2",
                &["--set training.ema=2", "`training.ema`", "from 0"][..],
            ),
            ("training.emma=0.5", &["--set training.emma=0.5", "emma"]),
            ("trainig.ema=0.5", &["--set trainig.ema=0.5", "trainig"]),
            (
                "model.prior.x=1",
                &["--set model.prior.x=1", "`prior` is a value"],
            ),
            (
                "model.transformer.heads=[1,5,4,8]",
                &["--set", "heads[1]", "divisor"],
            ),
            (
                "model.transformer.dim=[",
                &["--set", "`model.transformer.dim`", "invalid type"],
            ),
            (
                "diffusion.beta_start=0.995",
                &[
                    "gopro with --set diffusion.beta_start=0.995",
                    "`diffusion.beta_end`",
                ],
            ),
        ] {
            let error = changed(&[change]).unwrap_err().to_string();
            for part in expected {
                assert!(
                    error.contains(part),
                    "{change}: {part} is missing in: {error}"
                );
            }
        }
        for text in ["training.ema", "=1", "training..ema=1", ".=1"] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }

    #[test]
    fn validation_folders_are_one_or_several() {
        for (text, folders) in [
            ("workers = 3", &[][..]),
            ("validation = \"a\"", &["a"]),
            ("validation = [\"a\", \"b/c\"]", &["a", "b/c"]),
        ] {
            let config = Config::parse(&format!("[data]\n{text}"), "test").unwrap();
            let expected: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
            assert_eq!(config.data.validation, expected);
            let written = toml::to_string(&config).unwrap();
            assert!(written.contains(text), "{written}");
            assert_eq!(Config::parse(&written, "test").unwrap(), config);
        }
        let before: DataConfig = serde_json::from_str(r#"{"validation":null}"#).unwrap();
        assert_eq!(before, DataConfig::default());
        let error = Config::parse("[data]\nvalidation = 3", "test")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("data.validation") && error.contains("array of folders"),
            "{error}"
        );
    }

    #[test]
    fn every_layout_is_read_and_written_by_its_name() {
        let layouts = Layout::ALL.map(Some).into_iter().chain([None]);
        for (layout, name) in layouts.zip(Layout::NAMES.iter().cycle().skip(1)) {
            let text = format!("[data]\nlayout = \"{name}\"\nworkers = 3\n");
            let config = Config::parse(&text, "test").unwrap();
            assert_eq!(config.data.layout, layout, "{name}");
            let written = toml::to_string(&config).unwrap();
            assert_eq!(Config::parse(&written, "test").unwrap(), config);
            assert!(
                written.contains(&format!("layout = \"{name}\"")),
                "{written}"
            );
        }
    }
}
