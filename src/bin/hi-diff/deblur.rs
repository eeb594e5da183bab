//! `hi-diff deblur`: photographs, by file or folder, and videos.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use hi_diff::backend::Backend;
use hi_diff::inference::Deblurrer;
use hi_diff::inference::files::{Job, Plan};
use hi_diff::inference::image::{EncodeOptions, Limits, Photograph};
use hi_diff::inference::video::{self, Options};

use crate::backend::with_backend;
use crate::model::ModelArgs;
use crate::output;
use crate::video::{Verbosity, deblur_all as deblur_videos};

/// Deblur photographs and videos
///
/// Reads PNG, JPEG, WebP, TIFF and BMP. Size, bits, grayness, alpha and colour profile stay as they are; a rotation in
/// the EXIF data is applied. A photograph that fails is reported, and the others are done.
///
/// Where ffmpeg is on the PATH, files of the usual video formats are deblurred frame by frame, with their audio, text
/// subtitles and timing kept. Restored frames wait in OUT.frames until all are done; --resume goes on from them.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Photographs, folders that are searched for them, and videos
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// A folder for the results; or the file, if the one input is a file
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Start of the diffusion: equal seeds give equal results
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Quality of JPEG and video results
    #[arg(long, value_name = "1-100", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Replace results that exist
    #[arg(long)]
    force: bool,
    /// Go on with videos from the frames of an earlier run
    #[arg(long)]
    resume: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print size, time, speed and the program's peak memory with each photograph
    #[arg(short, long)]
    verbose: bool,
}

/// Whether every photograph and video was deblurred.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let (videos, others) = video::split(&args.inputs);
    let replace = args.force || args.resume;
    let clips = match videos.is_empty() {
        true => Plan::default(),
        false => video::plan(&videos, &args.output, others.is_empty(), replace)?,
    };
    let plan = match others.is_empty() {
        true => Plan::default(),
        false => Plan::new(&others, &args.output, args.force)?,
    };
    for failure in plan.failures.iter().chain(&clips.failures) {
        output::error(failure);
    }
    if plan.jobs.is_empty() && clips.jobs.is_empty() {
        return Ok(false);
    }
    let done =
        with_backend!(args.model.backend, B => deblur_all::<B>(&args, &plan.jobs, &clips.jobs)?);
    Ok(done && plan.failures.is_empty() && clips.failures.is_empty())
}

/// How the videos among the inputs are restored.
fn video_options(args: &Args) -> hi_diff::Result<Options> {
    Ok(Options {
        quality: args.quality,
        force: args.force,
        resume: args.resume,
        recipe: BTreeMap::from([
            ("weights".to_string(), args.model.identity()?),
            ("seed".to_string(), args.seed.to_string()),
        ]),
    })
}

fn deblur_all<B: Backend>(args: &Args, jobs: &[Job], clips: &[Job]) -> hi_diff::Result<bool> {
    let device = Default::default();
    let deblurrer = Deblurrer::<B>::new(args.model.load(&device)?, device);
    let bar = output::progress_bar(jobs.len(), "photographs", args.quiet);
    let mut failures = 0;
    for job in jobs {
        bar.set_message(job.input.display().to_string());
        match deblur(args, &deblurrer, job) {
            Ok(report) if !args.quiet => bar.suspend(|| output::line(report)),
            Ok(_) => {}
            Err(error) => {
                failures += 1;
                bar.suspend(|| output::error(&error));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if clips.is_empty() {
        return Ok(failures == 0);
    }
    let print = Verbosity {
        quiet: args.quiet,
        verbose: args.verbose,
    };
    let options = video_options(args)?;
    let restore = |frame: &Photograph| deblurrer.deblur(frame, args.seed);
    Ok(deblur_videos(clips, &options, print, restore)? && failures == 0)
}

/// Deblurs one photograph and returns the line to print.
fn deblur<B: Backend>(args: &Args, deblurrer: &Deblurrer<B>, job: &Job) -> hi_diff::Result<String> {
    let start = Instant::now();
    let blurred = Photograph::open(&job.input, &Limits::default())?;
    let restored = deblurrer.deblur(&blurred, args.seed)?;
    let options = EncodeOptions {
        quality: args.quality,
        force: args.force,
    };
    restored.save(&job.output, &options)?;
    let mut report = job.output.display().to_string();
    if args.verbose {
        let (width, height) = (blurred.width(), blurred.height());
        let seconds = start.elapsed().as_secs_f64();
        let megapixels = (width * height) as f64 / 1e6 / seconds;
        report.push_str(&format!(
            ": {width}×{height}, {seconds:.2} s, {megapixels:.3} megapixels/s"
        ));
        if let Some(peak) = peak_memory() {
            let gigabytes = peak as f64 / 1e9;
            report.push_str(&format!(", peak memory {gigabytes:.2} GB"));
        }
    }
    Ok(report)
}

/// The most memory the program has had so far in bytes, where the system says (Linux).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}
