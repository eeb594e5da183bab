//! Colour planes on the host: cut out, turned, and laid over each other.

use std::ops::Range;

use crate::data::augment::Augmentation;
use crate::error::{Error, Result};

const CHANNELS: usize = 3;

/// Red, green and blue values: `[3, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Planes {
    values: Vec<f32>,
    height: usize,
    width: usize,
}

impl Planes {
    /// Takes `values` in the order `[3, height, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of values.
    pub fn new(values: Vec<f32>, height: usize, width: usize) -> Result<Self> {
        if values.len() != CHANNELS * height * width {
            return Err(Error::Shape {
                what: "colour planes".into(),
                found: vec![values.len()],
                expected: format!("3 · {height} · {width} values"),
            });
        }
        Ok(Self {
            values,
            height,
            width,
        })
    }

    pub(super) fn zeros(height: usize, width: usize) -> Self {
        Self {
            values: vec![0.0; CHANNELS * height * width],
            height,
            width,
        }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Values a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[3, height, width]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `[3, height, width]`.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The part in these rows and columns, which must lie within.
    pub(super) fn cut(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let (height, width) = (rows.len(), columns.len());
        let mut values = Vec::with_capacity(CHANNELS * height * width);
        for plane in self.values.chunks_exact(self.height * self.width) {
            for row in rows.clone() {
                let row = &plane[row * self.width..][..self.width];
                values.extend_from_slice(&row[columns.clone()]);
            }
        }
        Self {
            values,
            height,
            width,
        }
    }

    /// Flipped and rotated by `symmetry`.
    pub(super) fn turned(self, symmetry: Augmentation) -> Self {
        if symmetry == Augmentation::IDENTITY {
            return self;
        }
        let (height, width) = symmetry.size(self.height, self.width);
        let mut turned = Self::zeros(height, width);
        each_place(symmetry, self.height, self.width, |place, source| {
            turned.values[place] = self.values[source];
        });
        turned
    }

    /// What [`turned`](Self::turned) made these from.
    pub(super) fn turned_back(self, symmetry: Augmentation) -> Self {
        if symmetry == Augmentation::IDENTITY {
            return self;
        }
        // A symmetry exchanges the sides or keeps them, and so does the way back.
        let (height, width) = symmetry.size(self.height, self.width);
        let mut original = Self::zeros(height, width);
        each_place(symmetry, height, width, |place, source| {
            original.values[source] = self.values[place];
        });
        original
    }

    /// Lays `part` over these planes, its upper left corner at row `top`, column `left`. Over its first `down` rows and
    /// `right` columns it fades in.
    pub(super) fn lay(
        &mut self,
        part: &Planes,
        [top, left]: [usize; 2],
        [down, right]: [usize; 2],
    ) {
        let shares: Vec<f32> = (0..part.width).map(|x| fade(x, right)).collect();
        for plane in 0..CHANNELS {
            for y in 0..part.height {
                let share = fade(y, down);
                let new = &part.values[(plane * part.height + y) * part.width..][..part.width];
                let old = (plane * self.height + top + y) * self.width + left;
                let old = &mut self.values[old..][..part.width];
                for ((old, &new), &across) in old.iter_mut().zip(new).zip(&shares) {
                    let share = share * across;
                    // Equal values stay what they are, and a full share is the new value, without rounding.
                    *old = if share < 1.0 {
                        *old + share * (new - *old)
                    } else {
                        new
                    };
                }
            }
        }
    }
}

/// Calls `visit` with the index of each value of planes that were turned, and its index before; `height` and `width` are
/// those before.
fn each_place(
    symmetry: Augmentation,
    height: usize,
    width: usize,
    mut visit: impl FnMut(usize, usize),
) {
    let (rows, columns) = symmetry.size(height, width);
    for plane in 0..CHANNELS {
        for y in 0..rows {
            for x in 0..columns {
                let (row, column) = symmetry.source(y, x, height, width);
                visit(
                    (plane * rows + y) * columns + x,
                    (plane * height + row) * width + column,
                );
            }
        }
    }
}

/// The share of what fades in over `length` pixels at its pixel `at`: a raised cosine, 1 from `length` on.
fn fade(at: usize, length: usize) -> f32 {
    if at >= length {
        return 1.0;
    }
    let way = (at as f32 + 0.5) / length as f32;
    0.5 - 0.5 * (std::f32::consts::PI * way).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(height: usize, width: usize) -> Planes {
        let values = (0..3 * height * width).map(|n| n as f32).collect();
        Planes::new(values, height, width).unwrap()
    }

    #[test]
    fn every_symmetry_is_undone() {
        let image = numbered(3, 5);
        let mut seen = Vec::new();
        for mode in 0..Augmentation::COUNT {
            let symmetry = Augmentation::new(mode);
            let turned = image.clone().turned(symmetry);
            let (height, width) = symmetry.size(3, 5);
            assert_eq!((turned.height, turned.width), (height, width));
            assert!(!seen.contains(&turned), "mode {mode} is another's");
            assert_eq!(turned.clone().turned_back(symmetry), image, "mode {mode}");
            seen.push(turned);
        }
    }

    #[test]
    fn cutting_takes_the_same_rows_and_columns_of_each_plane() {
        let part = numbered(3, 4).cut(1..3, 2..4);
        let expected = [6, 7, 10, 11, 18, 19, 22, 23, 30, 31, 34, 35];
        assert_eq!(part.into_values(), expected.map(|n| n as f32));
    }

    #[test]
    fn fading_in_and_what_it_covers_make_one() {
        for length in [1, 2, 7, 8, 64] {
            for at in 0..length {
                let (inward, outward) = (fade(at, length), fade(length - 1 - at, length));
                assert!((inward + outward - 1.0).abs() < 1e-6, "{at} of {length}");
                assert!(at == 0 || inward > fade(at - 1, length), "{at} of {length}");
            }
            assert_eq!(fade(length, length), 1.0);
        }
    }

    #[test]
    fn another_number_of_values_is_refused() {
        let error = Planes::new(vec![0.0; 11], 2, 2).unwrap_err().to_string();
        assert!(
            error.contains("[11]") && error.contains("3 · 2 · 2"),
            "{error}"
        );
    }
}
