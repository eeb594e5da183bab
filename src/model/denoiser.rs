//! The denoising network ε_θ (paper, section 3.2).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::leaky_relu;

use super::gelu::gelu;
use super::macs;
use super::mixer::{MixerBlock, MixerBlockConfig};
use crate::config::{DenoiserSettings, ModelConfig};
use crate::kernels::formulas::in_format;

/// The `mlp` variant divides the time by this, whatever T is.
const MLP_MAX_PERIOD: f64 = 50.0;

/// Configuration of a [`Denoiser`].
#[derive(Config, Debug)]
pub struct DenoiserConfig {
    /// Tokens of the prior, N.
    pub tokens: usize,
    /// Channels of the prior, C'.
    pub channels: usize,
    /// The variant and its sizes.
    pub settings: DenoiserSettings,
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
    /// The denoiser's configuration in a model.
    pub fn of(model: &ModelConfig) -> Self {
        Self::new(
            model.prior_tokens(),
            model.prior_channels(),
            model.denoiser.clone(),
        )
    }

    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Denoiser<B> {
        let channels = self.channels;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        match self.settings {
            DenoiserSettings::Mixer {
                hidden,
                blocks,
                patch_expansion,
                channel_expansion,
            } => {
                let block =
                    MixerBlockConfig::new(self.tokens, hidden, patch_expansion, channel_expansion);
                Denoiser::Mixer(MixerDenoiser {
                    first: linear(3 * channels, hidden),
                    blocks: (0..blocks).map(|_| block.init(device)).collect(),
                    last: linear(hidden, channels),
                    time_scale: Initializer::Constant { value: 1e-3 }.init([1], device),
                })
            }
            DenoiserSettings::Mlp { layers } => Denoiser::Mlp(MlpDenoiser {
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
