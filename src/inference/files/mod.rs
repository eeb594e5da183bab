//! Which image file becomes which, and how a file is written.

mod plan;
mod whole;

pub use plan::{Job, Plan};
pub use whole::write_whole;
