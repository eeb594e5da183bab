//! Every operation of [`Backend`](super::Backend) in plain Burn operations.
//!
//! These are the methods' bodies, and the twins that tests and benchmarks hold the kernels against.

use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, FloatTensor};
use burn::tensor::{Tensor, TensorPrimitive};

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Burn's grouped `conv2d`: backends have kernels for its forward pass.
pub fn depthwise_conv3x3<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let x: Tensor<B, 4> = tensor(x);
    let channels = x.dims()[1];
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], channels);
    primitive(conv2d(x, tensor(weight), bias.map(tensor::<B, 1>), options))
}

/// The input's gradient is the convolution of `grad` with the weights turned by 180°; the weight's is nine products of
/// `grad` and the shifted input. Burn's own backward makes one convolution for each of the channels instead.
pub fn depthwise_conv3x3_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (x, weight, grad): (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) =
        (tensor(x), tensor(weight), tensor(grad));
    let [_, channels, height, width] = x.dims();

    let turned = weight.flip([2, 3]);
    let grad_x = depthwise_conv3x3::<B>(primitive(grad.clone()), primitive(turned), None);

    let padded = x.pad((1, 1, 1, 1), 0.0f32);
    let taps = (0..9)
        .map(|tap| {
            let (row, column) = (tap / 3, tap % 3);
            let shifted = padded
                .clone()
                .narrow(2, row, height)
                .narrow(3, column, width);
            (shifted * grad.clone())
                .sum_dim(3)
                .sum_dim(2)
                .sum_dim(0) // [1, channels, 1, 1]
                .reshape([channels, 1, 1])
        })
        .collect();
    let grad_weight = Tensor::cat(taps, 2).reshape([channels, 1, 3, 3]);
    (grad_x, primitive(grad_weight))
}
