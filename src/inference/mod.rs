//! From photographs on disk to deblurred photographs on disk.

pub mod files;
pub mod image;
