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
//! No expanded row is made twice but at the tile's border, and none outside the image: these are zeros. The expanded
//! channels are made, convolved and multiplied into the result's channels a group at a time, and only two rows of them are
//! kept.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::LANES;
use super::depthwise::Framed;
use super::normalize::Norm;
use super::panels::{self, LineShape, Lines, PanelLayout, multiply_in, row_pixels};
use super::product::{Into, Matrix};
use super::scratch;
use super::tiles::{Image, ImageMut, Tile};
use crate::kernels::precision::Precision;

/// Expanded channels of a group.
pub(super) const GROUP: usize = 256;

/// Pixels of a tile: the more, the less its frame costs.
pub(super) const TILE_PIXELS: usize = 16384;

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
    /// Of the operands of the two 1×1 convolutions.
    pub precision: Precision,
}

/// A few rows of a tile, with the normalised rows that the tile's expanded ones are missing for them.
pub(super) struct RowStep<'a> {
    image: &'a Image<'a>,
    tile: &'a Tile,
    row_layout: &'a RowLayout,
    /// The outputs, counted in the tile.
    rows: Range<usize>,
    /// The normalised rows, counted in the framed tile.
    fresh: Range<usize>,
    /// The fresh rows, in panels.
    normalized: &'a [f32],
}

/// How the normalised rows of a tile lie behind each other, and which part of a framed row they are.
struct RowLayout {
    /// From a row to the next.
    pitch: usize,
    /// Whether there is nothing between a row and the next, so that several are one line.
    joined: bool,
    /// The first pixel's place in the framed row.
    first: usize,
    /// The first pixel's that is inside the image, counted from there.
    inside: usize,
    /// Pixels of a row inside the image.
    width: usize,
    /// Whether the pixels before and after the tile are outside the image.
    outside: [bool; 2],
}

impl RowLayout {
    /// Rows of whole vectors, which leave out what is outside the image; or, where these would be no shorter, framed rows
    /// without anything between them.
    fn new(image: &Image<'_>, tile: &Tile) -> Self {
        let outer = tile.surrounded(image.height, image.width);
        let (whole, framed) = (row_pixels(outer.width), tile.framed_width());
        let before = outer.left + 1 - tile.left;
        let joined = framed <= whole;
        Self {
            pitch: if joined { framed } else { whole },
            joined,
            first: if joined { 0 } else { before },
            inside: if joined { before } else { 0 },
            width: outer.width,
            outside: [before == 1, before + outer.width < framed],
        }
    }
}

/// Rows of a step at most. (The depthwise convolution takes two at once.)
fn step_rows(tile: &Tile) -> usize {
    (STEP_PIXELS / tile.width).max(2).min(tile.height)
}

/// Pixels of a step's rows with the two around them.
fn framed_pixels(tile: &Tile) -> usize {
    (step_rows(tile) + 2) * tile.framed_width()
}

/// From one expanded channel to the next: with room to read a vector beyond.
pub(super) fn expanded_stride(tile: &Tile) -> usize {
    framed_pixels(tile).next_multiple_of(LANES) + LANES
}

/// The most outputs of a step, for each channel, in rows of [`row_pixels`].
pub(super) fn step_pixels(tile: &Tile) -> usize {
    step_rows(tile) * row_pixels(tile.width)
}

impl RowStep<'_> {
    /// From one expanded channel to the next.
    pub fn expanded_stride(&self) -> usize {
        expanded_stride(self.tile)
    }

    /// Outputs of the step, for each channel.
    pub fn pixels(&self) -> usize {
        self.rows.len() * self.tile.width
    }

    /// Of a row.
    pub fn width(&self) -> usize {
        self.tile.width
    }

    /// Expands the fresh rows into `count` channels from `first`, behind the two rows kept from the last step. Outside
    /// the image they are zero, with a bias too.
    pub fn expand(&self, branch: &Branch<'_>, [first, count]: [usize; 2], expanded: &mut [f32]) {
        let channels = self.image.channels;
        let framed_width = self.tile.framed_width();
        let stride = expanded_stride(self.tile);
        // Counted from the step's first framed row.
        let fresh = self.fresh.start - self.rows.start..self.fresh.end - self.rows.start;
        let weights = &branch.expand[first * channels..];
        let weights = Matrix::new(weights, count, channels, channels);
        let bias = branch.expand_bias.map(|bias| &bias[first..first + count]);
        let pixels = fresh.len() * self.row_layout.pitch;
        let first = fresh.start * framed_width + self.row_layout.first;
        let data = &mut expanded[first..];
        let target = match self.row_layout.joined {
            true => Lines::planes(data, stride, pixels),
            false => {
                let shape = LineShape {
                    stride,
                    pitch: framed_width,
                    width: self.row_layout.width,
                };
                Lines::new(data, shape)
            }
        };
        let pixels = (self.normalized, PanelLayout::panels(channels), pixels);
        multiply_in(branch.precision, Into::Set, weights, bias, pixels, target);

        let [before, after] = self.row_layout.outside;
        let above = fresh.start == 1;
        let below = fresh.end < self.rows.len() + 2;
        if !(before || after || above || below) {
            return;
        }
        for plane in expanded.chunks_mut(stride).take(count) {
            if above {
                plane[..framed_width].fill(0.0);
            }
            if below {
                plane[fresh.end * framed_width..][..framed_width].fill(0.0);
            }
            for row in fresh.clone() {
                if before {
                    plane[row * framed_width] = 0.0;
                }
                if after {
                    plane[(row + 1) * framed_width - 1] = 0.0;
                }
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
/// As [`Image::load_surrounded`].
pub(super) unsafe fn walk(
    image: &Image<'_>,
    norm: &Norm,
    tile: &Tile,
    frame: Option<&[f32]>,
    [loaded, normalized]: [&mut [f32]; 2],
    mut work: impl FnMut(&RowStep<'_>),
) {
    let row_layout = RowLayout::new(image, tile);
    let outer = tile.surrounded(image.height, image.width);
    // Those inside the image, counted in the framed tile.
    let inside = outer.top + 1 - tile.top..outer.top + 1 - tile.top + outer.height;
    let stride = loaded_stride(tile);
    let layout = PanelLayout::panels(image.channels);
    for start in (0..tile.height).step_by(step_rows(tile)) {
        let rows = start..tile.height.min(start + step_rows(tile));
        let missing = if start == 0 { 0 } else { start + 2 }..rows.end + 2;
        let fresh = missing.start.max(inside.start)..missing.end.min(inside.end);
        if !fresh.is_empty() {
            let of_image = tile.top + fresh.start - 1..tile.top + fresh.end - 1;
            let output = &mut loaded[row_layout.inside..];
            // SAFETY: the caller's word.
            unsafe {
                image.load_surrounded(tile, of_image, frame, output, [stride, row_layout.pitch])
            };
            let pixels = fresh.len() * row_layout.pitch;
            norm.apply(loaded, stride, pixels, normalized, layout);
        }
        work(&RowStep {
            image,
            tile,
            row_layout: &row_layout,
            rows,
            fresh,
            normalized,
        });
    }
}

/// From a channel of the image's rows to the next.
fn loaded_stride(tile: &Tile) -> usize {
    framed_pixels(tile).next_multiple_of(LANES)
}

/// The lengths of the buffers for the image's and the normalised rows of a tile's steps.
pub(super) fn normalized_lengths(image: &Image<'_>, tile: &Tile) -> [usize; 2] {
    [
        // With room to begin one pixel later.
        image.channels * loaded_stride(tile) + LANES,
        panels::length(image.channels, framed_pixels(tile)),
    ]
}

/// Adds weights `[channels, inner]` times panels of `inner` channels of a step's outputs to the image.
pub(super) type AddToImage<'a> = dyn Fn(Matrix<'_>, &[f32]) + 'a;

/// Adds to each tile of an image what its work, which `begin` gives for the tile's number, makes of it, from the image as it
/// was before, and `constants`, by products of a precision. The work has a buffer of its own of `expanded` channels that stays the same throughout a tile,
/// and one of panels of `inner` channels.
pub(super) fn add_to_tiles<W>(
    image: &mut ImageMut<'_>,
    tiles: &[Tile],
    norm: &Norm,
    (precision, constants): (Precision, Option<&[f32]>),
    [expanded, inner]: [usize; 2],
    begin: impl Fn(usize) -> W + Sync,
) where
    W: Fn(&RowStep<'_>, &mut [f32], &mut [f32], &AddToImage<'_>),
{
    let frames = image.frames(tiles);
    let image = &*image;
    let numbered = tiles.par_iter().zip(&frames).enumerate();
    numbered.for_each(|(index, (tile, frame))| {
        let work = begin(index);
        let [loaded, normalized] = normalized_lengths(image, tile);
        let lengths = [
            loaded,
            normalized,
            expanded * expanded_stride(tile),
            panels::length(inner, step_pixels(tile)),
        ];
        scratch::with(lengths, |[loaded, normalized, expanded, inner]| {
            let step = |step: &RowStep<'_>| {
                let first = Cell::new(true);
                let add = |weights: Matrix<'_>, panels: &[f32]| {
                    let layout = PanelLayout::panels(weights.size()[1]);
                    let pixels = step.rows.len() * row_pixels(tile.width);
                    // SAFETY: these rows are this thread's alone, and have been read: the next step reads those below.
                    let target = unsafe { Lines::in_image(image, tile, step.rows.start) };
                    let constants = constants.filter(|_| first.replace(false));
                    let panels = (panels, layout, pixels);
                    multiply_in(precision, Into::Add, weights, constants, panels, target);
                };
                work(step, expanded, inner, &add);
            };
            // SAFETY: of the image, only the tile itself is read, and the tile is this thread's alone.
            unsafe { walk(image, norm, tile, Some(frame), [loaded, normalized], step) };
        });
    });
}
