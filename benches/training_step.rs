//! A whole training step of the full-size model (preset `gopro`, stage one and two, patch 128): time and peak memory,
//! with and without gradient checkpointing. Each case is a process of its own, so that its peak is its own.

mod machine;

use std::process::Command;
use std::time::Instant;

use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::Optimizer;
use burn::tensor::{Distribution, Tensor};
use burn::train::{Interrupter, TrainStep};
use hi_diff::Config;
use hi_diff::backend::{AutodiffBackend, sgemm_rate};
use hi_diff::config::Objective;
use hi_diff::data::loader::Batch;
use hi_diff::training::optimizer::{AfterStep, Overflow};
use hi_diff::training::step::StepSettings;
use hi_diff::training::{StageOne, StageTwo};

const PATCH: usize = 128;

/// Timed steps, after one that is not.
const STEPS: usize = 2;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(case) = arguments.iter().position(|argument| argument == "--case") {
        let number = |offset: usize| arguments[case + offset].parse::<usize>().expect("a number");
        let (stage, batch) = (number(1), number(2));
        match arguments[case + 3].as_str() {
            "keep" => run::<Autodiff<Flex>>(stage, batch),
            _ => run::<Autodiff<Flex, BalancedCheckpointing>>(stage, batch),
        }
        return;
    }
    println!(
        "gopro preset, patch {PATCH}, Flex, {} threads",
        machine::threads()
    );
    println!("| stage | batch | gradient checkpointing | seconds a step | R | peak memory (GB) |");
    println!("|---|---|---|---|---|---|");
    for stage in ["1", "2"] {
        for batch in ["1", "2"] {
            for activations in ["keep", "recompute"] {
                let program = std::env::current_exe().expect("this program");
                let status = Command::new(program)
                    .args(["--case", stage, batch, activations])
                    .status();
                assert!(status.is_ok_and(|status| status.success()), "a case failed");
            }
        }
    }
}

fn run<B: AutodiffBackend>(stage: usize, batch: usize) {
    let config = Config::preset("gopro").expect("a preset");
    let model = config.init_training::<B>(&Default::default());
    let summary = model.summary(PATCH, PATCH);
    let settings = StepSettings::default();
    let (seconds, stage) = match stage {
        1 => (time(StageOne::new(model, 0.0, settings), batch), "one"),
        _ => {
            let module = StageTwo::new(model, Objective::Joint, 0.0, settings);
            (time(module, batch), "two")
        }
    };
    let activations = std::env::args().next_back().unwrap_or_default();
    let checkpointing = if activations == "keep" { "no" } else { "yes" };
    let peak = machine::peak_text();
    // A step is taken for three forward passes, as it would be without recomputing.
    let networks: &[&str] = match stage {
        "one" => &["transformer", "latent_encoder"],
        _ => &["transformer", "condition_encoder", "denoiser"],
    };
    let trained = summary
        .networks
        .iter()
        .filter(|network| networks.contains(&network.name));
    let macs: u64 = trained.map(|network| network.cost.macs).sum();
    let rate = 3.0 * 2.0 * (macs * batch as u64) as f64 / seconds;
    let share = 100.0 * rate / sgemm_rate();
    println!("| {stage} | {batch} | {checkpointing} | {seconds:.2} | {share:.0} % | {peak} |");
}

fn time<B, M>(mut module: M, batch: usize) -> f64
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + AfterStep + TrainStep<Input = Batch<B>>,
{
    let training = Config::default().training.stage_one;
    let mut optimizer =
        training
            .optimizer
            .init::<M, B>(training.clip, Overflow::Stop, Interrupter::new());
    let mut seconds = 0.0;
    for step in 0..=STEPS {
        let item = random::<B>(step, batch);
        let start = Instant::now();
        let output = module.step(item);
        module = optimizer.step(2e-4, module, output.grads);
        if step > 0 {
            seconds += start.elapsed().as_secs_f64() / STEPS as f64;
        }
    }
    seconds
}

fn random<B: AutodiffBackend>(iteration: usize, batch: usize) -> Batch<B> {
    let device = Default::default();
    let image = || {
        Tensor::random(
            [batch, 3, PATCH, PATCH],
            Distribution::Uniform(0.0, 1.0),
            &device,
        )
    };
    let noise = Tensor::<B, 3>::random([batch, 16, 256], Distribution::Normal(0.0, 1.0), &device);
    Batch {
        iteration,
        blur: image(),
        sharp: image(),
        noise: noise.into(),
        timesteps: vec![1; batch],
        share: 1.0,
    }
}
