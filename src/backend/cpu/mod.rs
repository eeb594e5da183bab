//! Kernels for the CPU backends, on contiguous single-precision planes; other element types take the plain path.

mod channel_norm;
mod depthwise;
#[cfg(feature = "flex")]
mod flex;
mod gelu_gate;
#[cfg(feature = "ndarray")]
mod ndarray;

/// The sizes `[batch, channels, height, width]` of a tensor in memory order.
type Dims = [usize; 4];

/// The gate's output sizes from its input's.
fn half_channels([batch, channels, height, width]: Dims) -> Dims {
    [batch, channels / 2, height, width]
}
