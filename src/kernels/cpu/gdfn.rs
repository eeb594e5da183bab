//! GDFN with its normalisation and residual, tile by tile: see [`branch`](super::branch).

use super::branch::{AddToImage, Branch, GROUP, RowStep, TILE_PIXELS, add_to_tiles};
use super::depthwise::{InPanels, convolve_and_gate, taps};
use super::normalize::Norm;
use super::panels::PanelLayout;
use super::product::Matrix;
use super::tiles::{ImageMut, tiles_for_threads};

/// Adds GDFN of the normalised image to the image.
pub(super) fn add(image: &mut [f32], size: [usize; 3], norm: &Norm, branch: &Branch<'_>) {
    let [channels, height, width] = size;
    let hidden = branch.project.len() / channels;
    add_to_tiles(
        &mut ImageMut::new(image, size),
        &tiles_for_threads(height, width, TILE_PIXELS),
        norm,
        (branch.precision, branch.project_bias),
        [2 * hidden, GROUP],
        |_| {
            move |step: &RowStep<'_>,
                  expanded: &mut [f32],
                  gated: &mut [f32],
                  add: &AddToImage<'_>| {
                let stride = step.expanded_stride();
                for first in (0..hidden).step_by(GROUP) {
                    let count = GROUP.min(hidden - first);
                    let group = &mut expanded[2 * first * stride..][..2 * count * stride];
                    let (a, b) = group.split_at_mut(count * stride);
                    step.expand(branch, [first, count], a);
                    step.expand(branch, [hidden + first, count], b);
                    let planes = a.chunks_exact_mut(stride).zip(b.chunks_exact_mut(stride));
                    for (i, (a, b)) in planes.enumerate() {
                        let channels = [first + i, hidden + first + i];
                        convolve_and_gate(
                            [step.framed(a), step.framed(b)],
                            channels.map(|channel| taps(branch.taps, channel)),
                            channels.map(|channel| branch.tap_bias(channel)),
                            InPanels {
                                data: gated,
                                layout: PanelLayout::panels(count),
                                channel: i,
                                width: step.width(),
                            },
                        );
                        step.keep(a);
                        step.keep(b);
                    }
                    let weights = &branch.project[first..];
                    add(Matrix::new(weights, channels, count, hidden), gated);
                }
            }
        },
    );
}
