//! The TOML configuration: the model, its diffusion, the data and the training.
//!
//! Every key has a default, the published GoPro model's, so a file says only what differs. Unknown keys, wrong
//! types and impossible values are errors that name the key.

use std::ops::Deref;
use std::path::Path;

use burn::prelude::{Backend, Device};
use serde::{Deserialize, Deserializer, Serialize};

pub mod blur;
mod data;
mod setting;
mod training;

pub use crate::diffusion::{DiffusionConfig, SamplerKind, ScheduleKind};
pub use crate::model::{
    DenoiserConfig, LatentEncoderConfig, LatentEncoderVariant, ModelConfig, Network, NormKind,
    Prior, TransformerConfig,
};
pub use data::{DataConfig, Layout, SourceConfig};
pub use setting::Setting;
pub use training::*;

use crate::checks::Check;
use crate::error::{Error, Result};
use crate::model::HiDiff;

/// The presets of `configs/`, by file name.
const PRESETS: &[(&str, &str)] = &[
    ("gopro", include_str!("../../configs/gopro.toml")),
    ("realblur-j", include_str!("../../configs/realblur-j.toml")),
    ("realblur-r", include_str!("../../configs/realblur-r.toml")),
    ("hi-diff-2", include_str!("../../configs/hi-diff-2.toml")),
    ("paper", include_str!("../../configs/paper.toml")),
    ("small", include_str!("../../configs/small.toml")),
    ("tiny", include_str!("../../configs/tiny.toml")),
    (
        "ablation/baseline",
        include_str!("../../configs/ablation/baseline.toml"),
    ),
    (
        "ablation/single-guide",
        include_str!("../../configs/ablation/single-guide.toml"),
    ),
    (
        "ablation/split-training",
        include_str!("../../configs/ablation/split-training.toml"),
    ),
    (
        "ablation/hi-diff",
        include_str!("../../configs/ablation/hi-diff.toml"),
    ),
];

/// A configuration that was checked: all of its values can be used. What it holds is that of its [`Tables`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Tables")]
pub struct Config(Tables);

impl Deref for Config {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl TryFrom<Tables> for Config {
    type Error = Error;

    fn try_from(tables: Tables) -> Result<Self> {
        tables.check("the configuration")
    }
}

/// What a configuration file says, which may be impossible.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tables {
    /// The networks.
    pub model: ModelConfig,
    /// The diffusion of the prior.
    pub diffusion: DiffusionConfig,
    /// Where training images come from. No part of a weight file.
    #[serde(skip_serializing_if = "is_default")]
    pub data: DataConfig,
    /// How both stages are trained. No part of a weight file.
    #[serde(skip_serializing_if = "is_default")]
    pub training: TrainingConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Config {
    /// The names of the embedded presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// An embedded preset such as `gopro` or `ablation/baseline`.
    ///
    /// # Errors
    /// [`Error::UnknownConfig`] if there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        match PRESETS.iter().find(|(preset, _)| *preset == name) {
            Some((name, text)) => Self::parse(text, name),
            None => Err(Error::UnknownConfig {
                name: name.to_string(),
                presets: Self::presets().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// A preset by name, or else the TOML file of that path.
    ///
    /// # Errors
    /// As [`preset`](Self::preset) and [`parse`](Self::parse), or [`Error::Io`].
    pub fn load(name_or_path: &str) -> Result<Self> {
        let path = Path::new(name_or_path);
        if !path.is_file() {
            return Self::preset(name_or_path);
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, name_or_path)
    }

    /// As [`load`](Self::load), with `changes` made to what was read.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`with`](Self::with).
    pub fn load_with(name_or_path: &str, changes: &[Setting]) -> Result<Self> {
        Self::load(name_or_path)?.with(name_or_path, changes)
    }

    /// This configuration with `changes` made one after the other, and then checked as a file is. `origin` is what errors
    /// call the configuration itself.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, and whether the value is one of the changes.
    pub fn with(&self, origin: &str, changes: &[Setting]) -> Result<Self> {
        if changes.is_empty() {
            return Ok(self.clone());
        }
        let fail = |key: &str, reason: String| Error::Config {
            origin: origin.to_string(),
            key: key.to_string(),
            reason,
        };
        let table = toml::Table::try_from(self);
        let mut table = table.map_err(|error| fail("(top level)", error.to_string()))?;
        for change in changes {
            change.make(&mut table)?;
        }
        let all = || changes.iter().map(Setting::to_string).collect::<Vec<_>>();
        let checked = Tables::read(table, origin).and_then(|tables| tables.check(origin));
        checked.map_err(|error| match error {
            Error::Config { key, reason, .. } => {
                let own = changes.iter().rev().find(|change| change.concerns(&key));
                let origin = match own {
                    Some(change) => change.to_string(),
                    None => format!("{origin} with {}", all().join(" ")),
                };
                Error::Config {
                    origin,
                    key,
                    reason,
                }
            }
            error => error,
        })
    }

    /// Reads and checks a configuration in TOML. `origin` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, what was found and what was expected.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let document = toml::Deserializer::parse(text).map_err(|error| Error::Config {
            origin: origin.to_string(),
            key: "(syntax)".to_string(),
            reason: syntax_reason(text, &error),
        })?;
        Tables::read(document, origin)?.check(origin)
    }

    /// This configuration with a change made, and then checked. `origin` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Config`] for the first value that cannot be used.
    pub fn changed(&self, origin: &str, change: impl FnOnce(&mut Tables)) -> Result<Self> {
        let mut tables = self.0.clone();
        change(&mut tables);
        tables.check(origin)
    }

    /// The model and diffusion alone: what a weight file carries.
    pub fn without_training(&self) -> Self {
        Self(Tables {
            data: DataConfig::default(),
            training: TrainingConfig::default(),
            ..self.0.clone()
        })
    }
}

impl Tables {
    fn read<'de>(
        document: impl Deserializer<'de, Error = toml::de::Error>,
        origin: &str,
    ) -> Result<Self> {
        serde_path_to_error::deserialize(document).map_err(|error| {
            let path = error.path().to_string();
            let key = if path == "." {
                "(top level)".to_string()
            } else {
                path
            };
            Error::Config {
                origin: origin.to_string(),
                key,
                reason: error.into_inner().message().to_string(),
            }
        })
    }

    /// Checks that every value can be used. `origin` is what errors call the configuration.
    ///
    /// # Errors
    /// [`Error::Config`] for the first that cannot.
    pub fn check(self, origin: &str) -> Result<Config> {
        let check = Check { origin };
        self.model.validate(&check)?;
        self.diffusion.validate(&check)?;
        self.data.validate(&check)?;
        self.training.validate(&check)?;
        Ok(Config(self))
    }
}

fn syntax_reason(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    format!("line {line}: {}", error.message().trim())
}

impl Config {
    /// Builds the inference networks on `device`, with random weights.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> HiDiff<B> {
        self.model.init(&self.diffusion, device)
    }

    /// As [`init`](Self::init), with LE, which training needs.
    pub fn init_training<B: Backend>(&self, device: &Device<B>) -> HiDiff<B> {
        self.model.init_training(&self.diffusion, device)
    }
}

/// The published models, with random weights until some are loaded.
impl<B: Backend> HiDiff<B> {
    /// The model released for GoPro (28.49 M parameters).
    pub fn gopro(device: &Device<B>) -> Self {
        Self::published("gopro", device)
    }

    /// The model released for RealBlur-J (24.18 M parameters).
    pub fn realblur_j(device: &Device<B>) -> Self {
        Self::published("realblur-j", device)
    }

    /// The model released for RealBlur-R (24.18 M parameters).
    pub fn realblur_r(device: &Device<B>) -> Self {
        Self::published("realblur-r", device)
    }

    /// HI-Diff-2 of the paper's Table 4 (23.99 M parameters).
    pub fn hi_diff_2(device: &Device<B>) -> Self {
        Self::published("hi-diff-2", device)
    }

    fn published(preset: &str, device: &Device<B>) -> Self {
        Config::preset(preset)
            .expect("the embedded presets are valid")
            .init(device)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn changed(changes: &[&str]) -> Result<Config> {
        let changes: Vec<Setting> = changes.iter().map(|text| text.parse().unwrap()).collect();
        Config::load_with("gopro", &changes)
    }

    #[test]
    fn changes_are_made_one_after_the_other() {
        let config = changed(&[
            "training.ema=0.9",
            "training.ema = 0.999",
            "model.transformer.blocks=[1,1,2,2]",
            "model.prior=none",
            "data.validation=held out",
            "training.stage_two={ iterations = 7, clip = 1 }",
        ])
        .unwrap();
        assert_eq!(config.training.ema, 0.999);
        assert_eq!(config.model.transformer.blocks, [1, 1, 2, 2]);
        assert_eq!(config.model.prior, Prior::None);
        assert_eq!(config.data.validation, [Path::new("held out")]);
        let stage = &config.training.stage_two;
        assert_eq!((stage.iterations, stage.clip), (7, 1.0));
        assert_eq!(
            stage.accumulation,
            StageConfig::default().accumulation,
            "a table takes the place of the whole one"
        );
        assert_eq!(changed(&[]).unwrap(), Config::preset("gopro").unwrap());
    }

    #[test]
    fn a_change_that_cannot_be_made_is_an_error_that_names_it() {
        for (change, expected) in [
            (
                "training.ema=2",
                &["--set training.ema=2", "`training.ema`", "from 0"][..],
            ),
            ("training.emma=0.5", &["--set training.emma=0.5", "emma"]),
            ("trainig.ema=0.5", &["--set trainig.ema=0.5", "trainig"]),
            (
                "model.prior.x=1",
                &["--set model.prior.x=1", "`prior` is a value"],
            ),
            (
                "model.transformer.heads=[1,5,4,8]",
                &["--set", "heads[1]", "divisor"],
            ),
            (
                "model.transformer.dim=[",
                &["--set", "`model.transformer.dim`", "invalid type"],
            ),
            (
                "diffusion.beta_start=0.995",
                &[
                    "gopro with --set diffusion.beta_start=0.995",
                    "`diffusion.beta_end`",
                ],
            ),
        ] {
            let error = changed(&[change]).unwrap_err().to_string();
            for part in expected {
                assert!(
                    error.contains(part),
                    "{change}: {part} is missing in: {error}"
                );
            }
        }
        for text in ["training.ema", "=1", "training..ema=1", ".=1"] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }

    #[test]
    fn validation_folders_are_one_or_several() {
        for (text, folders) in [
            ("workers = 3", &[][..]),
            ("validation = \"a\"", &["a"]),
            ("validation = [\"a\", \"b/c\"]", &["a", "b/c"]),
        ] {
            let config = Config::parse(&format!("[data]\n{text}"), "test").unwrap();
            let expected: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
            assert_eq!(config.data.validation, expected);
            let written = toml::to_string(&config).unwrap();
            assert!(written.contains(text), "{written}");
            assert_eq!(Config::parse(&written, "test").unwrap(), config);
        }
        let before: DataConfig = serde_json::from_str(r#"{"validation":null}"#).unwrap();
        assert_eq!(before, DataConfig::default());
        let error = Config::parse("[data]\nvalidation = 3", "test")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("data.validation") && error.contains("array of folders"),
            "{error}"
        );
    }

    #[test]
    fn every_layout_is_read_and_written_by_its_name() {
        let layouts = Layout::ALL.map(Some).into_iter().chain([None]);
        for (layout, name) in layouts.zip(Layout::NAMES.iter().cycle().skip(1)) {
            let text = format!("[data]\nlayout = \"{name}\"\nworkers = 3\n");
            let config = Config::parse(&text, "test").unwrap();
            assert_eq!(config.data.layout, layout, "{name}");
            let written = toml::to_string(&config).unwrap();
            assert_eq!(Config::parse(&written, "test").unwrap(), config);
            assert!(
                written.contains(&format!("layout = \"{name}\"")),
                "{written}"
            );
        }
    }
}
