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

/// For a PSNR: JSON has no infinity.
pub(crate) fn infinite_if_null<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(f64::INFINITY))
}

/// One image of a dataset, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageResult {
    /// The pair's name within its dataset.
    pub name: String,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Seconds that the model took.
    pub seconds: f64,
    /// The blurry input against the sharp target.
    pub blurred: Scores,
    /// The restored image against the sharp target.
    pub restored: Scores,
    /// What keeps the scores from being the protocol's, such as an alignment that did not converge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An image that has no scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The pair's name within its dataset.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A model on one dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetResult {
    /// As tables call it: `GoPro`, `HIDE`, `RealBlur-J`, `RealBlur-R`, or the folder's name.
    pub name: String,
    /// Where it is.
    pub folder: String,
    /// What the scores mean.
    pub protocol: Protocol,
    /// Means over the images, before; none without images.
    pub blurred: Option<Scores>,
    /// Means over the images, after; none without images.
    pub restored: Option<Scores>,
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
    /// The model's.
    pub config: Config,
    /// In the order of the command line.
    pub datasets: Vec<DatasetResult>,
}
