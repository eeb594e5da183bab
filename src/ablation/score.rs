//! How good a model is: PSNR and SSIM over held-out pairs, and how sure a difference between two models is.

use serde::{Deserialize, Serialize};

use crate::data::dataset::PairReader;
use crate::error::Result;
use crate::evaluation::Protocol;
use crate::evaluation::results::{Scores, infinite_if_null};
use crate::inference::Deblurrer;
use crate::picture::Photograph;
use burn::tensor::backend::Backend;

/// One image against its sharp target, both of 8 bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairScore {
    /// The pair.
    pub name: String,
    /// In dB over RGB; infinite for equal images, which JSON has as `null`.
    #[serde(deserialize_with = "infinite_if_null")]
    pub psnr: f64,
    /// As MATLAB takes an RGB array, the GoPro protocol's.
    pub ssim_volumetric: f64,
}

/// Means over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// In dB over RGB; infinite for equal images, which JSON has as `null`.
    #[serde(deserialize_with = "infinite_if_null")]
    pub psnr: f64,
    /// As MATLAB takes an RGB array, the GoPro protocol's.
    pub ssim_volumetric: f64,
}

/// How one model's PSNR differs from another's on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean over the images, in dB.
    pub mean: f64,
    /// The mean's standard error; none for a single image.
    pub standard_error: Option<f64>,
}

/// Scores every pair, either as it is or as `deblurrer` restores it with the noise of `seed`.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) for a pair that cannot be read,
/// [`Error::NotFinite`](crate::Error::NotFinite) if the model's numbers overflow.
pub fn score<B: Backend>(
    pairs: &PairReader,
    deblurrer: Option<&Deblurrer<B>>,
    seed: u64,
) -> Result<Vec<PairScore>> {
    let scores = pairs.pairs().iter().enumerate().map(|(index, pair)| {
        let decoded = pairs.read(index)?;
        let restored = match deblurrer {
            Some(deblurrer) => {
                let blurred = Photograph::from_rgb8(&decoded.blur);
                deblurrer.deblur(&blurred, seed)?.to_rgb8()
            }
            None => decoded.blur.clone(),
        };
        let Scores { psnr, ssim } = Protocol::Gopro.measure(&restored, &decoded.sharp)?.scores;
        Ok(PairScore {
            name: pair.name.clone(),
            psnr,
            ssim_volumetric: ssim,
        })
    });
    scores.collect()
}

/// The means of both measures.
pub fn mean(scores: &[PairScore]) -> Mean {
    let over = |value: &dyn Fn(&PairScore) -> f64| {
        scores.iter().map(value).sum::<f64>() / scores.len() as f64
    };
    Mean {
        psnr: over(&|score| score.psnr),
        ssim_volumetric: over(&|score| score.ssim_volumetric),
    }
}

/// The PSNR of `scores` less that of `reference`, image by image. None unless both are of the same images.
pub fn difference(scores: &[PairScore], reference: &[PairScore]) -> Option<Difference> {
    let names = |scores: &[PairScore]| -> Vec<String> {
        scores.iter().map(|score| score.name.clone()).collect()
    };
    if scores.is_empty() || names(scores) != names(reference) {
        return None;
    }
    let pairs = scores.iter().zip(reference);
    let differences: Vec<f64> = pairs.map(|(a, b)| a.psnr - b.psnr).collect();
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let standard_error = (count > 1.0).then(|| (squares / (count - 1.0) / count).sqrt());
    mean.is_finite().then_some(Difference {
        mean,
        standard_error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[f64]) -> Vec<PairScore> {
        let named = values.iter().enumerate();
        named
            .map(|(index, &psnr)| PairScore {
                name: index.to_string(),
                psnr,
                ssim_volumetric: 0.5,
            })
            .collect()
    }

    #[test]
    fn differences_are_by_image() {
        let (a, b) = (scores(&[30.0, 20.0, 25.0]), scores(&[29.0, 19.5, 25.5]));
        let found = difference(&a, &b).unwrap();
        // 1, 0.5 and −0.5: mean 1/3, variance 7/12.
        assert!((found.mean - 1.0 / 3.0).abs() < 1e-12, "{found:?}");
        let error = (7.0 / 12.0_f64 / 3.0).sqrt();
        assert!(
            (found.standard_error.unwrap() - error).abs() < 1e-12,
            "{found:?}"
        );
        assert_eq!(difference(&a, &b[..2]), None, "other images");
        let single = difference(&a[..1], &b[..1]).unwrap();
        assert_eq!(single.standard_error, None);
        let itself = difference(&a, &a).unwrap();
        assert_eq!((itself.mean, itself.standard_error), (0.0, Some(0.0)));
    }

    #[test]
    fn an_infinite_psnr_survives_the_file() {
        let scores = scores(&[f64::INFINITY, 30.0]);
        let text = serde_json::to_string(&scores).unwrap();
        let back: Vec<PairScore> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, scores);
        assert_eq!(mean(&scores).psnr, f64::INFINITY);
        assert_eq!(difference(&scores, &scores), None);
    }
}
