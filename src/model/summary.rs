//! Parameters and multiply-accumulates of a built model.

use burn::module::Module;
use burn::prelude::Backend;
use serde::Serialize;

use super::hi_diff::HiDiff;

/// The networks of a model and what inference costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `transformer`, `latent_encoder`, `condition_encoder` and `denoiser`, as far as the model has them.
    pub networks: Vec<NetworkSummary>,
    /// The inference networks together: all but LE.
    pub total: Cost,
}

/// One network's cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkSummary {
    /// The network.
    pub name: &'static str,
    /// Its cost.
    #[serde(flatten)]
    pub cost: Cost,
    /// Whether only training needs it.
    #[serde(skip)]
    pub training_only: bool,
}

/// Parameters and multiply-accumulates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Trained numbers.
    pub params: u64,
    /// Multiply-accumulates of convolutions, linear maps and matrix products for one image; the denoiser's for all T
    /// passes.
    pub macs: u64,
}

impl<B: Backend> HiDiff<B> {
    /// Counts parameters, and multiply-accumulates for an image of `height × width` pixels (padded to multiples of 8).
    pub fn summary(&self, height: usize, width: usize) -> Summary {
        let pixels = (height.next_multiple_of(8) * width.next_multiple_of(8)) as u64;
        let tokens = self.prior_shape[0] as u64;
        let passes = self.sampler.schedule().timesteps() as u64;
        let transformer = &self.transformer;

        let mut networks = vec![network(
            "transformer",
            transformer,
            transformer.macs(pixels, tokens),
        )];
        if let Some(encoder) = &self.latent_encoder {
            let summary = network("latent_encoder", encoder, encoder.macs(pixels));
            networks.push(NetworkSummary {
                training_only: true,
                ..summary
            });
        }
        if let Some(encoder) = &self.condition_encoder {
            networks.push(network("condition_encoder", encoder, encoder.macs(pixels)));
        }
        if let Some(denoiser) = &self.denoiser {
            networks.push(network(
                "denoiser",
                denoiser,
                denoiser.macs(tokens) * passes,
            ));
        }

        let inference = networks.iter().filter(|network| !network.training_only);
        let total = inference.fold(Cost::default(), |total, NetworkSummary { cost, .. }| Cost {
            params: total.params + cost.params,
            macs: total.macs + cost.macs,
        });
        Summary { networks, total }
    }
}

fn network<B: Backend, M: Module<B>>(name: &'static str, module: &M, macs: u64) -> NetworkSummary {
    let params = module.num_params() as u64;
    NetworkSummary {
        name,
        cost: Cost { params, macs },
        training_only: false,
    }
}
