//! Waiting for what another process or thread does.

use std::time::{Duration, Instant};

/// Waits until it is so, and fails after five minutes.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(
            begin.elapsed() < Duration::from_secs(300),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
