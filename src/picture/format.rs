//! The image formats read and written, and how they are recognised.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use image::ImageFormat;

use super::foreign::foreign;

/// An image file format that is both read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
    /// Lossless; 8 and 16 bits, gray and colour, alpha, ICC profile, animations.
    Png,
    /// Lossy; 8 bits, gray and colour, ICC profile, no alpha. At most 65,535 pixels a side.
    #[cfg_attr(feature = "cli", value(alias = "jpg"))]
    Jpeg,
    /// Lossy where the original was, else lossless; 8 bits, alpha, ICC profile, animations, no gray of its own. At most
    /// 16,383 pixels a side.
    #[cfg_attr(feature = "cli", value(name = "webp"))]
    WebP,
    /// Lossless, compressed as the original was; 8 and 16 bits, gray and colour, alpha, ICC profile, several pages.
    #[cfg_attr(feature = "cli", value(alias = "tif"))]
    Tiff,
    /// Uncompressed; 8 bits, gray and colour, alpha with colour only, no ICC profile.
    Bmp,
    /// At most 256 colours a frame; animations, pixels that are seen or not, no ICC profile.
    Gif,
}

const HEIC: &[&str] = &["heic", "heif", "hif"];
const AVIF: &[&str] = &["avif"];

/// Whether `path`'s extension is one of `known`, in upper or lower case.
fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|found| known.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] = [
        Format::Png,
        Format::Jpeg,
        Format::WebP,
        Format::Tiff,
        Format::Bmp,
        Format::Gif,
    ];

    /// The formats in words, for messages.
    pub const LIST: &str = "PNG, JPEG, WebP, TIFF, BMP or GIF";

    /// What this build reads in words, for messages: [`LIST`](Self::LIST) and, by the features `heic` and `avif`, more.
    pub const LIST_READ: &str = match (cfg!(feature = "heic"), cfg!(feature = "avif")) {
        (false, false) => Self::LIST,
        (true, false) => "PNG, JPEG, WebP, TIFF, BMP, GIF or HEIC",
        (false, true) => "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF",
        (true, true) => "PNG, JPEG, WebP, TIFF, BMP, GIF, HEIC or AVIF",
    };

    /// The extensions that mean this format, lower case; the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Format::Png => &["png"],
            Format::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            Format::WebP => &["webp"],
            Format::Tiff => &["tif", "tiff"],
            Format::Bmp => &["bmp", "dib"],
            Format::Gif => &["gif"],
        }
    }

    /// The format that `path`'s extension means, in upper or lower case.
    pub fn of_path(path: &Path) -> Option<Format> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| has_extension(path, format.extensions()))
    }

    /// Whether `path`'s extension is one of a photograph that this build reads: that of a [`Format`], or with the features
    /// `heic` and `avif` those of HEIC (`heic`, `heif`, `hif`) and AVIF.
    pub fn is_read(path: &Path) -> bool {
        Self::of_path(path).is_some()
            || cfg!(feature = "heic") && has_extension(path, HEIC)
            || cfg!(feature = "avif") && has_extension(path, AVIF)
    }

    /// Whether `path`'s extension is HEIC's or AVIF's, which are never written.
    pub(crate) fn is_heif(path: &Path) -> bool {
        has_extension(path, HEIC) || has_extension(path, AVIF)
    }

    /// The format that the first bytes of a file show.
    ///
    /// # Errors
    ///
    /// The reason, where the bytes are of no format or of one that is not supported, with what to do where that is known.
    pub(super) fn of_content(bytes: &[u8]) -> Result<Format, String> {
        // First, as some raw formats begin as a TIFF does.
        if let Some(found) = foreign(bytes) {
            let (name, way_out) = (found.name, found.way_out);
            let expected = Self::LIST_READ;
            return Err(format!("found {name}, expected {expected}: {way_out}"));
        }
        const BIG_TIFF: [&[u8]; 2] = [b"II+\0", b"MM\0+"];
        if BIG_TIFF.iter().any(|magic| bytes.starts_with(magic)) {
            return Ok(Format::Tiff);
        }
        match image::guess_format(bytes) {
            Ok(ImageFormat::Png) => Ok(Format::Png),
            Ok(ImageFormat::Jpeg) => Ok(Format::Jpeg),
            Ok(ImageFormat::WebP) => Ok(Format::WebP),
            Ok(ImageFormat::Tiff) => Ok(Format::Tiff),
            Ok(ImageFormat::Bmp) => Ok(Format::Bmp),
            Ok(ImageFormat::Gif) => Ok(Format::Gif),
            Ok(other) => Err(format!(
                "{other:?} images are not supported, expected {}",
                Self::LIST_READ
            )),
            Err(_) => Err(format!("not an image, expected {}", Self::LIST_READ)),
        }
    }

    /// That an image of this size, in pixels, can be written in this format: a JPEG and a GIF have at most 65,535 pixels a
    /// side, a WebP 16,383.
    ///
    /// # Errors
    ///
    /// The reason, and what to do.
    pub fn check_size(self, width: usize, height: usize) -> Result<(), String> {
        let most = match self {
            Format::Jpeg | Format::Gif => 65_535,
            Format::WebP => 16_383,
            // Their sides have 31 bits or more, and `Limits` ends before that.
            Format::Png | Format::Tiff | Format::Bmp => return Ok(()),
        };
        if width.max(height) <= most {
            return Ok(());
        }
        Err(format!(
            "{width}×{height} pixels, and a {self} has at most {most} a side: write PNG or TIFF instead"
        ))
    }

    /// Whether files of this format can say that their values are linear in light, with enough bits for it.
    pub(super) fn keeps_light(self) -> bool {
        matches!(self, Format::Png | Format::Tiff)
    }

    /// Whether files of this format can say that they are gray.
    ///
    /// A gray BMP or GIF is a palette of grays and a gray WebP is colour with equal channels, so that only
    /// their pixels tell.
    pub(super) fn names_gray(self) -> bool {
        matches!(self, Format::Png | Format::Jpeg | Format::Tiff)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::WebP => "WebP",
            Format::Tiff => "TIFF",
            Format::Bmp => "BMP",
            Format::Gif => "GIF",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_mean_one_format_each_in_any_case() {
        for format in Format::ALL {
            for extension in format.extensions() {
                for name in [
                    format!("a.{extension}"),
                    format!("a.b.{}", extension.to_uppercase()),
                ] {
                    assert_eq!(Format::of_path(Path::new(&name)), Some(format), "{name}");
                }
            }
        }
        for name in ["png", "a", "a.", "a.heic", "a.png.txt", ".png"] {
            assert_eq!(Format::of_path(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn heif_is_read_where_its_feature_is_on() {
        for (name, read) in [
            ("a.jpg", true),
            ("a.HEIC", cfg!(feature = "heic")),
            ("a.hif", cfg!(feature = "heic")),
            ("a.avif", cfg!(feature = "avif")),
            ("a.txt", false),
            ("heic", false),
        ] {
            assert_eq!(Format::is_read(Path::new(name)), read, "{name}");
        }
        assert!(Format::LIST_READ.starts_with(Format::LIST.split_once(" or ").unwrap().0));
    }

    #[test]
    fn content_of_other_formats_is_named_with_a_way_out() {
        let qoi = Format::of_content(b"qoif........").unwrap_err();
        assert!(
            qoi.starts_with("found QOI, expected PNG") && qoi.contains("convert it"),
            "{qoi}"
        );
        let raw = Format::of_content(b"II*\0\x10\0\0\0CR\x02\0").unwrap_err();
        assert!(
            raw.starts_with("found CR2") && raw.contains("export it as TIFF"),
            "{raw}"
        );
        let text = Format::of_content(b"hello, world").unwrap_err();
        assert!(text.starts_with("not an image"), "{text}");
    }

    #[test]
    fn sizes_end_where_the_formats_do() {
        for (format, most) in [
            (Format::Jpeg, 65_535),
            (Format::Gif, 65_535),
            (Format::WebP, 16_383),
        ] {
            assert_eq!(format.check_size(most, 1), Ok(()));
            assert_eq!(format.check_size(1, most), Ok(()));
            for (width, height) in [(most + 1, 1), (1, most + 1)] {
                let error = format.check_size(width, height).unwrap_err();
                let size = format!("{width}×{height} pixels");
                assert!(
                    error.starts_with(&size) && error.contains(&most.to_string()),
                    "{error}"
                );
            }
        }
        for format in [Format::Png, Format::Tiff, Format::Bmp] {
            assert_eq!(format.check_size(70_000, 70_000), Ok(()));
        }
    }
}
