//! `hi-diff metrics`.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use image::{ImageBuffer, Luma, Rgb, RgbImage, Rgba};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{expected, open};

fn metrics(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("hi-diff").unwrap();
    command.env_remove("RUST_BACKTRACE").current_dir(root);
    command.arg("metrics").args(arguments);
    command
}

/// Standard output as JSON, after the program ended with this status.
fn json_of(root: &Path, arguments: &[&str], status: i32) -> Value {
    let assert = metrics(root, &[arguments, &["--json"]].concat())
        .assert()
        .code(status);
    serde_json::from_slice(&assert.get_output().stdout).expect("JSON")
}

fn save(root: &TempDir, path: &str, image: &RgbImage) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

fn small(seed: u32) -> RgbImage {
    RgbImage::from_fn(20, 16, |x, y| {
        Rgb([1, 2, 3].map(|k| ((x * (3 + k) + y * 7 + seed * k) % 61 * 4) as u8))
    })
}

/// The fixtures as two folders, of which `b` is one folder deeper and of another format.
fn two_folders() -> TempDir {
    let root = TempDir::new().unwrap();
    for (pair, name) in [("0", "a"), ("1", "deep/b"), ("2", "c")] {
        save(
            &root,
            &format!("restored/{name}.png"),
            &open(pair, "restored"),
        );
        save(&root, &format!("target/{name}.bmp"), &open(pair, "sharp"));
    }
    root
}

#[test]
fn folders_give_every_image_and_the_mean() {
    let root = two_folders();
    let expected = expected();
    for (protocol, name, key) in [
        ("gopro", "gopro", "ssim_volumetric"),
        ("hide", "gopro", "ssim_volumetric"),
        ("basicsr", "basicsr", "ssim_per_channel"),
    ] {
        let report = json_of(
            root.path(),
            &["restored", "target", "--protocol", protocol],
            0,
        );
        let keys: Vec<_> = report.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["count", "images", "protocol", "psnr", "ssim"]);
        assert_eq!(
            (&report["protocol"], &report["count"]),
            (&json!(name), &json!(3))
        );
        let images = report["images"].as_array().unwrap();
        let mut sums = [0.0; 2];
        for (image, (name, pair)) in images.iter().zip([("a", "0"), ("c", "2"), ("deep/b", "1")]) {
            let keys: Vec<_> = image.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["name", "psnr", "ssim"]);
            assert_eq!(image["name"], name);
            let found = ["psnr", "ssim"].map(|key| image[key].as_f64().unwrap());
            let wanted = ["psnr", key].map(|key| expected[pair][key].as_f64().unwrap());
            assert!(
                (found[0] - wanted[0]).abs() < 0.01,
                "{image}: {}",
                wanted[0]
            );
            assert!(
                (found[1] - wanted[1]).abs() < 0.0005,
                "{image}: {}",
                wanted[1]
            );
            sums = [sums[0] + found[0], sums[1] + found[1]];
        }
        for (key, sum) in ["psnr", "ssim"].into_iter().zip(sums) {
            let mean = report[key].as_f64().unwrap();
            assert!((mean - sum / 3.0).abs() < 1e-9, "{key}: {mean}");
        }
    }
}

#[test]
fn json_begins_with_the_protocol() {
    let root = two_folders();
    let arguments = [
        "restored/a.png",
        "target/a.bmp",
        "--protocol",
        "gopro",
        "--json",
    ];
    let assert = metrics(root.path(), &arguments).assert().success();
    let text = String::from_utf8_lossy(&assert.get_output().stdout).to_string();
    assert!(
        text.starts_with(r#"{"protocol":"gopro","psnr":31.85"#),
        "{text}"
    );
    assert!(
        text.contains(r#""count":1,"images":[{"name":"a","psnr":31.85"#),
        "{text}"
    );
}

#[test]
fn the_table_names_protocol_and_ssim() {
    let root = two_folders();
    for (protocol, ssim, mean) in [
        ("gopro", "SSIM volumetric", "mean of 3      22.69  0.6112"),
        (
            "basicsr",
            "SSIM 2-D, per channel",
            "mean of 3      22.69  0.4911",
        ),
        (
            "realblur",
            "2-D SSIM after gain and alignment",
            "mean of 3      26.73  0.68",
        ),
    ] {
        let arguments = ["restored", "target", "--protocol", protocol];
        let title = format!("protocol {protocol}: ");
        metrics(root.path(), &arguments)
            .assert()
            .success()
            .stdout(contains(title).and(contains(ssim)).and(contains(mean)))
            .stderr("");
        metrics(root.path(), &[&arguments[..], &["-q"]].concat())
            .assert()
            .success()
            .stdout("")
            .stderr("");
    }
}

#[test]
fn an_alignment_that_does_not_settle_is_a_warning() {
    let root = two_folders();
    let report = json_of(
        root.path(),
        &["restored", "target", "--protocol", "realblur"],
        0,
    );
    let images = report["images"].as_array().unwrap();
    let warning = images[1]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("did not converge"), "{warning}");
    assert!(images[2].get("warnings").is_none(), "{}", images[2]);
    metrics(
        root.path(),
        &["restored/c.png", "target/c.bmp", "--protocol", "realblur"],
    )
    .assert()
    .success()
    .stdout(contains("warning: c: the alignment did not converge"));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let root = two_folders();
    for protocol in ["gopro", "realblur"] {
        let [one, two, three] = ["1", "2", "3"].map(|threads| {
            let arguments = [
                "restored",
                "target",
                "--protocol",
                protocol,
                "--json",
                "--threads",
                threads,
            ];
            metrics(root.path(), &arguments)
                .assert()
                .success()
                .get_output()
                .stdout
                .clone()
        });
        assert_eq!(one, two);
        assert_eq!(one, three);
    }
}

#[test]
fn equal_images_have_no_finite_psnr() {
    let root = TempDir::new().unwrap();
    for (name, restored) in [("equal", 1), ("other", 2)] {
        save(&root, &format!("restored/{name}.png"), &small(restored));
        save(&root, &format!("target/{name}.png"), &small(1));
    }
    let arguments = ["restored", "target", "--protocol", "basicsr"];
    let report = json_of(root.path(), &arguments, 0);
    assert_eq!(
        (&report["psnr"], &report["count"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(report["images"][0]["psnr"], Value::Null);
    assert!(report["images"][1]["psnr"].is_f64(), "{report}");
    assert!(report["ssim"].is_f64(), "{report}");
    metrics(root.path(), &arguments)
        .assert()
        .success()
        .stdout(contains("inf"));
}

#[test]
fn a_protocol_has_to_be_chosen() {
    let root = two_folders();
    let folders = ["restored", "target"];
    metrics(root.path(), &folders)
        .assert()
        .code(2)
        .stderr(contains("--protocol"));
    metrics(
        root.path(),
        &[&folders[..], &["--protocol", "psnr"]].concat(),
    )
    .assert()
    .code(2)
    .stderr(
        contains("gopro")
            .and(contains("basicsr"))
            .and(contains("realblur")),
    );
}

#[test]
fn every_mismatch_of_two_folders_is_in_one_error() {
    let root = TempDir::new().unwrap();
    for name in ["good", "size", "twice", "deep/lonely"] {
        save(&root, &format!("restored/{name}.png"), &small(1));
    }
    save(&root, "restored/twice.bmp", &small(1));
    for name in ["good", "twice", "orphan"] {
        save(&root, &format!("target/{name}.png"), &small(2));
    }
    save(&root, "target/size.png", &RgbImage::new(20, 17));
    for number in 0..20 {
        save(&root, &format!("target/more-{number}.png"), &small(2));
    }
    let assert = metrics(
        root.path(),
        &["restored", "target", "--protocol", "gopro", "--json"],
    )
    .assert()
    .code(1)
    .stdout("");
    let error = String::from_utf8_lossy(&assert.get_output().stderr).replace('\\', "/");
    for part in [
        "restored/deep/lonely.png: no image of this name in target",
        "target/orphan.png: no image of this name in restored",
        "restored/twice.png: same name as restored/twice.bmp",
        "restored/size.png: 20×16, but its target target/size.png is 20×17",
        "target/more-0.png",
        "target/more-19.png",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    assert!(!error.contains("good"), "{error}");
    assert_eq!(error.matches("error:").count(), 1, "{error}");
}

#[test]
fn images_that_cannot_be_measured_do_not_stop_the_others() {
    let root = TempDir::new().unwrap();
    for name in ["a", "flat", "torn"] {
        save(
            &root,
            &format!("restored/{name}.png"),
            &open("1", "restored"),
        );
        save(&root, &format!("target/{name}.png"), &open("1", "sharp"));
    }
    let (width, height) = open("1", "sharp").dimensions();
    save(
        &root,
        "target/flat.png",
        &RgbImage::from_pixel(width, height, Rgb([9; 3])),
    );
    let torn = root.path().join("restored/torn.png");
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();

    let arguments = ["restored", "target", "--protocol", "realblur"];
    let report = json_of(root.path(), &arguments, 1);
    assert_eq!(report["count"], 1);
    assert_eq!(report["psnr"], report["images"][0]["psnr"]);
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(
        (&failures[0]["name"], &failures[1]["name"]),
        (&json!("flat"), &json!("torn"))
    );
    let reasons = [0, 1].map(|index| failures[index]["reason"].as_str().unwrap());
    assert!(reasons[0].contains("no texture"), "{reasons:?}");
    assert!(reasons[1].contains("torn.png"), "{reasons:?}");
    metrics(root.path(), &arguments)
        .assert()
        .code(1)
        .stdout(contains("mean of 1").and(contains("flat").not()))
        .stderr(contains("error: flat: ").and(contains("error: torn: ")));
}

#[test]
fn without_a_measured_image_there_is_no_mean() {
    let root = TempDir::new().unwrap();
    save(&root, "target.png", &small(1));
    fs::write(root.path().join("torn.png"), "no picture").unwrap();
    let arguments = ["torn.png", "target.png", "--protocol", "gopro"];
    let report = json_of(root.path(), &arguments, 1);
    let expected =
        json!({"protocol": "gopro", "psnr": null, "ssim": null, "count": 0, "images": []});
    let mut found = report.clone();
    found.as_object_mut().unwrap().remove("failures");
    assert_eq!(found, expected);
    assert_eq!(report["failures"][0]["name"], "torn");
}

#[test]
fn paths_that_are_no_pair_are_one_error() {
    let root = two_folders();
    fs::create_dir(root.path().join("empty")).unwrap();
    save(&root, "small.png", &small(1));
    for (restored, target, expected) in [
        ("restored", "target/a.bmp", "two images or two folders"),
        ("restored/a.png", "target", "two images or two folders"),
        ("restored", "gone", "gone: "),
        ("empty", "empty", "no images"),
        (
            "small.png",
            "target/a.bmp",
            "20×16, but its target target/a.bmp is 192×144",
        ),
    ] {
        metrics(root.path(), &[restored, target, "--protocol", "gopro"])
            .assert()
            .code(1)
            .stdout("")
            .stderr(contains(expected));
    }
}

#[test]
fn gray_deep_and_transparent_images_are_measured_as_8_bit_rgb() {
    let root = TempDir::new().unwrap();
    let path = |name| root.path().join(name);
    let level = |x: u32, y: u32| (x * 11 + y * 3) as u8;
    let gray = RgbImage::from_fn(16, 12, |x, y| Rgb([level(x, y); 3]));
    save(&root, "target.png", &gray);
    // 40 of 65,535 is less than half of an 8-bit step.
    let deep = ImageBuffer::from_fn(16, 12, |x, y| Luma([u16::from(level(x, y)) * 257 + 40]));
    deep.save(path("deep.png")).unwrap();
    let transparent = ImageBuffer::from_fn(16, 12, |x, y| {
        let level = level(x, y);
        Rgba([level, level, level, 30])
    });
    transparent.save(path("transparent.png")).unwrap();
    for name in ["deep.png", "transparent.png"] {
        let report = json_of(root.path(), &[name, "target.png", "--protocol", "gopro"], 0);
        assert_eq!(report["images"][0]["psnr"], Value::Null, "{name}: {report}");
    }
}
