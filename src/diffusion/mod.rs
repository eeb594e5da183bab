//! The diffusion of the prior in its latent space (paper, section 3.2).

pub mod sampler;
pub mod schedule;

pub use sampler::{ChainNoise, Sampler};
pub use schedule::Schedule;
