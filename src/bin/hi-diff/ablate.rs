//! `hi-diff ablate`: the paper's Table 1 and Fig. 3, at any scale.

use std::path::PathBuf;

use hi_diff::ablation::{AblationOptions, Budget, Mean, PatchOverride, Report, Row, ablate};
use hi_diff::report::ablation::{FILE, write_beside};
use hi_diff::training::{Display, Hook};

use crate::backend::{BackendChoice, with_training_backend};
use crate::changes::Changes;
use crate::command_line::command_line;
use crate::output;
use crate::stop::stop_on_signal;
use crate::train::with_page;

/// Train and compare the models of the paper's ablations
///
/// Table 1 (baseline, single-guide, split-training, hi-diff) and Fig. 3 (T = 1, 2, 4, 8, 16, 32 reverse steps), each
/// row with the same number of optimiser steps, scored on held-out pairs. OUT gets `ablation.html` with the curves,
/// `ablation.md`, `ablation.json` and `ablation.svg`, written anew after each row. HI-Diff, Split-Training and every T start from one stage one, which
/// depends on none of what they differ in.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Preset or TOML file of HI-Diff, from which the rows are made. The default is hi-diff-2, trained as the paper's
    /// ablation: 100,000 steps a stage, 32 patches of 192×192
    #[arg(long, value_name = "NAME|FILE", default_value = "ablation/hi-diff")]
    config: String,
    #[command(flatten)]
    changes: Changes,
    /// Folder of the training pairs [default: data.train of the configuration]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folders of the held-out pairs [default: data.validation, or a share of the training pairs]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    validation: Option<Vec<PathBuf>>,
    /// Folder for the study
    #[arg(long, value_name = "DIR", default_value = "ablation")]
    out: PathBuf,
    /// Optimiser steps of each stage, or time for everything, such as 90m or 2h. Patch sizes and learning rates keep
    /// their shares of the steps
    #[arg(long, value_name = "STEPS|TIME", required_unless_present = "resume")]
    budget: Option<Budget>,
    /// Rows to train: baseline, single-guide, split-training, hi-diff, or t-N for N reverse steps [default: all of the
    /// paper's]
    #[arg(long, value_name = "ROW,…", value_delimiter = ',')]
    rows: Option<Vec<Row>>,
    /// Side of all patches in pixels, a multiple of 8 [default: as the configuration has them]
    #[arg(long, value_name = "PIXELS")]
    patch: Option<usize>,
    /// Patches in each step [default: as the configuration has them]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Go on with the study in OUT: rows that are done stay, one that is not goes on from its newest checkpoint
    #[arg(long)]
    resume: bool,
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Seed of weights, patches and noise [default: training.seed of the configuration]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the report as JSON, and progress on standard error
    #[arg(long)]
    json: bool,
    /// Print errors only, and with --json the report
    #[arg(short, long)]
    quiet: bool,
}

/// Always true: a study that does not come to its end is an error.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let config = args.changes.load(&args.config)?;
    let config = config.changed(&args.config, |config| {
        config.training.seed = args.seed.unwrap_or(config.training.seed);
    })?;
    let options = AblationOptions {
        data: args.data,
        validation: args.validation,
        out: args.out,
        rows: args.rows,
        budget: args.budget,
        sizes: PatchOverride {
            patch: args.patch,
            batch: args.batch,
        },
        resume: args.resume,
        // The lines of the trainings go to standard output, where JSON would not bear them.
        display: match args.quiet || args.json {
            true => Display::Quiet,
            false => Display::Lines,
        },
        command: Some(command_line()),
        after_row: Some(Hook::new(|out| write_beside(out).map(drop))),
        stop: stop_on_signal("step", args.quiet)?,
    };
    let say = |text: std::fmt::Arguments<'_>| match (args.quiet, args.json) {
        (true, _) => {}
        (false, true) => eprintln!("{text}"),
        (false, false) => output::line(text),
    };
    let done = with_training_backend!(args.backend, config, (B, devices) => {
        ablate::<B>(&config, &options, &devices, &say)
    });
    let report = with_page(done, || write_beside(&options.out))?;
    if args.json {
        output::line(serde_json::json!(report));
    } else if !args.quiet {
        table(&report);
        for page in ["ablation.md", FILE] {
            output::line(format!("report: {}", options.out.join(page).display()));
        }
    }
    Ok(true)
}

fn table(report: &Report) {
    let line = |title: &str, params: &str, macs: &str, mean: Option<&Mean>, difference: &str| {
        let (psnr, ssim) = match mean {
            Some(mean) => (
                format!("{:.2}", mean.psnr),
                format!("{:.4}", mean.ssim_volumetric),
            ),
            None => ("PSNR (dB)".into(), "SSIM (volumetric)".into()),
        };
        output::line(format!(
            "{title:<18}{params:>12}{macs:>12}{psnr:>12}{ssim:>20}{difference:>18}"
        ));
    };
    line("", "parameters", "MACs (G)", None, "to HI-Diff (dB)");
    line("blurred input", "", "", Some(&report.blurred), "");
    for row in &report.rows {
        let (params, macs) = (
            row.params.to_string(),
            format!("{:.4}", row.macs as f64 / 1e9),
        );
        let difference = row.difference_text();
        line(&row.title, &params, &macs, Some(&row.mean), &difference);
    }
}
