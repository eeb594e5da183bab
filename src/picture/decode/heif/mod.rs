//! Photographs in HEIF files: HEIC (HEVC inside, what iPhones write) with the feature `heic`, AVIF (AV1 inside) with the
//! feature `avif`.
//!
//! Pixels come out upright: the file's own crop, rotation and mirroring (`clap`, `irot`, `imir`) are applied, and they
//! alone say what is up. An EXIF orientation in such a file tells how the camera was once held and must not be applied
//! again.

use std::fmt;

use image::DynamicImage;

use super::{Limits, Stored, check_size};
use crate::picture::colour::Colour;
use crate::picture::foreign::{Kind, foreign};
use crate::picture::metadata::Metadata;
use crate::picture::{Carried, Format};

#[cfg(feature = "avif")]
mod avif;
#[cfg_attr(not(feature = "avif"), allow(dead_code))]
mod container;
#[cfg(feature = "heic")]
mod heic;
#[cfg(feature = "avif")]
mod planes;

/// What a HEIF file's pictures are compressed by, of those that this build reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    #[cfg(feature = "heic")]
    Heic,
    #[cfg(feature = "avif")]
    Avif,
}

impl Codec {
    /// Of the file that begins with `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match foreign(bytes)?.kind {
            #[cfg(feature = "heic")]
            Kind::Heic => Some(Codec::Heic),
            #[cfg(feature = "avif")]
            Kind::Avif => Some(Codec::Avif),
            _ => None,
        }
    }

    /// Width and height of the upright photograph, by the file's header; and that the file does not end early.
    pub(super) fn size(self, bytes: &[u8], limits: &Limits) -> Result<(u32, u32), String> {
        let size = match self {
            #[cfg(feature = "heic")]
            Codec::Heic => heic::heic_size(bytes),
            #[cfg(feature = "avif")]
            Codec::Avif => avif::avif_size(bytes),
        };
        let (width, height) = size.map_err(|reason| format!("{self}: {reason}"))?;
        // As 16 bits of four channels at most.
        let bytes_of_pixels = 8 * u64::from(width) * u64::from(height);
        check_size(width, height, bytes_of_pixels, limits)?;
        container::check_end(bytes).map_err(|reason| format!("{self}: {reason}"))?;
        Ok((width, height))
    }

    pub(super) fn decode(self, bytes: &[u8], limits: &Limits) -> Result<Stored, String> {
        self.size(bytes, limits)?;
        let decoded = match self {
            #[cfg(feature = "heic")]
            Codec::Heic => heic::decode_heic(bytes, limits.max_pixels),
            #[cfg(feature = "avif")]
            Codec::Avif => avif::decode_avif(bytes, limits.max_pixels),
        };
        let decoded = decoded.map_err(|reason| format!("{self}: {reason}"))?;
        Ok(decoded.stored())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "heic")]
            Codec::Heic => "HEIC",
            #[cfg(feature = "avif")]
            Codec::Avif => "AVIF",
        })
    }
}

/// A decoded photograph.
struct Decoded {
    /// Upright. 8 bits a channel, or 16 for files of more than 8, whose values are scaled to 0..=65535.
    pixels: DynamicImage,
    icc: Option<Vec<u8>>,
    /// The pixels' code points of ITU-T H.273, as in PNG's `cICP`: colour primaries, transfer characteristics, matrix
    /// (0, as the pixels are RGB) and full range (1). `None` where the file says nothing.
    cicp: Option<[u8; 4]>,
    /// From the TIFF header on, with the camera's orientation.
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    /// Whether colours have been multiplied with the alpha.
    premultiplied: bool,
    warnings: Vec<String>,
}

impl Decoded {
    fn stored(self) -> Stored {
        let profile = Colour {
            icc: self.icc,
            ..Colour::default()
        };
        // In HEIF a profile counts before code points, in PNG after them.
        let counts = profile.icc.is_some() && profile.warning().is_none();
        let colour = Colour {
            cicp: self.cicp.filter(|_| !counts),
            ..profile
        };
        let transparent = self.pixels.color().has_alpha() && !is_opaque(&self.pixels);
        // The format of results by default: the most usual one that holds them.
        let format = match transparent || colour.needs_png().is_some() {
            true => Format::Png,
            false => Format::Jpeg,
        };
        Stored {
            pixels: self.pixels,
            orientation: 1,
            carried: Carried {
                lossy: true,
                associated: self.premultiplied,
                colour,
                metadata: Metadata {
                    exif: self.exif,
                    xmp: self.xmp,
                    ..Metadata::default()
                },
                warnings: self.warnings,
                ..Carried::new(format)
            },
        }
    }
}

/// What a file tells of colours, said of the RGB pixels that were made of them. `None` if it tells nothing.
fn code_points(primaries: u16, transfer: u16) -> Option<[u8; 4]> {
    const UNSPECIFIED: u8 = 2;
    let primaries = u8::try_from(primaries).ok()?;
    let transfer = u8::try_from(transfer).ok()?;
    ((primaries, transfer) != (UNSPECIFIED, UNSPECIFIED)).then_some([primaries, transfer, 0, 1])
}

fn is_opaque(pixels: &DynamicImage) -> bool {
    match pixels {
        DynamicImage::ImageLumaA8(image) => image.pixels().all(|pixel| pixel.0[1] == u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().all(|pixel| pixel.0[3] == u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().all(|pixel| pixel.0[1] == u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().all(|pixel| pixel.0[3] == u16::MAX),
        _ => true,
    }
}

/// A picture of `data`, if that has the right length.
fn buffer<P: image::Pixel>(
    width: u32,
    height: u32,
    data: Vec<P::Subpixel>,
) -> Option<image::ImageBuffer<P, Vec<P::Subpixel>>> {
    image::ImageBuffer::from_raw(width, height, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that the picture's quarters, from the top left in rows, have the fixtures' colours of these numbers.
    pub(super) fn quarters(picture: &DynamicImage, numbers: [usize; 4]) {
        const COLOURS: [[u8; 3]; 4] = [[220, 40, 40], [40, 200, 60], [50, 60, 210], [230, 220, 60]];
        let (width, height) = (picture.width(), picture.height());
        let picture = picture.to_rgb8();
        for (place, number) in numbers.into_iter().enumerate() {
            let column = width / 4 + place as u32 % 2 * (width / 2);
            let row = height / 4 + place as u32 / 2 * (height / 2);
            let found = picture.get_pixel(column, row).0;
            let near = found
                .iter()
                .zip(COLOURS[number])
                .all(|(&found, wanted)| found.abs_diff(wanted) <= 4);
            assert!(
                near,
                "quarter {place} is {found:?} and not {:?}",
                COLOURS[number]
            );
        }
    }

    /// Four tiles, cut at the right and below, three quarter turns anticlockwise and then mirrored.
    pub(super) fn check_turned(decoded: &Decoded) {
        assert!(matches!(decoded.pixels, DynamicImage::ImageRgb8(_)));
        assert_eq!((decoded.pixels.width(), decoded.pixels.height()), (72, 104));
        quarters(&decoded.pixels, [0, 2, 1, 3]);
        assert_eq!(
            decoded.icc.as_deref(),
            Some(b"not a profile, but kept".as_slice())
        );
        assert_eq!(decoded.cicp, Some([12, 13, 0, 1]));
        assert_eq!(
            decoded.xmp.as_deref(),
            Some(b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>".as_slice())
        );
        let exif = decoded.exif.as_deref().unwrap();
        assert!(
            exif.starts_with(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06"),
            "{exif:?}"
        );
        assert!(!decoded.premultiplied && decoded.warnings.is_empty());
    }

    /// The left half has an alpha of 100, and its colours have been multiplied with it.
    pub(super) fn check_premultiplied(decoded: &Decoded) {
        let DynamicImage::ImageRgba8(pixels) = &decoded.pixels else {
            panic!("{:?}", decoded.pixels.color())
        };
        assert!(decoded.premultiplied);
        for (column, wanted) in [(10, [86, 15, 15, 100]), (30, [40, 200, 60, 255])] {
            let found = pixels.get_pixel(column, 6).0;
            assert!(
                found
                    .iter()
                    .zip(wanted)
                    .all(|(&found, wanted)| found.abs_diff(wanted) <= 4),
                "{found:?}"
            );
        }
    }

    /// From black at the left to white at the right.
    pub(super) fn check_gray(decoded: &Decoded) {
        let DynamicImage::ImageLuma16(pixels) = &decoded.pixels else {
            panic!("{:?}", decoded.pixels.color())
        };
        assert_eq!(pixels.dimensions(), (40, 24));
        for (column, _, pixel) in pixels.enumerate_pixels() {
            assert!(
                pixel.0[0].abs_diff((column * 65535 / 39) as u16) < 700,
                "{column}: {pixel:?}"
            );
        }
    }
}
