//! HIM with its normalisation and residual.
//!
//! Keys and values come from a few tokens, so the query projection and the keys fold into one thin matrix for the logits
//! `[heads · tokens, C]`, and the values and the output projection into another `[C, heads · tokens]`. A pixel then costs
//! `2 · C · heads · tokens` products where the four layers cost `2 · C² + 2 · C · tokens`.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::Exp;

use super::LANES;
use super::isa::dispatch;
use super::normalize::Norm;
use super::panels::{self, Lines, PanelLayout, multiply, row_pixels};
use super::product::{Into, Matrix, product};
use super::scratch;
use super::tiles::{ImageMut, tiles};

/// Pixels of a tile, whose channels stay in a core's cache.
const TILE_PIXELS: usize = 2048;

/// One image's HIM, as slices.
#[derive(Clone, Copy)]
pub(super) struct Him<'a> {
    pub heads: usize,
    pub tokens: usize,
    /// `[C, C]`, input by output.
    pub query: &'a [f32],
    /// `[C]`
    pub query_bias: Option<&'a [f32]>,
    /// `[tokens, C]`
    pub keys: &'a [f32],
    /// `[tokens, C]`
    pub values: &'a [f32],
    /// `[C, C]`, input by output.
    pub project: &'a [f32],
    /// `[C]`
    pub project_bias: Option<&'a [f32]>,
}

/// Adds HIM of the normalised image to the image.
pub(super) fn add(image: &mut [f32], size: [usize; 3], norm: &Norm, him: &Him<'_>) {
    let [channels, height, width] = size;
    let rows = him.heads * him.tokens;
    let (to_logits, constants) = him.logits_matrix(channels);
    let to_output = him.output_matrix(channels);
    let image = ImageMut::new(image, size);
    tiles(height, width, TILE_PIXELS)
        .par_iter()
        .for_each(|tile| {
            let pixels = tile.height * row_pixels(tile.width);
            let lengths = [
                channels * pixels,
                panels::length(channels, pixels),
                rows * pixels,
            ];
            scratch::with(lengths, |[planes, normalized, attention]| {
                // SAFETY: the tile is this thread's alone.
                unsafe { image.load_inner(tile, 0..tile.height, planes, pixels) };
                let layout = PanelLayout::panels(channels);
                norm.apply(planes, pixels, pixels, normalized, layout);
                multiply(
                    Into::Set,
                    Matrix::new(&to_logits, rows, channels, channels),
                    None,
                    (normalized, layout, pixels),
                    Lines::planes(attention, pixels, pixels),
                );
                let heads = attention.chunks_exact_mut(him.tokens * pixels);
                for (logits, constants) in heads.zip(constants.chunks_exact(him.tokens)) {
                    softmax_of_tokens(logits, constants, pixels);
                }
                // SAFETY: likewise.
                let target = unsafe { Lines::in_image(&image, tile, 0) };
                multiply(
                    Into::Add,
                    Matrix::new(&to_output, channels, rows, rows),
                    him.project_bias,
                    (attention, PanelLayout::planes(pixels), pixels),
                    target,
                );
            });
        });
}

impl Him<'_> {
    /// `k Wq / √(C/heads)` of each head and token, `[heads · tokens, C]`, and what the bias adds.
    pub fn logits_matrix(&self, channels: usize) -> (Vec<f32>, Vec<f32>) {
        let per_head = channels / self.heads;
        let scale = 1.0 / (per_head as f32).sqrt();
        let mut folded = vec![0.0; self.heads * self.tokens * channels];
        let mut constants = Vec::with_capacity(self.heads * self.tokens);
        for head in 0..self.heads {
            let start = head * per_head;
            let keys: Vec<f32> = self.keys.iter().map(|key| key * scale).collect();
            let keys = Matrix::new(&keys[start..], self.tokens, per_head, channels);
            let query = Matrix::new(&self.query[start..], channels, per_head, channels);
            product(
                Into::Set,
                keys,
                query.transposed(),
                &mut folded[head * self.tokens * channels..],
                channels,
            );
            for key in self.keys.chunks_exact(channels) {
                let key = &key[start..][..per_head];
                constants.push(self.query_bias.map_or(0.0, |bias| {
                    let products = key.iter().zip(&bias[start..]);
                    products.map(|(key, bias)| key * bias * scale).sum()
                }));
            }
        }
        (folded, constants)
    }

    /// `Wp v` of each head and token, `[C, heads · tokens]`.
    pub fn output_matrix(&self, channels: usize) -> Vec<f32> {
        let per_head = channels / self.heads;
        let rows = self.heads * self.tokens;
        let mut folded = vec![0.0; channels * rows];
        for head in 0..self.heads {
            let start = head * per_head;
            product(
                Into::Set,
                Matrix::new(
                    &self.project[start * channels..],
                    per_head,
                    channels,
                    channels,
                )
                .transposed(),
                Matrix::new(&self.values[start..], self.tokens, per_head, channels).transposed(),
                &mut folded[head * self.tokens..],
                rows,
            );
        }
        folded
    }
}

/// Softmax over the planes of a head's tokens, `stride` apart, after adding each token's constant: for each pixel.
pub(super) fn softmax_of_tokens(logits: &mut [f32], constants: &[f32], stride: usize) {
    dispatch(Softmax {
        logits,
        constants,
        stride,
    });
}

/// Softmax over the planes of a head's tokens, in place, for each pixel.
struct Softmax<'a> {
    logits: &'a mut [f32],
    /// Added to each token's logits.
    constants: &'a [f32],
    /// From a plane to the next: whole vectors.
    stride: usize,
}

impl SimdOp for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        debug_assert!(self.stride.is_multiple_of(LANES));
        for start in (0..self.stride).step_by(ops.len()) {
            let mut largest = ops.splat(f32::NEG_INFINITY);
            for (plane, constant) in self.logits.chunks_exact(self.stride).zip(self.constants) {
                let logit = ops.add(ops.load(&plane[start..]), ops.splat(*constant));
                largest = ops.max(largest, logit);
            }
            let mut sum = ops.zero();
            let planes = self.logits.chunks_exact_mut(self.stride);
            for (plane, constant) in planes.zip(self.constants) {
                let plane = &mut plane[start..];
                let logit = ops.add(ops.load(plane), ops.splat(*constant));
                let share = Exp {}.eval(isa, ops.sub(logit, largest));
                sum = ops.add(sum, share);
                ops.store(share, plane);
            }
            let factor = ops.reciprocal(sum);
            for plane in self.logits.chunks_exact_mut(self.stride) {
                let plane = &mut plane[start..];
                let share = ops.mul(ops.load(plane), factor);
                ops.store(share, plane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction_sets::{assert_equal, on_each_set, on_set, values};
    use super::*;

    #[test]
    fn every_instruction_set_has_the_same_softmax() {
        let (tokens, stride) = (5, 48);
        let constants = values(tokens, 7);
        let results = on_each_set!(values(tokens * stride, 5), |logits| Softmax {
            logits,
            constants: &constants,
            stride,
        });
        assert_equal(&results);
    }
}
