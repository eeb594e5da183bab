//! Burn data loaders: training patches made ahead by worker threads, and whole validation images.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use rand::Rng;
use rand_distr::StandardNormal;

use super::dataset::{PairReader, PatchBatch, SampleStream};
use super::random::{Purpose, generator_at};
use super::stop::Stop;
use crate::diffusion::ChainNoise;
use crate::error::{Error, Result};

/// Steps that each worker prepares ahead.
const PREFETCH: usize = 2;

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
    fn split<B: Backend>(
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

/// The slots of a step that fall to a share of the items.
fn slots(
    stream: &SampleStream,
    share: Option<&(Range<usize>, usize)>,
    iteration: usize,
) -> Range<usize> {
    let batch = stream.batch_size(iteration);
    match share {
        None => 0..batch,
        Some((items, total)) => {
            let slot = |item: usize| batch * item / (*total).max(1);
            slot(items.start)..slot(items.end)
        }
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
                Some(to_tensors(samples, settings.noise, share, device))
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

fn to_tensors<B: Backend>(
    samples: PatchBatch,
    noise: NoiseShape,
    share: f64,
    device: &B::Device,
) -> Batch<B> {
    let shape = [samples.batch, 3, samples.patch, samples.patch];
    Batch {
        iteration: samples.iteration,
        blur: Tensor::from_data(TensorData::new(samples.blur, shape), device),
        sharp: Tensor::from_data(TensorData::new(samples.sharp, shape), device),
        noise: noise.split(samples.noise, samples.batch, device),
        timesteps: samples.timesteps,
        share,
    }
}

/// The threads that prepare the steps of one epoch.
struct Workers {
    outputs: Vec<Receiver<Result<PatchBatch>>>,
    threads: Vec<JoinHandle<()>>,
    remaining: Range<usize>,
    turn: usize,
}

impl Workers {
    fn start(
        stream: &Arc<SampleStream>,
        share: Option<&(Range<usize>, usize)>,
        epoch: Range<usize>,
        count: usize,
    ) -> Self {
        let count = count.clamp(1, epoch.len().max(1));
        let mut workers = Self {
            outputs: Vec::new(),
            threads: Vec::new(),
            remaining: epoch.clone(),
            turn: 0,
        };
        for worker in 0..count {
            let (sender, receiver) = sync_channel(PREFETCH);
            let (stream, share) = (Arc::clone(stream), share.cloned());
            let steps = epoch.clone().skip(worker).step_by(count);
            let work = move || {
                for iteration in steps {
                    let slots = slots(&stream, share.as_ref(), iteration);
                    let batch = stream.batch(iteration, slots);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            };
            workers.outputs.push(receiver);
            workers.threads.push(std::thread::spawn(work));
        }
        workers
    }

    fn next(&mut self) -> Option<Result<PatchBatch>> {
        let iteration = self.remaining.next()?;
        let output = self.outputs.get(self.turn)?.recv();
        self.turn = (self.turn + 1) % self.outputs.len();
        let lost = |_| Error::Training(format!("the worker of iteration {iteration} broke off"));
        let output = output.map_err(lost).and_then(|output| output);
        if output.is_err() {
            self.remaining = 0..0;
        }
        Some(output)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Without receivers the workers' next send fails, and they end.
        self.outputs.clear();
        for thread in self.threads.drain(..) {
            // A worker that panicked has been reported by `next`.
            drop(thread.join());
        }
    }
}

/// A validation image.
#[derive(Debug, Clone)]
pub struct ValidationImage<B: Backend> {
    /// The pair's name.
    pub name: String,
    /// The blurry image in [0, 1], `[1, 3, height, width]`, both multiples of 8.
    pub blur: Tensor<B, 4>,
    /// The sharp image, likewise.
    pub sharp: Tensor<B, 4>,
    /// The diffusion's noise, the same at every validation.
    pub noise: ChainNoise<B>,
    /// Whether the images are wanted side by side.
    pub pictured: bool,
    /// The set that the pair is of, from 0.
    pub set: usize,
    /// The PSNR of the blurry image in dB, once it has been computed: it is the same at every validation.
    pub blurred_psnr: Arc<OnceLock<f64>>,
    /// Where the image's score is written.
    pub scores: Scores,
}

/// How close a validation image came to its sharp one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// PSNR in dB over 8-bit RGB, at most 100.
    pub psnr: f64,
    /// SSIM per channel.
    pub ssim: f64,
    /// By how many dB the PSNR is above the blurry image's.
    pub gain: f64,
}

impl Score {
    /// The mean, or `None` of nothing.
    pub fn mean(scores: &[Self]) -> Option<Self> {
        let mean =
            |part: fn(&Self) -> f64| scores.iter().map(part).sum::<f64>() / scores.len() as f64;
        (!scores.is_empty()).then(|| Self {
            psnr: mean(|score| score.psnr),
            ssim: mean(|score| score.ssim),
            gain: mean(|score| score.gain),
        })
    }
}

/// The scores of the images of one validation.
#[derive(Debug, Clone, Default)]
pub struct Scores(Arc<Mutex<ScoreList>>);

#[derive(Debug, Default)]
struct ScoreList {
    /// Each set's.
    sets: Vec<Vec<Score>>,
    /// How many there will be in all.
    expected: usize,
}

impl Scores {
    /// Adds the score of an image of a set, which is counted from 0.
    pub fn push(&self, set: usize, score: Score) {
        let sets = &mut self.list().sets;
        if sets.len() <= set {
            sets.resize_with(set + 1, Vec::new);
        }
        sets[set].push(score);
    }

    /// Whether every image of the validation has its score.
    pub fn is_complete(&self) -> bool {
        let list = self.list();
        list.sets.iter().map(Vec::len).sum::<usize>() == list.expected
    }

    /// The mean over the sets of their means so far, in which each set counts alike; `None` before the first image.
    pub fn mean(&self) -> Option<Score> {
        let means = self
            .list()
            .sets
            .iter()
            .filter_map(|set| Score::mean(set))
            .collect::<Vec<_>>();
        Score::mean(&means)
    }

    pub(crate) fn begin(&self, expected: usize) {
        *self.list() = ScoreList {
            sets: Vec::new(),
            expected,
        };
    }

    fn list(&self) -> MutexGuard<'_, ScoreList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves validation pairs one by one, each cropped about its centre to multiples of 8, so that no network needs to
/// pad: stage one's encoder sees the sharp image too, and the score is over what the networks saw.
pub struct ValidationLoader<B: Backend> {
    reader: Arc<PairReader>,
    /// The pairs to serve.
    served: Vec<Served>,
    seed: u64,
    noise: NoiseShape,
    stop: Stop,
    scores: Scores,
    device: B::Device,
}

/// A pair to serve.
#[derive(Clone)]
struct Served {
    /// Among all pairs.
    index: usize,
    set: usize,
    pictured: bool,
    blurred_psnr: Arc<OnceLock<f64>>,
}

impl<B: Backend> ValidationLoader<B> {
    /// A loader of pairs in sets, of which `sizes` says how many pairs each has, one set after the other. Of each set at
    /// most `images` pairs are served, spread evenly over all of it; the first `pictures` of these are wanted as pictures.
    /// A validation ends early where `stop` asks for it, and then counts as none.
    pub fn new(
        reader: PairReader,
        sizes: &[usize],
        [images, pictures]: [usize; 2],
        seed: u64,
        noise: NoiseShape,
        stop: Stop,
        device: B::Device,
    ) -> Self {
        let mut served = Vec::new();
        let mut start = 0;
        for (set, size) in sizes.iter().enumerate() {
            let pairs = reader.pairs();
            let end = pairs.len().min(start + size);
            let usable: Vec<usize> = (start..end)
                .filter(|&index| pairs[index].width >= 8 && pairs[index].height >= 8)
                .collect();
            let count = images.min(usable.len());
            served.extend((0..count).map(|i| Served {
                index: usable[i * usable.len() / count],
                set,
                pictured: i < pictures,
                blurred_psnr: Arc::default(),
            }));
            start = end;
        }
        Self {
            reader: Arc::new(reader),
            served,
            seed,
            noise,
            stop,
            scores: Scores::default(),
            device,
        }
    }

    /// The scores of the current or last validation.
    pub fn scores(&self) -> Scores {
        self.scores.clone()
    }

    fn with(&self, served: Vec<Served>, device: &B::Device) -> Self {
        Self {
            reader: Arc::clone(&self.reader),
            served,
            seed: self.seed,
            noise: self.noise,
            stop: self.stop.clone(),
            scores: self.scores.clone(),
            device: device.clone(),
        }
    }

    fn image(&self, served: &Served) -> Result<ValidationImage<B>> {
        let index = served.index;
        let pair = self.reader.read(index)?;
        let mut random = generator_at(self.seed, Purpose::Validation, index as u64, 0);
        let noise: Vec<f32> = (0..self.noise.values())
            .map(|_| random.sample(StandardNormal))
            .collect();
        Ok(ValidationImage {
            name: self.reader.pairs()[index].name.clone(),
            pictured: served.pictured,
            set: served.set,
            blurred_psnr: Arc::clone(&served.blurred_psnr),
            blur: centre(&pair.blur, &self.device),
            sharp: centre(&pair.sharp, &self.device),
            noise: self.noise.split(noise, 1, &self.device),
            scores: self.scores.clone(),
        })
    }
}

/// The largest centred part whose sides are multiples of 8.
fn centre<B: Backend>(image: &RgbImage, device: &B::Device) -> Tensor<B, 4> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (columns, rows) = (width / 8 * 8, height / 8 * 8);
    let (left, top) = ((width - columns) / 2, (height - rows) / 2);
    let pixels = image.as_raw();
    let mut planes = Vec::with_capacity(3 * rows * columns);
    for channel in 0..3 {
        for row in top..top + rows {
            let line = &pixels[3 * (row * width + left)..][..3 * columns];
            planes.extend(
                line.iter()
                    .skip(channel)
                    .step_by(3)
                    .map(|&v| f32::from(v) / 255.0),
            );
        }
    }
    Tensor::from_data(TensorData::new(planes, [1, 3, rows, columns]), device)
}

impl<B: Backend> DataLoader<B, ValidationImage<B>> for ValidationLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ValidationImage<B>> + 'a> {
        self.scores.begin(self.served.len());
        Box::new(ValidationIterator {
            loader: self,
            position: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.served.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, ValidationImage<B>>> {
        Arc::new(self.with(self.served.clone(), device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, ValidationImage<B>>> {
        let served = self.served.iter().take(end).skip(start).cloned().collect();
        Arc::new(self.with(served, &self.device))
    }
}

struct ValidationIterator<'a, B: Backend> {
    loader: &'a ValidationLoader<B>,
    position: usize,
}

impl<B: Backend> Iterator for ValidationIterator<'_, B> {
    type Item = ValidationImage<B>;

    fn next(&mut self) -> Option<ValidationImage<B>> {
        let loader = self.loader;
        let served = loader.served.get(self.position)?;
        if loader.stop.is_asked() {
            return None;
        }
        match loader.image(served) {
            Ok(image) => {
                self.position += 1;
                Some(image)
            }
            Err(error) => {
                loader.stop.fail(error, None);
                None
            }
        }
    }
}

impl<B: Backend> DataLoaderIterator<ValidationImage<B>> for ValidationIterator<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.position, self.loader.served.len())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::data::dataset::DEFAULT_CACHE_BYTES;
    use crate::data::dataset::tests::{config, gradient_pairs, one_source, photographs};
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

    #[test]
    fn validation_images_are_centred_and_have_the_same_noise_each_time() {
        let (_folder, pairs) = gradient_pairs(5, 27, 20);
        let noise = NoiseShape {
            draws: 1,
            tokens: 2,
            channels: 3,
        };
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        let (stop, device) = (Stop::new(), Default::default());
        let loader = ValidationLoader::<Flex>::new(reader, &[5], [3, 2], 1, noise, stop, device);
        let images: Vec<_> = loader.iter().collect();
        let again: Vec<_> = loader.iter().collect();
        assert_eq!(images.len(), 3);
        let mut pairs = Vec::new();
        for (image, again) in images.iter().zip(&again) {
            assert_eq!(image.blur.dims(), [1, 3, 16, 24]);
            assert_eq!(image.noise.start.to_data(), again.noise.start.to_data());
            let corner: Vec<f32> = image
                .blur
                .clone()
                .slice([0..1, 0..3, 0..1, 0..1])
                .into_data()
                .to_vec()
                .unwrap();
            let corner: Vec<_> = corner
                .iter()
                .map(|value| (value * 255.0).round() as u8)
                .collect();
            assert_eq!(corner[1..], [1, 2], "column and row of the first pixel");
            pairs.push(corner[0]);
        }
        assert_eq!(pairs, [0, 1, 3], "spread over the pairs");
        assert_ne!(
            images[0].noise.start.to_data(),
            images[1].noise.start.to_data()
        );
        let pictured: Vec<_> = images.iter().map(|image| image.pictured).collect();
        assert_eq!(pictured, [true, true, false]);
        let score = |psnr| Score {
            psnr,
            ssim: 0.5,
            gain: psnr - 1.0,
        };
        for psnr in [1.0, 3.0] {
            loader.scores().push(0, score(psnr));
        }
        assert_eq!(loader.scores().mean(), Some(score(2.0)));
        loader.scores().push(2, score(4.0));
        assert_eq!(loader.scores().mean(), Some(score(3.0)), "each set alike");
        assert!(loader.iter().next().is_some());
        assert_eq!(loader.scores().mean(), None, "a new validation begins");
    }

    #[test]
    fn the_numbers_of_images_and_pictures_hold_for_each_set() {
        let (_folder, pairs) = gradient_pairs(7, 27, 20);
        let noise = NoiseShape {
            draws: 1,
            tokens: 1,
            channels: 1,
        };
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        let (stop, device) = (Stop::new(), Default::default());
        let loader =
            ValidationLoader::<Flex>::new(reader, &[4, 0, 3], [2, 1], 1, noise, stop, device);
        let served: Vec<_> = loader
            .iter()
            .map(|image| (image.name, image.set, image.pictured))
            .collect();
        let expected = [
            ("000", 0, true),
            ("002", 0, false),
            ("004", 2, true),
            ("005", 2, false),
        ];
        assert_eq!(
            served,
            expected.map(|(name, set, pictured)| (name.to_string(), set, pictured))
        );
        let score = Score {
            psnr: 1.0,
            ssim: 0.5,
            gain: 0.0,
        };
        for set in [0, 0, 2, 2] {
            assert!(!loader.scores().is_complete());
            loader.scores().push(set, score);
        }
        assert!(loader.scores().is_complete());
        loader
            .iter()
            .next()
            .unwrap()
            .blurred_psnr
            .set(20.0)
            .unwrap();
        let again = loader.iter().next().unwrap();
        assert_eq!(again.blurred_psnr.get(), Some(&20.0), "computed once");
    }
}
