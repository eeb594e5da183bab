//! Overlapping crops of a dataset, which load faster than its photographs: a patch needs a smaller file decoded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::decode::decode;
use super::layout::{Layout, Part};
use super::pairs::{Found, Pair, find_pairs};
use crate::error::{Error, Result};
use crate::picture::{EncodeOptions, save_rgb8};

/// What [`crop_dataset`] makes of a dataset. The default is the release's for GoPro.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CropOptions {
    /// Side of the square crops in pixels. A shorter side of an image is kept whole.
    pub size: usize,
    /// Pixels that neighbouring crops share at least, less than `size`.
    pub overlap: usize,
    /// Replaces outputs that exist.
    pub force: bool,
}

impl Default for CropOptions {
    fn default() -> Self {
        Self {
            size: 512,
            overlap: 256,
            force: false,
        }
    }
}

/// What [`crop_dataset`] did.
#[derive(Debug)]
pub struct CropReport {
    /// The dataset, less the pairs with a file whose header cannot be read.
    pub found: Found,
    /// Crops written, each of them a blurry and a sharp one.
    pub crops: usize,
    /// What was wrong with each pair of which not all crops could be made.
    pub failures: Vec<Error>,
    /// What a user should know of the photographs, each with its name.
    pub warnings: Vec<String>,
}

/// Writes `out/input/NAME_TOP_LEFT.png` (blurry) and `out/target/NAME_TOP_LEFT.png` (sharp), both 8-bit RGB, for each
/// crop of each pair of the dataset at `root`.
///
/// `NAME` is the [pair's](Pair::name), folders included; `TOP` and `LEFT` are the position in the photograph, in pixels.
/// The pairs are worked on in parallel; `progress` hears the number of pairs dealt with and their total.
///
/// A photograph that cannot be read does not stop the others: the report lists it.
///
/// # Errors
/// Before anything is written: [`Error::Config`] for options that cannot be used, those of
/// [`find_pairs`], and [`Error::Refused`] when `out` is the
/// dataset itself, or an output exists and `force` is not set.
pub fn crop_dataset(
    root: &Path,
    layout: Option<Layout>,
    part: Part,
    out: &Path,
    options: &CropOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<CropReport> {
    options.validate()?;
    let found = find_pairs(root, layout, part)?;
    let unreadable = found.unreadable.iter();
    let mut failures: Vec<Error> = unreadable
        .map(|image| Error::image(&image.path, &image.reason))
        .collect();
    keep_apart(&found.pairs, out)?;
    if !options.force {
        refuse_existing(&found.pairs, out, options)?;
    }
    let done = AtomicUsize::new(0);
    let outcomes: Vec<_> = found
        .pairs
        .par_iter()
        .map(|pair| {
            let outcome = crop_pair(pair, out, options);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, found.pairs.len());
            outcome
        })
        .collect();
    let (mut crops, mut warnings) = (0, Vec::new());
    for (written, failure, of_pair) in outcomes {
        crops += written;
        failures.extend(failure);
        warnings.extend(of_pair);
    }
    Ok(CropReport {
        found,
        crops,
        failures,
        warnings,
    })
}

impl CropOptions {
    fn validate(&self) -> Result<()> {
        let fail = |key: &str, reason: String| Error::Config {
            origin: "crop".into(),
            key: key.into(),
            reason,
        };
        if self.size == 0 {
            return Err(fail("size", "found 0, expected at least 1".into()));
        }
        if self.overlap >= self.size {
            let (overlap, size) = (self.overlap, self.size);
            let reason = format!("found {overlap}, expected less than the size, {size}");
            return Err(fail("overlap", reason));
        }
        Ok(())
    }

    /// Top and left of the crops of a photograph, row by row.
    fn corners(&self, pair: &Pair) -> impl Iterator<Item = (usize, usize)> {
        let step = self.size - self.overlap;
        let columns = positions(pair.width, self.size, step);
        positions(pair.height, self.size, step)
            .into_iter()
            .flat_map(move |top| columns.clone().into_iter().map(move |left| (top, left)))
    }
}

/// Where crops of `size` start along a side of `length`: every `step` pixels, and the last flush with the border.
fn positions(length: usize, size: usize, step: usize) -> Vec<usize> {
    let last = length.saturating_sub(size);
    let mut starts: Vec<_> = (0..=last).step_by(step).collect();
    if starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

fn output_paths(out: &Path, pair: &Pair, top: usize, left: usize) -> [PathBuf; 2] {
    // Two numbers always follow the name, so that no two crops share a file name.
    let file = format!("{}_{top:04}_{left:04}.png", pair.name);
    ["input", "target"].map(|side| out.join(side).join(&file))
}

/// Crops among the photographs would be part of the dataset next time.
fn keep_apart(pairs: &[Pair], out: &Path) -> Result<()> {
    let folders: BTreeSet<&Path> = pairs
        .iter()
        .flat_map(|pair| [pair.blur.as_ref(), Some(&pair.sharp)])
        .filter_map(|image| image?.parent())
        .collect();
    let sources: BTreeSet<PathBuf> = folders
        .into_iter()
        .filter_map(|folder| folder.canonicalize().ok())
        .collect();
    for side in ["input", "target"] {
        let output = out.join(side);
        let among = match output.canonicalize() {
            Ok(output) => sources
                .iter()
                .any(|source| source.starts_with(&output) || output.starts_with(source)),
            // Not there yet, but its folders may be.
            Err(_) => output
                .ancestors()
                .find_map(|folder| folder.canonicalize().ok())
                .is_some_and(|folder| sources.iter().any(|source| folder.starts_with(source))),
        };
        if among {
            let reason = "lies among the dataset's own photographs: choose another output folder";
            return Err(Error::refused(&output, reason));
        }
    }
    Ok(())
}

fn refuse_existing(pairs: &[Pair], out: &Path, options: &CropOptions) -> Result<()> {
    if out.symlink_metadata().is_err() {
        return Ok(());
    }
    for pair in pairs {
        for (top, left) in options.corners(pair) {
            for path in output_paths(out, pair, top, left) {
                if path.symlink_metadata().is_ok() {
                    let reason =
                        "exists already: choose another output folder, or force to replace it";
                    return Err(Error::refused(&path, reason));
                }
            }
        }
    }
    Ok(())
}

/// What became of one pair: the number of crops, what stopped it from being all, and warnings.
fn crop_pair(
    pair: &Pair,
    out: &Path,
    options: &CropOptions,
) -> (usize, Option<Error>, Vec<String>) {
    let (mut written, mut warnings) = (0, Vec::new());
    let mut crop = || -> Result<()> {
        let blur = pair.blur.as_deref().unwrap_or(&pair.sharp);
        let encode = EncodeOptions {
            force: options.force,
            ..EncodeOptions::default()
        };
        let images = [decode(blur, pair)?, decode(&pair.sharp, pair)?].map(|read| {
            warnings.extend(read.warnings);
            read.pixels
        });
        for (top, left) in options.corners(pair) {
            let paths = output_paths(out, pair, top, left);
            for (image, path) in images.iter().zip(&paths) {
                save_rgb8(&cut(image, top, left, options.size), path, &encode)?;
            }
            written += 1;
        }
        Ok(())
    };
    let failure = crop().err();
    (written, failure, warnings)
}

/// The square at a corner, or as much of it as there is: both within the image, whose sides fit `u32`.
fn cut(image: &RgbImage, top: usize, left: usize, size: usize) -> RgbImage {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    imageops::crop_imm(image, left as u32, top as u32, size, size).to_image()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_step_by_size_less_overlap_and_end_flush_with_the_border() {
        let starts = |length| positions(length, 512, 256);
        assert_eq!(starts(1280), [0, 256, 512, 768]);
        assert_eq!(starts(720), [0, 208]);
        assert_eq!(starts(512), [0], "a side as long as the crop");
        assert_eq!(starts(300), [0], "a shorter side");
        assert_eq!(starts(768), [0, 256], "the last step is flush already");
        assert_eq!(starts(769), [0, 256, 257]);
        assert_eq!(positions(10, 4, 4), [0, 4, 6], "without overlap");
    }

    fn pair(name: &str, width: usize, height: usize) -> Pair {
        Pair {
            name: name.into(),
            blur: None,
            sharp: PathBuf::new(),
            width,
            height,
        }
    }

    #[test]
    fn the_releases_training_set_has_eight_crops_a_photograph() {
        let corners: Vec<_> = CropOptions::default()
            .corners(&pair("a", 1280, 720))
            .collect();
        assert_eq!(corners.len() * 2103, 16_824);
        assert_eq!(
            corners[..5],
            [(0, 0), (0, 256), (0, 512), (0, 768), (208, 0)]
        );
    }

    #[test]
    fn no_two_crops_share_a_name() {
        let out = Path::new("out");
        let mut names = BTreeSet::new();
        let pairs = ["a", "a_0000", "a/b", "a_b", "a_0000_0000"].map(|name| pair(name, 20, 20));
        let corners = [(0, 0), (0, 8), (8, 0), (10_000, 0), (1, 10_000)];
        for pair in &pairs {
            for (top, left) in corners {
                names.extend(output_paths(out, pair, top, left));
            }
        }
        assert_eq!(names.len(), pairs.len() * corners.len() * 2);
        assert!(names.contains(Path::new("out/input/a/b_0008_0000.png")));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (size, overlap, key) in [(0, 0, "`size`"), (512, 512, "`overlap`")] {
            let options = CropOptions {
                size,
                overlap,
                force: false,
            };
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
        }
    }
}
