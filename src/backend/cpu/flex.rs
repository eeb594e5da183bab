//! The kernels on Flex's tensors.

use burn::tensor::{DType, TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};

use super::{Dims, depthwise};
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
