//! The machine as benchmarks need to know it: its rate of matrix products, to measure against, and a process's peak memory.
#![allow(dead_code)] // Not every benchmark needs all of it.

use std::time::Instant;

use gemm::{Parallelism, gemm};

/// Rows and columns of the product.
const SIDE: usize = 2048;

/// FLOP/s of a product of two 2048×2048 matrices in single precision on all threads: the middle of five.
pub fn sgemm_rate() -> f64 {
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut output = vec![0.0; SIDE * SIDE];
    let side = SIDE as isize;
    let mut rates: Vec<f64> = (0..6)
        .map(|_| {
            let start = Instant::now();
            // SAFETY: the three matrices have 2048 rows of 2048 elements, side by side.
            unsafe {
                gemm(
                    SIDE,
                    SIDE,
                    SIDE,
                    output.as_mut_ptr(),
                    1,
                    side,
                    false,
                    a.as_ptr(),
                    1,
                    side,
                    b.as_ptr(),
                    1,
                    side,
                    0.0_f32,
                    1.0,
                    false,
                    false,
                    false,
                    Parallelism::Rayon(0),
                );
            }
            std::hint::black_box(&mut output);
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
