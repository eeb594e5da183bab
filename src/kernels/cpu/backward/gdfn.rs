//! GDFN's gradients.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Gradient, Size, THICK, Through, add, convolution_gradients, copied, normalized, over_pixels,
    planes, stride, sum, sum_for, through_norm, transposed, weigh,
};
use crate::kernels::BranchWeights;
use crate::kernels::cpu::branch::Branch;
use crate::kernels::cpu::depthwise::{self, Framed, Plane, convolve, framed_length, taps};
use crate::kernels::cpu::normalize::Norm;
use crate::kernels::cpu::product::Into;
use crate::kernels::cpu::{gelu_gate, scratch};

/// Elements of a band's planes that stay in a core's second cache.
const BAND: usize = 3 << 17;

/// Rows of a band at least, or else those around it cost more than the cache saves.
const LEAST_ROWS: usize = 16;

/// Rows of an image and those around them, as far as their gradients reach.
struct Band {
    rows: Range<usize>,
    /// Whose gradients of the convolution's outputs are needed: one more on either side, inside the image.
    outputs: Range<usize>,
    /// Whose expanded channels are needed: two more.
    expanded: Range<usize>,
}

/// Cuts an image into bands, and the hidden channels into groups of so many, that what is computed of a group of a band
/// stays in the cache: where it does not anyway, where that can be had without too many rows twice, and where products are
/// thin enough to wait for memory.
fn bands([channels, height, width]: Size, hidden: usize) -> (Vec<Band>, usize) {
    let rows = |group: usize| BAND / (width * (3 * group + 2 * channels)).max(1);
    let groups = [hidden, 32, 16];
    let fitting = groups.into_iter().find_map(|group| {
        let rows = rows(group.min(hidden));
        let whole = rows >= height;
        let least = (LEAST_ROWS + 4).min(height);
        (channels < THICK && rows >= least)
            .then(|| (group.min(hidden), if whole { height } else { rows - 4 }))
    });
    let (group, rows) = fitting.unwrap_or((hidden, height));
    let rows = height.div_ceil(height.div_ceil(rows));
    let around =
        |rows: &Range<usize>, by: usize| rows.start.saturating_sub(by)..height.min(rows.end + by);
    let bands = (0..height).step_by(rows).map(|start| {
        let rows = start..height.min(start + rows);
        Band {
            outputs: around(&rows, 1),
            expanded: around(&rows, 2),
            rows,
        }
    });
    (bands.collect(), group)
}

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
    let output_gradient = copied(grad, pixels);
    let mut normalized_gradient = scratch::buffer(channels * pixels);
    let project = transposed(branch.project, hidden);
    let (bands, group) = bands(size, hidden);
    for band in &bands {
        for first in (0..hidden).step_by(group) {
            let group = first..hidden.min(first + group);
            of_band(
                band,
                group,
                size,
                [&normalized, &output_gradient],
                branch,
                &project,
                &mut normalized_gradient,
                gradients,
            );
        }
    }
    let bias = gradients.project.bias.as_deref_mut();
    add(bias, grad.chunks_exact(pixels).map(sum));
    through_norm(x, size, norm, &normalized_gradient, grad)
}

/// The gradients by a group of hidden channels of a band: adds the weights' to theirs, and puts that of the normalised image
/// into its place, or adds it to that of the groups before.
#[allow(clippy::too_many_arguments)] // The function above, for a part.
fn of_band(
    band: &Band,
    group: Range<usize>,
    [channels, height, width]: Size,
    [normalized, output_gradient]: [&[f32]; 2],
    branch: &Branch<'_>,
    project: &[f32],
    normalized_gradient: &mut [f32],
    gradients: &mut BranchWeights<Gradient>,
) {
    let pixels = height * width;
    let (first, count) = (group.start, group.len());
    let hidden = project.len() / channels;
    let [own, of_outputs, of_expanded] =
        [&band.rows, &band.outputs, &band.expanded].map(|rows| rows.len() * width);
    // From a range's first row to the band's.
    let to_own = |rows: &Range<usize>| band.rows.start - rows.start;

    // Of both branches, one behind the other.
    let mut expanded = scratch::buffer(2 * count * stride(of_expanded));
    let halves = expanded.chunks_exact_mut(count * stride(of_expanded));
    for (first, expanded) in [first, hidden + first].into_iter().zip(halves) {
        weigh(
            Into::Set,
            &branch.expand[first * channels..][..count * channels],
            branch.expand_bias.map(|bias| &bias[first..first + count]),
            planes(&normalized[band.expanded.start * width..], channels, pixels),
            of_expanded,
            expanded,
            stride(of_expanded),
        );
    }
    // From the output's gradient to that of the gate's output, in whose place the gate's output comes.
    let mut gated = scratch::buffer(count * stride(of_outputs));
    weigh(
        Into::Set,
        &project[first * channels..][..count * channels],
        None,
        planes(
            &output_gradient[band.outputs.start * width..],
            channels,
            pixels,
        ),
        of_outputs,
        &mut gated,
        stride(of_outputs),
    );
    let (a, b) = expanded.split_at_mut(count * stride(of_expanded));
    let (taps_a, taps_b) = gradients.depthwise.weight.split_at_mut(hidden * 9);
    let [taps_a, taps_b] = [taps_a, taps_b].map(|taps| &mut taps[first * 9..][..count * 9]);
    let channel_sums: Vec<[f32; 4]> = a
        .par_chunks_exact_mut(stride(of_expanded))
        .zip(b.par_chunks_exact_mut(stride(of_expanded)))
        .zip(gated.par_chunks_exact_mut(stride(of_outputs)))
        .zip(
            taps_a
                .par_chunks_exact_mut(9)
                .zip(taps_b.par_chunks_exact_mut(9)),
        )
        .enumerate()
        .map(|(index, (((u_a, u_b), gated), (taps_a, taps_b)))| {
            let channel = first + index;
            let lengths = [framed_length(band.expanded.len(), width); 2];
            scratch::with(
                [lengths[0], lengths[1], of_outputs, of_outputs],
                |[framed_a, framed_b, a, b]| {
                    for (u, framed, output, channel) in [
                        (&*u_a, &mut *framed_a, &mut *a, channel),
                        (&*u_b, &mut *framed_b, &mut *b, hidden + channel),
                    ] {
                        depthwise::frame(&u[..of_expanded], width, framed);
                        let above = band.outputs.start - band.expanded.start;
                        let framed = &framed[above * (width + 2)..];
                        let framed = Framed::new(framed, band.outputs.len(), width);
                        let bias = branch.tap_bias(channel);
                        let output = Plane {
                            data: output,
                            width,
                        };
                        convolve(framed, taps(branch.taps, channel), bias, output);
                    }
                    gelu_gate::backward_in_place(a, b, &mut gated[..of_outputs]);
                    let mut sums = [0.0; 4];
                    for (index, (u, framed, grad, channel, total)) in [
                        (u_a, framed_a, a, channel, taps_a),
                        (u_b, framed_b, b, hidden + channel, taps_b),
                    ]
                    .into_iter()
                    .enumerate()
                    {
                        let weight = taps(branch.taps, channel);
                        let own_rows = [to_own(&band.expanded), to_own(&band.outputs)];
                        let u = &mut u[..own];
                        convolution_gradients(u, framed, grad, weight, width, own_rows, total);
                        let grad = &grad[own_rows[1] * width..][..own];
                        sums[index] = sum_for(branch.taps_bias, grad);
                        sums[index + 2] = sum_for(branch.expand_bias, u);
                    }
                    sums
                },
            )
        })
        .collect();
    for (part, bias) in [
        (0, &mut gradients.depthwise.bias),
        (2, &mut gradients.expand.bias),
    ] {
        let Some(bias) = bias else { continue };
        for (index, sums) in channel_sums.iter().enumerate() {
            bias[first + index] += sums[part];
            bias[hidden + first + index] += sums[part + 1];
        }
    }

    let start = band.rows.start * width;
    let input = planes(&normalized[start..], channels, pixels);
    over_pixels(
        Into::Add,
        planes(&output_gradient[start..], channels, pixels),
        planes(&gated[to_own(&band.outputs) * width..], count, of_outputs),
        own,
        &mut gradients.project.weight[first..],
        hidden,
    );
    for (half, first) in [first, hidden + first].into_iter().enumerate() {
        let gradient = &expanded[half * count * stride(of_expanded)..];
        over_pixels(
            Into::Add,
            planes(gradient, count, of_expanded),
            input,
            own,
            &mut gradients.expand.weight[first * channels..],
            channels,
        );
    }
    let rows = |first: usize| branch.expand[first * channels..][..count * channels].iter();
    let weights: Vec<f32> = rows(first).chain(rows(hidden + first)).copied().collect();
    weigh(
        if first == 0 { Into::Set } else { Into::Add },
        &transposed(&weights, channels),
        None,
        planes(&expanded, 2 * count, of_expanded),
        own,
        &mut normalized_gradient[start..],
        pixels,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_every_row_once_and_know_those_around() {
        for (size, hidden) in [
            ([32, 96, 96], 64),
            ([16, 160, 97], 32),
            ([3, 1, 5], 7),
            ([96, 128, 128], 255),
        ] {
            let (bands, group) = bands(size, hidden);
            assert!((1..=hidden).contains(&group));
            let mut next = 0;
            for band in &bands {
                assert_eq!(band.rows.start, next);
                next = band.rows.end;
                assert_eq!(band.outputs.start, band.rows.start.saturating_sub(1));
                assert_eq!(band.expanded.start, band.rows.start.saturating_sub(2));
                assert_eq!(band.outputs.end, size[1].min(band.rows.end + 1));
                assert_eq!(band.expanded.end, size[1].min(band.rows.end + 2));
            }
            assert_eq!(next, size[1]);
        }
        assert!(super::bands([32, 96, 96], 64).0.len() > 1);
    }
}
