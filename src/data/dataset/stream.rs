//! The samples of a stage, each by its place.

use std::sync::Arc;

use rand::Rng;
use rand_distr::StandardNormal;

use super::order::PairOrder;
use super::patch::Crop;
use super::reader::PairReader;
use crate::config::PatchConfig;
use crate::data::augment::Augmentation;
use crate::data::pairs::{Pair, Source};
use crate::data::random::{Purpose, generator_at, seed_at};
use crate::data::schedule::PatchSchedule;
use crate::error::{Error, Result};

/// What a sample stream is made of.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Seed of order, crops, augmentation and noise.
    pub seed: u64,
    /// Steps of the stage.
    pub iterations: usize,
    /// Patch and batch size by iteration; the last entry holds to the end.
    pub patches: Vec<PatchConfig>,
    /// Whether patches are flipped and rotated.
    pub augment: bool,
    /// Values of one sample's diffusion noise: tokens times channels of the prior.
    pub noise_len: usize,
    /// T, the largest timestep drawn.
    pub timesteps: usize,
}

/// One training step's samples, as plain numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchBatch {
    /// The step, from 0.
    pub iteration: usize,
    /// Samples in it.
    pub batch: usize,
    /// Side of the patches in pixels.
    pub patch: usize,
    /// Blurry patches in [0, 1], `[batch, 3, patch, patch]`.
    pub blur: Vec<f32>,
    /// Sharp patches, likewise.
    pub sharp: Vec<f32>,
    /// Standard normal numbers, `[batch, noise_len]`.
    pub noise: Vec<f32>,
    /// A timestep from 1 to T for each sample.
    pub timesteps: Vec<usize>,
}

/// The samples of a whole stage. A sample depends on the seed, the iteration and its slot in the batch alone: not on
/// the number of workers, nor on where a run was interrupted.
///
/// The sources take turns as their weights say. The pairs of each pass in epochs, each in a shuffled order of its own. A
/// patch larger than its image is filled by reflection about the image's borders. A photograph without a blurry image is
/// blurred anew each time it passes.
#[derive(Debug)]
pub struct SampleStream {
    reader: PairReader,
    order: PairOrder,
    config: StreamConfig,
    schedule: PatchSchedule,
}

impl SampleStream {
    /// The stream over these pairs, which are those of the sources, one after the other.
    ///
    /// # Errors
    /// [`Error::Training`] if there are no pairs, or a source has none, or not all belong to one; or no patch sizes.
    pub fn new(reader: PairReader, sources: Vec<Source>, config: StreamConfig) -> Result<Self> {
        let pairs: usize = sources.iter().map(|source| source.pairs).sum();
        if reader.is_empty() || sources.iter().any(|source| source.pairs == 0) {
            return Err(Error::Training("no training pairs".into()));
        }
        if pairs != reader.len() {
            let reason = format!(
                "the sources have {pairs} pairs, the reader {}",
                reader.len()
            );
            return Err(Error::Training(reason));
        }
        if config.patches.is_empty() {
            return Err(Error::Training("no patch sizes".into()));
        }
        Ok(Self {
            reader,
            order: PairOrder::new(config.seed, sources),
            schedule: PatchSchedule::new(&config.patches),
            config,
        })
    }

    /// Steps of the stage.
    pub fn iterations(&self) -> usize {
        self.config.iterations
    }

    /// The pairs the samples are taken from.
    pub fn pairs(&self) -> &[Pair] {
        self.reader.pairs()
    }

    /// Samples in a step.
    pub fn batch_size(&self, iteration: usize) -> usize {
        self.schedule.at(iteration).batch
    }

    /// Samples in the steps from `start` up to, without, `end`.
    pub fn samples_between(&self, start: usize, end: usize) -> usize {
        (start..end)
            .map(|iteration| self.batch_size(iteration))
            .sum()
    }

    /// The samples of the slots from `slots.start` up to, without, `slots.end` of a step.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Io`] for an image that cannot be read.
    pub fn batch(&self, iteration: usize, slots: std::ops::Range<usize>) -> Result<PatchBatch> {
        let patch = self.schedule.at(iteration).patch;
        let (batch, noise_len) = (slots.len(), self.config.noise_len);
        let values = 3 * patch * patch;
        let mut result = PatchBatch {
            iteration,
            batch,
            patch,
            blur: vec![0.0; batch * values],
            sharp: vec![0.0; batch * values],
            noise: Vec::with_capacity(batch * noise_len),
            timesteps: Vec::with_capacity(batch),
        };
        let patches = result
            .blur
            .chunks_exact_mut(values)
            .zip(result.sharp.chunks_exact_mut(values));
        for (slot, (blur, sharp)) in slots.clone().zip(patches) {
            let wanted = self.pair_at(iteration, slot);
            self.reader.readable(wanted, |index| {
                self.fill_patches(index, iteration, slot, patch, blur, sharp)
            })?;
        }
        for slot in slots {
            let mut random = self.generator(Purpose::Diffusion, iteration, slot);
            result
                .timesteps
                .push(random.random_range(1..=self.config.timesteps.max(1)));
            result
                .noise
                .extend((0..noise_len).map(|_| random.sample::<f32, _>(StandardNormal)));
        }
        Ok(result)
    }

    fn fill_patches(
        &self,
        index: usize,
        iteration: usize,
        slot: usize,
        patch: usize,
        blur: &mut [f32],
        sharp: &mut [f32],
    ) -> Result<()> {
        let pair = self.reader.get(index)?;
        let mut random = self.generator(Purpose::Patch, iteration, slot);
        let (decoded, crop) = match &pair.blur {
            Some(blur) => {
                let crop = Crop {
                    top: random.random_range(0..=pair.height.saturating_sub(patch)),
                    left: random.random_range(0..=pair.width.saturating_sub(patch)),
                    side: patch,
                };
                self.reader.read_crop(index, blur, crop)?
            }
            None => {
                let (first, second) = (iteration as u64, slot as u64);
                let seed = seed_at(self.config.seed, Purpose::Blur, first, second);
                let decoded = self.reader.blur_crop(index, patch, seed, &mut random)?;
                let crop = Crop {
                    top: 0,
                    left: 0,
                    side: patch,
                };
                (Arc::new(decoded), crop)
            }
        };
        let mode = random.random_range(0..Augmentation::COUNT);
        let augmentation = if self.config.augment {
            Augmentation::new(mode)
        } else {
            Augmentation::IDENTITY
        };
        crop.write(&decoded.blur, augmentation, blur);
        crop.write(&decoded.sharp, augmentation, sharp);
        Ok(())
    }

    fn generator(&self, purpose: Purpose, iteration: usize, slot: usize) -> rand::rngs::StdRng {
        generator_at(self.config.seed, purpose, iteration as u64, slot as u64)
    }

    pub(super) fn pair_at(&self, iteration: usize, slot: usize) -> usize {
        let phase = self.schedule.at(iteration);
        let steps = (iteration - phase.start) as u64;
        let sample = phase.samples_before + steps * phase.batch as u64 + slot as u64;
        self.order.pair_of(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::DEFAULT_CACHE_BYTES;
    use crate::data::dataset::examples::{config, gradient_pairs, one_source, photographs, stream};

    #[test]
    fn a_step_is_the_same_whenever_it_is_asked_for() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let forwards = stream(pairs.clone(), config(&[(8, 3, 10)]));
        let expected: Vec<_> = (0..20).map(|i| forwards.batch(i, 0..3).unwrap()).collect();
        let backwards = stream(pairs, config(&[(8, 3, 10)]));
        for iteration in (0..20).rev() {
            assert_eq!(
                backwards.batch(iteration, 0..3).unwrap(),
                expected[iteration]
            );
        }
        assert_ne!(expected[0].blur, expected[1].blur);
        assert_ne!(expected[0].noise, expected[1].noise);
    }

    #[test]
    fn the_slots_of_a_step_can_be_made_apart() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let stream = stream(pairs, config(&[(8, 4, 10)]));
        let whole = stream.batch(3, 0..4).unwrap();
        let (first, second) = (
            stream.batch(3, 0..1).unwrap(),
            stream.batch(3, 1..4).unwrap(),
        );
        assert_eq!([first.blur, second.blur].concat(), whole.blur);
        assert_eq!([first.noise, second.noise].concat(), whole.noise);
        assert_eq!(
            [first.timesteps, second.timesteps].concat(),
            whole.timesteps
        );
    }

    #[test]
    fn patch_and_batch_follow_the_iteration() {
        let (_folder, pairs) = gradient_pairs(3, 40, 30);
        let stream = stream(pairs, config(&[(8, 4, 2), (16, 2, 3)]));
        let sizes: Vec<_> = (0..7)
            .map(|i| stream.batch(i, 0..stream.batch_size(i)).unwrap())
            .map(|batch| (batch.patch, batch.batch))
            .collect();
        assert_eq!(
            sizes,
            [(8, 4), (8, 4), (16, 2), (16, 2), (16, 2), (16, 2), (16, 2)]
        );
        assert_eq!(stream.samples_between(1, 4), 4 + 2 + 2);
    }

    #[test]
    fn a_photograph_is_blurred_anew_each_time() {
        let (_folder, pairs, model) = photographs(2, 60, 50);
        let sources = one_source(&pairs);
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES).blurring(model);
        let stream = SampleStream::new(reader, sources, config(&[(16, 2, 100)])).unwrap();
        let first = stream.batch(0, 0..2).unwrap();
        let second = stream.batch(1, 0..2).unwrap();
        assert!(first.blur != first.sharp && first.blur != second.blur);
        assert_eq!(stream.batch(0, 0..2).unwrap(), first);
        let part = stream.batch(0, 1..2).unwrap();
        assert_eq!(part.blur, first.blur[3 * 16 * 16..]);
    }

    #[test]
    fn a_sample_of_a_whole_photograph_is_what_a_synthesis_writes() {
        let (_folder, pairs, model) = photographs(1, 48, 48);
        let photograph = image::open(&pairs[0].sharp).unwrap().into_rgb8();
        let sources = one_source(&pairs);
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES).blurring(model.clone());
        let mut config = config(&[(48, 3, 100)]);
        config.augment = false;
        let seed = config.seed;
        let stream = SampleStream::new(reader, sources, config).unwrap();
        let batch = stream.batch(4, 0..3).unwrap();
        for slot in 0..3 {
            let seed = seed_at(seed, Purpose::Blur, 4, slot as u64);
            let pair = model.pair(&photograph, seed).unwrap();
            let mut planes = vec![0.0; 3 * 48 * 48];
            let crop = Crop {
                top: 0,
                left: 0,
                side: 48,
            };
            for (image, found) in [(&pair.blur, &batch.blur), (&pair.sharp, &batch.sharp)] {
                crop.write(image, Augmentation::IDENTITY, &mut planes);
                assert!(planes == found[slot * planes.len()..][..planes.len()]);
            }
        }
    }
}
