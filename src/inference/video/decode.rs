//! A video's frames as photographs, one after the other.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};

use image::{ImageBuffer, RgbImage};

use super::ffmpeg::{Ffmpeg, Running, add_input, command};
use super::probe::{Streams, check_size};
use crate::error::{Error, Result};
use crate::picture::Photograph;

/// The frames of a video from some frame on, upright, of 8 bits or, where the video has more, of 16.
pub(super) struct Frames {
    video: PathBuf,
    running: Option<Running>,
    pipe: BufReader<ChildStdout>,
}

impl Frames {
    /// Starts to decode. The first `skipped` frames are decoded and left out.
    pub fn start(ffmpeg: Ffmpeg, path: &Path, source: &Streams, skipped: usize) -> Result<Self> {
        let first = &source.video[0];
        let pixels = if first.is_deep() { "rgb48be" } else { "rgb24" };
        let mut decode = command("ffmpeg");
        add_input(&mut decode, path);
        decode.args(["-map", &format!("0:{}", first.index)]);
        let range = if source.colour.full_range { "pc" } else { "tv" };
        let matrix = source.colour.conversion;
        decode.arg("-vf").arg(format!(
            "select=gte(n\\,{skipped}),scale=in_color_matrix={matrix}:in_range={range}:\
             flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format={pixels}"
        ));
        decode.args(ffmpeg.passthrough());
        decode.args(["-c:v", "ppm", "-f", "image2pipe", "pipe:1"]);
        let mut running = Running::start(decode.stdout(Stdio::piped()), path)?;
        let Some(pipe) = running.stdout() else {
            return Err(Error::video(path, "ffmpeg has no output"));
        };
        Ok(Self {
            video: path.to_path_buf(),
            running: Some(running),
            pipe: BufReader::new(pipe),
        })
    }

    /// The next frame; none behind the last.
    ///
    /// # Errors
    /// [`Error::Video`] if ffmpeg fails, or if a frame is larger than a photograph may be.
    pub fn next(&mut self) -> Result<Option<Photograph>> {
        let frame = read_ppm(&mut self.pipe);
        match frame.map_err(|reason| self.error(reason))? {
            Some(frame) => Ok(Some(frame)),
            None => {
                self.running.take().map(Running::finish).transpose()?;
                Ok(None)
            }
        }
    }

    /// Why ffmpeg ended amid a frame, or else what is wrong with it.
    fn error(&mut self, reason: String) -> Error {
        match self.running.take().map(Running::finish) {
            Some(Err(error)) => error,
            _ => Error::video(&self.video, reason),
        }
    }
}

/// A picture in the binary "portable pixmap" format, which says its size: `P6`, width and height, the largest sample.
fn read_ppm(pipe: &mut impl BufRead) -> Result<Option<Photograph>, String> {
    let Some(magic) = line(pipe)? else {
        return Ok(None);
    };
    let (size, largest) = (
        line(pipe)?.unwrap_or_default(),
        line(pipe)?.unwrap_or_default(),
    );
    let sides = size.split_once(' ');
    let sides = sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (Some((width, height)), "P6", "255" | "65535") = (sides, magic.as_str(), largest.as_str())
    else {
        return Err(format!(
            "ffmpeg sends no picture but `{magic} {size} {largest}`"
        ));
    };
    check_size(u64::from(width), u64::from(height))?;

    let deep = largest == "65535";
    let samples = 3 * width as usize * height as usize;
    let mut bytes = vec![0; if deep { 2 * samples } else { samples }];
    pipe.read_exact(&mut bytes)
        .map_err(|error| format!("a frame ends early: {error}"))?;
    let frame = if deep {
        let words = bytes.chunks_exact(2);
        let words = words
            .map(|word| u16::from_be_bytes([word[0], word[1]]))
            .collect();
        ImageBuffer::from_raw(width, height, words).map(|image| Photograph::from_rgb16(&image))
    } else {
        RgbImage::from_raw(width, height, bytes).map(|image| Photograph::from_rgb8(&image))
    };
    Ok(frame)
}

/// A short line without its end; none at the end of the stream.
fn line(pipe: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    pipe.take(32)
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("ffmpeg's frames: {error}"))?;
    let text = String::from_utf8_lossy(&line);
    Ok((!text.is_empty()).then(|| text.trim_end().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Depth;

    #[test]
    fn pictures_follow_each_other_until_the_end() {
        let mut stream =
            &b"P6\n2 1\n255\n\x00\x33\x66\x99\xcc\xffP6\n1 1\n65535\n\x12\x34\x56\x78\x9a\xbc"[..];
        let first = read_ppm(&mut stream).unwrap().unwrap();
        assert_eq!((first.width(), first.height()), (2, 1));
        assert_eq!(first.to_rgb8().into_raw(), [0, 51, 102, 153, 204, 255]);
        let second = read_ppm(&mut stream).unwrap().unwrap();
        assert_eq!(second.depth(), Depth::Sixteen);
        assert_eq!(second.rgb()[0], f32::from(0x1234_u16) / 65535.0);
        assert!(read_ppm(&mut stream).unwrap().is_none());
    }

    #[test]
    fn broken_pictures_are_errors() {
        for (stream, expected) in [
            (&b"P6\n2 2\n255\nabc"[..], "ends early"),
            (b"P6\n70000 70000\n255\n", "the limit is"),
            (b"P6\n0 1\n255\n", "0×1"),
            (b"P5\n1 1\n255\na", "no picture"),
            (b"P6\n1 x\n255\naaa", "no picture"),
            (b"P6", "no picture"),
            (&[b'x'; 1000], "no picture"),
        ] {
            let reason = read_ppm(&mut &stream[..]).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
