//! Pixels to image files.

use std::io::{Cursor, Write};
use std::path::Path;

use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{
    DynamicImage, ExtendedColorType, ImageBuffer, ImageEncoder, ImageError, ImageResult, Pixel,
    RgbImage,
};
use img_parts::ImageICC;
use img_parts::webp::WebP;

use super::animation::{self, Animation, Delay, Frame};
use super::decode::tiff::{Alpha, Channels, Compression};
use super::frames::Timing;
use super::metadata::{Metadata, Resolution, Unit};
use super::webp_lossy::encode_webp_lossy;
use super::{BMP_RESOLUTION, Depth, Format, Light, Photograph, Storage, Tone};
use crate::error::{Error, Result};
use crate::whole::write_whole;

pub(crate) mod tiff;

/// How a photograph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The quality of JPEG, and of WebP that is lossy, 1 to 100. Default: 97, by which a photograph that was compressed at a
    /// quality of 70 keeps half of what restoring it gained; 95 loses more than all. Other formats are written without loss.
    pub quality: u8,
    /// Whether an existing file is replaced. Default: false.
    pub force: bool,
    /// Whether date, place, camera, author and all else that the file said beside its picture is left out. What colours mean
    /// stays. Default: false.
    pub strip_metadata: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            quality: 97,
            force: false,
            strip_metadata: false,
        }
    }
}

/// What a user should know of a file that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// What the format could not hold, a sentence each.
    pub warnings: Vec<String>,
}

impl Photograph {
    /// Writes the photograph to `path`, in the format that its extension means.
    ///
    /// The file appears whole or not at all; missing folders are made. What the format can hold is kept: 16 bits in PNG and TIFF
    /// (8 elsewhere, rounded from the full values), what the colours mean in all but BMP and GIF, metadata as
    /// docs/formats.md lists. Gray with alpha becomes colour with alpha in WebP and BMP, which do not have it; a profile of gray
    /// values is left out where gray is written as colour. A WebP is lossy if the photograph came from a lossy file.
    ///
    /// # Errors
    ///
    /// The extension means no format, JPEG cannot hold the alpha (an opaque one is left out), the format cannot hold the size or
    /// the kind of light (see [`check_format`](Self::check_format)), the quality is not 1 to 100, `path` exists without `force`,
    /// or the operating system refuses.
    pub fn save(&self, path: impl AsRef<Path>, options: &EncodeOptions) -> Result<Saved> {
        save(std::slice::from_ref(self), None, path.as_ref(), options)
    }

    /// The bytes of a file in this format, as [`save`](Self::save) would write it; `destination` names it in errors.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    pub fn to_bytes(
        &self,
        format: Format,
        options: &EncodeOptions,
        destination: impl AsRef<Path>,
    ) -> Result<(Vec<u8>, Saved)> {
        let one = std::slice::from_ref(self);
        encode(one, None, format, options, destination.as_ref())
    }

    /// That `format` can hold this photograph, so that nothing is computed in vain.
    ///
    /// # Errors
    ///
    /// The reason: JPEG and alpha, the most pixels a side, or HDR light in another format than PNG.
    pub fn check_format(&self, format: Format) -> Result<(), String> {
        format.check_size(self.width(), self.height())?;
        if format != Format::Png
            && let Some(reason) = self.carried.colour.needs_png()
        {
            return Err(reason);
        }
        let bright = matches!(self.carried.colour.light(), Light::Pq | Light::Hlg);
        if bright && matches!(format, Format::Bmp | Format::Gif) {
            return Err(format!(
                "its values are brighter than white (HDR), which {format} cannot say; write PNG instead"
            ));
        }
        if format == Format::Jpeg && SampleLayout::of(self, format).alpha {
            return Err("JPEG cannot keep the alpha channel, write PNG instead".to_string());
        }
        Ok(())
    }

    /// The samples as the file has them.
    fn pixels_for(&self, layout: SampleLayout) -> Result<DynamicImage, String> {
        let image = match layout.depth {
            Depth::Eight => image_of(self, layout, self.samples(layout, |sample| sample as u8)),
            Depth::Sixteen => image_of(self, layout, self.samples(layout, |sample| sample)),
        };
        image.ok_or_else(|| "the picture has too few samples".to_string())
    }

    /// The interleaved samples.
    fn samples<T>(&self, layout: SampleLayout, sample: impl Fn(u16) -> T) -> Vec<T> {
        let colours = if layout.tone == Tone::Gray { 1 } else { 3 };
        let light = self.carried.colour.light();
        let linear = layout.format.keeps_light() && !light.is_display();
        let planes: Vec<_> = self.rgb.chunks_exact(self.pixels()).take(colours).collect();
        let planes: Vec<Vec<f32>> = match linear {
            true => planes
                .iter()
                .map(|plane| {
                    let mut values = plane.to_vec();
                    light.from_model(&mut values);
                    values
                })
                .collect(),
            false => Vec::new(),
        };
        let value = |plane: usize, pixel: usize| match planes.get(plane) {
            Some(values) => values[pixel],
            None => self.rgb[plane * self.pixels() + pixel],
        };
        let opaque = self.depth.max();
        let mut hidden = self
            .hidden
            .iter()
            .flat_map(|stored| stored.as_chunks::<3>().0);
        let channels = colours + usize::from(layout.alpha);
        let mut samples = Vec::with_capacity(self.pixels() * channels);
        for pixel in 0..self.pixels() {
            let alpha = self.alpha.as_ref().map_or(opaque, |alpha| alpha[pixel]);
            // What was hidden is written as it came.
            let stored = if alpha == 0 { hidden.next() } else { None };
            let cover = match layout.associated {
                true => f32::from(alpha) / f32::from(opaque),
                false => 1.0,
            };
            for plane in 0..colours {
                samples.push(sample(match stored {
                    Some(stored) => self.depth.rescale(stored[plane], layout.depth),
                    None => layout.depth.quantize(cover * value(plane, pixel)),
                }));
            }
            if layout.alpha {
                samples.push(sample(self.depth.rescale(alpha, layout.depth)));
            }
        }
        samples
    }
}

fn image_of<T>(
    photograph: &Photograph,
    layout: SampleLayout,
    samples: Vec<T>,
) -> Option<DynamicImage>
where
    T: image::Primitive,
    image::Luma<T>: Pixel<Subpixel = T>,
    image::LumaA<T>: Pixel<Subpixel = T>,
    image::Rgb<T>: Pixel<Subpixel = T>,
    image::Rgba<T>: Pixel<Subpixel = T>,
    DynamicImage: From<ImageBuffer<image::Luma<T>, Vec<T>>>
        + From<ImageBuffer<image::LumaA<T>, Vec<T>>>
        + From<ImageBuffer<image::Rgb<T>, Vec<T>>>
        + From<ImageBuffer<image::Rgba<T>, Vec<T>>>,
{
    let (width, height) = (photograph.width, photograph.height);
    match (layout.tone, layout.alpha) {
        (Tone::Gray, false) => {
            ImageBuffer::<image::Luma<T>, _>::from_raw(width, height, samples).map(Into::into)
        }
        (Tone::Gray, true) => {
            ImageBuffer::<image::LumaA<T>, _>::from_raw(width, height, samples).map(Into::into)
        }
        (Tone::Colour, false) => {
            ImageBuffer::<image::Rgb<T>, _>::from_raw(width, height, samples).map(Into::into)
        }
        (Tone::Colour, true) => {
            ImageBuffer::<image::Rgba<T>, _>::from_raw(width, height, samples).map(Into::into)
        }
    }
}

/// Writes a file of these photographs as [`encode`] makes it, whole or not at all.
pub(super) fn save(
    photographs: &[Photograph],
    timing: Option<&Timing>,
    path: &Path,
    options: &EncodeOptions,
) -> Result<Saved> {
    let (bytes, saved) = encode(photographs, timing, format_of(path)?, options, path)?;
    write_whole(path, options.force, |file| {
        file.write_all(&bytes).map_err(Error::io(path))
    })?;
    Ok(saved)
}

/// The bytes of a file of these photographs, at least one: all of them where `format` holds several of their kind.
pub(super) fn encode(
    photographs: &[Photograph],
    timing: Option<&Timing>,
    format: Format,
    options: &EncodeOptions,
    path: &Path,
) -> Result<(Vec<u8>, Saved)> {
    let quality = options.quality;
    if !(1..=100).contains(&quality) {
        let reason = format!("quality {quality}, expected 1 to 100");
        return Err(Error::image(path, reason));
    }
    let written = File {
        format,
        quality,
        strip: options.strip_metadata,
    };
    let encoded = written.encode(photographs, timing);
    encoded.map_err(|reason| Error::image(path, reason))
}

/// How a file is written.
#[derive(Clone, Copy)]
struct File {
    format: Format,
    quality: u8,
    strip: bool,
}

impl File {
    fn encode(
        self,
        photographs: &[Photograph],
        timing: Option<&Timing>,
    ) -> Result<(Vec<u8>, Saved), String> {
        let Some(first) = photographs.first() else {
            return Err("no picture to write".to_string());
        };
        let (format, count) = (self.format, photographs.len());
        let mut saved = Saved::default();
        let holds_all = match timing {
            Some(_) => matches!(format, Format::Png | Format::WebP | Format::Gif),
            None => format == Format::Tiff,
        };
        if count > 1 && !holds_all {
            let kind = if timing.is_some() { "frames" } else { "pages" };
            saved.warnings.push(format!(
                "the first of {count} {kind} is written, as {format} holds one"
            ));
        }
        let photographs = if holds_all {
            photographs
        } else {
            &photographs[..1]
        };
        for photograph in photographs {
            photograph.check_format(format)?;
        }
        let bytes = match (format, timing) {
            (Format::Tiff, _) => self.tiff(photographs, &mut saved)?,
            (Format::Gif, _) => self.animation(photographs, timing)?,
            (_, Some(_)) if photographs.len() > 1 => self.animation(photographs, timing)?,
            _ => self.one(first)?,
        };
        let bytes = self.described(first, bytes, &mut saved)?;
        Ok((bytes, saved))
    }

    /// One picture, with its profile, without metadata.
    fn one(self, photograph: &Photograph) -> Result<Vec<u8>, String> {
        let layout = SampleLayout::of(photograph, self.format);
        let pixels = photograph.pixels_for(layout)?;
        if self.format == Format::WebP && photograph.carried.lossy {
            let (alpha, samples) = (pixels.color().has_alpha(), webp_samples(pixels));
            let (width, height) = (photograph.width, photograph.height);
            return encode_webp_lossy(&samples, width, height, alpha, self.quality);
        }
        let icc = match self.format {
            Format::Jpeg => photograph.profile_for(layout),
            _ => None, // put in afterwards
        };
        let raster = Raster {
            samples: pixels.as_bytes(),
            size: (photograph.width, photograph.height),
            colour: layout.colour_type(),
            icc: icc.as_ref(),
        };
        raster.encode(self.format, self.quality)
    }

    /// All pages, with profiles and metadata.
    fn tiff(self, photographs: &[Photograph], saved: &mut Saved) -> Result<Vec<u8>, String> {
        let mut pages = Vec::new();
        for photograph in photographs {
            let layout = SampleLayout::of(photograph, Format::Tiff);
            let (metadata, lost) = self.metadata_of(photograph).for_tiff();
            saved.tell_of(lost, Format::Tiff);
            pages.push(TiffPage {
                photograph,
                layout,
                pixels: photograph.pixels_for(layout)?,
                icc: photograph.profile_for(layout),
                metadata,
            });
        }
        let pages: Vec<_> = pages.iter().map(TiffPage::out).collect::<Result<_, _>>()?;
        let mut file = Cursor::new(Vec::new());
        tiff::encode(&pages, &mut file)?;
        Ok(file.into_inner())
    }

    /// What is written of it.
    fn metadata_of(self, photograph: &Photograph) -> Metadata {
        let metadata = &photograph.carried.metadata;
        match self.strip {
            false => metadata.clone(),
            true => Metadata {
                resolution: metadata.resolution,
                ..Metadata::default()
            },
        }
    }

    /// The file with metadata, and what it says of colour beside a profile.
    fn described(
        self,
        first: &Photograph,
        bytes: Vec<u8>,
        saved: &mut Saved,
    ) -> Result<Vec<u8>, String> {
        let metadata = self.metadata_of(first);
        let (bytes, lost) = match self.format {
            Format::Png => {
                let bytes = first.carried.colour.into_png(bytes)?;
                metadata.add_to_png(bytes)?
            }
            Format::Jpeg => metadata.add_to_jpeg(bytes)?,
            Format::WebP => {
                let layout = SampleLayout::of(first, Format::WebP);
                let bytes = with_profile(bytes, first.profile_for(layout))?;
                metadata.add_to_webp(bytes)?
            }
            Format::Tiff => (bytes, Vec::new()), // has it already
            Format::Bmp | Format::Gif => {
                let mut lost = metadata.beside_resolution();
                if !first.carried.colour.is_srgb() {
                    lost.push("what its colours mean".to_string());
                }
                let resolution = metadata.stated_resolution();
                let resolution = resolution.filter(|_| self.format == Format::Bmp);
                (with_bmp_resolution(bytes, resolution), lost)
            }
        };
        saved.tell_of(lost, self.format);
        Ok(bytes)
    }

    fn animation(
        self,
        photographs: &[Photograph],
        timing: Option<&Timing>,
    ) -> Result<Vec<u8>, String> {
        let still = Timing {
            delays: vec![(0, 1)],
            loops: 1,
        };
        let timing = timing.unwrap_or(&still);
        let frames = photographs.iter().zip(&timing.delays);
        let frames = frames.map(|(photograph, &delay)| {
            let layout = SampleLayout::of(photograph, self.format);
            let pixels = photograph.pixels_for(layout)?;
            let (numerator, denominator) = delay;
            let delay = Delay {
                numerator,
                denominator,
            };
            Ok(Frame { pixels, delay })
        });
        let animation = Animation {
            frames: frames.collect::<Result<_, String>>()?,
            loops: timing.loops,
            still: None,
        };
        let mut file = Cursor::new(Vec::new());
        match self.format {
            Format::Png => animation::to_png(&animation, &mut file)?,
            Format::Gif => animation::to_gif(&animation, &mut file)?,
            _ => {
                let lossy = photographs
                    .iter()
                    .any(|photograph| photograph.carried.lossy);
                return animation::to_webp(&animation, lossy.then_some(self.quality));
            }
        }
        Ok(file.into_inner())
    }
}

impl Photograph {
    /// The profile beside the samples: the photograph's own, or one that says what a PNG's other chunks say.
    fn profile_for(&self, layout: SampleLayout) -> Option<Vec<u8>> {
        // WebP takes gray samples and stores them as colour.
        let gray = layout.tone == Tone::Gray && layout.format != Format::WebP;
        let display = !layout.format.keeps_light();
        self.carried.colour.to_icc(display, gray)
    }
}

impl Saved {
    fn tell_of(&mut self, lost: Vec<String>, format: Format) {
        let lost = lost.iter();
        let lost = lost.map(|what| format!("{what}: left out, as {format} has no place for it"));
        self.warnings.extend(lost);
    }
}

/// A page on its way into a TIFF.
struct TiffPage<'a> {
    photograph: &'a Photograph,
    layout: SampleLayout,
    pixels: DynamicImage,
    icc: Option<Vec<u8>>,
    metadata: Metadata,
}

impl TiffPage<'_> {
    fn out(&self) -> Result<tiff::Out<'_>, String> {
        let storage = self.photograph.carried.compression.unwrap_or(Storage {
            compression: Compression::Deflate,
            predictor: true,
        });
        let resolution = self.metadata.resolution.map(|Resolution { x, y, unit }| {
            let unit = match unit {
                Unit::None => 1,
                Unit::Inch => 2,
                Unit::Centimetre => 3,
            };
            (x, y, unit)
        });
        Ok(tiff::Out {
            width: self.photograph.width,
            height: self.photograph.height,
            channels: match (self.layout.tone, self.layout.alpha) {
                (Tone::Gray, false) => Channels::Gray,
                (Tone::Gray, true) => Channels::GrayAlpha,
                (Tone::Colour, false) => Channels::Rgb,
                (Tone::Colour, true) => Channels::Rgba,
            },
            samples: match &self.pixels {
                DynamicImage::ImageLuma8(image) => tiff::OutSamples::Eight(image.as_raw()),
                DynamicImage::ImageLumaA8(image) => tiff::OutSamples::Eight(image.as_raw()),
                DynamicImage::ImageRgb8(image) => tiff::OutSamples::Eight(image.as_raw()),
                DynamicImage::ImageRgba8(image) => tiff::OutSamples::Eight(image.as_raw()),
                DynamicImage::ImageLuma16(image) => tiff::OutSamples::Sixteen(image.as_raw()),
                DynamicImage::ImageLumaA16(image) => tiff::OutSamples::Sixteen(image.as_raw()),
                DynamicImage::ImageRgb16(image) => tiff::OutSamples::Sixteen(image.as_raw()),
                DynamicImage::ImageRgba16(image) => tiff::OutSamples::Sixteen(image.as_raw()),
                _ => return Err("samples that are neither 8 nor 16 bits".to_string()),
            },
            alpha: Some(match self.layout.associated {
                true => Alpha::Associated,
                false => Alpha::Unassociated,
            }),
            compression: storage.compression,
            predictor: storage.predictor,
            icc: self.icc.as_deref(),
            exif: self.metadata.exif.as_deref(),
            xmp: self.metadata.xmp.as_deref(),
            iptc: self.metadata.iptc.as_deref(),
            photoshop: self.metadata.photoshop.as_deref(),
            resolution,
            software: None,
        })
    }
}

/// A WebP with a profile beside its pictures.
fn with_profile(bytes: Vec<u8>, profile: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
    let Some(profile) = profile else {
        return Ok(bytes);
    };
    let mut file = WebP::from_bytes(bytes.into()).map_err(|error| format!("WebP: {error}"))?;
    file.set_icc_profile(Some(profile.into()));
    Ok(file.encoder().bytes().to_vec())
}

fn with_bmp_resolution(mut bytes: Vec<u8>, resolution: Option<Resolution>) -> Vec<u8> {
    let resolution = resolution.and_then(|resolution| resolution.per_metre());
    if let Some(values) = resolution {
        for (at, value) in BMP_RESOLUTION.into_iter().zip(values) {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    bytes
}

/// Colour, with or without alpha.
fn webp_samples(pixels: DynamicImage) -> Vec<u8> {
    match pixels.color().has_alpha() {
        true => pixels.into_rgba8().into_raw(),
        false => pixels.into_rgb8().into_raw(),
    }
}

/// Writes `picture` as [`Photograph::save`] writes one of its pixels.
pub(crate) fn save_rgb8(picture: &RgbImage, path: &Path, options: &EncodeOptions) -> Result<()> {
    let bytes = rgb8_bytes(picture, format_of(path)?, options.quality, path)?;
    write_whole(path, options.force, |file| {
        file.write_all(&bytes).map_err(Error::io(path))
    })
}

/// The bytes of a file of `picture`, as [`Photograph::to_bytes`] makes them of one of its pixels.
pub(crate) fn rgb8_bytes(
    picture: &RgbImage,
    format: Format,
    quality: u8,
    destination: impl AsRef<Path>,
) -> Result<Vec<u8>> {
    let path = destination.as_ref();
    let bytes = match format {
        Format::Gif | Format::Tiff => {
            let options = EncodeOptions {
                quality,
                ..EncodeOptions::default()
            };
            let photograph = Photograph::from_rgb8(picture);
            return Ok(photograph.to_bytes(format, &options, path)?.0);
        }
        _ => Raster::of(picture).encode(format, quality),
    };
    bytes.map_err(|reason| Error::image(path, reason))
}

fn format_of(path: &Path) -> Result<Format> {
    Format::of_path(path).ok_or_else(|| {
        let expected = Format::LIST;
        let reason = format!("the extension means no image format, expected that of {expected}");
        Error::image(path, reason)
    })
}

/// What an encoder takes.
struct Raster<'a> {
    /// Interleaved, in native byte order.
    samples: &'a [u8],
    size: (u32, u32),
    colour: ExtendedColorType,
    icc: Option<&'a Vec<u8>>,
}

impl<'a> Raster<'a> {
    fn of(picture: &'a RgbImage) -> Self {
        Self {
            samples: picture.as_raw(),
            size: picture.dimensions(),
            colour: ExtendedColorType::Rgb8,
            icc: None,
        }
    }

    /// As PNG, JPEG, WebP without loss, or BMP.
    fn encode(&self, format: Format, quality: u8) -> Result<Vec<u8>, String> {
        let mut file = Vec::new();
        let encoded = match format {
            Format::Png => self.encode_with(PngEncoder::new(&mut file)),
            Format::Jpeg => self.encode_with(JpegEncoder::new_with_quality(&mut file, quality)),
            Format::WebP => self.encode_with(WebPEncoder::new_lossless(&mut file)),
            Format::Bmp => self.encode_with(BmpEncoder::new(&mut file)),
            Format::Tiff | Format::Gif => return Err(format!("{format} is written elsewhere")),
        };
        encoded.map_err(|error: ImageError| error.to_string())?;
        Ok(file)
    }

    fn encode_with(&self, mut encoder: impl ImageEncoder) -> ImageResult<()> {
        if let Some(icc) = self.icc {
            encoder
                .set_icc_profile(icc.clone())
                .map_err(ImageError::Unsupported)?;
        }
        let (width, height) = self.size;
        encoder.write_image(self.samples, width, height, self.colour)
    }
}

/// What a photograph's samples become in a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleLayout {
    format: Format,
    tone: Tone,
    alpha: bool,
    /// Whether the colours are multiplied by it.
    associated: bool,
    depth: Depth,
}

impl SampleLayout {
    fn of(photograph: &Photograph, format: Format) -> SampleLayout {
        let opaque = photograph.depth.max();
        let alpha = match &photograph.alpha {
            None => false,
            // An opaque alpha says nothing, so that JPEG loses nothing by leaving it out.
            Some(alpha) => format != Format::Jpeg || alpha.iter().any(|&value| value != opaque),
        };
        let tone = match format {
            Format::WebP | Format::Bmp if alpha => Tone::Colour,
            _ => photograph.tone,
        };
        let depth = match format {
            Format::Png | Format::Tiff => photograph.depth,
            Format::Jpeg | Format::WebP | Format::Bmp | Format::Gif => Depth::Eight,
        };
        SampleLayout {
            format,
            tone,
            alpha,
            associated: alpha && format == Format::Tiff && photograph.carried.associated,
            depth,
        }
    }

    fn colour_type(self) -> ExtendedColorType {
        match (self.tone, self.alpha, self.depth) {
            (Tone::Gray, false, Depth::Eight) => ExtendedColorType::L8,
            (Tone::Gray, true, Depth::Eight) => ExtendedColorType::La8,
            (Tone::Colour, false, Depth::Eight) => ExtendedColorType::Rgb8,
            (Tone::Colour, true, Depth::Eight) => ExtendedColorType::Rgba8,
            (Tone::Gray, false, Depth::Sixteen) => ExtendedColorType::L16,
            (Tone::Gray, true, Depth::Sixteen) => ExtendedColorType::La16,
            (Tone::Colour, false, Depth::Sixteen) => ExtendedColorType::Rgb16,
            (Tone::Colour, true, Depth::Sixteen) => ExtendedColorType::Rgba16,
        }
    }
}
