//! Pieces of a photograph in linear light, shrunk and mirrored as is asked for.

use image::RgbImage;

use super::light::{Light, extend_with_light, to_image};
use crate::reflect::reflect;

/// A rectangle about a picture's pixels, which may reach beyond its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub left: i64,
    pub top: i64,
    pub width: usize,
    pub height: usize,
}

impl Rect {
    pub fn of_size([width, height]: [usize; 2]) -> Self {
        Self {
            left: 0,
            top: 0,
            width,
            height,
        }
    }

    pub fn grown(self, margin: usize) -> Self {
        Self {
            left: self.left - margin as i64,
            top: self.top - margin as i64,
            width: self.width + 2 * margin,
            height: self.height + 2 * margin,
        }
    }

    /// The least rectangle around this one that ends at multiples of `cell`, or at the borders of a picture of this
    /// size.
    pub fn on_grid(self, cell: usize, size: [usize; 2]) -> Self {
        let cell = cell as i64;
        let along = |start: i64, length: usize, side: usize| {
            let first = start.div_euclid(cell) * cell;
            let end = start + length as i64;
            let end = end + (-end).rem_euclid(cell);
            (first, (end.min(side as i64) - first) as usize)
        };
        let (left, width) = along(self.left, self.width, size[0]);
        let (top, height) = along(self.top, self.height, size[1]);
        Self {
            left,
            top,
            width,
            height,
        }
    }

    /// What two rectangles share; empty where that is nothing.
    pub fn common(self, other: Self) -> Self {
        let along = |start: i64, length: usize, other_start: i64, other_length: usize| {
            let first = start.max(other_start);
            let end = (start + length as i64).min(other_start + other_length as i64);
            (first, (end - first).max(0) as usize)
        };
        let (left, width) = along(self.left, self.width, other.left, other.width);
        let (top, height) = along(self.top, self.height, other.top, other.height);
        Self {
            left,
            top,
            width,
            height,
        }
    }

    /// The centres of the pixels in its corners.
    pub fn corners(self) -> [[f64; 2]; 4] {
        let [left, top] = [self.left as f64, self.top as f64];
        let right = left + self.width.saturating_sub(1) as f64;
        let bottom = top + self.height.saturating_sub(1) as f64;
        [[left, top], [right, top], [left, bottom], [right, bottom]]
    }
}

/// The light in a rectangle, row by row.
pub(super) struct Scene {
    pub rect: Rect,
    pub pixels: Vec<Light>,
}

impl Scene {
    /// The light of `photograph`, shrunk to `size`, in `rect`. Beyond the borders it is mirrored.
    pub fn new(photograph: &RgbImage, size: [usize; 2], rect: Rect) -> Self {
        let along = |start: i64, count: usize, length: usize| -> Vec<usize> {
            let places = start..start + count as i64;
            places.map(|place| reflect(place, length)).collect()
        };
        let columns = along(rect.left, rect.width, size[0]);
        let rows = along(rect.top, rect.height, size[1]);
        let span = |places: &[usize]| {
            let first = places.iter().copied().min().unwrap_or(0);
            let last = places.iter().copied().max().unwrap_or(0);
            (first, last + 1 - first)
        };
        let ((left, width), (top, height)) = (span(&columns), span(&rows));
        let inside = shrunk(photograph, size, [left, top, width, height]);
        if (width, height) == (rect.width, rect.height) && columns[0] == left && rows[0] == top {
            // Nothing is mirrored.
            return Self {
                rect,
                pixels: inside,
            };
        }
        let mut pixels = Vec::with_capacity(rect.width * rect.height);
        for row in rows {
            let row = &inside[(row - top) * width..][..width];
            pixels.extend(columns.iter().map(|&column| row[column - left]));
        }
        Self { rect, pixels }
    }

    /// The index of the first pixel of a rectangle within this one.
    pub fn index(&self, within: Rect) -> usize {
        let right = (within.left - self.rect.left) as usize;
        let down = (within.top - self.rect.top) as usize;
        down * self.rect.width + right
    }

    /// A rectangle within this one as an 8-bit picture.
    pub fn image(&self, within: Rect) -> RgbImage {
        let start = self.index(within);
        let rows =
            (0..within.height).map(|y| &self.pixels[start + y * self.rect.width..][..within.width]);
        to_image(rows, [within.width, within.height])
    }
}

/// The light of `photograph`, shrunk to `size`, in `[left, top, width, height]` of it.
///
/// Shrinking is done in linear light, as by a coarser sensor, by Catmull and Rom's filter as wide as the shrunk pixels.
fn shrunk(photograph: &RgbImage, size: [usize; 2], within: [usize; 4]) -> Vec<Light> {
    let [left, top, width, height] = within;
    let (full_width, full_height) = (photograph.width() as usize, photograph.height() as usize);
    let bytes = photograph.as_raw();
    let row_of =
        |y: usize, left: usize, width: usize| &bytes[3 * (y * full_width + left)..][..3 * width];
    if size == [full_width, full_height] {
        let mut light = Vec::with_capacity(width * height);
        for y in top..top + height {
            extend_with_light(&mut light, row_of(y, left, width));
        }
        return light;
    }
    let columns = Taps::new(full_width, size[0], left, width);
    let rows = Taps::new(full_height, size[1], top, height);
    let ((first_column, last_column), (first_row, last_row)) = (columns.span(), rows.span());
    // First along the rows, as many of them as the columns' filter needs.
    let mut narrow = Vec::with_capacity(width * (last_row - first_row));
    let mut row = Vec::with_capacity(last_column - first_column);
    for y in first_row..last_row {
        row.clear();
        extend_with_light(
            &mut row,
            row_of(y, first_column, last_column - first_column),
        );
        narrow.extend(columns.iter().map(|(start, weights)| {
            let mut sum = Light::default();
            for (pixel, weight) in row[start - first_column..].iter().zip(weights) {
                add(&mut sum, pixel, *weight);
            }
            sum
        }));
    }
    let mut light = vec![Light::default(); width * height];
    for ((start, weights), out) in rows.iter().zip(light.chunks_exact_mut(width.max(1))) {
        let lines = narrow[(start - first_row) * width..].chunks_exact(width.max(1));
        for (line, weight) in lines.zip(weights) {
            for (sum, pixel) in out.iter_mut().zip(line) {
                add(sum, pixel, *weight);
            }
        }
        // The filter overshoots at edges.
        for pixel in out {
            *pixel = pixel.map(|value| value.clamp(0.0, 1.0));
        }
    }
    light
}

#[inline]
fn add(sum: &mut Light, pixel: &Light, weight: f32) {
    for lane in 0..4 {
        sum[lane] += weight * pixel[lane];
    }
}

/// Of which pixels of a side, and in which shares, some pixels of the shrunk side are made.
struct Taps {
    starts: Vec<usize>,
    /// Where each pixel's weights begin.
    offsets: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    /// For `count` pixels from `first` on, of a side shrunk from `from` to `to` pixels.
    fn new(from: usize, to: usize, first: usize, count: usize) -> Self {
        let factor = from as f64 / to as f64;
        // Of a side that stays as it is, each pixel is itself.
        let width = factor.max(1.0);
        let mut taps = Self {
            starts: Vec::with_capacity(count),
            offsets: vec![0],
            weights: Vec::new(),
        };
        for index in first..first + count {
            let centre = (index as f64 + 0.5) * factor - 0.5;
            let start = (centre - 2.0 * width).ceil().max(0.0) as usize;
            let end = ((centre + 2.0 * width).floor() as usize + 1).min(from);
            let weight = |place: usize| catmull_rom((place as f64 - centre) / width);
            let sum: f64 = (start..end).map(weight).sum();
            taps.starts.push(start);
            taps.weights
                .extend((start..end).map(|place| (weight(place) / sum) as f32));
            taps.offsets.push(taps.weights.len());
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let weights = self.offsets.windows(2);
        let weights = weights.map(|ends| &self.weights[ends[0]..ends[1]]);
        self.starts.iter().copied().zip(weights)
    }

    /// From the first pixel that is asked for to beyond the last.
    fn span(&self) -> (usize, usize) {
        let start = self.starts.first().copied().unwrap_or(0);
        let end = self
            .iter()
            .last()
            .map_or(0, |(start, weights)| start + weights.len());
        (start, end)
    }
}

fn catmull_rom(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_grid_is_met_but_for_the_borders() {
        let rect = Rect {
            left: 13,
            top: 16,
            width: 20,
            height: 21,
        };
        let found = rect.on_grid(8, [100, 38]);
        let expected = Rect {
            left: 8,
            top: 16,
            width: 32,
            height: 22,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn shrinking_keeps_light_not_codes() {
        let checkerboard = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3])
        });
        let whole = Rect::of_size([8, 8]);
        let small = Scene::new(&checkerboard, [8, 8], whole).image(whole);
        let code = small.get_pixel(4, 4)[0];
        assert!(
            code.abs_diff(188) <= 2,
            "half of white's light has code 188, found {code}"
        );
    }

    #[test]
    fn a_piece_of_the_shrunk_picture_is_that_of_the_whole() {
        let picture = RgbImage::from_fn(90, 70, |x, y| {
            Rgb([(x * 7) as u8, (y * 5) as u8, ((x ^ y) * 3) as u8])
        });
        let size = [47, 36];
        let whole = Scene::new(&picture, size, Rect::of_size(size));
        let rect = Rect {
            left: -4,
            top: 20,
            width: 30,
            height: 18,
        };
        let piece = Scene::new(&picture, size, rect);
        for y in 0..rect.height {
            for x in 0..rect.width {
                let across = reflect(rect.left + x as i64, size[0]);
                let down = reflect(rect.top + y as i64, size[1]);
                let expected = whole.pixels[down * size[0] + across];
                assert_eq!(piece.pixels[y * rect.width + x], expected, "{x} {y}");
            }
        }
    }
}
