//! What `hi-diff deblur` says of each photograph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hi_diff::inference::Region;
use hi_diff::inference::files::Job;
use hi_diff::picture::{PassedOver, Photograph};
use hi_diff::{Error, memory};
use serde::Serialize;

use super::Args;
use super::settings::is_stream;
use crate::output;

/// How much is said, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reports {
    /// Errors alone.
    Errors,
    /// And warnings, as standard output has the result.
    Warnings,
    /// Each result's name.
    Names,
    /// With size, time and memory.
    Details,
    /// Warnings, and the same on standard error.
    DetailsAside,
    /// A line of JSON each, failures included.
    Json,
}

/// A photograph that is done.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(serialize_with = "as_text")]
    pub input: PathBuf,
    #[serde(serialize_with = "as_text")]
    pub output: PathBuf,
    /// In pixels.
    pub width: usize,
    pub height: usize,
    /// How much of the result is in it.
    #[serde(skip_serializing_if = "is_all")]
    pub strength: f32,
    /// What was computed of the first picture, where that is not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<Part>,
    /// Of computing alone: reading and writing happen meanwhile.
    pub seconds: f64,
    pub megapixels_per_second: f64,
    /// The program's so far, without a GPU's; null where the system does not say.
    pub peak_memory_bytes: Option<u64>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_text_if_any"
    )]
    pub compare: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disagreement: Option<Map>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_text_if_any"
    )]
    pub preview: Option<PathBuf>,
    /// More than one: the frames of an animation, or pages.
    #[serde(skip_serializing_if = "is_one")]
    pub pictures: usize,
    pub warnings: Vec<String>,
}

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Part {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl From<Region> for Part {
    fn from(region: Region) -> Self {
        Self {
            x: region.x,
            y: region.y,
            width: region.width,
            height: region.height,
        }
    }
}

/// The map of where samples disagree.
#[derive(Debug, Serialize)]
pub struct Map {
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// The standard deviation that is white in the file, of values from 0 to 1.
    pub white: f32,
}

#[derive(Serialize)]
struct FailureLine<'a> {
    #[serde(serialize_with = "as_text")]
    input: &'a Path,
    error: String,
}

#[derive(Serialize)]
struct KeptLine<'a> {
    #[serde(serialize_with = "as_text")]
    input: &'a Path,
    #[serde(serialize_with = "as_text")]
    output: &'a Path,
    kept: bool,
}

#[derive(Serialize)]
struct PassedOverLine<'a> {
    #[serde(serialize_with = "as_text")]
    folder: &'a Path,
    /// Files by the name of their kind; `other` for those of none.
    passed_over: BTreeMap<&'static str, usize>,
}

impl Reports {
    pub fn of(args: &Args) -> Self {
        match (args.json, args.verbose, is_stream(&args.output)) {
            _ if args.quiet => Self::Errors,
            (true, ..) => Self::Json,
            (false, true, false) => Self::Details,
            (false, true, true) => Self::DetailsAside,
            (false, false, false) => Self::Names,
            (false, false, true) => Self::Warnings,
        }
    }

    /// Whether only errors are printed.
    pub fn is_quiet(self) -> bool {
        self == Self::Errors
    }

    pub fn done(self, report: &Report) {
        match self {
            Self::Errors | Self::Warnings => {}
            Self::Names => output::line(report.text(false)),
            Self::Details => output::line(report.text(true)),
            Self::DetailsAside => eprintln!("{}", report.text(true)),
            Self::Json => json_line(report),
        }
    }

    pub fn failure(self, input: &Path, error: &Error) {
        output::error(error);
        if self == Self::Json {
            let error = error.to_string();
            json_line(&FailureLine { input, error });
        }
    }

    /// The files of a folder that are not worked on.
    pub fn passed_over(self, found: &PassedOver) {
        match self {
            Self::Errors => {}
            Self::Json => {
                let others = (found.others() > 0).then_some(("other", found.others()));
                json_line(&PassedOverLine {
                    folder: found.folder(),
                    passed_over: found.kinds().into_iter().chain(others).collect(),
                });
            }
            _ => output::passed_over(found),
        }
    }

    /// Of jobs that an earlier run did.
    pub fn kept(self, jobs: &[Job]) {
        match self {
            _ if jobs.is_empty() => {}
            Self::Errors => {}
            Self::Json => {
                for Job { input, output } in jobs {
                    let kept = true;
                    json_line(&KeptLine {
                        input,
                        output,
                        kept,
                    });
                }
            }
            _ => {
                let plural = if jobs.len() == 1 { "" } else { "s" };
                eprintln!("kept: {} result{plural} of an earlier run", jobs.len());
            }
        }
    }

    /// A preview that is there before its result.
    pub fn preview(self, file: &Path) {
        match self {
            Self::Names | Self::Details => eprintln!("preview: {}", file.display()),
            _ => {}
        }
    }

    /// What a user should know of a photograph that was done all the same.
    pub fn warning_of(self, input: &Path, text: &str) {
        if self != Self::Errors {
            output::warning(input, text);
        }
    }

    /// What is not an error, and no result.
    pub fn warning(self, text: &str) {
        if self != Self::Errors {
            eprintln!("warning: {text}");
        }
    }
}

impl Report {
    /// The time and the memory up to now. `pixels` were computed.
    pub fn new(job: &Job, results: &[Photograph], pixels: u64, seconds: f64) -> Self {
        let size = |one: &Photograph| (one.width(), one.height());
        let (width, height) = results.first().map_or((0, 0), size);
        let warnings = results.iter().flat_map(Photograph::warnings);
        let mut warnings: Vec<String> = warnings.cloned().collect();
        warnings.dedup(); // of frames
        Self {
            input: job.input.clone(),
            output: job.output.clone(),
            width,
            height,
            strength: 1.0,
            computed: None,
            seconds,
            megapixels_per_second: pixels as f64 / 1e6 / seconds,
            peak_memory_bytes: memory::peak_bytes(),
            compare: None,
            disagreement: None,
            preview: None,
            pictures: results.len(),
            warnings,
        }
    }

    fn text(&self, details: bool) -> String {
        let mut parts = Vec::new();
        if details {
            parts.push(format!("{}×{}", self.width, self.height));
            if self.pictures > 1 {
                parts.push(format!("{} pictures", self.pictures));
            }
            if let Some(part) = self.computed {
                parts.push(format!("{}×{} of it computed", part.width, part.height));
            }
            parts.push(format!("{:.2} s", self.seconds));
            parts.push(format!("{:.3} megapixels/s", self.megapixels_per_second));
            if let Some(peak) = self.peak_memory_bytes {
                parts.push(format!("peak memory {:.2} GB", peak as f64 / 1e9));
            }
        }
        if let Some(Map { file, white }) = &self.disagreement {
            parts.push(format!(
                "white in {} is a standard deviation of {:.3}/255",
                file.display(),
                255.0 * white
            ));
        }
        let output = self.output.display();
        match parts.is_empty() {
            true => output.to_string(),
            false => format!("{output}: {}", parts.join(", ")),
        }
    }
}

fn is_all(strength: &f32) -> bool {
    *strength == 1.0
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

pub fn json_line(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => output::line(line),
        // Numbers and text alone, which JSON can say.
        Err(error) => eprintln!("error: {error}"),
    }
}

/// Names that are not Unicode, with what is not replaced.
fn as_text<S: serde::Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_ref().display())
}

fn as_text_if_any<S: serde::Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => as_text(path, serializer),
        None => serializer.serialize_none(),
    }
}
