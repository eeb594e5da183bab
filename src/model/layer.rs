//! Parameters of convolutions and linear layers, as the backend's operations take them.

use burn::module::Param;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::prelude::{Backend, Tensor};
use burn::tensor::ops::FloatTensor;

use super::depthwise::DepthwiseConv;
use crate::backend::{self, LayerWeights, plain};

/// An optional parameter's values.
pub(super) fn primitive<B: Backend, const D: usize>(
    parameter: &Option<Param<Tensor<B, D>>>,
) -> Option<FloatTensor<B>> {
    let values = parameter.as_ref().map(Param::val);
    values.map(|values| values.into_primitive().tensor())
}

/// A layer with weights and perhaps a bias.
pub(super) trait Layer<B: Backend> {
    fn weights(&self) -> LayerWeights<FloatTensor<B>>;
}

impl<B: Backend> Layer<B> for Conv2d<B> {
    fn weights(&self) -> LayerWeights<FloatTensor<B>> {
        layer(&self.weight, &self.bias)
    }
}

impl<B: Backend> Layer<B> for Linear<B> {
    fn weights(&self) -> LayerWeights<FloatTensor<B>> {
        layer(&self.weight, &self.bias)
    }
}

impl<B: backend::Backend> Layer<B> for DepthwiseConv<B> {
    fn weights(&self) -> LayerWeights<FloatTensor<B>> {
        layer(&self.weight, &self.bias)
    }
}

fn layer<B: Backend, const D: usize>(
    weight: &Param<Tensor<B, D>>,
    bias: &Option<Param<Tensor<B, 1>>>,
) -> LayerWeights<FloatTensor<B>> {
    LayerWeights {
        weight: weight.val().into_primitive().tensor(),
        bias: primitive(bias),
    }
}

/// Applies a 1×1 convolution as one matrix product per image.
///
/// # Shapes
/// - x: `[batch, from, height, width]`
/// - output: `[batch, to, height, width]`
pub(super) fn pointwise<B: Backend>(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let LayerWeights { weight, bias } = conv.weights();
    plain::pointwise(x, weight, bias)
}
