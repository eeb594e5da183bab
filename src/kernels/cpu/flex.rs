//! Flex's tensors, for the kernels.

use burn::tensor::{Shape, TensorData};
use burn_flex::FlexTensor;

use super::operations::CpuTensor;

impl CpuTensor for FlexTensor {
    fn from_elements(elements: Vec<f32>, shape: impl Into<Shape>) -> Self {
        FlexTensor::from_data(TensorData::new(elements, shape.into()))
    }

    fn contiguous(self) -> Self {
        self.to_contiguous()
    }

    /// The tensor may be a window of a larger buffer.
    fn elements(&self) -> &[f32] {
        let layout = self.layout();
        &self.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
    }

    fn update(self, work: impl FnOnce(&mut [f32])) -> Self {
        let length = self.layout().num_elements();
        let whole = self.is_contiguous() && self.bytes().len() == size_of::<f32>() * length;
        let mut tensor = match whole {
            true => self,
            false => {
                let shape = self.layout().shape().clone();
                Self::from_elements(self.to_contiguous().elements().to_vec(), shape)
            }
        };
        work(tensor.storage_mut());
        tensor
    }
}
