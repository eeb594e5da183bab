//! The backend extension's operations against Burn's own, in values and gradients.

mod common;

use burn::backend::Autodiff;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Distribution, Tensor, TensorPrimitive};
use common::assert_close;
use hi_diff::backend::{Backend, plain};

on_each_backend!(
    depthwise_equals_conv2d_in_values_and_gradients,
    depthwise_takes_tensors_that_are_views,
    plain_depthwise_equals_conv2d,
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

fn primitive<B: burn::tensor::backend::Backend, const D: usize>(
    tensor: Tensor<B, D>,
) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn tensor<B: burn::tensor::backend::Backend, const D: usize>(
    primitive: B::FloatTensorPrimitive,
) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn ours<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let bias = bias.map(primitive);
    tensor(B::depthwise_conv3x3(primitive(x), primitive(weight), bias))
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

fn random<B: Backend, const D: usize>(shape: [usize; D]) -> Tensor<B, D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Default::default())
}

fn depthwise_equals_conv2d_in_values_and_gradients<B: Backend>() {
    type Leaves<B> = (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 1>);

    for shape in SHAPES {
        for with_bias in [false, true] {
            let channels = shape[1];
            let x = random::<B, 4>(shape);
            let weight = random::<B, 4>([channels, 1, 3, 3]);
            let bias = random::<B, 1>([channels]);
            let target = random::<B, 4>(shape);

            let run = |convolve: fn(
                Tensor<Autodiff<B>, 4>,
                Tensor<Autodiff<B>, 4>,
                Option<Tensor<Autodiff<B>, 1>>,
            ) -> Tensor<Autodiff<B>, 4>| {
                let (x, weight, bias): Leaves<Autodiff<B>> = (
                    Tensor::from_inner(x.clone()).require_grad(),
                    Tensor::from_inner(weight.clone()).require_grad(),
                    Tensor::from_inner(bias.clone()).require_grad(),
                );
                let output = convolve(x.clone(), weight.clone(), with_bias.then(|| bias.clone()));
                let product = output.clone() * Tensor::from_inner(target.clone());
                let grads = product.sum().backward();
                (
                    output.inner(),
                    x.grad(&grads).expect("a gradient for x"),
                    weight.grad(&grads).expect("a gradient for the weight"),
                    bias.grad(&grads),
                )
            };
            let (output, grad_x, grad_weight, grad_bias) = run(ours);
            let expected = run(burns);
            let what = |part: &str| format!("{part} at {shape:?}, bias: {with_bias}");
            assert_close(&what("output"), output, &expected.0.into_data(), 1e-5);
            assert_close(&what("x's gradient"), grad_x, &expected.1.into_data(), 1e-5);
            assert_close(
                &what("weight's gradient"),
                grad_weight,
                &expected.2.into_data(),
                1e-4,
            );
            assert_eq!(grad_bias.is_some(), with_bias);
            if let (Some(found), Some(expected)) = (grad_bias, expected.3) {
                assert_close(&what("bias's gradient"), found, &expected.into_data(), 1e-4);
            }
        }
    }
}

fn depthwise_takes_tensors_that_are_views<B: Backend>() {
    let whole = random::<B, 4>([2, 9, 12, 10]);
    let view = whole.swap_dims(2, 3).narrow(1, 2, 5).narrow(3, 1, 7);
    let weight = random::<B, 4>([3, 3, 5, 1]).permute([2, 3, 0, 1]);
    let bias = random::<B, 1>([11]).narrow(0, 4, 5);
    let found = ours(view.clone(), weight.clone(), Some(bias.clone()));
    let expected = burns(view, weight, Some(bias));
    assert_close("output", found, &expected.into_data(), 1e-5);
}

fn plain_depthwise_equals_conv2d<B: Backend>() {
    for shape in SHAPES {
        let channels = shape[1];
        let (x, weight) = (random::<B, 4>(shape), random::<B, 4>([channels, 1, 3, 3]));
        let grad = random::<B, 4>(shape);
        let (x, weight, grad) = (primitive(x), primitive(weight), primitive(grad));
        let found = plain::depthwise_conv3x3::<B>(x.clone(), weight.clone(), None);
        let expected = B::depthwise_conv3x3(x.clone(), weight.clone(), None);
        assert_close(
            "output",
            tensor::<B, 4>(found),
            &tensor::<B, 4>(expected).into_data(),
            1e-5,
        );
        let (found_x, found_weight) =
            plain::depthwise_conv3x3_backward::<B>(x.clone(), weight.clone(), grad.clone());
        let (expected_x, expected_weight) = B::depthwise_conv3x3_backward(x, weight, grad);
        let expected_x = tensor::<B, 4>(expected_x).into_data();
        assert_close("x's gradient", tensor::<B, 4>(found_x), &expected_x, 1e-5);
        let expected_weight = tensor::<B, 4>(expected_weight).into_data();
        let found_weight = tensor::<B, 4>(found_weight);
        assert_close("weight's gradient", found_weight, &expected_weight, 1e-4);
    }
}

#[cfg(feature = "flex")]
#[test]
fn other_element_types_take_the_plain_path() {
    use burn::backend::Flex;
    use burn::tensor::DType;

    let (x, weight) = (
        random::<Flex, 4>([1, 3, 8, 8]),
        random::<Flex, 4>([3, 1, 3, 3]),
    );
    let expected = ours(x.clone(), weight.clone(), None).into_data();
    let double = ours(x.cast(DType::F64), weight.cast(DType::F64), None);
    assert_eq!(double.dtype(), DType::F64);
    let found = double.cast(DType::F32).into_data();
    assert!(common::relative_difference(&found, &expected) < 1e-6);
}
