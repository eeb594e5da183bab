//! Photograph after photograph: read, computed and written at the same time.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use burn::tensor::backend::Backend;
use hi_diff::inference::files::{Job, Journal, Plan};
use hi_diff::inference::{Deblurrer, Disagreement, Region, pipeline};
use hi_diff::picture::{Format, Frames, Limits, Photograph};
use hi_diff::{Error, Result};

use super::report::{Map, Report};
use super::room::{Room, Way};
use super::settings::{COMPARE, DISAGREEMENT, PREVIEW, Settings, is_stream};
use crate::output;
use crate::stop::on_signal;

const TILING: &str = "with `--tile` each tile is restored by itself, without seeing the rest, so that the result is not \
                      that of the whole photograph; see docs/tiling.md";

/// The pixels of a preview.
const PREVIEWED: usize = 1_000_000;

/// A photograph's result on its way to disk.
struct Computed {
    /// The photograph, where it is written beside its result.
    blurred: Option<Frames>,
    restored: Frames,
    /// Of the first picture.
    disagreement: Option<Disagreement>,
    /// Why it was not computed as asked, and what is to be looked at.
    warnings: Vec<String>,
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
            let blurred = room.for_reading(job).and_then(|()| read(job, settings));
            (number, job, blurred)
        },
        |(number, job, blurred)| {
            bar.set_message(job.input.display().to_string());
            let computed = blurred.and_then(|blurred| {
                let parts = parts(&blurred, settings)?;
                let divided = settings.deblur.tiling.is_some_and(|tiling| {
                    let mut parts = parts.iter().flatten();
                    parts.any(|part| tiling.divides(part.height, part.width))
                });
                if !warned && divided {
                    warned = true;
                    bar.suspend(|| reports.warning(TILING));
                }
                let largest = largest(&blurred);
                let way = room.way(job, largest, jobs.get(number + 1), before)?;
                before = blurred.photographs().iter().map(pixels).sum();
                if settings.preview && preview(deblurrer, job, &blurred, &way, settings, journal)? {
                    bar.suspend(|| reports.preview(&job.beside(PREVIEW)));
                }
                compute(deblurrer, blurred, way, settings)
            });
            (job, computed)
        },
        |(job, computed)| {
            let written = computed.and_then(|computed| write(job, &computed, settings, journal));
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
    for one in frames.photographs() {
        let fits = settings.blend.check(one.width(), one.height());
        fits.map_err(|reason| Error::Image {
            path: job.input.clone(),
            reason,
        })?;
    }
    let format = format(job, &frames, settings);
    frames.check_format(format).map_err(|reason| Error::Image {
        path: job.input.clone(),
        // The format of an input that is never written is a guess of the program's, made before it was read.
        reason: match settings.format.is_none() && Format::of_path(&job.input).is_none() {
            true => format!("{reason} (`--format png`, or a name that ends in .png)"),
            false => reason,
        },
    })?;
    Ok(frames)
}

/// What is computed of each picture.
fn parts(frames: &Frames, settings: &Settings) -> Result<Vec<Option<Region>>> {
    let sizes = frames.photographs().iter();
    sizes
        .map(|one| settings.blend.part(one.width(), one.height()))
        .collect()
}

/// Of the pictures, that which needs the most memory.
fn largest(frames: &Frames) -> &Photograph {
    let all = frames.photographs();
    let first = &all[0]; // there is always one
    all.iter()
        .fold(first, |largest, one| match pixels(one) > pixels(largest) {
            true => one,
            false => largest,
        })
}

fn pixels(photograph: &Photograph) -> u64 {
    photograph.width() as u64 * photograph.height() as u64
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
    way: Way,
    settings: &Settings,
) -> Result<Computed> {
    let start = Instant::now();
    let mut photographs = Vec::new();
    let mut disagreement = None;
    let mut warnings: Vec<String> = way.warning.into_iter().collect();
    for picture in blurred.photographs() {
        let restored = deblurrer.deblur_where(picture, &way.options, &settings.blend)?;
        warnings.extend(restored.doubt(deblurrer.attention()));
        photographs.push(restored.photograph);
        disagreement = disagreement.or(restored.disagreement);
    }
    Ok(Computed {
        seconds: start.elapsed().as_secs_f64(),
        restored: blurred.with_photographs(photographs)?,
        blurred: settings.compare.then_some(blurred),
        disagreement,
        warnings,
    })
}

/// Writes what becomes of the first picture when it is reduced. Whether there is one: a small picture is its own.
fn preview<B: Backend>(
    deblurrer: &Deblurrer<B>,
    job: &Job,
    blurred: &Frames,
    way: &Way,
    settings: &Settings,
    journal: &Journal,
) -> Result<bool> {
    let first = &blurred.photographs()[0]; // there is always one
    let preview = deblurrer.preview(first, &way.options, &settings.blend, PREVIEWED)?;
    let Some(preview) = preview else {
        return Ok(false);
    };
    let _whole = writing();
    save_beside(job, PREVIEW, &preview.photograph.into(), settings, journal)?;
    Ok(true)
}

/// Writes the result and what belongs beside it.
fn write(job: &Job, computed: &Computed, settings: &Settings, journal: &Journal) -> Result<Report> {
    let results = &computed.restored;
    let area = |part: &Region| part.width as u64 * part.height as u64;
    let parts = parts(results, settings)?;
    let computed_pixels = parts.iter().flatten().map(area).sum();
    let mut report = Report::new(
        job,
        results.photographs(),
        computed_pixels,
        computed.seconds,
    );
    let whole = [report.width, report.height];
    let part = parts.first().copied().flatten();
    let part = part.filter(|part| [part.width, part.height] != whole);
    report.computed = part.map(Into::into);
    report.strength = settings.blend.strength;
    report.warnings.extend(computed.warnings.iter().cloned());
    report.warnings.dedup(); // of frames
    if is_stream(&job.output) {
        let format = format(job, results, settings);
        let (bytes, saved) = results.to_bytes(format, &settings.encode, "standard output")?;
        output::bytes(&bytes);
        report.warnings.extend(saved.warnings);
        return Ok(report);
    }
    let _whole = writing();
    // Where only something beside a result was missing, what is there stays.
    let keep = journal.keeps(job);
    if !keep {
        let saved = results.save(&job.output, &settings.encode)?;
        report.warnings.extend(saved.warnings);
    }
    if settings.preserve_time {
        report.warnings.extend(preserve_time(job));
    }
    if !keep && let Err(error) = journal.add(job) {
        // The result is there all the same.
        report.warnings.push(error.to_string());
    }
    if let Some(blurred) = &computed.blurred {
        let both = blurred.beside(results)?;
        report.compare = Some(save_beside(job, COMPARE, &both, settings, journal)?);
    }
    if let Some(disagreement) = &computed.disagreement {
        let map = disagreement.picture()?.into();
        let file = save_beside(job, DISAGREEMENT, &map, settings, journal)?;
        let white = disagreement.white();
        report.disagreement = Some(Map { file, white });
    }
    if settings.preview {
        let first = &results.photographs()[0]; // there is always one
        report.preview = Some(match pixels(first) > PREVIEWED as u64 {
            true => younger(job.beside(PREVIEW))?,
            false => save_beside(job, PREVIEW, &first.clone().into(), settings, journal)?,
        });
    }
    Ok(report)
}

/// Writes what belongs beside the result, but where that alone was kept from an earlier run. Its file.
fn save_beside(
    job: &Job,
    ending: &str,
    pictures: &Frames,
    settings: &Settings,
    journal: &Journal,
) -> Result<PathBuf> {
    let file = job.beside(ending);
    if !(journal.keeps(job) && journal.has_beside(job, &file)) {
        pictures.save(&file, &settings.encode)?;
    }
    Ok(file)
}

/// Gives a preview the present time: what is older than its result would count as an earlier one's.
fn younger(preview: PathBuf) -> Result<PathBuf> {
    let touched = File::options()
        .append(true)
        .open(&preview)
        .and_then(|file| file.set_modified(SystemTime::now()));
    match touched {
        Ok(()) => Ok(preview),
        Err(source) => Err(Error::Io {
            path: preview,
            source,
        }),
    }
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
