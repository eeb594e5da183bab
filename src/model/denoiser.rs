//! The denoising network ε_θ (paper, section 3.2).

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::leaky_relu;

use super::gelu::gelu;
use super::macs;
use super::mixer::{MixerBlock, MixerBlockConfig};
use crate::checks::{Check, MOST_BLOCKS, MOST_CHANNELS};
use crate::error::Result;
use crate::kernels::formulas::in_format;
use serde::{Deserialize, Serialize};

/// The `mlp` variant divides the time by this, whatever T is.
const MLP_MAX_PERIOD: f64 = 50.0;

/// The denoising network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "variant", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DenoiserConfig {
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

impl Default for DenoiserConfig {
    fn default() -> Self {
        Self::Mixer {
            hidden: mixer_hidden(),
            blocks: mixer_blocks(),
            patch_expansion: mixer_patch_expansion(),
            channel_expansion: mixer_channel_expansion(),
        }
    }
}

impl DenoiserConfig {
    pub(crate) fn validate(&self, check: &Check, tokens: usize) -> Result<()> {
        match *self {
            Self::Mixer {
                hidden,
                blocks,
                patch_expansion,
                channel_expansion,
            } => {
                check.size("model.denoiser.hidden", hidden, 1, MOST_CHANNELS)?;
                check.size("model.denoiser.blocks", blocks, 0, MOST_BLOCKS)?;
                check.expansion("model.denoiser.patch_expansion", patch_expansion, tokens)?;
                check.expansion(
                    "model.denoiser.channel_expansion",
                    channel_expansion,
                    hidden,
                )
            }
            Self::Mlp { layers } => check.size("model.denoiser.layers", layers, 0, MOST_BLOCKS),
        }
    }
}

/// Predicts the noise in `z_t`, or the prior itself, from `z_t`, the time and the condition.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model has one of them.
pub enum Denoiser<B: Backend> {
    /// Mixer blocks over the tokens (GoPro).
    Mixer(MixerDenoiser<B>),
    /// Linear layers on each token (RealBlur).
    Mlp(MlpDenoiser<B>),
}

/// Variant `mixer`.
#[derive(Module, Debug)]
pub struct MixerDenoiser<B: Backend> {
    /// 3C' → H.
    pub first: Linear<B>,
    /// Each followed by GELU.
    pub blocks: Vec<MixerBlock<B>>,
    /// H → C'.
    pub last: Linear<B>,
    /// The learned factor on the time: `[1]`, initially 1e-3.
    pub time_scale: Param<Tensor<B, 1>>,
}

/// Variant `mlp`.
#[derive(Module, Debug)]
pub struct MlpDenoiser<B: Backend> {
    /// 2C' + 1 → C'.
    pub first: Linear<B>,
    /// C' → C', n of them.
    pub layers: Vec<Linear<B>>,
}

impl DenoiserConfig {
    /// Builds the module on `device`, for a prior of so many tokens and channels.
    pub fn init<B: Backend>(
        &self,
        tokens: usize,
        channels: usize,
        device: &B::Device,
    ) -> Denoiser<B> {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        match *self {
            Self::Mixer {
                hidden,
                blocks,
                patch_expansion,
                channel_expansion,
            } => {
                let block =
                    MixerBlockConfig::new(tokens, hidden, patch_expansion, channel_expansion);
                Denoiser::Mixer(MixerDenoiser {
                    first: linear(3 * channels, hidden),
                    blocks: (0..blocks).map(|_| block.init(device)).collect(),
                    last: linear(hidden, channels),
                    time_scale: Initializer::Constant { value: 1e-3 }.init([1], device),
                })
            }
            Self::Mlp { layers } => Denoiser::Mlp(MlpDenoiser {
                first: linear(2 * channels + 1, channels),
                layers: (0..layers).map(|_| linear(channels, channels)).collect(),
            }),
        }
    }
}

impl<B: Backend> Denoiser<B> {
    /// # Shapes
    /// - noisy, condition and output: `[batch, N, C']`
    ///
    /// `time` is one number for the batch; see [`Sampler`](crate::diffusion::Sampler) for its values.
    pub fn forward(&self, noisy: Tensor<B, 3>, time: f64, condition: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, _, _] = noisy.dims();
        let time = Tensor::full([batch], time, &noisy.device());
        self.forward_batch(noisy, time, condition)
    }

    /// As [`forward`](Self::forward), with a time for each item of the batch: `[batch]`. Computes in the weights' number
    /// format, and returns that of `noisy`.
    pub fn forward_batch(
        &self,
        noisy: Tensor<B, 3>,
        time: Tensor<B, 1>,
        condition: Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let [batch, tokens, channels] = noisy.dims();
        let format = noisy.dtype();
        let weights = match self {
            Self::Mixer(network) => network.first.weight.dtype(),
            Self::Mlp(network) => network.first.weight.dtype(),
        };
        let (noisy, condition) = (in_format(noisy, weights), in_format(condition, weights));
        let time = in_format(time.reshape([batch, 1, 1]), weights);
        let output = match self {
            Self::Mixer(network) => {
                let time = time * network.time_scale.val().reshape([1, 1, 1]);
                let time = time.expand([batch, tokens, channels]);
                let x = network
                    .first
                    .forward(Tensor::cat(vec![noisy, time, condition], 2));
                let x = network
                    .blocks
                    .iter()
                    .fold(leaky_relu(x, 0.2), |x, block| gelu(block.forward(x)));
                gelu(network.last.forward(x))
            }
            Self::Mlp(network) => {
                let time = (time / MLP_MAX_PERIOD).expand([batch, tokens, 1]);
                let x = Tensor::cat(vec![condition, time, noisy], 2);
                std::iter::once(&network.first)
                    .chain(&network.layers)
                    .fold(x, |x, layer| leaky_relu(layer.forward(x), 0.1))
            }
        };
        in_format(output, format)
    }

    /// Multiply-accumulates of one pass for one image with `tokens` prior tokens.
    pub fn macs(&self, tokens: u64) -> u64 {
        match self {
            Self::Mixer(network) => {
                macs::linear(&network.first, tokens)
                    + network.blocks.iter().map(MixerBlock::macs).sum::<u64>()
                    + macs::linear(&network.last, tokens)
            }
            Self::Mlp(network) => std::iter::once(&network.first)
                .chain(&network.layers)
                .map(|layer| macs::linear(layer, tokens))
                .sum(),
        }
    }
}
