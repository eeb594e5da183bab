//! Photograph after photograph: read, computed and written at the same time.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::tensor::backend::Backend;
use hi_diff::Result;
use hi_diff::inference::files::{Job, Journal, Plan};
use hi_diff::inference::{DeblurOptions, Deblurrer, Restored, pipeline};
use hi_diff::picture::{Limits, Photograph};

use super::report::{Map, Report};
use super::room::Room;
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
    plan: &Plan,
    settings: &Settings,
    room: &Room,
) -> Result<bool> {
    let (jobs, journal) = (&plan.jobs, &plan.journal);
    let reports = settings.reports;
    stop_between_files(reports.is_quiet())?;
    let bar = output::progress_bar(jobs.len(), "photographs", reports.is_quiet());
    let mut warned = false;
    let mut failures = 0;
    // Of the result that is written while the next is computed, in pixels.
    let mut before = 0;
    pipeline(
        jobs.iter().enumerate(),
        |(number, job)| {
            let blurred = room.for_reading(job).and_then(|()| read(&job.input));
            (number, job, blurred)
        },
        |(number, job, blurred)| {
            bar.set_message(job.input.display().to_string());
            let computed = blurred.and_then(|blurred| {
                let size = (blurred.height(), blurred.width());
                let tiling = settings.deblur.tiling;
                if !warned && tiling.is_some_and(|tiling| tiling.divides(size.0, size.1)) {
                    warned = true;
                    bar.suspend(|| reports.warning(TILING));
                }
                let way = room.way(job, &blurred, jobs.get(number + 1), before)?;
                before = (size.0 * size.1) as u64;
                if let Some(warning) = &way.warning {
                    let warning = format!("{}: {warning}", job.input.display());
                    bar.suspend(|| reports.warning(&warning));
                }
                compute(deblurrer, blurred, &way.options, settings)
            });
            (job, computed)
        },
        |(job, computed)| {
            let written = computed.and_then(|computed| write(job, &computed, settings, journal));
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
    options: &DeblurOptions,
    settings: &Settings,
) -> Result<Computed> {
    let start = Instant::now();
    let restored = deblurrer.deblur_with(&blurred, options)?;
    Ok(Computed {
        seconds: start.elapsed().as_secs_f64(),
        blurred: settings.compare.then_some(blurred),
        restored,
    })
}

/// Writes the result and what belongs beside it.
fn write(job: &Job, computed: &Computed, settings: &Settings, journal: &Journal) -> Result<Report> {
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
    // Where only something beside a result was missing, what is there stays.
    let keep = journal.keeps(job);
    let save = |photograph: &Photograph, file: &Path, is_there: bool| match keep && is_there {
        true => Ok(()),
        false => photograph.save(file, &settings.encode),
    };
    save(result, &job.output, true)?;
    if !keep && let Err(error) = journal.add(job) {
        // The result is there all the same.
        settings.reports.warning(&error.to_string());
    }
    if let Some(blurred) = &computed.blurred {
        let file = job.beside(COMPARE);
        save(
            &blurred.beside(result)?,
            &file,
            journal.has_beside(job, &file),
        )?;
        report.compare = Some(file);
    }
    if let Some(disagreement) = &computed.restored.disagreement {
        let file = job.beside(DISAGREEMENT);
        save(
            &disagreement.picture()?,
            &file,
            journal.has_beside(job, &file),
        )?;
        let white = disagreement.white();
        report.disagreement = Some(Map { file, white });
    }
    Ok(report)
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
