//! The networks, one file per part of the paper's Fig. 1. Every module is generic over
//! Burn's [`Backend`](burn::tensor::backend::Backend) and usable by itself.
//!
//! | part | file |
//! |---|---|
//! | HI-Diff as a whole | [`hi_diff`] |
//! | (a) Transformer, its blocks and resampling | [`transformer`], [`block`], [`mdta`], [`gdfn`], [`resample`] |
//! | (b) latent encoder LE and LE_DM, denoising network | [`latent_encoder`], [`denoiser`], [`mixer`] |
//! | (c) multi-scale prior, and how level 4 takes it | [`multi_scale`], [`modulation`] |
//! | (d) hierarchical integration module | [`him`] |

pub mod block;
pub mod denoiser;
pub mod depthwise;
pub mod gdfn;
mod gelu;
pub mod hi_diff;
pub mod him;
pub mod latent_encoder;
mod layer;
pub mod layer_norm;
mod macs;
pub mod mdta;
pub mod mixer;
pub mod modulation;
pub mod multi_scale;
pub mod resample;
pub mod summary;
pub mod transformer;

pub use block::{TransformerBlock, TransformerBlockConfig};
pub use denoiser::{Denoiser, DenoiserConfig};
pub use depthwise::{DepthwiseConv, DepthwiseConvConfig};
pub use gdfn::{Gdfn, GdfnConfig};
pub use hi_diff::{HiDiff, ModelConfig, Network, Noise, Prior, StageOneOutput, StageTwoOutput};
pub use him::{Him, HimConfig};
pub use latent_encoder::{LatentEncoder, LatentEncoderConfig, LatentEncoderVariant};
pub use layer_norm::{LayerNorm, LayerNormConfig, NormKind};
pub use mdta::{Mdta, MdtaConfig};
pub use mixer::{MixerBlock, MixerBlockConfig};
pub use modulation::{Modulation, ModulationConfig};
pub use multi_scale::{MultiScalePrior, MultiScalePriorConfig};
pub use resample::{Downsample, DownsampleConfig, Upsample, UpsampleConfig};
pub use summary::{Cost, NetworkSummary, Summary};
pub use transformer::{Guidance, Transformer, TransformerConfig};
