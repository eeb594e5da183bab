//! The parameters of a Burn module under their PyTorch names.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::Network;
use super::names::pytorch_name;
use super::state_dict::{NamedTensor, StateDict};

/// What a module is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Root {
    /// One network.
    Network(Network),
    /// A whole model, whose fields are named as the networks are.
    Model,
}

/// Parameters in a module's order, by network.
pub(super) type Parameters = BTreeMap<Network, Vec<NamedTensor>>;

/// A module's parameters without their values, so that none that is still lazy is initialised.
pub(super) fn shapes<B: Backend, M: Module<B>>(root: Root, module: &M) -> Parameters {
    visit(root, module, false)
}

/// A module's parameters with their values.
pub(super) fn values<B: Backend, M: Module<B>>(root: Root, module: &M) -> Parameters {
    visit(root, module, true)
}

fn visit<B: Backend, M: Module<B>>(root: Root, module: &M, values: bool) -> Parameters {
    let mut visitor = Visitor::<B> {
        position: Position::new(root),
        values,
        found: Parameters::new(),
        backend: PhantomData,
    };
    module.visit(&mut visitor);
    visitor.found
}

/// The module with the parameters of the same names and shapes instead of its own.
pub(super) fn replace<B: Backend, M: Module<B>>(
    root: Root,
    module: M,
    states: impl IntoIterator<Item = StateDict>,
) -> M {
    let mut parameters = HashMap::new();
    for state in states {
        let network = state.network();
        let named = state.into_tensors().into_iter();
        parameters.extend(named.map(|tensor| ((network, tensor.name.clone()), tensor)));
    }
    module.map(&mut Mapper {
        position: Position::new(root),
        parameters,
    })
}

/// Where a walk over a module is.
struct Position {
    root: Root,
    path: Vec<String>,
    containers: Vec<String>,
}

impl Position {
    fn new(root: Root) -> Self {
        Self {
            root,
            path: Vec::new(),
            containers: Vec::new(),
        }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.path.push(name.to_string());
        self.containers.push(container.to_string());
    }

    fn exit(&mut self) {
        self.path.pop();
        self.containers.pop();
    }

    /// The network and the PyTorch name of the parameter here.
    fn key(&self) -> Option<(Network, String)> {
        let (network, path) = match self.root {
            Root::Network(network) => (network, self.path.as_slice()),
            Root::Model => {
                let (field, path) = self.path.split_first()?;
                (Network::from_name(field)?, path)
            }
        };
        Some((network, pytorch_name(network, path)))
    }

    /// Burn keeps the weight of a linear layer as `[in, out]`, PyTorch as `[out, in]`.
    fn is_transposed(&self, rank: usize) -> bool {
        rank == 2
            && self
                .containers
                .last()
                .is_some_and(|container| container == "Struct:Linear")
    }
}

struct Visitor<B> {
    position: Position,
    values: bool,
    found: Parameters,
    backend: PhantomData<B>,
}

impl<B: Backend> ModuleVisitor<B> for Visitor<B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.position.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.position.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some((network, name)) = self.position.key() else {
            return;
        };
        let mut shape: Vec<usize> = param.lazy_shape().iter().copied().collect();
        let mut values = Vec::new();
        if self.values {
            let data = param.transform_for_save().val().into_data();
            values = data.iter::<f32>().collect();
        }
        if self.position.is_transposed(D) {
            values = transpose(&values, &shape);
            shape.reverse();
        }
        self.found.entry(network).or_default().push(NamedTensor {
            name,
            shape,
            values,
        });
    }
}

struct Mapper {
    position: Position,
    parameters: HashMap<(Network, String), NamedTensor>,
}

impl<B: Backend> ModuleMapper<B> for Mapper {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.position.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.position.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let found = self
            .position
            .key()
            .and_then(|key| self.parameters.remove(&key));
        let Some(mut parameter) = found else {
            return param;
        };
        if self.position.is_transposed(D) {
            parameter.values = transpose(&parameter.values, &parameter.shape);
            parameter.shape.reverse();
        }
        let data = TensorData::new(parameter.values, parameter.shape);
        let tensor = Tensor::from_data(data, &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

/// A matrix of `shape` in row-major order, transposed; nothing stays nothing.
fn transpose(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let column = |column| values.iter().skip(column).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_swaps_rows_and_columns() {
        assert_eq!(
            transpose(&[1., 2., 3., 4., 5., 6.], &[2, 3]),
            [1., 4., 2., 5., 3., 6.]
        );
        assert!(transpose(&[], &[2, 3]).is_empty());
    }
}
