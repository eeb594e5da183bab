//! The paper's ablations as one run: Table 1 and the sweep over T of Fig. 3, at any scale.
//!
//! | question | file |
//! |---|---|
//! | which models are compared | [`rows`] |
//! | how long each is trained | [`budget`] |
//! | training, scoring and going on after a stop | [`run`] |
//! | how good a model is, and how sure that is | [`score`] |
//! | the table, as Markdown and JSON | [`report`] |
//! | the picture | [`plot`] |
//!
//! All rows come from one base configuration, one seed and one budget of optimiser steps. Stage one depends neither on
//! T nor on stage two's objective, so HI-Diff, Split-Training and the sweep start their stage two from one stage one.

pub mod budget;
pub mod plot;
pub mod report;
pub mod rows;
pub mod run;
pub mod score;
mod timing;

pub use budget::Budget;
pub use report::Report;
pub use rows::Row;
pub use run::{AblationOptions, ablate};
