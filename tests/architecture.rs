//! The order of the rooms in `docs/architecture.md`: who may know whom.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the ground up. A room may know those in the rows before its own, and in its own row those before it.
const ROWS: &[&[&str]] = &[
    &["error"],
    &[
        "memory", "numbers", "drawing", "checks", "reflect", "whole", "lock", "picture",
    ],
    &["kernels", "diffusion"],
    &["model"],
    &["config"],
    &["weights", "data"],
    &["inference", "evaluation", "training"],
    &["ablation", "report"],
    &["fuzzing"],
];

fn place(room: &str) -> Option<(usize, usize)> {
    let mut rows = ROWS.iter().enumerate();
    rows.find_map(|(row, rooms)| Some((row, rooms.iter().position(|found| *found == room)?)))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Rooms that a file names, its unit tests left out.
fn known(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let code = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut rooms = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            rooms.insert(rest[..end.unwrap_or(rest.len())].to_string());
        }
    }
    rooms
}

#[test]
fn rooms_know_only_those_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for path in all {
        let name = path.strip_prefix(&source).expect("within the source");
        let first = name.iter().next().expect("a name").to_string_lossy();
        let room = first.trim_end_matches(".rs");
        if room == "lib" || room == "bin" {
            continue;
        }
        seen.insert(room.to_string());
        let own = place(room).unwrap_or_else(|| panic!("`{room}` has no place in the order"));
        let text = fs::read_to_string(&path).expect("a file of the source");
        for other in known(&text) {
            // What begins with a capital is the crate's own: the re-exports of `lib.rs`.
            if other == room || !other.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            match place(&other) {
                Some(other) if other < own => {}
                _ => wrong.push(format!("{} knows `{other}`", name.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rooms = ROWS.iter().copied().flatten();
    for room in rooms {
        assert!(seen.contains(*room), "`{room}` is no room any more");
    }
}
