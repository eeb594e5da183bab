//! The gradients of MDTA, GDFN and HIM with their normalisation and residual, of one image.
//!
//! Nothing is kept from the forward pass but the input: the expanded channels are made again, whole. (A training patch is
//! small, and its planes stay in the cache; it is the activations of all blocks together that would not.) Products share
//! out their rows among threads, the rest its channels, so that no sum depends on how many threads there are. Both kinds of
//! products, of weights and pixels and those that sum over pixels, read the planes as they lie where they are thin.

mod gdfn;
mod him;
mod mdta;

use std::ops::{Deref, DerefMut};

use burn::tensor::Shape;
use rayon::prelude::*;

use super::branch::Branch;
use super::depthwise::{self, Framed, Plane, Taps, convolve, correlate};
use super::inner_products::{Rows, wide_inner_products};
use super::isa::dispatch;
use super::normalize::Norm;
use super::operations::CpuTensor;
use super::panels::{PanelLayout, wide_multiply};
use super::product::{Into, Matrix, wide_product};
use super::scratch::{self, Buffer};
use super::{Dims, LANES, channel_norm};
use crate::kernels::BranchWeights;

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

/// From a row of a buffer to the next. Rows of a power of two would all fall on the same few places of a cache.
fn stride(pixels: usize) -> usize {
    pixels.next_multiple_of(LANES) + LANES
}

/// Planes in a buffer.
#[derive(Clone, Copy)]
struct Planes<'a> {
    data: &'a [f32],
    stride: usize,
    count: usize,
}

/// Planes of an image, one [`stride`] apart.
fn planes(data: &[f32], count: usize, pixels: usize) -> Planes<'_> {
    Planes {
        data,
        stride: stride(pixels),
        count,
    }
}

/// From so many rows and columns on, a product takes so long that it pays to rearrange its operands.
const THICK: usize = 48;

/// Planes in a buffer, which leaves room behind each.
fn copied(data: &[f32], pixels: usize) -> Buffer {
    let mut output = scratch::buffer(data.len() / pixels * stride(pixels));
    output
        .par_chunks_exact_mut(stride(pixels))
        .zip(data.par_chunks_exact(pixels))
        .for_each(|(output, plane)| output[..pixels].copy_from_slice(plane));
    output
}

/// Weights times planes: `weights · input`, or added to the output, of so many pixels.
fn weigh(
    into: Into,
    weights: &[f32],
    bias: Option<&[f32]>,
    input: Planes<'_>,
    pixels: usize,
    output: &mut [f32],
    stride: usize,
) {
    let (rows, columns) = (weights.len() / input.count, input.count);
    let weights = Matrix::new(weights, rows, columns, columns);
    if rows.min(columns) < THICK {
        let source = (input.data, PanelLayout::planes(input.stride), pixels);
        return wide_multiply(into, weights, bias, source, output, stride);
    }
    let input = Matrix::new(input.data, columns, pixels, input.stride);
    wide_product(into, weights, input, output, stride);
    for (plane, bias) in output.chunks_mut(stride).zip(bias.into_iter().flatten()) {
        for x in &mut plane[..pixels] {
            *x += bias;
        }
    }
}

/// Sums over so many pixels: `left · rightᵀ`, or added to the output.
fn over_pixels(
    into: Into,
    left: Planes<'_>,
    right: Planes<'_>,
    pixels: usize,
    output: &mut [f32],
    stride: usize,
) {
    if left.count.min(right.count) < THICK {
        let [left, right] = [left, right].map(|planes| Rows {
            data: planes.data,
            source: PanelLayout::planes(planes.stride),
            count: planes.count,
        });
        return wide_inner_products(into, left, right, pixels, output, stride);
    }
    let [l, r] =
        [left, right].map(|planes| Matrix::new(planes.data, planes.count, pixels, planes.stride));
    // A general product of two matrices by rows rearranges the second, so let that be the smaller.
    if right.count <= left.count {
        return wide_product(into, l, r.transposed(), output, stride);
    }
    let mut turned = vec![0.0; left.count * right.count];
    wide_product(Into::Set, r, l.transposed(), &mut turned, left.count);
    for (column, turned) in turned.chunks_exact(left.count).enumerate() {
        for (row, x) in turned.iter().enumerate() {
            let output = &mut output[row * stride + column];
            *output = if into == Into::Add { *output + x } else { *x };
        }
    }
}

/// Weights `[rows, columns]` the other way around.
fn transposed(weights: &[f32], columns: usize) -> Vec<f32> {
    let rows = weights.len() / columns;
    let mut output = vec![0.0; weights.len()];
    // A cache line of each row at a time.
    for first in (0..columns).step_by(LANES) {
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            for column in first..columns.min(first + LANES) {
                output[column * rows + row] = weights[column];
            }
        }
    }
    output
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
    weigh(
        Into::Set,
        branch.expand,
        branch.expand_bias,
        planes(normalized, channels, pixels),
        pixels,
        &mut output,
        stride(pixels),
    );
    output
}

/// Adds a plane's gradients to its taps', and puts the input's in the place of the input `u`: of as many rows as `u` has,
/// `before` of which there are in `framed`, which holds the input with its frame and is used up, and in `grad`.
fn convolution_gradients(
    u: &mut [f32],
    framed: &mut [f32],
    grad: &[f32],
    weight: &Taps,
    width: usize,
    before: [usize; 2],
    total: &mut [f32],
) {
    let height = u.len() / width;
    let [of_input, of_grad] = before.map(|rows| rows * (width + 2));
    let own = &grad[before[1] * width..][..u.len()];
    let taps = correlate(Framed::new(&framed[of_input..], height, width), own);
    add(Some(total), taps);
    depthwise::frame(grad, width, framed);
    let mut turned = *weight;
    turned.reverse();
    let output = Plane { data: u, width };
    let framed = Framed::new(&framed[of_grad..], height, width);
    convolve(framed, &turned, 0.0, output);
}

/// The sum of a plane, if there is a bias whose gradient this is.
fn sum_for(bias: Option<&[f32]>, plane: &[f32]) -> f32 {
    bias.map_or(0.0, |_| sum(plane))
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
    let expanded_gradient = planes(expanded_gradient, expanded, pixels);
    over_pixels(
        Into::Add,
        expanded_gradient,
        planes(normalized, channels, pixels),
        pixels,
        &mut gradients.expand.weight,
        channels,
    );
    let mut normalized_gradient = scratch::buffer(channels * pixels);
    weigh(
        Into::Set,
        &transposed(branch.expand, channels),
        None,
        expanded_gradient,
        pixels,
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
    let kind = channel_norm::NormSettings {
        with_bias: norm.centered,
        epsilon: norm.epsilon,
    };
    let dims: Dims = [1, channels, height, width];
    let (grad, residual) = (normalized_gradient, Some(grad));
    let gradients = channel_norm::backward(x, &norm.scale, grad, residual, kind, dims);
    Through {
        x: gradients.x,
        scale: gradients.weight,
        shift: gradients.bias,
    }
}

/// To the gradient of a bias, if there is one, or of a weight.
fn add(totals: Option<&mut [f32]>, parts: impl IntoIterator<Item = f32>) {
    for (total, part) in totals.into_iter().flatten().zip(parts) {
        *total += part;
    }
}

fn sum(values: &[f32]) -> f32 {
    dispatch(rten_vecmath::Sum::new(values))
}
