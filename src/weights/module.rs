//! The parameters of a Burn module under their PyTorch names.

use std::collections::HashMap;
use std::marker::PhantomData;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::names::pytorch_name;
use super::state_dict::NamedTensor;
use super::Network;

/// A module's parameters without their values, so that none that is still lazy is initialised.
pub(super) fn shapes<B: Backend, M: Module<B>>(network: Network, module: &M) -> Vec<NamedTensor> {
    visit(network, module, false)
}

/// The parameters of a module with their values.
pub(super) fn values<B: Backend, M: Module<B>>(network: Network, module: &M) -> Vec<NamedTensor> {
    visit(network, module, true)
}

fn visit<B: Backend, M: Module<B>>(network: Network, module: &M, values: bool) -> Vec<NamedTensor> {
    let mut visitor = Visitor::<B> {
        position: Position::new(network),
        values,
        found: Vec::new(),
        backend: PhantomData,
    };
    module.visit(&mut visitor);
    visitor.found
}

/// The module with the parameters replaced by those of the same name.
///
/// The caller has compared names and shapes; a parameter without a match stays as it is.
pub(super) fn replace<B: Backend, M: Module<B>>(
    network: Network,
    module: M,
    parameters: Vec<NamedTensor>,
) -> M {
    let parameters = parameters.into_iter().map(|parameter| (parameter.name.clone(), parameter));
    module.map(&mut Mapper { position: Position::new(network), parameters: parameters.collect() })
}

/// Where a walk over a module is.
struct Position {
    network: Network,
    path: Vec<String>,
    containers: Vec<String>,
}

impl Position {
    fn new(network: Network) -> Self {
        Self { network, path: Vec::new(), containers: Vec::new() }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.path.push(name.to_string());
        self.containers.push(container.to_string());
    }

    fn exit(&mut self) {
        self.path.pop();
        self.containers.pop();
    }

    fn name(&self) -> String {
        pytorch_name(self.network, &self.path)
    }

    /// Burn keeps the weight of a linear layer as `[in, out]`, PyTorch as `[out, in]`.
    fn is_transposed(&self, rank: usize) -> bool {
        rank == 2 && self.containers.last().is_some_and(|container| container == "Struct:Linear")
    }
}

struct Visitor<B> {
    position: Position,
    values: bool,
    found: Vec<NamedTensor>,
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
        self.found.push(NamedTensor { name: self.position.name(), shape, values });
    }
}

struct Mapper {
    position: Position,
    parameters: HashMap<String, NamedTensor>,
}

impl<B: Backend> ModuleMapper<B> for Mapper {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.position.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.position.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(mut parameter) = self.parameters.remove(&self.position.name()) else {
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
        assert_eq!(transpose(&[1., 2., 3., 4., 5., 6.], &[2, 3]), [1., 4., 2., 5., 3., 6.]);
        assert!(transpose(&[], &[2, 3]).is_empty());
    }
}
