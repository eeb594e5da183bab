//! The numbers a training measures, as Burn's metrics: losses, gradient norm, PSNR, SSIM, and the records of its log.

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
use crate::data::loader::{ValidationImage, ValidationScore};
use crate::evaluation::{psnr, ssim_per_channel};

/// A number of each item as Burn's metric: the current value, and the mean over the epoch.
#[derive(Clone)]
pub struct Number<T> {
    name: MetricName,
    unit: Option<&'static str>,
    higher_is_better: bool,
    of: Arc<Of<T>>,
    state: NumericMetricState,
    /// What was said last.
    entry: SerializedEntry,
}

/// The number of an item, and of how many images it is the mean; none where the item does not count.
type Of<T> = dyn Fn(&T) -> Option<(f64, usize)> + Send + Sync;

impl<T> Number<T> {
    /// A number of no unit, of which less is better. `name` stands in displays.
    pub fn new(
        name: impl Into<String>,
        of: impl Fn(&T) -> Option<(f64, usize)> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Arc::new(name.into()),
            unit: None,
            higher_is_better: false,
            of: Arc::new(of),
            state: NumericMetricState::new(),
            entry: SerializedEntry::new(String::new(), String::new()),
        }
    }
}

impl Number<StepNumbers> {
    /// The gradient norm before clipping, which the optimiser computes.
    pub fn gradient_norm(norms: GradientNorms) -> Self {
        Self::new("Gradient norm", move |_| {
            Some((norms.last().unwrap_or(f64::NAN), 1))
        })
    }

    /// Between output and sharp image, pixel by pixel.
    pub fn pixel_loss() -> Self {
        Self::new("Pixel loss", |step| Some((step.pixel?, step.batch)))
    }

    /// Between output and sharp image, in the frequency domain and before it is weighted.
    pub fn frequency_loss() -> Self {
        Self::new("Frequency loss", |step| Some((step.frequency?, step.batch)))
    }

    /// Between the mean light of output and sharp image, before it is weighted.
    pub fn light_loss() -> Self {
        Self::new("Light loss", |step| Some((step.light?, step.batch)))
    }

    /// L1 between the prior and its prediction, or Eq. 7 where the diffusion is trained alone.
    pub fn diffusion_loss() -> Self {
        Self::new("Diffusion loss", |step| Some((step.diffusion?, step.batch)))
    }
}

impl Number<ImageScore> {
    /// The scores of validation images: PSNR over 8-bit RGB, by how much it is above the blurred image's, and SSIM per
    /// channel. Of several sets, by their names, each has its own.
    pub fn scores(sets: &[&str]) -> Vec<Self> {
        let of_set = |(set, name): (usize, &str)| {
            let score = |quantity: &str, unit, value: fn(&ValidationScore) -> f64| Self {
                unit,
                higher_is_better: true,
                ..Self::new(format!("{quantity}{name}"), move |image: &ImageScore| {
                    (image.set == set).then(|| (value(&image.score), 1))
                })
            };
            [
                score("PSNR", Some("dB"), |score| score.psnr),
                score("Gain over the blurred input", Some("dB"), |score| {
                    score.gain
                }),
                score("SSIM (per channel)", None, |score| score.ssim),
            ]
        };
        match sets {
            [_] => of_set((0, "")).into(),
            sets => {
                let names = sets.iter().map(|name| format!(", {name}"));
                let numbers = names.enumerate().map(|(set, name)| of_set((set, &name)));
                numbers.flatten().collect()
            }
        }
    }
}

impl<T: Send + Sync + Clone> Metric for Number<T> {
    type Input = T;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: self.unit.map(str::to_string),
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(&mut self, item: &T, _: &MetricMetadata) -> SerializedEntry {
        if let Some((value, count)) = (self.of)(item) {
            let format = FormatOptions::new(self.name()).precision(4);
            let format = match self.unit {
                Some(unit) => format.unit(unit),
                None => format,
            };
            self.entry = self.state.update(value, count, format);
        }
        self.entry.clone()
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl<T: Send + Sync + Clone> Numeric for Number<T> {
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
    /// Between the mean light, before it is weighted; none where it has no weight.
    pub light: Option<Tensor<B, 1>>,
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
    light: Option<f64>,
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
            light: number(self.light),
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

/// What validation finds for an image.
#[derive(Debug, Clone)]
pub struct ImageScore {
    set: usize,
    score: ValidationScore,
    /// Shared, since each metric gets a copy of what it is told.
    picture: Option<Arc<Picture>>,
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
        let score = ValidationScore {
            psnr,
            ssim: ssim_per_channel(&restored, &sharp).unwrap_or(f64::NAN),
            gain: psnr - before,
        };
        item.scores.push(item.set, score);
        let picture = item
            .pictured
            .then(|| Arc::new(Picture::of(&item.name, &blurred(), &restored, &sharp)));
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
            light: item.light,
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
    sets: Vec<(String, Vec<ValidationScore>)>,
    pictures: Vec<Picture>,
}

impl ValidationRecording {
    /// A metric over validation sets of these names.
    pub(super) fn new(recorder: SharedRecorder, sets: &[&str]) -> Self {
        Self {
            name: Arc::new("Images".to_string()),
            recorder,
            sets: sets.iter().map(|&name| (name.into(), Vec::new())).collect(),
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
        let picture = item.picture.as_deref();
        self.pictures.extend(picture.cloned());
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
