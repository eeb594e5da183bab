//! The programs `ffmpeg` and `ffprobe` as child processes.
//!
//! Arguments never pass a shell, and a file's name always follows `file:`, so that none is taken for a flag, a pattern
//! or an address. Inputs are opened as the containers of [`DEMUXERS`] alone: no playlist can name further files.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};

use super::format::DEMUXERS;
use crate::error::{Error, Result};

/// The bytes kept of what a program says on standard error.
const LAST_WORDS: usize = 4096;

/// The lines of them that go into an error.
const LAST_LINES: usize = 4;

/// `ffmpeg` and `ffprobe`, known to be on the `PATH`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ffmpeg {
    /// Older than 5.1, when `-fps_mode` came.
    old: bool,
}

impl Ffmpeg {
    /// Looks for both programs; `video` is named in the error.
    pub fn find(video: &Path) -> Result<Self> {
        output(command("ffprobe").arg("-version"), video)?;
        let version = output(command("ffmpeg").arg("-version"), video)?;
        let old = is_old(&String::from_utf8_lossy(&version));
        Ok(Self { old })
    }

    /// The flags by which every frame is kept with its own timestamp, in units of the stream's time base.
    pub fn passthrough(self) -> [&'static str; 2] {
        match self.old {
            true => ["-vsync", "passthrough"],
            false => ["-fps_mode", "passthrough"],
        }
    }
}

/// Whether the first line of `ffmpeg -version` names a release before 5.1. Builds between releases are taken for new.
fn is_old(version: &str) -> bool {
    let words = version.strip_prefix("ffmpeg version ").unwrap_or(version);
    let number = words.trim_start_matches('n').split(['.', '-', ' ']);
    let mut parts = number.map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(5), minor) => minor.is_none_or(|minor| minor == 0),
        (Some(major), _) => major < 5,
        _ => false,
    }
}

/// A program that says nothing but errors, reads nothing and does not get the terminal's Ctrl-C, which is for us to
/// pass on or not.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).args(["-v", "error"]);
    if program == "ffmpeg" {
        command.args(["-nostdin", "-y"]);
    }
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    #[cfg(windows)]
    std::os::windows::process::CommandExt::creation_flags(&mut command, 0x200); // CREATE_NEW_PROCESS_GROUP
    command
}

/// Adds a stranger's file as an input.
pub(super) fn add_input(command: &mut Command, path: &Path) {
    command.args(["-protocol_whitelist", "file", "-format_whitelist", DEMUXERS]);
    command.arg("-i").arg(file(path));
}

/// A file's name as an argument.
pub(super) fn file(path: &Path) -> OsString {
    let mut argument = OsString::from("file:");
    argument.push(path);
    argument
}

/// Runs a program to its end and returns what it wrote to standard output.
pub(super) fn output(command: &mut Command, video: &Path) -> Result<Vec<u8>> {
    let mut running = Running::start(command.stdout(Stdio::piped()), video)?;
    let mut bytes = Vec::new();
    if let Some(mut pipe) = running.stdout() {
        pipe.read_to_end(&mut bytes).map_err(Error::io(video))?;
    }
    running.finish()?;
    Ok(bytes)
}

/// A program at work on a video. It does not outlive this value.
pub(super) struct Running {
    program: String,
    video: PathBuf,
    child: Child,
    last_words: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn start(command: &mut Command, video: &Path) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stderr(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::video(
                video,
                format!(
                    "{program} is not on the PATH: install it (https://ffmpeg.org), or extract the frames into a \
                     folder of images and deblur that"
                ),
            ),
            _ => Error::video(video, format!("{program} does not start: {error}")),
        })?;
        let errors = child.stderr.take();
        Ok(Self {
            program,
            video: video.to_path_buf(),
            child,
            last_words: errors.map(|pipe| thread::spawn(|| last_words(pipe))),
        })
    }

    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for the end. Returns the last lines that the program wrote to standard error; a program that fails is an
    /// error with them.
    pub fn finish(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let status = self.child.wait().map_err(Error::io(&self.video))?;
        let words = self.last_words.take().map(JoinHandle::join);
        let words = words.and_then(|joined| joined.ok()).unwrap_or_default();
        let lines = last_lines(&String::from_utf8_lossy(&words), &self.video);
        if status.success() {
            return Ok(lines);
        }
        let reason = match lines.is_empty() {
            true => format!("{} failed ({status})", self.program),
            false => format!("{}: {lines}", self.program),
        };
        Err(Error::video(&self.video, reason))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where the program has ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all that a program says, so that it never waits for us, and keeps the end.
fn last_words(mut pipe: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match pipe.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return kept,
            Ok(count) => {
                kept.extend_from_slice(&chunk[..count]);
                let surplus = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..surplus);
            }
        }
    }
}

/// The last lines, without the video's name, which every error has in front, and without memory addresses.
fn last_lines(words: &str, video: &Path) -> String {
    let name = format!("file:{}: ", video.display());
    let lines: Vec<_> = words
        .lines()
        .map(|line| without_address(line.trim()).trim_start_matches(&name))
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ")
}

/// `[mov,mp4 @ 0x55922f986a40] partial file` is only of use to who debugs ffmpeg.
fn without_address(line: &str) -> &str {
    match line.split_once("] ") {
        Some((origin, rest)) if origin.starts_with('[') && origin.contains(" @ 0x") => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_before_5_1_are_old() {
        for (version, old) in [
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", true),
            ("ffmpeg version 5.0 Copyright", true),
            ("ffmpeg version 5.0.3 Copyright", true),
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright", false),
            ("ffmpeg version n7.1 Copyright", false),
            ("ffmpeg version 10.2 Copyright", false),
            ("ffmpeg version N-118000-g2cc8ecc Copyright", false),
            ("ffmpeg version 2024-08-01-git-abc Copyright", false),
        ] {
            assert_eq!(is_old(version), old, "{version}");
        }
    }

    #[test]
    fn last_words_are_bounded_and_end_with_the_last_line() {
        let flood: Vec<String> = (0..5000).map(|line| format!("line {line}")).collect();
        let kept = last_words(flood.join("\n").as_bytes());
        assert_eq!(kept.len(), LAST_WORDS);
        let lines = last_lines(&String::from_utf8_lossy(&kept), Path::new("a.mp4"));
        assert_eq!(lines, "line 4996\n  line 4997\n  line 4998\n  line 4999");
        let named = last_lines("file:a.mp4: Invalid data\n\n", Path::new("a.mp4"));
        assert_eq!(named, "Invalid data");
        let [decoder, plain] = ["[h264 @ 0x55aa] [1] odd", "[1] odd"].map(without_address);
        assert_eq!((decoder, plain), ("[1] odd", "[1] odd"));
    }

    #[test]
    fn a_name_is_never_a_flag_an_address_or_a_pattern() {
        assert_eq!(file(Path::new("-y.mp4")), "file:-y.mp4");
        assert_eq!(file(Path::new("http://a/%d.mp4")), "file:http://a/%d.mp4");
    }
}
