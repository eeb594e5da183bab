//! HIM's gradients, through the folded matrices of the forward pass: `logits = A n + a`, `output = D softmax(logits)`.

use rayon::prelude::*;

use super::{
    Gradient, Size, Through, add, copied, normalized, over_pixels, planes, stride, sum,
    through_norm, transposed, weigh,
};
use crate::kernels::HimWeights;
use crate::kernels::cpu::channel_norm::vectorized;
use crate::kernels::cpu::him::{Him, softmax_of_tokens};
use crate::kernels::cpu::normalize::Norm;
use crate::kernels::cpu::product::{Into, Matrix, wide_product};
use crate::kernels::cpu::scratch;

/// Adds to the weights' gradients and sets the keys' and values' of this image of the batch.
pub fn him(
    x: &[f32],
    size: Size,
    norm: &Norm,
    him: &Him<'_>,
    grad: &[f32],
    image: usize,
    gradients: &mut HimWeights<Gradient>,
) -> Through {
    let [channels, height, width] = size;
    let pixels = height * width;
    let (tokens, per_head) = (him.tokens, channels / him.heads);
    let all = him.heads * tokens;
    let normalized = normalized(x, size, norm);
    let (to_logits, constants) = him.logits_matrix(channels);
    let to_output = him.output_matrix(channels);
    let output_gradient = copied(grad, pixels);

    let mut attention = scratch::buffer(all * stride(pixels));
    weigh(
        Into::Set,
        &to_logits,
        None,
        planes(&normalized, channels, pixels),
        pixels,
        &mut attention,
        stride(pixels),
    );
    attention
        .par_chunks_exact_mut(tokens * stride(pixels))
        .zip(constants.par_chunks_exact(tokens))
        .for_each(|(logits, constants)| softmax_of_tokens(logits, constants, stride(pixels)));

    let mut to_output_gradient = vec![0.0; channels * all];
    over_pixels(
        Into::Set,
        planes(&output_gradient, channels, pixels),
        planes(&attention, all, pixels),
        pixels,
        &mut to_output_gradient,
        all,
    );
    let mut logits_gradient = scratch::buffer(all * stride(pixels));
    weigh(
        Into::Set,
        &transposed(&to_output, all),
        None,
        planes(&output_gradient, channels, pixels),
        pixels,
        &mut logits_gradient,
        stride(pixels),
    );
    logits_gradient
        .par_chunks_exact_mut(tokens * stride(pixels))
        .zip(attention.par_chunks_exact(tokens * stride(pixels)))
        .for_each(|(gradient, attention)| {
            vectorized(
                #[inline(always)]
                || softmax_backward(gradient, attention, pixels),
            );
        });
    let constants_gradient: Vec<f32> = logits_gradient
        .chunks_exact(stride(pixels))
        .map(|plane| sum(&plane[..pixels]))
        .collect();
    let mut to_logits_gradient = vec![0.0; all * channels];
    over_pixels(
        Into::Set,
        planes(&logits_gradient, all, pixels),
        planes(&normalized, channels, pixels),
        pixels,
        &mut to_logits_gradient,
        channels,
    );
    let mut normalized_gradient = scratch::buffer(channels * pixels);
    weigh(
        Into::Set,
        &transposed(&to_logits, channels),
        None,
        planes(&logits_gradient, all, pixels),
        pixels,
        &mut normalized_gradient,
        pixels,
    );

    // From the folded matrices to what they were folded of.
    let own = image * tokens * channels..(image + 1) * tokens * channels;
    let keys_gradient = &mut gradients.keys[own.clone()];
    let values_gradient = &mut gradients.values[own];
    let scale = 1.0 / (per_head as f32).sqrt();
    let scaled: Vec<f32> = to_logits_gradient.iter().map(|grad| grad * scale).collect();
    for head in 0..him.heads {
        let start = head * per_head;
        let part = |data| Matrix::new(data, tokens, per_head, channels);
        let (keys, values) = (part(&him.keys[start..]), part(&him.values[start..]));
        let query = Matrix::new(&him.query[start..], channels, per_head, channels);
        let project = Matrix::new(
            &him.project[start * channels..],
            per_head,
            channels,
            channels,
        );
        let to_logits = Matrix::new(
            &scaled[head * tokens * channels..],
            tokens,
            channels,
            channels,
        );
        let to_output = Matrix::new(&to_output_gradient[head * tokens..], channels, tokens, all);
        wide_product(
            Into::Set,
            to_logits,
            query,
            &mut keys_gradient[start..],
            channels,
        );
        wide_product(
            Into::Add,
            to_logits.transposed(),
            keys,
            &mut gradients.query.weight[start..],
            channels,
        );
        wide_product(
            Into::Set,
            to_output.transposed(),
            project.transposed(),
            &mut values_gradient[start..],
            channels,
        );
        wide_product(
            Into::Add,
            values.transposed(),
            to_output.transposed(),
            &mut gradients.project.weight[start * channels..],
            channels,
        );
        if let (Some(bias), Some(query_bias)) = (him.query_bias, &mut gradients.query.bias) {
            for token in 0..tokens {
                let constant = constants_gradient[head * tokens + token] * scale;
                for (channel, bias) in bias.iter().enumerate().skip(start).take(per_head) {
                    let index = token * channels + channel;
                    keys_gradient[index] += constant * bias;
                    query_bias[channel] += constant * him.keys[index];
                }
            }
        }
    }
    let bias = gradients.project.bias.as_deref_mut();
    add(bias, grad.chunks_exact(pixels).map(sum));
    through_norm(x, size, norm, &normalized_gradient, grad)
}

/// From the gradient of a head's attention, in whose place it comes, to the logits': planes of tokens.
#[inline(always)] // Into the vector code.
fn softmax_backward(gradient: &mut [f32], attention: &[f32], pixels: usize) {
    let mut mean = vec![0.0; pixels];
    let stride = stride(pixels);
    let planes = gradient
        .chunks_exact(stride)
        .zip(attention.chunks_exact(stride));
    for (gradient, shares) in planes {
        for ((mean, gradient), share) in mean.iter_mut().zip(gradient).zip(shares) {
            *mean += gradient * share;
        }
    }
    let planes = gradient.chunks_exact_mut(stride);
    for (gradient, shares) in planes.zip(attention.chunks_exact(stride)) {
        for ((gradient, mean), share) in gradient.iter_mut().zip(&mean).zip(shares) {
            *gradient = (*gradient - mean) * share;
        }
    }
}
