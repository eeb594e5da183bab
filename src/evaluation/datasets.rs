//! Which datasets an evaluation is about, and what papers call them.

use std::path::{Path, PathBuf};

use super::Protocol;
use crate::data::layout::{Layout, Part, fitting};
use crate::data::pairs::{Pair, Unreadable, find_pairs};
use crate::error::{Error, Result};

/// Pairs to evaluate on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// As tables call it: `GoPro`, `HIDE`, `RealBlur-J`, `RealBlur-R`, or the folder's name.
    pub name: String,
    /// Where it is.
    pub folder: PathBuf,
    /// How it is measured.
    pub protocol: Protocol,
    /// Sorted by name.
    pub pairs: Vec<Pair>,
    /// What was found, as a line.
    pub report: String,
    /// Images that cannot be read: failures of an evaluation.
    pub unreadable: Vec<Unreadable>,
}

impl Dataset {
    /// The datasets in `folders`: of each the test part, if it is divided. RealBlur's folder is two datasets, one for each
    /// camera. `layout` and `protocol` replace what is found: GoPro, HIDE and other folders are measured by GoPro's
    /// protocol, RealBlur by its own.
    ///
    /// # Errors
    /// Those of [`find_pairs`], and [`Error::Data`] if two have the same name.
    pub fn find(
        folders: &[PathBuf],
        layout: Option<Layout>,
        protocol: Option<Protocol>,
    ) -> Result<Vec<Self>> {
        let mut datasets: Vec<Self> = Vec::new();
        for folder in folders {
            let layouts = match layout {
                Some(layout) => vec![Some(layout)],
                None => match fitting(folder)?.as_slice() {
                    both @ [Layout::RealblurJ, Layout::RealblurR] => {
                        both.iter().copied().map(Some).collect()
                    }
                    _ => vec![None],
                },
            };
            for layout in layouts {
                let found = find_pairs(folder, layout, Part::Test)?;
                let name = title(found.layout, folder);
                if datasets.iter().any(|other| other.slug() == slug(&name)) {
                    return Err(Error::Data {
                        path: folder.clone(),
                        reason: format!(
                            "a second dataset called {name}: evaluate it by another call, or give its folder another name"
                        ),
                    });
                }
                let own = match name.starts_with("RealBlur-") {
                    true => Protocol::Realblur,
                    false => Protocol::Gopro,
                };
                datasets.push(Self {
                    name,
                    folder: folder.clone(),
                    protocol: protocol.unwrap_or(own),
                    report: found.to_string(),
                    unreadable: found.unreadable,
                    pairs: found.pairs,
                });
            }
        }
        Ok(datasets)
    }

    /// Pairs, and images that cannot be read.
    pub fn images(&self) -> usize {
        self.pairs.len() + self.unreadable.len()
    }

    /// Its name as a folder's.
    pub fn slug(&self) -> String {
        slug(&self.name)
    }
}

fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '-' };
    name.chars().map(plain).collect()
}

/// What papers call the dataset; a folder whose layout says nothing is called by its name, or by that of the folder around
/// it where its own is that of a part.
fn title(layout: Layout, folder: &Path) -> String {
    match layout {
        Layout::Gopro => "GoPro".into(),
        Layout::GoproGamma => "GoPro (gamma)".into(),
        Layout::Hide => "HIDE".into(),
        Layout::RealblurJ => "RealBlur-J".into(),
        Layout::RealblurR => "RealBlur-R".into(),
        Layout::InputTarget | Layout::BlurSharp | Layout::Sharp => {
            let whole = folder
                .canonicalize()
                .unwrap_or_else(|_| folder.to_path_buf());
            let names = whole.iter().rev().map(|name| name.to_string_lossy());
            let name = names
                .into_iter()
                .find(|name| !["test", "val", "validation"].contains(&name.as_ref()));
            let name = name.map_or_else(|| folder.display().to_string(), String::from);
            published(&name).map_or(name, String::from)
        }
    }
}

/// The published dataset that a folder's name means: `RealBlur_J` is `RealBlur-J`.
fn published(folder: &str) -> Option<&'static str> {
    let letters: String = folder.chars().filter(|c| c.is_alphanumeric()).collect();
    let names = ["GoPro", "HIDE", "RealBlur-J", "RealBlur-R"];
    names
        .into_iter()
        .find(|name| name.replace('-', "").eq_ignore_ascii_case(&letters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;
    use tempfile::TempDir;

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::new(8, 8).save(path).unwrap();
    }

    fn named(datasets: &[Dataset]) -> Vec<(&str, Protocol)> {
        let named = datasets
            .iter()
            .map(|dataset| (dataset.name.as_str(), dataset.protocol));
        named.collect()
    }

    #[test]
    fn a_row_of_table_2_is_found_in_the_folders_as_downloaded() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        write(root, "gopro/test/a/blur/1.png");
        write(root, "gopro/test/a/sharp/1.png");
        write(root, "hide/test/far/1.png");
        write(root, "hide/GT/1.png");
        for camera in ["J", "R"] {
            let [target, input] = ["gt", "blur"].map(|side| format!("{camera}/scene/{side}.png"));
            write(root, &format!("realblur/{target}"));
            write(root, &format!("realblur/{input}"));
            let list = root.join(format!("realblur/RealBlur_{camera}_test_list.txt"));
            std::fs::write(list, format!("{target} {input}\n")).unwrap();
        }
        let folders = ["gopro", "hide", "realblur"].map(|name| root.join(name));
        let found = Dataset::find(&folders, None, None).unwrap();
        let expected = [
            ("GoPro", Protocol::Gopro),
            ("HIDE", Protocol::Gopro),
            ("RealBlur-J", Protocol::Realblur),
            ("RealBlur-R", Protocol::Realblur),
        ];
        assert_eq!(named(&found), expected);
        let found = Dataset::find(&folders[2..], None, Some(Protocol::Basicsr)).unwrap();
        let expected = ["RealBlur-J", "RealBlur-R"].map(|name| (name, Protocol::Basicsr));
        assert_eq!(named(&found), expected);
    }

    #[test]
    fn folders_of_the_release_are_known_by_their_names_and_others_keep_theirs() {
        let root = TempDir::new().unwrap();
        for name in ["RealBlur_J/test", "my photos"] {
            write(root.path(), &format!("{name}/input/1.png"));
            write(root.path(), &format!("{name}/target/1.png"));
        }
        let folders = ["RealBlur_J/test", "RealBlur_J", "my photos"];
        let folders = folders.map(|name| root.path().join(name));
        for folder in &folders[..2] {
            let found = Dataset::find(std::slice::from_ref(folder), None, None).unwrap();
            assert_eq!(named(&found), [("RealBlur-J", Protocol::Realblur)]);
        }
        let found = Dataset::find(&folders[1..], None, None).unwrap();
        assert_eq!(named(&found)[1], ("my photos", Protocol::Gopro));
        assert_eq!(found[1].slug(), "my-photos");
        let error = Dataset::find(&folders, None, None).unwrap_err().to_string();
        assert!(
            error.contains("a second dataset called RealBlur-J"),
            "{error}"
        );
    }
}
