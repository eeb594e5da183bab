//! A whole training step: time and peak memory.
//!
//! Of the small model (preset `small`, batches of 8 patches of 96×96) on one thread and on all, with the gain; of the
//! full-size model (preset `gopro`, stage one and two, patch 128) with and without gradient checkpointing. Each case is a
//! process of its own, so that its peak is its own.
//!
//! `cargo bench --bench training_step`; `-- small` or `-- gopro` for one of them.

mod machine;

use std::process::Command;
use std::time::Instant;

use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::Optimizer;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Distribution, Tensor};
use burn::train::TrainStep;
use hi_diff::Config;
use hi_diff::config::Objective;
use hi_diff::data::loader::Batch;
use hi_diff::data::stop::Stop;
use hi_diff::kernels::sgemm_rate;
use hi_diff::training::optimizer::{AfterStep, Overflow};
use hi_diff::training::step::StepSettings;
use hi_diff::training::{StageOne, StageTwo};

/// What a process measures.
struct Case {
    preset: String,
    stage: usize,
    patch: usize,
    batch: usize,
    /// Timed steps, after one that is not.
    steps: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(case) = arguments.iter().position(|argument| argument == "--case") {
        let number = |offset: usize| arguments[case + offset].parse::<usize>().expect("a number");
        let case = Case {
            preset: arguments[case + 1].clone(),
            stage: number(2),
            patch: number(3),
            batch: number(4),
            steps: number(5),
        };
        return match arguments.last().map(String::as_str) {
            Some("keep") => run::<Autodiff<Flex>>(&case, "no"),
            _ => run::<Autodiff<Flex, BalancedCheckpointing>>(&case, "yes"),
        };
    }
    let wanted = |preset: &str| {
        let mut presets = arguments.iter().skip(1);
        let named = presets.clone().any(|name| !name.starts_with("--"));
        !named || presets.any(|name| name == preset)
    };
    println!("Flex");
    println!(
        "| preset | stage | batch | gradient checkpointing | threads | seconds a step | images/s | R | peak memory (GB) |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let all = machine::threads().to_string();
    if wanted("small") {
        let [one, all] = ["1", &all].map(|threads| case("small 1 96 8 9 keep", threads));
        println!("\nall threads are {:.2} times as fast as one\n", one / all);
    }
    if wanted("gopro") {
        for stage in ["1", "2"] {
            for batch in ["1", "2"] {
                for activations in ["keep", "recompute"] {
                    case(&format!("gopro {stage} 128 {batch} 3 {activations}"), &all);
                }
            }
        }
    }
}

/// Prints a case's row and returns its seconds a step.
fn case(arguments: &str, threads: &str) -> f64 {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .arg("--case")
        .args(arguments.split(' '))
        .env("RAYON_NUM_THREADS", threads)
        .output()
        .expect("a process");
    let row = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{arguments} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{row}");
    let seconds = row
        .split('|')
        .nth(6)
        .and_then(|cell| cell.trim().parse().ok());
    seconds.expect("the seconds a step")
}

fn run<B: AutodiffBackend>(case: &Case, checkpointing: &str) {
    let config = Config::preset(&case.preset).expect("a preset");
    let model = config.init_training::<B>(&Default::default());
    let summary = model.summary(case.patch, case.patch);
    let (settings, ema) = (StepSettings::default(), config.training.ema);
    let before = sgemm_rate();
    let (seconds, stage) = match case.stage {
        1 => (
            time(StageOne::new(model, ema, settings).expect("LE"), case),
            "one",
        ),
        _ => {
            let module = StageTwo::new(model, Objective::Joint, ema, settings).expect("LE");
            (time(module, case), "two")
        }
    };
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
    let rate = 3.0 * 2.0 * (macs * case.batch as u64) as f64 / seconds;
    let share = 200.0 * rate / (before + sgemm_rate());
    println!(
        "| {} | {stage} | {} | {checkpointing} | {} | {seconds:.3} | {:.1} | {share:.0} % | {peak} |",
        case.preset,
        case.batch,
        rayon::current_num_threads(),
        case.batch as f64 / seconds,
    );
}

fn time<B, M>(mut module: M, case: &Case) -> f64
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + AfterStep + TrainStep<Input = Batch<B>>,
{
    let training = &Config::default().training.stage_one;
    let mut optimizer = training
        .optimizer
        .init::<M, B>(training.clip, Overflow::Stop, Stop::new());
    let mut seconds = Vec::new();
    for step in 0..=case.steps {
        let item = random::<B>(step, case);
        let start = Instant::now();
        let output = module.step(item);
        module = optimizer.step(2e-4, module, output.grads);
        seconds.push(start.elapsed().as_secs_f64());
    }
    machine::median(&mut seconds[1..])
}

fn random<B: AutodiffBackend>(iteration: usize, case: &Case) -> Batch<B> {
    let device = Default::default();
    let image = || {
        Tensor::random(
            [case.batch, 3, case.patch, case.patch],
            Distribution::Uniform(0.0, 1.0),
            &device,
        )
    };
    let noise = Tensor::<B, 3>::random(
        [case.batch, 16, 256],
        Distribution::Normal(0.0, 1.0),
        &device,
    );
    Batch {
        iteration,
        blur: image(),
        sharp: image(),
        noise: noise.into(),
        timesteps: vec![1; case.batch],
        share: 1.0,
    }
}
