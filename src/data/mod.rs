//! Blurred and sharp photographs: where pairs come from and how they are read.

pub mod synthesis;
