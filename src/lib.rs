//! HI-Diff on Burn.
#![deny(missing_docs)]

pub mod config;
pub mod error;
pub mod weights;

pub use config::Config;
pub use error::{Error, Result};
