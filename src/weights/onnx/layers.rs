//! The layers that several networks have, in ONNX's operators.

use std::f64::consts::SQRT_2;

use super::graph::{Attribute, Graph, Value};
use crate::error::Result;
use crate::model::LayerNormConfig;

/// A convolution that keeps the size, with the weights `key`. Its kernel is 1×1 or 3×3, with zero padding; `groups` is
/// the number of channels where each has a kernel of its own, and 1 elsewhere.
pub(super) fn conv(g: &mut Graph, x: &Value, key: &str, groups: usize) -> Result<Value> {
    let name = format!("{key}.weight");
    let side = *g.parameter(&name)?.shape.last().unwrap_or(&1) as i64;
    let weight = g.weight(&name)?;
    conv_by(g, x, weight, key, side, groups)
}

/// A linear layer on the channels of an image.
pub(super) fn pointwise(g: &mut Graph, x: &Value, key: &str) -> Result<Value> {
    let name = format!("{key}.weight");
    let tensor = g.parameter(&name)?;
    let shape = [&tensor.shape[..], &[1, 1]].concat();
    let weight = g.stored_weight(&name, &shape, &tensor.values);
    conv_by(g, x, weight, key, 1, 1)
}

fn conv_by(
    g: &mut Graph,
    x: &Value,
    weight: Value,
    key: &str,
    side: i64,
    groups: usize,
) -> Result<Value> {
    let bias = bias(g, key)?;
    let inputs: Vec<&Value> = [x, &weight].into_iter().chain(&bias).collect();
    let attributes = [
        Attribute::Int("group", groups as i64),
        Attribute::Ints("kernel_shape", &[side; 2]),
        Attribute::Ints("pads", &[side / 2; 4]),
    ];
    Ok(g.op("Conv", &inputs, &attributes))
}

fn bias(g: &mut Graph, key: &str) -> Result<Option<Value>> {
    let name = format!("{key}.bias");
    match g.has(&name) {
        true => g.weight(&name).map(Some),
        false => Ok(None),
    }
}

/// A linear layer over the last dimension.
pub(super) fn linear(g: &mut Graph, x: &Value, key: &str) -> Result<Value> {
    let weight = g.transposed(&format!("{key}.weight"))?;
    let product = g.matmul(x, &weight);
    Ok(match bias(g, key)? {
        Some(bias) => g.add(&product, &bias),
        None => product,
    })
}

/// What is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Over {
    /// The channels of `[batch, channels, height, width]`.
    Image,
    /// The channels of `[batch, tokens, channels]`.
    Tokens,
}

/// The layer normalisation, in single precision: squares overflow half precision.
pub(super) fn norm(g: &mut Graph, x: &Value, key: &str, over: Over) -> Result<Value> {
    let name = format!("{key}.weight");
    let channels = g.parameter(&name)?.values.len();
    let (axis, shape) = match over {
        Over::Image => (1, vec![channels, 1, 1]),
        Over::Tokens => (2, vec![channels]),
    };
    let x = g.single(x);
    let mean = g.reduce("ReduceMean", &x, axis);
    let centered = g.sub(&x, &mean);
    let squares = g.mul(&centered, &centered);
    let variance = g.reduce("ReduceMean", &squares, axis);
    let epsilon = g.single_scalar(LayerNormConfig::new(channels).epsilon);
    let variance = g.add(&variance, &epsilon);
    let deviation = g.op("Sqrt", &[&variance], &[]);
    let weight = g.weight_in_single(&name, &shape)?;
    let bias = format!("{key}.bias");
    let output = match g.has(&bias) {
        true => {
            let bias = g.weight_in_single(&bias, &shape)?;
            let normalised = g.div(&centered, &deviation);
            let scaled = g.mul(&normalised, &weight);
            g.add(&scaled, &bias)
        }
        false => {
            let normalised = g.div(&x, &deviation);
            g.mul(&normalised, &weight)
        }
    };
    Ok(g.computed(&output))
}

/// The exact GELU, in the order of operations that ONNX Runtime recognises and does in one.
pub(super) fn gelu(g: &mut Graph, x: &Value) -> Value {
    let (root, one) = (g.scalar(SQRT_2), g.scalar(1.0));
    let quotient = g.div(x, &root);
    let erf = g.op("Erf", &[&quotient], &[]);
    let above = g.add(&erf, &one);
    let product = g.mul(x, &above);
    g.scale(&product, 0.5)
}

pub(super) fn leaky_relu(g: &mut Graph, x: &Value, slope: f32) -> Value {
    g.op("LeakyRelu", &[x], &[Attribute::Float("alpha", slope)])
}

/// Each square of `factor × factor` pixels of `channels` channels into channels, in PyTorch's order. ONNX has the
/// squares outside and the channels inside, so that they change places.
pub(super) fn pixel_unshuffle(g: &mut Graph, x: &Value, channels: usize, factor: usize) -> Value {
    let blocks = g.op(
        "SpaceToDepth",
        &[x],
        &[Attribute::Int("blocksize", factor as i64)],
    );
    let squares = factor * factor;
    let order: Vec<i64> = (0..channels * squares)
        .map(|to| (to % squares * channels + to / squares) as i64)
        .collect();
    let order = g.ints(&order);
    g.op("Gather", &[&blocks, &order], &[Attribute::Int("axis", 1)])
}

/// The inverse, whose order ONNX has as PyTorch does.
pub(super) fn pixel_shuffle(g: &mut Graph, x: &Value, factor: usize) -> Value {
    let attributes = [
        Attribute::Int("blocksize", factor as i64),
        Attribute::Text("mode", "CRD"),
    ];
    g.op("DepthToSpace", &[x], &attributes)
}

/// A mixer block over tokens.
pub(super) fn mixer(g: &mut Graph, x: &Value, key: &str) -> Result<Value> {
    let patches = norm(g, x, &format!("{key}.norm1"), Over::Tokens)?;
    let patches = g.transpose(&patches, &[0, 2, 1]);
    let patches = two_layers(g, &patches, &format!("{key}.patch_mixer"))?;
    let patches = g.transpose(&patches, &[0, 2, 1]);
    let x = g.add(x, &patches);
    let channels = norm(g, &x, &format!("{key}.norm2"), Over::Tokens)?;
    let channels = two_layers(g, &channels, &format!("{key}.channel_mixer"))?;
    Ok(g.add(&x, &channels))
}

fn two_layers(g: &mut Graph, x: &Value, key: &str) -> Result<Value> {
    let hidden = linear(g, x, &format!("{key}.0"))?;
    let hidden = gelu(g, &hidden);
    linear(g, &hidden, &format!("{key}.2"))
}
