//! The optimiser: AdamW, Adam or Muon, with the gradient clipped by its norm over all parameters together.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamWConfig, GradientsParams, LearningRate, MultiGradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::muon::MuonAdamW;
use super::step::LossScale;
use crate::config::{OptimizerConfig, OptimizerKind};
use crate::data::stop::Stop;

/// PyTorch's ε, which the published runs leave at its default.
const EPSILON: f32 = 1e-8;

/// Keeps a clipped gradient finite where the norm is 0, as PyTorch's `clip_grad_norm_` does.
const NORM_EPSILON: f64 = 1e-6;

impl OptimizerConfig {
    /// Burn's optimiser for a module, behind a bound on the gradient's norm; see [`ClippedOptimizer::new`]. Adam is
    /// AdamW without decay, and Muon has AdamW beside it, so that all share one type and one record.
    pub fn init<M, B>(
        &self,
        clip: f64,
        overflow: Overflow,
        stop: Stop,
    ) -> ClippedOptimizer<OptimizerAdaptor<MuonAdamW<B::InnerBackend>, M, B>>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
        let weight_decay = match self.kind {
            OptimizerKind::Adamw | OptimizerKind::Muon => self.weight_decay,
            OptimizerKind::Adam => 0.0,
        };
        let adamw = AdamWConfig::new()
            .with_beta_1(self.betas[0] as f32)
            .with_beta_2(self.betas[1] as f32)
            .with_epsilon(EPSILON)
            .with_weight_decay(weight_decay as f32)
            .build();
        let optimizer = match self.kind {
            OptimizerKind::Adamw | OptimizerKind::Adam => MuonAdamW::adamw(adamw),
            OptimizerKind::Muon => MuonAdamW::with_muon(adamw, weight_decay, self.matrices),
        };
        ClippedOptimizer::new(optimizer.into(), clip, overflow, stop)
    }
}

/// What becomes of a step whose gradient is not finite. The weights stay as they are in either case.
#[derive(Debug, Clone)]
pub enum Overflow {
    /// The training stops.
    Stop,
    /// The step is left out, and this scale of the loss is halved, as half precision needs; so many in a row stop the
    /// training after all.
    Skip(LossScale),
}

/// Steps that may be left out in a row.
const MOST_SKIPPED: usize = 20;

/// The gradient norms before clipping, by the number of steps done; shared between the optimiser, on however many
/// devices, and who shows them.
#[derive(Debug, Clone, Default)]
pub struct GradientNorms(Arc<Mutex<BTreeMap<usize, f64>>>);

/// Norms that are kept at most, if nobody takes them.
const MOST_NORMS: usize = 1_024;

impl GradientNorms {
    /// The norm of the latest step, or `None` before the first.
    pub fn last(&self) -> Option<f64> {
        self.norms().last_key_value().map(|(_, norm)| *norm)
    }

    /// The norm of a step.
    pub fn at(&self, step: usize) -> Option<f64> {
        self.norms().get(&step).copied()
    }

    fn set(&self, step: usize, norm: f64) {
        let mut norms = self.norms();
        norms.insert(step, norm);
        if norms.len() > MOST_NORMS {
            norms.pop_first();
        }
    }

    fn norms(&self) -> MutexGuard<'_, BTreeMap<usize, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a module does once its weights have changed.
pub trait AfterStep: Sized {
    /// The module, ready for the next step.
    fn after_step(self) -> Self {
        self
    }
}

/// An optimiser behind a bound on the Euclidean norm of the whole gradient.
#[derive(Clone)]
pub struct ClippedOptimizer<O> {
    inner: O,
    bound: f64,
    norms: GradientNorms,
    /// Steps done, those left out included.
    steps: usize,
    skipped: usize,
    overflow: Overflow,
    stop: Stop,
}

impl<O> ClippedOptimizer<O> {
    /// Puts a bound before `inner`; 0 for none. A gradient that is not finite is treated as `overflow` says, stopping
    /// the training through `stop`.
    pub fn new(inner: O, bound: f64, overflow: Overflow, stop: Stop) -> Self {
        Self {
            inner,
            bound,
            norms: GradientNorms::default(),
            steps: 0,
            skipped: 0,
            overflow,
            stop,
        }
    }

    /// A handle on the norms of the steps.
    pub fn gradient_norms(&self) -> GradientNorms {
        self.norms.clone()
    }

    /// Takes note of whether the gradient was finite.
    fn note(&mut self, finite: bool) {
        let step = self.steps;
        match &self.overflow {
            Overflow::Stop if finite => {}
            Overflow::Stop => self.stop.fail_torn(format_args!(
                "the gradient of step {step} is not finite, and the weights were left as before it; a lower learning rate or clip may help"
            )),
            Overflow::Skip(scale) => {
                scale.update(finite);
                self.skipped = if finite { 0 } else { self.skipped + 1 };
                if self.skipped > MOST_SKIPPED {
                    self.stop.fail_torn(format_args!(
                        "the gradients of {} steps up to {step} are not finite; try another precision",
                        self.skipped
                    ));
                }
            }
        }
    }

    /// Clips the gradients, and says whether they can be used.
    fn clip<M, B>(&self, module: &M, gradients: &mut GradientsParams) -> bool
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
        let norm = gradient_norm(module, gradients);
        self.norms.set(self.steps, norm);
        let factor = self.bound / (norm + NORM_EPSILON);
        if self.bound > 0.0 && factor < 1.0 {
            scale(module, gradients, factor);
        }
        norm.is_finite()
    }
}

/// The Euclidean norm of all gradients of a module's parameters together.
pub fn gradient_norm<M, B>(module: &M, gradients: &GradientsParams) -> f64
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let mut visitor = SquaredNorm::<B> {
        gradients,
        sum: None,
    };
    module.visit(&mut visitor);
    visitor.sum.map_or(0.0, |sum| f64::from(scalar(sum)).sqrt())
}

fn scalar<B: burn::tensor::backend::Backend>(tensor: Tensor<B, 1>) -> f32 {
    tensor.into_data().iter::<f32>().next().unwrap_or(f32::NAN)
}

/// Sums on the device, so that a GPU is waited for once a step and not once a parameter.
struct SquaredNorm<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for SquaredNorm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => {
                    let device = sum.device();
                    sum + square.to_device(&device)
                }
                None => square,
            });
        }
    }
}

fn scale<M, B>(module: &M, gradients: &mut GradientsParams, factor: f64)
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    module.visit(&mut Scale::<B> {
        gradients,
        factor,
        backend: PhantomData,
    });
}

struct Scale<'a, B> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    backend: PhantomData<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            self.gradients
                .register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

impl<M, B, O> Optimizer<M, B> for ClippedOptimizer<O>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + AfterStep,
    O: Optimizer<M, B>,
{
    /// That of the optimiser, the steps done, and the scale of the loss.
    type Record = (O::Record, usize, f64, usize);

    fn step(&mut self, lr: LearningRate, module: M, mut grads: GradientsParams) -> M {
        self.steps += 1;
        let finite = self.clip(&module, &mut grads);
        self.note(finite);
        match finite {
            true => self.inner.step(lr, module, grads).after_step(),
            false => module,
        }
    }

    fn step_multi(&mut self, lr: LearningRate, module: M, mut grads: MultiGradientsParams) -> M {
        let mut sum = Sum::<B> {
            parts: &mut grads,
            sum: GradientsParams::new(),
            backend: PhantomData,
        };
        module.visit(&mut sum);
        let sum = sum.sum;
        self.step(lr, module, sum)
    }

    fn to_record(&self) -> Self::Record {
        let (factor, since) = match &self.overflow {
            Overflow::Stop => LossScale::default().to_record(),
            Overflow::Skip(scale) => scale.to_record(),
        };
        (self.inner.to_record(), self.steps, factor, since)
    }

    fn load_record(mut self, (inner, steps, factor, since): Self::Record) -> Self {
        self.inner = self.inner.load_record(inner);
        self.steps = steps;
        if let Overflow::Skip(scale) = &self.overflow {
            scale.load_record((factor, since));
        }
        self
    }
}

/// Adds the devices' gradients before the norm is taken.
struct Sum<'a, B> {
    parts: &'a mut MultiGradientsParams,
    sum: GradientsParams,
    backend: PhantomData<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Sum<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some((gradient, _)) = self.parts.remove::<B::InnerBackend, D>(param.id) {
            self.sum.register(param.id, gradient);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};

    use super::*;

    type B = Autodiff<Flex>;

    /// Two layers whose gradients differ in size, so that clipping each by itself would show.
    #[derive(Module, Debug)]
    struct Layers<B: burn::tensor::backend::Backend> {
        first: Linear<B>,
        second: Linear<B>,
    }

    impl AfterStep for Layers<B> {}

    fn layers_and_gradients() -> (Layers<B>, GradientsParams) {
        let device = Default::default();
        let layers = Layers::<B> {
            first: LinearConfig::new(3, 2).with_bias(false).init(&device),
            second: LinearConfig::new(2, 2).init(&device),
        };
        let input = Tensor::<B, 2>::from_floats([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], &device);
        let loss = layers
            .second
            .forward(layers.first.forward(input))
            .powi_scalar(2)
            .sum()
            * 10.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &layers);
        (layers, gradients)
    }

    fn values(layers: &Layers<B>, gradients: &GradientsParams) -> Vec<f64> {
        let read = |tensor: Tensor<Flex, 2>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        let mut all = read(gradients.get(layers.first.weight.id).unwrap());
        all.extend(read(gradients.get(layers.second.weight.id).unwrap()));
        let bias = layers.second.bias.as_ref().unwrap().id;
        all.extend(
            gradients
                .get::<Flex, 1>(bias)
                .unwrap()
                .into_data()
                .iter::<f64>(),
        );
        all
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn the_norm_is_over_all_parameters() {
        let (layers, gradients) = layers_and_gradients();
        let expected = norm(&values(&layers, &gradients));
        let found = gradient_norm(&layers, &gradients);
        assert!(
            (found / expected - 1.0).abs() < 1e-6,
            "{found} instead of {expected}"
        );
    }

    #[test]
    fn clipping_keeps_the_direction_and_bounds_the_norm() {
        let (layers, mut gradients) = layers_and_gradients();
        let before = values(&layers, &gradients);
        let optimizer =
            OptimizerConfig::default().init::<Layers<B>, B>(0.01, Overflow::Stop, Stop::new());
        optimizer.clip(&layers, &mut gradients);
        let after = values(&layers, &gradients);
        assert!((norm(&after) - 0.01).abs() < 1e-7, "norm {}", norm(&after));
        let reported = optimizer.gradient_norms().last().unwrap() / norm(&before);
        assert!(
            (reported - 1.0).abs() < 1e-6,
            "the norm before clipping, off by {reported}"
        );
        for (before_value, after_value) in before.iter().zip(&after) {
            let expected = before_value * 0.01 / norm(&before);
            assert!(
                (after_value - expected).abs() < 1e-8,
                "{after_value} instead of {expected}"
            );
        }
    }

    #[test]
    fn small_gradients_and_a_bound_of_zero_change_nothing() {
        for bound in [0.0, 1e9] {
            let (layers, mut gradients) = layers_and_gradients();
            let before = values(&layers, &gradients);
            let optimizer =
                OptimizerConfig::default().init::<Layers<B>, B>(bound, Overflow::Stop, Stop::new());
            assert!(optimizer.clip(&layers, &mut gradients));
            assert_eq!(values(&layers, &gradients), before, "bound {bound}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_stops_the_training_and_leaves_the_weights() {
        let (layers, mut gradients) = layers_and_gradients();
        let bad = Tensor::<Flex, 1>::from_floats([f32::NAN, 1.0], &Default::default());
        gradients.register(layers.second.bias.as_ref().unwrap().id, bad);
        let stop = Stop::new();
        let mut optimizer = OptimizerConfig::default().init(0.01, Overflow::Stop, stop.clone());
        let before = layers.first.weight.val().into_data();
        let after = optimizer.step(0.1, layers, gradients);
        assert!(stop.is_torn());
        assert_eq!(after.first.weight.val().into_data(), before);
    }

    #[test]
    fn in_half_precision_a_few_overflows_are_skipped() {
        let stop = Stop::new();
        let scale = LossScale::default();
        let overflow = Overflow::Skip(scale.clone());
        let mut optimizer =
            OptimizerConfig::default().init::<Layers<B>, B>(0.01, overflow, stop.clone());
        for step in 1..=MOST_SKIPPED + 1 {
            assert!(!stop.is_torn(), "step {step}");
            let (layers, mut gradients) = layers_and_gradients();
            let bad = Tensor::<Flex, 1>::from_floats([f32::NAN, 1.0], &Default::default());
            gradients.register(layers.second.bias.as_ref().unwrap().id, bad);
            let before = layers.first.weight.val().into_data();
            let after = optimizer.step(0.1, layers, gradients);
            assert_eq!(after.first.weight.val().into_data(), before);
            assert!(scale.to_record().0 < 65_536.0);
        }
        assert!(stop.is_torn());
    }
}
