//! Pairs as pixels, kept in memory as far as a bound allows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use image::RgbImage;
use rand::Rng;

use super::notes::Notes;
use super::patch::Crop;
use crate::data::decode::{decode, decode_region};
use crate::data::pairs::Pair;
use crate::data::random::{Purpose, seed_at};
use crate::data::synthesis::{BlurModel, Shot};
use crate::error::{Error, Result};
use crate::picture::{Region, Rgb8};

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
    /// What a user should know of the files, each with its name.
    pub warnings: Vec<String>,
}

impl DecodedPair {
    fn of(blur: Rgb8, sharp: Rgb8) -> Self {
        let mut warnings = blur.warnings;
        warnings.extend(sharp.warnings);
        Self {
            blur: blur.pixels,
            sharp: sharp.pixels,
            warnings,
        }
    }
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
    notes: Notes,
    /// Pairs whose pictures cannot be decoded, with the reason.
    unreadable: Mutex<BTreeMap<usize, String>>,
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
            notes: Notes::default(),
            unreadable: Mutex::default(),
        }
    }

    /// The same, where photographs are blurred by `model` in place of the default.
    pub fn blurring(self, model: BlurModel) -> Self {
        Self {
            blur: model,
            ..self
        }
    }

    /// The same, where `notes` hear what a user should know of the files.
    pub fn telling(self, notes: Notes) -> Self {
        Self { notes, ..self }
    }

    /// What `read` gives of pair `index`, or, if its pictures cannot be decoded, of the next one whose can. The same pairs are
    /// passed over each time, so that a training goes on and is repeated alike.
    ///
    /// # Errors
    /// Those of `read` but [`Error::Image`], and [`Error::Training`] if no pair can be decoded.
    pub(super) fn readable<T>(
        &self,
        index: usize,
        mut read: impl FnMut(usize) -> Result<T>,
    ) -> Result<T> {
        for index in (0..self.len()).map(|step| (index + step) % self.len()) {
            if self.unreadable().contains_key(&index) {
                continue;
            }
            match read(index) {
                Err(error @ Error::Image { .. }) => {
                    self.notes.tell(format!("{error}; the pair is passed over"));
                    self.unreadable().insert(index, error.to_string());
                }
                done => return done,
            }
        }
        let first = self.unreadable().values().next().cloned();
        let reason = first.unwrap_or_else(|| "there is none".into());
        Err(Error::Training(format!(
            "no training picture can be decoded: {reason}"
        )))
    }

    /// What hears of the files.
    #[cfg(feature = "train")]
    pub(in crate::data) fn notes(&self) -> &Notes {
        &self.notes
    }

    fn unreadable(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, String>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let decoded = match &pair.blur {
            Some(blur) => Ok(DecodedPair::of(decode(blur, pair)?, sharp)),
            None => {
                let seed = seed_at(BLUR_SEED, Purpose::Blur, index as u64, 0);
                let made = self.blur.pair(&sharp.pixels, seed)?;
                Ok(DecodedPair {
                    warnings: sharp.warnings,
                    ..made
                })
            }
        }?;
        self.notes.tell_all(&decoded.warnings);
        Ok(decoded)
    }

    /// The pixels of pair `index` that `crop` needs, and where `crop` lies in them.
    ///
    /// A pair that has no place in memory is not decoded beyond the crop.
    pub(super) fn read_crop(
        &self,
        index: usize,
        blur: &Path,
        crop: Crop,
    ) -> Result<(Arc<DecodedPair>, Crop)> {
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
        let decoded = DecodedPair::of(
            decode_region(blur, pair, region)?,
            decode_region(&pair.sharp, pair, region)?,
        );
        self.notes.tell_all(&decoded.warnings);
        let crop = Crop {
            top: 0,
            left: 0,
            ..crop
        };
        Ok((Arc::new(decoded), crop))
    }

    /// A part of what is taken of the sharp photograph of pair `index`, of `side` by `side` pixels or as many as there
    /// are.
    pub(super) fn blur_crop(
        &self,
        index: usize,
        side: usize,
        seed: u64,
        random: &mut impl Rng,
    ) -> Result<DecodedPair> {
        let pair = self.get(index)?;
        let decode = || {
            let read = decode(&pair.sharp, pair)?;
            self.notes.tell_all(&read.warnings);
            Ok(read.pixels)
        };
        let photograph = match self.cached(&self.photographs[index], bytes(pair), decode)? {
            Some(photograph) => photograph,
            None => Arc::new(decode()?),
        };
        let least = side + side / 4;
        let shot = Shot::new(&self.blur, [pair.width, pair.height], least, seed);
        shot.render(&photograph, shot.place(side, random))
    }

    pub(super) fn get(&self, index: usize) -> Result<&Pair> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::SampleStream;
    use crate::data::dataset::examples::{config, gradient_pairs, one_source, photographs};

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
    fn an_unreadable_pair_takes_no_place_in_the_cache() {
        let (_folder, pairs) = gradient_pairs(2, 10, 10);
        std::fs::write(&pairs[0].sharp, b"torn").unwrap();
        let reader = PairReader::new(pairs, 2 * 3 * 10 * 10);
        assert!(reader.read(0).is_err());
        let second = reader.read(1).unwrap();
        assert!(Arc::ptr_eq(&second, &reader.read(1).unwrap()));
    }
}
