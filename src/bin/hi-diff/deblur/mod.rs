//! `hi-diff deblur`: photographs, by file or folder, and videos.

mod batch;
mod recipe;
mod report;
mod room;
mod settings;
mod video;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use hi_diff::Error;
use hi_diff::config::Prior;
use hi_diff::inference::Region;
use hi_diff::inference::files::Plan;
use hi_diff::picture::{EncodeOptions, Format};

use self::room::Room;
use self::settings::{Plans, Settings, is_stream};
use crate::backend::with_backend;
use crate::model::ModelArgs;

/// Deblur photographs and videos
///
/// Reads PNG, JPEG, WebP, TIFF, GIF and BMP, and in builds with the features heic and avif HEIC and AVIF, whose results are
/// JPEG if nothing else is said. Size, bits, grayness, alpha, colours and metadata (date, place, camera, author)
/// stay as they are; a rotation in the EXIF data is applied. Animations and pages are restored one by one. A photograph that
/// fails is reported, and the others are done.
///
/// Where ffmpeg is on the PATH, files of the usual video formats are deblurred frame by frame, with their audio, text
/// subtitles and timing kept. Restored frames wait in OUT.frames until all are done; --resume goes on from them.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Photographs, folders that are searched for them, and videos; `-` is a photograph from standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// A folder for the results; or the file, if the one input is a file; or `-` for standard output. With a separator at its
    /// end it is a folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Start of the diffusion: equal seeds give equal results
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Take the mean over the eight flips and rotations of the photograph: eight times the work
    #[arg(long)]
    tta: bool,
    /// Take the mean over N starting noises, from --seed on, and write where they disagree to NAME.disagreement.png
    #[arg(long, value_name = "N", default_value = "1")]
    samples: NonZeroUsize,
    /// Compute tiles of N×N pixels one at a time, for a GPU with little memory; the results differ somewhat
    #[arg(long, value_name = "N")]
    tile: Option<usize>,
    /// Pixels that neighbouring tiles share [default: 32, or a quarter of a small tile]
    #[arg(long, value_name = "M", requires = "tile")]
    overlap: Option<usize>,
    /// How much of the result, mixed with the photograph in linear light: 0 is the photograph, 1 the result, up to 1.5 goes beyond
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = settings::strength)]
    strength: f32,
    /// Restore where this picture of the photograph's size is white, in part where it is gray, and leave the rest as it is
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// Restore this part alone, in pixels from the upper left, and compute no more than that needs
    #[arg(long, value_name = "X,Y,W,H")]
    region: Option<Region>,
    /// Let the result fade in over so many pixels, from the edges of mask and region inwards
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    feather: usize,
    /// First write what becomes of the photograph reduced to one megapixel, to NAME.preview.png
    #[arg(long)]
    preview: bool,
    /// Write the photograph and its result side by side, too, to NAME.compare.png
    #[arg(long)]
    compare: bool,
    /// Format of the results in a folder or on standard output [default: that of each input, JPEG for HEIC and AVIF]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Quality of JPEG and video results
    #[arg(long, value_name = "1-100", default_value_t = EncodeOptions::default().quality, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Leave out date, place, camera, author and all else that a photograph says beside its picture; colours keep their meaning
    #[arg(long)]
    strip_metadata: bool,
    /// Give each result the time at which its photograph was last changed
    #[arg(long)]
    preserve_time: bool,
    /// Replace results that exist
    #[arg(long)]
    force: bool,
    /// Keep what is a result of its input already and do the others, and go on with a video, after an interruption
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Print one line of JSON for each photograph and video
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print size, time, speed and the program's peak memory with each photograph
    #[arg(short, long)]
    verbose: bool,
}

/// Whether every photograph and video was deblurred.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let mut settings = Settings::of(&args).unwrap_or_else(|wrong| wrong.exit());
    settings.read_mask()?;
    let Plans {
        mut photographs,
        mut videos,
    } = settings.plans(&args.inputs, &args.output)?;
    for found in &photographs.passed_over {
        settings.reports.passed_over(found);
    }
    // Held to the end: what was made in vain goes away with it.
    let _places =
        (!is_stream(&args.output)).then(|| [&mut photographs, &mut videos].map(Plan::try_places));
    let failures = || photographs.failures.iter().chain(&videos.failures);
    for failure in failures() {
        settings.reports.failure(&failure.input, &failure.error);
    }
    let complete = failures().next().is_none();
    let nothing = |plan: &Plan| plan.jobs.is_empty() && plan.done.is_empty();
    if nothing(&photographs) && nothing(&videos) {
        return Ok(complete);
    }
    let done = with_backend!(args.model.backend, B => {
        let device = Default::default();
        let (model, config) = args.model.load::<B>(&device)?;
        if settings.deblur.samples.get() > 1 && config.model.prior == Prior::None {
            return Err(Error::Config {
                origin: format!("of the weights ({})", args.model.name()),
                key: "model.prior".into(),
                reason: "none: without a diffusion all samples are the same; leave out `--samples`".into(),
            });
        }
        let room = Room::new::<B>(&config, &settings, &device);
        let attention = args.model.attention(&config);
        let deblurrer = args.model.deblurrer(model, device)?.with_attention(attention);
        let recipe = recipe::of(&deblurrer, &config, &settings, args.model.precision);
        photographs.begin(recipe.clone())?;
        settings.reports.kept(&photographs.done);
        batch::deblur_all(&deblurrer, &photographs, &settings, &room)?
            & video::deblur_all(&deblurrer, recipe, &videos.jobs, &settings, &room)?
    });
    Ok(done && complete)
}
