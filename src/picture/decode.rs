//! Image files to pixels, within limits.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek};
use std::path::Path;

use image::codecs::bmp::BmpDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, RgbImage};

use super::Format;
use crate::error::{Error, Result};

/// How large an image may be.
///
/// A few bytes can announce an image of gigabytes. Width, height and pixels are compared with what
/// the file's header says, before the memory for its pixels is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels a side. Default: 65,535, the most that a JPEG can have.
    pub max_side: u32,
    /// Most pixels in all. Default: 2²⁷ (134 megapixels, a medium-format camera's 102 and some
    /// room).
    pub max_pixels: u64,
    /// Most bytes of a file, and most bytes that its decoder may take (profiles, other tables, and
    /// pixels as decoded, at most 8 bytes each). Default: 2 GiB.
    pub max_alloc: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_side: 65_535,
            max_pixels: 1 << 27,
            max_alloc: 2 << 30,
        }
    }
}

/// A decoded file: its pixels turned upright, its ICC profile and its format.
pub(super) struct Decoded {
    pub pixels: DynamicImage,
    pub icc: Option<Vec<u8>>,
    pub format: Format,
}

/// That `path` is a regular file of no more bytes than `limits` allow.
pub(super) fn check_file(path: &Path, limits: &Limits) -> Result<()> {
    let found = fs::metadata(path).map_err(Error::io(path))?;
    if found.is_dir() {
        return Err(Error::image(path, "a folder, expected an image file"));
    }
    if !found.is_file() {
        return Err(Error::image(
            path,
            "not a regular file, expected an image file",
        ));
    }
    if found.len() > limits.max_alloc {
        let reason = format!("{} bytes, the limit is {}", found.len(), limits.max_alloc);
        return Err(Error::image(path, reason));
    }
    Ok(())
}

/// The bytes of the regular file at `path`, if there are no more of them than `limits` allow.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    check_file(path, limits)?;
    fs::read(path).map_err(Error::io(path))
}

/// All that `reader` has, if it is no more than `limits` allow.
pub(super) fn read_all(reader: impl Read, origin: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = reader.take(limits.max_alloc.saturating_add(1));
    reader.read_to_end(&mut bytes).map_err(Error::io(origin))?;
    if bytes.len() as u64 > limits.max_alloc {
        let reason = format!("more bytes than the limit of {}", limits.max_alloc);
        return Err(Error::image(origin, reason));
    }
    Ok(bytes)
}

/// Decodes `bytes`; `origin` names them in errors.
pub(super) fn decode(bytes: &[u8], origin: &Path, limits: &Limits) -> Result<Decoded> {
    let Header {
        format,
        orientation,
        mut decoder,
    } = Header::of_bytes(bytes, origin, limits)?;
    let failed = |error: ImageError| Error::image(origin, reason(format, &error));
    let icc = decoder
        .icc_profile()
        .map_err(failed)?
        .filter(|profile| describes_output(profile));
    // Not before: under limits, the TIFF decoder refuses a profile larger than the pixels.
    decoder.set_limits(decoder_limits(limits)).map_err(failed)?;
    let mut pixels = DynamicImage::from_decoder(decoder).map_err(failed)?;
    pixels.apply_orientation(orientation);
    Ok(Decoded {
        pixels,
        icc,
        format,
    })
}

/// The picture at `path`, upright, as 8-bit RGB: 16 bits rounded, without alpha.
pub(crate) fn open_rgb8(path: &Path) -> Result<RgbImage> {
    let limits = Limits::default();
    let decoded = decode(&read(path, &limits)?, path, &limits)?;
    Ok(decoded.pixels.into_rgb8())
}

/// Width and height of the picture at `path`, upright, by its header.
pub(crate) fn size(path: &Path) -> Result<(u32, u32)> {
    let limits = Limits::default();
    check_file(path, &limits)?;
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let format = Format::of_content(file.fill_buf().map_err(Error::io(path))?);
    let header = match format.map_err(|reason| Error::image(path, reason))? {
        // Its decoder reads to the end in any case, and there alone it shows whether it is complete.
        Format::Jpeg => return Ok(Header::of_bytes(&read(path, &limits)?, path, &limits)?.size()),
        format => Header::new(format, file, path, &limits)?,
    };
    Ok(header.size())
}

/// What a file says before its pixels, within the limits.
struct Header<'a> {
    format: Format,
    orientation: Orientation,
    decoder: Box<dyn ImageDecoder + 'a>,
}

impl<'a> Header<'a> {
    fn of_bytes(bytes: &'a [u8], origin: &Path, limits: &Limits) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::image(origin, "the file is empty"));
        }
        let format = Format::of_content(bytes).map_err(|reason| Error::image(origin, reason))?;
        let header = Self::new(format, Cursor::new(bytes), origin, limits)?;
        if format == Format::Jpeg && !jpeg_is_complete(bytes) {
            return Err(Error::image(
                origin,
                "truncated: the JPEG has no end-of-image marker",
            ));
        }
        Ok(header)
    }

    fn new(
        format: Format,
        file: impl BufRead + Seek + 'a,
        origin: &Path,
        limits: &Limits,
    ) -> Result<Self> {
        let failed = |error: ImageError| Error::image(origin, reason(format, &error));
        let mut decoder = decoder(format, file, limits).map_err(failed)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height, decoder.total_bytes(), limits)
            .map_err(|reason| Error::image(origin, reason))?;
        let colour = decoder.color_type();
        if colour.bytes_per_pixel() > 2 * colour.channel_count() {
            return Err(Error::image(
                origin,
                "samples of 32 bits floating point, expected 8 or 16 bits",
            ));
        }
        Ok(Self {
            format,
            orientation: decoder.orientation().map_err(failed)?,
            decoder,
        })
    }

    /// Of the picture turned upright.
    fn size(&self) -> (u32, u32) {
        let (width, height) = self.decoder.dimensions();
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (height, width),
            _ => (width, height),
        }
    }
}

fn decoder_limits(limits: &Limits) -> image::Limits {
    let mut most = image::Limits::no_limits();
    most.max_alloc = Some(limits.max_alloc);
    most
}

/// A decoder that has read the file's header and no pixels.
fn decoder<'a>(
    format: Format,
    file: impl BufRead + Seek + 'a,
    limits: &Limits,
) -> ImageResult<Box<dyn ImageDecoder + 'a>> {
    Ok(match format {
        Format::Png => Box::new(PngDecoder::with_limits(file, decoder_limits(limits))?),
        Format::Jpeg => Box::new(JpegDecoder::new(file)?),
        Format::WebP => Box::new(WebPDecoder::new(file)?),
        Format::Tiff => Box::new(TiffDecoder::new(file)?),
        Format::Bmp => Box::new(BmpDecoder::new(file)?),
    })
}

pub(super) fn check_size(
    width: u32,
    height: u32,
    bytes: u64,
    limits: &Limits,
) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("{width}×{height} pixels, expected at least 1×1"));
    }
    if width > limits.max_side || height > limits.max_side {
        return Err(format!(
            "{width}×{height} pixels, the limit is {} pixels a side",
            limits.max_side
        ));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(format!(
            "{width}×{height} pixels are {pixels}, the limit is {}",
            limits.max_pixels
        ));
    }
    if bytes > limits.max_alloc {
        return Err(format!(
            "{width}×{height} pixels take {bytes} bytes, the limit is {}",
            limits.max_alloc
        ));
    }
    Ok(())
}

pub(super) fn reason(format: Format, error: &ImageError) -> String {
    match error {
        ImageError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            format!("truncated: the {format} data end early")
        }
        ImageError::IoError(source) => format!("{format}: {source}"),
        _ => error.to_string(),
    }
}

/// CMYK is decoded to RGB, which a CMYK profile does not describe.
fn describes_output(profile: &[u8]) -> bool {
    super::profile_space(profile) != Some(b"CMYK")
}

/// Whether a JPEG's segments and scans reach its end-of-image marker.
///
/// The decoder fills what is missing with gray and says nothing.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start-of-image marker
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|&b| b == 0xff))
    {
        at += found;
        while bytes.get(at) == Some(&0xff) {
            at += 1;
        }
        let Some(&marker) = bytes.get(at) else {
            return false;
        };
        at += 1;
        match marker {
            0xd9 => return true,
            // A stuffed 0xff inside a scan, a marker without a segment, or a restart.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2) else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_limits_say_what_was_found_and_allowed() {
        let limits = Limits {
            max_side: 100,
            max_pixels: 5_000,
            max_alloc: 9_000,
        };
        assert_eq!(check_size(100, 50, 5_000, &limits), Ok(()));
        let says = |width, height, bytes, words: &[&str]| {
            let reason = check_size(width, height, bytes, &limits).unwrap_err();
            assert!(
                words.iter().all(|word| reason.contains(word)),
                "{reason}: {words:?}"
            );
        };
        says(101, 1, 1, &["101×1", "100 pixels a side"]);
        says(1, 101, 1, &["1×101", "100 pixels a side"]);
        says(100, 51, 1, &["5100", "5000"]);
        says(50, 50, 9_001, &["9001", "9000"]);
        says(0, 5, 0, &["0×5", "at least 1×1"]);
        // The product of the largest sides does not wrap around.
        let sides = Limits {
            max_side: u32::MAX,
            ..Limits::default()
        };
        assert!(check_size(u32::MAX, u32::MAX, 0, &sides).is_err());
    }

    #[test]
    fn a_jpeg_is_complete_only_with_its_own_end_marker() {
        let segment = [0xff, 0xe1, 0, 4, 0xff, 0xd9]; // holds an end marker, not the file's
        let scan = [0xff, 0xda, 0, 2, 1, 2, 0xff, 0x00, 3, 0xff, 0xd0, 4];
        let file = [
            &[0xff, 0xd8][..],
            &segment,
            &scan,
            &[0xff, 0xff, 0xd9, 7, 7],
        ]
        .concat();
        let end = file.len() - 2;
        assert!(jpeg_is_complete(&file));
        assert!(jpeg_is_complete(&file[..end]));
        for cut in 0..end {
            assert!(!jpeg_is_complete(&file[..cut]), "cut at {cut}");
        }
    }
}
