//! `hi-diff`: deblurs photographs, trains and examines the model.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

#[cfg(feature = "train")]
mod ablate;
mod attention;
mod backend;
mod changes;
mod command_line;
mod completions;
mod convert;
mod crop;
mod deblur;
mod demo;
mod eval;
mod man;
mod metrics;
mod model;
mod output;
mod stop;
mod summary;
mod synth;
#[cfg(feature = "train")]
mod train;

/// Deblur photographs with HI-Diff, and train it
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Deblur(deblur::Args),
    #[cfg(feature = "train")]
    Train(train::Args),
    #[cfg(feature = "train")]
    Ablate(ablate::Args),
    Eval(eval::Args),
    Metrics(metrics::Args),
    Synth(synth::Args),
    Crop(crop::Args),
    Convert(convert::Args),
    Summary(summary::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Wrong usage of a command, as clap tells its own, with the command's usage and not the program's.
fn wrong_usage(command: &str, reason: String) -> clap::Error {
    let mut program = Cli::command();
    program.build(); // after which a command knows the program's name
    let command = match program.find_subcommand_mut(command) {
        Some(command) => command,
        None => &mut program,
    };
    command.error(ErrorKind::ValueValidation, reason)
}

/// 0: all done; 1: something failed; 2 (by clap): wrong usage.
fn main() -> ExitCode {
    output::quiet_decoders();
    let command = Cli::parse().command;
    #[cfg(any(feature = "flex", feature = "ndarray"))]
    if let Err(error) = hi_diff::kernels::held_instruction_set() {
        output::error(&error);
        return ExitCode::FAILURE;
    }
    let done = match command {
        Command::Demo(args) => demo::run(args),
        Command::Deblur(args) => deblur::run(args),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(args),
        #[cfg(feature = "train")]
        Command::Ablate(args) => ablate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Crop(args) => crop::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Summary(args) => summary::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
