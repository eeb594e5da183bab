//! The depthwise 3×3 convolution of MDTA and GDFN.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::prelude::{Device, Tensor};
use burn::tensor::TensorPrimitive;

use super::layer::Layer;
use crate::backend::{Backend, LayerWeights};

/// Configuration of a [`DepthwiseConv`].
#[derive(Config, Debug)]
pub struct DepthwiseConvConfig {
    /// Channels.
    pub channels: usize,
    /// Whether a bias is added.
    #[config(default = false)]
    pub bias: bool,
}

/// Convolves each channel with its own 3×3 kernel, stride 1, zero padding 1.
#[derive(Module, Debug)]
pub struct DepthwiseConv<B: Backend> {
    /// `[channels, 1, 3, 3]`
    pub weight: Param<Tensor<B, 4>>,
    /// `[channels]`
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl DepthwiseConvConfig {
    /// Builds the module on `device`, initialised as PyTorch does (uniform up to `1 / √9`).
    pub fn init<B: Backend>(&self, device: &Device<B>) -> DepthwiseConv<B> {
        let initializer = Initializer::Uniform {
            min: -1.0 / 3.0,
            max: 1.0 / 3.0,
        };
        DepthwiseConv {
            weight: initializer.init([self.channels, 1, 3, 3], device),
            bias: self.bias.then(|| initializer.init([self.channels], device)),
        }
    }
}

impl<B: Backend> DepthwiseConv<B> {
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let LayerWeights { weight, bias } = self.weights();
        let output = B::depthwise_conv3x3(x.into_primitive().tensor(), weight, bias);
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }
}
