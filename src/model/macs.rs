//! Multiply-accumulate operations, counted from the sizes of a built module's own tensors.

use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::backend::Backend;

use super::depthwise::DepthwiseConv;

/// Of a convolution with `pixels` output pixels.
pub(super) fn conv<B: Backend>(conv: &Conv2d<B>, pixels: u64) -> u64 {
    conv.weight.shape().num_elements() as u64 * pixels
}

/// Of a depthwise convolution over `pixels` pixels.
pub(super) fn depthwise<B: Backend>(conv: &DepthwiseConv<B>, pixels: u64) -> u64 {
    conv.weight.shape().num_elements() as u64 * pixels
}

/// Of a linear map applied `rows` times.
pub(super) fn linear<B: Backend>(linear: &Linear<B>, rows: u64) -> u64 {
    linear.weight.shape().num_elements() as u64 * rows
}
