//! MDTA's gradients.

use rayon::prelude::*;
use rten_vecmath::SumSquare;

use super::{
    Gradient, Planes, Size, Through, add, convolution_gradients, copied, expand, finish,
    normalized, over_pixels, planes, stride, sum_for, transposed, weigh,
};
use crate::kernels::BranchWeights;
use crate::kernels::cpu::branch::Branch;
use crate::kernels::cpu::depthwise::{self, Framed, Plane, convolve, framed_length, taps};
use crate::kernels::cpu::isa::dispatch;
use crate::kernels::cpu::mdta::{self, Sums, attention, fold_projection};
use crate::kernels::cpu::normalize::Norm;
use crate::kernels::cpu::panels::{Offsets, wide_multiply};
use crate::kernels::cpu::product::{Into, Matrix, wide_product};
use crate::kernels::cpu::scratch;

/// Adds to the weights' and the temperature's gradients.
#[allow(clippy::too_many_arguments)] // The forward pass's, and the gradients to add to.
pub fn mdta(
    x: &[f32],
    size: Size,
    norm: &Norm,
    temperature: &[f32],
    branch: &Branch<'_>,
    grad: &[f32],
    gradients: &mut BranchWeights<Gradient>,
    temperature_gradient: &mut Gradient,
) -> Through {
    let [channels, height, width] = size;
    let pixels = height * width;
    let heads = temperature.len();
    let per_head = channels / heads;
    let normalized = normalized(x, size, norm);
    let mut expanded = expand(branch, &normalized, channels, pixels);
    let mut qkv = scratch::buffer(3 * channels * stride(pixels));
    qkv.par_chunks_exact_mut(stride(pixels))
        .zip(expanded.par_chunks_exact(stride(pixels)))
        .enumerate()
        .for_each(|(channel, (output, u))| {
            scratch::with([framed_length(height, width)], |[framed]| {
                depthwise::frame(&u[..pixels], width, framed);
                let framed = Framed::new(framed, height, width);
                let bias = branch.tap_bias(channel);
                let output = Plane {
                    data: &mut output[..pixels],
                    width,
                };
                convolve(framed, taps(branch.taps, channel), bias, output);
            });
        });
    let length = channels * stride(pixels);
    let (q, rest) = qkv.split_at(length);
    let (k, v) = rest.split_at(length);

    // Attention, as in the forward pass.
    let squares = |x: &[f32]| -> Vec<f32> {
        x.par_chunks_exact(stride(pixels))
            .map(|plane| dispatch(SumSquare::new(&plane[..pixels])))
            .collect()
    };
    let mut products = vec![0.0; channels * per_head];
    for (index, products) in products.chunks_exact_mut(per_head * per_head).enumerate() {
        let head = |x| head(x, index, [per_head, pixels]);
        over_pixels(Into::Set, head(q), head(k), pixels, products, per_head);
    }
    let sums = Sums {
        products,
        queries: squares(q),
        keys: squares(k),
    };
    let cosines = sums.cosines();
    let attention = attention(&cosines, temperature);
    let to_output = fold_projection(&attention, branch.project, channels);

    // `g vᵀ` holds all that the attention's and the projection's gradients need of the pixels.
    let output_gradient = copied(grad, pixels);
    let mut by_values = vec![0.0; channels * channels];
    over_pixels(
        Into::Set,
        planes(&output_gradient, channels, pixels),
        planes(v, channels, pixels),
        pixels,
        &mut by_values,
        channels,
    );
    let mut qkv_gradient = scratch::buffer(3 * channels * stride(pixels));
    let (grad_q, rest) = qkv_gradient.split_at_mut(length);
    let (grad_k, grad_v) = rest.split_at_mut(length);
    weigh(
        Into::Set,
        &transposed(&to_output, channels),
        None,
        planes(&output_gradient, channels, pixels),
        pixels,
        grad_v,
        stride(pixels),
    );
    drop(output_gradient);
    let size_of_head = per_head * per_head;
    for index in 0..heads {
        let start = index * per_head;
        let attention = &attention[index * size_of_head..][..size_of_head];
        let cosines = &cosines[index * size_of_head..][..size_of_head];
        let square = |x| Matrix::new(x, per_head, per_head, per_head);
        let by_values = Matrix::new(&by_values[start..], channels, per_head, channels);
        wide_product(
            Into::Add,
            by_values,
            square(attention).transposed(),
            &mut gradients.project.weight[start..],
            channels,
        );
        let project = Matrix::new(&branch.project[start..], channels, per_head, channels);
        let mut logits = vec![0.0; size_of_head];
        wide_product(
            Into::Set,
            project.transposed(),
            by_values,
            &mut logits,
            per_head,
        );
        softmax_backward(attention, &mut logits, per_head);

        // `logit = temperature · cosine`, `cosine = qᵢ·kⱼ / (|qᵢ| |kⱼ|)`.
        let products = logits
            .iter()
            .zip(cosines)
            .map(|(grad, cosine)| grad * cosine);
        temperature_gradient[index] += products.sum::<f32>();
        let norms = |squares: &[f32]| -> Vec<f32> {
            let squares = squares[start..][..per_head].iter();
            squares.map(|square| mdta::norm(*square)).collect()
        };
        let (query_norms, key_norms) = (norms(&sums.queries), norms(&sums.keys));
        let (mut along_q, mut along_k) = (vec![0.0; per_head], vec![0.0; per_head]);
        for i in 0..per_head {
            for j in 0..per_head {
                let gradient = &mut logits[i * per_head + j];
                let along = *gradient * temperature[index] * cosines[i * per_head + j];
                along_q[i] -= along / (query_norms[i] * query_norms[i]);
                along_k[j] -= along / (key_norms[j] * key_norms[j]);
                *gradient *= temperature[index] / (query_norms[i] * key_norms[j]);
            }
        }
        // The queries' gradient from keys and, along themselves, queries, as one product; the keys' likewise.
        let rows = start * stride(pixels)..(start + per_head) * stride(pixels);
        let offsets = |first: usize| {
            (start + first..start + first + per_head).map(move |channel| channel * stride(pixels))
        };
        let (of_q, of_k) = (offsets(0), offsets(channels));
        for (output, weights, along, offsets) in [
            (
                &mut grad_q[rows.clone()],
                logits.clone(),
                along_q,
                of_k.clone().chain(of_q.clone()),
            ),
            (
                &mut grad_k[rows],
                transposed(&logits, per_head),
                along_k,
                of_q.chain(of_k),
            ),
        ] {
            let mut both = vec![0.0; 2 * size_of_head];
            let rows = both
                .chunks_exact_mut(2 * per_head)
                .zip(weights.chunks_exact(per_head));
            for (channel, (both, weights)) in rows.enumerate() {
                both[..per_head].copy_from_slice(weights);
                both[per_head + channel] = along[channel];
            }
            let offsets: Vec<usize> = offsets.collect();
            wide_multiply(
                Into::Set,
                Matrix::new(&both, per_head, 2 * per_head, 2 * per_head),
                None,
                (&qkv[..], Offsets(&offsets), pixels),
                output,
                stride(pixels),
            );
        }
    }
    drop(qkv);
    let channel_sums: Vec<[f32; 2]> = expanded
        .par_chunks_exact_mut(stride(pixels))
        .zip(qkv_gradient.par_chunks_exact(stride(pixels)))
        .zip(gradients.depthwise.weight.par_chunks_exact_mut(9))
        .enumerate()
        .map(|(channel, ((u, grad), total))| {
            let (u, grad) = (&mut u[..pixels], &grad[..pixels]);
            scratch::with([framed_length(height, width)], |[framed]| {
                depthwise::frame(u, width, framed);
                let weight = taps(branch.taps, channel);
                convolution_gradients(u, framed, grad, weight, width, [0, 0], total);
                [
                    sum_for(branch.taps_bias, grad),
                    sum_for(branch.expand_bias, u),
                ]
            })
        })
        .collect();
    add(
        gradients.depthwise.bias.as_deref_mut(),
        channel_sums.iter().map(|sums| sums[0]),
    );
    add(
        gradients.expand.bias.as_deref_mut(),
        channel_sums.iter().map(|sums| sums[1]),
    );
    finish(
        x,
        size,
        norm,
        branch,
        grad,
        &normalized,
        &expanded,
        gradients,
    )
}

/// The rows of a head.
fn head(x: &[f32], index: usize, [per_head, pixels]: [usize; 2]) -> Planes<'_> {
    planes(&x[index * per_head * stride(pixels)..], per_head, pixels)
}

/// From the attention's gradient, in whose place it comes, to the logits'.
fn softmax_backward(attention: &[f32], gradient: &mut [f32], columns: usize) {
    let rows = gradient.chunks_exact_mut(columns);
    for (gradient, attention) in rows.zip(attention.chunks_exact(columns)) {
        let products = gradient
            .iter()
            .zip(attention)
            .map(|(grad, share)| grad * share);
        let mean = products.sum::<f32>();
        for (gradient, share) in gradient.iter_mut().zip(attention) {
            *gradient = (*gradient - mean) * share;
        }
    }
}
