//! Training patches, step by step.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;

use super::batch::{Batch, NoiseShape};
use super::workers::{Workers, slots};
use crate::data::dataset::SampleStream;
use crate::data::stop::Stop;

/// Serves a [`SampleStream`] to Burn's `Learner`.
///
/// Each call of [`iter`](DataLoader::iter) goes on where the one before it ended, up to the next multiple of
/// `every` iterations: an epoch of the `Learner` is a validation interval. It ends earlier where [`Stop`] asks for it,
/// or an image cannot be read. Worker `w` of `n` makes the steps
/// `w, w + n, …`, two ahead of the training, so that order and memory are bounded without a queue to sort.
pub struct PatchLoader<B: Backend> {
    stream: Arc<SampleStream>,
    settings: PatchLoaderSettings,
    next: Arc<AtomicUsize>,
    /// Whether the next epoch has no steps, so that a validation comes first.
    validate_first: Arc<AtomicBool>,
    /// The part of each step's slots that this loader serves, as a fraction with `samples` below.
    share: Option<(Range<usize>, usize)>,
    device: B::Device,
}

/// How a [`PatchLoader`] serves its stream.
#[derive(Clone)]
pub struct PatchLoaderSettings {
    /// Iterations between validations.
    pub every: usize,
    /// Worker threads.
    pub workers: usize,
    /// The shape of the noise.
    pub noise: NoiseShape,
    /// Ends the steps, and is told of an unreadable image.
    pub stop: Stop,
}

impl<B: Backend> PatchLoader<B> {
    /// A loader whose first step is `start`; with `validate_first` its first epoch has no steps.
    pub fn new(
        stream: Arc<SampleStream>,
        settings: PatchLoaderSettings,
        start: usize,
        validate_first: bool,
        device: B::Device,
    ) -> Self {
        settings.stop.begin(start);
        Self {
            stream,
            settings,
            next: Arc::new(AtomicUsize::new(start)),
            validate_first: Arc::new(AtomicBool::new(validate_first)),
            share: None,
            device,
        }
    }

    fn slots(&self, iteration: usize) -> Range<usize> {
        slots(&self.stream, self.share.as_ref(), iteration)
    }

    fn epoch(&self, start: usize) -> Range<usize> {
        let every = self.settings.every.max(1);
        start..((start / every + 1) * every).min(self.stream.iterations())
    }
}

impl<B: Backend> DataLoader<B, Batch<B>> for PatchLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch<B>> + 'a> {
        let next = self.next.load(Ordering::Relaxed);
        let epoch = match self.validate_first.swap(false, Ordering::Relaxed) {
            true => next..next,
            false => self.epoch(next),
        };
        self.next
            .store(epoch.end.max(epoch.start), Ordering::Relaxed);
        let items_total = epoch
            .clone()
            .map(|iteration| self.slots(iteration).len())
            .sum();
        Box::new(PatchIterator {
            workers: Workers::start(
                &self.stream,
                self.share.as_ref(),
                epoch,
                self.settings.workers,
            ),
            loader: self,
            progress: Progress::new(0, items_total),
        })
    }

    /// Samples of the next epoch.
    fn num_items(&self) -> usize {
        self.epoch(self.next.load(Ordering::Relaxed))
            .map(|step| self.slots(step).len())
            .sum()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, Batch<B>>> {
        Arc::new(Self {
            stream: Arc::clone(&self.stream),
            settings: self.settings.clone(),
            next: Arc::clone(&self.next),
            validate_first: Arc::clone(&self.validate_first),
            share: self.share.clone(),
            device: device.clone(),
        })
    }

    /// A loader of the same steps that serves the share of each step's samples that the items have of
    /// [`num_items`](DataLoader::num_items): what each of several devices gets.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, Batch<B>>> {
        Arc::new(Self {
            stream: Arc::clone(&self.stream),
            settings: self.settings.clone(),
            next: Arc::new(AtomicUsize::new(self.next.load(Ordering::Relaxed))),
            validate_first: Arc::new(AtomicBool::new(self.validate_first.load(Ordering::Relaxed))),
            share: Some((start..end, self.num_items())),
            device: self.device.clone(),
        })
    }
}

struct PatchIterator<'a, B: Backend> {
    workers: Workers,
    loader: &'a PatchLoader<B>,
    progress: Progress,
}

impl<B: Backend> Iterator for PatchIterator<'_, B> {
    type Item = Batch<B>;

    fn next(&mut self) -> Option<Batch<B>> {
        let PatchLoader {
            stream,
            settings,
            device,
            ..
        } = self.loader;
        let iteration = self.workers.remaining.start;
        match self.workers.next()? {
            Ok(samples) => {
                if !settings.stop.admits(iteration) {
                    return None;
                }
                self.progress.items_processed += samples.batch;
                let share = samples.batch as f64 / stream.batch_size(iteration) as f64;
                Some(Batch::new(samples, settings.noise, share, device))
            }
            Err(error) => {
                settings.stop.fail(error, Some(iteration));
                None
            }
        }
    }
}

impl<B: Backend> DataLoaderIterator<Batch<B>> for PatchIterator<'_, B> {
    fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Tensor, TensorData};

    use super::*;
    use crate::data::dataset::examples::{config, gradient_pairs, one_source, photographs};
    use crate::data::dataset::{DEFAULT_CACHE_BYTES, PairReader};
    use crate::data::pairs::{Pair, Source};

    fn loader(pairs: Vec<Pair>, workers: usize, start: usize) -> PatchLoader<Flex> {
        let sources = one_source(&pairs);
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        of_stream(reader, sources, workers, start)
    }

    fn of_stream(
        reader: PairReader,
        sources: Vec<Source>,
        workers: usize,
        start: usize,
    ) -> PatchLoader<Flex> {
        let mut config = config(&[(8, 4, 6), (16, 2, 1)]);
        config.iterations = 17;
        let noise = NoiseShape {
            draws: 3,
            tokens: 2,
            channels: 1,
        };
        config.noise_len = noise.values();
        let stream = SampleStream::new(reader, sources, config).unwrap();
        let settings = PatchLoaderSettings {
            every: 5,
            workers,
            noise,
            stop: Stop::new(),
        };
        let stream = Arc::new(stream);
        PatchLoader::new(stream, settings, start, false, Default::default())
    }

    /// Each epoch's batches as (iteration, blurry values, noise of the first step).
    fn epochs(
        loader: &PatchLoader<Flex>,
        count: usize,
    ) -> Vec<Vec<(usize, TensorData, TensorData)>> {
        let numbers = |batch: Batch<Flex>| {
            assert_eq!(batch.noise.steps.len(), 2);
            (
                batch.iteration,
                batch.blur.into_data(),
                batch.noise.steps[0].clone().into_data(),
            )
        };
        (0..count)
            .map(|_| loader.iter().map(numbers).collect())
            .collect()
    }

    #[test]
    fn the_samples_do_not_depend_on_the_number_of_workers() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let expected = epochs(&loader(pairs.clone(), 1, 0), 4);
        let iterations: Vec<Vec<_>> = expected
            .iter()
            .map(|epoch| epoch.iter().map(|batch| batch.0).collect())
            .collect();
        let whole: Vec<Vec<usize>> = vec![
            (0..5).collect(),
            (5..10).collect(),
            (10..15).collect(),
            (15..17).collect(),
        ];
        assert_eq!(iterations, whole);
        for workers in [2, 3, 8] {
            let found = epochs(&loader(pairs.clone(), workers, 0), 4);
            assert!(found == expected, "{workers} workers");
        }
    }

    #[test]
    fn blurred_photographs_do_not_depend_on_the_number_of_workers_either() {
        let (_folder, pairs, model) = photographs(3, 40, 36);
        let with = |workers| {
            let sources = one_source(&pairs);
            let reader =
                PairReader::new(pairs.clone(), DEFAULT_CACHE_BYTES).blurring(model.clone());
            epochs(&of_stream(reader, sources, workers, 0), 2)
        };
        let expected = with(1);
        assert!(with(3) == expected);
    }

    #[test]
    fn a_loader_that_starts_late_continues_the_stream() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let expected = epochs(&loader(pairs.clone(), 2, 0), 4);
        assert!(epochs(&loader(pairs.clone(), 2, 10), 2) == expected[2..]);
        let late = epochs(&loader(pairs, 2, 8), 3);
        assert!(late[0] == expected[1][3..], "up to the next validation");
        assert!(late[1..] == expected[2..]);
    }

    #[test]
    fn slices_share_each_step() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let whole = loader(pairs, 2, 0);
        let items = whole.num_items();
        assert_eq!(items, 20);
        let halves = [whole.slice(0, items / 2), whole.slice(items / 2, items)];
        let mut halves = halves.iter().map(|half| half.iter()).collect::<Vec<_>>();
        for batch in whole.iter() {
            let parts = halves
                .iter_mut()
                .map(|half| {
                    let half = half.next().unwrap();
                    assert_eq!(half.share, 0.5);
                    half.blur
                })
                .collect();
            assert_eq!(Tensor::cat(parts, 0).into_data(), batch.blur.into_data());
        }
    }

    #[test]
    fn an_epoch_left_early_ends_its_workers() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let loader = loader(pairs, 3, 0);
        let mut iterator = loader.iter();
        assert_eq!(iterator.next().unwrap().iteration, 0);
        assert_eq!(iterator.progress().items_processed, 4);
        drop(iterator);
        assert_eq!(loader.iter().next().unwrap().iteration, 5);
    }

    #[test]
    fn an_unreadable_image_is_reported_and_ends_the_epoch() {
        let (folder, pairs) = gradient_pairs(1, 40, 30);
        std::fs::write(folder.path().join("input/000.png"), b"torn").unwrap();
        let loader = loader(pairs, 2, 0);
        assert!(loader.iter().next().is_none());
        let error = loader.settings.stop.take_failure().unwrap().to_string();
        assert!(error.contains("000.png"), "{error}");
        assert_eq!(loader.settings.stop.end(), Some(0));
    }

    #[test]
    fn a_stop_ends_the_epoch_and_those_after_it() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let loader = loader(pairs, 3, 0);
        let mut iterator = loader.iter();
        iterator.next().unwrap();
        iterator.next().unwrap();
        loader.settings.stop.ask();
        assert!(iterator.next().is_none());
        assert_eq!(loader.settings.stop.end(), Some(2));
        drop(iterator);
        assert!(loader.iter().next().is_none());
    }

    #[test]
    fn a_validation_may_come_before_the_first_step() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let loader = loader(pairs, 1, 10);
        loader.validate_first.store(true, Ordering::Relaxed);
        assert!(loader.iter().next().is_none());
        assert_eq!(loader.iter().next().unwrap().iteration, 10);
    }

    #[test]
    fn the_parts_of_a_batch_are_its_samples() {
        let (_folder, pairs) = gradient_pairs(5, 40, 30);
        let batch = loader(pairs, 1, 0).iter().next().unwrap();
        assert_eq!(batch.share, 1.0);
        let whole = batch.blur.clone().into_data();
        let parts = batch.split(3);
        let shares: Vec<_> = parts.iter().map(|part| part.share).collect();
        assert_eq!(shares, [0.25, 0.25, 0.5]);
        assert_eq!(parts[2].noise.steps[1].dims(), [2, 2, 1]);
        assert_eq!(parts[2].timesteps.len(), 2);
        let blurs = parts.into_iter().map(|part| part.blur).collect();
        assert_eq!(Tensor::cat(blurs, 0).into_data(), whole);
    }
}
