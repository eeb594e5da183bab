//! The windows in which attention takes its statistics at test time (Chu et al., "Improving Image Restoration by Revisiting
//! Global Information Aggregation", ECCV 2022).
//!
//! As few windows as cover an axis, all of one length; the last one ends at the border. What lies between two borders of
//! windows, a cell, is covered by the same windows:
//!
//! ```text
//!   windows  ├───── 0 ─────┤
//!                     ├───── 1 ─────┤
//!                                ├───── 2 ─────┤
//!   cells    │   0    │ 01 │  1  │12│    2     │
//! ```

use std::ops::Range;

/// The windows along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Where each begins, in order.
    pub starts: Vec<usize>,
    /// Of each.
    pub length: usize,
}

/// Pixels that are covered by the same windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub pixels: Range<usize>,
    pub windows: Range<usize>,
}

impl Windows {
    /// Of `length` pixels on an axis of `size`, or a single one of the axis' length if that is less.
    pub fn new(size: usize, length: usize) -> Self {
        let length = length.clamp(1, size.max(1));
        let last = size - length.min(size);
        let count = size.div_ceil(length);
        let step = last.div_ceil(count.saturating_sub(1).max(1)).max(1);
        let starts = (0..last).step_by(step).chain([last]).collect();
        Self { starts, length }
    }

    /// The axis in pieces, in order.
    pub fn cells(&self) -> Vec<Cell> {
        let ends = self.starts.iter().map(|start| start + self.length);
        let mut borders: Vec<usize> = self.starts.iter().copied().chain(ends).collect();
        borders.sort_unstable();
        borders.dedup();
        let pieces = borders.windows(2).map(|pair| pair[0]..pair[1]);
        let cell = |pixels: Range<usize>| {
            let begun = self.starts.partition_point(|start| *start < pixels.end);
            let ended = self
                .starts
                .partition_point(|start| start + self.length <= pixels.start);
            Cell {
                pixels,
                windows: ended..begun,
            }
        };
        pieces.map(cell).collect()
    }

    /// The pixels of all windows, one window behind the other.
    pub fn pixels(&self) -> impl Iterator<Item = usize> {
        let pixels = |start: &usize| *start..start + self.length;
        self.starts.iter().flat_map(pixels)
    }

    /// How many windows cover each pixel of an axis of `size`.
    pub fn cover(&self, size: usize) -> Vec<usize> {
        let mut cover = vec![0; size];
        self.pixels().for_each(|pixel| cover[pixel] += 1);
        cover
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_few_as_cover_and_the_last_ends_at_the_border() {
        for (size, length, starts) in [
            (96, 32, vec![0, 32, 64]),
            (152, 48, vec![0, 35, 70, 104]),
            (136, 40, vec![0, 32, 64, 96]),
            (160, 18, vec![0, 18, 36, 54, 72, 90, 108, 126, 142]),
            (48, 96, vec![0]),
            (48, 48, vec![0]),
            (1, 9, vec![0]),
        ] {
            let windows = Windows::new(size, length);
            assert_eq!(windows.starts, starts, "{length} of {size}");
            assert_eq!(windows.length, length.min(size));
        }
    }

    proptest! {
        #[test]
        fn cells_are_the_axis_and_know_their_windows(size in 1usize..400, length in 1usize..500) {
            let windows = Windows::new(size, length);
            let cover = windows.cover(size);
            prop_assert!(cover.iter().all(|count| *count > 0));
            let mut next = 0;
            for cell in windows.cells() {
                prop_assert_eq!(cell.pixels.start, next);
                next = cell.pixels.end;
                for pixel in cell.pixels {
                    let around = windows.starts.iter().enumerate().filter(|(_, start)| {
                        (**start..**start + windows.length).contains(&pixel)
                    });
                    prop_assert!(around.map(|(index, _)| index).eq(cell.windows.clone()));
                    prop_assert_eq!(cover[pixel], cell.windows.len());
                }
            }
            prop_assert_eq!(next, size);
        }
    }
}
