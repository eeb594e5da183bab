//! What MDTA and GDFN have in common on a tile: normalised input, 1×1 and depthwise 3×3 convolution in groups of channels,
//! and a 1×1 convolution whose result is added to the image.
//!
//! The expanded channels never leave the cache: they are made a [`GROUP`] at a time, convolved, and at once multiplied
//! into the result's channels.

use rayon::prelude::*;

use super::LANES;
use super::normalize::Norm;
use super::product::{Into, Matrix, product};
use super::tiles::{Image, Tile};

/// Expanded channels at a time.
pub(super) const GROUP: usize = 48;

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

impl Branch<'_> {
    pub fn tap_bias(&self, channel: usize) -> f32 {
        self.taps_bias.map_or(0.0, |bias| bias[channel])
    }

    /// Expanded channels `first..first + count` of a normalised framed tile, into planes of the same framing. With a
    /// bias, the frame is zero outside the image all the same.
    pub fn expand(
        &self,
        image: &Image<'_>,
        tile: &Tile,
        normalized: &[f32],
        [first, count]: [usize; 2],
        output: &mut [f32],
    ) {
        let channels = image.channels;
        let (pixels, stride) = (tile.framed_pixels(), tile.framed_stride());
        product(
            Into::Set,
            Matrix::new(&self.expand[first * channels..], count, channels, channels),
            Matrix::new(normalized, channels, pixels, stride),
            output,
            stride,
        );
        if let Some(bias) = self.expand_bias {
            let planes = output.chunks_exact_mut(stride).zip(&bias[first..][..count]);
            for (plane, bias) in planes {
                for x in &mut plane[..pixels] {
                    *x += bias;
                }
            }
            image.clear_outside(tile, &mut output[..count * stride]);
        }
    }
}

/// Loads a tile with its frame and normalises it.
///
/// # Safety
/// As [`Image::load`].
pub(super) unsafe fn load_normalized(
    image: &Image<'_>,
    norm: &Norm,
    tile: &Tile,
    frame: Option<&[f32]>,
    output: &mut [f32],
) {
    // SAFETY: the caller's word.
    unsafe { image.load(tile, frame, output) };
    norm.apply(output, tile.framed_stride(), tile.framed_pixels());
    image.clear_outside(tile, output);
}

/// Replaces each tile of an image by what `work` adds to it, from the image as it was before.
pub(super) fn add_to_tiles(
    image: &mut Image<'_>,
    tiles: &[Tile],
    constants: Option<&[f32]>,
    scratch: impl Fn(&Tile) -> usize + Sync,
    norm: &Norm,
    work: impl Fn(&Image<'_>, &Tile, &[f32], &mut [f32], &mut [f32]) + Sync,
) {
    let frames = image.frames(tiles);
    let image = &*image;
    let channels = image.channels;
    tiles.par_iter().zip(&frames).for_each(|(tile, frame)| {
        let lengths = [
            channels * tile.framed_stride(),
            channels * tile.pixels(),
            scratch(tile),
        ];
        super::scratch::with(lengths, |[normalized, sum, scratch]| {
            // SAFETY: of the image, only the tile itself is read, and the tile is this thread's alone.
            unsafe { load_normalized(image, norm, tile, Some(frame), normalized) };
            work(image, tile, normalized, sum, scratch);
            // SAFETY: likewise.
            unsafe { image.add(tile, sum, constants) };
        });
    });
}

/// The length of `count` framed planes.
pub(super) fn planes(tile: &Tile, count: usize) -> usize {
    count * tile.framed_stride() + LANES
}
