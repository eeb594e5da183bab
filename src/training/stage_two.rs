//! Stage two: the diffusion learns to predict the prior, jointly with the Transformer or alone (paper, section 3.2).

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::metrics::{ImageScore, StepLosses, psnr};
use super::stage_one::l1;
use crate::backend::{AutodiffBackend, Backend};
use crate::config::{Objective, SamplerKind};
use crate::data::loader::{Batch, ValidationImage};
use crate::model::{HiDiff, Noise};

/// The model in stage two, LE frozen.
#[derive(Module, Debug)]
pub struct StageTwo<B: Backend> {
    /// The networks.
    pub model: HiDiff<B>,
    #[module(skip)]
    objective: Objective,
}

impl<B: Backend> StageTwo<B> {
    /// The model after stage one, which must have all four networks. LE, and for [`Objective::Split`] the
    /// Transformer too, are frozen.
    pub fn new(mut model: HiDiff<B>, objective: Objective) -> Self {
        model.latent_encoder = model.latent_encoder.map(Module::no_grad);
        if objective == Objective::Split {
            model.transformer = model.transformer.no_grad();
        }
        Self { model, objective }
    }
}

impl<B: AutodiffBackend> StageTwo<B> {
    /// `L1(output, sharp) + L1(z, ẑ)` through the whole reverse chain.
    fn joint(&self, item: Batch<B>) -> (Tensor<B, 1>, StepLosses<B::InnerBackend>) {
        let batch = item.blur.dims()[0];
        let output = self.model.stage_two(item.blur, item.sharp.clone(), item.noise);
        // The loader serves sides that are multiples of 8, and `run` starts only a complete model.
        let output = output.expect("a pair and noise that suit the model");
        let pixel = l1(output.deblurred, item.sharp);
        let diffusion = l1(output.prior, output.predicted);
        let losses = StepLosses {
            pixel: Some(pixel.clone().inner()),
            diffusion: Some(diffusion.clone().inner()),
            batch,
        };
        (pixel + diffusion, losses)
    }

    /// Eq. 7: the prediction from `z_t` at a random t for each sample, of the noise or of `z₀` as the sampler has it.
    fn split(&self, item: Batch<B>) -> (Tensor<B, 1>, StepLosses<B::InnerBackend>) {
        let batch = item.blur.dims()[0];
        let device = item.blur.device();
        let model = &self.model;
        let (Some(encoder), Some(denoiser)) = (&model.condition_encoder, &model.denoiser) else {
            unreachable!("`run` starts only a complete model");
        };
        let prior = model.encode(item.blur.clone(), item.sharp).expect("a model with LE").detach();
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
        let losses = StepLosses { pixel: None, diffusion: Some(loss.clone().inner()), batch };
        (loss, losses)
    }
}

impl<B: AutodiffBackend> TrainStep for StageTwo<B> {
    type Input = Batch<B>;
    type Output = StepLosses<B::InnerBackend>;

    fn step(&self, item: Batch<B>) -> TrainOutput<Self::Output> {
        let (loss, losses) = match self.objective {
            Objective::Joint => self.joint(item),
            Objective::Split => self.split(item),
        };
        TrainOutput::new(self, loss.backward(), losses)
    }
}

impl<B: Backend> InferenceStep for StageTwo<B> {
    type Input = ValidationImage<B>;
    type Output = ImageScore;

    /// Deblurs as at inference: the sharp image only judges.
    fn step(&self, item: ValidationImage<B>) -> ImageScore {
        let restored = self.model.deblur(item.blur, Noise::Chain(item.noise));
        let psnr = psnr(restored.expect("an image and noise that suit the model"), item.sharp);
        item.scores.push(psnr);
        ImageScore { psnr }
    }
}
