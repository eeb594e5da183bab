//! Structural similarity (Wang et al., 2004) in the two readings that deblurring papers quote.

use image::{ImageBuffer, Pixel, Primitive, Rgb, Rgb32FImage, RgbImage};
use rayon::prelude::*;

use super::check_pair;
use crate::error::Result;

/// Taps on either side of the Gaussian window's centre.
const RADIUS: usize = 5;
/// Taps of the window along a side.
pub(super) const TAPS: usize = 2 * RADIUS + 1;
const SIGMA: f64 = 1.5;
/// `(K1 · 255)²` and `(K2 · 255)²`, which keep the ratios finite.
const C1: f64 = 0.01 * 255.0 * 0.01 * 255.0;
const C2: f64 = 0.03 * 255.0 * 0.03 * 255.0;
const CHANNELS: usize = 3;

/// SSIM of each channel on its own with an 11×11 Gaussian window (σ 1.5) at every place where the window lies inside
/// the image, averaged over places and channels: what BasicSR logs in validation.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) when the sizes differ or a side is shorter than the window.
pub fn ssim_per_channel(a: &RgbImage, b: &RgbImage) -> Result<f64> {
    check_pair(a, b, TAPS as u32)?;
    Ok(mean_ssim(a, b, Border::Inside))
}

/// SSIM as MATLAB's `ssim` computes it when given an RGB array, which it takes for a volume of depth 3: an 11×11×11
/// Gaussian window (σ 1.5) over rows, columns and channels, borders replicated, averaged over all voxels.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) when the sizes differ or the images are empty.
pub fn ssim_volumetric(a: &RgbImage, b: &RgbImage) -> Result<f64> {
    check_pair(a, b, 1)?;
    Ok(mean_ssim(a, b, Border::Replicate))
}

/// [`ssim_per_channel`] of samples from 0 to 255, averaged over those windows whose centre is `covered`. NaN if none is.
pub(super) fn ssim_where(a: &Rgb32FImage, b: &Rgb32FImage, covered: &[bool]) -> f64 {
    let (width, height) = (a.width() as usize, a.height() as usize);
    let taps = gaussian();
    let sums: Vec<(f64, usize)> = (RADIUS..height - RADIUS)
        .into_par_iter()
        .map(|row| {
            let values = similarities(a, b, row, Border::Inside, &taps);
            let covered = &covered[row * width + RADIUS..(row + 1) * width - RADIUS];
            let pixels = values.as_chunks::<CHANNELS>().0.iter().zip(covered);
            let counted = pixels.filter(|&(_, &covered)| covered);
            counted.fold((0.0, 0), |(sum, count), (values, _)| {
                (sum + values.iter().sum::<f64>(), count + CHANNELS)
            })
        })
        .collect();
    let count: usize = sums.iter().map(|row| row.1).sum();
    sums.iter().map(|row| row.0).sum::<f64>() / count as f64
}

/// An RGB image of samples from 0 to 255.
type Samples<P> = ImageBuffer<Rgb<P>, Vec<P>>;

#[derive(Clone, Copy, PartialEq)]
enum Border {
    /// Only windows inside the image count, and channels stay apart.
    Inside,
    /// Samples outside repeat the nearest one, along the channels too.
    Replicate,
}

/// Windowed sums of one row of interleaved samples: `a`, `b`, `a² + b²` and `a · b`. SSIM needs the two variances only
/// as their sum, which saves a fifth map.
type Moments = [Vec<f64>; 4];

/// The rows are independent and summed in order, so the value does not depend on the number of threads.
fn mean_ssim(a: &RgbImage, b: &RgbImage, border: Border) -> f64 {
    let (width, height) = (a.width() as usize, a.height() as usize);
    let taps = gaussian();
    let (rows, columns) = match border {
        Border::Inside => (RADIUS..height - RADIUS, width - 2 * RADIUS),
        Border::Replicate => (0..height, width),
    };
    let sums: Vec<f64> = rows
        .clone()
        .into_par_iter()
        .map(|row| similarities(a, b, row, border, &taps).iter().sum())
        .collect();
    sums.iter().sum::<f64>() / (rows.len() * columns * CHANNELS) as f64
}

/// The SSIM of each sample of a row; of those whose window lies inside, for `Border::Inside`.
fn similarities<P>(
    a: &Samples<P>,
    b: &Samples<P>,
    row: usize,
    border: Border,
    taps: &[f64; TAPS],
) -> Vec<f64>
where
    P: Primitive + Into<f64>,
    Rgb<P>: Pixel<Subpixel = P>,
{
    let mut moments = along_columns(a, b, row, taps);
    if border == Border::Replicate {
        moments = moments.map(|samples| replicate_ends(&samples));
    }
    moments = moments.map(|samples| along_row(&samples, taps));
    if border == Border::Replicate {
        moments
            .iter_mut()
            .for_each(|samples| along_channels(samples, taps));
    }
    similarity(&moments)
}

fn gaussian() -> [f64; TAPS] {
    let weights: [f64; TAPS] = std::array::from_fn(|i| {
        (-(i as f64 - RADIUS as f64).powi(2) / (2.0 * SIGMA * SIGMA)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// Rows outside the image repeat its first or last one; `Border::Inside` never asks for any.
fn along_columns<P>(a: &Samples<P>, b: &Samples<P>, row: usize, taps: &[f64; TAPS]) -> Moments
where
    P: Primitive + Into<f64>,
    Rgb<P>: Pixel<Subpixel = P>,
{
    let stride = a.width() as usize * CHANNELS;
    let last = a.height() as usize - 1;
    let mut moments: Moments = std::array::from_fn(|_| vec![0.0; stride]);
    for (tap, &weight) in taps.iter().enumerate() {
        let source = (row + tap).saturating_sub(RADIUS).min(last) * stride;
        let a = &a.as_raw()[source..source + stride];
        let b = &b.as_raw()[source..source + stride];
        let [sum_a, sum_b, squares, products] = &mut moments;
        for i in 0..stride {
            let (a, b): (f64, f64) = (a[i].into(), b[i].into());
            sum_a[i] += weight * a;
            sum_b[i] += weight * b;
            squares[i] += weight * (a * a + b * b);
            products[i] += weight * (a * b);
        }
    }
    moments
}

fn replicate_ends(samples: &[f64]) -> Vec<f64> {
    let (first, last) = (&samples[..CHANNELS], &samples[samples.len() - CHANNELS..]);
    [
        first.repeat(RADIUS).as_slice(),
        samples,
        last.repeat(RADIUS).as_slice(),
    ]
    .concat()
}

/// Shortens the row by `2 · RADIUS` pixels.
fn along_row(samples: &[f64], taps: &[f64; TAPS]) -> Vec<f64> {
    let mut filtered = vec![0.0; samples.len() - 2 * RADIUS * CHANNELS];
    for (tap, &weight) in taps.iter().enumerate() {
        for (sum, sample) in filtered.iter_mut().zip(&samples[tap * CHANNELS..]) {
            *sum += weight * sample;
        }
    }
    filtered
}

/// With three channels, every tap beyond the neighbours falls on a replicated end.
fn along_channels(samples: &mut [f64], taps: &[f64; TAPS]) {
    let mut mixing = [[0.0; CHANNELS]; CHANNELS];
    for (channel, weights) in mixing.iter_mut().enumerate() {
        for (tap, &weight) in taps.iter().enumerate() {
            weights[(channel + tap).saturating_sub(RADIUS).min(CHANNELS - 1)] += weight;
        }
    }
    for pixel in samples.as_chunks_mut::<CHANNELS>().0 {
        *pixel = mixing.map(|weights| {
            weights
                .iter()
                .zip(*pixel)
                .map(|(w, sample)| w * sample)
                .sum()
        });
    }
}

fn similarity([mean_a, mean_b, squares, products]: &Moments) -> Vec<f64> {
    let samples = 0..mean_a.len();
    samples
        .map(|i| {
            let (product, square) = (mean_a[i] * mean_b[i], mean_a[i].powi(2) + mean_b[i].powi(2));
            let (covariance, variances) = (products[i] - product, squares[i] - square);
            (2.0 * product + C1) * (2.0 * covariance + C2) / ((square + C1) * (variances + C2))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn texture(width: u32, height: u32, phase: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let wave = |k: u32| ((x * (3 + k) + y * 7 + phase * k) % 61 * 4) as u8;
            Rgb([wave(1), wave(2), wave(3)])
        })
    }

    #[test]
    fn equal_images_give_one() {
        let image = texture(23, 17, 0);
        for value in [
            ssim_per_channel(&image, &image),
            ssim_volumetric(&image, &image),
        ] {
            let value = value.unwrap();
            assert!((value - 1.0).abs() < 1e-12, "{value}");
        }
    }

    #[test]
    fn constant_images_give_the_luminance_term() {
        let a = RgbImage::from_pixel(12, 13, Rgb([100; 3]));
        let b = RgbImage::from_pixel(12, 13, Rgb([140; 3]));
        let expected = (2.0 * 100.0 * 140.0 + C1) / (100.0 * 100.0 + 140.0 * 140.0 + C1);
        for value in [ssim_per_channel(&a, &b), ssim_volumetric(&a, &b)] {
            let value = value.unwrap();
            assert!(
                (value - expected).abs() < 1e-9,
                "{value}, expected {expected}"
            );
        }
    }

    #[test]
    fn the_order_of_the_images_does_not_matter() {
        let (a, b) = (texture(20, 19, 0), texture(20, 19, 5));
        let (forth, back) = (
            ssim_volumetric(&a, &b).unwrap(),
            ssim_volumetric(&b, &a).unwrap(),
        );
        assert!((forth - back).abs() < 1e-12, "{forth} and {back}");
        assert!(forth < 0.9, "different textures should differ: {forth}");
    }

    #[test]
    fn the_volumetric_one_takes_a_single_pixel() {
        let pixel = RgbImage::from_pixel(1, 1, Rgb([1, 2, 3]));
        let value = ssim_volumetric(&pixel, &pixel).unwrap();
        assert!((value - 1.0).abs() < 1e-12, "{value}");
    }

    #[test]
    fn images_smaller_than_the_window_are_an_error_that_says_so() {
        let image = RgbImage::new(30, 10);
        let error = ssim_per_channel(&image, &image).unwrap_err().to_string();
        assert!(
            error.contains("at least 11 pixels") && error.contains("[10, 30]"),
            "{error}"
        );
    }
}
