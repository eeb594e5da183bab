//! Multi-Dconv head transposed attention (Restormer, section 3.1).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::prelude::{Device, Tensor};
use burn::tensor::TensorPrimitive;

use super::depthwise::{DepthwiseConv, DepthwiseConvConfig};
use super::layer::{Layer, pointwise};
use super::layer_norm::LayerNorm;
use super::macs;
use super::modulation::{Modulation, ModulationConfig, modulation};
use crate::backend::{Backend, BranchWeights, plain};

/// Configuration of an [`Mdta`].
#[derive(Config, Debug)]
pub struct MdtaConfig {
    /// Channels, C.
    pub channels: usize,
    /// Heads; a divisor of the channels.
    pub heads: usize,
    /// Whether the convolutions have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// Channels of the prior that modulates the input; none for levels without modulation.
    pub modulation: Option<usize>,
}

/// Self-attention between channels: its cost is linear in pixels.
#[derive(Module, Debug)]
pub struct Mdta<B: Backend> {
    /// 1×1, C → 3C.
    pub qkv: Conv2d<B>,
    /// 3×3 on each of the 3C channels.
    pub qkv_dwconv: DepthwiseConv<B>,
    /// The factor on each head's logits: `[heads, 1, 1]`.
    pub temperature: Param<Tensor<B, 3>>,
    /// 1×1, C → C.
    pub project_out: Conv2d<B>,
    /// At level 4.
    pub modulation: Option<Modulation<B>>,
}

impl MdtaConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> Mdta<B> {
        let channels = self.channels;
        let pointwise = |from, to| {
            Conv2dConfig::new([from, to], [1, 1])
                .with_bias(self.bias)
                .init(device)
        };
        Mdta {
            qkv: pointwise(channels, 3 * channels),
            qkv_dwconv: DepthwiseConvConfig::new(3 * channels)
                .with_bias(self.bias)
                .init(device),
            temperature: Param::from_tensor(Tensor::ones([self.heads, 1, 1], device)),
            project_out: pointwise(channels, channels),
            modulation: self
                .modulation
                .map(|prior_channels| ModulationConfig::new(channels, prior_channels).init(device)),
        }
    }
}

impl<B: Backend> Mdta<B> {
    /// # Shapes
    /// - x and output: `[batch, C, height, width]`
    /// - z3: `[batch, C']`; not looked at without modulation
    pub fn forward(&self, x: Tensor<B, 4>, z3: Option<&Tensor<B, 2>>) -> Tensor<B, 4> {
        let x = match (&self.modulation, z3) {
            (Some(modulation), Some(z3)) => modulation.forward(x, z3.clone()),
            _ => x,
        };
        let qkv = self.qkv_dwconv.forward(pointwise(&self.qkv, x)); // [batch, 3C, height, width]
        let attended = plain::transposed_attention(qkv, self.temperature.val());
        pointwise(&self.project_out, attended)
    }

    /// `x + MDTA(LN(x))` as one operation of the backend, which may have a kernel for the whole.
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
            expand: self.qkv.weights(),
            depthwise: self.qkv_dwconv.weights(),
            project: self.project_out.weights(),
        };
        let temperature = self.temperature.val().into_primitive().tensor();
        let output = B::mdta(x.into_primitive().tensor(), temperature, weights);
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    /// Multiply-accumulates for one image of `pixels` pixels at this level.
    pub fn macs(&self, pixels: u64) -> u64 {
        let channels = self.project_out.weight.dims()[0] as u64;
        let heads = self.temperature.dims()[0] as u64;
        let attention = 2 * channels * channels / heads * pixels;
        macs::conv(&self.qkv, pixels)
            + macs::depthwise(&self.qkv_dwconv, pixels)
            + attention
            + macs::conv(&self.project_out, pixels)
            + self.modulation.as_ref().map_or(0, Modulation::macs)
    }
}
