//! Photographs in, pairs out: the files behind a synthesis.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use tempfile::NamedTempFile;

use super::scene::{Rect, Scene};
use crate::error::{Error, Result};

/// Photographs that decode to more bytes than this are refused: 512 MiB, some 170 megapixels of 8-bit RGB.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// The photograph as 8-bit RGB, turned as its EXIF orientation says.
pub(super) fn read(path: &Path) -> Result<RgbImage> {
    let unusable = |reason: String| Error::Image {
        path: path.into(),
        reason,
    };
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(Error::io(path))?;
    let mut decoder = reader
        .into_decoder()
        .map_err(|error| unusable(error.to_string()))?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        let (width, height) = decoder.dimensions();
        return Err(unusable(format!(
            "{width}×{height} pixels decode to more than {MAX_DECODED_BYTES} bytes"
        )));
    }
    let orientation = decoder
        .orientation()
        .map_err(|error| unusable(error.to_string()))?;
    let mut image =
        DynamicImage::from_decoder(decoder).map_err(|error| unusable(error.to_string()))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Shrinks `image` until no side is longer than `max_size`, in linear light as a coarser sensor would.
pub(super) fn shrink(image: RgbImage, max_size: Option<u32>) -> RgbImage {
    let (width, height) = image.dimensions();
    let longer = width.max(height);
    let Some(size) = max_size.filter(|&size| size < longer) else {
        return image;
    };
    let scaled = |side: u32| {
        let exact = u64::from(side) * u64::from(size);
        ((exact + u64::from(longer) / 2) / u64::from(longer)).max(1) as u32
    };
    let size = [scaled(width) as usize, scaled(height) as usize];
    let whole = Rect::of_size(size);
    Scene::new(&image, size, whole).image(whole)
}

/// Writes an 8-bit PNG that appears whole or not at all; without `force` an existing file is an error.
pub(super) fn write(path: &Path, image: &RgbImage, force: bool) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut temporary = create_beside(folder).map_err(Error::io(path))?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    image
        .write_with_encoder(PngEncoder::new_with_quality(
            &mut writer,
            CompressionType::Fast,
            PngFilter::Adaptive,
        ))
        .map_err(|error| match error {
            image::ImageError::IoError(source) => Error::Io {
                path: path.into(),
                source,
            },
            other => Error::Image {
                path: path.into(),
                reason: other.to_string(),
            },
        })?;
    writer.flush().map_err(Error::io(path))?;
    drop(writer);
    let kept = if force {
        temporary.persist(path)
    } else {
        temporary.persist_noclobber(path)
    };
    kept.map(drop).map_err(|error| Error::Io {
        path: path.into(),
        source: error.error,
    })
}

fn create_beside(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".png");
    // Temporary files are private by default, but this one becomes an ordinary file, subject to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn small_photographs_are_not_enlarged() {
        let image = RgbImage::from_pixel(5, 4, Rgb([9, 8, 7]));
        assert!(shrink(image.clone(), Some(6)) == image);
    }

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let image = RgbImage::from_pixel(5, 4, Rgb([9, 8, 7]));
        write(&path, &image, false).unwrap();
        let error = write(&path, &image, false).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
