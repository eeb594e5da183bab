//! LPIPS, the learned perceptual distance of Zhang et al. (CVPR 2018), version 0.1 on AlexNet, as papers quote it.
//!
//! Both images go through AlexNet's convolutions. After each, the features are scaled to unit length over the channels,
//! and their squared differences, weighted by channel, are averaged over the positions; the distance is the sum of the five
//! averages. Equal images have 0, and more means less alike.

use std::fs;
use std::path::{Path, PathBuf};

use burn::prelude::Device;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{ElementConversion, Tensor, TensorData};
use image::RgbImage;

use super::check_pair;
use super::files::{FilePair, MetricsReport, measure_files};
use super::protocol::Protocol;
use super::results::ImageScores;
use crate::error::{Error, Result};
use crate::picture::open_rgb8;
use crate::weights::read_parameters;

/// The file of the channels' weights, as in the `lpips` package.
const CHANNEL_WEIGHTS: &str = "alex.pth";
/// How the name of torchvision's AlexNet begins.
const BACKBONE: &str = "alexnet";
/// Fewer pixels along a side leave nothing after the second pooling.
const SMALLEST: u32 = 31;

/// The mean and the deviation of ImageNet's channels, for values from -1 to 1.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Added to the length of a position's features.
const EPSILON: f64 = 1e-10;

/// A convolution of AlexNet and the ReLU after it.
struct Shape {
    /// Among torchvision's `features`.
    index: usize,
    /// Maximum pooling, 3×3 with stride 2, comes before it.
    pooled: bool,
    from: usize,
    to: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

#[rustfmt::skip]
const ALEXNET: [Shape; 5] = [
    Shape { index: 0, pooled: false, from: 3, to: 64, kernel: 11, stride: 4, padding: 2 },
    Shape { index: 3, pooled: true, from: 64, to: 192, kernel: 5, stride: 1, padding: 2 },
    Shape { index: 6, pooled: true, from: 192, to: 384, kernel: 3, stride: 1, padding: 1 },
    Shape { index: 8, pooled: false, from: 384, to: 256, kernel: 3, stride: 1, padding: 1 },
    Shape { index: 10, pooled: false, from: 256, to: 256, kernel: 3, stride: 1, padding: 1 },
];

/// The network with its weights.
#[derive(Debug)]
pub struct Lpips<B: Backend> {
    layers: Vec<Layer<B>>,
    device: Device<B>,
}

/// One of [`ALEXNET`].
#[derive(Debug)]
struct Layer<B: Backend> {
    /// `[to, from, kernel, kernel]`.
    weight: Tensor<B, 4>,
    bias: Tensor<B, 1>,
    /// Of the squared differences, `[1, to, 1, 1]`.
    channel_weights: Tensor<B, 4>,
}

impl<B: Backend> Lpips<B> {
    /// Loads the two published files from `folder`: `alex.pth`, the channels' weights of the `lpips` package (its
    /// `weights/v0.1/alex.pth`), and torchvision's AlexNet, the one `.pth` whose name begins with `alexnet`
    /// (`alexnet-owt-7be5be79.pth`). AlexNet's `classifier` may be there or not.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Weights`] where one of them is missing or damaged, where there is more than one AlexNet, or
    /// for a tensor that is missing, unexpected, of another shape or not finite.
    pub fn load(folder: impl AsRef<Path>, device: &Device<B>) -> Result<Self> {
        let folder = folder.as_ref();
        let backbone = find_backbone(folder)?;
        let channel_weights = folder.join(CHANNEL_WEIGHTS);
        if !channel_weights.is_file() {
            let reason = format!(
                "holds no {CHANNEL_WEIGHTS}: expected the file of the Python package lpips, weights/v0.1/{CHANNEL_WEIGHTS}"
            );
            return Err(Error::weights(folder, reason));
        }
        let (mut convolutions, mut lins) = (Vec::new(), Vec::new());
        for (number, layer) in ALEXNET.iter().enumerate() {
            let name = format!("features.{}", layer.index);
            let weight = vec![layer.to, layer.from, layer.kernel, layer.kernel];
            convolutions.push((format!("{name}.weight"), weight));
            convolutions.push((format!("{name}.bias"), vec![layer.to]));
            lins.push((
                format!("lin{number}.model.1.weight"),
                vec![1, layer.to, 1, 1],
            ));
        }
        let mut convolutions =
            read_parameters(&backbone, &convolutions, &["classifier."])?.into_iter();
        let mut layers = Vec::new();
        for lin in read_parameters(&channel_weights, &lins, &[])? {
            if let (Some(weight), Some(bias)) = (convolutions.next(), convolutions.next()) {
                layers.push(Layer {
                    weight: Tensor::from_data(weight, device),
                    bias: Tensor::from_data(bias, device),
                    channel_weights: Tensor::from_data(lin, device),
                });
            }
        }
        Ok(Self {
            layers,
            device: device.clone(),
        })
    }

    /// The distance of two images.
    ///
    /// # Errors
    /// [`Error::Shape`] when their sizes differ or a side has fewer than 31 pixels; [`Error::NotFinite`] where the weights
    /// lead out of the range of single precision.
    pub fn measure(&self, restored: &RgbImage, target: &RgbImage) -> Result<f64> {
        check_pair(restored, target, SMALLEST)?;
        let mut restored = input::<B>(restored, &self.device);
        let mut target = input::<B>(target, &self.device);
        let mut distance = Tensor::<B, 1>::zeros([1], &self.device);
        for (layer, shape) in self.layers.iter().zip(&ALEXNET) {
            restored = layer.forward(restored, shape);
            target = layer.forward(target, shape);
            distance = distance + layer.distance(restored.clone(), target.clone());
        }
        let distance: f64 = distance.into_scalar().elem();
        match distance.is_finite() {
            true => Ok(distance),
            false => Err(Error::NotFinite {
                what: "LPIPS".into(),
                count: 1,
                total: 1,
            }),
        }
    }
}

impl<B: Backend> Layer<B> {
    fn forward(&self, x: Tensor<B, 4>, shape: &Shape) -> Tensor<B, 4> {
        let x = match shape.pooled {
            true => max_pool2d(x, [3, 3], [2, 2], [0, 0], [1, 1], false),
            false => x,
        };
        let (stride, padding) = ([shape.stride; 2], [shape.padding; 2]);
        let options = ConvOptions::new(stride, padding, [1, 1], 1);
        let bias = Some(self.bias.clone());
        relu(conv2d(x, self.weight.clone(), bias, options))
    }

    fn distance(&self, a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 1> {
        let unit = |x: Tensor<B, 4>| {
            let length = (x.clone() * x.clone()).sum_dim(1).sqrt();
            x / (length + EPSILON)
        };
        let difference = unit(a) - unit(b);
        let weighted = difference.clone() * difference * self.channel_weights.clone();
        weighted.sum_dim(1).mean()
    }
}

/// An image as the network takes it, `[1, 3, height, width]`.
fn input<B: Backend>(image: &RgbImage, device: &Device<B>) -> Tensor<B, 4> {
    let shape = [1, 3, image.height() as usize, image.width() as usize];
    let channel = |c: usize| {
        let value = move |value: u8| (f32::from(value) / 127.5 - 1.0 - SHIFT[c]) / SCALE[c];
        image.pixels().map(move |pixel| value(pixel[c]))
    };
    let values: Vec<f32> = (0..3).flat_map(channel).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn find_backbone(folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(BACKBONE) && name.ends_with(".pth") {
            found.push(entry.path());
        }
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => {
            let reason = "holds no alexnet….pth: expected torchvision's AlexNet, such as alexnet-owt-7be5be79.pth";
            Err(Error::weights(folder, reason))
        }
        count => {
            let reason = format!("holds {count} files alexnet….pth; expected one");
            Err(Error::weights(folder, reason))
        }
    }
}

/// As [`score_files`](super::files::score_files), with the LPIPS of each pair; a pair that has none is a failure. `progress`
/// hears of every pair twice.
///
/// LPIPS comes last, for one pair of images at a time, and of the images as they are: [`Protocol::Realblur`]'s alignment
/// is not for it.
pub fn score_files_with_lpips<B: Backend>(
    pairs: &[FilePair],
    protocol: Protocol,
    lpips: &Lpips<B>,
    progress: &(dyn Fn(usize) + Sync),
) -> MetricsReport {
    let measured = measure_files(pairs, protocol, progress);
    let outcomes = pairs.iter().zip(measured).enumerate();
    let outcomes = outcomes.map(|(index, (pair, measured))| {
        let outcome = measured.and_then(|scores| {
            let (restored, target) = (open_rgb8(&pair.restored)?, open_rgb8(&pair.target)?);
            let distance = lpips.measure(&restored.pixels, &target.pixels)?;
            Ok(ImageScores {
                lpips: Some(distance),
                ..scores
            })
        });
        progress(pairs.len() + index + 1);
        outcome
    });
    MetricsReport::new(protocol, pairs, outcomes)
}
