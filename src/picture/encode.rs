//! Pixels to image files.

use std::io::{Cursor, Seek, Write};
use std::path::Path;

use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageResult, RgbImage};

use super::{Depth, Format, Photograph, Tone, profile_space};
use crate::error::{Error, Result};
use crate::whole::write_whole;

/// How a photograph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The JPEG quality, 1 to 100. Default: 95. Other formats are written without loss.
    pub quality: u8,
    /// Whether an existing file is replaced. Default: false.
    pub force: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            quality: 95,
            force: false,
        }
    }
}

impl Photograph {
    /// Writes the photograph to `path`, in the format that its extension means.
    ///
    /// The file appears whole or not at all; missing folders are made. What the format can hold is
    /// kept: 16 bits in PNG and TIFF (8 elsewhere, rounded from the full values), the ICC profile
    /// in all but BMP. Gray with alpha becomes colour with alpha in WebP, TIFF and BMP, which do
    /// not have it; a profile of gray values is left out where gray is written as colour.
    ///
    /// # Errors
    ///
    /// The extension means no format, JPEG cannot hold the alpha (an opaque one is left out), the
    /// format cannot hold the size, the quality is not 1 to 100, `path` exists without `force`, or
    /// the operating system refuses.
    pub fn save(&self, path: impl AsRef<Path>, options: &EncodeOptions) -> Result<()> {
        let path = path.as_ref();
        let layout = self.layout(format_of(path)?, options.quality, path)?;
        write_whole(path, options.force, |file| {
            self.encode(layout, options.quality, path, file)
        })
    }

    /// The bytes of a file in this format, as [`save`](Self::save) would write it; `destination` names it in errors.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    pub fn to_bytes(
        &self,
        format: Format,
        quality: u8,
        destination: impl AsRef<Path>,
    ) -> Result<Vec<u8>> {
        let path = destination.as_ref();
        let layout = self.layout(format, quality, path)?;
        let mut file = Cursor::new(Vec::new());
        self.encode(layout, quality, path, &mut file)?;
        Ok(file.into_inner())
    }

    /// What the samples become in `format`, if it can hold them.
    fn layout(&self, format: Format, quality: u8, path: &Path) -> Result<SampleLayout> {
        if !(1..=100).contains(&quality) {
            let reason = format!("JPEG quality {quality}, expected 1 to 100");
            return Err(Error::image(path, reason));
        }
        let layout = SampleLayout::of(self, format);
        if format == Format::Jpeg && layout.alpha {
            let reason = "JPEG cannot keep the alpha channel, write PNG instead";
            return Err(Error::image(path, reason));
        }
        Ok(layout)
    }

    fn encode(
        &self,
        layout: SampleLayout,
        quality: u8,
        path: &Path,
        file: impl Write + Seek,
    ) -> Result<()> {
        let raster = Raster {
            samples: &self.samples(layout),
            size: (self.width, self.height),
            colour: layout.colour_type(),
            icc: self.icc.as_ref().filter(|icc| layout.keeps(icc)),
        };
        raster.encode(layout.format, quality, path, file)
    }

    /// The interleaved samples in native byte order.
    fn samples(&self, layout: SampleLayout) -> Vec<u8> {
        let colours = if layout.tone == Tone::Gray { 1 } else { 3 };
        let planes: Vec<&[f32]> = self.rgb.chunks_exact(self.pixels()).take(colours).collect();
        let channels = colours + usize::from(layout.alpha);
        let bytes = if layout.depth == Depth::Eight { 1 } else { 2 };
        let mut samples = Vec::with_capacity(self.pixels() * channels * bytes);
        let mut push = |sample: u16| match layout.depth {
            Depth::Eight => samples.push(sample as u8), // at most 255 by `quantize` and `rescale`
            Depth::Sixteen => samples.extend_from_slice(&sample.to_ne_bytes()),
        };
        for pixel in 0..self.pixels() {
            for plane in &planes {
                push(layout.depth.quantize(plane[pixel]));
            }
            if layout.alpha {
                let alpha = self
                    .alpha
                    .as_ref()
                    .map_or(self.depth.max(), |alpha| alpha[pixel]);
                push(self.depth.rescale(alpha, layout.depth));
            }
        }
        samples
    }
}

/// Writes `picture` as [`Photograph::save`] writes one of its pixels.
pub(crate) fn save_rgb8(picture: &RgbImage, path: &Path, options: &EncodeOptions) -> Result<()> {
    let format = format_of(path)?;
    write_whole(path, options.force, |file| {
        Raster::of(picture).encode(format, options.quality, path, file)
    })
}

/// The bytes of a file of `picture`, as [`Photograph::to_bytes`] makes them of one of its pixels.
pub(crate) fn rgb8_bytes(
    picture: &RgbImage,
    format: Format,
    quality: u8,
    destination: &str,
) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    Raster::of(picture).encode(format, quality, destination.as_ref(), &mut file)?;
    Ok(file.into_inner())
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

    fn encode(
        &self,
        format: Format,
        quality: u8,
        path: &Path,
        file: impl Write + Seek,
    ) -> Result<()> {
        let encoded = match format {
            Format::Png => self.encode_with(PngEncoder::new(file)),
            Format::Jpeg => self.encode_with(JpegEncoder::new_with_quality(file, quality)),
            Format::WebP => self.encode_with(WebPEncoder::new_lossless(file)),
            Format::Tiff => self.encode_with(TiffEncoder::new(file)),
            Format::Bmp => {
                let mut file = file;
                self.encode_with(BmpEncoder::new(&mut file))
            }
        };
        encoded.map_err(|error| match error {
            ImageError::IoError(source) => Error::Io {
                path: path.to_path_buf(),
                source,
            },
            other => Error::image(path, other.to_string()),
        })
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
            Format::WebP | Format::Tiff | Format::Bmp if alpha => Tone::Colour,
            _ => photograph.tone,
        };
        let depth = match format {
            Format::Png | Format::Tiff => photograph.depth,
            Format::Jpeg | Format::WebP | Format::Bmp => Depth::Eight,
        };
        SampleLayout {
            format,
            tone,
            alpha,
            depth,
        }
    }

    /// Whether `profile` can stand beside the samples.
    fn keeps(self, profile: &[u8]) -> bool {
        // WebP takes gray samples and stores them as colour.
        let colour = self.tone == Tone::Colour || self.format == Format::WebP;
        self.format != Format::Bmp && !(colour && profile_space(profile) == Some(b"GRAY"))
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
