//! LPIPS on AlexNet, with weights made up here, against what the Python package `lpips` finds with the same ones.
#![cfg(feature = "lpips")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use hi_diff::evaluation::Lpips;
use image::RgbImage;
use tempfile::TempDir;

use common::fixture_path;

/// A restored and a sharp photograph, and what lpips 0.1.4 finds for them in double precision (PyTorch 2.15.0).
const PAIRS: [(&str, &str, f64); 4] = [
    (
        "tests/fixtures/metrics/0_restored.png",
        "tests/fixtures/metrics/0_sharp.png",
        0.0026624465246680284,
    ),
    (
        "tests/fixtures/metrics/1_restored.png",
        "tests/fixtures/metrics/1_sharp.png",
        0.0672399959698597,
    ),
    (
        "tests/fixtures/metrics/2_restored.png",
        "tests/fixtures/metrics/2_sharp.png",
        0.08204280345318672,
    ),
    (
        "tests/fixtures/photograph/blurred.png",
        "tests/fixtures/photograph/sharp.png",
        0.008572835103835963,
    ),
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn open(path: &str) -> RgbImage {
    image::open(repository(path)).unwrap().to_rgb8()
}

fn sharp() -> RgbImage {
    image::open(fixture_path("metrics/0_sharp.png"))
        .unwrap()
        .to_rgb8()
}

struct Named {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Named {
    /// Values between `low` and `high` that depend on `seed` alone.
    fn new(name: String, shape: &[usize], seed: u32, [low, high]: [f64; 2]) -> Self {
        let count = shape.iter().product::<usize>() as u32;
        let value = |index: u32| low + (high - low) * uniform(index, seed);
        Self {
            name,
            shape: shape.to_vec(),
            values: (0..count).map(|index| value(index) as f32).collect(),
        }
    }
}

/// From 0 to 1: the end of MurmurHash3.
fn uniform(index: u32, seed: u32) -> f64 {
    let mut hash = index
        .wrapping_mul(2_654_435_761)
        .wrapping_add(seed.wrapping_mul(0x9E37_79B9));
    for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35)] {
        hash = (hash ^ (hash >> shift)).wrapping_mul(factor);
    }
    f64::from(hash ^ (hash >> 16)) / 2f64.powi(32)
}

/// AlexNet's convolutions and the channels' weights, under their published names.
fn parameters() -> (Vec<Named>, Vec<Named>) {
    let (mut backbone, mut channels) = (Vec::new(), Vec::new());
    let layers = [
        (0, 3, 64, 11),
        (3, 64, 192, 5),
        (6, 192, 384, 3),
        (8, 384, 256, 3),
        (10, 256, 256, 3),
    ];
    for (number, (index, from, to, kernel)) in layers.into_iter().enumerate() {
        let seed = 3 * number as u32;
        let bound = (6.0 / (from * kernel * kernel) as f64).sqrt();
        let name = format!("features.{index}");
        let shape = [to, from, kernel, kernel];
        backbone.push(Named::new(
            format!("{name}.weight"),
            &shape,
            seed,
            [-bound, bound],
        ));
        backbone.push(Named::new(
            format!("{name}.bias"),
            &[to],
            seed + 1,
            [-0.1, 0.1],
        ));
        let name = format!("lin{number}.model.1.weight");
        channels.push(Named::new(name, &[1, to, 1, 1], seed + 2, [0.0, 0.2]));
    }
    (backbone, channels)
}

/// A file as PyTorch wrote it under Python 2, which the published `alex.pth` is too.
fn write(path: &Path, tensors: &[Named]) {
    let text = |text: &str| [b"U", [text.len() as u8].as_slice(), text.as_bytes()].concat();
    let sizes = |sizes: &[usize]| {
        let numbers = sizes.iter().flat_map(|&size| {
            let [a, b, c, d] = (size as i32).to_le_bytes();
            [b'J', a, b, c, d]
        });
        [b"(".to_vec(), numbers.collect(), b"t".to_vec()].concat()
    };
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
    file.extend(b"\x80\x02ccollections\nOrderedDict\n](");
    for (number, tensor) in tensors.iter().enumerate() {
        file.extend(b"](");
        file.extend(text(&tensor.name));
        file.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        file.extend(text("storage"));
        file.extend(b"ctorch\nFloatStorage\n");
        file.extend([text(&number.to_string()), text("cuda:0")].concat());
        file.push(b'J');
        file.extend((tensor.values.len() as i32).to_le_bytes());
        file.extend(b"NtQK\0");
        file.extend(sizes(&tensor.shape));
        let strides = (1..=tensor.shape.len()).map(|axis| tensor.shape[axis..].iter().product());
        file.extend(sizes(&strides.collect::<Vec<_>>()));
        file.extend(b"\x89NtRe");
    }
    file.extend(b"e\x85R.\x80\x02](");
    for number in 0..tensors.len() {
        file.extend(text(&number.to_string()));
    }
    file.extend(b"e.");
    for tensor in tensors {
        file.extend((tensor.values.len() as u64).to_le_bytes());
        file.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
    }
    fs::write(path, file).unwrap();
}

fn save(backbone: &[Named], channels: &[Named]) -> TempDir {
    let folder = TempDir::new().unwrap();
    write(&folder.path().join("alexnet-test.pth"), backbone);
    write(&folder.path().join("alex.pth"), channels);
    folder
}

fn weights() -> TempDir {
    let (backbone, channels) = parameters();
    save(&backbone, &channels)
}

fn load<B: Backend>() -> Lpips<B> {
    Lpips::load(weights().path(), &Default::default()).unwrap()
}

fn distances_are_those_of_the_reference<B: Backend>() {
    let lpips = load::<B>();
    for (restored, target, expected) in PAIRS {
        let found = lpips.measure(&open(restored), &open(target)).unwrap();
        let error = (found - expected).abs() / expected;
        println!("{restored}: {found}, off by {error:.1e}");
        assert!(error < 1e-4, "{restored}: {found}, expected {expected}");
    }
}

fn distances_are_symmetric_and_grow_with_blur<B: Backend>() {
    let lpips = load::<B>();
    let sharp = sharp();
    assert_eq!(lpips.measure(&sharp, &sharp).unwrap(), 0.0);
    let mut least = 0.0;
    for sigma in [0.5, 1.0, 2.0, 4.0] {
        let blurred = image::imageops::blur(&sharp, sigma);
        let distance = lpips.measure(&blurred, &sharp).unwrap();
        assert!(
            distance > least,
            "{distance} at sigma {sigma}, {least} before"
        );
        assert_eq!(lpips.measure(&sharp, &blurred).unwrap(), distance);
        least = distance;
    }
}

fn images_are_of_one_size_and_not_too_small<B: Backend>() {
    let lpips = load::<B>();
    let crop = |width, height| image::imageops::crop_imm(&sharp(), 0, 0, width, height).to_image();
    let distance = |a, b| lpips.measure(&a, &b);
    assert!(distance(crop(31, 31), crop(31, 31)).is_ok());
    for (a, b, expected) in [
        (crop(31, 30), crop(31, 30), "at least 31 pixels"),
        (crop(40, 40), crop(41, 40), "second image"),
    ] {
        let error = distance(a, b).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

on_each_backend!(
    distances_are_those_of_the_reference,
    distances_are_symmetric_and_grow_with_blur,
    images_are_of_one_size_and_not_too_small,
);

#[cfg(feature = "flex")]
mod refused {
    use super::*;

    fn refusal(folder: &Path) -> String {
        let loaded = Lpips::<burn::backend::Flex>::load(folder, &Default::default());
        loaded.expect_err("must be refused").to_string()
    }

    fn assert_refused(folder: &Path, expected: &[&str]) {
        let error = refusal(folder);
        for expected in expected {
            assert!(error.contains(expected), "no {expected:?} in: {error}");
        }
    }

    #[test]
    fn folders_without_the_two_files() {
        let folder = weights();
        let at = |name: &str| folder.path().join(name);
        fs::copy(at("alexnet-test.pth"), at("alexnet-other.pth")).unwrap();
        assert_refused(folder.path(), &["holds 2 files alexnet"]);
        fs::remove_file(at("alexnet-other.pth")).unwrap();
        fs::rename(at("alex.pth"), at("kept")).unwrap();
        assert_refused(folder.path(), &["holds no alex.pth", "lpips"]);
        fs::rename(at("kept"), at("alex.pth")).unwrap();
        fs::remove_file(at("alexnet-test.pth")).unwrap();
        assert_refused(folder.path(), &["holds no alexnet", "7be5be79"]);
        assert_refused(&at("nowhere"), &["nowhere"]);
    }

    #[test]
    fn tensors_that_do_not_fit_are_all_listed_with_file_key_and_shapes() {
        let (mut backbone, mut channels) = parameters();
        backbone.remove(3);
        backbone[2].shape = vec![64, 192, 5, 5];
        backbone[0].values[7] = f32::NAN;
        backbone.push(Named::new("features.12.weight".into(), &[2], 0, [0.0, 1.0]));
        // Of the whole AlexNet, which torchvision's file is.
        backbone.push(Named::new("classifier.1.bias".into(), &[2], 0, [0.0, 1.0]));
        let folder = save(&backbone, &channels);
        let expected = [
            "alexnet-test.pth",
            "`features.0.weight`: 1 of 23232 values are NaN",
            "`features.3.weight`: found shape [64, 192, 5, 5], expected [192, 64, 5, 5]",
            "`features.3.bias`: missing, expected shape [192]",
            "`features.12.weight`: unexpected",
        ];
        assert_refused(folder.path(), &expected);
        assert!(!refusal(folder.path()).contains("classifier"));

        channels.truncate(4);
        let folder = save(&parameters().0, &channels);
        let expected = ["alex.pth", "`lin4.model.1.weight`: missing"];
        assert_refused(folder.path(), &expected);
    }

    #[test]
    fn files_that_are_swapped_torn_or_foreign() {
        let (backbone, channels) = parameters();
        let folder = save(&channels, &backbone);
        let expected = [
            "`features.0.weight`: missing",
            "`lin0.model.1.weight`: unexpected",
        ];
        assert_refused(folder.path(), &expected);

        let folder = save(&backbone, &channels);
        let file = folder.path().join("alexnet-test.pth");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert_refused(folder.path(), &["alexnet-test.pth", "the file ends"]);
        fs::write(&file, "<html>").unwrap();
        assert_refused(
            folder.path(),
            &["alexnet-test.pth", "not a PyTorch checkpoint"],
        );
    }

    #[test]
    fn the_classifier_may_be_there() {
        let (mut backbone, channels) = parameters();
        backbone.push(Named::new("classifier.1.bias".into(), &[2], 0, [0.0, 1.0]));
        let folder = save(&backbone, &channels);
        assert!(Lpips::<burn::backend::Flex>::load(folder.path(), &Default::default()).is_ok());
    }
}

#[cfg(all(feature = "cli", feature = "flex"))]
mod command {
    use super::*;
    use assert_cmd::Command;
    use predicates::prelude::*;
    use predicates::str::{contains, is_match};
    use serde_json::Value;

    fn metrics(root: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("hi-diff").unwrap();
        command.env_remove("RUST_BACKTRACE").current_dir(root);
        let common = ["metrics", "restored", "target", "--protocol", "gopro"];
        command.args(common).args(arguments);
        command
    }

    fn output(root: &Path, arguments: &[&str]) -> Vec<u8> {
        let assert = metrics(root, arguments).assert().success();
        assert.get_output().stdout.clone()
    }

    /// The first two pairs as two folders.
    fn folders(root: &Path) {
        for (side, choose) in [("restored", 0), ("target", 1)] {
            fs::create_dir(root.join(side)).unwrap();
            for (index, (restored, target, _)) in PAIRS[..2].iter().enumerate() {
                let file = repository([restored, target][choose]);
                fs::copy(file, root.join(side).join(format!("{index}.png"))).unwrap();
            }
        }
    }

    #[test]
    fn reports_have_it_where_it_is_asked_for() {
        let (root, weights) = (TempDir::new().unwrap(), weights());
        folders(root.path());
        let lpips = ["--lpips", weights.path().to_str().unwrap()];

        let report = output(root.path(), &[&lpips[..], &["--json"]].concat());
        let report: Value = serde_json::from_slice(&report).unwrap();
        let close = |found: &Value, expected: f64| {
            let found = found.as_f64().unwrap();
            assert!(
                (found - expected).abs() < 1e-4 * expected,
                "{found}, {expected}"
            );
        };
        close(&report["images"][0]["lpips"], PAIRS[0].2);
        close(&report["images"][1]["lpips"], PAIRS[1].2);
        close(&report["lpips"], (PAIRS[0].2 + PAIRS[1].2) / 2.0);

        metrics(root.path(), &lpips)
            .assert()
            .success()
            .stdout(contains("SSIM   LPIPS\n"))
            .stdout(is_match(r"\n0 .*  0\.0027\n1 .*  0\.0672\nmean of 2 .*  0\.0350\n").unwrap());

        let report = output(root.path(), &["--json"]);
        assert!(!String::from_utf8(report).unwrap().contains("lpips"));
    }

    #[test]
    fn pairs_too_small_for_it_are_failures_and_bad_weights_end_it() {
        let (root, weights) = (TempDir::new().unwrap(), weights());
        folders(root.path());
        for side in ["restored", "target"] {
            let path = root.path().join(side).join("tiny.png");
            RgbImage::new(30, 40).save(path).unwrap();
        }
        let lpips = ["--lpips", weights.path().to_str().unwrap()];
        metrics(root.path(), &lpips)
            .assert()
            .code(1)
            .stdout(contains("mean of 2"))
            .stderr(contains("tiny: ").and(contains("at least 31 pixels")));
        metrics(root.path(), &["--lpips", "restored"])
            .assert()
            .code(1)
            .stderr(contains("restored: holds no alexnet"));
    }
}
