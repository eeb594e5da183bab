//! The image-to-image Transformer, guided by the prior (paper, Fig. 1a and 1c; Restormer).

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::prelude::{Backend, Device, Tensor};

use super::block::{TransformerBlock, TransformerBlockConfig};
use super::hi_diff::Prior;
use super::him::{Him, HimConfig};
use super::layer::pointwise;
use super::layer_norm::NormKind;
use super::macs;
use super::multi_scale::{MultiScalePrior, MultiScalePriorConfig};
use super::resample::{Downsample, DownsampleConfig, Upsample, UpsampleConfig, conv3x3, convolve};
use crate::checks::{Check, MOST_BLOCKS, MOST_CHANNELS};
use crate::error::Result;
use crate::kernels::formulas::in_format;
use serde::{Deserialize, Serialize};

/// Height and width of the input are multiples of this.
pub const SIZE_MULTIPLE: usize = 8;

/// The Transformer (paper, section 3.1 and Fig. 1a).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerConfig {
    /// Channels at level 1; each level below has twice as many.
    pub dim: usize,
    /// Blocks at levels 1 to 4; the decoder has as many as the encoder.
    pub blocks: [usize; 4],
    /// Blocks after the last decoder level.
    pub refinement_blocks: usize,
    /// Attention heads at levels 1 to 4.
    pub heads: [usize; 4],
    /// GDFN's hidden channels are `floor(C · expansion)`.
    pub expansion: f64,
    /// Whether the convolutions, and HIM's query and key-value maps, have a bias.
    pub bias: bool,
    /// The layer normalisation.
    pub norm: NormKind,
    /// Pixels a side of the windows of [`Attention::Local`] that suit the weights; none for the whole image's statistics. Patches
    /// that are no larger are trained on as without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            dim: 48,
            blocks: [3, 5, 6, 6],
            refinement_blocks: 4,
            heads: [1, 2, 4, 8],
            expansion: 2.66,
            bias: false,
            norm: NormKind::WithBias,
            window: None,
        }
    }
}

impl TransformerConfig {
    pub(crate) fn validate(&self, check: &Check) -> Result<()> {
        check.size("model.transformer.dim", self.dim, 2, MOST_CHANNELS)?;
        check.that(
            self.dim.is_multiple_of(2),
            "model.transformer.dim",
            self.dim,
            "an even number, since each resampling halves or doubles it",
        )?;
        for (level, &blocks) in self.blocks.iter().enumerate() {
            check.size(
                &format!("model.transformer.blocks[{level}]"),
                blocks,
                0,
                MOST_BLOCKS,
            )?;
        }
        check.size(
            "model.transformer.refinement_blocks",
            self.refinement_blocks,
            0,
            MOST_BLOCKS,
        )?;
        for (level, &heads) in self.heads.iter().enumerate() {
            let key = format!("model.transformer.heads[{level}]");
            let channels = self.dim << level;
            check.that(
                heads > 0 && channels.is_multiple_of(heads),
                &key,
                heads,
                &format!("a divisor of the level's {channels} channels"),
            )?;
        }
        if let Some(window) = self.window {
            check.size("model.transformer.window", window, SIZE_MULTIPLE, 65_536)?;
        }
        check.number("model.transformer.expansion", self.expansion, 0.0, 64.0)?;
        check.that(
            self.dim as f64 * self.expansion >= 1.0,
            "model.transformer.expansion",
            self.expansion,
            "at least one hidden channel",
        )
    }
}

/// Over which pixels MDTA's statistics are taken at test time. It was trained on patches, and on a photograph meets
/// statistics of an area that it never saw: windows of about the patch's size give it what it knows (Chu et al., "Improving
/// Image Restoration by Revisiting Global Information Aggregation", ECCV 2022).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Attention {
    /// Those of the whole image, as in training.
    #[default]
    Global,
    /// Those of windows of so many pixels a side at level 1, half as many at level 2, and so on.
    Local(usize),
}

impl Attention {
    /// At a level, counted from 0.
    pub(crate) fn at_level(self, index: usize) -> Self {
        match self {
            Self::Global => Self::Global,
            Self::Local(pixels) => Self::Local((pixels >> index).max(1)),
        }
    }
}

/// What guides a Transformer.
#[derive(Debug, Clone, Copy)]
pub struct Guidance {
    /// How the prior reaches it.
    pub prior: Prior,
    /// Tokens of the prior, N.
    pub tokens: usize,
    /// Channels of the prior, C'.
    pub channels: usize,
}

/// One level of the encoder or decoder, the latent level, or the refinement: a HIM, then blocks.
#[derive(Module, Debug)]
pub struct Level<B: Backend> {
    /// None where the level is not guided by cross-attention.
    pub him: Option<Him<B>>,
    /// In order.
    pub blocks: Vec<TransformerBlock<B>>,
}

/// The Transformer. Channels at levels 1 to 4 are C, 2C, 4C and 8C; decoder level 1 and refinement have 2C.
#[derive(Module, Debug)]
pub struct Transformer<B: Backend> {
    /// 3×3, 3 → C.
    pub patch_embed: Conv2d<B>,
    /// `z₂` and `z₃`, with the multi-scale prior.
    pub multi_scale: Option<MultiScalePrior<B>>,
    /// At C.
    pub encoder_level1: Level<B>,
    /// C → 2C.
    pub down1_2: Downsample<B>,
    /// At 2C.
    pub encoder_level2: Level<B>,
    /// 2C → 4C.
    pub down2_3: Downsample<B>,
    /// At 4C.
    pub encoder_level3: Level<B>,
    /// 4C → 8C.
    pub down3_4: Downsample<B>,
    /// At 8C.
    pub latent: Level<B>,
    /// 8C → 4C.
    pub up4_3: Upsample<B>,
    /// 1×1, 8C → 4C.
    pub reduce_chan_level3: Conv2d<B>,
    /// At 4C.
    pub decoder_level3: Level<B>,
    /// 4C → 2C.
    pub up3_2: Upsample<B>,
    /// 1×1, 4C → 2C.
    pub reduce_chan_level2: Conv2d<B>,
    /// At 2C.
    pub decoder_level2: Level<B>,
    /// 2C → C.
    pub up2_1: Upsample<B>,
    /// At 2C.
    pub decoder_level1: Level<B>,
    /// At 2C.
    pub refinement: Level<B>,
    /// 3×3, 2C → 3.
    pub output: Conv2d<B>,
}

impl TransformerConfig {
    /// What suits the weights, with which a Transformer is made.
    pub fn attention(&self) -> Attention {
        self.window.map_or(Attention::Global, Attention::Local)
    }

    /// Builds the module on `device`.
    pub fn init<B: Backend>(&self, guidance: Guidance, device: &Device<B>) -> Transformer<B> {
        let &Self {
            dim,
            blocks,
            refinement_blocks,
            heads,
            bias,
            ..
        } = self;
        let level = |channels, level: usize, blocks| {
            let latent = level == 3;
            self.level(channels, heads[level], blocks, latent, guidance, device)
        };
        let reduce = |channels: usize| {
            Conv2dConfig::new([channels, channels / 2], [1, 1])
                .with_bias(bias)
                .init(device)
        };
        let down = |channels| DownsampleConfig::new(channels).init(device);
        let up = |channels| UpsampleConfig::new(channels).init(device);
        let multi_scale = MultiScalePriorConfig::new(guidance.tokens, guidance.channels);
        Transformer {
            patch_embed: conv3x3(3, dim, false, device),
            multi_scale: (guidance.prior == Prior::MultiScale).then(|| multi_scale.init(device)),
            encoder_level1: level(dim, 0, blocks[0]),
            down1_2: down(dim),
            encoder_level2: level(2 * dim, 1, blocks[1]),
            down2_3: down(2 * dim),
            encoder_level3: level(4 * dim, 2, blocks[2]),
            down3_4: down(4 * dim),
            latent: level(8 * dim, 3, blocks[3]),
            up4_3: up(8 * dim),
            reduce_chan_level3: reduce(8 * dim),
            decoder_level3: level(4 * dim, 2, blocks[2]),
            up3_2: up(4 * dim),
            reduce_chan_level2: reduce(4 * dim),
            decoder_level2: level(2 * dim, 1, blocks[1]),
            up2_1: up(2 * dim),
            decoder_level1: level(2 * dim, 0, blocks[0]),
            refinement: level(2 * dim, 0, refinement_blocks),
            output: conv3x3(2 * dim, 3, bias, device),
        }
        .with_attention(self.attention())
    }

    fn level<B: Backend>(
        &self,
        channels: usize,
        heads: usize,
        blocks: usize,
        latent: bool,
        guidance: Guidance,
        device: &Device<B>,
    ) -> Level<B> {
        let &Self {
            expansion,
            bias,
            norm,
            ..
        } = self;
        let (attends, modulated) = match guidance.prior {
            Prior::MultiScale => (!latent, latent),
            Prior::SingleScale => (true, false),
            Prior::None => (false, false),
        };
        let him = || {
            HimConfig::new(channels, guidance.channels, heads)
                .with_bias(bias)
                .with_norm(norm)
                .init(device)
        };
        let block = TransformerBlockConfig::new(channels, heads, expansion)
            .with_bias(bias)
            .with_norm(norm)
            .with_modulation(modulated.then_some(guidance.channels));
        Level {
            him: attends.then(him),
            blocks: (0..blocks).map(|_| block.init(device)).collect(),
        }
    }
}

impl<B: Backend> Level<B> {
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    /// - tokens: `[batch, tokens, C']`, for the HIM
    /// - z3: `[batch, C']`, for modulated blocks
    ///
    /// # Panics
    /// If the level is guided and is given no prior.
    pub fn forward(
        &self,
        x: Tensor<B, 4>,
        tokens: Option<&Tensor<B, 3>>,
        z3: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 4> {
        let x = match &self.him {
            Some(him) => {
                let tokens =
                    tokens.expect("tokens: this level is guided by a prior, and wants one");
                him.forward(x, tokens.clone())
            }
            None => x,
        };
        self.blocks.iter().fold(x, |x, block| block.forward(x, z3))
    }

    fn macs(&self, pixels: u64, tokens: u64) -> u64 {
        let him = self.him.as_ref().map_or(0, |him| him.macs(pixels, tokens));
        him + self
            .blocks
            .iter()
            .map(|block| block.macs(pixels))
            .sum::<u64>()
    }
}

impl<B: Backend> Transformer<B> {
    /// Restores `blur`, guided by the prior `z`. Computes in the format of the weights, and returns that of `blur`.
    ///
    /// # Shapes
    /// - blur and output: `[batch, 3, height, width]`, height and width multiples of [`SIZE_MULTIPLE`]
    /// - z: `[batch, N, C']`; not looked at if the configuration says `prior = "none"`
    ///
    /// # Panics
    /// If the model has a prior and is given none. [`HiDiff`](crate::HiDiff) returns an error instead.
    pub fn forward(&self, blur: Tensor<B, 4>, z: Option<Tensor<B, 3>>) -> Tensor<B, 4> {
        let format = self.patch_embed.weight.dtype();
        let image = in_format(blur.clone(), format);
        let z = z.map(|z| in_format(z, format));
        // z₁ guides level 1 and the refinement, z₂ levels 2 and 3, z₃ level 4; a single scale guides them all.
        let (z1, z2, z3) = match (&self.multi_scale, z) {
            (Some(multi_scale), Some(z1)) => {
                let (z2, z3) = multi_scale.forward(z1.clone());
                (Some(z1), Some(z2), Some(z3))
            }
            (None, z) => (z.clone(), z, None),
            (Some(_), None) => (None, None, None),
        };
        let (z1, z2, z3) = (z1.as_ref(), z2.as_ref(), z3.as_ref());

        let level1 = self
            .encoder_level1
            .forward(convolve(&self.patch_embed, image), z1, None);
        let level2 = self
            .encoder_level2
            .forward(self.down1_2.forward(level1.clone()), z2, None);
        let level3 = self
            .encoder_level3
            .forward(self.down2_3.forward(level2.clone()), z2, None);
        let latent = self
            .latent
            .forward(self.down3_4.forward(level3.clone()), z2, z3);

        let x = pointwise(
            &self.reduce_chan_level3,
            self.up4_3.forward_with_skip(latent, level3),
        );
        let x = self.decoder_level3.forward(x, z2, None);
        let x = pointwise(
            &self.reduce_chan_level2,
            self.up3_2.forward_with_skip(x, level2),
        );
        let x = self.decoder_level2.forward(x, z2, None);
        let x = self.up2_1.forward_with_skip(x, level1);
        let x = self.decoder_level1.forward(x, z1, None);
        let x = self.refinement.forward(x, z1, None);
        in_format(convolve(&self.output, x), blur.dtype()) + blur
    }

    /// Over which pixels MDTA's statistics are taken.
    pub fn attention(&self) -> Attention {
        let levels = [
            &self.encoder_level1,
            &self.encoder_level2,
            &self.encoder_level3,
            &self.latent,
        ];
        // A level may have no blocks.
        let first = levels.into_iter().enumerate().find_map(|(index, level)| {
            let block = level.blocks.first()?;
            Some(block.attn.window.map(|pixels| pixels << index))
        });
        first.flatten().map_or(Attention::Global, Attention::Local)
    }

    /// The same with MDTA's statistics over other pixels.
    pub fn with_attention(mut self, attention: Attention) -> Self {
        for (level, part) in [
            (0, &mut self.encoder_level1),
            (1, &mut self.encoder_level2),
            (2, &mut self.encoder_level3),
            (3, &mut self.latent),
            (2, &mut self.decoder_level3),
            (1, &mut self.decoder_level2),
            (0, &mut self.decoder_level1),
            (0, &mut self.refinement),
        ] {
            let window = match attention.at_level(level) {
                Attention::Global => None,
                Attention::Local(pixels) => Some(pixels),
            };
            for block in &mut part.blocks {
                block.attn.window = window;
            }
        }
        self
    }

    /// The Transformer with guidance that has no effect at first, where `chosen` says so of the published name of a HIM
    /// or of a modulation's layers, such as `decoder_level2.him.` and `latent.blocks.0.attn.ln`; and of how many.
    pub fn guidance_without_effect(mut self, chosen: impl Fn(&str) -> bool) -> (Self, usize) {
        let mut count = 0;
        let mut decide = |name: &str| {
            let chosen = chosen(name);
            count += usize::from(chosen);
            chosen
        };
        for (level, part) in [
            ("encoder_level1", &mut self.encoder_level1),
            ("encoder_level2", &mut self.encoder_level2),
            ("encoder_level3", &mut self.encoder_level3),
            ("latent", &mut self.latent),
            ("decoder_level3", &mut self.decoder_level3),
            ("decoder_level2", &mut self.decoder_level2),
            ("decoder_level1", &mut self.decoder_level1),
            ("refinement", &mut self.refinement),
        ] {
            part.him = part
                .him
                .take()
                .map(|him| match decide(&format!("{level}.him.")) {
                    true => him.without_effect(),
                    false => him,
                });
            for (index, block) in part.blocks.iter_mut().enumerate() {
                for (half, modulation) in [
                    ("attn", &mut block.attn.modulation),
                    ("ffn", &mut block.ffn.modulation),
                ] {
                    let name = format!("{level}.blocks.{index}.{half}.ln");
                    *modulation = modulation.take().map(|modulation| match decide(&name) {
                        true => modulation.without_effect(),
                        false => modulation,
                    });
                }
            }
        }
        (self, count)
    }

    /// Multiply-accumulates for one image of `pixels` pixels and a prior of `tokens` tokens.
    pub fn macs(&self, pixels: u64, tokens: u64) -> u64 {
        let [p1, p2, p3, p4] = [pixels, pixels / 4, pixels / 16, pixels / 64];
        let coarse = if self.multi_scale.is_some() {
            tokens / 4
        } else {
            tokens
        };
        self.multi_scale.as_ref().map_or(0, MultiScalePrior::macs)
            + macs::conv(&self.patch_embed, p1)
            + self.encoder_level1.macs(p1, tokens)
            + self.down1_2.macs(p1)
            + self.encoder_level2.macs(p2, coarse)
            + self.down2_3.macs(p2)
            + self.encoder_level3.macs(p3, coarse)
            + self.down3_4.macs(p3)
            + self.latent.macs(p4, coarse)
            + self.up4_3.macs(p4)
            + macs::conv(&self.reduce_chan_level3, p3)
            + self.decoder_level3.macs(p3, coarse)
            + self.up3_2.macs(p3)
            + macs::conv(&self.reduce_chan_level2, p2)
            + self.decoder_level2.macs(p2, coarse)
            + self.up2_1.macs(p2)
            + self.decoder_level1.macs(p1, tokens)
            + self.refinement.macs(p1, tokens)
            + macs::conv(&self.output, p1)
    }
}
