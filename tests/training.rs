//! Training runs as a user starts them, on a model of a few thousand parameters.
#![cfg(all(feature = "train", feature = "flex"))]

use std::path::Path;

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
            if on { Rgb([240, 40 * index as u8, 90]) } else { Rgb([20, 200, 30 + 50 * index as u8]) }
        });
        let name = format!("{index}.png");
        image::imageops::blur(&sharp, 1.5).save(folder.join("input").join(&name)).unwrap();
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

fn run(config: &Config, options: &TrainingOptions) -> hi_diff::Result<TrainingReport> {
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
