//! Inference and training steps on a GPU backend, of the full-size and the small model.
//!
//! `cargo bench --bench gpu --no-default-features --features cli,train,cuda,vulkan,autotune,fusion`;
//! `-- cuda` or `-- wgpu` for one backend, `-- inference` or `-- training` for one kind. R is 2 · MACs / time as a share of the rate of a 4096×4096 matrix product on the
//! same device; a training step counts as three forward passes.

#![cfg_attr(not(any(feature = "cuda", feature = "wgpu")), allow(dead_code))]

use std::time::Instant;

use burn::backend::Autodiff;
use burn::optim::Optimizer;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Distribution, Tensor};
use burn::train::TrainStep;
use hi_diff::data::loader::Batch;
use hi_diff::data::stop::Stop;
use hi_diff::training::StageOne;
use hi_diff::training::optimizer::Overflow;
use hi_diff::training::step::StepSettings;
use hi_diff::{Config, Noise};

/// Preset, height, width.
const IMAGES: [(&str, usize, usize); 4] = [
    ("gopro", 256, 256),
    ("gopro", 720, 1280),
    ("small", 256, 256),
    ("small", 720, 1280),
];

/// Preset, patch, batch: stage one.
const STEPS: [(&str, usize, usize); 5] = [
    ("gopro", 128, 1),
    ("gopro", 128, 8),
    ("small", 96, 8),
    ("small", 96, 64),
    ("small", 160, 32),
];

/// Before timing: the GPU backends compile, and look for their fastest kernels.
const WARM_UP: usize = 4;
const RUNS: usize = 12;

fn main() {
    #[cfg(feature = "cuda")]
    if wanted("cuda", "wgpu") {
        all::<burn::backend::Cuda>();
    }
    #[cfg(feature = "wgpu")]
    if wanted("wgpu", "cuda") {
        all::<burn::backend::Wgpu>();
    }
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    eprintln!("a build with `--features cuda` or `--features vulkan` has something to measure");
}

/// Whether the command line names this, or not the other alone.
fn wanted(name: &str, other: &str) -> bool {
    let named = |name: &str| std::env::args().any(|argument| argument == name);
    named(name) || !named(other)
}

fn all<B: Backend>() {
    let device = B::Device::default();
    let sgemm = product_rate::<B>();
    println!(
        "{}: {:.1} TFLOP/s in a 4096×4096 product",
        B::name(&device),
        sgemm / 1e12
    );
    if wanted("inference", "training") {
        println!("| preset | size | ms | R |\n|---|---|---|---|");
        for (preset, height, width) in IMAGES {
            let model = Config::preset(preset).expect("a preset").init::<B>(&device);
            let macs = model.summary(height, width).total.macs;
            let blur = random::<B>([1, 3, height, width]);
            let seconds = median(|| {
                let sharp = model.deblur(blur.clone(), Noise::Seed(0));
                sharp.expect("an image").into_data();
            });
            println!(
                "| {preset} | {width}×{height} | {:.1} | {:.0} % |",
                1e3 * seconds,
                200.0 * macs as f64 / seconds / sgemm
            );
        }
    }
    if wanted("training", "inference") {
        println!(
            "| preset | patch | batch | ms a step | images/s | R |\n|---|---|---|---|---|---|"
        );
        for (preset, patch, batch) in STEPS {
            step::<Autodiff<B>>(preset, patch, batch, sgemm);
        }
    }
}

fn step<B: AutodiffBackend>(preset: &str, patch: usize, batch: usize, sgemm: f64) {
    let config = Config::preset(preset).expect("a preset");
    let model = config.init_training::<B>(&B::Device::default());
    let networks = model.summary(patch, patch).networks;
    let trained = networks
        .iter()
        .filter(|network| ["transformer", "latent_encoder"].contains(&network.name));
    let macs: u64 = trained.map(|network| network.cost.macs).sum();
    let training = &config.training;
    let settings = StepSettings {
        loss: training.loss.clone(),
        ..StepSettings::default()
    };
    let module = StageOne::new(model, training.ema, settings).expect("LE");
    let mut optimizer = training.stage_one.optimizer.init::<_, B>(
        training.stage_one.clip,
        Overflow::Stop,
        Stop::new(),
    );
    let mut module = Some(module);
    let mut iteration = 0;
    let seconds = median(|| {
        let batch = batch_of::<B>(iteration, patch, batch);
        let current = module.take().expect("a module");
        let output = current.step(batch);
        module = Some(optimizer.step(2e-4, current, output.grads));
        iteration += 1;
        B::sync(&B::Device::default()).expect("a device that answers");
    });
    println!(
        "| {preset} | {patch} | {batch} | {:.1} | {:.0} | {:.1} % |",
        1e3 * seconds,
        batch as f64 / seconds,
        600.0 * (macs * batch as u64) as f64 / seconds / sgemm
    );
}

fn batch_of<B: AutodiffBackend>(iteration: usize, patch: usize, batch: usize) -> Batch<B> {
    let noise = Tensor::<B, 3>::random(
        [batch, 16, 256],
        Distribution::Normal(0.0, 1.0),
        &B::Device::default(),
    );
    Batch {
        iteration,
        blur: random([batch, 3, patch, patch]),
        sharp: random([batch, 3, patch, patch]),
        noise: noise.into(),
        timesteps: vec![1; batch],
        share: 1.0,
    }
}

fn random<B: Backend>(shape: [usize; 4]) -> Tensor<B, 4> {
    Tensor::random(
        shape,
        Distribution::Uniform(0.0, 1.0),
        &B::Device::default(),
    )
}

/// Floating-point operations a second in single precision.
fn product_rate<B: Backend>() -> f64 {
    let n = 4096;
    let matrix = || {
        Tensor::<B, 2>::random(
            [n, n],
            Distribution::Uniform(-1.0, 1.0),
            &B::Device::default(),
        )
    };
    let (a, b) = (matrix(), matrix());
    let seconds = median(|| {
        let product = a.clone().matmul(b.clone());
        product.slice([0..1, 0..1]).into_data();
    });
    2.0 * (n as f64).powi(3) / seconds
}

/// The median of some runs in seconds, after some that are not timed.
fn median(mut run: impl FnMut()) -> f64 {
    (0..WARM_UP).for_each(|_| run());
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
