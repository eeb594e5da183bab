//! NdArray's tensors, for the kernels.

use burn::tensor::{Shape, TensorData, TensorMetadata};
use burn_ndarray::NdArrayTensor;

use super::operations::CpuTensor;

impl CpuTensor for NdArrayTensor {
    fn from_elements(elements: Vec<f32>, shape: impl Into<Shape>) -> Self {
        NdArrayTensor::from_data(TensorData::new(elements, shape.into()))
    }

    /// NdArray's arrays may have any strides.
    fn contiguous(self) -> Self {
        match &self {
            NdArrayTensor::F32(storage) if !storage.view().is_standard_layout() => {
                let elements = storage.view().iter().copied().collect();
                Self::from_elements(elements, self.shape())
            }
            _ => self,
        }
    }

    fn elements(&self) -> &[f32] {
        match self {
            NdArrayTensor::F32(storage) => {
                let elements = storage.view().to_slice();
                elements.expect("callers have made it contiguous")
            }
            other => unreachable!("callers have checked for f32, found {:?}", other.dtype()),
        }
    }

    fn update(self, work: impl FnOnce(&mut [f32])) -> Self {
        match self.contiguous() {
            NdArrayTensor::F32(storage) => {
                let mut array = storage.into_owned();
                work(array.as_slice_mut().expect("it was made contiguous"));
                NdArrayTensor::F32(array.into())
            }
            other => unreachable!("callers have checked for f32, found {:?}", other.dtype()),
        }
    }
}
