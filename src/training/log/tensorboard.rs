//! TensorBoard's event files: protocol buffers in the frames of TFRecord.
//!
//! A frame is the length of its data as eight bytes, their checksum, the data, and its checksum, all little-endian. The
//! data is an `Event` of TensorFlow's `event.proto`; the few fields that a training needs are written here by hand.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use image::RgbImage;

use super::{Record, Sink, TrainRecord, ValidationRecord};
use crate::error::{Error, Result};
use crate::picture::{Format, rgb8_bytes};

/// Names of event files begin so, with the seconds of their beginning.
const PREFIX: &str = "events.out.tfevents.";

/// Writes scalars as `train/…` and `validation/…`, and the pictures of a validation as `validation/<name>`.
pub struct TensorBoard {
    path: PathBuf,
    file: File,
}

impl TensorBoard {
    /// Begins an event file in `folder/run`, for a run that goes on after `done` iterations.
    ///
    /// Each stage is a `run` of its own to TensorBoard, since both count their iterations from one. What earlier files of
    /// the run say about later iterations is not shown any more.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or the file cannot be made.
    pub fn create(folder: impl AsRef<Path>, run: &str, done: usize) -> Result<Self> {
        let folder = folder.as_ref().join(run);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let seconds = first_free_second(&folder)?;
        let name = format!("{PREFIX}{seconds:010}.hi-diff.{}", std::process::id());
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        let mut board = Self { path, file };
        board.append(&[file_version(), session_start(done)])?;
        Ok(board)
    }

    /// Writes events in one go, so that a process that ends meanwhile loses as little as it can.
    fn append(&mut self, events: &[Message]) -> Result<()> {
        let mut frames = Vec::new();
        for event in events {
            push_frame(&mut frames, &event.0);
        }
        self.file.write_all(&frames).map_err(Error::io(&self.path))
    }
}

/// TensorBoard reads the files of a run in the order of their names: the present second, or the one after the newest
/// file's, which may be younger when runs follow each other quickly or a clock was set.
fn first_free_second(folder: &Path) -> Result<u64> {
    let mut seconds = unix_seconds() as u64;
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let written = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        seconds = seconds.max(written.map_or(0, |written: u64| written.saturating_add(1)));
    }
    Ok(seconds)
}

/// A clock before 1970 counts as 1970.
fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

impl Sink for TensorBoard {
    fn write(&mut self, record: &Record) -> Result<()> {
        match record {
            Record::Train(record) => {
                let summary = Message::default().messages(1, train_scalars(record));
                self.append(&[event(record.iteration).message(5, &summary)])
            }
            Record::Validation(record) => {
                let mut values: Vec<_> = validation_scalars(record).collect();
                for picture in &record.pictures {
                    let tag = format!("validation/{}", picture.name);
                    values.push(image_value(&tag, &picture.image)?);
                }
                let summary = Message::default().messages(1, values);
                self.append(&[event(record.iteration).message(5, &summary)])
            }
        }
    }
}

fn train_scalars(record: &TrainRecord) -> impl Iterator<Item = Message> {
    let scalars = [
        ("train/pixel_loss", record.pixel_loss),
        ("train/frequency_loss", record.frequency_loss),
        ("train/light_loss", record.light_loss),
        ("train/diffusion_loss", record.diffusion_loss),
        ("train/gradient_norm", record.gradient_norm),
        ("train/learning_rate", Some(record.learning_rate)),
        ("train/images_per_second", Some(record.images_per_second)),
        (
            "train/memory_bytes",
            record.memory_bytes.map(|bytes| bytes as f64),
        ),
    ];
    scalars
        .into_iter()
        .filter_map(|(tag, value)| Some(scalar_value(tag, value?)))
}

/// The means as `validation/psnr` and so on, and of several sets their own as `validation/<set>/psnr`.
fn validation_scalars(record: &ValidationRecord) -> impl Iterator<Item = Message> {
    let scores = |place: &str, psnr: f64, ssim: f64, gain: Option<f64>| {
        let scalars = [("psnr", Some(psnr)), ("ssim", Some(ssim)), ("gain", gain)];
        let place = place.to_string();
        scalars.into_iter().filter_map(move |(name, value)| {
            Some(scalar_value(&format!("validation/{place}{name}"), value?))
        })
    };
    let sets = match record.sets.as_slice() {
        [_] => &[],
        sets => sets,
    };
    let sets = sets.iter().flat_map(move |set| {
        scores(
            &format!("{}/", set.name),
            set.psnr,
            set.ssim,
            Some(set.gain),
        )
    });
    scores("", record.psnr, record.ssim, record.gain).chain(sets)
}

/// `Event { wall_time = 1, step = 2 }`, to which one of `file_version = 3`, `summary = 5` and `session_log = 7` is added.
fn event(step: usize) -> Message {
    Message::default()
        .double(1, unix_seconds())
        .integer(2, step as u64)
}

/// The first event of every file.
fn file_version() -> Message {
    event(0).bytes(3, b"brain.Event:2")
}

/// `SessionLog { status = 1 }` with `START`, from whose step on a reader forgets what it has read before.
fn session_start(done: usize) -> Message {
    let log = Message::default().integer(1, 1);
    event(done.saturating_add(1)).message(7, &log)
}

/// `Summary.Value { tag = 1, simple_value = 2 }`.
fn scalar_value(tag: &str, value: f64) -> Message {
    Message::default()
        .bytes(1, tag.as_bytes())
        .float(2, value as f32)
}

/// `Summary.Value { tag = 1, image = 4 }`, `Image { height = 1, width = 2, colorspace = 3, encoded_image_string = 4 }`.
fn image_value(tag: &str, image: &RgbImage) -> Result<Message> {
    const RGB: u64 = 3;
    let (width, height) = image.dimensions();
    let png = rgb8_bytes(image, Format::Png, 100, tag)?; // without loss, whatever the quality
    let image = Message::default()
        .integer(1, height.into())
        .integer(2, width.into())
        .integer(3, RGB)
        .bytes(4, &png);
    Ok(Message::default()
        .bytes(1, tag.as_bytes())
        .message(4, &image))
}

/// A protocol buffer message, field by field.
#[derive(Debug, Default, Clone)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u64 = 0;
    const EIGHT_BYTES: u64 = 1;
    const LENGTH_DELIMITED: u64 = 2;
    const FOUR_BYTES: u64 = 5;

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn key(self, field: u64, wire_type: u64) -> Self {
        self.varint(field << 3 | wire_type)
    }

    fn integer(self, field: u64, value: u64) -> Self {
        self.key(field, Self::VARINT).varint(value)
    }

    fn double(self, field: u64, value: f64) -> Self {
        let mut message = self.key(field, Self::EIGHT_BYTES);
        message.0.extend(value.to_le_bytes());
        message
    }

    fn float(self, field: u64, value: f32) -> Self {
        let mut message = self.key(field, Self::FOUR_BYTES);
        message.0.extend(value.to_le_bytes());
        message
    }

    fn bytes(self, field: u64, value: &[u8]) -> Self {
        let mut message = self
            .key(field, Self::LENGTH_DELIMITED)
            .varint(value.len() as u64);
        message.0.extend(value);
        message
    }

    fn message(self, field: u64, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// A repeated field.
    fn messages(self, field: u64, values: impl IntoIterator<Item = Message>) -> Self {
        values
            .into_iter()
            .fold(self, |message, value| message.message(field, &value))
    }
}

fn push_frame(frames: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    frames.extend(length);
    frames.extend(masked_crc(&length).to_le_bytes());
    frames.extend(data);
    frames.extend(masked_crc(data).to_le_bytes());
}

/// TFRecord's checksum: a CRC-32C that may itself be part of checked data.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::train;
    use super::*;

    #[test]
    fn messages_are_encoded_as_protocol_buffers_are() {
        let message = Message::default()
            .integer(2, 300)
            .float(2, 1.0)
            .double(1, -2.0)
            .bytes(3, b"ab");
        let expected = [
            &[0x10, 0xac, 0x02][..],
            &[0x15, 0, 0, 0x80, 0x3f],
            &[0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0],
            &[0x1a, 2, b'a', b'b'],
        ];
        assert_eq!(message.0, expected.concat());
        let largest = Message::default().varint(u64::MAX);
        assert_eq!(largest.0, [[0xff; 9].as_slice(), &[1]].concat());
    }

    #[test]
    fn frames_are_those_of_tfrecord() {
        // The first 12 bytes of every event file that begins with an event of 24 bytes, as `tensorboard` writes them.
        let mut frame = Vec::new();
        push_frame(&mut frame, &[0; 24]);
        assert_eq!(frame[..8], [24, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(frame[8..12], [0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(frame.len(), 8 + 4 + 24 + 4);
    }

    #[test]
    fn files_of_a_run_are_named_in_their_order() {
        let folder = TempDir::new().unwrap();
        let far = folder.path().join("stage-one");
        fs::create_dir(&far).unwrap();
        fs::write(far.join(format!("{PREFIX}9000000000.host.1.v2")), "").unwrap();
        fs::write(far.join("notes"), "").unwrap();
        let paths: Vec<_> = (0..3)
            .map(|_| {
                TensorBoard::create(folder.path(), "stage-one", 0)
                    .unwrap()
                    .path
            })
            .collect();
        assert!(paths.is_sorted(), "{paths:?}");
        assert!(
            paths[2].to_str().unwrap().contains("tfevents.9000000003."),
            "{paths:?}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).unwrap();
        let error = TensorBoard { path, file }
            .write(&Record::Train(train(1, 1)))
            .unwrap_err();
        assert!(error.to_string().starts_with("/dev/full"), "{error}");
    }
}
