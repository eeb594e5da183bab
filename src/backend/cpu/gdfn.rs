//! GDFN with its normalisation and residual, tile by tile: see [`branch`](super::branch).

use super::branch::{Branch, GROUP, add_to_tiles, planes};
use super::depthwise::{Framed, convolve_and_gate, taps};
use super::normalize::Norm;
use super::product::{Into, Matrix, product};
use super::tiles::{Image, tiles};

/// Adds GDFN of the normalised image to the image.
pub(super) fn add(image: &mut [f32], size: [usize; 3], norm: &Norm, branch: &Branch<'_>) {
    let [channels, height, width] = size;
    let hidden = branch.project.len() / channels;
    let tiles = tiles(height, width);
    add_to_tiles(
        &mut Image::new(image, size),
        &tiles,
        branch.project_bias,
        |tile| planes(tile, 2 * GROUP) + GROUP * tile.pixels(),
        norm,
        |image, tile, normalized, sum, scratch| {
            let stride = tile.framed_stride();
            let (expanded, gated) = scratch.split_at_mut(planes(tile, 2 * GROUP));
            for first in (0..hidden).step_by(GROUP) {
                let count = GROUP.min(hidden - first);
                let (a, b) = expanded.split_at_mut(count * stride);
                branch.expand(image, tile, normalized, [first, count], a);
                branch.expand(image, tile, normalized, [hidden + first, count], b);
                for (i, gated) in gated
                    .chunks_exact_mut(tile.pixels())
                    .take(count)
                    .enumerate()
                {
                    let framed = [&a, &b]
                        .map(|x| Framed::new(&x[i * stride..][..stride], tile.height, tile.width));
                    let channels = [first + i, hidden + first + i];
                    convolve_and_gate(
                        framed,
                        channels.map(|channel| taps(branch.taps, channel)),
                        channels.map(|channel| branch.tap_bias(channel)),
                        gated,
                    );
                }
                product(
                    if first == 0 { Into::Set } else { Into::Add },
                    Matrix::new(&branch.project[first..], channels, count, hidden),
                    Matrix::new(gated, count, tile.pixels(), tile.pixels()),
                    sum,
                    tile.pixels(),
                );
            }
        },
    );
}
