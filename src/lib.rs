//! HI-Diff on Burn.
pub mod error;
#[cfg(feature = "image")]
pub mod inference;
pub use error::{Error, Result};
