//! Stage one: LE and the Transformer learn together, LE seeing the sharp image (paper, section 3.1).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::metrics::{ImageScore, StepLosses, psnr};
use crate::backend::{AutodiffBackend, Backend};
use crate::data::loader::{Batch, ValidationImage};
use crate::model::{HiDiff, StageOneOutput};

/// The model in stage one. Without a prior this is the only stage, and the Transformer learns alone.
#[derive(Module, Debug)]
pub struct StageOne<B: Backend> {
    /// The networks.
    pub model: HiDiff<B>,
}

impl<B: Backend> StageOne<B> {
    /// The model, which must have LE if it has a prior ([`Config::init_training`](crate::Config::init_training)).
    pub fn new(model: HiDiff<B>) -> Self {
        Self { model }
    }

    fn forward(&self, blur: Tensor<B, 4>, sharp: Tensor<B, 4>) -> StageOneOutput<B> {
        // The loaders serve sides that are multiples of 8, and `run` starts only a model with LE.
        self.model.stage_one(blur, sharp).expect("a pair that suits the model")
    }
}

impl<B: AutodiffBackend> TrainStep for StageOne<B> {
    type Input = Batch<B>;
    type Output = StepLosses<B::InnerBackend>;

    fn step(&self, item: Batch<B>) -> TrainOutput<Self::Output> {
        let batch = item.blur.dims()[0];
        let output = self.forward(item.blur, item.sharp.clone());
        let loss = l1(output.deblurred, item.sharp);
        let losses =
            StepLosses { pixel: Some(loss.clone().inner()), diffusion: None, batch };
        TrainOutput::new(self, loss.backward(), losses)
    }
}

impl<B: Backend> InferenceStep for StageOne<B> {
    type Input = ValidationImage<B>;
    type Output = ImageScore;

    fn step(&self, item: ValidationImage<B>) -> ImageScore {
        let restored = self.forward(item.blur, item.sharp.clone()).deblurred;
        let psnr = psnr(restored, item.sharp);
        item.scores.push(psnr);
        ImageScore { psnr }
    }
}

/// The mean absolute difference.
pub(super) fn l1<B: Backend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, 1> {
    (a - b).abs().mean()
}
