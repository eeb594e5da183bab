//! `hi-diff convert`: published folders to a single file, and back.

use std::fs;
use std::path::{Path, PathBuf};

use hi_diff::weights::{
    LoadOptions, Precision, StateDict, Weights, save_pytorch, save_safetensors,
};
use hi_diff::{Config, Error, HiDiff};

use crate::backend::{BackendChoice, with_backend};
use crate::output;

/// Convert weights between a folder of .pth and a single .safetensors
///
/// Whichever networks are there are converted, after a check that they fit the configured model.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A folder with net_g.pth, net_le_dm.pth, net_d.pth and perhaps net_le.pth; or a .safetensors
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The result: a name that ends in .safetensors, or else a folder
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Configuration of the weights, a preset or a TOML file; a published folder needs it
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
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
    let kind = Kind::of(&args.to)?;
    if is_same(&args.from, &args.to) {
        return Err(refused(&args.to, "is the input as well"));
    }
    let weights = Weights::open(&args.from)?;
    let given = args.config.as_deref().map(Config::load).transpose()?;
    let config = weights.config_or(given.as_ref())?;
    let options = LoadOptions {
        allow_non_finite: args.allow_non_finite,
    };
    let processor = BackendChoice::processor();
    let states = with_backend!(processor, B => {
        let model: HiDiff<B> = config.init_training(&Default::default());
        weights.state_dicts(&model, &options)?
    });
    let precision = if args.half {
        Precision::Half
    } else {
        Precision::Full
    };
    match kind {
        Kind::File => save_safetensors(&args.to, &config, &states, precision, args.force)?,
        Kind::Folder => save_pytorch(&args.to, &config, &states, precision, args.force)?,
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

/// What is written.
enum Kind {
    File,
    Folder,
}

impl Kind {
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
