//! Weights and configuration of a whole model.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::Device;
use serde_json::Value;

use super::module::{self, Root};
use super::{LoadOptions, StateDict, Weights};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::HiDiff;
use burn::tensor::backend::Backend;

/// Which networks of a model are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parts {
    /// Those that deblurring needs.
    #[default]
    Inference,
    /// Those and LE, for training to go on.
    Training,
}

/// Builds the model of a weight file or folder on `device` and loads its weights.
///
/// A `.safetensors` carries its configuration; a folder as published needs `config`. Where both are there, they must
/// agree on model and diffusion. Returned with the model is `config`, or else the weights' own.
///
/// # Errors
/// [`Error::Weights`] without a configuration, with one that disagrees, or for a missing network or damaged file;
/// [`Error::Mismatch`] with everything that does not fit, over all networks.
pub fn load<B: Backend>(
    path: impl AsRef<Path>,
    config: Option<&Config>,
    parts: Parts,
    device: &Device<B>,
    options: &LoadOptions,
) -> Result<(HiDiff<B>, Config)> {
    let weights = Weights::open(path)?;
    let config = weights.config_or(config)?;
    let mut model = match parts {
        Parts::Inference => config.init(device),
        Parts::Training => config.init_training(device),
    };
    weights.apply_all(&mut model, options)?;
    Ok((model, config))
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

/// The tiny model that comes with the crate; see `weights/README.md`.
const BUNDLED: &[u8] = include_bytes!("../../weights/hi-diff-tiny.safetensors");

/// The bundled model on `device`, trained on synthetic camera shake.
///
/// # Errors
/// None, as the crate's own tests load it.
pub fn bundled<B: Backend>(device: &Device<B>) -> Result<HiDiff<B>> {
    let weights = Weights::bundled()?;
    let mut model = weights.config_or(None)?.init(device);
    weights.apply_all(&mut model, &LoadOptions::default())?;
    Ok(model)
}

/// The bundled model's configuration.
///
/// # Errors
/// None, as the crate's own tests load it.
pub fn bundled_config() -> Result<Config> {
    Weights::bundled()?.config_or(None)
}
