//! The videos among the inputs of `hi-diff deblur`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::tensor::backend::Backend;
use hi_diff::Config;
use hi_diff::inference::Deblurrer;
use hi_diff::inference::files::Job;
use hi_diff::inference::video::{self, Event, Options, Summary};
use hi_diff::picture::Photograph;
use hi_diff::weights::StateDict;

use super::report::Reports;
use super::settings::Settings;
use crate::output;
use crate::stop::stop_on_signal;

/// Deblurs videos one after the other. Whether all of them were.
pub fn deblur_all<B: Backend>(
    deblurrer: &Deblurrer<B>,
    config: &Config,
    jobs: &[Job],
    settings: &Settings,
) -> hi_diff::Result<bool> {
    if jobs.is_empty() {
        return Ok(true);
    }
    let reports = settings.reports;
    let stop = stop_on_signal("frame", reports.is_quiet())?;
    let options = Options {
        quality: settings.encode.quality,
        // A result that is there and unfinished was begun by force.
        force: settings.encode.force || settings.resume,
        resume: settings.resume,
        recipe: recipe(deblurrer, config, settings),
    };
    let mut restore = |frame: &Photograph| {
        let restored = deblurrer.deblur_with(frame, &settings.deblur)?;
        Ok(restored.photograph)
    };
    let mut failures = 0;
    for job in jobs {
        if options.resume && job.output.exists() && !video::is_begun(&job.output) {
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
        let done = video::deblur(&job.input, &job.output, &options, &mut restore, &mut report);
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

/// What decides about the restored pixels.
fn recipe<B: Backend>(
    deblurrer: &Deblurrer<B>,
    config: &Config,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let config = serde_json::json!({ "model": config.model, "diffusion": config.diffusion });
    let states = StateDict::of_model(deblurrer.model());
    let tiling = settings.deblur.tiling;
    let tiling =
        tiling.map(|tiling| format!("{} with overlap {}", tiling.size(), tiling.overlap()));
    BTreeMap::from([
        ("weights".into(), StateDict::fingerprint(&states)),
        ("config".into(), config.to_string()),
        ("seed".into(), settings.deblur.seed.to_string()),
        ("tta".into(), settings.deblur.augment.to_string()),
        ("tile".into(), tiling.unwrap_or_else(|| "none".into())),
    ])
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
