//! Layer normalisation over channels, alone, and its backward.
//!
//! Memory is `[batch, channels, height, width]`, so a pixel's channels lie a plane apart. The backward takes strips of
//! [`STRIP`] pixels, whose channels together stay in the second-level cache: one pass for the mean, one for the
//! variance, two for the result, each over contiguous rows of the strip. Threads take strips, and sums over strips are
//! added in order, so results do not depend on how many threads there are.

use rayon::prelude::*;
use rten_simd::{Isa, SimdOp};

use super::isa::dispatch;
use super::normalize::Norm;
use super::{Dims, LANES};

/// Pixels of a strip.
const STRIP: usize = 256;

type Strip = [f32; STRIP];

/// The kind and its constant.
#[derive(Clone, Copy)]
pub(super) struct NormSettings {
    pub with_bias: bool,
    pub epsilon: f32,
}

/// Mean and `1/√(var + ε)` of each pixel of a strip.
struct Statistics {
    mean: Strip,
    scale: Strip,
}

impl Statistics {
    /// `at` gives a channel's pixels of the strip.
    #[inline(always)] // Into the vector code.
    fn new<'a>(channels: usize, epsilon: f32, at: impl Fn(usize) -> &'a [f32]) -> Self {
        let share = 1.0 / channels as f32;
        let (mut mean, mut scale) = ([0.0; STRIP], [0.0; STRIP]);
        for channel in 0..channels {
            for (mean, x) in mean.iter_mut().zip(at(channel)) {
                *mean += x * share;
            }
        }
        for channel in 0..channels {
            for ((variance, mean), x) in scale.iter_mut().zip(&mean).zip(at(channel)) {
                *variance += (x - mean) * (x - mean) * share;
            }
        }
        for scale in &mut scale {
            *scale = 1.0 / (*scale + epsilon).sqrt();
        }
        Self { mean, scale }
    }

    /// What the bias-free kind takes off: nothing.
    #[inline(always)]
    fn offset(&self, kind: NormSettings) -> Strip {
        if kind.with_bias {
            self.mean
        } else {
            [0.0; STRIP]
        }
    }
}

/// Runs plain loops compiled for the widest vectors that the processor has.
pub(super) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    struct Plain<F>(F);
    impl<R, F: FnOnce() -> R> SimdOp for Plain<F> {
        type Output = R;

        #[inline(always)]
        fn eval<I: Isa>(self, _: I) -> R {
            (self.0)()
        }
    }
    dispatch(Plain(work))
}

/// The strips of one image as ranges of pixels.
fn strips(pixels: usize) -> impl IndexedParallelIterator<Item = std::ops::Range<usize>> {
    (0..pixels.div_ceil(STRIP))
        .into_par_iter()
        .map(move |strip| strip * STRIP..pixels.min((strip + 1) * STRIP))
}

/// Shapes: x and the result as `dims`, weight and bias `[channels]`.
pub(super) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
    dims: Dims,
) -> Vec<f32> {
    let [_, channels, height, width] = dims;
    let pixels = height * width;
    let norm = Norm {
        scale: weight.to_vec(),
        shift: bias.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec),
        centered: bias.is_some(),
        epsilon,
    };
    let mut output = vec![0.0; x.len()];
    let size = (channels * pixels).max(1);
    for (output, x) in output.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
        norm.apply_to_image(x, pixels, output, pixels);
    }
    output
}

/// What [`backward`] returns.
pub(super) struct Gradients {
    /// For the input, as it is.
    pub x: Vec<f32>,
    /// For the weight, `[channels]`.
    pub weight: Vec<f32>,
    /// For the bias, `[channels]`: the sum of the output's gradient.
    pub bias: Vec<f32>,
}

/// The gradients; see `plain` for the formula. A `residual` of x's size is added to the input's.
pub(super) fn backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    residual: Option<&[f32]>,
    kind: NormSettings,
    dims: Dims,
) -> Gradients {
    let [_, channels, height, width] = dims;
    let pixels = height * width;
    let mut gradients = Gradients {
        x: vec![0.0; x.len()],
        weight: vec![0.0; channels],
        bias: vec![0.0; channels],
    };
    if x.is_empty() {
        return gradients;
    }
    let size = channels * pixels;
    let images = gradients.x.chunks_exact_mut(size).enumerate();
    for (image, grad_x) in images {
        let of_image = image * size..(image + 1) * size;
        let (x, grad) = (&x[of_image.clone()], &grad[of_image.clone()]);
        let residual = residual.map(|residual| &residual[of_image]);
        let sums: Vec<Vec<[f32; 2]>> = strips_mut(grad_x, pixels)
            .map(|(range, rows)| {
                let x = |channel: usize| &x[channel * pixels..][range.clone()];
                let grad = |channel: usize| &grad[channel * pixels..][range.clone()];
                let residual = residual
                    .map(|residual| |channel: usize| &residual[channel * pixels..][range.clone()]);
                vectorized(
                    #[inline(always)]
                    || backward_strip(x, grad, residual, weight, kind, rows),
                )
            })
            .collect();
        for sums in sums {
            let totals = gradients.weight.iter_mut().zip(&mut gradients.bias);
            for ((weight, bias), [of_weight, of_bias]) in totals.zip(sums) {
                *weight += of_weight;
                *bias += of_bias;
            }
        }
    }
    gradients
}

/// Fills `grad_x`, a row for each channel, and returns the weight's and the bias's gradient from this strip.
#[inline(always)] // Into the vector code.
fn backward_strip<'a>(
    x: impl Fn(usize) -> &'a [f32],
    grad: impl Fn(usize) -> &'a [f32],
    residual: Option<impl Fn(usize) -> &'a [f32]>,
    weight: &[f32],
    kind: NormSettings,
    grad_x: Vec<&mut [f32]>,
) -> Vec<[f32; 2]> {
    let channels = weight.len();
    let share = 1.0 / channels as f32;
    let statistics = Statistics::new(channels, kind.epsilon, &x);
    let (mean, scale) = (&statistics.mean, &statistics.scale);
    let offset = statistics.offset(kind);

    let mut totals = vec![[0.0; 2]; channels];
    let (mut slope, mut level) = ([0.0; STRIP], [0.0; STRIP]);
    for (channel, total) in totals.iter_mut().enumerate() {
        let weight = weight[channel];
        let (x, grad) = (x(channel), grad(channel));
        let mut products = [0.0; STRIP];
        let mut summands = [0.0; STRIP];
        summands[..grad.len()].copy_from_slice(grad);
        for i in 0..x.len() {
            let product = grad[i] * (x[i] - offset[i]);
            products[i] = product * scale[i];
            slope[i] += product * weight * share;
            level[i] += grad[i] * weight * scale[i] * share;
        }
        *total = [sum(&products), sum(&summands)];
    }
    for (slope, scale) in slope.iter_mut().zip(scale) {
        *slope *= scale * scale * scale;
    }
    if !kind.with_bias {
        level = [0.0; STRIP];
    }
    for (channel, output) in grad_x.into_iter().enumerate() {
        let weight = weight[channel];
        let (x, grad) = (x(channel), grad(channel));
        for i in 0..output.len() {
            output[i] = grad[i] * weight * scale[i] - level[i] - (x[i] - mean[i]) * slope[i];
        }
        if let Some(residual) = &residual {
            for (output, residual) in output.iter_mut().zip(residual(channel)) {
                *output += residual;
            }
        }
    }
    totals
}

/// In sixteen partial sums, for vectors' sake.
#[inline(always)]
fn sum(values: &Strip) -> f32 {
    let mut lanes = [0.0; LANES];
    for chunk in values.as_chunks::<LANES>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum()
}

/// Cuts an image into strips, each as a range of pixels and one row per channel.
fn strips_mut(
    image: &mut [f32],
    pixels: usize,
) -> impl IndexedParallelIterator<Item = (std::ops::Range<usize>, Vec<&mut [f32]>)> {
    let mut rows: Vec<Vec<&mut [f32]>> = (0..pixels.div_ceil(STRIP)).map(|_| Vec::new()).collect();
    for plane in image.chunks_exact_mut(pixels) {
        for (strip, row) in plane.chunks_mut(STRIP).enumerate() {
            rows[strip].push(row);
        }
    }
    strips(pixels).zip(rows)
}
