//! The videos among the inputs of `hi-diff deblur`.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use hi_diff::inference::files::Job;
use hi_diff::inference::image::Photograph;
use hi_diff::inference::video::{self, Event, Options, Summary};

use crate::{interrupt, output};

/// What is printed beside errors.
#[derive(Debug, Clone, Copy)]
pub struct Verbosity {
    pub quiet: bool,
    pub verbose: bool,
}

/// Deblurs videos one after the other, each frame by `restore`. Whether all of them were.
pub fn deblur_all(
    jobs: &[Job],
    options: &Options,
    print: Verbosity,
    mut restore: impl FnMut(&Photograph) -> hi_diff::Result<Photograph>,
) -> hi_diff::Result<bool> {
    let stop = interrupt::flag("this frame")?;
    let mut failures = 0;
    for job in jobs {
        if is_done(job, options) {
            if !print.quiet {
                output::line(format_args!("{}: complete", job.output.display()));
            }
            continue;
        }
        let bar = output::progress_bar(0, "frames", print.quiet);
        bar.set_message(job.input.display().to_string());
        let mut report = |event: Event| {
            match event {
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
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let done = video::deblur(&job.input, &job.output, options, &mut restore, &mut report);
        bar.finish_and_clear();
        match done {
            Ok(summary) if !print.quiet => output::line(line(&summary, print.verbose)),
            Ok(_) => {}
            Err(error) => {
                failures += 1;
                output::error(&error);
            }
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    Ok(failures == 0)
}

/// Whether an earlier run, which this one resumes, came to the end of this video.
fn is_done(job: &Job, options: &Options) -> bool {
    let resumed = options.resume && !options.force;
    resumed && job.output.exists() && !video::is_begun(&job.output)
}

fn line(summary: &Summary, verbose: bool) -> String {
    let mut line = summary.output.display().to_string();
    if verbose {
        let Summary { width, height, .. } = summary;
        let (frames, restored) = (summary.frames, summary.restored);
        line.push_str(&format!(": {width}×{height}, {frames} frames"));
        if restored < frames {
            line.push_str(&format!(" ({restored} of them now)"));
        }
        line.push_str(&format!(", {:.2} s", summary.seconds));
        if let Some(rate) = summary.frames_per_second {
            line.push_str(&format!(", {rate:.3} frames/s"));
        }
    }
    line
}
