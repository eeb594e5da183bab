//! One network's parameters as PyTorch names and lays them out, and what a file has instead of them.

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::tensors::Tensors;
use super::{LoadOptions, Network, module};

/// The parameters of one network under their published names, in the module's order.
#[derive(Debug, Clone, PartialEq)]
pub struct StateDict {
    network: Network,
    tensors: Vec<NamedTensor>,
}

/// A parameter in PyTorch's layout: `[out, in]` for a linear layer, `[out, in, height, width]` for a convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The published name, such as `patch_embed.proj.weight`.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub values: Vec<f32>,
}

impl StateDict {
    /// The parameters that `module` has now, where `network` says which part of a model it is.
    pub fn of<B: Backend, M: Module<B>>(network: Network, module: &M) -> Self {
        Self { network, tensors: module::values(network, module) }
    }

    /// The network they are for.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The parameters.
    pub fn tensors(&self) -> &[NamedTensor] {
        &self.tensors
    }

    /// The module with these parameters. The caller knows that it has the same ones.
    pub(super) fn into_module<B: Backend, M: Module<B>>(self, module: M) -> M {
        module::replace(self.network, module, self.tensors)
    }

    /// The parameters of `module` as `found` has them, or one line for each that does not fit.
    ///
    /// `label` makes a line's beginning of a key: the place where a user finds it.
    pub(super) fn fit<B: Backend, M: Module<B>>(
        network: Network,
        module: &M,
        found: &Tensors,
        options: &LoadOptions,
        label: impl Fn(&str) -> String,
    ) -> Result<Self, Vec<String>> {
        let mut tensors = module::shapes(network, module);
        let mut problems = Vec::new();
        let mut unexpected = found.entries.clone();
        for NamedTensor { name, shape, values } in &mut tensors {
            let problem = match unexpected.remove(name) {
                None => format!("missing, expected shape {shape:?}"),
                Some(entry) if entry.shape != *shape => {
                    format!("found shape {:?}, expected {shape:?}", entry.shape)
                }
                Some(entry) if !entry.dtype.is_float() => {
                    format!("found {}, expected floating-point numbers", entry.dtype)
                }
                Some(entry) => {
                    *values = found.values(&entry);
                    match values.iter().filter(|value| !value.is_finite()).count() {
                        bad if bad > 0 && !options.allow_non_finite => {
                            format!("{bad} of {} values are NaN or infinite", values.len())
                        }
                        _ => continue,
                    }
                }
            };
            problems.push(format!("{}: {problem}", label(name)));
        }
        for (name, entry) in unexpected {
            problems.push(format!("{}: unexpected, of shape {:?}", label(&name), entry.shape));
        }
        if problems.is_empty() {
            return Ok(Self { network, tensors });
        }
        if let Some(other) = recognise(found).filter(|&other| other != network) {
            let (other, network) = (other.title(), network.title());
            let line = format!("these are the keys of the {other}, expected the {network}'s");
            problems.insert(0, format!("{}: {line}", label("*")));
        }
        Err(problems)
    }
}

/// Which network the tensors are, going by a few telling keys.
fn recognise(tensors: &Tensors) -> Option<Network> {
    let entry = |key: &str| tensors.entries.get(key);
    if entry("patch_embed.proj.weight").is_some() {
        return Some(Network::Transformer);
    }
    if entry("first_layer.0.weight").or(entry("resmlp.0.weight")).is_some() {
        return Some(Network::Denoiser);
    }
    // Pixels in squares of 4 × 4: of two RGB images, or of one.
    match entry("conv1.0.weight")?.shape.get(1) {
        Some(96) => Some(Network::LatentEncoder),
        Some(48) => Some(Network::ConditionEncoder),
        _ => None,
    }
}
