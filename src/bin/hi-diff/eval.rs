//! `hi-diff eval`: a model measured on datasets.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use clap::builder::PossibleValuesParser;
use hi_diff::data::layout::Layout;
use hi_diff::data::stop::Stop;
use hi_diff::evaluation::Protocol;
use hi_diff::evaluation::datasets::Dataset;
use hi_diff::evaluation::journal::EvaluationPlan;
use hi_diff::evaluation::results::{DatasetResult, Evaluation, Failure, ImageResult};
use hi_diff::evaluation::run::{EvaluationOptions, PictureFolder, evaluate};
use hi_diff::evaluation::table::decibels;
use hi_diff::kernels::Precision;
use hi_diff::picture::{Limits, Photograph};
use hi_diff::report::{self, Pictures};
use hi_diff::weights::StateDict;
use hi_diff::whole::write_whole;

use crate::backend::with_backend;
use crate::command_line::command_line;
use crate::model::ModelArgs;
use crate::output;
use crate::stop::stop_on_signal;

/// Measure a model on datasets: PSNR and SSIM by protocol, a table beside the paper's, JSON and a report to look at
///
/// Of a dataset with parts, the test part is taken. RealBlur's folder is two datasets, one for each camera. GoPro, HIDE and
/// other pairs are measured by GoPro's protocol, RealBlur by its own.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folders of pairs: GoPro, HIDE or RealBlur as downloaded, or `input/` and `target/`, or `blur/` and `sharp/`
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Folder for table, JSON, report and images
    #[arg(long, value_name = "DIR", default_value = "evaluation")]
    out: PathBuf,
    /// How PSNR and SSIM are measured [default: the dataset's]
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// How the folders are laid out
    #[arg(long, value_name = "LAYOUT", default_value = Layout::AUTO, value_parser = PossibleValuesParser::new(Layout::PAIR_NAMES))]
    layout: String,
    /// Keep all restored images, in OUT/images
    #[arg(long)]
    save_images: bool,
    /// Images of each dataset that the report shows: the largest losses and gains
    #[arg(long, value_name = "N", default_value_t = 24)]
    pictures: usize,
    /// Go on with the evaluation in OUT: images that are done stay
    #[arg(long)]
    resume: bool,
    /// Begin anew in place of an evaluation in OUT
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    #[command(flatten)]
    model: ModelArgs,
    /// Start of the diffusion: equal seeds give equal results
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Print errors only, and with --json the results
    #[arg(short, long)]
    quiet: bool,
}

/// False if an image failed.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let layout = Layout::named(&args.layout);
    let datasets = Dataset::find(&args.data, layout, args.protocol)?;
    if !args.quiet && !args.json {
        for dataset in &datasets {
            output::line(&dataset.report);
        }
    }
    let stop = stop_on_signal("image", args.quiet)?;
    let evaluation = with_backend!(args.model.backend, B => run_on::<B>(&args, &datasets, stop)?);
    let report = args.out.join("evaluation.html");
    write_report(&report, &args, &datasets, &evaluation)?;

    if args.json {
        output::line(serde_json::json!(evaluation));
    } else if !args.quiet {
        for dataset in &evaluation.datasets {
            output::line(summary(dataset));
        }
        output::line(format!("report: {}", report.display()));
    }
    Ok(evaluation
        .datasets
        .iter()
        .all(|dataset| dataset.failures.is_empty()))
}

fn run_on<B: Backend>(
    args: &Args,
    datasets: &[Dataset],
    stop: Stop,
) -> hi_diff::Result<Evaluation> {
    let device = Default::default();
    let (model, config) = args.model.load::<B>(&device)?;
    let attention = args.model.attention(&config);
    let plan = EvaluationPlan {
        command: command_line(),
        weights: args.model.name(),
        fingerprint: StateDict::fingerprint(&StateDict::of_model(&model)),
        backend: match args.model.precision {
            Precision::F32 => B::name(&device),
            precision => format!("{} in {precision}", B::name(&device)),
        },
        seed: args.seed,
        attention: attention.to_string(),
        save_images: args.save_images,
        config: config.without_training(),
        datasets: Vec::new(),
    };
    let options = EvaluationOptions {
        out: args.out.clone(),
        resume: args.resume,
        force: args.force,
        pictures: args.pictures,
        stop,
    };
    let total: usize = datasets.iter().map(Dataset::images).sum();
    let bar = output::progress_bar(total, "images", args.quiet);
    let lines = !args.quiet && !args.json;
    let mut progress = |dataset: &str, image: Result<&ImageResult, &Failure>| {
        match image {
            Ok(image) if lines => bar.suspend(|| output::line(line(dataset, image))),
            Ok(_) => {}
            Err(failure) => {
                let (name, reason) = (&failure.name, &failure.reason);
                bar.suspend(|| output::error(format_args!("{dataset}, {name}: {reason}")));
            }
        }
        bar.inc(1);
    };
    let deblurrer = args
        .model
        .deblurrer(model, device)?
        .with_attention(attention);
    let evaluation = evaluate(&deblurrer, datasets, plan, &options, &mut progress);
    bar.finish_and_clear();
    evaluation
}

fn line(dataset: &str, image: &ImageResult) -> String {
    let mut text = format!(
        "{dataset}, {}: {} dB, was {}; SSIM {:.4}, was {:.4}; {:.2} s",
        image.restored.name,
        decibels(image.restored.scores.psnr),
        decibels(image.blurred.psnr),
        image.restored.scores.ssim,
        image.blurred.ssim,
        image.seconds
    );
    for warning in &image.restored.warnings {
        text.push_str(&format!("; warning: {warning}"));
    }
    text
}

/// The page to look at, with the restored images that are kept.
fn write_report(
    path: &Path,
    args: &Args,
    datasets: &[Dataset],
    evaluation: &Evaluation,
) -> hi_diff::Result<()> {
    let kept = PictureFolder::new(&args.out, args.save_images);
    let mut pictures = |result: &DatasetResult, image: &ImageResult| {
        let dataset = datasets.iter().find(|dataset| dataset.name == result.name);
        let found = dataset.and_then(|dataset| {
            let mut pairs = dataset.pairs.iter();
            let pair = pairs.find(|pair| pair.name == image.restored.name)?;
            Some((dataset, pair))
        });
        let Some((dataset, pair)) = found else {
            return Ok(None);
        };
        let Some(restored) = kept.read(dataset, &image.restored.name)? else {
            return Ok(None);
        };
        let Some(blur) = &pair.blur else {
            return Ok(None);
        };
        let open = |path| Photograph::open(path, &Limits::default()).map(|photo| photo.to_rgb8());
        Ok(Some(Pictures {
            blurred: open(blur)?,
            restored,
            sharp: open(&pair.sharp)?,
        }))
    };
    write_whole(path, true, |file| {
        report::evaluation::write(file, evaluation, args.pictures, &mut pictures)
    })
}

fn summary(dataset: &DatasetResult) -> String {
    let (name, protocol) = (&dataset.name, dataset.protocol);
    let images = dataset.images.len();
    let (Some(blurred), Some(restored)) = (dataset.blurred, dataset.restored) else {
        return format!("{name} (protocol {protocol}): no image measured");
    };
    format!(
        "{name} (protocol {protocol}: {}), {images} images: {} dB, was {}; SSIM {:.4}, was {:.4}",
        protocol.figures(),
        decibels(restored.psnr),
        decibels(blurred.psnr),
        restored.ssim,
        blurred.ssim
    )
}
