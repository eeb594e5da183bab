//! A photograph seen through a homography.

use image::{Rgb, Rgb32FImage};
use rayon::prelude::*;

use super::homography::{Homography, MappedPoint};
use crate::reflect::reflect_with_ends;

/// Sharpness of the cubic kernel; OpenCV's.
const CUBIC: f64 = -0.75;

/// `image` where `map` takes each pixel of a rectangle of the same size, interpolated bicubically, row by row. None where
/// that is nearest to no pixel of the image; at the border, neighbours outside repeat the image in reverse.
pub(super) fn warp(image: &Rgb32FImage, map: &Homography) -> Vec<Option<Rgb<f32>>> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rows = (0..height).into_par_iter().flat_map_iter(|y| {
        (0..width).map(move |x| {
            let at = map.image(x as f64, y as f64);
            at.is_on(width, height).then(|| between(image, at))
        })
    });
    rows.collect()
}

fn between(image: &Rgb32FImage, MappedPoint { x, y, .. }: MappedPoint) -> Rgb<f32> {
    let (left, top) = (x.floor(), y.floor());
    let (columns, rows) = (kernel(x - left), kernel(y - top));
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut sums = [0.0; 3];
    for (row, row_weight) in (top as i64 - 1..).zip(rows) {
        let row = reflect_with_ends(row, height) as u32;
        for (column, weight) in (left as i64 - 1..).zip(columns) {
            let column = reflect_with_ends(column, width) as u32;
            let pixel = image.get_pixel(column, row).0;
            for (sum, sample) in sums.iter_mut().zip(pixel) {
                *sum += row_weight * weight * f64::from(sample);
            }
        }
    }
    Rgb(sums.map(|sum| sum as f32))
}

/// Weights of the pixels 1 before, 0, 1 and 2 after a position that lies `share` of a pixel after the second of them.
fn kernel(share: f64) -> [f64; 4] {
    let near = |t: f64| ((CUBIC + 2.0) * t - (CUBIC + 3.0)) * t * t + 1.0;
    let far = |t: f64| ((CUBIC * t - 5.0 * CUBIC) * t + 8.0 * CUBIC) * t - 4.0 * CUBIC;
    let (before, here, after) = (far(share + 1.0), near(share), near(1.0 - share));
    [before, here, after, 1.0 - before - here - after]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(x: f64, y: f64) -> Homography {
        Homography([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
    }

    fn image(width: u32, height: u32) -> Rgb32FImage {
        Rgb32FImage::from_fn(width, height, |x, y| {
            Rgb([x as f32, (x * x) as f32, 7.0 * y as f32])
        })
    }

    #[test]
    fn the_identity_changes_no_bit() {
        let image = image(9, 7);
        let warped = warp(&image, &Homography::IDENTITY);
        assert!(
            warped
                .iter()
                .zip(image.pixels())
                .all(|(found, pixel)| *found == Some(*pixel))
        );
    }

    #[test]
    fn whole_pixels_are_taken_as_they_are_and_uncovered_ones_are_none() {
        let image = image(9, 7);
        let warped = warp(&image, &shift(2.0, -1.0));
        for (index, found) in warped.into_iter().enumerate() {
            let (x, y) = (index as u32 % 9, index as u32 / 9);
            let expected = (x < 7 && y > 0).then(|| *image.get_pixel(x + 2, y - 1));
            assert_eq!(found, expected, "at {x}, {y}");
        }
    }

    #[test]
    fn between_pixels_a_slope_goes_on_and_the_border_is_its_own_neighbour() {
        let image = image(9, 7);
        let warped = warp(&image, &shift(-0.5, 0.0));
        let inside = warped[3 * 9 + 4].expect("covered");
        // Half-way, the kernel weighs −3/32, 19/32, 19/32, −3/32.
        assert_eq!(inside.0, [3.5, (19.0 * 25.0 - 3.0 * 29.0) / 32.0, 21.0]);
        // Pixels 1, 0 | 0, 1, of which the inner two are equal.
        let border = warped[3 * 9].expect("half a pixel outside is covered");
        assert_eq!(border.0[0], 2.0 * -3.0 / 32.0);
    }

    #[test]
    fn weights_sum_to_one() {
        for share in [0.0, 0.1, 0.5, 0.9] {
            let sum: f64 = kernel(share).iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "{share}: {sum}");
        }
    }
}
