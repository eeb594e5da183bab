//! The numbers a training measures, as Burn's metrics: losses, gradient norm, PSNR, SSIM, and the records of its log.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::logger::MetricLogger;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{
    Adaptor, ItemLazy, Metric, MetricAttributes, MetricDefinition, MetricMetadata, MetricName,
    Numeric, NumericAttributes, NumericEntry, SerializedEntry,
};
use image::RgbImage;

use super::log::{Picture, Recorder, Step, TrainRecord};
use super::optimizer::GradientNorms;
use crate::data::loader::{Score, ValidationImage};
use crate::evaluation::{psnr, ssim_per_channel};

/// What a number is.
pub trait Quantity: Send + Sync + Clone + 'static {
    /// Its name in displays, logs and file names.
    const NAME: &'static str;
    /// Its unit, if it has one.
    const UNIT: Option<&'static str> = None;
    /// Whether more is better.
    const HIGHER_IS_BETTER: bool = false;
}

/// Between output and sharp image, pixel by pixel.
#[derive(Debug, Clone)]
pub struct PixelLoss;

impl Quantity for PixelLoss {
    const NAME: &'static str = "Pixel loss";
}

/// Between output and sharp image, in the frequency domain and before it is weighted.
#[derive(Debug, Clone)]
pub struct FrequencyLoss;

impl Quantity for FrequencyLoss {
    const NAME: &'static str = "Frequency loss";
}

/// L1 between the prior and its prediction, or Eq. 7 where the diffusion is trained alone.
#[derive(Debug, Clone)]
pub struct DiffusionLoss;

impl Quantity for DiffusionLoss {
    const NAME: &'static str = "Diffusion loss";
}

/// Peak signal-to-noise ratio over 8-bit RGB.
#[derive(Debug, Clone)]
pub struct Psnr;

impl Quantity for Psnr {
    const NAME: &'static str = "PSNR";
    const UNIT: Option<&'static str> = Some("dB");
    const HIGHER_IS_BETTER: bool = true;
}

/// Structural similarity, per channel.
#[derive(Debug, Clone)]
pub struct Ssim;

impl Quantity for Ssim {
    const NAME: &'static str = "SSIM (per channel)";
    const HIGHER_IS_BETTER: bool = true;
}

/// By how much the PSNR is above the blurred image's.
#[derive(Debug, Clone)]
pub struct Gain;

impl Quantity for Gain {
    const NAME: &'static str = "Gain over the blurred input";
    const UNIT: Option<&'static str> = Some("dB");
    const HIGHER_IS_BETTER: bool = true;
}

/// A number, and of how many images it is the mean.
#[derive(Debug, Clone, Copy)]
pub struct Value<Q> {
    value: f64,
    count: usize,
    /// The validation set that the images are of; 0 in training.
    set: usize,
    quantity: PhantomData<Q>,
}

impl<Q> Value<Q> {
    fn new(value: f64, count: usize) -> Self {
        Self {
            value,
            count,
            set: 0,
            quantity: PhantomData,
        }
    }

    fn of_image(value: f64, set: usize) -> Self {
        Self {
            set,
            ..Self::new(value, 1)
        }
    }
}

/// Burn's metric for a quantity: the current value, and the mean over the epoch.
#[derive(Clone)]
pub struct QuantityMetric<Q> {
    name: MetricName,
    /// The only validation set that counts.
    set: Option<usize>,
    state: NumericMetricState,
    /// What was said last.
    entry: SerializedEntry,
    quantity: PhantomData<Q>,
}

impl<Q: Quantity> Default for QuantityMetric<Q> {
    fn default() -> Self {
        Self {
            name: Arc::new(Q::NAME.to_string()),
            set: None,
            state: NumericMetricState::new(),
            entry: SerializedEntry::new(String::new(), String::new()),
            quantity: PhantomData,
        }
    }
}

impl<Q: Quantity> QuantityMetric<Q> {
    /// The metric of one validation set among several: its number, from 0, and its name.
    pub fn of_set(set: usize, name: &str) -> Self {
        Self {
            name: Arc::new(format!("{}, {name}", Q::NAME)),
            set: Some(set),
            ..Self::default()
        }
    }
}

impl<Q: Quantity> Metric for QuantityMetric<Q> {
    type Input = Value<Q>;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        let unit = Q::UNIT.map(str::to_string);
        NumericAttributes {
            unit,
            higher_is_better: Q::HIGHER_IS_BETTER,
        }
        .into()
    }

    fn update(&mut self, item: &Value<Q>, _: &MetricMetadata) -> SerializedEntry {
        if self.set.is_some_and(|set| set != item.set) {
            return self.entry.clone();
        }
        let format = FormatOptions::new(self.name()).precision(4);
        let format = match Q::UNIT {
            Some(unit) => format.unit(unit),
            None => format,
        };
        self.entry = self.state.update(item.value, item.count, format);
        self.entry.clone()
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl<Q: Quantity> Numeric for QuantityMetric<Q> {
    fn value(&self) -> NumericEntry {
        self.state.current_value()
    }

    fn running_value(&self) -> NumericEntry {
        self.state.running_value()
    }
}

/// The gradient norm before clipping, which the optimiser computes.
#[derive(Clone)]
pub struct GradientNormMetric {
    name: MetricName,
    state: NumericMetricState,
    norms: GradientNorms,
}

impl GradientNormMetric {
    /// Its name in displays, logs and file names.
    pub const NAME: &'static str = "Gradient norm";

    /// A metric that reads this handle.
    pub fn new(norms: GradientNorms) -> Self {
        Self {
            name: Arc::new(Self::NAME.into()),
            state: NumericMetricState::new(),
            norms,
        }
    }
}

impl Metric for GradientNormMetric {
    type Input = ();

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: false,
        }
        .into()
    }

    fn update(&mut self, _: &(), _: &MetricMetadata) -> SerializedEntry {
        let norm = self.norms.last().unwrap_or(f64::NAN);
        self.state
            .update(norm, 1, FormatOptions::new(self.name()).precision(4))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for GradientNormMetric {
    fn value(&self) -> NumericEntry {
        self.state.current_value()
    }

    fn running_value(&self) -> NumericEntry {
        self.state.running_value()
    }
}

/// The losses of a step, still on the device and without their graph.
#[derive(Debug)]
pub struct StepLosses<B: Backend> {
    /// Between output and sharp image; none where Eq. 7 is trained alone.
    pub pixel: Option<Tensor<B, 1>>,
    /// In the frequency domain, before it is weighted; none where it has no weight.
    pub frequency: Option<Tensor<B, 1>>,
    /// The diffusion's loss; none in stage one.
    pub diffusion: Option<Tensor<B, 1>>,
    /// The step, from 0.
    pub iteration: usize,
    /// Images in the step, on this device.
    pub batch: usize,
}

/// The losses of a step as numbers.
#[derive(Debug, Clone, Copy)]
pub struct StepNumbers {
    pixel: Option<f64>,
    frequency: Option<f64>,
    diffusion: Option<f64>,
    iteration: usize,
    batch: usize,
}

impl<B: Backend> ItemLazy for StepLosses<B> {
    type ItemSync = StepNumbers;

    fn sync(self) -> StepNumbers {
        let number = |tensor: Option<Tensor<B, 1>>| tensor?.into_data().iter::<f64>().next();
        StepNumbers {
            pixel: number(self.pixel),
            frequency: number(self.frequency),
            diffusion: number(self.diffusion),
            iteration: self.iteration,
            batch: self.batch,
        }
    }
}

impl Adaptor<StepNumbers> for StepNumbers {
    fn adapt(&self) -> StepNumbers {
        *self
    }
}

impl Adaptor<Value<PixelLoss>> for StepNumbers {
    fn adapt(&self) -> Value<PixelLoss> {
        Value::new(self.pixel.unwrap_or(f64::NAN), self.batch)
    }
}

impl Adaptor<Value<FrequencyLoss>> for StepNumbers {
    fn adapt(&self) -> Value<FrequencyLoss> {
        Value::new(self.frequency.unwrap_or(f64::NAN), self.batch)
    }
}

impl Adaptor<Value<DiffusionLoss>> for StepNumbers {
    fn adapt(&self) -> Value<DiffusionLoss> {
        Value::new(self.diffusion.unwrap_or(f64::NAN), self.batch)
    }
}

/// What validation finds for an image.
#[derive(Debug, Clone)]
pub struct ImageScore {
    set: usize,
    score: Score,
    picture: Option<Picture>,
}

impl ImageScore {
    /// Compares a restored image with the sharp one, both rounded to 8 bits as a file would be, and tells the loader
    /// that served it.
    ///
    /// # Shapes
    /// - restored: `[1, 3, height, width]`, as `item`'s images
    pub(super) fn of<B: Backend>(item: &ValidationImage<B>, restored: Tensor<B, 4>) -> Self {
        let (restored, sharp) = (rgb(restored), rgb(item.sharp.clone()));
        let decibels = |image: &RgbImage| psnr(image, &sharp).unwrap_or(f64::NAN).min(MOST_PSNR);
        let blurred = || rgb(item.blur.clone());
        let before = *item.blurred_psnr.get_or_init(|| decibels(&blurred()));
        let psnr = decibels(&restored);
        let score = Score {
            psnr,
            ssim: ssim_per_channel(&restored, &sharp).unwrap_or(f64::NAN),
            gain: psnr - before,
        };
        item.scores.push(item.set, score);
        let picture = item
            .pictured
            .then(|| Picture::of(&item.name, &blurred(), &restored, &sharp));
        Self {
            set: item.set,
            score,
            picture,
        }
    }
}

/// What equal images are said to have, so that a mean is a number.
const MOST_PSNR: f64 = 100.0;

/// An image from a tensor `[1, 3, height, width]` of RGB from 0 to 1.
fn rgb<B: Backend>(image: Tensor<B, 4>) -> RgbImage {
    let [_, _, height, width] = image.dims();
    let bytes = (image.clamp(0.0, 1.0) * 255.0).round();
    let interleaved = bytes.permute([0, 2, 3, 1]).into_data();
    let values: Vec<u8> = interleaved.iter::<f32>().map(|value| value as u8).collect();
    RgbImage::from_raw(width as u32, height as u32, values).unwrap_or_default()
}

impl ItemLazy for ImageScore {
    type ItemSync = Self;

    fn sync(self) -> Self {
        self
    }
}

impl Adaptor<Value<Psnr>> for ImageScore {
    fn adapt(&self) -> Value<Psnr> {
        Value::of_image(self.score.psnr, self.set)
    }
}

impl Adaptor<Value<Gain>> for ImageScore {
    fn adapt(&self) -> Value<Gain> {
        Value::of_image(self.score.gain, self.set)
    }
}

impl Adaptor<Value<Ssim>> for ImageScore {
    fn adapt(&self) -> Value<Ssim> {
        Value::of_image(self.score.ssim, self.set)
    }
}

impl Adaptor<ImageScore> for ImageScore {
    fn adapt(&self) -> ImageScore {
        self.clone()
    }
}

/// The recorder of a stage's log, to which Burn's metrics hand on what passes.
pub(super) type SharedRecorder = Arc<Mutex<Recorder>>;

/// Hands the training's steps to the recorder, and shows its speed on the dashboard.
#[derive(Clone)]
pub(super) struct StepRecording {
    name: MetricName,
    recorder: SharedRecorder,
    norms: GradientNorms,
}

impl StepRecording {
    pub(super) fn new(recorder: SharedRecorder, norms: GradientNorms) -> Self {
        Self {
            name: Arc::new("Speed".to_string()),
            recorder,
            norms,
        }
    }
}

impl Metric for StepRecording {
    type Input = StepNumbers;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn update(&mut self, item: &StepNumbers, _: &MetricMetadata) -> SerializedEntry {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.step(Step {
            iteration: item.iteration + 1,
            images: item.batch,
            pixel: item.pixel,
            frequency: item.frequency,
            diffusion: item.diffusion,
            gradient_norm: self.norms.at(item.iteration + 1),
        });
        let speed = recorder.last().map_or_else(String::new, TrainRecord::speed);
        SerializedEntry::new(speed.clone(), speed)
    }

    fn clear(&mut self) {}
}

/// Hands a validation to the recorder once all its images have passed.
#[derive(Clone)]
pub(super) struct ValidationRecording {
    name: MetricName,
    recorder: SharedRecorder,
    /// The sets' names, with their scores so far.
    sets: Vec<(String, Vec<Score>)>,
    pictures: Vec<Picture>,
}

impl ValidationRecording {
    /// A metric over validation sets of these names.
    pub(super) fn new(recorder: SharedRecorder, sets: impl Iterator<Item = String>) -> Self {
        Self {
            name: Arc::new("Images".to_string()),
            recorder,
            sets: sets.map(|name| (name, Vec::new())).collect(),
            pictures: Vec::new(),
        }
    }
}

impl Metric for ValidationRecording {
    type Input = ImageScore;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn update(&mut self, item: &ImageScore, metadata: &MetricMetadata) -> SerializedEntry {
        if let Some((_, scores)) = self.sets.get_mut(item.set) {
            scores.push(item.score);
        }
        self.pictures.extend(item.picture.clone());
        let count: usize = self.sets.iter().map(|(_, scores)| scores.len()).sum();
        if count == metadata.progress.items_total {
            let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
            recorder.validated(&self.sets, std::mem::take(&mut self.pictures));
        }
        SerializedEntry::new(count.to_string(), count.to_string())
    }

    /// A validation begins, or was left early.
    fn clear(&mut self) {
        self.sets.iter_mut().for_each(|(_, scores)| scores.clear());
        self.pictures.clear();
    }
}

/// Burn's metric files are not written: the log has all of it, and writes whole lines.
pub(super) struct NoFiles;

impl MetricLogger for NoFiles {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn images_are_rounded_and_cut_to_what_a_file_holds() {
        let values = [[-0.1, 0.0, 0.499 / 255.0], [0.502 / 255.0, 1.0, 1.1]];
        let channel = Tensor::<Flex, 2>::from_floats(values, &Default::default());
        let image = rgb(channel.reshape([1, 1, 2, 3]).repeat_dim(1, 3));
        let red: Vec<u8> = image.pixels().map(|pixel| pixel.0[0]).collect();
        assert_eq!(red, [0, 0, 0, 1, 255, 255]);
    }
}
