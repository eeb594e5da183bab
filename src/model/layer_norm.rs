//! Layer normalisation over channels, of images and of tokens.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::prelude::*;
use burn::tensor::ops::FloatTensor;

use super::layer::primitive;
use crate::kernels::{self, NormWeights, formulas};
use serde::{Deserialize, Serialize};

/// The layer normalisation over channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// `(x − mean) / √(var + ε) · weight + bias`.
    #[default]
    WithBias,
    /// `x / √(var + ε) · weight`, the variance still about the mean.
    BiasFree,
}

/// Configuration of a [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Channels.
    pub channels: usize,
    /// With or without mean and bias.
    #[config(default = "NormKind::WithBias")]
    pub kind: NormKind,
    /// Added to the variance.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Normalises each pixel or token over its channels.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// `[channels]`, initially ones.
    pub weight: Param<Tensor<B, 1>>,
    /// `[channels]`, initially zeros; none if bias-free.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNormConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &B::Device) -> LayerNorm<B> {
        let bias = || Initializer::Zeros.init([self.channels], device);
        LayerNorm {
            weight: Initializer::Ones.init([self.channels], device),
            bias: (self.kind == NormKind::WithBias).then(bias),
            epsilon: self.epsilon,
        }
    }
}

impl<B: Backend> LayerNorm<B> {
    /// Normalises over dimension 1.
    ///
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    pub fn forward_image(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map(Param::val);
        match kernels::channel_norm(x, weight.clone(), bias.clone(), self.epsilon) {
            Ok(output) => output,
            Err(x) => formulas::channel_norm(x, weight, bias, self.epsilon),
        }
    }

    /// For an operation on a whole block; `modulation` is applied behind it.
    pub(super) fn weights(
        &self,
        modulation: Option<[Tensor<B, 2>; 2]>,
    ) -> NormWeights<FloatTensor<B>> {
        NormWeights {
            weight: self.weight.val().into_primitive().tensor(),
            bias: primitive(&self.bias),
            epsilon: self.epsilon,
            modulation: modulation.map(|parts| parts.map(|part| part.into_primitive().tensor())),
        }
    }

    /// Normalises over the last dimension.
    ///
    /// # Shapes
    /// - x and output: `[batch, tokens, channels]`
    pub fn forward_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let mean = x.clone().mean_dim(2);
        let centered = x.clone() - mean;
        let variance = centered.clone().square().mean_dim(2);
        // A quotient, because NdArray's `recip` keeps 12 bits.
        let deviation = variance.add_scalar(self.epsilon).sqrt();
        let weight = self.weight.val().unsqueeze();
        match &self.bias {
            Some(bias) => centered / deviation * weight + bias.val().unsqueeze(),
            None => x / deviation * weight,
        }
    }
}
