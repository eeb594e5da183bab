//! Training runs as a user starts them, on a model of a few thousand parameters.
#![cfg(all(feature = "train", feature = "flex"))]

use std::path::Path;

use std::sync::{Mutex, PoisonError};

use burn::backend::{Autodiff, Flex};
use hi_diff::Config;
use hi_diff::training::{Display, Stages, TrainingOptions, TrainingReport, train};
use image::{Rgb, RgbImage};
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
[training.validation]
every = 3
images = 2
log_every = 2
keep = 1
[training.stage_one]
iterations = 8
clip = 0.5
learning_rate = { initial = 1e-3, periods = [8], restart_weights = [1.0], minima = [1e-5] }
patches = [{ patch = 16, batch = 2, iterations = 5 }, { patch = 24, batch = 1, iterations = 3 }]
[training.stage_two]
iterations = 5
clip = 0.5
learning_rate = { initial = 1e-3, periods = [5], restart_weights = [1.0], minima = [1e-5] }
patches = [{ patch = 16, batch = 2, iterations = 5 }]
"#;

/// Coloured checkerboards, and the same through a wide box blur.
fn pairs(folder: &Path) {
    for side in ["input", "target"] {
        std::fs::create_dir_all(folder.join(side)).unwrap();
    }
    for index in 0..4_u32 {
        let sharp = RgbImage::from_fn(37, 30, |x, y| {
            let cell = 3 + index;
            let on = (x / cell + y / cell) % 2 == 0;
            if on {
                Rgb([240, 40 * index as u8, 90])
            } else {
                Rgb([20, 200, 30 + 50 * index as u8])
            }
        });
        let name = format!("{index}.png");
        image::imageops::blur(&sharp, 1.5)
            .save(folder.join("input").join(&name))
            .unwrap();
        sharp.save(folder.join("target").join(&name)).unwrap();
    }
}

fn options(folder: &TempDir, out: &str) -> TrainingOptions {
    TrainingOptions {
        data: Some(folder.path().join("pairs")),
        validation: None,
        out: folder.path().join(out),
        stages: Stages::Both,
        resume: false,
        initial: None,
        display: Display::Lines,
    }
}

/// One training at a time: a backend's seed is the process's, and another training would draw from it too.
fn run(config: &Config, options: &TrainingOptions) -> hi_diff::Result<TrainingReport> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    train::<Autodiff<Flex>>(config, options, &Default::default())
}

#[test]
fn both_stages_run_from_pairs_to_weights() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = Config::parse(CONFIG, "test").unwrap();
    let report = run(&config, &options(&folder, "run")).unwrap();
    let iterations: Vec<_> = report.stages.iter().map(|stage| stage.iterations).collect();
    assert_eq!(iterations, [8, 5]);
    for stage in &report.stages {
        let last = stage.last.unwrap();
        assert_eq!(last.iteration, stage.iterations);
        assert!(last.psnr.unwrap() > 5.0, "{last:?}");
        assert!(stage.best.unwrap().psnr >= last.psnr);
    }
    assert!(report.weights.is_file());
}

fn weights(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Undoes what a run did after the checkpoint before its last one.
fn forget_after(stage: &Path, epoch: usize) {
    for entry in std::fs::read_dir(stage.join("checkpoint"))
        .unwrap()
        .flatten()
    {
        let name = entry.file_name().into_string().unwrap();
        let written = name
            .split(['-', '.'])
            .find_map(|part| part.parse::<usize>().ok())
            .unwrap();
        if written > epoch {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_resumed_run_ends_in_the_same_weights() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let mut config = Config::parse(CONFIG, "test").unwrap();
    config.training.validation.keep = 3;
    let options = options(&folder, "run");
    run(&config, &options).unwrap();
    let expected_one = weights(&options.out.join("stage-one.safetensors"));
    let expected_two = weights(&options.out.join("model.safetensors"));

    forget_after(&options.out.join("stage-two"), 1);
    std::fs::remove_file(options.out.join("model.safetensors")).unwrap();
    let resume = TrainingOptions {
        resume: true,
        ..options.clone()
    };
    let report = run(&config, &resume).unwrap();
    assert_eq!(report.stages.len(), 1, "stage one was done");
    assert_eq!(weights(&report.weights), expected_two, "stage two");

    forget_after(&options.out.join("stage-one"), 2);
    std::fs::remove_file(options.out.join("stage-one.safetensors")).unwrap();
    std::fs::remove_dir_all(options.out.join("stage-two")).unwrap();
    let report = run(&config, &resume).unwrap();
    assert_eq!(
        weights(&options.out.join("stage-one.safetensors")),
        expected_one,
        "stage one"
    );
    assert_eq!(
        weights(&report.weights),
        expected_two,
        "stage two after stage one"
    );

    // More workers, and stage two in a call of its own.
    config.data.workers = 3;
    let first = TrainingOptions {
        stages: Stages::One,
        out: folder.path().join("apart"),
        ..options
    };
    run(&config, &first).unwrap();
    let apart = weights(&first.out.join("stage-one.safetensors"));
    assert_eq!(apart, expected_one, "stage one with more workers");
    let second = TrainingOptions {
        stages: Stages::Two,
        ..first
    };
    let report = run(&config, &second).unwrap();
    assert_eq!(weights(&report.weights), expected_two, "the stages apart");
}

#[test]
fn a_run_is_not_overwritten_nor_resumed_as_another() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let mut config = Config::parse(CONFIG, "test").unwrap();
    config.training.stage_one.iterations = 1;
    let options = TrainingOptions {
        stages: Stages::One,
        ..options(&folder, "run")
    };
    let resume = TrainingOptions {
        resume: true,
        ..options.clone()
    };

    let error = run(&config, &resume).unwrap_err().to_string();
    assert!(error.contains("nothing to resume"), "{error}");
    run(&config, &options).unwrap();
    let error = run(&config, &options).unwrap_err().to_string();
    assert!(error.contains("a training run is here"), "{error}");
    config.model.transformer.dim = 16;
    let error = run(&config, &resume).unwrap_err().to_string();
    assert!(error.contains("`model`"), "{error}");
}

#[test]
fn an_unreadable_image_in_mid_run_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("pairs");
    pairs(&data);
    for side in ["input", "target"] {
        for index in 0..4 {
            let path = data.join(side).join(format!("{index}.png"));
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    let config = Config::parse(CONFIG, "test").unwrap();
    let error = run(&config, &options(&folder, "run")).unwrap_err();
    assert!(matches!(error, hi_diff::Error::Image { .. }), "{error}");
    assert!(error.to_string().contains(".png"), "{error}");
}

#[test]
fn split_training_leaves_the_transformer_untouched() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    for sampler in ["eps", "x0", "ancestral"] {
        let text = CONFIG
            .replace(
                "timesteps = 2",
                &format!("timesteps = 2\nsampler = \"{sampler}\""),
            )
            .replace("seed = 3", "seed = 3\nobjective = \"split\"");
        let config = Config::parse(&text, "test").unwrap();
        let options = options(&folder, sampler);
        let report = run(&config, &options).unwrap();
        let read = |path: &Path, network: &str| {
            let bytes = weights(path);
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let own = tensors
                .iter()
                .filter(|(key, _)| key.starts_with(&format!("{network}.")));
            let mut own: Vec<_> = own
                .map(|(key, view)| (key.to_string(), view.data().to_vec()))
                .collect();
            own.sort();
            assert!(!own.is_empty(), "{network}");
            own
        };
        let before = options.out.join("stage-one.safetensors");
        assert_eq!(
            read(&report.weights, "net_g"),
            read(&before, "net_g"),
            "{sampler}"
        );
        assert_ne!(
            read(&report.weights, "net_d"),
            read(&before, "net_d"),
            "{sampler}"
        );
        assert_ne!(
            read(&report.weights, "net_le_dm"),
            read(&before, "net_le_dm"),
            "{sampler}"
        );
    }
}

#[test]
fn a_model_without_a_prior_has_one_stage() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let text = CONFIG.replace("[model]", "[model]\nprior = \"none\"");
    let config = Config::parse(&text, "test").unwrap();
    let report = run(&config, &options(&folder, "run")).unwrap();
    assert_eq!(report.stages.len(), 1);
    assert!(report.weights.ends_with("model.safetensors") && report.weights.is_file());
    let two = TrainingOptions {
        stages: Stages::Two,
        ..options(&folder, "two")
    };
    let error = run(&config, &two).unwrap_err().to_string();
    assert!(error.contains("no stage two"), "{error}");
}
