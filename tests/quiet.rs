//! `-q` prints errors only: nothing where all is well.
#![cfg(all(feature = "cli", feature = "train", feature = "flex"))]

mod small;

use std::fs;
use std::path::Path;
use std::process::Command;

use small::{MODEL, pairs};
use tempfile::TempDir;

const TRAINING: &str = r#"
[data]
validation_share = 0.25
[training.validation]
every = 1
[training.stage_one]
iterations = 2
patches = [{ patch = 16, batch = 1, iterations = 2 }]
[training.stage_two]
iterations = 2
patches = [{ patch = 16, batch = 1, iterations = 2 }]
"#;

fn prints_nothing(folder: &Path, command: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_hi-diff"))
        .current_dir(folder)
        .args(command.split(' '))
        .arg("-q")
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{command}: {err}");
    assert_eq!((out.as_str(), err.as_str()), ("", ""), "{command}");
}

#[test]
fn quiet_commands_print_nothing_where_all_is_well() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    pairs(&folder.join("pairs"));
    fs::write(folder.join("config.toml"), format!("{MODEL}{TRAINING}")).unwrap();
    for command in [
        "synth pairs/target made",
        "crop made crops --size 16 --overlap 8",
        "metrics made/input made/target --protocol gopro",
        "deblur --backend flex pairs/input -o sharp",
        "eval --backend flex --data pairs --out evaluation",
        "eval --backend flex --data pairs --out evaluation --resume",
        "train --backend flex --config config.toml --data pairs --out run",
        "ablate --backend flex --config config.toml --data pairs --rows hi-diff --budget 2 --patch 16 --batch 1",
    ] {
        prints_nothing(folder, command);
    }
    // Checkpoints that cannot be used are worth a warning, and no more.
    let checkpoints = fs::read_dir(folder.join("run/stage-two/checkpoint")).unwrap();
    for file in checkpoints.map(|entry| entry.unwrap().path()) {
        if file.to_string_lossy().contains("optim-") {
            fs::write(file, "").unwrap();
        }
    }
    prints_nothing(
        folder,
        "train --backend flex --config config.toml --data pairs --out run --resume",
    );
}
