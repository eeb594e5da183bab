//! Every operation of [`Backend`](super::Backend) in plain Burn operations.
//!
//! These are the methods' bodies, and the twins that tests and benchmarks hold the kernels against.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::tensor::activation;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, FloatTensor};
use burn::tensor::{DType, FloatDType, Shape, Tensor, TensorMetadata, TensorPrimitive};

use super::{BranchWeights, HimWeights, LayerWeights, NormWeights};

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Burn's grouped `conv2d`: backends have kernels for its forward pass.
pub fn depthwise_conv3x3<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let x: Tensor<B, 4> = tensor(x);
    let channels = x.dims()[1];
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], channels);
    primitive(conv2d(x, tensor(weight), bias.map(tensor::<B, 1>), options))
}

/// The input's gradient is the convolution of `grad` with the weights turned by 180°; the weight's is nine products of
/// `grad` and the shifted input. Burn's own backward makes one convolution for each of the channels instead.
pub fn depthwise_conv3x3_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (x, weight, grad): (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) =
        (tensor(x), tensor(weight), tensor(grad));
    let [_, channels, height, width] = x.dims();

    let turned = weight.flip([2, 3]);
    let grad_x = depthwise_conv3x3::<B>(primitive(grad.clone()), primitive(turned), None);

    let padded = framed(x);
    let taps = (0..9)
        .map(|tap| {
            let (row, column) = (tap / 3, tap % 3);
            let shifted = padded
                .clone()
                .narrow(2, row, height)
                .narrow(3, column, width);
            (shifted * grad.clone())
                .sum_dim(3)
                .sum_dim(2)
                .sum_dim(0) // [1, channels, 1, 1]
                .reshape([channels, 1, 1])
        })
        .collect();
    let grad_weight = Tensor::cat(taps, 2).reshape([channels, 1, 3, 3]);
    (grad_x, primitive(grad_weight))
}

/// With a frame of zeros, one pixel wide. (Burn's `pad` takes no half precision.)
fn framed<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    [2, 3].into_iter().fold(x, |x, dim| {
        let zeros = x.clone().narrow(dim, 0, 1).zeros_like();
        Tensor::cat(vec![zeros.clone(), x, zeros], dim)
    })
}

/// Burn's `conv2d`.
pub fn conv3x3<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let bias = bias.map(tensor::<B, 1>);
    primitive(conv2d::<B>(tensor(x), tensor(weight), bias, options))
}

/// The convolution, then [`pixel_unshuffle`].
pub fn conv3x3_unshuffle<B: super::Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    let output = tensor::<B, 4>(B::conv3x3(x, weight, None));
    primitive(pixel_unshuffle(output, 2))
}

/// The convolution, then [`pixel_shuffle`] and the concatenation.
pub fn conv3x3_shuffle<B: super::Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    skip: FloatTensor<B>,
) -> FloatTensor<B> {
    let output = tensor::<B, 4>(B::conv3x3(x, weight, None));
    primitive(Tensor::cat(vec![pixel_shuffle(output, 2), tensor(skip)], 1))
}

/// That of the convolution, from the gradient by [`pixel_shuffle`].
pub fn conv3x3_unshuffle_backward<B: super::Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let grad = pixel_shuffle(tensor::<B, 4>(grad), 2);
    B::conv3x3_backward(x, weight, primitive(grad))
}

/// That of the convolution, from the gradient by [`pixel_unshuffle`], and the other channels as they are.
pub fn conv3x3_shuffle_backward<B: super::Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let grad = tensor::<B, 4>(grad);
    let (channels, own) = (grad.dims()[1], weight.shape()[0] / 4);
    let skip = grad.clone().narrow(1, own, channels - own);
    let grad = pixel_unshuffle(grad.narrow(1, 0, own), 2);
    let (x, weight) = B::conv3x3_backward(x, weight, primitive(grad));
    (x, weight, primitive(skip))
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

/// The input's gradient is the convolution of `grad` with the weights turned by 180° and their channels exchanged; the
/// weight's is nine matrix products of `grad` and the shifted input. Burn's own backward takes a transposed convolution
/// for the first and one with a kernel of the image's size for the second.
pub fn conv3x3_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (x, weight): (Tensor<B, 4>, Tensor<B, 4>) = (tensor(x), tensor(weight));
    let [batch, from, height, width] = x.dims();
    let to = weight.dims()[0];

    let turned = weight.flip([2, 3]).swap_dims(0, 1);
    let grad_x = conv3x3::<B>(grad.clone(), primitive(turned), None);

    let grad = tensor::<B, 4>(grad).reshape([batch, to, height * width]);
    let padded = framed(x);
    let taps = (0..9)
        .map(|tap| {
            let shifted = padded
                .clone()
                .narrow(2, tap / 3, height)
                .narrow(3, tap % 3, width);
            let shifted = shifted.reshape([batch, from, height * width]);
            let products = grad.clone().matmul(shifted.transpose()); // [batch, to, from]
            products.sum_dim(0).reshape([to, from, 1])
        })
        .collect();
    let grad_weight = Tensor::cat(taps, 2).reshape([to, from, 3, 3]);
    (grad_x, primitive(grad_weight))
}

/// Normalised by mean and variance over the channels; the bias-free kind keeps the mean. Half precision is computed in
/// single precision, since its squares overflow.
pub fn channel_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    epsilon: f64,
) -> FloatTensor<B> {
    let format = x.dtype();
    let x: Tensor<B, 4> = tensor(full::<B>(x));
    let per_channel = |values| per_channel::<B>(tensor(full::<B>(values)));
    let (centered, scale) = statistics(x.clone(), epsilon);
    let output = primitive(match bias {
        Some(bias) => centered * scale * per_channel(weight) + per_channel(bias),
        None => x * scale * per_channel(weight),
    });
    as_format::<B>(output, format)
}

/// In single precision if it is in half; double precision stays.
fn full<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    match values.dtype() {
        DType::F16 | DType::BF16 => B::float_cast(values, FloatDType::F32),
        _ => values,
    }
}

fn as_format<B: Backend>(values: FloatTensor<B>, format: DType) -> FloatTensor<B> {
    match values.dtype() == format {
        true => values,
        false => B::float_cast(values, format.into()),
    }
}

/// With `g = grad · weight`, `s = 1/√(var + ε)` and `c = x − mean`, the input's gradient is
/// `s · g − mean(s · g) − c · s³ · mean(g · c)`, without its second term where the mean is kept (and with x for c in
/// the product with g).
pub fn channel_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    with_bias: bool,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (format, weight_format) = (x.dtype(), weight.dtype());
    let (x, weight, grad) = (full::<B>(x), full::<B>(weight), full::<B>(grad));
    let (x, grad): (Tensor<B, 4>, Tensor<B, 4>) = (tensor(x), tensor(grad));
    let channels = x.dims()[1];
    let (centered, scale) = statistics(x.clone(), epsilon);
    let kept = if with_bias { centered.clone() } else { x };

    let grad_weight = (grad.clone() * kept.clone() * scale.clone())
        .sum_dim(3)
        .sum_dim(2)
        .sum_dim(0)
        .reshape([channels]);
    let grad = grad * per_channel(tensor(weight));
    let slope = (grad.clone() * kept).mean_dim(1) * scale.clone().powi_scalar(3);
    let direct = grad * scale;
    let grad_x = match with_bias {
        true => direct.clone() - direct.mean_dim(1) - centered * slope,
        false => direct - centered * slope,
    };
    (
        as_format::<B>(primitive(grad_x), format),
        as_format::<B>(primitive(grad_weight), weight_format),
    )
}

/// `x − mean` and `1/√(var + ε)` over the channels.
fn statistics<B: Backend>(x: Tensor<B, 4>, epsilon: f64) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let centered = x.clone() - x.mean_dim(1);
    let variance = centered.clone().square().mean_dim(1);
    let deviation = variance.add_scalar(epsilon).sqrt();
    (centered, deviation.ones_like() / deviation) // NdArray's `recip` keeps 12 bits.
}

fn per_channel<B: Backend>(values: Tensor<B, 1>) -> Tensor<B, 4> {
    let channels = values.dims()[0];
    values.reshape([1, channels, 1, 1])
}

/// Burn's `gelu`, whose forward pass is exact everywhere.
pub fn exact_gelu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::gelu(x)
}

/// `grad · gelu'(x)`. Burn's own is that of the tanh approximation on most backends, off by up to 1e-3.
pub fn exact_gelu_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let flat = |values: FloatTensor<B>| {
        let count = Shape::new([shape.num_elements()]);
        tensor::<B, 1>(B::float_reshape(values, count))
    };
    let (x, grad) = (flat(x), flat(grad));
    let slope = gelu_slope(x.clone(), distribution(x));
    B::float_reshape(primitive(grad * slope), shape)
}

/// The exact GELU of the first half, times the second.
pub fn gelu_gate<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [a, b] = halves::<B>(x);
    primitive(activation::gelu(a) * b)
}

/// `grad · b · gelu'(a)` and `grad · gelu(a)`.
pub fn gelu_gate_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let [a, b] = halves::<B>(x);
    let grad: Tensor<B, 4> = tensor(grad);
    let distribution = distribution(a.clone());
    let grad_b = grad.clone() * a.clone() * distribution.clone();
    let grad_a = grad * b * gelu_slope(a, distribution);
    primitive(Tensor::cat(vec![grad_a, grad_b], 1))
}

/// Φ, the normal distribution's share below x.
fn distribution<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let erf = x.mul_scalar(FRAC_1_SQRT_2).erf();
    erf.add_scalar(1.0).mul_scalar(0.5)
}

/// `gelu'(x) = Φ(x) + x · φ(x)`, given Φ(x).
fn gelu_slope<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    distribution: Tensor<B, D>,
) -> Tensor<B, D> {
    let density = x.clone().square().mul_scalar(-0.5).exp();
    distribution + x * density.mul_scalar((2.0 * PI).sqrt().recip())
}

/// The least norm that MDTA's queries and keys are divided by.
const LEAST_NORM: f64 = 1e-12;

/// MDTA out of the smaller operations.
pub fn mdta<B: super::Backend>(
    x: FloatTensor<B>,
    temperature: FloatTensor<B>,
    weights: BranchWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    let normalized = normalize::<B>(x.clone(), weights.norm);
    let expand = &weights.expand;
    let qkv = tensor(normalized);
    let qkv = pointwise::<B>(qkv, expand.weight.clone(), expand.bias.clone());
    let depthwise = weights.depthwise;
    let qkv = B::depthwise_conv3x3(primitive(qkv), depthwise.weight, depthwise.bias);
    let attended = transposed_attention::<B>(tensor(qkv), tensor(temperature));
    let project = weights.project;
    let output = pointwise::<B>(attended, project.weight, project.bias);
    primitive(tensor::<B, 4>(x) + output)
}

/// MDTA's attention between channels.
///
/// # Shapes
/// - qkv: `[batch, 3C, height, width]`
/// - temperature: `[heads, 1, 1]`
/// - output: `[batch, C, height, width]`
pub fn transposed_attention<B: Backend>(
    qkv: Tensor<B, 4>,
    temperature: Tensor<B, 3>,
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = qkv.dims();
    let (channels, heads) = (channels / 3, temperature.dims()[0]);
    let qkv = qkv.reshape([batch, 3 * heads, channels / heads, height * width]);
    let part = |index| qkv.clone().narrow(1, index * heads, heads);
    let (q, k, v) = (part(0), part(1), part(2)); // [batch, heads, C/heads, pixels] each

    // Sums over all pixels overflow half precision. (In single precision this changes nothing.)
    let (q, k) = (single(q), single(k));
    // Dividing the small matrix by both norms is the same as dividing q and k, and leaves the large ones alone.
    let norms = |x: &Tensor<B, 4>| {
        let norms = x.clone().square().sum_dim(3).sqrt();
        norms.clamp_min(LEAST_NORM) // [batch, heads, C/heads, 1]
    };
    let norms = norms(&q).matmul(norms(&k).transpose());
    let logits = q.matmul(k.transpose()) / norms;
    let attention = softmax(logits * single(temperature).unsqueeze(), 3);
    let attention = same_format(attention, &v);
    attention
        .matmul(v)
        .reshape([batch, channels, height, width])
}

/// GDFN out of the smaller operations.
pub fn gdfn<B: super::Backend>(
    x: FloatTensor<B>,
    weights: BranchWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    let normalized = normalize::<B>(x.clone(), weights.norm);
    let expand = weights.expand;
    let hidden = pointwise::<B>(tensor(normalized), expand.weight, expand.bias);
    let depthwise = weights.depthwise;
    let hidden = B::depthwise_conv3x3(primitive(hidden), depthwise.weight, depthwise.bias);
    let gated = tensor(B::gelu_gate(hidden));
    let project = weights.project;
    primitive(tensor::<B, 4>(x) + pointwise::<B>(gated, project.weight, project.bias))
}

/// HIM out of the smaller operations.
pub fn him<B: super::Backend>(
    x: FloatTensor<B>,
    weights: HimWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    let queries: Tensor<B, 4> = tensor(normalize::<B>(x.clone(), weights.norm));
    let x: Tensor<B, 4> = tensor(x);
    let [batch, channels, height, width] = x.dims();
    let (pixels, per_head) = (height * width, channels / weights.heads);
    let split_heads = |tokens: Tensor<B, 3>| {
        let [batch, count, _] = tokens.dims();
        tokens
            .reshape([batch, count, weights.heads, per_head])
            .swap_dims(1, 2)
    };

    let queries = queries.reshape([batch, channels, pixels]).swap_dims(1, 2);
    let queries = linear(queries, weights.query);
    let q = split_heads(queries); // [batch, heads, pixels, C/heads]
    let k = split_heads(tensor(weights.keys)); // [batch, heads, tokens, C/heads]
    let v = split_heads(tensor(weights.values));

    let scale = (per_head as f64).sqrt().recip();
    let attention = softmax(q.mul_scalar(scale).matmul(k.transpose()), 3);
    let output = attention
        .matmul(v)
        .swap_dims(1, 2)
        .reshape([batch, pixels, channels]);
    let output = linear(output, weights.project).swap_dims(1, 2);
    primitive(x + output.reshape([batch, channels, height, width]))
}

/// Layer normalisation, and modulation where there is one.
fn normalize<B: super::Backend>(
    x: FloatTensor<B>,
    norm: NormWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    let normalized = B::channel_norm(x, norm.weight, norm.bias, norm.epsilon);
    match norm.modulation {
        Some([scale, shift]) => primitive(modulate::<B>(
            tensor(normalized),
            tensor(scale),
            tensor(shift),
        )),
        None => normalized,
    }
}

/// `x · scale + shift`, the same for every pixel.
///
/// # Shapes
/// - x and output: `[batch, channels, height, width]`
/// - scale and shift: `[batch, channels]`
pub fn modulate<B: Backend>(
    x: Tensor<B, 4>,
    scale: Tensor<B, 2>,
    shift: Tensor<B, 2>,
) -> Tensor<B, 4> {
    let [batch, channels, _, _] = x.dims();
    let per_channel = |values: Tensor<B, 2>| values.reshape([batch, channels, 1, 1]);
    x * per_channel(scale) + per_channel(shift)
}

/// A 1×1 convolution as one matrix product per image. Its gradients then are products too, where those of a convolution
/// are convolutions with a kernel as large as the image.
///
/// # Shapes
/// - x: `[batch, from, height, width]`
/// - weight: `[to, from, 1, 1]`
/// - bias: `[to]`
/// - output: `[batch, to, height, width]`
pub fn pointwise<B: Backend>(
    x: Tensor<B, 4>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> Tensor<B, 4> {
    let [batch, from, height, width] = x.dims();
    let weight: Tensor<B, 4> = tensor(weight);
    let to = weight.dims()[0];
    let output = weight
        .reshape([1, to, from])
        .matmul(x.reshape([batch, from, height * width]));
    let output = output.reshape([batch, to, height, width]);
    match bias {
        Some(bias) => output + tensor::<B, 1>(bias).reshape([1, to, 1, 1]),
        None => output,
    }
}

/// `[batch, tokens, from]` to `[batch, tokens, to]`.
fn linear<B: Backend>(x: Tensor<B, 3>, layer: LayerWeights<FloatTensor<B>>) -> Tensor<B, 3> {
    let output = x.matmul(tensor::<B, 2>(layer.weight).unsqueeze());
    match layer.bias {
        Some(bias) => output + tensor::<B, 1>(bias).unsqueeze(),
        None => output,
    }
}

/// The tensor in single precision, if it is in half.
fn single<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(FloatDType::F32),
        _ => x,
    }
}

/// The tensor in the format of another.
pub fn same_format<B: Backend, const D: usize, const E: usize>(
    x: Tensor<B, D>,
    other: &Tensor<B, E>,
) -> Tensor<B, D> {
    let format = other.dtype();
    match x.dtype() == format {
        true => x,
        false => x.cast(FloatDType::from(format)),
    }
}

fn halves<B: Backend>(x: FloatTensor<B>) -> [Tensor<B, 4>; 2] {
    let x: Tensor<B, 4> = tensor(x);
    let hidden = x.dims()[1] / 2;
    [x.clone().narrow(1, 0, hidden), x.narrow(1, hidden, hidden)]
}
