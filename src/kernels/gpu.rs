//! What the GPU backends have in place of automatic differentiation: the operations of Burn that are fastest there, with
//! gradients in Burn's operations too.

use std::f64::consts::PI;

use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, FloatTensor};
use burn::tensor::{Tensor, TensorPrimitive, activation};

use super::formulas::{
    channel_norm, distribution, framed, in_format, per_channel, pixel_shuffle, pixel_unshuffle,
    single, statistics,
};
use super::gradients::Operands;
use super::operations::{
    Arrangement, ChannelNorm, Convolution, Depthwise, Describe, Gelu, GeluGate,
};

/// An operation whose gradient we know better than automatic differentiation does.
pub(super) trait OnGpu<const N: usize>: Describe<N> {
    fn forward<B: Backend>(&self, operands: Operands<FloatTensor<B>, N>) -> FloatTensor<B>;

    /// The gradients of the operands that there are, from the output's.
    fn backward<B: Backend>(
        &self,
        operands: Operands<FloatTensor<B>, N>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, N>;
}

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// An operand that every caller gives.
fn given<B: Backend, const D: usize>(operand: Option<FloatTensor<B>>) -> Tensor<B, D> {
    tensor(operand.expect("callers give the operand"))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// The sum over batch, height and width: `[batch, channels, height, width]` to `[channels]`.
fn sum_of_channels<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 1> {
    let channels = x.dims()[1];
    x.sum_dim(3).sum_dim(2).sum_dim(0).reshape([channels])
}

fn bias_gradient<B: Backend>(
    bias: Option<FloatTensor<B>>,
    grad: &Tensor<B, 4>,
) -> Option<FloatTensor<B>> {
    bias.map(|_| primitive(sum_of_channels(grad.clone())))
}

/// The 3×3 convolution; of each channel by itself where the weight is for one channel.
fn convolve<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let groups = x.dims()[1] / weight.dims()[1];
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], groups);
    conv2d(x, weight, bias, options)
}

impl OnGpu<3> for Depthwise {
    /// Burn's grouped `conv2d`.
    fn forward<B: Backend>(
        &self,
        [x, weight, bias]: Operands<FloatTensor<B>, 3>,
    ) -> FloatTensor<B> {
        primitive(convolve::<B>(given(x), given(weight), bias.map(tensor)))
    }

    /// The input's gradient is the convolution of `grad` with the weights turned by 180°; the weight's is nine products of
    /// `grad` and the shifted input. Burn's own backward makes one convolution for each of the channels instead.
    fn backward<B: Backend>(
        &self,
        [x, weight, bias]: Operands<FloatTensor<B>, 3>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, 3> {
        let (x, weight, grad) = (
            given::<B, 4>(x),
            given::<B, 4>(weight),
            tensor::<B, 4>(grad),
        );
        let [_, channels, height, width] = x.dims();
        let bias = bias_gradient(bias, &grad);
        let grad_x = convolve(grad.clone(), weight.flip([2, 3]), None);

        let padded = framed(x);
        let taps = (0..9)
            .map(|tap| {
                let shifted = padded
                    .clone()
                    .narrow(2, tap / 3, height)
                    .narrow(3, tap % 3, width);
                sum_of_channels(shifted * grad.clone()).reshape([channels, 1, 1])
            })
            .collect();
        let grad_weight = Tensor::cat(taps, 2).reshape([channels, 1, 3, 3]);
        [Some(primitive(grad_x)), Some(primitive(grad_weight)), bias]
    }
}

impl OnGpu<4> for Convolution {
    fn forward<B: Backend>(
        &self,
        [x, weight, bias, skip]: Operands<FloatTensor<B>, 4>,
    ) -> FloatTensor<B> {
        let output = convolve::<B>(given(x), given(weight), bias.map(tensor));
        let output = match self.0 {
            Arrangement::Plain => output,
            Arrangement::Unshuffled => pixel_unshuffle(output, 2),
            Arrangement::Shuffled => pixel_shuffle(output, 2),
        };
        primitive(match skip {
            Some(skip) => Tensor::cat(vec![output, tensor(skip)], 1),
            None => output,
        })
    }

    /// The input's gradient is the convolution of `grad` with the weights turned by 180° and their channels exchanged; the
    /// weight's is nine matrix products of `grad` and the shifted input. Burn's own backward takes a transposed convolution
    /// for the first and one with a kernel of the image's size for the second.
    fn backward<B: Backend>(
        &self,
        [x, weight, bias, skip]: Operands<FloatTensor<B>, 4>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, 4> {
        let (x, weight, grad) = (
            given::<B, 4>(x),
            given::<B, 4>(weight),
            tensor::<B, 4>(grad),
        );
        let [batch, from, height, width] = x.dims();
        let (to, channels) = (weight.dims()[0], grad.dims()[1]);
        let (grad, behind) = match skip {
            Some(_) => {
                let own = to / 4;
                let behind = grad.clone().narrow(1, own, channels - own);
                (grad.narrow(1, 0, own), Some(primitive(behind)))
            }
            None => (grad, None),
        };
        let grad = match self.0 {
            Arrangement::Plain => grad,
            Arrangement::Unshuffled => pixel_shuffle(grad, 2),
            Arrangement::Shuffled => pixel_unshuffle(grad, 2),
        };
        let bias = bias_gradient(bias, &grad);
        let grad_x = convolve(grad.clone(), weight.flip([2, 3]).swap_dims(0, 1), None);

        let grad = grad.reshape([batch, to, height * width]);
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
        [
            Some(primitive(grad_x)),
            Some(primitive(grad_weight)),
            bias,
            behind,
        ]
    }
}

impl OnGpu<3> for ChannelNorm {
    fn forward<B: Backend>(
        &self,
        [x, weight, bias]: Operands<FloatTensor<B>, 3>,
    ) -> FloatTensor<B> {
        primitive(channel_norm::<B>(
            given(x),
            given(weight),
            bias.map(tensor),
            self.epsilon,
        ))
    }

    /// With `g = grad · weight`, `s = 1/√(var + ε)` and `c = x − mean`, the input's gradient is
    /// `s · g − mean(s · g) − c · s³ · mean(g · c)`, without its second term where the mean is kept (and with x for c in
    /// the product with g).
    fn backward<B: Backend>(
        &self,
        [x, weight, bias]: Operands<FloatTensor<B>, 3>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, 3> {
        let (x, weight, grad) = (
            given::<B, 4>(x),
            given::<B, 1>(weight),
            tensor::<B, 4>(grad),
        );
        let format = x.dtype();
        let centred = bias.is_some();
        let (x, weight, grad) = (single(x), single(weight), single(grad));
        let bias = bias.map(|_| primitive(in_format(sum_of_channels(grad.clone()), format)));
        let (centered, scale) = statistics(x.clone(), self.epsilon);
        let kept = if centred { centered.clone() } else { x };

        let grad_weight = sum_of_channels(grad.clone() * kept.clone() * scale.clone());
        let grad = grad * per_channel(weight);
        let slope = (grad.clone() * kept).mean_dim(1) * scale.clone().powi_scalar(3);
        let direct = grad * scale;
        let grad_x = match centred {
            true => direct.clone() - direct.mean_dim(1) - centered * slope,
            false => direct - centered * slope,
        };
        [
            Some(primitive(in_format(grad_x, format))),
            Some(primitive(in_format(grad_weight, format))),
            bias,
        ]
    }
}

impl OnGpu<1> for Gelu {
    /// Burn's `gelu`, which is exact forward.
    fn forward<B: Backend>(&self, [x]: Operands<FloatTensor<B>, 1>) -> FloatTensor<B> {
        primitive(activation::gelu(given::<B, 4>(x)))
    }

    /// Burn's own is that of the tanh approximation on most backends, off by up to 1e-3.
    fn backward<B: Backend>(
        &self,
        [x]: Operands<FloatTensor<B>, 1>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, 1> {
        let x: Tensor<B, 4> = given(x);
        let slope = gelu_slope(x.clone(), distribution(x));
        [Some(primitive(tensor::<B, 4>(grad) * slope))]
    }
}

impl OnGpu<1> for GeluGate {
    fn forward<B: Backend>(&self, [x]: Operands<FloatTensor<B>, 1>) -> FloatTensor<B> {
        let [a, b] = halves::<B>(given(x));
        primitive(activation::gelu(a) * b)
    }

    /// `grad · b · gelu'(a)` and `grad · gelu(a)`.
    fn backward<B: Backend>(
        &self,
        [x]: Operands<FloatTensor<B>, 1>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, 1> {
        let [a, b] = halves::<B>(given(x));
        let grad: Tensor<B, 4> = tensor(grad);
        let distribution = distribution(a.clone());
        let grad_b = grad.clone() * a.clone() * distribution.clone();
        let grad_a = grad * b * gelu_slope(a, distribution);
        [Some(primitive(Tensor::cat(vec![grad_a, grad_b], 1)))]
    }
}

/// `gelu'(x) = Φ(x) + x · φ(x)`, given Φ(x).
fn gelu_slope<B: Backend>(x: Tensor<B, 4>, distribution: Tensor<B, 4>) -> Tensor<B, 4> {
    let density = x.clone().square().mul_scalar(-0.5).exp();
    distribution + x * density.mul_scalar((2.0 * PI).sqrt().recip())
}

fn halves<B: Backend>(x: Tensor<B, 4>) -> [Tensor<B, 4>; 2] {
    let hidden = x.dims()[1] / 2;
    [x.clone().narrow(1, 0, hidden), x.narrow(1, hidden, hidden)]
}
