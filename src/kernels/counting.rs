//! How often kernels were taken, and a way to do without them: for tests and measurements.

use std::cell::Cell;

/// How many operations a piece of work had done by kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Outputs.
    pub forward: usize,
    /// Gradients.
    pub backward: usize,
}

thread_local! {
    static TAKEN: Cell<Count> = const { Cell::new(Count { forward: 0, backward: 0 }) };
    static OFF: Cell<bool> = const { Cell::new(false) };
}

/// Counts the operations of this thread that kernels do.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, Count) {
    let before = TAKEN.get();
    let result = work();
    let after = TAKEN.get();
    let taken = Count {
        forward: after.forward - before.forward,
        backward: after.backward - before.backward,
    };
    (result, taken)
}

/// Does without kernels on this thread: every operation is its formula in Burn's operations, as on a backend that has none.
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    /// Puts things back when the work panics, too.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            OFF.set(self.0);
        }
    }
    let _back = Back(OFF.replace(true));
    work()
}

pub(super) fn off() -> bool {
    OFF.get()
}

pub(super) fn forward() {
    let taken = TAKEN.get();
    TAKEN.set(Count {
        forward: taken.forward + 1,
        ..taken
    });
}

pub(super) fn backward() {
    let taken = TAKEN.get();
    TAKEN.set(Count {
        backward: taken.backward + 1,
        ..taken
    });
}
