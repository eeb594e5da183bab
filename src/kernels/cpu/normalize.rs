//! Layer normalisation over the channels of a tile, from planes into whatever order is asked for.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::isa::dispatch;
use super::panels::PanelLayout;
use super::tiles::{Image, ImageMut, Tile};
use super::{LANES, scratch};

/// Pixels that a thread takes of an image.
const STRIP: usize = 512;

/// Scale and shift of each channel after normalisation: LN's own, and the modulation by the prior with it.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// Whether the mean is taken off; the bias-free kind keeps it.
    pub centered: bool,
    pub epsilon: f32,
}

/// Normalises planes of `pixels` (whole vectors), `stride` apart, into another layout.
struct Normalize<'a> {
    norm: &'a Norm,
    planes: &'a [f32],
    stride: usize,
    pixels: usize,
    output: &'a mut [f32],
    layout: PanelLayout,
}

impl Norm {
    /// Normalises planes of `pixels`, `stride` apart, in whole vectors.
    pub fn apply(
        &self,
        planes: &[f32],
        stride: usize,
        pixels: usize,
        output: &mut [f32],
        layout: PanelLayout,
    ) {
        let (channels, pixels) = (self.scale.len(), pixels.next_multiple_of(LANES));
        assert!(pixels > 0 && pixels <= stride && channels > 0 && self.shift.len() == channels);
        assert!(planes.len() >= (channels - 1) * stride + pixels);
        assert!(output.len() >= layout.offset(channels - 1, pixels - LANES) + LANES);
        dispatch(Normalize {
            norm: self,
            planes,
            stride,
            pixels,
            output,
            layout,
        });
    }

    /// Normalises an image `[channels, pixels]` into planes `stride` apart. Threads take strips.
    pub fn apply_to_image(&self, x: &[f32], pixels: usize, output: &mut [f32], stride: usize) {
        let channels = self.scale.len();
        let from = Image::new(x, [channels, 1, pixels]);
        let to = ImageMut::new(output, [channels, 1, stride]);
        let strips = (0..pixels).into_par_iter().step_by(STRIP);
        strips.for_each(|left| {
            let strip = Tile {
                top: 0,
                left,
                height: 1,
                width: STRIP.min(pixels - left),
            };
            scratch::with([channels * STRIP; 2], |[planes, normalized]| {
                let layout = PanelLayout::planes(STRIP);
                // SAFETY: no thread writes to x, and the strip of the output is this thread's alone.
                unsafe {
                    from.load_inner(&strip, 0..1, planes, STRIP);
                    self.apply(planes, STRIP, strip.width, normalized, layout);
                    to.store(&strip, normalized, STRIP);
                }
            });
        });
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
        let base = self.planes[start..].as_ptr();
        // The largest offset is `(channels − 1) · stride + start + N · lanes`, which `apply` has compared with the length.
        let at = |channel: usize, i: usize| base.wrapping_add(channel * self.stride + i * lanes);

        let share = ops.splat(1.0 / channels as f32);
        let mut mean = [ops.zero(); N];
        for channel in 0..channels {
            for (i, mean) in mean.iter_mut().enumerate() {
                // SAFETY: as above.
                *mean = ops.add(*mean, unsafe { ops.load_ptr(at(channel, i)) });
            }
        }
        for mean in &mut mean {
            *mean = ops.mul(*mean, share);
        }
        let mut variance = [ops.zero(); N];
        for channel in 0..channels {
            for i in 0..N {
                // SAFETY: as above.
                let centered = ops.sub(unsafe { ops.load_ptr(at(channel, i)) }, mean[i]);
                variance[i] = ops.mul_add(centered, centered, variance[i]);
            }
        }
        let mut factor = [ops.zero(); N];
        for (factor, sum) in factor.iter_mut().zip(variance) {
            let variance = ops.mul_add(sum, share, ops.splat(self.norm.epsilon));
            *factor = square_root_reciprocal(isa, variance);
        }
        let offset = match self.norm.centered {
            true => mean,
            false => [ops.zero(); N],
        };
        let output = self.output.as_mut_ptr();
        for channel in 0..channels {
            let scale = ops.splat(self.norm.scale[channel]);
            let shift = ops.splat(self.norm.shift[channel]);
            for i in 0..N {
                // SAFETY: as above; the output was compared with the last vector's end too.
                unsafe {
                    let x = ops.sub(ops.load_ptr(at(channel, i)), offset[i]);
                    let scaled = ops.mul(x, factor[i]);
                    let offset = self.layout.offset(channel, start + i * lanes);
                    ops.store_ptr(ops.mul_add(scaled, scale, shift), output.add(offset));
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

#[cfg(test)]
mod tests {
    use super::super::instruction_sets::{assert_equal, on_each_set, on_set, values};
    use super::super::panels;
    use super::*;

    #[test]
    fn every_instruction_set_normalizes_alike() {
        for (channels, pixels, centered) in [(7, 160, true), (3, 16, false), (48, 80, true)] {
            let norm = Norm {
                scale: values(channels, 5),
                shift: values(channels, 7),
                centered,
                epsilon: 1e-5,
            };
            let planes = values(channels * pixels, 3);
            let output = vec![0.0; panels::length(channels, pixels)];
            let results = on_each_set!(output.clone(), |output| Normalize {
                norm: &norm,
                planes: &planes,
                stride: pixels,
                pixels,
                output,
                layout: PanelLayout::panels(channels),
            });
            assert_equal(&results);
        }
    }
}
