//! Burn data loaders: training patches made ahead by worker threads, and whole validation images.

mod batch;
mod patches;
mod scores;
mod validation;
mod workers;

pub use batch::Batch;
pub(crate) use batch::NoiseShape;
pub(crate) use patches::{PatchLoader, PatchLoaderSettings};
pub use scores::{ValidationScore, ValidationScores};
pub use validation::ValidationImage;
pub(crate) use validation::ValidationLoader;
