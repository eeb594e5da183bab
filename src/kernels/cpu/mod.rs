//! Kernels for the CPU backends, on contiguous planes in single precision.

mod backward;
mod bf16;
mod branch;
mod channel_norm;
mod conv3x3;
mod depthwise;
#[cfg(feature = "flex")]
mod flex;
mod gdfn;
mod gelu_gate;
mod him;
mod inner_products;
#[cfg(test)]
mod instruction_sets;
mod isa;
mod mdta;
#[cfg(feature = "ndarray")]
mod ndarray;
mod normalize;
mod operations;
mod panels;
mod product;
mod scratch;
mod tiles;

pub use isa::{InstructionSet, held_instruction_set};
pub(super) use operations::{CpuTensor, OnProcessor};
pub use panels::product_rates;
pub use product::sgemm_rate;

/// The most elements a vector register has on any processor that the kernels know; their buffers leave that much room.
const LANES: usize = 16;

/// Whether the processor multiplies bfloat16.
pub(super) fn bf16_is_here() -> bool {
    bf16::unit().is_some()
}

/// The sizes `[batch, channels, height, width]` of a tensor in memory order.
type Dims = [usize; 4];

/// The gate's output sizes from its input's.
fn half_channels([batch, channels, height, width]: Dims) -> Dims {
    [batch, channels / 2, height, width]
}
