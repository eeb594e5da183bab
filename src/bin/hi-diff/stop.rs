//! Ctrl-C, for commands that can go on later.

use hi_diff::Error;
use hi_diff::data::stop::Stop;

/// A stop that Ctrl-C and the system's wish to end ask for; a second one ends the program at once. `unit` is what is finished
/// before, such as a step.
pub fn stop_on_signal(unit: &'static str) -> hi_diff::Result<Stop> {
    let stop = Stop::new();
    let asked = stop.clone();
    let handler = move || {
        if asked.is_asked() {
            std::process::exit(130);
        }
        asked.ask();
        eprintln!("stopping after this {unit}; once more ends at once");
    };
    ctrlc::set_handler(handler).map_err(|error| Error::Signal(error.to_string()))?;
    Ok(stop)
}
