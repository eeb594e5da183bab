//! The memory that a photograph is said to need is the memory that it takes, and what does not fit is done in tiles or
//! refused before it is computed.
#![cfg(all(feature = "cli", feature = "flex", target_os = "linux"))]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::process::{Command, Output};

use hi_diff::Config;
use hi_diff::inference::{DeblurOptions, Tiling, need};
use image::{Rgb, RgbImage};
use tempfile::TempDir;
use tiny::TINY;

/// A folder with a picture of this size.
fn folder(width: u32, height: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let picture = RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8])
    });
    picture.save(folder.path().join("in.png")).unwrap();
    folder
}

/// `hi-diff deblur in.png -o out.png` with a tiny model's weights on two threads, in an address space of so many bytes.
fn deblur(folder: &TempDir, limit: Option<u64>, flags: &[&str]) -> Output {
    let limit = limit.map_or("unlimited".into(), |bytes| (bytes / 1024).to_string());
    let script =
        format!("ulimit -v {limit} && exec \"$0\" deblur in.png -o out.png --force \"$@\"");
    Command::new("sh")
        .args([
            "-c",
            &script,
            env!("CARGO_BIN_EXE_hi-diff"),
            "--backend",
            "flex",
            "--weights",
            TINY,
        ])
        .args(flags)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "2")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program's peak in bytes, or what it has with the weights loaded for a picture of a few pixels.
fn peak(folder: &TempDir, flags: &[&str]) -> u64 {
    let output = deblur(folder, None, &[flags, &["--json"]].concat());
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    line["peak_memory_bytes"].as_u64().unwrap()
}

#[test]
fn the_need_of_a_photograph_is_what_it_takes() {
    let base = peak(&folder(8, 8), &[]);
    let (width, height) = (1280, 720);
    let picture = folder(width, height);
    let config = Config::preset("tiny").unwrap();
    for tile in [0, 256] {
        let (mut flags, mut options) = (Vec::new(), DeblurOptions::default());
        let size = tile.to_string();
        if tile > 0 {
            flags = vec!["--tile", size.as_str()];
            options.tiling = Some(Tiling::new(tile, 32).unwrap());
        }
        let taken = (peak(&picture, &flags) - base) as f64;
        let need = need(&config, height as usize, width as usize, None, &options) as f64;
        let more = 100.0 * (need / taken - 1.0);
        let line = format!("tile {tile}: needs {need:.0} bytes, takes {taken:.0}: {more:+.1} %");
        println!("{line}");
        assert!((-5.0..=35.0).contains(&more), "{line}");
    }
}

/// From far too little to enough: never an end by a signal, and a result that is said to be in tiles or is the whole one.
#[test]
fn what_does_not_fit_is_done_in_tiles_or_refused_and_never_killed() {
    let picture = folder(1152, 896);
    let whole = deblur(&picture, None, &["-q"]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let expected = fs::read(picture.path().join("out.png")).unwrap();
    let mut seen = [0; 3];
    for megabytes in [400, 500, 560, 680] {
        fs::remove_file(picture.path().join("out.png")).ok();
        let output = deblur(&picture, Some(megabytes << 20), &[]);
        let (said, code) = (stderr(&output), output.status.code());
        let result = fs::read(picture.path().join("out.png")).ok();
        let kind = match (code, result) {
            (Some(0), Some(result)) if said.is_empty() => {
                assert!(result == expected, "{megabytes} MiB");
                2
            }
            (Some(0), Some(_)) => {
                assert!(
                    said.contains("in.png: needs ") && said.contains("done in tiles of "),
                    "{said}"
                );
                1
            }
            (Some(1), None) => {
                assert!(
                    said.contains("in.png: needs ") && said.contains("are free"),
                    "{said}"
                );
                0
            }
            other => panic!("{megabytes} MiB: {:?}, {said}", other.0),
        };
        println!("{megabytes} MiB: {code:?} {said}");
        seen[kind] += 1;
    }
    assert!(seen[1] > 0 && seen[2] > 0, "{seen:?}");
}

#[test]
fn a_tile_that_does_not_fit_is_refused_with_one_that_does() {
    let picture = folder(1152, 896);
    let flags = ["--tile", "1024"];
    let said = (440..=640).step_by(40).find_map(|megabytes| {
        let output = deblur(&picture, Some(megabytes << 20), &flags);
        let said = stderr(&output);
        said.contains("` fits").then_some((megabytes, said))
    });
    let (megabytes, said) = said.expect("a limit under which smaller tiles fit");
    let (_, tile) = said.split_once("`--tile ").unwrap();
    let (tile, _) = tile.split_once('`').unwrap();
    let output = deblur(&picture, Some(megabytes << 20), &["--tile", tile]);
    assert!(
        output.status.success(),
        "--tile {tile}: {}",
        stderr(&output)
    );
}
