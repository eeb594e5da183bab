//! Grayscale images: smoothed, differentiated, and read between their pixels.

use image::Rgb32FImage;
use rayon::prelude::*;

use crate::reflect::reflect;

/// The 5-tap Gaussian that OpenCV uses when given no σ.
const BINOMIAL: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
const RADIUS: i64 = 2;

/// One intensity a pixel, row by row.
#[derive(Debug, Clone)]
pub(super) struct Gray {
    pub width: usize,
    pub height: usize,
    pub samples: Vec<f32>,
}

impl Gray {
    /// The luma of ITU-R BT.601.
    pub fn of(image: &Rgb32FImage) -> Self {
        let luma = |pixel: &image::Rgb<f32>| {
            let [red, green, blue] = pixel.0;
            0.299 * red + 0.587 * green + 0.114 * blue
        };
        Self {
            width: image.width() as usize,
            height: image.height() as usize,
            samples: image.pixels().map(luma).collect(),
        }
    }

    /// Convolved with the 5×5 binomial filter, mirrored about the outermost pixels; at least 3 pixels a side.
    pub fn smoothed(&self) -> Self {
        let mut samples = vec![0.0; self.samples.len()];
        let rows = samples.par_chunks_mut(self.width).enumerate();
        rows.for_each(|(y, row)| {
            let mut sums = vec![0.0; self.width];
            for (tap, weight) in (-RADIUS..).zip(BINOMIAL) {
                for (sum, sample) in sums.iter_mut().zip(self.row(y as i64 + tap)) {
                    *sum += weight * sample;
                }
            }
            for (x, sample) in row.iter_mut().enumerate() {
                let taps = (-RADIUS..).zip(BINOMIAL);
                *sample = taps
                    .map(|(tap, weight)| weight * sums[reflect(x as i64 + tap, self.width)])
                    .sum();
            }
        });
        Self { samples, ..*self }
    }

    fn row(&self, y: i64) -> &[f32] {
        let start = reflect(y, self.height) * self.width;
        &self.samples[start..start + self.width]
    }
}

/// A grayscale image with its derivatives along x and y.
pub(super) struct Slopes {
    pub width: usize,
    pub height: usize,
    /// Intensity, its derivative along x, and along y.
    pixels: Vec<[f32; 3]>,
}

impl Slopes {
    /// By central differences, mirrored about the outermost pixels; at least 2 pixels a side.
    pub fn of(gray: &Gray) -> Self {
        let pixels = (0..gray.height as i64).into_par_iter().flat_map_iter(|y| {
            let [above, here, below] = [-1, 0, 1].map(|step| gray.row(y + step));
            (0..gray.width).map(move |x| {
                let [left, right] = [-1, 1].map(|step| here[reflect(x as i64 + step, gray.width)]);
                [here[x], (right - left) / 2.0, (below[x] - above[x]) / 2.0]
            })
        });
        Self {
            width: gray.width,
            height: gray.height,
            pixels: pixels.collect(),
        }
    }

    /// Interpolated bilinearly, with zeros outside. None where all four neighbours are outside.
    #[inline]
    pub fn between(&self, x: f64, y: f64) -> Option<[f64; 3]> {
        let (left, top) = (x.floor(), y.floor());
        let reaches = |before: f64, length: usize| before >= -1.0 && before < length as f64;
        if !(reaches(left, self.width) && reaches(top, self.height)) {
            return None;
        }
        let (right_share, bottom_share) = (x - left, y - top);
        let (left, top) = (left as i64, top as i64);
        let corners = [
            (left, top, (1.0 - right_share) * (1.0 - bottom_share)),
            (left + 1, top, right_share * (1.0 - bottom_share)),
            (left, top + 1, (1.0 - right_share) * bottom_share),
            (left + 1, top + 1, right_share * bottom_share),
        ];
        let mut sums = [0.0; 3];
        for (x, y, share) in corners {
            let is_inside =
                (0..self.width as i64).contains(&x) && (0..self.height as i64).contains(&y);
            if is_inside {
                let pixel = self.pixels[y as usize * self.width + x as usize];
                for (sum, sample) in sums.iter_mut().zip(pixel) {
                    *sum += share * f64::from(sample);
                }
            }
        }
        Some(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, height: usize, of: impl Fn(usize, usize) -> f32) -> Gray {
        let samples = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Gray {
            width,
            height,
            samples: samples.map(|(x, y)| of(x, y)).collect(),
        }
    }

    #[test]
    fn smoothing_spreads_a_point_and_mirrors_at_the_border() {
        let point = |at| gray(7, 5, move |x, y| if (x, y) == at { 256.0 } else { 0.0 });
        let spread = point((3, 2)).smoothed();
        assert_eq!(spread.row(2), [0.0, 6.0, 24.0, 36.0, 24.0, 6.0, 0.0]);
        // Beside the border, the pixel falls on two taps; the outermost one has no twin.
        let border = point((1, 0)).smoothed();
        assert_eq!(border.row(0)[..4], [8.0, 7.0, 4.0, 1.0].map(|v| v * 6.0));
    }

    #[test]
    fn slopes_are_those_of_a_plane_and_none_across_the_border() {
        let slopes = Slopes::of(&gray(6, 5, |x, y| 3.0 * x as f32 - 2.0 * y as f32));
        assert_eq!(slopes.between(2.0, 2.0), Some([2.0, 3.0, -2.0]));
        assert_eq!(slopes.between(2.25, 1.5), Some([3.75, 3.0, -2.0]));
        assert_eq!(slopes.between(0.0, 2.0), Some([-4.0, 0.0, -2.0]));
        assert_eq!(slopes.between(3.0, 4.0), Some([1.0, 3.0, 0.0]));
    }

    #[test]
    fn outside_is_zero_and_then_nothing() {
        let slopes = Slopes::of(&gray(4, 4, |_, _| 8.0));
        assert_eq!(slopes.between(-0.25, 1.0), Some([6.0, 0.0, 0.0]));
        assert_eq!(slopes.between(3.5, 3.5), Some([2.0, 0.0, 0.0]));
        for (x, y) in [
            (-1.1, 0.0),
            (4.0, 0.0),
            (0.0, 4.0),
            (f64::NAN, 0.0),
            (0.0, f64::INFINITY),
        ] {
            assert_eq!(slopes.between(x, y), None, "{x}, {y}");
        }
    }
}
