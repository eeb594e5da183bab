//! Reading ahead and writing behind, so that neither keeps the computation waiting.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::error::Result;

/// Takes each item through `read`, `compute` and `write`, in order, each at work on another item at the same time: `compute`
/// on this thread, the others on threads of their own. At most two items are read ahead and two wait to be written.
///
/// # Errors
/// The first error of `write`, after which no item is computed any more.
pub fn overlap<I: Send, D: Send, R: Send>(
    items: impl Iterator<Item = I> + Send,
    read: impl Fn(I) -> D + Send,
    mut compute: impl FnMut(D) -> R,
    mut write: impl FnMut(R) -> Result<()> + Send,
) -> Result<()> {
    thread::scope(|scope| {
        // One waits in the channel and one in the hand of its sender.
        let (to_compute, reads) = sync_channel(1);
        let (to_write, results) = sync_channel(1);
        scope.spawn(move || {
            for item in items {
                // Nobody listens any more after an error of `write`.
                if to_compute.send(read(item)).is_err() {
                    break;
                }
            }
        });
        let writer = scope.spawn(move || results.into_iter().try_for_each(&mut write));
        for item in reads {
            if to_write.send(compute(item)).is_err() {
                break;
            }
        }
        drop(to_write);
        match writer.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::Barrier;

    #[test]
    fn items_come_out_in_order() {
        let mut written = Vec::new();
        let write = |text: String| {
            written.push(text);
            Ok(())
        };
        overlap(0..20, |item| item * 2, |item| format!("{item}"), write).unwrap();
        let expected: Vec<_> = (0..20).map(|item| format!("{}", item * 2)).collect();
        assert_eq!(written, expected);
    }

    /// Each waits for the two others, which only ends if all three are at work at once.
    #[test]
    fn reading_computing_and_writing_overlap() {
        let all = Barrier::new(3);
        let work = |from: usize, item: usize| {
            if (from..from + 8).contains(&item) {
                all.wait();
            }
            item
        };
        let write = |item| {
            work(0, item);
            Ok(())
        };
        overlap(0..10, |item| work(2, item), |item| work(1, item), write).unwrap();
    }

    #[test]
    fn an_error_of_writing_ends_it() {
        let mut computed = 0;
        let compute = |item| {
            computed += 1;
            item
        };
        let write = |item| match item {
            3 => Err(Error::Evaluation("full".into())),
            _ => Ok(()),
        };
        let error = overlap(0..1000, |item| item, compute, write).unwrap_err();
        assert_eq!(error.to_string(), "evaluation: full");
        assert!(computed <= 3 + 3, "{computed} computed");
    }
}
