//! Videos, where `ffmpeg` and `ffprobe` are on the `PATH`.
//!
//! One ffmpeg decodes the frames, each is restored by itself and kept as a PNG file beside the result, and when all are
//! there a second ffmpeg encodes them. A run that ends early, however it does, can be resumed from those files; resumed or
//! not, the result is the same.
//!
//! Each frame is shown when it was, also where the rate varies. Audio, text subtitles, chapters and tags are kept, audio
//! without another encoding. A rotation in the metadata is applied to the frames. Colours keep their primaries, transfer,
//! matrix and range, pixels their shape; samples of more than 8 bits become 10 bits, and chroma is stored at half the
//! resolution (4:2:0). Transparency, further video streams and data such as a camera's positions are not kept.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::picture::{EncodeOptions, Photograph};
use crate::whole::{self, EXISTS};

mod decode;
mod encode;
mod ffmpeg;
mod format;
mod plan;
mod probe;
mod work;

pub use format::{Container, is_video};
pub use plan::{plan, split};

use decode::Frames;
use encode::Encoding;
use ffmpeg::Ffmpeg;
use probe::{Streams, Timeline};
use work::{State, Work};

#[cfg(fuzzing)]
pub(crate) fn resumed_frames(input: &Path, output: &Path) -> Result<usize> {
    let state = State::new(input, 3, &BTreeMap::new())?;
    Ok(Work::open(output, &state, true)?.done())
}

#[cfg(fuzzing)]
pub(crate) fn read_answer(json: &[u8]) -> Result<()> {
    let streams = Streams::of_answer(Path::new("video"), json)?;
    streams.notes();
    Ok(())
}

/// How a video is restored and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Quality of the result, 1 to 100, which sets the encoder's constant rate factor. Default: 95, a factor of 16 for
    /// H.264 and of 22 for VP9.
    pub quality: u8,
    /// Replace a result that exists, and begin anew where frames of an earlier run are left.
    pub force: bool,
    /// Go on from the frames of an earlier run, if there are any. They are then kept with `force`, too.
    pub resume: bool,
    /// What decides about the restored pixels, such as weights and seed. Frames made by another recipe are not gone on with.
    pub recipe: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            quality: EncodeOptions::default().quality,
            force: false,
            resume: false,
            recipe: BTreeMap::new(),
        }
    }
}

/// What [`deblur`] tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Something about the video that a user should know.
    Note(&'a str),
    /// `done` of `total` frames are restored.
    Restored {
        /// Frames restored, in this and earlier runs.
        done: usize,
        /// Frames of the video.
        total: usize,
    },
    /// `done` of `total` frames are sent to the encoder.
    Encoded {
        /// Frames sent.
        done: usize,
        /// Frames of the video.
        total: usize,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The video read.
    pub input: PathBuf,
    /// The video written.
    pub output: PathBuf,
    /// Pixels a row of a frame.
    pub width: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Frames of the video.
    pub frames: usize,
    /// Those that this run restored.
    pub restored: usize,
    /// Seconds that this run took, encoding included.
    pub seconds: f64,
    /// Restored frames a second, encoding not included; none where nothing was left to restore.
    pub frames_per_second: Option<f64>,
}

/// Whether frames of an earlier run are left, for the result at `output`.
pub fn is_begun(output: &Path) -> bool {
    work::folder_of(output).exists()
}

/// Restores each frame of the video at `input` by `restore` and writes the video at `output`.
///
/// `output`'s extension names its [`Container`]. `restore` gets the frames in order and returns pictures that are all of one
/// size; for frames that do not flicker it starts from the same noise each time. `report` is called before each step
/// and may break it off: what is done stays for `resume`.
///
/// The frames lie in `OUTPUT.frames` until the result is complete: about 2 bytes a pixel.
///
/// # Errors
/// [`Error::Video`] without ffmpeg, for what ffmpeg cannot read or write, for a frame that `restore` refuses, and where
/// `report` breaks off; [`Error::Refused`] for an output that exists, or an earlier run's frames that cannot be used;
/// [`Error::Io`]. There is no output then, or that of before.
pub fn deblur(
    input: &Path,
    output: &Path,
    options: &Options,
    mut restore: impl FnMut(&Photograph) -> Result<Photograph>,
    report: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Summary> {
    let begin = Instant::now();
    let Some(container) = Container::of_path(output) else {
        let reason = format!(
            "the extension means no video that is written, expected {}",
            format::LIST
        );
        return Err(Error::video(output, reason));
    };
    if !options.force && fs::symlink_metadata(output).is_ok() {
        return Err(Error::refused(output, EXISTS));
    }
    Work::check(output, options.resume, options.force)?;
    let ffmpeg = Ffmpeg::find(input)?;
    let source = Streams::probe(input)?;
    let timeline = Timeline::read(ffmpeg, input, &source)?;
    let state = State::new(input, timeline.ticks.len(), &options.recipe)?;
    let work = Work::open(output, &state, options.resume)?;
    let mut job = VideoJob {
        options,
        output,
        work: &work,
        encoding: Encoding {
            ffmpeg,
            input,
            source: &source,
            timeline: &timeline,
            container,
            quality: options.quality,
        },
        report,
    };
    match job.run(&mut restore) {
        Ok(summary) => {
            work.remove()?;
            Ok(Summary {
                seconds: begin.elapsed().as_secs_f64(),
                ..summary
            })
        }
        Err(error) => {
            if work.done() == 0 {
                work.remove()?;
            }
            Err(error)
        }
    }
}

/// One video under way.
struct VideoJob<'a> {
    options: &'a Options,
    output: &'a Path,
    work: &'a Work,
    encoding: Encoding<'a>,
    report: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
}

impl VideoJob<'_> {
    fn run(
        &mut self,
        restore: &mut dyn FnMut(&Photograph) -> Result<Photograph>,
    ) -> Result<Summary> {
        self.tell_notes()?;
        let before = self.work.done();
        self.tell(Event::Restored {
            done: before,
            total: self.total(),
        })?;
        let begin = Instant::now();
        if before < self.total() {
            self.restore(before, restore)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        self.encode()?;
        let (width, height) = encode::frame_size(&self.work.frame(0))?;
        let restored = self.total() - before;
        Ok(Summary {
            input: self.encoding.input.to_path_buf(),
            output: self.output.to_path_buf(),
            width: width as usize,
            height: height as usize,
            frames: self.total(),
            restored,
            seconds,
            frames_per_second: (restored > 0).then(|| restored as f64 / seconds),
        })
    }

    fn total(&self) -> usize {
        self.encoding.timeline.ticks.len()
    }

    /// Restores the frames from `before` on.
    fn restore(
        &mut self,
        before: usize,
        restore: &mut dyn FnMut(&Photograph) -> Result<Photograph>,
    ) -> Result<()> {
        let Encoding {
            ffmpeg,
            input,
            source,
            ..
        } = self.encoding;
        let total = self.total();
        if before > 0 {
            self.rehearse()?;
        }
        let mut frames = Frames::start(ffmpeg, input, source, before)?;
        for index in before..total {
            let Some(blurred) = frames.next()? else {
                let reason = format!("ffmpeg decodes {index} frames, and {total} when asked first");
                return Err(Error::video(input, reason));
            };
            let restored = restore(&blurred).map_err(|error| {
                Error::video(input, format!("frame {} of {total}: {error}", index + 1))
            })?;
            let options = EncodeOptions {
                force: true, // an incomplete frame may be in the place
                ..EncodeOptions::default()
            };
            let path = self.work.frame(index);
            restored.save(&path, &options)?;
            if index == 0
                && let Err(error) = self.rehearse()
            {
                // Not worth going on from.
                fs::remove_file(&path).map_err(Error::io(&path))?;
                return Err(error);
            }
            let done = index + 1;
            self.tell(Event::Restored { done, total })?;
        }
        match frames.next()? {
            None => Ok(()),
            Some(_) => {
                let reason = format!("ffmpeg decodes more than the {total} frames it found first");
                Err(Error::video(input, reason))
            }
        }
    }

    /// Finds out whether the result can be encoded, before hours are spent on it.
    fn rehearse(&self) -> Result<()> {
        let temporary = self.temporary()?;
        let rehearsed = self
            .encoding
            .rehearse(&self.work.frame(0), temporary.path());
        rehearsed.map_err(|error| match error {
            Error::Video { reason, .. } if self.encoding.container != Container::Matroska => {
                let hint = "a result that ends in .mkv holds any audio and subtitles";
                Error::video(self.output, format!("{reason}\n  {hint}"))
            }
            Error::Video { reason, .. } => Error::video(self.output, reason),
            other => other,
        })
    }

    fn encode(&mut self) -> Result<()> {
        let total = self.total();
        let temporary = self.temporary()?;
        let report = &mut self.report;
        let proceed = |done| report(Event::Encoded { done, total }).is_continue();
        let frames = self.work.all_frames();
        if !self.encoding.run(&frames, temporary.path(), proceed)? {
            return Err(self.stopped());
        }
        let found = probe::count_frames(temporary.path())?;
        if found != total {
            let reason = format!("ffmpeg wrote {found} of {total} frames");
            return Err(Error::video(self.output, reason));
        }
        whole::persist(temporary, self.output, self.options.force)
    }

    /// A file in the folder of the frames, so that nothing is left elsewhere.
    fn temporary(&self) -> Result<tempfile::NamedTempFile> {
        let folder = self.work.folder();
        whole::temporary_in(folder).map_err(Error::io(folder))
    }

    fn tell_notes(&mut self) -> Result<()> {
        let mut notes = self.encoding.source.notes();
        match self.encoding.lost_subtitles() {
            0 => {}
            1 => notes.push("a subtitle that the result cannot hold is left out".to_string()),
            n => notes.push(format!(
                "{n} subtitles that the result cannot hold are left out"
            )),
        }
        if let Some(complaint) = &self.encoding.timeline.complaint {
            notes.push(format!("ffmpeg: {complaint}"));
        }
        for note in &notes {
            self.tell(Event::Note(note))?;
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<()> {
        match (self.report)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> Error {
        let (done, total) = (self.work.done(), self.total());
        let flags = if self.options.force {
            "--resume --force"
        } else {
            "--resume"
        };
        let reason = match done {
            0 => "stopped before a frame was restored".to_string(),
            _ if done == total => format!("stopped while encoding; {flags} encodes again"),
            _ => format!("stopped after frame {done} of {total}; {flags} goes on from there"),
        };
        Error::video(self.output, reason)
    }
}
