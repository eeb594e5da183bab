//! Halving and doubling the resolution between levels.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::prelude::{Backend, Device, Tensor};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::macs;
use crate::kernels;
pub use crate::kernels::formulas::{pixel_shuffle, pixel_unshuffle};

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
pub(super) fn convolve<B: Backend>(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let weight = conv.weight.val();
    let bias = conv.bias.as_ref().map(Param::val);
    match kernels::conv3x3(x, weight.clone(), bias.clone()) {
        Ok(output) => output,
        Err(x) => conv2d(x, weight, bias, ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
    }
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

impl<B: Backend> Downsample<B> {
    /// # Shapes
    /// - x: `[batch, C, height, width]`, height and width even
    /// - output: `[batch, 2C, height / 2, width / 2]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match kernels::conv3x3_unshuffle(x, self.conv.weight.val()) {
            Ok(output) => output,
            Err(x) => pixel_unshuffle(convolve(&self.conv, x), 2),
        }
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

impl<B: Backend> Upsample<B> {
    /// # Shapes
    /// - x: `[batch, C, height, width]`
    /// - output: `[batch, C/2, 2 · height, 2 · width]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        pixel_shuffle(convolve(&self.conv, x), 2)
    }

    /// As [`forward`](Self::forward), with the channels of `skip` behind those of the result.
    ///
    /// # Shapes
    /// - skip: `[batch, D, 2 · height, 2 · width]`
    /// - output: `[batch, C/2 + D, 2 · height, 2 · width]`
    pub fn forward_with_skip(&self, x: Tensor<B, 4>, skip: Tensor<B, 4>) -> Tensor<B, 4> {
        match kernels::conv3x3_shuffle(x, self.conv.weight.val(), skip.clone()) {
            Ok(output) => output,
            Err(x) => Tensor::cat(vec![self.forward(x), skip], 1),
        }
    }

    /// Multiply-accumulates for one image of `pixels` input pixels.
    pub fn macs(&self, pixels: u64) -> u64 {
        macs::conv(&self.conv, pixels)
    }
}
