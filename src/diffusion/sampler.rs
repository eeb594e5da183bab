//! The reverse chain, from noise to prior, in the three ways that have been published.

use burn::prelude::*;

use super::config::{DiffusionConfig, SamplerKind};
use super::schedule::Schedule;

/// Steps from `z_T` to `z₀`.
///
/// | kind | time given to the network | it predicts | step |
/// |---|---|---|---|
/// | `eps` | t | the noise; the `z₀` that follows is clamped to ±1 | the posterior's mean |
/// | `x0` | t − 1 | `z₀` | the posterior's mean |
/// | `ancestral` | t | the noise | Eq. 6, with noise but at t = 1 |
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    kind: SamplerKind,
    schedule: Schedule,
}

/// The Gaussian noise of one reverse chain, each tensor `[batch, N, C']`.
#[derive(Debug, Clone)]
pub struct ChainNoise<B: Backend> {
    /// The start, or the noise in it during training.
    pub start: Tensor<B, 3>,
    /// What is added at t = T to 2 by the `ancestral` sampler; the others use none.
    pub steps: Vec<Tensor<B, 3>>,
}

impl<B: Backend> From<Tensor<B, 3>> for ChainNoise<B> {
    fn from(start: Tensor<B, 3>) -> Self {
        Self {
            start,
            steps: Vec::new(),
        }
    }
}

impl Sampler {
    /// The sampler of a configuration.
    pub fn new(config: &DiffusionConfig) -> Self {
        Self {
            kind: config.sampler,
            schedule: Schedule::new(config),
        }
    }

    /// The noise schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What the network predicts, and how a step is made.
    pub fn kind(&self) -> SamplerKind {
        self.kind
    }

    /// How many tensors [`ChainNoise::steps`] must hold.
    pub fn noise_steps(&self) -> usize {
        match self.kind {
            SamplerKind::Ancestral => self.schedule.timesteps() - 1,
            SamplerKind::Eps | SamplerKind::X0 => 0,
        }
    }

    /// The time that the network is given at step `t` from T to 1.
    pub fn network_time(&self, t: usize) -> f64 {
        match self.kind {
            SamplerKind::X0 => t as f64 - 1.0,
            SamplerKind::Eps | SamplerKind::Ancestral => t as f64,
        }
    }

    /// The start of the chain in training: `s·z + √(1−s²)·noise`, with `s = √ᾱ_T`, or `s = ᾱ_T` for `eps` as released.
    pub fn diffuse<B: Backend>(&self, z: Tensor<B, 3>, noise: Tensor<B, 3>) -> Tensor<B, 3> {
        let alpha_cumprod = self.schedule.alpha_cumprod(self.schedule.timesteps());
        let signal = match self.kind {
            SamplerKind::Eps => alpha_cumprod,
            SamplerKind::X0 | SamplerKind::Ancestral => alpha_cumprod.sqrt(),
        };
        z * signal + noise * (1.0 - signal * signal).sqrt()
    }

    /// Runs all T steps from `start`. `predict(z_t, time)` is the network; `noise` holds
    /// [`noise_steps`](Self::noise_steps) tensors.
    ///
    /// # Shapes
    /// - start, the network's output and the result: `[batch, N, C']`
    ///
    /// # Panics
    /// For less noise than that.
    pub fn sample<B: Backend>(
        &self,
        start: Tensor<B, 3>,
        noise: Vec<Tensor<B, 3>>,
        predict: impl Fn(Tensor<B, 3>, f64) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let (found, expected) = (noise.len(), self.noise_steps());
        assert!(
            found >= expected,
            "noise for {found} steps, expected {expected}"
        );
        let mut noise = noise.into_iter();
        (1..=self.schedule.timesteps()).rev().fold(start, |z, t| {
            let prediction = predict(z.clone(), self.network_time(t));
            let mean = self.step(z, prediction, t);
            match (self.kind, noise.next()) {
                (SamplerKind::Ancestral, Some(noise)) if t > 1 => {
                    mean + noise * self.schedule.beta(t).sqrt()
                }
                _ => mean,
            }
        })
    }

    /// The mean of `z_{t−1}`.
    fn step<B: Backend>(
        &self,
        z: Tensor<B, 3>,
        prediction: Tensor<B, 3>,
        t: usize,
    ) -> Tensor<B, 3> {
        let schedule = &self.schedule;
        let alpha_cumprod = schedule.alpha_cumprod(t);
        let posterior_mean = |z0: Tensor<B, 3>, z: Tensor<B, 3>| {
            let (of_z0, of_z) = schedule.posterior_coefficients(t);
            z0 * of_z0 + z * of_z
        };
        match self.kind {
            SamplerKind::Eps => {
                let inverse = 1.0 / alpha_cumprod;
                let z0 = z.clone() * inverse.sqrt() - prediction * (inverse - 1.0).sqrt();
                posterior_mean(z0.clamp(-1.0, 1.0), z)
            }
            SamplerKind::X0 => posterior_mean(prediction, z),
            SamplerKind::Ancestral => {
                let beta = schedule.beta(t);
                let noise = prediction * (beta / (1.0 - alpha_cumprod).sqrt());
                (z - noise) / (1.0 - beta).sqrt()
            }
        }
    }
}
