//! The instruction set that kernels run on: the best that the processor has or, for measuring, the one that an environment
//! variable names.

use std::sync::LazyLock;

use rten_simd::isa::GenericIsa;
#[cfg(target_arch = "x86_64")]
use rten_simd::isa::{Avx2Isa, Avx512Isa};
use rten_simd::ops::GetNumOps;
use rten_simd::{Isa, SimdOp, SimdUnaryOp};

use crate::{Error, Result};

/// Names the set to hold the kernels to.
const VARIABLE: &str = "HI_DIFF_ISA";

/// Vector instructions that the CPU kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Plain arithmetic, whatever the compiler makes of it.
    Generic,
    /// AVX2 and FMA on x86-64: 8 elements a vector.
    Avx2,
    /// AVX-512 F, VL, BW and DQ on x86-64: 16 elements.
    Avx512,
    /// NEON on AArch64: 4 elements.
    Neon,
}

impl InstructionSet {
    /// The best last.
    const ALL: [Self; 4] = [Self::Generic, Self::Neon, Self::Avx2, Self::Avx512];

    /// As in the environment variable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Whether this processor has it.
    fn is_here(self) -> bool {
        match self {
            Self::Generic => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2Isa::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512Isa::new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => rten_simd::isa::ArmNeonIsa::new().is_some(),
            _ => false,
        }
    }

    fn best() -> Self {
        let mut here = Self::ALL.into_iter().rev().filter(|set| set.is_here());
        here.next().unwrap_or(Self::Generic)
    }

    fn named(name: &str) -> std::result::Result<Self, String> {
        let here = Self::ALL.into_iter().filter(|set| set.is_here());
        here.clone().find(|set| set.name() == name).ok_or_else(|| {
            let names: Vec<&str> = here.map(Self::name).collect();
            format!(
                "found `{name}`, expected one of this processor's instruction sets: {}",
                names.join(", ")
            )
        })
    }
}

/// What the variable names, if it is set.
static HELD: LazyLock<std::result::Result<Option<InstructionSet>, String>> = LazyLock::new(|| {
    let Some(name) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    InstructionSet::named(&name.to_string_lossy()).map(Some)
});

/// The one to run on; a variable that makes no sense is not heeded.
static CHOSEN: LazyLock<InstructionSet> =
    LazyLock::new(|| held().unwrap_or_else(InstructionSet::best));

/// The set that the environment variable `HI_DIFF_ISA` holds the kernels to, for measuring: `avx512`, `avx2`, `neon` or `generic`. It is
/// read once, before the first kernel runs. A processor has what it has: kernels do not heed a name that is none of its
/// sets.
///
/// # Errors
/// If the variable is such a name.
pub fn held_instruction_set() -> Result<Option<InstructionSet>> {
    HELD.clone().map_err(|reason| Error::Environment {
        variable: VARIABLE,
        reason,
    })
}

/// The set that the kernels are held to.
pub(super) fn held() -> Option<InstructionSet> {
    HELD.as_ref().ok().copied().flatten()
}

/// Runs an operation on the set that was chosen.
pub(super) fn dispatch<O: SimdOp>(operation: O) -> O::Output {
    #[cfg(target_arch = "x86_64")]
    {
        // The features are those that the sets' `new` asks the processor for.
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
        fn on_avx512<O: SimdOp>(isa: impl Isa, operation: O) -> O::Output {
            operation.eval(isa)
        }
        #[target_feature(enable = "avx2,avx,fma,f16c")]
        fn on_avx2<O: SimdOp>(isa: impl Isa, operation: O) -> O::Output {
            operation.eval(isa)
        }
        match *CHOSEN {
            InstructionSet::Avx512 => {
                if let Some(isa) = Avx512Isa::new() {
                    // SAFETY: the processor has the features.
                    return unsafe { on_avx512(isa, operation) };
                }
            }
            InstructionSet::Avx2 => {
                if let Some(isa) = Avx2Isa::new() {
                    // SAFETY: likewise.
                    return unsafe { on_avx2(isa, operation) };
                }
            }
            _ => {}
        }
        operation.eval(GenericIsa::new())
    }
    #[cfg(not(target_arch = "x86_64"))]
    match *CHOSEN {
        InstructionSet::Generic => operation.eval(GenericIsa::new()),
        // There is one other at most.
        _ => operation.dispatch(),
    }
}

/// Replaces each element by what `function` makes of it.
pub(super) fn map<F: SimdUnaryOp<f32>>(function: F, elements: &mut [f32]) {
    struct Map<'a, F>(F, &'a mut [f32]);
    impl<F: SimdUnaryOp<f32>> SimdOp for Map<'_, F> {
        type Output = ();

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) {
            let Self(function, elements) = self;
            rten_simd::functional::simd_map(
                f32::num_ops(isa),
                elements,
                #[inline(always)]
                |x| function.eval(isa, x),
            );
        }
    }
    dispatch(Map(function, elements));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_names_and_others_are_refused_with_those_of_the_processor() {
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_here()) {
            assert_eq!(InstructionSet::named(set.name()), Ok(set));
        }
        for name in ["", "AVX2", "avx3", "mmx"] {
            let reason = InstructionSet::named(name).expect_err(name);
            assert!(
                reason.contains(&format!("`{name}`")) && reason.contains("generic"),
                "{reason}"
            );
        }
    }

    #[test]
    fn the_best_set_is_the_widest_that_is_here() {
        let expected = match () {
            _ if InstructionSet::Avx512.is_here() => InstructionSet::Avx512,
            _ if InstructionSet::Avx2.is_here() => InstructionSet::Avx2,
            _ if InstructionSet::Neon.is_here() => InstructionSet::Neon,
            _ => InstructionSet::Generic,
        };
        assert_eq!(InstructionSet::best(), expected);
    }
}
