//! Weight files for `fuzz/`, down to their numbers, without a model that they belong to.

use super::tensors::Tensors;
use super::{LoadOptions, pytorch, safetensors};

/// All numbers of a `.pth`.
pub(crate) fn pytorch(bytes: &[u8]) -> Result<Vec<f32>, String> {
    pytorch::read(bytes.to_vec()).map(|tensors| numbers(&tensors))
}

/// All numbers of a `.safetensors`.
pub(crate) fn safetensors(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let content = safetensors::read(bytes.to_vec())?;
    Ok(content.networks.values().flat_map(numbers).collect())
}

fn numbers(tensors: &Tensors) -> Vec<f32> {
    let options = LoadOptions {
        allow_non_finite: true,
    };
    let mut all = Vec::new();
    for (name, entry) in &tensors.entries {
        let Ok(values) = tensors.parameter(name, &entry.shape, &options) else {
            continue; // integers
        };
        assert_eq!(
            values.len(),
            entry.shape.iter().product::<usize>(),
            "{name}"
        );
        all.extend(values);
    }
    all
}
