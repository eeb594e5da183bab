//! Burn's own traits for [`Counting`]: each operation counted, then handed to the inner backend.
//!
//! Listed are the operations that Burn asks of every backend, and of those it has a default for, the ones HI-Diff uses
//! and backends have faster kernels for. Tensors and devices are the inner backend's, so nothing is converted.

use std::future::Future;

use burn::tensor::backend::{Backend, BackendTypes, DTypeUsageSet, ExecutionError};
use burn::tensor::ops::*;
use burn::tensor::quantization::{QuantScheme, QuantizationParametersPrimitive};
use burn::tensor::{BoolDType, DType, Distribution, FloatDType, IntDType};
use burn::tensor::{Scalar, Shape, Slice, TensorData};

use super::Counting;

/// Methods of one signature in each line: `(arguments) -> output: names`.
macro_rules! delegate {
    ($($arguments:tt -> $output:ty: $($name:ident)+;)+) => {
        $($(delegate!(@method $name $arguments $output);)+)+
    };
    (@method $name:ident ($($argument:ident: $type:ty),*) $output:ty) => {
        fn $name($($argument: $type),*) -> $output {
            super::count(stringify!($name));
            B::$name($($argument),*)
        }
    };
}

type Float<B> = FloatTensor<B>;
type Int<B> = IntTensor<B>;
type Bool<B> = BoolTensor<B>;
type Quantized<B> = QuantizedTensor<B>;

impl<B: Backend> BackendTypes for Counting<B> {
    type Device = B::Device;
    type FloatTensorPrimitive = B::FloatTensorPrimitive;
    type FloatElem = B::FloatElem;
    type IntTensorPrimitive = B::IntTensorPrimitive;
    type IntElem = B::IntElem;
    type BoolTensorPrimitive = B::BoolTensorPrimitive;
    type BoolElem = B::BoolElem;
    type QuantizedTensorPrimitive = B::QuantizedTensorPrimitive;
}

impl<B: Backend> Backend for Counting<B> {
    fn name(device: &B::Device) -> String {
        format!("counting<{}>", B::name(device))
    }

    fn seed(device: &B::Device, seed: u64) {
        B::seed(device, seed);
    }

    fn sync(device: &B::Device) -> Result<(), ExecutionError> {
        B::sync(device)
    }

    fn dtype_usage(device: &B::Device, dtype: DType) -> DTypeUsageSet {
        B::dtype_usage(device, dtype)
    }

    fn device_count(type_id: u16) -> usize {
        B::device_count(type_id)
    }
}

impl<B: Backend> TransactionOps<Self> for Counting<B> {}

impl<B: Backend> ActivationOps<Self> for Counting<B> {
    delegate! {
        (tensor: Float<B>) -> Float<B>: relu gelu sigmoid;
        (tensor: Float<B>, slope: Scalar) -> Float<B>: leaky_relu;
        (tensor: Float<B>, dim: usize) -> Float<B>: softmax;
    }
}

impl<B: Backend> FloatTensorOps<Self> for Counting<B> {
    // Asking where a tensor lies is not counted.
    fn float_device(tensor: &Float<B>) -> B::Device {
        B::float_device(tensor)
    }

    delegate! {
        (data: TensorData, device: &B::Device) -> Float<B>: float_from_data;
        (shape: Shape, distribution: Distribution, device: &B::Device, dtype: FloatDType) -> Float<B>: float_random;
        (shape: Shape, device: &B::Device, dtype: FloatDType) -> Float<B>: float_empty float_zeros float_ones;
        (shape: Shape, value: Scalar, device: &B::Device, dtype: FloatDType) -> Float<B>: float_full;
        (tensor: Float<B>) -> impl Future<Output = Result<TensorData, ExecutionError>> + Send: float_into_data;
        (tensor: Float<B>, device: &B::Device) -> Float<B>: float_to_device;
        (tensor: Float<B>, dtype: IntDType) -> Int<B>: float_into_int;
        (tensor: Float<B>, dtype: FloatDType) -> Float<B>: float_cast;

        (tensor: Float<B>) -> Float<B>: float_recip float_exp float_log float_log1p float_sqrt float_abs float_neg
            float_cos float_sin float_tan float_cosh float_sinh float_tanh float_acos float_acosh float_asin
            float_asinh float_atan float_atanh float_round float_floor float_ceil float_trunc float_erf;
        (lhs: Float<B>, rhs: Float<B>) -> Float<B>: float_add float_sub float_mul float_div float_remainder
            float_matmul float_powf float_atan2;
        (lhs: Float<B>, rhs: Scalar) -> Float<B>: float_add_scalar float_sub_scalar float_mul_scalar float_div_scalar
            float_remainder_scalar float_powf_scalar_impl float_clamp_min float_clamp_max;
        (lhs: Float<B>, rhs: Float<B>, dim: usize) -> Float<B>: float_cross;
        (lhs: Float<B>, rhs: Float<B>, dtype: BoolDType) -> Bool<B>: float_equal float_greater float_greater_equal
            float_lower float_lower_equal;
        (lhs: Float<B>, rhs: Scalar, dtype: BoolDType) -> Bool<B>: float_equal_elem float_greater_elem
            float_greater_equal_elem float_lower_elem float_lower_equal_elem;

        (tensor: Float<B>) -> Float<B>: float_sum float_mean;
        (tensor: Float<B>, dim: usize) -> Float<B>: float_sum_dim float_mean_dim float_cumsum float_cumprod
            float_cummin float_cummax;
        (tensor: Float<B>, dim: usize, dtype: IntDType) -> Int<B>: float_argmax float_argmin;
        (tensor: Float<B>, dim: usize, k: usize, dtype: IntDType) -> Int<B>: float_argtopk;

        (tensor: Float<B>, shape: Shape) -> Float<B>: float_reshape float_expand;
        (tensor: Float<B>, axes: &[usize]) -> Float<B>: float_permute float_flip;
        (tensor: Float<B>, dim1: usize, dim2: usize) -> Float<B>: float_swap_dims float_repeat_dim;
        (tensor: Float<B>, dim: usize, size: usize, step: usize) -> Float<B>: float_unfold;
        (tensors: Vec<Float<B>>, dim: usize) -> Float<B>: float_cat;
        (tensor: Float<B>, slices: &[Slice]) -> Float<B>: float_slice;
        (tensor: Float<B>, slices: &[Slice], value: Float<B>) -> Float<B>: float_slice_assign;
        (tensor: Float<B>, mask: Bool<B>, value: Float<B>) -> Float<B>: float_mask_where;
        (tensor: Float<B>, mask: Bool<B>, value: Scalar) -> Float<B>: float_mask_fill;
        (dim: usize, tensor: Float<B>, indices: Int<B>) -> Float<B>: float_gather;
        (dim: usize, tensor: Float<B>, indices: Int<B>, value: Float<B>) -> Float<B>: float_scatter_add;
        (tensor: Float<B>, dim: usize, indices: Int<B>) -> Float<B>: float_select;
        (tensor: Float<B>, dim: usize, indices: Int<B>, value: Float<B>) -> Float<B>: float_select_add;
    }
}

impl<B: Backend> IntTensorOps<Self> for Counting<B> {
    fn int_device(tensor: &Int<B>) -> B::Device {
        B::int_device(tensor)
    }

    delegate! {
        (data: TensorData, device: &B::Device) -> Int<B>: int_from_data;
        (shape: Shape, distribution: Distribution, device: &B::Device, dtype: IntDType) -> Int<B>: int_random;
        (shape: Shape, device: &B::Device, dtype: IntDType) -> Int<B>: int_empty;
        (tensor: Int<B>) -> impl Future<Output = Result<TensorData, ExecutionError>> + Send: int_into_data;
        (tensor: Int<B>, device: &B::Device) -> Int<B>: int_to_device;
        (tensor: Int<B>, dtype: FloatDType) -> Float<B>: int_into_float;
        (tensor: Int<B>, dtype: IntDType) -> Int<B>: int_cast;

        (tensor: Int<B>) -> Int<B>: int_abs int_sum int_prod bitwise_not;
        (lhs: Int<B>, rhs: Int<B>) -> Int<B>: int_add int_sub int_mul int_div int_remainder int_matmul bitwise_and
            bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift;
        (lhs: Int<B>, rhs: Scalar) -> Int<B>: int_add_scalar int_sub_scalar int_mul_scalar int_div_scalar
            int_remainder_scalar bitwise_and_scalar bitwise_or_scalar bitwise_xor_scalar bitwise_left_shift_scalar
            bitwise_right_shift_scalar;
        (lhs: Int<B>, rhs: Int<B>, dtype: BoolDType) -> Bool<B>: int_equal int_greater int_greater_equal int_lower
            int_lower_equal;
        (lhs: Int<B>, rhs: Scalar, dtype: BoolDType) -> Bool<B>: int_equal_elem int_greater_elem
            int_greater_equal_elem int_lower_elem int_lower_equal_elem;

        (tensor: Int<B>, dim: usize) -> Int<B>: int_sum_dim int_prod_dim int_mean_dim int_cumsum int_cumprod
            int_cummin int_cummax int_argmax int_argmin;
        (tensor: Int<B>, dim: usize, k: usize) -> Int<B>: int_argtopk;

        (tensor: Int<B>, shape: Shape) -> Int<B>: int_reshape int_expand;
        (tensor: Int<B>, axes: &[usize]) -> Int<B>: int_permute int_flip;
        (tensor: Int<B>, dim1: usize, dim2: usize) -> Int<B>: int_swap_dims;
        (tensor: Int<B>, dim: usize, size: usize, step: usize) -> Int<B>: int_unfold;
        (tensor: Int<B>, slices: &[Slice]) -> Int<B>: int_slice;
        (tensor: Int<B>, slices: &[Slice], value: Int<B>) -> Int<B>: int_slice_assign;
        (tensor: Int<B>, mask: Bool<B>, value: Int<B>) -> Int<B>: int_mask_where;
        (tensor: Int<B>, mask: Bool<B>, value: Scalar) -> Int<B>: int_mask_fill;
        (dim: usize, tensor: Int<B>, indices: Int<B>) -> Int<B>: int_gather;
        (dim: usize, tensor: Int<B>, indices: Int<B>, value: Int<B>) -> Int<B>: int_scatter_add;
        (tensor: Int<B>, dim: usize, indices: Int<B>) -> Int<B>: int_select;
        (tensor: Int<B>, dim: usize, indices: Int<B>, value: Int<B>) -> Int<B>: int_select_add;
    }
}

impl<B: Backend> BoolTensorOps<Self> for Counting<B> {
    fn bool_device(tensor: &Bool<B>) -> B::Device {
        B::bool_device(tensor)
    }

    delegate! {
        (data: TensorData, device: &B::Device) -> Bool<B>: bool_from_data;
        (shape: Shape, device: &B::Device, dtype: BoolDType) -> Bool<B>: bool_empty bool_zeros bool_ones;
        (tensor: Bool<B>) -> impl Future<Output = Result<TensorData, ExecutionError>> + Send: bool_into_data;
        (tensor: Bool<B>, device: &B::Device) -> Bool<B>: bool_to_device;
        (tensor: Bool<B>, dtype: FloatDType) -> Float<B>: bool_into_float;
        (tensor: Bool<B>, dtype: IntDType) -> Int<B>: bool_into_int;

        (tensor: Bool<B>) -> Bool<B>: bool_not;
        (lhs: Bool<B>, rhs: Bool<B>) -> Bool<B>: bool_equal bool_and bool_or;
        (lhs: Bool<B>, rhs: Scalar) -> Bool<B>: bool_equal_elem;

        (tensor: Bool<B>, shape: Shape) -> Bool<B>: bool_reshape bool_expand;
        (tensor: Bool<B>, axes: &[usize]) -> Bool<B>: bool_permute bool_flip;
        (tensor: Bool<B>, dim1: usize, dim2: usize) -> Bool<B>: bool_swap_dims;
        (tensor: Bool<B>, dim: usize, size: usize, step: usize) -> Bool<B>: bool_unfold;
        (tensor: Bool<B>, slices: &[Slice]) -> Bool<B>: bool_slice;
        (tensor: Bool<B>, slices: &[Slice], value: Bool<B>) -> Bool<B>: bool_slice_assign;
        (tensor: Bool<B>, mask: Bool<B>, value: Bool<B>) -> Bool<B>: bool_mask_where;
        (tensor: Bool<B>, mask: Bool<B>, value: Scalar) -> Bool<B>: bool_mask_fill;
        (dim: usize, tensor: Bool<B>, indices: Int<B>) -> Bool<B>: bool_gather;
        (dim: usize, tensor: Bool<B>, indices: Int<B>, value: Bool<B>) -> Bool<B>: bool_scatter_or;
        (tensor: Bool<B>, dim: usize, indices: Int<B>) -> Bool<B>: bool_select;
        (tensor: Bool<B>, dim: usize, indices: Int<B>, value: Bool<B>) -> Bool<B>: bool_select_or;
    }
}

impl<B: Backend> QTensorOps<Self> for Counting<B> {
    fn q_device(tensor: &Quantized<B>) -> B::Device {
        B::q_device(tensor)
    }

    delegate! {
        (data: TensorData, device: &B::Device) -> Quantized<B>: q_from_data;
        (tensor: Quantized<B>, dtype: FloatDType) -> Float<B>: dequantize;
        (tensor: Quantized<B>) -> impl Future<Output = Result<TensorData, ExecutionError>> + Send: q_into_data;
        (tensor: Quantized<B>, device: &B::Device) -> Quantized<B>: q_to_device;
        (tensor: Quantized<B>, shape: Shape) -> Quantized<B>: q_reshape q_expand;
        (tensor: Quantized<B>, dim1: usize, dim2: usize) -> Quantized<B>: q_swap_dims;
        (tensor: Quantized<B>, axes: &[usize]) -> Quantized<B>: q_permute q_flip;
        (tensor: Quantized<B>, dim: usize, indices: Int<B>) -> Quantized<B>: q_select;
        (tensor: Quantized<B>, slices: &[Slice]) -> Quantized<B>: q_slice;
    }

    fn quantize(
        tensor: Float<B>,
        scheme: &QuantScheme,
        parameters: QuantizationParametersPrimitive<Self>,
    ) -> Quantized<B> {
        super::count("quantize");
        let scales = parameters.scales;
        B::quantize(tensor, scheme, QuantizationParametersPrimitive { scales })
    }
}

impl<B: Backend> ModuleOps<Self> for Counting<B> {
    delegate! {
        (x: Float<B>, weight: Float<B>, bias: Option<Float<B>>) -> Float<B>: linear;
        (x: Float<B>, gamma: Float<B>, beta: Option<Float<B>>, epsilon: f64) -> Float<B>: layer_norm;
        (x: Float<B>, weight: Float<B>, bias: Option<Float<B>>, options: ConvOptions<2>) -> Float<B>: conv2d;
        (x: Float<B>, weight: Float<B>, bias: Option<Float<B>>, options: ConvOptions<3>) -> Float<B>: conv3d;
        (x: Float<B>, weight: Float<B>, bias: Option<Float<B>>, options: ConvTransposeOptions<2>) -> Float<B>:
            conv_transpose2d;
        (x: Float<B>, weight: Float<B>, bias: Option<Float<B>>, options: ConvTransposeOptions<3>) -> Float<B>:
            conv_transpose3d;
        (x: Float<B>, offset: Float<B>, weight: Float<B>, mask: Option<Float<B>>, bias: Option<Float<B>>,
            options: DeformConvOptions<2>) -> Float<B>: deform_conv2d;
        (x: Float<B>, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], include_pad: bool, ceil: bool)
            -> Float<B>: avg_pool2d;
        (x: Float<B>, grad: Float<B>, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2],
            include_pad: bool, ceil: bool) -> Float<B>: avg_pool2d_backward;
        (x: Float<B>, size: [usize; 2]) -> Float<B>: adaptive_avg_pool2d;
        (x: Float<B>, grad: Float<B>) -> Float<B>: adaptive_avg_pool2d_backward;
        (x: Float<B>, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2], ceil: bool)
            -> Float<B>: max_pool2d;
        (x: Float<B>, size: [usize; 2], options: InterpolateOptions) -> Float<B>: interpolate;
        (x: Float<B>, grad: Float<B>, size: [usize; 2], options: InterpolateOptions) -> Float<B>: interpolate_backward;
        (query: Float<B>, key: Float<B>, value: Float<B>, mask: Option<Bool<B>>, bias: Option<Float<B>>,
            options: AttentionModuleOptions) -> Float<B>: attention;
        (signal: Float<B>, dim: usize, n: Option<usize>) -> (Float<B>, Float<B>): rfft;
        (real: Float<B>, imaginary: Float<B>, dim: usize, n: Option<usize>) -> Float<B>: irfft;
    }

    fn deform_conv2d_backward(
        x: Float<B>,
        offset: Float<B>,
        weight: Float<B>,
        mask: Option<Float<B>>,
        bias: Option<Float<B>>,
        grad: Float<B>,
        options: DeformConvOptions<2>,
    ) -> DeformConv2dBackward<Self> {
        super::count("deform_conv2d_backward");
        let grads = B::deform_conv2d_backward(x, offset, weight, mask, bias, grad, options);
        DeformConv2dBackward {
            x_grad: grads.x_grad,
            offset_grad: grads.offset_grad,
            weight_grad: grads.weight_grad,
            mask_grad: grads.mask_grad,
            bias_grad: grads.bias_grad,
        }
    }

    fn max_pool2d_with_indices(
        x: Float<B>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil: bool,
    ) -> MaxPool2dWithIndices<Self> {
        super::count("max_pool2d_with_indices");
        let pooled = B::max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil);
        MaxPool2dWithIndices {
            output: pooled.output,
            indices: pooled.indices,
        }
    }

    fn max_pool2d_with_indices_backward(
        x: Float<B>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil: bool,
        grad: Float<B>,
        indices: Int<B>,
    ) -> MaxPool2dBackward<Self> {
        super::count("max_pool2d_with_indices_backward");
        let grads = B::max_pool2d_with_indices_backward(
            x, kernel, stride, padding, dilation, ceil, grad, indices,
        );
        MaxPool2dBackward {
            x_grad: grads.x_grad,
        }
    }
}
