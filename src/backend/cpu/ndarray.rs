//! The kernels on NdArray's tensors.

use burn::tensor::{DType, TensorData, TensorMetadata};
use burn_ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArray, NdArrayTensor, QuantElement, SharedArray,
};

use super::{Dims, depthwise};
use crate::backend::{Backend, plain};

impl<E, I, Q> Backend for NdArray<E, I, Q>
where
    E: FloatNdArrayElement,
    I: IntNdArrayElement,
    Q: QuantElement,
    NdArrayTensor: From<SharedArray<E>>,
    NdArrayTensor: From<SharedArray<I>>,
{
    fn depthwise_conv3x3(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        bias: Option<NdArrayTensor>,
    ) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::depthwise_conv3x3::<Self>(x, weight, bias);
        }
        let dims: Dims = x.shape().dims();
        let bias = bias.map(elements);
        let output = depthwise::forward(&elements(x), &elements(weight), bias.as_deref(), dims);
        from_elements(output, dims)
    }

    fn depthwise_conv3x3_backward(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        grad: NdArrayTensor,
    ) -> (NdArrayTensor, NdArrayTensor) {
        if x.dtype() != DType::F32 {
            return plain::depthwise_conv3x3_backward::<Self>(x, weight, grad);
        }
        let dims: Dims = x.shape().dims();
        let (grad_x, grad_weight) =
            depthwise::backward(&elements(x), &elements(weight), &elements(grad), dims);
        (
            from_elements(grad_x, dims),
            from_elements(grad_weight, [dims[1], 1, 3, 3]),
        )
    }
}

/// The elements in memory order; NdArray's arrays may have any strides.
fn elements(tensor: NdArrayTensor) -> Vec<f32> {
    match tensor {
        NdArrayTensor::F32(storage) => storage.into_shared().iter().copied().collect(),
        other => unreachable!("callers have checked for f32, found {:?}", other.dtype()),
    }
}

fn from_elements(elements: Vec<f32>, dims: Dims) -> NdArrayTensor {
    NdArrayTensor::from_data(TensorData::new(elements, dims))
}
