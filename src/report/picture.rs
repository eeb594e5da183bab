//! Pictures within a page.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::error::Result;
use crate::picture::{Format, rgb8_bytes};

/// What a picture's sides are at most, in pixels.
pub(super) const LONGEST: u32 = 1280;

/// Of 100.
pub(super) const QUALITY: u8 = 92;

/// A picture, which is to be [`fitted`], as a JPEG in the address of an `img`.
pub(super) fn jpeg_address(picture: &RgbImage) -> Result<String> {
    let jpeg = rgb8_bytes(picture, Format::Jpeg, QUALITY, "a picture of the report")?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
}

/// The picture, made smaller if a side is longer than [`LONGEST`].
pub(super) fn fitted(picture: &RgbImage) -> Cow<'_, RgbImage> {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= LONGEST {
        return Cow::Borrowed(picture);
    }
    let side = |length: u32| {
        let scaled = u64::from(length) * u64::from(LONGEST) / u64::from(longest);
        (scaled as u32).max(1)
    };
    Cow::Owned(imageops::resize(
        picture,
        side(width),
        side(height),
        FilterType::CatmullRom,
    ))
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_picture_is_a_jpeg_that_looks_like_it() {
        let picture = RgbImage::from_fn(40, 30, |x, y| Rgb([5 * x as u8, 8 * y as u8, 90]));
        let address = jpeg_address(&fitted(&picture)).unwrap();
        let encoded = address.strip_prefix("data:image/jpeg;base64,").unwrap();
        let bytes = STANDARD.decode(encoded).unwrap();
        let found = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(found.dimensions(), (40, 30));
        let psnr = crate::evaluation::psnr(&found, &picture).unwrap();
        assert!(psnr > 35.0, "{psnr} dB");
    }

    #[test]
    fn only_long_sides_are_shortened() {
        let fitted_size = |width, height| fitted(&RgbImage::new(width, height)).dimensions();
        assert_eq!(fitted_size(1280, 720), (1280, 720));
        assert_eq!(fitted_size(1920, 1080), (1280, 720));
        assert_eq!(fitted_size(100, 2560), (50, 1280));
        assert_eq!(fitted_size(2000, 1), (1280, 1));
    }
}
