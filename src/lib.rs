//! HI-Diff on Burn.
#[cfg(feature = "image")]
pub mod data;
pub mod error;
#[cfg(feature = "image")]
pub mod evaluation;
pub use error::{Error, Result};
