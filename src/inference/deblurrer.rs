//! From a blurry photograph to a sharp one.

use std::fmt;
use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};

use super::blend::Blend;
use super::disagreement::{Disagreement, Samples};
use super::drift::{MOST_DRIFT, drift};
use super::planes::Planes;
use super::tiling::Tiling;
use crate::data::augment::Augmentation;
use crate::error::{Error, Result};
use crate::kernels::{Precision, with_precision};
use crate::model::{Attention, HiDiff, Noise};
use crate::picture::Photograph;
use burn::tensor::backend::Backend;

/// How a photograph is deblurred. The default is once, as a whole, from seed 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeblurOptions {
    /// Of the noise that the diffusion starts from. The same seed gives the same result.
    pub seed: u64,
    /// Whether the result is the mean over the eight flips and rotations of the photograph, each turned back.
    pub augment: bool,
    /// How many starting noises the result is the mean of: those of `seed`, `seed + 1` and so on.
    pub samples: NonZeroUsize,
    /// The tiles that the Transformer sees, one at a time; none: the whole photograph. The prior is the whole
    /// photograph's in either case.
    pub tiling: Option<Tiling>,
}

impl Default for DeblurOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            augment: false,
            samples: NonZeroUsize::MIN,
            tiling: None,
        }
    }
}

/// Which [`Attention`] a [`Deblurrer`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionChoice {
    /// This one.
    Always(Attention),
    /// That of windows of so many pixels, or, where it makes light that was not there (by [`drift`]), the whole image's.
    Auto(usize),
}

impl AttentionChoice {
    /// What a model is used with where nothing else is asked for: its own attention, and the whole image's where windows go wrong.
    pub fn suiting(attention: Attention) -> Self {
        match attention {
            Attention::Global => Self::Always(attention),
            Attention::Local(window) => Self::Auto(window),
        }
    }
}

impl fmt::Display for AttentionChoice {
    /// As the command line has it, with the window.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(Attention::Global) => f.write_str("global"),
            Self::Always(Attention::Local(window)) => write!(f, "local:{window}"),
            Self::Auto(window) => write!(f, "auto:{window}"),
        }
    }
}

/// What [`Deblurrer::deblur_with`] and [`Deblurrer::deblur_where`] make of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// The result.
    pub photograph: Photograph,
    /// What attention it was made with.
    pub attention: Attention,
    /// How far its colours are from the photograph's in flat areas, see [`drift`]: more than [`MOST_DRIFT`] is worth a look.
    pub drift: f32,
    /// Where the samples disagree, if there are several, before they are mixed with the photograph.
    pub disagreement: Option<Disagreement>,
}

impl Restored {
    /// What a user should know of the result, where this attention was asked for.
    pub fn doubt(&self, asked: AttentionChoice) -> Option<String> {
        let drift = 255.0 * self.drift;
        if self.drift > MOST_DRIFT {
            Some(format!(
                "some flat area has another colour than in the photograph, by {drift:.0} of 255: look at it"
            ))
        } else if let (AttentionChoice::Auto(_), Attention::Global) = (asked, self.attention) {
            Some("local attention made light that was not there, so that attention is the whole picture's".into())
        } else {
            None
        }
    }
}

/// A model ready for photographs.
#[derive(Debug)]
pub struct Deblurrer<B: Backend> {
    model: HiDiff<B>,
    device: Device<B>,
    attention: AttentionChoice,
    precision: Precision,
}

/// One of the ways to look at a photograph, with what the prior has of it: `[1, N, C']`; none without a prior.
struct View<B: Backend> {
    symmetry: Augmentation,
    condition: Option<Tensor<B, 3>>,
}

impl<B: Backend> Deblurrer<B> {
    /// Takes a model whose weights are loaded and lie on `device`, with the attention that [suits](AttentionChoice::suiting) it.
    pub fn new(model: HiDiff<B>, device: Device<B>) -> Self {
        Self {
            attention: AttentionChoice::suiting(model.attention()),
            model,
            device,
            precision: Precision::F32,
        }
    }

    /// The same with another attention.
    pub fn with_attention(self, attention: AttentionChoice) -> Self {
        Self { attention, ..self }
    }

    /// Which attention it takes.
    pub fn attention(&self) -> AttentionChoice {
        self.attention
    }

    /// With the products of the Transformer in this precision, on the processor: see [`with_precision`]. The prior is
    /// always in single precision.
    ///
    /// # Errors
    /// If the processor has no instructions for it.
    pub fn in_precision(self, precision: Precision) -> Result<Self> {
        precision.check()?;
        Ok(Self { precision, ..self })
    }

    /// The model.
    pub fn model(&self) -> &HiDiff<B> {
        &self.model
    }

    /// Deblurs a photograph of any size; its bits, alpha, grayness and profile stay. The same seed gives the same
    /// result.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the model's numbers overflow, which damaged weights can cause.
    pub fn deblur(&self, blurred: &Photograph, seed: u64) -> Result<Photograph> {
        let options = DeblurOptions {
            seed,
            ..DeblurOptions::default()
        };
        Ok(self.deblur_with(blurred, &options)?.photograph)
    }

    /// As [`deblur`](Self::deblur), by these options. The condition encoder sees each flip or rotation once, however many
    /// samples there are.
    ///
    /// # Errors
    /// As for [`deblur`](Self::deblur).
    pub fn deblur_with(&self, blurred: &Photograph, options: &DeblurOptions) -> Result<Restored> {
        self.deblur_where(blurred, options, &Blend::default())
    }

    /// As [`deblur_with`](Self::deblur_with), as strongly and where `blend` says. No more is computed than that needs, but for
    /// the prior, which is the whole photograph's.
    ///
    /// # Errors
    /// As for [`deblur`](Self::deblur); [`Error::Config`] if `blend` does not fit the photograph.
    pub fn deblur_where(
        &self,
        blurred: &Photograph,
        options: &DeblurOptions,
        blend: &Blend,
    ) -> Result<Restored> {
        let (width, height) = (blurred.width(), blurred.height());
        let Some(selection) = blend.selection(width, height)? else {
            let several = options.samples.get() > 1;
            let none = || Disagreement::new(width, height, vec![0.0; width * height]);
            return Ok(Restored {
                photograph: blurred.clone(),
                attention: Attention::Global,
                drift: 0.0,
                disagreement: several.then(none),
            });
        };
        let views = self.views(blurred, options.augment)?;
        let part = selection.cut(blurred);
        let with = |attention| self.restore_part(&part, &views, options, attention);
        let restored = match self.attention {
            AttentionChoice::Always(attention) => with(attention)?,
            AttentionChoice::Auto(window) => {
                let local = with(Attention::Local(window))?;
                match local.drift > MOST_DRIFT {
                    true => with(Attention::Global)?,
                    false => local,
                }
            }
        };
        Ok(Restored {
            photograph: selection.mix(blurred, restored.photograph),
            disagreement: restored.disagreement.map(|map| selection.spread(map)),
            ..restored
        })
    }

    /// What [`deblur_where`](Self::deblur_where) makes of the photograph reduced to `pixels`, within seconds where the whole takes
    /// minutes; `None` if it has no more than these. A photograph reduced is less blurred, so that this is only a first look.
    ///
    /// # Errors
    /// As for [`deblur_where`](Self::deblur_where).
    pub fn preview(
        &self,
        blurred: &Photograph,
        options: &DeblurOptions,
        blend: &Blend,
        pixels: usize,
    ) -> Result<Option<Restored>> {
        let Some(reduced) = blurred.reduced(pixels.max(1)) else {
            return Ok(None);
        };
        let size = |one: &Photograph| [one.width(), one.height()];
        blend
            .check(blurred.width(), blurred.height())
            .map_err(Blend::unfit)?;
        let blend = blend.reduced(size(blurred), size(&reduced));
        self.deblur_where(&reduced, options, &blend).map(Some)
    }

    /// The result of a part of the photograph whose views these are.
    fn restore_part(
        &self,
        blurred: &Photograph,
        views: &[View<B>],
        options: &DeblurOptions,
        attention: Attention,
    ) -> Result<Restored> {
        let model = self.model.clone().with_attention(attention);
        let sample = |number: usize| {
            let seed = options.seed.wrapping_add(number as u64);
            self.sample(&model, blurred, views, seed, options.tiling)
        };
        let restored = |photograph: Photograph, disagreement| Restored {
            drift: drift(
                blurred.rgb(),
                photograph.rgb(),
                blurred.height(),
                blurred.width(),
            ),
            photograph,
            attention,
            disagreement,
        };
        let first = sample(0)?;
        let count = options.samples.get();
        if count == 1 {
            return Ok(restored(first, None));
        }
        let mut samples = Samples::new(first.rgb());
        drop(first);
        for number in 1..count {
            samples.add(sample(number)?.rgb());
        }
        let (mean, disagreement) = samples.finish(blurred.width(), blurred.height());
        Ok(restored(blurred.with_rgb(mean)?, Some(disagreement)))
    }

    /// The photograph as it is, or in all eight flips and rotations.
    fn views(&self, blurred: &Photograph, augment: bool) -> Result<Vec<View<B>>> {
        let modes = if augment { Augmentation::COUNT } else { 1 };
        (0..modes)
            .map(|mode| {
                let symmetry = Augmentation::new(mode);
                let image = planes(blurred)?.turned(symmetry);
                // In single precision, whatever the caller's.
                let condition =
                    with_precision(Precision::F32, || self.model.condition(self.tensor(image)))?;
                Ok(View {
                    symmetry,
                    condition,
                })
            })
            .collect()
    }

    /// One result: the mean over the views, from one starting noise.
    fn sample(
        &self,
        model: &HiDiff<B>,
        blurred: &Photograph,
        views: &[View<B>],
        seed: u64,
        tiling: Option<Tiling>,
    ) -> Result<Photograph> {
        let mut sum: Vec<f32> = Vec::new();
        for view in views {
            let condition = view.condition.clone();
            let prior = condition
                .map(|condition| {
                    let prior = || model.prior_given(condition, Noise::Seed(seed));
                    with_precision(Precision::F32, prior)
                })
                .transpose()?;
            let image = planes(blurred)?.turned(view.symmetry);
            let restored = match tiling {
                None => self.restore(model, image, prior)?,
                Some(tiling) => {
                    tiling.map(&image, |tile| self.restore(model, tile, prior.clone()))?
                }
            };
            let values = restored.turned_back(view.symmetry).into_values();
            if sum.is_empty() {
                sum = values;
            } else {
                sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
            }
        }
        let share = 1.0 / views.len() as f32;
        sum.iter_mut().for_each(|value| *value *= share);
        blurred.with_rgb(sum)
    }

    /// The Transformer on an image or a tile of it.
    fn restore(
        &self,
        model: &HiDiff<B>,
        image: Planes,
        prior: Option<Tensor<B, 3>>,
    ) -> Result<Planes> {
        let (height, width) = (image.height(), image.width());
        let output = with_precision(self.precision, || model.restore(self.tensor(image), prior))?;
        let values = output.into_data().convert::<f32>().into_vec::<f32>();
        let values = values.map_err(|error| Error::Shape {
            what: format!("restored image ({error:?})"),
            found: vec![1, 3, height, width],
            expected: "f32 values".to_string(),
        })?;
        Planes::new(values, height, width)
    }

    /// `[1, 3, height, width]`
    fn tensor(&self, image: Planes) -> Tensor<B, 4> {
        let shape = [1, 3, image.height(), image.width()];
        Tensor::from_data(TensorData::new(image.into_values(), shape), &self.device)
    }
}

fn planes(photograph: &Photograph) -> Result<Planes> {
    let values = photograph.rgb().to_vec();
    Planes::new(values, photograph.height(), photograph.width())
}
