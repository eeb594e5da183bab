//! GDFN's gate, `gelu(a) · b`, and its backward, with the exact GELU.
//!
//! Memory is `[batch, 2 · hidden, height, width]`: an image's `a` is its first half, `b` its second. Each output plane
//! reads one plane of either and is written once; threads take planes.

use std::f32::consts::FRAC_1_SQRT_2;

use rayon::prelude::*;
use rten_simd::SimdUnaryOp;
use rten_vecmath::{Erf, Exp, Gelu};

use super::Dims;

/// 1/√(2π)
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// Elements a thread takes.
const SLICE: usize = 1 << 14;

/// The exact GELU alone.
pub(super) fn gelu(x: &[f32]) -> Vec<f32> {
    let mut output = x.to_vec();
    output
        .par_chunks_mut(SLICE)
        .for_each(|slice| Gelu {}.map_mut(slice));
    output
}

/// The gate; `dims` are x's.
pub(super) fn forward(x: &[f32], dims: Dims) -> Vec<f32> {
    let [_, channels, height, width] = dims;
    let (hidden, plane) = (channels / 2, height * width);
    let mut output = vec![0.0; x.len() / 2];
    if output.is_empty() {
        return output;
    }
    output
        .par_chunks_mut(plane)
        .enumerate()
        .for_each(|(index, output)| {
            let (image, channel) = (index / hidden, index % hidden);
            let a = &x[(image * channels + channel) * plane..][..plane];
            let b = &x[(image * channels + hidden + channel) * plane..][..plane];
            distribution(a, output);
            for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
                *output *= a * b;
            }
        });
    output
}

/// x's gradient; `grad` has half its channels.
pub(super) fn backward(x: &[f32], grad: &[f32], dims: Dims) -> Vec<f32> {
    let [_, channels, height, width] = dims;
    let (hidden, plane) = (channels / 2, height * width);
    let mut output = vec![0.0; x.len()];
    if output.is_empty() {
        return output;
    }
    let images = output
        .chunks_exact_mut(channels * plane)
        .zip(x.chunks_exact(channels * plane));
    for ((output, x), grad) in images.zip(grad.chunks_exact(hidden * plane)) {
        let (grad_a, grad_b) = output.split_at_mut(hidden * plane);
        let (a, b) = x.split_at(hidden * plane);
        let planes = grad_a
            .par_chunks_mut(plane)
            .zip(grad_b.par_chunks_mut(plane));
        planes.enumerate().for_each(|(channel, (grad_a, grad_b))| {
            let range = channel * plane..(channel + 1) * plane;
            let (a, b, grad) = (&a[range.clone()], &b[range.clone()], &grad[range]);
            density(a, grad_a);
            distribution(a, grad_b);
            for i in 0..plane {
                let (density, below) = (grad_a[i], grad_b[i]);
                grad_a[i] = grad[i] * b[i] * (below + a[i] * density);
                grad_b[i] = grad[i] * a[i] * below;
            }
        });
    }
    output
}

/// Φ, the normal distribution's share below each of `a`.
fn distribution(a: &[f32], output: &mut [f32]) {
    for (output, a) in output.iter_mut().zip(a) {
        *output = a * FRAC_1_SQRT_2;
    }
    Erf {}.map_mut(output);
    for output in output {
        *output = 0.5 + 0.5 * *output;
    }
}

/// φ, the normal distribution's density at each of `a`.
fn density(a: &[f32], output: &mut [f32]) {
    for (output, a) in output.iter_mut().zip(a) {
        *output = -0.5 * a * a;
    }
    Exp {}.map_mut(output);
    for output in output {
        *output *= DENSITY_AT_ZERO;
    }
}
