//! The kernels on Flex's tensors.

use burn::tensor::ops::ActivationOps;
use burn::tensor::{DType, TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};

use super::blocks::{self, Elements, Gradient};
use super::conv3x3::{self, Arrangement};
use super::{Dims, channel_norm, depthwise, gelu_gate, half_channels};
use crate::backend::{Backend, BranchWeights, HimWeights, plain};

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

    fn conv3x3(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
        if !single_precision([Some(&x), Some(&weight), bias.as_ref()]) {
            return plain::conv3x3::<Self>(x, weight, bias);
        }
        convolve(x, weight, bias, Arrangement::Plain, None)
    }

    fn conv3x3_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        if !single_precision([Some(&x), Some(&weight), Some(&grad)]) {
            return plain::conv3x3_backward::<Self>(x, weight, grad);
        }
        let dims: Dims = x.shape().dims();
        let shape: Dims = weight.shape().dims();
        let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
        let (x, weight) = conv3x3::backward(elements(&x), dims, elements(&weight), elements(&grad));
        (
            FlexTensor::from_data(TensorData::new(x, dims)),
            FlexTensor::from_data(TensorData::new(weight, shape)),
        )
    }

    fn conv3x3_unshuffle(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        if !single_precision([Some(&x), Some(&weight), None]) {
            return plain::conv3x3_unshuffle::<Self>(x, weight);
        }
        convolve(x, weight, None, Arrangement::Unshuffled, None)
    }

    fn conv3x3_shuffle(x: FlexTensor, weight: FlexTensor, skip: FlexTensor) -> FlexTensor {
        if !single_precision([Some(&x), Some(&weight), Some(&skip)]) {
            return plain::conv3x3_shuffle::<Self>(x, weight, skip);
        }
        convolve(x, weight, None, Arrangement::Shuffled, Some(skip))
    }

    fn mdta(
        x: FlexTensor,
        temperature: FlexTensor,
        weights: BranchWeights<FlexTensor>,
    ) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return plain::mdta::<Self>(x, temperature, weights);
        }
        let (temperature, weights) = (contiguous(temperature), weights.map(contiguous));
        in_place(x, |x, dims| {
            blocks::add_mdta(x, dims, &temperature, &weights)
        })
    }

    fn gdfn(x: FlexTensor, weights: BranchWeights<FlexTensor>) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return plain::gdfn::<Self>(x, weights);
        }
        let weights = weights.map(contiguous);
        in_place(x, |x, dims| blocks::add_gdfn(x, dims, &weights))
    }

    fn differentiates_blocks(x: &FlexTensor) -> bool {
        x.dtype() == DType::F32
    }

    fn mdta_backward(
        x: FlexTensor,
        temperature: FlexTensor,
        weights: BranchWeights<FlexTensor>,
        grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor, BranchWeights<FlexTensor>) {
        if x.dtype() != DType::F32 {
            return plain::mdta_backward::<Self>(x, temperature, weights, grad);
        }
        let dims: Dims = x.shape().dims();
        let heads = temperature.shape();
        let (x, grad) = (contiguous(x), contiguous(grad));
        let (temperature, weights) = (contiguous(temperature), weights.map(contiguous));
        let (x, temperature, weights) =
            blocks::mdta_backward(elements(&x), dims, &temperature, &weights, elements(&grad));
        (
            FlexTensor::from_data(TensorData::new(x, dims)),
            FlexTensor::from_data(TensorData::new(temperature, heads)),
            weights.map(gradient),
        )
    }

    fn gdfn_backward(
        x: FlexTensor,
        weights: BranchWeights<FlexTensor>,
        grad: FlexTensor,
    ) -> (FlexTensor, BranchWeights<FlexTensor>) {
        if x.dtype() != DType::F32 {
            return plain::gdfn_backward::<Self>(x, weights, grad);
        }
        let dims: Dims = x.shape().dims();
        let (x, grad) = (contiguous(x), contiguous(grad));
        let weights = weights.map(contiguous);
        let (x, weights) = blocks::gdfn_backward(elements(&x), dims, &weights, elements(&grad));
        let x = FlexTensor::from_data(TensorData::new(x, dims));
        (x, weights.map(gradient))
    }

    fn him(x: FlexTensor, weights: HimWeights<FlexTensor>) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return plain::him::<Self>(x, weights);
        }
        let weights = weights.map(contiguous);
        in_place(x, |x, dims| blocks::add_him(x, dims, &weights))
    }

    fn him_backward(
        x: FlexTensor,
        weights: HimWeights<FlexTensor>,
        grad: FlexTensor,
    ) -> (FlexTensor, HimWeights<FlexTensor>) {
        if x.dtype() != DType::F32 || weights.norm.modulation.is_some() {
            return plain::him_backward::<Self>(x, weights, grad);
        }
        let dims: Dims = x.shape().dims();
        let (x, grad) = (contiguous(x), contiguous(grad));
        let weights = weights.map(contiguous);
        let (x, weights) = blocks::him_backward(elements(&x), dims, &weights, elements(&grad));
        let x = FlexTensor::from_data(TensorData::new(x, dims));
        (x, weights.map(gradient))
    }

    fn exact_gelu(x: FlexTensor) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return plain::exact_gelu::<Self>(x);
        }
        let shape = x.shape();
        let output = gelu_gate::gelu(elements(&x.to_contiguous()));
        FlexTensor::from_data(TensorData::new(output, shape))
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

impl Elements for FlexTensor {
    fn elements(&self) -> &[f32] {
        elements(self)
    }
}

fn gradient((values, shape): Gradient) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

fn convolve(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    arrangement: Arrangement,
    skip: Option<FlexTensor>,
) -> FlexTensor {
    let dims: Dims = x.shape().dims();
    let (x, weight) = (contiguous(x), contiguous(weight));
    let (bias, skip) = (bias.map(contiguous), skip.map(contiguous));
    let (output, dims) = blocks::conv3x3(
        elements(&x),
        dims,
        elements(&weight),
        bias.as_ref().map(elements),
        arrangement,
        skip.as_ref().map(elements),
    );
    FlexTensor::from_data(TensorData::new(output, dims))
}

/// Works on the tensor's own memory if nothing else holds it, or on a copy.
fn in_place(x: FlexTensor, work: impl FnOnce(&mut [f32], Dims)) -> FlexTensor {
    let dims: Dims = x.shape().dims();
    let whole =
        x.is_contiguous() && x.bytes().len() == size_of::<f32>() * x.layout().num_elements();
    let mut x = match whole {
        true => x,
        false => {
            FlexTensor::from_data(TensorData::new(elements(&x.to_contiguous()).to_vec(), dims))
        }
    };
    work(x.storage_mut(), dims);
    x
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
