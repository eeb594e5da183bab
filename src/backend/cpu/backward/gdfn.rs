//! GDFN's gradients.

use rayon::prelude::*;

use super::{
    Gradient, Size, Through, add, convolution_gradients, expand, finish, normalized, rows, spaced,
    stride, sum,
};
use crate::backend::BranchWeights;
use crate::backend::cpu::branch::Branch;
use crate::backend::cpu::depthwise::{self, Framed, Plane, convolve, framed_length, taps};
use crate::backend::cpu::normalize::Norm;
use crate::backend::cpu::product::{Into, Matrix, wide_product};
use crate::backend::cpu::{gelu_gate, scratch};

/// Adds to the weights' gradients.
pub fn gdfn(
    x: &[f32],
    size: Size,
    norm: &Norm,
    branch: &Branch<'_>,
    grad: &[f32],
    gradients: &mut BranchWeights<Gradient>,
) -> Through {
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
    let (taps_a, taps_b) = gradients.depthwise.weight.split_at_mut(hidden * 9);
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
                        let output = Plane {
                            data: output,
                            width,
                        };
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
    add(
        gradients.depthwise.bias.as_deref_mut(),
        order(0).chain(order(1)),
    );
    add(
        gradients.expand.bias.as_deref_mut(),
        order(2).chain(order(3)),
    );

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
            gradients.project.weight[channel * hidden + hidden_channel] += part;
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
