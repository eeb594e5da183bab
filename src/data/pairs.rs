//! Pairs of a blurry and a sharp photograph, found in a dataset and matched by name.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::layout::{self, Couple, Layout, Part, data_error};
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::picture::{self, PassedOver};

/// Problems listed in one error; a wrong folder has thousands.
const LISTED: usize = 12;

/// A blurry photograph and its sharp counterpart, of the same size; or a sharp one that is yet to be blurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Path within the dataset, without extension and without the folder of the side; with `/` between folders.
    pub name: String,
    /// The blurry image; none where it is made of the sharp one.
    pub blur: Option<PathBuf>,
    /// The sharp image.
    pub sharp: PathBuf,
    /// Width of both in pixels.
    pub width: usize,
    /// Height of both in pixels.
    pub height: usize,
}

/// The pairs of a dataset; displays as a report of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The layout, as named or detected.
    pub layout: Layout,
    /// The part that the pairs are of; none where the folder is not divided into parts.
    pub part: Option<Part>,
    /// The pairs, sorted by name; at least one.
    pub pairs: Vec<Pair>,
    /// Files and folders that were not looked into: other files than images, HIDE's sharp images of the other part.
    pub passed_over: Vec<PathBuf>,
    /// Images that are not among the pairs, nor are their partners.
    pub unreadable: Vec<Unreadable>,
}

/// An image that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The name that its pair would have.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl Unreadable {
    fn new(name: &str, path: &Path, error: &Error) -> Self {
        let reason = match error {
            Error::Image { reason, .. } => reason.clone(),
            Error::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        Self {
            name: name.to_string(),
            path: path.to_path_buf(),
            reason,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = match self.layout {
            Layout::Gopro => "GoPro",
            Layout::GoproGamma => "GoPro (blur_gamma)",
            Layout::Hide => "HIDE",
            Layout::RealblurJ => "RealBlur-J",
            Layout::RealblurR => "RealBlur-R",
            Layout::InputTarget => "input/target",
            Layout::BlurSharp => "blur/sharp",
            Layout::Sharp => "sharp",
        };
        write!(f, "{title} layout")?;
        if let Some(part) = self.part {
            write!(f, ", {part} part")?;
        }
        let unit = match self.layout {
            Layout::Sharp => "photograph",
            _ => "pair",
        };
        write!(f, ": {}", count(self.pairs.len(), unit))?;
        let folder = |pair: &Pair| {
            pair.name
                .rsplit_once('/')
                .map(|(folder, _)| folder.to_string())
        };
        let folders: BTreeSet<_> = self.pairs.iter().filter_map(folder).collect();
        if !folders.is_empty() {
            let unit = match self.layout {
                Layout::Gopro | Layout::GoproGamma => "sequence",
                Layout::RealblurJ | Layout::RealblurR => "scene",
                _ => "folder",
            };
            write!(f, " in {}", count(folders.len(), unit))?;
        }
        let area = |pair: &&Pair| (pair.width * pair.height, pair.width);
        let smallest = self.pairs.iter().min_by_key(area);
        if let Some((smallest, largest)) = smallest.zip(self.pairs.iter().max_by_key(area)) {
            write!(f, ", {}×{}", smallest.width, smallest.height)?;
            if area(&smallest) != area(&largest) {
                write!(f, " to {}×{}", largest.width, largest.height)?;
            }
        }
        let passed_over = PassedOver::of(Path::new(""), &self.passed_over);
        match passed_over.is_empty() {
            true => Ok(()),
            false => write!(f, "; passed over: {passed_over}"),
        }
    }
}

fn count(number: usize, unit: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// Finds the pairs of the dataset at `root`: of its train or test part, if both are kept there, else of all of it.
///
/// Without a layout, the folder's own is detected. Blurry and sharp images are matched by name, or as the dataset's list
/// file says, never by order. Sizes are read from the headers; pixels are not decoded.
///
/// # Errors
/// [`Error::Data`] if `root` has no known layout, several or not the one named, if it lacks the part, if there is no
/// image that can be read, or with a list of the images that lack a partner, share a name or differ from their partner
/// in size, and of the lines of a list file that cannot be used. [`Error::Io`] for an unreadable folder.
pub fn find_pairs(root: &Path, layout: Option<Layout>, part: Part) -> Result<Found> {
    let layout = match layout {
        Some(layout) => layout,
        None => layout::detect(root)?,
    };
    if layout == Layout::Sharp {
        let reason = "sharp photographs alone; expected pairs, which `hi-diff synth` makes of them";
        return Err(data_error(root, reason));
    }
    survey(root, layout, part)
}

/// As [`find_pairs`], but of [sharp photographs](Layout::Sharp) alone too, whose pairs lack the blurry image. Without a
/// layout they are what a folder holds that has images in it and no known layout.
///
/// # Errors
/// Those of [`find_pairs`].
pub fn find_images(root: &Path, layout: Option<Layout>, part: Part) -> Result<Found> {
    let layout = match layout {
        Some(layout) => layout,
        None => layout::detect_with_sharp(root)?,
    };
    survey(root, layout, part)
}

fn survey(root: &Path, layout: Layout, part: Part) -> Result<Found> {
    let listing = layout::list(root, layout, part)?;
    let couples = listing.couples.into_iter();
    let couples = couples.map(|(name, Couple { blur, sharp })| (name, Some(blur), sharp));
    let photographs = listing.photographs.into_iter();
    let images: Vec<_> = couples
        .chain(photographs.map(|(name, sharp)| (name, None, sharp)))
        .collect();
    let sized: Vec<_> = images
        .into_par_iter()
        .map(|(name, blur, sharp)| pair(name, blur, sharp))
        .collect();

    let (mut pairs, mut problems, mut unreadable) = (Vec::new(), listing.problems, Vec::new());
    for outcome in sized {
        match outcome {
            Ok(pair) => pairs.push(pair),
            Err(Unpaired::Sizes(problem)) => problems.push(problem),
            Err(Unpaired::Unreadable(images)) => unreadable.extend(images),
        }
    }
    if !problems.is_empty() {
        problems.extend(unreadable.iter().map(Unreadable::to_string));
        return Err(data_error(
            root,
            describe("the pairs do not match", &problems),
        ));
    }
    if pairs.is_empty() && !unreadable.is_empty() {
        let problems: Vec<_> = unreadable.iter().map(Unreadable::to_string).collect();
        return Err(data_error(
            root,
            describe("images cannot be read", &problems),
        ));
    }
    if pairs.is_empty() {
        let passed_over = PassedOver::of(root, &listing.passed_over);
        return Err(data_error(root, passed_over.no_images()));
    }
    let found = Found {
        layout,
        part: listing.part,
        pairs,
        passed_over: listing.passed_over,
        unreadable,
    };
    Ok(found)
}

/// Why two files are no pair.
enum Unpaired {
    Sizes(String),
    Unreadable(Vec<Unreadable>),
}

fn pair(name: String, blur: Option<PathBuf>, sharp: PathBuf) -> Result<Pair, Unpaired> {
    let read = |path: &Path| dimensions(path).map_err(|error| Unreadable::new(&name, path, &error));
    let of_size = |(width, height), blur, sharp| Pair {
        name: name.clone(),
        blur,
        sharp,
        width,
        height,
    };
    let Some(blur) = blur else {
        return match read(&sharp) {
            Ok(size) => Ok(of_size(size, None, sharp)),
            Err(error) => Err(Unpaired::Unreadable(vec![error])),
        };
    };
    match (read(&blur), read(&sharp)) {
        (Ok(size), Ok(sharp_size)) if size == sharp_size => Ok(of_size(size, Some(blur), sharp)),
        (Ok((width, height)), Ok((sharp_width, sharp_height))) => Err(Unpaired::Sizes(format!(
            "{}: {width}×{height}, but its partner is {sharp_width}×{sharp_height}",
            blur.display()
        ))),
        (blurry, sharp) => Err(Unpaired::Unreadable(
            [blurry, sharp]
                .into_iter()
                .filter_map(Result::err)
                .collect(),
        )),
    }
}

/// The pairs that a training learns from, and those that it is judged by.
#[derive(Debug, Clone)]
pub struct TrainingPairs {
    /// To learn from, source by source.
    pub train: Vec<Pair>,
    /// The sources, in the order of their pairs.
    pub sources: Vec<Source>,
    /// To be judged by; a set without pairs where there is neither a folder nor a share.
    pub validation: Vec<ValidationSet>,
    /// What was found where, a line each.
    pub reports: Vec<String>,
    /// Images that cannot be read: their pairs are passed over.
    pub unreadable: Vec<Unreadable>,
}

/// Pairs that a training is judged by, with scores of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationSet {
    /// The folder's name, or `held out` for a share of the training pairs. No two sets have the same.
    pub name: String,
    /// Its pairs. Where there are several sets, their names begin with the set's.
    pub pairs: Vec<Pair>,
}

/// Training pairs that belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// How many there are.
    pub pairs: usize,
    /// How many samples are taken from them, beside the other sources' weights; above 0.
    pub weight: f64,
}

/// The pairs of a configuration; `train` and `validation` replace its folders. Without a folder for validation there is
/// one set, of the configured share of each source's training pairs.
///
/// # Errors
/// [`Error::Config`] without a folder to train on, and those of [`find_images`].
pub fn training_pairs(
    config: &DataConfig,
    train: Option<&Path>,
    validation: Option<&[PathBuf]>,
) -> Result<TrainingPairs> {
    let folders: Vec<(&Path, Option<Layout>, f64)> = match train.or(config.train.as_deref()) {
        Some(folder) => vec![(folder, config.layout, 1.0)],
        None => {
            let sources = config.sources.iter();
            sources
                .map(|source| (source.path.as_path(), source.layout, source.weight))
                .collect()
        }
    };
    if folders.is_empty() {
        return Err(Error::Config {
            origin: "training".to_string(),
            key: "data.train".to_string(),
            reason: "expected a folder to train on; `--data` names one too, and [[data.sources]] several"
                .to_string(),
        });
    }
    let validation = validation.unwrap_or(&config.validation);
    let mut pairs = TrainingPairs {
        train: Vec::new(),
        sources: Vec::new(),
        validation: Vec::new(),
        reports: Vec::new(),
        unreadable: Vec::new(),
    };
    let mut held_out = Vec::new();
    for (folder, layout, weight) in folders {
        let found = find_images(folder, layout, Part::Train)?;
        pairs.reports.push(found.to_string());
        pairs.unreadable.extend(found.unreadable);
        let (learn, share) = match validation {
            [] => split_for_validation(found.pairs, config.validation_share),
            _ => (found.pairs, Vec::new()),
        };
        pairs.sources.push(Source {
            pairs: learn.len(),
            weight,
        });
        pairs.train.extend(learn);
        held_out.extend(share);
    }
    if validation.is_empty() {
        pairs.validation.push(ValidationSet {
            name: "held out".to_string(),
            pairs: held_out,
        });
    } else {
        validation_sets(validation, config.layout, &mut pairs)?;
    }
    Ok(pairs)
}

/// A set of each folder, of its test part if it has one, and what was found there.
fn validation_sets(
    folders: &[PathBuf],
    layout: Option<Layout>,
    into: &mut TrainingPairs,
) -> Result<()> {
    let TrainingPairs {
        validation: sets,
        reports,
        unreadable,
        ..
    } = into;
    for folder in folders {
        // Who trains on sharp photographs may well have pairs to validate on.
        let layout = match layout {
            Some(Layout::Sharp) if !layout::fitting(folder)?.is_empty() => None,
            layout => layout,
        };
        let found = find_images(folder, layout, Part::Test)?;
        let name = set_name(folder, sets);
        let report = found.to_string();
        unreadable.extend(found.unreadable);
        let mut pairs = found.pairs;
        if folders.len() > 1 {
            reports.push(format!("validation {name}: {report}"));
            for pair in &mut pairs {
                pair.name = format!("{name}/{}", pair.name);
            }
        } else {
            reports.push(report);
        }
        sets.push(ValidationSet { name, pairs });
    }
    Ok(())
}

/// The folder's name; with a number where a set before has it.
fn set_name(folder: &Path, sets: &[ValidationSet]) -> String {
    let absolute = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let name = absolute.file_name().unwrap_or(absolute.as_os_str());
    let name = name.to_string_lossy();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_string())
        .chain(numbered)
        .find(|name| sets.iter().all(|set| set.name != *name))
        .unwrap_or_default()
}

/// Splits pairs into training and validation: about `share` of them, chosen by their names alone, so that the
/// choice stays when the folder moves and hardly changes when pairs are added. At least one pair is left for
/// training; with a positive share and two pairs or more, at least one is for validation.
pub fn split_for_validation(pairs: Vec<Pair>, share: f64) -> (Vec<Pair>, Vec<Pair>) {
    let wanted = (pairs.len() as f64 * share).round() as usize;
    let least = usize::from(share > 0.0 && pairs.len() > 1);
    let count = wanted.max(least).min(pairs.len().saturating_sub(1));

    let mut ranked: Vec<(u64, &str)> = pairs
        .iter()
        .map(|pair| (name_hash(&pair.name), pair.name.as_str()))
        .collect();
    ranked.sort_unstable();
    let chosen: std::collections::HashSet<String> = ranked
        .into_iter()
        .take(count)
        .map(|(_, name)| name.to_string())
        .collect();
    pairs
        .into_iter()
        .partition(|pair| !chosen.contains(&pair.name))
}

/// FNV-1a: published, so that the split can be reproduced outside this crate.
fn name_hash(name: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    name.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let (width, height) = picture::size(path)?;
    Ok((width as usize, height as usize))
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

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use tempfile::TempDir;

    use super::*;
    use crate::config::SourceConfig;

    fn write(root: &Path, path: &str, width: u32, height: u32) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::new(width, height).save(path).unwrap();
    }

    fn find(root: &Path) -> Result<Found> {
        find_pairs(root, None, Part::Train)
    }

    #[test]
    fn pairs_are_matched_by_path_whatever_the_extension() {
        for (blur, sharp) in [("input", "target"), ("blur", "sharp")] {
            let folder = TempDir::new().unwrap();
            for name in ["b/1", "a/1", "2"] {
                write(folder.path(), &format!("{blur}/{name}.png"), 9, 7);
                write(folder.path(), &format!("{sharp}/{name}.bmp"), 9, 7);
            }
            let notes = folder.path().join(blur).join("notes.txt");
            std::fs::write(&notes, "no image").unwrap();
            write(folder.path(), &format!("{blur}/.thumbnails/1.png"), 2, 2);
            let found = find(folder.path()).unwrap();
            let pairs = &found.pairs;
            let names: Vec<_> = pairs.iter().map(|pair| pair.name.as_str()).collect();
            assert_eq!(names, ["2", "a/1", "b/1"]);
            let blurry = pairs[1].blur.as_ref().unwrap();
            assert!(blurry.ends_with(format!("{blur}/a/1.png")));
            assert!(pairs[1].sharp.ends_with(format!("{sharp}/a/1.bmp")));
            assert_eq!((pairs[1].width, pairs[1].height), (9, 7));
            assert_eq!(found.passed_over, [notes]);
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
        let message = find(root).unwrap_err().to_string();
        for part in [
            "lonely.png: no image",
            "orphan.png: no image",
            "8×8, but its partner is 8×9",
        ] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        assert!(message.contains("twice.png: same name as"), "{message}");
        assert!(message.contains("torn.png"), "{message}");
        assert!(!message.contains("good"), "{message}");
    }

    #[test]
    fn an_image_that_cannot_be_read_does_not_end_the_others() {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        for name in ["good", "torn"] {
            write(root, &format!("input/{name}.png"), 8, 8);
            write(root, &format!("target/{name}.png"), 8, 8);
        }
        std::fs::write(root.join("input/torn.png"), b"not a picture").unwrap();
        let found = find(root).unwrap();
        assert_eq!(found.pairs.len(), 1);
        let [torn] = &found.unreadable[..] else {
            panic!("{:?}", found.unreadable);
        };
        assert_eq!(torn.name, "torn");
        assert!(
            torn.to_string().contains("torn.png: not an image"),
            "{torn}"
        );
        std::fs::write(root.join("target/good.png"), b"").unwrap();
        let message = find(root).unwrap_err().to_string();
        assert!(
            message.contains("torn.png") && message.contains("good.png"),
            "{message}"
        );
    }

    #[test]
    fn a_folder_without_images_says_what_is_expected() {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("input")).unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        let message = find(folder.path()).unwrap_err().to_string();
        assert!(message.contains("PNG, JPEG"), "{message}");
    }

    #[test]
    fn the_report_says_layout_part_pairs_and_sizes() {
        let pair = |name: &str, width, height| Pair {
            name: name.into(),
            blur: None,
            sharp: PathBuf::new(),
            width,
            height,
        };
        let mut found = Found {
            layout: Layout::Gopro,
            part: Some(Part::Train),
            pairs: vec![
                pair("a/1", 1280, 720),
                pair("a/2", 1280, 720),
                pair("b/1", 1280, 720),
            ],
            passed_over: Vec::new(),
            unreadable: Vec::new(),
        };
        let expected = "GoPro layout, train part: 3 pairs in 2 sequences, 1280×720";
        assert_eq!(found.to_string(), expected);
        found = Found {
            layout: Layout::InputTarget,
            part: None,
            pairs: vec![pair("1", 40, 30)],
            passed_over: ["notes.txt", "a.heic", "b.HEIC"].map(PathBuf::from).into(),
            unreadable: Vec::new(),
        };
        let expected = "input/target layout: 1 pair, 40×30; passed over: HEIC 2, other files 1";
        assert_eq!(found.to_string(), expected);
        found.pairs.push(pair("2", 30, 20));
        found.passed_over.clear();
        let expected = "input/target layout: 2 pairs, 30×20 to 40×30";
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn each_validation_folder_is_a_set_of_its_own_name() {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        for set in ["train", "a/set", "b/set", "c"] {
            for side in ["input", "target"] {
                write(root, &format!("{set}/{side}/1.png"), 9, 7);
                write(root, &format!("{set}/{side}/2.png"), 9, 7);
            }
        }
        let folders = ["a/set", "b/set", "c"].map(|set| root.join(set));
        let mut config = DataConfig {
            train: Some(root.join("train")),
            validation: folders[2..].to_vec(),
            validation_share: 0.5,
            ..DataConfig::default()
        };
        let names = |config: &DataConfig, folders: Option<&[PathBuf]>| -> Vec<_> {
            let found = training_pairs(config, None, folders).unwrap();
            let sets = found.validation.into_iter();
            sets.map(|set| (set.name, set.pairs[0].name.clone(), set.pairs.len()))
                .collect()
        };
        let expected = [("set", "set/1"), ("set-2", "set-2/1"), ("c", "c/1")];
        let expected = expected.map(|(set, pair)| (set.to_string(), pair.to_string(), 2));
        assert_eq!(names(&config, Some(&folders)), expected);
        let expected = [("c".to_string(), "1".to_string(), 2)];
        assert_eq!(names(&config, None), expected, "alone, as before");
        config.validation.clear();
        let [(name, _, pairs)] = names(&config, None).try_into().unwrap();
        assert_eq!((name.as_str(), pairs), ("held out", 1));
    }

    #[test]
    fn sharp_photographs_are_pairs_for_training_alone() {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        write(root, "a.png", 9, 7);
        write(root, "trip/b.png", 8, 8);
        std::fs::write(root.join("README.md"), "by whom").unwrap();
        for layout in [None, Some(Layout::Sharp)] {
            let found = find_images(root, layout, Part::Train).unwrap();
            assert_eq!(found.layout, Layout::Sharp);
            let names: Vec<_> = found.pairs.iter().map(|pair| pair.name.as_str()).collect();
            assert_eq!(names, ["a", "trip/b"]);
            assert!(found.pairs.iter().all(|pair| pair.blur.is_none()));
            let report = found.to_string();
            assert!(
                report.starts_with("sharp layout: 2 photographs in 1 folder, 9×7"),
                "{report}"
            );
            assert!(report.ends_with("passed over: other files 1"), "{report}");
        }
        let message = find(root).unwrap_err().to_string();
        assert!(message.contains("name the layout `sharp`"), "{message}");
        let message = find_pairs(root, Some(Layout::Sharp), Part::Train);
        assert!(message.unwrap_err().to_string().contains("hi-diff synth"));
        // Without images of its own, a folder may be anything.
        std::fs::remove_file(root.join("a.png")).unwrap();
        assert!(find_images(root, None, Part::Train).is_err());
        assert!(find_images(root, Some(Layout::Sharp), Part::Train).is_ok());
    }

    #[test]
    fn sources_come_one_after_the_other_each_with_its_share_for_validation() {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        for index in 0..10 {
            write(root, &format!("sharp/{index}.png"), 8, 8);
            write(root, &format!("pairs/input/{index}.png"), 8, 8);
            write(root, &format!("pairs/target/{index}.png"), 8, 8);
        }
        let source = |name: &str, weight| SourceConfig {
            path: root.join(name),
            layout: None,
            weight,
        };
        let mut config = DataConfig {
            validation_share: 0.2,
            sources: vec![source("pairs", 1.0), source("sharp", 3.0)],
            ..DataConfig::default()
        };
        let found = training_pairs(&config, None, None).unwrap();
        let sources: Vec<_> = found
            .sources
            .iter()
            .map(|source| (source.pairs, source.weight))
            .collect();
        assert_eq!(sources, [(8, 1.0), (8, 3.0)]);
        let made = |pairs: &[Pair]| pairs.iter().filter(|pair| pair.blur.is_none()).count();
        assert_eq!((found.train.len(), made(&found.train[8..])), (16, 8));
        let [held_out] = found.validation.as_slice() else {
            panic!("{:?}", found.validation);
        };
        assert_eq!((held_out.pairs.len(), made(&held_out.pairs)), (4, 2));
        assert_eq!(found.reports.len(), 2);

        // One folder in their place, and pairs to validate on, whatever the layout of what is trained on.
        config.layout = Some(Layout::Sharp);
        let (sharp, pairs) = (root.join("sharp"), root.join("pairs"));
        let found = training_pairs(&config, Some(&sharp), Some(&[pairs])).unwrap();
        assert_eq!((found.train.len(), found.sources.len()), (10, 1));
        let validation = &found.validation[0].pairs;
        assert_eq!((validation.len(), made(validation)), (10, 0));

        config.sources.push(source("none", 1.0));
        let error = training_pairs(&config, None, None).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
        std::fs::create_dir(root.join("none")).unwrap();
        config.sources[2].layout = Some(Layout::Sharp);
        let error = training_pairs(&config, None, None).unwrap_err().to_string();
        assert!(
            error.contains("none") && error.contains("no images"),
            "{error}"
        );
    }

    fn named(count: usize) -> Vec<Pair> {
        (0..count)
            .map(|index| Pair {
                name: format!("photo-{index}"),
                blur: None,
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
