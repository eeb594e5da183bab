//! The prior: the condition encoder LE_DM, the denoising network, and the reverse chain with every step written out.
//!
//! Behind the encoder's convolutions all is in single precision: it is little work, and the chain multiplies rounding by up to
//! `√(1/ᾱ_T)`, 174 for the published GoPro model.

use super::graph::{Attribute, Graph, Value};
use super::layers::{conv, gelu, leaky_relu, linear, mixer, pixel_unshuffle};
use crate::config::{Config, DenoiserConfig, LatentEncoderVariant, SamplerKind};
use crate::diffusion::{Sampler, Schedule};
use crate::error::Result;

/// The encoder's squares of pixels, see `model::latent_encoder`.
const UNSHUFFLE: usize = 4;
/// See `model::denoiser`.
const MLP_MAX_PERIOD: f64 = 50.0;

/// The noise that the chain takes.
pub(super) struct ChainNoise<'a> {
    /// `[batch, tokens, channels]`
    pub start: &'a Value,
    /// `[batch, T − 1, tokens, channels]`, for t = T to 2, where the sampler adds noise.
    pub steps: Option<&'a Value>,
}

/// The condition `c`, `[batch, tokens, channels]`, of a blurry image `[batch, 3, height, width]`. `size` is that of the
/// image where it is known.
pub(super) fn condition(
    g: &mut Graph,
    config: &Config,
    blur: &Value,
    size: Option<[usize; 2]>,
) -> Result<Value> {
    let encoder = &config.model.latent_encoder;
    let activate = |g: &mut Graph, x: &Value| match encoder.variant {
        LatentEncoderVariant::Gelu => gelu(g, x),
        LatentEncoderVariant::Lrelu => leaky_relu(g, x, 0.1),
    };
    g.enter("condition_encoder");
    let image = g.computed(blur);
    let image = pixel_unshuffle(g, &image, 3, UNSHUFFLE);
    let x = conv(g, &image, "net_le_dm.conv1.0", 1)?;
    let mut x = activate(g, &x);
    for index in 0..encoder.blocks {
        let block = format!("net_le_dm.blocks.{index}");
        let inner = conv(g, &x, &format!("{block}.0"), 1)?;
        let inner = activate(g, &inner);
        let inner = conv(g, &inner, &format!("{block}.2"), 1)?;
        x = g.add(&x, &inner);
    }
    match encoder.variant {
        LatentEncoderVariant::Gelu => x = conv(g, &x, "net_le_dm.conv2", 1)?,
        LatentEncoderVariant::Lrelu => {
            for index in [0, 2, 4] {
                let output = conv(g, &x, &format!("net_le_dm.conv2.{index}"), 1)?;
                x = activate(g, &output);
            }
        }
    }
    let x = g.single(&x);
    g.compute_in_single();
    let pooled = average_cells(
        g,
        &x,
        config.model.group,
        size.map(|s| s.map(|n| n / UNSHUFFLE)),
    );
    let tokens = g.reshape(&pooled, &[0, 0, -1]);
    let tokens = g.transpose(&tokens, &[0, 2, 1]);
    let tokens = mixer(g, &tokens, "net_le_dm.mlp")?;
    let output = linear(g, &tokens, "net_le_dm.end.0")?;
    Ok(activate(g, &output))
}

/// The mean of each of `count × count` cells, as two matrix products; see `model::latent_encoder`.
fn average_cells(g: &mut Graph, x: &Value, count: usize, size: Option<[usize; 2]>) -> Value {
    let rows = means(g, x, count, 2, size.map(|[height, _]| height));
    let columns = means(g, x, count, 3, size.map(|[_, width]| width));
    let columns = g.transpose(&columns, &[0, 1, 3, 2]);
    let means = g.matmul(&rows, x);
    g.matmul(&means, &columns)
}

/// The weights of each pixel along an axis in the mean of each cell, `[1, 1, count, pixels]`: cell `i` of a side of n
/// pixels goes from `⌊i · n / count⌋` to `⌈(i + 1) · n / count⌉`.
fn means(g: &mut Graph, x: &Value, count: usize, axis: i64, pixels: Option<usize>) -> Value {
    if let Some(pixels) = pixels {
        let cell = |i: usize| i * pixels / count..((i + 1) * pixels).div_ceil(count);
        let weight = |i: usize, at: usize| match cell(i) {
            cell if cell.contains(&at) => 1.0 / cell.len() as f32,
            _ => 0.0,
        };
        let weights: Vec<f32> = (0..count)
            .flat_map(|i| (0..pixels).map(move |at| weight(i, at)))
            .collect();
        return g.singles(&[1, 1, count, pixels], &weights);
    }
    let count = count as i64;
    let (zero, one) = (g.shaped_ints(&[], &[0]), g.shaped_ints(&[], &[1]));
    let (along, divisor, less_one) = (
        g.shaped_ints(&[], &[axis]),
        g.shaped_ints(&[], &[count]),
        g.shaped_ints(&[], &[count - 1]),
    );
    let column = [1, 1, count, 1];
    let firsts = g.shaped_ints(&column, &Vec::from_iter(0..count));
    let nexts = g.shaped_ints(&column, &Vec::from_iter(1..=count));

    let shape = g.op("Shape", &[x], &[]);
    let pixels = g.op("Gather", &[&shape, &along], &[Attribute::Int("axis", 0)]);
    let positions = g.op("Range", &[&zero, &pixels, &one], &[]);
    let starts = g.mul(&firsts, &pixels);
    let starts = g.div(&starts, &divisor);
    let ends = g.mul(&nexts, &pixels);
    let ends = g.add(&ends, &less_one);
    let ends = g.div(&ends, &divisor);
    let behind = g.op("GreaterOrEqual", &[&positions, &starts], &[]);
    let before = g.op("Less", &[&positions, &ends], &[]);
    let inside = g.op("And", &[&behind, &before], &[]);
    let inside = g.number(&inside);
    let lengths = g.sub(&ends, &starts);
    let lengths = g.number(&lengths);
    g.div(&inside, &lengths)
}

/// The prior ẑ that the reverse chain makes of a condition, `[batch, tokens, channels]`. See `diffusion::Sampler`.
pub(super) fn reverse_chain(
    g: &mut Graph,
    config: &Config,
    condition: &Value,
    noise: ChainNoise,
) -> Result<Value> {
    g.compute_in_single();
    let sampler = Sampler::new(&config.diffusion);
    let schedule = sampler.schedule();
    let denoiser = Denoiser::new(g, config, condition)?;
    let steps = schedule.timesteps();
    let mut z = noise.start.clone();
    for t in (1..=steps).rev() {
        g.enter(&format!("reverse_chain/t{t}"));
        let prediction = denoiser.predict(g, &z, sampler.network_time(t))?;
        z = step(g, sampler.kind(), schedule, &z, &prediction, t);
        if let Some(noise) = noise.steps.filter(|_| t > 1) {
            let index = g.shaped_ints(&[], &[(steps - t) as i64]);
            let noise = g.op("Gather", &[noise, &index], &[Attribute::Int("axis", 1)]);
            let noise = g.scale(&noise, schedule.beta(t).sqrt());
            z = g.add(&z, &noise);
        }
    }
    Ok(z)
}

/// The mean of `z_{t−1}`.
fn step(
    g: &mut Graph,
    kind: SamplerKind,
    schedule: &Schedule,
    z: &Value,
    prediction: &Value,
    t: usize,
) -> Value {
    let alpha_cumprod = schedule.alpha_cumprod(t);
    let posterior_mean = |g: &mut Graph, z0: &Value| {
        let (of_z0, of_z) = schedule.posterior_coefficients(t);
        let (z0, z) = (g.scale(z0, of_z0), g.scale(z, of_z));
        g.add(&z0, &z)
    };
    match kind {
        SamplerKind::Eps => {
            let inverse = 1.0 / alpha_cumprod;
            let signal = g.scale(z, inverse.sqrt());
            let noise = g.scale(prediction, (inverse - 1.0).sqrt());
            let z0 = g.sub(&signal, &noise);
            let (least, most) = (g.scalar(-1.0), g.scalar(1.0));
            let z0 = g.op("Clip", &[&z0, &least, &most], &[]);
            posterior_mean(g, &z0)
        }
        SamplerKind::X0 => posterior_mean(g, prediction),
        SamplerKind::Ancestral => {
            let beta = schedule.beta(t);
            let noise = g.scale(prediction, beta / (1.0 - alpha_cumprod).sqrt());
            let rest = g.sub(z, &noise);
            let root = g.scalar((1.0 - beta).sqrt());
            g.div(&rest, &root)
        }
    }
}

/// The denoising network. Its first layer sees `z_t`, the time and the condition; the condition's part is the same at every
/// step, and the time's is a bias of the step.
struct Denoiser<'a> {
    config: &'a DenoiserConfig,
    /// Channels of the prior, C'.
    channels: usize,
    /// The part of the condition, `[batch, tokens, width]`.
    condition: Value,
    /// The part of `z_t`: weights `[C', width]`.
    of_z: Value,
}

impl<'a> Denoiser<'a> {
    fn new(g: &mut Graph, config: &'a Config, condition: &Value) -> Result<Self> {
        g.enter("denoiser");
        let channels = config.model.prior_channels();
        let config = &config.model.denoiser;
        let key = format!("{}.weight", Self::first(config));
        let (z, c) = match config {
            DenoiserConfig::Mixer { .. } => (0..channels, 2 * channels..3 * channels),
            DenoiserConfig::Mlp { .. } => (channels + 1..2 * channels + 1, 0..channels),
        };
        let of_z = g.columns(&key, "of_z", z)?;
        let of_condition = g.columns(&key, "of_condition", c)?;
        Ok(Self {
            config,
            channels,
            condition: g.matmul(condition, &of_condition),
            of_z,
        })
    }

    fn first(config: &DenoiserConfig) -> &'static str {
        match config {
            DenoiserConfig::Mixer { .. } => "net_d.first_layer.0",
            DenoiserConfig::Mlp { .. } => "net_d.resmlp.0",
        }
    }

    /// What the time adds to the first layer, with its bias: `[width]`.
    fn of_time(&self, g: &mut Graph, time: f64) -> Result<Value> {
        let first = Self::first(self.config);
        let weight = g.parameter(&format!("{first}.weight"))?;
        let bias = g.parameter(&format!("{first}.bias"))?;
        let (columns, time) = match self.config {
            DenoiserConfig::Mixer { .. } => {
                let scale = g.parameter("net_d.time_mlp")?.values.first().copied();
                let scale = f64::from(scale.unwrap_or_default());
                (self.channels..2 * self.channels, time * scale)
            }
            DenoiserConfig::Mlp { .. } => (self.channels..self.channels + 1, time / MLP_MAX_PERIOD),
        };
        let width = weight.shape.last().copied().unwrap_or(1).max(1);
        let rows = weight.values.chunks_exact(width).zip(&bias.values);
        let values: Vec<f32> = rows
            .map(|(row, &bias)| {
                let row = row.iter().skip(columns.start).take(columns.len());
                let sum: f64 = row.map(|&weight| f64::from(weight)).sum();
                (f64::from(bias) + sum * time) as f32
            })
            .collect();
        Ok(g.singles(&[values.len()], &values))
    }

    fn predict(&self, g: &mut Graph, z: &Value, time: f64) -> Result<Value> {
        let x = g.matmul(z, &self.of_z);
        let x = g.add(&x, &self.condition);
        let time = self.of_time(g, time)?;
        let x = g.add(&x, &time);
        match self.config {
            DenoiserConfig::Mixer { blocks, .. } => {
                let mut x = leaky_relu(g, &x, 0.2);
                for index in 0..*blocks {
                    x = mixer(g, &x, &format!("net_d.blocks.{index}.0"))?;
                    x = gelu(g, &x);
                }
                let x = linear(g, &x, "net_d.final_layer.0")?;
                Ok(gelu(g, &x))
            }
            DenoiserConfig::Mlp { layers } => {
                let mut x = leaky_relu(g, &x, 0.1);
                for index in 0..*layers {
                    let output = linear(g, &x, &format!("net_d.resmlp.{}.resmlp.0", index + 2))?;
                    x = leaky_relu(g, &output, 0.1);
                }
                Ok(x)
            }
        }
    }
}
