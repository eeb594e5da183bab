//! A folder that one process works in at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// The lock's file. It stays, since it is the lock on it that counts, which ends with the process however that ends.
const FILE: &str = "lock";

/// Holds a folder until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] File);

impl Lock {
    /// Makes the folder if it is not there, and holds it. Where the file system has no locks nothing is held.
    ///
    /// # Errors
    /// [`Error::Refused`] if another process holds it, or [`Error::Io`].
    pub fn hold(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(FILE);
        let options = File::options().create(true).append(true).open(&path);
        let file = options.map_err(Error::io(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::Refused {
                path: folder.to_path_buf(),
                reason: "another run is at work here: wait for its end, or choose another folder"
                    .into(),
            }),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self(file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run");
        let first = Lock::hold(&place).unwrap();
        let error = Lock::hold(&place).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        drop(first);
        Lock::hold(&place).unwrap();
    }
}
