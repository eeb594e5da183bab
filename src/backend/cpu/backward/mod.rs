//! The gradients of MDTA, GDFN and HIM with their normalisation and residual, of one image.
//!
//! Nothing is kept from the forward pass but the input: the expanded channels are made again, whole. (A training patch is
//! small, and its planes stay in the cache; it is the activations of all blocks together that would not.) Products share
//! out their rows among threads, the rest its channels, so that no sum depends on how many threads there are.

mod gdfn;
mod him;
mod mdta;

use std::ops::{Deref, DerefMut};

use burn::tensor::Shape;
use rayon::prelude::*;
use rten_simd::SimdOp;

use super::branch::Branch;
use super::depthwise::{self, Framed, Plane, Taps, convolve, correlate};
use super::normalize::Norm;
use super::operations::CpuTensor;
use super::product::{Into, Matrix, wide_product};
use super::scratch::{self, Buffer};
use super::{Dims, LANES, channel_norm};
use crate::backend::BranchWeights;

pub(super) use gdfn::gdfn;
pub(super) use him::him;
pub(super) use mdta::mdta;

/// A weight's gradient, which adds up over the images of a batch.
pub(super) struct Gradient {
    values: Vec<f32>,
    shape: Shape,
}

impl Gradient {
    pub fn zero<T: CpuTensor>(weight: &T) -> Self {
        Self {
            values: vec![0.0; weight.elements().len()],
            shape: weight.shape(),
        }
    }

    pub fn into_tensor<T: CpuTensor>(self) -> T {
        T::from_elements(self.values, self.shape)
    }
}

impl Deref for Gradient {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Gradient {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// The gradients of an image and of its normalisation.
pub(super) struct Through {
    pub x: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// An image's sizes.
type Size = [usize; 3];

/// Rows of pixels.
fn rows(data: &[f32], count: usize, pixels: usize) -> Matrix<'_> {
    Matrix::new(data, count, pixels, pixels)
}

/// From a row of a buffer to the next. Rows of a power of two would all fall on the same few places of a cache.
fn stride(pixels: usize) -> usize {
    pixels.next_multiple_of(LANES) + LANES
}

/// Rows of a buffer.
fn spaced(data: &[f32], count: usize, pixels: usize) -> Matrix<'_> {
    Matrix::new(data, count, pixels, stride(pixels))
}

/// The normalised image.
fn normalized(x: &[f32], [channels, height, width]: Size, norm: &Norm) -> Buffer {
    let stride = stride(height * width);
    let mut output = scratch::buffer(channels * stride);
    norm.apply_to_image(x, height * width, &mut output, stride);
    output
}

/// The expanded channels, `[expanded, pixels]`.
fn expand(branch: &Branch<'_>, normalized: &[f32], channels: usize, pixels: usize) -> Buffer {
    let expanded = branch.expand.len() / channels;
    let mut output = scratch::buffer(expanded * stride(pixels));
    wide_product(
        Into::Set,
        Matrix::new(branch.expand, expanded, channels, channels),
        spaced(normalized, channels, pixels),
        &mut output,
        stride(pixels),
    );
    if let Some(bias) = branch.expand_bias {
        for (plane, bias) in output.chunks_exact_mut(stride(pixels)).zip(bias) {
            for x in &mut plane[..pixels] {
                *x += bias;
            }
        }
    }
    output
}

/// Adds a plane's gradients to its taps', puts the input's in the place of the input `u`, and returns their sum. `framed`
/// holds the input with its frame, and is used up.
fn convolution_gradients(
    u: &mut [f32],
    framed: &mut [f32],
    grad: &[f32],
    weight: &Taps,
    [height, width]: [usize; 2],
    total: &mut [f32],
) -> f32 {
    let taps = correlate(Framed::new(framed, height, width), grad);
    add(Some(total), taps);
    depthwise::frame(grad, width, framed);
    let mut turned = *weight;
    turned.reverse();
    let output = Plane { data: u, width };
    convolve(Framed::new(framed, height, width), &turned, 0.0, output);
    sum(u)
}

/// From the gradient of the expanded channels to the rest.
#[allow(clippy::too_many_arguments)] // The last part of two functions.
fn finish(
    x: &[f32],
    size: Size,
    norm: &Norm,
    branch: &Branch<'_>,
    grad: &[f32],
    normalized: &[f32],
    expanded_gradient: &[f32],
    gradients: &mut BranchWeights<Gradient>,
) -> Through {
    let [channels, height, width] = size;
    let pixels = height * width;
    let expanded = branch.expand.len() / channels;
    let expanded_gradient = spaced(expanded_gradient, expanded, pixels);
    let weight = Matrix::new(branch.expand, expanded, channels, channels);
    wide_product(
        Into::Add,
        expanded_gradient,
        spaced(normalized, channels, pixels).transposed(),
        &mut gradients.expand.weight,
        channels,
    );
    let mut normalized_gradient = scratch::buffer(channels * pixels);
    wide_product(
        Into::Set,
        weight.transposed(),
        expanded_gradient,
        &mut normalized_gradient,
        pixels,
    );
    let bias = gradients.project.bias.as_deref_mut();
    add(bias, grad.chunks_exact(pixels).map(sum));
    through_norm(x, size, norm, &normalized_gradient, grad)
}

/// From the gradient of the normalised image to the image's, with the residual's `grad` added, and the normalisation's.
fn through_norm(
    x: &[f32],
    [channels, height, width]: Size,
    norm: &Norm,
    normalized_gradient: &[f32],
    grad: &[f32],
) -> Through {
    let pixels = height * width;
    let shift = normalized_gradient
        .par_chunks_exact(pixels)
        .map(sum)
        .collect();
    let kind = channel_norm::Kind {
        with_bias: norm.centered,
        epsilon: norm.epsilon,
    };
    let dims: Dims = [1, channels, height, width];
    let (mut x_gradient, scale) =
        channel_norm::backward(x, &norm.scale, normalized_gradient, kind, dims);
    let planes = x_gradient.par_chunks_exact_mut(pixels);
    planes
        .zip(grad.par_chunks_exact(pixels))
        .for_each(|(output, grad)| {
            for (output, grad) in output.iter_mut().zip(grad) {
                *output += grad;
            }
        });
    Through {
        x: x_gradient,
        scale,
        shift,
    }
}

/// To the gradient of a bias, if there is one, or of a weight.
fn add(totals: Option<&mut [f32]>, parts: impl IntoIterator<Item = f32>) {
    for (total, part) in totals.into_iter().flatten().zip(parts) {
        *total += part;
    }
}

fn sum(values: &[f32]) -> f32 {
    rten_vecmath::Sum::new(values).dispatch()
}
