//! Which weights to load, for every command that runs a model.

use std::path::PathBuf;

use burn::tensor::Device;
use burn::tensor::backend::Backend;
use hi_diff::inference::{AttentionChoice, Deblurrer};
use hi_diff::kernels::Precision;
use hi_diff::weights::{LoadOptions, Weights};
use hi_diff::{Config, Error, HiDiff};

use crate::attention::AttentionArg;
use crate::backend::BackendChoice;
use crate::changes::Changes;

/// The model's weights and where it runs.
#[derive(clap::Args, Debug)]
pub struct ModelArgs {
    /// Weights: a .safetensors, or a folder of .pth with --config [default: the bundled small model]
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// Configuration of the weights: a preset or a TOML file
    #[arg(long, value_name = "NAME|FILE", requires = "weights")]
    config: Option<String>,
    #[command(flatten)]
    changes: Changes,
    /// Accept weights that are NaN or infinite
    #[arg(long, requires = "weights")]
    allow_non_finite: bool,
    /// Pixels that attention takes its statistics from: `global`, all; `local`, windows of the size that suits the weights, or
    /// `local:N` of N×N; `auto`, local, or global where local makes light that was not there [default: auto for weights that
    /// name a window, else global]
    #[arg(long, value_name = "auto|global|local|local:N")]
    attention: Option<AttentionArg>,
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    /// Numbers that the processor multiplies in: bf16 is for processors with AMX or AVX-512 BF16
    #[arg(long, value_enum, default_value_t)]
    pub precision: Precision,
}

impl ModelArgs {
    /// The weights' path, or `bundled`.
    pub fn name(&self) -> String {
        let path = self.weights.as_ref();
        path.map_or_else(|| "bundled".into(), |path| path.display().to_string())
    }

    /// The attention that was asked for, or else what suits a model of this configuration.
    pub fn attention(&self, config: &Config) -> AttentionChoice {
        match self.attention {
            Some(asked) => asked.of(config),
            None => AttentionChoice::suiting(config.model.transformer.attention()),
        }
    }

    /// The model with what it runs on, in the precision that was asked for.
    ///
    /// # Errors
    /// If the backend or the processor has no such precision.
    pub fn deblurrer<B: Backend>(
        &self,
        model: HiDiff<B>,
        device: Device<B>,
    ) -> hi_diff::Result<Deblurrer<B>> {
        let deblurrer = Deblurrer::new(model, device);
        if self.precision == Precision::F32 {
            return Ok(deblurrer);
        }
        match self.backend.resolve()? {
            BackendChoice::Flex | BackendChoice::Ndarray => deblurrer.in_precision(self.precision),
            _ => Err(Error::Precision {
                precision: self.precision.to_string(),
                reason: "is for the processor: add `--backend flex`, or leave it out".to_string(),
            }),
        }
    }

    /// Builds the model on `device` and loads its weights. Its configuration comes with it.
    pub fn load<B: Backend>(&self, device: &Device<B>) -> hi_diff::Result<(HiDiff<B>, Config)> {
        let weights = match &self.weights {
            Some(path) => Weights::open(path)?,
            None => Weights::bundled()?,
        };
        let given = self.config.as_deref().map(Config::load).transpose()?;
        let config = self
            .changes
            .to(weights.config_or(given.as_ref())?, weights.path())?;
        let options = LoadOptions {
            allow_non_finite: self.allow_non_finite,
        };
        let mut model = config.init(device);
        weights.apply_all(&mut model, &options)?;
        Ok((model, config))
    }
}
