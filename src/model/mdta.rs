//! Multi-Dconv head transposed attention (Restormer, section 3.1).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::prelude::{Backend, Device, Int, Tensor, TensorData};
use burn::tensor::activation::softmax;
use burn::tensor::{FloatDType, IndexingUpdateOp};

use super::depthwise::{DepthwiseConv, DepthwiseConvConfig};
use super::layer::{Layer, pointwise};
use super::layer_norm::LayerNorm;
use super::macs;
use super::modulation::{MISSING, Modulation, ModulationConfig, modulation};
use crate::kernels::formulas::{in_format, single};
use crate::kernels::windows::Windows;
use crate::kernels::{self, BranchWeights};

/// Configuration of an [`Mdta`].
#[derive(Config, Debug)]
pub struct MdtaConfig {
    /// Channels, C.
    pub channels: usize,
    /// Heads; a divisor of the channels.
    pub heads: usize,
    /// Whether the convolutions have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// Channels of the prior that modulates the input; none for levels without modulation.
    pub modulation: Option<usize>,
}

/// The least norm that queries and keys are divided by.
const LEAST_NORM: f64 = 1e-12;

/// Self-attention between channels: its cost is linear in pixels.
#[derive(Module, Debug)]
pub struct Mdta<B: Backend> {
    /// 1×1, C → 3C.
    pub qkv: Conv2d<B>,
    /// 3×3 on each of the 3C channels.
    pub qkv_dwconv: DepthwiseConv<B>,
    /// The factor on each head's logits: `[heads, 1, 1]`.
    pub temperature: Param<Tensor<B, 3>>,
    /// 1×1, C → C.
    pub project_out: Conv2d<B>,
    /// At level 4.
    pub modulation: Option<Modulation<B>>,
    /// At test time: pixels of the side of the windows that have statistics of their own; none for the whole image's.
    #[module(skip)]
    pub window: Option<usize>,
}

impl MdtaConfig {
    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, device: &Device<B>) -> Mdta<B> {
        let channels = self.channels;
        let pointwise = |from, to| {
            Conv2dConfig::new([from, to], [1, 1])
                .with_bias(self.bias)
                .init(device)
        };
        Mdta {
            qkv: pointwise(channels, 3 * channels),
            qkv_dwconv: DepthwiseConvConfig::new(3 * channels)
                .with_bias(self.bias)
                .init(device),
            temperature: Initializer::Ones.init([self.heads, 1, 1], device),
            project_out: pointwise(channels, channels),
            modulation: self
                .modulation
                .map(|prior_channels| ModulationConfig::new(channels, prior_channels).init(device)),
            window: None,
        }
    }
}

impl<B: Backend> Mdta<B> {
    /// # Shapes
    /// - x and output: `[batch, C, height, width]`
    /// - z3: `[batch, C']`; not looked at without modulation
    ///
    /// # Panics
    /// If a modulated block is given no prior.
    pub fn forward(&self, x: Tensor<B, 4>, z3: Option<&Tensor<B, 2>>) -> Tensor<B, 4> {
        let x = match &self.modulation {
            Some(modulation) => modulation.forward(x, z3.expect(MISSING).clone()),
            None => x,
        };
        let qkv = self.qkv_dwconv.forward(pointwise(&self.qkv, x)); // [batch, 3C, height, width]
        let [_, _, height, width] = qkv.dims();
        let attended = match self.window {
            Some(window) if window < height.max(width) => self.local_attention(qkv, window),
            _ => self.attention(qkv),
        };
        pointwise(&self.project_out, attended)
    }

    /// [`attention`](Self::attention) of each window, and where they overlap their mean (Chu et al., ECCV 2022).
    ///
    /// # Shapes
    /// As [`attention`](Self::attention).
    fn local_attention(&self, qkv: Tensor<B, 4>, window: usize) -> Tensor<B, 4> {
        let [batch, channels, height, width] = qkv.dims();
        let (device, format) = (qkv.device(), qkv.dtype());
        let [rows, columns] = [height, width].map(|size| Windows::new(size, window));
        let (down, across) = (rows.starts.len(), columns.starts.len());
        let pixels = |windows: &Windows| {
            let pixels: Vec<i64> = windows.pixels().map(|pixel| pixel as i64).collect();
            let count = pixels.len();
            Tensor::<B, 1, Int>::from_data(TensorData::new(pixels, [count]), &device)
        };
        let [row_pixels, column_pixels] = [&rows, &columns].map(pixels);

        let windows = qkv
            .select(2, row_pixels.clone())
            .select(3, column_pixels.clone())
            .reshape([batch, channels, down, rows.length, across, columns.length])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * down * across, channels, rows.length, columns.length]);
        let channels = channels / 3;
        let attended = self
            .attention(windows)
            .reshape([batch, down, across, channels, rows.length, columns.length])
            .permute([0, 3, 1, 4, 2, 5])
            .reshape([batch, channels, down * rows.length, across * columns.length]);
        let zeros = |shape: [usize; 4]| {
            Tensor::<B, 4>::zeros(shape, &device).cast(FloatDType::from(format))
        };
        let sum = zeros([batch, channels, height, across * columns.length]).select_assign(
            2,
            row_pixels,
            attended,
            IndexingUpdateOp::Add,
        );
        let sum = zeros([batch, channels, height, width]).select_assign(
            3,
            column_pixels,
            sum,
            IndexingUpdateOp::Add,
        );
        let shares = |windows: &Windows, size: usize| {
            let cover = windows.cover(size);
            let shares: Vec<f32> = cover.into_iter().map(|count| 1.0 / count as f32).collect();
            in_format(
                Tensor::<B, 1>::from_data(TensorData::new(shares, [size]), &device),
                format,
            )
        };
        let down = shares(&rows, height).reshape([1, 1, height, 1]);
        let across = shares(&columns, width).reshape([1, 1, 1, width]);
        sum * down * across
    }

    /// `softmax(q kᵀ · temperature) · v` of each head, between channels: q and k are normalised over the pixels.
    ///
    /// # Shapes
    /// - qkv: `[batch, 3C, height, width]`
    /// - output: `[batch, C, height, width]`
    fn attention(&self, qkv: Tensor<B, 4>) -> Tensor<B, 4> {
        let temperature = self.temperature.val();
        let [batch, channels, height, width] = qkv.dims();
        let (channels, heads) = (channels / 3, temperature.dims()[0]);
        let qkv = qkv.reshape([batch, 3 * heads, channels / heads, height * width]);
        let part = |index| qkv.clone().narrow(1, index * heads, heads);
        let (q, k, v) = (part(0), part(1), part(2)); // [batch, heads, C/heads, pixels] each

        // Sums over all pixels overflow half precision.
        let (q, k) = (single(q), single(k));
        // Dividing the small matrix by both norms is the same as dividing q and k, and leaves the large ones alone.
        let norms = |x: &Tensor<B, 4>| {
            let norms = x.clone().square().sum_dim(3).sqrt();
            norms.clamp_min(LEAST_NORM) // [batch, heads, C/heads, 1]
        };
        let norms = norms(&q).matmul(norms(&k).transpose());
        let logits = q.matmul(k.transpose()) / norms;
        let attention = softmax(logits * single(temperature).unsqueeze(), 3);
        in_format(attention, v.dtype())
            .matmul(v)
            .reshape([batch, channels, height, width])
    }

    /// `x + MDTA(LN(x))`
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_residual(
        &self,
        x: Tensor<B, 4>,
        norm: &LayerNorm<B>,
        z3: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 4> {
        let weights = BranchWeights {
            norm: norm.weights(modulation(&self.modulation, z3)),
            expand: self.qkv.weights(),
            depthwise: self.qkv_dwconv.weights(),
            project: self.project_out.weights(),
        };
        let x = match kernels::mdta(x, self.temperature.val(), weights, self.window) {
            Ok(output) => return output,
            Err(x) => x,
        };
        x.clone() + self.forward(norm.forward_image(x), z3)
    }

    /// Multiply-accumulates for one image of `pixels` pixels at this level.
    pub fn macs(&self, pixels: u64) -> u64 {
        let channels = self.project_out.weight.dims()[0] as u64;
        let heads = self.temperature.dims()[0] as u64;
        let attention = 2 * channels * channels / heads * pixels;
        macs::conv(&self.qkv, pixels)
            + macs::depthwise(&self.qkv_dwconv, pixels)
            + attention
            + macs::conv(&self.project_out, pixels)
            + self.modulation.as_ref().map_or(0, Modulation::macs)
    }
}
