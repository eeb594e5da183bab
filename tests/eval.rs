//! `hi-diff eval`: figures, table, interruption and what cannot be measured.
#![cfg(all(feature = "cli", feature = "flex"))]

#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/wait.rs"]
mod wait;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use assert_cmd::Command;
use hi_diff::evaluation::{psnr, ssim_per_channel, ssim_volumetric};
use image::{Rgb, RgbImage};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;
use tiny::TINY;

/// Coloured stripes and their blur, of another size and slant for each index.
fn pair(root: &Path, index: u32) {
    let sharp = RgbImage::from_fn(40 + index, 32, |x, y| match (x + index * y) / 5 % 2 {
        0 => Rgb([220, 40 + 30 * index as u8, 90]),
        _ => Rgb([35, 180, 60]),
    });
    let blurred = image::imageops::blur(&sharp, 1.4);
    for (side, image) in [("target", &sharp), ("input", &blurred)] {
        let path = root.join(side).join(format!("scene/{index}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }
}

/// Four pairs in `GoPro` and two in `photos`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    (0..4).for_each(|index| pair(&folder.path().join("GoPro"), index));
    (4..6).for_each(|index| pair(&folder.path().join("photos"), index));
    folder
}

#[rustfmt::skip]
const ARGUMENTS: [&str; 10] =
    ["eval", "--backend", "flex", "--data", "GoPro", "photos", "--out", "out", "--weights", TINY];

fn eval(folder: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::cargo_bin("hi-diff").unwrap();
    command.current_dir(folder.path());
    command.args(ARGUMENTS);
    command.args(flags);
    command
}

fn read(folder: &TempDir, file: &str) -> String {
    fs::read_to_string(folder.path().join(file)).unwrap()
}

fn results(folder: &TempDir) -> Value {
    serde_json::from_str(&read(folder, "out/evaluation.json")).unwrap()
}

/// The results without what differs from run to run.
fn without_times(mut results: Value) -> Value {
    results["command"] = Value::Null;
    for dataset in results["datasets"].as_array_mut().unwrap() {
        for image in dataset["images"].as_array_mut().unwrap() {
            image["seconds"] = Value::Null;
        }
    }
    results
}

#[test]
fn figures_are_those_of_the_images_that_are_written() {
    let folder = folder();
    let output = eval(&folder, &["--save-images", "--json"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, results(&folder));
    let found = printed["datasets"].as_array().unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|dataset| dataset["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["GoPro", "photos"]);

    let open = |path: String| image::open(folder.path().join(path)).unwrap().to_rgb8();
    for (dataset, count) in found.iter().zip([4, 2]) {
        assert_eq!(dataset["protocol"], "gopro");
        let images = dataset["images"].as_array().unwrap();
        assert_eq!(images.len(), count);
        let mut sum = 0.0;
        for image in images {
            let keys: Vec<_> = image.as_object().unwrap().keys().collect();
            let expected = [
                "blurred", "height", "name", "psnr", "seconds", "ssim", "width",
            ];
            assert_eq!(keys, expected);
            let (set, name) = (
                dataset["name"].as_str().unwrap(),
                image["name"].as_str().unwrap(),
            );
            let sharp = open(format!("{set}/target/{name}.png"));
            for (scores, path) in [
                (&image["blurred"], format!("{set}/input/{name}.png")),
                (image, format!("out/images/{set}/{name}.png")),
            ] {
                let other = open(path.clone());
                assert_eq!(scores["psnr"], psnr(&other, &sharp).unwrap(), "{path}");
                assert_eq!(scores["ssim"], ssim_volumetric(&other, &sharp).unwrap());
            }
            sum += image["psnr"].as_f64().unwrap();
        }
        assert_eq!(dataset["count"], count);
        let mean = dataset["psnr"].as_f64().unwrap();
        assert!((mean - sum / count as f64).abs() < 1e-9);
    }

    let table = read(&folder, "out/evaluation.md");
    let mean = found[0]["psnr"].as_f64().unwrap();
    assert!(
        table.contains(&format!("| **this run** | {mean:.2} | ")),
        "{table}"
    );
    assert!(
        table.contains("| HI-Diff, trained on GoPro (paper) | 33.33 | 0.964 | – | – |"),
        "{table}"
    );
    assert!(
        table.contains("hi-diff eval --backend flex --data GoPro photos"),
        "{table}"
    );
}

/// What `hi-diff metrics` says of two folders.
fn metrics(folder: &TempDir, restored: &str, protocol: &str) -> Value {
    let mut command = Command::cargo_bin("hi-diff").unwrap();
    command.current_dir(folder.path());
    command.args(["metrics", restored, "photos/target", "--json"]);
    command.args(["--protocol", protocol]);
    serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
}

#[test]
fn metrics_of_the_images_that_are_written_are_the_same() {
    let folder = TempDir::new().unwrap();
    let photos = folder.path().join("photos");
    for (side, file) in [("input", "restored"), ("target", "sharp")] {
        fs::create_dir_all(photos.join(side).join("deep")).unwrap();
        // RealBlur's alignment does not converge on the first, which is a warning.
        for (name, index) in [("a", 0), ("deep/b", 1)] {
            let fixture = format!("tests/fixtures/metrics/{index}_{file}.png");
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
            fs::copy(from, photos.join(side).join(format!("{name}.png"))).unwrap();
        }
    }
    for protocol in ["gopro", "basicsr", "realblur"] {
        let mut command = Command::cargo_bin("hi-diff").unwrap();
        command.current_dir(folder.path());
        command.args(["eval", "--backend", "flex", "--data", "photos", "--force"]);
        command.args(["--out", "out", "--save-images", "--protocol", protocol]);
        command.assert().success();
        let found = &results(&folder)["datasets"][0];
        // The model's output is rounded to 8 bits before it is measured, and PNG keeps these: the figures are equal.
        let restored = metrics(&folder, "out/images/photos", protocol);
        let blurred = metrics(&folder, "photos/input", protocol);
        for key in ["protocol", "count", "psnr", "ssim"] {
            assert_eq!(found[key], restored[key], "{protocol}: {key}");
        }
        for key in ["psnr", "ssim"] {
            assert_eq!(found["blurred"][key], blurred[key], "{protocol}: {key}");
        }
        for index in 0..2 {
            let [found, restored, blurred] =
                [found, &restored, &blurred].map(|of| &of["images"][index]);
            for key in ["name", "psnr", "ssim"] {
                assert_eq!(found[key], restored[key], "{protocol}: {key}");
            }
            for key in ["psnr", "ssim"] {
                assert_eq!(found["blurred"][key], blurred[key], "{protocol}: {key}");
            }
            let warnings = |of: &Value| of["warnings"].as_array().cloned().unwrap_or_default();
            let of_blurred = warnings(blurred).into_iter().map(|warning| {
                Value::from(format!("blurred input: {}", warning.as_str().unwrap()))
            });
            let expected: Vec<_> = warnings(restored).into_iter().chain(of_blurred).collect();
            assert_eq!(warnings(found), expected, "{protocol}");
        }
    }
}

#[test]
fn the_protocol_can_be_chosen() {
    let folder = folder();
    eval(&folder, &["--protocol", "basicsr", "--pictures", "2"])
        .assert()
        .success()
        .stdout(contains("GoPro (protocol basicsr"));
    let (found, open) = (results(&folder), |path: &str| {
        image::open(folder.path().join(path)).unwrap().to_rgb8()
    });
    let (blur, sharp) = (
        open("GoPro/input/scene/0.png"),
        open("GoPro/target/scene/0.png"),
    );
    let ssim = &found["datasets"][0]["images"][0]["blurred"]["ssim"];
    assert_eq!(*ssim, ssim_per_channel(&blur, &sharp).unwrap());
    let kept = fs::read_dir(folder.path().join("out/pictures/GoPro/scene")).unwrap();
    assert_eq!(kept.count(), 2, "pictures of a report for two");
}

#[test]
fn a_killed_evaluation_goes_on_without_doing_images_again() {
    let folder = folder();
    eval(&folder, &[]).assert().success();
    let whole = results(&folder);
    fs::remove_dir_all(folder.path().join("out")).unwrap();

    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_hi-diff"))
        .current_dir(folder.path())
        .args(ARGUMENTS)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let journal = folder.path().join("out/journal.jsonl");
    let lines = || {
        fs::read_to_string(&journal)
            .unwrap_or_default()
            .lines()
            .count()
    };
    wait::until("three lines", || {
        lines() >= 3 || child.try_wait().unwrap().is_some()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let before = read(&folder, "out/journal.jsonl");
    let done = before.lines().count();
    assert!(done >= 3, "{before}");

    eval(&folder, &[])
        .assert()
        .code(1)
        .stderr(contains("resume it"));
    eval(&folder, &["--resume", "--seed", "9"])
        .assert()
        .code(1)
        .stderr(contains("begun with seed 0, not 9"));
    assert_eq!(read(&folder, "out/journal.jsonl"), before);
    // What the end of the process may leave of a line.
    let mut torn = before.clone();
    torn.push_str("{\"dataset\":1,\"na");
    fs::write(&journal, torn).unwrap();
    eval(&folder, &["--resume"]).assert().success();
    let after = read(&folder, "out/journal.jsonl");
    assert!(
        after.starts_with(&before) && after.lines().count() == 7,
        "{after}"
    );
    let mut resumed = without_times(results(&folder));
    let mut expected = without_times(whole);
    assert_eq!(resumed, expected);

    // With force, everything is done again.
    eval(&folder, &["--force", "--seed", "9"])
        .assert()
        .success();
    let again = read(&folder, "out/journal.jsonl");
    assert!(again.lines().count() == 7 && !again.contains(before.lines().nth(1).unwrap()));
    resumed = without_times(results(&folder));
    assert_eq!(resumed["seed"], 9);
    expected["seed"] = 9.into();
    assert_ne!(resumed, expected, "another noise has other figures");
}

#[test]
fn an_image_that_fails_is_told_and_done_when_mended() {
    let folder = folder();
    let torn = folder.path().join("GoPro/input/scene/1.png");
    let good = fs::read(&torn).unwrap();
    fs::write(&torn, &good[..good.len() / 2]).unwrap();
    eval(&folder, &[])
        .assert()
        .code(1)
        .stderr(contains("error: GoPro, scene/1: ").and(contains("1.png")));
    let found = results(&folder);
    let dataset = &found["datasets"][0];
    assert_eq!(dataset["images"].as_array().unwrap().len(), 3);
    assert_eq!(dataset["failures"][0]["name"], "scene/1");
    assert!(read(&folder, "out/evaluation.md").contains("1 failed"));

    let before = read(&folder, "out/journal.jsonl");
    fs::write(&torn, good).unwrap();
    eval(&folder, &["--resume"])
        .assert()
        .success()
        .stdout(contains("GoPro, scene/1: ").and(contains("scene/0").not()));
    let after = read(&folder, "out/journal.jsonl");
    let added = after.strip_prefix(&before).unwrap();
    assert_eq!(added.lines().count(), 1, "{added}");
    assert_eq!(
        results(&folder)["datasets"][0]["images"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn wrong_usage_and_unknown_folders_are_told_before_anything_is_written() {
    let folder = folder();
    let mut command = Command::cargo_bin("hi-diff").unwrap();
    command
        .arg("eval")
        .assert()
        .code(2)
        .stderr(contains("--data"));
    eval(&folder, &["--protocol", "best"])
        .assert()
        .code(2)
        .stderr(contains("realblur"));
    eval(&folder, &["--data", "nowhere"])
        .assert()
        .code(1)
        .stderr(contains("nowhere"));
    eval(&folder, &["--data", "GoPro"])
        .assert()
        .code(1)
        .stderr(contains("a second dataset"));
    assert!(!folder.path().join("out").exists());
}
