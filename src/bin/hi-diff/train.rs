//! `hi-diff train`: both stages, from pairs of photographs to a weight file.

use std::io::IsTerminal;
use std::path::PathBuf;

use hi_diff::Error;
use hi_diff::report::training::{FILE, write_beside};
use hi_diff::training::{Display, Hook, Stages, TrainingOptions, TrainingReport, train};

use crate::backend::{BackendChoice, with_training_backend};
use crate::changes::Changes;
use crate::command_line::command_line;
use crate::output;
use crate::stop::stop_on_signal;

/// Train the model on pairs of blurred and sharp photographs
///
/// DIR is the root of GoPro, HIDE or RealBlur as downloaded, or holds `input/` and `target/` (or `blur/` and `sharp/`)
/// with images of the same names, or sharp photographs alone, which are blurred as they are drawn. OUT gets checkpoints, metrics, `report.html` with the curves and, at the end,
/// `model.safetensors`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Preset or TOML file: the model, and how it is trained
    #[arg(long, value_name = "NAME|FILE")]
    config: String,
    #[command(flatten)]
    changes: Changes,
    /// Folder of the training pairs or photographs [default: data.train or data.sources of the configuration]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folders of validation pairs, each with scores of its own [default: data.validation, or a share of the training pairs]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    validation: Option<Vec<PathBuf>>,
    /// Folder for the run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Stages to run; stage two alone starts from stage one's weights in OUT, or from --init
    #[arg(long, value_enum, default_value_t = Stages::Both)]
    stage: Stages,
    /// Go on with the run in OUT, from its newest checkpoint
    #[arg(long)]
    resume: bool,
    /// Weights to start from, as far as they fit: a .safetensors, or a folder of .pth [default: training.init]
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Seed of weights, patches and noise [default: training.seed of the configuration]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    fn display(&self) -> Display {
        match (self.quiet, std::io::stdout().is_terminal()) {
            (true, _) => Display::Quiet,
            (false, true) => Display::Dashboard,
            (false, false) => Display::Lines,
        }
    }
}

/// Always true: a training that does not come to its end is an error.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let config = args.changes.load(&args.config)?;
    let config = config.changed(&args.config, |config| {
        config.training.seed = args.seed.unwrap_or(config.training.seed);
    })?;
    let display = args.display();
    let options = TrainingOptions {
        data: args.data,
        validation: args.validation,
        out: args.out,
        stages: args.stage,
        resume: args.resume,
        initial: args.init,
        display,
        command: Some(command_line()),
        after_validation: Some(Hook::new(|out| write_beside(out).map(drop))),
        stop: stop_on_signal("step", args.quiet)?,
    };
    let trained = with_training_backend!(args.backend, config, (B, devices) => {
        train::<B>(&config, &options, &devices)
    });
    let report = with_page(trained, || write_beside(&options.out))?;
    if display != Display::Quiet {
        print(&report);
        output::line(format!("report: {}", options.out.join(FILE).display()));
    }
    Ok(true)
}

/// What a run came to, after its page has been written: by the program, since pages know trainings, which therefore
/// cannot know pages. A run that is refused or fails before it begins leaves no page.
pub fn with_page<T>(
    done: hi_diff::Result<T>,
    write_page: impl FnOnce() -> hi_diff::Result<PathBuf>,
) -> hi_diff::Result<T> {
    match done {
        Ok(value) => write_page().map(|_| value),
        Err(stopped @ Error::Stopped { .. }) => {
            if let Err(error) = write_page() {
                output::error(&error);
            }
            Err(stopped)
        }
        Err(error) => Err(error),
    }
}

fn print(report: &TrainingReport) {
    for stage in &report.stages {
        let minutes = stage.elapsed.as_secs_f64() / 60.0;
        let mut text = format!(
            "{}: {} iterations in {minutes:.1} min",
            stage.stage, stage.iterations
        );
        if let Some(psnr) = stage.last.and_then(|last| last.psnr) {
            text.push_str(&format!(", PSNR {psnr:.2} dB"));
        }
        if let Some((best, psnr)) = stage.best.and_then(|best| Some((best, best.psnr?))) {
            text.push_str(&format!(
                " (best {psnr:.2} dB at iteration {})",
                best.iteration
            ));
        }
        if stage.ended_early {
            text.push_str(", ended early");
        }
        if stage.result != stage.iterations {
            text.push_str(&format!(", result of iteration {}", stage.result));
        }
        output::line(text);
    }
    output::line(format!("weights: {}", report.weights.display()));
}
