//! The prior at three scales (paper, Fig. 1c).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;

use super::macs;

/// Configuration of a [`MultiScalePrior`].
#[derive(Config, Debug)]
pub struct MultiScalePriorConfig {
    /// Tokens of the prior, N.
    pub tokens: usize,
    /// Channels of the prior, C'.
    pub channels: usize,
}

/// `z₂` and `z₃` from `z₁`, each by a linear map over tokens and one over channels.
#[derive(Module, Debug)]
pub struct MultiScalePrior<B: Backend> {
    /// N → N/4.
    pub tokens1: Linear<B>,
    /// C' → C'.
    pub channels1: Linear<B>,
    /// N/4 → 1.
    pub tokens2: Linear<B>,
    /// C' → C'.
    pub channels2: Linear<B>,
}

impl MultiScalePriorConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &B::Device) -> MultiScalePrior<B> {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        MultiScalePrior {
            tokens1: linear(self.tokens, self.tokens / 4),
            channels1: linear(self.channels, self.channels),
            tokens2: linear(self.tokens / 4, 1),
            channels2: linear(self.channels, self.channels),
        }
    }
}

impl<B: Backend> MultiScalePrior<B> {
    /// Returns `z₂` and `z₃`.
    ///
    /// # Shapes
    /// - z1: `[batch, N, C']`
    /// - output: `[batch, N/4, C']` and `[batch, C']`
    pub fn forward(&self, z1: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let coarser = |z: Tensor<B, 3>, tokens: &Linear<B>, channels: &Linear<B>| {
            channels.forward(tokens.forward(z.swap_dims(1, 2)).swap_dims(1, 2))
        };
        let z2 = coarser(z1, &self.tokens1, &self.channels1);
        let z3 = coarser(z2.clone(), &self.tokens2, &self.channels2);
        (z2, z3.squeeze_dim(1))
    }

    /// Multiply-accumulates for one image.
    pub fn macs(&self) -> u64 {
        let [tokens, fewer] = self.tokens1.weight.dims().map(|size| size as u64);
        let channels = self.channels1.weight.dims()[0] as u64;
        debug_assert!(tokens >= fewer);
        macs::linear(&self.tokens1, channels)
            + macs::linear(&self.channels1, fewer)
            + macs::linear(&self.tokens2, channels)
            + macs::linear(&self.channels2, 1)
    }
}
