//! RealBlur's protocol: restored and sharp photograph come from two shots, so brightness and pose are matched first.

use image::{Rgb, Rgb32FImage, RgbImage};

use super::align::{Alignment, align};
use super::check_pair;
use super::gray::Gray;
use super::homography::Homography;
use super::protocol::Measurement;
use super::results::Scores;
use super::ssim::{TAPS, ssim_where};
use super::warp::warp;
use crate::error::{Error, Result};

const PIXEL_MAX: f64 = 255.0;

/// Gain, alignment, and PSNR and SSIM over the pixels that the aligned image covers.
pub(super) fn measure(restored: &RgbImage, target: &RgbImage) -> Result<Measurement> {
    check_pair(restored, target, TAPS as u32)?;
    let gain = gain(restored, target)?;
    let restored = to_f32(restored, gain);
    let mut target = to_f32(target, 1.0);
    let alignment = align(&Gray::of(&restored), &Gray::of(&target))?;

    let warped = warp(&restored, &Homography(alignment.homography));
    let covered: Vec<bool> = warped.iter().map(Option::is_some).collect();
    let (width, height) = target.dimensions();
    let mut restored = Rgb32FImage::new(width, height);
    for ((restored, target), warped) in restored.pixels_mut().zip(target.pixels_mut()).zip(warped) {
        match warped {
            Some(pixel) => *restored = pixel,
            None => *target = Rgb([0.0; 3]), // as `restored` is there
        }
    }
    let scores = Scores {
        psnr: psnr_where(&restored, &target, &covered),
        ssim: ssim_where(&restored, &target, &covered),
    };
    if scores.ssim.is_nan() {
        return Err(Error::Alignment("they overlap at the border alone".into()));
    }
    Ok(Measurement {
        scores,
        alignment: Some(Alignment { gain, ..alignment }),
    })
}

/// By what factor the restored image comes closest to its target, in the least squares' sense.
fn gain(restored: &RgbImage, target: &RgbImage) -> Result<f64> {
    let (mut products, mut squares) = (0u64, 0u64);
    for (&restored, &target) in restored.as_raw().iter().zip(target.as_raw()) {
        products += u64::from(restored) * u64::from(target);
        squares += u64::from(restored) * u64::from(restored);
    }
    if products == 0 {
        return Err(Error::Alignment("they have no light in common".into()));
    }
    Ok(products as f64 / squares as f64)
}

fn to_f32(image: &RgbImage, gain: f64) -> Rgb32FImage {
    Rgb32FImage::from_fn(image.width(), image.height(), |x, y| {
        Rgb(image
            .get_pixel(x, y)
            .0
            .map(|sample| (gain * f64::from(sample)) as f32))
    })
}

/// Both images are zero where not `covered`.
fn psnr_where(a: &Rgb32FImage, b: &Rgb32FImage, covered: &[bool]) -> f64 {
    let samples = a.as_raw().iter().zip(b.as_raw());
    let squares: f64 = samples
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    let count = 3 * covered.iter().filter(|&&covered| covered).count();
    10.0 * (PIXEL_MAX * PIXEL_MAX * count as f64 / squares).log10()
}
