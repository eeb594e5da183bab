//! Layer normalisation over the channels of a tile, in place.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::LANES;

/// Scale and shift of each channel after normalisation: LN's own, and the modulation by the prior with it.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// Whether the mean is taken off; the bias-free kind keeps it.
    pub centered: bool,
    pub epsilon: f32,
}

/// Normalises planes of `pixels` (whole vectors), `stride` apart.
struct Normalize<'a> {
    norm: &'a Norm,
    planes: &'a mut [f32],
    stride: usize,
    pixels: usize,
}

impl Norm {
    pub fn apply(&self, planes: &mut [f32], stride: usize, pixels: usize) {
        assert!(pixels.is_multiple_of(LANES) && pixels <= stride);
        assert!(self.scale.len() == self.shift.len() && !self.scale.is_empty());
        assert!(planes.len() >= (self.scale.len() - 1) * stride + pixels);
        Normalize {
            norm: self,
            planes,
            stride,
            pixels,
        }
        .dispatch();
    }
}

impl SimdOp for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let lanes = isa.f32().len();
        let mut start = 0;
        while start + 4 * lanes <= self.pixels {
            self.strip::<I, 4>(isa, start);
            start += 4 * lanes;
        }
        while start < self.pixels {
            self.strip::<I, 1>(isa, start);
            start += lanes;
        }
    }
}

impl Normalize<'_> {
    /// `N` vectors of pixels, with all their channels.
    #[inline(always)]
    fn strip<I: Isa, const N: usize>(&mut self, isa: I, start: usize) {
        let ops = isa.f32();
        let lanes = ops.len();
        let channels = self.norm.scale.len();
        let first = &mut self.planes[start..];
        assert!((channels - 1) * self.stride + N * lanes <= first.len());
        let base = first.as_mut_ptr();
        // SAFETY: the largest offset is `(channels − 1) · stride + N · lanes`, which was compared with the length.
        let at = |channel: usize, i: usize| unsafe { base.add(channel * self.stride + i * lanes) };

        let share = ops.splat(1.0 / channels as f32);
        let mut mean = [ops.zero(); N];
        for channel in 0..channels {
            for (i, mean) in mean.iter_mut().enumerate() {
                // SAFETY: as above.
                *mean = ops.add(*mean, unsafe { ops.load_ptr(at(channel, i)) });
            }
        }
        let mean = mean.map(|sum| ops.mul(sum, share));
        let mut variance = [ops.zero(); N];
        for channel in 0..channels {
            for i in 0..N {
                // SAFETY: as above.
                let centered = ops.sub(unsafe { ops.load_ptr(at(channel, i)) }, mean[i]);
                variance[i] = ops.mul_add(centered, centered, variance[i]);
            }
        }
        let factor = variance.map(|sum| {
            let variance = ops.mul_add(sum, share, ops.splat(self.norm.epsilon));
            square_root_reciprocal(isa, variance)
        });
        let offset = match self.norm.centered {
            true => mean,
            false => [ops.zero(); N],
        };
        for channel in 0..channels {
            let scale = ops.splat(self.norm.scale[channel]);
            let shift = ops.splat(self.norm.shift[channel]);
            for i in 0..N {
                // SAFETY: as above.
                unsafe {
                    let x = ops.sub(ops.load_ptr(at(channel, i)), offset[i]);
                    let scaled = ops.mul(x, factor[i]);
                    ops.store_ptr(ops.mul_add(scaled, scale, shift), at(channel, i));
                }
            }
        }
    }
}

/// `1/√x` to full precision, element by element: there is no vector square root to call, and one is needed a pixel only.
#[inline(always)]
fn square_root_reciprocal<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let mut values = [0.0; LANES];
    ops.store(x, &mut values);
    for value in &mut values {
        *value = 1.0 / value.sqrt();
    }
    ops.load(&values)
}
