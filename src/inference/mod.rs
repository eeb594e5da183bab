//! From photographs and videos on disk to deblurred ones on disk.

mod blend;
mod deblurrer;
mod disagreement;
mod drift;
pub mod files;
mod need;
mod pipeline;
mod planes;
mod tiling;
pub mod video;

pub use blend::{Blend, Mask, Region};
pub use deblurrer::{AttentionChoice, DeblurOptions, Deblurrer, Restored};
pub use disagreement::Disagreement;
pub use drift::{MOST_DRIFT, drift};
pub use need::{Fit, fit, need};
pub use pipeline::pipeline;
pub use planes::Planes;
pub use tiling::Tiling;
