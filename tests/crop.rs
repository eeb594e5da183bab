//! `hi-diff crop`: which crops there are, what they hold, and what is never overwritten.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use hi_diff::data::layout::Part;
use hi_diff::data::pairs::find_pairs;
use image::{Rgb, RgbImage, imageops};
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;
use walkdir::WalkDir;

fn crop(root: &Path, out: &Path) -> Command {
    let mut command = Command::cargo_bin("hi-diff").expect("the program is built");
    command.env_remove("RUST_BACKTRACE").arg("crop");
    command.arg(root).arg(out);
    command
}

fn picture(width: u32, height: u32, blue: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, blue]))
}

/// A GoPro folder: two sequences to train on with a photograph of 100×70 each, one of 20×90 to test with.
fn gopro() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (sequence, width, height) in [
        ("train/G1", 100, 70),
        ("train/G2", 100, 70),
        ("test/G3", 20, 90),
    ] {
        for (side, blue) in [("blur", 1), ("blur_gamma", 2), ("sharp", 3)] {
            let folder = root.path().join(sequence).join(side);
            fs::create_dir_all(&folder).unwrap();
            let image = picture(width, height, blue);
            image.save(folder.join("0001.png")).unwrap();
        }
    }
    root
}

/// Paths of all files below `folder`.
fn files(folder: &Path) -> BTreeSet<String> {
    WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let below = entry.path().strip_prefix(folder).unwrap();
            below.display().to_string().replace('\\', "/")
        })
        .collect()
}

#[test]
fn crops_cover_the_train_part_and_are_themselves_a_dataset() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    crop(root.path(), out.path())
        .args(["--size", "40", "--overlap", "10"])
        .assert()
        .success()
        .stdout(
            contains("GoPro layout, train part: 2 pairs in 2 sequences, 100×70")
                .and(contains("12 crops in ")),
        );
    let corners = [
        "0000_0000",
        "0000_0030",
        "0000_0060",
        "0030_0000",
        "0030_0030",
        "0030_0060",
    ];
    let mut expected = BTreeSet::new();
    for side in ["input", "target"] {
        for sequence in ["G1", "G2"] {
            expected.extend(corners.map(|corner| format!("{side}/{sequence}/0001_{corner}.png")));
        }
    }
    assert_eq!(files(out.path()), expected);
    for (side, blue) in [("input", 1), ("target", 3)] {
        let path = out.path().join(side).join("G2/0001_0030_0060.png");
        let found = image::open(path).unwrap();
        assert_eq!(found.color(), image::ColorType::Rgb8);
        let whole = picture(100, 70, blue);
        assert!(found.into_rgb8() == imageops::crop_imm(&whole, 60, 30, 40, 40).to_image());
    }
    let found = find_pairs(out.path(), None, Part::Train).unwrap();
    assert_eq!(
        found.to_string(),
        "input/target layout: 12 pairs in 2 folders, 40×40"
    );
}

#[test]
fn part_and_layout_are_chosen_and_short_sides_kept_whole() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    crop(root.path(), out.path())
        .args(["--layout", "gopro-gamma", "--part", "test", "--size", "40"])
        .args(["--overlap", "0", "--quiet"])
        .assert()
        .success()
        .stdout("");
    let names: Vec<_> = files(&out.path().join("input")).into_iter().collect();
    let expected = ["0000", "0040", "0050"].map(|top| format!("G3/0001_{top}_0000.png"));
    assert_eq!(names, expected);
    let image = image::open(out.path().join("input").join(&names[2])).unwrap();
    let whole = picture(20, 90, 2);
    assert!(image.into_rgb8() == imageops::crop_imm(&whole, 0, 50, 20, 40).to_image());
}

#[test]
fn json_is_all_that_standard_output_gets() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    let output = crop(root.path(), out.path())
        .arg("--json")
        .output()
        .unwrap();
    assert!(output.status.success());
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["layout"], "gopro");
    assert_eq!(summary["part"], "train");
    assert_eq!(
        (&summary["pairs"], &summary["crops"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        (&summary["size"], &summary["overlap"]),
        (&512.into(), &256.into())
    );
    assert_eq!(summary["failures"], serde_json::json!([]));
}

#[test]
fn a_bad_photograph_is_reported_and_the_others_are_done() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    // One file that is no image, and one whose pixels end early.
    let third = root.path().join("train/G3");
    for side in ["blur", "sharp"] {
        fs::create_dir_all(third.join(side)).unwrap();
        picture(100, 70, 0)
            .save(third.join(side).join("0001.png"))
            .unwrap();
    }
    fs::write(root.path().join("train/G1/blur/0001.png"), "no image").unwrap();
    let torn = third.join("sharp/0001.png");
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    crop(root.path(), out.path())
        .assert()
        .code(1)
        .stderr(contains("G1").and(contains("G3")).and(contains("G2").not()))
        .stdout(contains("1 crop in "));
    let expected = ["input", "target"].map(|side| format!("{side}/G2/0001_0000_0000.png"));
    assert_eq!(files(out.path()), BTreeSet::from(expected));
}

#[test]
fn nothing_is_overwritten_without_force() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    crop(root.path(), out.path()).assert().success();
    let first = out.path().join("target/G1/0001_0000_0000.png");
    fs::write(&first, "mine").unwrap();
    fs::remove_dir_all(out.path().join("input")).unwrap();
    crop(root.path(), out.path())
        .assert()
        .code(1)
        .stderr(contains("0001_0000_0000.png").and(contains("exists already")));
    assert_eq!(fs::read(&first).unwrap(), b"mine");
    assert!(!out.path().join("input").exists(), "nothing was written");
    crop(root.path(), out.path())
        .arg("--force")
        .assert()
        .success();
    assert!(image::open(&first).is_ok());
}

#[test]
fn crops_do_not_go_among_the_photographs() {
    let root = tempfile::tempdir().unwrap();
    for side in ["input", "target"] {
        let folder = root.path().join(side);
        fs::create_dir(&folder).unwrap();
        picture(30, 30, 0).save(folder.join("1.png")).unwrap();
    }
    for out in [root.path().to_path_buf(), root.path().join("input/crops")] {
        crop(root.path(), &out)
            .arg("--force")
            .assert()
            .code(1)
            .stderr(contains("the dataset's own photographs"));
    }
    assert_eq!(files(root.path()).len(), 2);
}

#[test]
fn pairs_that_do_not_match_are_an_error_before_anything_is_written() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    fs::remove_file(root.path().join("train/G1/sharp/0001.png")).unwrap();
    crop(root.path(), out.path())
        .assert()
        .code(1)
        .stderr(contains("G1").and(contains("no image of this name")));
    assert!(files(out.path()).is_empty());
    crop(&root.path().join("test/G3/blur"), out.path())
        .assert()
        .code(1)
        .stderr(contains("no known layout"));
}

#[test]
fn impossible_crops_are_refused() {
    let (root, out) = (gopro(), tempfile::tempdir().unwrap());
    crop(root.path(), out.path())
        .args(["--size", "64", "--overlap", "64"])
        .assert()
        .code(1)
        .stderr(contains("`overlap`").and(contains("less than the size")));
    crop(root.path(), out.path())
        .args(["--size", "0"])
        .assert()
        .code(2);
    crop(root.path(), out.path())
        .args(["--layout", "gorpo"])
        .assert()
        .code(2);
}
