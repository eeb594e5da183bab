//! What PSNR and SSIM mean: papers quote the figures of three protocols.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How restored images are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// GoPro's and HIDE's: PSNR over 8-bit RGB, and SSIM as MATLAB computes it of an RGB array, as a volume.
    Gopro,
    /// BasicSR's validation: PSNR over 8-bit RGB, and SSIM of each channel by itself.
    Basicsr,
    /// RealBlur's: after a gain and an alignment, PSNR and SSIM over the pixels that the alignment covers.
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
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
