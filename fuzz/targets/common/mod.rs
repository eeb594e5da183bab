//! What the targets share.
#![allow(dead_code)]

use std::collections::HashSet;
use std::panic;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, OnceLock};

use hi_diff::picture::{EncodeOptions, Format, Frames, Limits, panics_are_caught};

pub const LIMITS: Limits = Limits {
    max_side: 4096,
    max_pixels: 1 << 20,
    max_alloc: 1 << 26,
};

/// Lets panics of dependencies that decode pictures be errors, as for users, and says once where each was. A panic at a line of
/// the library itself ends the fuzzing, caught or not.
pub fn watch_panics() {
    static SEEN: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let of_dependency = place.contains("/registry/") || place.contains("/rustc/");
        if !(of_dependency && panics_are_caught()) {
            default(info); // libfuzzer's, which aborts
            process::abort();
        }
        let mut seen = SEEN.lock().unwrap();
        if seen.get_or_insert_default().insert(place.clone()) {
            eprintln!("caught panic: {info}");
        }
    }));
}

/// A folder in memory, empty.
pub fn empty_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder =
        FOLDER.get_or_init(|| PathBuf::from(format!("/dev/shm/hi-diff-fuzz-{}", process::id())));
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    folder
}

/// Writes the pictures in two formats that a number chooses, if these take them, and reads them again. All six take much longer.
pub fn write_and_read(frames: &Frames, choice: usize) {
    let first = &frames.photographs()[0];
    for format in [choice, choice + 1].map(|at| Format::ALL[at % 6]) {
        let options = EncodeOptions::default();
        let Ok((bytes, _)) = frames.to_bytes(format, &options, "out") else {
            continue; // alpha in a JPEG, and so on
        };
        let again = Frames::decode(&bytes, "out", &LIMITS)
            .unwrap_or_else(|error| panic!("written as {format}, and then: {error}"));
        let size = |frames: &Frames| {
            let first = &frames.photographs()[0];
            (first.width(), first.height())
        };
        assert_eq!(size(&again), (first.width(), first.height()), "as {format}");
        assert_eq!(again.photographs()[0].format(), format);
    }
}
