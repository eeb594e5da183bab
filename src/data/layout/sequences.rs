//! GoPro: a folder for each sequence, with a folder for each side.

use std::path::Path;

use super::{Layout, Listing, Part, entries, part_folder, sides};
use crate::error::Result;

/// Whether `folder` has a folder of a sequence. `train` and `test` are the names of parts, not of sequences.
pub(super) fn are_in(folder: &Path) -> Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let is_part = |path: &Path| path.ends_with("train") || path.ends_with("test");
    Ok(entries(folder)?.iter().any(|path| {
        !is_part(path)
            && path.join("sharp").is_dir()
            && (path.join("blur").is_dir() || path.join("blur_gamma").is_dir())
    }))
}

pub(super) fn list(root: &Path, layout: Layout, part: Part) -> Result<Listing> {
    let (folder, part) = part_folder(root, layout, part, are_in)?;
    let mut listing = Listing {
        part,
        ..Listing::default()
    };
    let (blur, sharp) = sides(layout);
    for sequence in entries(&folder)? {
        let has = |side: &str| sequence.join(side).is_dir();
        match (has(blur), has(sharp)) {
            (true, true) => {
                let name = sequence.file_name().unwrap_or_default().to_string_lossy();
                listing.match_folders(
                    &sequence.join(blur),
                    &sequence.join(sharp),
                    &format!("{name}/"),
                )?;
            }
            (false, false) if !has("blur") && !has("blur_gamma") => {
                listing.passed_over.push(sequence)
            }
            (false, _) if layout == Layout::Gopro && has("blur_gamma") => {
                listing.problems.push(format!(
                    "{}: no folder `blur`; the layout `gopro-gamma` takes `blur_gamma`",
                    sequence.display()
                ))
            }
            (has_blur, _) => listing.problems.push(format!(
                "{}: no folder `{}`",
                sequence.display(),
                if has_blur { sharp } else { blur }
            )),
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{find, folder, message, rows};
    use super::*;
    use crate::data::pairs::find_pairs;

    const GOPRO: &[&str] = &[
        "train/G1/blur/1.png",
        "train/G1/blur_gamma/1.png",
        "train/G1/sharp/1.png",
        "train/G2/blur/1.png",
        "train/G2/blur_gamma/1.png",
        "train/G2/sharp/1.png",
        "test/G3/blur/7.png",
        "test/G3/blur_gamma/7.png",
        "test/G3/sharp/7.png",
    ];

    #[test]
    fn gopro_is_found_whole_by_part_or_as_a_folder_of_sequences() {
        let root = folder(GOPRO);
        let found = find(root.path(), Part::Train).unwrap();
        assert_eq!(
            (found.layout, found.part),
            (Layout::Gopro, Some(Part::Train))
        );
        let expected = [
            "G1/1: train/G1/blur/1.png > train/G1/sharp/1.png",
            "G2/1: train/G2/blur/1.png > train/G2/sharp/1.png",
        ];
        assert_eq!(rows(root.path(), &found), expected);
        assert_eq!(
            found.to_string(),
            "GoPro layout, train part: 2 pairs in 2 sequences, 4×3"
        );

        let test = find(root.path(), Part::Test).unwrap();
        assert_eq!(
            rows(root.path(), &test),
            ["G3/7: test/G3/blur/7.png > test/G3/sharp/7.png"]
        );
        // Of a part given by its folder, the name decides.
        let given = find(&root.path().join("test"), Part::Train).unwrap();
        assert_eq!(
            (given.part, rows(root.path(), &given)),
            (None, rows(root.path(), &test))
        );
    }

    #[test]
    fn gopro_gamma_is_taken_by_name() {
        let root = folder(GOPRO);
        let found = find_pairs(root.path(), Some(Layout::GoproGamma), Part::Test).unwrap();
        let expected = ["G3/7: test/G3/blur_gamma/7.png > test/G3/sharp/7.png"];
        assert_eq!(rows(root.path(), &found), expected);
    }

    #[test]
    fn gopro_sequences_that_lack_a_side_are_listed() {
        let root = folder(&[
            "G1/blur/1.png",
            "G1/sharp/1.png",
            "G1/sharp/2.png",
            "G2/blur_gamma/1.png",
            "G2/sharp/1.png",
            "G3/blur/1.png",
            "other/notes.txt",
        ]);
        let message = message(find(root.path(), Part::Train));
        for part in [
            "sharp/2.png: no image of this name in",
            "G2: no folder `blur`; the layout `gopro-gamma`",
            "G3: no folder `sharp`",
        ] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        assert!(!message.contains("other"), "{message}");
    }
}
