//! Event files, read without the code that wrote them.
#![cfg(feature = "train")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hi_diff::training::log::{
    Picture, Record, SetRecord, Sink, TensorBoard, TrainRecord, ValidationRecord,
};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

fn train(stage: u8, iteration: usize, pixel: f64) -> TrainRecord {
    TrainRecord {
        stage,
        iteration,
        iterations: 60,
        pixel_loss: Some(pixel),
        frequency_loss: (stage == 1).then_some(pixel * 2.0),
        light_loss: (stage == 1).then_some(pixel / 9.0),
        diffusion_loss: (stage == 2).then_some(pixel / 3.0),
        gradient_norm: Some(pixel * 7.0),
        learning_rate: 1e-4 / iteration as f64,
        images_per_second: 12.5,
        memory_bytes: Some(5_000_000_000),
        seconds_left: 3.0,
    }
}

/// With pictures whose names have folders and no ASCII.
fn validation(stage: u8, iteration: usize, psnr: f64) -> ValidationRecord {
    let picture = |name: &str, width| {
        let shade = iteration as u8 + stage;
        let image = RgbImage::from_fn(width, 3, |x, y| Rgb([shade, 20 * x as u8, 30 * y as u8]));
        let name = name.to_string();
        Picture { name, image }
    };
    let set = |name: &str, psnr: f64| SetRecord {
        name: name.into(),
        psnr,
        ssim: psnr / 60.0,
        gain: psnr - 21.0,
        images: 1,
    };
    ValidationRecord {
        stage,
        iteration,
        psnr,
        ssim: psnr / 50.0,
        gain: Some(psnr - 20.0),
        images: 2,
        sets: vec![set("street", psnr - 1.0), set("H\u{fc}tte", psnr + 1.0)],
        pictures: vec![picture("scene/000047", 5), picture("H\u{fc}tte", 7)],
    }
}

/// What TensorBoard should show of a run.
#[derive(Default)]
struct Shown {
    scalars: BTreeMap<String, Vec<Value>>,
    pictures: BTreeMap<String, Vec<Value>>,
}

impl Shown {
    fn train(&mut self, record: &TrainRecord) {
        let scalars = [
            ("train/pixel_loss", record.pixel_loss),
            ("train/frequency_loss", record.frequency_loss),
            ("train/light_loss", record.light_loss),
            ("train/diffusion_loss", record.diffusion_loss),
            ("train/gradient_norm", record.gradient_norm),
            ("train/learning_rate", Some(record.learning_rate)),
            ("train/images_per_second", Some(record.images_per_second)),
            ("train/memory_bytes", record.memory_bytes.map(|b| b as f64)),
        ];
        for (tag, value) in scalars {
            self.scalar(tag, record.iteration, value);
        }
    }

    fn validation(&mut self, record: &ValidationRecord) {
        self.scalar("validation/psnr", record.iteration, Some(record.psnr));
        self.scalar("validation/ssim", record.iteration, Some(record.ssim));
        self.scalar("validation/gain", record.iteration, record.gain);
        for set in &record.sets {
            let scores = [("psnr", set.psnr), ("ssim", set.ssim), ("gain", set.gain)];
            for (score, value) in scores {
                let tag = format!("validation/{}/{score}", set.name);
                self.scalar(&tag, record.iteration, Some(value));
            }
        }
        for Picture { name, image } in &record.pictures {
            let picture = json!({
                "step": record.iteration,
                "width": image.width(),
                "height": image.height(),
                "rgb": image.as_raw(),
            });
            let tag = format!("validation/{name}");
            self.pictures.entry(tag).or_default().push(picture);
        }
    }

    fn scalar(&mut self, tag: &str, step: usize, value: Option<f64>) {
        if let Some(value) = value {
            let points = self.scalars.entry(tag.to_string()).or_default();
            points.push(json!([step, value]));
        }
    }

    fn json(&self) -> Value {
        json!({ "scalars": self.scalars, "pictures": self.pictures })
    }
}

/// Two stages, the first of them killed in the middle of its record of iteration 50 and resumed from 20, without a
/// pause. Returns what should be shown.
fn write_runs(folder: &Path) -> BTreeMap<&'static str, Shown> {
    let mut shown: BTreeMap<_, Shown> = BTreeMap::new();
    let mut write = |run: &'static str, done, iterations: &[usize], until: usize, base: f64| {
        let stage = if run == "stage-one" { 1 } else { 2 };
        let mut board = TensorBoard::create(folder, run, done).unwrap();
        let shown = shown.entry(run).or_default();
        for &iteration in iterations {
            let record = train(stage, iteration, base / iteration as f64);
            if iteration <= until {
                shown.train(&record);
            }
            board.write(&Record::Train(record)).unwrap();
            if iteration.is_multiple_of(20) {
                let record = validation(stage, iteration, base + iteration as f64);
                if iteration <= until {
                    shown.validation(&record);
                }
                board.write(&Record::Validation(record)).unwrap();
            }
        }
    };
    write("stage-one", 0, &[10, 20, 30, 40, 50], 20, 1.0);
    let killed = event_files(folder, "stage-one").remove(0);
    let whole = fs::metadata(&killed).unwrap().len();
    let file = File::options().append(true).open(&killed).unwrap();
    file.set_len(whole - 9).unwrap();
    write("stage-one", 20, &[30, 40], 40, 2.0);
    write("stage-two", 0, &[10, 20, 30], 40, f64::NAN);
    shown
}

fn event_files(folder: &Path, run: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(run)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// CRC-32C bit by bit, masked as TFRecord has it.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let polynomial = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            crc = crc >> 1 ^ polynomial;
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of a file and how many bytes are left after the last whole one.
fn read_frames(path: &Path) -> (Vec<Vec<u8>>, usize) {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(12) {
        let (length, crc) = head.split_at(8);
        let position = bytes.len() - rest.len();
        assert_eq!(
            crc,
            masked_crc(length).to_le_bytes(),
            "length at {position}"
        );
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let Some((data, tail)) = tail.split_at_checked(length) else {
            break;
        };
        let Some((crc, tail)) = tail.split_at_checked(4) else {
            break;
        };
        assert_eq!(crc, masked_crc(data).to_le_bytes(), "data at {position}");
        events.push(data.to_vec());
        rest = tail;
    }
    (events, rest.len())
}

/// The fields of a protocol buffer message: varints as numbers, everything else as bytes.
#[derive(Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().unwrap();
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let rest = &mut message;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(rest);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, Field::Varint(varint(rest))));
                continue;
            }
            1 => 8,
            2 => varint(rest) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, tail) = rest.split_at(length);
        *rest = tail;
        fields.push((key >> 3, Field::Bytes(value)));
    }
    fields
}

fn field<'a>(message: &'a [u8], number: u64) -> Option<Field<'a>> {
    let mut found = fields(message).into_iter();
    found.find_map(|(field, value)| (field == number).then_some(value))
}

fn step(event: &[u8]) -> u64 {
    match field(event, 2) {
        Some(Field::Varint(step)) => step,
        other => panic!("not a step: {other:?}"),
    }
}

#[test]
fn every_event_is_framed_checked_and_in_its_place() {
    let folder = TempDir::new().unwrap();
    write_runs(folder.path());
    let files = event_files(folder.path(), "stage-one");
    assert_eq!(files.len(), 2, "{files:?}");
    // The version, the start, and what was written; the first file ends in what is left of its last event.
    let expected: [&[u64]; 2] = [&[0, 1, 10, 20, 20, 30, 40, 40], &[0, 21, 30, 40, 40]];
    for ((path, expected), torn) in files.iter().zip(expected).zip([true, false]) {
        let (events, left) = read_frames(path);
        assert_eq!(left > 0, torn, "{left} bytes left");
        let steps: Vec<_> = events.iter().map(|event| step(event)).collect();
        assert_eq!(steps, expected);
        assert_eq!(field(&events[0], 3), Some(Field::Bytes(b"brain.Event:2")));
        let start = Field::Bytes(&[1 << 3, 1]); // SessionLog { status: START }
        assert_eq!(field(&events[1], 7), Some(start));
        for event in &events[2..] {
            let Some(Field::Bytes(summary)) = field(event, 5) else {
                panic!("no summary in {event:?}");
            };
            assert!(fields(summary).iter().all(|(number, _)| *number == 1));
        }
        let Some(Field::Bytes(summary)) = field(&events[2], 5) else {
            panic!("no summary");
        };
        let Some(Field::Bytes(first)) = field(summary, 1) else {
            panic!("no value");
        };
        assert_eq!(field(first, 1), Some(Field::Bytes(b"train/pixel_loss")));
        let value = (if torn { 0.1_f32 } else { 2.0 / 30.0 }).to_le_bytes();
        assert_eq!(field(first, 2), Some(Field::Bytes(&value)));
    }
}

/// What TensorBoard itself reads: scalars, steps, pictures decoded from PNG, and only what was not undone by the resume.
///
/// Needs a Python with the `tensorboard` package, named by the variable `PYTHON` if it is not `python3`:
///
/// ```sh
/// python3 -m venv /tmp/tensorboard && /tmp/tensorboard/bin/pip install tensorboard
/// PYTHON=/tmp/tensorboard/bin/python cargo test --test tensorboard -- --ignored
/// ```
#[test]
#[ignore = "needs a Python with the tensorboard package"]
fn tensorboard_reads_what_was_written() {
    let folder = TempDir::new().unwrap();
    let runs = folder.path().join("runs");
    let shown = write_runs(&runs);
    let shown: BTreeMap<_, _> = shown
        .iter()
        .map(|(run, shown)| (run, shown.json()))
        .collect();
    let expected = folder.path().join("expected.json");
    let mut file = File::create(&expected).unwrap();
    write!(file, "{}", json!(shown)).unwrap();

    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorboard/check.py");
    let check = Command::new(&python)
        .args([&script, &runs, &expected])
        .output()
        .unwrap_or_else(|error| panic!("{python}: {error}"));
    let out = String::from_utf8_lossy(&check.stdout);
    let errors = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{out}{errors}");
    assert_eq!(out.lines().count(), 2, "{out}{errors}");
}
