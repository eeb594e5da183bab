//! Pairs of a blurry and a sharp photograph, found in folders and matched by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::{ImageFormat, ImageReader};
use walkdir::WalkDir;

use crate::error::{Error, Result};

/// Folder names of the blurry and of the sharp images, in the order in which they are looked for.
const LAYOUTS: &[(&str, &str)] = &[("input", "target"), ("blur", "sharp")];

/// Problems listed in one error; a wrong folder has thousands.
const LISTED: usize = 12;

/// A blurry photograph and its sharp counterpart, of the same size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Path below the layout's folders, without extension and with `/` between folders; the same for both images.
    pub name: String,
    /// The blurry image.
    pub blur: PathBuf,
    /// The sharp image.
    pub sharp: PathBuf,
    /// Width of both in pixels.
    pub width: usize,
    /// Height of both in pixels.
    pub height: usize,
}

/// Finds the pairs of `root`: images of `input/` and `target/` (or `blur/` and `sharp/`), at any depth, that have the
/// same path there but for the extension. Sorted by name. Sizes are read from the headers; pixels are not decoded.
///
/// # Errors
/// [`Error::Data`] if neither layout is there, if there is no image, or with a list of the images that lack a
/// partner, share a name, cannot be read or differ from their partner in size. [`Error::Io`] for an unreadable folder.
pub fn find_pairs(root: &Path) -> Result<Vec<Pair>> {
    let (blur_root, sharp_root) = layout(root)?;
    let mut problems = Vec::new();
    let mut blurs = images_by_name(&blur_root, &mut problems)?;
    let sharps = images_by_name(&sharp_root, &mut problems)?;

    let mut pairs = Vec::with_capacity(sharps.len());
    for (name, sharp) in sharps {
        let Some(blur) = blurs.remove(&name) else {
            let folder = blur_root.display();
            problems.push(format!("{}: no image of this name in {folder}", sharp.display()));
            continue;
        };
        match (dimensions(&blur), dimensions(&sharp)) {
            (Ok(size), Ok(sharp_size)) if size == sharp_size => {
                let (width, height) = size;
                pairs.push(Pair { name, blur, sharp, width, height });
            }
            (Ok((width, height)), Ok((sharp_width, sharp_height))) => problems.push(format!(
                "{}: {width}×{height}, but its partner is {sharp_width}×{sharp_height}",
                blur.display()
            )),
            (blurry, sharp) => problems.extend([blurry, sharp].into_iter().filter_map(Result::err)),
        }
    }
    for blur in blurs.into_values() {
        let folder = sharp_root.display();
        problems.push(format!("{}: no image of this name in {folder}", blur.display()));
    }

    if !problems.is_empty() {
        return Err(data_error(root, describe("the pairs do not match", &problems)));
    }
    if pairs.is_empty() {
        return Err(data_error(root, "no images; expected PNG, JPEG, WebP, TIFF or BMP files"));
    }
    Ok(pairs)
}

/// Splits pairs into training and validation: about `share` of them, chosen by their names alone, so that the
/// choice stays when the folder moves and hardly changes when pairs are added. At least one pair is left for
/// training; with a positive share and two pairs or more, at least one is for validation.
pub fn split_for_validation(pairs: Vec<Pair>, share: f64) -> (Vec<Pair>, Vec<Pair>) {
    let wanted = (pairs.len() as f64 * share).round() as usize;
    let least = usize::from(share > 0.0 && pairs.len() > 1);
    let count = wanted.max(least).min(pairs.len().saturating_sub(1));

    let mut ranked: Vec<(u64, &str)> =
        pairs.iter().map(|pair| (name_hash(&pair.name), pair.name.as_str())).collect();
    ranked.sort_unstable();
    let chosen: std::collections::HashSet<String> =
        ranked.into_iter().take(count).map(|(_, name)| name.to_string()).collect();
    pairs.into_iter().partition(|pair| !chosen.contains(&pair.name))
}

/// FNV-1a: published, so that the split can be reproduced outside this crate.
fn name_hash(name: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn layout(root: &Path) -> Result<(PathBuf, PathBuf)> {
    for (blur, sharp) in LAYOUTS {
        let (blur, sharp) = (root.join(blur), root.join(sharp));
        if blur.is_dir() && sharp.is_dir() {
            return Ok((blur, sharp));
        }
    }
    let reason = if root.is_dir() {
        "expected the folders `input` and `target`, or `blur` and `sharp`, inside"
    } else {
        "is not a folder; expected one with `input` and `target` inside"
    };
    Err(data_error(root, reason))
}

/// Image files below `root` by relative path without extension. Other files are passed over.
fn images_by_name(root: &Path, problems: &mut Vec<String>) -> Result<BTreeMap<String, PathBuf>> {
    let mut images = BTreeMap::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).to_path_buf();
            Error::io(path)(error.into())
        })?;
        let path = entry.path();
        let is_image = ImageFormat::from_path(path).is_ok_and(|format| format.reading_enabled());
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !entry.file_type().is_file() || !is_image || hidden {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(path).with_extension("");
        let parts: Vec<_> =
            relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        if let Some(other) = images.insert(parts.join("/"), path.to_path_buf()) {
            problems.push(format!("{}: same name as {}", path.display(), other.display()));
        }
    }
    Ok(images)
}

fn dimensions(path: &Path) -> Result<(usize, usize), String> {
    let read = || ImageReader::open(path)?.with_guessed_format()?.into_dimensions();
    match read() {
        Ok((width, height)) if width > 0 && height > 0 => Ok((width as usize, height as usize)),
        Ok(_) => Err(format!("{}: has no pixels", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn describe(what: &str, problems: &[String]) -> String {
    let mut text = format!("{what}:");
    for problem in problems.iter().take(LISTED) {
        text.push_str("\n  ");
        text.push_str(problem);
    }
    if problems.len() > LISTED {
        text.push_str(&format!("\n  … and {} more", problems.len() - LISTED));
    }
    text
}

fn data_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Data { path: path.to_path_buf(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use tempfile::TempDir;

    use super::*;

    fn write(root: &Path, path: &str, width: u32, height: u32) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::new(width, height).save(path).unwrap();
    }

    #[test]
    fn pairs_are_matched_by_path_whatever_the_extension() {
        for (blur, sharp) in LAYOUTS {
            let folder = TempDir::new().unwrap();
            for name in ["b/1", "a/1", "2"] {
                write(folder.path(), &format!("{blur}/{name}.png"), 9, 7);
                write(folder.path(), &format!("{sharp}/{name}.bmp"), 9, 7);
            }
            std::fs::write(folder.path().join(blur).join("notes.txt"), "no image").unwrap();
            let pairs = find_pairs(folder.path()).unwrap();
            let names: Vec<_> = pairs.iter().map(|pair| pair.name.as_str()).collect();
            assert_eq!(names, ["2", "a/1", "b/1"]);
            assert!(pairs[1].blur.ends_with(format!("{blur}/a/1.png")));
            assert!(pairs[1].sharp.ends_with(format!("{sharp}/a/1.bmp")));
            assert_eq!((pairs[1].width, pairs[1].height), (9, 7));
        }
    }

    #[test]
    fn every_mismatch_is_listed_in_one_error() {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        write(root, "input/good.png", 8, 8);
        write(root, "target/good.png", 8, 8);
        write(root, "input/lonely.png", 8, 8);
        write(root, "target/orphan.png", 8, 8);
        write(root, "input/size.png", 8, 8);
        write(root, "target/size.png", 8, 9);
        write(root, "input/twice.png", 8, 8);
        write(root, "input/twice.bmp", 8, 8);
        write(root, "target/twice.png", 8, 8);
        std::fs::write(root.join("input/torn.png"), b"not a picture").unwrap();
        write(root, "target/torn.png", 8, 8);
        let message = find_pairs(root).unwrap_err().to_string();
        for part in ["lonely.png: no image", "orphan.png: no image", "8×8, but its partner is 8×9"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        assert!(message.contains("twice.png: same name as"), "{message}");
        assert!(message.contains("torn.png"), "{message}");
        assert!(!message.contains("good"), "{message}");
    }

    #[test]
    fn a_folder_without_the_layout_says_what_is_expected() {
        let folder = TempDir::new().unwrap();
        let message = find_pairs(folder.path()).unwrap_err().to_string();
        assert!(message.contains("`input` and `target`"), "{message}");
    }

    fn named(count: usize) -> Vec<Pair> {
        (0..count)
            .map(|index| Pair {
                name: format!("photo-{index}"),
                blur: PathBuf::new(),
                sharp: PathBuf::new(),
                width: 8,
                height: 8,
            })
            .collect()
    }

    #[test]
    fn the_validation_share_depends_on_names_alone() {
        let (train, validation) = split_for_validation(named(100), 0.05);
        assert_eq!((train.len(), validation.len()), (95, 5));
        let mut reversed = named(100);
        reversed.reverse();
        let (_, mut again) = split_for_validation(reversed, 0.05);
        again.reverse();
        assert_eq!(again, validation);
    }

    #[test]
    fn small_sets_keep_at_least_one_pair_on_either_side() {
        for (count, share, expected) in [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (10, 0.0, 0)] {
            let (train, validation) = split_for_validation(named(count), share);
            assert_eq!(validation.len(), expected, "{count} pairs, share {share}");
            assert_eq!(train.len(), count - expected);
        }
    }
}
