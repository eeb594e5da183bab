//! HI-Diff (Hierarchical Integration Diffusion Model for Realistic Image Deblurring, NeurIPS 2023) on Burn.
#![deny(missing_docs)]

pub mod backend;
pub mod config;
#[cfg(feature = "image")]
pub mod data;
pub mod diffusion;
pub mod error;
#[cfg(feature = "image")]
pub mod evaluation;
#[cfg(feature = "image")]
pub mod inference;
pub mod model;
#[cfg(feature = "train")]
pub mod training;
pub mod weights;
mod whole;

pub use config::Config;
pub use error::{Error, Result};
pub use model::{HiDiff, Noise};
