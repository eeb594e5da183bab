//! From a blurry photograph to a sharp one.

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};

use super::blend::Blend;
use super::disagreement::{Disagreement, Samples};
use super::planes::Planes;
use super::tiling::Tiling;
use crate::data::augment::Augmentation;
use crate::error::{Error, Result};
use crate::model::{HiDiff, Noise};
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

/// What [`Deblurrer::deblur_with`] and [`Deblurrer::deblur_where`] make of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// The result.
    pub photograph: Photograph,
    /// Where the samples disagree, if there are several, before they are mixed with the photograph.
    pub disagreement: Option<Disagreement>,
}

/// A model ready for photographs.
#[derive(Debug)]
pub struct Deblurrer<B: Backend> {
    model: HiDiff<B>,
    device: Device<B>,
}

/// One of the ways to look at a photograph, with what the prior has of it: `[1, N, C']`; none without a prior.
struct View<B: Backend> {
    symmetry: Augmentation,
    condition: Option<Tensor<B, 3>>,
}

impl<B: Backend> Deblurrer<B> {
    /// Takes a model whose weights are loaded and lie on `device`.
    pub fn new(model: HiDiff<B>, device: Device<B>) -> Self {
        Self { model, device }
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
                disagreement: several.then(none),
            });
        };
        let views = self.views(blurred, options.augment)?;
        let restored = self.restore_part(&selection.cut(blurred), &views, options)?;
        Ok(Restored {
            photograph: selection.mix(blurred, restored.photograph),
            disagreement: restored.disagreement.map(|map| selection.spread(map)),
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
    ) -> Result<Restored> {
        let sample = |number: usize| {
            let seed = options.seed.wrapping_add(number as u64);
            self.sample(blurred, views, seed, options.tiling)
        };
        let first = sample(0)?;
        let count = options.samples.get();
        if count == 1 {
            return Ok(Restored {
                photograph: first,
                disagreement: None,
            });
        }
        let mut samples = Samples::new(first.rgb());
        drop(first);
        for number in 1..count {
            samples.add(sample(number)?.rgb());
        }
        let (mean, disagreement) = samples.finish(blurred.width(), blurred.height());
        Ok(Restored {
            photograph: blurred.with_rgb(mean)?,
            disagreement: Some(disagreement),
        })
    }

    /// The photograph as it is, or in all eight flips and rotations.
    fn views(&self, blurred: &Photograph, augment: bool) -> Result<Vec<View<B>>> {
        let modes = if augment { Augmentation::COUNT } else { 1 };
        (0..modes)
            .map(|mode| {
                let symmetry = Augmentation::new(mode);
                let image = planes(blurred)?.turned(symmetry);
                let condition = self.model.condition(self.tensor(image))?;
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
        blurred: &Photograph,
        views: &[View<B>],
        seed: u64,
        tiling: Option<Tiling>,
    ) -> Result<Photograph> {
        let mut sum: Vec<f32> = Vec::new();
        for view in views {
            let condition = view.condition.clone();
            let prior = condition
                .map(|condition| self.model.prior_given(condition, Noise::Seed(seed)))
                .transpose()?;
            let image = planes(blurred)?.turned(view.symmetry);
            let restored = match tiling {
                None => self.restore(image, prior)?,
                Some(tiling) => tiling.map(&image, |tile| self.restore(tile, prior.clone()))?,
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
    fn restore(&self, image: Planes, prior: Option<Tensor<B, 3>>) -> Result<Planes> {
        let (height, width) = (image.height(), image.width());
        let output = self.model.restore(self.tensor(image), prior)?;
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
