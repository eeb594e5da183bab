//! What several test files need: every compiled backend, the reference fixtures, and comparison.
#![allow(dead_code)] // Each test file uses a part.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use hi_diff::Config;
use hi_diff::config::{
    DenoiserConfig, DiffusionConfig, LatentEncoderConfig, LatentEncoderVariant, ModelConfig,
    SamplerKind, Tables, TransformerConfig,
};
use hi_diff::weights::{LoadOptions, Network, Weights};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// Makes each named generic function, `fn name<B: Backend>()`, a test on each compiled backend.
#[macro_export]
macro_rules! on_each_backend {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "flex")]
        mod flex {
            $(#[test] fn $test() { super::$test::<burn::backend::Flex>(); })*
        }
        #[cfg(feature = "ndarray")]
        mod ndarray {
            $(#[test] fn $test() { super::$test::<burn::backend::NdArray>(); })*
        }
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $test() { super::$test::<burn::backend::Wgpu>(); })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test] fn $test() { super::$test::<burn::backend::Cuda>(); })*
        }
        // Those that the crate does not know, see `tests/backends`.
        #[cfg(other_backends)]
        #[allow(deprecated)] // Burn 0.21 is the last to have it.
        mod candle {
            $(#[test] fn $test() { super::$test::<burn_candle::Candle>(); })*
        }
        #[cfg(other_backends)]
        mod router {
            type Router = burn_router::Router<(burn_flex::Flex, burn_ndarray::NdArray)>;
            $(#[test] fn $test() { super::$test::<Router>(); })*
        }
        #[cfg(burn_cpu)]
        mod cpu {
            $(#[test] fn $test() { super::$test::<burn_cpu::Cpu>(); })*
        }
        #[cfg(burn_tch)]
        mod tch {
            $(#[test] fn $test() { super::$test::<burn_tch::LibTorch>(); })*
        }
    };
}

/// Whether the backend has a kernel for each block as a whole.
pub fn has_kernels<B: Backend>() -> bool {
    let name = B::name(&Default::default());
    name.contains("flex") || name.contains("ndarray")
}

/// A file below `tests/fixtures`.
pub fn fixture_path(name: &str) -> PathBuf {
    let fixtures = match cfg!(other_backends) {
        true => "../fixtures",
        false => "tests/fixtures",
    };
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(fixtures)
        .join(name)
}

/// A safetensors file of reference tensors, with its metadata.
pub struct Fixture {
    bytes: Vec<u8>,
    /// The file's metadata: values are JSON.
    pub metadata: HashMap<String, String>,
}

impl Fixture {
    /// Reads `tests/fixtures/{name}.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = fixture_path(&format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let metadata = header.metadata().clone().unwrap_or_default();
        Self { bytes, metadata }
    }

    /// A value of the metadata.
    pub fn meta(&self, key: &str) -> serde_json::Value {
        serde_json::from_str(&self.metadata[key]).expect("metadata is JSON")
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a safetensors file")
    }

    /// The names of all tensors.
    pub fn keys(&self) -> Vec<String> {
        self.tensors()
            .names()
            .into_iter()
            .map(str::to_string)
            .collect()
    }

    /// A tensor's shape and elements.
    pub fn data(&self, key: &str) -> TensorData {
        let tensors = self.tensors();
        let view = tensors.tensor(key).unwrap_or_else(|e| panic!("{key}: {e}"));
        let values: Vec<f32> = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        TensorData::new(values, view.shape().to_vec())
    }

    /// A tensor on the backend's default device.
    pub fn tensor<B: Backend, const D: usize>(&self, key: &str) -> Tensor<B, D> {
        Tensor::from_data(self.data(key), &Default::default())
    }

    /// Loads the tensors whose keys begin with `prefix` into `module`, through the crate's own weight files.
    pub fn load<B: Backend, M: Module<B>>(&self, prefix: &str, network: Network, module: &mut M) {
        self.load_renamed(prefix, network, module, |key| key.to_string());
    }

    /// As [`load`](Self::load), with the rest of each key renamed.
    pub fn load_renamed<B: Backend, M: Module<B>>(
        &self,
        prefix: &str,
        network: Network,
        module: &mut M,
        rename: impl Fn(&str) -> String,
    ) {
        let tensors = self.tensors();
        let views: Vec<(String, TensorView)> = tensors
            .iter()
            .filter_map(|(key, view)| {
                let rest = key.strip_prefix(prefix)?;
                Some((format!("{}.{}", network.stem(), rename(rest)), view))
            })
            .collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights.safetensors");
        let bytes = safetensors::serialize(views, None).expect("serialisable tensors");
        std::fs::write(&path, bytes).expect("a writable folder");
        Weights::open(&path)
            .and_then(|weights| weights.apply(network, module, &LoadOptions::default()))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The reduced networks of the fixtures, in the configuration's terms.
fn reduced(expansion: f64, variant: LatentEncoderVariant) -> ModelConfig {
    ModelConfig {
        embed_dim: 4,
        transformer: TransformerConfig {
            dim: 4,
            blocks: [1, 2, 1, 1],
            refinement_blocks: 1,
            expansion,
            ..TransformerConfig::default()
        },
        latent_encoder: LatentEncoderConfig {
            variant,
            blocks: 2,
            ..Default::default()
        },
        ..ModelConfig::default()
    }
}

/// The GoPro release, reduced as in the pipeline and training fixtures.
pub fn reduced_gopro() -> Config {
    let denoiser = DenoiserConfig::Mixer {
        hidden: 12,
        blocks: 2,
        patch_expansion: 0.5,
        channel_expansion: 2.0,
    };
    let model = ModelConfig {
        denoiser,
        ..reduced(2.66, LatentEncoderVariant::Gelu)
    };
    changed(&Config::default(), |config| config.model = model)
}

pub fn changed(config: &Config, change: impl FnOnce(&mut Tables)) -> Config {
    config.changed("test", change).unwrap()
}

/// The RealBlur release, reduced likewise.
pub fn reduced_realblur() -> Config {
    let denoiser = DenoiserConfig::Mlp { layers: 2 };
    let model = ModelConfig {
        denoiser,
        ..reduced(2.0, LatentEncoderVariant::Lrelu)
    };
    let diffusion = DiffusionConfig {
        sampler: SamplerKind::X0,
        timesteps: 16,
        ..DiffusionConfig::default()
    };
    changed(&Config::default(), |config| {
        config.model = model;
        config.diffusion = diffusion;
    })
}

/// The greatest difference as a share of the greatest expected magnitude.
pub fn relative_difference(found: &TensorData, expected: &TensorData) -> f32 {
    assert_eq!(found.shape, expected.shape, "shapes");
    let (found, expected) = (found.iter::<f32>(), expected.iter::<f32>());
    let (difference, magnitude) = found.zip(expected).fold((0f32, 0f32), |(d, m), (a, b)| {
        let step = if a.is_nan() {
            f32::INFINITY
        } else {
            (a - b).abs()
        };
        (d.max(step), m.max(b.abs()))
    });
    difference / magnitude.max(f32::MIN_POSITIVE)
}

/// How much coarser a backend's products are than single precision. CUDA's are of TF32, as CubeCL chooses: on an H100 gradients
/// were off by up to 1.1e-2.
pub fn coarseness<B: Backend>() -> f32 {
    match B::name(&Default::default()).contains("cuda") {
        true => 20.0,
        false => 1.0,
    }
}

/// Asserts that a tensor agrees with the expected one within `tolerance`, relative to its greatest magnitude, or what the backend's
/// coarseness makes of it.
pub fn assert_close<B: Backend, const D: usize>(
    what: &str,
    found: Tensor<B, D>,
    expected: &TensorData,
    tolerance: f32,
) {
    let difference = relative_difference(&found.into_data(), expected);
    let tolerance = tolerance * coarseness::<B>();
    assert!(
        difference <= tolerance,
        "{what}: off by {difference:.2e}, allowed {tolerance:.0e}"
    );
}
