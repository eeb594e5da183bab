//! The two stages: what they are called, and what learns in them.

use std::fmt;

use crate::config::{Config, Network, Objective, Prior, StageConfig, TrainingConfig};
use crate::error::{Error, Result};

/// A stage of the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// LE and Transformer (paper, section 3.1).
    One = 1,
    /// Transformer, LE_DM and denoiser (paper, section 3.2).
    Two = 2,
}

impl Stage {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// 1 or 2, as logs have it.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The stage of a number.
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.number() == number)
    }

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "stage one",
            Self::Two => "stage two",
        }
    }

    /// As it stands at the head of something.
    pub const fn title(self) -> &'static str {
        match self {
            Self::One => "Stage one",
            Self::Two => "Stage two",
        }
    }

    /// Its folder in a run's.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::One => "stage-one",
            Self::Two => "stage-two",
        }
    }

    pub(super) fn config(self, training: &TrainingConfig) -> &StageConfig {
        match self {
            Self::One => &training.stage_one,
            Self::Two => &training.stage_two,
        }
    }

    /// Whether the Transformer's output is compared with the sharp image.
    pub(super) fn restores(self, objective: Objective) -> bool {
        self == Self::One || objective == Objective::Joint
    }

    /// The networks that learn if none is frozen.
    fn learns(self, config: &Config) -> &'static [Network] {
        match (self, config.model.prior, config.training.objective) {
            (_, Prior::None, _) => &[Network::Transformer],
            (Self::One, ..) => &[Network::Transformer, Network::LatentEncoder],
            (Self::Two, _, Objective::Joint) => &[
                Network::Transformer,
                Network::ConditionEncoder,
                Network::Denoiser,
            ],
            (Self::Two, _, Objective::Split) => &[Network::ConditionEncoder, Network::Denoiser],
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which stages of the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Stages {
    /// The latent encoder with the Transformer.
    One,
    /// The diffusion, with the Transformer or alone.
    ///
    /// From stage one's weights.
    Two,
    /// One after the other.
    ///
    /// A model without a prior has stage one only.
    Both,
}

impl Stages {
    /// Whether a stage runs, of a model with such a prior.
    pub(super) fn include(self, stage: Stage, prior: Prior) -> bool {
        match stage {
            Stage::One => self != Self::Two,
            Stage::Two => self != Self::One && prior != Prior::None,
        }
    }

    /// Refuses a stage that cannot run: there is none, or nothing would learn in it.
    pub(super) fn check(self, config: &Config) -> Result<()> {
        if self == Self::Two && config.model.prior == Prior::None {
            return Err(Error::Training(
                "a model without a prior has no stage two".into(),
            ));
        }
        let frozen = &config.training.freeze;
        for stage in Stage::ALL {
            let learns = stage.learns(config);
            if self.include(stage, config.model.prior)
                && learns.iter().all(|network| frozen.contains(network))
            {
                let names: Vec<_> = learns.iter().map(|network| network.name()).collect();
                return Err(Error::Config {
                    origin: stage.to_string(),
                    key: "training.freeze".to_string(),
                    reason: format!(
                        "nothing is left to learn: leave out one of {}, or this stage",
                        names.join(", ")
                    ),
                });
            }
        }
        Ok(())
    }
}
