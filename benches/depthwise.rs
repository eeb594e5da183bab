//! The depthwise 3×3 convolution on Flex: this crate's operation against Burn's grouped `conv2d`, forward and backward,
//! at sizes of the model released for GoPro on a 256×256 image.
//!
//! `cargo bench --bench depthwise`; the table of ratios follows Criterion's figures.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Distribution, Tensor};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use hi_diff::kernels;

/// Channels and side: MDTA's 3C and GDFN's 2h of level 1, GDFN's of levels 2 and 4.
const SIZES: [(usize, usize); 4] = [(144, 256), (254, 256), (510, 128), (2042, 32)];

fn ours<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 4>) -> Tensor<B, 4> {
    kernels::depthwise_conv3x3(x, weight, None).expect("Flex has a kernel")
}

fn burns<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 4>) -> Tensor<B, 4> {
    let channels = x.dims()[1];
    conv2d(
        x,
        weight,
        None,
        ConvOptions::new([1, 1], [1, 1], [1, 1], channels),
    )
}

fn random<B: Backend>(channels: usize, side: usize) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let device = Default::default();
    (
        Tensor::random([1, channels, side, side], Distribution::Default, &device),
        Tensor::random([channels, 1, 3, 3], Distribution::Default, &device),
    )
}

fn forward(convolve: fn(Tensor<Flex, 4>, Tensor<Flex, 4>) -> Tensor<Flex, 4>) -> Case {
    Box::new(move |channels, side| {
        let (x, weight) = random::<Flex>(channels, side);
        Box::new(move || {
            let (x, weight) = (x.clone(), weight.clone());
            let start = Instant::now();
            std::hint::black_box(convolve(x, weight));
            start.elapsed()
        })
    })
}

type Differentiable = Autodiff<Flex>;

/// The gradients of the input and the weight, from a gradient of ones.
fn backward(
    convolve: fn(Tensor<Differentiable, 4>, Tensor<Differentiable, 4>) -> Tensor<Differentiable, 4>,
) -> Case {
    Box::new(move |channels, side| {
        let (x, weight) = random::<Differentiable>(channels, side);
        let (x, weight) = (x.require_grad(), weight.require_grad());
        Box::new(move || {
            let output = convolve(x.clone(), weight.clone());
            let start = Instant::now();
            std::hint::black_box(output.backward());
            start.elapsed()
        })
    })
}

/// Prepares a measurement for a number of channels and a side.
type Case = Box<dyn Fn(usize, usize) -> Box<dyn FnMut() -> Duration>>;

/// Runs one benchmark; returns the shortest time of one iteration.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut once: Box<dyn FnMut() -> Duration>,
) -> Duration {
    let shortest = RefCell::new(Duration::MAX);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let time = once();
                shortest.replace_with(|shortest| (*shortest).min(time));
                total += time;
            }
            total
        });
    });
    shortest.into_inner()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let directions = [
        ("forward", forward(ours), forward(burns)),
        ("backward", backward(ours), backward(burns)),
    ];
    let mut table = Vec::new();
    for (direction, ours, burns) in directions {
        for (channels, side) in SIZES {
            let mut group =
                criterion.benchmark_group(format!("{direction}/{channels}x{side}x{side}"));
            // Burn's weight gradient is one convolution a channel: seconds an iteration.
            group
                .sample_size(10)
                .sampling_mode(SamplingMode::Flat)
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_secs(1));
            let ours = measure(&mut group, "ours", ours(channels, side));
            let burns = measure(&mut group, "conv2d", burns(channels, side));
            table.push((direction, channels, side, ours, burns));
            group.finish();
        }
    }
    criterion.final_summary();

    println!(
        "{:10}{:>16}{:>12}{:>12}{:>8}",
        "", "size", "ours", "conv2d", "ratio"
    );
    for (direction, channels, side, ours, burns) in table {
        if ours == Duration::MAX || burns == Duration::MAX {
            continue; // Filtered out on the command line.
        }
        println!(
            "{direction:10}{:>16}{:>9.2} ms{:>9.1} ms{:>7.1}×",
            format!("{channels}×{side}×{side}"),
            ours.as_secs_f64() * 1e3,
            burns.as_secs_f64() * 1e3,
            burns.as_secs_f64() / ours.as_secs_f64(),
        );
    }
}
