//! How close a restored image is to its sharp target: pure functions on 8-bit images.
//!
//! Papers on deblurring quote two different SSIMs. [`ssim_volumetric`] is the one beside GoPro and HIDE results,
//! [`ssim_per_channel`] the one that BasicSR logs while training; always say which. [`Protocol::measure`] computes
//! the figures that belong together, [`files`] those of image files. `Lpips` (feature `lpips`) is a perceptual distance.

mod align;
mod cholesky;
pub mod datasets;
pub mod files;
mod gray;
mod homography;
pub mod journal;
#[cfg(feature = "lpips")]
mod lpips;
mod protocol;
mod psnr;
pub mod published;
mod realblur;
pub mod results;
pub mod run;
mod ssim;
pub mod table;
mod warp;

pub use align::Alignment;
#[cfg(feature = "lpips")]
pub use lpips::{Lpips, score_files_with_lpips};
pub use protocol::{Measurement, Protocol};
pub use psnr::psnr;
pub use ssim::{ssim_per_channel, ssim_volumetric};

use image::RgbImage;

use crate::error::{Error, Result};

/// Both images, when they have the same size and at least `minimum` pixels along each side.
fn check_pair(a: &RgbImage, b: &RgbImage, minimum: u32) -> Result<()> {
    let shape = |image: &RgbImage| vec![image.height() as usize, image.width() as usize];
    if a.dimensions() != b.dimensions() {
        return Err(Error::Shape {
            what: "second image (height, width)".into(),
            found: shape(b),
            expected: format!("the first image's {:?}", shape(a)),
        });
    }
    if a.width() < minimum || a.height() < minimum {
        return Err(Error::Shape {
            what: "images (height, width)".into(),
            found: shape(a),
            expected: format!("at least {minimum} pixels along each side"),
        });
    }
    Ok(())
}
