//! The operations on whole blocks and the 3×3 convolution, from the backends' tensors as slices to the kernels, image by
//! image.

use super::branch::Branch;
use super::conv3x3::{Arrangement, TapMajor};
use super::normalize::Norm;
use super::{Dims, conv3x3, gdfn, him, mdta};
use crate::backend::{BranchWeights, HimWeights, LayerWeights, NormWeights};

/// A tensor that gives its elements in memory order.
pub(super) trait Elements {
    fn elements(&self) -> &[f32];
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
        let him = him::Him {
            heads: weights.heads,
            tokens: length / size[0],
            query: weights.query.weight.elements(),
            query_bias: bias(&weights.query),
            keys: &keys[index * length..][..length],
            values: &values[index * length..][..length],
            project: weights.project.weight.elements(),
            project_bias: bias(&weights.project),
        };
        him::add(image, size, &norm(&weights.norm, index), &him);
    }
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
