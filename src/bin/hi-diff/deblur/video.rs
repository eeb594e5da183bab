//! The videos among the inputs of `hi-diff deblur`.

use std::ops::ControlFlow;

use burn::tensor::backend::Backend;
use hi_diff::inference::Deblurrer;
use hi_diff::inference::files::{Job, Recipe};
use hi_diff::inference::video::{self, Event, Options, Summary};
use hi_diff::picture::Photograph;

use super::report::Reports;
use super::room::Room;
use super::settings::Settings;
use crate::output;
use crate::stop::stop_on_signal;

/// Deblurs videos one after the other. Whether all of them were.
pub fn deblur_all<B: Backend>(
    deblurrer: &Deblurrer<B>,
    recipe: Recipe,
    jobs: &[Job],
    settings: &Settings,
    room: &Room,
) -> hi_diff::Result<bool> {
    if jobs.is_empty() {
        return Ok(true);
    }
    let reports = settings.reports;
    let stop = stop_on_signal("frame", reports.is_quiet())?;
    let options = Options {
        quality: settings.encode.quality,
        // When resuming too: a result that is there and unfinished was begun by force.
        force: settings.encode.force,
        resume: settings.resume,
        recipe,
    };
    let restore = |frame: &Photograph| {
        let restored = deblurrer.deblur_where(frame, &settings.deblur, &settings.blend)?;
        Ok(restored.photograph)
    };
    let mut failures = 0;
    for job in jobs {
        if options.resume && is_done(job) {
            reports.kept(std::slice::from_ref(job));
            continue;
        }
        let bar = output::progress_bar(0, "frames", reports.is_quiet());
        bar.set_message(job.input.display().to_string());
        let mut report = |event: Event| {
            match event {
                Event::Note(_) if reports.is_quiet() => {}
                Event::Note(note) => bar.suspend(|| output::warning(&job.input, note)),
                Event::Restored { done, total } => {
                    bar.set_length(total as u64);
                    bar.set_position(done as u64);
                }
                Event::Encoded { done, .. } => {
                    bar.set_position(done as u64);
                    bar.set_message(format!("encoding {}", job.output.display()));
                }
            }
            match stop.is_asked() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let mut first = true;
        let restore = |frame: &Photograph| {
            if std::mem::take(&mut first) {
                room.for_frame(job, frame)?;
            }
            restore(frame)
        };
        let done = video::deblur(&job.input, &job.output, &options, restore, &mut report);
        bar.finish_and_clear();
        match done {
            Ok(summary) => reports.video(&summary),
            Err(error) => {
                failures += 1;
                reports.failure(&job.input, &error);
            }
        }
        if stop.is_asked() {
            return Ok(false);
        }
    }
    Ok(failures == 0)
}

/// Whether an earlier run finished the result, of a video that has not changed since.
fn is_done(job: &Job) -> bool {
    let found = |path| std::fs::metadata(path).ok();
    let Some((input, result)) = found(&job.input).zip(found(&job.output)) else {
        return false;
    };
    let not_older = match (input.modified(), result.modified()) {
        (Ok(input), Ok(result)) => result >= input,
        _ => true, // the system does not say
    };
    result.len() > 0 && not_older && !video::is_begun(&job.output)
}

impl Reports {
    fn video(self, summary: &Summary) {
        match self {
            Self::Errors | Self::Warnings => {}
            Self::Names => output::line(summary.output.display()),
            Self::Details | Self::DetailsAside => output::line(line(summary)),
            Self::Json => super::report::json_line(summary),
        }
    }
}

/// With size, time and speed.
fn line(summary: &Summary) -> String {
    let Summary {
        width,
        height,
        frames,
        restored,
        ..
    } = summary;
    let mut line = format!(
        "{}: {width}×{height}, {frames} frames",
        summary.output.display()
    );
    if restored < frames {
        line.push_str(&format!(" ({restored} of them now)"));
    }
    line.push_str(&format!(", {:.2} s", summary.seconds));
    if let Some(rate) = summary.frames_per_second {
        line.push_str(&format!(", {rate:.3} frames/s"));
    }
    line
}
