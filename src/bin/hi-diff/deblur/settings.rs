//! The flags of `hi-diff deblur`, checked and turned once into what the work needs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use hi_diff::inference::files::{Job, Plan, PlanOptions};
use hi_diff::inference::{Blend, DeblurOptions, Mask, Tiling, video};
use hi_diff::picture::{EncodeOptions, Format, Limits, Photograph};

use super::Args;
use super::report::Reports;

/// Standard input as an input, standard output as the output.
pub const STREAM: &str = "-";

/// Endings of what is written beside a result.
pub const COMPARE: &str = "compare.png";
pub const DISAGREEMENT: &str = "disagreement.png";
pub const PREVIEW: &str = "preview.png";

/// Pixels that tiles share where the command line does not say, if that is no more than a quarter of a tile: enough to
/// leave no seam (docs/tiling.md).
const OVERLAP: usize = 32;

/// The jobs by kind.
pub struct Plans {
    pub photographs: Plan,
    pub videos: Plan,
}

/// What the work needs to know.
#[derive(Debug)]
pub struct Settings {
    pub deblur: DeblurOptions,
    /// Without the mask until that is read.
    pub blend: Blend,
    /// The mask's file.
    pub mask: Option<PathBuf>,
    /// Whether a reduced photograph is restored first.
    pub preview: bool,
    pub encode: EncodeOptions,
    pub format: Option<Format>,
    /// Whether photograph and result are written side by side.
    pub compare: bool,
    /// Whether results get the times of their photographs.
    pub preserve_time: bool,
    /// Whether what is a result already is kept.
    pub resume: bool,
    pub reports: Reports,
}

impl Settings {
    /// # Errors
    /// What is wrong with the flags together, for exit status 2.
    pub fn of(args: &Args) -> Result<Self, clap::Error> {
        let wrong = |reason: String| crate::wrong_usage("deblur", reason);
        let settings = Self {
            deblur: DeblurOptions {
                seed: args.seed,
                augment: args.tta,
                samples: args.samples,
                tiling: tiling(args).map_err(wrong)?,
            },
            blend: Blend {
                strength: args.strength,
                mask: None,
                region: args.region,
                feather: args.feather,
            },
            mask: args.mask.clone(),
            preview: args.preview,
            encode: EncodeOptions {
                quality: args.quality,
                // What is there and no result of its input is replaced when resuming.
                force: args.force || args.resume,
                strip_metadata: args.strip_metadata,
            },
            preserve_time: args.preserve_time,
            format: args.format,
            compare: args.compare,
            resume: args.resume,
            reports: Reports::of(args),
        };
        if args.feather > 0 && args.mask.is_none() && args.region.is_none() {
            let reason =
                "`--feather` softens the edges of `--mask` and `--region`: give one of them";
            return Err(wrong(reason.to_string()));
        }
        settings.check_format(args).map_err(wrong)?;
        check_videos(args).map_err(wrong)?;
        check_streams(args).map_err(wrong)?;
        Ok(settings)
    }

    /// Reads the mask, if there is one.
    ///
    /// # Errors
    /// As for [`Photograph::open`].
    pub fn read_mask(&mut self) -> hi_diff::Result<()> {
        let Some(file) = &self.mask else {
            return Ok(());
        };
        let picture = Photograph::open(file, &Limits::default())?;
        for warning in picture.warnings() {
            self.reports.warning_of(file, warning);
        }
        self.blend.mask = Some(Mask::new(file.display().to_string(), &picture));
        Ok(())
    }

    /// What is read and where the results go.
    pub fn plans(&self, inputs: &[PathBuf], output: &Path) -> hi_diff::Result<Plans> {
        let (videos, photographs) = video::split(inputs);
        let plans = Plans {
            videos: match videos.is_empty() {
                true => Plan::default(),
                false => {
                    let alone = photographs.is_empty();
                    video::plan(&videos, output, alone, self.encode.force)?
                }
            },
            photographs: match photographs.is_empty() {
                true => Plan::default(),
                false => self.plan(&photographs, output)?,
            },
        };
        Ok(plans)
    }

    fn plan(&self, inputs: &[PathBuf], output: &Path) -> hi_diff::Result<Plan> {
        let options = PlanOptions {
            force: self.encode.force,
            resume: self.resume,
            format: self.format,
            beside: self.beside(),
            others: self.mask.iter().cloned().collect(),
        };
        match inputs {
            [input] if is_stream(output) => Ok(Plan {
                jobs: vec![job(input, output)],
                ..Plan::default()
            }),
            [input] if is_stream(input) => Ok(Plan::of_job(job(input, output), &options)),
            _ => Plan::with(inputs, output, &options),
        }
    }

    /// The endings of what is written beside each result.
    fn beside(&self) -> Vec<&'static str> {
        let several = self.deblur.samples.get() > 1;
        let endings = [
            (self.compare, COMPARE),
            (several, DISAGREEMENT),
            (self.preview, PREVIEW),
        ];
        let wanted = endings.into_iter().filter(|(wanted, _)| *wanted);
        wanted.map(|(_, ending)| ending).collect()
    }

    fn check_format(&self, args: &Args) -> Result<(), String> {
        let named =
            Format::of_path(&args.output).filter(|_| Plan::is_file(&args.inputs, &args.output));
        match (self.format, named) {
            (Some(format), Some(named)) if format != named => {
                let output = args.output.display();
                Err(format!(
                    "`--format` says {format}, but the extension of {output} means {named}"
                ))
            }
            _ => Ok(()),
        }
    }
}

fn job(input: &Path, output: &Path) -> Job {
    Job {
        input: input.to_path_buf(),
        output: output.to_path_buf(),
    }
}

pub fn is_stream(path: &Path) -> bool {
    path == Path::new(STREAM)
}

/// A share of the result.
pub fn strength(text: &str) -> Result<f32, String> {
    let strength = text.parse::<f32>().map_err(|error| error.to_string())?;
    let blend = Blend {
        strength,
        ..Blend::default()
    };
    blend.check(1, 1).map(|()| strength)
}

fn tiling(args: &Args) -> Result<Option<Tiling>, String> {
    let Some(tile) = args.tile else {
        return Ok(None);
    };
    let overlap = args.overlap.unwrap_or(OVERLAP.min(tile / 4));
    match Tiling::new(tile, overlap) {
        Ok(tiling) => Ok(Some(tiling)),
        Err(hi_diff::Error::Config { key, reason, .. }) => {
            let flag = if key == "size" { "tile" } else { "overlap" };
            Err(format!("`--{flag}`: {reason}"))
        }
        Err(other) => Err(other.to_string()),
    }
}

/// What is written beside a photograph has no place beside a video, and what is marked in a photograph moves in a video.
fn check_videos(args: &Args) -> Result<(), String> {
    let (videos, _) = video::split(&args.inputs);
    let Some(first) = videos.first() else {
        return Ok(());
    };
    let others = [
        (args.compare, "--compare"),
        (args.samples.get() > 1, "--samples"),
        (args.mask.is_some(), "--mask"),
        (args.region.is_some(), "--region"),
        (args.preview, "--preview"),
        (args.format.is_some(), "--format"),
        (is_stream(&args.output), "-o -"),
    ];
    match others.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, flag)) => Err(format!(
            "`{flag}` is for photographs, and {} is a video",
            first.display()
        )),
    }
}

/// Standard input and standard output are one photograph each.
fn check_streams(args: &Args) -> Result<(), String> {
    let from_stdin = args.inputs.iter().any(|input| is_stream(input));
    let to_stdout = is_stream(&args.output);
    let wrong = |reason: &str| Err(reason.to_string());
    if from_stdin && args.inputs.len() > 1 {
        return wrong("standard input (`-`) has to be the only input");
    }
    if from_stdin && !to_stdout && !Plan::is_file(&args.inputs, &args.output) {
        return wrong(
            "what comes from standard input has no name: give `-o` a file, such as out.png",
        );
    }
    if !to_stdout {
        return Ok(());
    }
    if args.inputs.len() > 1 || args.inputs.iter().any(|input| input.is_dir()) {
        return wrong(
            "standard output (`-o -`) takes the result of one photograph: give `-o` a folder",
        );
    }
    let others = [
        (args.compare, "--compare", "writes a second file"),
        (args.samples.get() > 1, "--samples", "writes a second file"),
        (args.preview, "--preview", "writes a second file"),
        (args.resume, "--resume", "keeps files"),
        (args.json, "--json", "prints on standard output"),
    ];
    if let Some((_, flag, does)) = others.iter().find(|(given, ..)| *given) {
        return Err(format!(
            "`{flag}` {does}, for which `-o -` has no place: give `-o` a file"
        ));
    }
    if std::io::stdout().is_terminal() {
        return wrong("standard output is a terminal: redirect it, or give `-o` a file");
    }
    Ok(())
}
