//! Folders of datasets: names and the text of RealBlur's list files, between zero bytes; the text first.
#![no_main]

mod common;

use std::fs;
use std::path::{Component, Path};

use hi_diff::config::Layout;
use hi_diff::data::layout::{Part, fitting};
use hi_diff::data::pairs::{find_images, find_pairs};
use hi_diff::evaluation::datasets::Dataset;
use libfuzzer_sys::fuzz_target;

/// A BMP of one pixel.
const PICTURE: &[u8] =
    b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x04\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\x20\x30\0";

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0);
    let list = parts.next().unwrap_or_default();
    let root = common::empty_folder();
    for camera in ["J", "R"] {
        for part in ["train", "test"] {
            if !list.is_empty() {
                fs::write(
                    root.join(format!("RealBlur_{camera}_{part}_list.txt")),
                    list,
                )
                .unwrap();
            }
        }
    }
    for name in parts.take(20) {
        let name = String::from_utf8_lossy(name);
        let name = Path::new(name.as_ref());
        // Into the folder only, whatever the name.
        if !name
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            continue;
        }
        let path = root.join(name);
        if let Some(folder) = path.parent() {
            let _ = fs::create_dir_all(folder);
        }
        let _ = fs::write(path, PICTURE);
    }
    let _ = fitting(root);
    let layouts = Layout::ALL.map(Some);
    for layout in layouts.into_iter().chain([None]) {
        for part in [Part::Train, Part::Test] {
            let found = [
                find_pairs(root, layout, part),
                find_images(root, layout, part),
            ];
            for found in found.into_iter().flatten() {
                let files = found
                    .pairs
                    .iter()
                    .flat_map(|pair| pair.blur.iter().chain([&pair.sharp]));
                for file in files {
                    assert!(
                        file.starts_with(root) && file.is_file(),
                        "{}",
                        file.display()
                    );
                }
                let _ = found.to_string();
            }
        }
        if let Ok(datasets) = Dataset::find(&[root.to_path_buf()], layout, None) {
            for dataset in datasets {
                let slug = dataset.slug();
                assert!(
                    Path::new(&slug).components().count() == 1 && !slug.contains(".."),
                    "{slug}"
                );
            }
        }
    }
});
