//! The mixer block over the prior's tokens, of the latent encoders and the denoiser.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;

use super::gelu::gelu;
use super::layer_norm::{LayerNorm, LayerNormConfig};
use super::macs;

/// Configuration of a [`MixerBlock`].
#[derive(Config, Debug)]
pub struct MixerBlockConfig {
    /// Tokens, N.
    pub tokens: usize,
    /// Width, D.
    pub width: usize,
    /// Hidden width over tokens, as a multiple of N.
    pub patch_expansion: f64,
    /// Hidden width over channels, as a multiple of D.
    pub channel_expansion: f64,
}

/// `x += patch_mixer(LN(x)ᵀ)ᵀ`, then `x += channel_mixer(LN(x))`; both are Linear → GELU → Linear.
#[derive(Module, Debug)]
pub struct MixerBlock<B: Backend> {
    /// Before the patch mixer.
    pub norm1: LayerNorm<B>,
    /// N → N · patch expansion.
    pub patch_in: Linear<B>,
    /// Back to N.
    pub patch_out: Linear<B>,
    /// Before the channel mixer.
    pub norm2: LayerNorm<B>,
    /// D → D · channel expansion.
    pub channel_in: Linear<B>,
    /// Back to D.
    pub channel_out: Linear<B>,
}

impl MixerBlockConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &B::Device) -> MixerBlock<B> {
        let expanded = |size: usize, factor: f64| (size as f64 * factor) as usize;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let patch_hidden = expanded(self.tokens, self.patch_expansion);
        let channel_hidden = expanded(self.width, self.channel_expansion);
        MixerBlock {
            norm1: LayerNormConfig::new(self.width).init(device),
            patch_in: linear(self.tokens, patch_hidden),
            patch_out: linear(patch_hidden, self.tokens),
            norm2: LayerNormConfig::new(self.width).init(device),
            channel_in: linear(self.width, channel_hidden),
            channel_out: linear(channel_hidden, self.width),
        }
    }
}

impl<B: Backend> MixerBlock<B> {
    /// # Shapes
    /// - x and output: `[batch, N, D]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let patches = self.norm1.forward_tokens(x.clone()).swap_dims(1, 2); // [batch, D, N]
        let patches = self.patch_out.forward(gelu(self.patch_in.forward(patches)));
        let x = x + patches.swap_dims(1, 2);
        let channels = self.norm2.forward_tokens(x.clone());
        x + self
            .channel_out
            .forward(gelu(self.channel_in.forward(channels)))
    }

    /// Multiply-accumulates for one image.
    pub fn macs(&self) -> u64 {
        let tokens = self.patch_in.weight.dims()[0] as u64;
        let width = self.channel_in.weight.dims()[0] as u64;
        macs::linear(&self.patch_in, width)
            + macs::linear(&self.patch_out, width)
            + macs::linear(&self.channel_in, tokens)
            + macs::linear(&self.channel_out, tokens)
    }
}
