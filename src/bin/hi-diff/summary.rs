//! `hi-diff summary`: parameters and multiply-accumulates.

use hi_diff::HiDiff;
use hi_diff::model::{Cost, Summary};

use crate::backend::{BackendChoice, with_backend};
use crate::changes::Changes;
use crate::output;

/// Print parameters and multiply-accumulates of each network
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Preset or TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "gopro")]
    config: String,
    #[command(flatten)]
    changes: Changes,
    /// Height and width of the image in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    size: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Always true: there is nothing that could half fail.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let config = args.changes.load(&args.config)?;
    let size = args.size as usize;
    let processor = BackendChoice::processor();
    let summary = with_backend!(processor, B => {
        let model: HiDiff<B> = config.init_training(&Default::default());
        model.summary(size, size)
    });
    if args.json {
        output::line(serde_json::json!(summary));
    } else {
        table(&summary);
    }
    Ok(true)
}

fn table(summary: &Summary) {
    let row = |name: &str, cost: Cost, note: &str| {
        let giga = cost.macs as f64 / 1e9;
        output::line(format!("{name:<18}{:>12}{giga:>14.4}{note}", cost.params));
    };
    output::line(format!(
        "{:<18}{:>12}{:>14}",
        "network", "parameters", "MACs (G)"
    ));
    for network in &summary.networks {
        let note = if network.training_only {
            "  (training only)"
        } else {
            ""
        };
        row(network.name, network.cost, note);
    }
    row("total, inference", summary.total, "");
}
