//! The 3×3 convolution, tile by tile, without im2col: the image of a framed tile shifted by a tap is the same buffer
//! begun a little later, so that a tap is one product of its weights with the buffer from there on. The outputs have
//! the tile's rows with two columns too many, which are left out when they are stored.

use rayon::prelude::*;

use super::product::{Into, Matrix, product};
use super::scratch;
use super::tiles::{Image, tiles};

/// Convolves an image `[from, height, width]` with weights `[to, from, 3, 3]` and adds a bias `[to]`; `output` is
/// `[to, height, width]`.
pub(super) fn convolve(
    x: &[f32],
    size: [usize; 3],
    weight: &TapMajor,
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let [from, height, width] = size;
    let to = weight.to;
    let x = Image::shared(x, size);
    let output = Image::new(output, [to, height, width]);
    tiles(height, width).par_iter().for_each(|tile| {
        let stride = tile.framed_stride();
        let framed_width = tile.framed_width();
        let wide = tile.height * framed_width; // A tile's rows, two columns too wide.
        scratch::with([from * stride, to * wide], |[framed, sums]| {
            // SAFETY: no thread writes to x.
            unsafe { x.load(tile, None, framed) };
            for tap in 0..9 {
                let offset = tap / 3 * framed_width + tap % 3;
                product(
                    if tap == 0 { Into::Set } else { Into::Add },
                    weight.tap(tap),
                    // The last tap's products end two elements behind the frame, where there is room.
                    Matrix::new(&framed[offset..], from, wide, stride),
                    sums,
                    wide,
                );
            }
            for (channel, sums) in sums.chunks_exact(wide).enumerate() {
                let bias = bias.map_or(0.0, |bias| bias[channel]);
                for (row, sums) in sums.chunks_exact(framed_width).enumerate() {
                    let columns = tile.left..tile.left + tile.width;
                    // SAFETY: the tile of the output is this thread's alone.
                    let pixels = unsafe { output.row_mut(channel, tile.top + row, columns) };
                    for (pixel, sum) in pixels.iter_mut().zip(sums) {
                        *pixel = sum + bias;
                    }
                }
            }
        });
    });
}

/// Weights `[to, from, 3, 3]` in the order `[9, to, from]`: one matrix for each tap.
pub(super) struct TapMajor {
    data: Vec<f32>,
    to: usize,
    from: usize,
}

impl TapMajor {
    pub fn new(weight: &[f32], to: usize, from: usize) -> Self {
        let mut data = vec![0.0; weight.len()];
        for (tap, matrix) in data.chunks_exact_mut(to * from).enumerate() {
            for (element, taps) in matrix.iter_mut().zip(weight.chunks_exact(9)) {
                *element = taps[tap];
            }
        }
        Self { data, to, from }
    }

    fn tap(&self, tap: usize) -> Matrix<'_> {
        let size = self.to * self.from;
        Matrix::new(
            &self.data[tap * size..][..size],
            self.to,
            self.from,
            self.from,
        )
    }
}
