//! From a blurry photograph to a sharp one.

use burn::tensor::{Device, Tensor, TensorData};

use super::image::Photograph;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::{HiDiff, Noise};

/// A model ready for photographs.
#[derive(Debug)]
pub struct Deblurrer<B: Backend> {
    model: HiDiff<B>,
    device: Device<B>,
}

impl<B: Backend> Deblurrer<B> {
    /// Takes a model whose weights are loaded and lie on `device`.
    pub fn new(model: HiDiff<B>, device: Device<B>) -> Self {
        Self { model, device }
    }

    /// The model.
    pub fn model(&self) -> &HiDiff<B> {
        &self.model
    }

    /// Deblurs a photograph of any size; its bits, alpha, grayness and profile stay. The same seed gives the same
    /// result.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the model's numbers overflow, which damaged weights can cause.
    pub fn deblur(&self, blurred: &Photograph, seed: u64) -> Result<Photograph> {
        let shape = [1, 3, blurred.height(), blurred.width()];
        let data = TensorData::new(blurred.rgb().to_vec(), shape);
        let output = self
            .model
            .deblur(Tensor::from_data(data, &self.device), Noise::Seed(seed))?;
        let values = output.into_data().convert::<f32>().into_vec::<f32>();
        let values = values.map_err(|error| Error::Shape {
            what: format!("restored image ({error:?})"),
            found: shape.to_vec(),
            expected: "f32 values".to_string(),
        })?;
        blurred.with_rgb(values)
    }
}
