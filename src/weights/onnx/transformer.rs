//! The Transformer, guided by the prior.

use super::attention;
use super::graph::{Graph, Value};
use super::layers::{Over, conv, gelu, linear, norm, pixel_shuffle, pixel_unshuffle, pointwise};
use super::{ImageShape, Sides};
use crate::config::{ModelConfig, Prior, TransformerConfig};
use crate::error::Result;
use crate::model::Attention;

/// A level of the Transformer's pyramid.
pub(super) struct Level {
    /// Of its images.
    pub shape: ImageShape,
    /// Heads of the attentions.
    pub heads: usize,
    /// Over which pixels MDTA takes its statistics, in this level's pixels.
    pub attention: Attention,
}

/// Tokens and the vector that guide a level.
#[derive(Clone, Copy, Default)]
struct Guide<'a> {
    /// `[batch, tokens, C']`, for a HIM.
    tokens: Option<&'a Value>,
    /// z₃, `[batch, C']`, for modulated blocks.
    z3: Option<&'a Value>,
}

/// What the Transformer adds to the image, `[batch, 3, height, width]`, of the image and the prior, both in single precision.
pub(super) fn transformer(
    g: &mut Graph,
    config: &ModelConfig,
    attention: Attention,
    blur: &Value,
    sides: &Sides,
    prior: Option<&Value>,
) -> Result<Value> {
    let &TransformerConfig {
        dim,
        blocks,
        refinement_blocks,
        heads,
        ..
    } = &config.transformer;
    g.compute_as_stored();
    g.enter("transformer");
    let image = g.computed(blur);
    let levels = [0, 1, 2, 3].map(|index| Level {
        shape: sides.image_shape(g, 1 << index),
        heads: heads[index],
        attention: attention.at_level(index),
    });
    let [level1, level2, level3, level4] = &levels;
    let z = prior.map(|prior| g.computed(prior));
    let (z1, z2, z3) = match (config.prior, z) {
        (Prior::MultiScale, Some(z1)) => {
            let (z2, z3) = multi_scale(g, &z1)?;
            (Some(z1), Some(z2), Some(z3))
        }
        (_, z) => (z.clone(), z, None),
    };
    let fine = Guide {
        tokens: z1.as_ref(),
        z3: None,
    };
    let coarse = Guide {
        tokens: z2.as_ref(),
        z3: None,
    };
    let latent = Guide {
        // Without the scales it is guided as the others are.
        tokens: z2.as_ref().filter(|_| config.prior != Prior::MultiScale),
        z3: z3.as_ref(),
    };

    let x = conv(g, &image, "net_g.patch_embed.proj", 1)?;
    let skip1 = part(g, &x, "encoder_level1", blocks[0], level1, fine)?;
    let x = down(g, &skip1, "down1_2", dim)?;
    let skip2 = part(g, &x, "encoder_level2", blocks[1], level2, coarse)?;
    let x = down(g, &skip2, "down2_3", 2 * dim)?;
    let skip3 = part(g, &x, "encoder_level3", blocks[2], level3, coarse)?;
    let x = down(g, &skip3, "down3_4", 4 * dim)?;
    let x = part(g, &x, "latent", blocks[3], level4, latent)?;
    let x = up(g, &x, "up4_3", &skip3)?;
    let x = conv(g, &x, "net_g.reduce_chan_level3", 1)?;
    let x = part(g, &x, "decoder_level3", blocks[2], level3, coarse)?;
    let x = up(g, &x, "up3_2", &skip2)?;
    let x = conv(g, &x, "net_g.reduce_chan_level2", 1)?;
    let x = part(g, &x, "decoder_level2", blocks[1], level2, coarse)?;
    let x = up(g, &x, "up2_1", &skip1)?;
    let x = part(g, &x, "decoder_level1", blocks[0], level1, fine)?;
    let x = part(g, &x, "refinement", refinement_blocks, level1, fine)?;
    g.enter("output");
    let x = conv(g, &x, "net_g.output", 1)?;
    Ok(g.single(&x))
}

/// `z₂`, `[batch, N/4, C']`, and `z₃`, `[batch, C']`, of `z₁`.
fn multi_scale(g: &mut Graph, z1: &Value) -> Result<(Value, Value)> {
    g.enter("multi_scale");
    let coarser = |g: &mut Graph, z: &Value, key: &str| {
        let z = g.transpose(z, &[0, 2, 1]);
        let z = linear(g, &z, &format!("{key}.1"))?;
        let z = g.transpose(&z, &[0, 2, 1]);
        linear(g, &z, &format!("{key}.3"))
    };
    let z2 = coarser(g, z1, "net_g.down_1")?;
    let z3 = coarser(g, &z2, "net_g.down_2")?;
    Ok((z2, g.reshape(&z3, &[0, -1])))
}

/// A level of the encoder or decoder, the latent level, or the refinement.
fn part(
    g: &mut Graph,
    x: &Value,
    name: &str,
    blocks: usize,
    level: &Level,
    guide: Guide,
) -> Result<Value> {
    let mut x = match guide.tokens {
        Some(tokens) => {
            g.enter(&format!("{name}/him"));
            him(g, x, tokens, &format!("net_g.{name}.him"), level)?
        }
        None => x.clone(),
    };
    for index in 0..blocks {
        let key = format!("net_g.{name}.blocks.{index}");
        g.enter(&format!("{name}/blocks.{index}/attn"));
        let normalised = norm(g, &x, &format!("{key}.norm1.body"), Over::Image)?;
        let branch = mdta(g, &normalised, &format!("{key}.attn"), level, guide.z3)?;
        x = g.add(&x, &branch);
        g.enter(&format!("{name}/blocks.{index}/ffn"));
        let normalised = norm(g, &x, &format!("{key}.norm2.body"), Over::Image)?;
        let branch = gdfn(g, &normalised, &format!("{key}.ffn"), guide.z3)?;
        x = g.add(&x, &branch);
    }
    Ok(x)
}

fn modulated(g: &mut Graph, x: &Value, key: &str, z3: Option<&Value>) -> Result<Value> {
    let Some(z3) = z3 else {
        return Ok(x.clone());
    };
    let per_channel = |g: &mut Graph, layer: &str| -> Result<Value> {
        let values = linear(g, z3, &format!("{key}.{layer}"))?;
        Ok(g.reshape(&values, &[0, -1, 1, 1]))
    };
    let (scale, shift) = (per_channel(g, "ln1")?, per_channel(g, "ln2")?);
    let scaled = g.mul(x, &scale);
    Ok(g.add(&scaled, &shift))
}

fn mdta(g: &mut Graph, x: &Value, key: &str, level: &Level, z3: Option<&Value>) -> Result<Value> {
    let x = modulated(g, x, key, z3)?;
    let qkv = conv(g, &x, &format!("{key}.qkv"), 1)?;
    let qkv = depthwise(g, &qkv, &format!("{key}.qkv_dwconv"))?;
    let attended = attention::attention(g, &qkv, key, level)?;
    conv(g, &attended, &format!("{key}.project_out"), 1)
}

fn gdfn(g: &mut Graph, x: &Value, key: &str, z3: Option<&Value>) -> Result<Value> {
    let x = modulated(g, x, key, z3)?;
    let hidden = conv(g, &x, &format!("{key}.project_in"), 1)?;
    let hidden = depthwise(g, &hidden, &format!("{key}.dwconv"))?;
    let [a, b] = g.split(&hidden, 1);
    let gate = gelu(g, &a);
    let gated = g.mul(&gate, &b);
    conv(g, &gated, &format!("{key}.project_out"), 1)
}

fn depthwise(g: &mut Graph, x: &Value, key: &str) -> Result<Value> {
    let channels = g.outputs(key)?;
    conv(g, x, key, channels)
}

/// Cross-attention: pixels ask, tokens answer. Pixels stay along the last axis, which is the same without transposing the image.
fn him(g: &mut Graph, x: &Value, tokens: &Value, key: &str, level: &Level) -> Result<Value> {
    let heads = level.heads as i64;
    let per_head = (g.outputs(&format!("{key}.proj"))? / level.heads) as i64;

    let tokens = norm(g, tokens, &format!("{key}.norm2.body"), Over::Tokens)?;
    let kv = linear(g, &tokens, &format!("{key}.kv"))?;
    let [keys, values] = g.split(&kv, 2);
    let keys = g.reshape(&keys, &[0, 0, heads, per_head]);
    let keys = g.transpose(&keys, &[0, 2, 1, 3]); // [batch, heads, tokens, C/heads]
    let keys = g.scale(&keys, (per_head as f64).sqrt().recip());
    let values = g.reshape(&values, &[0, 0, heads, per_head]);
    let values = g.transpose(&values, &[0, 2, 3, 1]); // [batch, heads, C/heads, tokens]

    let queries = norm(g, x, &format!("{key}.norm1.body"), Over::Image)?;
    let queries = pointwise(g, &queries, &format!("{key}.q"))?;
    let queries = g.reshape(&queries, &[0, heads, per_head, -1]); // [batch, heads, C/heads, pixels]
    let logits = g.matmul(&keys, &queries);
    let attention = g.softmax(&logits, 2);
    let attended = g.matmul(&values, &attention);
    let shape = level.shape.value(g);
    let attended = g.reshape_to(&attended, &shape);
    let output = pointwise(g, &attended, &format!("{key}.proj"))?;
    Ok(g.add(x, &output))
}

/// From `channels` to twice as many at half the size.
fn down(g: &mut Graph, x: &Value, name: &str, channels: usize) -> Result<Value> {
    g.enter(name);
    let x = conv(g, x, &format!("net_g.{name}.body.0"), 1)?;
    Ok(pixel_unshuffle(g, &x, channels / 2, 2))
}

/// To half as many channels at twice the size, with those of the skip connection behind them.
fn up(g: &mut Graph, x: &Value, name: &str, skip: &Value) -> Result<Value> {
    g.enter(name);
    let x = conv(g, x, &format!("net_g.{name}.body.0"), 1)?;
    let x = pixel_shuffle(g, &x, 2);
    Ok(g.concat(&[&x, skip], 1))
}
