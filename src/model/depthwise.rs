//! The depthwise 3×3 convolution of MDTA and GDFN.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::prelude::{Backend, Device, Tensor};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use crate::kernels::{self, formulas::framed};

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
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map(Param::val);
        let x = match kernels::depthwise_conv3x3(x, weight.clone(), bias.clone()) {
            Ok(output) => return output,
            Err(x) => x,
        };
        let [_, channels, height, width] = x.dims();
        if !B::ad_enabled(&x.device()) {
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], channels);
            return conv2d(x, weight, bias, options);
        }
        // Nine products of the shifted input. (Burn differentiates a grouped convolution by one for each channel.)
        let framed = framed(x);
        let taps = weight.reshape([1, channels, 9, 1]);
        let output = (0..9)
            .map(|tap| {
                let shifted = framed.clone().narrow(2, tap / 3, height);
                shifted.narrow(3, tap % 3, width) * taps.clone().narrow(2, tap, 1)
            })
            .reduce(|sum, product| sum + product)
            .expect("nine taps");
        match bias {
            Some(bias) => output + bias.reshape([1, channels, 1, 1]),
            None => output,
        }
    }
}
