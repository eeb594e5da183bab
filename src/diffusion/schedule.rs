//! β by timestep and what follows from it.

use std::f64::consts::FRAC_PI_2;

use super::config::{DiffusionConfig, SamplerKind, ScheduleKind};

/// The cosine schedule's offset and its largest β.
const COSINE_OFFSET: f64 = 8e-3;
const COSINE_LARGEST_BETA: f64 = 0.999;

/// β, α = 1 − β and their running product ᾱ (Eq. 4), for t = 1 to T at index t − 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
}

impl Schedule {
    /// Computes the schedule in double precision.
    ///
    /// Like the release, it takes `linear` together with the `x0` sampler as latent diffusion defines the word: linear
    /// in √β, which otherwise is called `quad`.
    pub fn new(config: &DiffusionConfig) -> Self {
        let steps = config.timesteps;
        let (start, end) = (config.beta_start, config.beta_end);
        let warmup = |share: f64| {
            let mut betas = vec![end; steps];
            let rising = linspace(start, end, (steps as f64 * share) as usize);
            betas[..rising.len()].copy_from_slice(&rising);
            betas
        };
        let betas = match (config.schedule, config.sampler) {
            (ScheduleKind::Quad, _) | (ScheduleKind::Linear, SamplerKind::X0) => {
                let roots = linspace(start.sqrt(), end.sqrt(), steps);
                roots.into_iter().map(|root| root * root).collect()
            }
            (ScheduleKind::Linear, _) => linspace(start, end, steps),
            (ScheduleKind::Warmup10, _) => warmup(0.1),
            (ScheduleKind::Warmup50, _) => warmup(0.5),
            (ScheduleKind::Const, _) => vec![end; steps],
            (ScheduleKind::Jsd, _) => (0..steps).map(|step| 1.0 / (steps - step) as f64).collect(),
            (ScheduleKind::Cosine, _) => cosine(steps),
        };
        let alphas_cumprod = betas
            .iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(*product)
            })
            .collect();
        Self {
            betas,
            alphas_cumprod,
        }
    }

    /// Steps, T.
    pub fn timesteps(&self) -> usize {
        self.betas.len()
    }

    /// β at t = 1 to T.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// ᾱ at t = 1 to T.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// β at `t` from 1 to T.
    pub fn beta(&self, t: usize) -> f64 {
        self.betas[t - 1]
    }

    /// ᾱ at `t` from 0 to T; ᾱ₀ = 1.
    pub fn alpha_cumprod(&self, t: usize) -> f64 {
        if t == 0 {
            1.0
        } else {
            self.alphas_cumprod[t - 1]
        }
    }

    /// The weights of `z₀` and `z_t` in the mean of q(z_{t−1} | z_t, z₀): `β√ᾱ_{t−1}/(1−ᾱ_t)` and
    /// `(1−ᾱ_{t−1})√α_t/(1−ᾱ_t)`.
    pub fn posterior_coefficients(&self, t: usize) -> (f64, f64) {
        let (beta, now, before) = (
            self.beta(t),
            self.alpha_cumprod(t),
            self.alpha_cumprod(t - 1),
        );
        let rest = 1.0 - now;
        (
            beta * before.sqrt() / rest,
            (1.0 - before) * (1.0 - beta).sqrt() / rest,
        )
    }
}

/// `count` numbers from `start` to `end`, both included; one number is `start`.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    let step = (end - start) / count.saturating_sub(1).max(1) as f64;
    (0..count)
        .map(|i| {
            if i > 0 && i + 1 == count {
                end
            } else {
                start + step * i as f64
            }
        })
        .collect()
}

fn cosine(steps: usize) -> Vec<f64> {
    let alpha = |step: usize| {
        let time = step as f64 / steps as f64 + COSINE_OFFSET;
        (time / (1.0 + COSINE_OFFSET) * FRAC_PI_2).cos().powi(2)
    };
    (0..steps)
        .map(|step| (1.0 - alpha(step + 1) / alpha(step)).min(COSINE_LARGEST_BETA))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Expected {
        betas: Vec<f64>,
        alphas_cumprod: Vec<f64>,
    }

    #[test]
    fn schedules_are_the_published_ones() {
        let text = include_str!("../../tests/fixtures/modules/beta_schedules.json");
        let fixtures: HashMap<String, Expected> = serde_json::from_str(text).expect("JSON");
        assert_eq!(fixtures.len(), 42);
        for (name, expected) in fixtures {
            let (kind, steps) = name.split_once('/').expect("kind/steps");
            let kind: ScheduleKind =
                serde_json::from_value(kind.into()).expect("a schedule's name");
            let config = DiffusionConfig {
                schedule: kind,
                timesteps: steps.parse().expect("a number"),
                ..DiffusionConfig::default()
            };
            let schedule = Schedule::new(&config);
            let pairs = [
                (schedule.betas(), &expected.betas),
                (schedule.alphas_cumprod(), &expected.alphas_cumprod),
            ];
            for (found, expected) in pairs {
                assert_eq!(found.len(), expected.len(), "{name}");
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-12,
                        "{name}: {found} vs {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn linear_means_the_square_root_for_the_x0_sampler() {
        let schedule = |sampler, schedule| {
            Schedule::new(&DiffusionConfig {
                sampler,
                schedule,
                ..DiffusionConfig::default()
            })
        };
        let linear = schedule(SamplerKind::X0, ScheduleKind::Linear);
        assert_eq!(linear, schedule(SamplerKind::Eps, ScheduleKind::Quad));
        assert_ne!(linear, schedule(SamplerKind::Eps, ScheduleKind::Linear));
    }
}
