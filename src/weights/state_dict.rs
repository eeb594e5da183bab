//! One network's parameters as PyTorch names and lays them out, and what a file has instead of them.

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::module::{self, Root};
use super::tensors::Tensors;
use super::{Fit, LoadOptions, Network};
use crate::model::HiDiff;

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
        let mut parameters = module::values(Root::Network(network), module);
        Self {
            network,
            tensors: parameters.remove(&network).unwrap_or_default(),
        }
    }

    /// The parameters of each network that `model` has.
    pub fn of_model<B: burn::tensor::backend::Backend>(model: &HiDiff<B>) -> Vec<Self> {
        let parameters = module::values(Root::Model, model).into_iter();
        parameters
            .map(|(network, tensors)| Self { network, tensors })
            .collect()
    }

    /// A short text that differs for other parameters, whatever file they came from: CRC-32 of names and values, in hexadecimal.
    /// It tells models apart by accident, not against an adversary.
    #[cfg(feature = "image")]
    pub fn fingerprint(states: &[Self]) -> String {
        let mut hasher = crc32fast::Hasher::new();
        for state in states {
            hasher.update(state.network.stem().as_bytes());
            for tensor in &state.tensors {
                hasher.update(tensor.name.as_bytes());
                for value in &tensor.values {
                    hasher.update(&value.to_le_bytes());
                }
            }
        }
        format!("{:08x}", hasher.finalize())
    }

    /// The network they are for.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The parameters.
    pub fn tensors(&self) -> &[NamedTensor] {
        &self.tensors
    }

    pub(super) fn into_tensors(self) -> Vec<NamedTensor> {
        self.tensors
    }

    /// The parameters `tensors` of a module with the values in `found`, or one line for each that does not fit.
    ///
    /// `label` makes the beginning of a line: where a user finds a key, or all of them.
    pub(super) fn fit(
        network: Network,
        mut tensors: Vec<NamedTensor>,
        found: &Tensors,
        options: &LoadOptions,
        label: impl Fn(Option<&str>) -> String,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut unexpected = found.entries.clone();
        for NamedTensor {
            name,
            shape,
            values,
        } in &mut tensors
        {
            unexpected.remove(name);
            match found.parameter(name, shape, options) {
                Ok(found) => *values = found,
                Err(problem) => problems.push(format!("{}: {problem}", label(Some(name)))),
            }
        }
        let nothing_fits = unexpected.len() == found.entries.len();
        for (name, entry) in unexpected {
            problems.push(format!(
                "{}: unexpected, of shape {:?}",
                label(Some(&name)),
                entry.shape
            ));
        }
        if problems.is_empty() {
            return Ok(Self { network, tensors });
        }
        if let Some(other) = recognise(found).filter(|&other| other != network) {
            let (other, network) = (other.title(), network.title());
            let line = format!("these are the keys of the {other}, expected the {network}'s");
            if nothing_fits {
                problems.clear(); // hundreds of keys that only hide what is wrong with other files
            }
            problems.insert(0, format!("{}: {line}", label(None)));
        }
        Err(problems)
    }

    /// The parameters among `tensors` that `found` has in the same shape, with its values, and what became of the
    /// others; or one line for each that holds no finite numbers.
    pub(super) fn fit_partly(
        network: Network,
        tensors: Vec<NamedTensor>,
        found: &Tensors,
        options: &LoadOptions,
        label: impl Fn(Option<&str>) -> String,
    ) -> Result<(Self, Fit), Vec<String>> {
        let mut problems = Vec::new();
        let mut fit = Fit::new(network);
        let mut fitting = Vec::new();
        let mut unused = found.entries.clone();
        for mut tensor in tensors {
            let name = tensor.name.clone();
            match unused.remove(&name) {
                None => fit.missing.push(name),
                Some(entry) if entry.shape != tensor.shape => fit.reshaped.push(name),
                Some(_) => match found.parameter(&name, &tensor.shape, options) {
                    Ok(values) => {
                        tensor.values = values;
                        fitting.push(tensor);
                        fit.taken.push(name);
                    }
                    Err(problem) => problems.push(format!("{}: {problem}", label(Some(&name)))),
                },
            }
        }
        fit.unused.extend(unused.into_keys());
        if !problems.is_empty() {
            return Err(problems);
        }
        let state = Self {
            network,
            tensors: fitting,
        };
        Ok((state, fit))
    }
}

/// Which network the tensors are, going by a few telling keys.
fn recognise(tensors: &Tensors) -> Option<Network> {
    let entry = |key: &str| tensors.entries.get(key);
    if entry("patch_embed.proj.weight").is_some() {
        return Some(Network::Transformer);
    }
    if entry("first_layer.0.weight")
        .or(entry("resmlp.0.weight"))
        .is_some()
    {
        return Some(Network::Denoiser);
    }
    // Pixels in squares of 4 × 4: of two RGB images, or of one.
    match entry("conv1.0.weight")?.shape.get(1) {
        Some(96) => Some(Network::LatentEncoder),
        Some(48) => Some(Network::ConditionEncoder),
        _ => None,
    }
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_value_is_in_the_fingerprint() {
        let state = |name: &str, values: [f32; 3]| StateDict {
            network: Network::Denoiser,
            tensors: vec![NamedTensor {
                name: name.into(),
                shape: vec![3],
                values: values.to_vec(),
            }],
        };
        let of = |state| StateDict::fingerprint(&[state]);
        let one = of(state("weight", [0.5, 1.0, -2.0]));
        assert_eq!(one, of(state("weight", [0.5, 1.0, -2.0])));
        assert_eq!(one.len(), 8);
        assert_ne!(one, of(state("bias", [0.5, 1.0, -2.0])));
        assert_ne!(one, of(state("weight", [0.5, 1.0, -2.000_000_2])));
        assert_ne!(one, of(state("weight", [1.0, 0.5, -2.0])));
    }
}
