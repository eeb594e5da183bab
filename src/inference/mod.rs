//! From photographs and videos on disk to deblurred ones on disk.

mod deblurrer;
pub mod files;
pub mod image;
pub mod video;

pub use deblurrer::Deblurrer;
