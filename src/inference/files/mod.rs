//! Which image file becomes which, and how a file is written.

mod plan;

pub use crate::whole::write_whole;
pub use plan::{Failure, Job, Plan, PlanOptions};
