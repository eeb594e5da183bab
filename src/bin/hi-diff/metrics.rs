//! `hi-diff metrics`: PSNR and SSIM of images that exist already.

use std::path::PathBuf;

use hi_diff::Error;
use hi_diff::evaluation::Protocol;
use hi_diff::evaluation::files::{FilePair, MetricsReport, match_paths, score_files};
#[cfg(feature = "lpips")]
use hi_diff::evaluation::{Lpips, score_files_with_lpips};

#[cfg(feature = "lpips")]
use crate::backend::with_backend;
use crate::output;

/// Measure restored images against their sharp targets
///
/// Two images, or two folders whose images are matched by path and name, extensions aside. Images are measured as 8-bit
/// RGB: 16 bits are rounded to 8, gray is taken as three equal channels, alpha is left out, and a rotation in the EXIF
/// data is applied. An image that cannot be read or aligned is reported, and the others are measured. The PSNR of equal
/// images is infinite, and so is a mean that has one in it; JSON has both as null.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Restored image, or folder of them
    restored: PathBuf,
    /// Sharp image, or folder of them
    target: PathBuf,
    /// What PSNR and SSIM mean; papers quote all three
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Measure LPIPS too, of the images as they are, with the weights in a folder: alex.pth of the Python package lpips and
    /// torchvision's alexnet-owt-7be5be79.pth
    #[cfg(feature = "lpips")]
    #[arg(long, value_name = "DIR")]
    lpips: Option<PathBuf>,
    /// Threads, and image pairs in memory at once [default: one for each processor core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

/// Whether every pair was measured.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let report = match args.threads {
        None => measure(&args)?,
        Some(count) => threads(count)?.install(|| measure(&args))?,
    };
    for failure in &report.failures {
        output::error(format_args!("{}: {}", failure.name, failure.reason));
    }
    if args.json {
        let text = serde_json::to_string(&report);
        output::line(text.map_err(|error| Error::io("standard output")(error.into()))?);
    } else if !args.quiet && report.count > 0 {
        output::line(&report);
    }
    Ok(report.failures.is_empty())
}

fn threads(count: u16) -> hi_diff::Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count.into());
    pool.build().map_err(|error| Error::Backend {
        name: "cpu".into(),
        reason: format!("cannot start {count} threads: {error}"),
    })
}

fn measure(args: &Args) -> hi_diff::Result<MetricsReport> {
    let pairs: Vec<FilePair> = match_paths(&args.restored, &args.target)?;
    #[cfg(feature = "lpips")]
    if let Some(folder) = &args.lpips {
        return with_backend!(BackendChoice::processor(), B => {
            let lpips = Lpips::<B>::load(folder, &Default::default())?;
            // Each pair is dealt with twice.
            Ok(with_bar(args, 2 * pairs.len(), |progress| {
                score_files_with_lpips(&pairs, args.protocol, &lpips, progress)
            }))
        });
    }
    Ok(with_bar(args, pairs.len(), |progress| {
        score_files(&pairs, args.protocol, progress)
    }))
}

fn with_bar(
    args: &Args,
    length: usize,
    score: impl FnOnce(&(dyn Fn(usize) + Sync)) -> MetricsReport,
) -> MetricsReport {
    let bar = output::progress_bar(length, "images", args.quiet);
    let report = score(&|done| {
        // Threads report in no particular order; the bar only moves forward.
        bar.set_position(bar.position().max(done as u64));
    });
    bar.finish_and_clear();
    report
}
