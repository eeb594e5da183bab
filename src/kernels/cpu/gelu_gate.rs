//! GDFN's gate, `gelu(a) · b`, and its backward, with the exact GELU.
//!
//! Memory is `[batch, 2 · hidden, height, width]`: an image's `a` is its first half, `b` its second. Each output plane
//! reads one plane of either and is written once; threads take planes.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::Exp;

use super::depthwise::store_some;
use super::{Dims, isa, scratch};

/// 1/√(2π)
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// Elements a thread takes.
const SLICE: usize = 1 << 14;

/// Beyond ± this, Φ is 0 or 1 in single precision.
const END: f32 = 5.2;

/// Φ(x) = ½ + x · Q(t), a polynomial of t = 2 (x / END)² − 1 from −1 to 1: the one whose largest error times x is least,
/// 1.3e-8. (The usual formulas take a division or an exponential, which cost more than all of this.)
const NORMAL: [f32; 15] = [
    0.135_949_98,
    -0.067_743_81,
    0.050_026_11,
    -0.039_925_396,
    0.031_962_328,
    -0.024_763_446,
    0.018_133_905,
    -0.012_353_376,
    0.008_010_146,
    -0.005_067_337_3,
    0.002_662_353_2,
    -0.000_978_542_4,
    0.000_600_829_25,
    -0.000_562_281_46,
    0.000_202_368_65,
];

/// Φ, the normal distribution's share below each element, within 1e-7.
#[inline(always)]
pub(super) fn distribution<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let x = ops.clamp(x, ops.splat(-END), ops.splat(END));
    let t = ops.mul_add(ops.mul(x, x), ops.splat(2.0 / (END * END)), ops.splat(-1.0));
    let mut q = ops.splat(NORMAL[NORMAL.len() - 1]);
    for coefficient in NORMAL[..NORMAL.len() - 1].iter().rev() {
        q = ops.mul_add(q, t, ops.splat(*coefficient));
    }
    ops.mul_add(x, q, ops.splat(0.5))
}

/// The exact GELU, `x · Φ(x)`.
pub(super) struct Gelu;

impl SimdUnaryOp<f32> for Gelu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        isa.f32().mul(x, distribution(isa, x))
    }
}

/// The exact GELU alone.
pub(super) fn gelu(x: &[f32]) -> Vec<f32> {
    let mut output = x.to_vec();
    output
        .par_chunks_mut(SLICE)
        .for_each(|slice| isa::map(Gelu, slice));
    output
}

/// Its gradient at x.
pub(super) fn gelu_backward(x: &[f32], grad: &[f32]) -> Vec<f32> {
    let mut output = x.to_vec();
    let slices = output.par_chunks_mut(SLICE).zip(grad.par_chunks(SLICE));
    slices.for_each(|(x, grad)| {
        scratch::with([2 * x.len()], |[others]| {
            // The gate of ones: what is left of its gradients is that of GELU.
            let (ones, gate) = others.split_at_mut(x.len());
            ones.fill(1.0);
            gate.copy_from_slice(grad);
            backward_in_place(x, ones, gate);
        });
    });
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
            output.copy_from_slice(a);
            isa::map(Gelu, output);
            for (output, b) in output.iter_mut().zip(b) {
                *output *= b;
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
    isa::dispatch(Backward { a, b, gate });
}

struct Backward<'a> {
    a: &'a mut [f32],
    b: &'a mut [f32],
    gate: &'a mut [f32],
}

/// Gradients of a and b, and the gate.
#[inline(always)]
fn gradients<I: Isa>(isa: I, a: I::F32, b: I::F32, grad: I::F32) -> [I::F32; 3] {
    let ops = isa.f32();
    let below = distribution(isa, a);
    let square = ops.mul(ops.mul(a, a), ops.splat(-0.5));
    let density = ops.mul(Exp {}.eval(isa, square), ops.splat(DENSITY_AT_ZERO));
    let gelu = ops.mul(a, below);
    let slope = ops.mul_add(a, density, below);
    [
        ops.mul(ops.mul(grad, b), slope),
        ops.mul(grad, gelu),
        ops.mul(gelu, b),
    ]
}

impl SimdOp for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let whole = self.a.len() / lanes * lanes;
        let (a, last_a) = self.a.split_at_mut(whole);
        let (b, last_b) = self.b.split_at_mut(whole);
        let (gate, last_gate) = self.gate.split_at_mut(whole);
        let chunks = a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes));
        for ((a, b), gate) in chunks.zip(gate.chunks_exact_mut(lanes)) {
            let (x, y, grad) = (ops.load(a), ops.load(b), ops.load(gate));
            let [grad_a, grad_b, output] = gradients(isa, x, y, grad);
            ops.store(grad_a, a);
            ops.store(grad_b, b);
            ops.store(output, gate);
        }
        let (x, y) = (ops.load_pad(last_a).0, ops.load_pad(last_b).0);
        let [grad_a, grad_b, output] = gradients(isa, x, y, ops.load_pad(last_gate).0);
        store_some(isa, grad_a, last_a);
        store_some(isa, grad_b, last_b);
        store_some(isa, output, last_gate);
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction_sets::{assert_equal, on_each_set, on_set, values};
    use super::*;

    /// erf by its power series, which is enough up to here.
    fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for k in 1..200 {
            term *= -x * x / f64::from(k);
            sum += term / f64::from(2 * k + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn gelu_is_the_exact_one() {
        let x: Vec<f32> = (-6000..=6000).map(|i| i as f32 / 1000.0).collect();
        for (x, found) in x.iter().zip(gelu(&x)) {
            let exact = f64::from(*x);
            let expected = exact * (0.5 + 0.5 * erf(exact * std::f64::consts::FRAC_1_SQRT_2));
            let error = (f64::from(found) - expected).abs();
            assert!(
                error < 1.2e-7 * (1.0 + exact.abs()), // Without fused products a little more than 1e-7.
                "gelu({x}) = {found}, not {expected}"
            );
        }
        let far = gelu(&[-1e4, -20.0, 20.0, 1e4]);
        assert!(far[0].abs() < 4e-3 && far[1].abs() < 8e-6);
        assert!((far[2] - 20.0).abs() < 1e-5 && (far[3] - 1e4).abs() < 1e-2);
    }

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
