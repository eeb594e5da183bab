//! HI-Diff as a whole: the networks, the two training passes and inference (paper, sections 3.1 to 3.3).

use burn::module::Module;
use burn::prelude::{Backend, Device, Tensor};
use burn::tensor::TensorData;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::denoiser::{Denoiser, DenoiserConfig};
use super::latent_encoder::{LatentEncoder, LatentEncoderConfig};
use super::transformer::{Attention, Guidance, SIZE_MULTIPLE, Transformer, TransformerConfig};
use crate::checks::{Check, MOST_CHANNELS};
use crate::diffusion::{ChainNoise, DiffusionConfig, Sampler};
use crate::error::{Error, Result};
use crate::reflect::reflect;

/// How the prior reaches the Transformer (paper, Table 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// `z₁` and `z₂` through cross-attention at levels 1 to 3, `z₃` by modulation at level 4.
    #[default]
    MultiScale,
    /// The same `z` through cross-attention at all four levels ("Single-Guide").
    SingleScale,
    /// A plain Restormer ("Baseline"): no encoder, no denoiser.
    None,
}

/// The networks' shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// How the prior guides the Transformer.
    pub prior: Prior,
    /// The prior has `group²` tokens.
    pub group: usize,
    /// The prior has `4 · embed_dim` channels.
    pub embed_dim: usize,
    /// The image-to-image network.
    pub transformer: TransformerConfig,
    /// LE and LE_DM. Unused where `prior` is `none`.
    pub latent_encoder: LatentEncoderConfig,
    /// The denoising network. Unused where `prior` is `none`.
    pub denoiser: DenoiserConfig,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            prior: Prior::MultiScale,
            group: 4,
            embed_dim: 64,
            transformer: TransformerConfig::default(),
            latent_encoder: LatentEncoderConfig::default(),
            denoiser: DenoiserConfig::default(),
        }
    }
}

impl ModelConfig {
    /// Tokens of the prior, N.
    pub fn prior_tokens(&self) -> usize {
        self.group * self.group
    }

    /// Channels of the prior, C'.
    pub fn prior_channels(&self) -> usize {
        4 * self.embed_dim
    }

    /// What guides the Transformer.
    pub fn guidance(&self) -> Guidance {
        Guidance {
            prior: self.prior,
            tokens: self.prior_tokens(),
            channels: self.prior_channels(),
        }
    }
}

impl ModelConfig {
    pub(crate) fn validate(&self, check: &Check) -> Result<()> {
        check.size("model.group", self.group, 1, 64)?;
        check.size("model.embed_dim", self.embed_dim, 1, MOST_CHANNELS)?;
        if self.prior == Prior::MultiScale {
            check.that(
                self.group >= 2,
                "model.group",
                self.group,
                "at least 2 with the multi-scale prior, which makes a quarter as many tokens",
            )?;
        }
        self.transformer.validate(check)?;
        self.latent_encoder.validate(check, self.prior_tokens())?;
        self.denoiser.validate(check, self.prior_tokens())
    }
}

/// A network of the model, as weight files divide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The image-to-image network, `net_g`.
    Transformer,
    /// LE, which sees the sharp image: needed for training only, `net_le`.
    LatentEncoder,
    /// LE_DM, which sees the blurry image: `net_le_dm`.
    ConditionEncoder,
    /// The denoising network, `net_d`.
    Denoiser,
}

/// The networks of one model.
#[derive(Module, Debug)]
pub struct HiDiff<B: Backend> {
    /// Restores the image.
    pub transformer: Transformer<B>,
    /// LE_DM: the condition `c` from the blurry image. None without a prior.
    pub condition_encoder: Option<LatentEncoder<B>>,
    /// ε_θ. None without a prior.
    pub denoiser: Option<Denoiser<B>>,
    /// LE: the prior `z` from blurry and sharp image. Only training needs it.
    pub latent_encoder: Option<LatentEncoder<B>>,
    /// The reverse chain.
    #[module(skip)]
    pub sampler: Sampler,
    /// Tokens and channels of the prior, `[N, C']`.
    #[module(skip)]
    pub prior_shape: [usize; 2],
}

/// Where the noise of the reverse chain comes from.
#[derive(Debug, Clone)]
pub enum Noise<B: Backend> {
    /// Drawn on the host from this seed: the same on every backend and machine.
    Seed(u64),
    /// The caller's own.
    Chain(ChainNoise<B>),
}

impl<B: Backend> From<Tensor<B, 3>> for Noise<B> {
    fn from(start: Tensor<B, 3>) -> Self {
        Self::Chain(start.into())
    }
}

/// What stage one computes.
#[derive(Debug, Clone)]
pub struct StageOneOutput<B: Backend> {
    /// `[batch, 3, height, width]`
    pub deblurred: Tensor<B, 4>,
    /// z: `[batch, N, C']`; none without a prior.
    pub prior: Option<Tensor<B, 3>>,
}

/// What stage two computes.
#[derive(Debug, Clone)]
pub struct StageTwoOutput<B: Backend> {
    /// `[batch, 3, height, width]`
    pub deblurred: Tensor<B, 4>,
    /// z: `[batch, N, C']`, detached, since LE is frozen.
    pub prior: Tensor<B, 3>,
    /// ẑ: `[batch, N, C']`
    pub predicted: Tensor<B, 3>,
}

impl ModelConfig {
    /// Builds the inference networks on `device`, with random weights, and the reverse chain of `diffusion`.
    pub fn init<B: Backend>(&self, diffusion: &DiffusionConfig, device: &Device<B>) -> HiDiff<B> {
        let (tokens, channels) = (self.prior_tokens(), self.prior_channels());
        let guided = self.prior != Prior::None;
        HiDiff {
            transformer: self.transformer.init(self.guidance(), device),
            condition_encoder: guided.then(|| self.encoder(3, device)),
            denoiser: guided.then(|| self.denoiser.init(tokens, channels, device)),
            latent_encoder: None,
            sampler: Sampler::new(diffusion),
            prior_shape: [tokens, channels],
        }
    }

    /// As [`init`](Self::init), with LE, which training needs.
    pub fn init_training<B: Backend>(
        &self,
        diffusion: &DiffusionConfig,
        device: &Device<B>,
    ) -> HiDiff<B> {
        let guided = self.prior != Prior::None;
        HiDiff {
            latent_encoder: guided.then(|| self.encoder(6, device)),
            ..self.init(diffusion, device)
        }
    }

    fn encoder<B: Backend>(&self, in_channels: usize, device: &Device<B>) -> LatentEncoder<B> {
        let config = &self.latent_encoder;
        config.init(in_channels, self.embed_dim, self.group, device)
    }
}

impl<B: Backend> HiDiff<B> {
    /// Over which pixels MDTA's statistics are taken: at first what `model.transformer.window` says.
    pub fn attention(&self) -> Attention {
        self.transformer.attention()
    }

    /// The same with MDTA's statistics over other pixels, at test time: the weights stay.
    pub fn with_attention(self, attention: Attention) -> Self {
        Self {
            transformer: self.transformer.with_attention(attention),
            ..self
        }
    }

    /// Deblurs images of any size.
    ///
    /// # Shapes
    /// - blur: `[batch, 3, height, width]`, RGB from 0 to 1
    /// - output: as blur; values may leave 0 to 1 slightly
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty image, another number of channels, or noise that does not fit.
    pub fn deblur(&self, blur: Tensor<B, 4>, noise: impl Into<Noise<B>>) -> Result<Tensor<B, 4>> {
        let prior = self.prior(blur.clone(), noise)?;
        self.restore(blur, prior)
    }

    /// The predicted prior ẑ alone; none if the model has no prior.
    ///
    /// # Shapes
    /// - blur: `[batch, 3, height, width]`, RGB from 0 to 1
    /// - output: `[batch, N, C']`
    ///
    /// # Errors
    /// As [`deblur`](Self::deblur).
    pub fn prior(
        &self,
        blur: Tensor<B, 4>,
        noise: impl Into<Noise<B>>,
    ) -> Result<Option<Tensor<B, 3>>> {
        let condition = self.condition(blur)?;
        condition.map(|c| self.prior_given(c, noise)).transpose()
    }

    /// LE_DM's condition `c`, all that the prior has of the image; none if the model has no prior.
    ///
    /// # Shapes
    /// - blur: `[batch, 3, height, width]`, RGB from 0 to 1
    /// - output: `[batch, N, C']`
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty image or another number of channels.
    pub fn condition(&self, blur: Tensor<B, 4>) -> Result<Option<Tensor<B, 3>>> {
        check_blur(&blur)?;
        let encode = |encoder: &LatentEncoder<B>| encoder.forward(pad_reflect(blur, SIZE_MULTIPLE));
        Ok(self.condition_encoder.as_ref().map(encode))
    }

    /// The prior ẑ that the reverse chain makes of a condition.
    ///
    /// # Shapes
    /// - condition, output: `[batch, N, C']`
    ///
    /// # Errors
    /// [`Error::Shape`] for noise or a condition that does not fit, or if the model has no prior.
    pub fn prior_given(
        &self,
        condition: Tensor<B, 3>,
        noise: impl Into<Noise<B>>,
    ) -> Result<Tensor<B, 3>> {
        let denoiser = self.denoiser.as_ref().ok_or_else(|| missing("denoiser"))?;
        let [batch, ..] = condition.dims();
        self.check_prior("condition", &condition, batch)?;
        let noise = match noise.into() {
            Noise::Seed(seed) => self.seeded_noise(seed, batch, &condition.device()),
            Noise::Chain(noise) => noise,
        };
        self.check_noise(&noise, batch)?;
        Ok(self.reverse(denoiser, condition, noise.start, noise.steps))
    }

    /// What the Transformer makes of images of any size with a given prior, which may be that of another image, such
    /// as one of which these are parts.
    ///
    /// # Shapes
    /// - blur: `[batch, 3, height, width]`, RGB from 0 to 1
    /// - prior: `[batch, N, C']`; none exactly if the model has none
    /// - output: as blur; values may leave 0 to 1 slightly
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty image, another number of channels, or a prior that does not fit.
    pub fn restore(&self, blur: Tensor<B, 4>, prior: Option<Tensor<B, 3>>) -> Result<Tensor<B, 4>> {
        check_blur(&blur)?;
        let [batch, _, height, width] = blur.dims();
        match &prior {
            Some(prior) => self.check_prior("prior", prior, batch)?,
            None if self.denoiser.is_none() => {}
            None => {
                return Err(Error::Shape {
                    what: "prior".to_string(),
                    found: Vec::new(),
                    expected: "one, as the model has".to_string(),
                });
            }
        }
        let output = self
            .transformer
            .forward(pad_reflect(blur, SIZE_MULTIPLE), prior);
        Ok(output.slice([0..batch, 0..3, 0..height, 0..width]))
    }

    fn reverse(
        &self,
        denoiser: &Denoiser<B>,
        condition: Tensor<B, 3>,
        start: Tensor<B, 3>,
        steps: Vec<Tensor<B, 3>>,
    ) -> Tensor<B, 3> {
        self.sampler.sample(start, steps, |z, time| {
            denoiser.forward(z, time, condition.clone())
        })
    }

    /// The noise of a reverse chain for `batch` images, from a seed.
    pub fn seeded_noise(&self, seed: u64, batch: usize, device: &Device<B>) -> ChainNoise<B> {
        let [tokens, channels] = self.prior_shape;
        let mut generator = StdRng::seed_from_u64(seed);
        let mut draw = || {
            let values: Vec<f32> = StandardNormal
                .sample_iter(&mut generator)
                .take(batch * tokens * channels)
                .collect();
            Tensor::from_data(TensorData::new(values, [batch, tokens, channels]), device)
        };
        ChainNoise {
            start: draw(),
            steps: (0..self.sampler.noise_steps()).map(|_| draw()).collect(),
        }
    }

    fn check_prior(&self, what: &str, tensor: &Tensor<B, 3>, batch: usize) -> Result<()> {
        let [tokens, channels] = self.prior_shape;
        let expected = [batch, tokens, channels];
        if tensor.dims() == expected {
            return Ok(());
        }
        Err(Error::Shape {
            what: what.to_string(),
            found: tensor.dims().to_vec(),
            expected: format!("{expected:?}"),
        })
    }

    fn check_noise(&self, noise: &ChainNoise<B>, batch: usize) -> Result<()> {
        for tensor in std::iter::once(&noise.start).chain(&noise.steps) {
            self.check_prior("noise", tensor, batch)?;
        }
        let (found, expected) = (noise.steps.len(), self.sampler.noise_steps());
        if found < expected {
            return Err(Error::Shape {
                what: "noise of the steps".to_string(),
                found: vec![found],
                expected: format!("{expected} tensors, one for each step but the last"),
            });
        }
        Ok(())
    }

    /// Stage one (section 3.1): LE sees the ground truth, and its prior guides the Transformer.
    ///
    /// # Shapes
    /// - blur and sharp: `[batch, 3, height, width]`, height and width multiples of [`SIZE_MULTIPLE`]
    ///
    /// # Errors
    /// [`Error::Shape`] for other shapes, or if the model has a prior but no LE.
    pub fn stage_one(&self, blur: Tensor<B, 4>, sharp: Tensor<B, 4>) -> Result<StageOneOutput<B>> {
        self.check_pair(&blur, &sharp)?;
        let prior = match self.condition_encoder {
            None => None,
            Some(_) => Some(self.encode(blur.clone(), sharp)?),
        };
        let deblurred = self.transformer.forward(blur, prior.clone());
        Ok(StageOneOutput { deblurred, prior })
    }

    /// Stage two (section 3.2): the prior is diffused, brought back by the whole reverse chain, and guides the
    /// Transformer. No gradient reaches LE.
    ///
    /// # Shapes
    /// - blur and sharp: `[batch, 3, height, width]`, height and width multiples of [`SIZE_MULTIPLE`]
    ///
    /// # Errors
    /// [`Error::Shape`] for other shapes, or if the model has no prior or no LE.
    pub fn stage_two(
        &self,
        blur: Tensor<B, 4>,
        sharp: Tensor<B, 4>,
        noise: impl Into<ChainNoise<B>>,
    ) -> Result<StageTwoOutput<B>> {
        self.check_pair(&blur, &sharp)?;
        let noise = noise.into();
        self.check_noise(&noise, blur.dims()[0])?;
        let (Some(encoder), Some(denoiser)) = (&self.condition_encoder, &self.denoiser) else {
            return Err(missing("condition encoder and denoiser"));
        };
        let prior = self.encode(blur.clone(), sharp)?.detach();
        let condition = encoder.forward(blur.clone());
        let start = self.sampler.diffuse(prior.clone(), noise.start);
        let predicted = self.reverse(denoiser, condition, start, noise.steps);
        let deblurred = self.transformer.forward(blur, Some(predicted.clone()));
        Ok(StageTwoOutput {
            deblurred,
            prior,
            predicted,
        })
    }

    /// The prior `z` of an image pair, by LE.
    ///
    /// # Errors
    /// [`Error::Shape`] if the model has no LE.
    pub fn encode(&self, blur: Tensor<B, 4>, sharp: Tensor<B, 4>) -> Result<Tensor<B, 3>> {
        let encoder = self
            .latent_encoder
            .as_ref()
            .ok_or_else(|| missing("latent encoder"))?;
        Ok(encoder.forward(Tensor::cat(vec![sharp, blur], 1)))
    }

    /// Whether a training step can take these.
    #[cfg(feature = "train")]
    pub(crate) fn check_batch(
        &self,
        blur: &Tensor<B, 4>,
        sharp: &Tensor<B, 4>,
        noise: Option<&ChainNoise<B>>,
    ) -> Result<()> {
        self.check_pair(blur, sharp)?;
        noise.map_or(Ok(()), |noise| self.check_noise(noise, blur.dims()[0]))
    }

    /// Whether the model has what a stage trains: LE where it has a prior, and for stage two a prior.
    #[cfg(feature = "train")]
    pub(crate) fn check_networks(&self, of_stage_two: bool) -> Result<()> {
        let guided = self.condition_encoder.is_some() && self.denoiser.is_some();
        if of_stage_two && !guided {
            return Err(missing("condition encoder and denoiser"));
        }
        match guided && self.latent_encoder.is_none() {
            true => Err(missing("latent encoder")),
            false => Ok(()),
        }
    }

    fn check_pair(&self, blur: &Tensor<B, 4>, sharp: &Tensor<B, 4>) -> Result<()> {
        let [batch, channels, height, width] = blur.dims();
        let fits = channels == 3
            && batch * height * width > 0
            && height.is_multiple_of(SIZE_MULTIPLE)
            && width.is_multiple_of(SIZE_MULTIPLE);
        check_image(
            "blur",
            blur,
            fits,
            "[batch, 3, height, width] with multiples of 8",
        )?;
        check_image("sharp", sharp, sharp.dims() == blur.dims(), "that of blur")
    }
}

impl<B: Backend> HiDiff<B> {
    /// The model with networks that do not learn: no gradient reaches their weights, and no optimiser changes them.
    pub fn freeze(mut self, networks: &[Network]) -> Self {
        for network in networks {
            match network {
                Network::Transformer => self.transformer = self.transformer.no_grad(),
                Network::LatentEncoder => {
                    self.latent_encoder = self.latent_encoder.map(Module::no_grad);
                }
                Network::ConditionEncoder => {
                    self.condition_encoder = self.condition_encoder.map(Module::no_grad);
                }
                Network::Denoiser => self.denoiser = self.denoiser.map(Module::no_grad),
            }
        }
        self
    }
}

fn check_blur<B: Backend>(blur: &Tensor<B, 4>) -> Result<()> {
    let [batch, channels, height, width] = blur.dims();
    let fits = channels == 3 && batch * height * width > 0;
    check_image("blur", blur, fits, "[batch, 3, height, width]")
}

fn check_image<B: Backend>(
    what: &str,
    image: &Tensor<B, 4>,
    fits: bool,
    expected: &str,
) -> Result<()> {
    if fits {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.to_string(),
        found: image.dims().to_vec(),
        expected: expected.to_string(),
    })
}

fn missing(network: &str) -> Error {
    Error::Shape {
        what: "model".to_string(),
        found: Vec::new(),
        expected: format!("one with {network}; see Config::init_training"),
    }
}

/// Extends height and width to multiples of `multiple` at the bottom and right, by reflection without repeating the
/// border pixel. An image too small for that is reflected again and again.
pub fn pad_reflect<B: Backend>(image: Tensor<B, 4>, multiple: usize) -> Tensor<B, 4> {
    let [_, _, height, width] = image.dims();
    let image = extend(image, 2, height.next_multiple_of(multiple));
    extend(image, 3, width.next_multiple_of(multiple))
}

fn extend<B: Backend>(image: Tensor<B, 4>, dim: usize, size: usize) -> Tensor<B, 4> {
    let found = image.dims()[dim];
    if found == size {
        return image;
    }
    let indices: Vec<i32> = (0..size as i64)
        .map(|index| reflect(index, found) as i32)
        .collect();
    let device = image.device();
    image.select(
        dim,
        Tensor::from_data(TensorData::new(indices, [size]), &device),
    )
}
