//! One step's gradient: of the batch in parts, to save memory or to share them out among threads, and in half precision,
//! if that is asked for.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{FloatDType, Tensor};
use burn::train::TrainOutput;

use super::loss::{frequency, light};
use super::metrics::StepLosses;
use super::share;
use crate::config::{LossConfig, TrainingPrecision};
use crate::data::loader::Batch;
use crate::kernels;
use crate::model::HiDiff;

/// How a step's gradient is computed.
#[derive(Debug, Clone, Default)]
pub struct StepSettings {
    /// Parts of the batch, one after the other.
    pub accumulation: usize,
    /// Of the Transformer's activations.
    pub precision: TrainingPrecision,
    /// Shared with the optimiser, which adapts it.
    pub loss_scale: LossScale,
    /// What is minimised.
    pub loss: LossConfig,
}

/// A loss as the mean over the images: what is differentiated, and what it is the weighted sum of.
pub(super) struct Loss<B: AutodiffBackend> {
    pub total: Tensor<B, 1>,
    pub pixel: Option<Tensor<B, 1>>,
    pub frequency: Option<Tensor<B, 1>>,
    pub light: Option<Tensor<B, 1>>,
    pub diffusion: Option<Tensor<B, 1>>,
}

impl<B: AutodiffBackend> Loss<B> {
    /// That of an output, without any of the diffusion.
    ///
    /// # Shapes
    /// - output and sharp: `[batch, 3, height, width]`
    pub fn of_image(weights: &LossConfig, output: Tensor<B, 4>, sharp: Tensor<B, 4>) -> Self {
        let pixel = weights.pixel(output.clone(), sharp.clone());
        let mut total = pixel.clone();
        let mut weighted = |weight: f64, loss: fn(Tensor<B, 4>, Tensor<B, 4>) -> Tensor<B, 1>| {
            (weight > 0.0).then(|| {
                let loss = loss(output.clone(), sharp.clone());
                total = total.clone() + loss.clone().mul_scalar(weight);
                loss
            })
        };
        let frequency = weighted(weights.frequency, frequency);
        let light = weighted(weights.light, light);
        Self {
            total,
            pixel: Some(pixel),
            frequency,
            light,
            diffusion: None,
        }
    }
}

/// The gradient of `loss` over a batch, for `module`'s parameters. On several devices it is weighted by the device's
/// share of the samples, so that the devices' sum is the gradient of the whole batch.
///
/// Where the backend's kernels run on the processor, each sample is a part of its own, and threads take parts. The
/// gradients are added in the samples' order, so that there may be any number of threads.
///
/// Each part has leaves of its own, since Burn keeps graphs with a common leaf behind one lock.
pub(super) fn gradient<B, M>(
    module: &M,
    batch: Batch<B>,
    settings: &StepSettings,
    model: impl Fn(&mut M) -> &mut HiDiff<B> + Sync,
    loss: impl Fn(&M, Batch<B>) -> Loss<B> + Sync,
) -> TrainOutput<StepLosses<B::InnerBackend>>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + Sync,
{
    let half = match settings.precision {
        TrainingPrecision::F32 => None,
        TrainingPrecision::F16 => Some(FloatDType::F16),
        TrainingPrecision::Bf16 => Some(FloatDType::BF16),
    };
    let scale = settings.loss_scale.factor(settings.precision);
    let with_own_leaves = || {
        let mut copy = Box::new(module.clone());
        let model = model(&mut copy);
        *model = model.clone().map(&mut NewLeaves { dtype: None });
        if half.is_some() {
            let transformer = model.transformer.clone();
            model.transformer = transformer.map(&mut NewLeaves { dtype: half });
        }
        Leaves::of(&*model).join();
        copy
    };
    let whole = batch.share;
    let one = |part: Batch<B>| {
        let copy = &*with_own_leaves();
        let share = part.share;
        let loss = loss(copy, part);
        let weighted = loss.total.mul_scalar(share * scale);
        let mut gradients = GradientsParams::from_grads(weighted.backward(), copy);
        if half.is_some() {
            copy.visit(&mut ToSingle::<B> {
                gradients: &mut gradients,
                factor: 1.0 / scale,
                backend: PhantomData,
            });
        }
        let weighted =
            |loss: Option<Tensor<B, 1>>| loss.map(|loss| loss.inner().mul_scalar(share / whole));
        OfPart {
            gradients,
            pixel: weighted(loss.pixel),
            frequency: weighted(loss.frequency),
            light: weighted(loss.light),
            diffusion: weighted(loss.diffusion),
        }
    };
    let mut sum = Sum {
        module,
        gradients: GradientsAccumulator::new(),
        losses: StepLosses {
            pixel: None,
            frequency: None,
            light: None,
            diffusion: None,
            iteration: batch.iteration,
            batch: batch.len(),
        },
    };
    for part in batch.split(settings.accumulation) {
        if kernels::on_processor::<B>() {
            let samples = part.len();
            sum = share::add_up(part.split(samples), one, sum, Sum::add);
        } else {
            sum.add(one(part));
        }
    }
    TrainOutput {
        grads: sum.gradients.grads(),
        item: sum.losses,
    }
}

/// A part's gradients, and its share in the losses.
struct OfPart<B: AutodiffBackend> {
    gradients: GradientsParams,
    pixel: Option<Tensor<InnerBackend<B>, 1>>,
    frequency: Option<Tensor<InnerBackend<B>, 1>>,
    light: Option<Tensor<InnerBackend<B>, 1>>,
    diffusion: Option<Tensor<InnerBackend<B>, 1>>,
}

type InnerBackend<B> = <B as AutodiffBackend>::InnerBackend;

/// What the parts of a batch add up to.
struct Sum<'a, B: AutodiffBackend, M> {
    module: &'a M,
    gradients: GradientsAccumulator<M>,
    losses: StepLosses<B::InnerBackend>,
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> Sum<'_, B, M> {
    fn add(&mut self, part: OfPart<B>) {
        self.gradients.accumulate(self.module, part.gradients);
        for (sum, part) in [
            (&mut self.losses.pixel, part.pixel),
            (&mut self.losses.frequency, part.frequency),
            (&mut self.losses.light, part.light),
            (&mut self.losses.diffusion, part.diffusion),
        ] {
            *sum = match (sum.take(), part) {
                (Some(sum), Some(part)) => Some(sum + part),
                (sum, part) => sum.or(part),
            };
        }
    }
}

/// A new module with its parameters' first values, which Burn else draws when they are asked for, and in each copy anew.
pub(super) fn with_values<B: AutodiffBackend>(model: HiDiff<B>) -> HiDiff<B> {
    struct AsTheyAre;
    impl<B: AutodiffBackend> ModuleMapper<B> for AsTheyAre {}
    model.map(&mut AsTheyAre)
}

/// Makes parameters leaves of a graph of their own, of another format if one is given. Their names stay, so that their
/// gradients can be taken for those of the originals.
struct NewLeaves {
    dtype: Option<FloatDType>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for NewLeaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let dtype = self.dtype;
        param.map(|tensor| {
            let learns = tensor.is_require_grad();
            let values = tensor.inner();
            let values = match dtype {
                Some(dtype) => values.cast(dtype),
                None => values,
            };
            Tensor::from_inner(values).set_require_grad(learns)
        })
    }
}

/// A value of each leaf.
///
/// Burn's graphs grow together where an operation has parents in several, and each time those leaves that another graph
/// began with stay behind: what is made next from such a leaf alone begins a graph without any leaf. That is cleared away,
/// and its gradients lost, when another thread has its gradients while no tensor in it is referred to, as while Burn
/// concatenates some. Leaves that were [joined](Self::join) before anything else stay in one graph, which their module keeps.
struct Leaves<B: AutodiffBackend>(Vec<Tensor<B, 1>>);

impl<B: AutodiffBackend> Leaves<B> {
    fn of(model: &HiDiff<B>) -> Self {
        let mut leaves = Self(Vec::new());
        model.visit(&mut leaves);
        leaves
    }

    fn join(self) {
        if !self.0.is_empty() {
            Tensor::cat(self.0, 0);
        }
    }
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Leaves<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let leaf = param.val();
        if leaf.is_require_grad() {
            let value = leaf.slice([(); D].map(|()| 0..1)).reshape([1]);
            self.0.push(value.cast(FloatDType::F32));
        }
    }
}

/// Brings gradients back to single precision and takes the loss's scale from them.
struct ToSingle<'a, B> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    backend: PhantomData<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for ToSingle<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let single = gradient.cast(FloatDType::F32).mul_scalar(self.factor);
            self.gradients.register(param.id, single);
        }
    }
}

/// The factor on the loss that keeps half precision's small gradients from vanishing: halved when a gradient
/// overflows, doubled after a while without. Only `f16` needs one.
#[derive(Debug, Clone, Default)]
pub struct LossScale(Arc<Mutex<ScaleState>>);

/// What a checkpoint keeps of a [`LossScale`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct ScaleState {
    factor: f64,
    /// Steps since the factor changed.
    steps: usize,
}

impl Default for ScaleState {
    fn default() -> Self {
        Self {
            factor: 65_536.0,
            steps: 0,
        }
    }
}

/// Steps without overflow before the factor is doubled.
const GROWTH_INTERVAL: usize = 2_000;

impl LossScale {
    fn factor(&self, precision: TrainingPrecision) -> f64 {
        match precision {
            TrainingPrecision::F16 => self.state().factor,
            TrainingPrecision::F32 | TrainingPrecision::Bf16 => 1.0,
        }
    }

    /// After a step whose gradient was finite or not.
    pub(super) fn update(&self, finite: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.steps += 1;
        if !finite {
            state.factor = (state.factor / 2.0).max(1.0);
            state.steps = 0;
        } else if state.steps >= GROWTH_INTERVAL {
            state.factor *= 2.0;
            state.steps = 0;
        }
    }

    /// Factor and steps, for a checkpoint.
    pub(super) fn to_record(&self) -> (f64, usize) {
        let state = self.state();
        (state.factor, state.steps)
    }

    pub(super) fn load_record(&self, (factor, steps): (f64, usize)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ScaleState { factor, steps };
    }

    fn state(&self) -> ScaleState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    mod samples {
        use burn::backend::{Autodiff, Flex};
        use burn::module::{ModuleVisitor, ParamId};
        use burn::tensor::backend::Backend;
        use burn::tensor::{Distribution, TensorData};
        use burn::train::TrainStep;

        use super::*;
        use crate::Config;
        use crate::training::StageOne;

        type B = Autodiff<Flex>;

        struct Read<'a>(&'a GradientsParams, Vec<(ParamId, TensorData)>);

        impl ModuleVisitor<B> for Read<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                if let Some(gradient) = self.0.get::<Flex, D>(param.id) {
                    self.1.push((param.id, gradient.into_data()));
                }
            }
        }

        fn read(gradients: &GradientsParams, model: &HiDiff<B>) -> Vec<(ParamId, TensorData)> {
            let mut read = Read(gradients, Vec::new());
            model.visit(&mut read);
            read.1
        }

        /// Burn clears away what no tensor refers to whenever a thread has its gradients, in the graphs of all threads,
        /// and does not refer to what it concatenates meanwhile: here a product with a leaf that was used before.
        #[test]
        fn other_threads_do_not_clear_away_what_a_gradient_needs() {
            use std::sync::atomic::{AtomicBool, Ordering};

            use crate::model::DenoiserConfig;

            let device = Default::default();
            let denoiser = DenoiserConfig::Mixer {
                hidden: 8,
                blocks: 0,
                patch_expansion: 1.0,
                channel_expansion: 1.0,
            };
            let config = Config::preset("tiny").unwrap();
            let config = config.changed("test", |config| config.model.denoiser = denoiser);
            let config = config.unwrap();
            B::seed(&device, 4);
            let model = config.init_training::<B>(&device).fork(&device);
            let tokens = Tensor::<Flex, 3>::random([256, 16, 64], Distribution::Default, &device);
            let loss = |model: &HiDiff<B>, _: Batch<B>| {
                let denoiser = model.denoiser.as_ref().unwrap();
                let condition = Tensor::from_inner(tokens.clone());
                let step = |noisy, time| denoiser.forward(noisy, time, condition.clone());
                Loss {
                    total: (1..=4).map(f64::from).fold(condition.clone(), step).mean(),
                    pixel: None,
                    frequency: None,
                    light: None,
                    diffusion: None,
                }
            };
            let batch = Batch {
                iteration: 0,
                blur: Tensor::zeros([2, 3, 8, 8], &device),
                sharp: Tensor::zeros([2, 3, 8, 8], &device),
                noise: Tensor::zeros([2, 16, 64], &device).into(),
                timesteps: vec![1; 2],
                share: 1.0,
            };
            let settings = StepSettings::default();
            let gradients = || {
                let output = gradient(&model, batch.clone(), &settings, |model| model, loss);
                read(&output.grads, &model)
            };
            let expected = gradients();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let leaf = Tensor::<B, 1>::ones([1], &device).require_grad();
                        leaf.mul_scalar(2.0).backward();
                        std::thread::sleep(std::time::Duration::from_micros(100));
                    }
                });
                let whole = (0..10).all(|_| gradients() == expected);
                done.store(true, Ordering::Relaxed);
                assert!(whole, "gradients were lost");
            });
        }

        #[test]
        fn shared_out_to_any_number_of_threads_they_have_the_whole_batchs_gradient() {
            let device = Default::default();
            B::seed(&device, 3);
            let model = Config::preset("tiny").unwrap().init_training::<B>(&device);
            let stage = StageOne::new(model, 0.0, StepSettings::default()).unwrap();
            let model = stage.model;
            let image = || {
                let shape = [5, 3, 24, 16];
                Tensor::<B, 4>::random(shape, Distribution::Uniform(0.0, 1.0), &device)
            };
            let batch = Batch {
                iteration: 0,
                blur: image(),
                sharp: image(),
                noise: Tensor::zeros([5, 16, 64], &device).into(),
                timesteps: vec![1; 5],
                share: 1.0,
            };

            let output = model.stage_one(batch.blur.clone(), batch.sharp.clone());
            let loss = (output.unwrap().deblurred - batch.sharp.clone())
                .abs()
                .mean();
            let expected_loss = loss.clone().inner().into_scalar();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let expected = read(&gradients, &model);

            for accumulation in [1, 2, 5] {
                let settings = StepSettings {
                    accumulation,
                    ..StepSettings::default()
                };
                let stage = StageOne::new(model.clone(), 0.9, settings).unwrap();
                let on = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                    let output = pool.build().unwrap().install(|| stage.step(batch.clone()));
                    let loss = output.item.pixel.unwrap().into_scalar();
                    (loss, read(&output.grads, &model))
                };
                let one = on(1);
                assert!((one.0 - expected_loss).abs() < 1e-6);
                assert_eq!(one.1.len(), expected.len());
                for ((id, found), (_, expected)) in one.1.iter().zip(&expected) {
                    let largest = expected.iter::<f32>().fold(0.0_f32, |a, b| a.max(b.abs()));
                    for (found, expected) in found.iter::<f32>().zip(expected.iter::<f32>()) {
                        let error = (found - expected).abs();
                        assert!(
                            error <= 1e-5 * largest + 1e-9,
                            "{id}: {found}, not {expected}"
                        );
                    }
                }
                for threads in [2, 3, 7] {
                    let other = on(threads);
                    assert_eq!(other.0, one.0, "{threads} threads, {accumulation} parts");
                    for ((id, found), (_, expected)) in other.1.iter().zip(&one.1) {
                        assert!(
                            found == expected,
                            "{id} of {:?}: off by {:.1e} with {threads} threads, {accumulation} parts",
                            found.shape,
                            found
                                .iter::<f32>()
                                .zip(expected.iter::<f32>())
                                .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_loss_scale_yields_to_overflow_and_grows_back() {
        let scale = LossScale::default();
        assert_eq!(scale.factor(TrainingPrecision::Bf16), 1.0);
        assert_eq!(scale.factor(TrainingPrecision::F16), 65_536.0);
        scale.update(false);
        assert_eq!(scale.factor(TrainingPrecision::F16), 32_768.0);
        for _ in 0..GROWTH_INTERVAL {
            scale.update(true);
        }
        assert_eq!(scale.factor(TrainingPrecision::F16), 65_536.0);
        let copy = LossScale::default();
        scale.update(false);
        copy.load_record(scale.to_record());
        assert_eq!(copy.factor(TrainingPrecision::F16), 32_768.0);
    }
}
