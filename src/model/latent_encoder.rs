//! The latent encoders: LE compresses blurry and sharp image, LE_DM the blurry one alone (paper, Fig. 1e).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::leaky_relu;

use super::gelu::gelu;
use super::macs;
use super::mixer::{MixerBlock, MixerBlockConfig};
use super::resample::{conv3x3, convolve, pixel_unshuffle};
use crate::checks::{Check, MOST_BLOCKS};
use crate::error::Result;
use crate::kernels::formulas::in_format;
use serde::{Deserialize, Serialize};

/// The side of the squares that become channels first.
const UNSHUFFLE: usize = 4;

/// Which published latent encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatentEncoderVariant {
    /// GELU, one head convolution, mixer of width `embed_dim` (GoPro).
    #[default]
    Gelu,
    /// LeakyReLU(0.1), three head convolutions, mixer of width `4 · embed_dim` (RealBlur, HI-Diff-2).
    Lrelu,
}

/// The latent encoders LE and LE_DM (paper, Fig. 1e).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatentEncoderConfig {
    /// Which published encoder.
    pub variant: LatentEncoderVariant,
    /// Residual blocks, L.
    pub blocks: usize,
    /// Hidden width of the mixer's token map, as a multiple of N.
    pub patch_expansion: f64,
    /// Hidden width of the mixer's channel map, as a multiple of its width.
    pub channel_expansion: f64,
}

impl Default for LatentEncoderConfig {
    fn default() -> Self {
        Self {
            variant: LatentEncoderVariant::Gelu,
            blocks: 6,
            patch_expansion: 0.5,
            channel_expansion: 4.0,
        }
    }
}

impl LatentEncoderConfig {
    pub(crate) fn validate(&self, check: &Check, tokens: usize) -> Result<()> {
        check.size("model.latent_encoder.blocks", self.blocks, 0, MOST_BLOCKS)?;
        check.expansion(
            "model.latent_encoder.patch_expansion",
            self.patch_expansion,
            tokens,
        )?;
        check.expansion(
            "model.latent_encoder.channel_expansion",
            self.channel_expansion,
            1,
        )
    }
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
    /// Builds the module on `device`, for an input of so many channels: 6 for LE, 3 for LE_DM. It makes `group²` tokens of
    /// 4E channels, where E is `embed_dim`.
    pub fn init<B: Backend>(
        &self,
        in_channels: usize,
        embed_dim: usize,
        group: usize,
        device: &B::Device,
    ) -> LatentEncoder<B> {
        let e = embed_dim;
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
            group * group,
            width,
            self.patch_expansion,
            self.channel_expansion,
        );
        LatentEncoder {
            conv_in: conv(in_channels * UNSHUFFLE * UNSHUFFLE, e),
            blocks: (0..self.blocks)
                .map(|_| ResidualBlock {
                    conv1: conv(e, e),
                    conv2: conv(e, e),
                })
                .collect(),
            head,
            mixer: mixer.init(device),
            project: LinearConfig::new(width, 4 * e).init(device),
            group,
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
