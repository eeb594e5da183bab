//! The hierarchical integration module (paper, section 3.1 and Fig. 1d).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::{Backend, Device, Tensor};
use burn::tensor::activation::softmax;

use super::layer::{Layer, filled};
use super::layer_norm::{LayerNorm, LayerNormConfig, NormKind};
use super::macs;
use crate::kernels::{self, HimWeights};

/// Configuration of a [`Him`].
#[derive(Config, Debug)]
pub struct HimConfig {
    /// Channels of the features, C.
    pub channels: usize,
    /// Channels of the prior, C'.
    pub prior_channels: usize,
    /// Heads; a divisor of C.
    pub heads: usize,
    /// Whether the query and the key-value maps have a bias; the projection always has one.
    #[config(default = false)]
    pub bias: bool,
    /// The layer normalisation.
    #[config(default = "NormKind::WithBias")]
    pub norm: NormKind,
}

/// Cross-attention (Eq. 1): pixels ask, the prior's tokens answer.
#[derive(Module, Debug)]
pub struct Him<B: Backend> {
    /// Of the pixels.
    pub norm1: LayerNorm<B>,
    /// Of the tokens.
    pub norm2: LayerNorm<B>,
    /// C → C.
    pub q: Linear<B>,
    /// C' → 2C, keys and values.
    pub kv: Linear<B>,
    /// C → C.
    pub proj: Linear<B>,
    /// Heads.
    pub heads: usize,
}

impl HimConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> Him<B> {
        let norm = |channels| {
            LayerNormConfig::new(channels)
                .with_kind(self.norm)
                .init(device)
        };
        let linear = |from, to| LinearConfig::new(from, to);
        Him {
            norm1: norm(self.channels),
            norm2: norm(self.prior_channels),
            q: linear(self.channels, self.channels)
                .with_bias(self.bias)
                .init(device),
            kv: linear(self.prior_channels, 2 * self.channels)
                .with_bias(self.bias)
                .init(device),
            proj: linear(self.channels, self.channels).init(device),
            heads: self.heads,
        }
    }
}

impl<B: Backend> Him<B> {
    /// # Shapes
    /// - x and output: `[batch, C, height, width]`
    /// - prior: `[batch, tokens, C']`
    pub fn forward(&self, x: Tensor<B, 4>, prior: Tensor<B, 3>) -> Tensor<B, 4> {
        let kv = self.kv.forward(self.norm2.forward_tokens(prior)); // [batch, tokens, 2C]
        let [keys, values] = kv
            .chunk(2, 2)
            .try_into()
            .expect("2C channels are two halves");
        let primitive = |tokens: Tensor<B, 3>| tokens.into_primitive().tensor();
        let weights = HimWeights {
            norm: self.norm1.weights(None),
            query: self.q.weights(),
            keys: primitive(keys.clone()),
            values: primitive(values.clone()),
            project: self.proj.weights(),
            heads: self.heads,
        };
        let x = match kernels::him(x, weights) {
            Ok(output) => return output,
            Err(x) => x,
        };

        // softmax(q kᵀ / √d) · v of each head: pixels ask, tokens answer.
        let [batch, channels, height, width] = x.dims();
        let (pixels, per_head) = (height * width, channels / self.heads);
        let split_heads = |tokens: Tensor<B, 3>| {
            let [batch, count, _] = tokens.dims();
            tokens
                .reshape([batch, count, self.heads, per_head])
                .swap_dims(1, 2)
        };
        let queries = self.norm1.forward_image(x.clone());
        let queries = queries.reshape([batch, channels, pixels]).swap_dims(1, 2);
        let q = split_heads(self.q.forward(queries)); // [batch, heads, pixels, C/heads]
        let (k, v) = (split_heads(keys), split_heads(values)); // [batch, heads, tokens, C/heads]
        let scale = (per_head as f64).sqrt().recip();
        let attention = softmax(q.mul_scalar(scale).matmul(k.transpose()), 3);
        let attended = attention.matmul(v).swap_dims(1, 2);
        let output = self
            .proj
            .forward(attended.reshape([batch, pixels, channels]));
        x + output
            .swap_dims(1, 2)
            .reshape([batch, channels, height, width])
    }

    /// The same with an output projection of zeros: it adds nothing until it has learnt to, for which it has a gradient.
    pub fn without_effect(mut self) -> Self {
        self.proj = filled(self.proj, 0.0);
        self
    }

    /// Multiply-accumulates for one image of `pixels` pixels at this level and `tokens` prior tokens.
    pub fn macs(&self, pixels: u64, tokens: u64) -> u64 {
        let channels = self.proj.weight.dims()[0] as u64;
        macs::linear(&self.q, pixels)
            + macs::linear(&self.kv, tokens)
            + 2 * channels * tokens * pixels
            + macs::linear(&self.proj, pixels)
    }
}
