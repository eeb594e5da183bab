//! Layer normalisation over channels, of images and of tokens.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::prelude::*;

use crate::config::NormKind;

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
        let bias = || Param::from_tensor(Tensor::zeros([self.channels], device));
        LayerNorm {
            weight: Param::from_tensor(Tensor::ones([self.channels], device)),
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
        let [_, channels, _, _] = x.dims();
        self.normalize(x, 1, [1, channels, 1, 1])
    }

    /// Normalises over the last dimension.
    ///
    /// # Shapes
    /// - x and output: `[batch, tokens, channels]`
    pub fn forward_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [_, _, channels] = x.dims();
        self.normalize(x, 2, [1, 1, channels])
    }

    fn normalize<const D: usize>(
        &self,
        x: Tensor<B, D>,
        dim: usize,
        affine: [usize; D],
    ) -> Tensor<B, D> {
        let mean = x.clone().mean_dim(dim);
        let centered = x.clone() - mean;
        let variance = centered.clone().square().mean_dim(dim);
        let scale = variance.add_scalar(self.epsilon).sqrt().recip();
        let weight = self.weight.val().reshape(affine);
        match &self.bias {
            Some(bias) => centered * scale * weight + bias.val().reshape(affine),
            None => x * scale * weight,
        }
    }
}
