//! For tests: a kernel on every instruction set that the processor at hand has, against the portable one's plain arithmetic.

/// What an operation writes into a buffer on each set, the portable one first.
macro_rules! on_each_set {
    ($buffer:expr, |$output:ident| $operation:expr) => {{
        use rten_simd::SimdOp;
        let mut results: Vec<Vec<f32>> = Vec::new();
        {
            let mut buffer: Vec<f32> = $buffer;
            let $output = &mut buffer[..];
            $operation.eval(rten_simd::isa::GenericIsa::new());
            results.push(buffer);
        }
        on_set!(results, Avx2Isa, "x86_64", $buffer, |$output| $operation);
        on_set!(results, Avx512Isa, "x86_64", $buffer, |$output| $operation);
        on_set!(results, ArmNeonIsa, "aarch64", $buffer, |$output| {
            $operation
        });
        results
    }};
}

macro_rules! on_set {
    ($results:ident, $isa:ident, $target:literal, $buffer:expr, |$output:ident| $operation:expr) => {
        #[cfg(target_arch = $target)]
        if let Some(isa) = rten_simd::isa::$isa::new() {
            let mut buffer: Vec<f32> = $buffer;
            let $output = &mut buffer[..];
            $operation.eval(isa);
            $results.push(buffer);
        }
    };
}

pub(super) use {on_each_set, on_set};

/// Numbers between −1 and 1.
pub(super) fn values(length: usize, step: usize) -> Vec<f32> {
    let values = (0..length).map(|i| (i * step % 17) as f32 / 8.0 - 1.0);
    values.collect()
}

/// Panics unless an operation gave the same on each set, but for rounding.
pub(super) fn assert_equal(results: &[Vec<f32>]) {
    let [portable, others @ ..] = results else {
        panic!("an operation runs on the portable set at least");
    };
    for other in others {
        for (index, (found, expected)) in other.iter().zip(portable).enumerate() {
            let close = (found - expected).abs() <= 2e-6 * (1.0 + expected.abs());
            assert!(close, "{found} at {index}, expected {expected}");
        }
    }
}
