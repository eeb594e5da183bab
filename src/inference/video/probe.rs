//! What is in a video: its streams, and when each of its frames is shown.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;

use super::ffmpeg::{Ffmpeg, Running, add_input, command, file, output};
use crate::error::{Error, Result};
use crate::picture::Limits;

/// A video's streams.
#[derive(Debug)]
pub(super) struct Streams {
    /// The streams that are pictures in motion; the first is the one to deblur.
    pub video: Vec<Stream>,
    pub subtitles: Vec<Stream>,
    /// What `video[0]`'s values mean.
    pub colour: Colour,
}

/// One of a video's streams, as ffprobe describes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub index: usize,
    codec_type: String,
    pub codec_name: String,
    width: u64,
    height: u64,
    pix_fmt: String,
    sample_aspect_ratio: String,
    time_base: String,
    field_order: String,
    color_range: String,
    color_space: String,
    color_transfer: String,
    color_primaries: String,
    disposition: Disposition,
    pub tags: Tags,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Disposition {
    attached_pic: u8,
}

/// The tags of a video stream that are kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tags {
    pub language: Option<String>,
    pub title: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SideData {
    rotation: Option<f64>,
}

/// What the values of a video mean, by the code points of ITU-T H.273: 2 is unspecified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    pub primaries: u8,
    pub transfer: u8,
    pub matrix: u8,
    /// All of the values' range is used, not 16 to 235.
    pub full_range: bool,
    /// ffmpeg's name of the matrix.
    pub conversion: &'static str,
}

impl Streams {
    /// Reads the headers of a video.
    pub fn probe(path: &Path) -> Result<Self> {
        let mut probe = command("ffprobe");
        probe.args(["-show_streams", "-of", "json"]);
        add_input(&mut probe, path);
        Self::of_answer(path, &output(&mut probe, path)?)
    }

    /// What ffprobe answers about the video at `path`.
    pub fn of_answer(path: &Path, json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Found {
            streams: Vec<Stream>,
        }
        let found: Found = serde_json::from_slice(json)
            .map_err(|error| Error::video(path, format!("ffprobe's answer: {error}")))?;

        let of = |kind: &str| -> Vec<Stream> {
            let streams = found.streams.iter();
            streams
                .filter(|it| it.codec_type == kind)
                .cloned()
                .collect()
        };
        let mut video = of("video");
        video.retain(|stream| stream.disposition.attached_pic == 0);
        let Some(first) = video.first() else {
            return Err(Error::video(path, "no video stream in this file"));
        };
        first.check_size(path)?;
        let colour = first.colour(path)?;
        Ok(Self {
            video,
            subtitles: of("subtitle"),
            colour,
        })
    }

    /// What a user should know before hours of computation.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let first = &self.video[0];
        if ["tt", "bb", "tb", "bt"].contains(&first.field_order.as_str()) {
            notes.push(
                "interlaced: each frame holds two moments, which the model cannot know; deinterlace it first"
                    .to_string(),
            );
        }
        if has_alpha(&first.pix_fmt) {
            notes.push("transparency is left out".to_string());
        }
        if self.video.len() > 1 {
            notes.push(format!(
                "only the first of {} video streams is kept",
                self.video.len()
            ));
        }
        notes
    }
}

impl Stream {
    /// More than 8 bits a sample.
    pub fn is_deep(&self) -> bool {
        is_deep(&self.pix_fmt)
    }

    /// Width by height of a pixel when upright, if not square.
    pub fn pixel_aspect(&self) -> Option<(u32, u32)> {
        let (width, height) = self.sample_aspect_ratio.split_once(':')?;
        let (width, height): (u32, u32) = (width.parse().ok()?, height.parse().ok()?);
        if width == 0 || height == 0 || width == height {
            return None;
        }
        let rotation = self.side_data_list.iter().find_map(|data| data.rotation);
        match rotation.map(|degrees| (degrees / 90.0).round() as i64 % 2) {
            Some(1 | -1) => Some((height, width)),
            _ => Some((width, height)),
        }
    }

    fn check_size(&self, path: &Path) -> Result<()> {
        check_size(self.width, self.height).map_err(|reason| Error::video(path, reason))
    }

    fn colour(&self, path: &Path) -> Result<Colour> {
        let code = |names: &[(&str, u8)], name: &str| {
            let known = names.iter().find(|(known, _)| *known == name);
            known.map_or(2, |(_, code)| *code)
        };
        let (matrix, conversion) = match self.color_space.as_str() {
            // RGB has no matrix; the result, which is YCbCr, gets the usual one.
            "bt709" | "gbr" => (1, "bt709"),
            "fcc" => (4, "fcc"),
            "bt470bg" => (5, "bt601"),
            "smpte170m" => (6, "bt601"),
            "smpte240m" => (7, "smpte240m"),
            "bt2020nc" => (9, "bt2020"),
            "" | "unknown" | "unspecified" | "reserved" => (2, "bt601"), // ffmpeg's own choice
            other => {
                let reason = format!("colours in {other}, which cannot be turned into RGB here");
                return Err(Error::video(path, reason));
            }
        };
        Ok(Colour {
            primaries: code(&PRIMARIES, &self.color_primaries),
            transfer: code(&TRANSFERS, &self.color_transfer),
            matrix,
            full_range: self.color_range == "pc" && self.color_space != "gbr",
            conversion,
        })
    }
}

const PRIMARIES: [(&str, u8); 10] = [
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("film", 8),
    ("bt2020", 9),
    ("smpte428", 10),
    ("smpte431", 11),
    ("smpte432", 12),
];

const TRANSFERS: [(&str, u8); 15] = [
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("linear", 8),
    ("log100", 9),
    ("log316", 10),
    ("iec61966-2-4", 11),
    ("bt1361e", 12),
    ("iec61966-2-1", 13),
    ("bt2020-10", 14),
    ("bt2020-12", 15),
    ("smpte2084", 16),
    ("arib-std-b67", 18),
];

/// Refuses frames that are larger than any photograph may be.
pub(super) fn check_size(width: u64, height: u64) -> Result<(), String> {
    let limits = Limits::default();
    let side = u64::from(limits.max_side);
    if width == 0 || height == 0 {
        return Err(format!("frames of {width}×{height} pixels"));
    }
    if width > side || height > side || width * height > limits.max_pixels {
        return Err(format!(
            "frames of {width}×{height} pixels, the limit is {side} a side and {} in all",
            limits.max_pixels
        ));
    }
    Ok(())
}

/// ffmpeg's names of pixel formats end in the byte order where a sample has more than one byte, or a pixel of fewer.
fn is_deep(format: &str) -> bool {
    let small = ["rgb4", "bgr4", "rgb5", "bgr5", "mono"];
    let wide = format.starts_with("rgb48") || format.starts_with("bgr48");
    let ordered = format.ends_with("le") || format.ends_with("be");
    ordered && (wide || !small.iter().any(|name| format.starts_with(name)))
}

fn has_alpha(format: &str) -> bool {
    let alpha = [
        "yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16",
    ];
    alpha.iter().any(|name| format.starts_with(name)) || format == "pal8"
}

/// When each frame is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Seconds a tick, as a fraction.
    pub time_base: (u32, u32),
    /// Strictly increasing, in ticks from the start of the file.
    pub ticks: Vec<i64>,
    /// How long the last frame is shown, in ticks.
    pub last: i64,
    /// What ffmpeg complained of while it went on.
    pub complaint: Option<String>,
}

impl Timeline {
    /// Decodes the first video stream once: what its container says of the number of frames and their times may be
    /// missing or wrong.
    pub fn read(ffmpeg: Ffmpeg, path: &Path, source: &Streams) -> Result<Self> {
        let mut decode = command("ffmpeg");
        add_input(&mut decode, path);
        decode.args(["-map", &format!("0:{}", source.video[0].index)]);
        decode.args(ffmpeg.passthrough());
        let time_base = source.video[0].time_base.replace('/', ":");
        decode.args(["-enc_time_base", &time_base, "-c:v", "wrapped_avframe"]);
        decode.args(["-f", "framecrc", "pipe:1"]);
        let mut running = Running::start(decode.stdout(Stdio::piped()), path)?;
        let mut timeline = Self {
            time_base: (0, 0),
            ticks: Vec::new(),
            last: 0,
            complaint: None,
        };
        for line in running
            .stdout()
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines)
        {
            timeline.take(&line.map_err(Error::io(path))?);
        }
        let complaint = running.finish()?;
        timeline.complaint = (!complaint.is_empty()).then_some(complaint);
        timeline
            .complete()
            .map_err(|reason| Error::video(path, reason))
    }

    /// One line of ffmpeg's "framecrc": `#tb 0: 1/90000`, or stream, decoding time, time, duration, size and checksum.
    fn take(&mut self, line: &str) {
        if let Some(base) = line.strip_prefix("#tb 0:") {
            let base = base.trim().split_once('/');
            let numbers = base.and_then(|(num, den)| Some((num.parse().ok()?, den.parse().ok()?)));
            self.time_base = numbers.unwrap_or_default();
        } else if !line.starts_with('#') {
            let mut fields = line
                .split(',')
                .skip(2)
                .map(|field| field.trim().parse().ok());
            if let Some(tick) = fields.next().flatten() {
                // Some files repeat a time, which no encoder takes.
                let next = self.ticks.last().map_or(i64::MIN, |last| last + 1);
                self.ticks.push(next.max(tick));
                self.last = fields.next().flatten().unwrap_or(0);
            }
        }
    }

    fn complete(mut self) -> Result<Self, String> {
        if self.ticks.is_empty() {
            return Err("no frame of this video can be decoded".to_string());
        }
        let (numerator, denominator) = self.time_base;
        if numerator == 0 || denominator == 0 {
            return Err("ffmpeg names no time base".to_string());
        }
        if self.last <= 0 {
            let steps = self.ticks.windows(2).next_back();
            let usual = (denominator / numerator / 25).max(1);
            self.last = steps.map_or(i64::from(usual), |pair| pair[1] - pair[0]);
        }
        Ok(self)
    }

    /// Whether all frames are shown equally long, up to the rounding to ticks.
    pub fn is_constant(&self) -> bool {
        let steps = self.ticks.windows(2).map(|pair| pair[1] - pair[0]);
        let (shortest, longest) = steps.fold((i64::MAX, 0), |(shortest, longest), step| {
            (shortest.min(step), longest.max(step))
        });
        longest <= shortest || (longest - shortest == 1 && shortest >= 10)
    }

    /// Seconds from the start of the file to the first frame.
    pub fn start(&self) -> f64 {
        let (numerator, denominator) = self.time_base;
        let first = self.ticks.first().copied().unwrap_or(0);
        first as f64 * f64::from(numerator) / f64::from(denominator)
    }
}

/// The number of frames in a result, which has one packet for each.
pub(super) fn count_frames(path: &Path) -> Result<usize> {
    let mut probe = command("ffprobe");
    probe.args(["-select_streams", "v:0", "-count_packets", "-show_entries"]);
    probe.args([
        "stream=nb_read_packets",
        "-of",
        "default=nokey=1:noprint_wrappers=1",
    ]);
    let text = output(probe.arg("-i").arg(file(path)), path)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim().parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(ticks: &[i64]) -> Timeline {
        let mut timeline = Timeline {
            time_base: (0, 0),
            ticks: Vec::new(),
            last: 0,
            complaint: None,
        };
        timeline.take("#software: Lavf59.27.100");
        timeline.take("#tb 0: 1/1000");
        for tick in ticks {
            timeline.take(&format!("0,  {tick},  {tick},  0,   472, 0x8f8f1642"));
        }
        timeline.complete().unwrap()
    }

    #[test]
    fn times_increase_and_the_last_frame_has_a_duration() {
        let timeline = timeline(&[80, 120, 120, 110, 200]);
        assert_eq!(timeline.ticks, [80, 120, 121, 122, 200]);
        assert_eq!(timeline.last, 78);
        assert_eq!(timeline.time_base, (1, 1000));
        assert!((timeline.start() - 0.08).abs() < 1e-12);
    }

    #[test]
    fn rounding_to_ticks_is_not_a_variable_rate() {
        assert!(timeline(&[0]).is_constant());
        assert!(timeline(&[0, 1, 2]).is_constant());
        assert!(timeline(&[0, 33, 67, 100]).is_constant());
        assert!(!timeline(&[0, 1, 3, 4]).is_constant());
        assert!(!timeline(&[0, 33, 133]).is_constant());
        assert_eq!(timeline(&[7]).last, 40);
    }

    #[test]
    fn a_video_without_frames_is_refused() {
        let empty = Timeline {
            ticks: vec![],
            ..timeline(&[0])
        };
        assert!(empty.complete().unwrap_err().contains("no frame"));
    }

    #[test]
    fn pixel_formats_tell_depth_and_alpha() {
        for (format, deep, alpha) in [
            ("yuv420p", false, false),
            ("yuvj422p", false, false),
            ("yuv420p10le", true, false),
            ("p010le", true, false),
            ("gray12be", true, false),
            ("rgb48le", true, false),
            ("rgb565le", false, false),
            ("yuva444p12le", true, true),
            ("rgba", false, true),
        ] {
            assert_eq!(
                (is_deep(format), has_alpha(format)),
                (deep, alpha),
                "{format}"
            );
        }
    }

    #[test]
    fn the_aspect_of_pixels_turns_with_the_picture() {
        let stream = |ratio: &str, rotation| Stream {
            sample_aspect_ratio: ratio.to_string(),
            side_data_list: vec![SideData { rotation }],
            ..Stream::default()
        };
        assert_eq!(stream("4:3", None).pixel_aspect(), Some((4, 3)));
        assert_eq!(stream("4:3", Some(-90.0)).pixel_aspect(), Some((3, 4)));
        assert_eq!(stream("4:3", Some(180.0)).pixel_aspect(), Some((4, 3)));
        assert_eq!(stream("1:1", None).pixel_aspect(), None);
        assert_eq!(stream("0:1", None).pixel_aspect(), None);
        assert_eq!(stream("", None).pixel_aspect(), None);
    }

    #[test]
    fn colours_that_cannot_be_converted_are_refused() {
        let stream = |space: &str| Stream {
            color_space: space.to_string(),
            color_range: "pc".to_string(),
            color_transfer: "iec61966-2-1".to_string(),
            ..Stream::default()
        };
        let colour = stream("bt709").colour(Path::new("a.mp4")).unwrap();
        assert_eq!(
            (colour.matrix, colour.transfer, colour.primaries),
            (1, 13, 2)
        );
        assert!(colour.full_range);
        let refused = stream("ycgco").colour(Path::new("a.mp4")).unwrap_err();
        assert!(refused.to_string().contains("a.mp4: colours in ycgco"));
    }
}
