//! The tensors of one file: where each lies in the file's bytes, checked before any is read.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{bf16, f16};

use super::LoadOptions;
use crate::error::{Error, Result};

/// Largest weight file read; the published ones have 0.1 GB.
const LARGEST: u64 = 4 << 30;

/// How numbers are stored, always little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    /// Numbers that are no weights.
    Other {
        name: String,
        bytes: usize,
    },
}

impl Dtype {
    pub fn bytes(&self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::Other { bytes, .. } => *bytes,
        }
    }

    pub fn is_float(&self) -> bool {
        !matches!(self, Dtype::Other { .. })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::Other { name, .. } => name,
        })
    }
}

/// One tensor's place in the bytes of its file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    strides: Vec<usize>,
    start: usize,
}

impl Entry {
    /// A tensor that views the bytes `storage`, from its element `offset` on, by `strides` in elements.
    ///
    /// An error if it reaches outside them, or if it claims more elements than they hold.
    pub fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        storage: Range<usize>,
        offset: usize,
    ) -> Result<Self, String> {
        let available = storage.len() / dtype.bytes();
        let elements = shape
            .iter()
            .try_fold(1usize, |all, &size| all.checked_mul(size));
        // The index of the last element, or of none where a dimension is empty.
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            });
        let fits = matches!((elements, last), (Some(elements), Some(last))
            if elements <= available && (elements == 0 || last < available));
        if !fits || strides.len() != shape.len() {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} at element {offset} reaches outside its {available} stored \
                 elements"
            ));
        }
        let start = storage.start
            + if elements == Some(0) {
                0
            } else {
                offset * dtype.bytes()
            };
        Ok(Self {
            dtype,
            shape,
            strides,
            start,
        })
    }

    /// A tensor whose elements follow each other, and fill `storage`.
    pub fn contiguous(
        dtype: Dtype,
        shape: Vec<usize>,
        storage: Range<usize>,
    ) -> Result<Self, String> {
        let strides = row_major(&shape);
        Self::new(dtype, shape, strides, storage, 0)
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn is_contiguous(&self) -> bool {
        let row_major = row_major(&self.shape);
        let mut dimensions = self.shape.iter().zip(self.strides.iter().zip(&row_major));
        dimensions.all(|(&size, (stride, expected))| size <= 1 || stride == expected)
    }

    /// Index of every element within the storage, in row-major order of the tensor.
    fn indices(&self) -> Vec<usize> {
        if self.shape.contains(&0) {
            return Vec::new(); // and the other dimensions may claim any size
        }
        let mut indices = vec![0];
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            indices = indices
                .iter()
                .flat_map(|&index| (0..size).map(move |step| index + step * stride))
                .collect();
        }
        indices
    }
}

pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The tensors of one network, by PyTorch name, and the bytes that hold them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tensors {
    pub bytes: Arc<Vec<u8>>,
    pub entries: BTreeMap<String, Entry>,
}

impl Tensors {
    /// The values of the tensor `name` in row-major order, or what keeps it from being a parameter of `shape`.
    pub fn parameter(
        &self,
        name: &str,
        shape: &[usize],
        options: &LoadOptions,
    ) -> Result<Vec<f32>, String> {
        let Some(entry) = self.entries.get(name) else {
            return Err(format!("missing, expected shape {shape:?}"));
        };
        if entry.shape != shape {
            return Err(format!("found shape {:?}, expected {shape:?}", entry.shape));
        }
        if !entry.dtype.is_float() {
            return Err(format!(
                "found {}, expected floating-point numbers",
                entry.dtype
            ));
        }
        let values = self.values(entry);
        match values.iter().filter(|value| !value.is_finite()).count() {
            bad if bad > 0 && !options.allow_non_finite => Err(format!(
                "{bad} of {} values are NaN or infinite",
                values.len()
            )),
            _ => Ok(values),
        }
    }

    /// The values of a floating-point entry in row-major order; none of an integer one.
    fn values(&self, entry: &Entry) -> Vec<f32> {
        match entry.dtype {
            Dtype::F16 => self.numbers(entry, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => self.numbers(entry, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F32 => self.numbers(entry, f32::from_le_bytes),
            Dtype::F64 => self.numbers(entry, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::Other { .. } => Vec::new(),
        }
    }

    fn numbers<const N: usize>(&self, entry: &Entry, read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        // `Entry::new` checked that every element lies inside the bytes.
        let (stored, _) = self
            .bytes
            .get(entry.start..)
            .unwrap_or_default()
            .as_chunks::<N>();
        if entry.is_contiguous() {
            return stored
                .iter()
                .take(entry.elements())
                .map(|&bytes| read(bytes))
                .collect();
        }
        entry
            .indices()
            .iter()
            .filter_map(|&index| stored.get(index).map(|&b| read(b)))
            .collect()
    }
}

/// A whole file, if it is a regular one of sensible size.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let metadata = file.metadata().map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(Error::weights(path, "not a regular file"));
    }
    if metadata.len() > LARGEST {
        let found = metadata.len();
        let reason = format!("{found} bytes are more than a weight file may have, {LARGEST}");
        return Err(Error::weights(path, reason));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(values: &[f32], entry: Entry) -> (Tensors, Entry) {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        (
            Tensors {
                bytes: Arc::new(bytes),
                entries: BTreeMap::new(),
            },
            entry,
        )
    }

    #[test]
    fn a_transposed_view_is_read_in_its_own_order() {
        let entry = Entry::new(Dtype::F32, vec![3, 2], vec![1, 3], 0..28, 1).unwrap();
        let (tensors, entry) = tensors(&[9., 1., 2., 3., 4., 5., 6.], entry);
        assert_eq!(tensors.values(&entry), [1., 4., 2., 5., 3., 6.]);
    }

    #[test]
    fn strides_of_single_element_dimensions_do_not_matter() {
        let entry = Entry::new(Dtype::F32, vec![1, 2, 1], vec![7, 1, 5], 0..8, 0).unwrap();
        assert!(entry.is_contiguous());
    }

    #[test]
    fn a_scalar_is_one_element() {
        let entry = Entry::contiguous(Dtype::F32, vec![], 4..8).unwrap();
        let (tensors, entry) = tensors(&[1., 2.], entry);
        assert_eq!(tensors.values(&entry), [2.]);
    }

    #[test]
    fn views_outside_their_storage_are_refused() {
        let view = |shape: &[usize], strides: &[usize], offset| {
            Entry::new(Dtype::F32, shape.to_vec(), strides.to_vec(), 0..16, offset)
        };
        assert!(view(&[4], &[1], 0).is_ok());
        assert!(view(&[4], &[1], 1).is_err());
        assert!(view(&[2], &[4], 0).is_err());
        assert!(
            view(&[1 << 40], &[0], 0).is_err(),
            "a terabyte out of one stored element"
        );
        assert!(view(&[usize::MAX, 2], &[1, 1], 0).is_err());
        assert!(view(&[2], &[usize::MAX], 2).is_err());
        assert!(view(&[0], &[1], usize::MAX).is_ok_and(|entry| entry.start == 0));
    }

    #[test]
    fn all_float_kinds_become_single_precision() {
        let bytes = [
            f16::from_f32(1.5).to_le_bytes().to_vec(),
            bf16::from_f32(-2.0).to_le_bytes().to_vec(),
            vec![0; 4],
            0.25f64.to_le_bytes().to_vec(),
        ]
        .concat();
        let tensors = Tensors {
            bytes: Arc::new(bytes),
            entries: BTreeMap::new(),
        };
        let read =
            |dtype, range| tensors.values(&Entry::contiguous(dtype, vec![1], range).unwrap());
        assert_eq!(read(Dtype::F16, 0..2), [1.5]);
        assert_eq!(read(Dtype::Bf16, 2..4), [-2.0]);
        assert_eq!(read(Dtype::F64, 8..16), [0.25]);
    }

    #[test]
    fn a_tensor_without_elements_takes_no_memory_for_its_other_dimensions() {
        let entry = Entry::new(Dtype::F32, vec![1 << 60, 0], vec![2, 3], 0..8, 0).unwrap();
        let (tensors, entry) = tensors(&[1.0, 2.0], entry);
        assert!(tensors.values(&entry).is_empty());
    }
}
