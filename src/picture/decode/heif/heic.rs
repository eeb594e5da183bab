//! HEIC through the crate `heic-decoder`.

use heic_decoder::{ColorInfo, DecodedImage, HeifError, ImageInfo, RgbOptions};
use image::DynamicImage;

use super::{Decoded, buffer, code_points};

/// Width and height of the upright photograph in a HEIC file, in pixels, from its header alone.
///
/// # Errors
/// The file is damaged, or of a kind that is not read.
pub(super) fn heic_size(bytes: &[u8]) -> Result<(u32, u32), String> {
    let info = heic_decoder::probe(bytes).map_err(reason)?;
    Ok((side(info.width)?, side(info.height)?))
}

/// Decodes the primary photograph of a HEIC file, or a sequence's first.
///
/// Where neither the container nor the HEVC stream tells matrix and range, BT.601 and full range hold (ISO/IEC 23000-22,
/// 7.3.6.4). A matrix that is called unspecified is BT.601 too.
///
/// # Errors
/// The file is damaged, has more than `max_pixels`, or uses what the decoder lacks (HEVC tiles, B-pictures).
pub(super) fn decode_heic(bytes: &[u8], max_pixels: u64) -> Result<Decoded, String> {
    let info = heic_decoder::probe(bytes).map_err(reason)?;
    within(&info, max_pixels)?;
    let mut image = heic_decoder::decode(bytes).map_err(reason)?;
    let (width, height) = (side(image.width)?, side(image.height)?);
    let premultiplied = image
        .alpha
        .as_ref()
        .is_some_and(|alpha| alpha.premultiplied);
    let metadata = std::mem::take(&mut image.metadata);
    let mut warnings = Vec::new();
    if matches!(bytes.get(8..12), Some(b"hevc" | b"hevx" | b"msf1")) {
        warnings.push("holds a sequence of pictures: its first is taken".to_owned());
    }
    Ok(Decoded {
        cicp: image
            .color_info
            .and_then(|told| code_points(told.color_primaries, told.transfer_characteristics)),
        pixels: pixels(image, width, height)?,
        icc: metadata.icc_profile,
        exif: metadata.exif,
        xmp: metadata.xmp,
        premultiplied,
        warnings,
    })
}

fn reason(error: HeifError) -> String {
    error.to_string()
}

fn side(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| format!("a side of {length} pixels"))
}

/// That neither what is coded nor what is shown has too many pixels.
fn within(info: &ImageInfo, max_pixels: u64) -> Result<(), String> {
    let shown = (info.width, info.height);
    for (width, height) in [shown, (info.coded_width, info.coded_height)] {
        if (width as u64).saturating_mul(height as u64) > max_pixels {
            return Err(format!(
                "{width}x{height} pixels, more than {max_pixels} in all"
            ));
        }
    }
    Ok(())
}

/// The decoder's planes as one picture. They are given back as soon as they have been converted.
fn pixels(image: DecodedImage, width: u32, height: u32) -> Result<DynamicImage, String> {
    let color = matrix(image.color_info);
    let options = RgbOptions {
        color: Some(color),
        ..RgbOptions::default()
    };
    let alpha = image.alpha.as_ref();
    let gray = image.chroma_format_idc == 0;
    let depth = image
        .bit_depth_luma
        .max(image.bit_depth_chroma)
        .max(alpha.map_or(0, |alpha| alpha.bit_depth));
    let picture = match (depth > 8, alpha.is_some()) {
        (false, false) => {
            let data = image.to_rgb8_with_options(&options).map_err(reason)?.data;
            drop(image);
            if gray {
                buffer(width, height, first_of::<3, 1, _>(&data)).map(DynamicImage::ImageLuma8)
            } else {
                buffer(width, height, data).map(DynamicImage::ImageRgb8)
            }
        }
        (false, true) => {
            let data = image.to_rgba8_with_options(&options).map_err(reason)?.data;
            drop(image);
            if gray {
                buffer(width, height, first_of::<4, 2, _>(&data)).map(DynamicImage::ImageLumaA8)
            } else {
                buffer(width, height, data).map(DynamicImage::ImageRgba8)
            }
        }
        (true, false) => {
            let data = image.to_rgb16_with_options(&options).map_err(reason)?.data;
            drop(image);
            if gray {
                buffer(width, height, first_of::<3, 1, _>(&data)).map(DynamicImage::ImageLuma16)
            } else {
                buffer(width, height, data).map(DynamicImage::ImageRgb16)
            }
        }
        (true, true) => {
            let data = image.to_rgba16_with_options(&options).map_err(reason)?.data;
            drop(image);
            if gray {
                buffer(width, height, first_of::<4, 2, _>(&data)).map(DynamicImage::ImageLumaA16)
            } else {
                buffer(width, height, data).map(DynamicImage::ImageRgba16)
            }
        }
    };
    picture
        .ok_or_else(|| "the decoder gave another number of samples than the picture has".to_owned())
}

/// Of gray pixels with `FROM` channels, the gray, and the alpha behind it if `TO` is 2.
fn first_of<const FROM: usize, const TO: usize, T: Copy>(data: &[T]) -> Vec<T> {
    let pixels = data.as_chunks::<FROM>().0.iter();
    pixels
        .flat_map(|pixel| std::iter::once(pixel[0]).chain((TO == 2).then_some(pixel[FROM - 1])))
        .collect()
}

/// What the samples mean, with what the file leaves open filled in.
fn matrix(told: Option<ColorInfo>) -> ColorInfo {
    const UNSPECIFIED: u16 = 2;
    const BT_601: u16 = 6;
    let mut color = told.unwrap_or(ColorInfo {
        color_primaries: 1,
        transfer_characteristics: 13,
        matrix_coefficients: UNSPECIFIED,
        full_range: true,
    });
    if color.matrix_coefficients == UNSPECIFIED {
        color.matrix_coefficients = BT_601;
    }
    color
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::decode::heif::tests::{
        check_gray, check_premultiplied, check_turned, quarters,
    };

    const TURNED: &[u8] = include_bytes!("../../../../tests/fixtures/heif/tiles-turned.heic");
    const PREMULTIPLIED: &[u8] =
        include_bytes!("../../../../tests/fixtures/heif/premultiplied.heic");
    const GRAY: &[u8] = include_bytes!("../../../../tests/fixtures/heif/gray-10bit.heic");
    const TEN_BIT: &[u8] = include_bytes!("../../../../tests/fixtures/heif/ten-bit.heic");
    const LIMIT: u64 = 1 << 20;

    #[test]
    fn tiles_come_out_upright_with_their_metadata() {
        check_turned(&decode_heic(TURNED, LIMIT).unwrap());
        assert_eq!(heic_size(TURNED), Ok((72, 104)));
    }

    #[test]
    fn alpha_and_gray_of_ten_bits_are_kept() {
        check_premultiplied(&decode_heic(PREMULTIPLIED, LIMIT).unwrap());
        check_gray(&decode_heic(GRAY, LIMIT).unwrap());
    }

    #[test]
    fn ten_bits_make_sixteen() {
        let decoded = decode_heic(TEN_BIT, LIMIT).unwrap();
        assert!(matches!(decoded.pixels, DynamicImage::ImageRgb16(_)));
        quarters(&decoded.pixels, [0, 1, 2, 3]);
    }

    #[test]
    fn too_many_pixels_are_refused() {
        assert!(decode_heic(TURNED, 104 * 72).is_ok());
        let error = decode_heic(TURNED, 104 * 72 - 1).err().unwrap();
        assert!(error.contains("more than 7487"), "{error}");
    }

    #[test]
    fn damage_gives_errors() {
        // The EXIF and XMP data come last, and a photograph is read without them.
        for length in (0..TURNED.len() - 73).step_by(29) {
            assert!(
                decode_heic(&TURNED[..length], LIMIT).is_err(),
                "cut to {length}"
            );
        }
        // One bit of every seventh byte of the boxes: other pictures at most.
        for at in (0..600).step_by(7) {
            let mut bytes = TURNED.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let _ = decode_heic(&bytes, LIMIT);
        }
    }

    #[test]
    fn what_is_left_open_is_bt_601_of_full_range() {
        let open = matrix(None);
        assert_eq!((open.matrix_coefficients, open.full_range), (6, true));
        let told = ColorInfo {
            matrix_coefficients: 2,
            full_range: false,
            ..open
        };
        assert_eq!(
            (
                matrix(Some(told)).matrix_coefficients,
                matrix(Some(told)).full_range
            ),
            (6, false)
        );
        let told = ColorInfo {
            matrix_coefficients: 9,
            ..open
        };
        assert_eq!(matrix(Some(told)), told);
    }
}
