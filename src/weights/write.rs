//! Writes weights as files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use burn::tensor::f16;

use super::{StateDict, pytorch, safetensors};
use crate::config::Config;
use crate::error::{Error, Result};

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
            Self::Full => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Half => {
                values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
            }
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
    whole_file(path, force, |file| safetensors::write(file, config, states, precision))
}

/// Writes each network as its `.pth` into `folder`, which is made if need be, as `torch.save` does.
///
/// # Errors
/// As [`save_safetensors`], for each of the files. Without `force`, none is written if one of them exists.
pub fn save_pytorch(
    folder: impl AsRef<Path>,
    states: &[StateDict],
    precision: Precision,
    force: bool,
) -> Result<()> {
    let folder = folder.as_ref();
    check_range(folder, states, precision)?;
    let files: Vec<(PathBuf, &StateDict)> =
        states.iter().map(|state| (folder.join(state.network().file_name()), state)).collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists() && !force) {
        return Err(exists(path));
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for (path, state) in files {
        whole_file(&path, force, |file| pytorch::write(file, state, precision))?;
    }
    Ok(())
}

/// Half precision ends at 65504: a larger value would be read back as infinite.
fn check_range(path: &Path, states: &[StateDict], precision: Precision) -> Result<()> {
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

/// Lets `write` fill a file beside `path`, then renames it.
fn whole_file(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    if path.exists() && !force {
        return Err(exists(path));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hi-diff-").suffix(".part");
    #[cfg(unix)]
    {
        // A temporary file is for its owner's eyes only; this one becomes an ordinary file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io(folder))?;
    let mut buffer = BufWriter::new(file.as_file_mut());
    write(&mut buffer).and_then(|()| buffer.flush()).map_err(Error::io(path))?;
    drop(buffer);
    file.as_file().sync_all().map_err(Error::io(path))?;
    let renamed = if force { file.persist(path) } else { file.persist_noclobber(path) };
    renamed.map(drop).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Error::io(path)(error.error),
    })
}

fn exists(path: &Path) -> Error {
    let reason = "exists already; --force overwrites it".to_string();
    Error::Refused { path: path.to_path_buf(), reason }
}
