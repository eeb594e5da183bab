//! The product of weights and pixels with operands in bfloat16 and sums in single precision: by AMX, whose tiles of 16×16 sums
//! take 32 channels at once, or by AVX-512 BF16, whose vectors of sums take two.
//!
//! Both want channels in pairs. Weights have them side by side; pixels are rounded and put together here, a strip of 64 at a
//! time:
//!
//! ```text
//!   pair 0: pixel 0's channels 0 and 1 │ pixel 1's channels 0 and 1 │ … │ pair 1: …
//! ```
//!
//! There are no intrinsics for AMX in stable Rust: its few instructions are written as assembly.

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Avx512,
    Amx,
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::Unit;
    use crate::kernels::cpu::panels::{Addressing, Multiply};

    pub fn unit() -> Option<Unit> {
        None
    }

    pub fn multiply<S: Addressing>(unit: Unit, _: &Multiply<'_, S>) {
        unreachable!("{unit:?} is not of this processor")
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) use elsewhere::{multiply, unit};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{multiply, unit};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid_count, __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps,
        _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512,
    };
    use std::mem::transmute;
    use std::sync::LazyLock;

    use rten_simd::Isa;
    use rten_simd::isa::Avx512Isa;
    use rten_simd::ops::{BitOps, NumOps};

    use super::Unit;
    use crate::kernels::cpu::isa::{self, InstructionSet};
    use crate::kernels::cpu::panels::{Addressing, Lines, Multiply, PANEL, PanelLayout};
    use crate::kernels::cpu::product::{Into, Matrix};
    use crate::kernels::cpu::{LANES, scratch};

    /// Rows of weights at once: two tiles.
    const BLOCK: usize = 2 * TILE;

    /// Rows of a tile, and its columns of sums or of pairs.
    const TILE: usize = 16;

    /// Bytes of a tile's row.
    const TILE_ROW: usize = 4 * TILE;

    /// Bytes from a pair of channels to the next, and from a row of sums to the next.
    const PITCH: usize = 4 * PANEL;

    static UNIT: LazyLock<Option<Unit>> = LazyLock::new(|| match isa::held() {
        _ if !has_avx512_bf16() => None,
        None if has_amx() && agrees_with_vectors() => Some(Unit::Amx),
        None | Some(InstructionSet::Avx512) => Some(Unit::Avx512),
        Some(_) => None,
    });

    /// The best of this processor, if it has any: not AMX where kernels are held to AVX-512, and none where they are held to
    /// less.
    pub fn unit() -> Option<Unit> {
        *UNIT
    }

    pub fn has_avx512_bf16() -> bool {
        Avx512Isa::new().is_some() && is_x86_feature_detected!("avx512bf16")
    }

    /// Whether there is AMX with bfloat16, and the system lets this process use it: its registers are so large that a
    /// process has to ask.
    pub fn has_amx() -> bool {
        const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
        let features = match __cpuid_count(0, 0).eax {
            7.. => __cpuid_count(7, 0).edx,
            _ => 0,
        };
        features & BF16_AND_TILES == BF16_AND_TILES && ask_for_tiles()
    }

    #[cfg(target_os = "linux")]
    fn ask_for_tiles() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const REQUEST_PERMISSION: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let result: i64;
        // SAFETY: a system call without pointers, of which a kernel that does not know it says so.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn ask_for_tiles() -> bool {
        false
    }

    /// Whether tiles multiply as vectors do: assembly is checked where it is to run, once, before a picture depends on it.
    fn agrees_with_vectors() -> bool {
        const SIZE: [usize; 2] = [21, 37];
        let [rows, channels] = SIZE;
        let varied = |length: usize| -> Vec<f32> {
            (0..length)
                .map(|i| (i * 7 % 23) as f32 / 8.0 - 1.3)
                .collect()
        };
        let (weights, pixels) = (varied(rows * channels), varied(channels * PANEL));
        let by = |unit| {
            let mut output = vec![0.0; rows * PANEL];
            let product = Multiply {
                into: Into::Set,
                weights: Matrix::new(&weights, rows, channels, channels),
                bias: None,
                pixels: &pixels,
                source: PanelLayout::panels(channels),
                count: PANEL,
                target: Lines::planes(&mut output, PANEL, PANEL),
            };
            multiply(unit, &product);
            output
        };
        let (tiles, vectors) = (by(Unit::Amx), by(Unit::Avx512));
        tiles.iter().zip(vectors).all(|(a, b)| (a - b).abs() < 1e-3)
    }

    /// Computes a product whose lengths `panels` has checked.
    pub fn multiply<S: Addressing>(unit: Unit, product: &Multiply<'_, S>) {
        let [rows, channels] = product.weights.size();
        let pairs = channels.div_ceil(2).next_multiple_of(TILE);
        let lengths = [
            rows.next_multiple_of(TILE) * pairs,
            pairs * PANEL,
            BLOCK * PANEL,
        ];
        let isa = Avx512Isa::new().expect("units are of processors with AVX-512");
        scratch::with(lengths, |[weights, pixels, sums]| {
            let work = Work {
                unit,
                product,
                pairs,
                weights,
                pixels,
                sums,
            };
            // SAFETY: `unit` gives none where there is no AVX-512 with BF16.
            unsafe { work.run(isa) }
        });
    }

    struct Work<'a, 'b, S> {
        unit: Unit,
        product: &'a Multiply<'b, S>,
        /// Of channels, with those that make tiles whole.
        pairs: usize,
        /// Pairs of each row, rows one behind the other; whole tiles of them.
        weights: &'a mut [f32],
        /// Pairs of a strip of [`PANEL`] pixels.
        pixels: &'a mut [f32],
        /// Of a block: rows of [`PANEL`].
        sums: &'a mut [f32],
    }

    impl<S: Addressing> Work<'_, '_, S> {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,f16c")]
        fn run(mut self, isa: Avx512Isa) {
            let [rows, _] = self.product.weights.size();
            self.pack_weights();
            // SAFETY: the unit is there.
            let tiles = (self.unit == Unit::Amx).then(|| unsafe { Tiles::configured() });
            for pixel in (0..self.product.count).step_by(PANEL) {
                let vectors = (self.product.count - pixel).div_ceil(LANES);
                let vectors = vectors.min(PANEL / LANES);
                self.pack_pixels(pixel, vectors);
                for row in (0..rows).step_by(BLOCK) {
                    let count = BLOCK.min(rows - row);
                    match &tiles {
                        Some(tiles) => self.block_by_tiles(tiles, row, count),
                        None => self.block_by_vectors(row, count),
                    }
                    self.store(isa, row, count, pixel, vectors);
                }
            }
        }

        /// Rounds the weights; what makes tiles whole is zero.
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn pack_weights(&mut self) {
            let [rows, channels] = self.product.weights.size();
            let packed = self.weights.chunks_exact_mut(self.pairs).enumerate();
            for (row, packed) in packed {
                if row >= rows {
                    packed.fill(0.0);
                    continue;
                }
                let weights = self.product.weights.row(row);
                for (start, packed) in (0..).step_by(2 * LANES).zip(packed.chunks_exact_mut(LANES))
                {
                    let load = |start: usize| {
                        let count = channels.saturating_sub(start).min(LANES);
                        let weights = &weights[channels.min(start)..][..count];
                        // SAFETY: the mask leaves out what is behind the slice.
                        unsafe { _mm512_maskz_loadu_ps(mask(count), weights.as_ptr()) }
                    };
                    let pairs = _mm512_cvtne2ps_pbh(load(start + LANES), load(start));
                    // SAFETY: the chunk is a vector long.
                    unsafe { _mm512_storeu_si512(packed.as_mut_ptr().cast(), bits(pairs)) };
                }
            }
        }

        /// Rounds a strip's first vectors of pixels; what makes channels whole tiles is zero.
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        fn pack_pixels(&mut self, pixel: usize, vectors: usize) {
            let Multiply { source, pixels, .. } = self.product;
            let [_, channels] = self.product.weights.size();
            let first = &pixels[source.pixel(pixel)..];
            // SAFETY: 64 bytes, as the vector has.
            let order: __m512i = unsafe { transmute(PAIRS) };
            for (pair, packed) in self.pixels.chunks_exact_mut(PANEL).enumerate() {
                if 2 * pair >= channels {
                    packed.fill(0.0);
                    continue;
                }
                let even = first[source.channel(2 * pair)..].as_ptr();
                let odd = (2 * pair + 1 < channels)
                    .then(|| first[source.channel(2 * pair + 1)..].as_ptr());
                for vector in 0..vectors {
                    let offset = vector * LANES;
                    // SAFETY: `panels::multiply` has compared the length with the end of the last channel's last vector; the
                    // strip has room for all of its vectors.
                    unsafe {
                        let even = _mm512_loadu_ps(even.add(offset));
                        let odd = match odd {
                            Some(odd) => _mm512_loadu_ps(odd.add(offset)),
                            None => _mm512_setzero_ps(),
                        };
                        let pairs = bits(_mm512_cvtne2ps_pbh(odd, even));
                        let pairs = _mm512_permutexvar_epi16(order, pairs);
                        _mm512_storeu_si512(packed.as_mut_ptr().add(offset).cast(), pairs);
                    }
                }
            }
        }

        /// The sums of up to [`BLOCK`] rows, by vectors: four rows times four vectors in registers.
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn block_by_vectors(&mut self, row: usize, count: usize) {
            const ROWS: usize = 4;
            const VECTORS: usize = PANEL / LANES;
            for first in (0..count).step_by(ROWS) {
                // Whole tiles of rows are whole fours.
                let weights = &self.weights[(row + first) * self.pairs..][..ROWS * self.pairs];
                let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
                for (pair, pixels) in self.pixels.chunks_exact(PANEL).enumerate() {
                    let mut x = [_mm512_setzero_ps(); VECTORS];
                    for (x, pixels) in x.iter_mut().zip(pixels.chunks_exact(LANES)) {
                        // SAFETY: the chunk is a vector long.
                        *x = unsafe { _mm512_loadu_ps(pixels.as_ptr()) };
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: there are so many rows of so many pairs.
                        let weight = unsafe { weights.get_unchecked(r * self.pairs + pair) };
                        let weight = _mm512_set1_epi32(weight.to_bits() as i32);
                        for (sum, x) in sums.iter_mut().zip(x) {
                            // SAFETY: the types are different names for 512 bits.
                            let (weight, x) = unsafe {
                                (
                                    transmute::<__m512i, __m512bh>(weight),
                                    transmute::<__m512, __m512bh>(x),
                                )
                            };
                            *sum = _mm512_dpbf16_ps(*sum, weight, x);
                        }
                    }
                }
                let rows = self.sums[first * PANEL..].chunks_exact_mut(PANEL);
                for (row, sums) in rows.zip(sums) {
                    for (place, sum) in row.chunks_exact_mut(LANES).zip(sums) {
                        // SAFETY: the chunk is a vector long.
                        unsafe { _mm512_storeu_ps(place.as_mut_ptr(), sum) };
                    }
                }
            }
        }

        /// The sums of up to [`BLOCK`] rows, by tiles: two of weights times two of pixels, all pixels in two goes.
        fn block_by_tiles(&mut self, _: &Tiles, row: usize, count: usize) {
            let weights = &self.weights[row * self.pairs..];
            // Without a second tile of rows the first is taken twice.
            let second = if count > TILE { TILE * self.pairs } else { 0 };
            assert!(weights.len() >= second + TILE * self.pairs);
            assert!(self.pixels.len() >= self.pairs * PANEL && self.sums.len() >= BLOCK * PANEL);
            for half in [0, 2 * TILE_ROW] {
                // SAFETY: tiles are configured, 16 rows of 64 bytes each. Those of weights lie `4 · pairs` bytes apart, and
                // each step takes the next 64 bytes of `4 · pairs`; those of pixels and of sums lie `PITCH` bytes apart,
                // and each step takes the next 16 of `pairs` rows. The lengths are those that were asserted.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{upper} + {row}*1]",
                        "tileloadd tmm6, [{pixels} + {pitch}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{pixels} + {pitch}*1 + 64]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{lower} + {row}*1]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        "add {upper}, 64",
                        "add {lower}, 64",
                        "add {pixels}, {step}",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{sums} + {pitch}*1], tmm0",
                        "tilestored [{sums} + {pitch}*1 + 64], tmm1",
                        "tilestored [{sums} + {pitch}*1 + {second}], tmm2",
                        "tilestored [{sums} + {pitch}*1 + {second} + 64], tmm3",
                        upper = inout(reg) weights.as_ptr() => _,
                        lower = inout(reg) weights.as_ptr().add(second) => _,
                        row = in(reg) 4 * self.pairs,
                        pixels = inout(reg) self.pixels.as_ptr().byte_add(half) => _,
                        pitch = in(reg) PITCH,
                        step = const TILE * PITCH,
                        steps = inout(reg) self.pairs / TILE => _,
                        sums = in(reg) self.sums.as_mut_ptr().byte_add(half),
                        second = const TILE * PITCH,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }

        /// Brings a block's sums to their places, with their bias.
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
        fn store(&self, isa: Avx512Isa, row: usize, count: usize, pixel: usize, vectors: usize) {
            let ops = isa.f32();
            let Multiply {
                into, bias, target, ..
            } = self.product;
            for vector in 0..vectors {
                let place = target.place(isa, pixel + vector * LANES);
                for (r, sums) in self.sums.chunks_exact(PANEL).take(count).enumerate() {
                    let mut sum = ops.load(&sums[vector * LANES..]);
                    if let Some(bias) = bias {
                        sum = ops.add(sum, ops.splat(bias[row + r]));
                    }
                    let target = target.pointer(row + r, &place);
                    // SAFETY: as for `panels`' own products.
                    unsafe {
                        if *into == Into::Add {
                            sum = ops.add(sum, ops.load_ptr_mask(target, place.mask));
                        }
                        ops.store_ptr_mask(sum, target, place.mask);
                    }
                }
            }
        }
    }

    /// A thread's tiles, configured: eight of 16 rows of 64 bytes.
    struct Tiles;

    impl Tiles {
        /// # Safety
        /// The processor has AMX, and the system lets the process use it.
        unsafe fn configured() -> Self {
            #[repr(C, align(64))]
            struct Shape {
                palette: u8,
                start_row: u8,
                reserved: [u8; 14],
                row_bytes: [u16; 16],
                rows: [u8; 16],
            }
            let mut shape = Shape {
                palette: 1,
                start_row: 0,
                reserved: [0; 14],
                row_bytes: [0; 16],
                rows: [0; 16],
            };
            shape.row_bytes[..8].fill(TILE_ROW as u16);
            shape.rows[..8].fill(TILE as u8);
            // SAFETY: the caller's word; the shape has the 64 bytes that are read.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, readonly)) };
            Self
        }
    }

    impl Drop for Tiles {
        fn drop(&mut self) {
            // SAFETY: they were configured.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    /// The order that puts element `i` of the first half beside that of the second.
    const PAIRS: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };

    /// The first so many of a vector.
    fn mask(count: usize) -> u16 {
        ((1u32 << count) - 1) as u16
    }

    fn bits(pairs: __m512bh) -> __m512i {
        // SAFETY: different names for 512 bits.
        unsafe { transmute(pairs) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::instruction_sets::values;
    use super::super::panels::{LineShape, Lines, Multiply, PanelLayout, length, row_pixels};
    use super::super::product::{Into, Matrix};
    use super::*;

    /// Those of this processor.
    #[cfg(target_arch = "x86_64")]
    fn units() -> Vec<Unit> {
        let vectors = x86::has_avx512_bf16();
        let units = [
            (vectors, Unit::Avx512),
            (vectors && x86::has_amx(), Unit::Amx),
        ];
        let here = units.into_iter().filter(|(here, _)| *here);
        here.map(|(_, unit)| unit).collect()
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn units() -> Vec<Unit> {
        Vec::new()
    }

    /// To the nearest with 8 bits, to the even one of two.
    fn rounded(x: f32) -> f32 {
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    }

    proptest! {
        #[test]
        fn products_are_those_of_rounded_operands(
            rows in 1usize..80,
            channels in 1usize..150,
            [lines, width, gap] in prop::array::uniform3(1usize..40),
            with_bias in any::<bool>(),
            add in any::<bool>(),
        ) {
            let spread = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|x| x * 1.2345).collect() };
            let weights = spread(values(rows * channels, 5));
            let count = lines * row_pixels(width);
            let pixels = spread(values(length(channels, count), 3));
            let layout = PanelLayout::panels(channels);
            let bias = values(rows, 11);
            let bias = with_bias.then_some(&*bias);
            let (pitch, into) = (width + gap, if add { Into::Add } else { Into::Set });
            let stride = lines * pitch;
            let before = values(rows * stride, 7);
            for unit in units() {
                let mut found = before.clone();
                let shape = LineShape { stride, pitch, width };
                multiply(unit, &Multiply {
                    into,
                    weights: Matrix::new(&weights, rows, channels, channels),
                    bias,
                    pixels: &pixels,
                    source: layout,
                    count,
                    target: Lines::new(&mut found, shape),
                });
                for (index, (found, before)) in found.iter().zip(&before).enumerate() {
                    let (row, line, column) = (index / stride, index % stride / pitch, index % pitch);
                    if column >= width {
                        prop_assert_eq!(found, before);
                        continue;
                    }
                    let mut expected = bias.map_or(0.0, |bias| bias[row]) + if add { *before } else { 0.0 };
                    for channel in 0..channels {
                        let pixel = pixels[layout.offset(channel, line * row_pixels(width) + column)];
                        expected += rounded(weights[row * channels + channel]) * rounded(pixel);
                    }
                    let close = (found - expected).abs() < 1e-5 * (channels as f32 + 10.0);
                    prop_assert!(close, "{unit:?}: {found} at {index}, expected {expected}");
                }
            }
        }
    }
}
