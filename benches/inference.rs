//! Inference of the small and the full-size model (presets `small` and `gopro`) on Flex, all of `deblur`, with its rate as a
//! share of the same process's rate of matrix products: R = 2 · MACs / time / SGEMM.
//!
//! `cargo bench --bench inference`; `-- small` or `-- gopro` for one of them. The table follows Criterion's figures.

mod machine;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor};
use criterion::{Criterion, SamplingMode};
use hi_diff::kernels::sgemm_rate;
use hi_diff::{Config, Noise};

/// Presets and sides.
const CASES: [(&str, usize); 4] = [
    ("small", 512),
    ("small", 2048),
    ("gopro", 256),
    ("gopro", 512),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let device = Default::default();
    let mut table = Vec::new();
    for (preset, side) in CASES {
        let config = Config::preset(preset).expect("a preset");
        let model = config.init::<Flex>(&device);
        let shape = [1, 3, side, side];
        let blur = Tensor::<Flex, 4>::random(shape, Distribution::Uniform(0.0, 1.0), &device);
        let mut group = criterion.benchmark_group(preset);
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_secs(1));
        // Each run between two measurements of the machine, whose speed drifts.
        let (seconds, rates) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        group.bench_function(format!("{side}x{side}"), |bencher| {
            bencher.iter_custom(|iterations| {
                rates.borrow_mut().push(sgemm_rate());
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let start = Instant::now();
                    let sharp = model.deblur(blur.clone(), Noise::Seed(0));
                    std::hint::black_box(sharp.expect("an image").into_data());
                    total += start.elapsed();
                    seconds.borrow_mut().push(start.elapsed().as_secs_f64());
                }
                total
            });
        });
        group.finish();
        let (mut seconds, mut rates) = (seconds.into_inner(), rates.into_inner());
        if !seconds.is_empty() {
            let macs = model.summary(side, side).total.macs;
            let (seconds, sgemm) = (machine::median(&mut seconds), machine::median(&mut rates));
            table.push((preset, side, seconds, 2.0 * macs as f64 / seconds, sgemm));
        }
    }
    criterion.final_summary();

    println!("{} threads", machine::threads());
    println!("| preset | size | seconds | GFLOP/s | SGEMM GFLOP/s | R |");
    println!("|---|---|---|---|---|---|");
    for (preset, side, seconds, rate, sgemm) in table {
        println!(
            "| {preset} | {side}×{side} | {seconds:.3} | {:.0} | {:.0} | {:.1} % |",
            rate / 1e9,
            sgemm / 1e9,
            100.0 * rate / sgemm
        );
    }
}
