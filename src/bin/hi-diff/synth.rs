//! `hi-diff synth`: blurred and sharp pairs from sharp photographs.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hi_diff::Config;
use hi_diff::data::synthesis::{BlurModel, Range, SynthesisOptions, synthesize_folder};

use crate::changes::Changes;
use crate::output;

/// Make blurred/sharp pairs from sharp photographs
///
/// Each photograph is blurred in linear light as training blurs it, by default by a random camera shake, differently over
/// the picture. OUT/input holds the blurred pictures and OUT/target the sharp ones, under the same names. Ranges are
/// written MIN..MAX, or as one number; each picture draws its own value. A range makes its kind of blur happen to each
/// picture, unless the configuration gives that kind a probability.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of sharp photographs, or one photograph. Other files in the folder are passed over
    sharp: PathBuf,
    /// Folder for the pairs
    out: PathBuf,
    /// Preset or TOML file whose [data.blur] says how to blur; the options below replace its values
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    #[command(flatten)]
    changes: Changes,
    /// Pairs per photograph
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Share of the pictures that are not blurred, from 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE")]
    unblurred: Option<f64>,
    /// Shrink each photograph so many times before it is blurred [default: not at all]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    shrink: Option<Range>,
    /// Size of the camera's trajectory in pixels [default: 3..24]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    extent: Option<Range>,
    /// Roll about the optical axis in degrees [default: 0..0.8]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    rotation: Option<Range>,
    /// Nervousness of the hand: 0 moves straight, 1 turns and jerks [default: 0..1]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    anxiety: Option<Range>,
    /// Share of the trajectory during which the shutter is open [default: 0.5..1]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    exposure: Option<Range>,
    /// Move a part of each picture, by a trajectory of so many pixels [default: no part]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    object: Option<Range>,
    /// Defocus: radius of the aperture's picture in pixels [default: in focus]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    defocus: Option<Range>,
    /// Make white so many times brighter until it is blurred [default: as it is]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    highlights: Option<Range>,
    /// Shot noise: standard deviation at white, in linear light from 0 to 1 [default: 0]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    noise: Option<Range>,
    /// Read noise: standard deviation everywhere, in linear light from 0 to 1 [default: 0]
    #[arg(long, value_name = "RANGE", value_parser = range::<f64>)]
    read_noise: Option<Range>,
    /// Compress the blurred pictures as JPEG of these qualities, 1 to 100 [default: no compression]
    #[arg(long, value_name = "RANGE", value_parser = range::<u8>)]
    jpeg: Option<[u8; 2]>,
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
    fn model(&self) -> hi_diff::Result<BlurModel> {
        let config = match &self.config {
            Some(config) => self.changes.load(config)?,
            None => self
                .changes
                .to(Config::default(), Path::new("the defaults"))?,
        };
        let mut model = config.data.blur.clone();
        if let Some(share) = self.unblurred {
            model.sharp = share;
        }
        let shrink = &mut model.shrink;
        switch_on(self.shrink, &mut shrink.factor, &mut shrink.probability);
        let shake = &mut model.shake;
        for (given, range) in [
            (self.extent, &mut shake.extent),
            (self.rotation, &mut shake.rotation),
            (self.anxiety, &mut shake.anxiety),
            (self.exposure, &mut shake.exposure),
        ] {
            switch_on(given, range, &mut shake.probability);
        }
        let object = &mut model.object;
        switch_on(self.object, &mut object.extent, &mut object.probability);
        let defocus = &mut model.defocus;
        switch_on(self.defocus, &mut defocus.radius, &mut defocus.probability);
        let highlights = &mut model.highlights;
        switch_on(
            self.highlights,
            &mut highlights.gain,
            &mut highlights.probability,
        );
        let noise = &mut model.noise;
        if noise.probability == 0.0 {
            // One of the two alone.
            (noise.shot, noise.read) = ([0.0; 2], [0.0; 2]);
        }
        switch_on(self.noise, &mut noise.shot, &mut noise.probability);
        switch_on(self.read_noise, &mut noise.read, &mut noise.probability);
        let jpeg = &mut model.jpeg;
        switch_on(self.jpeg, &mut jpeg.quality, &mut jpeg.probability);
        Ok(model)
    }
}

/// Takes a range that was given, of a kind of blur that then happens.
fn switch_on<T>(given: Option<T>, range: &mut T, probability: &mut f64) {
    if let Some(given) = given {
        *range = given;
        if *probability == 0.0 {
            *probability = 1.0;
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
        &args.model()?,
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
        if !report.passed_over.is_empty() {
            output::passed_over(&report.passed_over);
        }
        let (pairs, plural) = (report.pairs, if report.pairs == 1 { "" } else { "s" });
        output::line(format_args!(
            "{pairs} pair{plural} in {}",
            args.out.display()
        ));
    }
    Ok(report.failures.is_empty())
}

/// `MIN..MAX`, both ends included, or one number for a range of that value alone.
fn range<T: FromStr + Copy>(text: &str) -> Result<[T; 2], String>
where
    T::Err: std::fmt::Display,
{
    let number = |text: &str| {
        text.trim()
            .parse::<T>()
            .map_err(|error| format!("`{text}`: {error}"))
    };
    match text.split_once("..") {
        Some((low, high)) => Ok([
            number(low)?,
            number(high.strip_prefix('=').unwrap_or(high))?,
        ]),
        None => number(text).map(|value| [value; 2]),
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

    fn model(flags: &[&str]) -> BlurModel {
        parse(flags).unwrap().model().unwrap()
    }

    #[test]
    fn without_flags_nothing_but_the_librarys_default_happens() {
        let mut model = model(&[]);
        model.noise = Default::default();
        assert_eq!(model, BlurModel::default());
    }

    #[test]
    fn ranges_are_two_numbers_or_one_and_switch_their_kind_on() {
        let found = model(&[
            "--extent",
            "2..30.5",
            "--rotation",
            "1",
            "--jpeg",
            "60..=95",
        ]);
        assert_eq!(found.shake.extent, [2.0, 30.5]);
        assert_eq!(found.shake.rotation, [1.0, 1.0]);
        assert_eq!(
            (found.jpeg.quality, found.jpeg.probability),
            ([60, 95], 1.0)
        );
        assert_eq!(found.noise.probability, 0.0);
        let noisy = model(&["--noise", "0..0.01"]).noise;
        assert_eq!(
            (noisy.probability, noisy.shot, noisy.read),
            (1.0, [0.0, 0.01], [0.0; 2])
        );
    }

    #[test]
    fn a_configurations_blur_is_taken_and_flags_replace_its_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blur.toml");
        let text = "[data.blur.jpeg]\nprobability = 0.25\n[data.blur.shake]\nextent = [1, 2]\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let key = "data.blur.shake.rotation=[0,0.5]";
        let found = model(&[
            "--config",
            path,
            "--set",
            key,
            "--jpeg",
            "50",
            "--defocus",
            "1..3",
        ]);
        assert_eq!(found.shake.extent, [1.0, 2.0]);
        assert_eq!(found.shake.rotation, [0.0, 0.5]);
        assert_eq!(
            (found.jpeg.probability, found.jpeg.quality),
            (0.25, [50, 50])
        );
        assert_eq!(
            (found.defocus.probability, found.defocus.radius),
            (1.0, [1.0, 3.0])
        );
    }

    #[test]
    fn a_range_that_is_no_number_is_wrong_usage() {
        let error = parse(&["--extent", "2..many"]).unwrap_err().to_string();
        assert!(error.contains("many"), "{error}");
    }
}
