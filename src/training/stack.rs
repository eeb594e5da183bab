//! Threads with room on their stack: a model, its records and the parts of a network, while its gradient is computed,
//! pass by value, and are too large for a thread as the system makes it.

use std::io;
use std::panic::resume_unwind;
use std::thread;

/// Of such a thread.
pub(super) const BYTES: usize = 64 << 20;

/// Does `work` in a thread of its own with [`BYTES`] of stack. A panic in it goes on in the caller.
pub(super) fn with_room<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name(name.into())
            .stack_size(BYTES)
            .spawn_scoped(scope, work)?;
        Ok(worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_more_than_a_thread_has_by_default() {
        fn filled(frames: usize) -> u64 {
            let mut frame = [frames as u64; 64 << 10];
            std::hint::black_box(&mut frame);
            frame[frames] + if frames == 0 { 0 } else { filled(frames - 1) }
        }
        // 64 frames of half a MiB.
        assert_eq!(with_room("test", || filled(63)).unwrap(), 63 * 64 / 2);
    }
}
