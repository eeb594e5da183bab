//! Parts of a photograph, cut out and mixed in again, and a photograph made smaller.

use std::ops::Range;

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use rayon::prelude::*;

use super::{Carried, Depth, Format, Photograph};

impl Photograph {
    /// The pixels in these rows and columns, which must lie within; without alpha and metadata.
    pub(crate) fn cut(&self, rows: Range<usize>, columns: Range<usize>) -> Photograph {
        let width = self.width();
        let mut rgb = Vec::with_capacity(3 * rows.len() * columns.len());
        for plane in self.rgb.chunks_exact(self.pixels()) {
            for row in rows.clone() {
                rgb.extend_from_slice(&plane[row * width..][columns.clone()]);
            }
        }
        Photograph {
            width: columns.len() as u32,
            height: rows.len() as u32,
            rgb,
            alpha: None,
            hidden: None,
            carried: Carried::new(Format::Png),
            ..*self
        }
    }

    /// This photograph, mixed in linear light with `part`, whose upper left pixel belongs at row `top`, column `left`.
    ///
    /// `share` of a row and column of this photograph is that of `part` there; outside of `rows` and `columns`, which must lie
    /// within both, it is 0. A share of 0 leaves a value exactly as it is, and 1 gives exactly that of `part`.
    pub(crate) fn mixed(
        &self,
        part: &Photograph,
        [top, left]: [usize; 2],
        (rows, columns): (Range<usize>, Range<usize>),
        share: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Photograph {
        let mut mixed = self.clone();
        let transfer = self.carried.colour.transfer();
        let (width, pixels) = (self.width(), self.pixels());
        let others = part.rgb.chunks_exact(part.pixels());
        for (plane, other) in mixed.rgb.chunks_exact_mut(pixels).zip(others) {
            let lines = plane.par_chunks_exact_mut(width).enumerate();
            lines
                .filter(|(row, _)| rows.contains(row))
                .for_each(|(row, line)| {
                    let other = &other[(row - top) * part.width()..][..part.width()];
                    for column in columns.clone() {
                        let value = &mut line[column];
                        *value = transfer.mix(*value, other[column - left], share(row, column));
                    }
                });
        }
        mixed
    }

    /// This photograph reduced to no more than `most` pixels, averaged in linear light, with its alpha, bits and colours and
    /// without metadata; `None` if it has no more than these.
    pub(crate) fn reduced(&self, most: usize) -> Option<Photograph> {
        let pixels = self.pixels();
        if pixels <= most {
            return None;
        }
        let scale = (most as f64 / pixels as f64).sqrt();
        let [width, height] =
            [self.width, self.height].map(|side| ((f64::from(side) * scale) as u32).max(1));
        // Of a line, one side was less than a pixel.
        let width = width.min((most as u32 / height).max(1));
        let height = height.min((most as u32 / width).max(1));
        let (from, to) = ([self.width, self.height], [width, height]);
        let transfer = self.carried.colour.transfer();
        let planes = self.rgb.chunks_exact(pixels).flat_map(|plane| {
            let light: Vec<f32> = plane
                .par_iter()
                .map(|&value| transfer.light(value))
                .collect();
            let mut smaller = resized(light, from, to);
            for value in &mut smaller {
                *value = transfer.value(*value);
            }
            smaller
        });
        let rgb = planes.collect();
        let most = f32::from(self.depth.max());
        let alpha = self.alpha.as_ref().map(|alpha| {
            let shares = alpha.iter().map(|&alpha| f32::from(alpha) / most);
            let smaller = resized(shares.collect(), from, to);
            let depth: Depth = self.depth;
            smaller.into_iter().map(|a| depth.quantize(a)).collect()
        });
        Some(Photograph {
            width,
            height,
            rgb,
            alpha,
            hidden: None,
            carried: Carried {
                colour: self.carried.colour.clone(),
                ..Carried::new(Format::Png)
            },
            ..*self
        })
    }
}

/// A plane of values in [0, 1] of `from` pixels across and down, averaged to `to`, of which no side is 0.
pub(crate) fn resized(values: Vec<f32>, from: [u32; 2], to: [u32; 2]) -> Vec<f32> {
    let [width, height] = from;
    match ImageBuffer::<Luma<f32>, _>::from_raw(width, height, values) {
        Some(plane) => resize(&plane, to[0], to[1], FilterType::Triangle).into_raw(),
        None => Vec::new(), // as many values as pixels are given
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn picture(width: u32, height: u32) -> Photograph {
        let pixel = |x: u32, y: u32| Rgb([(x * 13) as u8, (y * 17) as u8, (x * y) as u8]);
        Photograph::from_rgb8(&RgbImage::from_fn(width, height, pixel))
    }

    #[test]
    fn a_part_comes_back_to_its_place() {
        let whole = picture(11, 9);
        let part = whole.cut(2..7, 3..10);
        assert_eq!((part.width(), part.height()), (7, 5));
        assert_eq!(whole.mixed(&part, [2, 3], (2..7, 3..10), |_, _| 1.0), whole);

        let white = part.with_rgb(vec![1.0; 3 * 35]).unwrap();
        let place = (3..6, 4..8);
        let mixed = whole.mixed(&white, [2, 3], place.clone(), |_, x| {
            if x == 5 { 0.0 } else { 1.0 }
        });
        let (before, after) = (whole.to_rgb8(), mixed.to_rgb8());
        for (x, y, pixel) in after.enumerate_pixels() {
            let (column, row) = (x as usize, y as usize);
            let inside = place.0.contains(&row) && place.1.contains(&column) && x != 5;
            let expected = if inside {
                Rgb([255; 3])
            } else {
                *before.get_pixel(x, y)
            };
            assert_eq!(*pixel, expected, "{x}, {y}");
        }
    }

    #[test]
    fn half_is_half_the_light() {
        let black = Photograph::from_gray(1, 1, vec![0.0]).unwrap();
        let white = black.with_rgb(vec![1.0; 3]).unwrap();
        let half = black.mixed(&white, [0, 0], (0..1, 0..1), |_, _| 0.5);
        assert_eq!(half.to_rgb8().into_raw(), [188; 3]); // not 128
    }

    #[test]
    fn reducing_averages_light() {
        let board = RgbImage::from_fn(64, 32, |x, y| Rgb([((x + y) % 2 * 255) as u8; 3]));
        let mut board = Photograph::from_rgb8(&board);
        board.alpha = Some(
            (0..64 * 32)
                .map(|at| if at % 64 < 32 { 0 } else { 255 })
                .collect(),
        );
        assert_eq!(board.reduced(64 * 32), None);
        let small = board.reduced(8 * 4).unwrap();
        assert_eq!((small.width(), small.height()), (8, 4));
        for value in small.to_rgb8().into_raw() {
            assert!(value.abs_diff(188) <= 1, "{value}");
        }
        let alpha = small.alpha().unwrap();
        assert_eq!((alpha[0], alpha[7]), (0, 255));
        let line = picture(400, 1).reduced(100).unwrap();
        assert_eq!((line.width(), line.height()), (100, 1));
    }
}
