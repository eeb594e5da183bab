//! Datasets: where pairs of blurred and sharp photographs come from, and the samples that training takes from them.

pub(crate) mod augment;
pub mod crops;
pub mod dataset;
mod decode;
pub mod layout;
#[cfg(feature = "train")]
pub mod loader;
pub mod pairs;
pub(crate) mod random;
pub(crate) mod schedule;
pub mod stop;
pub mod synthesis;
