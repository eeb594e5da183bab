//! What takes the place of a formula where there is something faster.
//!
//! The model is written in Burn's operations and runs on every backend. Each function here does an operation of the model
//! by a kernel, if there is one for the tensors that it is given, and else hands its first argument back ([`Taken`]), so
//! that the formula goes on from there. Tensors that do not fit each other are never taken: Burn's operations
//! broadcast them, or say what does not fit. `known.rs` says which backends have what.

mod counting;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
pub(crate) mod formulas;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;
mod gradients;
mod known;
// The GPUs have no use for some of an operation's numbers.
#[cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]
mod operations;
mod precision;
// Likewise.
#[cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]
mod weights;
// Likewise.
#[cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]
pub(crate) mod windows;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

pub use counting::{Count, count, without};
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub use cpu::{InstructionSet, held_instruction_set, product_rates, sgemm_rate};
#[cfg(feature = "train")]
pub(crate) use known::on_processor;
pub use precision::{Precision, with_precision};
pub use weights::{BranchWeights, HimWeights, LayerWeights, NormWeights};

use gradients::Operands;
use known::{run, run_on_processor};
use operations::{
    Arrangement, ChannelNorm, Convolution, Depthwise, Gdfn, Gelu, GeluGate, Him, Mdta,
};

/// A kernel's output, or the operation's first argument, for which there is no kernel.
pub type Taken<T> = Result<T, T>;

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// An image there, and an image back.
fn taken<B: Backend, const N: usize>(
    result: Result<FloatTensor<B>, Operands<FloatTensor<B>, N>>,
) -> Taken<Tensor<B, 4>> {
    match result {
        Ok(output) => Ok(tensor(output)),
        Err(operands) => {
            let image = operands.into_iter().next().flatten();
            Err(tensor(image.expect("the image was the first")))
        }
    }
}

/// The 3×3 convolution of each channel by itself: stride 1, zero padding 1.
///
/// # Shapes
/// - x and output: `[batch, channels, height, width]`
/// - weight: `[channels, 1, 3, 3]`
/// - bias: `[channels]`
pub fn depthwise_conv3x3<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Taken<Tensor<B, 4>> {
    let bias = bias.map(primitive);
    taken(run::<B, _, 3>(
        Depthwise,
        [Some(primitive(x)), Some(primitive(weight)), bias],
    ))
}

/// The 3×3 convolution: stride 1, zero padding 1.
///
/// # Shapes
/// - x: `[batch, from, height, width]`
/// - weight: `[to, from, 3, 3]`
/// - bias: `[to]`
/// - output: `[batch, to, height, width]`
pub fn conv3x3<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Taken<Tensor<B, 4>> {
    convolve(Arrangement::Plain, x, weight, bias, None)
}

/// The 3×3 convolution without bias, then each square of 2×2 pixels into channels.
///
/// # Shapes
/// - x: `[batch, from, height, width]`, height and width even
/// - weight: `[to, from, 3, 3]`
/// - output: `[batch, 4 · to, height / 2, width / 2]`
pub fn conv3x3_unshuffle<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 4>) -> Taken<Tensor<B, 4>> {
    convolve(Arrangement::Unshuffled, x, weight, None, None)
}

/// The 3×3 convolution without bias, then four channels into each square of 2×2 pixels, and behind the channels of the
/// result those of `skip`.
///
/// # Shapes
/// - x: `[batch, from, height, width]`
/// - weight: `[to, from, 3, 3]`, `to` a multiple of 4
/// - skip: `[batch, others, 2 · height, 2 · width]`
/// - output: `[batch, to / 4 + others, 2 · height, 2 · width]`
pub fn conv3x3_shuffle<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    skip: Tensor<B, 4>,
) -> Taken<Tensor<B, 4>> {
    convolve(Arrangement::Shuffled, x, weight, None, Some(skip))
}

fn convolve<B: Backend>(
    arrangement: Arrangement,
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    skip: Option<Tensor<B, 4>>,
) -> Taken<Tensor<B, 4>> {
    let (bias, skip) = (bias.map(primitive), skip.map(primitive));
    taken(run::<B, _, 4>(
        Convolution(arrangement),
        [Some(primitive(x)), Some(primitive(weight)), bias, skip],
    ))
}

/// Normalises each pixel over its channels; without a bias the mean is kept.
///
/// # Shapes
/// - x and output: `[batch, channels, height, width]`
/// - weight and bias: `[channels]`
pub fn channel_norm<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
    epsilon: f64,
) -> Taken<Tensor<B, 4>> {
    let bias = bias.map(primitive);
    taken(run::<B, _, 3>(
        ChannelNorm { epsilon },
        [Some(primitive(x)), Some(primitive(weight)), bias],
    ))
}

/// The exact GELU, `x · Φ(x)`. Burn has one too, whose backward is that of an approximation on most backends.
///
/// # Shapes
/// - x and output: any, the same
pub fn gelu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Taken<Tensor<B, D>> {
    let shape = x.dims();
    let flat = x.reshape([1, 1, 1, -1]);
    match taken(run::<B, _, 1>(Gelu, [Some(primitive::<B, 4>(flat))])) {
        Ok(output) => Ok(output.reshape(shape)),
        Err(x) => Err(x.reshape(shape)),
    }
}

/// GDFN's gate: `gelu(a) · b`, where a and b are the halves of x's channels.
///
/// # Shapes
/// - x: `[batch, 2 · hidden, height, width]`
/// - output: `[batch, hidden, height, width]`
pub fn gelu_gate<B: Backend>(x: Tensor<B, 4>) -> Taken<Tensor<B, 4>> {
    taken(run::<B, _, 1>(GeluGate, [Some(primitive(x))]))
}

/// `x + MDTA(LN(x))`, see [`Mdta`](crate::model::Mdta). `weights` expands to 3C channels and projects C.
///
/// # Shapes
/// - x and output: `[batch, channels, height, width]`
/// - temperature: `[heads, 1, 1]`
///
/// With a `window`, so many pixels a side, attention is local; there is no kernel for its gradient.
pub fn mdta<B: Backend>(
    x: Tensor<B, 4>,
    temperature: Tensor<B, 3>,
    weights: BranchWeights<FloatTensor<B>>,
    window: Option<usize>,
) -> Taken<Tensor<B, 4>> {
    let [_, _, height, width] = x.dims();
    let window = window.filter(|window| *window < height.max(width));
    if window.is_some() && B::ad_enabled(&x.device()) {
        return Err(x);
    }
    let ([a, b, c, d, e, f, g, h, i, j], epsilon) = weights.into_parts();
    let (x, temperature) = (Some(primitive(x)), Some(primitive(temperature)));
    taken(run_on_processor::<B, _, 12>(
        Mdta { epsilon, window },
        [x, temperature, a, b, c, d, e, f, g, h, i, j],
    ))
}

/// `x + GDFN(LN(x))`, see [`Gdfn`](crate::model::Gdfn). `weights` expands to 2h channels and projects h.
///
/// # Shapes
/// - x and output: `[batch, channels, height, width]`
pub fn gdfn<B: Backend>(
    x: Tensor<B, 4>,
    weights: BranchWeights<FloatTensor<B>>,
) -> Taken<Tensor<B, 4>> {
    let ([a, b, c, d, e, f, g, h, i, j], epsilon) = weights.into_parts();
    taken(run_on_processor::<B, _, 11>(
        Gdfn { epsilon },
        [Some(primitive(x)), a, b, c, d, e, f, g, h, i, j],
    ))
}

/// `x + HIM(LN(x))`, see [`Him`](crate::model::Him).
///
/// # Shapes
/// - x and output: `[batch, channels, height, width]`
pub fn him<B: Backend>(
    x: Tensor<B, 4>,
    weights: HimWeights<FloatTensor<B>>,
) -> Taken<Tensor<B, 4>> {
    let ([a, b, c, d, e, f, g, h, i, j], epsilon, heads) = weights.into_parts();
    taken(run_on_processor::<B, _, 11>(
        Him { epsilon, heads },
        [Some(primitive(x)), a, b, c, d, e, f, g, h, i, j],
    ))
}
