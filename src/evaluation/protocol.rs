//! What PSNR and SSIM mean: papers quote the figures of three protocols.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::results::Scores;
use super::{Alignment, psnr, realblur, ssim_per_channel, ssim_volumetric};
use crate::error::Result;

/// How restored images are measured, with 8 bits a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Protocol {
    /// GoPro's and HIDE's: PSNR over 8-bit RGB, and SSIM as MATLAB computes it of an RGB array, as a volume.
    #[cfg_attr(
        feature = "cli",
        value(
            alias = "hide",
            help = "GoPro's and HIDE's: PSNR over RGB, SSIM as MATLAB's of a volume. `hide` means the same"
        )
    )]
    Gopro,
    /// BasicSR's validation: PSNR over RGB, 2-D SSIM of each channel.
    Basicsr,
    /// RealBlur's: PSNR and 2-D SSIM after gain and alignment by ECC, where the aligned image covers its target.
    Realblur,
}

impl Protocol {
    /// Its name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gopro => "gopro",
            Self::Basicsr => "basicsr",
            Self::Realblur => "realblur",
        }
    }

    /// What its two figures are, in words.
    pub const fn figures(self) -> &'static str {
        match self {
            Self::Gopro => "PSNR over 8-bit RGB; SSIM volumetric, as MATLAB's of an RGB array",
            Self::Basicsr => "PSNR over 8-bit RGB; SSIM 2-D, per channel",
            Self::Realblur => {
                "PSNR and 2-D SSIM after gain and alignment, over the pixels that the alignment covers"
            }
        }
    }

    /// Measures a restored image against its sharp target, both of the same size.
    ///
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the sizes differ, the images are empty, or (but for [`Self::Gopro`])
    /// have a side of fewer than 11 pixels; [`Error::Alignment`](crate::Error::Alignment) where [`Self::Realblur`]
    /// cannot align them.
    pub fn measure(self, restored: &RgbImage, target: &RgbImage) -> Result<Measurement> {
        let ssim = match self {
            Self::Gopro => ssim_volumetric,
            Self::Basicsr => ssim_per_channel,
            Self::Realblur => return realblur::measure(restored, target),
        };
        Ok(Measurement {
            scores: Scores {
                psnr: psnr(restored, target)?,
                ssim: ssim(restored, target)?,
            },
            alignment: None,
        })
    }
}

/// What a protocol finds of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// PSNR and SSIM as the protocol has them.
    pub scores: Scores,
    /// How the restored image was laid over its target; only [`Protocol::Realblur`] does so.
    pub alignment: Option<Alignment>,
}

impl Measurement {
    /// What keeps the scores from being the protocol's: an alignment that did not converge.
    pub fn warnings(&self) -> Vec<String> {
        let unsettled = self.alignment.filter(|alignment| !alignment.converged());
        let warning = unsettled.map(|Alignment { iterations, last_step, .. }| {
            format!(
                "the alignment did not converge: the last of {iterations} iterations moved a corner by {last_step:.2} \
                 pixels"
            )
        });
        warning.into_iter().collect()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
