//! One JSON object a line, for programs that follow or plot a training.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Record, Sink};
use crate::error::{Error, Result};
use crate::whole::write_whole;

/// A file with a line of JSON for each [`Record`].
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

/// What every record says, of whatever kind.
#[derive(Deserialize)]
struct Place {
    stage: u8,
    iteration: usize,
}

impl JsonLines {
    /// Goes on with the file at `path`, or begins it, for a stage that goes on after `done` iterations.
    ///
    /// Lines of later iterations of the stage and of later stages are dropped, since they will be written again; so is a
    /// last line that the end of a process cut short.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or written. It is then as before.
    pub fn open(path: impl Into<PathBuf>, stage: u8, done: usize) -> Result<Self> {
        let path = path.into();
        match fs::read(&path) {
            Ok(before) => keep_until(&path, &before, stage, done)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make_folder(&path)?,
            Err(error) => return Err(Error::io(&path)(error)),
        }
        let file = File::options().append(true).create(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }
}

fn make_folder(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(Error::io(folder)),
        None => Ok(()),
    }
}

fn keep_until(path: &Path, before: &[u8], stage: u8, done: usize) -> Result<()> {
    let kept: Vec<&[u8]> = before
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.ends_with(b"\n") && is_kept(line, stage, done))
        .collect();
    let kept = kept.concat();
    if kept == before {
        return Ok(());
    }
    write_whole(path, true, |file| {
        file.write_all(&kept).map_err(Error::io(path))
    })
}

/// What is no record is not ours to drop.
fn is_kept(line: &[u8], stage: u8, done: usize) -> bool {
    serde_json::from_slice::<Place>(line).map_or(true, |place| {
        place.stage < stage || (place.stage == stage && place.iteration <= done)
    })
}

impl Sink for JsonLines {
    fn write(&mut self, record: &Record) -> Result<()> {
        let fail = Error::io(&self.path);
        let mut line = match serde_json::to_vec(record) {
            Ok(line) => line,
            Err(error) => return Err(fail(error.into())),
        };
        line.push(b'\n');
        self.file.write_all(&line).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::{train, validation};
    use super::*;

    fn write(path: &Path, stage: u8, done: usize, iterations: &[usize]) {
        let mut sink = JsonLines::open(path, stage, done).unwrap();
        for &iteration in iterations {
            sink.write(&Record::Train(train(stage, iteration))).unwrap();
        }
    }

    fn places(path: &Path) -> Vec<(u8, usize)> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        let place = |line| match serde_json::from_str(line).unwrap() {
            Record::Train(record) => (record.stage, record.iteration),
            Record::Validation(record) => (record.stage, record.iteration),
        };
        text.lines().map(place).collect()
    }

    #[test]
    fn a_resumed_stage_drops_what_it_will_write_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("new/log.jsonl");
        write(&path, 1, 0, &[10, 20, 30]);
        write(&path, 2, 0, &[10, 20, 30]);
        write(&path, 2, 20, &[25]);
        assert_eq!(
            places(&path),
            [(1, 10), (1, 20), (1, 30), (2, 10), (2, 20), (2, 25)]
        );
        write(&path, 1, 10, &[20]);
        assert_eq!(places(&path), [(1, 10), (1, 20)], "stage two begins anew");
        write(&path, 1, 0, &[]);
        assert_eq!(places(&path), []);
    }

    #[test]
    fn a_line_cut_short_is_dropped() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log.jsonl");
        write(&path, 1, 0, &[10, 20]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for end in first..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            write(&path, 1, 20, &[]);
            assert_eq!(places(&path), [(1, 10)], "cut after {end} bytes");
        }
    }

    #[test]
    fn foreign_lines_and_numbers_that_are_none_stay() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log.jsonl");
        let foreign = "# \u{fc}\n{\"kind\":\"other\"}\n\n";
        fs::write(&path, foreign).unwrap();
        let mut record = validation(1, 5);
        record.psnr = f64::INFINITY;
        let mut sink = JsonLines::open(&path, 1, 0).unwrap();
        sink.write(&Record::Validation(record)).unwrap();
        write(&path, 1, 5, &[]);
        let text = fs::read_to_string(&path).unwrap();
        let line = text.strip_prefix(foreign).unwrap();
        assert!(line.contains(r#""psnr":null"#), "{line}");
        assert!(matches!(
            serde_json::from_str(line).unwrap(),
            Record::Validation(record) if record.psnr.is_nan()
        ));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = TempDir::new().unwrap();
        let error = JsonLines::open(folder.path(), 1, 0).err().unwrap();
        let name = folder.path().display().to_string();
        assert!(error.to_string().contains(&name), "{error}");
    }
}
