//! Kernels for the CPU backends, on contiguous single-precision planes; other element types take the plain path.

mod depthwise;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "ndarray")]
mod ndarray;

/// The sizes `[batch, channels, height, width]` of a tensor in memory order.
type Dims = [usize; 4];
