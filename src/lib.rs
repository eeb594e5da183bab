//! HI-Diff on Burn.
pub mod error;
#[cfg(feature = "image")]
pub mod evaluation;
pub use error::{Error, Result};
