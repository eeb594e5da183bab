//! Which commands made a run: a line for each in a file of its folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The file's name.
const FILE: &str = "calls.jsonl";

/// A call of a program that made a run or went on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The command line.
    pub command: String,
    /// This crate's version.
    pub version: String,
    /// What computed.
    pub backend: String,
}

impl Call {
    /// A call of this version.
    pub fn new(command: impl Into<String>, backend: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            backend: backend.into(),
        }
    }

    /// Adds the call to those of the run in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn append(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let mut line = serde_json::to_vec(self).map_err(|error| Error::io(&path)(error.into()))?;
        line.push(b'\n');
        let file = File::options().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(&line))
            .map_err(Error::io(&path))
    }

    /// The calls that made the run in `folder`, the first one first; none where nothing is written down. What is no
    /// call, such as a line cut short, is left out.
    ///
    /// # Errors
    /// [`Error::Io`] if the file is there and cannot be read.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let path = folder.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(Error::io(&path))?,
        };
        let lines = bytes.split(|&byte| byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_kept_in_order_and_a_line_cut_short_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Call::all(folder.path()).unwrap(), []);
        let calls = [
            Call::new("hi-diff train", "flex"),
            Call::new("hi-diff train --resume", "cuda"),
        ];
        for call in &calls {
            call.append(folder.path()).unwrap();
        }
        assert_eq!(Call::all(folder.path()).unwrap(), calls);
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(Call::all(folder.path()).unwrap(), calls[..1]);
        let missing = folder.path().join("missing");
        assert!(calls[0].append(&missing).is_err());
    }
}
