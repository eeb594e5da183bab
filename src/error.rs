//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Every message names the file or key at fault and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value that cannot be used.
    #[error("configuration {origin}: `{key}`: {reason}")]
    Config {
        /// The preset or the file that holds the value.
        origin: String,
        /// The key's full path, such as `model.transformer.heads`.
        key: String,
        /// The value found and what was expected.
        reason: String,
    },

    /// A configuration that is neither a preset nor a file.
    #[error("no configuration `{name}`: expected a file or one of the presets {presets}")]
    UnknownConfig {
        /// The name as given.
        name: String,
        /// The embedded presets, separated by commas.
        presets: String,
    },

    /// A file or folder that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// An output that exists already, or that would overwrite an input.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file that stays as it is.
        path: PathBuf,
        /// Why it is not written.
        reason: String,
    },

    /// An image that cannot be decoded, encoded or used.
    #[error("{}: {reason}", path.display())]
    Image {
        /// The image's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A video that cannot be read, written or gone on with.
    #[error("{}: {reason}", path.display())]
    Video {
        /// The video's file.
        path: PathBuf,
        /// What is wrong with it, or what ffmpeg said.
        reason: String,
    },

    /// A tensor whose shape does not suit the operation.
    #[error("{what}: found shape {found:?}, expected {expected}")]
    Shape {
        /// The tensor's role, such as `blur`.
        what: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape in words or symbols.
        expected: String,
    },

    /// Values that should be numbers and are not.
    #[error("{what}: {count} of {total} values are NaN or infinite")]
    NotFinite {
        /// What holds them, such as `restored image`.
        what: String,
        /// How many are NaN or infinite.
        count: usize,
        /// How many there are in all.
        total: usize,
    },

    /// A restored image that cannot be laid over its target.
    #[error("cannot be aligned with its target: {0}")]
    Alignment(String),

    /// A weight file that is damaged, foreign or unreadable as a whole.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Weight files that hold other tensors than the model has.
    #[error("{}: does not fit the configured model:{}", path.display(), list(problems))]
    Mismatch {
        /// The file or folder.
        path: PathBuf,
        /// One line per tensor: missing, unexpected, of another shape, or not finite.
        problems: Vec<String>,
    },

    /// A dataset that cannot be used as it is.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The dataset's folder or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// A backend that this build or machine does not have.
    #[error("backend `{name}` {reason}")]
    Backend {
        /// Its name on the command line.
        name: String,
        /// Why, and what to use instead.
        reason: String,
    },

    /// A number format that this processor does not multiply in.
    #[error("precision {precision} {reason}")]
    Precision {
        /// As on the command line.
        precision: String,
        /// What it takes, and what to use instead.
        reason: String,
    },

    /// An environment variable that cannot be heeded.
    #[error("environment variable `{variable}`: {reason}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// What was found, and what was expected.
        reason: String,
    },

    /// A training or an evaluation that was stopped before its end.
    #[error("{what} stopped: {reason}\n{next}")]
    Stopped {
        /// What was stopped.
        what: &'static str,
        /// Why.
        reason: String,
        /// What is saved, and how to go on.
        next: String,
    },

    /// A training run that cannot start or go on.
    #[error("training: {0}")]
    Training(String),

    /// A program that cannot be told to stop.
    #[error("no handler for Ctrl-C: {0}")]
    Signal(String),

    /// An evaluation that cannot start or go on.
    #[error("evaluation: {0}")]
    Evaluation(String),
}

impl Error {
    /// An operating-system error about `path`, ready for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    #[cfg(feature = "image")]
    pub(crate) fn image(path: &Path, reason: impl Into<String>) -> Error {
        Error::Image {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    #[cfg(feature = "image")]
    pub(crate) fn video(path: &Path, reason: impl Into<String>) -> Error {
        Error::Video {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    pub(crate) fn refused(path: &Path, reason: impl Into<String>) -> Error {
        Error::Refused {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    pub(crate) fn weights(path: &Path, reason: impl Into<String>) -> Error {
        Error::Weights {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }
}

/// At most this many lines of a mismatch are printed; a wrong file has hundreds.
const LISTED: usize = 12;

pub(crate) fn list(problems: &[String]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(LISTED) {
        text.push_str("\n  ");
        text.push_str(problem);
    }
    if problems.len() > LISTED {
        text.push_str(&format!("\n  … and {} more", problems.len() - LISTED));
    }
    text
}
