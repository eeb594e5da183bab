//! Stage two: the diffusion learns to predict the prior, jointly with the Transformer or alone (paper, section 3.2).

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::average;
use super::loss::l1;
use super::metrics::{ImageScore, StepLosses};
use super::optimizer::AfterStep;
use super::step::{Loss, StepSettings, gradient, with_values};
use crate::config::{Network, Objective, SamplerKind};
use crate::data::loader::{Batch, ValidationImage};
use crate::error::Result;
use crate::model::{HiDiff, Noise};
use burn::tensor::backend::{AutodiffBackend, Backend};

/// The model in stage two, LE frozen.
#[derive(Module, Debug)]
pub struct StageTwo<B: Backend> {
    /// The networks.
    pub model: HiDiff<B>,
    /// Their running average, which is validated in their place.
    pub average: Option<HiDiff<B>>,
    #[module(skip)]
    objective: Objective,
    #[module(skip)]
    ema: f64,
    #[module(skip)]
    settings: StepSettings,
}

impl<B: AutodiffBackend> StageTwo<B> {
    /// The model after stage one, and the decay of its running average, 0 for none. LE, and for [`Objective::Split`] the
    /// Transformer too, are frozen.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the model has not all four networks.
    pub fn new(
        model: HiDiff<B>,
        objective: Objective,
        ema: f64,
        settings: StepSettings,
    ) -> Result<Self> {
        model.check_networks(true)?;
        let model = with_values(model);
        let average = (ema > 0.0).then(|| average::start(&model));
        let frozen = match objective {
            Objective::Joint => &[Network::LatentEncoder][..],
            Objective::Split => &[Network::LatentEncoder, Network::Transformer],
        };
        Ok(Self {
            model: model.freeze(frozen),
            average,
            objective,
            ema,
            settings,
        })
    }

    /// A step's gradients and losses, which Burn's [`TrainStep`] has too, where it panics in place of an error.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a batch or noise that does not suit the model.
    pub fn gradients(&self, batch: Batch<B>) -> Result<TrainOutput<StepLosses<B::InnerBackend>>> {
        let noise = Some(&batch.noise);
        self.model.check_batch(&batch.blur, &batch.sharp, noise)?;
        Ok(gradient(
            self,
            batch,
            &self.settings,
            |stage| &mut stage.model,
            Self::loss,
        ))
    }

    fn loss(&self, item: Batch<B>) -> Loss<B> {
        match self.objective {
            Objective::Joint => self.joint(item),
            Objective::Split => self.split(item),
        }
    }

    /// The image's loss and the weighted `L1(z, ẑ)`, through the whole reverse chain.
    fn joint(&self, item: Batch<B>) -> Loss<B> {
        let output = self
            .model
            .stage_two(item.blur, item.sharp.clone(), item.noise);
        let output = output.expect("pair and noise were checked to suit the model");
        let weights = &self.settings.loss;
        let image = Loss::of_image(weights, output.deblurred, item.sharp);
        let diffusion = l1(output.prior, output.predicted);
        Loss {
            total: image.total + diffusion.clone().mul_scalar(weights.prior),
            diffusion: Some(diffusion),
            ..image
        }
    }

    /// Eq. 7: the prediction from `z_t` at a random t for each sample, of the noise or of `z₀` as the sampler has it.
    fn split(&self, item: Batch<B>) -> Loss<B> {
        let batch = item.blur.dims()[0];
        let device = item.blur.device();
        let model = &self.model;
        let (Some(encoder), Some(denoiser)) = (&model.condition_encoder, &model.denoiser) else {
            unreachable!("the model was checked to be complete");
        };
        let prior = model
            .encode(item.blur.clone(), item.sharp)
            .expect("a model with LE")
            .detach();
        let condition = encoder.forward(item.blur);

        let per_sample = |value: &dyn Fn(usize) -> f64| {
            let values: Vec<f32> = item.timesteps.iter().map(|&t| value(t) as f32).collect();
            Tensor::<B, 1>::from_data(TensorData::new(values, [batch]), &device)
        };
        let schedule = model.sampler.schedule();
        let signal = per_sample(&|t| schedule.alpha_cumprod(t).sqrt()).reshape([batch, 1, 1]);
        let noise_level = per_sample(&|t| (1.0 - schedule.alpha_cumprod(t)).sqrt());
        let noise = item.noise.start;
        let noisy = prior.clone() * signal + noise.clone() * noise_level.reshape([batch, 1, 1]);

        let time = per_sample(&|t| model.sampler.network_time(t));
        let prediction = denoiser.forward_batch(noisy, time, condition);
        let target = match model.sampler.kind() {
            SamplerKind::Eps | SamplerKind::Ancestral => noise,
            SamplerKind::X0 => prior,
        };
        let loss = (target - prediction).square().mean();
        Loss {
            total: loss.clone(),
            pixel: None,
            frequency: None,
            light: None,
            diffusion: Some(loss),
        }
    }
}

impl<B: Backend> StageTwo<B> {
    /// The running average if there is one, or else the networks as they are.
    pub fn result(self) -> HiDiff<B> {
        self.average.unwrap_or(self.model)
    }
}

impl<B: AutodiffBackend> AfterStep for StageTwo<B> {
    fn after_step(mut self) -> Self {
        self.average = average::after_step(self.average, &self.model, self.ema);
        self
    }
}

impl<B: AutodiffBackend> TrainStep for StageTwo<B> {
    type Input = Batch<B>;
    type Output = StepLosses<B::InnerBackend>;

    fn step(&self, item: Batch<B>) -> TrainOutput<Self::Output> {
        self.gradients(item)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<B: Backend> InferenceStep for StageTwo<B> {
    type Input = ValidationImage<B>;
    type Output = ImageScore;

    /// Deblurs as at inference: the sharp image only judges.
    fn step(&self, item: ValidationImage<B>) -> ImageScore {
        let model = self.average.as_ref().unwrap_or(&self.model);
        let restored = model.deblur(item.blur.clone(), Noise::Chain(item.noise.clone()));
        ImageScore::of(
            &item,
            restored.expect("an image and noise that suit the model"),
        )
    }
}
