//! Stage one: LE and the Transformer learn together, LE seeing the sharp image (paper, section 3.1).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::average;
use super::metrics::{ImageScore, StepLosses};
use super::optimizer::AfterStep;
use super::step::{Loss, StepSettings, gradient, with_values};
use crate::data::loader::{Batch, ValidationImage};
use crate::error::Result;
use crate::model::{HiDiff, StageOneOutput};
use burn::tensor::backend::{AutodiffBackend, Backend};

/// The model in stage one. Without a prior this is the only stage, and the Transformer learns alone.
#[derive(Module, Debug)]
pub struct StageOne<B: Backend> {
    /// The networks.
    pub model: HiDiff<B>,
    /// Their running average, which is validated in their place.
    pub average: Option<HiDiff<B>>,
    #[module(skip)]
    ema: f64,
    #[module(skip)]
    settings: StepSettings,
}

impl<B: AutodiffBackend> StageOne<B> {
    /// The model, and the decay of its running average, 0 for none.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the model has a prior but no LE; see
    /// [`Config::init_training`](crate::Config::init_training).
    pub fn new(model: HiDiff<B>, ema: f64, settings: StepSettings) -> Result<Self> {
        model.check_networks(false)?;
        let model = with_values(model);
        Ok(Self {
            average: (ema > 0.0).then(|| average::start(&model)),
            model,
            ema,
            settings,
        })
    }

    /// A step's gradients and losses, which Burn's [`TrainStep`] has too, where it panics in place of an error.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a batch that does not suit the model.
    pub fn gradients(&self, batch: Batch<B>) -> Result<TrainOutput<StepLosses<B::InnerBackend>>> {
        self.model.check_batch(&batch.blur, &batch.sharp, None)?;
        Ok(gradient(
            self,
            batch,
            &self.settings,
            |stage| &mut stage.model,
            Self::loss,
        ))
    }

    fn loss(&self, item: Batch<B>) -> Loss<B> {
        let output = forward(&self.model, item.blur, item.sharp.clone());
        Loss::of_image(&self.settings.loss, output.deblurred, item.sharp)
    }
}

impl<B: Backend> StageOne<B> {
    /// The running average if there is one, or else the networks as they are.
    pub fn result(self) -> HiDiff<B> {
        self.average.unwrap_or(self.model)
    }
}

fn forward<B: Backend>(
    model: &HiDiff<B>,
    blur: Tensor<B, 4>,
    sharp: Tensor<B, 4>,
) -> StageOneOutput<B> {
    model
        .stage_one(blur, sharp)
        .expect("the pair was checked to suit the model")
}

impl<B: AutodiffBackend> AfterStep for StageOne<B> {
    fn after_step(mut self) -> Self {
        self.average = average::after_step(self.average, &self.model, self.ema);
        self
    }
}

impl<B: AutodiffBackend> TrainStep for StageOne<B> {
    type Input = Batch<B>;
    type Output = StepLosses<B::InnerBackend>;

    fn step(&self, item: Batch<B>) -> TrainOutput<Self::Output> {
        self.gradients(item)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<B: Backend> InferenceStep for StageOne<B> {
    type Input = ValidationImage<B>;
    type Output = ImageScore;

    fn step(&self, item: ValidationImage<B>) -> ImageScore {
        let model = self.average.as_ref().unwrap_or(&self.model);
        let restored = forward(model, item.blur.clone(), item.sharp.clone()).deblurred;
        ImageScore::of(&item, restored)
    }
}
