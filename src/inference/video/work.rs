//! The folder of the frames restored so far, by which an interrupted video goes on.
//!
//! `clip.mp4.frames/` lies beside the result `clip.mp4`. It holds `00000001.png` and so on, each of which appears whole or
//! not at all, `state.json`, which says of what video they are and how they were made, and `lock`.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::inference::files;
use crate::whole::write_whole;

const STATE: &str = "state.json";
const LOCK: &str = "lock";

/// The end of every PNG file: a chunk of no bytes, its name and its checksum.
const PNG_END: &[u8; 12] = b"\0\0\0\0IEND\xaeB`\x82";

/// What the frames are made of and how. Frames of another state are never mixed with these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// Size of the video's file in bytes, and when it was changed, in nanoseconds since 1970.
    bytes: u64,
    modified: u64,
    frames: usize,
    /// See [`Options::recipe`](super::Options::recipe).
    recipe: BTreeMap<String, String>,
}

impl State {
    pub fn new(input: &Path, frames: usize, recipe: &BTreeMap<String, String>) -> Result<Self> {
        let found = fs::metadata(input).map_err(Error::io(input))?;
        let modified = found.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            format: 1,
            bytes: found.len(),
            modified: modified.map_or(0, |time| time.as_nanos() as u64),
            frames,
            recipe: recipe.clone(),
        })
    }

    /// What is different now, in words.
    fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.format != now.format {
            differences.push("made by another version of this program".to_string());
        }
        if (self.bytes, self.modified) != (now.bytes, now.modified) {
            differences.push("the video has changed since".to_string());
        } else if self.frames != now.frames {
            let (before, now) = (self.frames, now.frames);
            differences.push(format!(
                "{before} frames were found in the video, now {now}"
            ));
        }
        differences.extend(files::differences(&self.recipe, &now.recipe));
        differences
    }
}

/// The folder of the frames for `output`.
pub(super) fn folder_of(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(".frames");
    output.with_file_name(name)
}

/// The folder, held by this process.
#[derive(Debug)]
pub(super) struct Work {
    folder: PathBuf,
    frames: usize,
    /// Its lock is free again when this process ends, however it does.
    _lock: File,
}

impl Work {
    /// Refuses a folder from an earlier run that nobody decided about.
    ///
    /// # Errors
    /// [`Error::Refused`], unless there is no such folder, or `resume` or `force`.
    pub fn check(output: &Path, resume: bool, force: bool) -> Result<()> {
        let folder = folder_of(output);
        if fs::symlink_metadata(&folder).is_err() {
            return Ok(());
        }
        if ![STATE, LOCK].iter().any(|name| folder.join(name).is_file()) {
            let reason = "in the way of the frames, and not made by this program: move it";
            return Err(Error::refused(&folder, reason));
        }
        if resume || force {
            return Ok(());
        }
        let reason =
            "holds the frames of an earlier run: --resume goes on from them, --force begins anew";
        Err(Error::refused(&folder, reason))
    }

    /// Opens the folder, or makes it. Without `resume`, frames in it are removed.
    ///
    /// # Errors
    /// [`Error::Refused`] if what is there was made in another way, or by another process that is still at it.
    pub fn open(output: &Path, state: &State, resume: bool) -> Result<Self> {
        let folder = folder_of(output);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let work = Self {
            _lock: lock(&folder)?,
            frames: state.frames,
            folder,
        };
        let path = work.folder.join(STATE);
        match fs::read(&path) {
            Ok(before) if resume => work.compare(&before, state)?,
            _ => {
                work.remove_frames()?;
                write_state(&path, state)?;
            }
        }
        Ok(work)
    }

    fn compare(&self, before: &[u8], now: &State) -> Result<()> {
        let differences = match serde_json::from_slice::<State>(before) {
            Ok(before) => before.differences(now),
            Err(error) => vec![format!("{STATE}: {error}")],
        };
        if differences.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "these frames cannot be gone on with: {}; --force without --resume begins anew",
            differences.join(", ")
        );
        Err(Error::refused(&self.folder, reason))
    }

    /// The folder's path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a frame, counted from 0.
    pub fn frame(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{:08}.png", index + 1))
    }

    /// The files of all frames.
    pub fn all_frames(&self) -> Vec<PathBuf> {
        (0..self.frames).map(|index| self.frame(index)).collect()
    }

    /// How many frames are there without a gap. One that a power failure left incomplete is not.
    pub fn done(&self) -> usize {
        let is_whole = |&index: &usize| is_whole_png(&self.frame(index)).unwrap_or(false);
        (0..self.frames).take_while(is_whole).count()
    }

    /// Removes the folder, as far as its files were made here.
    pub fn remove(self) -> Result<()> {
        self.remove_frames()?;
        for name in [STATE, LOCK] {
            let path = self.folder.join(name);
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        // Other files in it are not ours to remove, and keep the folder.
        let _ = fs::remove_dir(&self.folder);
        Ok(())
    }

    fn remove_frames(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io(&self.folder))?;
        for entry in entries {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            if is_ours(&path) {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

/// Whether a file's name is a frame's, or one that was not finished.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = name.strip_suffix(".png").unwrap_or_default();
    let is_frame = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_frame || (name.starts_with(".hi-diff-") && name.ends_with(".tmp"))
}

fn write_state(path: &Path, state: &State) -> Result<()> {
    let text = serde_json::to_vec_pretty(state).map_err(|error| Error::io(path)(error.into()))?;
    write_whole(path, true, |file| {
        file.write_all(&text).map_err(Error::io(path))
    })
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let mut options = File::options();
    let file = options.create(true).append(true).open(&path);
    let file = file.map_err(Error::io(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let reason = "another process is at work on these frames";
            Err(Error::refused(folder, reason))
        }
        // Some file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

fn is_whole_png(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let mut end = [0; PNG_END.len()];
    file.seek(SeekFrom::End(-(end.len() as i64)))?;
    file.read_exact(&mut end)?;
    Ok(&end == PNG_END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn state(root: &TempDir, seed: &str) -> State {
        let input = root.path().join("in.mp4");
        if !input.exists() {
            fs::write(&input, "video").unwrap();
        }
        let recipe = BTreeMap::from([("seed".to_string(), seed.to_string())]);
        State::new(&input, 4, &recipe).unwrap()
    }

    fn add_frame(work: &Work, index: usize) {
        fs::write(work.frame(index), [&b"picture"[..], PNG_END].concat()).unwrap();
    }

    #[test]
    fn frames_are_gone_on_with_only_as_they_were_begun() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("out.mp4");
        Work::check(&output, false, false).unwrap();
        let begun = state(&root, "0");
        let work = Work::open(&output, &begun, false).unwrap();
        assert!(work.frame(0).ends_with("out.mp4.frames/00000001.png"));
        add_frame(&work, 0);
        add_frame(&work, 1);
        add_frame(&work, 3);
        assert_eq!(work.done(), 2, "up to the gap");
        fs::write(work.frame(1), [0; 100]).unwrap();
        assert_eq!(work.done(), 1, "up to a frame of zeros");
        add_frame(&work, 1);
        drop(work);

        let says = |result: Result<Work>, words: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        let refused = Work::check(&output, false, false).unwrap_err().to_string();
        assert!(refused.contains("--resume goes on") && refused.contains("--force"));
        Work::check(&output, true, false).unwrap();
        assert_eq!(Work::open(&output, &begun, true).unwrap().done(), 2);
        let other = state(&root, "1");
        says(Work::open(&output, &other, true), "seed was 0, now 1");
        fs::write(root.path().join("in.mp4"), "other video").unwrap();
        let other = state(&root, "0");
        says(Work::open(&output, &other, true), "the video has changed");

        // Begun anew, nothing of before is left.
        let work = Work::open(&output, &other, false).unwrap();
        assert_eq!(work.done(), 0);
        assert!(!work.frame(3).exists());
        says(Work::open(&output, &other, true), "another process");
        work.remove().unwrap();
        assert!(!folder_of(&output).exists());
    }

    #[test]
    fn files_of_others_are_never_removed() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("out.mp4");
        let folder = folder_of(&output);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("00000001.png"), "a photograph").unwrap();
        for force in [false, true] {
            let refused = Work::check(&output, false, force).unwrap_err();
            assert!(refused.to_string().contains("not made by this program"));
        }
        fs::remove_dir_all(&folder).unwrap();
        let work = Work::open(&output, &state(&root, "0"), false).unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        add_frame(&work, 0);
        work.remove().unwrap();
        let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
