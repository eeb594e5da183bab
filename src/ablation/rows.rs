//! The rows: which models are compared, each as a change to one base configuration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{
    Config, DenoiserConfig, DiffusionConfig, LatentEncoderConfig, Objective, Prior, StageConfig,
    Tables,
};
use crate::error::{Error, Result};

/// Tokens along each side of Single-Guide's prior: N = 4.
const SINGLE_GUIDE_GROUP: usize = 2;

/// The numbers of reverse steps that Fig. 3 compares.
pub const SWEEP: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// A model of the ablation study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Row {
    /// A plain Restormer: no prior, one stage with the steps of both.
    Baseline,
    /// One prior of 4 tokens for all levels.
    SingleGuide,
    /// The diffusion trained apart from the Transformer.
    SplitTraining,
    /// The base configuration itself.
    HiDiff,
    /// HI-Diff with another number of reverse steps.
    Timesteps(usize),
}

/// What the paper states for a row of Table 1: trained and tested on GoPro, 100K iterations a stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Parameters in millions.
    pub params_m: f64,
    /// Multiply-accumulates in billions at 3×256×256; of the denoiser, one pass.
    pub macs_g: f64,
    /// PSNR in dB.
    pub psnr: f64,
    /// SSIM, which for GoPro is the volumetric one.
    pub ssim: f64,
}

impl Row {
    /// The rows of Table 1, in the paper's order.
    pub const TABLE: [Row; 4] = [
        Row::Baseline,
        Row::SingleGuide,
        Row::SplitTraining,
        Row::HiDiff,
    ];

    /// Table 1 and the sweep of Fig. 3 around a base with `timesteps` reverse steps, which is the sweep's HI-Diff.
    pub fn all(timesteps: usize) -> Vec<Row> {
        let sweep = SWEEP.into_iter().filter(|&steps| steps != timesteps);
        Self::TABLE
            .into_iter()
            .chain(sweep.map(Row::Timesteps))
            .collect()
    }

    /// The row as others call it: a sweep's T that is the base's own is HI-Diff.
    pub fn normalised(self, timesteps: usize) -> Row {
        match self {
            Row::Timesteps(steps) if steps == timesteps => Row::HiDiff,
            row => row,
        }
    }

    /// The name in tables.
    pub fn title(self) -> String {
        match self {
            Self::Baseline => "Baseline".into(),
            Self::SingleGuide => "Single-Guide".into(),
            Self::SplitTraining => "Split-Training".into(),
            Self::HiDiff => "HI-Diff".into(),
            Self::Timesteps(steps) => format!("HI-Diff, T = {steps}"),
        }
    }

    /// Whether stage two starts from the stage one that HI-Diff has: the networks are the same, and stage one knows
    /// neither T nor the objective.
    pub fn shares_stage_one(self) -> bool {
        !matches!(self, Self::Baseline | Self::SingleGuide)
    }

    /// The paper's figures.
    pub fn published(self) -> Option<Published> {
        let (params_m, macs_g, psnr, ssim) = match self {
            Self::Baseline => (19.13, 117.25, 31.96, 0.9528),
            Self::SingleGuide => (21.98, 125.39, 32.00, 0.9534),
            Self::SplitTraining => (23.99, 125.47, 30.73, 0.9434),
            Self::HiDiff => (23.99, 125.47, 32.24, 0.9558),
            Self::Timesteps(_) => return None,
        };
        Some(Published {
            params_m,
            macs_g,
            psnr,
            ssim,
        })
    }

    /// The row's configuration, from that of HI-Diff.
    ///
    /// # Errors
    /// [`Error::Config`] if the result is none that can be built.
    pub fn config(self, base: &Config) -> Result<Config> {
        base.changed(&format!("ablation row {self}"), |config| self.make(config))
    }

    fn make(self, config: &mut Tables) {
        let training = &mut config.training;
        match self {
            Self::Baseline => {
                config.model.prior = Prior::None;
                training.stage_one = end_to_end(&training.stage_one, &training.stage_two);
                // What a model without a prior does not have, it does not specify.
                config.model.latent_encoder = LatentEncoderConfig::default();
                config.model.denoiser = DenoiserConfig::default();
                config.diffusion = DiffusionConfig::default();
            }
            Self::SingleGuide => {
                config.model.prior = Prior::SingleScale;
                config.model.group = SINGLE_GUIDE_GROUP;
            }
            Self::SplitTraining => training.objective = Objective::Split,
            Self::HiDiff => {}
            Self::Timesteps(steps) => config.diffusion.timesteps = steps,
        }
    }
}

/// Refuses a base that is a row of the study already.
///
/// # Errors
/// [`Error::Config`] if it is not HI-Diff, with the multi-scale prior and joint training.
pub fn check_base(base: &Config, origin: &str) -> Result<()> {
    let fail = |key: &str, reason: &str| Error::Config {
        origin: origin.to_string(),
        key: key.to_string(),
        reason: reason.to_string(),
    };
    if base.model.prior != Prior::MultiScale {
        let reason = "the base of an ablation is HI-Diff itself, with the prior `multi-scale`";
        return Err(fail("model.prior", reason));
    }
    if base.training.objective != Objective::Joint {
        let reason = "the base of an ablation is HI-Diff itself, with the objective `joint`";
        return Err(fail("training.objective", reason));
    }
    Ok(())
}

/// One stage that goes through the steps of both, so that at each step patches, batch and learning rate are the same
/// as in the two stages.
fn end_to_end(one: &StageConfig, two: &StageConfig) -> StageConfig {
    let mut whole = one.clone();
    whole.iterations += two.iterations;
    whole.patches.extend(two.patches.iter().cloned());
    let (rate, next) = (&mut whole.learning_rate, &two.learning_rate);
    // A cycle falls from minimum + weight · (initial − minimum), and stage two may have another initial rate.
    let weights = next.restart_weights.iter().zip(&next.minima);
    rate.restart_weights
        .extend(weights.map(|(weight, minimum)| {
            let (from, to) = (next.initial - minimum, rate.initial - minimum);
            if to == 0.0 {
                *weight
            } else {
                weight * from / to
            }
        }));
    rate.periods.extend(&next.periods);
    rate.minima.extend(&next.minima);
    whole
}

/// The name on the command line and of the row's folder: `baseline`, `single-guide`, `split-training`, `hi-diff`, or
/// `t-` and a number.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Baseline => f.write_str("baseline"),
            Self::SingleGuide => f.write_str("single-guide"),
            Self::SplitTraining => f.write_str("split-training"),
            Self::HiDiff => f.write_str("hi-diff"),
            Self::Timesteps(steps) => write!(f, "t-{steps}"),
        }
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let steps = name.strip_prefix("t-").and_then(|steps| steps.parse().ok());
        let row = steps.filter(|&steps| steps > 0).map(Row::Timesteps);
        let row = row.or_else(|| Self::TABLE.into_iter().find(|row| row.to_string() == name));
        row.ok_or_else(|| {
            "expected baseline, single-guide, split-training, hi-diff, or t-N for N reverse steps"
                .to_string()
        })
    }
}

impl From<Row> for String {
    fn from(row: Row) -> Self {
        row.to_string()
    }
}

impl TryFrom<String> for Row {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for row in Row::all(8) {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        assert_eq!("t-8".parse(), Ok(Row::Timesteps(8)));
        for wrong in ["t-0", "t-", "t-x", "ours", ""] {
            assert!(wrong.parse::<Row>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_sweep_holds_the_base_once() {
        let sweep = |timesteps| -> Vec<String> {
            let rows = Row::all(timesteps).into_iter().skip(4);
            rows.map(|row| row.to_string()).collect()
        };
        assert_eq!(sweep(8), ["t-1", "t-2", "t-4", "t-16", "t-32"]);
        assert_eq!(sweep(16), ["t-1", "t-2", "t-4", "t-8", "t-32"]);
        assert_eq!(Row::Timesteps(8).normalised(8), Row::HiDiff);
        assert_eq!(Row::Timesteps(8).normalised(16), Row::Timesteps(8));
    }

    #[test]
    fn presets_are_what_the_rows_make_of_hi_diff_2() {
        let base = Config::preset("hi-diff-2").unwrap();
        for row in Row::TABLE {
            let derived = row.config(&base).unwrap();
            let preset = Config::preset(&format!("ablation/{row}")).unwrap();
            assert_eq!(derived.model, preset.model, "{row}");
            assert_eq!(derived.diffusion, preset.diffusion, "{row}");
            assert_eq!(
                derived.training.objective, preset.training.objective,
                "{row}"
            );
        }
    }

    #[test]
    fn the_baseline_goes_through_the_steps_of_both_stages() {
        let base = r#"
            [training.stage_one]
            iterations = 1_800
            learning_rate = { initial = 1e-3, periods = [1_800], restart_weights = [1.0], minima = [1e-6] }
            patches = [{ patch = 64, batch = 4, iterations = 1_800 }]
            [training.stage_two]
            iterations = 400
            learning_rate = { initial = 7e-4, periods = [400], restart_weights = [1.0], minima = [1e-5] }
            patches = [
                { patch = 64, batch = 4, iterations = 300 },
                { patch = 96, batch = 2, iterations = 100 },
            ]
        "#;
        let base = Config::parse(base, "test").unwrap();
        let baseline = Row::Baseline.config(&base).unwrap();
        let baseline = &baseline.training.stage_one;
        let (one, two) = (&base.training.stage_one, &base.training.stage_two);
        assert_eq!(baseline.iterations, 2_200);
        let rate = |iteration| baseline.learning_rate.at(iteration);
        let same = |found: f64, expected: f64| {
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{found} for {expected}"
            );
        };
        for iteration in [1, 2, 900, 1_800] {
            same(rate(iteration), one.learning_rate.at(iteration));
        }
        // A cycle begins one iteration after its predecessor's last value.
        for iteration in [2, 200, 400] {
            same(rate(1_800 + iteration), two.learning_rate.at(iteration));
        }
        let sizes: Vec<_> = baseline
            .patches
            .iter()
            .map(|entry| (entry.patch, entry.batch, entry.iterations))
            .collect();
        assert_eq!(sizes, [(64, 4, 1_800), (64, 4, 300), (96, 2, 100)]);
    }

    #[test]
    fn only_hi_diff_itself_is_a_base() {
        check_base(&Config::preset("hi-diff-2").unwrap(), "test").unwrap();
        for (preset, key) in [
            ("ablation/baseline", "model.prior"),
            ("ablation/split-training", "training.objective"),
        ] {
            let error = check_base(&Config::preset(preset).unwrap(), "test").unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
