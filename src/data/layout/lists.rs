//! RealBlur: list files that name the pairs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Couple, Layout, Listing, Part, data_error};
use crate::error::{Error, Result};

pub(super) fn file_name(layout: Layout, part: Part) -> String {
    let camera = if layout == Layout::RealblurJ {
        'J'
    } else {
        'R'
    };
    format!("RealBlur_{camera}_{part}_list.txt")
}

pub(super) fn list(root: &Path, layout: Layout, part: Part) -> Result<Listing> {
    let file = root.join(file_name(layout, part));
    if !file.is_file() {
        let reason = format!(
            "no such list file, which the layout `{layout}` needs: put it there from the dataset's archive"
        );
        return Err(data_error(&file, reason));
    }
    let bytes = fs::read(&file).map_err(Error::io(&file))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        data_error(
            &file,
            "is not UTF-8 text; expected a `target input` pair of paths a line",
        )
    })?;

    let mut listing = Listing {
        part: Some(part),
        ..Listing::default()
    };
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let mut problem = |reason: String| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            listing
                .problems
                .push(format!("{name}, line {number}: {reason}"));
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let (target, input) = match words[..] {
            [] => continue,
            [target, input] => (target, input),
            _ => {
                problem(format!(
                    "expected `target input`, found {} words",
                    words.len()
                ));
                continue;
            }
        };
        let (sharp, blur) = match (file_below(root, target), file_below(root, input)) {
            (Ok(sharp), Ok(blur)) => (sharp, blur),
            (sharp, blur) => {
                for reason in [sharp, blur].into_iter().filter_map(Result::err) {
                    problem(reason);
                }
                continue;
            }
        };
        let name = line_name(input);
        match lines.insert(name.clone(), number) {
            Some(other) => problem(format!("same input as line {other}")),
            None => drop(listing.couples.insert(name, Couple { blur, sharp })),
        }
    }
    listing.couples = without_common_folder(listing.couples);
    Ok(listing)
}

/// The file of a path in a list, which may not leave the dataset.
fn file_below(root: &Path, listed: &str) -> Result<PathBuf, String> {
    let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(listed).components().all(inside) {
        return Err(format!(
            "`{listed}` leaves the dataset; expected a path relative to its folder, without `..`"
        ));
    }
    let path = root.join(listed);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("`{listed}`: no such file"))
    }
}

/// The path without extension and without its folder `blur`.
fn line_name(input: &str) -> String {
    let path = Path::new(input).with_extension("");
    let parts: Vec<_> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(name) if *name != "blur"))
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

/// RealBlur's images all lie in one folder with a long name, which says nothing about a pair.
fn without_common_folder(couples: BTreeMap<String, Couple>) -> BTreeMap<String, Couple> {
    let first = |name: &str| name.split_once('/').map(|(folder, _)| folder.to_string());
    let Some(common) = couples.keys().next().and_then(|name| first(name)) else {
        return couples;
    };
    if !couples
        .keys()
        .all(|name| first(name).as_ref() == Some(&common))
    {
        return couples;
    }
    let shorter = |name: String| name[common.len() + 1..].to_string();
    couples
        .into_iter()
        .map(|(name, couple)| (shorter(name), couple))
        .collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::{find, folder, message, rows};
    use super::*;
    use crate::data::pairs::find_pairs;

    /// A RealBlur root with these lists and the images of both cameras.
    fn realblur(lists: &[(&str, &str)]) -> TempDir {
        let mut files = Vec::new();
        for camera in ["J_ECC", "R_BM3D"] {
            for (scene, number) in [("scene001", 1), ("scene001", 2), ("scene002", 1)] {
                for side in ["gt", "blur"] {
                    files.push(format!(
                        "RealBlur-{camera}/{scene}/{side}/{side}_{number}.png"
                    ));
                }
            }
        }
        let root = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
        for (name, text) in lists {
            fs::write(root.path().join(name), text).unwrap();
        }
        root
    }

    const TRAIN_J: (&str, &str) = (
        "RealBlur_J_train_list.txt",
        "RealBlur-J_ECC/scene001/gt/gt_2.png RealBlur-J_ECC/scene001/blur/blur_2.png \r\n\
         RealBlur-J_ECC/scene002/gt/gt_1.png RealBlur-J_ECC/scene002/blur/blur_1.png\n\n",
    );
    const TEST_J: (&str, &str) = (
        "RealBlur_J_test_list.txt",
        "RealBlur-J_ECC/scene001/gt/gt_1.png ./RealBlur-J_ECC/scene001/blur/blur_1.png",
    );
    const TEST_R: (&str, &str) = (
        "RealBlur_R_test_list.txt",
        "RealBlur-R_BM3D/scene001/gt/gt_1.png RealBlur-R_BM3D/scene001/blur/blur_1.png",
    );

    #[test]
    fn realblur_follows_its_lists() {
        let root = realblur(&[TRAIN_J, TEST_J]);
        let found = find(root.path(), Part::Train).unwrap();
        assert_eq!(
            (found.layout, found.part),
            (Layout::RealblurJ, Some(Part::Train))
        );
        let expected = [
            "scene001/blur_2: RealBlur-J_ECC/scene001/blur/blur_2.png > RealBlur-J_ECC/scene001/gt/gt_2.png",
            "scene002/blur_1: RealBlur-J_ECC/scene002/blur/blur_1.png > RealBlur-J_ECC/scene002/gt/gt_1.png",
        ];
        assert_eq!(rows(root.path(), &found), expected);
        assert_eq!(find(root.path(), Part::Test).unwrap().pairs.len(), 1);
        assert_eq!(
            found.to_string(),
            "RealBlur-J layout, train part: 2 pairs in 2 scenes, 4×3"
        );
    }

    #[test]
    fn several_layouts_in_one_folder_are_chosen_by_name() {
        let root = realblur(&[TRAIN_J, TEST_J, TEST_R]);
        let message = message(find(root.path(), Part::Test));
        assert!(
            message.contains("choose one by name: `realblur-j`, `realblur-r`"),
            "{message}"
        );
        let found = find_pairs(root.path(), Some(Layout::RealblurR), Part::Test).unwrap();
        assert!(rows(root.path(), &found)[0].contains("RealBlur-R_BM3D"));
        let sides = folder(&["input/1.png", "target/1.png", "blur/1.png", "sharp/1.png"]);
        let message = self::message(find(sides.path(), Part::Train));
        assert!(
            message.contains("`input-target`, `blur-sharp`"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_list_is_named() {
        let root = realblur(&[TEST_J]);
        for (layout, part, file) in [
            (None, Part::Train, "RealBlur_J_train_list.txt"),
            (
                Some(Layout::RealblurR),
                Part::Test,
                "RealBlur_R_test_list.txt",
            ),
        ] {
            let message = message(find_pairs(root.path(), layout, part));
            assert!(
                message.contains(file) && message.contains("list file"),
                "{message}"
            );
        }
    }

    #[test]
    fn every_line_that_cannot_be_used_is_listed_with_its_number() {
        let text = "RealBlur-J_ECC/scene001/gt/gt_1.png RealBlur-J_ECC/scene001/blur/blur_1.png\n\
                    RealBlur-J_ECC/scene001/gt/gt_2.png\n\
                    a b c\n\
                    ../elsewhere/gt.png RealBlur-J_ECC/scene001/blur/blur_2.png\n\
                    RealBlur-J_ECC/scene002/gt/gt_1.png /etc/blur.png\n\
                    RealBlur-J_ECC/scene002/gt/gt_1.png RealBlur-J_ECC/scene002/blur/blur_9.png\n\
                    RealBlur-J_ECC/scene002/gt/gt_1.png RealBlur-J_ECC/scene001/blur/blur_1.png\n";
        let root = realblur(&[("RealBlur_J_train_list.txt", text)]);
        let message = message(find(root.path(), Part::Train));
        for part in [
            "line 2: expected `target input`, found 1 words",
            "line 3: expected `target input`, found 3 words",
            "line 4: `../elsewhere/gt.png` leaves the dataset",
            "line 5: `/etc/blur.png` leaves the dataset",
            "line 6: `RealBlur-J_ECC/scene002/blur/blur_9.png`: no such file",
            "line 7: same input as line 1",
        ] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        assert!(!message.contains("line 1:"), "{message}");
    }

    #[test]
    fn a_list_that_is_no_text_is_refused() {
        let root = realblur(&[TEST_J]);
        fs::write(root.path().join(TEST_J.0), [0xff, 0xfe, 0x00]).unwrap();
        let message = message(find(root.path(), Part::Test));
        assert!(message.contains("is not UTF-8 text"), "{message}");
    }
}
