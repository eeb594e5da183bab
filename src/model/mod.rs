//! The networks, one file per part of the paper's Fig. 1. Every module is generic over
//! Burn's [`Backend`](burn::tensor::backend::Backend) and usable by itself.
//!
//! | part | module |
//! |---|---|
//! | HI-Diff as a whole | [`HiDiff`] |
//! | (a) Transformer, its blocks and resampling | [`Transformer`], [`TransformerBlock`], [`Mdta`], [`Gdfn`], [`resample`] |
//! | (b) latent encoder LE and LE_DM, denoising network | [`LatentEncoder`], [`Denoiser`], [`MixerBlock`] |
//! | (c) multi-scale prior, and how level 4 takes it | [`MultiScalePrior`], [`Modulation`] |
//! | (d) hierarchical integration module | [`Him`] |

mod block;
mod denoiser;
mod depthwise;
mod gdfn;
mod gelu;
mod hi_diff;
mod him;
mod latent_encoder;
mod layer;
mod layer_norm;
mod macs;
mod mdta;
mod mixer;
mod modulation;
mod multi_scale;
pub mod resample;
mod summary;
mod transformer;

pub use block::{TransformerBlock, TransformerBlockConfig};
pub use denoiser::{Denoiser, DenoiserConfig, MixerDenoiser, MlpDenoiser};
pub use depthwise::{DepthwiseConv, DepthwiseConvConfig};
pub use gdfn::{Gdfn, GdfnConfig};
pub use hi_diff::{
    HiDiff, ModelConfig, Network, Noise, Prior, StageOneOutput, StageTwoOutput, pad_reflect,
};
pub use him::{Him, HimConfig};
pub use latent_encoder::{LatentEncoder, LatentEncoderConfig, LatentEncoderVariant};
pub use layer_norm::{LayerNorm, LayerNormConfig, NormKind};
pub use mdta::{Mdta, MdtaConfig};
pub use mixer::{MixerBlock, MixerBlockConfig};
pub use modulation::{Modulation, ModulationConfig};
pub use multi_scale::{MultiScalePrior, MultiScalePriorConfig};
pub use resample::{Downsample, DownsampleConfig, Upsample, UpsampleConfig};
pub use summary::{Cost, NetworkSummary, Summary};
pub use transformer::{Attention, Guidance, SIZE_MULTIPLE, Transformer, TransformerConfig};
