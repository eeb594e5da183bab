//! Halving and doubling the resolution between levels.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::prelude::{Backend, Device, Tensor};
use burn::tensor::TensorPrimitive;

use super::layer::Layer;
use super::macs;
use crate::backend::LayerWeights;

/// A 3×3 convolution that keeps the size, zero padding 1.
pub(super) fn conv3x3<B: Backend>(
    from: usize,
    to: usize,
    bias: bool,
    device: &Device<B>,
) -> Conv2d<B> {
    Conv2dConfig::new([from, to], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(bias)
        .init(device)
}

/// Applies a convolution made by [`conv3x3`].
///
/// # Shapes
/// - x: `[batch, from, height, width]`
/// - output: `[batch, to, height, width]`
pub(super) fn convolve<B: crate::backend::Backend>(
    conv: &Conv2d<B>,
    x: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let LayerWeights { weight, bias } = conv.weights();
    let output = B::conv3x3(x.into_primitive().tensor(), weight, bias);
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// Moves each `factor × factor` square of pixels into channels.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`, height and width multiples of the factor
/// - output: `[batch, channels · factor², height / factor, width / factor]`
pub fn pixel_unshuffle<B: Backend>(x: Tensor<B, 4>, factor: usize) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let (rows, columns) = (height / factor, width / factor);
    x.reshape([batch, channels, rows, factor, columns, factor])
        .permute([0, 1, 3, 5, 2, 4])
        .reshape([batch, channels * factor * factor, rows, columns])
}

/// The inverse of [`pixel_unshuffle`].
///
/// # Shapes
/// - x: `[batch, channels · factor², height, width]`
/// - output: `[batch, channels, height · factor, width · factor]`
pub fn pixel_shuffle<B: Backend>(x: Tensor<B, 4>, factor: usize) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let channels = channels / (factor * factor);
    x.reshape([batch, channels, factor, factor, height, width])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([batch, channels, height * factor, width * factor])
}

/// Configuration of a [`Downsample`].
#[derive(Config, Debug)]
pub struct DownsampleConfig {
    /// Channels of the input, C.
    pub channels: usize,
}

/// 3×3 convolution C → C/2, then pixel-unshuffle by 2.
#[derive(Module, Debug)]
pub struct Downsample<B: Backend> {
    /// C → C/2.
    pub conv: Conv2d<B>,
}

impl DownsampleConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> Downsample<B> {
        Downsample {
            conv: conv3x3(self.channels, self.channels / 2, false, device),
        }
    }
}

impl<B: crate::backend::Backend> Downsample<B> {
    /// # Shapes
    /// - x: `[batch, C, height, width]`, height and width even
    /// - output: `[batch, 2C, height / 2, width / 2]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        pixel_unshuffle(convolve(&self.conv, x), 2)
    }

    /// Multiply-accumulates for one image of `pixels` input pixels.
    pub fn macs(&self, pixels: u64) -> u64 {
        macs::conv(&self.conv, pixels)
    }
}

/// Configuration of an [`Upsample`].
#[derive(Config, Debug)]
pub struct UpsampleConfig {
    /// Channels of the input, C.
    pub channels: usize,
}

/// 3×3 convolution C → 2C, then pixel-shuffle by 2.
#[derive(Module, Debug)]
pub struct Upsample<B: Backend> {
    /// C → 2C.
    pub conv: Conv2d<B>,
}

impl UpsampleConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> Upsample<B> {
        Upsample {
            conv: conv3x3(self.channels, 2 * self.channels, false, device),
        }
    }
}

impl<B: crate::backend::Backend> Upsample<B> {
    /// # Shapes
    /// - x: `[batch, C, height, width]`
    /// - output: `[batch, C/2, 2 · height, 2 · width]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        pixel_shuffle(convolve(&self.conv, x), 2)
    }

    /// Multiply-accumulates for one image of `pixels` input pixels.
    pub fn macs(&self, pixels: u64) -> u64 {
        macs::conv(&self.conv, pixels)
    }
}
