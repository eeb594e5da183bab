//! Training samples by position: which patch of which pair stands where in the run.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use image::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;

use super::augment::Augmentation;
use super::decode::{Region, decode, decode_region};
use super::pairs::{Pair, Source};
use super::random::{Purpose, generator_at, seed_at};
use super::schedule::PatchSchedule;
use super::synthesis::{BlurModel, Shot};
use crate::config::PatchConfig;
use crate::error::{Error, Result};

/// Decoded images are kept in memory up to this many bytes, 3 a pixel.
pub const DEFAULT_CACHE_BYTES: usize = 2 << 30;

/// The seed of the blur of whole pictures.
const BLUR_SEED: u64 = 0;

/// A decoded pair, 8-bit RGB, both of one size.
#[derive(Debug)]
pub struct DecodedPair {
    /// The blurry image.
    pub blur: RgbImage,
    /// The sharp image.
    pub sharp: RgbImage,
}

/// Reads pairs, and keeps the first ones read in memory as far as the bound allows. Pairs without a blurry image are
/// blurred.
#[derive(Debug)]
pub struct PairReader {
    pairs: Vec<Pair>,
    decoded: Vec<Slot<DecodedPair>>,
    /// Of pairs without a blurry image the sharp one, to make patches of.
    photographs: Vec<Slot<RgbImage>>,
    free: AtomicUsize,
    blur: BlurModel,
}

/// A place in memory.
type Slot<T> = OnceLock<Arc<T>>;

impl PairReader {
    /// A reader of these pairs that keeps at most `cache_bytes` of pixels.
    pub fn new(pairs: Vec<Pair>, cache_bytes: usize) -> Self {
        Self {
            decoded: pairs.iter().map(|_| OnceLock::new()).collect(),
            photographs: pairs.iter().map(|_| OnceLock::new()).collect(),
            pairs,
            free: AtomicUsize::new(cache_bytes),
            blur: BlurModel::default(),
        }
    }

    /// The same, where photographs are blurred by `model` in place of the default.
    pub fn blurring(self, model: BlurModel) -> Self {
        Self {
            blur: model,
            ..self
        }
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pixels of pair `index`. Where it has no blurry image, that is made, and is the same each time.
    ///
    /// # Errors
    /// [`Error::Image`] if a file cannot be decoded or is not of the size its header promised, [`Error::Config`] if the
    /// [model](Self::blurring) of the blur cannot be used.
    pub fn read(&self, index: usize) -> Result<Arc<DecodedPair>> {
        let pair = self.get(index)?;
        let whole = || self.whole(index, pair);
        match self.cached(&self.decoded[index], 2 * bytes(pair), whole)? {
            Some(decoded) => Ok(decoded),
            None => Ok(Arc::new(whole()?)),
        }
    }

    fn whole(&self, index: usize, pair: &Pair) -> Result<DecodedPair> {
        let sharp = decode(&pair.sharp, pair)?;
        match &pair.blur {
            Some(blur) => Ok(DecodedPair {
                blur: decode(blur, pair)?,
                sharp,
            }),
            None => {
                let seed = seed_at(BLUR_SEED, Purpose::Blur, index as u64, 0);
                self.blur.pair(&sharp, seed)
            }
        }
    }

    /// The pixels of pair `index` that `crop` needs, and where `crop` lies in them.
    ///
    /// A pair that has no place in memory is not decoded beyond the crop.
    fn read_crop(&self, index: usize, blur: &Path, crop: Crop) -> Result<(Arc<DecodedPair>, Crop)> {
        let pair = self.get(index)?;
        let whole = || self.whole(index, pair);
        if let Some(decoded) = self.cached(&self.decoded[index], 2 * bytes(pair), whole)? {
            return Ok((decoded, crop));
        }
        // A side shorter than the crop is all there, from 0: its reflection needs it whole.
        let region = Region {
            top: crop.top as u32,
            left: crop.left as u32,
            height: crop.side.min(pair.height) as u32,
            width: crop.side.min(pair.width) as u32,
        };
        let decoded = DecodedPair {
            blur: decode_region(blur, pair, region)?,
            sharp: decode_region(&pair.sharp, pair, region)?,
        };
        let crop = Crop {
            top: 0,
            left: 0,
            ..crop
        };
        Ok((Arc::new(decoded), crop))
    }

    /// A part of what is taken of the sharp photograph of pair `index`, of `side` by `side` pixels or as many as there
    /// are.
    fn blur_crop(
        &self,
        index: usize,
        side: usize,
        seed: u64,
        random: &mut impl Rng,
    ) -> Result<DecodedPair> {
        let pair = self.get(index)?;
        let decode = || decode(&pair.sharp, pair);
        let photograph = match self.cached(&self.photographs[index], bytes(pair), decode)? {
            Some(photograph) => photograph,
            None => Arc::new(decode()?),
        };
        let least = side + side / 4;
        let shot = Shot::new(&self.blur, [pair.width, pair.height], least, seed);
        shot.render(&photograph, shot.place(side, random))
    }

    fn get(&self, index: usize) -> Result<&Pair> {
        let found = self.pairs.get(index);
        found.ok_or_else(|| Error::Training(format!("no pair {index} among {}", self.len())))
    }

    /// What is in memory, where it is made to if it has a place; none beyond the bound.
    fn cached<T>(
        &self,
        slot: &Slot<T>,
        bytes: usize,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Option<Arc<T>>> {
        if let Some(decoded) = slot.get() {
            return Ok(Some(Arc::clone(decoded)));
        }
        let reserve = |free: usize| free.checked_sub(bytes);
        let reserved = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        if reserved.is_err() {
            return Ok(None);
        }
        let decoded = make().map(Arc::new);
        let kept = match &decoded {
            Ok(decoded) => slot.set(Arc::clone(decoded)).is_ok(),
            Err(_) => false,
        };
        if !kept {
            // Unreadable, or another thread has decoded the same pair meanwhile and paid for it.
            self.free.fetch_add(bytes, Ordering::Relaxed);
        }
        decoded.map(Some)
    }
}

/// What an image of the pair takes in memory.
fn bytes(pair: &Pair) -> usize {
    pair.width.saturating_mul(pair.height).saturating_mul(3)
}

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

/// An order of the pairs.
type Order = Arc<[u32]>;

/// The samples of a whole stage. A sample depends on the seed, the iteration and its slot in the batch alone: not on
/// the number of workers, nor on where a run was interrupted.
///
/// The sources take turns as their weights say. The pairs of each pass in epochs, each in a shuffled order of its own. A
/// patch larger than its image is filled by reflection about the image's borders. A photograph without a blurry image is
/// blurred anew each time it passes.
#[derive(Debug)]
pub struct SampleStream {
    reader: PairReader,
    sources: Vec<Source>,
    config: StreamConfig,
    schedule: PatchSchedule,
    /// The orders drawn last, by source and epoch; workers at an epoch's border need two.
    orders: Mutex<Vec<((usize, u64), Order)>>,
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
            sources,
            schedule: PatchSchedule::new(&config.patches),
            config,
            orders: Mutex::new(Vec::new()),
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
            self.fill_patches(iteration, slot, patch, blur, sharp)?;
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
        iteration: usize,
        slot: usize,
        patch: usize,
        blur: &mut [f32],
        sharp: &mut [f32],
    ) -> Result<()> {
        let index = self.pair_at(iteration, slot);
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

    fn pair_at(&self, iteration: usize, slot: usize) -> usize {
        let phase = self.schedule.at(iteration);
        let steps = (iteration - phase.start) as u64;
        let sample = phase.samples_before + steps * phase.batch as u64 + slot as u64;
        let (source, place) = self.source_at(sample);
        let before = self.sources[..source].iter();
        let first: usize = before.map(|source| source.pairs).sum();
        let pairs = self.sources[source].pairs as u64;
        let order = self.order(source, place / pairs);
        first + order[(place % pairs) as usize] as usize
    }

    /// The source of a sample, and how many samples before it had the same.
    ///
    /// Up to any sample, each source has had as many as its weight says, to within one: the first source takes its
    /// share of all samples, evenly spread, the second its share of the rest, and so on.
    fn source_at(&self, sample: u64) -> (usize, u64) {
        let mut left: f64 = self.sources.iter().map(|source| source.weight).sum();
        let mut place = sample;
        let last = self.sources.len() - 1;
        for (index, source) in self.sources[..last].iter().enumerate() {
            let share = source.weight / left;
            let taken = |samples: u64| (samples as f64 * share) as u64;
            if taken(place + 1) > taken(place) {
                return (index, taken(place));
            }
            place -= taken(place);
            left -= source.weight;
        }
        (last, place)
    }

    fn order(&self, source: usize, epoch: u64) -> Order {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (source, epoch);
        if let Some((_, order)) = orders.iter().find(|(drawn, _)| *drawn == wanted) {
            return Arc::clone(order);
        }
        let mut order: Vec<u32> = (0..self.sources[source].pairs as u32).collect();
        order.shuffle(&mut generator_at(
            self.config.seed,
            Purpose::Order,
            epoch,
            source as u64,
        ));
        let order: Order = order.into();
        if orders.len() == 4 * self.sources.len() {
            orders.remove(0);
        }
        orders.push((wanted, Arc::clone(&order)));
        order
    }
}

/// A square of an image.
#[derive(Debug, Clone, Copy)]
struct Crop {
    top: usize,
    left: usize,
    side: usize,
}

impl Crop {
    /// Writes the augmented square as planes in [0, 1].
    fn write(&self, image: &RgbImage, augmentation: Augmentation, planes: &mut [f32]) {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (side, area) = (self.side, self.side * self.side);
        let pixels = image.as_raw();
        for y in 0..side {
            for x in 0..side {
                let (row, column) = augmentation.source(y, x, side, side);
                let row = reflect(self.top + row, height);
                let column = reflect(self.left + column, width);
                let pixel = &pixels[3 * (row * width + column)..][..3];
                for (channel, &value) in pixel.iter().enumerate() {
                    planes[channel * area + y * side + x] = f32::from(value) / 255.0;
                }
            }
        }
    }
}

/// The index that `index` mirrors into `0..length`, the borders not repeated.
#[inline]
fn reflect(index: usize, length: usize) -> usize {
    if index < length {
        return index;
    }
    let period = (2 * (length - 1)).max(1);
    let index = index % period;
    if index < length {
        index
    } else {
        period - index
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use tempfile::TempDir;

    use super::*;
    use crate::data::layout::Part;
    use crate::data::pairs::{find_images, find_pairs};

    /// Pairs whose blurry pixels say where they come from: (pair, column, row).
    pub(crate) fn gradient_pairs(count: u8, width: u32, height: u32) -> (TempDir, Vec<Pair>) {
        let folder = TempDir::new().unwrap();
        for (side, blue) in [("input", 0), ("target", 100)] {
            let path = folder.path().join(side);
            std::fs::create_dir(&path).unwrap();
            for pair in 0..count {
                let pixel = |x, y| image::Rgb([pair + blue, x as u8, y as u8]);
                let image = RgbImage::from_fn(width, height, pixel);
                image.save(path.join(format!("{pair:03}.png"))).unwrap();
            }
        }
        let found = find_pairs(folder.path(), None, Part::Train).unwrap();
        (folder, found.pairs)
    }

    pub(crate) fn config(patches: &[(usize, usize, usize)]) -> StreamConfig {
        let entry = |&(patch, batch, iterations)| PatchConfig {
            patch,
            batch,
            iterations,
        };
        StreamConfig {
            seed: 7,
            iterations: 100,
            patches: patches.iter().map(entry).collect(),
            augment: true,
            noise_len: 6,
            timesteps: 8,
        }
    }

    fn stream(pairs: Vec<Pair>, config: StreamConfig) -> SampleStream {
        let sources = one_source(&pairs);
        SampleStream::new(PairReader::new(pairs, DEFAULT_CACHE_BYTES), sources, config).unwrap()
    }

    pub(crate) fn one_source(pairs: &[Pair]) -> Vec<Source> {
        vec![Source {
            pairs: pairs.len(),
            weight: 1.0,
        }]
    }

    /// The pair a sample was cut from, from its first blurry value.
    fn pair_of(batch: &PatchBatch, slot: usize) -> usize {
        (batch.blur[slot * 3 * batch.patch * batch.patch] * 255.0).round() as usize
    }

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
    fn every_pair_passes_once_an_epoch_in_changing_order() {
        let (_folder, pairs) = gradient_pairs(6, 12, 12);
        let stream = stream(pairs, config(&[(8, 4, 3), (16, 2, 9)]));
        let order: Vec<_> = (0..12)
            .flat_map(|i| {
                let batch = stream.batch(i, 0..stream.batch_size(i)).unwrap();
                (0..batch.batch)
                    .map(|slot| pair_of(&batch, slot))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(order.len(), 30);
        for epoch in order.chunks(6) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5], "epoch {epoch:?}");
        }
        assert_ne!(order[..6], order[6..12]);
    }

    #[test]
    fn sources_have_their_shares_and_each_its_epochs() {
        let (_folder, pairs) = gradient_pairs(9, 12, 12);
        let sources: Vec<_> = [(2, 1.0), (4, 5.0), (3, 2.0)]
            .map(|(pairs, weight)| Source { pairs, weight })
            .into();
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        let stream = SampleStream::new(reader, sources, config(&[(8, 4, 1000)])).unwrap();
        let order: Vec<_> = (0..40)
            .flat_map(|step| (0..4).map(move |slot| (step, slot)))
            .map(|(step, slot)| stream.pair_at(step, slot))
            .collect();
        for (first, count, weight) in [(0, 2, 1.0), (2, 4, 5.0), (6, 3, 2.0)] {
            let is_own = |pair: &usize| (first..first + count).contains(pair);
            for taken in 1..=order.len() {
                let own = order[..taken].iter().filter(|pair| is_own(pair)).count();
                let expected = taken as f64 * weight / 8.0;
                assert!((own as f64 - expected).abs() < 2.0, "{own} of {taken}");
            }
            let own: Vec<_> = order.iter().copied().filter(|pair| is_own(pair)).collect();
            for epoch in own.chunks_exact(count) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert!(sorted.iter().copied().eq(first..first + count), "{epoch:?}");
            }
        }
    }

    /// Sharp photographs, and a blur of all kinds but shrinking.
    pub(crate) fn photographs(
        count: u32,
        width: u32,
        height: u32,
    ) -> (TempDir, Vec<Pair>, BlurModel) {
        let folder = TempDir::new().unwrap();
        for index in 0..count {
            let image = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([
                    (x * 5 + index * 60) as u8,
                    (y * 9) as u8,
                    ((x ^ y) * 3) as u8,
                ])
            });
            image
                .save(folder.path().join(format!("{index}.png")))
                .unwrap();
        }
        let found = find_images(folder.path(), None, Part::Train).unwrap();
        let mut model = BlurModel::default();
        for probability in [
            &mut model.object.probability,
            &mut model.defocus.probability,
            &mut model.highlights.probability,
            &mut model.noise.probability,
            &mut model.jpeg.probability,
        ] {
            *probability = 1.0;
        }
        (folder, found.pairs, model)
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

    #[test]
    fn photographs_smaller_than_the_patch_are_reflected_and_memory_changes_nothing() {
        let (_folder, pairs, mut model) = photographs(2, 20, 90);
        model.shrink.probability = 1.0;
        let bounds = [0, 3 * 20 * 90, DEFAULT_CACHE_BYTES];
        let [none, one, all] = bounds.map(|bound| {
            let reader = PairReader::new(pairs.clone(), bound).blurring(model.clone());
            SampleStream::new(reader, one_source(&pairs), config(&[(32, 4, 100)])).unwrap()
        });
        for iteration in 0..3 {
            let expected = all.batch(iteration, 0..4).unwrap();
            assert_eq!(none.batch(iteration, 0..4).unwrap(), expected);
            assert_eq!(one.batch(iteration, 0..4).unwrap(), expected);
        }
    }

    #[test]
    fn whole_photographs_are_blurred_alike_each_time_and_unlike_one_another() {
        let (_folder, pairs, model) = photographs(2, 40, 30);
        let read = |bound, index| {
            let reader = PairReader::new(pairs.clone(), bound).blurring(model.clone());
            let first = reader.read(index).unwrap();
            let again = reader.read(index).unwrap();
            assert!(first.blur == again.blur && first.blur != first.sharp);
            first.blur.clone()
        };
        assert!(read(0, 0) == read(DEFAULT_CACHE_BYTES, 0));
        assert!(read(0, 0) != read(0, 1));
    }

    #[test]
    fn both_images_are_cut_and_turned_alike() {
        let (_folder, pairs) = gradient_pairs(2, 40, 30);
        let stream = stream(pairs, config(&[(8, 8, 10)]));
        let batch = stream.batch(0, 0..8).unwrap();
        let area = 64;
        let mut corners = BTreeMap::new();
        for slot in 0..8 {
            let place =
                |planes: &[f32]| planes[(slot * 3 + 1) * area..(slot * 3 + 3) * area].to_vec();
            assert_eq!(place(&batch.blur), place(&batch.sharp), "slot {slot}");
            let values = place(&batch.blur);
            *corners
                .entry((values[0].to_bits(), values[7].to_bits()))
                .or_insert(0) += 1;
        }
        assert!(corners.len() > 4, "the crops hardly vary: {corners:?}");
    }

    #[test]
    fn patches_larger_than_the_image_are_reflected() {
        let (_folder, pairs) = gradient_pairs(1, 5, 3);
        let mut config = config(&[(8, 1, 10)]);
        config.augment = false;
        let batch = stream(pairs, config).batch(0, 0..1).unwrap();
        let plane = |channel: usize| {
            let values = &batch.blur[channel * 64..(channel + 1) * 64];
            values
                .iter()
                .map(|value| (value * 255.0).round() as u8)
                .collect::<Vec<_>>()
        };
        assert_eq!(plane(1)[..8], [0, 1, 2, 3, 4, 3, 2, 1]);
        let rows: Vec<_> = plane(2).chunks(8).map(|row| row[0]).collect();
        assert_eq!(rows, [0, 1, 2, 1, 0, 1, 2, 1]);
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let (_folder, pairs) = gradient_pairs(3, 10, 10);
        let reader = PairReader::new(pairs, 2 * 3 * 10 * 10 + 1);
        let first = reader.read(0).unwrap();
        let second = reader.read(1).unwrap();
        assert!(
            Arc::ptr_eq(&first, &reader.read(0).unwrap()),
            "the first pair fits"
        );
        assert!(
            !Arc::ptr_eq(&second, &reader.read(1).unwrap()),
            "the second does not"
        );
        assert_eq!(reader.free.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn beyond_the_cache_the_samples_are_the_same() {
        let (_folder, pairs) = gradient_pairs(3, 40, 30);
        // From crops within the image to patches larger than one side, and than both.
        let config = config(&[(8, 4, 2), (32, 4, 2), (48, 2, 2)]);
        let bounds = [0, 2 * 3 * 40 * 30, DEFAULT_CACHE_BYTES];
        let [none, one, all] = bounds.map(|bound| {
            let reader = PairReader::new(pairs.clone(), bound);
            SampleStream::new(reader, one_source(&pairs), config.clone()).unwrap()
        });
        for iteration in 0..6 {
            let slots = 0..all.batch_size(iteration);
            let expected = all.batch(iteration, slots.clone()).unwrap();
            assert_eq!(none.batch(iteration, slots.clone()).unwrap(), expected);
            assert_eq!(one.batch(iteration, slots).unwrap(), expected);
        }
    }

    #[test]
    fn an_unreadable_pair_takes_no_place_in_the_cache() {
        let (_folder, pairs) = gradient_pairs(2, 10, 10);
        std::fs::write(&pairs[0].sharp, b"torn").unwrap();
        let reader = PairReader::new(pairs, 2 * 3 * 10 * 10);
        assert!(reader.read(0).is_err());
        let second = reader.read(1).unwrap();
        assert!(Arc::ptr_eq(&second, &reader.read(1).unwrap()));
    }
}
