//! `hi-diff deblur` with each of its flags, and the same as a library.
#![cfg(all(feature = "cli", feature = "flex"))]

#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/wait.rs"]
mod wait;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use hi_diff::inference::{AttentionChoice, DeblurOptions, Deblurrer, MOST_DRIFT, Tiling};
use hi_diff::model::Attention;
use hi_diff::picture::Photograph;
use hi_diff::weights::StateDict;
use hi_diff::{HiDiff, Noise};
use image::{DynamicImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba};
use serde_json::Value;
use tempfile::TempDir;
use tiny::TINY;

const ALL: [&str; 7] = ["--tta", "--samples", "2", "--tile", "16", "--overlap", "8"];

/// `hi-diff deblur` in a folder.
fn deblur(folder: &TempDir, arguments: &[&str]) -> Assert {
    command(folder, arguments).assert()
}

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("hi-diff").expect("the program is built");
    command.env_remove("RUST_BACKTRACE");
    command.current_dir(folder);
    command.args(["deblur", "--backend", "flex"]);
    if !arguments.contains(&"--weights") {
        command.args(["--weights", TINY]);
    }
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn stdout(assert: &Assert) -> String {
    text(&assert.get_output().stdout)
}

fn stderr(assert: &Assert) -> String {
    text(&assert.get_output().stderr)
}

/// A smooth picture with edges, so that the model has something to do.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let edge = if (x / 7 + y / 5) % 2 == 0 { 60 } else { 0 };
        Rgb([
            (40 + x * 3 % 150 + edge) as u8,
            (30 + y * 4 % 160 + edge) as u8,
            (100 + edge) as u8,
        ])
    })
}

/// A folder with `name` of this size.
fn folder(images: &[(&str, u32, u32)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, width, height) in images {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture(*width, *height).save(path).unwrap();
    }
    folder
}

fn open(folder: &TempDir, name: &str) -> DynamicImage {
    let path = folder.path().join(name);
    image::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn bytes(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn exists(folder: &TempDir, name: &str) -> bool {
    folder.path().join(name).exists()
}

fn json_lines(assert: &Assert) -> Vec<Value> {
    let lines = stdout(assert);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    lines.lines().map(parse).collect()
}

#[test]
fn every_way_of_deblurring_keeps_bits_grayness_alpha_and_size() {
    let folder = folder(&[
        ("in/odd.png", 29, 19),
        ("in/pixel.bmp", 1, 1),
        ("in/web.webp", 24, 17),
    ]);
    let deep = |x: u32, y: u32| (x * 1500 + y * 900) as u16;
    let save = |name: &str, image: DynamicImage| image.save(folder.path().join(name)).unwrap();
    save(
        "in/gray16.tiff",
        ImageBuffer::from_fn(21, 33, |x, y| Luma([deep(x, y)])).into(),
    );
    save(
        "in/rgb16.png",
        ImageBuffer::from_fn(33, 9, |x, y| Rgb([deep(x, y), 500, deep(y, x)])).into(),
    );
    let alpha = |x: u32, y: u32| Rgba([x as u8 * 9, 90, y as u8 * 9, (x * y) as u8]);
    save("in/alpha.png", ImageBuffer::from_fn(25, 18, alpha).into());

    let ways: [&[&str]; 4] = [&ALL[..1], &ALL[1..3], &ALL[3..], &ALL];
    for (number, way) in ways.into_iter().enumerate() {
        let out = format!("out{number}");
        deblur(&folder, &[&["in", "-o", &out, "-q"], way].concat()).success();
        for entry in fs::read_dir(folder.path().join("in")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (before, after) = (
                open(&folder, &format!("in/{name}")),
                open(&folder, &format!("{out}/{name}")),
            );
            assert_eq!(after.color(), before.color(), "{name} {way:?}");
            let size = |image: &DynamicImage| (image.width(), image.height());
            assert_eq!(size(&after), size(&before), "{name} {way:?}");
        }
        let alpha = |name: &str| {
            open(&folder, name)
                .to_rgba8()
                .pixels()
                .map(|p| p[3])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            alpha(&format!("{out}/alpha.png")),
            alpha("in/alpha.png"),
            "{way:?}"
        );
    }
}

#[test]
fn flips_and_rotations_averaged_make_the_result_turn_with_the_photograph() {
    let folder = folder(&[("in/upright.png", 40, 27)]);
    let turned = open(&folder, "in/upright.png").rotate90().fliph();
    turned.save(folder.path().join("in/turned.png")).unwrap();
    let difference = |out: &str, flags: &[&str]| {
        deblur(&folder, &[&["in", "-o", out], flags].concat()).success();
        let upright = open(&folder, &format!("{out}/upright.png"))
            .rotate90()
            .fliph()
            .to_rgb8();
        let turned = open(&folder, &format!("{out}/turned.png")).to_rgb8();
        let pairs = upright.as_raw().iter().zip(turned.as_raw());
        pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    };
    assert!(
        difference("plain", &[]) > 1,
        "the model alone does not turn with its input"
    );
    // But for the order of a sum.
    assert!(difference("averaged", &["--tta"]) <= 1);
}

#[test]
fn samples_are_the_mean_of_their_seeds_with_a_map_of_where_they_disagree() {
    let folder = tempfile::tempdir().unwrap();
    let image: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_fn(40, 24, |x, y| {
        Rgb([
            (9_000 + x * 900) as u16,
            (y * 2_000) as u16,
            ((x / 6 + y / 6) % 2 * 40_000) as u16,
        ])
    });
    image.save(folder.path().join("in.png")).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let image = open(&folder, name).to_rgb16();
        image
            .as_raw()
            .iter()
            .map(|&v| f64::from(v) / 65_535.0)
            .collect()
    };
    for seed in ["5", "6"] {
        deblur(
            &folder,
            &["in.png", "-o", &format!("{seed}.png"), "--seed", seed],
        )
        .success();
    }
    let flags = ["in.png", "-o", "mean.png", "--seed", "5", "--samples", "2"];
    let lines = json_lines(&deblur(&folder, &[&flags[..], &["--json"]].concat()).success());
    let (a, b, mean) = (values("5.png"), values("6.png"), values("mean.png"));
    for ((a, b), mean) in a.iter().zip(&b).zip(&mean) {
        assert!(
            ((a + b) / 2.0 - mean).abs() < 1.5 / 65_535.0,
            "{a}, {b}: {mean}"
        );
    }

    // Of two values, the variance is half their squared difference.
    let pixels = a.chunks(3).zip(b.chunks(3));
    let deviation: Vec<f64> = pixels
        .map(|(a, b)| {
            let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2) / 2.0).sum();
            (squares / 3.0).sqrt()
        })
        .collect();
    let most = deviation.iter().copied().fold(0.0, f64::max);
    let step = 1.0 / 65_535.0; // to which the results are rounded
    assert!(most > 6.0 * step, "the samples hardly differ: {most}");
    let disagreement = &lines[0]["disagreement"];
    assert_eq!(disagreement["file"], "mean.disagreement.png");
    let white = disagreement["white"].as_f64().unwrap();
    assert!(
        (white - most).abs() < 2.0 * step,
        "{white}, expected {most}"
    );
    let map = open(&folder, "mean.disagreement.png");
    assert_eq!(map.color(), image::ColorType::L8);
    for (found, deviation) in map.to_luma8().as_raw().iter().zip(&deviation) {
        let expected = 255.0 * deviation / most;
        assert!(
            (f64::from(*found) - expected).abs() < 1.0 + 255.0 * 2.0 * step / most,
            "{found}, expected {expected}"
        );
    }
    // In words, too.
    let assert = deblur(&folder, &[&flags[..], &["--force"]].concat()).success();
    let line = stdout(&assert);
    let levels = 255.0 * white;
    let words =
        format!("white in mean.disagreement.png is a standard deviation of {levels:.3}/255");
    assert!(
        line.starts_with("mean.png: ") && line.contains(&words),
        "{line}"
    );
}

#[test]
fn a_tile_that_holds_the_image_gives_the_same_bytes_and_smaller_ones_a_warning() {
    let folder = folder(&[("in/a.png", 45, 30), ("in/b.png", 30, 45)]);
    let whole = deblur(&folder, &["in", "-o", "whole"]).success();
    let held = deblur(&folder, &["in", "-o", "held", "--tile", "48"]).success();
    for name in ["a.png", "b.png"] {
        let (whole, held) = (
            bytes(&folder, &format!("whole/{name}")),
            bytes(&folder, &format!("held/{name}")),
        );
        assert!(whole == held, "{name}");
    }
    assert_eq!(
        (stderr(&whole), stderr(&held)),
        (String::new(), String::new())
    );

    let tiles = ["--tile", "24", "--overlap", "8"];
    let tiled = deblur(&folder, &[&["in", "-o", "tiled"], &tiles[..]].concat()).success();
    assert_eq!(stderr(&tiled).matches("warning: ").count(), 1);
    assert!(
        stderr(&tiled).contains("without seeing the rest"),
        "{}",
        stderr(&tiled)
    );
    assert!(bytes(&folder, "tiled/a.png") != bytes(&folder, "whole/a.png"));
    let quiet = deblur(
        &folder,
        &[&["in", "-o", "quiet", "-q"], &tiles[..]].concat(),
    )
    .success();
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn compare_writes_photograph_and_result_side_by_side() {
    let folder = folder(&[("in.jpg", 31, 22)]);
    let assert = deblur(
        &folder,
        &["in.jpg", "-o", "out/a.b.png", "--compare", "--json"],
    )
    .success();
    assert_eq!(json_lines(&assert)[0]["compare"], "out/a.b.compare.png");
    let picture = open(&folder, "out/a.b.compare.png").to_rgb8();
    assert_eq!(picture.dimensions(), (2 * 31 + 4, 22));
    let part = |x| image::imageops::crop_imm(&picture, x, 0, 31, 22).to_image();
    assert_eq!(part(0), open(&folder, "in.jpg").to_rgb8());
    assert_eq!(part(35), open(&folder, "out/a.b.png").to_rgb8());
}

#[test]
fn a_format_applies_to_all_results_of_a_folder() {
    let folder = folder(&[
        ("in/a.png", 16, 16),
        ("in/b.bmp", 16, 9),
        ("in/c.jpeg", 8, 8),
    ]);
    let flags = ["in", "-o", "out", "--format", "jpeg"];
    let assert = deblur(&folder, &flags).success();
    let names: Vec<_> = ["a.jpg", "b.jpg", "c.jpeg"]
        .map(|name| Path::new("out").join(name))
        .into();
    let printed: Vec<_> = stdout(&assert).lines().map(Into::into).collect();
    assert_eq!(names, printed as Vec<std::path::PathBuf>);
    for name in names {
        assert!(
            bytes(&folder, name.to_str().unwrap()).starts_with(&[0xff, 0xd8]),
            "{name:?}"
        );
    }
    let size = |quality: &str| {
        let flags = ["in/a.png", "-o", "a.jpg", "--force", "--quality", quality];
        deblur(&folder, &flags).success();
        bytes(&folder, "a.jpg").len()
    };
    assert!(size("30") < size("95"));
}

#[test]
fn standard_input_becomes_standard_output_and_nothing_else() {
    let folder = folder(&[("in.png", 27, 20), ("in.bmp", 27, 20)]);
    deblur(&folder, &["in.png", "-o", "out.png"]).success();
    let through = |input: &str, flags: &[&str]| {
        let flags = [&["-", "-o", "-"], flags].concat();
        let assert = command(&folder, &flags)
            .write_stdin(bytes(&folder, input))
            .assert()
            .success();
        (assert.get_output().stdout.clone(), stderr(&assert))
    };
    let (image, said) = through("in.png", &[]);
    assert!(
        image == bytes(&folder, "out.png") && said.is_empty(),
        "{said}"
    );
    let (image, said) = through("in.png", &["-v"]);
    assert!(
        image == bytes(&folder, "out.png") && said.contains("27×20"),
        "{said}"
    );
    assert!(through("in.bmp", &[]).0.starts_with(b"BM"));
    assert!(through("in.bmp", &["--format", "png"]).0 == bytes(&folder, "out.png"));

    // And either with a file.
    let assert = deblur(&folder, &["in.png", "-o", "-"]).success();
    assert!(assert.get_output().stdout == bytes(&folder, "out.png"));
    let mut from_stdin = command(&folder, &["-", "-o", "new.png", "--compare"]);
    from_stdin
        .write_stdin(bytes(&folder, "in.png"))
        .assert()
        .success();
    assert!(bytes(&folder, "new.png") == bytes(&folder, "out.png"));
    assert!(exists(&folder, "new.compare.png"));
    from_stdin.assert().code(1);

    // A bad input gives nothing at all.
    let flags = ["-", "-o", "-"];
    let assert = command(&folder, &flags)
        .write_stdin("no image")
        .assert()
        .code(1);
    assert_eq!(stdout(&assert), "");
    assert!(
        stderr(&assert).contains("standard input: not an image"),
        "{}",
        stderr(&assert)
    );
}

#[cfg(unix)]
#[test]
fn a_reader_that_went_away_ends_the_program_quietly() {
    use std::process::{Command, Stdio};
    let folder = folder(&[("in.png", 60, 60)]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_hi-diff"))
        .current_dir(&folder)
        .args(["deblur", "--backend", "flex", "in.png", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
}

#[test]
fn json_has_a_line_for_each_photograph_in_order() {
    let folder = folder(&[
        ("in/f1.png", 24, 16),
        ("in/f10.png", 8, 8),
        ("in/f2.png", 16, 16),
    ]);
    fs::write(folder.path().join("in/f3.png"), "no image").unwrap();
    let flags = ["in", "gone.png", "-o", "out", "--json"];
    let assert = deblur(&folder, &flags).code(1);
    let lines = json_lines(&assert);
    let inputs: Vec<_> = lines
        .iter()
        .map(|line| line["input"].as_str().unwrap().replace('\\', "/"))
        .collect();
    // What has no job is known before.
    assert_eq!(
        inputs,
        [
            "gone.png",
            "in/f1.png",
            "in/f2.png",
            "in/f3.png",
            "in/f10.png"
        ]
    );
    let first = &lines[1];
    assert_eq!(
        (&first["width"], &first["height"]),
        (&24.into(), &16.into())
    );
    let number = |key: &str| {
        first[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key}: {first}"))
    };
    let rate = 24.0 * 16.0 / 1e6 / number("seconds");
    assert!((number("megapixels_per_second") / rate - 1.0).abs() < 1e-6);
    assert_eq!(
        first["output"].as_str().unwrap().replace('\\', "/"),
        "out/f1.png"
    );
    assert!(!cfg!(target_os = "linux") || number("peak_memory_bytes") > 1e6);
    for failed in [&lines[0], &lines[3]] {
        let keys: Vec<_> = failed.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "input"]);
        let error = failed["error"].as_str().unwrap();
        assert!(stderr(&assert).contains(error), "{error}");
    }
}

#[test]
fn resuming_keeps_what_is_there_and_does_the_rest() {
    let folder = folder(&[("in/a.png", 16, 16), ("in/b.png", 16, 16)]);
    deblur(&folder, &["in/a.png", "-o", "out", "--resume"]).success();
    // What somebody made of a result since stays, too.
    picture(5, 7)
        .save(folder.path().join("out/a.png"))
        .expect("an edited result");
    let mine = bytes(&folder, "out/a.png");
    let assert = deblur(&folder, &["in", "-o", "out", "--resume"]).success();
    assert_eq!(stderr(&assert), "kept: 1 result of an earlier run\n");
    assert!(bytes(&folder, "out/a.png") == mine);
    assert_eq!(open(&folder, "out/b.png").width(), 16);
    // What is still missing beside a result is written, and the result is kept.
    let assert = deblur(&folder, &["in", "-o", "out", "--resume", "--compare"]).success();
    assert_eq!(stderr(&assert), "");
    assert!(exists(&folder, "out/a.compare.png") && exists(&folder, "out/b.compare.png"));
    assert!(bytes(&folder, "out/a.png") == mine);
    let assert = deblur(
        &folder,
        &["in", "-o", "out", "--resume", "--compare", "--json"],
    )
    .success();
    let kept: Vec<_> = json_lines(&assert)
        .iter()
        .map(|line| line["kept"].clone())
        .collect();
    assert_eq!(kept, [true, true]);
}

#[test]
fn resuming_does_again_what_is_no_result_of_its_input() {
    let names = ["in/a.png", "in/b.png", "in/c.png"];
    let folder = folder(&names.map(|name| (name, 16, 16)));
    let time = |name: &str| {
        let found = fs::metadata(folder.path().join(name)).unwrap();
        found.modified().unwrap()
    };
    let outputs = |assert: &Assert| -> Vec<String> {
        let lines = stdout(assert);
        lines.lines().map(|line| line.replace('\\', "/")).collect()
    };
    let resume = ["in", "-o", "out", "--resume"];
    deblur(&folder, &resume).success();
    let (first, third) = (bytes(&folder, "out/a.png"), bytes(&folder, "out/c.png"));
    // A full disk or a power failure left an empty file, and another photograph of the same size, older than the result,
    // has taken the second one's name.
    fs::write(folder.path().join("out/a.png"), "").unwrap();
    let other = folder.path().join("in/b.png");
    let before = time("in/b.png");
    picture(32, 16).save(&other).unwrap();
    let cut = image::open(&other).unwrap().crop_imm(16, 0, 16, 16);
    cut.save(&other).unwrap();
    let file = fs::File::options().append(true).open(&other).unwrap();
    file.set_modified(before - std::time::Duration::from_secs(3600))
        .unwrap();
    let stale = bytes(&folder, "out/b.png");
    let assert = deblur(&folder, &resume).success();
    assert_eq!(outputs(&assert), ["out/a.png", "out/b.png"]);
    assert_eq!(stderr(&assert), "kept: 1 result of an earlier run\n");
    assert!(bytes(&folder, "out/a.png") == first && bytes(&folder, "out/c.png") == third);
    assert!(bytes(&folder, "out/b.png") != stale);
    let assert = deblur(&folder, &resume).success();
    assert_eq!(stderr(&assert), "kept: 3 results of an earlier run\n");

    // What was made in another way is neither kept nor lost.
    let assert = deblur(&folder, &[&resume[..], &["--seed", "7"]].concat()).code(1);
    assert!(
        stderr(&assert).contains("out/a.png: made in another way: seed was 0, now 7"),
        "{}",
        stderr(&assert)
    );
    assert!(bytes(&folder, "out/a.png") == first);

    // Without the journal, by time and size; beside a result on its own there is none.
    fs::remove_file(folder.path().join("out/.hi-diff.jsonl")).unwrap();
    let assert = deblur(&folder, &resume).success();
    assert_eq!(outputs(&assert), [""; 0]);
    let file = fs::File::options().append(true).open(&other).unwrap();
    file.set_modified(time("out/b.png") + std::time::Duration::from_secs(1))
        .unwrap();
    let assert = deblur(&folder, &resume).success();
    assert_eq!(outputs(&assert), ["out/b.png"]);
    deblur(&folder, &["in/a.png", "-o", "one/a.png"]).success();
    assert!(!exists(&folder, "one/.hi-diff.jsonl"));
    // Nor one beside results of which none was asked to be gone on with; what is there then is not lost.
    deblur(&folder, &["in/a.png", "-o", "two"]).success();
    assert!(!exists(&folder, "two/.hi-diff.jsonl"));
    picture(5, 7).save(folder.path().join("two/a.png")).unwrap();
    let mine = bytes(&folder, "two/a.png");
    let assert = deblur(&folder, &["in/a.png", "-o", "two", "--resume"]).code(1);
    assert!(
        stderr(&assert).contains("two/a.png: a picture of another size"),
        "{}",
        stderr(&assert)
    );
    assert!(bytes(&folder, "two/a.png") == mine);
    let one = ["in/a.png", "-o", "one/a.png", "--resume"];
    let assert = deblur(&folder, &one).success();
    assert_eq!(stderr(&assert), "kept: 1 result of an earlier run\n");
    fs::write(folder.path().join("one/a.png"), "").unwrap();
    deblur(&folder, &one).success();
    assert!(bytes(&folder, "one/a.png") == first);
}

/// As root everything can be written but what lies below a file.
#[test]
fn a_place_that_cannot_be_written_is_found_before_anything_is_computed() {
    let folder = folder(&[("in/a.png", 8, 8), ("in/sub/b.png", 8, 8)]);
    fs::write(folder.path().join("file.txt"), "mine").unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/sub"), "mine").unwrap();
    let unknown = ["--weights", "gone.safetensors"];
    let says = |flags: &[&str], words: &str| {
        let assert = deblur(&folder, flags).code(1);
        let said = stderr(&assert);
        assert!(said.contains(words), "{flags:?}: {said}");
        said
    };
    let below = ["in/a.png", "-o", "file.txt/out.png"];
    let said = says(&[&below[..], &unknown].concat(), "error: file.txt: ");
    assert!(
        !said.contains("gone"),
        "before the weights are read: {said}"
    );
    if cfg!(target_os = "linux") {
        let system = ["in", "-o", "/proc/hi-diff"];
        let said = says(&[&system[..], &unknown].concat(), "error: /proc/hi-diff: ");
        assert!(!said.contains("gone"), "{said}");
    }
    // The others go on.
    says(&["in", "-o", "out"], "error: out/sub: ");
    assert!(exists(&folder, "out/a.png"));
    // A folder that was made for nothing goes away.
    fs::write(folder.path().join("in/a.png"), "no image").unwrap();
    says(&["in/a.png", "-o", "new/deep"], "not an image");
    says(
        &[&["in/a.png", "-o", "new/deep/a.png"][..], &unknown].concat(),
        "gone.safetensors",
    );
    assert!(!exists(&folder, "new"));
}

#[test]
fn files_beside_results_are_guarded_like_results() {
    let folder = folder(&[("in/a.png", 8, 8), ("in/a.bmp", 8, 8), ("in/b.png", 8, 8)]);
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/b.compare.png"), "mine").unwrap();
    let flags = ["in", "-o", "out", "--compare"];
    let assert = deblur(&folder, &flags).code(1);
    assert_eq!(
        stderr(&assert).matches("a.compare.png: 2 inputs").count(),
        2
    );
    assert!(
        stderr(&assert).contains("b.compare.png: exists already"),
        "{}",
        stderr(&assert)
    );
    assert!(!exists(&folder, "out/a.png") && !exists(&folder, "out/b.png"));
    let flags = [
        "in/b.png",
        "out/b.compare.png",
        "-o",
        "out",
        "--compare",
        "--force",
    ];
    deblur(&folder, &flags).code(1);
    assert_eq!(bytes(&folder, "out/b.compare.png"), b"mine");
}

#[test]
fn a_folder_says_how_many_files_it_passed_over() {
    let folder = folder(&[("in/a.png", 8, 8), ("plain/b.png", 8, 8)]);
    for name in ["in/b.jxl", "in/c.JXL", "in/d.dng", "in/notes.txt"] {
        fs::write(folder.path().join(name), "other").unwrap();
    }
    fs::create_dir(folder.path().join("phone")).unwrap();
    fs::write(folder.path().join("phone/e.jxl"), b"\xff\x0a").unwrap();

    let assert = deblur(&folder, &["in", "plain", "-o", "out"]).success();
    assert_eq!(
        stderr(&assert),
        "passed over in in: JPEG XL 2, DNG 1, other files 1\n"
    );
    let again = ["in", "plain", "-o", "out", "--force"];
    let assert = deblur(&folder, &[&again[..], &["-q"]].concat()).success();
    assert_eq!(stderr(&assert), "");
    let assert = deblur(&folder, &[&again[..], &["--json"]].concat()).success();
    let lines = json_lines(&assert);
    let counts = serde_json::json!({"JPEG XL": 2, "DNG": 1, "other": 1});
    assert_eq!(
        lines[0],
        serde_json::json!({"folder": "in", "passed_over": counts})
    );
    assert_eq!(lines.len(), 3);

    let assert = deblur(&folder, &["phone", "-o", "new"]).code(1);
    let said = stderr(&assert);
    assert!(
        said.contains("phone: no images in this folder, expected PNG")
            && said.contains("JPEG XL 1: ")
            && said.contains("djxl"),
        "{said}"
    );
}

#[test]
fn an_output_of_an_unknown_kind_is_an_error_and_no_folder() {
    let folder = folder(&[("a.png", 8, 8)]);
    for output in ["sharp.heic", "sharp.pgn"] {
        let assert = deblur(&folder, &["a.png", "-o", output]).code(1);
        let said = stderr(&assert);
        assert!(
            said.contains(output) && said.contains("expected that of PNG"),
            "{said}"
        );
        assert!(!exists(&folder, output));
    }
    for output in ["sharp.heic/", "results.2024"] {
        deblur(&folder, &["a.png", "-o", output]).success();
        assert!(exists(&folder, &format!("{output}/a.png")), "{output}");
    }
    // It is there now.
    deblur(&folder, &["a.png", "-o", "sharp.heic", "--force"]).success();
}

#[test]
fn impossible_flags_are_wrong_usage() {
    let folder = folder(&[("a.png", 8, 8), ("b.png", 8, 8), ("in/c.png", 8, 8)]);
    let cases: [(&[&str], &str); 18] = [
        (
            &["a.png", "-o", "out.png", "--tile", "0"],
            "`--tile`: found 0",
        ),
        (&["a.png", "-o", "out.png", "--tile=-8"], "--tile"),
        (
            &["a.png", "-o", "out.png", "--tile", "64", "--overlap", "64"],
            "`--overlap`: found 64, expected less",
        ),
        (
            &["a.png", "-o", "out.png", "--tile", "60", "--overlap", "58"],
            "`--overlap`: found 58",
        ),
        (&["a.png", "-o", "out.png", "--overlap", "8"], "--tile"),
        (&["a.png", "-o", "out.png", "--samples", "0"], "--samples"),
        (
            &["a.png", "-o", "out.png", "--format", "heic"],
            "possible values: png",
        ),
        (
            &["a.png", "-o", "out.png", "--format", "jpeg"],
            "out.png means PNG",
        ),
        (&["a.png", "-o", "out.png", "--quality", "0"], "--quality"),
        (
            &["a.png", "-o", "out.png", "--resume", "--force"],
            "--force",
        ),
        (&["a.png", "-o", "out.png", "--json", "-q"], "--json"),
        (&["-", "a.png", "-o", "out"], "the only input"),
        (&["-", "-o", "out"], "has no name"),
        (&["a.png", "b.png", "-o", "-"], "one photograph"),
        (&["in", "-o", "-"], "one photograph"),
        (
            &["a.png", "-o", "-", "--compare"],
            "`--compare` writes a second file",
        ),
        (
            &["a.png", "-o", "-", "--samples", "2"],
            "`--samples` writes a second file",
        ),
        (&["a.png", "-o", "-", "--json"], "`--json`"),
    ];
    for (flags, words) in cases {
        let assert = deblur(&folder, flags).code(2);
        let said = stderr(&assert);
        assert!(said.contains(words), "{flags:?}: {said}");
        // Where the usage is told, it is the command's.
        let usage = said.matches("Usage: ").count();
        assert_eq!(
            said.matches("Usage: hi-diff deblur [").count()
                + said.matches("Usage: hi-diff deblur --").count(),
            usage,
            "{said}"
        );
        assert!(usage == 1 || said.contains("invalid value"), "{said}");
        assert_eq!(stdout(&assert), "", "{flags:?}");
    }
    assert!(!exists(&folder, "out.png") && !exists(&folder, "out"));
}

#[cfg(unix)]
#[test]
fn an_interruption_leaves_whole_files_and_resuming_does_the_rest() {
    use std::process::{Command, Stdio};
    const COUNT: usize = 40;
    let names: Vec<_> = (0..COUNT).map(|n| format!("in/{n}.png")).collect();
    let images: Vec<_> = names.iter().map(|name| (name.as_str(), 64, 64)).collect();
    let folder = folder(&images);
    let results = || -> Vec<_> {
        let entries = fs::read_dir(folder.path().join("out"));
        let names = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let before = results().len();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hi-diff"))
            .current_dir(&folder)
            .args([
                "deblur",
                "--backend",
                "flex",
                "--weights",
                TINY,
                "in",
                "-o",
                "out",
                "--resume",
                "-q",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait::until("two results", || {
            results().len() >= before + 2 || child.try_wait().unwrap().is_some()
        });
        let kill = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{}", text(&output.stderr));
        let (hidden, whole): (Vec<_>, Vec<_>) = results()
            .into_iter()
            .filter(|name| name != ".hi-diff.jsonl")
            .partition(|name| name.starts_with('.'));
        assert!(hidden.is_empty() || signal == "-KILL", "{hidden:?}");
        assert!(whole.len() < COUNT, "all {COUNT} were done before {signal}");
        for name in whole {
            assert_eq!(open(&folder, &format!("out/{name}")).width(), 64);
        }
    }
    deblur(&folder, &["in", "-o", "out", "--resume"]).success();
    for n in 0..COUNT {
        assert_eq!(open(&folder, &format!("out/{n}.png")).width(), 64);
    }
}

fn deblurrer() -> Deblurrer<Flex> {
    let device = Default::default();
    Deblurrer::new(HiDiff::load(TINY, &device).unwrap(), device)
}

fn difference(a: &Photograph, b: &Photograph) -> f32 {
    let pairs = a.rgb().iter().zip(b.rgb());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn plain_options_are_the_model_itself_bit_for_bit() {
    let deblurrer = deblurrer();
    let blurred = Photograph::from_rgb8(&picture(37, 26));
    let data = TensorData::new(blurred.rgb().to_vec(), [1, 3, 26, 37]);
    let tensor = Tensor::from_data(data, &Default::default());
    let direct = deblurrer.model().deblur(tensor, Noise::Seed(3)).unwrap();
    let direct = blurred
        .with_rgb(direct.into_data().into_vec().unwrap())
        .unwrap();
    assert_eq!(deblurrer.deblur(&blurred, 3).unwrap(), direct);
    let whole = DeblurOptions {
        seed: 3,
        tiling: Some(Tiling::new(40, 8).unwrap()),
        ..DeblurOptions::default()
    };
    let restored = deblurrer.deblur_with(&blurred, &whole).unwrap();
    assert_eq!((restored.photograph, restored.disagreement), (direct, None));
}

#[test]
fn tiles_differ_little_from_the_whole_and_less_the_larger_they_are() {
    let deblurrer = deblurrer();
    let blurred = Photograph::from_rgb8(&picture(130, 97));
    let whole = deblurrer.deblur(&blurred, 0).unwrap();
    let tiled = |size, overlap| {
        let options = DeblurOptions {
            tiling: Some(Tiling::new(size, overlap).unwrap()),
            ..DeblurOptions::default()
        };
        let tiled = deblurrer
            .deblur_with(&blurred, &options)
            .unwrap()
            .photograph;
        let squares = tiled
            .rgb()
            .iter()
            .zip(whole.rgb())
            .map(|(a, b)| (a - b).powi(2));
        let error = squares.sum::<f32>() / whole.rgb().len() as f32;
        error.sqrt()
    };
    let (small, large) = (tiled(32, 8), tiled(96, 32));
    assert!(
        0.0 < large && large < small && small < 0.05,
        "large {large}, small {small}"
    );
}

#[test]
fn all_options_together_are_the_mean_over_views_and_seeds() {
    let deblurrer = deblurrer();
    let blurred = Photograph::from_rgb8(&picture(33, 20));
    let tiling = Some(Tiling::new(16, 8).unwrap());
    let of = |seed, samples| {
        let options = DeblurOptions {
            seed,
            augment: true,
            samples,
            tiling,
        };
        deblurrer.deblur_with(&blurred, &options).unwrap()
    };
    let one = std::num::NonZeroUsize::MIN;
    let (a, b) = (of(u64::MAX, one), of(0, one)); // seeds go round
    let both = of(u64::MAX, one.saturating_add(1));
    let mean = a
        .photograph
        .rgb()
        .iter()
        .zip(b.photograph.rgb())
        .map(|(a, b)| (a + b) / 2.0);
    let mean = blurred.with_rgb(mean.collect()).unwrap();
    assert!(difference(&both.photograph, &mean) < 1e-6);
    let disagreement = both.disagreement.unwrap();
    assert_eq!(disagreement.deviation().len(), 33 * 20);
    assert!(
        disagreement.white() > 0.0
            && disagreement.white() <= difference(&a.photograph, &b.photograph)
    );
}

#[test]
fn parts_of_deblurring_refuse_what_does_not_fit() {
    let device = Default::default();
    let model = HiDiff::<Flex>::load(TINY, &device).unwrap();
    let [tokens, channels] = model.prior_shape;
    let blur = Tensor::<Flex, 4>::zeros([1, 3, 9, 9], &device);
    let fails = |result: hi_diff::Result<()>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    fails(model.restore(blur.clone(), None).map(drop), "prior");
    let other = Tensor::zeros([2, tokens, channels], &device);
    fails(
        model.restore(blur.clone(), Some(other)).map(drop),
        "prior: found shape [2, ",
    );
    let short = Tensor::zeros([1, tokens, channels - 1], &device);
    fails(
        model.prior_given(short, Noise::Seed(0)).map(drop),
        "condition: found shape [1, ",
    );
    let gray = Tensor::zeros([1, 1, 9, 9], &device);
    fails(
        model.condition(gray).map(drop),
        "blur: found shape [1, 1, 9, 9]",
    );

    let condition = Tensor::zeros([1, tokens, channels], &device);
    let mut without = model;
    without.denoiser = None;
    fails(
        without.prior_given(condition, Noise::Seed(0)).map(drop),
        "denoiser",
    );
}

/// Files that other programs wrote, of every kind that needs care, in one folder.
#[test]
fn no_picture_ends_the_others_or_is_done_in_silence_where_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    fs::create_dir(folder.path().join("in")).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(fixtures).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        fs::copy(entry.path(), folder.path().join("in").join(&name)).unwrap();
        names.push(name);
    }
    let refused = ["truncated.jpg", "gray-float32.tif"];
    let assert = deblur(&folder, &["in", "-o", "out", "--json"]).code(1);
    let lines = json_lines(&assert);
    let line = |name: &str| {
        let mut of = lines.iter().filter(|line| {
            line["input"]
                .as_str()
                .is_some_and(|input| input.ends_with(name))
        });
        of.next().unwrap_or_else(|| panic!("no line about {name}"))
    };
    for name in names.iter().filter(|name| !name.ends_with(".dng")) {
        let is_refused = refused.contains(&name.as_str());
        assert_eq!(
            exists(&folder, &format!("out/{name}")),
            !is_refused,
            "{name}"
        );
        assert_eq!(line(name)["error"].is_string(), is_refused, "{name}");
        if is_refused {
            assert!(stderr(&assert).contains(&format!("{name}: ")), "{name}");
        }
    }
    for name in ["damaged-in-the-middle.jpg", "no-end-marker.jpg"] {
        let warnings = line(name)["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        let said = format!("warning: in/{name}: ");
        assert!(stderr(&assert).replace('\\', "/").contains(&said), "{name}");
    }
    assert_eq!(line("animated.png")["pictures"], 2);
    // Raw photographs are counted in a folder, and refused where they are named.
    assert_eq!(lines[0]["passed_over"]["DNG"], 1, "{}", lines[0]);
    let raw = deblur(&folder, &["in/raw-like.dng", "-o", "raw.png"]).code(1);
    assert!(stderr(&raw).contains("raw"), "{}", stderr(&raw));
    // And nothing stands in the way of going on.
    let again = deblur(&folder, &["in", "-o", "out", "--resume"]).code(1);
    assert!(
        stderr(&again).contains(&format!("kept: {} results", names.len() - 3)),
        "{}",
        stderr(&again)
    );
}

#[test]
fn metadata_are_stripped_and_times_preserved_where_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/metadata.jpg");
    let input = folder.path().join("in.jpg");
    fs::copy(fixture, &input).unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::options().append(true).open(&input).unwrap();
    file.set_modified(past).unwrap();
    let carried = |name: &str| {
        let bytes = bytes(&folder, name);
        bytes.windows(7).any(|window| window == b"TestCam")
    };
    let time = |name: &str| {
        fs::metadata(folder.path().join(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    deblur(&folder, &["in.jpg", "-o", "kept.jpg", "--preserve-time"]).success();
    deblur(&folder, &["in.jpg", "-o", "bare.jpg", "--strip-metadata"]).success();
    assert!(carried("kept.jpg") && !carried("bare.jpg"));
    assert_eq!(time("kept.jpg"), past);
    assert!(time("bare.jpg") > past);
}

/// Attention of windows gives another result, of windows larger than the picture the same, and what is no choice is an error.
#[test]
fn attention_takes_its_statistics_from_windows() {
    let folder = folder(&[("blurred.png", 96, 72)]);
    let restored = |attention: &str| {
        let output = format!("{}.png", attention.replace(':', "-"));
        let arguments = ["blurred.png", "-o", &output, "--attention", attention];
        deblur(&folder, &arguments).success();
        bytes(&folder, &output)
    };
    let global = restored("global");
    assert!(restored("local:32") != global);
    assert!(restored("local:96") == global);
    assert!(restored("local") == global);
    // Where nothing has changed its colour, `auto` is `local`.
    assert!(restored("auto") == global);
    for wrong in ["local:", "local:7", "windows", "local:many"] {
        let arguments = ["blurred.png", "-o", "unwritten.png", "--attention", wrong];
        let refused = deblur(&folder, &arguments).code(2);
        assert!(stderr(&refused).contains("--attention"), "{wrong}");
    }
}

/// A model that was never trained changes a flat area's colour: `auto` then takes the whole picture's attention and says so. One
/// that was trained does not, and keeps its windows.
#[test]
fn auto_falls_back_where_a_flat_area_changes_its_colour() {
    let flat = Photograph::from_rgb8(&RgbImage::from_pixel(96, 96, Rgb([90, 120, 60])));
    let device = Default::default();
    let restored = |model: HiDiff<Flex>, attention: AttentionChoice| {
        let deblurrer = Deblurrer::new(model, device).with_attention(attention);
        deblurrer
            .deblur_with(&flat, &DeblurOptions::default())
            .unwrap()
    };
    let auto = AttentionChoice::Auto(32);
    let model: HiDiff<Flex> = hi_diff::Config::preset("tiny").unwrap().init(&device);
    StateDict::of_model(&model); // Burn draws weights when they are first asked for, and in each copy anew.
    let local = restored(model.clone(), AttentionChoice::Always(Attention::Local(32)));
    assert!(local.drift > MOST_DRIFT, "{}", local.drift);
    let fallen_back = restored(model.clone(), auto);
    assert_eq!(fallen_back.attention, Attention::Global);
    assert!(fallen_back.doubt(auto).is_some());
    let global = restored(model, AttentionChoice::Always(Attention::Global));
    assert!(fallen_back.photograph == global.photograph);

    let kept = restored(HiDiff::load(TINY, &device).unwrap(), auto);
    assert_eq!(kept.attention, Attention::Local(32));
    assert_eq!(kept.doubt(auto), None);
}

#[test]
fn weights_that_name_a_window_are_used_with_it() {
    let folder = folder(&[("blurred.png", 96, 64)]);
    let mut convert = Command::cargo_bin("hi-diff").unwrap();
    convert
        .current_dir(&folder)
        .args(["convert", TINY, "windowed.safetensors"]);
    let set = ["--set", "model.transformer.window=32"];
    convert.args(set).assert().success();

    let device = Default::default();
    let restored = |weights: &Path| {
        let model: HiDiff<Flex> = HiDiff::load(weights, &device).unwrap();
        let deblurrer = Deblurrer::new(model, device);
        let blurred = Photograph::from_rgb8(&picture(96, 64));
        let result = deblurrer.deblur(&blurred, 0).unwrap();
        (deblurrer.attention(), result.to_rgb8())
    };
    let (auto, local) = restored(&folder.path().join("windowed.safetensors"));
    assert_eq!(auto, AttentionChoice::Auto(32));
    let (always, global) = restored(Path::new(TINY));
    assert_eq!(always, AttentionChoice::Always(Attention::Global));
    assert!(local != global);
    // Also where level 1 has no block to ask.
    let text = "model.prior = \"none\"\nmodel.transformer = { dim = 8, blocks = [0, 1, 1, 1], window = 48 }";
    let config = hi_diff::Config::parse(text, "test").unwrap();
    assert_eq!(
        config.init::<Flex>(&device).attention(),
        Attention::Local(48)
    );

    for (choice, expected) in [(&[][..], &local), (&["--attention", "global"], &global)] {
        let arguments = ["blurred.png", "-o", "sharp.png", "--force"];
        let weights = ["--weights", "windowed.safetensors"];
        deblur(&folder, &[&arguments[..], &weights, choice].concat()).success();
        let found = image::open(folder.path().join("sharp.png")).unwrap();
        assert!(found.to_rgb8() == *expected, "{choice:?}");
    }
}

#[test]
fn several_samples_of_a_model_without_a_diffusion_are_an_error_that_says_so() {
    let folder = folder(&[("a.png", 24, 16)]);
    let bundled = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/weights/hi-diff-small.safetensors"
    );
    let arguments = ["a.png", "-o", "b.png", "--weights", bundled];
    deblur(&folder, &[&arguments[..], &["--samples", "2"]].concat())
        .code(1)
        .stderr(predicates::str::contains("leave out `--samples`"));
    assert!(!folder.path().join("b.png").exists());
    deblur(&folder, &arguments).success();
}
