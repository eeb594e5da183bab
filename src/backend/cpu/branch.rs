//! What MDTA and GDFN have in common on a tile: normalised input, 1×1 and depthwise 3×3 convolution in groups of channels,
//! and a 1×1 convolution whose result is added to the image.
//!
//! A tile is walked down in steps of a few rows, so that a step's planes stay in the cache:
//!
//! ```text
//!             framed rows
//!   step 1    0 1 2 3 4 5        normalised and expanded, all of them
//!             └─ outputs 0…3
//!   step 2            4 5        kept from step 1, expanded
//!                         6 7 8 9   normalised and expanded
//!                     └─ outputs 4…7
//! ```
//!
//! No expanded row is made twice but at the tile's border. The expanded channels are made, convolved and multiplied into
//! the result's channels a group at a time, and only two rows of them are kept.

use std::ops::Range;

use rayon::prelude::*;

use super::LANES;
use super::depthwise::Framed;
use super::normalize::Norm;
use super::product::{Into, Matrix, product};
use super::scratch;
use super::tiles::{Image, Tile};

/// Expanded channels of a group.
pub(super) const GROUP: usize = 256;

/// Pixels of a tile: the more, the less its frame costs.
pub(super) const TILE_PIXELS: usize = 8192;

/// Pixels of a step.
const STEP_PIXELS: usize = 512;

/// A branch's weights, as slices.
#[derive(Clone, Copy)]
pub(super) struct Branch<'a> {
    /// 1×1: `[expanded, channels]`
    pub expand: &'a [f32],
    /// `[expanded]`
    pub expand_bias: Option<&'a [f32]>,
    /// Depthwise 3×3: `[expanded · 9]`
    pub taps: &'a [f32],
    /// `[expanded]`
    pub taps_bias: Option<&'a [f32]>,
    /// 1×1: `[channels, inner]`
    pub project: &'a [f32],
    /// `[channels]`
    pub project_bias: Option<&'a [f32]>,
}

/// A few rows of a tile, with the normalised rows that the tile's expanded ones are missing for them.
pub(super) struct Step<'a> {
    image: &'a Image<'a>,
    tile: &'a Tile,
    /// The outputs, counted in the tile.
    rows: Range<usize>,
    /// The normalised rows, counted in the framed tile.
    fresh: Range<usize>,
    /// `[channels]` planes of the fresh rows.
    normalized: &'a [f32],
}

/// Rows of a step at most.
fn step_rows(tile: &Tile) -> usize {
    (STEP_PIXELS / tile.width).clamp(1, tile.height)
}

/// From one channel of the fresh rows to the next: whole vectors.
fn normalized_stride(tile: &Tile) -> usize {
    ((step_rows(tile) + 2) * tile.framed_width()).next_multiple_of(LANES)
}

/// From one expanded channel to the next: a step's rows with the two around them, and room to read a vector beyond.
pub(super) fn expanded_stride(tile: &Tile) -> usize {
    normalized_stride(tile) + LANES
}

/// The most outputs of a step, for each channel.
pub(super) fn step_pixels(tile: &Tile) -> usize {
    step_rows(tile) * tile.width
}

impl Step<'_> {
    /// From one expanded channel to the next.
    pub fn expanded_stride(&self) -> usize {
        expanded_stride(self.tile)
    }

    /// Outputs of the step, for each channel.
    pub fn pixels(&self) -> usize {
        self.rows.len() * self.tile.width
    }

    /// Expands the fresh rows into `count` channels from `first`, behind the two rows kept from the last step. Outside
    /// the image they are zero, with a bias too.
    pub fn expand(&self, branch: &Branch<'_>, [first, count]: [usize; 2], expanded: &mut [f32]) {
        let channels = self.image.channels;
        let width = self.tile.framed_width();
        let stride = expanded_stride(self.tile);
        let kept = (self.rows.len() + 2) - self.fresh.len();
        let pixels = self.fresh.len() * width;
        let fresh = &mut expanded[kept * width..];
        product(
            Into::Set,
            Matrix::new(
                &branch.expand[first * channels..],
                count,
                channels,
                channels,
            ),
            Matrix::new(
                self.normalized,
                channels,
                pixels,
                normalized_stride(self.tile),
            ),
            fresh,
            stride,
        );
        if let Some(bias) = branch.expand_bias {
            for channel in 0..count {
                let plane = &mut fresh[channel * stride..][..pixels];
                for x in &mut *plane {
                    *x += bias[first + channel];
                }
                self.image
                    .clear_outside(self.tile, self.fresh.clone(), plane, pixels);
            }
        }
    }

    /// An expanded channel of the step, with its frame.
    pub fn framed<'a>(&self, plane: &'a [f32]) -> Framed<'a> {
        Framed::new(plane, self.rows.len(), self.tile.width)
    }

    /// Moves the last two rows of an expanded channel to where the next step expects them.
    pub fn keep(&self, plane: &mut [f32]) {
        let width = self.tile.framed_width();
        let start = self.rows.len() * width;
        plane.copy_within(start..start + 2 * width, 0);
    }
}

impl Branch<'_> {
    pub fn tap_bias(&self, channel: usize) -> f32 {
        self.taps_bias.map_or(0.0, |bias| bias[channel])
    }
}

/// Walks down a tile. `frame` is the tile's from earlier, if the image is written to meanwhile.
///
/// # Safety
/// As [`Image::load`].
pub(super) unsafe fn walk(
    image: &Image<'_>,
    norm: &Norm,
    tile: &Tile,
    frame: Option<&[f32]>,
    normalized: &mut [f32],
    mut work: impl FnMut(&Step<'_>),
) {
    let stride = normalized_stride(tile);
    for start in (0..tile.height).step_by(step_rows(tile)) {
        let rows = start..tile.height.min(start + step_rows(tile));
        let fresh = if start == 0 { 0 } else { start + 2 }..rows.end + 2;
        // SAFETY: the caller's word.
        unsafe { image.load(tile, fresh.clone(), frame, normalized, stride) };
        let pixels = fresh.len() * tile.framed_width();
        norm.apply(normalized, stride, pixels.next_multiple_of(LANES));
        image.clear_outside(tile, fresh.clone(), normalized, stride);
        work(&Step {
            image,
            tile,
            rows,
            fresh,
            normalized,
        });
    }
}

/// The length of a buffer for a tile's normalised rows.
pub(super) fn normalized_length(image: &Image<'_>, tile: &Tile) -> usize {
    image.channels * normalized_stride(tile)
}

/// Adds to each tile of an image what `work` makes of it, from the image as it was before. `work` fills `[channels]` planes
/// of a step's outputs, and has a buffer of its own of `expanded` channels that stays the same throughout a tile and one
/// of `inner` outputs.
pub(super) fn add_to_tiles(
    image: &mut Image<'_>,
    tiles: &[Tile],
    norm: &Norm,
    constants: Option<&[f32]>,
    [expanded, inner]: [usize; 2],
    work: impl Fn(&Step<'_>, &mut [f32], &mut [f32], &mut [f32]) + Sync,
) {
    let frames = image.frames(tiles);
    let image = &*image;
    tiles.par_iter().zip(&frames).for_each(|(tile, frame)| {
        let lengths = [
            normalized_length(image, tile),
            expanded * expanded_stride(tile),
            inner * step_pixels(tile),
            image.channels * step_pixels(tile),
        ];
        scratch::with(lengths, |[normalized, expanded, inner, sum]| {
            let step = |step: &Step<'_>| {
                let sum = &mut sum[..image.channels * step.pixels()];
                work(step, expanded, inner, sum);
                // SAFETY: these rows are this thread's alone, and have been read: the next step reads those below.
                unsafe { image.add(tile, step.rows.clone(), sum, constants) };
            };
            // SAFETY: of the image, only the tile itself is read, and the tile is this thread's alone.
            unsafe { walk(image, norm, tile, Some(frame), normalized, step) };
        });
    });
}
