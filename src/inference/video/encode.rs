//! Restored frames, with the sound and the rest of the video they came from, to one file.

use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ffmpeg::{Ffmpeg, Running, add_input, command, file};
use super::format::{Container, Subtitle};
use super::probe::{Streams, Timeline};
use crate::error::{Error, Result};

/// The four letters by which ffmpeg knows frames that are PNG files.
const PNG_FRAMES: &[u8; 4] = b"MPNG";

/// What is encoded, and how.
pub(super) struct Encoding<'a> {
    pub ffmpeg: Ffmpeg,
    /// The video that sound, subtitles, chapters and tags are taken from.
    pub input: &'a Path,
    pub source: &'a Streams,
    pub timeline: &'a Timeline,
    pub container: Container,
    /// 1 to 100, see [`Container::encoder`].
    pub quality: u8,
}

/// Width and height of a frame that is kept.
///
/// # Errors
/// [`Error::Video`] if it is no PNG file, or [`Error::Io`].
pub(super) fn frame_size(frame: &Path) -> Result<(u32, u32)> {
    size(&read(frame)?).ok_or_else(|| Error::video(frame, "not a frame"))
}

/// The size that a PNG file's header states.
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
    Some((side(16)?, side(20)?))
}

impl Encoding<'_> {
    /// Encodes the PNG files `frames` into `output`. `proceed` is asked before each frame.
    ///
    /// # Errors
    /// ffmpeg's, or a frame's that cannot be read. False, if `proceed` was: then `output` is no video.
    pub fn run(
        &self,
        frames: &[PathBuf],
        output: &Path,
        mut proceed: impl FnMut(usize) -> bool,
    ) -> Result<bool> {
        self.pipe(frames, output, None, &mut proceed)
    }

    /// Encodes one frame with the first tenth of a second of everything else, to find out what encoder and container do
    /// not take.
    pub fn rehearse(&self, frame: &Path, output: &Path) -> Result<()> {
        let seconds = Some(0.1);
        self.pipe(&[frame.to_path_buf()], output, seconds, &mut |_| true)?;
        Ok(())
    }

    fn pipe(
        &self,
        frames: &[PathBuf],
        output: &Path,
        seconds: Option<f64>,
        proceed: &mut dyn FnMut(usize) -> bool,
    ) -> Result<bool> {
        let Some(first) = frames.first() else {
            return Err(Error::video(self.input, "no frames to encode"));
        };
        let size = frame_size(first)?;
        let mut encode = self.command(size, seconds, output);
        let mut running = Running::start(encode.stdin(Stdio::piped()), self.input)?;
        let Some(pipe) = running.stdin() else {
            return Err(Error::video(self.input, "ffmpeg has no input"));
        };
        let mut pipe = BufWriter::new(pipe);
        let failed = |error: io::Error| (error.kind() != ErrorKind::BrokenPipe).then_some(error);
        let mut sent = write_header(&mut pipe, size, self.timeline.time_base, frames.len());
        for (index, (frame, tick)) in frames.iter().zip(&self.timeline.ticks).enumerate() {
            if sent.is_err() {
                break;
            }
            if !proceed(index) {
                return Ok(false);
            }
            sent = write_frame(&mut pipe, *tick - self.timeline.ticks[0], &read(frame)?);
        }
        // A pipe that breaks is ffmpeg's end, and its last words say why.
        if let Some(error) = sent.and_then(|()| pipe.flush()).err().and_then(failed) {
            return Err(Error::io(self.input)(error));
        }
        drop(pipe);
        running.finish()?;
        Ok(true)
    }

    fn command(&self, size: (u32, u32), seconds: Option<f64>, output: &Path) -> Command {
        let mut encode = command("ffmpeg");
        if seconds.is_none() {
            // Else ffmpeg would have both inputs begin together.
            let start = format!("{:.6}", self.timeline.start());
            encode.args(["-itsoffset", &start]);
        }
        encode.args(["-protocol_whitelist", "pipe", "-f", "ivf", "-i", "pipe:0"]);
        add_input(&mut encode, self.input);

        encode.args(["-map", "0:v:0", "-map", "1:a?", "-c:a", "copy"]);
        self.add_subtitles(&mut encode);
        if self.container == Container::Matroska {
            encode.args(["-map", "1:t?", "-c:t", "copy"]);
        }
        encode.args(["-map_metadata", "1", "-map_chapters", "1"]);
        let tags = &self.source.video[0].tags;
        for (name, value) in [("language", &tags.language), ("title", &tags.title)] {
            if let Some(value) = value {
                encode.arg("-metadata:s:v:0").arg(format!("{name}={value}"));
            }
        }

        encode.arg("-vf").arg(self.filters(size));
        encode.args(self.container.encoder(self.quality));
        let colour = self.source.colour;
        for (flag, code) in [
            ("-color_primaries", colour.primaries),
            ("-color_trc", colour.transfer),
            ("-colorspace", colour.matrix),
        ] {
            encode.arg(flag).arg(code.to_string());
        }
        encode.args(["-color_range", self.range()]);
        self.add_times(&mut encode);
        if let Some(seconds) = seconds {
            encode.arg("-t").arg(seconds.to_string());
        }
        encode
            .args(["-f", self.container.muxer()])
            .arg(file(output));
        encode
    }

    fn add_subtitles(&self, encode: &mut Command) {
        let mut count = 0;
        for stream in &self.source.subtitles {
            let codec = match self.container.subtitle(&stream.codec_name) {
                Subtitle::Leave => continue,
                Subtitle::Copy => "copy",
                Subtitle::Convert(codec) => codec,
            };
            encode.arg("-map").arg(format!("1:{}", stream.index));
            encode.arg(format!("-c:s:{count}")).arg(codec);
            count += 1;
        }
    }

    /// The subtitles that the container cannot hold.
    pub fn lost_subtitles(&self) -> usize {
        let codecs = self.source.subtitles.iter().map(|it| &it.codec_name);
        codecs
            .filter(|codec| self.container.subtitle(codec) == Subtitle::Leave)
            .count()
    }

    /// From RGB to what the encoder takes, in the colours of the input.
    fn filters(&self, (width, height): (u32, u32)) -> String {
        let deep = self.source.video[0].is_deep();
        let mut filters = Vec::new();
        let (right, bottom) = (width % 2, height % 2);
        if !self.container.takes_odd_sides() && right + bottom > 0 {
            let (width, height) = (width + right, height + bottom);
            filters.push(format!("format={}", if deep { "gbrp16" } else { "gbrp" }));
            filters.push(format!("pad={width}:{height}:0:0"));
            filters.push(format!(
                "fillborders=right={right}:bottom={bottom}:mode=smear"
            ));
        }
        let colour = self.source.colour;
        let range = self.range();
        filters.push(format!(
            "scale=out_color_matrix={}:out_range={range}:flags=bicubic+accurate_rnd+full_chroma_int",
            colour.conversion
        ));
        filters.push(format!(
            "format={}",
            if deep { "yuv420p10le" } else { "yuv420p" }
        ));
        let (width, height) = self.source.video[0].pixel_aspect().unwrap_or((1, 1));
        filters.push(format!("setsar={width}/{height}"));
        filters.push(format!(
            "setparams=color_primaries={}:color_trc={}:colorspace={}:range={range}",
            colour.primaries, colour.transfer, colour.matrix
        ));
        filters.join(",")
    }

    fn range(&self) -> &'static str {
        if self.source.colour.full_range {
            "pc"
        } else {
            "tv"
        }
    }

    /// Every frame at its own time.
    fn add_times(&self, encode: &mut Command) {
        let (numerator, denominator) = self.timeline.time_base;
        encode.args(self.ffmpeg.passthrough());
        encode
            .arg("-enc_time_base")
            .arg(format!("{numerator}:{denominator}"));
        if !self.timeline.is_constant() {
            // With frames out of order, ffmpeg writes a wrong length where the rate varies.
            match self.container {
                Container::WebM => {}
                _ => _ = encode.args(["-bf", "0"]),
            }
        }
        if self.container.keeps_time_base() {
            if numerator == 1 {
                encode
                    .arg("-video_track_timescale")
                    .arg(denominator.to_string());
            }
            if !self.timeline.is_constant() {
                // It is the last one's that counts: the others' follow from the times.
                let last = self.timeline.last;
                encode.arg("-bsf:v").arg(format!("setts=duration={last}"));
            }
            encode.args(["-movflags", "+faststart"]);
        }
    }
}

fn read(frame: &Path) -> Result<Vec<u8>> {
    fs::read(frame).map_err(Error::io(frame))
}

/// The header of an IVF file, the simplest container whose frames have times: signature, version, length of the header,
/// codec, width, height, ticks a second as a fraction, number of frames.
fn write_header(
    pipe: &mut impl Write,
    (width, height): (u32, u32),
    (numerator, denominator): (u32, u32),
    frames: usize,
) -> io::Result<()> {
    pipe.write_all(b"DKIF\0\0\x20\0")?;
    pipe.write_all(PNG_FRAMES)?;
    for side in [width, height] {
        pipe.write_all(&(side as u16).to_le_bytes())?; // only informative: the PNG files know theirs
    }
    for number in [denominator, numerator, frames as u32, 0] {
        pipe.write_all(&number.to_le_bytes())?;
    }
    Ok(())
}

fn write_frame(pipe: &mut impl Write, tick: i64, png: &[u8]) -> io::Result<()> {
    pipe.write_all(&(png.len() as u32).to_le_bytes())?;
    pipe.write_all(&tick.to_le_bytes())?;
    pipe.write_all(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_into_the_pipe_with_their_times() {
        let mut pipe = Vec::new();
        write_header(&mut pipe, (64, 48), (1, 90_000), 2).unwrap();
        assert_eq!(pipe.len(), 32);
        assert_eq!(&pipe[..12], b"DKIF\0\0\x20\0MPNG");
        assert_eq!(&pipe[12..24], [64, 0, 48, 0, 0x90, 0x5f, 1, 0, 1, 0, 0, 0]);
        write_frame(&mut pipe, 3003, b"png").unwrap();
        assert_eq!(&pipe[32..], b"\x03\0\0\0\xbb\x0b\0\0\0\0\0\0png");
    }

    #[test]
    fn a_png_states_its_size() {
        let mut header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        assert_eq!(size(&header), None);
        header.extend([0, 0, 1, 0, 0, 0, 0, 9]);
        assert_eq!(size(&header), Some((256, 9)));
    }
}
