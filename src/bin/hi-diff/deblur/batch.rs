//! Photograph after photograph: read, computed and written at the same time.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::tensor::backend::Backend;
use hi_diff::Result;
use hi_diff::inference::files::Job;
use hi_diff::inference::{Deblurrer, Restored, pipeline};
use hi_diff::picture::{Limits, Photograph};

use super::report::{Map, Report};
use super::settings::{COMPARE, DISAGREEMENT, Settings, is_stream};
use crate::output;
use crate::stop::on_signal;

const TILING: &str = "with `--tile` each tile is restored by itself, without seeing the rest, so that the result is not \
                      that of the whole photograph; see docs/tiling.md";

/// A photograph's result on its way to disk.
struct Computed {
    /// The photograph, where it is written beside its result.
    blurred: Option<Photograph>,
    restored: Restored,
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
        |job| (job, read(&job.input)),
        |(job, blurred)| {
            bar.set_message(job.input.display().to_string());
            let computed = blurred.and_then(|blurred| {
                let size = (blurred.height(), blurred.width());
                let tiling = settings.deblur.tiling;
                if !warned && tiling.is_some_and(|tiling| tiling.divides(size.0, size.1)) {
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
                Ok(report) => reports.done(&report),
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

fn read(input: &Path) -> Result<Photograph> {
    let limits = Limits::default();
    match is_stream(input) {
        true => Photograph::from_reader(std::io::stdin().lock(), "standard input", &limits),
        false => Photograph::open(input, &limits),
    }
}

fn compute<B: Backend>(
    deblurrer: &Deblurrer<B>,
    blurred: Photograph,
    settings: &Settings,
) -> Result<Computed> {
    let start = Instant::now();
    let restored = deblurrer.deblur_with(&blurred, &settings.deblur)?;
    Ok(Computed {
        seconds: start.elapsed().as_secs_f64(),
        blurred: settings.compare.then_some(blurred),
        restored,
    })
}

/// Writes the result and what belongs beside it.
fn write(job: &Job, computed: &Computed, settings: &Settings) -> Result<Report> {
    let result = &computed.restored.photograph;
    let (width, height) = (result.width(), result.height());
    let mut report = Report::new(job, width, height, computed.seconds);
    if is_stream(&job.output) {
        let format = settings.format.unwrap_or(result.format());
        let bytes = result.to_bytes(format, settings.encode.quality, "standard output")?;
        output::bytes(&bytes);
        return Ok(report);
    }
    let _whole = writing();
    save(result, &job.output, settings)?;
    if let Some(blurred) = &computed.blurred {
        let file = job.beside(COMPARE);
        save(&blurred.beside(result)?, &file, settings)?;
        report.compare = Some(file);
    }
    if let Some(disagreement) = &computed.restored.disagreement {
        let file = job.beside(DISAGREEMENT);
        save(&disagreement.picture()?, &file, settings)?;
        let white = disagreement.white();
        report.disagreement = Some(Map { file, white });
    }
    Ok(report)
}

fn save(photograph: &Photograph, path: &Path, settings: &Settings) -> Result<()> {
    if settings.resume && path.is_file() {
        return Ok(());
    }
    photograph.save(path, &settings.encode)
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
