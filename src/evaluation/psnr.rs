//! Peak signal-to-noise ratio.

use image::RgbImage;

use super::check_pair;
use crate::error::Result;

/// Peak signal-to-noise ratio in dB over all 8-bit RGB samples: `10 log10(255² / mean squared error)`.
///
/// Equal images give infinity.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) when the sizes differ or the images are empty.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> Result<f64> {
    check_pair(a, b, 1)?;
    let squares: u64 = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2))
        .sum();
    let mean = squares as f64 / a.as_raw().len() as f64;
    Ok(10.0 * (255.0 * 255.0 / mean).log10())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_constant_difference_gives_its_closed_form() {
        let a = RgbImage::from_pixel(5, 3, Rgb([10, 20, 30]));
        let b = RgbImage::from_pixel(5, 3, Rgb([15, 15, 35]));
        let found = psnr(&a, &b).unwrap();
        let expected = 20.0 * (255.0_f64 / 5.0).log10();
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} dB, expected {expected} dB"
        );
    }

    #[test]
    fn equal_images_give_infinity() {
        let a = RgbImage::from_pixel(2, 2, Rgb([7, 8, 9]));
        assert_eq!(psnr(&a, &a).unwrap(), f64::INFINITY);
    }

    #[test]
    fn sizes_that_differ_are_an_error_that_names_both() {
        let error = psnr(&RgbImage::new(4, 3), &RgbImage::new(3, 4))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[4, 3]") && error.contains("[3, 4]"),
            "{error}"
        );
    }

    #[test]
    fn empty_images_are_an_error() {
        assert!(psnr(&RgbImage::new(0, 0), &RgbImage::new(0, 0)).is_err());
    }
}
