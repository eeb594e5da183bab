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
