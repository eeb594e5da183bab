//! The gradients of MDTA, GDFN and HIM with their normalisation and residual, of one image.
//!
//! Nothing is kept from the forward pass but the input: the expanded channels are made again, whole. (A training patch is
//! small, and its planes stay in the cache; it is the activations of all blocks together that would not.) Products share
//! out their rows among threads, the rest its channels, so that no sum depends on how many threads there are.

use rayon::prelude::*;
use rten_simd::SimdOp;
use rten_vecmath::SumSquare;

use super::branch::Branch;
use super::depthwise::{self, Framed, Taps, convolve, correlate, framed_length, taps};
use super::him::{Him, softmax_of_tokens};
use super::mdta::{Sums, attention, fold_projection};
use super::normalize::Norm;
use super::product::{Into, Matrix, wide_product};
use super::scratch::{self, Buffer};
use super::tiles::{Image, Tile};
use super::{Dims, LANES, channel_norm, gelu_gate};

/// Gradients of a branch: those of its parameters add up over the images of a batch.
#[derive(Debug, Clone)]
pub(super) struct BranchGradients {
    pub norm_scale: Vec<f32>,
    pub norm_shift: Vec<f32>,
    pub expand: Vec<f32>,
    pub expand_bias: Vec<f32>,
    pub taps: Vec<f32>,
    pub taps_bias: Vec<f32>,
    pub project: Vec<f32>,
    pub project_bias: Vec<f32>,
}

impl BranchGradients {
    pub fn zero(branch: &Branch<'_>, channels: usize) -> Self {
        let expanded = branch.expand.len() / channels;
        let zeros = |length: usize| vec![0.0; length];
        Self {
            norm_scale: zeros(channels),
            norm_shift: zeros(channels),
            expand: zeros(branch.expand.len()),
            expand_bias: zeros(if branch.expand_bias.is_some() {
                expanded
            } else {
                0
            }),
            taps: zeros(branch.taps.len()),
            taps_bias: zeros(if branch.taps_bias.is_some() {
                expanded
            } else {
                0
            }),
            project: zeros(branch.project.len()),
            project_bias: zeros(if branch.project_bias.is_some() {
                channels
            } else {
                0
            }),
        }
    }
}

/// An image's sizes.
type Size = [usize; 3];

/// Rows of pixels.
fn rows(data: &[f32], count: usize, pixels: usize) -> Matrix<'_> {
    Matrix::new(data, count, pixels, pixels)
}

/// From a row of a buffer to the next. Rows of a power of two would all fall on the same few places of a cache.
fn stride(pixels: usize) -> usize {
    pixels.next_multiple_of(LANES) + LANES
}

/// Rows of a buffer.
fn spaced(data: &[f32], count: usize, pixels: usize) -> Matrix<'_> {
    Matrix::new(data, count, pixels, stride(pixels))
}

/// The rows of a head.
fn head(x: &[f32], index: usize, [per_head, pixels]: [usize; 2]) -> Matrix<'_> {
    spaced(&x[index * per_head * stride(pixels)..], per_head, pixels)
}

/// GDFN: adds to the parameters' gradients and returns the input's.
pub(super) fn gdfn(
    x: &[f32],
    size: Size,
    norm: &Norm,
    branch: &Branch<'_>,
    grad: &[f32],
    gradients: &mut BranchGradients,
) -> Vec<f32> {
    let [channels, height, width] = size;
    let pixels = height * width;
    let hidden = branch.project.len() / channels;
    let normalized = normalized(x, size, norm);
    let mut expanded = expand(branch, &normalized, channels, pixels);

    // From the output's gradient to that of the gate's output, in whose place the gate's output comes.
    let project = Matrix::new(branch.project, channels, hidden, hidden);
    let mut gated = scratch::buffer(hidden * stride(pixels));
    let output_gradient = rows(grad, channels, pixels);
    wide_product(
        Into::Set,
        project.transposed(),
        output_gradient,
        &mut gated,
        stride(pixels),
    );
    let (a, b) = expanded.split_at_mut(hidden * stride(pixels));
    let (taps_a, taps_b) = gradients.taps.split_at_mut(hidden * 9);
    let channel_sums: Vec<[f32; 4]> = a
        .par_chunks_exact_mut(stride(pixels))
        .zip(b.par_chunks_exact_mut(stride(pixels)))
        .zip(gated.par_chunks_exact_mut(stride(pixels)))
        .zip(
            taps_a
                .par_chunks_exact_mut(9)
                .zip(taps_b.par_chunks_exact_mut(9)),
        )
        .enumerate()
        .map(|(channel, (((u_a, u_b), gated), (taps_a, taps_b)))| {
            let [u_a, u_b, gated] = [u_a, u_b, gated].map(|plane| &mut plane[..pixels]);
            let lengths = [framed_length(height, width); 2];
            scratch::with(
                [lengths[0], lengths[1], pixels, pixels],
                |[framed_a, framed_b, a, b]| {
                    for (u, framed, output, channel) in [
                        (&*u_a, &mut *framed_a, &mut *a, channel),
                        (&*u_b, &mut *framed_b, &mut *b, hidden + channel),
                    ] {
                        depthwise::frame(u, width, framed);
                        let framed = Framed::new(framed, height, width);
                        let bias = branch.tap_bias(channel);
                        convolve(framed, taps(branch.taps, channel), bias, output);
                    }
                    gelu_gate::backward_in_place(a, b, gated);
                    let sums = [sum(a), sum(b)];
                    let into = |u: &mut [f32], framed: &mut [f32], grad: &[f32], channel, total| {
                        let weight = taps(branch.taps, channel);
                        convolution_gradients(u, framed, grad, weight, [height, width], total)
                    };
                    let u_a = into(u_a, framed_a, a, channel, taps_a);
                    let u_b = into(u_b, framed_b, b, hidden + channel, taps_b);
                    [sums[0], sums[1], u_a, u_b]
                },
            )
        })
        .collect();
    let order = |part: usize| channel_sums.iter().map(move |sums| sums[part]);
    add(&mut gradients.taps_bias, order(0).chain(order(1)));
    add(&mut gradients.expand_bias, order(2).chain(order(3)));

    // The other way around, `[hidden, channels]`: the product of two matrices by rows rearranges the second, so let that be
    // the smaller.
    let mut projected = vec![0.0; hidden * channels];
    wide_product(
        Into::Set,
        spaced(&gated, hidden, pixels),
        output_gradient.transposed(),
        &mut projected,
        channels,
    );
    for (hidden_channel, row) in projected.chunks_exact(channels).enumerate() {
        for (channel, part) in row.iter().enumerate() {
            gradients.project[channel * hidden + hidden_channel] += part;
        }
    }
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

/// MDTA: adds to the parameters' and the temperature's gradients and returns the input's.
#[allow(clippy::too_many_arguments)] // The forward pass's, and what comes out beside the input's gradient.
pub(super) fn mdta(
    x: &[f32],
    size: Size,
    norm: &Norm,
    temperature: &[f32],
    branch: &Branch<'_>,
    grad: &[f32],
    gradients: &mut BranchGradients,
    temperature_gradient: &mut [f32],
) -> Vec<f32> {
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
                let output = &mut output[..pixels];
                convolve(framed, taps(branch.taps, channel), bias, output);
            });
        });
    let length = channels * stride(pixels);
    let (q, rest) = qkv.split_at(length);
    let (k, v) = rest.split_at(length);

    // Attention, as in the forward pass.
    let squares = |x: &[f32]| -> Vec<f32> {
        x.par_chunks_exact(stride(pixels))
            .map(|plane| SumSquare::new(&plane[..pixels]).dispatch())
            .collect()
    };
    let mut products = vec![0.0; channels * per_head];
    for (index, products) in products.chunks_exact_mut(per_head * per_head).enumerate() {
        wide_product(
            Into::Set,
            head(q, index, [per_head, pixels]),
            head(k, index, [per_head, pixels]).transposed(),
            products,
            per_head,
        );
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
    let output_gradient = rows(grad, channels, pixels);
    let mut by_values = vec![0.0; channels * channels];
    wide_product(
        Into::Set,
        output_gradient,
        spaced(v, channels, pixels).transposed(),
        &mut by_values,
        channels,
    );
    let mut qkv_gradient = scratch::buffer(3 * channels * stride(pixels));
    let (grad_q, rest) = qkv_gradient.split_at_mut(length);
    let (grad_k, grad_v) = rest.split_at_mut(length);
    wide_product(
        Into::Set,
        Matrix::new(&to_output, channels, channels, channels).transposed(),
        output_gradient,
        grad_v,
        stride(pixels),
    );
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
            &mut gradients.project[start..],
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
            squares.map(|square| super::mdta::norm(*square)).collect()
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
        let planes = start * stride(pixels)..(start + per_head) * stride(pixels);
        let (grad_q, grad_k) = (&mut grad_q[planes.clone()], &mut grad_k[planes]);
        for (output, x, along) in [
            (&mut *grad_q, head(q, index, [per_head, pixels]), &along_q),
            (&mut *grad_k, head(k, index, [per_head, pixels]), &along_k),
        ] {
            output
                .par_chunks_exact_mut(stride(pixels))
                .enumerate()
                .for_each(|(channel, output)| {
                    for (output, x) in output.iter_mut().zip(x.row(channel)) {
                        *output = x * along[channel];
                    }
                });
        }
        wide_product(
            Into::Add,
            square(&logits),
            head(k, index, [per_head, pixels]),
            grad_q,
            stride(pixels),
        );
        wide_product(
            Into::Add,
            square(&logits).transposed(),
            head(q, index, [per_head, pixels]),
            grad_k,
            stride(pixels),
        );
    }
    let channel_sums: Vec<[f32; 2]> = expanded
        .par_chunks_exact_mut(stride(pixels))
        .zip(qkv_gradient.par_chunks_exact(stride(pixels)))
        .zip(gradients.taps.par_chunks_exact_mut(9))
        .enumerate()
        .map(|(channel, ((u, grad), total))| {
            let (u, grad) = (&mut u[..pixels], &grad[..pixels]);
            scratch::with([framed_length(height, width)], |[framed]| {
                depthwise::frame(u, width, framed);
                let weight = taps(branch.taps, channel);
                let expanded =
                    convolution_gradients(u, framed, grad, weight, [height, width], total);
                [sum(grad), expanded]
            })
        })
        .collect();
    add(
        &mut gradients.taps_bias,
        channel_sums.iter().map(|sums| sums[0]),
    );
    add(
        &mut gradients.expand_bias,
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

/// The normalised image.
fn normalized(x: &[f32], [channels, height, width]: Size, norm: &Norm) -> Buffer {
    const STRIP: usize = 512;
    let size = [channels, 1, height * width];
    let stride = stride(height * width);
    let mut output = scratch::buffer(channels * stride);
    let from = Image::shared(x, size);
    let to = Image::new(&mut output, [channels, 1, stride]);
    let strips = (0..height * width).into_par_iter().step_by(STRIP);
    strips.for_each(|left| {
        let strip = Tile {
            top: 0,
            left,
            height: 1,
            width: STRIP.min(height * width - left),
        };
        scratch::with([channels * STRIP], |[planes]| {
            // SAFETY: no thread writes to x, and the strip of the output is this thread's alone.
            unsafe {
                from.load_inner(&strip, 0..1, planes, STRIP);
                norm.apply(planes, STRIP, STRIP);
                to.store(&strip, planes, STRIP);
            }
        });
    });
    output
}

/// The expanded channels, `[expanded, pixels]`.
fn expand(branch: &Branch<'_>, normalized: &[f32], channels: usize, pixels: usize) -> Buffer {
    let expanded = branch.expand.len() / channels;
    let mut output = scratch::buffer(expanded * stride(pixels));
    wide_product(
        Into::Set,
        Matrix::new(branch.expand, expanded, channels, channels),
        spaced(normalized, channels, pixels),
        &mut output,
        stride(pixels),
    );
    if let Some(bias) = branch.expand_bias {
        for (plane, bias) in output.chunks_exact_mut(stride(pixels)).zip(bias) {
            for x in &mut plane[..pixels] {
                *x += bias;
            }
        }
    }
    output
}

/// Adds a plane's gradients to its taps', puts the input's in the place of the input `u`, and returns their sum. `framed`
/// holds the input with its frame, and is used up.
fn convolution_gradients(
    u: &mut [f32],
    framed: &mut [f32],
    grad: &[f32],
    weight: &Taps,
    [height, width]: [usize; 2],
    total: &mut [f32],
) -> f32 {
    let taps = correlate(Framed::new(framed, height, width), grad);
    add(total, taps);
    depthwise::frame(grad, width, framed);
    let mut turned = *weight;
    turned.reverse();
    convolve(Framed::new(framed, height, width), &turned, 0.0, u);
    sum(u)
}

/// From the gradient of the expanded channels to the rest.
#[allow(clippy::too_many_arguments)] // The last part of two functions.
fn finish(
    x: &[f32],
    size: Size,
    norm: &Norm,
    branch: &Branch<'_>,
    grad: &[f32],
    normalized: &[f32],
    expanded_gradient: &[f32],
    gradients: &mut BranchGradients,
) -> Vec<f32> {
    let [channels, height, width] = size;
    let pixels = height * width;
    let expanded = branch.expand.len() / channels;
    let expanded_gradient = spaced(expanded_gradient, expanded, pixels);
    let weight = Matrix::new(branch.expand, expanded, channels, channels);
    wide_product(
        Into::Add,
        expanded_gradient,
        spaced(normalized, channels, pixels).transposed(),
        &mut gradients.expand,
        channels,
    );
    let mut normalized_gradient = scratch::buffer(channels * pixels);
    wide_product(
        Into::Set,
        weight.transposed(),
        expanded_gradient,
        &mut normalized_gradient,
        pixels,
    );
    if !gradients.project_bias.is_empty() {
        add(
            &mut gradients.project_bias,
            grad.chunks_exact(pixels).map(sum),
        );
    }
    let (output, scale, shift) = through_norm(x, size, norm, &normalized_gradient, grad);
    add(&mut gradients.norm_scale, scale);
    add(&mut gradients.norm_shift, shift);
    output
}

/// From the gradient of the normalised image to the image's, with the residual's `grad` added, and to the normalisation's
/// scale's and shift's.
fn through_norm(
    x: &[f32],
    [channels, height, width]: Size,
    norm: &Norm,
    normalized_gradient: &[f32],
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let pixels = height * width;
    let shift = normalized_gradient
        .par_chunks_exact(pixels)
        .map(sum)
        .collect();
    let kind = channel_norm::Kind {
        with_bias: norm.centered,
        epsilon: norm.epsilon,
    };
    let dims: Dims = [1, channels, height, width];
    let (mut output, scale) =
        channel_norm::backward(x, &norm.scale, normalized_gradient, kind, dims);
    let planes = output.par_chunks_exact_mut(pixels);
    planes
        .zip(grad.par_chunks_exact(pixels))
        .for_each(|(output, grad)| {
            for (output, grad) in output.iter_mut().zip(grad) {
                *output += grad;
            }
        });
    (output, scale, shift)
}

/// Gradients of HIM: those of its parameters add up over the images of a batch, those of keys and values are the image's.
#[derive(Debug, Clone)]
pub(super) struct HimGradients {
    pub norm_scale: Vec<f32>,
    pub norm_shift: Vec<f32>,
    pub query: Vec<f32>,
    pub query_bias: Vec<f32>,
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
    pub project: Vec<f32>,
    pub project_bias: Vec<f32>,
}

impl HimGradients {
    pub fn zero(him: &Him<'_>, channels: usize) -> Self {
        let zeros = |length: usize| vec![0.0; length];
        let bias = |bias: Option<&[f32]>| zeros(bias.map_or(0, <[f32]>::len));
        Self {
            norm_scale: zeros(channels),
            norm_shift: zeros(channels),
            query: zeros(him.query.len()),
            query_bias: bias(him.query_bias),
            keys: zeros(him.keys.len()),
            values: zeros(him.values.len()),
            project: zeros(him.project.len()),
            project_bias: bias(him.project_bias),
        }
    }
}

/// HIM: adds to the parameters' gradients, sets the keys' and values', and returns the input's. With the folded matrices of
/// the forward pass: `logits = A n + a`, `output = D softmax(logits)`.
pub(super) fn him(
    x: &[f32],
    size: Size,
    norm: &Norm,
    him: &Him<'_>,
    grad: &[f32],
    gradients: &mut HimGradients,
) -> Vec<f32> {
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
            &mut gradients.keys[start..],
            channels,
        );
        wide_product(
            Into::Add,
            to_logits.transposed(),
            keys,
            &mut gradients.query[start..],
            channels,
        );
        wide_product(
            Into::Set,
            to_output.transposed(),
            project.transposed(),
            &mut gradients.values[start..],
            channels,
        );
        wide_product(
            Into::Add,
            values.transposed(),
            to_output.transposed(),
            &mut gradients.project[start * channels..],
            channels,
        );
        if let Some(bias) = him.query_bias {
            for token in 0..tokens {
                let constant = constants_gradient[head * tokens + token] * scale;
                for (channel, bias) in bias.iter().enumerate().skip(start).take(per_head) {
                    let index = token * channels + channel;
                    gradients.keys[index] += constant * bias;
                    gradients.query_bias[channel] += constant * him.keys[index];
                }
            }
        }
    }
    if !gradients.project_bias.is_empty() {
        add(
            &mut gradients.project_bias,
            grad.chunks_exact(pixels).map(sum),
        );
    }
    let (output, scale, shift) = through_norm(x, size, norm, &normalized_gradient, grad);
    add(&mut gradients.norm_scale, scale);
    add(&mut gradients.norm_shift, shift);
    output
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

fn add(totals: &mut [f32], parts: impl IntoIterator<Item = f32>) {
    for (total, part) in totals.iter_mut().zip(parts) {
        *total += part;
    }
}

fn sum(values: &[f32]) -> f32 {
    rten_vecmath::Sum::new(values).dispatch()
}
