//! The samples of a training step, on a device.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::data::dataset::PatchBatch;
use crate::diffusion::ChainNoise;

/// One training step's samples.
#[derive(Debug, Clone)]
pub struct Batch<B: Backend> {
    /// The step, from 0.
    pub iteration: usize,
    /// Blurry patches in [0, 1], `[batch, 3, patch, patch]`.
    pub blur: Tensor<B, 4>,
    /// Sharp patches, likewise.
    pub sharp: Tensor<B, 4>,
    /// Standard normal noise for the diffusion.
    pub noise: ChainNoise<B>,
    /// A diffusion timestep from 1 to T for each sample.
    pub timesteps: Vec<usize>,
    /// The part that these samples are of the whole step's, over all devices: 0 to 1.
    pub share: f64,
}

#[allow(clippy::len_without_is_empty)] // There is always a sample.
impl<B: Backend> Batch<B> {
    /// `samples` on a device, which are this part of the whole step's.
    pub(super) fn new(
        samples: PatchBatch,
        noise: NoiseShape,
        share: f64,
        device: &B::Device,
    ) -> Self {
        let shape = [samples.batch, 3, samples.patch, samples.patch];
        Self {
            iteration: samples.iteration,
            blur: Tensor::from_data(TensorData::new(samples.blur, shape), device),
            sharp: Tensor::from_data(TensorData::new(samples.sharp, shape), device),
            noise: noise.split(samples.noise, samples.batch, device),
            timesteps: samples.timesteps,
            share,
        }
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.blur.dims()[0]
    }

    /// Cuts the batch into at most `count` parts of as equal sizes as can be.
    pub fn split(self, count: usize) -> Vec<Self> {
        let batch = self.len();
        let count = count.clamp(1, batch.max(1));
        if count == 1 {
            return vec![self];
        }
        let part = |index: usize| {
            let (start, end) = (batch * index / count, batch * (index + 1) / count);
            let take = |noise: &Tensor<B, 3>| noise.clone().narrow(0, start, end - start);
            Self {
                iteration: self.iteration,
                blur: self.blur.clone().narrow(0, start, end - start),
                sharp: self.sharp.clone().narrow(0, start, end - start),
                noise: ChainNoise {
                    start: take(&self.noise.start),
                    steps: self.noise.steps.iter().map(take).collect(),
                },
                timesteps: self.timesteps[start..end].to_vec(),
                share: self.share * (end - start) as f64 / batch as f64,
            }
        };
        (0..count).map(part).collect()
    }
}

/// The shape of the diffusion's noise for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseShape {
    /// Tensors that a reverse chain needs: one to start from, and one for each step that adds noise.
    pub draws: usize,
    /// Tokens of the prior, N.
    pub tokens: usize,
    /// Channels of the prior, C'.
    pub channels: usize,
}

impl NoiseShape {
    /// Values for one image.
    pub fn values(&self) -> usize {
        self.draws * self.tokens * self.channels
    }

    /// The noise from `batch` times [`values`](Self::values) numbers.
    pub(super) fn split<B: Backend>(
        &self,
        values: Vec<f32>,
        batch: usize,
        device: &B::Device,
    ) -> ChainNoise<B> {
        let data = TensorData::new(values, [batch, self.draws, self.tokens, self.channels]);
        let all = Tensor::<B, 4>::from_data(data, device);
        let draw = |index: usize| all.clone().narrow(1, index, 1).squeeze_dim::<3>(1);
        ChainNoise {
            start: draw(0),
            steps: (1..self.draws).map(draw).collect(),
        }
    }
}
