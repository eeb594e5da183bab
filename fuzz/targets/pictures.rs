//! A file's bytes to pictures, and these to files of two formats.
#![no_main]

mod common;

use hi_diff::picture::{Frames, Photograph};
use libfuzzer_sys::fuzz_target;

/// Encoding is slow: larger pictures are only decoded.
const WRITTEN: usize = 1 << 12;

fuzz_target!(init: common::watch_panics(), |bytes: &[u8]| {
    let first = Photograph::decode(bytes, "in", &common::LIMITS);
    let Ok(frames) = Frames::decode(bytes, "in", &common::LIMITS) else {
        return;
    };
    let of_all = &frames.photographs()[0];
    if let Ok(first) = first {
        assert_eq!((first.width(), first.height()), (of_all.width(), of_all.height()));
    }
    let values = frames.photographs().iter().flat_map(Photograph::rgb);
    assert!(values.copied().all(|value| (0.0..=1.0).contains(&value)));
    let pixels: usize = frames.photographs().iter().map(|one| one.width() * one.height()).sum();
    if pixels <= WRITTEN {
        common::write_and_read(&frames, bytes.len());
    }
});
