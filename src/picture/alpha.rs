//! Colours under transparency: what nobody sees must not reach what is seen.
//!
//! A convolution mixes neighbours, and what is stored under an alpha of 0 is anything: white, black, an older picture. Before
//! the model sees the photograph, these pixels take a smooth continuation of the visible ones around them. The stored
//! colours are set aside and written as they came.

/// What hidden pixels get from the visible ones: each resolution's mean of what is visible, down to where all is known.
///
/// `planes` is `[3, height, width]`, `visible` `[height, width]`. Where nothing is visible, nothing changes.
pub(super) fn fill_hidden(planes: &mut [f32], visible: &[bool], width: usize) {
    if width == 0 || !visible.contains(&true) {
        return;
    }
    for plane in planes.chunks_exact_mut(visible.len()) {
        let weights = visible.iter().map(|&seen| f32::from(u8::from(seen)));
        let mut level = Level {
            width,
            values: plane.to_vec(),
            weights: weights.collect(),
        };
        level.fill();
        for ((value, &seen), filled) in plane.iter_mut().zip(visible).zip(level.values) {
            if !seen {
                *value = filled;
            }
        }
    }
}

/// A plane at one resolution, with how far each value is known, from 0 to 1.
struct Level {
    width: usize,
    values: Vec<f32>,
    weights: Vec<f32>,
}

impl Level {
    fn height(&self) -> usize {
        self.values.len() / self.width
    }

    /// Gives every value that is not wholly known the part that is missing from the next coarser resolution.
    fn fill(&mut self) {
        let known = self.weights.iter().all(|&weight| weight >= 1.0);
        if known || (self.width == 1 && self.height() == 1) {
            return;
        }
        let mut coarse = self.halved();
        coarse.fill();
        let width = self.width;
        for (at, (value, weight)) in self.values.iter_mut().zip(&mut self.weights).enumerate() {
            if *weight < 1.0 {
                let beneath = coarse.between(at % width, at / width);
                *value = *weight * *value + (1.0 - *weight) * beneath;
                *weight = 1.0;
            }
        }
    }

    /// At half the resolution: means by weight, of 2×2 values or what there is of them.
    fn halved(&self) -> Level {
        let (width, height) = (self.width.div_ceil(2), self.height().div_ceil(2));
        let (mut values, mut weights) = (Vec::new(), Vec::new());
        for y in 0..height {
            for x in 0..width {
                let (mut sum, mut weight) = (0.0, 0.0);
                for row in (2 * y)..(2 * y + 2).min(self.height()) {
                    for column in (2 * x)..(2 * x + 2).min(self.width) {
                        let at = row * self.width + column;
                        sum += self.weights[at] * self.values[at];
                        weight += self.weights[at];
                    }
                }
                values.push(if weight > 0.0 { sum / weight } else { 0.0 });
                // One known value of four makes the coarse one known, so that it goes no further than it must.
                weights.push(f32::min(weight, 1.0));
            }
        }
        Level {
            width,
            values,
            weights,
        }
    }

    /// The value at a place of the next finer resolution, linear between the four centres around it.
    fn between(&self, x: usize, y: usize) -> f32 {
        let (x0, x1) = neighbours(x, self.width);
        let (y0, y1) = neighbours(y, self.height());
        let row = |y: usize| {
            let row = &self.values[y * self.width..][..self.width];
            0.75 * row[x0] + 0.25 * row[x1]
        };
        0.75 * row(y0) + 0.25 * row(y1)
    }
}

/// The coarse value that holds the fine one at `at`, and the one on its other side.
fn neighbours(at: usize, length: usize) -> (usize, usize) {
    let near = at / 2;
    let far = match at % 2 {
        0 => near.saturating_sub(1),
        _ => (near + 1).min(length - 1),
    };
    (near, far)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plane three times.
    fn filled(plane: &[f32], visible: &[bool], width: usize) -> Vec<f32> {
        let mut planes = plane.repeat(3);
        fill_hidden(&mut planes, visible, width);
        let (first, rest) = planes.split_at(plane.len());
        assert!(rest.chunks_exact(plane.len()).all(|plane| plane == first));
        first.to_vec()
    }

    #[test]
    fn visible_values_stay_and_hidden_ones_are_between_their_neighbours() {
        let (width, height) = (13, 9);
        let value = |at: usize| 0.3 + 0.02 * (at % width) as f32;
        let visible: Vec<bool> = (0..width * height).map(|at| at % width < 6).collect();
        let plane: Vec<f32> = (0..width * height)
            .map(|at| if visible[at] { value(at) } else { 99.0 })
            .collect();
        let filled = filled(&plane, &visible, width);
        for (at, &found) in filled.iter().enumerate() {
            if visible[at] {
                assert_eq!(found, value(at));
            } else {
                assert!((0.3..=0.401).contains(&found), "{at}: {found}");
            }
        }
        // At the rim nearly the last visible value, 0.4.
        assert!((filled[6] - 0.4).abs() < 0.02, "{}", filled[6]);
    }

    #[test]
    fn one_visible_pixel_fills_all_and_none_leaves_all() {
        let mut visible = vec![false; 35];
        let mut plane = vec![5.0; 35];
        assert_eq!(filled(&plane, &visible, 7), plane);
        (visible[17], plane[17]) = (true, 0.25);
        assert_eq!(filled(&plane, &visible, 7), [0.25; 35]);
        assert_eq!(filled(&[0.5], &[true], 1), [0.5]);
        assert_eq!(filled(&[0.5, 9.0], &[true, false], 1), [0.5, 0.5]);
    }
}
