//! Pairs made of folders of photographs: names, randomness, failures, and what is never overwritten.
#![cfg(feature = "image")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hi_diff::data::synthesis::{BlurModel, SynthesisOptions, SynthesisReport, synthesize_folder};
use hi_diff::{Error, Result};
use image::{Rgb, RgbImage};
use tempfile::TempDir;
use walkdir::WalkDir;

fn photographs(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in names.iter().enumerate() {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_fn(48, 32, |x, y| {
            Rgb([(x * 5) as u8, (y * 7) as u8, (i * 40) as u8])
        });
        image.save(path).unwrap();
    }
    folder
}

fn run(sharp: &Path, out: &Path, options: &SynthesisOptions) -> Result<SynthesisReport> {
    synthesize_folder(sharp, out, &BlurModel::default(), options, &|_, _| ())
}

/// Relative paths and contents of all files below `folder`.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            (
                entry.path().strip_prefix(folder).unwrap().into(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn pairs_keep_the_photographs_structure_and_the_target_is_the_photograph() {
    let (sharp, out) = (
        photographs(&["a.png", "trip/b.png"]),
        tempfile::tempdir().unwrap(),
    );
    let report = run(sharp.path(), out.path(), &SynthesisOptions::default()).unwrap();
    assert_eq!((report.pairs, report.failures.len()), (2, 0));
    let names: Vec<_> = contents(out.path()).into_keys().collect();
    assert_eq!(
        names,
        [
            "input/a.png",
            "input/trip/b.png",
            "target/a.png",
            "target/trip/b.png"
        ]
        .map(PathBuf::from)
    );
    let open = |path: PathBuf| image::open(path).unwrap().into_rgb8();
    assert!(open(out.path().join("target/trip/b.png")) == open(sharp.path().join("trip/b.png")));
    assert!(open(out.path().join("input/a.png")) != open(sharp.path().join("a.png")));
}

#[test]
fn neither_threads_nor_company_change_a_pair() {
    let (all, one) = (
        photographs(&["a.png", "b.png", "c.png"]),
        photographs(&["a.png"]),
    );
    let with = |sharp: &Path, threads| {
        let out = tempfile::tempdir().unwrap();
        let options = SynthesisOptions {
            seed: 4,
            count: 2,
            ..Default::default()
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| run(sharp, out.path(), &options)).unwrap();
        contents(out.path())
    };
    let serial = with(all.path(), 1);
    assert!(serial == with(all.path(), 4));
    for (path, bytes) in with(one.path(), 2) {
        assert!(
            serial[&path] == bytes,
            "{} depends on the other photographs",
            path.display()
        );
    }
    assert!(serial[Path::new("input/a_0.png")] != serial[Path::new("input/a_1.png")]);
}

#[test]
fn a_file_that_is_no_image_is_reported_and_the_others_are_done() {
    let (sharp, out) = (
        photographs(&["a.png", "c.png"]),
        tempfile::tempdir().unwrap(),
    );
    fs::write(sharp.path().join("b.jpg"), "no image").unwrap();
    let heard = std::sync::Mutex::new(Vec::new());
    let options = SynthesisOptions {
        count: 2,
        ..Default::default()
    };
    let hear = |done, total| heard.lock().unwrap().push((done, total));
    let report = synthesize_folder(
        sharp.path(),
        out.path(),
        &BlurModel::default(),
        &options,
        &hear,
    )
    .unwrap();
    assert_eq!((report.pairs, report.failures.len()), (4, 1));
    assert!(
        report.failures[0].to_string().contains("b.jpg"),
        "{}",
        report.failures[0]
    );
    assert_eq!(heard.into_inner().unwrap().iter().max(), Some(&(6, 6)));
}

#[test]
fn what_is_no_photograph_by_name_is_passed_over_and_counted() {
    let (sharp, out) = (photographs(&["a.png"]), tempfile::tempdir().unwrap());
    for name in ["b.jxl", "c.dng", "d.jxl", "Thumbs.db", ".hidden"] {
        fs::write(sharp.path().join(name), "no image").unwrap();
    }
    let options = SynthesisOptions::default();
    let report = run(sharp.path(), out.path(), &options).unwrap();
    assert_eq!((report.pairs, report.failures.len()), (1, 0));
    assert_eq!(
        report.passed_over.to_string(),
        "JPEG XL 2, DNG 1, other files 1"
    );
    // A photograph that is named is read whatever its name is.
    let named = sharp.path().join("named");
    fs::copy(sharp.path().join("a.png"), &named).unwrap();
    let report = run(&named, &out.path().join("one"), &options).unwrap();
    assert_eq!((report.pairs, report.passed_over.is_empty()), (1, true));
    fs::remove_file(sharp.path().join("a.png")).unwrap();
    let error = run(sharp.path(), out.path(), &options).unwrap_err();
    assert!(
        error.to_string().contains("expected PNG") && error.to_string().contains("JPEG XL 2: "),
        "{error}"
    );
}

#[test]
fn existing_outputs_stay_unless_forced() {
    let (sharp, out) = (photographs(&["a.png"]), tempfile::tempdir().unwrap());
    let options = SynthesisOptions::default();
    run(sharp.path(), out.path(), &options).unwrap();
    let before = contents(out.path());
    let other = SynthesisOptions { seed: 9, ..options };
    let error = run(sharp.path(), out.path(), &other).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(contents(out.path()) == before);
    run(
        sharp.path(),
        out.path(),
        &SynthesisOptions {
            force: true,
            ..other
        },
    )
    .unwrap();
    assert!(contents(out.path()) != before);
}

#[test]
fn photographs_are_never_overwritten_even_when_forced() {
    let folder = photographs(&["target/a.png"]);
    let before = contents(folder.path());
    let options = SynthesisOptions {
        force: true,
        ..Default::default()
    };
    let error = run(&folder.path().join("target"), folder.path(), &options).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(contents(folder.path()) == before);
}

#[test]
fn an_output_folder_among_the_photographs_is_not_read_again() {
    let folder = photographs(&["a.png"]);
    let out = folder.path().join("pairs");
    run(folder.path(), &out, &SynthesisOptions::default()).unwrap();
    let options = SynthesisOptions {
        force: true,
        ..Default::default()
    };
    assert_eq!(run(folder.path(), &out, &options).unwrap().pairs, 1);
}

#[test]
fn two_photographs_of_one_name_are_an_error() {
    let folder = photographs(&["a.png", "a.bmp"]);
    let error = run(
        folder.path(),
        &folder.path().join("out"),
        &SynthesisOptions::default(),
    )
    .unwrap_err();
    assert!(matches!(error, Error::Data { .. }), "{error}");
}

#[test]
fn large_photographs_are_shrunk_to_their_longer_side() {
    let (sharp, out) = (photographs(&["a.png"]), tempfile::tempdir().unwrap());
    let options = SynthesisOptions {
        max_size: Some(24),
        ..Default::default()
    };
    run(sharp.path(), out.path(), &options).unwrap();
    for role in ["input", "target"] {
        let size = image::image_dimensions(out.path().join(role).join("a.png")).unwrap();
        assert_eq!(size, (24, 16), "{role}");
    }
}

#[test]
fn options_of_zero_are_errors_that_name_them() {
    let folder = photographs(&["a.png"]);
    for (key, options) in [
        (
            "count",
            SynthesisOptions {
                count: 0,
                ..Default::default()
            },
        ),
        (
            "max_size",
            SynthesisOptions {
                max_size: Some(0),
                ..Default::default()
            },
        ),
    ] {
        let error = run(folder.path(), &folder.path().join("out"), &options)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
}

#[test]
fn a_missing_or_empty_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let options = SynthesisOptions::default();
    let missing = run(&folder.path().join("none"), folder.path(), &options).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    let empty = run(folder.path(), &folder.path().join("out"), &options).unwrap_err();
    assert!(matches!(empty, Error::Data { .. }), "{empty}");
}
