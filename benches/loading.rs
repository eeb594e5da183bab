//! Loading the full-size model (preset `gopro`) from one `.safetensors`, to where it can deblur, and its bundled sibling.
//!
//! `cargo bench --bench loading`

mod machine;

use std::time::Instant;

use burn::backend::Flex;
use hi_diff::Config;
use hi_diff::HiDiff;
use hi_diff::weights::{self, Precision, StateDict};

const RUNS: usize = 7;

fn main() {
    let device = Default::default();
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join("gopro.safetensors");
    let config = Config::preset("gopro").expect("a preset");
    let states = StateDict::of_model(&config.init::<Flex>(&device));
    let precision = Precision::Full;
    weights::save_safetensors(&path, &config, &states, precision, false).expect("a file");

    let load = || HiDiff::<Flex>::load(&path, &device).expect("the file just written");
    let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
    println!("gopro, {:.0} MB: {:.3} s", bytes as f64 / 1e6, median(load));
    let bundled = || HiDiff::<Flex>::bundled(&device).expect("the bundled weights");
    println!("bundled: {:.3} s", median(bundled));
}

fn median(load: impl Fn() -> HiDiff<Flex>) -> f64 {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(load());
            start.elapsed().as_secs_f64()
        })
        .collect();
    machine::median(&mut seconds)
}
