//! The kernels on Flex's tensors.

use burn::tensor::ops::ActivationOps;
use burn::tensor::{DType, TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};

use super::{Dims, channel_norm, depthwise, gelu_gate, half_channels};
use crate::backend::{Backend, plain};

impl Backend for Flex {
    fn depthwise_conv3x3(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
    ) -> FlexTensor {
        if !single_precision([Some(&x), Some(&weight), bias.as_ref()]) {
            return plain::depthwise_conv3x3::<Self>(x, weight, bias);
        }
        let dims: Dims = x.shape().dims();
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let bias = bias.map(|bias| bias.to_contiguous());
        let bias = bias.as_ref().map(elements);
        let output = depthwise::forward(elements(&x), elements(&weight), bias, dims);
        FlexTensor::from_data(TensorData::new(output, dims))
    }

    fn depthwise_conv3x3_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        if !single_precision([Some(&x), Some(&weight), Some(&grad)]) {
            return plain::depthwise_conv3x3_backward::<Self>(x, weight, grad);
        }
        let dims: Dims = x.shape().dims();
        let (x, weight, grad) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            grad.to_contiguous(),
        );
        let (grad_x, grad_weight) =
            depthwise::backward(elements(&x), elements(&weight), elements(&grad), dims);
        (
            FlexTensor::from_data(TensorData::new(grad_x, dims)),
            FlexTensor::from_data(TensorData::new(grad_weight, [dims[1], 1, 3, 3])),
        )
    }

    fn channel_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        epsilon: f64,
    ) -> FlexTensor {
        if !single_precision([Some(&x), Some(&weight), bias.as_ref()]) {
            return plain::channel_norm::<Self>(x, weight, bias, epsilon);
        }
        let dims: Dims = x.shape().dims();
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let bias = bias.map(|bias| bias.to_contiguous());
        let bias = bias.as_ref().map(elements);
        let output =
            channel_norm::forward(elements(&x), elements(&weight), bias, epsilon as f32, dims);
        FlexTensor::from_data(TensorData::new(output, dims))
    }

    fn channel_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        with_bias: bool,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor) {
        if !single_precision([Some(&x), Some(&weight), Some(&grad)]) {
            return plain::channel_norm_backward::<Self>(x, weight, grad, with_bias, epsilon);
        }
        let dims: Dims = x.shape().dims();
        let (x, weight, grad) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            grad.to_contiguous(),
        );
        let kind = channel_norm::Kind {
            with_bias,
            epsilon: epsilon as f32,
        };
        let (grad_x, grad_weight) =
            channel_norm::backward(elements(&x), elements(&weight), elements(&grad), kind, dims);
        (
            FlexTensor::from_data(TensorData::new(grad_x, dims)),
            FlexTensor::from_data(TensorData::new(grad_weight, [dims[1]])),
        )
    }

    fn exact_gelu_backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        // Flex's own is exact.
        <Self as ActivationOps<Self>>::gelu_backward(x, grad)
    }

    fn gelu_gate(x: FlexTensor) -> FlexTensor {
        if !single_precision([Some(&x), None, None]) {
            return plain::gelu_gate::<Self>(x);
        }
        let dims: Dims = x.shape().dims();
        let output = gelu_gate::forward(elements(&x.to_contiguous()), dims);
        FlexTensor::from_data(TensorData::new(output, half_channels(dims)))
    }

    fn gelu_gate_backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        if !single_precision([Some(&x), Some(&grad), None]) {
            return plain::gelu_gate_backward::<Self>(x, grad);
        }
        let dims: Dims = x.shape().dims();
        let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
        let grad_x = gelu_gate::backward(elements(&x), elements(&grad), dims);
        FlexTensor::from_data(TensorData::new(grad_x, dims))
    }
}

fn single_precision(tensors: [Option<&FlexTensor>; 3]) -> bool {
    tensors
        .into_iter()
        .flatten()
        .all(|tensor| tensor.dtype() == DType::F32)
}

/// The elements of a contiguous tensor, which may be a window of a larger buffer.
fn elements(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
}
