//! How datasets keep their photographs: which file is the blurry and which the sharp one of which name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

mod ground_truth;
mod lists;
mod sequences;

pub use crate::config::Layout;
use crate::error::{Error, Result};
use crate::picture::Format;

/// A dataset's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Part {
    /// What models are trained on.
    Train,
    /// What models are evaluated on.
    Test,
}

impl Part {
    /// Its name in folders and list files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Train => Self::Test,
            Self::Test => Self::Train,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The files of a part; no image has been opened.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The part, where the dataset is divided.
    pub part: Option<Part>,
    /// Blurry and sharp file by name, in order of the names.
    pub couples: BTreeMap<String, Couple>,
    /// Sharp photographs that have no blurry file, by name.
    pub photographs: BTreeMap<String, PathBuf>,
    /// Files and folders of no use here.
    pub passed_over: Vec<PathBuf>,
    /// Everything that keeps the files from being pairs, one line each.
    pub problems: Vec<String>,
}

/// The two files of a name.
#[derive(Debug)]
pub(crate) struct Couple {
    pub blur: PathBuf,
    pub sharp: PathBuf,
}

/// As [`detect`], and [`Layout::Sharp`] for a folder with images in it that has no other layout.
pub(super) fn detect_with_sharp(root: &Path) -> Result<Layout> {
    if fitting(root)?.is_empty()
        && entries(root)?
            .iter()
            .any(|path| path.is_file() && Format::is_read(path))
    {
        return Ok(Layout::Sharp);
    }
    detect(root)
}

/// The layout of `root`.
///
/// # Errors
/// [`Error::Data`] if it is no folder, has no known layout, or more than one.
pub(super) fn detect(root: &Path) -> Result<Layout> {
    match fitting(root)?.as_slice() {
        [layout] => Ok(*layout),
        [] => Err(data_error(
            root,
            "no known layout: expected the folders `input` and `target`, or `blur` and `sharp`, or GoPro, HIDE or \
             RealBlur as downloaded; to train on sharp photographs alone, name the layout `sharp`",
        )),
        several => {
            let names: Vec<_> = several.iter().map(|layout| format!("`{layout}`")).collect();
            let names = names.join(", ");
            let reason = format!("several layouts fit; choose one by name: {names}");
            Err(data_error(root, reason))
        }
    }
}

/// Every layout that `root` has: RealBlur's folder has two, one of each camera's images.
///
/// # Errors
/// [`Error::Data`] if it is no folder.
pub fn fitting(root: &Path) -> Result<Vec<Layout>> {
    if !root.is_dir() {
        return Err(data_error(
            root,
            "is not a folder; expected one with pairs of images",
        ));
    }
    let mut fitting = Vec::new();
    for layout in Layout::ALL {
        if fits(root, layout)? {
            fitting.push(layout);
        }
    }
    Ok(fitting)
}

fn fits(root: &Path, layout: Layout) -> Result<bool> {
    let parts = [root.to_path_buf(), root.join("train"), root.join("test")];
    Ok(match layout {
        Layout::Gopro => {
            for folder in &parts {
                if sequences::are_in(folder)? {
                    return Ok(true);
                }
            }
            false
        }
        // The other blur of the same photographs, and any folder at all: by name alone.
        Layout::GoproGamma | Layout::Sharp => false,
        Layout::Hide => ground_truth::folder(root).is_some(),
        Layout::RealblurJ | Layout::RealblurR => [Part::Train, Part::Test]
            .into_iter()
            .any(|part| root.join(lists::file_name(layout, part)).is_file()),
        Layout::InputTarget | Layout::BlurSharp => {
            parts.iter().any(|folder| has_sides(folder, layout))
        }
    })
}

/// The files of `root` in this layout: of its train or test part if it has parts.
///
/// # Errors
/// [`Error::Data`] if `root` does not have the layout, or not that part of it; [`Error::Io`] for an unreadable folder
/// or list file.
pub(super) fn list(root: &Path, layout: Layout, part: Part) -> Result<Listing> {
    if !root.is_dir() {
        return Err(data_error(
            root,
            format!("is not a folder; expected {}", expected(layout)),
        ));
    }
    match layout {
        Layout::Gopro | Layout::GoproGamma => sequences::list(root, layout, part),
        Layout::Hide => ground_truth::list(root, part),
        Layout::RealblurJ | Layout::RealblurR => lists::list(root, layout, part),
        Layout::InputTarget | Layout::BlurSharp => {
            let (folder, part) =
                part_folder(root, layout, part, |folder| Ok(has_sides(folder, layout)))?;
            let mut listing = Listing {
                part,
                ..Listing::default()
            };
            let (blur, sharp) = sides(layout);
            listing.match_folders(&folder.join(blur), &folder.join(sharp), "")?;
            Ok(listing)
        }
        Layout::Sharp => {
            let mut listing = Listing::default();
            listing.photographs = listing.images_by_name(root, usize::MAX)?;
            Ok(listing)
        }
    }
}

/// The images of two folders that have the same path there but for the extension, whatever the folders are called.
///
/// # Errors
/// [`Error::Data`] if one of them is no folder, [`Error::Io`] for an unreadable one.
pub(crate) fn match_folders(blur: &Path, sharp: &Path) -> Result<Listing> {
    for folder in [blur, sharp] {
        if !folder.is_dir() {
            return Err(data_error(
                folder,
                "is not a folder; expected one of images",
            ));
        }
    }
    let mut listing = Listing::default();
    listing.match_folders(blur, sharp, "")?;
    Ok(listing)
}

/// The folder names of the blurry and the sharp side.
const fn sides(layout: Layout) -> (&'static str, &'static str) {
    match layout {
        Layout::GoproGamma => ("blur_gamma", "sharp"),
        Layout::InputTarget => ("input", "target"),
        _ => ("blur", "sharp"),
    }
}

fn expected(layout: Layout) -> &'static str {
    match layout {
        Layout::Gopro => {
            "`train` or `test` or both inside, with a folder for each sequence that has `blur` and `sharp`"
        }
        Layout::GoproGamma => {
            "`train` or `test` or both inside, with a folder for each sequence that has `blur_gamma` and `sharp`"
        }
        Layout::Hide => "`GT` inside, and `train` or `test` or both",
        Layout::RealblurJ => "`RealBlur_J_train_list.txt` and `RealBlur_J_test_list.txt` inside",
        Layout::RealblurR => "`RealBlur_R_train_list.txt` and `RealBlur_R_test_list.txt` inside",
        Layout::InputTarget => "the folders `input` and `target` inside",
        Layout::BlurSharp => "the folders `blur` and `sharp` inside",
        Layout::Sharp => "images inside",
    }
}

/// Where the part's images are: `root` itself if `holds`, else its folder of the part's name.
fn part_folder(
    root: &Path,
    layout: Layout,
    part: Part,
    holds: impl Fn(&Path) -> Result<bool>,
) -> Result<(PathBuf, Option<Part>)> {
    if holds(root)? {
        return Ok((root.to_path_buf(), None));
    }
    let folder = root.join(part.name());
    if holds(&folder)? {
        return Ok((folder, Some(part)));
    }
    let other = part.other();
    let reason = if holds(&root.join(other.name()))? {
        format!("has no `{part}` part; to use `{other}` in its place, give that folder")
    } else {
        format!(
            "does not have the layout `{layout}`: expected {}",
            expected(layout)
        )
    };
    Err(data_error(root, reason))
}

fn has_sides(folder: &Path, layout: Layout) -> bool {
    let (blur, sharp) = sides(layout);
    folder.join(blur).is_dir() && folder.join(sharp).is_dir()
}

/// What lies directly in a folder, sorted, hidden files and folders left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if !is_hidden(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

impl Listing {
    /// Couples the images of two folders that have the same path there but for the extension.
    fn match_folders(&mut self, blur_root: &Path, sharp_root: &Path, prefix: &str) -> Result<()> {
        let mut blurs = self.images_by_name(blur_root, usize::MAX)?;
        for (name, sharp) in self.images_by_name(sharp_root, usize::MAX)? {
            match blurs.remove(&name) {
                Some(blur) => drop(
                    self.couples
                        .insert(format!("{prefix}{name}"), Couple { blur, sharp }),
                ),
                None => self.no_partner(&sharp, blur_root),
            }
        }
        for blur in blurs.values() {
            self.no_partner(blur, sharp_root);
        }
        Ok(())
    }

    fn no_partner(&mut self, image: &Path, folder: &Path) {
        let (image, folder) = (image.display(), folder.display());
        self.problems
            .push(format!("{image}: no image of this name in {folder}"));
    }

    /// Image files below `root`, at most so many folders deep, by relative path without extension. Hidden files and
    /// folders are left out.
    fn images_by_name(&mut self, root: &Path, depth: usize) -> Result<BTreeMap<String, PathBuf>> {
        let mut images = BTreeMap::new();
        let walk = WalkDir::new(root)
            .max_depth(depth)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path()));
        for entry in walk {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(root).to_path_buf();
                Error::io(path)(error.into())
            })?;
            let path = entry.path();
            if !entry.file_type().is_file() {
                continue;
            }
            if !Format::is_read(path) {
                self.passed_over.push(path.to_path_buf());
                continue;
            }
            let relative = path.strip_prefix(root).unwrap_or(path).with_extension("");
            let parts: Vec<_> = relative
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect();
            if let Some(other) = images.insert(parts.join("/"), path.to_path_buf()) {
                let (path, other) = (path.display(), other.display());
                self.problems.push(format!("{path}: same name as {other}"));
            }
        }
        Ok(images)
    }
}

pub(crate) fn data_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Data {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use tempfile::TempDir;

    use super::*;
    use crate::data::pairs::{Found, find_pairs};

    /// A folder with small images and, where the name says so, other files.
    pub fn folder(files: &[&str]) -> TempDir {
        let root = TempDir::new().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if file.ends_with(".png") {
                RgbImage::new(4, 3).save(path).unwrap();
            } else {
                fs::write(path, "").unwrap();
            }
        }
        root
    }

    pub fn find(root: &Path, part: Part) -> Result<Found> {
        find_pairs(root, None, part)
    }

    /// `name: blurry > sharp`, the paths below `root`.
    pub fn rows(root: &Path, found: &Found) -> Vec<String> {
        let root = root.canonicalize().unwrap();
        let below = |path: &Path| {
            let path = path.canonicalize().unwrap();
            path.strip_prefix(&root).unwrap().display().to_string()
        };
        let row = |pair: &crate::data::pairs::Pair| {
            format!(
                "{}: {} > {}",
                pair.name,
                below(pair.blur.as_ref().unwrap()),
                below(&pair.sharp)
            )
        };
        found.pairs.iter().map(row).collect()
    }

    pub fn message(result: Result<Found>) -> String {
        result.expect_err("no dataset").to_string()
    }

    #[test]
    fn a_part_is_never_taken_for_the_other() {
        let gopro = folder(&["test/G1/blur/1.png", "test/G1/sharp/1.png"]);
        let hide = folder(&["GT/1.png", "test/far/1.png"]);
        let pairs = folder(&["test/input/1.png", "test/target/1.png"]);
        for root in [&gopro, &hide, &pairs] {
            let message = message(find(root.path(), Part::Train));
            assert!(message.contains("no `train` part"), "{message}");
            assert_eq!(find(root.path(), Part::Test).unwrap().pairs.len(), 1);
        }
    }

    #[test]
    fn folders_of_sides_may_be_divided_into_parts() {
        let root = folder(&[
            "train/blur/1.png",
            "train/sharp/1.png",
            "test/blur/2.png",
            "test/sharp/2.png",
        ]);
        let found = find(root.path(), Part::Test).unwrap();
        assert_eq!(
            (found.layout, found.part),
            (Layout::BlurSharp, Some(Part::Test))
        );
        assert_eq!(
            rows(root.path(), &found),
            ["2: test/blur/2.png > test/sharp/2.png"]
        );
    }

    #[test]
    fn a_folder_without_the_layout_says_what_is_expected() {
        let root = folder(&["1.png"]);
        let unknown = message(find(root.path(), Part::Train));
        assert!(unknown.contains("`input` and `target`"), "{unknown}");
        for layout in Layout::ALL {
            for path in [root.path().to_path_buf(), root.path().join("none")] {
                let named = message(find_pairs(&path, Some(layout), Part::Train));
                assert!(
                    named.contains("expected") || named.contains("list file"),
                    "{named}"
                );
            }
        }
    }
}
