//! The Transformer's block: attention, then feed-forward, each normalised and residual.

use burn::config::Config;
use burn::module::Module;
use burn::prelude::{Backend, Device, Tensor};

use super::gdfn::{Gdfn, GdfnConfig};
use super::layer_norm::{LayerNorm, LayerNormConfig, NormKind};
use super::mdta::{Mdta, MdtaConfig};

/// Configuration of a [`TransformerBlock`].
#[derive(Config, Debug)]
pub struct TransformerBlockConfig {
    /// Channels, C.
    pub channels: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// GDFN's expansion.
    pub expansion: f64,
    /// Whether the convolutions have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// The layer normalisation.
    #[config(default = "NormKind::WithBias")]
    pub norm: NormKind,
    /// Channels of the prior that modulates attention and feed-forward; none for levels without modulation.
    pub modulation: Option<usize>,
}

/// `x += MDTA(LN(x))`, then `x += GDFN(LN(x))`.
#[derive(Module, Debug)]
pub struct TransformerBlock<B: Backend> {
    /// Before the attention.
    pub norm1: LayerNorm<B>,
    /// The attention.
    pub attn: Mdta<B>,
    /// Before the feed-forward.
    pub norm2: LayerNorm<B>,
    /// The feed-forward.
    pub ffn: Gdfn<B>,
}

impl TransformerBlockConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> TransformerBlock<B> {
        let norm = LayerNormConfig::new(self.channels).with_kind(self.norm);
        TransformerBlock {
            norm1: norm.init(device),
            attn: MdtaConfig::new(self.channels, self.heads)
                .with_bias(self.bias)
                .with_modulation(self.modulation)
                .init(device),
            norm2: norm.init(device),
            ffn: GdfnConfig::new(self.channels, self.expansion)
                .with_bias(self.bias)
                .with_modulation(self.modulation)
                .init(device),
        }
    }
}

impl<B: Backend> TransformerBlock<B> {
    /// # Shapes
    /// - x and output: `[batch, C, height, width]`
    /// - z3: `[batch, C']`; not looked at without modulation
    pub fn forward(&self, x: Tensor<B, 4>, z3: Option<&Tensor<B, 2>>) -> Tensor<B, 4> {
        let x = self.attn.forward_residual(x, &self.norm1, z3);
        self.ffn.forward_residual(x, &self.norm2, z3)
    }

    /// Multiply-accumulates for one image of `pixels` pixels at this level.
    pub fn macs(&self, pixels: u64) -> u64 {
        self.attn.macs(pixels) + self.ffn.macs(pixels)
    }
}
