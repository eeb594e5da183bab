//! Training: both stages of the paper through Burn's `Learner`.
//!
//! | question | file |
//! |---|---|
//! | what a stage optimises | [`stage_one`], [`stage_two`] |
//! | how a step changes the weights | [`optimizer`], [`learning_rate`] |
//! | what is measured and shown | [`metrics`], [`display`], [`log`] |
//! | what a run leaves on disk | [`checkpoint`] |
//! | a run from folders of photographs to a weight file | [`run`] |
//!
//! Which samples a step sees is the matter of [`data`](crate::data).

pub mod checkpoint;
pub mod display;
pub mod learning_rate;
pub mod log;
pub mod metrics;
pub mod optimizer;
pub mod run;
pub mod stage_one;
pub mod stage_two;

pub use run::{Display, Stages, TrainingOptions, TrainingReport, train};
pub use stage_one::StageOne;
pub use stage_two::StageTwo;
