//! What a folder holds beside the images that it is searched for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Format;
use super::foreign::{Foreign, foreign, foreign_extension};

/// Files of a folder that are not read, by the kinds that their extensions mean; displays as
/// `HEIC 12, DNG 3, other files 7`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver {
    folder: PathBuf,
    kinds: BTreeMap<&'static str, Kind>,
    others: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    count: usize,
    /// The first that was found.
    example: PathBuf,
}

impl PassedOver {
    /// None yet, of this folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            ..Self::default()
        }
    }

    /// These files, of this folder.
    pub(crate) fn of<'a>(folder: &Path, files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let mut found = Self::new(folder);
        files.into_iter().for_each(|file| found.add(file));
        found
    }

    /// Counts a file.
    pub fn add(&mut self, file: &Path) {
        let extension = file.extension().and_then(OsStr::to_str);
        let known = extension.and_then(|known| foreign_extension(&known.to_ascii_lowercase()));
        match known {
            None => self.others += 1,
            Some(name) => {
                let kind = self.kinds.entry(name).or_insert_with(|| Kind {
                    count: 0,
                    example: file.to_path_buf(),
                });
                kind.count += 1;
            }
        }
    }

    /// The folder that was searched.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether no file was passed over.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.others == 0
    }

    /// The name and the number of each kind of picture or video, the most frequent first.
    pub fn kinds(&self) -> Vec<(&'static str, usize)> {
        let kinds = self.kinds.iter().map(|(&name, kind)| (name, kind.count));
        let mut kinds: Vec<_> = kinds.collect();
        kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count)); // equal ones stay by name
        kinds
    }

    /// The number of all other files.
    pub fn others(&self) -> usize {
        self.others
    }

    /// What to say of a folder in which nothing else was found: what was expected, what is there and what to do with it.
    pub(crate) fn no_images(&self) -> String {
        let reason = format!("no images in this folder, expected {}", Format::LIST_READ);
        let Some((name, count)) = self.kinds().into_iter().next() else {
            return reason;
        };
        let example = self.kinds.get(name).map(|kind| kind.example.as_path());
        let advice = match example.and_then(by_content) {
            Some(found) if found.kind == super::foreign::Kind::Video => {
                "videos are not looked for in folders: name them one by one"
            }
            Some(found) => found.way_out,
            None => "convert them to one of these",
        };
        format!("{reason}; {name} {count}: {advice}")
    }
}

/// What the file shows to be, if it can be read: an extension may be wrong.
fn by_content(path: &Path) -> Option<Foreign> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(4096).read_to_end(&mut bytes).ok()?;
    foreign(&bytes)
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<_> = self
            .kinds()
            .into_iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if self.others > 0 {
            parts.push(format!("other files {}", self.others));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> PassedOver {
        let files: Vec<_> = files.iter().map(PathBuf::from).collect();
        PassedOver::of(Path::new("in"), &files)
    }

    #[test]
    fn files_are_counted_by_kind_the_most_frequent_first() {
        let found = of(&[
            "1.dng",
            "a.HEIC",
            "notes.txt",
            "b.heic",
            "c.png",
            "clip.mp4",
            "noext",
        ]);
        assert_eq!(
            found.to_string(),
            "HEIC 2, DNG 1, MP4 video 1, other files 3"
        );
        assert_eq!(found.kinds(), [("HEIC", 2), ("DNG", 1), ("MP4 video", 1)]);
        assert_eq!((found.others(), found.is_empty()), (3, false));
        assert_eq!(
            (of(&[]).to_string(), of(&[]).is_empty()),
            (String::new(), true)
        );
    }

    #[test]
    fn a_folder_of_one_foreign_kind_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let says = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let mut found = PassedOver::new(folder.path());
            found.add(&path);
            found.add(Path::new("notes.txt"));
            found.no_images()
        };
        let heic = says("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
        assert!(
            heic.contains("expected PNG")
                && heic.contains("; HEIC 1: ")
                && heic.contains("heif-convert"),
            "{heic}"
        );
        let raw = says("a.dng", b"II*\0");
        assert!(
            raw.ends_with("; DNG 1: convert them to one of these"),
            "{raw}"
        );
        let video = says("a.mp4", b"\0\0\0\x18ftypisom\0\0\0\0mp41isom");
        assert!(video.ends_with("name them one by one"), "{video}");
        assert_eq!(of(&["a.txt"]).no_images(), of(&[]).no_images());
    }
}
