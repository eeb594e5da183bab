//! The methods of [`Backend`] on the tensors of a backend in the processor's memory: from tensors to slices, and from there
//! to the kernels, image by image. Other formats than single precision go through `plain`.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, TensorMetadata};

use super::backward::{self, Gradient, Through};
use super::branch::Branch;
use super::conv3x3::{self, Arrangement};
use super::normalize::Norm;
use super::{Dims, channel_norm, depthwise, gdfn, gelu_gate, half_channels, him, mdta};
use crate::backend::{
    Backend, BlockGradients, BranchWeights, HimWeights, LayerWeights, NormWeights, plain,
};

/// A tensor as the kernels need it.
pub(super) trait CpuTensor: TensorMetadata + Clone + 'static {
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

/// A backend with such tensors.
pub(super) trait Cpu: Backend<FloatTensorPrimitive: CpuTensor> {}

impl<B: Backend<FloatTensorPrimitive: CpuTensor>> Cpu for B {}

/// The methods of a [`Backend`], each by the function of its name here.
macro_rules! by_kernels {
    () => {
        fn depthwise_conv3x3(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: Option<FloatTensor<Self>>,
        ) -> FloatTensor<Self> {
            operations::depthwise_conv3x3::<Self>(x, weight, bias)
        }

        fn depthwise_conv3x3_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            operations::depthwise_conv3x3_backward::<Self>(x, weight, grad)
        }

        fn conv3x3(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: Option<FloatTensor<Self>>,
        ) -> FloatTensor<Self> {
            operations::conv3x3::<Self>(x, weight, bias)
        }

        fn conv3x3_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            operations::conv3x3_backward::<Self>(x, weight, grad)
        }

        fn conv3x3_unshuffle(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
            operations::conv3x3_unshuffle::<Self>(x, weight)
        }

        fn conv3x3_shuffle(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            skip: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            operations::conv3x3_shuffle::<Self>(x, weight, skip)
        }

        fn conv3x3_unshuffle_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            operations::conv3x3_unshuffle_backward::<Self>(x, weight, grad)
        }

        fn conv3x3_shuffle_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            operations::conv3x3_shuffle_backward::<Self>(x, weight, grad)
        }

        fn channel_norm(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: Option<FloatTensor<Self>>,
            epsilon: f64,
        ) -> FloatTensor<Self> {
            operations::channel_norm::<Self>(x, weight, bias, epsilon)
        }

        fn channel_norm_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            with_bias: bool,
            epsilon: f64,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            operations::channel_norm_backward::<Self>(x, weight, grad, with_bias, epsilon)
        }

        fn mdta(
            x: FloatTensor<Self>,
            temperature: FloatTensor<Self>,
            weights: BranchWeights<FloatTensor<Self>>,
        ) -> FloatTensor<Self> {
            operations::mdta::<Self>(x, temperature, weights)
        }

        fn gdfn(
            x: FloatTensor<Self>,
            weights: BranchWeights<FloatTensor<Self>>,
        ) -> FloatTensor<Self> {
            operations::gdfn::<Self>(x, weights)
        }

        fn him(x: FloatTensor<Self>, weights: HimWeights<FloatTensor<Self>>) -> FloatTensor<Self> {
            operations::him::<Self>(x, weights)
        }

        fn shares_samples() -> bool {
            true
        }

        fn block_gradients(x: &FloatTensor<Self>) -> Option<BlockGradients<Self>> {
            operations::block_gradients::<Self>(x)
        }

        fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
            operations::exact_gelu::<Self>(x)
        }

        fn gelu_gate(x: FloatTensor<Self>) -> FloatTensor<Self> {
            operations::gelu_gate::<Self>(x)
        }

        fn gelu_gate_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
            operations::gelu_gate_backward::<Self>(x, grad)
        }
    };
}
pub(super) use by_kernels;

fn contiguous<T: CpuTensor>(tensor: T) -> T {
    tensor.contiguous()
}

fn single_precision<'a, T: CpuTensor>(tensors: impl IntoIterator<Item = &'a T>) -> bool {
    let mut tensors = tensors.into_iter();
    tensors.all(|tensor| tensor.dtype() == DType::F32)
}

pub(super) fn depthwise_conv3x3<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    if !single_precision([&x, &weight].into_iter().chain(&bias)) {
        return plain::depthwise_conv3x3::<B>(x, weight, bias);
    }
    let dims: Dims = x.shape().dims();
    let (x, weight, bias) = (x.contiguous(), weight.contiguous(), bias.map(contiguous));
    let bias = bias.as_ref().map(CpuTensor::elements);
    CpuTensor::from_elements(
        depthwise::forward(x.elements(), weight.elements(), bias, dims),
        dims,
    )
}

pub(super) fn depthwise_conv3x3_backward<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    if !single_precision([&x, &weight, &grad]) {
        return plain::depthwise_conv3x3_backward::<B>(x, weight, grad);
    }
    let dims: Dims = x.shape().dims();
    let shape = weight.shape();
    let [x, weight, grad] = [x, weight, grad].map(contiguous);
    let (x, weight) = depthwise::backward(x.elements(), weight.elements(), grad.elements(), dims);
    (
        CpuTensor::from_elements(x, dims),
        CpuTensor::from_elements(weight, shape),
    )
}

pub(super) fn channel_norm<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    epsilon: f64,
) -> FloatTensor<B> {
    if !single_precision([&x, &weight].into_iter().chain(&bias)) {
        return plain::channel_norm::<B>(x, weight, bias, epsilon);
    }
    let dims: Dims = x.shape().dims();
    let (x, weight, bias) = (x.contiguous(), weight.contiguous(), bias.map(contiguous));
    let bias = bias.as_ref().map(CpuTensor::elements);
    let epsilon = epsilon as f32;
    CpuTensor::from_elements(
        channel_norm::forward(x.elements(), weight.elements(), bias, epsilon, dims),
        dims,
    )
}

pub(super) fn channel_norm_backward<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    with_bias: bool,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    if !single_precision([&x, &weight, &grad]) {
        return plain::channel_norm_backward::<B>(x, weight, grad, with_bias, epsilon);
    }
    let dims: Dims = x.shape().dims();
    let shape = weight.shape();
    let [x, weight, grad] = [x, weight, grad].map(contiguous);
    let kind = channel_norm::Kind {
        with_bias,
        epsilon: epsilon as f32,
    };
    let (x, weight, grad) = (x.elements(), weight.elements(), grad.elements());
    let gradients = channel_norm::backward(x, weight, grad, None, kind, dims);
    (
        CpuTensor::from_elements(gradients.x, dims),
        CpuTensor::from_elements(gradients.weight, shape),
    )
}

pub(super) fn exact_gelu<B: Cpu>(x: FloatTensor<B>) -> FloatTensor<B> {
    if !single_precision([&x]) {
        return plain::exact_gelu::<B>(x);
    }
    let shape = x.shape();
    CpuTensor::from_elements(gelu_gate::gelu(x.contiguous().elements()), shape)
}

pub(super) fn gelu_gate<B: Cpu>(x: FloatTensor<B>) -> FloatTensor<B> {
    if !single_precision([&x]) {
        return plain::gelu_gate::<B>(x);
    }
    let dims: Dims = x.shape().dims();
    let output = gelu_gate::forward(x.contiguous().elements(), dims);
    CpuTensor::from_elements(output, half_channels(dims))
}

pub(super) fn gelu_gate_backward<B: Cpu>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    if !single_precision([&x, &grad]) {
        return plain::gelu_gate_backward::<B>(x, grad);
    }
    let dims: Dims = x.shape().dims();
    let [x, grad] = [x, grad].map(contiguous);
    CpuTensor::from_elements(
        gelu_gate::backward(x.elements(), grad.elements(), dims),
        dims,
    )
}

pub(super) fn conv3x3<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    if !single_precision([&x, &weight].into_iter().chain(&bias)) {
        return plain::conv3x3::<B>(x, weight, bias);
    }
    convolve(x, weight, bias, Arrangement::Plain, None)
}

pub(super) fn conv3x3_unshuffle<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    if !single_precision([&x, &weight]) {
        return plain::conv3x3_unshuffle::<B>(x, weight);
    }
    convolve(x, weight, None, Arrangement::Unshuffled, None)
}

pub(super) fn conv3x3_shuffle<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    skip: FloatTensor<B>,
) -> FloatTensor<B> {
    if !single_precision([&x, &weight, &skip]) {
        return plain::conv3x3_shuffle::<B>(x, weight, skip);
    }
    convolve(x, weight, None, Arrangement::Shuffled, Some(skip))
}

/// The 3×3 convolution; behind each image's outputs come its `skip` channels, if any.
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
    let skip = skip.as_ref().map(CpuTensor::elements);

    let weight = weight.elements();
    let [channels, rows, columns] = arrangement.size([to, height, width]);
    let own = channels * rows * columns;
    let skipped = skip.map_or(0, |skip| skip.len() / batch.max(1));
    let mut output = vec![0.0; batch * (own + skipped)];
    let channels = channels + skipped / (rows * columns).max(1);
    if !x.elements().is_empty() {
        let images = x.elements().chunks_exact(from * height * width);
        let outputs = output.chunks_exact_mut(own + skipped);
        for (image, (x, output)) in images.zip(outputs).enumerate() {
            let (own, rest) = output.split_at_mut(own);
            conv3x3::convolve(x, [from, height, width], weight, bias, arrangement, own);
            if let Some(skip) = skip {
                rest.copy_from_slice(&skip[image * skipped..][..skipped]);
            }
        }
    }
    T::from_elements(output, [batch, channels, rows, columns])
}

pub(super) fn conv3x3_backward<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    if !single_precision([&x, &weight, &grad]) {
        return plain::conv3x3_backward::<B>(x, weight, grad);
    }
    let (x, weight, _) = convolve_backward(x, weight, grad, Arrangement::Plain);
    (x, weight)
}

pub(super) fn conv3x3_unshuffle_backward<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    if !single_precision([&x, &weight, &grad]) {
        return plain::conv3x3_unshuffle_backward::<B>(x, weight, grad);
    }
    let (x, weight, _) = convolve_backward(x, weight, grad, Arrangement::Unshuffled);
    (x, weight)
}

pub(super) fn conv3x3_shuffle_backward<B: Cpu>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    if !single_precision([&x, &weight, &grad]) {
        return plain::conv3x3_shuffle_backward::<B>(x, weight, grad);
    }
    convolve_backward(x, weight, grad, Arrangement::Shuffled)
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

pub(super) fn mdta<B: Cpu>(
    x: FloatTensor<B>,
    temperature: FloatTensor<B>,
    weights: BranchWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    if !single_precision([&x]) {
        return plain::mdta::<B>(x, temperature, weights);
    }
    let dims: Dims = x.shape().dims();
    let (temperature, weights) = (temperature.contiguous(), weights.map(contiguous));
    x.update(|x| {
        for (index, image, size) in images(x, dims) {
            let norm = norm(&weights.norm, index);
            mdta::add(
                image,
                size,
                &norm,
                temperature.elements(),
                &branch(&weights),
            );
        }
    })
}

pub(super) fn gdfn<B: Cpu>(
    x: FloatTensor<B>,
    weights: BranchWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    if !single_precision([&x]) {
        return plain::gdfn::<B>(x, weights);
    }
    let dims: Dims = x.shape().dims();
    let weights = weights.map(contiguous);
    x.update(|x| {
        for (index, image, size) in images(x, dims) {
            gdfn::add(image, size, &norm(&weights.norm, index), &branch(&weights));
        }
    })
}

pub(super) fn him<B: Cpu>(
    x: FloatTensor<B>,
    weights: HimWeights<FloatTensor<B>>,
) -> FloatTensor<B> {
    if !single_precision([&x]) {
        return plain::him::<B>(x, weights);
    }
    let dims: Dims = x.shape().dims();
    let weights = weights.map(contiguous);
    x.update(|x| {
        for (index, image, size) in images(x, dims) {
            let norm = norm(&weights.norm, index);
            him::add(image, size, &norm, &him_of_image(&weights, index, dims));
        }
    })
}

pub(super) fn block_gradients<B: Cpu>(x: &FloatTensor<B>) -> Option<BlockGradients<B>> {
    single_precision([x]).then_some(BlockGradients {
        mdta: mdta_backward,
        gdfn: gdfn_backward,
        him: him_backward,
    })
}

fn mdta_backward<T: CpuTensor>(
    x: T,
    temperature: T,
    weights: BranchWeights<T>,
    grad: T,
) -> (T, T, BranchWeights<T>) {
    let dims: Dims = x.shape().dims();
    let [x, temperature, grad] = [x, temperature, grad].map(contiguous);
    let weights = weights.map(contiguous);
    let mut x_gradient = Vec::new();
    let mut temperature_gradient = Gradient::zero(&temperature);
    let mut gradients = weights.each_ref().map(Gradient::zero);
    for (index, x, grad, size) in pairs_of_images(&x, &grad, dims) {
        let through = backward::mdta(
            x,
            size,
            &norm(&weights.norm, index),
            temperature.elements(),
            &branch(&weights),
            grad,
            &mut gradients,
            &mut temperature_gradient,
        );
        add_norm_gradients(&mut gradients.norm, &weights.norm, index, &through);
        append(&mut x_gradient, through.x);
    }
    (
        T::from_elements(x_gradient, dims),
        temperature_gradient.into_tensor(),
        gradients.map(Gradient::into_tensor),
    )
}

fn gdfn_backward<T: CpuTensor>(x: T, weights: BranchWeights<T>, grad: T) -> (T, BranchWeights<T>) {
    let dims: Dims = x.shape().dims();
    let [x, grad] = [x, grad].map(contiguous);
    let weights = weights.map(contiguous);
    let mut x_gradient = Vec::new();
    let mut gradients = weights.each_ref().map(Gradient::zero);
    for (index, x, grad, size) in pairs_of_images(&x, &grad, dims) {
        let norm = norm(&weights.norm, index);
        let through = backward::gdfn(x, size, &norm, &branch(&weights), grad, &mut gradients);
        add_norm_gradients(&mut gradients.norm, &weights.norm, index, &through);
        append(&mut x_gradient, through.x);
    }
    (
        T::from_elements(x_gradient, dims),
        gradients.map(Gradient::into_tensor),
    )
}

fn him_backward<T: CpuTensor>(x: T, weights: HimWeights<T>, grad: T) -> (T, HimWeights<T>) {
    let dims: Dims = x.shape().dims();
    let [x, grad] = [x, grad].map(contiguous);
    let weights = weights.map(contiguous);
    let mut x_gradient = Vec::new();
    let mut gradients = weights.each_ref().map(Gradient::zero);
    for (index, x, grad, size) in pairs_of_images(&x, &grad, dims) {
        let norm = norm(&weights.norm, index);
        let him = him_of_image(&weights, index, dims);
        let through = backward::him(x, size, &norm, &him, grad, index, &mut gradients);
        add_norm_gradients(&mut gradients.norm, &weights.norm, index, &through);
        append(&mut x_gradient, through.x);
    }
    (
        T::from_elements(x_gradient, dims),
        gradients.map(Gradient::into_tensor),
    )
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

/// Each image of a batch, with its number and its size.
fn images(
    x: &mut [f32],
    [_, channels, height, width]: Dims,
) -> impl Iterator<Item = (usize, &mut [f32], [usize; 3])> {
    let length = channels * height * width;
    let images = x.chunks_exact_mut(length.max(1)).enumerate();
    images.map(move |(index, image)| (index, image, [channels, height, width]))
}

/// Each image of a batch and the gradient of what was made of it, with its number and its size.
fn pairs_of_images<'a, T: CpuTensor>(
    x: &'a T,
    grad: &'a T,
    [_, channels, height, width]: Dims,
) -> impl Iterator<Item = (usize, &'a [f32], &'a [f32], [usize; 3])> {
    let length = (channels * height * width).max(1);
    let images = x.elements().chunks_exact(length);
    let pairs = images.zip(grad.elements().chunks_exact(length)).enumerate();
    pairs.map(move |(index, (x, grad))| (index, x, grad, [channels, height, width]))
}
