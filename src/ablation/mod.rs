//! The paper's ablations as one run: Table 1 and the sweep over T of Fig. 3, at any scale.
//!
//! | question | file |
//! |---|---|
//! | which models are compared | `rows` |
//! | how long each is trained | `budget` |
//! | training, scoring and going on after a stop | `run` |
//! | how good a model is, and how sure that is | `score` |
//! | the table, as Markdown and JSON | `report` |
//! | the picture | `plot` |
//!
//! All rows come from one base configuration, one seed and one budget of optimiser steps. Stage one depends neither on
//! T nor on stage two's objective, so HI-Diff, Split-Training and the sweep start their stage two from one stage one.

mod budget;
pub(crate) mod plot;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod score;
mod timing;

pub use budget::{Budget, PatchOverride};
pub use report::{Finished, Report, ReportRow};
pub use rows::Row;
pub use run::{AblationOptions, ablate};
pub use score::{Difference, Mean, PairScore};
