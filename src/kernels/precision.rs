//! In which numbers kernels multiply.

use std::cell::Cell;
use std::fmt;

use crate::{Error, Result};

/// The number format that the products of weights and pixels take their operands in, on the processor. Sums, and all that is
/// not a product, are in single precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Precision {
    /// Single precision, 24 bits.
    #[default]
    F32,
    /// bfloat16, 8 bits: by AMX, or else by AVX-512 BF16.
    Bf16,
}

impl Precision {
    /// # Errors
    /// [`Error::Precision`] if this processor, or this build, has no instructions for it.
    pub fn check(self) -> Result<()> {
        match self {
            Self::F32 => Ok(()),
            Self::Bf16 if bf16_is_here() => Ok(()),
            Self::Bf16 => Err(Error::Precision {
                precision: self.to_string(),
                reason:
                    "takes a processor with AMX or AVX-512 BF16 and its backend, Flex or NdArray: \
                         use f32"
                        .to_string(),
            }),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
fn bf16_is_here() -> bool {
    super::cpu::bf16_is_here()
}

#[cfg(not(any(feature = "flex", feature = "ndarray")))]
fn bf16_is_here() -> bool {
    false
}

thread_local!(static CHOSEN: Cell<Precision> = const { Cell::new(Precision::F32) });

/// Computes the outputs of this thread's operations with products in another precision, on whatever threads the kernels
/// use. Gradients are in single precision as ever; so is everything where
/// [`check`](Precision::check) fails, and on backends that are not the processor's.
pub fn with_precision<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    /// Puts things back when the work panics, too.
    struct Back(Precision);
    impl Drop for Back {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _back = Back(CHOSEN.replace(precision));
    work()
}

/// The one of this thread.
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(super) fn precision() -> Precision {
    CHOSEN.get()
}
