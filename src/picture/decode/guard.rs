//! Decoders see files of strangers: a panic in one is an error of that file.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread decodes a picture, and so a panic in it becomes that picture's error: nothing that a program's panic hook
/// need print.
pub fn panics_are_caught() -> bool {
    GUARDED.get()
}

/// What `decode` gives, or its panic as an error.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let before = GUARDED.replace(true);
    // A decoder that panicked is gone with all that it had.
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(before);
    outcome.unwrap_or_else(|panic| {
        let fault = message(panic.as_ref());
        Err(format!(
            "cannot be decoded, by a fault in the decoder ({fault}); save it anew by another program"
        ))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it does not say which")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_known_while_it_happens() {
        assert!(!panics_are_caught());
        let seen = guarded(|| Ok(panics_are_caught()));
        assert_eq!(seen, Ok(true));
        let error = guarded::<()>(|| panic!("row {}", 7)).unwrap_err();
        assert!(
            error.contains("row 7") && error.contains("decoder"),
            "{error}"
        );
        assert!(!panics_are_caught());
    }
}
