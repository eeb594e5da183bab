//! HIDE: one folder of sharp images for all blurry ones, by file name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Couple, Layout, Listing, Part, data_error, expected, part_folder};
use crate::error::Result;

/// The folder of the sharp images, for a dataset or for one of its parts.
pub(super) fn folder(root: &Path) -> Option<PathBuf> {
    let parts = [Part::Train, Part::Test];
    let inside = root.join("GT");
    if inside.is_dir() && parts.iter().any(|part| root.join(part.name()).is_dir()) {
        return Some(inside);
    }
    let absolute = root.canonicalize().ok()?;
    let is_part = parts.iter().any(|part| absolute.ends_with(part.name()));
    let beside = absolute.parent()?.join("GT");
    (is_part && beside.is_dir()).then_some(beside)
}

pub(super) fn list(root: &Path, part: Part) -> Result<Listing> {
    let Some(sharp_root) = folder(root) else {
        let reason = format!(
            "does not have the layout `hide`: expected {}",
            expected(Layout::Hide)
        );
        return Err(data_error(root, reason));
    };
    let is_whole = root.join("GT").is_dir();
    let (folder, part) = part_folder(root, Layout::Hide, part, |folder| {
        Ok(if folder == root {
            !is_whole
        } else {
            folder.is_dir()
        })
    })?;
    let mut listing = Listing {
        part,
        ..Listing::default()
    };
    let blurs = listing.images_by_name(&folder, usize::MAX)?;
    let mut sharps = listing.images_by_name(&sharp_root, 1)?;
    let mut owners: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (name, blur) in blurs {
        let file = name.rsplit('/').next().unwrap_or(&name).to_string();
        if let Some(sharp) = sharps.remove(&file) {
            owners.insert(file, blur.clone());
            listing.couples.insert(name, Couple { blur, sharp });
        } else if let Some(owner) = owners.get(&file) {
            let (blur, owner) = (blur.display(), owner.display());
            listing
                .problems
                .push(format!("{blur}: same file name as {owner}"));
        } else {
            listing.no_partner(&blur, &sharp_root);
        }
    }
    // The sharp images of the other part.
    listing.passed_over.extend(sharps.into_values());
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{find, folder, message, rows};
    use super::*;

    const HIDE: &[&str] = &[
        "GT/1.png",
        "GT/2.png",
        "GT/3.png",
        "train/3.png",
        "test/test-close-ups/1.png",
        "test/test-long-shot/2.png",
        "train.txt",
    ];

    #[test]
    fn hide_is_matched_by_file_name_with_the_ground_truth() {
        let root = folder(HIDE);
        let found = find(root.path(), Part::Test).unwrap();
        assert_eq!((found.layout, found.part), (Layout::Hide, Some(Part::Test)));
        let expected = [
            "test-close-ups/1: test/test-close-ups/1.png > GT/1.png",
            "test-long-shot/2: test/test-long-shot/2.png > GT/2.png",
        ];
        assert_eq!(rows(root.path(), &found), expected);
        assert_eq!(found.passed_over, [root.path().join("GT/3.png")]);
        let train = find(root.path(), Part::Train).unwrap();
        assert_eq!(rows(root.path(), &train), ["3: train/3.png > GT/3.png"]);
        // The folder of a part has its ground truth beside it.
        let given = find(&root.path().join("test"), Part::Train).unwrap();
        assert_eq!(rows(root.path(), &given), expected);
    }

    #[test]
    fn hide_lists_images_without_ground_truth_or_with_another_ones() {
        let root = folder(&[
            "GT/1.png",
            "test/far/1.png",
            "test/near/1.png",
            "test/near/2.png",
        ]);
        let message = message(find(root.path(), Part::Test));
        for part in [
            "near/1.png: same file name as",
            "near/2.png: no image of this name in",
        ] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }
}
