//! Protocols on the command line.

use clap::ValueEnum;
use hi_diff::evaluation::Protocol;

/// A choice on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtocolChoice {
    /// PSNR over 8-bit RGB, SSIM of the RGB volume as MATLAB has it
    #[value(alias = "hide")]
    Gopro,
    /// PSNR over 8-bit RGB, SSIM of each channel by itself
    Basicsr,
    /// PSNR and SSIM over the pixels covered after a gain and an alignment
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
