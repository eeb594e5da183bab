//! Image files to pixels, within limits.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::bmp::BmpDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, RgbImage};

use super::animation::{self, Animation};
use super::colour::{Colour, cmyk_to_rgb};
use super::frames::Timing;
use super::metadata::{ColourSpace, Metadata, Resolution, Unit};
use super::{Carried, Format, Photograph, Storage};
use crate::error::{Error, Result};

pub(crate) mod guard;
#[cfg(any(feature = "heic", feature = "avif"))]
mod heif;
pub(crate) mod jpeg;
pub(crate) mod tiff;

use guard::guarded;

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
        // A fuzzer has many files to read and little memory.
        #[cfg(fuzzing)]
        return Limits {
            max_side: 4096,
            max_pixels: 1 << 18,
            max_alloc: 1 << 26,
        };
        #[cfg(not(fuzzing))]
        Limits {
            max_side: 65_535,
            max_pixels: 1 << 27,
            max_alloc: 2 << 30,
        }
    }
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

/// What is written as the program that a picture comes from.
const SOFTWARE: &str = concat!("hi-diff ", env!("CARGO_PKG_VERSION"));

/// One picture of a file, as it is stored.
pub(super) struct Stored {
    pub pixels: DynamicImage,
    /// How the pixels are turned, 1 to 8 as in EXIF; 1 is upright.
    orientation: u16,
    pub carried: Carried,
}

/// What a file holds.
pub(super) struct Decoded {
    /// At least one.
    pub pictures: Vec<Stored>,
    /// Of an animation.
    pub timing: Option<Timing>,
}

impl Decoded {
    fn of(pixels: DynamicImage, carried: Carried) -> Self {
        let picture = Stored {
            pixels,
            orientation: carried.metadata.orientation(),
            carried,
        };
        Self::one(picture)
    }

    fn one(picture: Stored) -> Self {
        Self {
            pictures: vec![picture],
            timing: None,
        }
    }
}

/// How much of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its first picture, with a warning if there are others.
    First,
    /// All of them.
    All,
}

/// Decodes `bytes`; `origin` names them in errors.
pub(super) fn decode(
    bytes: &[u8],
    origin: &Path,
    limits: &Limits,
    extent: Extent,
) -> Result<Decoded> {
    let decode = || {
        let mut decoded = match content_of(bytes)? {
            Content::Format(Format::Jpeg) => decode_jpeg(bytes, limits),
            Content::Format(Format::Png) => decode_png(bytes, limits, extent),
            Content::Format(Format::WebP) => decode_webp(bytes, limits, extent),
            Content::Format(Format::Tiff) => decode_tiff(bytes, limits, extent),
            Content::Format(Format::Gif) => decode_gif(bytes, limits, extent),
            Content::Format(Format::Bmp) => decode_bmp(bytes, limits),
            #[cfg(any(feature = "heic", feature = "avif"))]
            Content::Heif(codec) => codec.decode(bytes, limits).map(Decoded::one),
        }?;
        for picture in &mut decoded.pictures {
            turn_upright(picture);
        }
        Ok(decoded)
    };
    guarded(decode).map_err(|reason| Error::image(origin, reason))
}

/// What a file is, by its first bytes.
enum Content {
    Format(Format),
    /// Read and not written.
    #[cfg(any(feature = "heic", feature = "avif"))]
    Heif(heif::Codec),
}

fn content_of(bytes: &[u8]) -> Result<Content, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_string());
    }
    #[cfg(any(feature = "heic", feature = "avif"))]
    if let Some(codec) = heif::Codec::of(bytes) {
        return Ok(Content::Heif(codec));
    }
    Format::of_content(bytes).map(Content::Format)
}

/// Turns the pixels as the metadata say, and has the metadata say so.
fn turn_upright(picture: &mut Stored) {
    let orientation = u8::try_from(std::mem::replace(&mut picture.orientation, 1)).unwrap_or(1);
    if let Some(turn) = Orientation::from_exif(orientation) {
        picture.pixels.apply_orientation(turn);
    }
    let (width, height) = (picture.pixels.width(), picture.pixels.height());
    let Carried {
        metadata,
        colour,
        warnings,
        inks,
        ..
    } = &mut picture.carried;
    if orientation >= 5
        && let Some(resolution) = &mut metadata.resolution
    {
        std::mem::swap(&mut resolution.x, &mut resolution.y);
    }
    // Of inks, which no pixels are by now.
    colour
        .icc
        .take_if(|profile| profile.get(16..20) == Some(b"CMYK"));
    let space = if *inks || *colour != Colour::default() && colour.is_srgb() {
        ColourSpace::Srgb
    } else if *colour != Colour::default() {
        ColourSpace::Uncalibrated
    } else {
        ColourSpace::Keep
    };
    metadata.upright(width, height, space, SOFTWARE);
    let left_out = metadata.warnings.drain(..);
    warnings.extend(left_out.map(|what| format!("{what} is left out")));
    warnings.extend(colour.warning());
}

fn decode_jpeg(bytes: &[u8], limits: &Limits) -> Result<Decoded, String> {
    let header = jpeg::header(bytes)?;
    let (width, height) = (header.width, header.height);
    let size = u64::from(width) * u64::from(height) * u64::from(header.components);
    check_size(width, height, size, limits)?;
    let jpeg::Jpeg {
        width,
        height,
        samples,
        mut warnings,
        trailer,
    } = jpeg::decode(bytes)?;
    let behind = bytes.len().saturating_sub(trailer);
    warnings.extend(left_out(&bytes[behind..]));
    let profile = JpegDecoder::new(Cursor::new(bytes)).and_then(|mut found| found.icc_profile());
    let inks = matches!(samples, jpeg::Samples::Cmyk(_));
    let mut icc = profile.unwrap_or_else(|error| {
        warnings.push(format!("the colour profile is left out: {error}"));
        None
    });
    let pixels = match samples {
        jpeg::Samples::Gray(samples) => {
            GrayImage::from_raw(width, height, samples).map(DynamicImage::from)
        }
        jpeg::Samples::Rgb(samples) => RgbImage::from_raw(width, height, samples).map(Into::into),
        jpeg::Samples::Cmyk(samples) => {
            // The result is RGB, which a profile of inks does not describe.
            let (rgb, warning) = cmyk_to_rgb(&samples, icc.take().as_deref());
            warnings.extend(warning);
            RgbImage::from_raw(width, height, rgb).map(Into::into)
        }
    };
    let carried = Carried {
        lossy: true,
        inks,
        colour: Colour {
            icc,
            ..Colour::default()
        },
        metadata: Metadata::of_jpeg(bytes),
        warnings,
        ..Carried::new(Format::Jpeg)
    };
    let pixels = pixels.ok_or("JPEG: the decoder gave too few samples")?;
    Ok(Decoded::of(pixels, carried))
}

/// What lies behind a JPEG's end and is not read.
fn left_out(behind: &[u8]) -> Option<String> {
    let holds = |pattern: &[u8]| behind.windows(pattern.len()).any(|found| found == pattern);
    let what = if holds(b"ftyp") {
        "a video (of a motion photo)"
    } else if holds(&[0xff, 0xd8, 0xff]) {
        "a second picture (a gain map, a depth map, or another view)"
    } else {
        return None;
    };
    Some(format!("{what} in the same file is left out"))
}

fn decode_png(bytes: &[u8], limits: &Limits, extent: Extent) -> Result<Decoded, String> {
    let failed = |error: ImageError| reason(Format::Png, &error);
    let file = Cursor::new(bytes);
    let decoder = PngDecoder::with_limits(file, decoder_limits(limits)).map_err(failed)?;
    check_decoder(&decoder, limits)?;
    let carried = Carried {
        colour: Colour::of_png(bytes),
        metadata: Metadata::of_png(bytes),
        ..Carried::new(Format::Png)
    };
    if extent == Extent::All
        && let Some(found) = animation::of_png(bytes, limits.max_pixels)?
    {
        return Ok(animated(found, carried));
    }
    let mut decoded = Decoded::of(read_pixels(decoder, Format::Png, limits)?, carried);
    warn_of_frames(bytes, extent, &mut decoded);
    Ok(decoded)
}

fn decode_webp(bytes: &[u8], limits: &Limits, extent: Extent) -> Result<Decoded, String> {
    let failed = |error: ImageError| reason(Format::WebP, &error);
    check_webp_end(bytes)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    check_decoder(&decoder, limits)?;
    let carried = Carried {
        lossy: super::webp_lossy::webp_is_lossy(bytes),
        colour: Colour {
            icc: decoder.icc_profile().map_err(failed)?,
            ..Colour::default()
        },
        metadata: Metadata::of_webp(bytes),
        ..Carried::new(Format::WebP)
    };
    if extent == Extent::All
        && let Some(found) = animation::of_webp(bytes, limits.max_pixels)?
    {
        return Ok(animated(found, carried));
    }
    let mut decoded = Decoded::of(read_pixels(decoder, Format::WebP, limits)?, carried);
    warn_of_frames(bytes, extent, &mut decoded);
    Ok(decoded)
}

/// That the file is as long as its header says: metadata come last, and with them how the picture is turned.
fn check_webp_end(bytes: &[u8]) -> Result<(), String> {
    let length = bytes.get(4..).and_then(<[u8]>::first_chunk);
    let length = length.map_or(0, |&length| u64::from(u32::from_le_bytes(length)));
    const HEAD: u64 = 8;
    match bytes.len() as u64 >= HEAD + length {
        true => Ok(()),
        false => Err("truncated: the WebP data end early".to_string()),
    }
}

fn decode_gif(bytes: &[u8], limits: &Limits, extent: Extent) -> Result<Decoded, String> {
    let carried = Carried::new(Format::Gif);
    let mut decoded = animated(animation::of_gif(bytes, limits.max_pixels)?, carried);
    if extent == Extent::First {
        decoded.pictures.truncate(1);
        decoded.timing = None;
        warn_of_frames(bytes, extent, &mut decoded);
    }
    Ok(decoded)
}

/// Says that there are further frames, where the first one alone is wanted.
fn warn_of_frames(bytes: &[u8], extent: Extent, decoded: &mut Decoded) {
    let count = animation::count(bytes).ok().flatten();
    let frames = count.map_or(1, |count| count.frames);
    if extent == Extent::First
        && frames > 1
        && let Some(first) = decoded.pictures.first_mut()
    {
        let warning = format!("an animation of {frames} frames, of which the first is taken");
        first.carried.warnings.push(warning);
    }
}

fn animated(animation: Animation, mut carried: Carried) -> Decoded {
    if animation.still.is_some() {
        let what = "the picture that is shown where animations cannot be is left out";
        carried.warnings.push(what.to_string());
    }
    let timing = Timing {
        delays: animation
            .frames
            .iter()
            .map(|frame| (frame.delay.numerator, frame.delay.denominator))
            .collect(),
        loops: animation.loops,
    };
    let pictures = animation.frames.into_iter().map(|frame| Stored {
        pixels: frame.pixels,
        orientation: carried.metadata.orientation(),
        carried: carried.clone(),
    });
    let pictures: Vec<_> = pictures.collect();
    Decoded {
        timing: (pictures.len() > 1).then_some(timing),
        pictures,
    }
}

fn decode_bmp(bytes: &[u8], limits: &Limits) -> Result<Decoded, String> {
    let decoder = BmpDecoder::new(Cursor::new(bytes));
    let decoder = decoder.map_err(|error| reason(Format::Bmp, &error))?;
    check_decoder(&decoder, limits)?;
    let carried = Carried {
        metadata: Metadata {
            resolution: resolution_of_bmp(bytes),
            ..Metadata::default()
        },
        ..Carried::new(Format::Bmp)
    };
    let pixels = read_pixels(decoder, Format::Bmp, limits)?;
    Ok(Decoded::of(pixels, carried))
}

/// In pixels a metre, in headers of 40 bytes and more.
fn resolution_of_bmp(bytes: &[u8]) -> Option<Resolution> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let centimetre = |metre: u32| f64::from(metre) / 100.0;
    let [x, y] = super::BMP_RESOLUTION.map(|at| word(at).map(centimetre));
    (word(14)? >= 40).then(|| Resolution::new(x?, y?, Unit::Centimetre))?
}

fn decode_tiff(bytes: &[u8], limits: &Limits, extent: Extent) -> Result<Decoded, String> {
    let header = tiff::header(bytes)?;
    check_size(header.width, header.height, 0, limits)?;
    let (pages, mut warnings) = match extent {
        Extent::All => tiff::decode(bytes, limits.max_alloc)?,
        Extent::First => {
            let (page, warnings) = tiff::decode_first(bytes, limits.max_alloc)?;
            (vec![page], warnings)
        }
    };
    if extent == Extent::First && header.pages > 1 {
        let pages = header.pages;
        warnings.push(format!("{pages} pages, of which the first is taken"));
    }
    let mut pixels = 0;
    let mut pictures = Vec::new();
    for page in pages {
        let bytes = page.samples.bytes();
        check_size(page.width, page.height, bytes, limits)?;
        pixels += u64::from(page.width) * u64::from(page.height);
        if pixels > limits.max_pixels {
            let most = limits.max_pixels;
            return Err(format!(
                "pages of more than {most} pixels together, the limit"
            ));
        }
        let warnings = std::mem::take(&mut warnings);
        pictures.push(stored_page(page, warnings)?);
    }
    Ok(Decoded {
        pictures,
        timing: None,
    })
}

fn stored_page(page: tiff::Page, mut warnings: Vec<String>) -> Result<Stored, String> {
    let inks = page.channels == tiff::Channels::Cmyk;
    let (mut icc, mut samples) = (page.icc, page.samples);
    if inks {
        let profile = icc.take();
        let warning;
        (samples, warning) = match samples {
            tiff::Samples::Eight(samples) => {
                let (rgb, warning) = cmyk_to_rgb(&samples, profile.as_deref());
                (tiff::Samples::Eight(rgb), warning)
            }
            tiff::Samples::Sixteen(samples) => {
                let (rgb, warning) = cmyk_to_rgb(&samples, profile.as_deref());
                (tiff::Samples::Sixteen(rgb), warning)
            }
        };
        warnings.extend(warning);
    }
    let pixels = image_of(page.width, page.height, page.channels, samples);
    let carried = Carried {
        lossy: page.compression == tiff::Compression::Jpeg,
        associated: page.alpha == Some(tiff::Alpha::Associated),
        inks,
        colour: Colour {
            icc,
            ..Colour::default()
        },
        metadata: Metadata {
            exif: page.exif,
            xmp: page.xmp,
            iptc: page.iptc,
            photoshop: page.photoshop,
            ..Metadata::default()
        },
        compression: Some(Storage {
            compression: page.compression,
            predictor: page.predictor,
        }),
        warnings,
        ..Carried::new(Format::Tiff)
    };
    Ok(Stored {
        pixels: pixels.ok_or("TIFF: the decoder gave too few samples")?,
        orientation: page.orientation,
        carried,
    })
}

fn image_of(
    width: u32,
    height: u32,
    channels: tiff::Channels,
    samples: tiff::Samples,
) -> Option<DynamicImage> {
    use image::ImageBuffer as Buffer;
    use tiff::Channels::{Cmyk, Gray, GrayAlpha, Rgb, Rgba};
    use tiff::Samples::{Eight, Sixteen};
    match (channels, samples) {
        (Gray, Eight(s)) => Buffer::from_raw(width, height, s).map(DynamicImage::ImageLuma8),
        (GrayAlpha, Eight(s)) => Buffer::from_raw(width, height, s).map(DynamicImage::ImageLumaA8),
        (Rgb | Cmyk, Eight(s)) => Buffer::from_raw(width, height, s).map(DynamicImage::ImageRgb8),
        (Rgba, Eight(s)) => Buffer::from_raw(width, height, s).map(DynamicImage::ImageRgba8),
        (Gray, Sixteen(s)) => Buffer::from_raw(width, height, s).map(DynamicImage::ImageLuma16),
        (GrayAlpha, Sixteen(s)) => {
            Buffer::from_raw(width, height, s).map(DynamicImage::ImageLumaA16)
        }
        (Rgb | Cmyk, Sixteen(s)) => {
            Buffer::from_raw(width, height, s).map(DynamicImage::ImageRgb16)
        }
        (Rgba, Sixteen(s)) => Buffer::from_raw(width, height, s).map(DynamicImage::ImageRgba16),
    }
}

fn read_pixels(
    mut decoder: impl ImageDecoder,
    format: Format,
    limits: &Limits,
) -> Result<DynamicImage, String> {
    let failed = |error: ImageError| reason(format, &error);
    decoder.set_limits(decoder_limits(limits)).map_err(failed)?;
    DynamicImage::from_decoder(decoder).map_err(failed)
}

/// A picture as measures and training see it.
#[derive(Debug)]
pub(crate) struct Rgb8 {
    pub pixels: RgbImage,
    /// Each with the file's name.
    pub warnings: Vec<String>,
}

/// The picture at `path`, upright, as 8-bit RGB as [`Photograph::to_rgb8`] gives it.
pub(crate) fn open_rgb8(path: &Path) -> Result<Rgb8> {
    let limits = Limits::default();
    let decoded = decode(&read(path, &limits)?, path, &limits, Extent::First)?;
    let first = decoded.pictures.into_iter().next();
    let first = first.ok_or_else(|| Error::image(path, "no picture in this file"))?;
    let warnings = first.carried.warnings.iter();
    let warnings = warnings.map(|warning| format!("{}: {warning}", path.display()));
    let warnings = warnings.collect();
    let pixels = match first.is_plain() {
        true => first.pixels.into_rgb8(),
        false => {
            let photograph = Photograph::of_stored(first);
            photograph
                .map_err(|reason| Error::image(path, reason))?
                .to_rgb8()
        }
    };
    Ok(Rgb8 { pixels, warnings })
}

impl Stored {
    /// Whether the model sees the values as they are stored: no transparency, no linear light.
    fn is_plain(&self) -> bool {
        !self.pixels.color().has_alpha() && self.carried.colour.light().is_display()
    }
}

/// Width and height of the picture at `path`, upright, by its header; and that the file does not end early.
pub(crate) fn size(path: &Path) -> Result<(u32, u32)> {
    let limits = Limits::default();
    check_file(path, &limits)?;
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let head = file.fill_buf().map_err(Error::io(path))?;
    let fail = |reason| Error::image(path, reason);
    let found = match content_of(head).map_err(fail)? {
        // A row of chunks, whose headers are a small part of the file.
        Content::Format(Format::Png) => guarded(|| size_of_png(file, &limits)),
        _ => {
            let bytes = read(path, &limits)?;
            guarded(|| size_of(&bytes, &limits))
        }
    };
    found.map_err(fail)
}

fn size_of(bytes: &[u8], limits: &Limits) -> Result<(u32, u32), String> {
    let failed = |format| move |error: ImageError| reason(format, &error);
    let (size, orientation) = match content_of(bytes)? {
        Content::Format(Format::Jpeg) => {
            let header = jpeg::header(bytes)?;
            let (width, height) = (header.width, header.height);
            check_size(width, height, 0, limits)?;
            if jpeg::end(bytes).is_none() {
                jpeg::decode(bytes)?; // complete but for its end marker, or truncated
            }
            ((width, height), Metadata::of_jpeg(bytes).orientation())
        }
        Content::Format(Format::Tiff) => {
            let header = tiff::header(bytes)?;
            ((header.width, header.height), header.orientation)
        }
        Content::Format(Format::Gif) => {
            let found = animation::count(bytes)?.ok_or("GIF: no frame in this file")?;
            ((found.width, found.height), 1)
        }
        Content::Format(Format::WebP) => {
            check_webp_end(bytes)?;
            let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed(Format::WebP))?;
            let orientation = Metadata::of_webp(bytes).orientation();
            (check_decoder(&decoder, limits)?, orientation)
        }
        Content::Format(Format::Bmp) => {
            let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed(Format::Bmp))?;
            (check_decoder(&decoder, limits)?, 1)
        }
        Content::Format(Format::Png) => return size_of_png(Cursor::new(bytes), limits),
        #[cfg(any(feature = "heic", feature = "avif"))]
        Content::Heif(codec) => return codec.size(bytes, limits),
    };
    check_size(size.0, size.1, 0, limits)?;
    Ok(upright(size, orientation))
}

fn upright((width, height): (u32, u32), orientation: u16) -> (u32, u32) {
    match orientation {
        5..=8 => (height, width),
        _ => (width, height),
    }
}

fn size_of_png(mut file: impl BufRead + Seek, limits: &Limits) -> Result<(u32, u32), String> {
    let failed = |error: ImageError| reason(Format::Png, &error);
    if !png_is_complete(&mut file).map_err(|error| format!("PNG: {error}"))? {
        return Err("truncated: the PNG data end early".to_string());
    }
    let rewound = file.rewind().map_err(|error| format!("PNG: {error}"));
    rewound?;
    let mut decoder = PngDecoder::with_limits(file, decoder_limits(limits)).map_err(failed)?;
    let size = check_decoder(&decoder, limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(upright(size, orientation.to_exif().into()))
}

/// Whether the chunks of a PNG reach its end chunk.
fn png_is_complete(file: &mut (impl BufRead + Seek)) -> std::io::Result<bool> {
    const SIGNATURE: u64 = 8;
    file.seek(SeekFrom::Start(SIGNATURE))?;
    loop {
        let mut head = [0; 8];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        let [a, b, c, d, kind @ ..] = head;
        if &kind == b"IEND" {
            return Ok(true);
        }
        const CHECKSUM: i64 = 4;
        let length = u32::from_be_bytes([a, b, c, d]);
        file.seek_relative(i64::from(length) + CHECKSUM)?;
    }
}

/// The size of the picture, if the limits and the kind of its samples allow it.
fn check_decoder(decoder: &impl ImageDecoder, limits: &Limits) -> Result<(u32, u32), String> {
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes(), limits)?;
    Ok((width, height))
}

pub(super) fn decoder_limits(limits: &Limits) -> image::Limits {
    let mut most = image::Limits::no_limits();
    most.max_alloc = Some(limits.max_alloc);
    most
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
}
