//! Buffers that each thread keeps from one tile, block and image to the next: allocating megabytes anew costs as much as
//! filling them.

use std::cell::RefCell;

thread_local!(static KEPT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });

/// Calls `work` with slices of the given lengths, whose elements are whatever was left there.
pub(super) fn with<const N: usize, R>(
    lengths: [usize; N],
    work: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    // Taken out, so that work within work finds an empty place and not a borrowed one.
    let mut buffer = KEPT.take();
    let total = lengths.iter().sum();
    if buffer.len() < total {
        buffer.resize(total, 0.0);
    }
    let mut rest = buffer.as_mut_slice();
    let parts = lengths.map(|length| {
        let (part, others) = std::mem::take(&mut rest).split_at_mut(length);
        rest = others;
        part
    });
    let result = work(parts);
    KEPT.set(buffer);
    result
}
