//! The operations on whole blocks and the 3×3 convolution, from the backends' tensors as slices to the kernels, image by
//! image.

use super::backward::{self, BranchGradients, HimGradients};
use super::branch::Branch;
use super::conv3x3::{Arrangement, TapMajor};
use super::normalize::Norm;
use super::{Dims, conv3x3, gdfn, him, mdta};
use crate::backend::{BranchWeights, HimWeights, LayerWeights, NormWeights};

/// A tensor that gives its elements in memory order.
pub(super) trait Elements {
    fn elements(&self) -> &[f32];
}

#[cfg(feature = "ndarray")]
impl Elements for Vec<f32> {
    fn elements(&self) -> &[f32] {
        self
    }
}

fn bias<F: Elements>(layer: &LayerWeights<F>) -> Option<&[f32]> {
    layer.bias.as_ref().map(F::elements)
}

fn branch<F: Elements>(weights: &BranchWeights<F>) -> Branch<'_> {
    Branch {
        expand: weights.expand.weight.elements(),
        expand_bias: bias(&weights.expand),
        taps: weights.depthwise.weight.elements(),
        taps_bias: bias(&weights.depthwise),
        project: weights.project.weight.elements(),
        project_bias: bias(&weights.project),
    }
}

/// LN's scale and shift, and behind them the modulation of one image of the batch.
fn norm<F: Elements>(weights: &NormWeights<F>, image: usize) -> Norm {
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

/// Adds MDTA in place.
pub(super) fn add_mdta<F: Elements>(
    x: &mut [f32],
    dims: Dims,
    temperature: &F,
    weights: &BranchWeights<F>,
) {
    for (index, image, size) in images(x, dims) {
        let norm = norm(&weights.norm, index);
        mdta::add(image, size, &norm, temperature.elements(), &branch(weights));
    }
}

/// Adds GDFN in place.
pub(super) fn add_gdfn<F: Elements>(x: &mut [f32], dims: Dims, weights: &BranchWeights<F>) {
    for (index, image, size) in images(x, dims) {
        gdfn::add(image, size, &norm(&weights.norm, index), &branch(weights));
    }
}

/// Adds HIM in place.
pub(super) fn add_him<F: Elements>(x: &mut [f32], dims: Dims, weights: &HimWeights<F>) {
    let batch = dims[0].max(1);
    let (keys, values) = (weights.keys.elements(), weights.values.elements());
    let length = keys.len() / batch;
    for (index, image, size) in images(x, dims) {
        let range = index * length..(index + 1) * length;
        let him = him_of(weights, size[0], &keys[range.clone()], &values[range]);
        him::add(image, size, &norm(&weights.norm, index), &him);
    }
}

fn him_of<'a, F: Elements>(
    weights: &'a HimWeights<F>,
    channels: usize,
    keys: &'a [f32],
    values: &'a [f32],
) -> him::Him<'a> {
    him::Him {
        heads: weights.heads,
        tokens: keys.len() / channels,
        query: weights.query.weight.elements(),
        query_bias: bias(&weights.query),
        keys,
        values,
        project: weights.project.weight.elements(),
        project_bias: bias(&weights.project),
    }
}

/// HIM's gradients, without modulation: the input's, the weights'.
pub(super) fn him_backward<F: Elements>(
    x: &[f32],
    dims: Dims,
    weights: &HimWeights<F>,
    grad: &[f32],
) -> (Vec<f32>, HimWeights<Gradient>) {
    let [batch, channels, height, width] = dims;
    let (pixels, size) = (channels * height * width, [channels, height, width]);
    let (keys, values) = (weights.keys.elements(), weights.values.elements());
    let length = keys.len() / batch.max(1);
    let first = him_of(weights, channels, &keys[..length], &values[..length]);
    let mut total = HimGradients::zero(&first, channels);
    let mut x_gradient = Vec::with_capacity(x.len());
    let (mut keys_gradient, mut values_gradient) = (Vec::new(), Vec::new());
    for image in 0..batch {
        let tokens = image * length..(image + 1) * length;
        let him = him_of(weights, channels, &keys[tokens.clone()], &values[tokens]);
        let norm = norm(&weights.norm, image);
        let range = image * pixels..(image + 1) * pixels;
        let (x, grad) = (&x[range.clone()], &grad[range]);
        x_gradient.extend(backward::him(x, size, &norm, &him, grad, &mut total));
        keys_gradient.extend_from_slice(&total.keys);
        values_gradient.extend_from_slice(&total.values);
    }
    let square = |weight: Vec<f32>, bias: Vec<f32>| LayerWeights {
        weight: (weight, vec![channels, channels]),
        bias: (!bias.is_empty()).then(|| (bias, vec![channels])),
    };
    let shape = vec![batch, length / channels, channels];
    let gradients = HimWeights {
        norm: NormWeights {
            weight: (total.norm_scale, vec![channels]),
            bias: weights
                .norm
                .bias
                .as_ref()
                .map(|_| (total.norm_shift, vec![channels])),
            epsilon: weights.norm.epsilon,
            modulation: None,
        },
        query: square(total.query, total.query_bias),
        keys: (keys_gradient, shape.clone()),
        values: (values_gradient, shape),
        project: square(total.project, total.project_bias),
        heads: weights.heads,
    };
    (x_gradient, gradients)
}

/// The 3×3 convolution; weight `[to, from, 3, 3]`. Behind each image's outputs come its `skip` channels, if any.
pub(super) fn conv3x3(
    x: &[f32],
    dims: Dims,
    weight: &[f32],
    bias: Option<&[f32]>,
    arrangement: Arrangement,
    skip: Option<&[f32]>,
) -> (Vec<f32>, Dims) {
    let [batch, from, height, width] = dims;
    let to = weight.len() / (9 * from);
    let weight = TapMajor::new(weight, to, from);
    let [channels, rows, columns] = arrangement.size([to, height, width]);
    let own = channels * rows * columns;
    let skipped = skip.map_or(0, |skip| skip.len() / batch.max(1));
    let mut output = vec![0.0; batch * (own + skipped)];
    let dims = [
        batch,
        channels + skipped / (rows * columns).max(1),
        rows,
        columns,
    ];
    if x.is_empty() {
        return (output, dims);
    }
    let images = x.chunks_exact(from * height * width);
    let outputs = output.chunks_exact_mut(own + skipped);
    for (image, (x, output)) in images.zip(outputs).enumerate() {
        let (own, rest) = output.split_at_mut(own);
        conv3x3::convolve(x, [from, height, width], &weight, bias, arrangement, own);
        if let Some(skip) = skip {
            rest.copy_from_slice(&skip[image * skipped..][..skipped]);
        }
    }
    (output, dims)
}

/// MDTA's gradients: the input's, the temperature's, the weights'.
pub(super) fn mdta_backward<F: Elements>(
    x: &[f32],
    dims: Dims,
    temperature: &F,
    weights: &BranchWeights<F>,
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>, BranchWeights<Gradient>) {
    let mut temperature_gradient = vec![0.0; temperature.elements().len()];
    let (x, weights) = branch_backward(x, dims, weights, grad, |x, size, norm, grad, gradients| {
        backward::mdta(
            x,
            size,
            norm,
            temperature.elements(),
            &branch(weights),
            grad,
            gradients,
            &mut temperature_gradient,
        )
    });
    (x, temperature_gradient, weights)
}

/// GDFN's gradients: the input's, the weights'.
pub(super) fn gdfn_backward<F: Elements>(
    x: &[f32],
    dims: Dims,
    weights: &BranchWeights<F>,
    grad: &[f32],
) -> (Vec<f32>, BranchWeights<Gradient>) {
    branch_backward(x, dims, weights, grad, |x, size, norm, grad, gradients| {
        backward::gdfn(x, size, norm, &branch(weights), grad, gradients)
    })
}

/// A gradient with its shape.
pub(super) type Gradient = (Vec<f32>, Vec<usize>);

fn branch_backward<F: Elements>(
    x: &[f32],
    dims: Dims,
    weights: &BranchWeights<F>,
    grad: &[f32],
    mut work: impl FnMut(&[f32], [usize; 3], &Norm, &[f32], &mut BranchGradients) -> Vec<f32>,
) -> (Vec<f32>, BranchWeights<Gradient>) {
    let [batch, channels, height, width] = dims;
    let length = channels * height * width;
    let mut x_gradient = Vec::with_capacity(x.len());
    let mut total = BranchGradients::zero(&branch(weights), channels);
    // LN's gradients come as if its weight and the modulation were one factor, and are taken apart image by image.
    let mut norm_weight = vec![0.0; channels];
    let mut norm_bias = vec![0.0; channels];
    let mut modulation = [Vec::new(), Vec::new()];
    let own = weights.norm.weight.elements();
    for image in 0..batch {
        let range = image * length..(image + 1) * length;
        total.norm_scale.fill(0.0);
        total.norm_shift.fill(0.0);
        let norm = norm(&weights.norm, image);
        let size = [channels, height, width];
        x_gradient.extend(work(
            &x[range.clone()],
            size,
            &norm,
            &grad[range],
            &mut total,
        ));
        for channel in 0..channels {
            let (scale, shift) = (total.norm_scale[channel], total.norm_shift[channel]);
            match &weights.norm.modulation {
                None => {
                    norm_weight[channel] += scale;
                    norm_bias[channel] += shift;
                }
                Some([factor, _]) => {
                    let factor = factor.elements()[image * channels + channel];
                    norm_weight[channel] += scale * factor;
                    norm_bias[channel] += shift * factor;
                    let bias = weights.norm.bias.as_ref();
                    let bias = bias.map_or(0.0, |bias| bias.elements()[channel]);
                    modulation[0].push(scale * own[channel] + shift * bias);
                    modulation[1].push(shift);
                }
            }
        }
    }
    let expanded = total.expand.len() / channels;
    let layer = |weight: Vec<f32>, shape: [usize; 4], bias: Vec<f32>| LayerWeights {
        weight: (weight, shape.to_vec()),
        bias: (!bias.is_empty()).then(|| (bias, vec![shape[0]])),
    };
    let inner = total.project.len() / channels;
    let gradients = BranchWeights {
        norm: NormWeights {
            weight: (norm_weight, vec![channels]),
            bias: weights
                .norm
                .bias
                .as_ref()
                .map(|_| (norm_bias, vec![channels])),
            epsilon: weights.norm.epsilon,
            modulation: weights
                .norm
                .modulation
                .as_ref()
                .map(|_| modulation.map(|gradient| (gradient, vec![batch, channels]))),
        },
        expand: layer(total.expand, [expanded, channels, 1, 1], total.expand_bias),
        depthwise: layer(total.taps, [expanded, 1, 3, 3], total.taps_bias),
        project: layer(total.project, [channels, inner, 1, 1], total.project_bias),
    };
    (x_gradient, gradients)
}
