//! `.pth` files: as they are, or (where the first byte is odd) the pickle alone, in an archive with sound checksums.
#![no_main]

use std::io::{Cursor, Write};

use hi_diff::fuzzing;
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let file = if choice % 2 == 0 {
        bytes.to_vec()
    } else {
        archive(bytes)
    };
    if let Ok(numbers) = fuzzing::pytorch(&file) {
        // Views may overlap, but not make much of little.
        assert!(numbers.len() <= 1 << 24, "{} numbers", numbers.len());
    }
});

fn archive(pickle: &[u8]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let storages =
        ["0", "1", "2"].map(|key| (format!("archive/data/{key}"), [0x3e; 512].as_slice()));
    for (name, content) in [("archive/data.pkl".into(), pickle)]
        .into_iter()
        .chain(storages)
    {
        archive.start_file(name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
