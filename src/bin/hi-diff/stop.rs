//! What Ctrl-C, and the system's wish to end the program, do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hi_diff::Error;
use hi_diff::data::stop::Stop;

type Action = Box<dyn FnMut() + Send>;

static ACTION: Mutex<Option<Action>> = Mutex::new(None);

/// From now on they do this, in place of what they did before.
pub fn on_signal(act: impl FnMut() + Send + 'static) -> hi_diff::Result<()> {
    if action().replace(Box::new(act)).is_some() {
        return Ok(());
    }
    let handler = || {
        if let Some(act) = action().as_mut() {
            act();
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Error::Signal(error.to_string()))
}

fn action() -> MutexGuard<'static, Option<Action>> {
    ACTION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stop that they ask for, the first time; the second time ends the program at once. `unit` is what is finished before,
/// such as a step, which is said unless `quiet`.
pub fn stop_on_signal(unit: &'static str, quiet: bool) -> hi_diff::Result<Stop> {
    let stop = Stop::new();
    let asked = stop.clone();
    on_signal(move || {
        if asked.is_asked() {
            std::process::exit(130);
        }
        asked.ask();
        if !quiet {
            eprintln!("stopping after this {unit}; once more ends at once");
        }
    })?;
    Ok(stop)
}
