//! Products that sum over pixels: every row of one matrix times every row of another, as in `q kᵀ` and in the gradients of
//! weights.
//!
//! Rows of pixels are what both matrices have in memory, so that a vector of one times a vector of the other needs no
//! rearranging: a few rows by a few rows are summed up in registers, [`LANES`](super::LANES) partial sums each, over so many
//! pixels that the one's stay in the nearest cache and the other's in the next.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::isa::dispatch;
use super::panels::Addressing;
use super::product::Into;

/// Rows of pixels in a slice, which begin at [`Addressing::channel`].
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, S> {
    pub data: &'a [f32],
    pub source: S,
    pub count: usize,
}

impl<S: Addressing> Rows<'_, S> {
    fn check(&self, pixels: usize) {
        let last = (0..self.count).map(|row| self.source.channel(row)).max();
        assert!(last.is_none_or(|last| last + pixels <= self.data.len()));
    }
}

/// Rows of the left matrix at once, and the most of the right one: with both, 24 sums of AVX-512's or NEON's 32 registers;
/// half of the latter's with AVX's 16.
const LEFT: usize = 4;
const RIGHT: usize = 6;

/// Pixels that are summed up before the next rows: four rows of so many stay in the nearest cache.
const PIXELS: usize = 2048;

/// `output = left · rightᵀ`, or added to it: sums over `pixels`, on this thread; output's rows lie `stride` apart.
///
/// # Panics
/// If a row of pixels or of the output is outside its slice.
pub(super) fn inner_products<L: Addressing, R: Addressing>(
    into: Into,
    left: Rows<'_, L>,
    right: Rows<'_, R>,
    pixels: usize,
    output: &mut [f32],
    stride: usize,
) {
    if let Some(products) = InnerProducts::new(into, left, right, pixels, output, stride) {
        dispatch(products);
    }
}

/// As [`inner_products`], on all threads. (They take rows of the output, so that each element is the same sum for any
/// number.)
pub(super) fn wide_inner_products<L: Addressing + Sync, R: Addressing + Sync>(
    into: Into,
    left: Rows<'_, L>,
    right: Rows<'_, R>,
    pixels: usize,
    output: &mut [f32],
    stride: usize,
) {
    let Some(products) = InnerProducts::new(into, left, right, pixels, output, stride) else {
        return;
    };
    let part = left.count.div_ceil(rayon::current_num_threads());
    let part = part.next_multiple_of(LEFT);
    let firsts = (0..left.count).into_par_iter().step_by(part);
    let outputs = products.output.par_chunks_mut(part * stride);
    firsts.zip(outputs).for_each(|(first, output)| {
        dispatch(InnerProducts {
            rows: first..left.count.min(first + part),
            output,
            ..products
        });
    });
}

struct InnerProducts<'a, L, R> {
    into: Into,
    left: Rows<'a, L>,
    right: Rows<'a, R>,
    /// Of the left matrix.
    rows: std::ops::Range<usize>,
    pixels: usize,
    /// Begins with the first of the rows.
    output: &'a mut [f32],
    stride: usize,
}

impl<L: Addressing, R: Addressing> SimdOp for InnerProducts<'_, L, R> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let lanes = isa.f32().len();
        // As equal steps as can be, of whole vectors but for the last.
        let step = self.pixels.div_ceil(self.pixels.div_ceil(PIXELS));
        let step = step.next_multiple_of(lanes);
        for start in (0..self.pixels).step_by(step) {
            let pixels = start..self.pixels.min(start + step);
            for row in self.rows.clone().step_by(LEFT) {
                match lanes {
                    8 => self.row::<I, 3>(isa, row, pixels.clone()),
                    _ => self.row::<I, RIGHT>(isa, row, pixels.clone()),
                }
            }
        }
    }
}

impl<'a, L: Addressing, R: Addressing> InnerProducts<'a, L, R> {
    /// All of them, if there are any.
    fn new(
        into: Into,
        left: Rows<'a, L>,
        right: Rows<'a, R>,
        pixels: usize,
        output: &'a mut [f32],
        stride: usize,
    ) -> Option<Self> {
        if left.count == 0 || right.count == 0 || pixels == 0 {
            return None;
        }
        left.check(pixels);
        right.check(pixels);
        assert!(stride >= right.count || left.count == 1);
        Some(Self {
            into,
            left,
            right,
            rows: 0..left.count,
            pixels,
            output: &mut output[..(left.count - 1) * stride + right.count],
            stride,
        })
    }

    /// A few rows of the left matrix by all of the right one, at most `N` at once.
    #[inline(always)]
    fn row<I: Isa, const N: usize>(&mut self, isa: I, row: usize, pixels: std::ops::Range<usize>) {
        let mut column = 0;
        while column + N <= self.right.count {
            self.block::<I, N>(isa, row, column, pixels.clone());
            column += N;
        }
        match self.right.count - column {
            5 => self.block::<I, 5>(isa, row, column, pixels),
            4 => self.block::<I, 4>(isa, row, column, pixels),
            3 => self.block::<I, 3>(isa, row, column, pixels),
            2 => self.block::<I, 2>(isa, row, column, pixels),
            1 => self.block::<I, 1>(isa, row, column, pixels),
            _ => {}
        }
    }

    /// [`LEFT`] rows by `N`. (Where there are fewer, the last is taken several times.)
    #[inline(always)]
    fn block<I: Isa, const N: usize>(
        &mut self,
        isa: I,
        row: usize,
        column: usize,
        pixels: std::ops::Range<usize>,
    ) {
        let ops = isa.f32();
        let lanes = ops.len();
        let last = self.rows.end - 1;
        let mut left = [std::ptr::null(); LEFT];
        for (i, pointer) in left.iter_mut().enumerate() {
            let start = self.left.source.channel(last.min(row + i));
            *pointer = self.left.data[start + pixels.start..][..pixels.len()].as_ptr();
        }
        let mut right = [std::ptr::null(); N];
        for (j, pointer) in right.iter_mut().enumerate() {
            let start = self.right.source.channel(column + j);
            *pointer = self.right.data[start + pixels.start..][..pixels.len()].as_ptr();
        }
        let mut sums = [[ops.zero(); N]; LEFT];
        let whole = pixels.len() / lanes * lanes;
        for pixel in (0..whole).step_by(lanes) {
            let mut x = [ops.zero(); LEFT];
            for (x, left) in x.iter_mut().zip(left) {
                // SAFETY: the slices whose beginnings these are have so many pixels.
                *x = unsafe { ops.load_ptr(left.add(pixel)) };
            }
            for (j, right) in right.iter().enumerate() {
                // SAFETY: likewise.
                let y = unsafe { ops.load_ptr(right.add(pixel)) };
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[j] = ops.mul_add(x, y, sums[j]);
                }
            }
        }
        if whole < pixels.len() {
            let mask = ops.first_n_mask(pixels.len() - whole);
            let mut x = [ops.zero(); LEFT];
            for (x, left) in x.iter_mut().zip(left) {
                // SAFETY: likewise; the mask leaves out what is behind the pixels.
                *x = unsafe { ops.load_ptr_mask(left.add(whole), mask) };
            }
            for (j, right) in right.iter().enumerate() {
                // SAFETY: likewise.
                let y = unsafe { ops.load_ptr_mask(right.add(whole), mask) };
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[j] = ops.mul_add(x, y, sums[j]);
                }
            }
        }
        let add = self.into == Into::Add || pixels.start > 0;
        for (i, sums) in sums.into_iter().enumerate() {
            if row + i > last {
                break;
            }
            let start = (row + i - self.rows.start) * self.stride + column;
            for (output, sum) in self.output[start..][..N].iter_mut().zip(sums) {
                let sum = ops.sum(sum);
                *output = if add { *output + sum } else { sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::instruction_sets::{on_each_set, on_set, values};
    use super::super::panels::{Offsets, PanelLayout};
    use super::super::product::{Matrix, product};
    use super::*;

    proptest! {
        #[test]
        fn inner_products_equal_a_general_matrix_products(
            [rows, columns] in prop::array::uniform2(1usize..20),
            pixels in prop_oneof![1usize..70, 2000usize..4200],
            [gap, output_gap] in prop::array::uniform2(0usize..5),
            add in any::<bool>(),
            threads in 0usize..4,
        ) {
            let left = values(rows * (pixels + gap), 5);
            let right = values(columns * (pixels + gap), 3);
            let stride = columns + output_gap;
            let mut found = values(rows * stride, 7);
            let mut expected = found.clone();
            let into = if add { Into::Add } else { Into::Set };
            let source = PanelLayout::planes(pixels + gap);
            let [l, r] = [(&left, rows), (&right, columns)].map(|(data, count)| Rows { data, source, count });
            match threads {
                0 => inner_products(into, l, r, pixels, &mut found, stride),
                _ => {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let wide = || wide_inner_products(into, l, r, pixels, &mut found, stride);
                    pool.unwrap().install(wide);
                }
            }
            let [left, right] = [(&left, rows), (&right, columns)]
                .map(|(data, rows)| Matrix::new(data, rows, pixels, pixels + gap));
            product(into, left, right.transposed(), &mut expected, stride);
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                let close = (found - expected).abs() < 1e-5 * (pixels as f32 + 10.0);
                prop_assert!(close, "{found} at {index}, expected {expected}");
            }
        }
    }

    #[test]
    fn every_instruction_set_sums_alike() {
        for (rows, columns, pixels) in [(4, 6, 32), (5, 13, 37), (1, 3, 5), (9, 2, 4100)] {
            let (left, right) = (values(rows * pixels, 5), values(pixels + columns, 3));
            let offsets: Vec<usize> = (0..columns).collect();
            let results = on_each_set!(values(rows * columns, 7), |output| InnerProducts {
                into: Into::Add,
                left: Rows {
                    data: &left,
                    source: PanelLayout::planes(pixels),
                    count: rows,
                },
                right: Rows {
                    data: &right,
                    source: Offsets(&offsets),
                    count: columns,
                },
                rows: 0..rows,
                pixels,
                output,
                stride: columns,
            });
            let [portable, others @ ..] = &results[..] else {
                unreachable!()
            };
            for (found, expected) in others.iter().flatten().zip(portable.iter().cycle()) {
                // The sets have partial sums of different lengths.
                let close = (found - expected).abs() < 1e-6 * (pixels as f32 + 10.0);
                assert!(close, "{found}, expected {expected}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "is_none_or")]
    fn rows_beyond_their_slice_are_refused() {
        let rows = Rows {
            data: &[1.0; 15],
            source: PanelLayout::planes(8),
            count: 2,
        };
        inner_products(Into::Set, rows, rows, 8, &mut [0.0; 4], 2);
    }
}
