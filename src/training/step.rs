//! One step's gradient: of the batch in parts, to save memory, and in half precision, if that is asked for.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::backend::AutodiffBackend as BurnAutodiffBackend;
use burn::tensor::{FloatDType, Tensor};
use burn::train::TrainOutput;

use super::loss::frequency;
use super::metrics::StepLosses;
use crate::backend::AutodiffBackend;
use crate::config::{LossConfig, Precision};
use crate::data::loader::Batch;
use crate::model::{HiDiff, Transformer};

/// How a step's gradient is computed.
#[derive(Debug, Clone, Default)]
pub struct StepSettings {
    /// Parts of the batch, one after the other.
    pub accumulation: usize,
    /// Of the Transformer's activations.
    pub precision: Precision,
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
        let frequency = (weights.frequency > 0.0).then(|| frequency(output, sharp));
        if let Some(frequency) = &frequency {
            total = total + frequency.clone().mul_scalar(weights.frequency);
        }
        Self {
            total,
            pixel: Some(pixel),
            frequency,
            diffusion: None,
        }
    }
}

/// The gradient of `loss` over a batch, for `module`'s parameters. On several devices it is weighted by the device's
/// share of the samples, so that the devices' sum is the gradient of the whole batch.
pub(super) fn gradient<B, M>(
    module: &M,
    batch: Batch<B>,
    settings: &StepSettings,
    model: impl Fn(&mut M) -> &mut HiDiff<B>,
    loss: impl Fn(&M, Batch<B>) -> Loss<B>,
) -> TrainOutput<StepLosses<B::InnerBackend>>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let mut computing = module.clone();
    let half = match settings.precision {
        Precision::F32 => None,
        Precision::F16 => Some(FloatDType::F16),
        Precision::Bf16 => Some(FloatDType::BF16),
    };
    if let Some(dtype) = half {
        let model = model(&mut computing);
        model.transformer = cast(model.transformer.clone(), dtype);
    }
    let scale = settings.loss_scale.factor(settings.precision);

    let (iteration, images) = (batch.iteration, batch.blur.dims()[0]);
    let whole = batch.share;
    let mut sum = GradientsAccumulator::new();
    let mut losses = StepLosses {
        pixel: None,
        frequency: None,
        diffusion: None,
        iteration,
        batch: images,
    };
    for part in batch.split(settings.accumulation) {
        let share = part.share;
        let loss = loss(&computing, part);
        let weighted = loss.total.mul_scalar(share * scale);
        let mut grads = GradientsParams::from_grads(weighted.backward(), &computing);
        if half.is_some() {
            module.visit(&mut ToSingle::<B> {
                gradients: &mut grads,
                factor: 1.0 / scale,
                backend: PhantomData,
            });
        }
        sum.accumulate(module, grads);
        add(&mut losses.pixel, loss.pixel, share / whole);
        add(&mut losses.frequency, loss.frequency, share / whole);
        add(&mut losses.diffusion, loss.diffusion, share / whole);
    }
    TrainOutput {
        grads: sum.grads(),
        item: losses,
    }
}

fn add<B: AutodiffBackend>(
    sum: &mut Option<Tensor<B::InnerBackend, 1>>,
    part: Option<Tensor<B, 1>>,
    weight: f64,
) {
    let Some(part) = part else { return };
    let part = part.inner().mul_scalar(weight);
    *sum = Some(match sum.take() {
        Some(sum) => sum + part,
        None => part,
    });
}

/// A copy with parameters of another format: leaves of the graph of the same names, whose gradients can be taken for
/// those of the originals.
fn cast<B: AutodiffBackend>(transformer: Transformer<B>, dtype: FloatDType) -> Transformer<B> {
    transformer.map(&mut CastLeaves(dtype))
}

struct CastLeaves(FloatDType);

impl<B: BurnAutodiffBackend> ModuleMapper<B> for CastLeaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let dtype = self.0;
        param.map(|tensor| {
            let learns = tensor.is_require_grad();
            Tensor::from_inner(tensor.inner().cast(dtype)).set_require_grad(learns)
        })
    }
}

/// Brings gradients back to single precision and takes the loss's scale from them.
struct ToSingle<'a, B> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    backend: PhantomData<B>,
}

impl<B: BurnAutodiffBackend> ModuleVisitor<B> for ToSingle<'_, B> {
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
    fn factor(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F16 => self.state().factor,
            Precision::F32 | Precision::Bf16 => 1.0,
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

    #[test]
    fn the_loss_scale_yields_to_overflow_and_grows_back() {
        let scale = LossScale::default();
        assert_eq!(scale.factor(Precision::Bf16), 1.0);
        assert_eq!(scale.factor(Precision::F16), 65_536.0);
        scale.update(false);
        assert_eq!(scale.factor(Precision::F16), 32_768.0);
        for _ in 0..GROWTH_INTERVAL {
            scale.update(true);
        }
        assert_eq!(scale.factor(Precision::F16), 65_536.0);
        let copy = LossScale::default();
        scale.update(false);
        copy.load_record(scale.to_record());
        assert_eq!(copy.factor(Precision::F16), 32_768.0);
    }
}
