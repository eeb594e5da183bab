//! Ctrl-C, for commands that have a good place to stop at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hi_diff::Error;

/// Becomes true when Ctrl-C is pressed or the system wants the program to end, which says that it stops `after` something.
/// A second time ends the program at once. Only the first call of this function sets `after`.
pub fn flag(after: &'static str) -> hi_diff::Result<Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag.clone());
    }
    let flag = FLAG.get_or_init(Arc::default).clone();
    let asked = flag.clone();
    let handler = move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after {after}; once more ends at once");
    };
    ctrlc::set_handler(handler)
        .map_err(|error| Error::io("Ctrl-C")(std::io::Error::other(error)))?;
    Ok(flag)
}
