//! Parameters of convolutions and linear layers, as the backend's operations take them.

use burn::module::Param;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::prelude::{Backend, Tensor};
use burn::tensor::ops::FloatTensor;

use super::depthwise::DepthwiseConv;
use crate::kernels::LayerWeights;

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

impl<B: Backend> Layer<B> for DepthwiseConv<B> {
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

/// A linear layer whose output is `value` whatever comes in.
pub(super) fn filled<B: Backend>(linear: Linear<B>, value: f32) -> Linear<B> {
    let weight = linear.weight.map(|weight| constant(weight, 0.0));
    let bias = linear.bias;
    Linear {
        weight,
        bias: bias.map(|bias| bias.map(|bias| constant(bias, value))),
    }
}

/// A tensor of the same shape that learns if it did.
fn constant<B: Backend, const D: usize>(tensor: Tensor<B, D>, value: f32) -> Tensor<B, D> {
    let learns = tensor.is_require_grad();
    Tensor::full(tensor.dims(), value, &tensor.device()).set_require_grad(learns)
}

/// Applies a 1×1 convolution as one matrix product per image. Its gradients then are products too, where those of a
/// convolution are convolutions with a kernel as large as the image.
///
/// # Shapes
/// - x: `[batch, from, height, width]`
/// - output: `[batch, to, height, width]`
pub(super) fn pointwise<B: Backend>(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, from, height, width] = x.dims();
    let weight = conv.weight.val();
    let to = weight.dims()[0];
    let output = weight
        .reshape([1, to, from])
        .matmul(x.reshape([batch, from, height * width]));
    let output = output.reshape([batch, to, height, width]);
    match &conv.bias {
        Some(bias) => output + bias.val().reshape([1, to, 1, 1]),
        None => output,
    }
}
