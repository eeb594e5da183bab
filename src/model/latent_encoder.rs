//! The latent encoders: LE compresses blurry and sharp image, LE_DM the blurry one alone (paper, Fig. 1e).

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::leaky_relu;

use super::gelu::gelu;
use super::macs;
use super::mixer::{MixerBlock, MixerBlockConfig};
use super::resample::{conv3x3, convolve, pixel_unshuffle};
use crate::config::{LatentEncoderVariant, ModelConfig};
use crate::kernels::formulas::in_format;

/// The side of the squares that become channels first.
const UNSHUFFLE: usize = 4;

/// Configuration of a [`LatentEncoder`].
#[derive(Config, Debug)]
pub struct LatentEncoderConfig {
    /// Channels of the input: 6 for LE, 3 for LE_DM.
    pub in_channels: usize,
    /// E; the prior has 4E channels.
    pub embed_dim: usize,
    /// The prior has `group²` tokens.
    pub group: usize,
    /// Which published encoder.
    #[config(default = "LatentEncoderVariant::Gelu")]
    pub variant: LatentEncoderVariant,
    /// Residual blocks, L.
    #[config(default = 6)]
    pub blocks: usize,
    /// Hidden width of the mixer over tokens, as a multiple of their number.
    #[config(default = 0.5)]
    pub patch_expansion: f64,
    /// Hidden width of the mixer over channels, as a multiple of these.
    #[config(default = 4.0)]
    pub channel_expansion: f64,
}

/// `x + conv(act(conv(x)))`, 3×3.
#[derive(Module, Debug)]
pub struct ResidualBlock<B: Backend> {
    /// E → E.
    pub conv1: Conv2d<B>,
    /// E → E.
    pub conv2: Conv2d<B>,
}

/// The convolutions before the pooling.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model has one or two of them.
pub enum Head<B: Backend> {
    /// Variant `gelu`: one.
    Single(SingleHead<B>),
    /// Variant `lrelu`: three, each followed by the activation.
    Triple(TripleHead<B>),
}

/// The head of variant `gelu`.
#[derive(Module, Debug)]
pub struct SingleHead<B: Backend> {
    /// 3×3, E → E.
    pub conv: Conv2d<B>,
}

/// The head of variant `lrelu`.
#[derive(Module, Debug)]
pub struct TripleHead<B: Backend> {
    /// 3×3, E → 2E.
    pub conv1: Conv2d<B>,
    /// 3×3, 2E → 2E.
    pub conv2: Conv2d<B>,
    /// 3×3, 2E → 4E.
    pub conv3: Conv2d<B>,
}

/// LE or LE_DM.
#[derive(Module, Debug)]
pub struct LatentEncoder<B: Backend> {
    /// 3×3, from 16 times the input's channels to E.
    pub conv_in: Conv2d<B>,
    /// L of them.
    pub blocks: Vec<ResidualBlock<B>>,
    /// Before the pooling.
    pub head: Head<B>,
    /// Over the pooled tokens.
    pub mixer: MixerBlock<B>,
    /// To 4E.
    pub project: Linear<B>,
    /// The pooling makes `group × group` tokens.
    pub group: usize,
    #[module(skip)]
    variant: LatentEncoderVariant,
}

impl LatentEncoderConfig {
    /// LE's configuration in a model.
    pub fn latent(model: &ModelConfig) -> Self {
        Self::of(model, 6)
    }

    /// LE_DM's configuration in a model.
    pub fn condition(model: &ModelConfig) -> Self {
        Self::of(model, 3)
    }

    fn of(model: &ModelConfig, in_channels: usize) -> Self {
        let settings = &model.latent_encoder;
        Self {
            in_channels,
            embed_dim: model.embed_dim,
            group: model.group,
            variant: settings.variant,
            blocks: settings.blocks,
            patch_expansion: settings.patch_expansion,
            channel_expansion: settings.channel_expansion,
        }
    }

    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &B::Device) -> LatentEncoder<B> {
        let e = self.embed_dim;
        let conv = |from, to| conv3x3(from, to, true, device);
        let (head, width) = match self.variant {
            LatentEncoderVariant::Gelu => (Head::Single(SingleHead { conv: conv(e, e) }), e),
            LatentEncoderVariant::Lrelu => {
                let (conv1, conv2, conv3) =
                    (conv(e, 2 * e), conv(2 * e, 2 * e), conv(2 * e, 4 * e));
                (
                    Head::Triple(TripleHead {
                        conv1,
                        conv2,
                        conv3,
                    }),
                    4 * e,
                )
            }
        };
        let mixer = MixerBlockConfig::new(
            self.group * self.group,
            width,
            self.patch_expansion,
            self.channel_expansion,
        );
        LatentEncoder {
            conv_in: conv(self.in_channels * UNSHUFFLE * UNSHUFFLE, e),
            blocks: (0..self.blocks)
                .map(|_| ResidualBlock {
                    conv1: conv(e, e),
                    conv2: conv(e, e),
                })
                .collect(),
            head,
            mixer: mixer.init(device),
            project: LinearConfig::new(width, 4 * e).init(device),
            group: self.group,
            variant: self.variant,
        }
    }
}

impl<B: Backend> LatentEncoder<B> {
    /// # Shapes
    /// - image: `[batch, in_channels, height, width]`, height and width multiples of 4
    /// - output: `[batch, group², 4E]`
    ///
    /// Computes in the weights' number format, and returns the image's.
    pub fn forward(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let format = image.dtype();
        let image = in_format(image, self.conv_in.weight.dtype());
        let mut x = self.activate(convolve(&self.conv_in, pixel_unshuffle(image, UNSHUFFLE)));
        for block in &self.blocks {
            let inner = self.activate(convolve(&block.conv1, x.clone()));
            x = x + convolve(&block.conv2, inner);
        }
        let x = match &self.head {
            Head::Single(head) => convolve(&head.conv, x),
            Head::Triple(head) => [&head.conv1, &head.conv2, &head.conv3]
                .into_iter()
                .fold(x, |x, conv| self.activate(convolve(conv, x))),
        };
        let pooled = average_cells(x, self.group);
        let tokens = pooled.flatten::<3>(2, 3).swap_dims(1, 2); // [batch, group², width]
        let output = self.activate(self.project.forward(self.mixer.forward(tokens)));
        in_format(output, format)
    }

    fn activate<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self.variant {
            LatentEncoderVariant::Gelu => gelu(x),
            LatentEncoderVariant::Lrelu => leaky_relu(x, 0.1),
        }
    }

    /// Multiply-accumulates for one image of `pixels` pixels.
    pub fn macs(&self, pixels: u64) -> u64 {
        let pixels = pixels / (UNSHUFFLE * UNSHUFFLE) as u64;
        let tokens = (self.group * self.group) as u64;
        let blocks = self
            .blocks
            .iter()
            .flat_map(|block| [&block.conv1, &block.conv2]);
        let head = match &self.head {
            Head::Single(head) => vec![&head.conv],
            Head::Triple(head) => vec![&head.conv1, &head.conv2, &head.conv3],
        };
        let convolutions = std::iter::once(&self.conv_in).chain(blocks).chain(head);
        convolutions
            .map(|conv| macs::conv(conv, pixels))
            .sum::<u64>()
            + self.mixer.macs()
            + macs::linear(&self.project, tokens)
    }
}

/// The mean of each of `count × count` cells of an image, as PyTorch's adaptive pooling cuts them: cell `i` of a side of n
/// pixels goes from `⌊i · n / count⌋` to `⌈(i + 1) · n / count⌉`. As two matrix products, which every backend has.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`
/// - output: `[batch, channels, count, count]`
fn average_cells<B: Backend>(x: Tensor<B, 4>, count: usize) -> Tensor<B, 4> {
    let [_, _, height, width] = x.dims();
    let (device, format) = (x.device(), x.dtype());
    let means = |pixels: usize| {
        let mut means = vec![0f32; count * pixels];
        for (cell, means) in means.chunks_exact_mut(pixels.max(1)).enumerate() {
            let cell = cell * pixels / count..((cell + 1) * pixels).div_ceil(count);
            let length = cell.len();
            means[cell].fill(1.0 / length as f32);
        }
        let means = TensorData::new(means, [1, 1, count, pixels]);
        in_format(Tensor::<B, 4>::from_data(means, &device), format)
    };
    means(height).matmul(x).matmul(means(width).transpose())
}
