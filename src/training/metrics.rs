//! The numbers a training shows: losses, gradient norm, PSNR.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, ItemLazy, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
    NumericAttributes, NumericEntry, SerializedEntry,
};

use super::optimizer::GradientNorm;

/// What a number is.
pub trait Quantity: Send + Sync + Clone + 'static {
    /// Its name in displays, logs and file names.
    const NAME: &'static str;
    /// Its unit, if it has one.
    const UNIT: Option<&'static str> = None;
    /// Whether more is better.
    const HIGHER_IS_BETTER: bool = false;
}

/// L1 between output and sharp image.
#[derive(Debug, Clone)]
pub struct PixelLoss;

impl Quantity for PixelLoss {
    const NAME: &'static str = "Pixel loss";
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

/// A number, and of how many images it is the mean.
#[derive(Debug, Clone, Copy)]
pub struct Value<Q> {
    value: f64,
    count: usize,
    quantity: PhantomData<Q>,
}

impl<Q> Value<Q> {
    fn new(value: f64, count: usize) -> Self {
        Self { value, count, quantity: PhantomData }
    }
}

/// Burn's metric for a quantity: the current value, and the mean over the epoch.
#[derive(Clone)]
pub struct QuantityMetric<Q> {
    name: MetricName,
    state: NumericMetricState,
    quantity: PhantomData<Q>,
}

impl<Q: Quantity> Default for QuantityMetric<Q> {
    fn default() -> Self {
        Self {
            name: Arc::new(Q::NAME.to_string()),
            state: NumericMetricState::new(),
            quantity: PhantomData,
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
        NumericAttributes { unit, higher_is_better: Q::HIGHER_IS_BETTER }.into()
    }

    fn update(&mut self, item: &Value<Q>, _: &MetricMetadata) -> SerializedEntry {
        let format = FormatOptions::new(self.name()).precision(4);
        let format = match Q::UNIT {
            Some(unit) => format.unit(unit),
            None => format,
        };
        self.state.update(item.value, item.count, format)
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
    norm: GradientNorm,
}

impl GradientNormMetric {
    /// Its name in displays, logs and file names.
    pub const NAME: &'static str = "Gradient norm";

    /// A metric that reads this handle.
    pub fn new(norm: GradientNorm) -> Self {
        Self { name: Arc::new(Self::NAME.into()), state: NumericMetricState::new(), norm }
    }
}

impl Metric for GradientNormMetric {
    type Input = ();

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: false }.into()
    }

    fn update(&mut self, _: &(), _: &MetricMetadata) -> SerializedEntry {
        let norm = self.norm.last().unwrap_or(f64::NAN);
        self.state.update(norm, 1, FormatOptions::new(self.name()).precision(4))
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
    /// L1 between output and sharp image; none where the Transformer is not trained.
    pub pixel: Option<Tensor<B, 1>>,
    /// The diffusion's loss; none in stage one.
    pub diffusion: Option<Tensor<B, 1>>,
    /// Images in the step.
    pub batch: usize,
}

/// The losses of a step as numbers.
#[derive(Debug, Clone, Copy)]
pub struct StepNumbers {
    pixel: f64,
    diffusion: f64,
    batch: usize,
}

impl<B: Backend> ItemLazy for StepLosses<B> {
    type ItemSync = StepNumbers;

    fn sync(self) -> StepNumbers {
        let number = |tensor: Option<Tensor<B, 1>>| {
            tensor.and_then(|tensor| tensor.into_data().iter::<f64>().next()).unwrap_or(0.0)
        };
        StepNumbers {
            pixel: number(self.pixel),
            diffusion: number(self.diffusion),
            batch: self.batch,
        }
    }
}

impl Adaptor<Value<PixelLoss>> for StepNumbers {
    fn adapt(&self) -> Value<PixelLoss> {
        Value::new(self.pixel, self.batch)
    }
}

impl Adaptor<Value<DiffusionLoss>> for StepNumbers {
    fn adapt(&self) -> Value<DiffusionLoss> {
        Value::new(self.diffusion, self.batch)
    }
}

/// The score of a validation image.
#[derive(Debug, Clone, Copy)]
pub struct ImageScore {
    /// PSNR in dB.
    pub psnr: f64,
}

impl ItemLazy for ImageScore {
    type ItemSync = Self;

    fn sync(self) -> Self {
        self
    }
}

impl Adaptor<Value<Psnr>> for ImageScore {
    fn adapt(&self) -> Value<Psnr> {
        Value::new(self.psnr, 1)
    }
}

/// The PSNR of an image in dB, both rounded to 8 bits as a file would be; at most 100.
///
/// # Shapes
/// - restored and sharp: `[1, 3, height, width]`
pub fn psnr<B: Backend>(restored: Tensor<B, 4>, sharp: Tensor<B, 4>) -> f64 {
    let bytes = |image: Tensor<B, 4>| (image.clamp(0.0, 1.0) * 255.0).round();
    let squared = (bytes(restored) - bytes(sharp)).square().mean();
    let mean = squared.into_data().iter::<f64>().next().unwrap_or(f64::NAN);
    (10.0 * (255.0 * 255.0 / mean).log10()).min(100.0)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn psnr_is_that_of_the_rounded_images() {
        let device = Default::default();
        let sharp = Tensor::<Flex, 4>::full([1, 3, 8, 8], 100.0 / 255.0, &device);
        let restored = Tensor::<Flex, 4>::full([1, 3, 8, 8], 110.3 / 255.0, &device);
        let found = psnr(restored, sharp.clone());
        let expected = 20.0 * (255.0_f64 / 10.0).log10();
        assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
        assert_eq!(psnr(sharp.clone(), sharp), 100.0, "equal images");
    }
}
