//! Single `.pth` files of networks that are not the model's.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;

use super::{LoadOptions, pytorch, tensors};
use crate::error::{Error, Result, list};

/// The tensors `expected`, each a name and a shape, in their order. Of other tensors, the file may hold those
/// whose names begin with one of `ignored`.
///
/// # Errors
/// [`Error::Io`], or [`Error::Weights`] for a damaged file, and for one with a tensor that is missing, unexpected, of another
/// shape or kind, or not finite, of which it lists all.
pub(crate) fn read_parameters(
    path: &Path,
    expected: &[(String, Vec<usize>)],
    ignored: &[&str],
) -> Result<Vec<TensorData>> {
    let refused = |reason| Error::weights(path, reason);
    let found = pytorch::read(tensors::read_file(path)?).map_err(refused)?;
    let mut unexpected: BTreeMap<_, _> = found.entries.iter().collect();
    unexpected.retain(|name, _| !ignored.iter().any(|prefix| name.starts_with(prefix)));
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for (name, shape) in expected {
        unexpected.remove(name);
        match found.parameter(name, shape, &LoadOptions::default()) {
            Ok(found) => values.push(TensorData::new(found, shape.clone())),
            Err(problem) => problems.push(format!("`{name}`: {problem}")),
        }
    }
    for (name, entry) in unexpected {
        problems.push(format!("`{name}`: unexpected, of shape {:?}", entry.shape));
    }
    match problems.is_empty() {
        true => Ok(values),
        false => Err(refused(format!(
            "other tensors than expected:{}",
            list(&problems)
        ))),
    }
}
