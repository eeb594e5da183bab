//! HI-Diff (Hierarchical Integration Diffusion Model for Realistic Image Deblurring, NeurIPS 2023) on Burn.
//!
//! A latent diffusion model makes a tiny prior from a blurry photograph; a Restormer-like [`Transformer`], guided by that
//! prior at several scales, restores the sharp image. Everything is generic over Burn's own
//! `Backend` trait.
//!
//! ```
//! # #[cfg(feature = "flex")]
//! # fn main() -> hi_diff::Result<()> {
//! use burn::backend::Flex;
//! use burn::tensor::Tensor;
//! use hi_diff::{HiDiff, Noise};
//!
//! let device = Default::default();
//! let model: HiDiff<Flex> = HiDiff::bundled(&device)?; // or `HiDiff::load("gopro.safetensors", &device)?`
//! let blur = Tensor::full([1, 3, 30, 41], 0.5, &device); // RGB from 0 to 1, any size
//! let sharp = model.deblur(blur, Noise::Seed(7))?;
//! assert_eq!(sharp.dims(), [1, 3, 30, 41]);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "flex"))]
//! # fn main() {}
//! ```
//!
//! `examples/` has whole programs: `deblur_image`, `train_two_stages`, `import_weights` and `own_model` (the blocks in a network
//! of one's own).
//!
//! - [`config`]: the TOML configuration and its presets
//! - [`model`]: the networks, one file per part of the paper's figure
//! - [`kernels`]: what takes the place of their formulas where there is something faster
//! - [`diffusion`]: noise schedules and samplers
//! - [`weights`]: published `.pth` folders and `.safetensors` files
//! - [`memory`]: what the process takes
//! - [`whole`]: files that appear whole or not at all
//! - `picture` (feature `image`): photographs read and written
//! - `inference` (feature `image`): photographs and videos deblurred
//! - `data`, `evaluation` (feature `image`) and `training` (feature `train`)
//! - `ablation` (feature `train`): the paper's ablations as one run
//! - `report` (feature `image`): evaluations, trainings and ablations as pages to look at
//!
//! [`Transformer`]: model::Transformer
#![deny(missing_docs)]
// On docs.rs, says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "train")]
pub mod ablation;

mod checks;
pub mod config;
#[cfg(feature = "image")]
pub mod data;
pub mod diffusion;
#[cfg(feature = "image")]
// Trainings and ablations are drawn with more than evaluations need.
#[cfg_attr(not(feature = "train"), allow(dead_code))]
mod drawing;
pub mod error;
#[cfg(feature = "image")]
pub mod evaluation;
#[cfg(all(fuzzing, feature = "image"))]
pub mod fuzzing;
#[cfg(feature = "image")]
pub mod inference;
pub mod kernels;
#[cfg(feature = "image")]
mod lock;
pub mod memory;
pub mod model;
#[cfg(feature = "image")]
mod numbers;
#[cfg(feature = "image")]
pub mod picture;
mod reflect;
#[cfg(feature = "image")]
pub mod report;
#[cfg(feature = "train")]
pub mod training;
pub mod weights;
pub mod whole;

/// The README's program compiles.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So do those of the page about the library.
#[cfg(all(doctest, feature = "flex", feature = "train"))]
#[doc = include_str!("../docs/library.md")]
struct LibraryPage;

pub use config::Config;
pub use error::{Error, Result};
pub use model::{HiDiff, Noise};
