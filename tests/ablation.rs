//! The paper's ablations: what the rows cost, and a study from the command line, stopped and resumed.
#![cfg(all(feature = "train", feature = "flex"))]

use burn::backend::Flex;
use hi_diff::ablation::Row;
use hi_diff::model::Cost;
use hi_diff::{Config, HiDiff};

fn cost(row: Row) -> Cost {
    let base = Config::preset("hi-diff-2").unwrap();
    let config = row.config(&base).unwrap();
    let model: HiDiff<Flex> = config.init(&Default::default());
    model.summary(256, 256).total
}

#[test]
fn rows_of_hi_diff_2_cost_what_the_paper_says() {
    let expected = [19_132_158, 21_978_340, 23_985_583, 23_985_583];
    for (row, params) in Row::TABLE.into_iter().zip(expected) {
        let cost = cost(row);
        assert_eq!(cost.params, params, "parameters of {row}");
        let paper = row.published().unwrap();
        let rounded = (cost.params as f64 / 1e4).round() / 100.0;
        assert_eq!(rounded, paper.params_m, "millions of parameters of {row}");
        // The paper counts one of the denoiser's passes, which are 2.3 million each.
        let difference = cost.macs as f64 / 1e9 - paper.macs_g;
        assert!(difference.abs() < 0.025, "{row}: {difference:+.4} GMACs");
    }
}

#[test]
fn each_reverse_step_costs_a_pass_of_the_denoiser() {
    let [two, four, eight] = [2, 4, 8].map(|steps| cost(Row::Timesteps(steps)).macs);
    assert_eq!(eight - four, 2 * (four - two));
    assert_eq!(cost(Row::Timesteps(8)), cost(Row::HiDiff));
}

#[test]
fn the_small_study_is_of_hi_diff_2_in_small() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ablation/small.toml");
    let small = Config::load(path).unwrap();
    let full = Config::preset("hi-diff-2").unwrap();
    assert_eq!(small.diffusion, full.diffusion);
    assert_eq!(small.model.denoiser, full.model.denoiser);
    let (encoder, published) = (&small.model.latent_encoder, &full.model.latent_encoder);
    assert_eq!(encoder.variant, published.variant);
    let (transformer, published) = (&small.model.transformer, &full.model.transformer);
    assert_eq!(transformer.expansion, published.expansion);
    let model: HiDiff<Flex> = small.init(&Default::default());
    assert_eq!(model.summary(256, 256).total.params, 283_083);
}

#[cfg(feature = "cli")]
mod study {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use assert_cmd::Command;
    use image::{Rgb, RgbImage};
    use predicates::prelude::*;
    use predicates::str::contains;
    use serde_json::Value;
    use tempfile::TempDir;

    const CONFIG: &str = r#"
[model]
embed_dim = 4
[model.transformer]
dim = 4
heads = [1, 2, 2, 2]
blocks = [1, 1, 1, 1]
refinement_blocks = 0
expansion = 2.0
[model.latent_encoder]
variant = "lrelu"
blocks = 1
[model.denoiser]
variant = "mlp"
layers = 1
[diffusion]
sampler = "x0"
timesteps = 2
[training.stage_one]
patches = [{ patch = 16, batch = 2, iterations = 300_000 }]
[training.stage_two]
patches = [{ patch = 16, batch = 2, iterations = 300_000 }]
"#;

    /// Three pairs of coloured checkerboards, and a configuration of a few thousand parameters.
    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        for side in ["pairs/input", "pairs/target"] {
            fs::create_dir_all(folder.path().join(side)).unwrap();
        }
        for index in 0..3_u32 {
            let sharp = RgbImage::from_fn(24, 20 + index, |x, y| match (x / 4 + y / 3) % 2 {
                0 => Rgb([230, 40 + 60 * index as u8, 80]),
                _ => Rgb([30, 190, 50]),
            });
            let path = |side: &str| folder.path().join(side).join(format!("{index}.png"));
            sharp.save(path("pairs/target")).unwrap();
            let blurred = image::imageops::blur(&sharp, 1.2);
            blurred.save(path("pairs/input")).unwrap();
        }
        fs::write(folder.path().join("base.toml"), CONFIG).unwrap();
        folder
    }

    fn ablate(folder: &TempDir, flags: &[&str]) -> Command {
        let mut command = Command::cargo_bin("hi-diff").unwrap();
        command.current_dir(folder.path()).args([
            "ablate",
            "--config",
            "base.toml",
            "--data",
            "pairs",
            "--out",
            "study",
            "--backend",
            "flex",
        ]);
        command.args(flags);
        command
    }

    /// Every file below a folder, with its content.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        found
    }

    #[test]
    fn a_stopped_study_goes_on_and_ends_as_if_it_had_not_been() {
        let folder = folder();
        let study = folder.path().join("study");
        let flags = ["--budget", "2", "--rows", "baseline,split-training,t-2,t-1"];
        ablate(&folder, &flags)
            .assert()
            .success()
            .stdout(contains("[1/4] HI-Diff: stage one, 2 steps"))
            .stdout(contains("[1/4] HI-Diff: stage two, 2 steps"))
            .stdout(contains("[2/4] Baseline: its one stage, 4 steps"))
            .stdout(contains("[3/4] Split-Training: stage two, 2 steps"))
            .stdout(contains("[4/4] HI-Diff, T = 1: PSNR"))
            .stdout(contains("report: study/ablation.md"))
            .stdout(contains("report: study/ablation.html"));
        let report = |name: &str| fs::read_to_string(study.join(name)).unwrap();
        let before = [
            report("ablation.json"),
            report("ablation.md"),
            report("ablation.svg"),
        ];
        let json: Value = serde_json::from_str(&before[0]).unwrap();
        let names: Vec<_> = json["rows"].as_array().unwrap().iter().collect();
        let names: Vec<_> = names
            .iter()
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["baseline", "split-training", "hi-diff", "t-1"]);
        assert_eq!((&json["steps"], &json["images"]), (&2.into(), &1.into()));
        for row in json["rows"].as_array().unwrap() {
            assert!(row["psnr"].as_f64().unwrap() > 3.0, "{row}");
            assert!(row["ssim_volumetric"].as_f64().unwrap() < 1.0, "{row}");
        }

        // Begun again by mistake, nothing happens.
        let error = contains("an ablation is here");
        ablate(&folder, &flags).assert().code(1).stderr(error);

        // Stopped in a row: neither its score nor the rest of its training is there.
        let runs = files(&study.join("runs"));
        fs::remove_file(study.join("rows/t-1.json")).unwrap();
        fs::remove_file(study.join("runs/t-1/model.safetensors")).unwrap();
        fs::remove_file(study.join("rows/baseline.json")).unwrap();
        let resume = [flags.as_slice(), &["--resume"]].concat();
        ablate(&folder, &resume)
            .assert()
            .success()
            .stdout(contains("[1/4] HI-Diff: done before"))
            .stdout(contains("[2/4] Baseline: scoring 1 images"))
            .stdout(contains("[2/4] Baseline: its one stage").not())
            .stdout(contains("[3/4] Split-Training: done before"))
            .stdout(contains("[4/4] HI-Diff, T = 1: stage two"));
        let after = [
            report("ablation.json"),
            report("ablation.md"),
            report("ablation.svg"),
        ];
        assert_eq!(after, before);
        for (path, bytes) in runs {
            if path.extension().is_some_and(|kind| kind == "safetensors") {
                assert_eq!(fs::read(&path).unwrap(), bytes, "{}", path.display());
            }
        }

        // More rows join, under the same conditions only.
        let refused = |flags: &[&str], key: &str| {
            let error = contains(format!("`{key}`"));
            ablate(&folder, &[flags, &["--resume"]].concat())
                .assert()
                .code(1)
                .stderr(error);
        };
        refused(&["--budget", "3"], "budget");
        refused(&["--seed", "1"], "training.seed");
        refused(&["--batch", "1"], "training.stage_one.patches");
        let output = ablate(&folder, &["--rows", "t-3", "--resume", "--json"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["rows"][4]["name"], "t-3");
        assert_eq!(json["rows"][4]["timesteps"], 3);

        let page = report("ablation.html");
        for part in [
            "Table 1",
            "HI-Diff, T = 3: stage two",
            "Split-Training: stage two",
            "Stage one, shared",
            "hi-diff ablate --config base.toml --data pairs --out study --backend flex --budget 2",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn a_duration_becomes_steps_that_are_kept() {
        let folder = folder();
        let flags = ["--budget", "20s", "--rows", "hi-diff"];
        let assert = ablate(&folder, &flags).assert().success();
        let stdout = String::from_utf8_lossy(&assert.get_output().stdout).to_string();
        let line = stdout.lines().find(|line| line.contains("pays for"));
        let line = line.unwrap_or_else(|| panic!("no number of steps in {stdout}"));
        assert!(line.starts_with("20s pays for "), "{line}");
        let plan = fs::read_to_string(folder.path().join("study/plan.toml")).unwrap();
        let steps = line.split_whitespace().nth(3).unwrap();
        assert!(
            plan.contains(&format!("steps = {steps}\n")),
            "{line}: {plan}"
        );
        let left: Vec<_> = fs::read_dir(folder.path().join("study"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        ablate(
            &folder,
            &["--budget", "20s", "--rows", "hi-diff", "--resume"],
        )
        .assert()
        .success()
        .stdout(contains("[1/1] HI-Diff: done before"))
        .stdout(contains("pays for").not());
    }

    #[test]
    fn what_cannot_be_compared_is_refused_before_anything_is_trained() {
        let folder = folder();
        ablate(&folder, &[])
            .assert()
            .code(2)
            .stderr(contains("--budget"));
        ablate(&folder, &["--budget", "soon"])
            .assert()
            .code(2)
            .stderr(contains("90m"));
        ablate(&folder, &["--budget", "2", "--rows", "ours"])
            .assert()
            .code(2)
            .stderr(contains("single-guide"));
        ablate(&folder, &["--budget", "2", "--patch", "20"])
            .assert()
            .code(1)
            .stderr(contains("multiple of 8"));
        ablate(&folder, &["--resume"])
            .assert()
            .code(1)
            .stderr(contains("nothing to resume"));
        let base = CONFIG.replace("[model]", "[model]\nprior = \"none\"");
        fs::write(folder.path().join("base.toml"), base).unwrap();
        ablate(&folder, &["--budget", "2"])
            .assert()
            .code(1)
            .stderr(contains("model.prior"));
        assert!(!folder.path().join("study").exists());
    }
}
