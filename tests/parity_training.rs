//! Three training steps of each stage against the published code: losses, gradients, their norm, and the weights.
#![cfg(feature = "train")]

mod common;

use std::collections::HashMap;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, Param};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn::train::TrainStep;
use common::{Fixture, coarseness, reduced_gopro, reduced_realblur, relative_difference};
use hi_diff::config::{Objective, OptimizerConfig};
use hi_diff::data::loader::Batch;
use hi_diff::data::stop::Stop;
use hi_diff::training::metrics::StepLosses;
use hi_diff::training::optimizer::{AfterStep, Overflow, gradient_norm};
use hi_diff::training::step::StepSettings;
use hi_diff::training::{StageOne, StageTwo};
use hi_diff::weights::{Network, StateDict};
use hi_diff::{Config, HiDiff};

on_each_backend!(
    stage_one_gopro,
    stage_one_realblur,
    stage_two_gopro,
    stage_two_realblur
);

/// The same gradients by other ways: Flex stands for all backends.
#[cfg(feature = "flex")]
mod ways {
    use burn::backend::Flex;
    use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
    use hi_diff::config::{LossConfig, TrainingPrecision};

    use super::*;

    #[test]
    fn with_gradient_checkpointing_the_published_steps_are_made_too() {
        type B = Autodiff<Flex, BalancedCheckpointing>;
        stage_one::<B>("gopro", reduced_gopro());
        stage_two::<B>("realblur", reduced_realblur());
    }

    #[test]
    fn a_batch_in_parts_makes_the_published_steps_too() {
        type B = Autodiff<Flex>;
        let settings = StepSettings {
            accumulation: 2,
            ..StepSettings::default()
        };
        let fixture = Fixture::open("pipelines/train_stage2_gopro");
        let model = initial::<B>(&fixture, &reduced_gopro(), &Network::ALL);
        let stage = StageTwo::new(model, Objective::Joint, 0.0, settings).unwrap();
        three_steps(&fixture, stage, |stage| &stage.model);
    }

    #[test]
    fn two_replicas_on_halves_of_a_batch_give_the_single_devices_gradients() {
        type B = Autodiff<Flex>;
        let fixture = Fixture::open("pipelines/train_stage2_gopro");
        let model = initial::<B>(&fixture, &reduced_gopro(), &Network::ALL);
        let stage = StageTwo::new(model, Objective::Joint, 0.0, StepSettings::default()).unwrap();
        let whole = batch::<B>(&fixture, 0);
        let halves = whole.clone().split(2);
        assert_eq!(halves.len(), 2);
        let expected = gradients(&stage, whole);
        let [first, second] = halves
            .into_iter()
            .map(|half| gradients(&stage.clone().fork(&Default::default()), half))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        for (key, expected) in expected {
            let sum: Vec<f32> = first[&key]
                .iter::<f32>()
                .zip(second[&key].iter::<f32>())
                .map(|(a, b)| a + b)
                .collect();
            let found = TensorData::new(sum, expected.shape.clone());
            let size = expected
                .iter::<f32>()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            let error = relative_difference(&found, &expected);
            assert!(
                error < 1e-4 || error * size < 1e-6,
                "{key}: off by {error:.1e} of {size:.1e}"
            );
        }
    }

    #[test]
    fn half_precision_keeps_the_gradients_direction_and_single_precision_losses() {
        type B = Autodiff<Flex>;
        let fixture = Fixture::open("pipelines/train_stage2_gopro");
        let stage = |precision| {
            let model = initial::<B>(&fixture, &reduced_gopro(), &Network::ALL);
            let settings = StepSettings {
                precision,
                ..StepSettings::default()
            };
            StageTwo::new(model, Objective::Joint, 0.0, settings).unwrap()
        };
        let expected = gradients(&stage(TrainingPrecision::F32), batch(&fixture, 0));
        for (precision, bound) in [
            (TrainingPrecision::Bf16, 0.05),
            (TrainingPrecision::F16, 0.01),
        ] {
            let stage = stage(precision);
            let output = stage.step(batch(&fixture, 0));
            let loss = output.item.pixel.unwrap();
            assert_eq!(loss.dtype(), burn::tensor::DType::F32);
            let published = fixture.meta("losses")[0]["l_pix"].as_f64().unwrap();
            let found = loss.into_data().iter::<f64>().next().unwrap();
            assert!(
                (found / published - 1.0).abs() < bound,
                "{precision:?}: {found} instead of {published}"
            );
            let found = gradients(&stage, batch(&fixture, 0));
            let (mut difference, mut norm) = (0.0_f64, 0.0_f64);
            for (key, expected) in &expected {
                assert_eq!(found[key].dtype, burn::tensor::DType::F32, "{key}");
                for (a, b) in found[key].iter::<f64>().zip(expected.iter::<f64>()) {
                    difference += (a - b).powi(2);
                    norm += b.powi(2);
                }
            }
            let error = (difference / norm).sqrt();
            println!("{precision:?}: gradient off by {error:.2e} of its norm");
            assert!(error < bound, "{precision:?}: off by {error} of the norm");
        }
    }

    #[test]
    fn a_step_minimises_the_weighted_sum_of_its_losses() {
        let fixture = Fixture::open("pipelines/train_stage2_gopro");
        let of = |frequency, prior| {
            let model = initial::<Autodiff<Flex>>(&fixture, &reduced_gopro(), &Network::ALL);
            let loss = LossConfig {
                frequency,
                prior,
                ..LossConfig::default()
            };
            let settings = StepSettings {
                loss,
                ..StepSettings::default()
            };
            let stage = StageTwo::new(model, Objective::Joint, 0.0, settings).unwrap();
            gradients(&stage, batch(&fixture, 0))
        };
        let (neither, frequency, prior) = (of(0.0, 0.0), of(0.25, 0.0), of(0.0, 1.0));
        for (key, both) in of(0.5, 3.0) {
            let values =
                |of: &HashMap<String, TensorData>| of[&key].iter::<f64>().collect::<Vec<_>>();
            let (neither, frequency, prior) =
                (values(&neither), values(&frequency), values(&prior));
            let expected = (0..neither.len()).map(|i| {
                neither[i] + 2.0 * (frequency[i] - neither[i]) + 3.0 * (prior[i] - neither[i])
            });
            let scale = prior
                .iter()
                .chain(&frequency)
                .fold(1e-6_f64, |most, value| most.max(value.abs()));
            for (found, expected) in both.iter::<f64>().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-3 * scale,
                    "{key}: {found} instead of {expected}"
                );
            }
        }
        // Each has a part in it: the transform's in the Transformer's gradient, the prior's in the denoiser's.
        assert_ne!(
            frequency["net_g.output.weight"],
            neither["net_g.output.weight"]
        );
        let last = "net_d.final_layer.0.weight";
        assert_ne!(prior[last], neither[last]);
    }

    fn gradients(
        stage: &StageTwo<Autodiff<Flex>>,
        batch: Batch<Autodiff<Flex>>,
    ) -> HashMap<String, TensorData> {
        let output = stage.step(batch);
        tensors(&stage.model.valid().map(&mut Replace(&output.grads)))
    }
}

const LEARNING_RATE: f64 = 2e-4;

fn stage_one_gopro<B: Backend>() {
    stage_one::<Autodiff<B>>("gopro", reduced_gopro());
}

fn stage_one_realblur<B: Backend>() {
    stage_one::<Autodiff<B>>("realblur", reduced_realblur());
}

fn stage_two_gopro<B: Backend>() {
    stage_two::<Autodiff<B>>("gopro", reduced_gopro());
}

fn stage_two_realblur<B: Backend>() {
    stage_two::<Autodiff<B>>("realblur", reduced_realblur());
}

fn stage_one<B: AutodiffBackend>(name: &str, config: Config) {
    let fixture = Fixture::open(&format!("pipelines/train_stage1_{name}"));
    let model = initial::<B>(
        &fixture,
        &config,
        &[Network::Transformer, Network::LatentEncoder],
    );
    three_steps(
        &fixture,
        StageOne::new(model, 0.0, StepSettings::default()).unwrap(),
        |module| &module.model,
    );
}

fn stage_two<B: AutodiffBackend>(name: &str, config: Config) {
    let fixture = Fixture::open(&format!("pipelines/train_stage2_{name}"));
    let model = initial::<B>(&fixture, &config, &Network::ALL);
    three_steps(
        &fixture,
        StageTwo::new(model, Objective::Joint, 0.0, StepSettings::default()).unwrap(),
        |module| &module.model,
    );
}

fn initial<B: Backend>(fixture: &Fixture, config: &Config, networks: &[Network]) -> HiDiff<B> {
    let mut model: HiDiff<B> = config.init_training(&Default::default());
    for &network in networks {
        let prefix = format!("init.{}.", network.stem());
        match network {
            Network::Transformer => fixture.load(&prefix, network, &mut model.transformer),
            Network::LatentEncoder => {
                fixture.load(&prefix, network, model.latent_encoder.as_mut().unwrap());
            }
            Network::ConditionEncoder => {
                fixture.load(&prefix, network, model.condition_encoder.as_mut().unwrap());
            }
            Network::Denoiser => fixture.load(&prefix, network, model.denoiser.as_mut().unwrap()),
        }
    }
    model
}

fn three_steps<B, M>(fixture: &Fixture, mut module: M, model: impl Fn(&M) -> &HiDiff<B>)
where
    B: AutodiffBackend,
    M: AutodiffModule<B>
        + AfterStep
        + TrainStep<Input = Batch<B>, Output = StepLosses<B::InnerBackend>>,
{
    let clip = fixture.meta("clip").as_f64().unwrap();
    let mut optimizer = OptimizerConfig::default().init::<M, B>(clip, Overflow::Stop, Stop::new());
    let losses = fixture.meta("losses");
    for step in 0..3 {
        let output = module.step(batch(fixture, step));
        let expected = &losses[step];
        check_loss("pixel", step, output.item.pixel, expected["l_pix"].as_f64());
        check_loss(
            "diffusion",
            step,
            output.item.diffusion,
            expected["l_pix_diff"].as_f64(),
        );
        if step == 0 {
            check_gradients(fixture, model(&module), &output.grads);
            let found = gradient_norm(&module, &output.grads);
            let expected = fixture.meta("grad_norm").as_f64().unwrap();
            let error = (found / expected - 1.0).abs();
            assert!(error < 1e-4, "gradient norm {found} instead of {expected}");
        }
        module = optimizer.step(LEARNING_RATE, module, output.grads);
    }
    check_weights(fixture, model(&module));
}

fn batch<B: Backend>(fixture: &Fixture, step: usize) -> Batch<B> {
    let has_noise = fixture.keys().iter().any(|key| key == "noise.0");
    let noise = match has_noise {
        true => fixture.tensor(&format!("noise.{step}")),
        false => Tensor::<B, 3>::zeros([2, 16, 16], &Default::default()),
    };
    Batch {
        iteration: step,
        blur: fixture.tensor(&format!("blur.{step}")),
        sharp: fixture.tensor(&format!("sharp.{step}")),
        noise: noise.into(),
        timesteps: vec![1, 1],
        share: 1.0,
    }
}

fn check_loss<B: Backend>(
    name: &str,
    step: usize,
    found: Option<Tensor<B, 1>>,
    expected: Option<f64>,
) {
    let found = found.map(|loss| loss.into_data().iter::<f64>().next().unwrap());
    let (found, expected) = match (found, expected) {
        (None, None) => return,
        (found, expected) => (found.unwrap(), expected.unwrap()),
    };
    let error = (found / expected - 1.0).abs();
    assert!(
        error < 1e-4 * f64::from(coarseness::<B>()),
        "{name} loss of step {step}: {found} instead of {expected}"
    );
}

/// Puts gradients in the places of the weights, so that they have the published names and layout.
struct Replace<'a>(&'a GradientsParams);

impl<B: Backend> ModuleMapper<B> for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let gradient = self.0.get::<B, D>(param.id);
        param.map(|weight| gradient.unwrap_or_else(|| weight.zeros_like()))
    }
}

fn tensors<B: Backend>(model: &HiDiff<B>) -> HashMap<String, TensorData> {
    let states = StateDict::of_model(model);
    let named = states.iter().flat_map(|state| {
        let stem = state.network().stem();
        state.tensors().iter().map(move |tensor| {
            let data = TensorData::new(tensor.values.clone(), tensor.shape.clone());
            (format!("{stem}.{}", tensor.name), data)
        })
    });
    named.collect()
}

fn check_gradients<B: AutodiffBackend>(
    fixture: &Fixture,
    model: &HiDiff<B>,
    gradients: &GradientsParams,
) {
    let found = tensors(&model.valid().map(&mut Replace(gradients)));
    let keys: Vec<_> = fixture
        .keys()
        .into_iter()
        .filter(|key| key.starts_with("grad."))
        .collect();
    assert!(keys.len() > 100, "{} gradients", keys.len());
    // A bias before a softmax has no gradient but rounding errors; such are compared with the largest of all.
    let largest = keys
        .iter()
        .flat_map(|key| fixture.data(key).iter::<f32>().collect::<Vec<_>>())
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    for key in keys {
        let expected = fixture.data(&key);
        let found = &found[key.trim_start_matches("grad.")];
        let own = relative_difference(found, &expected);
        let size = expected
            .iter::<f32>()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let close = own < 1e-3 * coarseness::<B>() || own * size < 1e-6 * largest;
        assert!(
            close,
            "{key}: off by {own:.1e} of its greatest value, {size:.1e}"
        );
    }
}

/// Adam's first steps have the length of the learning rate whatever the gradient's size, so where a gradient is almost
/// nothing its rounding errors decide the direction: a few weights may differ by up to the three steps.
fn check_weights<B: Backend>(fixture: &Fixture, model: &HiDiff<B>) {
    let found = tensors(model);
    let (mut differing, mut total) = (0, 0);
    let mut worst = (0.0_f32, String::new());
    for key in fixture
        .keys()
        .into_iter()
        .filter(|key| key.starts_with("final."))
    {
        let found = found[key.trim_start_matches("final.")].iter::<f32>();
        for (found, expected) in found.zip(fixture.data(&key).iter::<f32>()) {
            let difference = (found - expected).abs();
            total += 1;
            differing += usize::from(difference > 1e-5);
            if difference > worst.0 {
                worst = (difference, key.clone());
            }
        }
    }
    println!("{differing} of {total} weights differ by more than 1e-5; most: {worst:?}");
    assert!(
        differing * 1000 < total,
        "{differing} of {total} weights differ; most: {worst:?}"
    );
    let longest = 3.1 * LEARNING_RATE as f32 * 2.0;
    assert!(
        worst.0 < longest,
        "differs by more than three steps can: {worst:?}"
    );
}

/// In a loop of one's own, what does not suit a stage is an error.
#[cfg(feature = "flex")]
#[test]
fn stages_refuse_what_does_not_suit_them() {
    use burn::backend::Flex;
    type B = Autodiff<Flex>;
    let config = reduced_gopro();
    let device = Default::default();
    let settings = StepSettings::default;
    let without_le = || config.init::<B>(&device);
    assert!(StageOne::new(without_le(), 0.0, settings()).is_err());
    assert!(StageTwo::new(without_le(), Objective::Joint, 0.0, settings()).is_err());

    let fixture = Fixture::open("pipelines/train_stage2_gopro");
    let model = config.init_training::<B>(&device);
    let one = StageOne::new(model.clone(), 0.0, settings()).unwrap();
    let two = StageTwo::new(model, Objective::Joint, 0.0, settings()).unwrap();
    let good = batch::<B>(&fixture, 0);
    assert!(one.gradients(good.clone()).is_ok() && two.gradients(good.clone()).is_ok());
    let narrow = Batch {
        blur: good.blur.clone().narrow(3, 0, 12),
        ..good.clone()
    };
    let other_noise = Batch {
        noise: good.noise.start.clone().repeat_dim(1, 2).into(),
        ..good
    };
    assert!(one.gradients(narrow.clone()).is_err() && two.gradients(narrow).is_err());
    assert!(two.gradients(other_noise).is_err());
}
