//! A training that is killed again and again, wherever it happens to be, ends in the weights of one left alone.
#![cfg(all(feature = "cli", feature = "train", feature = "flex"))]

mod small;

#[path = "common/wait.rs"]
mod wait;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use small::{MODEL, pairs};
use tempfile::TempDir;

const TRAINING: &str = r#"
[data]
validation_share = 0.25
[training]
seed = 3
ema = 0.9
[training.validation]
every = 4
images = 1
log_every = 2
keep = 1
[training.stage_one]
iterations = 40
patches = [{ patch = 16, batch = 2, iterations = 20 }, { patch = 24, batch = 1, iterations = 20 }]
[training.stage_two]
iterations = 40
patches = [{ patch = 16, batch = 2, iterations = 40 }]
"#;

fn start(folder: &Path, out: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hi-diff"))
        .current_dir(folder)
        .args(["train", "--config", "config.toml", "--data", "pairs"])
        .args(["--backend", "flex", "--resume", "--out", out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn prepare() -> TempDir {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = format!("{MODEL}{TRAINING}");
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    folder
}

#[test]
fn a_killed_training_resumes_bit_for_bit() {
    let folder = prepare();
    let begun = Instant::now();
    finish(start(folder.path(), "whole"));
    let whole = begun.elapsed();
    let weights =
        |out: &str, name: &str| std::fs::read(folder.path().join(out).join(name)).unwrap();

    // Each life is long enough for some progress and short against the whole, so that many kills fall all over both
    // stages, and before, between and after them.
    let seed = u64::from(std::process::id());
    println!("lives by seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut kills, mut stages) = (0, [0, 0]);
    let reached = |file: &str| folder.path().join("killed").join(file).exists();
    loop {
        let mut child = start(folder.path(), "killed");
        let life = whole.mul_f64(random.random_range(0.01..0.22));
        let born = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            // The first time that a stage is seen its life ends at once, so that neither goes without.
            let unseen = match reached("stage-one.safetensors") {
                true => stages[1] == 0,
                false => stages[0] == 0 && reached("log.jsonl"),
            };
            if born.elapsed() > life || unseen {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if let Some(status) = ended {
            assert!(status.success(), "after {kills} kills");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        stages[usize::from(reached("stage-one.safetensors"))] += 1;
        if kills == 60 {
            // Enough; lives that are too short for this machine must not go on for ever.
            finish(start(folder.path(), "killed"));
            break;
        }
    }
    println!(
        "{kills} kills: {} in stage one, {} in stage two",
        stages[0], stages[1]
    );
    assert!(
        stages.iter().all(|&kills| kills > 0),
        "{stages:?} kills in the stages"
    );
    for name in ["stage-one.safetensors", "model.safetensors"] {
        assert!(
            weights("killed", name) == weights("whole", name),
            "{name} after {kills} kills"
        );
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_says_how_to_go_on() {
    let folder = prepare();
    finish(start(folder.path(), "whole"));
    let child = start(folder.path(), "interrupted");
    let log = folder.path().join("interrupted/log.jsonl");
    wait::until("the log", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 2)
    });
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("stopping after this step"), "{errors}");
    assert!(errors.contains("is saved up to iteration"), "{errors}");
    assert!(errors.contains("--resume goes on from there"), "{errors}");
    let page = || std::fs::read_to_string(folder.path().join("interrupted/report.html")).unwrap();
    let command = "hi-diff train --config config.toml --data pairs --backend flex --resume";
    assert!(page().contains("Stage one: ") && page().contains(command));
    assert!(!page().contains("Stage two: 40 of 40 iterations"));
    finish(start(folder.path(), "interrupted"));
    for part in [
        "Stage one: 40 of 40 iterations",
        "Stage two: 40 of 40 iterations",
        "2 calls",
        "data:image/jpeg",
    ] {
        assert!(page().contains(part), "{part}");
    }
    let weights =
        |out: &str| std::fs::read(folder.path().join(out).join("model.safetensors")).unwrap();
    assert!(weights("interrupted") == weights("whole"));
}
