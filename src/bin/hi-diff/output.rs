//! What goes to the terminal: errors and progress to standard error, results to standard output.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process;

use hi_diff::Error;
use indicatif::{ProgressBar, ProgressStyle};

/// Prints an error on standard error, below the progress bar's place.
pub fn error(error: &Error) {
    eprintln!("error: {error}");
}

/// Prints on standard error what a user should know of a file that is worked on all the same.
pub fn warning(path: &Path, text: &str) {
    eprintln!("warning: {}: {text}", path.display());
}

/// Prints a line of results. A reader that has gone away (`hi-diff … | head`) ends the program quietly.
pub fn line(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        process::exit(if error.kind() == ErrorKind::BrokenPipe {
            0
        } else {
            1
        });
    }
}

/// A bar over `total` items on a terminal; nothing elsewhere or if `quiet`.
pub fn progress_bar(total: usize, unit: &str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{eta}} left {{wide_msg}}");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(total as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
