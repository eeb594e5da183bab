//! `hi-diff crop`: overlapping training crops of a dataset.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use hi_diff::data::crops::{CropOptions, CropReport, crop_dataset};
use hi_diff::data::layout::{Layout, Part};

use crate::output;

/// Cut a dataset's photographs into overlapping crops to train on
///
/// OUT/input holds the crops of the blurry photographs and OUT/target those of the sharp ones, under the same names: the
/// photograph's, with the crop's row and column in pixels. The last crop of a row or column is flush with the border; a
/// photograph smaller than a crop is kept whole.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of the dataset: GoPro, HIDE or RealBlur as downloaded, or pairs in `input` and `target`
    dir: PathBuf,
    /// Folder for the crops
    out: PathBuf,
    /// Height and width of the crops in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    size: u32,
    /// Pixels that neighbouring crops share
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    overlap: u32,
    /// How DIR keeps its images
    #[arg(long, default_value = Layout::AUTO, value_parser = PossibleValuesParser::new(Layout::PAIR_NAMES))]
    layout: String,
    /// Which part of a dataset that has parts
    #[arg(long, value_enum, default_value_t = Part::Train)]
    part: Part,
    /// Replace crops that exist
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

/// Whether every pair became crops.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let options = CropOptions {
        size: args.size as usize,
        overlap: args.overlap as usize,
        force: args.force,
    };
    let bar = output::progress_bar(0, "pairs", args.quiet);
    let report = crop_dataset(
        &args.dir,
        Layout::named(&args.layout),
        args.part,
        &args.out,
        &options,
        &|done, total| {
            bar.set_length(total as u64);
            // Threads report in no particular order; the bar only moves forward.
            bar.set_position(bar.position().max(done as u64));
        },
    )?;
    bar.finish_and_clear();
    for failure in &report.failures {
        output::error(failure);
    }
    output::warnings(&report.warnings, args.quiet);
    if args.json {
        output::line(json(&args, &report));
    } else if !args.quiet {
        output::line(&report.found);
        let (crops, plural) = (report.crops, if report.crops == 1 { "" } else { "s" });
        output::line(format_args!(
            "{crops} crop{plural} in {}",
            args.out.display()
        ));
    }
    Ok(report.failures.is_empty())
}

fn json(args: &Args, report: &CropReport) -> serde_json::Value {
    let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "layout": report.found.layout.name(),
        "part": report.found.part.map(Part::name),
        "pairs": report.found.pairs.len(),
        "passed_over": report.found.passed_over.len(),
        "crops": report.crops,
        "size": args.size,
        "overlap": args.overlap,
        "out": args.out.display().to_string(),
        "failures": failures,
        "warnings": report.warnings,
    })
}
