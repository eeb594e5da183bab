//! The kernels on NdArray's tensors.

use burn::tensor::{DType, TensorData, TensorMetadata};
use burn_ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArray, NdArrayTensor, QuantElement, SharedArray,
};

use super::blocks::{self, Gradient};
use super::conv3x3::{self, Arrangement};
use super::{Dims, channel_norm, depthwise, gelu_gate, half_channels};
use crate::backend::{Backend, BranchWeights, HimWeights, plain};

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

    fn conv3x3(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        bias: Option<NdArrayTensor>,
    ) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::conv3x3::<Self>(x, weight, bias);
        }
        convolve(x, weight, bias, Arrangement::Plain, None)
    }

    fn conv3x3_backward(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        grad: NdArrayTensor,
    ) -> (NdArrayTensor, NdArrayTensor) {
        if x.dtype() != DType::F32 {
            return plain::conv3x3_backward::<Self>(x, weight, grad);
        }
        let dims: Dims = x.shape().dims();
        let shape: Dims = weight.shape().dims();
        let (x, weight) = conv3x3::backward(&elements(x), dims, &elements(weight), &elements(grad));
        (from_elements(x, dims), from_elements(weight, shape))
    }

    fn conv3x3_unshuffle(x: NdArrayTensor, weight: NdArrayTensor) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::conv3x3_unshuffle::<Self>(x, weight);
        }
        convolve(x, weight, None, Arrangement::Unshuffled, None)
    }

    fn conv3x3_shuffle(
        x: NdArrayTensor,
        weight: NdArrayTensor,
        skip: NdArrayTensor,
    ) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::conv3x3_shuffle::<Self>(x, weight, skip);
        }
        convolve(x, weight, None, Arrangement::Shuffled, Some(skip))
    }

    fn mdta(
        x: NdArrayTensor,
        temperature: NdArrayTensor,
        weights: BranchWeights<NdArrayTensor>,
    ) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::mdta::<Self>(x, temperature, weights);
        }
        let dims: Dims = x.shape().dims();
        let (mut x, weights) = (elements(x), weights.map(elements));
        blocks::add_mdta(&mut x, dims, &elements(temperature), &weights);
        from_elements(x, dims)
    }

    fn differentiates_blocks(x: &NdArrayTensor) -> bool {
        x.dtype() == DType::F32
    }

    fn mdta_backward(
        x: NdArrayTensor,
        temperature: NdArrayTensor,
        weights: BranchWeights<NdArrayTensor>,
        grad: NdArrayTensor,
    ) -> (NdArrayTensor, NdArrayTensor, BranchWeights<NdArrayTensor>) {
        if x.dtype() != DType::F32 {
            return plain::mdta_backward::<Self>(x, temperature, weights, grad);
        }
        let dims: Dims = x.shape().dims();
        let heads: [usize; 3] = temperature.shape().dims();
        let (x, temperature, grad) = (elements(x), elements(temperature), elements(grad));
        let weights = weights.map(elements);
        let (x, temperature, weights) =
            blocks::mdta_backward(&x, dims, &temperature, &weights, &grad);
        let temperature = from_elements(temperature, heads);
        (from_elements(x, dims), temperature, weights.map(gradient))
    }

    fn gdfn(x: NdArrayTensor, weights: BranchWeights<NdArrayTensor>) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::gdfn::<Self>(x, weights);
        }
        let dims: Dims = x.shape().dims();
        let mut x = elements(x);
        blocks::add_gdfn(&mut x, dims, &weights.map(elements));
        from_elements(x, dims)
    }

    fn gdfn_backward(
        x: NdArrayTensor,
        weights: BranchWeights<NdArrayTensor>,
        grad: NdArrayTensor,
    ) -> (NdArrayTensor, BranchWeights<NdArrayTensor>) {
        if x.dtype() != DType::F32 {
            return plain::gdfn_backward::<Self>(x, weights, grad);
        }
        let dims: Dims = x.shape().dims();
        let (x, grad) = (elements(x), elements(grad));
        let (x, weights) = blocks::gdfn_backward(&x, dims, &weights.map(elements), &grad);
        (from_elements(x, dims), weights.map(gradient))
    }

    fn him(x: NdArrayTensor, weights: HimWeights<NdArrayTensor>) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::him::<Self>(x, weights);
        }
        let dims: Dims = x.shape().dims();
        let mut x = elements(x);
        blocks::add_him(&mut x, dims, &weights.map(elements));
        from_elements(x, dims)
    }

    fn him_backward(
        x: NdArrayTensor,
        weights: HimWeights<NdArrayTensor>,
        grad: NdArrayTensor,
    ) -> (NdArrayTensor, HimWeights<NdArrayTensor>) {
        if x.dtype() != DType::F32 || weights.norm.modulation.is_some() {
            return plain::him_backward::<Self>(x, weights, grad);
        }
        let dims: Dims = x.shape().dims();
        let (x, grad) = (elements(x), elements(grad));
        let (x, weights) = blocks::him_backward(&x, dims, &weights.map(elements), &grad);
        (from_elements(x, dims), weights.map(gradient))
    }

    fn exact_gelu(x: NdArrayTensor) -> NdArrayTensor {
        if x.dtype() != DType::F32 {
            return plain::exact_gelu::<Self>(x);
        }
        let shape = x.shape();
        let output = gelu_gate::gelu(&elements(x));
        NdArrayTensor::from_data(TensorData::new(output, shape))
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

fn convolve(
    x: NdArrayTensor,
    weight: NdArrayTensor,
    bias: Option<NdArrayTensor>,
    arrangement: Arrangement,
    skip: Option<NdArrayTensor>,
) -> NdArrayTensor {
    let dims: Dims = x.shape().dims();
    let (x, weight) = (elements(x), elements(weight));
    let (bias, skip) = (bias.map(elements), skip.map(elements));
    let (output, dims) = blocks::conv3x3(
        &x,
        dims,
        &weight,
        bias.as_deref(),
        arrangement,
        skip.as_deref(),
    );
    from_elements(output, dims)
}

fn gradient((values, shape): Gradient) -> NdArrayTensor {
    NdArrayTensor::from_data(TensorData::new(values, shape))
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
