//! Burn data loaders: training patches made ahead by worker threads, and whole validation images.

mod batch;
mod patches;
mod scores;
mod validation;
mod workers;

pub use batch::{Batch, NoiseShape};
pub use patches::{PatchLoader, PatchLoaderSettings};
pub use scores::{Score, Scores};
pub use validation::{ValidationImage, ValidationLoader};
