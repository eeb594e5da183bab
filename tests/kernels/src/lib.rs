//! The crate's CPU kernels as they are, without what ties them to Burn: see `Cargo.toml`.
#![allow(dead_code, unexpected_cfgs)]

#[path = "../../../src/error.rs"]
pub mod error;
pub use error::{Error, Result};

#[path = "../../../src/kernels"]
pub mod kernels {
    mod operations {
        /// As in the crate's `operations.rs`, which describes Burn's tensors besides.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Arrangement {
            Plain,
            Unshuffled,
            Shuffled,
        }
    }

    pub mod precision;
    pub(crate) mod windows;

    pub mod cpu {
        mod bf16;
        mod branch;
        mod channel_norm;
        mod conv3x3;
        mod depthwise;
        mod gdfn;
        mod gelu_gate;
        mod him;
        mod inner_products;
        #[cfg(test)]
        mod instruction_sets;
        mod isa;
        mod mdta;
        mod normalize;
        mod panels;
        mod product;
        mod scratch;
        mod tiles;

        pub use isa::{InstructionSet, held_instruction_set};
        pub use panels::product_rates;
        pub use product::sgemm_rate;

        const LANES: usize = 16;

        pub(super) fn bf16_is_here() -> bool {
            bf16::unit().is_some()
        }

        type Dims = [usize; 4];
    }
}
