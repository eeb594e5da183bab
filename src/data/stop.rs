//! Ending a training between two steps, or an evaluation between two images.
#![cfg_attr(not(feature = "train"), allow(dead_code))]

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A request to end, shared by who may ask and by who listens: an evaluation begins no further image, and a training's
/// loaders serve no further step. The steps begun are finished, on all devices alike, and a checkpoint follows.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Steps below this number have been served, to one device at least.
    served: usize,
    /// No step from this number on is served.
    end: Option<usize>,
    failure: Option<String>,
    /// The weights are not to be kept: a device got its part of a step that another cannot get, or a step went wrong.
    torn: bool,
}

impl Stop {
    /// A request that nobody has made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end. Safe to call from any thread, any number of times.
    pub fn ask(&self) {
        let mut state = self.state();
        state.end = state.end.or(Some(state.served));
    }

    /// Whether the end was asked for, or a failure calls for it.
    pub fn is_asked(&self) -> bool {
        self.state().end.is_some()
    }

    /// Asks for the end because of an error, which [`take_failure`](Self::take_failure) gives out. `step` is the one
    /// that cannot be served.
    pub(crate) fn fail(&self, error: impl Display, step: Option<usize>) {
        let mut state = self.state();
        state.torn |= step.is_some_and(|step| step < state.served);
        state.end = state.end.or(Some(state.served));
        state.failure.get_or_insert_with(|| error.to_string());
    }

    /// As [`fail`](Self::fail), of a step whose weights are not to be kept.
    pub(crate) fn fail_torn(&self, error: impl Display) {
        self.state().torn = true;
        self.fail(error, None);
    }

    /// The first error.
    pub(crate) fn take_failure(&self) -> Option<String> {
        self.state().failure.take()
    }

    /// A stage begins at this step.
    pub(crate) fn begin(&self, step: usize) {
        let mut state = self.state();
        state.served = step;
        state.end = state.end.map(|_| step);
    }

    /// Whether a step may be served; if so, it counts as served.
    pub(crate) fn admits(&self, step: usize) -> bool {
        let mut state = self.state();
        match state.end {
            Some(end) => step < end,
            None => {
                state.served = state.served.max(step + 1);
                true
            }
        }
    }

    /// The number of steps that the run ends with, once that is settled.
    pub(crate) fn end(&self) -> Option<usize> {
        self.state().end
    }

    /// Whether the weights are not to be kept.
    pub(crate) fn is_torn(&self) -> bool {
        self.state().torn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn devices_end_after_the_same_step() {
        let stop = Stop::new();
        stop.begin(5);
        assert!(stop.admits(5) && stop.admits(5), "both devices");
        assert!(stop.admits(6), "one device is ahead");
        stop.ask();
        assert!(!stop.admits(7));
        assert!(stop.admits(6), "the other one catches up");
        assert!(!stop.admits(7));
        assert_eq!(stop.end(), Some(7));
        assert!(!stop.is_torn());
    }

    #[test]
    fn a_step_that_only_some_devices_have_is_torn() {
        let failure = || Error::Training("unreadable".into());
        let stop = Stop::new();
        assert!(stop.admits(0));
        stop.fail(failure(), Some(1));
        assert!(!stop.is_torn() && !stop.admits(1));

        let stop = Stop::new();
        assert!(stop.admits(0));
        stop.fail(failure(), Some(0));
        assert!(stop.is_torn());
        assert_eq!(stop.take_failure().unwrap(), "training: unreadable");
    }
}
