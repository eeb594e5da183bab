//! Progress as plain lines, for logs and for standard output that is no terminal.

use std::io::Write;
use std::time::Duration;

use super::{Record, Sink, TrainRecord, ValidationRecord, stage_name};
use crate::error::Result;

/// Prints a line for each record.
pub struct Lines<W> {
    out: W,
}

impl<W: Write + Send> Lines<W> {
    /// Lines on `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    /// Never fails: a training goes on when its standard output is closed.
    fn write(&mut self, record: &Record) -> Result<()> {
        let line = match record {
            Record::Train(record) => training_line(record),
            Record::Validation(record) => validation_lines(record),
        };
        writeln!(self.out, "{line}")
            .and_then(|()| self.out.flush())
            .ok();
        Ok(())
    }
}

fn training_line(record: &TrainRecord) -> String {
    let head = format!(
        "{}: {}/{}",
        stage_name(record.stage),
        record.iteration,
        record.iterations
    );
    let pixel = record
        .pixel_loss
        .map(|loss| format!("pixel loss {loss:.5}"));
    let frequency = record
        .frequency_loss
        .map(|loss| format!("frequency loss {loss:.5}"));
    let light = record
        .light_loss
        .map(|loss| format!("light loss {loss:.5}"));
    let diffusion = record
        .diffusion_loss
        .map(|loss| format!("diffusion loss {loss:.5}"));
    let norm = record
        .gradient_norm
        .map(|norm| format!("gradient norm {norm:.4}"));
    let rate = format!("lr {:.3e}", record.learning_rate);
    let parts = [
        Some(head),
        pixel,
        frequency,
        light,
        diffusion,
        norm,
        Some(rate),
        Some(record.speed()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

impl TrainRecord {
    /// Images a second, memory and time left, for people.
    pub fn speed(&self) -> String {
        let speed = format!("{:.1} images/s", self.images_per_second);
        let left = format!("{} left", duration(self.seconds_left));
        let parts = [Some(speed), self.memory_bytes.map(memory), Some(left)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
    }
}

/// The means, and of several sets a line each.
fn validation_lines(record: &ValidationRecord) -> String {
    let head = format!("{}: {}", stage_name(record.stage), record.iteration);
    let scores = |psnr: f64, gain: Option<f64>, ssim: f64, images: usize| {
        let gain = gain.map(|gain| format!("  gain {gain:+.3} dB"));
        let gain = gain.unwrap_or_default();
        format!("PSNR {psnr:.3} dB{gain}  SSIM (per channel) {ssim:.4} over {images} images")
    };
    let mean = scores(record.psnr, record.gain, record.ssim, record.images);
    let mut lines = vec![format!("{head}  validation {mean}")];
    if record.sets.len() > 1 {
        lines.extend(record.sets.iter().map(|set| {
            let scores = scores(set.psnr, Some(set.gain), set.ssim, set.images);
            format!("{head}  validation {}: {scores}", set.name)
        }));
    }
    lines.join("\n")
}

/// In the unit that a person would take.
fn memory(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.0)
    }
}

/// Hours, minutes and seconds, without the part that does not matter.
fn duration(seconds: f64) -> String {
    let Ok(duration) = Duration::try_from_secs_f64(seconds) else {
        return "unknown time".to_string();
    };
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {:02} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::tests::{train, validation, validation_of_sets};
    use super::*;

    fn printed(record: Record) -> String {
        let mut out = Vec::new();
        Lines::new(&mut out).write(&record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_what_there_is() {
        assert_eq!(
            printed(Record::Train(train(1, 150))),
            "stage one: 150/1800  pixel loss 0.03121  gradient norm 0.4123  lr 9.831e-4  12.3 images/s  1.2 GiB  \
             12 min 03 s left\n"
        );
        let record = TrainRecord {
            frequency_loss: Some(1.25),
            light_loss: Some(0.001),
            diffusion_loss: Some(f64::NAN),
            gradient_norm: None,
            memory_bytes: None,
            seconds_left: f64::NAN,
            ..train(2, 7)
        };
        assert_eq!(
            printed(Record::Train(record)),
            "stage two: 7/1800  pixel loss 0.03121  frequency loss 1.25000  light loss 0.00100  diffusion loss NaN  lr 9.831e-4  12.3 images/s  unknown time left\n"
        );
        assert_eq!(
            printed(Record::Validation(validation(1, 600))),
            "stage one: 600  validation PSNR 27.123 dB  SSIM (per channel) 0.8123 over 6 images\n"
        );
        assert_eq!(
            printed(Record::Validation(validation_of_sets(1, 600))),
            "stage one: 600  validation PSNR 26.000 dB  gain +0.125 dB  SSIM (per channel) 0.7500 over 6 images\n\
             stage one: 600  validation gopro: PSNR 27.000 dB  gain +0.500 dB  SSIM (per channel) 0.7500 over 4 images\n\
             stage one: 600  validation shake: PSNR 25.000 dB  gain -0.250 dB  SSIM (per channel) 0.7500 over 2 images\n"
        );
    }

    #[test]
    fn a_closed_output_does_not_stop_the_training() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        Lines::new(Closed)
            .write(&Record::Train(train(1, 1)))
            .unwrap();
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        assert_eq!(duration(59.9), "59 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(7_260.0), "2 h 01 min");
        assert_eq!(duration(f64::NAN), "unknown time");
    }

    #[test]
    fn memory_is_read_at_a_glance() {
        assert_eq!(memory(300 << 20), "300 MiB");
        assert_eq!(memory(1 << 30), "1.0 GiB");
    }
}
