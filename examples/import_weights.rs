//! Published weights, a folder of `.pth` files, into one `.safetensors` that knows its configuration.
//!
//! ```sh
//! cargo run --release --example import_weights -- HI-Diff/experiments/GoPro gopro gopro.safetensors
//! cargo run --example import_weights   # on a folder that it writes itself
//! ```

use std::path::Path;
use std::process::ExitCode;

use burn::backend::Flex;
use burn::tensor::{Device, Tensor, TensorData};
use hi_diff::weights::{
    CONFIG_FILE, LoadOptions, Loader, Precision, StateDict, Weights, save_pytorch, save_safetensors,
};
use hi_diff::{Config, Error, HiDiff, Noise};

/// Strict: a NaN in a weight file is an error.
const OPTIONS: LoadOptions = LoadOptions {
    allow_non_finite: false,
};

fn import(folder: &Path, config: &Config, file: &Path) -> hi_diff::Result<()> {
    let device = Device::<Flex>::default();
    // The model says which tensors there have to be, in which shapes; whatever differs is listed in one error. With LE,
    // which only training needs, so that it is imported where the folder has it.
    let model: HiDiff<Flex> = config.init_training(&device);
    let networks = Weights::open(folder)?.state_dicts(&model, &OPTIONS)?;
    for network in &networks {
        let tensors = network.tensors();
        let parameters: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
        let name = network.network().name();
        println!(
            "{name}: {parameters} parameters in {} tensors",
            tensors.len()
        );
    }
    save_safetensors(file, config, &networks, Precision::Full, false)?;

    // The file needs no configuration any more. What comes out is the same, bit for bit.
    let imported = HiDiff::load(file, &device)?;
    let (published, _) = Loader::new().config(config.clone()).load(folder, &device)?;
    assert_eq!(deblurred(&imported)?, deblurred(&published)?);
    println!(
        "written, and deblurs as the folder does: {}",
        file.display()
    );
    Ok(())
}

/// What a model makes of a gray picture with a white corner.
fn deblurred(model: &HiDiff<Flex>) -> hi_diff::Result<TensorData> {
    let device = Default::default();
    let picture = Tensor::full([1, 3, 32, 32], 0.5, &device);
    let white = Tensor::ones([1, 3, 13, 17], &device);
    let picture = picture.slice_assign([0..1, 0..3, 0..13, 0..17], white);
    Ok(model.deblur(picture, Noise::Seed(0))?.into_data())
}

/// A folder like a published one: a new model, in the files that PyTorch would write.
fn publish(folder: &Path) -> hi_diff::Result<Config> {
    let config = Config::preset("tiny")?;
    let networks = StateDict::of_model(&config.init::<Flex>(&Default::default()));
    save_pytorch(folder, &config, &networks, Precision::Full, false)?;
    // The crate's own folders have their configuration with them; published ones have not.
    let own = folder.join(CONFIG_FILE);
    std::fs::remove_file(&own).map_err(Error::io(&own))?;
    Ok(config)
}

fn demonstrate() -> hi_diff::Result<()> {
    let temporary = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let folder = temporary.path().join("published");
    let config = publish(&folder)?;
    import(&folder, &config, &temporary.path().join("tiny.safetensors"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => demonstrate(),
        [folder, config, file] => {
            Config::load(&config.to_string_lossy()) // A preset, or a TOML file.
                .and_then(|config| import(folder.as_ref(), &config, file.as_ref()))
        }
        _ => {
            eprintln!("usage: import_weights [FOLDER CONFIG FILE]");
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
