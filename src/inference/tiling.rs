//! An image in overlapping tiles, for devices that cannot hold the activations of the whole.

use std::ops::Range;

use super::planes::Planes;
use crate::error::{Error, Result};
use crate::model::SIZE_MULTIPLE;

/// Square tiles and how far they overlap, in pixels.
///
/// Both are multiples of [`SIZE_MULTIPLE`], so that every tile lies on the grid on which the model shrinks the whole
/// image; only the last tile of a row or column ends where the image does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    size: usize,
    overlap: usize,
}

impl Tiling {
    /// Tiles of `size` pixels a side that share at least `overlap` with their neighbours, both rounded up to multiples of
    /// [`SIZE_MULTIPLE`].
    ///
    /// # Errors
    /// [`Error::Config`] if `size` is 0, or `overlap` (both rounded) is not less than `size`.
    pub fn new(size: usize, overlap: usize) -> Result<Self> {
        let invalid = |key: &str, reason: String| Error::Config {
            origin: "tiling".into(),
            key: key.into(),
            reason,
        };
        let rounded = |pixels: usize| pixels.checked_next_multiple_of(SIZE_MULTIPLE);
        let (Some(tile), Some(shared)) = (rounded(size), rounded(overlap)) else {
            return Err(invalid("size", format!("found {size}, too large")));
        };
        if size == 0 {
            return Err(invalid("size", "found 0, expected at least 1".into()));
        }
        if shared >= tile {
            let reason = format!(
                "found {overlap}, expected less than the tile's {tile} pixels once rounded up to a multiple of \
                 {SIZE_MULTIPLE}"
            );
            return Err(invalid("overlap", reason));
        }
        Ok(Self {
            size: tile,
            overlap: shared,
        })
    }

    /// Pixels a side.
    pub fn size(self) -> usize {
        self.size
    }

    /// Pixels that neighbours share at least.
    pub fn overlap(self) -> usize {
        self.overlap
    }

    /// Whether an image of this size is more than one tile.
    pub fn divides(self, height: usize, width: usize) -> bool {
        height.max(width) > self.size
    }

    /// What `restore` makes of each tile of `image`, blended into one.
    ///
    /// Where tiles overlap, the later one fades in over the earlier; what all of them agree on stays as it is, and an
    /// image of one tile is exactly what `restore` makes of it. Tiles come row by row.
    ///
    /// # Errors
    /// Those of `restore`; [`Error::Shape`] if it returns another size than it was given.
    pub fn map(
        self,
        image: &Planes,
        mut restore: impl FnMut(Planes) -> Result<Planes>,
    ) -> Result<Planes> {
        let mut whole = Planes::zeros(image.height(), image.width());
        let mut above = 0; // the row at which the band above ends
        for rows in self.spans(image.height()) {
            let mut band = Planes::zeros(rows.len(), image.width());
            let mut before = 0; // the column at which the tile to the left ends
            for columns in self.spans(image.width()) {
                let tile = restore(image.cut(rows.clone(), columns.clone()))?;
                check_size(&tile, rows.len(), columns.len())?;
                band.lay(
                    &tile,
                    [0, columns.start],
                    [0, before - columns.start.min(before)],
                );
                before = columns.end;
            }
            whole.lay(&band, [rows.start, 0], [above - rows.start.min(above), 0]);
            above = rows.end;
        }
        Ok(whole)
    }

    /// The tiles along a side of `length` pixels.
    fn spans(self, length: usize) -> impl Iterator<Item = Range<usize>> {
        let last = length
            .saturating_sub(self.size)
            .next_multiple_of(SIZE_MULTIPLE);
        (0..last)
            .step_by(self.size - self.overlap)
            .chain([last])
            .map(move |start| start..(start + self.size).min(length))
    }
}

fn check_size(tile: &Planes, height: usize, width: usize) -> Result<()> {
    if (tile.height(), tile.width()) == (height, width) {
        return Ok(());
    }
    Err(Error::Shape {
        what: "restored tile (height, width)".into(),
        found: vec![tile.height(), tile.width()],
        expected: format!("[{height}, {width}]"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture(height: usize, width: usize) -> Planes {
        let value = |n: usize| (n * 37 % 101) as f32 / 101.0;
        Planes::new((0..3 * height * width).map(value).collect(), height, width).unwrap()
    }

    /// A tile of any size and any overlap that fits it.
    fn tilings() -> impl Strategy<Value = Tiling> {
        (1usize..=9)
            .prop_flat_map(|tile| (Just(tile), 0..tile))
            .prop_map(|(tile, overlap)| Tiling::new(8 * tile, 8 * overlap).unwrap())
    }

    proptest! {
        #[test]
        fn tiles_cover_every_pixel_on_the_grid_and_overlap_as_asked(tiling in tilings(), length in 1usize..300) {
            let spans: Vec<_> = tiling.spans(length).collect();
            prop_assert_eq!(spans[0].start, 0);
            prop_assert_eq!(spans[spans.len() - 1].end, length);
            for span in &spans {
                prop_assert!(span.start % SIZE_MULTIPLE == 0 && span.len() <= tiling.size && !span.is_empty());
            }
            for pair in spans.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end);
                prop_assert!(pair[0].end - pair[1].start >= tiling.overlap);
            }
        }

        #[test]
        fn what_leaves_each_tile_alone_leaves_the_image_alone(
            tiling in tilings(), height in 1usize..130, width in 1usize..130
        ) {
            let image = picture(height, width);
            prop_assert_eq!(tiling.map(&image, Ok).unwrap(), image);
        }

        #[test]
        fn the_shares_of_the_tiles_sum_to_one(tiling in tilings(), height in 1usize..100, width in 1usize..100) {
            let image = picture(height, width);
            let mut tiles = 0;
            tiling.map(&image, |tile| { tiles += 1; Ok(tile) }).unwrap();
            let mut sum = vec![0.0; image.values().len()];
            for chosen in 0..tiles {
                let mut at = 0;
                let share = tiling.map(&image, |tile| {
                    let value = f32::from(at == chosen);
                    at += 1;
                    Planes::new(vec![value; tile.values().len()], tile.height(), tile.width())
                });
                for (sum, share) in sum.iter_mut().zip(share.unwrap().values()) {
                    prop_assert!((0.0..=1.0).contains(share));
                    *sum += share;
                }
            }
            for sum in sum {
                prop_assert!((sum - 1.0).abs() < 1e-5, "shares sum to {}", sum);
            }
        }
    }

    /// Each tile another gray: without a blend there would be steps of 1 at its borders.
    #[test]
    fn no_tile_has_a_visible_border() {
        let tiling = Tiling::new(64, 32).unwrap();
        let mut gray = 0.0;
        let blended = tiling.map(&picture(150, 170), |tile| {
            gray = 1.0 - gray;
            Planes::new(vec![gray; tile.values().len()], tile.height(), tile.width())
        });
        let blended = blended.unwrap();
        let rows: Vec<&[f32]> = blended.values()[..150 * 170].chunks(170).collect();
        let mut steepest = 0.0f32;
        for y in 0..149 {
            for x in 0..169 {
                steepest = steepest.max((rows[y][x + 1] - rows[y][x]).abs());
                steepest = steepest.max((rows[y + 1][x] - rows[y][x]).abs());
            }
        }
        assert!(
            steepest > 0.01 && steepest < 0.06,
            "steepest step {steepest}"
        );
    }

    #[test]
    fn one_tile_is_exactly_what_was_made_of_it() {
        let image = picture(23, 41);
        let restore = |tile: Planes| {
            let values = tile.values().iter().map(|v| v * 1.37 - 0.2).collect();
            Planes::new(values, tile.height(), tile.width())
        };
        let tiling = Tiling::new(48, 16).unwrap();
        assert!(!tiling.divides(23, 41) && tiling.divides(23, 49));
        assert_eq!(
            tiling.map(&image, restore).unwrap(),
            restore(image).unwrap()
        );
    }

    #[test]
    fn sizes_are_rounded_up_and_impossible_ones_refused() {
        let tiling = Tiling::new(100, 9).unwrap();
        assert_eq!((tiling.size(), tiling.overlap()), (104, 16));
        for (size, overlap, words) in [
            (0, 0, "`size`: found 0"),
            (
                64,
                64,
                "`overlap`: found 64, expected less than the tile's 64",
            ),
            (60, 59, "`overlap`: found 59"),
            (64, usize::MAX, "too large"),
            (usize::MAX, 0, "too large"),
        ] {
            let error = Tiling::new(size, overlap).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_tile_that_comes_back_in_another_size_is_an_error() {
        let tiling = Tiling::new(16, 0).unwrap();
        let error = tiling.map(&picture(20, 20), |_| Ok(Planes::zeros(3, 3)));
        assert!(matches!(error, Err(Error::Shape { .. })), "{error:?}");
    }
}
