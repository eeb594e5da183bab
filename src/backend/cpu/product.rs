//! Matrix products on slices, by the `gemm` crate: on one thread, where threads take tiles of the image, or on all.

use gemm::{Parallelism, gemm};

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
