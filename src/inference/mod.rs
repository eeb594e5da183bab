//! From photographs on disk to deblurred photographs on disk.

mod deblurrer;
pub mod files;
pub mod image;

pub use deblurrer::Deblurrer;
