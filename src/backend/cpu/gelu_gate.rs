//! GDFN's gate, `gelu(a) · b`, and its backward, with the exact GELU.
//!
//! Memory is `[batch, 2 · hidden, height, width]`: an image's `a` is its first half, `b` its second. Each output plane
//! reads one plane of either and is written once; threads take planes.

use std::f32::consts::FRAC_1_SQRT_2;

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::{Erf, Exp, Gelu};

use super::depthwise::store_some;
use super::{Dims, scratch};

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
            grad_a.copy_from_slice(&a[range.clone()]);
            grad_b.copy_from_slice(&b[range.clone()]);
            scratch::with([plane], |[gate]| {
                gate.copy_from_slice(&grad[range]);
                backward_in_place(grad_a, grad_b, gate);
            });
        });
    }
    output
}

/// Of one channel: a and b are replaced by their gradients, and the gate's gradient by the gate.
pub(super) fn backward_in_place(a: &mut [f32], b: &mut [f32], gate: &mut [f32]) {
    assert!(a.len() == b.len() && a.len() == gate.len());
    Backward { a, b, gate }.dispatch();
}

struct Backward<'a> {
    a: &'a mut [f32],
    b: &'a mut [f32],
    gate: &'a mut [f32],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let half = ops.splat(0.5);
        // Gradients of a and b, and the gate.
        let step = |a: I::F32, b: I::F32, grad: I::F32| {
            let erf = Erf {}.eval(isa, ops.mul(a, ops.splat(FRAC_1_SQRT_2)));
            let below = ops.mul_add(half, erf, half);
            let square = ops.mul(ops.mul(a, a), ops.splat(-0.5));
            let density = ops.mul(Exp {}.eval(isa, square), ops.splat(DENSITY_AT_ZERO));
            let gelu = ops.mul(a, below);
            let slope = ops.mul_add(a, density, below);
            [
                ops.mul(ops.mul(grad, b), slope),
                ops.mul(grad, gelu),
                ops.mul(gelu, b),
            ]
        };
        let chunks = self.a.chunks_mut(lanes).zip(self.b.chunks_mut(lanes));
        for ((a, b), gate) in chunks.zip(self.gate.chunks_mut(lanes)) {
            let load = |x: &[f32]| ops.load_pad(x).0;
            let [grad_a, grad_b, output] = step(load(a), load(b), load(gate));
            store_some(isa, grad_a, a);
            store_some(isa, grad_b, b);
            store_some(isa, output, gate);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::super::instruction_sets::{assert_equal, on_each_set, on_set, values};
    use super::*;

    #[test]
    fn every_instruction_set_has_the_same_gradients() {
        let length = 37;
        let results = on_each_set!(values(3 * length, 5), |output| {
            let (a, rest) = output.split_at_mut(length);
            let (b, gate) = rest.split_at_mut(length);
            Backward { a, b, gate }
        });
        assert_equal(&results);
    }
}
