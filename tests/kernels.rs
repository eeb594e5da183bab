//! The kernels for single operations against Burn's own, in values and gradients.

mod common;

use std::cell::Cell;

use burn::backend::Autodiff;
use burn::module::{Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use common::assert_close;
use hi_diff::kernels;
use hi_diff::model::{DepthwiseConv, LayerNorm};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

on_each_backend!(
    depthwise_equals_conv2d_in_values_and_gradients,
    conv3x3_equals_conv2d_in_values_and_gradients,
    channel_norm_equals_burns_operations_in_values_and_gradients,
    gelu_has_the_exact_gradient,
    gelu_gate_equals_burns_operations_in_values_and_gradients,
    depthwise_takes_tensors_that_are_views,
    depthwise_formula_equals_conv2d,
);

/// Batch, channels, height and width, down to single pixels and lines, and on both sides of a vector register's width.
const SHAPES: [[usize; 4]; 8] = [
    [1, 1, 1, 1],
    [1, 2, 1, 9],
    [2, 3, 9, 1],
    [1, 4, 2, 2],
    [2, 5, 7, 3],
    [3, 8, 16, 16],
    [1, 6, 33, 17],
    [2, 12, 20, 35],
];

fn ours<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    kernels::depthwise_conv3x3(x, weight, bias).expect("a kernel")
}

/// By a module, which has a kernel or not.
fn by_module<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let module = DepthwiseConv {
        weight: Param::initialized(ParamId::new(), weight),
        bias: bias.map(|bias| Param::initialized(ParamId::new(), bias)),
    };
    module.forward(x)
}

fn burns<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let channels = x.dims()[1];
    conv2d(
        x,
        weight,
        bias,
        ConvOptions::new([1, 1], [1, 1], [1, 1], channels),
    )
}

/// Numbers from −1 to 1, other ones with each call of a test, the same ones with each run.
fn random<B: Backend, const D: usize>(shape: [usize; D]) -> Tensor<B, D> {
    thread_local!(static CALLS: Cell<u64> = const { Cell::new(0) });
    CALLS.set(CALLS.get() + 1);
    let mut generator = StdRng::seed_from_u64(CALLS.get());
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| generator.random_range(-1.0..1.0))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// Input, weight and bias to output.
type Operation<B> = fn(Tensor<B, 4>, Tensor<B, 4>, Option<Tensor<B, 1>>) -> Tensor<B, 4>;

/// Compares an operation with Burn's, in values and in the gradients of a random projection of the output.
fn compare<B: Backend>(
    what: &str,
    [x, weight]: [Tensor<B, 4>; 2],
    bias: Option<Tensor<B, 1>>,
    ours: Operation<Autodiff<B>>,
    burns: Operation<Autodiff<B>>,
) {
    let run = |operation: Operation<Autodiff<B>>, target: Option<Tensor<B, 4>>| {
        let x = Tensor::<Autodiff<B>, 4>::from_inner(x.clone()).require_grad();
        let weight = Tensor::<Autodiff<B>, 4>::from_inner(weight.clone()).require_grad();
        let bias = bias.clone();
        let bias = bias.map(|bias| Tensor::<Autodiff<B>, 1>::from_inner(bias).require_grad());
        let output = operation(x.clone(), weight.clone(), bias.clone());
        let target = target.unwrap_or_else(|| random(output.dims()));
        let product = output.clone() * Tensor::from_inner(target.clone());
        let grads = product.sum().backward();
        let bias = bias.map(|bias| bias.grad(&grads).expect("a gradient for the bias"));
        let x = x.grad(&grads).expect("a gradient for x");
        (output.inner(), x, weight.grad(&grads), bias, target)
    };
    let (output, grad_x, grad_weight, grad_bias, target) = run(burns, None);
    let found = run(ours, Some(target));
    assert_close(
        &format!("{what}: output"),
        found.0,
        &output.into_data(),
        1e-5,
    );
    assert_close(
        &format!("{what}: x's gradient"),
        found.1,
        &grad_x.into_data(),
        1e-4,
    );
    assert_eq!(
        found.2.is_some(),
        grad_weight.is_some(),
        "{what}: a gradient for the weight"
    );
    if let (Some(found), Some(expected)) = (found.2, grad_weight) {
        assert_close(
            &format!("{what}: weight's gradient"),
            found,
            &expected.into_data(),
            1e-4,
        );
    }
    if let (Some(found), Some(expected)) = (found.3, grad_bias) {
        assert_close(
            &format!("{what}: bias's gradient"),
            found,
            &expected.into_data(),
            1e-4,
        );
    }
}

fn depthwise_equals_conv2d_in_values_and_gradients<B: Backend>() {
    for shape in SHAPES {
        for bias in [None, Some(random::<B, 1>([shape[1]]))] {
            let what = format!("{shape:?}, bias: {}", bias.is_some());
            let operands = [random(shape), random([shape[1], 1, 3, 3])];
            compare::<B>(&what, operands, bias, ours, burns);
        }
    }
}

fn conv3x3_equals_conv2d_in_values_and_gradients<B: Backend>() {
    for shape in SHAPES {
        for bias in [None, Some(random::<B, 1>([3]))] {
            let what = format!("{shape:?}, bias: {}", bias.is_some());
            let operands = [random(shape), random([3, shape[1], 3, 3])];
            compare::<B>(
                &what,
                operands,
                bias,
                |x, weight, bias| kernels::conv3x3(x, weight, bias).expect("a kernel"),
                |x, weight, bias| {
                    conv2d(x, weight, bias, ConvOptions::new([1, 1], [1, 1], [1, 1], 1))
                },
            );
        }
    }
}

/// Weights as `[channels, 1, 1, 1]` here, to fit the comparison's types.
fn channel_norm_equals_burns_operations_in_values_and_gradients<B: Backend>() {
    fn norm<B: Backend>(
        x: Tensor<B, 4>,
        weight: Tensor<B, 4>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, 4> {
        kernels::channel_norm(x, weight.flatten(0, 3), bias, 1e-5).expect("a kernel")
    }
    fn formula<B: Backend>(
        x: Tensor<B, 4>,
        weight: Tensor<B, 4>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, 4> {
        let module = LayerNorm {
            weight: Param::initialized(ParamId::new(), weight.flatten(0, 3)),
            bias: bias.map(|bias| Param::initialized(ParamId::new(), bias)),
            epsilon: 1e-5,
        };
        kernels::without(|| module.forward_image(x))
    }
    for shape in [
        [1, 7, 1, 1],
        [2, 5, 9, 1],
        [2, 5, 7, 3],
        [1, 48, 17, 31],
        [2, 12, 20, 35],
    ] {
        for bias in [None, Some(random::<B, 1>([shape[1]]))] {
            let what = format!("{shape:?}, bias: {}", bias.is_some());
            let operands = [random(shape), random([shape[1], 1, 1, 1])];
            compare::<B>(&what, operands, bias, norm, formula);
        }
    }
}

/// Against the formula spelt out, since only Flex differentiates the exact GELU: elsewhere Burn's gradient of `gelu` is
/// that of the tanh approximation. The kernels' erf is exact to 7e-7 absolutely, which is much for a single number that is
/// nearly zero: hence no shape of one.
fn gelu_has_the_exact_gradient<B: Backend>() {
    for shape in [[1, 5, 3, 3], [2, 6, 9, 1], [1, 18, 33, 17]] {
        let operands = [random(shape), random::<B, 4>([1, 1, 1, 1]) * 6.0];
        compare::<B>(
            &format!("{shape:?}"),
            operands,
            None,
            |x, scale, _| kernels::gelu(x * scale).expect("a kernel"),
            |x, scale, _| {
                let x = x * scale;
                x.clone() * (x / 2f32.sqrt()).erf().add_scalar(1.0).mul_scalar(0.5)
            },
        );
    }
}

fn gelu_gate_equals_burns_operations_in_values_and_gradients<B: Backend>() {
    for shape in [[1, 8, 3, 3], [2, 6, 9, 1], [2, 4, 7, 3], [1, 18, 33, 17]] {
        // The weight only scales the input, so that the gate is tried far from zero too.
        let operands = [random(shape), random::<B, 4>([1, 1, 1, 1]) * 6.0];
        compare::<B>(
            &format!("{shape:?}"),
            operands,
            None,
            |x, scale, _| kernels::gelu_gate(x * scale).expect("a kernel"),
            |x, scale, _| {
                let [a, b]: [Tensor<Autodiff<B>, 4>; 2] =
                    (x * scale).chunk(2, 1).try_into().expect("two halves");
                a.clone() * (a / 2f32.sqrt()).erf().add_scalar(1.0).mul_scalar(0.5) * b
            },
        );
    }
}

fn depthwise_takes_tensors_that_are_views<B: Backend>() {
    let whole = random::<B, 4>([2, 9, 12, 10]);
    let view = whole.swap_dims(2, 3).narrow(1, 2, 5).narrow(3, 1, 7);
    let weight = random::<B, 4>([3, 3, 5, 1]).permute([2, 3, 0, 1]);
    let bias = random::<B, 1>([11]).narrow(0, 4, 5);
    let found = by_module(view.clone(), weight.clone(), Some(bias.clone()));
    let expected = burns(view, weight, Some(bias));
    assert_close("output", found, &expected.into_data(), 1e-5);
}

/// What backends without kernels differentiate.
fn depthwise_formula_equals_conv2d<B: Backend>() {
    for shape in SHAPES {
        for bias in [None, Some(random::<B, 1>([shape[1]]))] {
            let operands = [random(shape), random([shape[1], 1, 3, 3])];
            let formula = |x, weight, bias| kernels::without(|| by_module(x, weight, bias));
            compare::<B>(&format!("{shape:?}"), operands, bias, formula, burns);
        }
    }
}

#[cfg(feature = "flex")]
#[test]
fn other_number_formats_take_the_formula() {
    use burn::backend::Flex;
    use burn::tensor::DType;

    let (x, weight) = (
        random::<Flex, 4>([1, 3, 8, 8]),
        random::<Flex, 4>([3, 1, 3, 3]),
    );
    let expected = ours(x.clone(), weight.clone(), None).into_data();
    let double = || {
        by_module(
            x.clone().cast(DType::F64),
            weight.clone().cast(DType::F64),
            None,
        )
    };
    let (double, taken) = kernels::count(double);
    assert_eq!(taken.forward, 0);
    assert_eq!(double.dtype(), DType::F64);
    let found = double.cast(DType::F32).into_data();
    assert!(common::relative_difference(&found, &expected) < 1e-6);
}
