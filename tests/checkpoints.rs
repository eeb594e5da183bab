//! Weights out of a run's checkpoints, as users take them.
#![cfg(all(feature = "cli", feature = "train", feature = "flex"))]

mod small;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use small::{MODEL, pairs};
use tempfile::TempDir;

/// With an average that is far from the weights, and a stage one that is best before its end.
const TRAINING: &str = r#"
[data]
validation_share = 0.25
[training]
ema = 0.9
[training.validation]
every = 2
images = 1
pictures = 0
keep = 2
[training.stage_one]
iterations = 8
learning_rate = { initial = 1e-3, periods = [2, 6], restart_weights = [1.0, 30.0], minima = [1e-5, 1e-5] }
patches = [{ patch = 16, batch = 1, iterations = 5 }]
[training.stage_two]
iterations = 3
patches = [{ patch = 16, batch = 1, iterations = 5 }]
"#;

fn hi_diff() -> Command {
    let mut command = Command::cargo_bin("hi-diff").expect("the program is built");
    command.env_remove("RUST_BACKTRACE");
    command
}

/// A run of both stages in the folder.
fn run(folder: &Path, changes: &[&str]) -> PathBuf {
    pairs(&folder.join("pairs"));
    let config = folder.join("small.toml");
    fs::write(&config, format!("{MODEL}{TRAINING}")).unwrap();
    let mut command = hi_diff();
    command.arg("train").arg("--config").arg(&config);
    for change in changes {
        command.args(["--set", change]);
    }
    let out = folder.join("run");
    command.arg("--data").arg(folder.join("pairs"));
    command.arg("--out").arg(&out).assert().success();
    out
}

/// `hi-diff convert FROM out.safetensors FLAGS`, and what it wrote.
fn converted(from: &Path, flags: &[&str]) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("out.safetensors");
    hi_diff()
        .arg("convert")
        .arg(from)
        .arg(&to)
        .args(flags)
        .assert()
        .success();
    fs::read(to).unwrap()
}

/// Every file of a folder with what it holds.
fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => files.push((path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn any_checkpoint_of_a_run_becomes_a_weight_file() {
    let folder = TempDir::new().unwrap();
    let out = run(folder.path(), &[]);
    let (one, two) = (out.join("stage-one"), out.join("stage-two"));
    let before = content(&out);
    let model = fs::read(out.join("model.safetensors")).unwrap();
    let stage_one = fs::read(out.join("stage-one.safetensors")).unwrap();
    assert!(converted(&out, &[]) == model, "the last of stage two");
    assert!(converted(&two, &["--checkpoint", "last"]) == model);
    assert!(converted(&two, &["--checkpoint", "3"]) == model);
    assert!(converted(&two.join("checkpoint/model-2.mpk"), &[]) == model);
    assert!(
        converted(&one, &[]) == stage_one,
        "the last of stage one, with LE"
    );

    let best = converted(&one, &["--checkpoint", "best"]);
    assert!(best != stage_one);
    assert!(converted(&one, &["--checkpoint", "2"]) == best);
    assert!(converted(&one.join("checkpoint/model-1.mpk"), &[]) == best);
    let raw = converted(&one, &["--checkpoint", "2", "--no-average"]);
    assert!(raw.len() == best.len() && raw != best);
    assert_eq!(content(&out), before, "the run is as it was");

    // What comes out deblurs, here with half as many steps.
    let weights = folder.path().join("now.safetensors");
    fs::write(&weights, best).unwrap();
    hi_diff()
        .arg("deblur")
        .arg(folder.path().join("pairs/input/0.png"))
        .arg("-o")
        .arg(folder.path().join("deblurred.png"))
        .args(["--set", "diffusion.timesteps=1"])
        .arg("--weights")
        .arg(&weights)
        .assert()
        .success();
}

#[test]
fn the_best_of_a_run_is_its_result_where_that_is_wanted() {
    let folder = TempDir::new().unwrap();
    let out = run(folder.path(), &["training.result=best", "training.ema=0"]);
    for (from, result) in [("", "model"), ("stage-one", "stage-one")] {
        let result = fs::read(out.join(format!("{result}.safetensors"))).unwrap();
        assert!(
            converted(&out.join(from), &["--checkpoint", "best"]) == result,
            "{from}"
        );
    }
}

#[test]
fn a_checkpoint_that_is_not_there_or_damaged_is_an_error_that_says_so() {
    let folder = TempDir::new().unwrap();
    let out = run(folder.path(), &[]);
    let one = out.join("stage-one");
    let to = folder.path().join("out.safetensors");
    let refused = |from: &Path, flags: &[&str], parts: &[&str]| {
        let assert = hi_diff()
            .arg("convert")
            .arg(from)
            .arg(&to)
            .args(flags)
            .assert();
        let assert = assert.code(1);
        let stderr = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        for part in parts {
            assert!(stderr.contains(part), "{part} is missing in: {stderr}");
        }
        assert!(!to.exists());
    };
    let there = "after iterations 2 (best), 6, 8";
    refused(
        &one,
        &["--checkpoint", "7"],
        &["no checkpoint 7 of stage one", there],
    );
    refused(&out, &["--config", "tiny"], &["--config"]);
    refused(&out, &["--set", "model.group=2"], &["--set"]);
    let weights = out.join("model.safetensors");
    refused(&weights, &["--checkpoint", "best"], &["no training run"]);
    refused(
        &weights,
        &["--set", "model.transformer.dim=16"],
        &["does not fit"],
    );
    hi_diff()
        .arg("convert")
        .arg(&out)
        .arg(&to)
        .args(["--checkpoint", "newest"])
        .assert()
        .code(2)
        .stderr(contains("last, best or an iteration"));

    // The last falls back to the one before, with a warning; what was named does not.
    let newest = one.join("checkpoint/model-4.mpk");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    refused(&newest, &[], &["model-4.mpk", "damaged"]);
    refused(&one, &["--checkpoint", "8"], &["model-4.mpk", "damaged"]);
    hi_diff()
        .arg("convert")
        .arg(&one)
        .arg(&to)
        .assert()
        .success()
        .stdout(contains("stage one after iteration 6"))
        .stderr(contains("damaged").and(contains("the checkpoint before")));
    fs::remove_file(&to).unwrap();
    // A run of which stage two has not begun gives stage one, and one that has none an error.
    fs::remove_dir_all(out.join("stage-two")).unwrap();
    assert!(converted(&out, &["--checkpoint", "2"]) == converted(&one, &["--checkpoint", "best"]));
    fs::remove_dir_all(one.join("checkpoint")).unwrap();
    refused(&out, &[], &["no checkpoint has been written yet"]);
}
