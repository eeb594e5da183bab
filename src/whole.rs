//! A file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

pub(crate) const EXISTS: &str = "exists already and is only overwritten by force";

/// Writes the file at `path` by `write`, so that it appears whole or not at all.
///
/// `write` fills a temporary file beside `path`, which then takes its place. Missing folders are
/// made. The file gets the usual permissions of a new file.
///
/// # Errors
///
/// `path` exists and `force` is false, `write` fails, or the operating system refuses. In each case
/// `path` is as before, and no temporary file is left.
pub fn write_whole(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(Error::refused(path, EXISTS));
    }
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(Error::io(folder))?;

    let mut temporary = temporary_in(folder).map_err(Error::io(path))?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush().map_err(Error::io(path))?;
    drop(buffered);
    persist(temporary, path, force)
}

/// The folder in which a file lies.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// That files can be written in `folder`, by a temporary one that goes away again.
#[cfg_attr(not(feature = "image"), allow(dead_code))]
pub(crate) fn try_folder(folder: &Path) -> std::io::Result<()> {
    // With a byte in it, as a full disk takes empty files.
    temporary_in(folder)?.write_all(&[0])
}

/// A file that goes away unless it gets its name by [`persist`].
pub(crate) fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    // The leading dot keeps a folder's search from taking an unfinished file for an image.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hi-diff-").suffix(".tmp");
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666); // less the umask
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
}

/// Gives a finished file its name. Without `force`, only a free one is taken.
pub(crate) fn persist(temporary: NamedTempFile, path: &Path, force: bool) -> Result<()> {
    let persisted = if force {
        temporary.persist(path)
    } else {
        temporary.persist_noclobber(path)
    };
    match persisted {
        Ok(_) => Ok(()),
        Err(failed) if !force && failed.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::refused(path, EXISTS))
        }
        Err(failed) => Err(Error::Io {
            path: path.to_path_buf(),
            source: failed.error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names(root: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(root.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_failed_write_leaves_everything_as_it_was() {
        let root = folder();
        let path = root.path().join("a.bin");
        let fail = |file: &mut BufWriter<&mut File>| {
            file.write_all(&[1; 100_000]).map_err(Error::io("a.bin"))?;
            Err(Error::refused(Path::new("a.bin"), "a reason"))
        };
        assert!(write_whole(&path, false, fail).is_err());
        assert_eq!(names(&root), [""; 0]);
        fs::write(&path, "before").unwrap();
        assert!(write_whole(&path, true, fail).is_err());
        assert_eq!(names(&root), ["a.bin"]);
        assert_eq!(fs::read(&path).unwrap(), b"before");
    }

    #[test]
    fn a_file_is_replaced_only_with_force() {
        let root = folder();
        let path = root.path().join("new/a.bin");
        let fill = |text: &'static [u8]| {
            let path = path.clone();
            move |file: &mut BufWriter<&mut File>| file.write_all(text).map_err(Error::io(path))
        };
        write_whole(&path, false, fill(b"one")).unwrap();
        let refused = write_whole(&path, false, fill(b"two")).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        // A file that appears while the new one is written counts, too.
        fs::remove_file(&path).unwrap();
        let race = write_whole(&path, false, |file| {
            fs::write(&path, "other").map_err(Error::io(&path))?;
            file.write_all(b"two").map_err(Error::io(&path))
        });
        assert!(matches!(race, Err(Error::Refused { .. })), "{race:?}");
        assert_eq!(fs::read(&path).unwrap(), b"other");
        write_whole(&path, true, fill(b"three")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
    }

    #[cfg(unix)]
    #[test]
    fn a_written_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let root = folder();
        let path = root.path().join("written");
        fs::write(root.path().join("usual"), "").unwrap();
        write_whole(&path, false, |_| Ok(())).unwrap();
        let mode = |name| {
            fs::metadata(root.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(
            mode("written"),
            mode("usual"),
            "{:o}, {:o}",
            mode("written"),
            mode("usual")
        );
    }
}
