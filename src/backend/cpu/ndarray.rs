//! The kernels on NdArray's tensors.

use burn::tensor::{DType, TensorData, TensorMetadata};
use burn_ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArray, NdArrayTensor, QuantElement, SharedArray,
};

use super::{Dims, channel_norm, depthwise, gelu_gate, half_channels};
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

    fn channel_norm(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        bias: Option<NdArrayTensor>,
        epsilon: f64,
    ) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::channel_norm::<Self>(x, weight, bias, epsilon);
        }
        let dims: Dims = x.shape().dims();
        let bias = bias.map(elements);
        let (x, weight) = (elements(x), elements(weight));
        let output = channel_norm::forward(&x, &weight, bias.as_deref(), epsilon as f32, dims);
        from_elements(output, dims)
    }

    fn channel_norm_backward(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        grad: NdArrayTensor,
        with_bias: bool,
        epsilon: f64,
    ) -> (NdArrayTensor, NdArrayTensor) {
        if x.dtype() != DType::F32 {
            return plain::channel_norm_backward::<Self>(x, weight, grad, with_bias, epsilon);
        }
        let dims: Dims = x.shape().dims();
        let kind = channel_norm::Kind {
            with_bias,
            epsilon: epsilon as f32,
        };
        let (grad_x, grad_weight) =
            channel_norm::backward(&elements(x), &elements(weight), &elements(grad), kind, dims);
        (
            from_elements(grad_x, dims),
            from_elements(grad_weight, [dims[1]]),
        )
    }

    fn gelu_gate(x: NdArrayTensor) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::gelu_gate::<Self>(x);
        }
        let dims: Dims = x.shape().dims();
        from_elements(gelu_gate::forward(&elements(x), dims), half_channels(dims))
    }

    fn gelu_gate_backward(x: NdArrayTensor, grad: NdArrayTensor) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::gelu_gate_backward::<Self>(x, grad);
        }
        let dims: Dims = x.shape().dims();
        from_elements(
            gelu_gate::backward(&elements(x), &elements(grad), dims),
            dims,
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

fn from_elements<const D: usize>(elements: Vec<f32>, dims: [usize; D]) -> NdArrayTensor {
    NdArrayTensor::from_data(TensorData::new(elements, dims))
}
