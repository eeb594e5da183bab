//! Which weights to load, for every command that runs a model.

use std::path::PathBuf;

use burn::tensor::Device;
use hi_diff::backend::Backend;
use hi_diff::weights::{self, LoadOptions, Parts};
use hi_diff::{Config, HiDiff};

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
    /// The weights' path, or `bundled`.
    pub fn name(&self) -> String {
        let path = self.weights.as_ref();
        path.map_or_else(|| "bundled".into(), |path| path.display().to_string())
    }

    /// Builds the model on `device` and loads its weights. Its configuration comes with it.
    pub fn load<B: Backend>(&self, device: &Device<B>) -> hi_diff::Result<(HiDiff<B>, Config)> {
        let Some(path) = &self.weights else {
            return Ok((weights::bundled(device)?, weights::bundled_config()?));
        };
        let config = self.config.as_deref().map(Config::load).transpose()?;
        let options = LoadOptions {
            allow_non_finite: self.allow_non_finite,
        };
        weights::load(path, config.as_ref(), Parts::Inference, device, &options)
    }
}
