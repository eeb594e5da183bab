//! The running average of the weights, which is often better than the weights themselves.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::AutodiffBackend as BurnAutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

use crate::model::HiDiff;
use burn::tensor::backend::AutodiffBackend;

/// A copy of the model that learns nothing by itself, with parameters of its own names.
pub(super) fn start<B: AutodiffBackend>(model: &HiDiff<B>) -> HiDiff<B> {
    model.clone().no_grad().map(&mut Rename)
}

/// The average, if there is one, after a step of the model. What does not learn is no average, but the same.
pub(super) fn after_step<B: AutodiffBackend>(
    average: Option<HiDiff<B>>,
    model: &HiDiff<B>,
    decay: f64,
) -> Option<HiDiff<B>> {
    average.map(|average| update(average, model, decay))
}

/// `average · decay + model · (1 − decay)`, parameter by parameter.
fn update<B: AutodiffBackend>(average: HiDiff<B>, model: &HiDiff<B>, decay: f64) -> HiDiff<B> {
    let mut collect = Collect::<B>(Vec::new());
    model.visit(&mut collect);
    let mut values = collect.0;
    values.reverse();
    average.map(&mut Blend::<B> { values, decay })
}

/// The model as one that learns, which its average is not.
pub(super) fn learning<B: AutodiffBackend>(model: HiDiff<B>) -> HiDiff<B> {
    model.map(&mut Learn)
}

struct Learn;

impl<B: BurnAutodiffBackend> ModuleMapper<B> for Learn {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.set_require_grad(true)
    }
}

struct Rename;

impl<B: BurnAutodiffBackend> ModuleMapper<B> for Rename {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(ParamId::new(), tensor, mapper)
    }
}

/// The parameters in the module's order, which is the same for its copy.
struct Collect<B: BurnAutodiffBackend>(Vec<Value<B>>);

/// A parameter's value, and whether it learns.
type Value<B> = (FloatTensor<<B as BurnAutodiffBackend>::InnerBackend>, bool);

impl<B: BurnAutodiffBackend> ModuleVisitor<B> for Collect<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        let learns = value.is_require_grad();
        let inner = value.inner().into_primitive().tensor();
        self.0.push((inner, learns));
    }
}

struct Blend<B: BurnAutodiffBackend> {
    /// In reverse, so that the next one is the last.
    values: Vec<Value<B>>,
    decay: f64,
}

impl<B: BurnAutodiffBackend> ModuleMapper<B> for Blend<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some((value, true)) = self.values.pop() else {
            return param;
        };
        let value = Tensor::<B::InnerBackend, D>::from_primitive(TensorPrimitive::Float(value));
        let decay = self.decay;
        param.map(|average| {
            let blend = average.inner().mul_scalar(decay) + value.mul_scalar(1.0 - decay);
            Tensor::from_inner(blend)
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::collections::HashSet;

    use burn::backend::{Autodiff, Flex};
    use burn::module::list_param_ids;

    use super::*;
    use crate::config::{Config, Network};

    type B = Autodiff<Flex>;

    fn model(seed: u64) -> HiDiff<B> {
        let device = Default::default();
        <B as burn::tensor::backend::Backend>::seed(&device, seed);
        let config = "[model]\nembed_dim = 4\n[model.transformer]\ndim = 8\nblocks = [1, 1, 1, 1]\nheads = [1, 2, 4, 4]";
        Config::parse(config, "test")
            .unwrap()
            .init(&device)
            .fork(&device)
    }

    fn values(model: &HiDiff<B>) -> Vec<f32> {
        let mut collect = Collect::<B>(Vec::new());
        model.visit(&mut collect);
        let flat = |primitive: FloatTensor<Flex>| {
            let data = burn::tensor::try_read_sync(<Flex as burn::tensor::ops::FloatTensorOps<
                Flex,
            >>::float_into_data(primitive));
            data.unwrap().unwrap().iter::<f32>().collect::<Vec<_>>()
        };
        let values = collect.0.into_iter().map(|(value, _)| value);
        values.flat_map(flat).collect()
    }

    #[test]
    fn of_what_does_not_learn_the_average_is_the_same_to_the_last_bit() {
        let first = model(1);
        let frozen = model(2).freeze(&Network::ALL);
        let average = update(start(&first), &frozen, 0.999);
        assert_eq!(values(&average), values(&first));
        let average = update(start(&first), &model(2), 0.999);
        assert_ne!(values(&average), values(&first));
    }

    #[test]
    fn the_average_moves_towards_the_model_and_has_no_part_in_learning() {
        let (first, second) = (model(1), model(2));
        let average = update(start(&first), &second, 0.75);
        let expected = values(&first)
            .into_iter()
            .zip(values(&second))
            .map(|(a, b)| a * 0.75 + b * 0.25);
        for (found, expected) in values(&average).into_iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{found} instead of {expected}"
            );
        }
        let names: HashSet<_> = list_param_ids(&first).into_iter().collect();
        assert!(
            list_param_ids(&average)
                .iter()
                .all(|id| !names.contains(id))
        );
        struct NoGrad;
        impl ModuleVisitor<B> for NoGrad {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                assert!(!param.val().is_require_grad());
            }
        }
        average.visit(&mut NoGrad);
    }
}
