//! Small systems of normal equations.

/// What the diagonal of a matrix, scaled to ones, may at least shrink to while it is factored.
const LEAST_PIVOT: f64 = 1e-12;

/// A symmetric, positive definite matrix, factored: `matrix = scale · factor · factorᵀ · scale`.
pub(super) struct Cholesky<const N: usize> {
    /// Lower triangle.
    factor: [[f64; N]; N],
    /// Roots of the matrix's diagonal, so that the units of the unknowns do not matter.
    scale: [f64; N],
}

impl<const N: usize> Cholesky<N> {
    /// None if the matrix is singular, as far as double precision can tell.
    pub fn new(matrix: &[[f64; N]; N]) -> Option<Self> {
        let scale: [f64; N] = std::array::from_fn(|i| matrix[i][i].sqrt());
        let mut factor = [[0.0; N]; N];
        for i in 0..N {
            for k in 0..=i {
                let known: f64 = (0..k).map(|j| factor[i][j] * factor[k][j]).sum();
                let rest = matrix[i][k] / (scale[i] * scale[k]) - known;
                factor[i][k] = if k < i {
                    rest / factor[k][k]
                } else if rest > LEAST_PIVOT {
                    rest.sqrt()
                } else {
                    return None;
                };
            }
        }
        Some(Self { factor, scale })
    }

    /// The `x` with `matrix · x = right`.
    pub fn solve(&self, right: &[f64; N]) -> [f64; N] {
        let mut x: [f64; N] = std::array::from_fn(|i| right[i] / self.scale[i]);
        for i in 0..N {
            let known: f64 = (0..i).map(|j| self.factor[i][j] * x[j]).sum();
            x[i] = (x[i] - known) / self.factor[i][i];
        }
        for i in (0..N).rev() {
            let known: f64 = (i + 1..N).map(|j| self.factor[j][i] * x[j]).sum();
            x[i] = (x[i] - known) / self.factor[i][i];
        }
        std::array::from_fn(|i| x[i] / self.scale[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknowns_of_any_unit_are_found() {
        // 1, t and t² at t = 1000 … 1099, whose products span twelve orders of magnitude.
        let mut matrix = [[0.0; 3]; 3];
        for t in 1000..1100 {
            let row = [1.0, f64::from(t), f64::from(t * t)];
            for (sums, a) in matrix.iter_mut().zip(row) {
                sums.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b);
            }
        }
        let expected = [3.0, -0.02, 1e-5];
        let right = matrix.map(|row| row.iter().zip(expected).map(|(a, x)| a * x).sum());
        let found = Cholesky::new(&matrix)
            .expect("a regular matrix")
            .solve(&right);
        for (found, expected) in found.into_iter().zip(expected) {
            let error = (found / expected - 1.0).abs();
            assert!(error < 1e-3, "{found}, expected {expected}");
        }
    }

    #[test]
    fn a_singular_matrix_has_no_factor() {
        assert!(Cholesky::new(&[[1.0, 2.0], [2.0, 4.0]]).is_none());
        assert!(Cholesky::new(&[[0.0, 0.0], [0.0, 1.0]]).is_none());
        assert!(Cholesky::new(&[[f64::NAN, 0.0], [0.0, 1.0]]).is_none());
    }
}
