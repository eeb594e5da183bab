//! `hi-diff synth`: blurred and sharp pairs from sharp photographs.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use hi_diff::data::synthesis::{BlurModel, SynthesisOptions, synthesize_folder};

use crate::output;

/// Make blurred/sharp pairs from sharp photographs
///
/// Each photograph is blurred by a random camera shake in linear light, differently over the picture. OUT/input holds
/// the blurred pictures and OUT/target the sharp ones, under the same names. Ranges are written MIN..MAX, or as one
/// number; each picture draws its own value.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of sharp photographs, or one photograph
    sharp: PathBuf,
    /// Folder for the pairs
    out: PathBuf,
    /// Pairs per photograph
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Size of the camera's trajectory in pixels
    #[arg(long, value_name = "RANGE", default_value = "3..24", value_parser = range::<f32>)]
    extent: RangeInclusive<f32>,
    /// Roll about the optical axis in degrees
    #[arg(long, value_name = "RANGE", default_value = "0..0.8", value_parser = range::<f32>)]
    rotation: RangeInclusive<f32>,
    /// Nervousness of the hand: 0 moves straight, 1 turns and jerks
    #[arg(long, value_name = "RANGE", default_value = "0..1", value_parser = range::<f32>)]
    anxiety: RangeInclusive<f32>,
    /// Share of the trajectory during which the shutter is open
    #[arg(long, value_name = "RANGE", default_value = "0.5..1", value_parser = range::<f32>)]
    exposure: RangeInclusive<f32>,
    /// Shot noise: standard deviation at white, in linear light from 0 to 1
    #[arg(long, value_name = "RANGE", default_value = "0", value_parser = range::<f32>)]
    noise: RangeInclusive<f32>,
    /// Read noise: standard deviation everywhere, in linear light from 0 to 1
    #[arg(long, value_name = "RANGE", default_value = "0", value_parser = range::<f32>)]
    read_noise: RangeInclusive<f32>,
    /// Compress the blurred pictures as JPEG of these qualities, 1 to 100 [default: no compression]
    #[arg(long, value_name = "RANGE", value_parser = range::<u8>)]
    jpeg: Option<RangeInclusive<u8>>,
    /// Shrink photographs whose longer side has more pixels than this
    #[arg(long, value_name = "PIXELS")]
    max_size: Option<u32>,
    /// Equal seeds give equal pairs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace pairs that exist
    #[arg(long)]
    force: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    fn model(&self) -> BlurModel {
        BlurModel {
            extent: self.extent.clone(),
            rotation_degrees: self.rotation.clone(),
            anxiety: self.anxiety.clone(),
            exposure: self.exposure.clone(),
            shot_noise: self.noise.clone(),
            read_noise: self.read_noise.clone(),
            jpeg: self.jpeg.clone(),
        }
    }
}

/// Whether every photograph became pairs.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    let options = SynthesisOptions {
        seed: args.seed,
        count: args.count,
        max_size: args.max_size,
        force: args.force,
    };
    let bar = output::progress_bar(0, "pairs", args.quiet);
    let report = synthesize_folder(
        &args.sharp,
        &args.out,
        &args.model(),
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
    if !args.quiet {
        let (pairs, plural) = (report.pairs, if report.pairs == 1 { "" } else { "s" });
        output::line(format_args!(
            "{pairs} pair{plural} in {}",
            args.out.display()
        ));
    }
    Ok(report.failures.is_empty())
}

/// `MIN..MAX`, both ends included, or one number for a range of that value alone.
fn range<T: FromStr + Clone>(text: &str) -> Result<RangeInclusive<T>, String>
where
    T::Err: std::fmt::Display,
{
    let number = |text: &str| {
        text.trim()
            .parse::<T>()
            .map_err(|error| format!("`{text}`: {error}"))
    };
    match text.split_once("..") {
        Some((low, high)) => Ok(number(low)?..=number(high.strip_prefix('=').unwrap_or(high))?),
        None => number(text).map(|value| value.clone()..=value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        Program::try_parse_from([&["synth", "sharp", "out"], flags].concat())
            .map(|program| program.args)
    }

    #[test]
    fn without_flags_the_model_is_the_librarys_default() {
        assert_eq!(parse(&[]).unwrap().model(), BlurModel::default());
    }

    #[test]
    fn ranges_are_two_numbers_or_one() {
        let args = parse(&[
            "--extent",
            "2..30.5",
            "--rotation",
            "1",
            "--jpeg",
            "60..=95",
        ])
        .unwrap();
        assert_eq!(args.extent, 2.0..=30.5);
        assert_eq!(args.rotation, 1.0..=1.0);
        assert_eq!(args.jpeg, Some(60..=95));
    }

    #[test]
    fn a_range_that_is_no_number_is_wrong_usage() {
        let error = parse(&["--extent", "2..many"]).unwrap_err().to_string();
        assert!(error.contains("many"), "{error}");
    }
}
