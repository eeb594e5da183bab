//! Writes weights as files that appear whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use burn::tensor::f16;

use super::{CONFIG_FILE, StateDict, pytorch, safetensors};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::whole::{EXISTS, write_whole};

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Full,
    /// 16-bit floats (IEEE half precision).
    Half,
}

impl Precision {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Full => 4,
            Self::Half => 2,
        }
    }

    pub(super) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::Full => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::Half => values
                .iter()
                .flat_map(|&value| f16::from_f32(value).to_le_bytes())
                .collect(),
        }
    }
}

/// Writes networks and their configuration (model and diffusion) as one `.safetensors`.
///
/// # Errors
/// [`Error::Refused`] if the file exists and `force` is false, [`Error::Weights`] if a value is too large for
/// `precision`, or [`Error::Io`]. The file then is as before.
pub fn save_safetensors(
    path: impl AsRef<Path>,
    config: &Config,
    states: &[StateDict],
    precision: Precision,
    force: bool,
) -> Result<()> {
    let path = path.as_ref();
    check_range(path, states, precision)?;
    write_whole(path, force, |file| {
        safetensors::write(file, config, states, precision).map_err(Error::io(path))
    })
}

/// Writes each network as its `.pth` into `folder`, as `torch.save` does, and the configuration (model and diffusion)
/// beside them as [`CONFIG_FILE`].
///
/// # Errors
/// As [`save_safetensors`], for each of the files. Without `force`, none is written if one of them exists.
pub fn save_pytorch(
    folder: impl AsRef<Path>,
    config: &Config,
    states: &[StateDict],
    precision: Precision,
    force: bool,
) -> Result<()> {
    let folder = folder.as_ref();
    check_range(folder, states, precision)?;
    let config_file = folder.join(CONFIG_FILE);
    let config = toml::to_string(&config.without_training())
        .map_err(|error| Error::weights(&config_file, error.to_string()))?;
    let files: Vec<_> = states
        .iter()
        .map(|state| folder.join(state.network().file_name()))
        .collect();
    let mut all = files.iter().chain([&config_file]);
    if let Some(path) = all.find(|path| !force && fs::symlink_metadata(path).is_ok()) {
        return Err(Error::refused(path, EXISTS));
    }
    for (path, state) in files.iter().zip(states) {
        write_whole(path, force, |file| {
            pytorch::write(file, state, precision).map_err(Error::io(path))
        })?;
    }
    write_whole(&config_file, force, |file| {
        file.write_all(config.as_bytes())
            .map_err(Error::io(&config_file))
    })
}

/// Half precision ends at 65504: a larger value would be read back as infinite.
pub(super) fn check_range(path: &Path, states: &[StateDict], precision: Precision) -> Result<()> {
    if precision == Precision::Full {
        return Ok(());
    }
    for state in states {
        for tensor in state.tensors() {
            let overflows = |value: &&f32| value.is_finite() && !f16::from_f32(**value).is_finite();
            if let Some(value) = tensor.values.iter().find(overflows) {
                let key = format!("{}.{}", state.network().stem(), tensor.name);
                let reason = format!("`{key}`: {value} is out of the range of half precision");
                return Err(Error::weights(path, reason));
            }
        }
    }
    Ok(())
}
