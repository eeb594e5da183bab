//! Weights and configuration of a whole model.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Module;
use burn::prelude::Device;
use serde_json::Value;

use super::module::{self, Root};
use super::{LoadOptions, StateDict, Weights};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::HiDiff;
use burn::tensor::backend::Backend;

/// Builds a model from a weight file or folder.
///
/// A `.safetensors` carries its configuration; a folder as published needs one.
///
/// ```no_run
/// # #[cfg(feature = "flex")]
/// # fn main() -> hi_diff::Result<()> {
/// use burn::backend::Flex;
/// use hi_diff::{Config, weights::Loader};
///
/// let device = Default::default();
/// let loader = Loader::new().config(Config::preset("gopro")?);
/// let (model, config) = loader.load::<Flex>("HI-Diff/experiments/GoPro", &device)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "flex"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, Default)]
pub struct Loader {
    config: Option<Config>,
    latent_encoder: bool,
    partial: bool,
    seed: Option<u64>,
    options: LoadOptions,
}

impl Loader {
    /// For deblurring, strictly: every weight is there and finite.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model's configuration. Where the weights have one too, they must agree on model and diffusion, but for
    /// [`partial`](Self::partial) loading.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// With LE, for training to go on.
    pub fn latent_encoder(mut self) -> Self {
        self.latent_encoder = true;
        self
    }

    /// Takes what fits by name and shape, and leaves the rest at its initial values.
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// Seeds the backend, from which the initial values come.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Accepts values that are NaN or infinite.
    pub fn allow_non_finite(mut self, allow: bool) -> Self {
        self.options.allow_non_finite = allow;
        self
    }

    /// The model on `device`, and its configuration: the one given, or else the weights' own.
    ///
    /// # Errors
    /// [`Error::Weights`] without a configuration, with one that disagrees, for a missing network or damaged file, or if
    /// nothing fits; [`Error::Mismatch`] with everything that does not fit, over all networks.
    pub fn load<B: Backend>(
        &self,
        path: impl AsRef<Path>,
        device: &Device<B>,
    ) -> Result<(HiDiff<B>, Config)> {
        self.build(&Weights::open(path)?, device)
    }

    /// As [`load`](Self::load), of weights that are open.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn build<B: Backend>(
        &self,
        weights: &Weights,
        device: &Device<B>,
    ) -> Result<(HiDiff<B>, Config)> {
        let config = match &self.config {
            Some(config) if self.partial => config.clone(),
            config => weights.config_or(config.as_ref())?,
        };
        if let Some(seed) = self.seed {
            B::seed(device, seed);
        }
        let mut model = match self.latent_encoder {
            true => config.init_training(device),
            false => config.init(device),
        };
        match self.partial {
            true => drop(weights.apply_fitting(&mut model)?),
            false => weights.apply_all(&mut model, &self.options)?,
        }
        if self.seed.is_some() {
            // Initial values are drawn at their first use; now nothing else can have drawn before.
            model.num_params();
        }
        Ok((model, config))
    }
}

impl<B: Backend> HiDiff<B> {
    /// The model of a `.safetensors`, for deblurring; [`Loader`] has the rest.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load(path: impl AsRef<Path>, device: &Device<B>) -> Result<Self> {
        Ok(Loader::new().load(path, device)?.0)
    }

    /// The model that comes with the crate.
    ///
    /// # Errors
    /// None, as the crate's own tests load it.
    pub fn bundled(device: &Device<B>) -> Result<Self> {
        Ok(Loader::new().build(&Weights::bundled()?, device)?.0)
    }
}

impl Weights {
    /// The bundled model's file.
    ///
    /// # Errors
    /// None, as the crate's own tests load it.
    pub fn bundled() -> Result<Self> {
        Self::from_bytes("the bundled weights", BUNDLED.to_vec())
    }

    /// The configuration to build the model from: `given` or the one in the file, which have to agree.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is neither, or if they disagree on model or diffusion.
    pub fn config_or(&self, given: Option<&Config>) -> Result<Config> {
        match (given, self.config()) {
            (Some(given), Some(own)) => {
                let differences = differences(given, own);
                if differences.is_empty() {
                    return Ok(given.clone());
                }
                let reason = format!(
                    "made with another configuration: {}",
                    differences.join("; ")
                );
                Err(Error::weights(self.path(), reason))
            }
            (Some(config), None) | (None, Some(config)) => Ok(config.clone()),
            (None, None) => {
                let reason = "carries no configuration: name the model's with --config, a preset or a TOML file";
                Err(Error::weights(self.path(), reason))
            }
        }
    }

    /// Loads every network that `model` has.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), over all the networks; the model then is as before.
    pub fn apply_all<B: Backend>(
        &self,
        model: &mut HiDiff<B>,
        options: &LoadOptions,
    ) -> Result<()> {
        let expected = module::shapes(Root::Model, model);
        let networks = expected.keys().copied().collect();
        let states = self.fit(networks, expected, options)?;
        *model = module::replace(Root::Model, model.clone(), states);
        Ok(())
    }

    /// The weights of every network that is here, known to fit the networks of `model`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), over all the networks, also where the model has no such network.
    pub fn state_dicts<B: Backend>(
        &self,
        model: &HiDiff<B>,
        options: &LoadOptions,
    ) -> Result<Vec<StateDict>> {
        self.fit(self.networks(), module::shapes(Root::Model, model), options)
    }
}

/// The keys of model and diffusion that differ, each with both values.
fn differences(given: &Config, own: &Config) -> Vec<String> {
    let json = |config: &Config| serde_json::json!({ "model": config.model, "diffusion": config.diffusion });
    let mut lines = Vec::new();
    compare("", &json(given), &json(own), &mut lines);
    lines
}

fn compare(key: &str, given: &Value, own: &Value, lines: &mut Vec<String>) {
    if let (Value::Object(given), Value::Object(own)) = (given, own) {
        let dot = if key.is_empty() { "" } else { "." };
        let keys: BTreeSet<_> = given.keys().chain(own.keys()).collect();
        for name in keys {
            let value = |of: &serde_json::Map<_, _>| of.get(name).cloned().unwrap_or_default();
            compare(
                &format!("{key}{dot}{name}"),
                &value(given),
                &value(own),
                lines,
            );
        }
    } else if given != own {
        lines.push(format!("{key} is {own} there, {given} here"));
    }
}

/// The small model that comes with the crate; see `weights/README.md`.
const BUNDLED: &[u8] = include_bytes!("../../weights/hi-diff-small.safetensors");

/// The bundled model's configuration.
///
/// # Errors
/// None, as the crate's own tests load it.
pub fn bundled_config() -> Result<Config> {
    Weights::bundled()?.config_or(None)
}
