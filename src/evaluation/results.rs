//! What an evaluation finds, as plain data: the JSON that is written, and what tables and reports show.

use serde::{Deserialize, Deserializer, Serialize};

use super::Protocol;
use crate::config::Config;

/// PSNR and SSIM of one image, or their means over several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// In dB; infinite for equal images, which JSON has as `null`.
    #[serde(deserialize_with = "infinite_if_null")]
    pub psnr: f64,
    /// The SSIM of the protocol.
    pub ssim: f64,
}

impl Scores {
    /// The means; none of nothing.
    pub fn mean(scores: impl IntoIterator<Item = Self>) -> Option<Self> {
        let (mut sum, mut count) = (
            Self {
                psnr: 0.0,
                ssim: 0.0,
            },
            0,
        );
        for scores in scores {
            sum.psnr += scores.psnr;
            sum.ssim += scores.ssim;
            count += 1;
        }
        (count > 0).then(|| Self {
            psnr: sum.psnr / f64::from(count),
            ssim: sum.ssim / f64::from(count),
        })
    }
}

/// For a PSNR: JSON has no infinity.
pub(crate) fn infinite_if_null<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(f64::INFINITY))
}

/// A restored image against its sharp target, as `hi-diff metrics` and `hi-diff eval` have it alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageScores {
    /// The pair's.
    pub name: String,
    /// PSNR and SSIM as the protocol has them; JSON has them beside the name.
    #[serde(flatten)]
    pub scores: Scores,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// What keeps the scores from being the protocol's, such as an alignment that did not converge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl ImageScores {
    /// Without LPIPS and warnings.
    pub fn new(name: impl Into<String>, scores: Scores) -> Self {
        Self {
            name: name.into(),
            scores,
            lpips: None,
            warnings: Vec::new(),
        }
    }
}

/// One image of a dataset, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageResult {
    /// After; JSON has it beside the rest. Warnings are of both.
    #[serde(flatten)]
    pub restored: ImageScores,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Seconds that the model took.
    pub seconds: f64,
    /// The blurry input against the sharp target.
    pub blurred: Scores,
}

impl ImageResult {
    /// Restored less blurred PSNR in dB. An image that was right before and after has gained nothing.
    pub fn gain(&self) -> f64 {
        let (before, after) = (self.blurred.psnr, self.restored.scores.psnr);
        if before == after { 0.0 } else { after - before }
    }
}

/// An image that has no scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The pair's name within its dataset.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A model on one dataset. Its JSON has what that of `hi-diff metrics` has, and more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetResult {
    /// As tables call it: `GoPro`, `HIDE`, `RealBlur-J`, `RealBlur-R`, or the folder's name.
    pub name: String,
    /// Where it is.
    pub folder: String,
    /// What the scores mean.
    pub protocol: Protocol,
    /// Means over the images, after; none without images. JSON has them beside the name.
    #[serde(flatten)]
    pub restored: Option<Scores>,
    /// Means over the images, before; none without images.
    pub blurred: Option<Scores>,
    /// How many images have scores.
    pub count: usize,
    /// Sorted by name.
    pub images: Vec<ImageResult>,
    /// Sorted by name.
    pub failures: Vec<Failure>,
}

/// A model on one dataset or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The command line that began it.
    pub command: String,
    /// This crate's version.
    pub version: String,
    /// The weights' path, or `bundled`.
    pub weights: String,
    /// What computed.
    pub backend: String,
    /// Of the noise that the diffusion starts from.
    pub seed: u64,
    /// Over what MDTA's statistics were taken: `global`, `local:N` or `auto:N`.
    pub attention: String,
    /// The model's.
    pub config: Config,
    /// In the order of the command line.
    pub datasets: Vec<DatasetResult>,
}

impl Evaluation {
    /// How many images have scores or failed.
    pub(super) fn tried(&self) -> usize {
        let each = self.datasets.iter();
        each.map(|dataset| dataset.images.len() + dataset.failures.len())
            .sum()
    }
}

/// The images with the largest losses and gains of PSNR, `most` in all and as many of either; all if they are few. In order
/// of the gain.
pub fn extremes(images: &[ImageResult], most: usize) -> Vec<usize> {
    let gain = |index: &usize| images[*index].gain();
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by(|a, b| {
        let names = || images[*a].restored.name.cmp(&images[*b].restored.name);
        gain(a).total_cmp(&gain(b)).then_with(names)
    });
    if order.len() > most {
        let losses = most.div_ceil(2);
        let gains = order.split_off(order.len() - (most - losses));
        order.truncate(losses);
        order.extend(gains);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_of_more_images_are_among_those_of_fewer_and_the_new_ones() {
        let scores = |psnr| Scores { psnr, ssim: 0.0 };
        let image = |number: usize| ImageResult {
            restored: ImageScores::new(
                format!("{number:03}"),
                scores(20.0 + (number * 37 % 101) as f64 / 10.0),
            ),
            width: 1,
            height: 1,
            seconds: 0.0,
            blurred: scores(20.0),
        };
        let images: Vec<_> = (0..40).map(image).collect();
        for most in [0, 1, 4, 5] {
            let mut before = Vec::new();
            for count in 0..images.len() {
                let chosen = extremes(&images[..count], most);
                assert_eq!(chosen.len(), count.min(most));
                let known = |index: &usize| before.contains(index) || index + 1 == count;
                assert!(
                    chosen.iter().all(known),
                    "{most} of {count}: {before:?}, {chosen:?}"
                );
                before = chosen;
            }
        }
        let chosen = extremes(&images, 4);
        let gains: Vec<_> = chosen
            .iter()
            .map(|&index| images[index].restored.scores.psnr)
            .collect();
        assert!(gains.is_sorted(), "{gains:?}");
        assert_eq!((gains[0], gains[3]), (20.0, 30.0));
    }
}
