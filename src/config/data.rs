//! The `[data]` table. It stands here, since it is read by builds that have no pictures too.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::blur::BlurModel;
use crate::checks::Check;
use crate::error::Result;

/// How a dataset keeps its blurry and sharp images, as downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `{train,test}/<sequence>/{blur,sharp}/`.
    Gopro,
    /// The same with `blur_gamma/`, the blur of which was made after gamma correction.
    GoproGamma,
    /// `{train,test}/` with blurry images at any depth, and `GT/` with the sharp ones by file name.
    Hide,
    /// `RealBlur_J_{train,test}_list.txt` with a `target input` pair of paths a line.
    RealblurJ,
    /// `RealBlur_R_{train,test}_list.txt`, likewise.
    RealblurR,
    /// `input/` and `target/`, in a folder or in its `train/` and `test/`.
    InputTarget,
    /// `blur/` and `sharp/`, likewise.
    BlurSharp,
    /// Sharp photographs alone, at any depth, which training blurs as it draws them.
    Sharp,
}

impl Layout {
    /// What `data.layout` calls looking at the folder; in this crate, no layout.
    pub const AUTO: &'static str = "auto";
    /// All layouts.
    pub const ALL: [Self; 8] = [
        Self::Gopro,
        Self::GoproGamma,
        Self::Hide,
        Self::RealblurJ,
        Self::RealblurR,
        Self::InputTarget,
        Self::BlurSharp,
        Self::Sharp,
    ];
    /// What a configuration may say, [`AUTO`](Self::AUTO) included.
    pub const NAMES: &'static [&'static str] = &[
        Self::AUTO,
        Self::Gopro.name(),
        Self::GoproGamma.name(),
        Self::Hide.name(),
        Self::RealblurJ.name(),
        Self::RealblurR.name(),
        Self::InputTarget.name(),
        Self::BlurSharp.name(),
        Self::Sharp.name(),
    ];
    /// The same where only pairs will do.
    pub const PAIR_NAMES: &'static [&'static str] = &[
        Self::AUTO,
        Self::Gopro.name(),
        Self::GoproGamma.name(),
        Self::Hide.name(),
        Self::RealblurJ.name(),
        Self::RealblurR.name(),
        Self::InputTarget.name(),
        Self::BlurSharp.name(),
    ];

    /// Its name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gopro => "gopro",
            Self::GoproGamma => "gopro-gamma",
            Self::Hide => "hide",
            Self::RealblurJ => "realblur-j",
            Self::RealblurR => "realblur-r",
            Self::InputTarget => "input-target",
            Self::BlurSharp => "blur-sharp",
            Self::Sharp => "sharp",
        }
    }

    /// The layout of one of [`NAMES`](Self::NAMES); none for [`AUTO`](Self::AUTO), and for other names.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name)
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !Self::NAMES.contains(&name.as_str()) {
            return Err(serde::de::Error::unknown_variant(&name, Self::NAMES));
        }
        Ok(Self::named(&name))
    }

    fn serialize<S: Serializer>(layout: &Option<Self>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(layout.map_or(Self::AUTO, Self::name))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the training images are and how they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of the training pairs, in one of the [layouts](Layout); `--data` replaces it and `sources`.
    pub train: Option<PathBuf>,
    /// Folders of validation pairs, each a set with scores of its own; in TOML one folder or an array of them. Without
    /// one, `validation_share` of the training pairs.
    #[serde(
        serialize_with = "one_or_many::serialize",
        deserialize_with = "one_or_many::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub validation: Vec<PathBuf>,
    /// The layout of the folders; `auto`, here none, detects each.
    #[serde(
        serialize_with = "Layout::serialize",
        deserialize_with = "Layout::deserialize"
    )]
    pub layout: Option<Layout>,
    /// Share of the training pairs kept for validation where there is no folder for it.
    pub validation_share: f64,
    /// Whether patches are flipped and rotated.
    pub augment: bool,
    /// Threads that read, blur and crop images.
    pub workers: usize,
    /// Several folders to train on, in place of `train`.
    pub sources: Vec<SourceConfig>,
    /// How photographs of the layout [`Sharp`](Layout::Sharp) are blurred.
    pub blur: BlurModel,
}

/// A folder to train on, beside others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The folder.
    pub path: PathBuf,
    /// How it holds its images; `auto`, here none, detects it.
    #[serde(
        default,
        serialize_with = "Layout::serialize",
        deserialize_with = "Layout::deserialize"
    )]
    pub layout: Option<Layout>,
    /// How many samples are taken from it, beside the other sources' weights.
    #[serde(default = "source_weight")]
    pub weight: f64,
}

fn source_weight() -> f64 {
    1.0
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: None,
            validation: Vec::new(),
            layout: None,
            validation_share: 0.05,
            augment: true,
            workers: 2,
            sources: Vec::new(),
            blur: BlurModel::default(),
        }
    }
}

/// Folders, in TOML one of them or an array.
mod one_or_many {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a folder or an array of folders")]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<PathBuf>, D::Error> {
        // In JSON, as checkpoints of earlier versions have it, none is `null`.
        Ok(match Option::<OneOrMany>::deserialize(d)? {
            None => Vec::new(),
            Some(OneOrMany::One(folder)) => vec![folder],
            Some(OneOrMany::Many(folders)) => folders,
        })
    }

    pub fn serialize<S: Serializer>(folders: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        match folders {
            [folder] => folder.serialize(serializer),
            folders => folders.serialize(serializer),
        }
    }
}

impl DataConfig {
    pub(crate) fn validate(&self, check: &Check) -> Result<()> {
        let share = self.validation_share;
        check.that(
            (0.0..1.0).contains(&share),
            "data.validation_share",
            share,
            "a number from 0 to below 1",
        )?;
        check.size("data.workers", self.workers, 1, 1_024)?;
        check.that(
            self.train.is_none() || self.sources.is_empty(),
            "data.sources",
            "data.train beside it",
            "one of the two: a single folder, or the sources",
        )?;
        for (index, source) in self.sources.iter().enumerate() {
            check.that(
                source.weight.is_finite() && source.weight > 0.0,
                &format!("data.sources[{index}].weight"),
                source.weight,
                "a number above 0",
            )?;
        }
        self.blur.check(check)
    }
}
