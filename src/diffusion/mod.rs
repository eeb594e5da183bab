//! The diffusion of the prior in its latent space (paper, section 3.2).

mod config;
pub mod sampler;
pub mod schedule;

pub use config::{DiffusionConfig, SamplerKind, ScheduleKind};
pub use sampler::{ChainNoise, Sampler};
pub use schedule::Schedule;
