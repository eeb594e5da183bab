//! Reports to look at: one HTML file each, which works without a network and without anything beside it.
//!
//! | question | file |
//! |---|---|
//! | the page of an evaluation | [`evaluation`] |
//! | the page of a training run | [`training`] |
//! | the page of an ablation | [`ablation`] |
//! | what all pages have: head, style, script, tables | `page` |
//! | before and after, with a slider, zoom and differences | `viewer`, `picture` |
//! | what a training run has left in its folder | `run` |
//!
//! File names, paths and whatever else comes from data is written as text that cannot become markup, and the pages
//! forbid the browser to load anything. Without JavaScript, tables, plots and pictures still show.

#[cfg(feature = "train")]
pub mod ablation;
pub mod evaluation;
mod page;
mod picture;
#[cfg(feature = "train")]
mod run;
#[cfg(feature = "train")]
pub mod training;
mod viewer;

pub use viewer::Pictures;
