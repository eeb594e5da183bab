//! The machine as benchmarks need to know it: its rate of matrix products, to measure against, and a process's peak memory.
#![allow(dead_code)] // Not every benchmark needs all of it.

use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor};

/// Rows and columns of the product.
const SIDE: usize = 2048;

/// FLOP/s of a product of two 2048×2048 matrices in single precision on all threads, by the crate `gemm`, which is behind
/// Flex's `matmul`: the middle of five.
pub fn sgemm_rate() -> f64 {
    let matrix = || {
        let uniform = Distribution::Uniform(0.0, 1.0);
        Tensor::<Flex, 2>::random([SIDE, SIDE], uniform, &Default::default())
    };
    let (a, b) = (matrix(), matrix());
    let mut rates: Vec<f64> = (0..6)
        .map(|_| {
            let (a, b) = (a.clone(), b.clone());
            let start = Instant::now();
            std::hint::black_box(a.matmul(b));
            2.0 * (SIDE as f64).powi(3) / start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    median(&mut rates)
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The most memory the process has had, where the system says.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// In gigabytes, for a table.
pub fn peak_text() -> String {
    peak_bytes().map_or("unknown".into(), |bytes| {
        format!("{:.2}", bytes as f64 / 1e9)
    })
}
