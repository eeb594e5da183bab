//! The image formats read and written, and how they are recognised.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use image::ImageFormat;

/// An image file format that is both read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
    /// Lossless; 8 and 16 bits, gray and colour, alpha, ICC profile.
    Png,
    /// Lossy; 8 bits, gray and colour, ICC profile, no alpha. At most 65,535 pixels a side.
    #[cfg_attr(feature = "cli", value(alias = "jpg"))]
    Jpeg,
    /// Written losslessly (also where the original was lossy); 8 bits, alpha, ICC profile, no gray
    /// of its own. At most 16,383 pixels a side.
    #[cfg_attr(feature = "cli", value(name = "webp"))]
    WebP,
    /// Written uncompressed; 8 and 16 bits, gray and colour, alpha with colour only, ICC profile.
    #[cfg_attr(feature = "cli", value(alias = "tif"))]
    Tiff,
    /// Uncompressed; 8 bits, gray and colour, alpha with colour only, no ICC profile.
    Bmp,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 5] = [
        Format::Png,
        Format::Jpeg,
        Format::WebP,
        Format::Tiff,
        Format::Bmp,
    ];

    /// The formats in words, for messages.
    pub const LIST: &str = "PNG, JPEG, WebP, TIFF or BMP";

    /// The extensions that mean this format, lower case; the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Format::Png => &["png"],
            Format::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            Format::WebP => &["webp"],
            Format::Tiff => &["tif", "tiff"],
            Format::Bmp => &["bmp", "dib"],
        }
    }

    /// The format that `path`'s extension means, in upper or lower case.
    pub fn of_path(path: &Path) -> Option<Format> {
        let extension = path.extension().and_then(OsStr::to_str)?;
        Self::ALL.into_iter().find(|format| {
            format
                .extensions()
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
    }

    /// The format that the first bytes of a file show.
    ///
    /// # Errors
    ///
    /// The reason, where the bytes are of no format or of one that is not supported.
    pub(super) fn of_content(bytes: &[u8]) -> Result<Format, String> {
        match image::guess_format(bytes) {
            Ok(ImageFormat::Png) => Ok(Format::Png),
            Ok(ImageFormat::Jpeg) => Ok(Format::Jpeg),
            Ok(ImageFormat::WebP) => Ok(Format::WebP),
            Ok(ImageFormat::Tiff) => Ok(Format::Tiff),
            Ok(ImageFormat::Bmp) => Ok(Format::Bmp),
            Ok(other) => Err(format!(
                "{other:?} images are not supported, expected {}",
                Self::LIST
            )),
            Err(_) => Err(format!("not an image, expected {}", Self::LIST)),
        }
    }

    /// Whether files of this format can say that they are gray.
    ///
    /// A gray BMP is a palette of grays and a gray WebP is colour with equal channels, so that only
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
        for name in ["png", "a", "a.", "a.gif", "a.png.txt", ".png"] {
            assert_eq!(Format::of_path(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn content_of_other_formats_is_named() {
        let gif = Format::of_content(b"GIF89a......").unwrap_err();
        assert!(gif.contains("Gif") && gif.contains("expected PNG"), "{gif}");
        let text = Format::of_content(b"hello, world").unwrap_err();
        assert!(text.starts_with("not an image"), "{text}");
    }
}
