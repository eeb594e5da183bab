//! Both stages of the training, from nothing: sharp pictures are drawn, blurred by a shaking camera, and trained on.
//!
//! ```sh
//! cargo run --example train_two_stages            # in a temporary folder
//! cargo run --example train_two_stages -- folder  # keeps pictures, logs, checkpoints and weights there
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::backend::{Autodiff, Flex};
use hi_diff::HiDiff;
use hi_diff::data::synthesis::{BlurModel, SynthesisOptions, synthesize_folder};
use hi_diff::evaluation::psnr;
use hi_diff::inference::Deblurrer;
use hi_diff::picture::{EncodeOptions, Photograph};
use hi_diff::training::{Devices, TrainingOptions, train};
use hi_diff::{Config, Error};
use image::{Rgb, RgbImage};

/// A small model, and a few steps for each stage. What is not said is as for the published model, see
/// `configs/gopro.toml`; `Config::preset("gopro")` is that model.
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

[training.stage_one]
iterations = 60
learning_rate = { initial = 2e-3, periods = [60], restart_weights = [1.0], minima = [1e-3] }
patches = [{ patch = 32, batch = 2, iterations = 60 }]
[training.stage_two]
iterations = 120
learning_rate = { initial = 2e-3, periods = [120], restart_weights = [1.0], minima = [1e-5] }
patches = [{ patch = 32, batch = 2, iterations = 120 }]
[training.validation]
every = 60
log_every = 20
"#;

fn run(folder: &Path) -> hi_diff::Result<()> {
    let [sharp, pairs] = ["sharp", "pairs"].map(|name| folder.join(name));
    for index in 0..6 {
        let path = sharp.join(format!("{index}.png"));
        Photograph::from_rgb8(&picture(index)).save(path, &EncodeOptions::default())?;
    }

    // The same as `hi-diff synth`: `pairs/input/` and `pairs/target/`. Any dataset in one of the layouts of
    // `hi_diff::config::Layout` does as well.
    let mut blur = BlurModel::default();
    blur.shake.extent = [3.0, 5.0];
    let options = SynthesisOptions {
        count: 2,
        ..SynthesisOptions::default()
    };
    let report = synthesize_folder(&sharp, &pairs, &blur, &options, &|_, _| ())?;
    if let Some(failure) = report.failures.into_iter().next() {
        return Err(failure);
    }

    // Progress goes to standard output. A folder that holds a run is an error, unless `resume` is set.
    let config = Config::parse(CONFIG, "train_two_stages.rs")?;
    let options = TrainingOptions {
        data: Some(pairs),
        ..TrainingOptions::new(folder.join("run"))
    };
    let report = train::<Autodiff<Flex>>(&config, &options, &Devices::default())?;

    // A picture that the training has not seen. Without `Autodiff` nothing is kept for gradients.
    let device = Default::default();
    let model = HiDiff::<Flex>::load(&report.weights, &device)?;
    let sharp = picture(6);
    let blurred = blur.pair(&sharp, 6)?.blur;
    let deblurrer = Deblurrer::new(model, device);
    let deblurred = deblurrer
        .deblur(&Photograph::from_rgb8(&blurred), 0)?
        .to_rgb8();
    let (before, after) = (psnr(&blurred, &sharp)?, psnr(&deblurred, &sharp)?);
    println!("an unseen picture: {before:.2} dB blurred, {after:.2} dB deblurred");
    assert!(after > before, "the training has made it worse");
    Ok(())
}

/// Discs of many colours in rows, different for each index.
fn picture(index: u32) -> RgbImage {
    let cell = 10 + index;
    RgbImage::from_fn(96, 72, |x, y| {
        let (column, row) = (x / cell, y / cell);
        let from_centre = |position: u32| f64::from(position % cell) - f64::from(cell) / 2.0;
        let inside = from_centre(x).hypot(from_centre(y)) < f64::from(cell) / 3.0;
        let shade = |factor: u32| (40 + (index + column * 3 + row * 5) * factor % 160) as u8;
        match inside {
            true => Rgb([shade(31), shade(53), shade(97)]),
            false => Rgb([230, 225, 215]),
        }
    })
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let result = match arguments.as_slice() {
        [] => tempfile::tempdir()
            .map_err(Error::io(std::env::temp_dir()))
            .and_then(|folder| run(folder.path())),
        [folder] => run(folder),
        _ => {
            eprintln!("usage: train_two_stages [FOLDER]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
