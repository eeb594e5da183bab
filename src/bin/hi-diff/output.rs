//! What goes to the terminal: errors and progress to standard error, results to standard output.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process;

use hi_diff::picture::PassedOver;
use indicatif::{ProgressBar, ProgressStyle};

/// Prints an error on standard error, below the progress bar's place.
pub fn error(error: impl std::fmt::Display) {
    eprintln!("error: {error}");
}

/// Prints on standard error what a user should know of a file that is worked on all the same.
pub fn warning(path: &Path, text: &str) {
    eprintln!("warning: {}: {text}", path.display());
}

/// Prints on standard error what a user should know of files, each named in its text.
pub fn warnings(warnings: &[String], quiet: bool) {
    if !quiet {
        warnings
            .iter()
            .for_each(|text| eprintln!("warning: {text}"));
    }
}

/// Leaves out what a panicking decoder prints: it becomes the error of the picture.
pub fn quiet_decoders() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !hi_diff::picture::panics_are_caught() {
            others(panic);
        }
    }));
}

/// Prints on standard error what a folder holds that is not worked on.
pub fn passed_over(found: &PassedOver) {
    eprintln!("passed over in {}: {found}", found.folder().display());
}

/// Prints a line of results. A reader that has gone away (`hi-diff … | head`) ends the program quietly.
pub fn line(text: impl std::fmt::Display) {
    or_end(writeln!(std::io::stdout(), "{text}"));
}

/// Writes a result that is no text. A reader that has gone away ends the program as for [`line`].
pub fn bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    or_end(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

fn or_end(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("error: standard output: {error}");
            process::exit(1);
        }
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
