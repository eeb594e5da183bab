//! The program as its users run it.
#![cfg(all(feature = "cli", feature = "flex"))]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;
use tiny::TINY;

fn hi_diff() -> Command {
    let mut command = Command::cargo_bin("hi-diff").expect("the program is built");
    command.env_remove("RUST_BACKTRACE");
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn stripes(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            (x * 9 % 256) as u8,
            (y * 7 % 256) as u8,
            ((x + y) * 5 % 256) as u8,
        ])
    })
}

fn save(folder: &Path, name: &str, image: &RgbImage) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
    image.save(path).expect("an encodable image");
}

#[test]
fn summary_prints_the_published_costs_as_json() {
    let output = hi_diff()
        .args(["summary", "--config", "gopro", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let transformer = &summary["networks"][0];
    assert_eq!(transformer["name"], "transformer");
    assert_eq!(transformer["params"], 25_298_923);
    assert_eq!(transformer["macs"], 140_205_110_272u64);
    assert_eq!(summary["total"]["params"], 28_486_900);
    let names: Vec<_> = summary["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["name"])
        .collect();
    assert_eq!(
        names,
        [
            "transformer",
            "latent_encoder",
            "condition_encoder",
            "denoiser"
        ]
    );
}

#[test]
fn a_bad_configuration_names_key_value_and_expectation() {
    let folder = folder();
    let path = folder.path().join("bad.toml");
    for (text, expected) in [
        (
            "[model.transformer]\nheads = [1, 5, 4, 8]",
            ["model.transformer.heads[1]", "5", "divisor"],
        ),
        ("[model]\ngruop = 4", ["model", "gruop", "group"]),
        (
            "[diffusion]\ntimesteps = 0",
            ["diffusion.timesteps", "0", "from 1"],
        ),
        (
            "[diffusion]\nsampler = \"ddim\"",
            ["diffusion.sampler", "ddim", "ancestral"],
        ),
        (
            "[data]\nlayout = \"gorpo\"",
            ["data.layout", "gorpo", "realblur-j"],
        ),
        (
            "[data.blur.shake]\nextent = [9, 3]",
            ["data.blur.shake.extent", "[9.0, 3.0]", "lower one first"],
        ),
        (
            "[data.blur.jpeg]\nprobability = 2",
            ["data.blur.jpeg.probability", "2.0", "from 0 to 1"],
        ),
        (
            "[data.blur.defocus]\nradii = [1, 2]",
            ["data.blur.defocus", "radii", "radius"],
        ),
        (
            "[[data.sources]]\npath = \"a\"\nweight = 0",
            ["data.sources[0].weight", "0", "above 0"],
        ),
        (
            "[[data.sources]]\npath = \"a\"\nlayout = \"gorpo\"",
            ["data.sources", "gorpo", "sharp"],
        ),
        (
            "[[data.sources]]\nweight = 1",
            ["data.sources", "path", "missing"],
        ),
        (
            "[data]\ntrain = \"a\"\nsources = [{ path = \"b\" }]",
            ["data.sources", "data.train", "one of the two"],
        ),
        (
            "[model]\nembed_dim = \"64\"",
            ["model.embed_dim", "64", "usize"],
        ),
        ("[model\n", ["bad.toml", "syntax", "line 1"]),
    ] {
        fs::write(&path, text).unwrap();
        let assert = hi_diff()
            .args(["summary", "--config"])
            .arg(&path)
            .assert()
            .code(1);
        let stderr = String::from_utf8_lossy(&assert.get_output().stderr).to_string();
        for part in expected {
            assert!(
                stderr.contains(part),
                "{text:?} gives {stderr:?}, which lacks {part:?}"
            );
        }
    }
    hi_diff()
        .args(["summary", "--config", "gorpo"])
        .assert()
        .code(1)
        .stderr(contains("gorpo").and(contains("realblur-j")));
}

#[test]
fn wrong_usage_exits_with_2() {
    hi_diff().arg("deblur").assert().code(2);
    hi_diff().args(["summary", "--size", "0"]).assert().code(2);
    hi_diff().args(["frobnicate"]).assert().code(2);
}

#[test]
fn demo_gains_more_than_a_decibel_and_writes_the_picture() {
    let gain = demo();
    assert!(gain > 1.0, "the demo gains {gain:.2} dB");
}

/// Runs the demo and returns its gain in PSNR.
fn demo() -> f64 {
    let folder = folder();
    let picture = folder.path().join("demo.png");
    let assert = hi_diff()
        .args(["demo", "--backend", "flex", "-o"])
        .arg(&picture)
        .assert()
        .success();
    let stdout = String::from_utf8_lossy(&assert.get_output().stdout).to_string();
    let psnr = |name: &str| -> f64 {
        let line = stdout
            .lines()
            .find(|line| line.starts_with(name))
            .expect(name);
        line.split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number")
    };
    let gain = psnr("deblurred") - psnr("blurred");
    let picture = image::open(&picture).expect("a picture");
    assert!(picture.width() > 2 * picture.height() - 8, "side by side");
    gain
}

#[test]
fn folders_keep_their_structure_and_a_bad_file_does_not_stop_the_others() {
    let folder = folder();
    let input = folder.path().join("photos");
    save(&input, "a.png", &stripes(24, 17));
    save(&input, "trip/b.jpg", &stripes(16, 16));
    fs::write(input.join("broken.png"), b"no image").unwrap();
    let output = folder.path().join("out");
    hi_diff()
        .args(["deblur", "--backend", "flex"])
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .assert()
        .code(1)
        .stderr(contains("broken.png"))
        .stdout(contains("a.png").and(contains("b.jpg")));
    assert_eq!(
        image::image_dimensions(output.join("a.png")).unwrap(),
        (24, 17)
    );
    assert_eq!(
        image::image_dimensions(output.join("trip/b.jpg")).unwrap(),
        (16, 16)
    );
    assert!(!output.join("broken.png").exists());
}

#[test]
fn kinds_and_sizes_of_images_are_kept() {
    let folder = folder();
    let input = folder.path().join("in");
    fs::create_dir(&input).unwrap();
    stripes(1, 1).save(input.join("pixel.png")).unwrap();
    stripes(3, 40).save(input.join("line.bmp")).unwrap();
    GrayImage::from_fn(20, 9, |x, y| Luma([(x * y) as u8]))
        .save(input.join("gray.png"))
        .unwrap();
    RgbaImage::from_fn(12, 12, |x, y| {
        Rgba([200, 10 * x as u8, 10 * y as u8, 20 * x as u8])
    })
    .save(input.join("alpha.png"))
    .unwrap();
    ImageBuffer::<Rgb<u16>, _>::from_fn(10, 11, |x, y| {
        Rgb([x as u16 * 6000, y as u16 * 5000, 777])
    })
    .save(input.join("deep.tiff"))
    .unwrap();
    stripes(9, 8).save(input.join("web.webp")).unwrap();
    let output = folder.path().join("out");
    let mut command = hi_diff();
    command
        .args(["deblur", "--backend", "flex"])
        .arg(&input)
        .arg("-o")
        .arg(&output);
    command.assert().success();
    for entry in fs::read_dir(&input).unwrap() {
        let name = entry.unwrap().file_name();
        let (before, after) = (
            image::open(input.join(&name)),
            image::open(output.join(&name)),
        );
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(after.color(), before.color(), "{name:?}");
        let size = |image: &image::DynamicImage| (image.width(), image.height());
        assert_eq!(size(&after), size(&before), "{name:?}");
    }
    let alpha = |path: &Path| {
        image::open(path)
            .unwrap()
            .to_rgba8()
            .pixels()
            .map(|p| p[3])
            .collect::<Vec<_>>()
    };
    assert_eq!(
        alpha(&output.join("alpha.png")),
        alpha(&input.join("alpha.png"))
    );

    // Nothing is overwritten without --force.
    command
        .assert()
        .code(1)
        .stderr(contains("--force").or(contains("force")));
    command.arg("--force").assert().success();
}

#[test]
fn equal_seeds_give_equal_results() {
    let folder = folder();
    save(folder.path(), "in.png", &stripes(32, 24));
    let run = |seed: &str, name: &str| {
        let output = folder.path().join(name);
        let mut command = hi_diff();
        command.args([
            "deblur",
            "--backend",
            "flex",
            "--weights",
            TINY,
            "--seed",
            seed,
        ]);
        command
            .arg(folder.path().join("in.png"))
            .arg("-o")
            .arg(&output)
            .assert()
            .success();
        fs::read(output).unwrap()
    };
    assert_eq!(run("7", "a.png"), run("7", "b.png"));
    assert!(run("7", "c.png") != run("8", "d.png"));
}

#[test]
fn an_input_is_never_overwritten() {
    let folder = folder();
    save(folder.path(), "in.png", &stripes(16, 16));
    let path = folder.path().join("in.png");
    let before = fs::read(&path).unwrap();
    let mut command = hi_diff();
    command
        .args(["deblur", "--force", "--backend", "flex"])
        .arg(&path)
        .arg("-o")
        .arg(folder.path());
    command.assert().code(1).stderr(contains("in.png"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_backend_that_is_not_compiled_in_is_named_with_its_feature() {
    if cfg!(feature = "cuda") {
        return;
    }
    hi_diff()
        .args(["demo", "--backend", "cuda"])
        .assert()
        .code(1)
        .stderr(contains("cuda").and(contains("--features cuda")));
}

#[test]
fn weights_convert_between_both_kinds_and_deblur_the_same() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let tiny = Path::new(TINY);
    hi_diff()
        .arg("convert")
        .arg(tiny)
        .arg(path("pth"))
        .assert()
        .success();
    assert!(path("pth/net_g.pth").is_file());
    hi_diff()
        .arg("convert")
        .arg(path("pth"))
        .arg(path("back.safetensors"))
        .args(["--config", "tiny"])
        .assert()
        .success();
    save(folder.path(), "in.png", &stripes(40, 32));
    let deblur = |weights: &Path, output: &str| {
        let mut command = hi_diff();
        command
            .args(["deblur", "--backend", "flex", "--weights"])
            .arg(weights);
        command
            .arg(path("in.png"))
            .arg("-o")
            .arg(path(output))
            .assert()
            .success();
        image::open(path(output)).unwrap().to_rgb8()
    };
    assert_eq!(
        deblur(tiny, "a.png"),
        deblur(&path("back.safetensors"), "b.png")
    );
}

#[test]
fn synthetic_pairs_train_a_model_that_deblurs() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    for index in 0..3 {
        save(
            &path("sharp"),
            &format!("{index}.png"),
            &stripes(64 + index, 48),
        );
    }
    hi_diff()
        .arg("synth")
        .arg(path("sharp"))
        .arg(path("pairs"))
        .args(["--count", "2", "-q"])
        .assert()
        .success();
    let config = r#"
        [model]
        embed_dim = 4
        [model.transformer]
        dim = 4
        heads = [1, 2, 2, 2]
        blocks = [1, 1, 1, 1]
        refinement_blocks = 0
        [model.latent_encoder]
        blocks = 1
        [model.denoiser]
        variant = "mlp"
        layers = 1
        [diffusion]
        sampler = "x0"
        timesteps = 2
        [training.stage_one]
        iterations = 4
        patches = [{ patch = 16, batch = 2, iterations = 4 }]
        [training.stage_two]
        iterations = 4
        patches = [{ patch = 16, batch = 2, iterations = 4 }]
        [training.validation]
        every = 2
        images = 1
        log_every = 1
    "#;
    fs::write(path("config.toml"), config).unwrap();
    let mut command = hi_diff();
    command
        .args(["train", "--backend", "flex", "--config"])
        .arg(path("config.toml"));
    command
        .arg("--data")
        .arg(path("pairs"))
        .arg("--out")
        .arg(path("run"));
    command
        .assert()
        .success()
        .stdout(contains("validation PSNR"));

    let mut command = hi_diff();
    command
        .args(["deblur", "--backend", "flex", "--weights"])
        .arg(path("run/model.safetensors"));
    command.arg(path("pairs/input")).arg("-o").arg(path("out"));
    command.assert().success();
}

#[test]
fn mismatched_pairs_are_listed() {
    let folder = folder();
    save(folder.path(), "pairs/input/a.png", &stripes(32, 32));
    save(folder.path(), "pairs/target/b.png", &stripes(32, 32));
    let mut command = hi_diff();
    command.args(["train", "--backend", "flex", "--config", "tiny", "--data"]);
    command
        .arg(folder.path().join("pairs"))
        .arg("--out")
        .arg(folder.path().join("run"));
    command
        .assert()
        .code(1)
        .stderr(contains("a").and(contains("b")));
}

#[test]
fn set_changes_what_the_configuration_says() {
    let summary = |flags: &[&str]| {
        let output = hi_diff()
            .args(["summary", "--json"])
            .args(flags)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{flags:?}: {error}");
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        summary
    };
    let flags = ["--config", "tiny", "--set", "model.prior=none"];
    let plain = summary(&flags);
    assert_eq!(plain["networks"].as_array().unwrap().len(), 1);
    let deeper = summary(&[&flags[..], &["--set", "model.transformer.blocks=[2,2,2,2]"]].concat());
    assert!(deeper["total"]["params"].as_u64() > plain["total"]["params"].as_u64());

    for (change, code, expected) in [
        (
            "model.transfomer.dim=8",
            1,
            ["--set model.transfomer.dim=8", "transfomer"],
        ),
        (
            "training.ema=1.5",
            1,
            ["--set training.ema=1.5", "`training.ema`"],
        ),
        ("training.ema", 2, ["--set", "expected key=value"]),
    ] {
        let failed = hi_diff()
            .args(["summary", "--set", change])
            .assert()
            .code(code);
        for part in expected {
            let stderr = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
            assert!(stderr.contains(part), "{part} is missing in: {stderr}");
        }
    }
}

#[test]
fn set_changes_the_configuration_of_weights_as_far_as_they_fit() {
    let folder = folder();
    save(folder.path(), "a.png", &stripes(40, 32));
    let deblur = |name: &str, change: &str| {
        let mut command = hi_diff();
        command.arg("deblur").arg(folder.path().join("a.png"));
        command.arg("-o").arg(folder.path().join(name));
        command.args(["--weights", TINY, "--set", change]).assert()
    };
    deblur("two.png", "diffusion.timesteps=2").success();
    deblur("three.png", "diffusion.timesteps=3").success();
    let image = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(image("two.png") != image("three.png"));
    deblur("four.png", "model.embed_dim=4")
        .code(1)
        .stderr(contains("does not fit"));
    assert!(!folder.path().join("four.png").exists());
}

#[test]
fn an_instruction_set_that_the_processor_lacks_is_an_error_that_lists_those_it_has() {
    for name in ["avx3", "", "AVX2"] {
        hi_diff()
            .env("HI_DIFF_ISA", name)
            .args(["summary", "--config", "tiny"])
            .assert()
            .code(1)
            .stderr(contains("`HI_DIFF_ISA`").and(contains(format!("`{name}`"))))
            .stderr(contains("generic"));
    }
    hi_diff()
        .env("HI_DIFF_ISA", "generic")
        .args(["summary", "--config", "tiny"])
        .assert()
        .success();
}

#[test]
fn bf16_without_instructions_for_it_is_an_error_that_says_what_it_takes() {
    let folder = folder();
    save(folder.path(), "a.png", &stripes(16, 16));
    hi_diff()
        .env("HI_DIFF_ISA", "generic")
        .args(["deblur", "a.png", "-o", "b.png", "--precision", "bf16"])
        .current_dir(folder.path())
        .assert()
        .code(1)
        .stderr(contains("precision bf16").and(contains("AVX-512 BF16")));
    assert!(!folder.path().join("b.png").exists());
}
