//! Formulas in Burn's operations that both the model and the GPUs' gradients are made of.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, FloatDType, Tensor};

/// With a frame of zeros, one pixel wide. (Burn's `pad` takes no half precision.)
pub(crate) fn framed<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    [2, 3].into_iter().fold(x, |x, dim| {
        let zeros = x.clone().narrow(dim, 0, 1).zeros_like();
        Tensor::cat(vec![zeros.clone(), x, zeros], dim)
    })
}

/// Moves each `factor × factor` square of pixels into channels.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`, height and width multiples of the factor
/// - output: `[batch, channels · factor², height / factor, width / factor]`
pub fn pixel_unshuffle<B: Backend>(x: Tensor<B, 4>, factor: usize) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let (rows, columns) = (height / factor, width / factor);
    x.reshape([batch, channels, rows, factor, columns, factor])
        .permute([0, 1, 3, 5, 2, 4])
        .reshape([batch, channels * factor * factor, rows, columns])
}

/// The inverse of [`pixel_unshuffle`].
///
/// # Shapes
/// - x: `[batch, channels · factor², height, width]`
/// - output: `[batch, channels, height · factor, width · factor]`
pub fn pixel_shuffle<B: Backend>(x: Tensor<B, 4>, factor: usize) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let channels = channels / (factor * factor);
    x.reshape([batch, channels, factor, factor, height, width])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([batch, channels, height * factor, width * factor])
}

/// Normalised by mean and variance over the channels; without a bias the mean is kept. Half precision is computed in
/// single precision, since its squares overflow.
pub(crate) fn channel_norm<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
    epsilon: f64,
) -> Tensor<B, 4> {
    let format = x.dtype();
    let x = single(x);
    let (centered, scale) = statistics(x.clone(), epsilon);
    let weight = per_channel(single(weight));
    let output = match bias {
        Some(bias) => centered * scale * weight + per_channel(single(bias)),
        None => x * scale * weight,
    };
    in_format(output, format)
}

/// `x − mean` and `1/√(var + ε)` over the channels.
pub(super) fn statistics<B: Backend>(
    x: Tensor<B, 4>,
    epsilon: f64,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let centered = x.clone() - x.mean_dim(1);
    let variance = centered.clone().square().mean_dim(1);
    let deviation = variance.add_scalar(epsilon).sqrt();
    (centered, deviation.ones_like() / deviation) // NdArray's `recip` keeps 12 bits.
}

pub(super) fn per_channel<B: Backend>(values: Tensor<B, 1>) -> Tensor<B, 4> {
    let channels = values.dims()[0];
    values.reshape([1, channels, 1, 1])
}

/// Φ, the normal distribution's share below x.
pub(crate) fn distribution<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let erf = x.mul_scalar(FRAC_1_SQRT_2).erf();
    erf.add_scalar(1.0).mul_scalar(0.5)
}

/// The tensor in single precision, if it is in half.
pub(crate) fn single<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(FloatDType::F32),
        _ => x,
    }
}

/// The tensor in a number format.
pub(crate) fn in_format<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    format: DType,
) -> Tensor<B, D> {
    match x.dtype() == format {
        true => x,
        false => x.cast(FloatDType::from(format)),
    }
}
