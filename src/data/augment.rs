//! The eight flips and rotations of training patches.

/// One of the eight symmetries of the square: `turns` quarter turns anticlockwise, then upside down for odd modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation(u8);

impl Augmentation {
    /// How many there are.
    pub const COUNT: usize = 8;
    /// The image as it is.
    pub const IDENTITY: Self = Self(0);

    /// The symmetry with this number, taken modulo [`COUNT`](Self::COUNT).
    pub fn new(mode: usize) -> Self {
        Self((mode % Self::COUNT) as u8)
    }

    fn turns(self) -> u8 {
        self.0 / 2
    }

    fn flips(self) -> bool {
        self.0 % 2 == 1
    }

    /// Height and width of the result for an image of this height and width.
    pub fn size(self, height: usize, width: usize) -> (usize, usize) {
        if self.turns() % 2 == 1 { (width, height) } else { (height, width) }
    }

    /// Row and column in the original, `height` by `width`, of the result's pixel at row `y`, column `x`.
    #[inline]
    pub fn source(self, y: usize, x: usize, height: usize, width: usize) -> (usize, usize) {
        let y = if self.flips() { self.size(height, width).0 - 1 - y } else { y };
        match self.turns() {
            0 => (y, x),
            1 => (x, width - 1 - y),
            2 => (height - 1 - y, width - 1 - x),
            _ => (height - 1 - x, y),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Published {
        input: Vec<Vec<u32>>,
        modes: Vec<Vec<Vec<u32>>>,
    }

    fn apply(mode: usize, input: &[Vec<u32>]) -> Vec<Vec<u32>> {
        let (height, width) = (input.len(), input[0].len());
        let augmentation = Augmentation::new(mode);
        let (rows, columns) = augmentation.size(height, width);
        let pixel = |y, x| {
            let (y, x) = augmentation.source(y, x, height, width);
            input[y][x]
        };
        (0..rows).map(|y| (0..columns).map(|x| pixel(y, x)).collect()).collect()
    }

    #[test]
    fn every_mode_is_the_published_one() {
        let text = include_str!("../../tests/fixtures/augmentations.json");
        let published: Published = serde_json::from_str(text).unwrap();
        assert_eq!(published.modes.len(), Augmentation::COUNT);
        for (mode, expected) in published.modes.iter().enumerate() {
            assert_eq!(&apply(mode, &published.input), expected, "mode {mode}");
        }
    }
}
