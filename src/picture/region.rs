//! No more of a picture than a region of it needs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use image::error::{DecodingError, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageResult, RgbImage, imageops,
};

use super::colour::Colour;
use super::decode::guard::guarded;
use super::decode::{Limits, Rgb8, check_file, check_size, open_rgb8, reason};
use super::format::Format;
use crate::error::{Error, Result};

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub top: u32,
    pub left: u32,
    pub height: u32,
    pub width: u32,
}

/// A region of the picture at `path`, the same pixels as [`open_rgb8`]'s there, and the size of the whole picture.
///
/// Of a PNG, rows are decoded only down to the region's last. Interlaced, animated and turned ones are decoded whole, as are
/// other formats.
pub(crate) fn open_region(path: &Path, region: Region) -> Result<(Rgb8, (u32, u32))> {
    let limits = Limits::default();
    check_file(path, &limits)?;
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let head = file.fill_buf().map_err(Error::io(path))?;
    if Format::of_content(head) == Ok(Format::Png) {
        let part = guarded(|| png_region(file, region, &limits));
        if let Some(part) = part.map_err(|reason| Error::image(path, reason))? {
            let (pixels, size) = part;
            let warnings = Vec::new();
            return Ok((Rgb8 { pixels, warnings }, size));
        }
    }
    let Rgb8 {
        pixels: whole,
        warnings,
    } = open_rgb8(path)?;
    let Region {
        top,
        left,
        height,
        width,
    } = region;
    let pixels = imageops::crop_imm(&whole, left, top, width, height).to_image();
    let size = whole.dimensions();
    Ok((Rgb8 { pixels, warnings }, size))
}

/// A region's pixels, and the size of the whole picture.
type Part = (RgbImage, (u32, u32));

/// The region of a PNG, unless the whole has to be decoded for it.
fn png_region(
    file: BufReader<File>,
    region: Region,
    limits: &Limits,
) -> Result<Option<Part>, String> {
    let fail = |error: ImageError| reason(Format::Png, &error);
    let rows = PngRows::new(file, limits).map_err(fail)?;
    let (width, height) = rows.reader.info().size();
    let bytes = u64::from(width) * u64::from(height) * u64::from(rows.colour.bytes_per_pixel());
    check_size(width, height, bytes, limits)?;
    let Some(rows) = rows.of(region) else {
        return Ok(None);
    };
    let pixels = DynamicImage::from_decoder(rows).map_err(fail)?.into_rgb8();
    Ok(Some((pixels, (width, height))))
}

/// A PNG whose header has been read, with the samples that `image` takes from it.
struct PngRows {
    reader: png::Reader<BufReader<File>>,
    colour: ColorType,
}

impl PngRows {
    fn new(file: BufReader<File>, limits: &Limits) -> ImageResult<Self> {
        let limits = png::Limits {
            bytes: usize::try_from(limits.max_alloc).unwrap_or(usize::MAX),
        };
        let mut decoder = png::Decoder::new_with_limits(file, limits);
        // As `image` does: palettes to colours, and fewer bits than 8 to 8.
        decoder.set_transformations(png::Transformations::EXPAND);
        let reader = decoder.read_info().map_err(image_error)?;
        let sixteen = reader.output_color_type().1 == png::BitDepth::Sixteen;
        let colour = match (reader.output_color_type().0, sixteen) {
            (png::ColorType::Grayscale, false) => ColorType::L8,
            (png::ColorType::Grayscale, true) => ColorType::L16,
            (png::ColorType::GrayscaleAlpha, false) => ColorType::La8,
            (png::ColorType::GrayscaleAlpha, true) => ColorType::La16,
            (png::ColorType::Rgb | png::ColorType::Indexed, false) => ColorType::Rgb8,
            (png::ColorType::Rgb | png::ColorType::Indexed, true) => ColorType::Rgb16,
            (png::ColorType::Rgba, false) => ColorType::Rgba8,
            (png::ColorType::Rgba, true) => ColorType::Rgba16,
        };
        Ok(Self { reader, colour })
    }

    /// A decoder of the region alone, if rows come one after the other, none is to be turned, and the region lies in the image.
    fn of(self, region: Region) -> Option<PngRegion> {
        let info = self.reader.info();
        let fits = |start: u32, length: u32, most: u32| {
            start.checked_add(length).is_some_and(|end| end <= most)
        };
        let inside = fits(region.top, region.height, info.height)
            && fits(region.left, region.width, info.width);
        let plain = !info.interlaced && info.animation_control.is_none();
        // ImageMagick's place for an orientation.
        let raw = |keyword: &str| keyword.starts_with("Raw profile type");
        let plain = plain
            && !info
                .compressed_latin1_text
                .iter()
                .any(|text| raw(&text.keyword))
            && !info.utf8_text.iter().any(|text| raw(&text.keyword))
            && !info
                .uncompressed_latin1_text
                .iter()
                .any(|text| raw(&text.keyword));
        let exif = info.exif_metadata.as_deref();
        let orientation = exif.and_then(Orientation::from_exif_chunk);
        let upright = orientation.is_none_or(|found| found == Orientation::NoTransforms);
        // Neither what is hidden under alpha nor linear light is shown as it is stored.
        let opaque = !self.colour.has_alpha();
        let plain = plain && opaque && colour_of(info).light().is_display();
        (inside && plain && upright).then_some(PngRegion { rows: self, region })
    }
}

/// What the header says of the values.
fn colour_of(info: &png::Info) -> Colour {
    Colour {
        icc: info.icc_profile.as_deref().map(<[u8]>::to_vec),
        cicp: info.coding_independent_code_points.map(|points| {
            [
                points.color_primaries,
                points.transfer_function,
                points.matrix_coefficients,
                u8::from(points.is_video_full_range_image),
            ]
        }),
        srgb: info.srgb.map(|intent| intent as u8),
        gamma: info.gama_chunk.map(png::ScaledFloat::into_scaled),
        ..Colour::default()
    }
}

/// Gives `image` a part of a PNG as though it were all of it, so that the conversion to RGB is `image`'s own.
struct PngRegion {
    rows: PngRows,
    region: Region,
}

impl ImageDecoder for PngRegion {
    fn dimensions(&self) -> (u32, u32) {
        (self.region.width, self.region.height)
    }

    fn color_type(&self) -> ColorType {
        self.rows.colour
    }

    fn read_image(self, samples: &mut [u8]) -> ImageResult<()> {
        let PngRegion { mut rows, region } = self;
        let pixel = usize::from(rows.colour.bytes_per_pixel());
        let start = region.left as usize * pixel;
        let length = region.width as usize * pixel;
        for _ in 0..region.top {
            rows.next()?;
        }
        for into in samples.chunks_exact_mut(length.max(1)) {
            let row = rows.next()?;
            into.copy_from_slice(
                row.get(start..start + length)
                    .ok_or_else(|| decoding_error("a row is short"))?,
            );
        }
        if rows.colour.bytes_per_pixel() > rows.colour.channel_count() {
            // PNG's samples are big-endian.
            for sample in samples.chunks_exact_mut(2) {
                let value = u16::from_be_bytes([sample[0], sample[1]]);
                sample.copy_from_slice(&value.to_ne_bytes());
            }
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, samples: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(samples)
    }
}

impl PngRows {
    fn next(&mut self) -> ImageResult<&[u8]> {
        match self.reader.next_row().map_err(image_error)? {
            Some(row) => Ok(row.data()),
            None => Err(decoding_error("the rows end early")),
        }
    }
}

fn image_error(error: png::DecodingError) -> ImageError {
    match error {
        png::DecodingError::IoError(error) => ImageError::IoError(error),
        png::DecodingError::LimitsExceeded => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        other => decoding_error(other),
    }
}

fn decoding_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormat::Png.into(), error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::picture::size;

    /// A PNG of these samples, as the `png` crate writes it.
    fn write_png(path: &Path, size: (u32, u32), kind: PngKind, samples: &[u8]) {
        let (width, height) = size;
        let mut info = png::Info::with_size(width, height);
        (info.color_type, info.bit_depth) = (kind.colour, kind.depth);
        if kind.colour == png::ColorType::Indexed {
            let colours = (0..=255_u8).flat_map(|i| [i, i.wrapping_mul(7), 255 - i]);
            info.palette = Some(colours.collect::<Vec<_>>().into());
            info.trns = kind.transparent.then(|| vec![9; 256].into());
        }
        let file = fs::File::create(path).unwrap();
        let encoder = png::Encoder::with_info(file, info).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(samples).unwrap();
        writer.finish().unwrap();
    }

    #[derive(Debug, Clone, Copy)]
    struct PngKind {
        colour: png::ColorType,
        depth: png::BitDepth,
        transparent: bool,
    }

    impl PngKind {
        fn row_bytes(self, width: u32) -> usize {
            let bits = self.colour.samples() * self.depth as usize * width as usize;
            bits.div_ceil(8)
        }
    }

    fn kinds() -> Vec<PngKind> {
        use png::BitDepth::{Eight, Four, One, Sixteen, Two};
        use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        let kind = |colour, depth| PngKind {
            colour,
            depth,
            transparent: false,
        };
        let mut kinds = Vec::new();
        for depth in [One, Two, Four, Eight, Sixteen] {
            kinds.push(kind(Grayscale, depth));
        }
        for depth in [Eight, Sixteen] {
            kinds.extend([GrayscaleAlpha, Rgb, Rgba].map(|colour| kind(colour, depth)));
        }
        kinds.push(kind(Indexed, Four));
        kinds.push(kind(Indexed, Eight));
        kinds.push(PngKind {
            transparent: true,
            ..kind(Indexed, Eight)
        });
        kinds
    }

    /// A length, and the start and length of a piece of it.
    fn piece() -> impl Strategy<Value = (u32, u32, u32)> {
        (1..40_u32, any::<u32>(), any::<u32>()).prop_map(|(length, start, size)| {
            let start = start % length;
            (length, start, 1 + size % (length - start))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_region_has_the_whole_decodes_pixels(
            (height, top, rows) in piece(),
            (width, left, columns) in piece(),
            kind in prop::sample::select(kinds()),
            seed in any::<u64>(),
        ) {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("a.png");
            let mut state = seed | 1;
            let samples: Vec<u8> = (0..height as usize * kind.row_bytes(width)).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            }).collect();
            write_png(&path, (width, height), kind, &samples);
            let region = Region { top, left, height: rows, width: columns };
            let (part, size) = open_region(&path, region).unwrap();
            let whole = open_rgb8(&path).unwrap().pixels;
            let expected = imageops::crop_imm(&whole, left, top, columns, rows).to_image();
            prop_assert_eq!(size, (width, height));
            let part = part.pixels;
            prop_assert_eq!(part.dimensions(), expected.dimensions());
            prop_assert!(part == expected, "{kind:?}");
        }
    }

    fn stripes() -> RgbImage {
        RgbImage::from_fn(31, 23, |x, y| {
            image::Rgb([x as u8 * 8, y as u8 * 11, (x * y) as u8])
        })
    }

    /// `image` as an interlaced PNG, without compression.
    fn write_interlaced(path: &Path, image: &RgbImage) {
        const PASSES: [(u32, u32, usize, usize); 7] = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ];
        let (width, height) = image.dimensions();
        let mut rows = Vec::new();
        for (left, top, right, down) in PASSES {
            for y in (top..height).step_by(down) {
                rows.push(0); // no filter
                let pixels = (left..width).step_by(right);
                rows.extend(pixels.flat_map(|x| image.get_pixel(x, y).0));
            }
        }
        let length = u16::try_from(rows.len()).unwrap();
        let (mut a, mut b) = (1_u32, 0_u32); // Adler-32
        for &byte in &rows {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        let stored = [
            &[0x78, 1, 1][..],
            &length.to_le_bytes(),
            &(!length).to_le_bytes(),
        ]
        .concat();
        let data = [stored, rows, (b << 16 | a).to_be_bytes().to_vec()].concat();

        let mut info = png::Info::with_size(width, height);
        (info.color_type, info.interlaced) = (png::ColorType::Rgb, true);
        let encoder = png::Encoder::with_info(fs::File::create(path).unwrap(), info).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_chunk(png::chunk::IDAT, &data).unwrap();
    }

    #[test]
    fn interlaced_files_are_decoded_whole() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.png");
        write_interlaced(&path, &stripes());
        assert!(open_rgb8(&path).unwrap().pixels == stripes());
        let expected = imageops::crop_imm(&stripes(), 5, 3, 11, 7).to_image();
        assert!(open_region(&path, REGION).unwrap().0.pixels == expected);
    }

    const REGION: Region = Region {
        top: 3,
        left: 5,
        height: 7,
        width: 11,
    };

    #[test]
    fn other_formats_give_regions_too_whatever_the_extension() {
        let folder = TempDir::new().unwrap();
        let expected = imageops::crop_imm(&stripes(), 5, 3, 11, 7).to_image();
        for (name, format) in [
            ("a.bmp", ImageFormat::Bmp),
            ("a.tiff", ImageFormat::Tiff),
            ("b.bmp", ImageFormat::Png),
        ] {
            let path = folder.path().join(name);
            stripes().save_with_format(&path, format).unwrap();
            let (region, _) = open_region(&path, REGION).unwrap();
            assert!(region.pixels == expected, "{name}");
        }
    }

    #[test]
    fn rows_below_the_region_are_not_decoded() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.png");
        let noise = |x: u32, y: u32| {
            let hash = (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b))
                .wrapping_mul(0xc2b2_ae35);
            image::Rgb([(hash >> 8) as u8, (hash >> 16) as u8, (hash >> 24) as u8])
        };
        RgbImage::from_fn(300, 300, noise).save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(open_rgb8(&path).is_err(), "half of it is gone");
        let (region, _) = open_region(&path, REGION).unwrap();
        assert_eq!(*region.pixels.get_pixel(2, 1), noise(7, 4));
        let below = Region { top: 290, ..REGION };
        let error = open_region(&path, below).unwrap_err();
        assert!(error.to_string().contains("a.png"), "{error}");
    }

    #[test]
    fn a_turned_picture_is_upright_before_its_region_is_cut() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.png");
        // An EXIF block with one entry: orientation 6, a quarter turn to the right.
        let exif = [
            &b"II*\0\x08\0\0\0"[..],
            &[1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0],
        ];
        let file = fs::File::create(&path).unwrap();
        let mut encoder = image::codecs::png::PngEncoder::new(file);
        image::ImageEncoder::set_exif_metadata(&mut encoder, exif.concat()).unwrap();
        stripes().write_with_encoder(encoder).unwrap();
        let upright = imageops::rotate90(&stripes());
        assert_eq!(size(&path).unwrap(), upright.dimensions());
        let (region, whole) = open_region(&path, REGION).unwrap();
        assert_eq!(whole, upright.dimensions());
        assert!(region.pixels == imageops::crop_imm(&upright, 5, 3, 11, 7).to_image());
    }
}
