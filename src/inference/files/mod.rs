//! Which image file becomes which.

mod plan;

pub use plan::{Failure, Job, Plan, PlanOptions};
