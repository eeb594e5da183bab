//! Which weights to load, for every command that runs a model.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use hi_diff::backend::Backend;
use hi_diff::weights::{self, LoadOptions, Parts};
use hi_diff::{Config, Error, HiDiff};

use crate::backend::BackendChoice;

/// The model's weights and where it runs.
#[derive(clap::Args, Debug)]
pub struct ModelArgs {
    /// Weights: a .safetensors, or a folder of .pth with --config [default: the bundled tiny model]
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// Configuration of the weights: a preset or a TOML file
    #[arg(long, value_name = "NAME|FILE", requires = "weights")]
    config: Option<String>,
    /// Accept weights that are NaN or infinite
    #[arg(long, requires = "weights")]
    allow_non_finite: bool,
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
}

impl ModelArgs {
    /// Builds the model on `device` and loads its weights.
    pub fn load<B: Backend>(&self, device: &Device<B>) -> hi_diff::Result<HiDiff<B>> {
        let Some(path) = &self.weights else {
            return weights::bundled(device);
        };
        let config = self.config.as_deref().map(Config::load).transpose()?;
        let options = LoadOptions {
            allow_non_finite: self.allow_non_finite,
        };
        let (model, _) = weights::load(path, config.as_ref(), Parts::Inference, device, &options)?;
        Ok(model)
    }

    /// What tells one model from another: a checksum over weights and configuration.
    pub fn identity(&self) -> hi_diff::Result<String> {
        let Some(path) = &self.weights else {
            return Ok(format!("bundled {}", env!("CARGO_PKG_VERSION")));
        };
        let mut sum = Checksum(crc32fast::Hasher::new());
        for file in files(path)? {
            let read = File::open(&file).and_then(|mut file| io::copy(&mut file, &mut sum));
            read.map_err(Error::io(&file))?;
        }
        if let Some(name) = &self.config {
            sum.0
                .update(format!("{:?}", Config::load(name)?).as_bytes());
        }
        Ok(format!("crc32 {:08x}", sum.0.finalize()))
    }
}

/// The files of the weights, sorted.
fn files(weights: &Path) -> hi_diff::Result<Vec<PathBuf>> {
    if !weights.is_dir() {
        return Ok(vec![weights.to_path_buf()]);
    }
    let entries = fs::read_dir(weights).map_err(Error::io(weights))?;
    let files = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<_> = files
        .collect::<io::Result<_>>()
        .map_err(Error::io(weights))?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|kind| kind == "pth" || kind == "toml")
    });
    files.sort();
    Ok(files)
}

struct Checksum(crc32fast::Hasher);

impl Write for Checksum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
