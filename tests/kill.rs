//! A training that is killed again and again, wherever it happens to be, ends in the weights of one left alone.
#![cfg(all(feature = "cli", feature = "train", feature = "flex"))]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

const CONFIG: &str = r#"
[model]
embed_dim = 4
[model.transformer]
dim = 8
blocks = [1, 1, 1, 1]
refinement_blocks = 1
expansion = 2.0
[model.latent_encoder]
blocks = 1
[model.denoiser]
variant = "mixer"
hidden = 16
blocks = 1
[diffusion]
timesteps = 2
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

fn pairs(folder: &Path) {
    for side in ["input", "target"] {
        std::fs::create_dir_all(folder.join(side)).unwrap();
    }
    for index in 0..4_u32 {
        let sharp = RgbImage::from_fn(40, 32, |x, y| {
            let cell = 3 + index;
            match (x / cell + y / cell) % 2 {
                0 => Rgb([240, 40 * index as u8, 90]),
                _ => Rgb([20, 200, 30 + 50 * index as u8]),
            }
        });
        let name = format!("{index}.png");
        let blur = image::imageops::blur(&sharp, 1.5);
        blur.save(folder.join("input").join(&name)).unwrap();
        sharp.save(folder.join("target").join(&name)).unwrap();
    }
}

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
    std::fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
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
    let mut random = StdRng::seed_from_u64(
        Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()),
    );
    let (mut kills, mut stages) = (0, [0, 0]);
    loop {
        let mut child = start(folder.path(), "killed");
        let life = whole.mul_f64(random.random_range(0.01..0.22));
        let born = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if born.elapsed() > life {
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
        let second = folder.path().join("killed/stage-one.safetensors").exists();
        stages[usize::from(second)] += 1;
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
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 2) {
        std::thread::sleep(Duration::from_millis(1));
    }
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
    finish(start(folder.path(), "interrupted"));
    let weights =
        |out: &str| std::fs::read(folder.path().join(out).join("model.safetensors")).unwrap();
    assert!(weights("interrupted") == weights("whole"));
}
