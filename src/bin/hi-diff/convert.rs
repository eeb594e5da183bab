//! `hi-diff convert`: published folders to a single file, and back.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(feature = "train")]
use hi_diff::training::export::{Checkpoints, Which};
#[cfg(feature = "train")]
use hi_diff::weights::NamedTensor;
use hi_diff::weights::{
    LoadOptions, Precision, StateDict, Weights, save_pytorch, save_safetensors,
};
use hi_diff::{Config, Error, HiDiff};

use crate::backend::{BackendChoice, with_backend};
use crate::changes::Changes;
use crate::output;

/// Convert weights between a folder of .pth and a single .safetensors, or take them from a training run
///
/// Whichever networks are there are converted, after a check that they fit the configured model. Of a run, also of one that
/// goes on meanwhile, a checkpoint is taken: stage two's if it has begun, else stage one's.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A folder with net_g.pth, net_le_dm.pth, net_d.pth and perhaps net_le.pth; a .safetensors; or a run's folder, RUN/stage-one
    /// or RUN/stage-two in it, or a checkpoint's file model-….mpk
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The result: a name that ends in .safetensors, or else a folder
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
    let (config, states) = source(&args)?;
    let precision = if args.half {
        Precision::Half
    } else {
        Precision::Full
    };
    match kind {
        Destination::File => save_safetensors(&args.to, &config, &states, precision, args.force)?,
        Destination::Folder => save_pytorch(&args.to, &config, &states, precision, args.force)?,
    }
    for state in &states {
        output::line(format!(
            "{:<18}{:>12} parameters",
            state.network().name(),
            count(state)
        ));
    }
    Ok(true)
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
}

impl Destination {
    fn of(path: &Path) -> hi_diff::Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::File),
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
