//! What benchmarks need to know of the machine and the process.
#![allow(dead_code)] // Not every benchmark needs all of it.

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The most memory the process has had in gigabytes, for a table.
pub fn peak_text() -> String {
    hi_diff::memory::peak_bytes().map_or("unknown".into(), |bytes| {
        format!("{:.2}", bytes as f64 / 1e9)
    })
}
