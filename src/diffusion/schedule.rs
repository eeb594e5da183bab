//! β by timestep and what follows from it.

use std::f64::consts::FRAC_PI_2;

use crate::config::{DiffusionConfig, ScheduleKind};

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
    pub fn new(config: &DiffusionConfig) -> Self {
        let steps = config.timesteps;
        let (start, end) = (config.beta_start, config.beta_end);
        let warmup = |share: f64| {
            let mut betas = vec![end; steps];
            let rising = linspace(start, end, (steps as f64 * share) as usize);
            betas[..rising.len()].copy_from_slice(&rising);
            betas
        };
        let betas = match config.schedule {
            ScheduleKind::Linear => linspace(start, end, steps),
            ScheduleKind::Quad => linspace(start.sqrt(), end.sqrt(), steps)
                .into_iter()
                .map(|root| root * root)
                .collect(),
            ScheduleKind::Warmup10 => warmup(0.1),
            ScheduleKind::Warmup50 => warmup(0.5),
            ScheduleKind::Const => vec![end; steps],
            ScheduleKind::Jsd => (0..steps).map(|step| 1.0 / (steps - step) as f64).collect(),
            ScheduleKind::Cosine => cosine(steps),
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
