//! HIM's gradients, through the folded matrices of the forward pass: `logits = A n + a`, `output = D softmax(logits)`.

use rayon::prelude::*;

use super::{Gradient, Size, Through, add, normalized, rows, spaced, sum, through_norm};
use crate::backend::HimWeights;
use crate::backend::cpu::him::{Him, softmax_of_tokens};
use crate::backend::cpu::normalize::Norm;
use crate::backend::cpu::product::{Into, Matrix, wide_product};
use crate::backend::cpu::{LANES, scratch};

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
    let output_gradient = rows(grad, channels, pixels);

    // In whole vectors, as the softmax takes them.
    let stride = pixels.next_multiple_of(LANES);
    let mut attention = scratch::buffer(all * stride);
    let to_logits = Matrix::new(&to_logits, all, channels, channels);
    let input = spaced(&normalized, channels, pixels);
    wide_product(Into::Set, to_logits, input, &mut attention, stride);
    attention
        .par_chunks_exact_mut(tokens * stride)
        .zip(constants.par_chunks_exact(tokens))
        .for_each(|(logits, constants)| softmax_of_tokens(logits, constants, stride));

    let shares = Matrix::new(&attention, all, pixels, stride);
    let mut to_output_gradient = vec![0.0; channels * all];
    wide_product(
        Into::Set,
        output_gradient,
        shares.transposed(),
        &mut to_output_gradient,
        all,
    );
    let mut logits_gradient = scratch::buffer(all * pixels);
    wide_product(
        Into::Set,
        Matrix::new(&to_output, channels, all, all).transposed(),
        output_gradient,
        &mut logits_gradient,
        pixels,
    );
    logits_gradient
        .par_chunks_exact_mut(tokens * pixels)
        .zip(attention.par_chunks_exact(tokens * stride))
        .for_each(|(gradient, attention)| {
            let mut mean = vec![0.0; pixels];
            let planes = |attention| <[f32]>::chunks_exact(attention, stride);
            for (gradient, shares) in gradient.chunks_exact(pixels).zip(planes(attention)) {
                for ((mean, gradient), share) in mean.iter_mut().zip(gradient).zip(shares) {
                    *mean += gradient * share;
                }
            }
            for (gradient, shares) in gradient.chunks_exact_mut(pixels).zip(planes(attention)) {
                for ((gradient, mean), share) in gradient.iter_mut().zip(&mean).zip(shares) {
                    *gradient = (*gradient - mean) * share;
                }
            }
        });
    let constants_gradient: Vec<f32> = logits_gradient.chunks_exact(pixels).map(sum).collect();
    let logits_gradient = rows(&logits_gradient, all, pixels);
    let mut to_logits_gradient = vec![0.0; all * channels];
    wide_product(
        Into::Set,
        logits_gradient,
        input.transposed(),
        &mut to_logits_gradient,
        channels,
    );
    let mut normalized_gradient = scratch::buffer(channels * pixels);
    wide_product(
        Into::Set,
        to_logits.transposed(),
        logits_gradient,
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
