//! The `[diffusion]` table.

use serde::{Deserialize, Serialize};

use crate::checks::Check;
use crate::error::Result;

/// What the denoiser predicts and how one reverse step is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerKind {
    /// Predicts the noise; the posterior mean, no noise added (GoPro release).
    #[default]
    Eps,
    /// Predicts the prior itself; the posterior mean, no noise added (RealBlur release).
    X0,
    /// Predicts the noise; Eq. 6, noise added except at the last step (the paper).
    Ancestral,
}

/// How β grows with the timestep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The names are the formulas'; see `diffusion::schedule`.
pub enum ScheduleKind {
    /// In β; with the `x0` sampler, as in the RealBlur release, in √β.
    #[default]
    Linear,
    /// In √β.
    Quad,
    Warmup10,
    Warmup50,
    Const,
    Jsd,
    Cosine,
}

/// The diffusion in the latent space (paper, section 3.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// The reverse step.
    pub sampler: SamplerKind,
    /// Steps, T.
    pub timesteps: usize,
    /// The formula for β.
    pub schedule: ScheduleKind,
    /// The first β.
    pub beta_start: f64,
    /// The last β.
    pub beta_end: f64,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            sampler: SamplerKind::Eps,
            timesteps: 8,
            schedule: ScheduleKind::Linear,
            beta_start: 0.1,
            beta_end: 0.99,
        }
    }
}

impl DiffusionConfig {
    pub(crate) fn validate(&self, check: &Check) -> Result<()> {
        check.size("diffusion.timesteps", self.timesteps, 1, 10_000)?;
        check.that(
            self.schedule != ScheduleKind::Jsd || self.sampler == SamplerKind::X0,
            "diffusion.schedule",
            self.schedule,
            "one that ends below β = 1, unless the sampler is x0: nothing of the prior is left to find in pure noise",
        )?;
        let inside = |beta: f64| beta > 0.0 && beta < 1.0;
        let expected = "a number above 0 and below 1";
        check.that(
            inside(self.beta_start),
            "diffusion.beta_start",
            self.beta_start,
            expected,
        )?;
        check.that(
            inside(self.beta_end),
            "diffusion.beta_end",
            self.beta_end,
            expected,
        )?;
        check.that(
            self.beta_start <= self.beta_end,
            "diffusion.beta_end",
            self.beta_end,
            "no less than diffusion.beta_start",
        )
    }
}
