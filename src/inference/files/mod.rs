//! Which image file becomes which, what is done already and what can be written.

mod journal;
mod places;
mod plan;

pub(crate) use journal::differences;
pub use journal::{Journal, Recipe};
pub use places::Places;
pub use plan::{Failure, Job, Plan, PlanOptions};
pub(crate) use plan::{file_extension, is_folder};
