//! Protocols on the command line.

use clap::ValueEnum;
use hi_diff::evaluation::Protocol;

/// A choice on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtocolChoice {
    /// GoPro's and HIDE's: PSNR over RGB, SSIM as MATLAB's of a volume. `hide` means the same
    #[value(alias = "hide")]
    Gopro,
    /// BasicSR's validation: PSNR over RGB, 2-D SSIM of each channel
    Basicsr,
    /// RealBlur's: PSNR and 2-D SSIM after gain and alignment by ECC, where the aligned image covers its target
    Realblur,
}

impl From<ProtocolChoice> for Protocol {
    fn from(choice: ProtocolChoice) -> Self {
        match choice {
            ProtocolChoice::Gopro => Self::Gopro,
            ProtocolChoice::Basicsr => Self::Basicsr,
            ProtocolChoice::Realblur => Self::Realblur,
        }
    }
}
