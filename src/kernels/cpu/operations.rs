//! The kernels on tensors in the processor's memory: from tensors to slices, and from there to the kernels, image by image.

use burn::tensor::{Shape, TensorMetadata};

use super::backward::{self, Gradient, Through};
use super::branch::Branch;
use super::normalize::Norm;
use super::{Dims, channel_norm, conv3x3, depthwise, gdfn, gelu_gate, half_channels, him, mdta};
use crate::kernels::gradients::Operands;
use crate::kernels::operations::{
    Arrangement, ChannelNorm, Convolution, Depthwise, Describe, Gdfn, Gelu, GeluGate, Him, Mdta,
};
use crate::kernels::precision::precision;
use crate::kernels::{BranchWeights, HimWeights, LayerWeights, NormWeights};

/// A tensor as the kernels need it.
pub(in crate::kernels) trait CpuTensor:
    TensorMetadata + Clone + 'static
{
    /// `elements` are as many as the shape has.
    fn from_elements(elements: Vec<f32>, shape: impl Into<Shape>) -> Self;

    /// With its elements in memory order.
    fn contiguous(self) -> Self;

    /// The elements of a contiguous tensor in single precision.
    fn elements(&self) -> &[f32];

    /// Lets `work` change the elements of a tensor in single precision: in its own memory if nothing else holds it, or else
    /// in a copy.
    fn update(self, work: impl FnOnce(&mut [f32])) -> Self;
}

/// An operation by a kernel. The operands are in single precision and fit together.
pub(in crate::kernels) trait OnProcessor<const N: usize>: Describe<N> {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, N>) -> T;

    /// The gradients of the operands that there are, from the output's.
    fn backward<T: CpuTensor>(&self, operands: Operands<T, N>, grad: T) -> Operands<T, N>;
}

/// Why operands are taken for granted.
const THERE: &str = "callers give the operand";

fn contiguous<T: CpuTensor>(tensor: T) -> T {
    tensor.contiguous()
}

/// In memory order, each that there is.
fn all_contiguous<T: CpuTensor, const N: usize>(operands: Operands<T, N>) -> Operands<T, N> {
    operands.map(|operand| operand.map(contiguous))
}

fn elements<T: CpuTensor>(operand: &Option<T>) -> Option<&[f32]> {
    operand.as_ref().map(T::elements)
}

/// The gradient of a bias: the sum over batch, height and width.
fn bias_gradient<T: CpuTensor>(bias: Option<T>, grad: &T) -> Option<T> {
    let [_, channels, height, width]: Dims = grad.shape().dims();
    bias.map(|_| {
        let mut sums = vec![0.0; channels];
        let planes = grad.elements().chunks_exact((height * width).max(1));
        for (index, plane) in planes.enumerate() {
            sums[index % channels] += plane.iter().copied().map(f64::from).sum::<f64>();
        }
        T::from_elements(sums.into_iter().map(|sum| sum as f32).collect(), [channels])
    })
}

impl OnProcessor<3> for Depthwise {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, 3>) -> T {
        let [x, weight, bias] = all_contiguous(operands);
        let (x, weight) = (x.expect(THERE), weight.expect(THERE));
        let dims: Dims = x.shape().dims();
        let output = depthwise::forward(x.elements(), weight.elements(), elements(&bias), dims);
        T::from_elements(output, dims)
    }

    fn backward<T: CpuTensor>(&self, operands: Operands<T, 3>, grad: T) -> Operands<T, 3> {
        let [x, weight, bias] = all_contiguous(operands);
        let (x, weight, grad) = (x.expect(THERE), weight.expect(THERE), grad.contiguous());
        let dims: Dims = x.shape().dims();
        let gradients = depthwise::backward(x.elements(), weight.elements(), grad.elements(), dims);
        [
            Some(T::from_elements(gradients.0, dims)),
            Some(T::from_elements(gradients.1, weight.shape())),
            bias_gradient(bias, &grad),
        ]
    }
}

impl OnProcessor<3> for ChannelNorm {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, 3>) -> T {
        let [x, weight, bias] = all_contiguous(operands);
        let (x, weight) = (x.expect(THERE), weight.expect(THERE));
        let dims: Dims = x.shape().dims();
        let (bias, epsilon) = (elements(&bias), self.epsilon as f32);
        let output = channel_norm::forward(x.elements(), weight.elements(), bias, epsilon, dims);
        T::from_elements(output, dims)
    }

    fn backward<T: CpuTensor>(&self, operands: Operands<T, 3>, grad: T) -> Operands<T, 3> {
        let [x, weight, bias] = all_contiguous(operands);
        let (x, weight, grad) = (x.expect(THERE), weight.expect(THERE), grad.contiguous());
        let dims: Dims = x.shape().dims();
        let kind = channel_norm::NormSettings {
            with_bias: bias.is_some(),
            epsilon: self.epsilon as f32,
        };
        let (values, factors) = (x.elements(), weight.elements());
        let gradients = channel_norm::backward(values, factors, grad.elements(), None, kind, dims);
        [
            Some(T::from_elements(gradients.x, dims)),
            Some(T::from_elements(gradients.weight, weight.shape())),
            bias_gradient(bias, &grad),
        ]
    }
}

impl OnProcessor<1> for Gelu {
    fn forward<T: CpuTensor>(&self, [x]: Operands<T, 1>) -> T {
        let x = x.expect(THERE).contiguous();
        T::from_elements(gelu_gate::gelu(x.elements()), x.shape())
    }

    fn backward<T: CpuTensor>(&self, [x]: Operands<T, 1>, grad: T) -> Operands<T, 1> {
        let (x, grad) = (x.expect(THERE).contiguous(), grad.contiguous());
        let gradient = gelu_gate::gelu_backward(x.elements(), grad.elements());
        [Some(T::from_elements(gradient, x.shape()))]
    }
}

impl OnProcessor<1> for GeluGate {
    fn forward<T: CpuTensor>(&self, [x]: Operands<T, 1>) -> T {
        let x = x.expect(THERE).contiguous();
        let dims: Dims = x.shape().dims();
        T::from_elements(gelu_gate::forward(x.elements(), dims), half_channels(dims))
    }

    fn backward<T: CpuTensor>(&self, [x]: Operands<T, 1>, grad: T) -> Operands<T, 1> {
        let (x, grad) = (x.expect(THERE).contiguous(), grad.contiguous());
        let dims: Dims = x.shape().dims();
        let gradient = gelu_gate::backward(x.elements(), grad.elements(), dims);
        [Some(T::from_elements(gradient, dims))]
    }
}

impl OnProcessor<4> for Convolution {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, 4>) -> T {
        let [x, weight, bias, skip] = all_contiguous(operands);
        convolve(x.expect(THERE), weight.expect(THERE), bias, self.0, skip)
    }

    fn backward<T: CpuTensor>(&self, operands: Operands<T, 4>, grad: T) -> Operands<T, 4> {
        let [x, weight, bias, skip] = all_contiguous(operands);
        let (x, weight, grad) = (x.expect(THERE), weight.expect(THERE), grad.contiguous());
        let bias = bias_gradient(bias, &grad);
        let (x, weight, behind) = convolve_backward(x, weight, grad, self.0);
        [Some(x), Some(weight), bias, skip.map(|_| behind)]
    }
}

impl OnProcessor<12> for Mdta {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, 12>) -> T {
        let [x, temperature, weights @ ..] = operands;
        let temperature = temperature.expect(THERE).contiguous();
        let weights = BranchWeights::from_parts(all_contiguous(weights), self.epsilon);
        each_image(x.expect(THERE), |index, image, size| {
            let (norm, branch) = (norm(&weights.norm, index), branch(&weights));
            let temperature = temperature.elements();
            mdta::add(image, size, &norm, temperature, &branch, self.window);
        })
    }

    fn backward<T: CpuTensor>(&self, operands: Operands<T, 12>, grad: T) -> Operands<T, 12> {
        let [x, temperature, weights @ ..] = operands;
        let temperature = temperature.expect(THERE).contiguous();
        let weights = BranchWeights::from_parts(all_contiguous(weights), self.epsilon);
        let mut gradients = weights.each_ref().map(Gradient::zero);
        let mut of_temperature = Gradient::zero(&temperature);
        let (x, norm) = back_through_images(x, &weights.norm, grad, |_, x, size, norm, grad| {
            backward::mdta(
                x,
                size,
                norm,
                temperature.elements(),
                &branch(&weights),
                grad,
                &mut gradients,
                &mut of_temperature,
            )
        });
        gradients.norm = norm;
        let ([a, b, c, d, e, f, g, h, i, j], _) = gradients.map(Gradient::into_tensor).into_parts();
        let temperature = Some(of_temperature.into_tensor());
        [Some(x), temperature, a, b, c, d, e, f, g, h, i, j]
    }
}

impl OnProcessor<11> for Gdfn {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, 11>) -> T {
        let [x, weights @ ..] = operands;
        let weights = BranchWeights::from_parts(all_contiguous(weights), self.epsilon);
        each_image(x.expect(THERE), |index, image, size| {
            gdfn::add(image, size, &norm(&weights.norm, index), &branch(&weights));
        })
    }

    fn backward<T: CpuTensor>(&self, operands: Operands<T, 11>, grad: T) -> Operands<T, 11> {
        let [x, weights @ ..] = operands;
        let weights = BranchWeights::from_parts(all_contiguous(weights), self.epsilon);
        let mut gradients = weights.each_ref().map(Gradient::zero);
        let (x, norm) = back_through_images(x, &weights.norm, grad, |_, x, size, norm, grad| {
            backward::gdfn(x, size, norm, &branch(&weights), grad, &mut gradients)
        });
        gradients.norm = norm;
        let ([a, b, c, d, e, f, g, h, i, j], _) = gradients.map(Gradient::into_tensor).into_parts();
        [Some(x), a, b, c, d, e, f, g, h, i, j]
    }
}

impl OnProcessor<11> for Him {
    fn forward<T: CpuTensor>(&self, operands: Operands<T, 11>) -> T {
        let [x, weights @ ..] = operands;
        let weights = HimWeights::from_parts(all_contiguous(weights), self.epsilon, self.heads);
        let x = x.expect(THERE);
        let dims: Dims = x.shape().dims();
        each_image(x, |index, image, size| {
            let him = him_of_image(&weights, index, dims);
            him::add(image, size, &norm(&weights.norm, index), &him);
        })
    }

    fn backward<T: CpuTensor>(&self, operands: Operands<T, 11>, grad: T) -> Operands<T, 11> {
        let [x, weights @ ..] = operands;
        let weights = HimWeights::from_parts(all_contiguous(weights), self.epsilon, self.heads);
        let dims: Dims = grad.shape().dims();
        let mut gradients = weights.each_ref().map(Gradient::zero);
        let (x, norm) =
            back_through_images(x, &weights.norm, grad, |image, x, size, norm, grad| {
                let him = him_of_image(&weights, image, dims);
                backward::him(x, size, norm, &him, grad, image, &mut gradients)
            });
        gradients.norm = norm;
        let ([a, b, c, d, e, f, g, h, i, j], ..) =
            gradients.map(Gradient::into_tensor).into_parts();
        [Some(x), a, b, c, d, e, f, g, h, i, j]
    }
}

/// Changes each image of a batch, given its number and its size `[channels, height, width]`.
fn each_image<T: CpuTensor>(x: T, change: impl Fn(usize, &mut [f32], [usize; 3])) -> T {
    let [_, channels, height, width]: Dims = x.shape().dims();
    let length = channels * height * width;
    x.update(|x| {
        for (index, image) in x.chunks_exact_mut(length.max(1)).enumerate() {
            change(index, image, [channels, height, width]);
        }
    })
}

/// The 3×3 convolution; behind each image's outputs come its `skip` channels, if any. These are laid in last, when x is no more:
/// where decoder level 1 begins there are then never x, skip and the whole output, which would be the most that inference needs.
fn convolve<T: CpuTensor>(
    x: T,
    weight: T,
    bias: Option<T>,
    arrangement: Arrangement,
    skip: Option<T>,
) -> T {
    let [batch, from, height, width]: Dims = x.shape().dims();
    let [to, ..]: Dims = weight.shape().dims();
    let (x, weight) = (x.contiguous(), weight.contiguous());
    let (bias, skip) = (bias.map(contiguous), skip.map(contiguous));
    let bias = bias.as_ref().map(CpuTensor::elements);

    let weight = weight.elements();
    let [channels, rows, columns] = arrangement.size([to, height, width]);
    let own = channels * rows * columns;
    let skipped = skip
        .as_ref()
        .map_or(0, |skip| skip.elements().len() / batch.max(1));
    let mut output = vec![0.0; batch * (own + skipped)];
    let channels = channels + skipped / (rows * columns).max(1);
    if !x.elements().is_empty() {
        let images = x.elements().chunks_exact(from * height * width);
        let outputs = output.chunks_exact_mut(own + skipped);
        for (x, output) in images.zip(outputs) {
            let size = [from, height, width];
            let output = &mut output[..own];
            conv3x3::convolve(x, size, weight, bias, (arrangement, precision()), output);
        }
    }
    drop(x);
    if let Some(skip) = skip.filter(|_| skipped > 0) {
        let skips = skip.elements().chunks_exact(skipped);
        for (skip, output) in skips.zip(output.chunks_exact_mut(own + skipped)) {
            output[own..].copy_from_slice(skip);
        }
    }
    T::from_elements(output, [batch, channels, rows, columns])
}

/// The gradients of [`convolve`] for x, the weight, and the channels behind the outputs.
fn convolve_backward<T: CpuTensor>(
    x: T,
    weight: T,
    grad: T,
    arrangement: Arrangement,
) -> (T, T, T) {
    let dims: Dims = x.shape().dims();
    let [batch, from, height, width] = dims;
    let weight_shape = weight.shape();
    let [to, ..]: Dims = weight.shape().dims();
    let [_, channels, rows, columns]: Dims = grad.shape().dims();
    let [own, ..] = arrangement.size([to, height, width]);
    let [x, weight, grad] = [x, weight, grad].map(contiguous);

    let mut x_gradient = vec![0.0; x.elements().len()];
    let mut weight_gradient = vec![0.0; weight.elements().len()];
    let mut skip_gradient = Vec::with_capacity(batch * (channels - own) * rows * columns);
    if !x_gradient.is_empty() {
        let images = x.elements().chunks_exact(from * height * width);
        let gradients = x_gradient.chunks_exact_mut(from * height * width);
        let grads = grad.elements().chunks_exact(channels * rows * columns);
        for ((x, x_gradient), grad) in images.zip(gradients).zip(grads) {
            let (own, skip) = grad.split_at(own * rows * columns);
            let (size, weight) = ([from, height, width], weight.elements());
            conv3x3::backward(
                x,
                size,
                weight,
                own,
                arrangement,
                x_gradient,
                &mut weight_gradient,
            );
            skip_gradient.extend_from_slice(skip);
        }
    }
    (
        T::from_elements(x_gradient, dims),
        T::from_elements(weight_gradient, weight_shape),
        T::from_elements(skip_gradient, [batch, channels - own, rows, columns]),
    )
}

/// The gradients of a batch and of its normalisation, by `backward` of each image: its number, the image, its size
/// `[channels, height, width]`, its normalisation, and the gradient of what was made of it.
fn back_through_images<T: CpuTensor>(
    x: Option<T>,
    weights: &NormWeights<T>,
    grad: T,
    mut backward: impl FnMut(usize, &[f32], [usize; 3], &Norm, &[f32]) -> Through,
) -> (T, NormWeights<Gradient>) {
    let [x, grad] = [x.expect(THERE), grad].map(contiguous);
    let dims: Dims = x.shape().dims();
    let [_, channels, height, width] = dims;
    let length = (channels * height * width).max(1);
    let images = x.elements().chunks_exact(length);
    let pairs = images.zip(grad.elements().chunks_exact(length));
    let mut x_gradient = Vec::new();
    let mut gradients = weights.each_ref().map(Gradient::zero);
    for (image, (x, grad)) in pairs.enumerate() {
        let norm = norm(weights, image);
        let through = backward(image, x, [channels, height, width], &norm, grad);
        add_norm_gradients(&mut gradients, weights, image, &through);
        append(&mut x_gradient, through.x);
    }
    (T::from_elements(x_gradient, dims), gradients)
}

/// Puts an image's gradient behind those of the images before; alone it is all there is, and is not copied.
fn append(gradients: &mut Vec<f32>, image: Vec<f32>) {
    if gradients.is_empty() {
        *gradients = image;
    } else {
        gradients.extend(image);
    }
}

/// The kernels take LN's weight and the modulation as one factor, and LN's bias and the modulation as one summand; this
/// takes their gradients apart.
fn add_norm_gradients<T: CpuTensor>(
    gradients: &mut NormWeights<Gradient>,
    weights: &NormWeights<T>,
    image: usize,
    through: &Through,
) {
    let channels = through.scale.len();
    for channel in 0..channels {
        let (mut scale, mut shift) = (through.scale[channel], through.shift[channel]);
        if let (Some([factor, _]), Some(gradients)) =
            (&weights.modulation, &mut gradients.modulation)
        {
            let index = image * channels + channel;
            let bias = weights.bias.as_ref();
            let bias = bias.map_or(0.0, |bias| bias.elements()[channel]);
            gradients[0][index] = scale * weights.weight.elements()[channel] + shift * bias;
            gradients[1][index] = shift;
            scale *= factor.elements()[index];
            shift *= factor.elements()[index];
        }
        gradients.weight[channel] += scale;
        if let Some(bias) = &mut gradients.bias {
            bias[channel] += shift;
        }
    }
}

fn bias<T: CpuTensor>(layer: &LayerWeights<T>) -> Option<&[f32]> {
    layer.bias.as_ref().map(T::elements)
}

fn branch<T: CpuTensor>(weights: &BranchWeights<T>) -> Branch<'_> {
    Branch {
        expand: weights.expand.weight.elements(),
        expand_bias: bias(&weights.expand),
        taps: weights.depthwise.weight.elements(),
        taps_bias: bias(&weights.depthwise),
        project: weights.project.weight.elements(),
        project_bias: bias(&weights.project),
        precision: precision(),
    }
}

fn him_of_image<T: CpuTensor>(
    weights: &HimWeights<T>,
    image: usize,
    [batch, channels, ..]: Dims,
) -> him::Him<'_> {
    let length = weights.keys.elements().len() / batch;
    let range = image * length..(image + 1) * length;
    him::Him {
        heads: weights.heads,
        tokens: length / channels,
        query: weights.query.weight.elements(),
        query_bias: bias(&weights.query),
        keys: &weights.keys.elements()[range.clone()],
        values: &weights.values.elements()[range],
        project: weights.project.weight.elements(),
        project_bias: bias(&weights.project),
    }
}

/// LN's scale and shift, and behind them the modulation of one image of the batch.
fn norm<T: CpuTensor>(weights: &NormWeights<T>, image: usize) -> Norm {
    let mut scale = weights.weight.elements().to_vec();
    let mut shift = match &weights.bias {
        Some(bias) => bias.elements().to_vec(),
        None => vec![0.0; scale.len()],
    };
    if let Some(modulation) = &weights.modulation {
        let channels = scale.len();
        let [factor, summand] =
            [0, 1].map(|part: usize| &modulation[part].elements()[image * channels..][..channels]);
        for channel in 0..channels {
            scale[channel] *= factor[channel];
            shift[channel] = shift[channel] * factor[channel] + summand[channel];
        }
    }
    Norm {
        scale,
        shift,
        centered: weights.bias.is_some(),
        epsilon: weights.epsilon as f32,
    }
}
