//! Matrix products on slices, by the `gemm` crate: on one thread, where threads take tiles of the image, or on all.
//!
//! That crate picks the best instruction set itself and has no way to be told another. Where the kernels are held to one, its
//! parts are put together here as it does it: the same packing and the same inner loops.

use std::ops::Range;
use std::time::Instant;

use gemm::{Parallelism, gemm};
use gemm_common::gemm::gemm_basic_generic;

use super::isa::{self, InstructionSet};

/// A matrix in a slice: element (row, column) lies at `row · row_stride + column · column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` elements, `row_stride` apart.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self::with_strides(data, [rows, columns], [row_stride, 1])
    }

    /// With both strides given.
    pub fn with_strides(
        data: &'a [f32],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Self {
        assert!(fits(
            data.len(),
            [rows, columns],
            [row_stride, column_stride]
        ));
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride,
        }
    }

    /// A row of a matrix whose columns lie side by side.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.rows && self.column_stride == 1);
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// Some of the rows.
    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(range.start < range.end && range.end <= self.rows);
        Self {
            data: &self.data[range.start * self.row_stride..],
            rows: range.len(),
            ..self
        }
    }

    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// From a row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Whether every element lies inside a slice of `length`.
fn fits(length: usize, [rows, columns]: [usize; 2], strides: [usize; 2]) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * strides[0] + (columns - 1) * strides[1] < length
}

/// What becomes of the elements that were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// They are replaced.
    Set,
    /// The product is added to them.
    Add,
}

/// `output = lhs · rhs`, or added to it, on this thread; output's rows lie `output_stride` apart.
pub(super) fn product(
    into: Into,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    output: &mut [f32],
    output_stride: usize,
) {
    multiply(into, lhs, rhs, output, output_stride, Parallelism::None);
}

/// As [`product`], on all threads. (They share out the output's elements, so that each is the same sum for any number.)
pub(super) fn wide_product(
    into: Into,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    output: &mut [f32],
    output_stride: usize,
) {
    multiply(into, lhs, rhs, output, output_stride, Parallelism::Rayon(0));
}

/// FLOP/s of a product of two 2048×2048 matrices on all threads, the middle of five: what this crate's benchmarks measure
/// against.
pub fn sgemm_rate() -> f64 {
    const SIDE: usize = 2048;
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let [a, b] = [&a, &b].map(|data| Matrix::new(data, SIDE, SIDE, SIDE));
    let mut output = vec![0.0; SIDE * SIDE];
    let mut seconds: Vec<f64> = (0..6)
        .map(|_| {
            let start = Instant::now();
            wide_product(Into::Set, a, b, &mut output, SIDE);
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    seconds.sort_by(f64::total_cmp);
    2.0 * (SIDE as f64).powi(3) / seconds[2]
}

fn multiply(
    into: Into,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    output: &mut [f32],
    output_stride: usize,
    parallelism: Parallelism,
) {
    assert_eq!(lhs.columns, rhs.rows);
    assert!(output_stride >= rhs.columns || lhs.rows < 2);
    assert!(fits(
        output.len(),
        [lhs.rows, rhs.columns],
        [output_stride, 1]
    ));
    if lhs.rows == 0 || rhs.columns == 0 {
        return;
    }
    if let Some(set @ (InstructionSet::Generic | InstructionSet::Avx2)) = isa::held() {
        return held(set, into, lhs, rhs, output, output_stride, parallelism);
    }
    // SAFETY: every element of the three matrices lies inside its slice, as `fits` has checked here and where the
    // operands were made; the output is borrowed exclusively, and its elements are distinct since its rows do not overlap.
    unsafe {
        gemm(
            lhs.rows,
            rhs.columns,
            lhs.columns,
            output.as_mut_ptr(),
            1,
            output_stride as isize,
            into == Into::Add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// As [`gemm`] on a processor whose best set this is: it exchanges the operands, since it wants columns side by side.
fn held(
    set: InstructionSet,
    into: Into,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    output: &mut [f32],
    output_stride: usize,
    parallelism: Parallelism,
) {
    macro_rules! product {
        ($set:ident, $simd:expr, $lanes:literal) => {{
            use gemm_f32::microkernel::$set::f32::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
            let rows = lhs.rows;
            // SAFETY: as in `multiply`, which has made the same checks.
            unsafe {
                gemm_basic_generic::<
                    _,
                    f32,
                    $lanes,
                    { MR_DIV_N * $lanes },
                    { NR },
                    { MR_DIV_N },
                    { H_M },
                    { H_N },
                >(
                    $simd,
                    rhs.columns,
                    rows,
                    lhs.columns,
                    output.as_mut_ptr(),
                    output_stride as isize,
                    1,
                    into == Into::Add,
                    rhs.data.as_ptr(),
                    rhs.row_stride as isize,
                    rhs.column_stride as isize,
                    lhs.data.as_ptr(),
                    lhs.row_stride as isize,
                    lhs.column_stride as isize,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    |a, b, c| a * b + c,
                    &UKR,
                    &H_UKR,
                    false,
                    parallelism,
                )
            }
        }};
    }
    #[cfg(target_arch = "x86_64")]
    if set == InstructionSet::Avx2
        && let Some(avx2) = gemm_common::simd::V3::try_new()
    {
        return product!(fma, avx2, 8);
    }
    let _ = set;
    product!(scalar, gemm_common::simd::Scalar, 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads an element as the type's documentation says.
    fn at(matrix: &Matrix<'_>, row: usize, column: usize) -> f32 {
        matrix.data[row * matrix.row_stride + column * matrix.column_stride]
    }

    proptest! {
        #[test]
        fn products_equal_sums_of_products(
            [rows, inner, columns] in prop::array::uniform3(1usize..40),
            [lhs_gap, rhs_gap, output_gap] in prop::array::uniform3(0usize..5),
            transposed in any::<bool>(),
            add in any::<bool>(),
            wide in any::<bool>(),
        ) {
            let values = |length: usize, step: usize| -> Vec<f32> {
                (0..length).map(|i| (i * step % 17) as f32 / 8.0 - 1.0).collect()
            };
            let (lhs_stride, output_stride) = (inner + lhs_gap, columns + output_gap);
            let lhs = values(rows * lhs_stride, 5);
            let lhs = Matrix::new(&lhs, rows, inner, lhs_stride);
            let longest = inner.max(columns) * (inner.max(columns) + rhs_gap);
            let rhs = values(longest, 3);
            let rhs = match transposed {
                true => Matrix::new(&rhs, columns, inner, inner + rhs_gap).transposed(),
                false => Matrix::new(&rhs, inner, columns, columns + rhs_gap),
            };
            let before = values(rows * output_stride, 7);
            let mut output = before.clone();
            let into = if add { Into::Add } else { Into::Set };
            let multiply = if wide { wide_product } else { product };
            multiply(into, lhs, rhs, &mut output, output_stride);

            for (index, (found, before)) in output.iter().zip(&before).enumerate() {
                let (row, column) = (index / output_stride, index % output_stride);
                let expected = if column < columns {
                    let products = (0..inner).map(|k| at(&lhs, row, k) * at(&rhs, k, column));
                    products.sum::<f32>() + if add { *before } else { 0.0 }
                } else {
                    *before // Between the rows nothing is touched.
                };
                prop_assert!((found - expected).abs() < 1e-4, "{found} at {index}, expected {expected}");
            }
        }
    }

    #[test]
    fn products_of_each_set_are_alike() {
        let (rows, inner, columns) = (37, 300, 53);
        let numbers = |length: usize| -> Vec<f32> {
            (0..length)
                .map(|i| (i * 5 % 17) as f32 / 8.0 - 1.0)
                .collect()
        };
        let (left, right) = (numbers(rows * inner), numbers(inner * columns));
        let left = Matrix::new(&left, rows, inner, inner);
        for into in [Into::Set, Into::Add] {
            for right in [
                Matrix::new(&right, inner, columns, columns),
                Matrix::new(&right, columns, inner, inner).transposed(),
            ] {
                let mut expected = vec![0.5; rows * columns];
                product(into, left, right, &mut expected, columns);
                for set in [InstructionSet::Generic, InstructionSet::Avx2] {
                    let mut found = vec![0.5; rows * columns];
                    held(
                        set,
                        into,
                        left,
                        right,
                        &mut found,
                        columns,
                        Parallelism::None,
                    );
                    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let close = (found - expected).abs() < 1e-3;
                        assert!(close, "{set:?}: {found} at {index}, expected {expected}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "fits")]
    fn a_matrix_beyond_its_slice_is_refused() {
        Matrix::new(&[0.0; 11], 3, 4, 4);
    }

    #[test]
    #[should_panic(expected = "fits")]
    fn an_output_beyond_its_slice_is_refused() {
        let ones = [1.0; 4];
        let square = Matrix::new(&ones, 2, 2, 2);
        product(Into::Set, square, square, &mut [0.0; 3], 2);
    }
}
