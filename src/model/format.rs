//! Number formats: the networks compute in that of their weights, and where half precision would overflow, in single.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, FloatDType, Tensor};

/// The tensor in single precision, if it is in half.
pub(super) fn single<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(FloatDType::F32),
        _ => x,
    }
}

/// The tensor in the format of another.
pub(super) fn same_format<B: Backend, const D: usize, const E: usize>(
    x: Tensor<B, D>,
    other: &Tensor<B, E>,
) -> Tensor<B, D> {
    let format = other.dtype();
    match x.dtype() == format {
        true => x,
        false => x.cast(FloatDType::from(format)),
    }
}
