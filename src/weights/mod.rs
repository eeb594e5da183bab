//! Weight files: the published folders of `.pth`, and one `.safetensors` that knows its configuration.
//!
//! Both hold the tensors under the published PyTorch names, in PyTorch's layout: a folder in `net_g.pth` (the
//! Transformer), `net_le_dm.pth`, `net_d.pth` and, for training, `net_le.pth`; a `.safetensors` under the same words as
//! prefixes (`net_g.patch_embed.proj.weight`). The `.safetensors` carries the model's configuration in its metadata; a
//! folder may have it beside the files, as [`CONFIG_FILE`].
//!
//! Files are taken for what strangers sent: no code in a pickle is run, nothing is allocated because a header says so,
//! checksums are compared where the format has them, and a damaged or foreign file is one [`Error`] that names it.

mod fit;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod model;
mod module;
mod names;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "lpips")]
mod other;
mod pickle;
mod pytorch;
mod safetensors;
mod state_dict;
mod tensors;
mod write;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::backend::Backend;

pub use fit::Fit;
pub use model::{Loader, bundled_config};
#[cfg(feature = "onnx")]
pub use onnx::{OnnxOptions, onnx_networks, save_onnx};
#[cfg(feature = "lpips")]
pub(crate) use other::read_parameters;
pub use state_dict::{NamedTensor, StateDict};
pub use write::{Precision, save_pytorch, save_safetensors};

use crate::config::Config;
pub use crate::config::Network;
use crate::error::{Error, Result};
use module::{Parameters, Root};
use tensors::Tensors;

/// The configuration's file name in a folder of `.pth`.
pub const CONFIG_FILE: &str = "config.toml";

impl Network {
    /// All of them.
    pub const ALL: [Network; 4] = [
        Self::Transformer,
        Self::LatentEncoder,
        Self::ConditionEncoder,
        Self::Denoiser,
    ];

    /// The published name: a file's without `.pth`, or a key's prefix.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Transformer => "net_g",
            Self::LatentEncoder => "net_le",
            Self::ConditionEncoder => "net_le_dm",
            Self::Denoiser => "net_d",
        }
    }

    /// The name in reports, such as `condition_encoder`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::LatentEncoder => "latent_encoder",
            Self::ConditionEncoder => "condition_encoder",
            Self::Denoiser => "denoiser",
        }
    }

    fn title(self) -> String {
        self.name().replace('_', " ")
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.name() == name)
    }

    fn from_stem(stem: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.stem() == stem)
    }

    fn file_name(self) -> String {
        format!("{}.pth", self.stem())
    }
}

/// How strict loading is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Accept values that are NaN or infinite.
    pub allow_non_finite: bool,
}

/// A weight file or folder, opened.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    source: Opened,
}

#[derive(Debug)]
enum Opened {
    /// Each file is read when its network is asked for.
    Folder {
        networks: Vec<Network>,
        config: Option<Config>,
    },
    File(safetensors::Content),
}

impl Weights {
    /// Opens a folder of `.pth` files or a single `.safetensors`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Weights`] if it is neither.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let expected = || Network::ALL.map(Network::file_name).join(", ");
        let source = if path.is_dir() {
            let present = |network: &Network| path.join(network.file_name()).is_file();
            let networks: Vec<_> = Network::ALL.into_iter().filter(present).collect();
            if networks.is_empty() {
                return Err(Error::weights(
                    path,
                    format!("holds none of {}", expected()),
                ));
            }
            Opened::Folder {
                networks,
                config: folder_config(path)?,
            }
        } else if path
            .extension()
            .is_some_and(|kind| kind == "pth" || kind == "pt")
        {
            let reason = format!(
                "a model is a folder of such files, {}: name the folder, or a .safetensors",
                expected()
            );
            return Err(Error::weights(path, reason));
        } else if path.extension().is_some_and(|kind| kind == "onnx") {
            let reason =
                "ONNX files are written and not read: name the weights that it was made from";
            return Err(Error::weights(path, reason));
        } else {
            return Self::from_bytes(path, tensors::read_file(path)?);
        };
        Ok(Self {
            path: path.to_path_buf(),
            source,
        })
    }

    /// The weights in the bytes of a `.safetensors`, which errors call `name`.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are no such file.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.as_ref().to_path_buf();
        let content = safetensors::read(bytes).map_err(|reason| Error::weights(&path, reason))?;
        Ok(Self {
            path,
            source: Opened::File(content),
        })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration that came with the weights: model and diffusion. Published folders have none.
    pub fn config(&self) -> Option<&Config> {
        match &self.source {
            Opened::Folder { config, .. } => config.as_ref(),
            Opened::File(content) => content.config.as_ref(),
        }
    }

    /// The networks it has weights for.
    pub fn networks(&self) -> Vec<Network> {
        match &self.source {
            Opened::Folder { networks, .. } => networks.clone(),
            Opened::File(content) => content.networks.keys().copied().collect(),
        }
    }

    /// Puts the weights of `network` into `module`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with every key that is missing, unexpected, of another shape or kind, or not finite;
    /// [`Error::Weights`] if there are no weights of that network or the file is damaged. The module then is as before.
    pub fn apply<B: Backend, M: Module<B>>(
        &self,
        network: Network,
        module: &mut M,
        options: &LoadOptions,
    ) -> Result<()> {
        let root = Root::Network(network);
        let states = self.fit(vec![network], module::shapes(root, module), options)?;
        *module = module::replace(root, module.clone(), states);
        Ok(())
    }

    /// The weights of `networks`, or one error with all that differs from the parameters expected.
    fn fit(
        &self,
        networks: Vec<Network>,
        mut expected: Parameters,
        options: &LoadOptions,
    ) -> Result<Vec<StateDict>> {
        let mut states = Vec::new();
        let mut problems = Vec::new();
        for network in networks {
            let expected = expected.remove(&network).unwrap_or_default();
            let label = |key: Option<&str>| self.label(network, key);
            match StateDict::fit(network, expected, &self.tensors(network)?, options, label) {
                Ok(state) => states.push(state),
                Err(lines) => problems.extend(lines),
            }
        }
        if problems.is_empty() {
            return Ok(states);
        }
        Err(Error::Mismatch {
            path: self.path.clone(),
            problems,
        })
    }

    fn tensors(&self, network: Network) -> Result<Tensors> {
        let absent = |place: String| {
            let reason = format!("the {} is missing: expected {place}", network.title());
            Error::weights(&self.path, reason)
        };
        match &self.source {
            Opened::Folder { networks, .. } if networks.contains(&network) => {
                let path = self.path.join(network.file_name());
                let tensors = pytorch::read(tensors::read_file(&path)?);
                tensors.map_err(|reason| Error::weights(&path, reason))
            }
            Opened::Folder { .. } => Err(absent(network.file_name())),
            Opened::File(content) => {
                let tensors = content.networks.get(&network).cloned();
                tensors.ok_or_else(|| absent(format!("keys that begin with {}.", network.stem())))
            }
        }
    }

    /// Where a user finds a key: in which file, or under which prefix.
    fn label(&self, network: Network, key: Option<&str>) -> String {
        match (&self.source, key) {
            (Opened::Folder { .. }, Some(key)) => format!("{}: `{key}`", network.file_name()),
            (Opened::Folder { .. }, None) => network.file_name(),
            (Opened::File(_), key) => format!("`{}.{}`", network.stem(), key.unwrap_or("*")),
        }
    }
}

fn folder_config(folder: &Path) -> Result<Option<Config>> {
    let path = folder.join(CONFIG_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Config::parse(&text, &path.display().to_string()).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&path)(error)),
    }
}
