//! Training: both stages of the paper through Burn's `Learner`.
//!
//! | question | file |
//! |---|---|
//! | what a stage optimises | [`StageOne`], [`StageTwo`], [`loss`] |
//! | a step's gradient, in parts and in half precision | [`step`] |
//! | how a step changes the weights | [`optimizer`], `muon`, `learning_rate`, `average` |
//! | which devices compute | [`devices`] |
//! | what is measured, and where it is shown | [`metrics`], [`log`], `dashboard` |
//! | what a run leaves on disk, and how it goes on from there | `checkpoint`, `resume`, [`calls`] |
//! | which weights a checkpoint holds | [`export`] |
//! | what a run starts from | `init` |
//! | what to train, and what was done | `options`, `stage` |
//! | a run from folders of photographs to a weight file | [`train`] |
//! | one stage of it through the `Learner`, and what it is fed | `learner`, `samples` |
//!
//! Which samples a step sees is the matter of [`data`](crate::data).

mod average;
pub mod calls;
pub(crate) mod checkpoint;
mod dashboard;
pub mod devices;
pub mod export;
mod init;
mod learner;
pub(crate) mod learning_rate;
pub mod log;
pub mod loss;
pub mod metrics;
mod muon;
pub mod optimizer;
mod options;
pub(crate) mod resume;
pub(crate) mod run;
mod samples;
mod share;
mod stack;
mod stage;
mod stage_one;
mod stage_two;
pub mod step;

pub use devices::Devices;
pub use options::{Display, Hook, StageReport, TrainingOptions, TrainingReport};
pub use run::train;
pub use stage::{Stage, Stages};
pub use stage_one::StageOne;
pub use stage_two::StageTwo;
