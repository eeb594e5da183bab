//! `hi-diff convert`: published folders to a single file, and back; weights to an ONNX file.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hi_diff::config::Prior;
use hi_diff::diffusion::Sampler;
#[cfg(feature = "train")]
use hi_diff::model::Attention;
#[cfg(feature = "train")]
use hi_diff::training::export::{Checkpoints, Which};
use hi_diff::weights::NamedTensor;
use hi_diff::weights::{
    LoadOptions, OnnxOptions, Precision, StateDict, Weights, onnx_networks, save_onnx,
    save_pytorch, save_safetensors,
};
use hi_diff::{Config, Error, HiDiff};

use crate::attention::AttentionArg;
use crate::backend::{BackendChoice, with_backend};
use crate::changes::Changes;
use crate::output;

/// Convert weights between a folder of .pth and a single .safetensors, take them from a training run, or make an ONNX file
///
/// Whichever networks are there are converted, after a check that they fit the configured model. Of a run, also of one that
/// goes on meanwhile, a checkpoint is taken: stage two's if it has begun, else stage one's. An ONNX file has the whole inference,
/// with inputs `blur` and `noise` and the output `sharp`, for programs in other languages; it is not read again.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A folder with net_g.pth, net_le_dm.pth, net_d.pth and perhaps net_le.pth; a .safetensors; or a run's folder, RUN/stage-one
    /// or RUN/stage-two in it, or a checkpoint's file model-….mpk
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The result: a name that ends in .safetensors or .onnx, or else a folder
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Configuration of the weights, a preset or a TOML file; a published folder needs it
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    #[command(flatten)]
    changes: Changes,
    #[cfg(feature = "train")]
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    onnx: OnnxArgs,
    /// Write half precision
    #[arg(long)]
    half: bool,
    /// Accept weights that are NaN or infinite
    #[arg(long)]
    allow_non_finite: bool,
    /// Replace results that exist
    #[arg(long)]
    force: bool,
}

/// Always true: all is converted, or it is an error.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let kind = Destination::of(&args.to)?;
    if is_same(&args.from, &args.to) {
        return Err(refused(&args.to, "is the input as well"));
    }
    if !matches!(kind, Destination::Onnx)
        && let Some(flag) = args.onnx.given()
    {
        let reason = format!("{flag} is for an ONNX file, whose name ends in .onnx");
        return Err(refused(&args.to, &reason));
    }
    let (config, states) = source(&args)?;
    let precision = if args.half {
        Precision::Half
    } else {
        Precision::Full
    };
    match kind {
        Destination::File => save_safetensors(&args.to, &config, &states, precision, args.force)?,
        Destination::Folder => save_pytorch(&args.to, &config, &states, precision, args.force)?,
        Destination::Onnx => {
            let options = args.onnx.options(&args.from, precision, &config);
            save_onnx(&args.to, &config, &states, &options, args.force)?;
        }
    }
    let is_written = |state: &&StateDict| match kind {
        Destination::Onnx => onnx_networks(&config).contains(&state.network()),
        Destination::File | Destination::Folder => true,
    };
    for state in states.iter().filter(is_written) {
        output::line(format!(
            "{:<18}{:>12} parameters",
            state.network().name(),
            count(state)
        ));
    }
    if let Destination::Onnx = kind {
        describe_onnx(&args, &config)?;
    }
    Ok(true)
}

/// What concerns an ONNX file alone.
#[derive(clap::Args, Debug)]
struct OnnxArgs {
    /// Of an ONNX file: the height and width of the one image that a run takes, multiples of 8, for runtimes that want them fixed
    #[arg(long, value_name = "HEIGHTxWIDTH")]
    size: Option<Size>,
    /// Of an ONNX file: whether attention takes its statistics over the whole image, or over windows of N pixels, a multiple of 8,
    /// which needs --size
    #[arg(long, value_name = "global|local:N")]
    attention: Option<Windowing>,
    /// Of an ONNX file: the licence of the weights, to be written into it
    #[arg(long, value_name = "NAME|ADDRESS", visible_alias = "license")]
    licence: Option<String>,
    /// Of an ONNX file: where the weights come from, to be written into it; the name of FROM if not said
    #[arg(long, value_name = "TEXT")]
    origin: Option<String>,
}

impl OnnxArgs {
    /// A flag that was given.
    fn given(&self) -> Option<&'static str> {
        let given = [
            ("--size", self.size.is_some()),
            ("--attention", self.attention.is_some()),
            ("--licence", self.licence.is_some()),
            ("--origin", self.origin.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(flag, given)| given.then_some(flag))
    }

    /// Windows are cut out at fixed places: without a size the attention is the whole image's, if not asked for.
    fn options(&self, from: &Path, precision: Precision, config: &Config) -> OnnxOptions {
        let suiting = match self.size {
            Some(_) => config.model.transformer.attention(),
            None => Attention::Global,
        };
        let name = from
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        OnnxOptions {
            precision,
            size: self.size.map(|Size(size)| size),
            attention: self.attention.map_or(suiting, |Windowing(kind)| kind),
            licence: self.licence.clone(),
            origin: self.origin.clone().or(name),
        }
    }
}

/// A height and a width.
#[derive(Debug, Clone, Copy)]
struct Size([usize; 2]);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| match text.parse::<u16>() {
            Ok(side) if side > 0 && side % 8 == 0 => Ok(usize::from(side)),
            _ => Err(format!("`{text}` is no multiple of 8 from 8 to 65528")),
        };
        let (height, width) = text
            .split_once('x')
            .ok_or("expected a height and a width, such as 720x1280")?;
        Ok(Self([side(height)?, side(width)?]))
    }
}

/// Those of `--attention` that an ONNX file can have.
#[derive(Debug, Clone, Copy)]
struct Windowing(Attention);

impl FromStr for Windowing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(AttentionArg::Global) => Ok(Self(Attention::Global)),
            Ok(AttentionArg::Local(Some(window))) if window % 8 == 0 => {
                Ok(Self(Attention::Local(window)))
            }
            _ => Err("expected `global`, or `local:N` with a multiple of 8".to_string()),
        }
    }
}

/// Prints what programs that load the file must know of it.
fn describe_onnx(args: &Args, config: &Config) -> hi_diff::Result<()> {
    let metadata = fs::metadata(&args.to).map_err(|source| Error::Io {
        path: args.to.clone(),
        source,
    })?;
    let megabytes = metadata.len() as f64 / 1e6;
    let image = match args.onnx.size {
        Some(Size([height, width])) => format!("[1, 3, {height}, {width}]"),
        None => "[N, 3, H, W], H and W multiples of 8".to_string(),
    };
    output::line(format!(
        "file              {megabytes:>9.1} MB, which its reader holds in memory besides the image's activations"
    ));
    output::line(format!("blur, sharp       {image}"));
    if config.model.prior != Prior::None {
        let (tokens, channels) = (config.model.prior_tokens(), config.model.prior_channels());
        let batch = if args.onnx.size.is_some() { "1" } else { "N" };
        output::line(format!("noise             [{batch}, {tokens}, {channels}]"));
        let steps = Sampler::new(&config.diffusion).noise_steps();
        if steps > 0 {
            output::line(format!(
                "step_noise        [{batch}, {steps}, {tokens}, {channels}]"
            ));
        }
    }
    if args.onnx.licence.is_none() {
        eprintln!(
            "warning: {}: says no licence of the weights; --licence writes it",
            args.to.display()
        );
    }
    Ok(())
}

/// Which of a run's weights.
#[cfg(feature = "train")]
#[derive(clap::Args, Debug)]
struct RunArgs {
    /// Of a run: the last checkpoint, the one with the best validation, or the one after an iteration
    #[arg(long, value_name = "last|best|ITERATION")]
    checkpoint: Option<Which>,
    /// Of a run: the weights themselves, also where it keeps their running average
    #[arg(long)]
    no_average: bool,
}

/// The networks to write, and their configuration.
fn source(args: &Args) -> hi_diff::Result<(Config, Vec<StateDict>)> {
    #[cfg(feature = "train")]
    if let Some(checkpoints) = Checkpoints::at(&args.from)? {
        return from_run(args, &checkpoints);
    }
    #[cfg(feature = "train")]
    if args.run.checkpoint.is_some() || args.run.no_average {
        let reason = "is no training run: --checkpoint and --no-average are for one";
        return Err(Error::Weights {
            path: args.from.clone(),
            reason: reason.into(),
        });
    }
    let weights = Weights::open(&args.from)?;
    let given = args.config.as_deref().map(Config::load).transpose()?;
    let config = weights.config_or(given.as_ref())?;
    let config = args.changes.to(config, weights.path())?;
    let options = LoadOptions {
        allow_non_finite: args.allow_non_finite,
    };
    let processor = BackendChoice::processor();
    let states = with_backend!(processor, B => {
        let model: HiDiff<B> = config.init_training(&Default::default());
        weights.state_dicts(&model, &options)?
    });
    Ok((config, states))
}

#[cfg(feature = "train")]
fn from_run(args: &Args, checkpoints: &Checkpoints) -> hi_diff::Result<(Config, Vec<StateDict>)> {
    let fail = |reason: String| Error::Weights {
        path: args.from.clone(),
        reason,
    };
    if args.config.is_some() {
        let reason = "a training run has a configuration of its own: leave --config out";
        return Err(fail(reason.into()));
    }
    let which = args.run.checkpoint.unwrap_or_default();
    let processor = BackendChoice::processor();
    let (place, config, states) = with_backend!(processor, B => {
        let exported = checkpoints.load::<B>(which, !args.run.no_average, &Default::default())?;
        for problem in &exported.problems {
            eprintln!("warning: {problem}; taking the checkpoint before");
        }
        let place = format!("{} after iteration {}", exported.stage, exported.iteration);
        (place, exported.config, StateDict::of_model(&exported.model))
    });
    for state in &states {
        let not_finite =
            |tensor: &&NamedTensor| !tensor.values.iter().all(|value| value.is_finite());
        if let Some(tensor) = state
            .tensors()
            .iter()
            .find(not_finite)
            .filter(|_| !args.allow_non_finite)
        {
            let network = state.network().name();
            return Err(fail(format!(
                "`{}` of the {network} is NaN or infinite",
                tensor.name
            )));
        }
    }
    output::line(place);
    // What is written must still fit what was trained.
    let changed = args.changes.to(config.clone(), &args.from)?;
    if changed.model != config.model {
        let reason = "--set cannot change the model that a run has trained";
        return Err(fail(reason.into()));
    }
    Ok((changed, states))
}

/// What is written.
enum Destination {
    File,
    Folder,
    Onnx,
}

impl Destination {
    fn of(path: &Path) -> hi_diff::Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::File),
            Some("onnx") => Ok(Self::Onnx),
            Some("pth" | "pt") => Err(refused(
                path,
                "is written as a folder of several files: name the folder",
            )),
            _ => Ok(Self::Folder),
        }
    }
}

fn is_same(from: &Path, to: &Path) -> bool {
    matches!((fs::canonicalize(from), fs::canonicalize(to)), (Ok(from), Ok(to)) if from == to)
}

fn count(state: &StateDict) -> usize {
    state
        .tensors()
        .iter()
        .map(|tensor| tensor.values.len())
        .sum()
}

fn refused(path: &Path, reason: &str) -> Error {
    Error::Refused {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}
