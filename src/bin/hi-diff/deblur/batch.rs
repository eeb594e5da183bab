//! Photograph after photograph: read, computed and written at the same time.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::tensor::backend::Backend;
use hi_diff::inference::files::Job;
use hi_diff::inference::{Deblurrer, Disagreement, pipeline};
use hi_diff::picture::{Format, Frames, Limits};
use hi_diff::{Error, Result};

use super::report::{Map, Report};
use super::settings::{COMPARE, DISAGREEMENT, Settings, is_stream};
use crate::output;
use crate::stop::on_signal;

const TILING: &str = "with `--tile` each tile is restored by itself, without seeing the rest, so that the result is not \
                      that of the whole photograph; see docs/tiling.md";

/// A photograph's result on its way to disk.
struct Computed {
    /// The photograph, where it is written beside its result.
    blurred: Option<Frames>,
    restored: Frames,
    /// Of the first picture.
    disagreement: Option<Disagreement>,
    seconds: f64,
}

/// Whether every photograph was deblurred. Results and errors are reported in the order of the jobs.
pub fn deblur_all<B: Backend>(
    deblurrer: &Deblurrer<B>,
    jobs: &[Job],
    settings: &Settings,
) -> Result<bool> {
    let reports = settings.reports;
    stop_between_files(reports.is_quiet())?;
    let bar = output::progress_bar(jobs.len(), "photographs", reports.is_quiet());
    let mut warned = false;
    let mut failures = 0;
    pipeline(
        jobs,
        |job| (job, read(job, settings)),
        |(job, blurred)| {
            bar.set_message(job.input.display().to_string());
            let computed = blurred.and_then(|blurred| {
                let mut pictures = blurred.photographs().iter();
                let tiling = settings.deblur.tiling;
                let divided = tiling.is_some_and(|tiling| {
                    pictures.any(|one| tiling.divides(one.height(), one.width()))
                });
                if !warned && divided {
                    warned = true;
                    bar.suspend(|| reports.warning(TILING));
                }
                compute(deblurrer, blurred, settings)
            });
            (job, computed)
        },
        |(job, computed)| {
            let written = computed.and_then(|computed| write(job, &computed, settings));
            bar.suspend(|| match written {
                Ok(report) => {
                    for warning in &report.warnings {
                        reports.warning_of(&job.input, warning);
                    }
                    reports.done(&report);
                }
                Err(error) => {
                    failures += 1;
                    reports.failure(&job.input, &error);
                }
            });
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    Ok(failures == 0)
}

/// Reads the pictures, and refuses what could not be written.
fn read(job: &Job, settings: &Settings) -> Result<Frames> {
    let limits = Limits::default();
    let frames = match is_stream(&job.input) {
        true => Frames::from_reader(std::io::stdin().lock(), "standard input", &limits),
        false => Frames::open(&job.input, &limits),
    }?;
    let format = format(job, &frames, settings);
    frames.check_format(format).map_err(|reason| Error::Image {
        path: job.input.clone(),
        reason,
    })?;
    Ok(frames)
}

/// Of the result.
fn format(job: &Job, frames: &Frames, settings: &Settings) -> Format {
    let named = Format::of_path(&job.output).filter(|_| !is_stream(&job.output));
    named
        .or(settings.format)
        .unwrap_or(frames.photographs()[0].format())
}

fn compute<B: Backend>(
    deblurrer: &Deblurrer<B>,
    blurred: Frames,
    settings: &Settings,
) -> Result<Computed> {
    let start = Instant::now();
    let mut photographs = Vec::new();
    let mut disagreement = None;
    for picture in blurred.photographs() {
        let restored = deblurrer.deblur_with(picture, &settings.deblur)?;
        photographs.push(restored.photograph);
        disagreement = disagreement.or(restored.disagreement);
    }
    Ok(Computed {
        seconds: start.elapsed().as_secs_f64(),
        restored: blurred.with_photographs(photographs)?,
        blurred: settings.compare.then_some(blurred),
        disagreement,
    })
}

/// Writes the result and what belongs beside it.
fn write(job: &Job, computed: &Computed, settings: &Settings) -> Result<Report> {
    let results = &computed.restored;
    let mut report = Report::new(job, results.photographs(), computed.seconds);
    if is_stream(&job.output) {
        let format = format(job, results, settings);
        let (bytes, saved) = results.to_bytes(format, &settings.encode, "standard output")?;
        output::bytes(&bytes);
        report.warnings.extend(saved.warnings);
        return Ok(report);
    }
    let _whole = writing();
    report
        .warnings
        .extend(save(results, &job.output, settings)?);
    if settings.preserve_time {
        report.warnings.extend(preserve_time(job));
    }
    if let Some(blurred) = &computed.blurred {
        let file = job.beside(COMPARE);
        save(&blurred.beside(results)?, &file, settings)?;
        report.compare = Some(file);
    }
    if let Some(disagreement) = &computed.disagreement {
        let file = job.beside(DISAGREEMENT);
        save(&disagreement.picture()?.into(), &file, settings)?;
        let white = disagreement.white();
        report.disagreement = Some(Map { file, white });
    }
    Ok(report)
}

/// Gives warnings.
fn save(pictures: &Frames, path: &Path, settings: &Settings) -> Result<Vec<String>> {
    Ok(pictures.save(path, &settings.encode)?.warnings)
}

/// Gives the result the time at which the input was last changed. A warning where there is none to give.
fn preserve_time(job: &Job) -> Option<String> {
    let times = || -> std::io::Result<()> {
        let changed = fs::metadata(&job.input)?.modified()?;
        File::options()
            .write(true)
            .open(&job.output)?
            .set_modified(changed)
    };
    let error = times().err()?;
    Some(format!("the result has the present time: {error}"))
}

/// Held while the files of a photograph are written.
static WRITING: Mutex<()> = Mutex::new(());

fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets Ctrl-C and the system's wish to end wait until the files of a photograph are written.
fn stop_between_files(quiet: bool) -> Result<()> {
    on_signal(move || {
        let _whole = writing();
        if !quiet {
            eprintln!("stopped; what is written is whole, and `--resume` does the rest");
        }
        std::process::exit(130);
    })
}
