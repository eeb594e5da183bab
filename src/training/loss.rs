//! The losses: how far an output is from the sharp image, and a prior from its prediction.

use std::f64::consts::TAU;

use burn::tensor::backend::Backend;
use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{LossConfig, PixelLossKind};

/// Under the root of the Charbonnier loss, squared.
const CHARBONNIER_EPSILON: f64 = 1e-3;

impl LossConfig {
    /// The pixel loss, `[1]`, of an output and a sharp image, `[batch, 3, height, width]` each.
    pub(super) fn pixel<B: Backend>(
        &self,
        output: Tensor<B, 4>,
        sharp: Tensor<B, 4>,
    ) -> Tensor<B, 1> {
        match self.pixel {
            PixelLossKind::L1 => l1(output, sharp),
            PixelLossKind::Charbonnier => charbonnier(output, sharp),
        }
    }
}

/// The mean absolute difference, `[1]`.
pub fn l1<B: Backend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, 1> {
    (a - b).abs().mean()
}

/// The mean of `√((a − b)² + ε²)` with ε = 0.001, `[1]`: L1 with a gradient that passes through zero.
pub fn charbonnier<B: Backend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, 1> {
    let squared = (a - b).square() + CHARBONNIER_EPSILON * CHARBONNIER_EPSILON;
    squared.sqrt().mean()
}

/// The mean absolute difference of the images' mean light, each channel's by itself, of white's 1: `[1]`. Blur moves light
/// and takes none away, where a pixel loss is least at the most likely values, which have less of it than the mean.
///
/// Light is what sRGB's curve says without its straight foot, so that black has a gradient as well.
///
/// # Shapes
/// - a and b: `[batch, channels, height, width]`
pub fn light<B: Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 1> {
    let linear = |encoded: Tensor<B, 4>| {
        let encoded = (encoded.clamp(0.0, 1.0) + 0.055) / 1.055;
        encoded.powf_scalar(2.4)
    };
    (linear(a) - linear(b)).mean_dims(&[2, 3]).abs().mean()
}

/// The mean absolute difference of the real and imaginary parts of the images' two-dimensional Fourier transforms,
/// each channel's by itself and without normalisation, `[1]`.
///
/// The transform is two products with matrices of cosines and sines, for any size and on every backend. A real
/// image's values at `(−u, v)` and `(u, −v)` come out of the same sums as that at `(u, v)`, so that a quarter of the
/// transform is computed.
///
/// # Shapes
/// - a and b: `[batch, channels, height, width]`
pub fn frequency<B: Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 1> {
    let [batch, channels, height, width] = a.dims();
    let device = a.device();
    let planes = batch * channels;
    let (columns, rows) = (width / 2 + 1, height / 2 + 1);

    // Along the width, then along the height: cosines in the first half of the last axis, sines in the second.
    let across = (a - b)
        .reshape([planes * height, width])
        .matmul(waves(width, &device))
        .reshape([planes, height, 2 * columns])
        .swap_dims(1, 2);
    let both = across
        .reshape([planes * 2 * columns, height])
        .matmul(waves(height, &device))
        .reshape([planes, 2, columns, 2 * rows]);

    // Real part: cos·cos − sin·sin, imaginary part: cos·sin + sin·cos; with the other sign between them at −u.
    let cosines = both.clone().narrow(3, 0, rows);
    let sines = both.narrow(3, rows, rows).flip([1]);
    let sum = (cosines.clone() + sines.clone()).abs().sum() + (cosines - sines).abs().sum();
    // A real and an imaginary part for each pixel, and each axis' weights count what is its own mirror image twice.
    sum.div_scalar((4 * planes * height * width) as f64)
}

/// `cos(2πjk/n)` for j < n and k ≤ n/2, then the sines: `[n, 2·(n/2 + 1)]`. The k that stand for −k too are doubled.
fn waves<B: Backend>(n: usize, device: &Device<B>) -> Tensor<B, 2> {
    let half = n / 2 + 1;
    let table: Vec<(f64, f64)> = (0..n)
        .map(|step| {
            let (sine, cosine) = (TAU * step as f64 / n as f64).sin_cos();
            // Half a turn has no sine, so that what is its own mirror image has no imaginary part.
            (cosine, if 2 * step == n { 0.0 } else { sine })
        })
        .collect();
    let at = |j: usize, k: usize| {
        let (cosine, sine) = table[j * k % n];
        let weight = if (2 * k).is_multiple_of(n) { 1.0 } else { 2.0 };
        (weight * cosine, weight * sine)
    };
    let values: Vec<f32> = (0..n)
        .flat_map(|j| {
            let row: Vec<_> = (0..half).map(|k| at(j, k)).collect();
            let cosines = row.clone().into_iter().map(|(cosine, _)| cosine as f32);
            cosines.chain(row.into_iter().map(|(_, sine)| sine as f32))
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [n, 2 * half]), device)
}
