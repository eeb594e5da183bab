//! `hi-diff deblur` as strongly and where that is wanted: `--strength`, `--mask`, `--region`, `--feather`, `--preview`.
#![cfg(all(feature = "cli", feature = "flex"))]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba};
use serde_json::Value;
use tempfile::TempDir;
use tiny::TINY;

/// `hi-diff deblur` in a folder.
fn deblur(folder: &TempDir, arguments: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("hi-diff").expect("the program is built");
    command.env_remove("RUST_BACKTRACE").current_dir(folder);
    command.args(["deblur", "--backend", "flex"]);
    if !arguments.contains(&"--weights") {
        command.args(["--weights", TINY]);
    }
    command.args(arguments).assert()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

fn json(assert: &Assert) -> Value {
    serde_json::from_slice(&assert.get_output().stdout).expect("one line of JSON")
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

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn save(folder: &TempDir, name: &str, image: impl Into<DynamicImage>) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

fn open(folder: &TempDir, name: &str) -> DynamicImage {
    image::open(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn bytes(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// sRGB's curve (IEC 61966-2-1), of values from 0 to 1.
fn light(value: f64) -> f64 {
    match value <= 0.040_45 {
        true => value / 12.92,
        false => ((value + 0.055) / 1.055).powf(2.4),
    }
}

/// Pictures of every kind of sample, in a folder `in`.
fn every_kind() -> (TempDir, [&'static str; 6]) {
    let folder = folder();
    let deep = |x: u32, y: u32| (x * 1500 + y * 900) as u16;
    save(&folder, "in/rgb8.png", picture(29, 19));
    save(
        &folder,
        "in/gray8.bmp",
        GrayImage::from_fn(24, 17, |x, y| Luma([((x * 9) ^ (y * 5)) as u8])),
    );
    save(
        &folder,
        "in/gray16.tiff",
        ImageBuffer::from_fn(21, 33, |x, y| Luma([deep(x, y)])),
    );
    save(
        &folder,
        "in/rgb16.png",
        ImageBuffer::from_fn(33, 9, |x, y| Rgb([deep(x, y), 500, deep(y, x)])),
    );
    let alpha = |x: u32, y: u32| Rgba([x as u8 * 9, 90, y as u8 * 9, (x * y) as u8]);
    save(&folder, "in/alpha.png", ImageBuffer::from_fn(25, 18, alpha));
    let fixture = |name| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/pictures")
            .join(name)
    };
    let linear = "gama-linear-16bit.png";
    fs::copy(fixture(linear), folder.path().join("in").join(linear)).unwrap();
    let names = [
        "rgb8.png",
        "gray8.bmp",
        "gray16.tiff",
        "rgb16.png",
        "alpha.png",
        linear,
    ];
    (folder, names)
}

#[test]
fn a_strength_of_0_is_the_photograph_and_of_1_the_result_exactly() {
    let (folder, names) = every_kind();
    for (out, flags) in [
        ("all", &[][..]),
        ("none", &["--strength", "0"]),
        ("one", &["--strength", "1"]),
    ] {
        deblur(&folder, &[&["in", "-o", out, "-q"], flags].concat()).success();
    }
    for name in names {
        let [before, all, none] =
            ["in", "all", "none"].map(|at| open(&folder, &format!("{at}/{name}")));
        assert!(before == none, "{name}");
        assert!(before != all, "{name}");
        assert!(
            bytes(&folder, &format!("all/{name}")) == bytes(&folder, &format!("one/{name}")),
            "{name}"
        );
    }
}

#[test]
fn photograph_and_result_are_mixed_in_linear_light_and_the_result_exceeded() {
    let folder = folder();
    let deep = |x: u32, y: u32| {
        let board = (x / 6 + y / 6) % 2 * 55_000;
        Rgb([board + x * 90, 4_000 + y * 2_000, board / 2 + 300].map(|value| value as u16))
    };
    save(&folder, "in.png", ImageBuffer::from_fn(40, 24, deep));
    let strengths = ["1", "0.5", "1.5"];
    for strength in strengths {
        let out = format!("{strength}.png");
        deblur(&folder, &["in.png", "-o", &out, "--strength", strength]).success();
    }
    let values = |name: &str| -> Vec<f64> {
        let image = open(&folder, name).to_rgb16();
        image
            .as_raw()
            .iter()
            .map(|&v| f64::from(v) / 65_535.0)
            .collect()
    };
    let before = values("in.png");
    let [one, half, more] = strengths.map(|strength| values(&format!("{strength}.png")));
    let mut changed = 0;
    for (at, before) in before.iter().enumerate() {
        for (strength, found) in [(0.5, half[at]), (1.5, more[at])] {
            let mixed = (1.0 - strength) * light(*before) + strength * light(one[at]);
            // The result is rounded to 16 bits, which in the dark is more for light.
            let difference = (light(found) - mixed.clamp(0.0, 1.0)).abs();
            assert!(
                difference < 5e-5,
                "{strength}: {before}, {}: {found}",
                one[at]
            );
        }
        let plain = (before + one[at]) / 2.0;
        changed += usize::from((half[at] - plain).abs() > 20.0 / 65_535.0);
    }
    assert!(
        changed > 20,
        "no more than {changed} values tell light from values"
    );
}

#[test]
fn black_of_a_mask_stays_white_is_the_result_and_gray_is_between() {
    let folder = folder();
    save(&folder, "in.png", picture(60, 40));
    // Black, half, white: columns of 20.
    let mask = GrayImage::from_fn(60, 40, |x, _| Luma([[0, 128, 255][x as usize / 20]]));
    save(&folder, "mask.png", mask);
    deblur(&folder, &["in.png", "-o", "all.png"]).success();
    let masked = |out: &str, flags: &[&str]| {
        let flags = [
            &["in.png", "-o", out, "--mask", "mask.png", "--compare"],
            flags,
        ]
        .concat();
        deblur(&folder, &flags).success();
        open(&folder, out).to_rgb8()
    };
    let [before, all] = ["in.png", "all.png"].map(|name| open(&folder, name).to_rgb8());
    let hard = masked("hard.png", &[]);
    let soft = masked("soft.png", &["--feather", "4"]);
    let share = 128.0 / 255.0;
    let mut softer = 0;
    for (x, y, pixel) in hard.enumerate_pixels() {
        let [before, all, soft] = [&before, &all, &soft].map(|image| *image.get_pixel(x, y));
        match x / 20 {
            0 => assert!(*pixel == before && soft == before, "{x}, {y}"),
            2 => assert_eq!(*pixel, all, "{x}, {y}"),
            _ => {
                for channel in 0..3 {
                    let of = |pixel: Rgb<u8>| light(f64::from(pixel[channel]) / 255.0);
                    let mixed = (1.0 - share) * of(before) + share * of(all);
                    let difference = (of(*pixel) - mixed).abs();
                    assert!(difference < 0.01, "{x}, {y}: {difference}");
                }
            }
        }
        softer += usize::from(soft != *pixel);
        assert!(
            soft == *pixel || (20..24).contains(&x) || (40..44).contains(&x),
            "{x}, {y}"
        );
    }
    assert!(softer > 40, "{softer} pixels");
    // Side by side with what it became.
    let both = open(&folder, "soft.compare.png").to_rgb8();
    let right = image::imageops::crop_imm(&both, 64, 0, 60, 40).to_image();
    assert!(right == soft);
}

#[test]
fn a_region_is_near_the_whole_result_and_the_rest_is_the_photograph() {
    let folder = folder();
    save(&folder, "in.png", picture(420, 300));
    deblur(&folder, &["in.png", "-o", "all.png"]).success();
    let region = ["--region", "200,120,60,50"];
    let line = json(
        &deblur(
            &folder,
            &[&["in.png", "-o", "part.png", "--json"], &region[..]].concat(),
        )
        .success(),
    );
    let computed = &line["computed"];
    let number = |key: &str| computed[key].as_u64().unwrap();
    assert!(
        number("x") < 200 && number("x") + number("width") > 260,
        "{line}"
    );
    assert!(
        number("y") < 120 && number("y") + number("height") > 170,
        "{line}"
    );
    assert!(number("width") * number("height") < 420 * 300 / 2, "{line}");
    assert_eq!(
        (&line["width"], &line["height"]),
        (&420.into(), &300.into())
    );
    let rate = line["megapixels_per_second"].as_f64().unwrap() * line["seconds"].as_f64().unwrap();
    assert!(
        (rate * 1e6 - (number("width") * number("height")) as f64).abs() < 1.0,
        "{line}"
    );

    let [before, all, part] =
        ["in.png", "all.png", "part.png"].map(|name| open(&folder, name).to_rgb8());
    let (mut changed, mut squares) = (0, 0.0);
    for (x, y, pixel) in part.enumerate_pixels() {
        let inside = (200..260).contains(&x) && (120..170).contains(&y);
        if !inside {
            assert_eq!(pixel, before.get_pixel(x, y), "{x}, {y}");
            continue;
        }
        changed += usize::from(pixel != before.get_pixel(x, y));
        let pairs = pixel.0.iter().zip(all.get_pixel(x, y).0);
        squares += pairs
            .map(|(a, b)| f64::from(a.abs_diff(b)).powi(2))
            .sum::<f64>();
    }
    assert!(changed > 2500, "{changed} of 3000 pixels");
    let deviation = (squares / 9000.0).sqrt();
    assert!(deviation < 1.5, "{deviation} levels from the whole result");

    // A mask that is white there computes the same.
    let white = |x: u32, y: u32| {
        Luma([if (200..260).contains(&x) && (120..170).contains(&y) {
            255u8
        } else {
            0
        }])
    };
    save(&folder, "mask.png", GrayImage::from_fn(420, 300, white));
    let flags = ["in.png", "-o", "masked.png", "--json", "--mask", "mask.png"];
    let masked = json(&deblur(&folder, &flags).success());
    assert_eq!(masked["computed"], line["computed"]);
    assert!(bytes(&folder, "masked.png") == bytes(&folder, "part.png"));

    // Of both, what both have; with all else that there is.
    let flags = [
        "in.png",
        "-o",
        "both.png",
        "--mask",
        "mask.png",
        "--region",
        "0,0,230,300",
        "--strength",
        "1.2",
        "--feather",
        "3",
        "--tta",
        "--samples",
        "2",
        "--tile",
        "64",
        "--overlap",
        "8",
    ];
    deblur(&folder, &flags).success();
    let map = open(&folder, "both.disagreement.png").to_luma8();
    let mut changed = 0;
    for (x, y, pixel) in open(&folder, "both.png").to_rgb8().enumerate_pixels() {
        let inside = (200..230).contains(&x) && (120..170).contains(&y);
        assert!(inside || pixel == before.get_pixel(x, y), "{x}, {y}");
        assert!(inside || map.get_pixel(x, y).0 == [0], "{x}, {y}");
        changed += usize::from(pixel != before.get_pixel(x, y));
    }
    assert!(changed > 1000, "{changed} of 1500 pixels");
    assert!(map.pixels().any(|pixel| pixel.0 == [255]));
}

#[test]
fn a_black_mask_changes_nothing_and_computes_nothing() {
    let folder = folder();
    save(&folder, "in.png", picture(40, 30));
    save(&folder, "mask.png", GrayImage::new(40, 30));
    deblur(
        &folder,
        &[
            "in.png",
            "-o",
            "out.png",
            "--mask",
            "mask.png",
            "--samples",
            "2",
        ],
    )
    .success();
    assert!(open(&folder, "in.png") == open(&folder, "out.png"));
    let map = open(&folder, "out.disagreement.png").to_luma8();
    assert!(map.pixels().all(|pixel| pixel.0 == [0]));
}

#[test]
fn a_mask_lies_on_the_photograph_as_it_is_seen() {
    let folder = folder();
    // Orientation 3 turns by 180°; the mask is of what is seen.
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/orientation-3.jpg");
    fs::copy(fixture, folder.path().join("in.jpg")).unwrap();
    deblur(&folder, &["in.jpg", "-o", "all.png"]).success();
    deblur(&folder, &["in.jpg", "-o", "none.png", "--strength", "0"]).success();
    let [all, none] = ["all.png", "none.png"].map(|name| open(&folder, name).to_rgb8());
    let (width, height) = all.dimensions();
    let left = |x: u32, _| Luma([if x < width / 2 { 255u8 } else { 0 }]);
    save(&folder, "mask.png", GrayImage::from_fn(width, height, left));
    deblur(&folder, &["in.jpg", "-o", "out.png", "--mask", "mask.png"]).success();
    let mut differing = [0; 2];
    for (x, y, pixel) in open(&folder, "out.png").to_rgb8().enumerate_pixels() {
        let half = usize::from(x >= width / 2);
        differing[half] += usize::from(pixel != none.get_pixel(x, y));
    }
    assert!(differing[0] > 0 && differing[1] == 0, "{differing:?}");
}

#[test]
fn each_frame_and_page_is_restored_as_strongly_and_where_that_is_asked() {
    let folder = folder();
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/animated.png");
    let input = folder.path().join("in.png");
    fs::copy(fixture, &input).unwrap();
    let frames = |name: &str| {
        let path = folder.path().join(name);
        hi_diff::picture::Frames::open(path, &Default::default()).unwrap()
    };
    let before = frames("in.png");
    assert!(before.photographs().len() > 1);
    deblur(&folder, &["in.png", "-o", "all.png"]).success();
    let width = before.photographs()[0].width();
    let region = format!("0,0,{},1", width / 2);
    deblur(&folder, &["in.png", "-o", "out.png", "--region", &region]).success();
    let (all, after) = (frames("all.png"), frames("out.png"));
    let mut changed = 0;
    for ((before, all), after) in before
        .photographs()
        .iter()
        .zip(all.photographs())
        .zip(after.photographs())
    {
        let [before, all, after] = [before, all, after].map(|one| one.to_rgb8());
        for (x, y, pixel) in after.enumerate_pixels() {
            let inside = y == 0 && (x as usize) < width / 2;
            let expected = if inside { &all } else { &before };
            let pairs = pixel.0.iter().zip(expected.get_pixel(x, y).0);
            let difference = pairs.map(|(a, b)| a.abs_diff(b)).max().unwrap();
            // The part is not the whole.
            assert!(
                difference <= if inside { 3 } else { 0 },
                "{x}, {y}: {difference}"
            );
            changed += usize::from(pixel != before.get_pixel(x, y));
        }
    }
    assert!(changed > 0);
}

#[test]
fn what_does_not_fit_is_an_error_of_that_photograph() {
    let folder = folder();
    save(&folder, "in/a.png", picture(40, 30));
    save(&folder, "in/b.png", picture(30, 40));
    save(
        &folder,
        "mask.png",
        GrayImage::from_pixel(40, 30, Luma([255])),
    );
    let assert = deblur(&folder, &["in", "-o", "out", "--mask", "mask.png"]).code(1);
    let said = stderr(&assert);
    assert!(folder.path().join("out/a.png").exists() && !folder.path().join("out/b.png").exists());
    for words in ["b.png: ", "30×40", "mask.png", "40×30"] {
        assert!(said.contains(words), "{said}");
    }
    let assert = deblur(&folder, &["in", "-o", "part", "--region", "5,5,30,20"]).code(1);
    let said = stderr(&assert);
    assert!(
        said.contains("b.png: the region 5,5,30,20 is not within its 30×40 pixels"),
        "{said}"
    );
    assert!(folder.path().join("part/a.png").exists());

    // The mask is no picture, is not there, or would be overwritten.
    fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    for (mask, words) in [
        ("notes.txt", "notes.txt: not an image"),
        ("gone.png", "gone.png: "),
    ] {
        let assert = deblur(&folder, &["in/a.png", "-o", "x.png", "--mask", mask]).code(1);
        assert!(stderr(&assert).contains(words), "{}", stderr(&assert));
    }
    let before = bytes(&folder, "mask.png");
    let flags = [
        "in/a.png", "-o", "mask.png", "--force", "--mask", "mask.png",
    ];
    let assert = deblur(&folder, &flags).code(1);
    assert!(
        stderr(&assert).contains("one of the inputs"),
        "{}",
        stderr(&assert)
    );
    assert!(bytes(&folder, "mask.png") == before);
}

#[test]
fn wrong_flags_are_wrong_usage() {
    let folder = folder();
    save(&folder, "in.png", picture(16, 16));
    fs::write(folder.path().join("clip.mp4"), "").unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["in.png", "--strength", "1.6"], "expected 0 to 1.5"),
        (&["in.png", "--strength", "nan"], "expected 0 to 1.5"),
        (&["in.png", "--strength", "much"], "--strength"),
        (
            &["in.png", "--region", "1,2,3"],
            "expected X,Y,WIDTH,HEIGHT",
        ),
        (&["in.png", "--feather", "3"], "`--mask` and `--region`"),
        (
            &["clip.mp4", "--mask", "in.png"],
            "`--mask` is for photographs",
        ),
        (
            &["clip.mp4", "--region", "0,0,8,8"],
            "`--region` is for photographs",
        ),
        (&["clip.mp4", "--preview"], "`--preview` is for photographs"),
        (
            &["in.png", "--preview", "-o", "-"],
            "`--preview` writes a second file",
        ),
    ];
    for (flags, words) in cases {
        let output: &[&str] = if flags.contains(&"-o") {
            &[]
        } else {
            &["-o", "out"]
        };
        let assert = deblur(&folder, &[flags, output].concat()).code(2);
        assert!(
            stderr(&assert).contains(words),
            "{flags:?}: {}",
            stderr(&assert)
        );
    }
}

#[test]
fn results_of_another_strength_mask_or_region_are_not_gone_on_with() {
    let folder = folder();
    save(&folder, "in/a.png", picture(24, 16));
    save(&folder, "in/b.png", picture(24, 16));
    let white = GrayImage::from_pixel(24, 16, Luma([255]));
    save(&folder, "mask.png", white.clone());
    let mask = ["--mask", "mask.png"];
    deblur(
        &folder,
        &[&["in", "-o", "out", "--resume"], &mask[..]].concat(),
    )
    .success();
    fs::remove_file(folder.path().join("out/b.png")).unwrap();
    let resumed =
        |flags: &[&str]| deblur(&folder, &[&["in", "-o", "out", "--resume"], flags].concat());
    for (flags, words) in [
        (
            &["--mask", "mask.png", "--strength", "0.5"][..],
            "strength was none, now 0.5",
        ),
        (
            &["--mask", "mask.png", "--feather", "2"],
            "feather was none, now 2",
        ),
        (
            &["--mask", "mask.png", "--region", "0,0,9,9"],
            "region was none, now 0,0,9,9",
        ),
        (&[], "mask was "),
    ] {
        let assert = resumed(flags).code(1);
        assert!(
            stderr(&assert).contains(words),
            "{flags:?}: {}",
            stderr(&assert)
        );
    }
    let mut other = white.clone();
    other.put_pixel(3, 3, Luma([0]));
    save(&folder, "mask.png", other);
    assert!(stderr(&resumed(&mask).code(1)).contains("mask was "));
    save(&folder, "mask.png", white);
    let assert = resumed(&mask).success();
    assert!(
        stderr(&assert).contains("kept: 1 result"),
        "{}",
        stderr(&assert)
    );
}

#[test]
fn a_preview_is_there_first_and_counts_as_a_result() {
    let folder = folder();
    save(&folder, "in/large.png", picture(1300, 900));
    let small = picture(40, 30);
    let clear = ImageBuffer::from_fn(40, 30, |x, y| {
        let [red, green, blue] = small.get_pixel(x, y).0;
        Rgba([red, green, blue, (x * 6) as u8])
    });
    save(&folder, "in/small.png", clear);
    let flags = ["in", "-o", "out", "--preview", "--region", "8,8,20,20"];
    let assert = deblur(&folder, &flags).success();
    let said = stderr(&assert).replace('\\', "/");
    assert!(said.contains("preview: out/large.preview.png"), "{said}");

    let before = open(&folder, "in/large.png").to_rgb8();
    let preview = open(&folder, "out/large.preview.png").to_rgb8();
    let (width, height) = preview.dimensions();
    assert!(
        (990_000..=1_000_000).contains(&(width * height)),
        "{width}×{height}"
    );
    let smaller = image::imageops::thumbnail(&before, width, height);
    let difference = |x: u32, y: u32| {
        let pairs = smaller
            .get_pixel(x, y)
            .0
            .into_iter()
            .zip(preview.get_pixel(x, y).0);
        pairs.map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / 3.0
    };
    let all: f64 = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .map(|(x, y)| difference(x, y))
        .sum();
    assert!(all / f64::from(width * height) < 12.0, "another picture");
    // A small photograph's preview is its result.
    assert!(open(&folder, "out/small.preview.png") == open(&folder, "out/small.png"));

    let again = deblur(&folder, &[&flags[..], &["--resume"]].concat()).success();
    assert!(
        stderr(&again).contains("kept: 2 results"),
        "{}",
        stderr(&again)
    );
    let line = json(
        &deblur(
            &folder,
            &["in/small.png", "-o", "x.png", "--preview", "--json"],
        )
        .success(),
    );
    assert_eq!(line["preview"], "x.preview.png");
    assert_eq!(line.get("computed"), None);
    assert_eq!(line.get("strength"), None);
}
