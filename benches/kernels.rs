//! The kernels for whole blocks on Flex against the blocks' formulas in Burn's operations, at the sizes of the model released
//! for GoPro on a 256×256 image.
//!
//! `cargo bench --bench kernels`; the table of ratios follows Criterion's figures.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor};
use criterion::{Criterion, SamplingMode};
use hi_diff::kernels;
use hi_diff::model::{DownsampleConfig, GdfnConfig, HimConfig, LayerNormConfig, MdtaConfig};

/// Channels, heads and side: decoder level 1, encoder levels 2 and 3, the latent level.
const SIZES: [[usize; 3]; 4] = [[96, 1, 256], [96, 2, 128], [192, 4, 64], [384, 8, 32]];

type Image = Tensor<Flex, 4>;
type Run = Box<dyn Fn(Image) -> Image>;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Default::default())
}

/// Each block's name, size, and how to run it.
fn cases() -> Vec<(&'static str, [usize; 4], Run)> {
    let device = Default::default();
    let mut cases: Vec<(&'static str, [usize; 4], Run)> = Vec::new();
    for [channels, heads, side] in SIZES {
        let shape = [1, channels, side, side];
        let norm = LayerNormConfig::new(channels).init::<Flex>(&device);
        let block = MdtaConfig::new(channels, heads).init::<Flex>(&device);
        let run = move |x| block.forward_residual(x, &norm, None);
        cases.push(("mdta", shape, Box::new(run)));
        let norm = LayerNormConfig::new(channels).init::<Flex>(&device);
        let block = GdfnConfig::new(channels, 2.66).init::<Flex>(&device);
        let run = move |x| block.forward_residual(x, &norm, None);
        cases.push(("gdfn", shape, Box::new(run)));
        let down = DownsampleConfig::new(channels).init::<Flex>(&device);
        cases.push(("downsample", shape, Box::new(move |x| down.forward(x))));
    }
    for [channels, heads, side, tokens] in [[96, 1, 256, 16], [96, 2, 128, 4], [192, 4, 64, 4]] {
        let him = HimConfig::new(channels, 256, heads).init::<Flex>(&device);
        let prior = random([1, tokens, 256]);
        let run = move |x| him.forward(x, prior.clone());
        cases.push(("him", [1, channels, side, side], Box::new(run)));
    }
    cases
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Vec::new();
    for (name, shape, run) in cases() {
        let [_, channels, side, _] = shape;
        let mut group = criterion.benchmark_group(format!("{name}/{channels}x{side}x{side}"));
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        let x = random(shape);
        let mut shortest = [Duration::MAX; 2];
        for (way, shortest) in ["kernel", "formula"].into_iter().zip(&mut shortest) {
            let run = |x| match way {
                "kernel" => run(x),
                _ => kernels::without(|| run(x)),
            };
            let least = RefCell::new(Duration::MAX);
            group.bench_function(way, |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    for _ in 0..iterations {
                        let x = x.clone().add_scalar(0.0); // Its own memory, as between blocks.
                        let start = Instant::now();
                        std::hint::black_box(run(x));
                        let time = start.elapsed();
                        least.replace_with(|least| (*least).min(time));
                        total += time;
                    }
                    total
                });
            });
            *shortest = least.into_inner();
        }
        group.finish();
        table.push((name, channels, side, shortest));
    }
    criterion.final_summary();

    println!("| block | size | kernel (ms) | formula (ms) | ratio |");
    println!("|---|---|---|---|---|");
    for (name, channels, side, [kernel, formula]) in table {
        if kernel == Duration::MAX || formula == Duration::MAX {
            continue; // Filtered out on the command line.
        }
        println!(
            "| {name} | {channels}×{side}×{side} | {:.2} | {:.1} | {:.1} |",
            kernel.as_secs_f64() * 1e3,
            formula.as_secs_f64() * 1e3,
            formula.as_secs_f64() / kernel.as_secs_f64()
        );
    }
}
