//! Validation images as files: blur, output and sharp side by side.

use std::path::PathBuf;

use image::{Rgb, RgbImage, imageops};

use super::{Picture, Record, Sink};
use crate::error::Result;
use crate::picture::{EncodeOptions, save_rgb8};

/// Pixels between two images.
const GAP: u32 = 4;
const GAP_COLOUR: Rgb<u8> = Rgb([255; 3]);

/// The images from left to right with a thin white gap between them, aligned at the top.
pub fn side_by_side(images: [&RgbImage; 3]) -> RgbImage {
    let width = images.map(RgbImage::width).iter().sum::<u32>() + 2 * GAP;
    let height = images.map(RgbImage::height).into_iter().max();
    let mut composed = RgbImage::from_pixel(width, height.unwrap_or(0), GAP_COLOUR);
    let mut left = 0;
    for image in images {
        imageops::replace(&mut composed, image, i64::from(left), 0);
        left += image.width() + GAP;
    }
    composed
}

/// The images that [`side_by_side`] put together, if they were of one size.
pub fn apart(composed: &RgbImage) -> Option<[RgbImage; 3]> {
    let images = composed.width().checked_sub(2 * GAP)?;
    let width = images / 3;
    if width == 0 || !images.is_multiple_of(3) {
        return None;
    }
    let part = |index: u32| {
        let left = index * (width + GAP);
        imageops::crop_imm(composed, left, 0, width, composed.height()).to_image()
    };
    Some([0, 1, 2].map(part))
}

impl Picture {
    /// The three images of a validation pair as one picture.
    pub fn of(
        name: impl Into<String>,
        blur: &RgbImage,
        output: &RgbImage,
        sharp: &RgbImage,
    ) -> Self {
        Self {
            name: name.into(),
            image: side_by_side([blur, output, sharp]),
        }
    }
}

/// Saves the pictures of each validation as `<iteration>-<name>.png`, the iteration with six digits or more.
pub struct Pictures {
    folder: PathBuf,
}

impl Pictures {
    /// Pictures in `folder`, which is made when the first one is saved. Files of the same name are replaced.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn save(&self, iteration: usize, picture: &Picture) -> Result<()> {
        let name = format!("{iteration:06}-{}.png", file_name(&picture.name));
        let options = EncodeOptions {
            force: true,
            ..EncodeOptions::default()
        };
        save_rgb8(&picture.image, &self.folder.join(name), &options)
    }
}

/// A pair's name may have folders; a file's name has none, nor what some file systems refuse.
fn file_name(name: &str) -> String {
    let refused = |c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c);
    name.replace(refused, "-")
}

impl Sink for Pictures {
    fn write(&mut self, record: &Record) -> Result<()> {
        let Record::Validation(record) = record else {
            return Ok(());
        };
        record
            .pictures
            .iter()
            .try_for_each(|picture| self.save(record.iteration, picture))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::tests::{train, validation};
    use super::*;
    use crate::error::Error;

    fn plain(width: u32, height: u32, value: u8) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb([value; 3]))
    }

    #[test]
    fn three_images_stand_side_by_side() {
        let images = [plain(3, 2, 10), plain(2, 1, 20), plain(1, 2, 30)];
        let composed = side_by_side([&images[0], &images[1], &images[2]]);
        let row = |y| -> Vec<u8> { (0..composed.width()).map(|x| composed[(x, y)][0]).collect() };
        let gap = [255; GAP as usize];
        assert_eq!(row(0), [&[10; 3][..], &gap, &[20; 2], &gap, &[30]].concat());
        assert_eq!(
            row(1),
            [&[10; 3][..], &gap, &[255; 2], &gap, &[30]].concat(),
            "below the lower image"
        );
        assert_eq!(composed.height(), 2);
    }

    #[test]
    fn images_of_one_size_come_apart_again() {
        let images = [plain(3, 2, 10), plain(3, 2, 20), plain(3, 2, 30)];
        let composed = side_by_side([&images[0], &images[1], &images[2]]);
        assert_eq!(apart(&composed), Some(images));
        assert_eq!(apart(&plain(2 * GAP, 5, 0)), None);
        assert_eq!(apart(&plain(2 * GAP + 4, 5, 0)), None);
        assert_eq!(apart(&plain(1, 5, 0)), None);
    }

    #[test]
    fn pictures_are_saved_by_iteration_and_name() {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("pictures");
        let mut sink = Pictures::new(&root);
        sink.write(&Record::Train(train(1, 5))).unwrap();
        assert!(!root.exists());

        let images = [plain(3, 2, 10), plain(3, 2, 20), plain(3, 2, 30)];
        let picture = |name: &str| Picture::of(name, &images[0], &images[1], &images[2]);
        let mut record = validation(1, 600);
        record.pictures = vec![picture("GOPR0410_11_00/000047"), picture("../..")];
        for _ in 0..2 {
            sink.write(&Record::Validation(record.clone())).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["000600-..-...png", "000600-GOPR0410_11_00-000047.png"]
        );
        let found = image::open(root.join(&names[1])).unwrap().into_rgb8();
        assert_eq!(found, record.pictures[0].image);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("taken");
        fs::write(&root, "").unwrap();
        let mut record = validation(1, 600);
        let image = plain(1, 1, 0);
        record.pictures = vec![Picture::of("a", &image, &image, &image)];
        let error = Pictures::new(&root).write(&Record::Validation(record));
        assert!(matches!(error, Err(Error::Io { .. })), "{error:?}");
    }
}
