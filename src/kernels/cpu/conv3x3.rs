//! The 3×3 convolution, tile by tile, without im2col: the image of a framed tile shifted by a tap is the same buffer
//! begun a little later, so that the convolution is one product of its weights, `[to, 9 · from]`, with planes that begin at
//! `9 · from` places. The outputs have the tile's rows with two columns too many, which are left out when they are stored.

use rayon::prelude::*;

use super::LANES;
use super::depthwise::{frame, framed_length};
use super::inner_products::{Rows, wide_inner_products};
use super::panels::{Lines, Offsets, PanelLayout, multiply_in};
use super::product::{Into, Matrix};
use super::scratch;
use super::tiles::{Image, ImageMut, Tile, tiles_for_threads};
use crate::kernels::operations::Arrangement;
use crate::kernels::precision::Precision;

/// Pixels of a tile, whose channels stay in a core's cache.
const TILE_PIXELS: usize = 512;

impl Arrangement {
    pub(super) fn size(self, [to, height, width]: [usize; 3]) -> [usize; 3] {
        match self {
            Self::Plain => [to, height, width],
            Self::Unshuffled => [4 * to, height / 2, width / 2],
            Self::Shuffled => [to / 4, 2 * height, 2 * width],
        }
    }
}

/// Convolves an image `[from, height, width]` with weights `[to, from, 3, 3]` and adds a bias `[to]`.
pub(super) fn convolve(
    x: &[f32],
    size: [usize; 3],
    weight: &[f32],
    bias: Option<&[f32]>,
    (arrangement, precision): (Arrangement, Precision),
    output: &mut [f32],
) {
    let [from, height, width] = size;
    let to = weight.len() / (9 * from);
    let weight = Matrix::new(weight, to, 9 * from, 9 * from);
    let x = Image::new(x, size);
    let output = ImageMut::new(output, arrangement.size([to, height, width]));
    let tiles = tiles_for_threads(height, width, TILE_PIXELS);
    tiles.par_iter().for_each(|tile| {
        let framed_width = tile.framed_width();
        // The last tap's last vector ends less than two vectors behind the frame.
        let stride = (tile.framed_height() * framed_width).next_multiple_of(LANES) + 2 * LANES;
        let taps =
            |channel| (0..9).map(move |tap| channel * stride + tap / 3 * framed_width + tap % 3);
        let offsets: Vec<usize> = (0..from).flat_map(taps).collect();
        let count = tile.height * framed_width; // A tile's rows, two columns too wide.
        scratch::with([from * stride, to * count], |[framed, sums]| {
            // SAFETY: no thread writes to x.
            unsafe { x.load_framed(tile, framed, stride) };
            let target = Lines::planes(sums, count, count);
            let pixels = (&*framed, Offsets(&offsets), count);
            multiply_in(precision, Into::Set, weight, bias, pixels, target);
            // SAFETY: each output comes from one pixel of one tile, so the tile's are this thread's alone.
            unsafe { store(&output, arrangement, tile, sums) };
        });
    });
}

/// Stores a tile's sums, `[to]` planes of its rows with two columns too many.
///
/// # Safety
/// Nothing else reads or writes the tile's outputs meanwhile.
unsafe fn store(output: &ImageMut<'_>, arrangement: Arrangement, tile: &Tile, sums: &[f32]) {
    let width = tile.framed_width();
    let plane = tile.height * width;
    let columns = tile.left..tile.left + tile.width;
    for row in 0..tile.height {
        let y = tile.top + row;
        match arrangement {
            Arrangement::Plain => {
                for (channel, sums) in sums.chunks_exact(plane).enumerate() {
                    // SAFETY: the caller excludes others.
                    let pixels = unsafe { output.row_mut(channel, y, columns.clone()) };
                    pixels.copy_from_slice(&sums[row * width..][..tile.width]);
                }
            }
            Arrangement::Unshuffled => {
                // Tiles begin at even columns: their widths are whole vectors, but for the last.
                let columns = columns.start / 2..columns.end / 2;
                for (channel, sums) in sums.chunks_exact(plane).enumerate() {
                    for odd in 0..2 {
                        let channel = 4 * channel + 2 * (y % 2) + odd;
                        // SAFETY: likewise.
                        let pixels = unsafe { output.row_mut(channel, y / 2, columns.clone()) };
                        let sums = sums[row * width + odd..].iter().step_by(2);
                        for (pixel, sum) in pixels.iter_mut().zip(sums) {
                            *pixel = *sum;
                        }
                    }
                }
            }
            Arrangement::Shuffled => {
                let columns = 2 * columns.start..2 * columns.end;
                for (channel, sums) in sums.chunks_exact(2 * plane).enumerate() {
                    let (channel, y) = (channel / 2, 2 * y + channel % 2);
                    // SAFETY: likewise.
                    let pixels = unsafe { output.row_mut(channel, y, columns.clone()) };
                    let even = &sums[row * width..][..tile.width];
                    let odd = &sums[plane + row * width..][..tile.width];
                    let (pairs, _) = pixels.as_chunks_mut::<2>();
                    for ((pair, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
                        *pair = [*even, *odd];
                    }
                }
            }
        }
    }
}

/// Puts the input's gradient into `x_gradient`, `[from, height, width]`, and adds the weight's to `weight_gradient`,
/// `[to, from, 3, 3]`. `grad` is that of the arranged output.
///
/// The input's is the convolution with the weights turned by 180° and their channels exchanged. The weight's are the inner
/// products of the gradient's planes with the shifted input's, both framed: the frame's zeros add nothing.
pub(super) fn backward(
    x: &[f32],
    size: [usize; 3],
    weight: &[f32],
    grad: &[f32],
    arrangement: Arrangement,
    x_gradient: &mut [f32],
    weight_gradient: &mut [f32],
) {
    let [from, height, width] = size;
    let to = weight.len() / (9 * from);
    let pixels = height * width;
    let mut rearranged = scratch::buffer(match arrangement {
        Arrangement::Plain => 0,
        Arrangement::Unshuffled | Arrangement::Shuffled => to * pixels,
    });
    let grad = match arrangement {
        Arrangement::Plain => grad,
        Arrangement::Unshuffled | Arrangement::Shuffled => {
            rearrange_back(arrangement, grad, [to, height, width], &mut rearranged);
            &*rearranged
        }
    };
    let turned = turned(weight, from);
    convolve(
        grad,
        [to, height, width],
        &turned,
        None,
        (Arrangement::Plain, Precision::F32),
        x_gradient,
    );

    let length = framed_length(height, width);
    let framed = |planes: &[f32]| {
        let mut framed = scratch::buffer(planes.len() / pixels * length);
        let planes = framed
            .par_chunks_exact_mut(length)
            .zip(planes.par_chunks_exact(pixels));
        planes.for_each(|(framed, plane)| frame(plane, width, framed));
        framed
    };
    let (x, grad) = (framed(x), framed(grad));
    let taps = |channel| (0..9).map(move |tap| channel * length + tap / 3 * (width + 2) + tap % 3);
    let offsets: Vec<usize> = (0..from).flat_map(taps).collect();
    let outputs = Rows {
        data: &grad[width + 3..], // From the first pixel inside the frame.
        source: PanelLayout::planes(length),
        count: to,
    };
    let inputs = Rows {
        data: &x,
        source: Offsets(&offsets),
        count: 9 * from,
    };
    let wide = height * (width + 2);
    wide_inner_products(Into::Add, outputs, inputs, wide, weight_gradient, 9 * from);
}

/// The inverse of what [`store`] does to an image's outputs. Threads take planes.
fn rearrange_back(
    arrangement: Arrangement,
    arranged: &[f32],
    [_, height, width]: [usize; 3],
    output: &mut [f32],
) {
    let pixels = height * width;
    let planes = output.par_chunks_exact_mut(pixels).enumerate();
    planes.for_each(|(channel, plane)| {
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            match arrangement {
                Arrangement::Plain => {
                    row.copy_from_slice(&arranged[channel * pixels + y * width..][..width])
                }
                Arrangement::Unshuffled => {
                    let columns = width / 2;
                    let part = |odd: usize| {
                        let first = (4 * channel + 2 * (y % 2) + odd) * pixels / 4;
                        &arranged[first + y / 2 * columns..][..columns]
                    };
                    let pairs = row.as_chunks_mut::<2>().0.iter_mut();
                    for ((pair, even), odd) in pairs.zip(part(0)).zip(part(1)) {
                        *pair = [*even, *odd];
                    }
                }
                Arrangement::Shuffled => {
                    let (plane, odd) = (channel / 4 * 4 * pixels, channel % 2);
                    let first = plane + (2 * y + channel / 2 % 2) * 2 * width;
                    let pairs = arranged[first..][..2 * width].as_chunks::<2>().0.iter();
                    for (output, pair) in row.iter_mut().zip(pairs) {
                        *output = pair[odd];
                    }
                }
            }
        }
    });
}

/// The weights `[from, to, 3, 3]` of the convolution back: turned by 180°, the channels exchanged.
fn turned(weight: &[f32], from: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(weight.len());
    for channel in 0..from {
        for taps in weight.chunks_exact(9).skip(channel).step_by(from) {
            turned.extend(taps.iter().rev());
        }
    }
    turned
}
