//! Gated-Dconv feed-forward network (Restormer, section 3.2).

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::prelude::{Backend, Device, Tensor};

use super::depthwise::{DepthwiseConv, DepthwiseConvConfig};
use super::gelu::gelu;
use super::layer::{Layer, pointwise};
use super::layer_norm::LayerNorm;
use super::macs;
use super::modulation::{MISSING, Modulation, ModulationConfig, modulation};
use crate::kernels::{self, BranchWeights};

/// Configuration of a [`Gdfn`].
#[derive(Config, Debug)]
pub struct GdfnConfig {
    /// Channels, C.
    pub channels: usize,
    /// The hidden channels are `floor(C · expansion)`.
    pub expansion: f64,
    /// Whether the convolutions have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// Channels of the prior that modulates the input; none for levels without modulation.
    pub modulation: Option<usize>,
}

/// Two branches of `h` hidden channels, one gating the other: `gelu(a) · b`.
#[derive(Module, Debug)]
pub struct Gdfn<B: Backend> {
    /// 1×1, C → 2h.
    pub project_in: Conv2d<B>,
    /// 3×3 on each of the 2h channels.
    pub dwconv: DepthwiseConv<B>,
    /// 1×1, h → C.
    pub project_out: Conv2d<B>,
    /// At level 4.
    pub modulation: Option<Modulation<B>>,
}

impl GdfnConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> Gdfn<B> {
        let channels = self.channels;
        let hidden = (channels as f64 * self.expansion).floor() as usize;
        let pointwise = |from, to| {
            Conv2dConfig::new([from, to], [1, 1])
                .with_bias(self.bias)
                .init(device)
        };
        Gdfn {
            project_in: pointwise(channels, 2 * hidden),
            dwconv: DepthwiseConvConfig::new(2 * hidden)
                .with_bias(self.bias)
                .init(device),
            project_out: pointwise(hidden, channels),
            modulation: self
                .modulation
                .map(|prior_channels| ModulationConfig::new(channels, prior_channels).init(device)),
        }
    }
}

impl<B: Backend> Gdfn<B> {
    /// # Shapes
    /// - x and output: `[batch, C, height, width]`
    /// - z3: `[batch, C']`; not looked at without modulation
    ///
    /// # Panics
    /// If a modulated block is given no prior.
    pub fn forward(&self, x: Tensor<B, 4>, z3: Option<&Tensor<B, 2>>) -> Tensor<B, 4> {
        let x = match &self.modulation {
            Some(modulation) => modulation.forward(x, z3.expect(MISSING).clone()),
            None => x,
        };
        let hidden = self.dwconv.forward(pointwise(&self.project_in, x)); // [batch, 2h, height, width]
        let gated = match kernels::gelu_gate(hidden) {
            Ok(gated) => gated,
            Err(hidden) => {
                let count = hidden.dims()[1] / 2;
                let (a, b) = (
                    hidden.clone().narrow(1, 0, count),
                    hidden.narrow(1, count, count),
                );
                gelu(a) * b
            }
        }; // [batch, h, height, width]
        pointwise(&self.project_out, gated)
    }

    /// `x + GDFN(LN(x))`
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_residual(
        &self,
        x: Tensor<B, 4>,
        norm: &LayerNorm<B>,
        z3: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 4> {
        let weights = BranchWeights {
            norm: norm.weights(modulation(&self.modulation, z3)),
            expand: self.project_in.weights(),
            depthwise: self.dwconv.weights(),
            project: self.project_out.weights(),
        };
        let x = match kernels::gdfn(x, weights) {
            Ok(output) => return output,
            Err(x) => x,
        };
        x.clone() + self.forward(norm.forward_image(x), z3)
    }

    /// Multiply-accumulates for one image of `pixels` pixels at this level.
    pub fn macs(&self, pixels: u64) -> u64 {
        macs::conv(&self.project_in, pixels)
            + macs::depthwise(&self.dwconv, pixels)
            + macs::conv(&self.project_out, pixels)
            + self.modulation.as_ref().map_or(0, Modulation::macs)
    }
}
