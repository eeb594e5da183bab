//! HI-Diff on Burn.
pub mod error;
pub use error::{Error, Result};
