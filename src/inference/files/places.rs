//! Whether results can be written, before they are computed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Job, Plan};
use crate::error::Error;
use crate::whole;

/// The folders that were made for results. When it is dropped, those that are still empty are removed.
#[derive(Debug, Default)]
pub struct Places {
    /// Outer ones before those in them.
    made: Vec<PathBuf>,
}

impl Plan {
    /// Makes the folders of all results and tries to write into each. Jobs whose place cannot be written become failures.
    #[must_use = "removes empty folders when it is dropped"]
    pub fn try_places(&mut self) -> Places {
        let mut places = Places::default();
        let mut tried = HashMap::new();
        for job in std::mem::take(&mut self.jobs) {
            let folder = whole::folder_of(&job.output).to_path_buf();
            let outcome = tried
                .entry(folder)
                .or_insert_with_key(|folder| places.try_folder(folder));
            let failure = match outcome {
                Ok(()) => try_name(&job),
                // An error of the system cannot be copied.
                Err((path, error)) => {
                    let error = io::Error::new(error.kind(), error.to_string());
                    Err(Error::io(path)(error))
                }
            };
            match failure {
                Ok(()) => self.jobs.push(job),
                Err(error) => self.fail(&job.input, error),
            }
        }
        places
    }
}

impl Places {
    /// That a file can be written in `folder`, which is made; or what cannot be written, and why.
    fn try_folder(&mut self, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        self.make(folder)?;
        whole::try_folder(folder).map_err(|error| (folder.to_path_buf(), error))
    }

    fn make(&mut self, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent()
            && parent != Path::new("")
        {
            self.make(parent)?;
        }
        match fs::create_dir(folder) {
            Ok(()) => self.made.push(folder.to_path_buf()),
            // Another program was faster, or it is a path such as `out/..`.
            Err(_) if folder.is_dir() => {}
            Err(error) => return Err((folder.to_path_buf(), error)),
        }
        Ok(())
    }
}

/// That the file can have its name: no folder is in its place, and the name is not too long.
fn try_name(job: &Job) -> Result<(), Error> {
    match fs::symlink_metadata(&job.output) {
        Ok(found) if found.is_dir() => Err(Error::refused(
            &job.output,
            "a folder, where the result's file belongs",
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(&job.output)(error)),
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // Fails where something is in it, which is why it was made.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_tried_once_and_what_was_made_in_vain_goes_away() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("file"), "").unwrap();
        fs::create_dir_all(path("out/b.png")).unwrap();
        let outputs = [
            "new/deep/a.png",
            "new/b.png",
            "file/c.png",
            "file/sub/d.png",
            "out/b.png",
        ];
        let job = |output: &&str| Job {
            input: path(output.rsplit('/').next().unwrap()),
            output: path(output),
        };
        let long = Job {
            input: path("long.png"),
            output: path(&format!("out/{}.png", "x".repeat(300))),
        };
        let mut plan = Plan {
            jobs: outputs.iter().map(job).chain([long]).collect(),
            ..Plan::default()
        };
        let places = plan.try_places();
        let left: Vec<_> = plan.jobs.iter().map(|job| job.output.clone()).collect();
        assert_eq!(left, [path("new/deep/a.png"), path("new/b.png")]);
        let failures: Vec<_> = plan.failures.iter().map(|f| f.error.to_string()).collect();
        assert_eq!(failures.len(), 4, "{failures:?}");
        for (failure, place) in
            failures
                .iter()
                .zip(["file: ", "file: ", "b.png: a folder", "xx.png: "])
        {
            assert!(failure.contains(place), "{failure}");
        }
        assert!(path("new/deep").is_dir());
        let entries = |name: &str| fs::read_dir(path(name)).unwrap().count();
        assert_eq!(
            (entries("new"), entries("new/deep")),
            (1, 0),
            "nothing is left"
        );
        fs::write(path("new/b.png"), "result").unwrap();
        drop(places);
        assert!(!path("new/deep").exists() && path("new/b.png").exists());
    }
}
