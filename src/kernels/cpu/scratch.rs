//! Buffers that each thread keeps from one tile, block and image to the next: allocating megabytes anew costs as much as
//! filling them. They begin with a cache line, since a vector that lies in two takes two accesses.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};

/// A thread keeps no more than so many that are not in use: what the gradient of a block needs at once.
const MOST_KEPT: usize = 8;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Elements of a cache line.
const ALIGNED: usize = LINE / size_of::<f32>();

thread_local!(static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) });

/// A buffer that goes back to the thread when it is dropped.
pub(super) struct Buffer {
    elements: Vec<f32>,
    range: Range<usize>,
}

/// A buffer whose elements are whatever was left there.
pub(super) fn buffer(length: usize) -> Buffer {
    let mut elements = KEPT.with_borrow_mut(|kept| {
        // The smallest that fits, or else the largest, which is then grown.
        let fitting = kept.iter().enumerate();
        let fitting = fitting.filter(|(_, buffer)| buffer.len() >= length + ALIGNED);
        let smallest = fitting.min_by_key(|(_, buffer)| buffer.len());
        let largest = kept
            .iter()
            .enumerate()
            .max_by_key(|(_, buffer)| buffer.len());
        match smallest.or(largest).map(|(index, _)| index) {
            Some(index) => kept.swap_remove(index),
            None => Vec::new(),
        }
    });
    if elements.len() < length + ALIGNED {
        elements.resize(length + ALIGNED, 0.0);
    }
    let start = elements.as_ptr().align_offset(LINE).min(ALIGNED);
    Buffer {
        elements,
        range: start..start + length,
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let elements = std::mem::take(&mut self.elements);
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < MOST_KEPT {
                kept.push(elements);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.elements[self.range.clone()]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.elements[self.range.clone()]
    }
}

/// Calls `work` with parts of one buffer, of the given lengths.
pub(super) fn with<const N: usize, R>(
    lengths: [usize; N],
    work: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    let whole_lines = lengths.map(|length| length.next_multiple_of(ALIGNED));
    let mut buffer = buffer(whole_lines.iter().sum());
    let mut rest = &mut *buffer;
    let parts = lengths.map(|length| {
        let lines = length.next_multiple_of(ALIGNED);
        let (part, others) = std::mem::take(&mut rest).split_at_mut(lines);
        rest = others;
        &mut part[..length]
    });
    work(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_in_use_are_apart_and_come_back() {
        let mut first = buffer(100);
        let mut second = buffer(50);
        first.fill(1.0);
        second.fill(2.0);
        assert!(first.len() == 100 && first.iter().all(|x| *x == 1.0));
        assert!(second.len() == 50 && second.iter().all(|x| *x == 2.0));
        let place = first.as_ptr();
        drop(first);
        assert_eq!(buffer(80).as_ptr(), place);
        with([3, 4], |[a, b]| {
            a.fill(3.0);
            b.fill(4.0);
            assert_eq!((a.len(), b.len(), a[2], b[0]), (3, 4, 3.0, 4.0));
            assert!([a, b].iter().all(|part| part.as_ptr().addr() % LINE == 0));
        });
    }
}
