//! Pictures read and written: a photograph as the model sees it and as it goes back to disk.
//!
//! PNG, JPEG, WebP, TIFF, GIF and BMP are recognised by content, whatever the file's name; with the features `heic` and `avif`
//! HEIC and AVIF too, which are not written. What the model does not see
//! stays with the photograph: its bits, alpha, grayness, what its values mean (ICC profile, or PNG's chunks), how it was
//! compressed, and its metadata. The EXIF orientation is applied to the pixels, and the metadata are made true. Values are
//! not converted between colour spaces: the model sees them as stored, but for linear light, which it sees in a curve like
//! sRGB's, and for inks (CMYK), which become RGB. docs/formats.md has the table.
//!
//! [`Photograph`] is one picture; [`Frames`] are all pictures of a file.

use std::io::Read;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, Rgb, RgbImage};

use crate::error::{Error, Result};

mod alpha;
mod animation;
mod beside;
mod colour;
mod decode;
mod encode;
mod foreign;
mod format;
mod frames;
mod ifd;
mod metadata;
mod part;
mod passed_over;
mod region;
mod webp_lossy;

use colour::{Colour, Light};
pub use decode::Limits;
pub use decode::guard::panics_are_caught;
use decode::{Extent, Stored};
pub(crate) use decode::{Rgb8, open_rgb8, size};
pub use encode::{EncodeOptions, Saved};
pub(crate) use encode::{rgb8_bytes, save_rgb8};
pub(crate) use foreign::foreign_extension;
pub use format::Format;
pub use frames::{Frames, Timing};
use metadata::Metadata;
pub(crate) use part::resized;
pub use passed_over::PassedOver;
pub(crate) use region::{Region, open_region};

/// Whether a photograph has colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tone {
    /// One channel, shown to the model three times.
    Gray,
    /// Red, green and blue.
    Colour,
}

/// The bits of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Depth {
    /// 8 bits, 0 to 255. Samples of fewer bits are read as 8.
    Eight,
    /// 16 bits, 0 to 65,535.
    Sixteen,
}

impl Depth {
    /// The sample that means 1.
    pub fn max(self) -> u16 {
        match self {
            Depth::Eight => 255,
            Depth::Sixteen => 65_535,
        }
    }

    /// The sample next to `value` in [0, 1], halves rounded up.
    fn quantize(self, value: f32) -> u16 {
        (value * f32::from(self.max()) + 0.5) as u16
    }

    /// `sample` of this depth at the depth `to`, halves rounded up.
    fn rescale(self, sample: u16, to: Depth) -> u16 {
        let (from, to) = (u32::from(self.max()), u32::from(to.max()));
        ((u32::from(sample) * to + from / 2) / from) as u16
    }
}

/// A decoded photograph, upright.
///
/// ```no_run
/// use hi_diff::picture::{EncodeOptions, Limits, Photograph};
///
/// let blurred = Photograph::open("blurred.jpg", &Limits::default())?;
/// let sharper = blurred.rgb().to_vec(); // what a model made of [3, height, width]
/// blurred.with_rgb(sharper)?.save("sharper.jpg", &EncodeOptions::default())?;
/// # Ok::<(), hi_diff::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Photograph {
    width: u32,
    height: u32,
    rgb: Vec<f32>,            // [3, height, width]; equal planes where `tone` is gray
    alpha: Option<Vec<u16>>,  // [height, width], samples of `depth`
    hidden: Option<Vec<u16>>, // [pixels of alpha 0, 3], the samples that they were stored with
    tone: Tone,
    depth: Depth,
    carried: Carried,
}

/// What the model does not see, and the result gets.
#[derive(Debug, Clone, PartialEq)]
struct Carried {
    format: Format,
    /// Whether the file was compressed with loss.
    lossy: bool,
    /// Whether colours were stored multiplied by alpha.
    associated: bool,
    /// Whether colours were stored as inks.
    inks: bool,
    colour: Colour,
    metadata: Metadata,
    /// Of a TIFF.
    compression: Option<Storage>,
    warnings: Vec<String>,
}

/// Where a BMP has pixels a metre, across and down.
const BMP_RESOLUTION: [usize; 2] = [38, 42];

/// How a TIFF was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Storage {
    compression: decode::tiff::Compression,
    predictor: bool,
}

impl Carried {
    fn new(format: Format) -> Carried {
        Carried {
            format,
            lossy: false,
            associated: false,
            inks: false,
            colour: Colour::default(),
            metadata: Metadata::default(),
            compression: None,
            warnings: Vec::new(),
        }
    }
}

impl Photograph {
    /// Reads and decodes the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not an image of a format that is read, is truncated, cannot be decoded, exceeds `limits`, or has
    /// samples that are neither 8 nor 16 bits (fewer are read as 8). What is damaged and can be read all the same has a
    /// [warning](Self::warnings), as has a file with further pictures.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Photograph> {
        let path = path.as_ref();
        Self::decode(&decode::read(path, limits)?, path, limits)
    }

    /// Reads to the end, and decodes; `origin` names the source in errors.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn from_reader(
        reader: impl Read,
        origin: impl AsRef<Path>,
        limits: &Limits,
    ) -> Result<Photograph> {
        let origin = origin.as_ref();
        Self::decode(&decode::read_all(reader, origin, limits)?, origin, limits)
    }

    /// Decodes a file's `bytes`; `origin` names them in errors.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn decode(bytes: &[u8], origin: impl AsRef<Path>, limits: &Limits) -> Result<Photograph> {
        let origin = origin.as_ref();
        let decoded = decode::decode(bytes, origin, limits, Extent::First)?;
        let first = decoded.pictures.into_iter().next();
        let first = first.ok_or("no picture in this file".to_string());
        first
            .and_then(Self::of_stored)
            .map_err(|reason| Error::image(origin, reason))
    }

    fn of_stored(stored: Stored) -> Result<Photograph, String> {
        let (gray, colour) = (Tone::Gray, Tone::Colour);
        let (eight, sixteen) = (Depth::Eight, Depth::Sixteen);
        let mut photograph = match &stored.pixels {
            DynamicImage::ImageLuma8(image) => unpack(image, gray, false, eight),
            DynamicImage::ImageLumaA8(image) => unpack(image, gray, true, eight),
            DynamicImage::ImageRgb8(image) => unpack(image, colour, false, eight),
            DynamicImage::ImageRgba8(image) => unpack(image, colour, true, eight),
            DynamicImage::ImageLuma16(image) => unpack(image, gray, false, sixteen),
            DynamicImage::ImageLumaA16(image) => unpack(image, gray, true, sixteen),
            DynamicImage::ImageRgb16(image) => unpack(image, colour, false, sixteen),
            DynamicImage::ImageRgba16(image) => unpack(image, colour, true, sixteen),
            other => {
                return Err(format!(
                    "samples of type {:?}, expected 8 or 16 bits",
                    other.color()
                ));
            }
        };
        photograph.carried = stored.carried;
        if !photograph.format().names_gray() && photograph.has_equal_planes() {
            photograph.tone = Tone::Gray;
        }
        photograph.set_hidden_aside();
        if photograph.carried.associated {
            photograph.divide_by_alpha();
        }
        let light = photograph.carried.colour.light();
        if !light.is_display() {
            light.to_model(&mut photograph.rgb);
        }
        photograph.fill_hidden();
        Ok(photograph)
    }

    /// A photograph of 8 bits and colour, without alpha and profile.
    pub fn from_rgb8(image: &RgbImage) -> Photograph {
        unpack(image, Tone::Colour, false, Depth::Eight)
    }

    /// A gray photograph of 8 bits, without alpha and profile, from `[height, width]` values in [0, 1].
    ///
    /// # Errors
    ///
    /// The number of values is not `width · height`, or a side is over 2³² − 1.
    pub fn from_gray(width: usize, height: usize, values: Vec<f32>) -> Result<Photograph> {
        let sides = (u32::try_from(width), u32::try_from(height));
        let ((Ok(columns), Ok(rows)), true) = (sides, values.len() == width * height) else {
            return Err(Error::Shape {
                what: "gray photograph".into(),
                found: vec![values.len()],
                expected: format!("{height} · {width} values"),
            });
        };
        Ok(Photograph {
            width: columns,
            height: rows,
            rgb: values.repeat(3),
            alpha: None,
            hidden: None,
            tone: Tone::Gray,
            depth: Depth::Eight,
            carried: Carried::new(Format::Png),
        })
    }

    /// A photograph of 16 bits and colour, without alpha and profile.
    pub fn from_rgb16(image: &ImageBuffer<Rgb<u16>, Vec<u16>>) -> Photograph {
        unpack(image, Tone::Colour, false, Depth::Sixteen)
    }

    /// The pixels rounded to 8 bits, without alpha.
    pub fn to_rgb8(&self) -> RgbImage {
        let pixels = self.pixels();
        RgbImage::from_fn(self.width, self.height, |x, y| {
            let at = y as usize * self.width as usize + x as usize;
            Rgb([0, 1, 2].map(|c| Depth::Eight.quantize(self.rgb[c * pixels + at]) as u8))
        })
    }

    /// This photograph with other pixels: same alpha, profile, metadata, bits and grayness. What is under an alpha of 0 stays.
    ///
    /// `rgb` is `[3, height, width]`, clamped to [0, 1] here and rounded to the photograph's bits
    /// when written. Of a gray photograph, the mean of the three channels is taken.
    ///
    /// # Errors
    ///
    /// `rgb` has another number of values, or some of them are NaN or infinite.
    pub fn with_rgb(&self, mut rgb: Vec<f32>) -> Result<Photograph> {
        if rgb.len() != self.rgb.len() {
            return Err(Error::Shape {
                what: "restored image".into(),
                found: vec![rgb.len()],
                expected: format!("3 · {} · {} values", self.height, self.width),
            });
        }
        let count = rgb.iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            let what = "restored image".into();
            return Err(Error::NotFinite {
                what,
                count,
                total: rgb.len(),
            });
        }
        if self.tone == Tone::Gray {
            let pixels = self.pixels();
            let (red, rest) = rgb.split_at_mut(pixels);
            let (green, blue) = rest.split_at_mut(pixels);
            for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                let mean = (*r + *g + *b) / 3.0;
                (*r, *g, *b) = (mean, mean, mean);
            }
        }
        for value in &mut rgb {
            *value = value.clamp(0.0, 1.0);
        }
        Ok(Photograph {
            rgb,
            alpha: self.alpha.clone(),
            hidden: self.hidden.clone(),
            carried: self.carried.clone(),
            ..*self
        })
    }

    /// Pixels a row.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height as usize
    }

    /// What the model sees: `[3, height, width]`, red, green and blue in [0, 1]. Linear light is in a curve like sRGB's by now,
    /// and pixels under an alpha of 0 continue the visible ones.
    pub fn rgb(&self) -> &[f32] {
        &self.rgb
    }

    /// The alpha samples, `[height, width]`, 0 to [`Depth::max`] of this photograph's depth.
    pub fn alpha(&self) -> Option<&[u16]> {
        self.alpha.as_deref()
    }

    /// Whether it has colour. A BMP, WebP or GIF, which cannot say so, is gray if all its pixels are.
    pub fn tone(&self) -> Tone {
        self.tone
    }

    /// The bits of its samples.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Its ICC profile. One that describes CMYK is left out, as the pixels are RGB by now.
    pub fn icc(&self) -> Option<&[u8]> {
        self.carried.colour.icc.as_deref()
    }

    /// What a user should know of the file that it was read from: damage, pictures or metadata that are left out, colours that
    /// are approximate. A sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.carried.warnings
    }

    /// The format of the file it was read from; of HEIC and AVIF, which are not written, that of results by default: JPEG, or PNG
    /// where the picture has transparency or HDR light.
    pub fn format(&self) -> Format {
        self.carried.format
    }

    fn pixels(&self) -> usize {
        self.width() * self.height()
    }

    /// Keeps the samples of pixels that nobody sees.
    fn set_hidden_aside(&mut self) {
        let Some(alpha) = &self.alpha else { return };
        let pixels = self.pixels();
        let mut hidden = Vec::new();
        for (pixel, _) in alpha.iter().enumerate().filter(|(_, alpha)| **alpha == 0) {
            hidden.extend([0, 1, 2].map(|c| self.depth.quantize(self.rgb[c * pixels + pixel])));
        }
        self.hidden = (!hidden.is_empty()).then_some(hidden);
    }

    fn divide_by_alpha(&mut self) {
        let Some(alpha) = &self.alpha else { return };
        let most = f32::from(self.depth.max());
        for plane in self.rgb.chunks_exact_mut(alpha.len()) {
            for (value, &alpha) in plane.iter_mut().zip(alpha) {
                *value = (*value * most / f32::from(alpha.max(1))).min(1.0);
            }
        }
    }

    fn fill_hidden(&mut self) {
        if let (Some(alpha), Some(_)) = (&self.alpha, &self.hidden) {
            let visible: Vec<bool> = alpha.iter().map(|&alpha| alpha > 0).collect();
            alpha::fill_hidden(&mut self.rgb, &visible, self.width as usize);
        }
    }

    fn has_equal_planes(&self) -> bool {
        let (red, rest) = self.rgb.split_at(self.pixels());
        let (green, blue) = rest.split_at(self.pixels());
        red == green && red == blue
    }
}

/// Interleaved samples to planes.
fn unpack<P>(
    image: &ImageBuffer<P, Vec<P::Subpixel>>,
    tone: Tone,
    has_alpha: bool,
    depth: Depth,
) -> Photograph
where
    P: image::Pixel,
    P::Subpixel: Into<u16>,
{
    let (width, height) = image.dimensions();
    let samples = image.as_raw();
    let channels = usize::from(P::CHANNEL_COUNT);
    let scale = f32::from(depth.max());
    let plane = |c: usize| {
        samples
            .iter()
            .skip(c)
            .step_by(channels)
            .map(move |&sample| {
                let sample: u16 = sample.into();
                f32::from(sample) / scale
            })
    };
    let mut rgb = Vec::with_capacity(3 * (samples.len() / channels));
    for c in 0..3 {
        rgb.extend(plane(if tone == Tone::Gray { 0 } else { c }));
    }
    let alpha = has_alpha.then(|| {
        samples
            .iter()
            .skip(channels - 1)
            .step_by(channels)
            .map(|&s| s.into())
            .collect()
    });
    Photograph {
        width,
        height,
        rgb,
        alpha,
        hidden: None,
        tone,
        depth,
        carried: Carried::new(Format::Png),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_survives_the_way_through_the_model_values() {
        for depth in [Depth::Eight, Depth::Sixteen] {
            for sample in 0..=depth.max() {
                let value = f32::from(sample) / f32::from(depth.max());
                assert_eq!(depth.quantize(value), sample, "{depth:?}");
            }
        }
    }

    #[test]
    fn halves_round_up() {
        assert_eq!(Depth::Eight.quantize(0.5), 128); // 127.5
        assert_eq!(Depth::Eight.quantize(0.498), 127); // 126.99
        assert_eq!(Depth::Eight.quantize(1.0), 255);
        assert_eq!(Depth::Sixteen.quantize(0.5), 32_768); // 32,767.5
    }

    #[test]
    fn rescaling_keeps_both_ends_and_inverts() {
        for sample in 0..=255 {
            let wide = Depth::Eight.rescale(sample, Depth::Sixteen);
            assert_eq!(wide, sample * 257);
            assert_eq!(Depth::Sixteen.rescale(wide, Depth::Eight), sample);
            assert_eq!(Depth::Eight.rescale(sample, Depth::Eight), sample);
        }
        assert_eq!(Depth::Sixteen.rescale(65_535, Depth::Sixteen), 65_535);
        assert_eq!(Depth::Sixteen.rescale(128, Depth::Eight), 0); // 0.498
        assert_eq!(Depth::Sixteen.rescale(129, Depth::Eight), 1); // 0.502
    }

    fn two_by_one() -> Photograph {
        Photograph::from_rgb8(&RgbImage::from_raw(2, 1, vec![0, 51, 102, 153, 204, 255]).unwrap())
    }

    #[test]
    fn planes_are_red_green_blue() {
        let photograph = two_by_one();
        assert_eq!((photograph.width(), photograph.height()), (2, 1));
        assert_eq!(photograph.rgb(), [0.0, 0.6, 0.2, 0.8, 0.4, 1.0]);
        assert_eq!(photograph.to_rgb8().into_raw(), [0, 51, 102, 153, 204, 255]);
    }

    #[test]
    fn restored_pixels_are_clamped_and_rounded() {
        let restored = two_by_one()
            .with_rgb(vec![-0.3, 1.7, 0.5, 0.25, 0.1, 0.9])
            .unwrap();
        assert_eq!(restored.to_rgb8().into_raw(), [0, 128, 26, 255, 64, 230]);
    }

    #[test]
    fn restored_gray_is_the_mean_of_the_channels() {
        let gray = Photograph {
            tone: Tone::Gray,
            ..two_by_one()
        };
        let restored = gray.with_rgb(vec![0.2, 0.0, 0.4, 0.0, 0.9, 0.0]).unwrap();
        assert!(
            (restored.rgb()[0] - 0.5).abs() < 1e-6,
            "{}",
            restored.rgb()[0]
        );
        assert!(restored.has_equal_planes());
    }

    #[test]
    fn restored_pixels_of_another_number_or_not_finite_are_refused() {
        let photograph = two_by_one();
        let short = photograph.with_rgb(vec![0.0; 5]).unwrap_err().to_string();
        assert!(
            short.contains("[5]") && short.contains("3 · 1 · 2"),
            "{short}"
        );
        let nan = photograph.with_rgb(vec![0.0, f32::NAN, 0.0, f32::INFINITY, 0.0, 0.0]);
        let nan = nan.unwrap_err().to_string();
        assert!(nan.contains("2 of 6 values"), "{nan}");
    }
}
