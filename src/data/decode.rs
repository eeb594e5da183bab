//! The pictures of a pair as 8-bit RGB, of the size that the pair has.

use std::path::Path;

use super::pairs::Pair;
use crate::error::{Error, Result};
use crate::picture::{Region, Rgb8, open_region, open_rgb8};

/// The whole picture at `path`, one of `pair`'s.
pub(super) fn decode(path: &Path, pair: &Pair) -> Result<Rgb8> {
    let picture = open_rgb8(path)?;
    check_size(path, pair, picture.pixels.dimensions())?;
    Ok(picture)
}

/// A region of the picture at `path`, one of `pair`'s: the same pixels as [`decode`]'s there.
pub(super) fn decode_region(path: &Path, pair: &Pair, region: Region) -> Result<Rgb8> {
    let (part, size) = open_region(path, region)?;
    check_size(path, pair, size)?;
    Ok(part)
}

fn check_size(path: &Path, pair: &Pair, (width, height): (u32, u32)) -> Result<()> {
    if (width as usize, height as usize) == (pair.width, pair.height) {
        return Ok(());
    }
    let (was_width, was_height) = (pair.width, pair.height);
    Err(Error::image(
        path,
        format!(
            "is {width}×{height} now, was {was_width}×{was_height} when the dataset was opened"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn an_image_of_another_size_than_before_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        RgbImage::new(31, 23).save(&path).unwrap();
        let pair = Pair {
            name: "a".into(),
            blur: None,
            sharp: Default::default(),
            width: 31,
            height: 24,
        };
        let region = Region {
            top: 3,
            left: 5,
            height: 7,
            width: 11,
        };
        for found in [decode(&path, &pair), decode_region(&path, &pair, region)] {
            let error = found.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("31×23 now, was 31×24"), "{error}");
        }
    }
}
