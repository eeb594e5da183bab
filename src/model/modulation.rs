//! How the prior's last scale modulates the blocks of level 4.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;

use super::layer::filled;
use super::macs;

/// Configuration of a [`Modulation`].
#[derive(Config, Debug)]
pub struct ModulationConfig {
    /// Channels of the features.
    pub channels: usize,
    /// Channels of the prior, C'.
    pub prior_channels: usize,
}

/// `x · Linear(z₃) + Linear(z₃)`, the same for every pixel.
#[derive(Module, Debug)]
pub struct Modulation<B: Backend> {
    /// C' → C, the factor.
    pub scale: Linear<B>,
    /// C' → C, the summand.
    pub shift: Linear<B>,
}

impl ModulationConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Modulation<B> {
        let linear = LinearConfig::new(self.prior_channels, self.channels);
        Modulation {
            scale: linear.init(device),
            shift: linear.init(device),
        }
    }
}

impl<B: Backend> Modulation<B> {
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    /// - z3: `[batch, C']`
    pub fn forward(&self, x: Tensor<B, 4>, z3: Tensor<B, 2>) -> Tensor<B, 4> {
        let [scale, shift] = self.parts(z3);
        let [batch, channels] = scale.dims();
        let per_channel = |values: Tensor<B, 2>| values.reshape([batch, channels, 1, 1]);
        x * per_channel(scale) + per_channel(shift)
    }

    /// The factor and the summand, `[batch, channels]` each, from z3 `[batch, C']`.
    pub(super) fn parts(&self, z3: Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        [&self.scale, &self.shift].map(|linear| linear.forward(z3.clone()))
    }

    /// The same with the factor 1 and the summand 0 for every prior, until it has learnt others.
    pub fn without_effect(self) -> Self {
        Self {
            scale: filled(self.scale, 1.0),
            shift: filled(self.shift, 0.0),
        }
    }

    /// Multiply-accumulates for one image.
    pub fn macs(&self) -> u64 {
        macs::linear(&self.scale, 1) + macs::linear(&self.shift, 1)
    }
}

/// The factor and summand of an optional modulation.
///
/// # Panics
/// If there is a modulation but no prior.
pub(super) fn modulation<B: Backend>(
    modulation: &Option<Modulation<B>>,
    z3: Option<&Tensor<B, 2>>,
) -> Option<[Tensor<B, 2>; 2]> {
    let modulation = modulation.as_ref()?;
    Some(modulation.parts(z3.expect(MISSING).clone()))
}

/// What a modulated block says without a prior.
pub(super) const MISSING: &str = "z3: this block is modulated by the prior, and wants one";
