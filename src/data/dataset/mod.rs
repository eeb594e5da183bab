//! Training samples by position: which patch of which pair stands where in the run.

mod notes;
mod order;
mod patch;
mod reader;
mod stream;

#[cfg(test)]
pub(super) mod examples;

pub use notes::Notes;
pub use reader::{DEFAULT_CACHE_BYTES, DecodedPair, PairReader};
pub use stream::{PatchBatch, SampleStream, StreamConfig};
