//! A model over datasets: every image restored, measured and noted; stopped at any time, it goes on where it was.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use image::RgbImage;

use super::datasets::Dataset;
use super::journal::{Done, EvaluationPlan, Journal};
use super::results::{
    DatasetResult, Evaluation, Failure, ImageResult, ImageScores, Scores, extremes,
};
use super::table;
use crate::data::dataset::{DecodedPair, PairReader};
use crate::data::stop::Stop;
use crate::error::{Error, Result};
use crate::inference::{DeblurOptions, Deblurrer, pipeline};
use crate::lock::Lock;
use crate::picture::{EncodeOptions, Photograph, save_rgb8};
use crate::whole::write_whole;
use burn::tensor::backend::Backend;

/// What an evaluation leaves in its folder, beside `images/` or `pictures/`.
const JOURNAL_FILE: &str = "journal.jsonl";
const JSON_FILE: &str = "evaluation.json";
const MARKDOWN_FILE: &str = "evaluation.md";

/// Where and how an evaluation runs.
#[derive(Debug, Clone)]
pub struct EvaluationOptions {
    /// The folder that it is written to.
    pub out: PathBuf,
    /// Whether to go on with the evaluation that `out` holds, if it holds one.
    pub resume: bool,
    /// Whether to begin anew where `out` holds an evaluation.
    pub force: bool,
    /// Of how many images of each dataset the restored picture is kept for a report: the largest losses and gains.
    pub pictures: usize,
    /// Ends the evaluation after the image at work.
    pub stop: Stop,
}

/// Hears of each image that is done: its dataset's name and what was found.
pub type Progress<'a> = &'a mut (dyn FnMut(&str, Result<&ImageResult, &Failure>) + Send);

/// Restores and measures every pair of `datasets`, and writes `evaluation.json` and `evaluation.md` into `options.out`.
///
/// `plan` says what is evaluated; its datasets are set here. What is done is noted in `journal.jsonl` image by image, and
/// not done again when resumed. An image that cannot be read, restored or measured is a [`Failure`]; the others go on,
/// and it is tried again when resumed. Restored images are kept in `images/` if the plan wants them, else those of a report
/// in `pictures/`, as PNG. Reading, computing and measuring overlap.
///
/// # Errors
/// [`Error::Refused`] if `out` holds an evaluation and neither `resume` nor `force` is set, [`Error::Evaluation`] if the one
/// to resume was begun with something else, [`Error::Stopped`] when asked to, [`Error::Io`].
pub fn evaluate<B: Backend>(
    deblurrer: &Deblurrer<B>,
    datasets: &[Dataset],
    mut plan: EvaluationPlan,
    options: &EvaluationOptions,
    progress: Progress<'_>,
) -> Result<Evaluation> {
    plan.datasets = datasets.iter().map(Into::into).collect();
    let _lock = Lock::hold(&options.out)?;
    let (journal, plan, done) = open(&plan, options)?;
    let total: usize = datasets.iter().map(Dataset::images).sum();
    let mut notes = Notes {
        datasets,
        folder: PictureFolder::new(&options.out, plan.save_images),
        most: options.pictures,
        journal,
        results: results(datasets, &done),
        progress,
    };
    notes.tell_of_unreadable();
    notes.run(deblurrer, plan.seed, &options.stop)?;

    let evaluation = Evaluation {
        command: plan.command,
        version: env!("CARGO_PKG_VERSION").into(),
        weights: plan.weights,
        backend: plan.backend,
        seed: plan.seed,
        attention: plan.attention,
        config: plan.config,
        datasets: notes.finish(),
    };
    let left = total - evaluation.tried();
    if left > 0 {
        return Err(Error::Stopped {
            what: "evaluation",
            reason: "interrupted".into(),
            next: format!(
                "{} of {total} images are done: the same command with --resume does the others",
                total - left
            ),
        });
    }
    write_reports(&options.out, &evaluation)?;
    Ok(evaluation)
}

fn open(
    plan: &EvaluationPlan,
    options: &EvaluationOptions,
) -> Result<(Journal, EvaluationPlan, Done)> {
    let path = options.out.join(JOURNAL_FILE);
    match (path.is_file(), options.resume) {
        (true, true) => Journal::resume(&path, plan),
        (true, false) if !options.force => Err(Error::Refused {
            path: options.out.clone(),
            reason:
                "an evaluation is here: resume it, begin anew by force, or choose another folder"
                    .into(),
        }),
        _ => Ok((Journal::begin(&path, plan)?, plan.clone(), Done::new())),
    }
}

fn write_reports(out: &Path, evaluation: &Evaluation) -> Result<()> {
    let json = out.join(JSON_FILE);
    write_whole(&json, true, |file| {
        serde_json::to_writer_pretty(&mut *file, evaluation)
            .map_err(|error| Error::io(&json)(error.into()))
    })?;
    let markdown = out.join(MARKDOWN_FILE);
    write_whole(&markdown, true, |file| {
        let text = table::markdown(evaluation);
        file.write_all(text.as_bytes())
            .map_err(Error::io(&markdown))
    })
}

/// What is known before the first image; images that are done and no longer in the dataset are left out.
fn results(datasets: &[Dataset], done: &Done) -> Vec<DatasetResult> {
    let datasets = datasets.iter().enumerate().map(|(place, dataset)| {
        let names = dataset.pairs.iter().map(|pair| (place, pair.name.clone()));
        DatasetResult {
            name: dataset.name.clone(),
            folder: dataset.folder.display().to_string(),
            protocol: dataset.protocol,
            blurred: None,
            restored: None,
            count: 0,
            images: names.filter_map(|key| done.get(&key).cloned()).collect(),
            failures: Vec::new(),
        }
    });
    datasets.collect()
}

/// Where restored images are kept.
pub struct PictureFolder {
    path: PathBuf,
    /// Whether all of them are.
    all: bool,
}

impl PictureFolder {
    /// Of the evaluation in `out`; `all` as its plan says in `save_images`.
    pub fn new(out: &Path, all: bool) -> Self {
        let path = out.join(if all { "images" } else { "pictures" });
        Self { path, all }
    }

    /// An image's file.
    pub fn file(&self, dataset: &Dataset, image: &str) -> PathBuf {
        self.path.join(dataset.slug()).join(format!("{image}.png"))
    }

    /// An image as it was restored, if it is kept.
    ///
    /// # Errors
    /// [`Error::Image`] if the file is damaged.
    pub fn read(&self, dataset: &Dataset, image: &str) -> Result<Option<RgbImage>> {
        let file = self.file(dataset, image);
        match file.is_file() {
            true => Photograph::open(&file, &Default::default()).map(|photo| Some(photo.to_rgb8())),
            false => Ok(None),
        }
    }
}

/// A pair at work.
#[derive(Debug, Clone, Copy)]
struct PairJob {
    dataset: usize,
    pair: usize,
}

/// An image that was restored and is to be measured.
struct Restored {
    /// Of the result's colours.
    doubt: Option<String>,
    pair: Arc<DecodedPair>,
    image: RgbImage,
    seconds: f64,
}

/// What is done, and where it is noted.
struct Notes<'a> {
    datasets: &'a [Dataset],
    folder: PictureFolder,
    most: usize,
    journal: Journal,
    results: Vec<DatasetResult>,
    progress: Progress<'a>,
}

impl Notes<'_> {
    /// Does the images that are not done, until `stop` is set.
    fn run<B: Backend>(&mut self, deblurrer: &Deblurrer<B>, seed: u64, stop: &Stop) -> Result<()> {
        let datasets = self.datasets;
        let readers: Vec<_> = datasets
            .iter()
            .map(|dataset| PairReader::new(dataset.pairs.clone(), 0))
            .collect();
        let jobs = self.jobs();
        let failed = AtomicBool::new(false);
        let goes_on = |_: &PairJob| !stop.is_asked() && !failed.load(Ordering::Relaxed);
        let mut outcome = Ok(());
        pipeline(
            jobs.into_iter().take_while(goes_on),
            |job| (job, readers[job.dataset].read(job.pair)),
            |(job, pair)| (job, pair.and_then(|pair| restore(deblurrer, pair, seed))),
            |(job, restored)| {
                // What cannot be noted is not done.
                if outcome.is_ok() {
                    outcome = self.note(job, restored);
                    failed.store(outcome.is_err(), Ordering::Relaxed);
                }
            },
        );
        outcome
    }

    /// Images that could not be read when the datasets were opened have failed.
    fn tell_of_unreadable(&mut self) {
        for (dataset, result) in self.datasets.iter().zip(&mut self.results) {
            for image in &dataset.unreadable {
                let failure = Failure {
                    name: image.name.clone(),
                    reason: image.to_string(),
                };
                (self.progress)(&dataset.name, Err(&failure));
                result.failures.push(failure);
            }
        }
    }

    fn jobs(&self) -> Vec<PairJob> {
        let mut jobs = Vec::new();
        for (dataset, (found, result)) in self.datasets.iter().zip(&self.results).enumerate() {
            let done: std::collections::HashSet<_> = result
                .images
                .iter()
                .map(|image| &image.restored.name)
                .collect();
            let pairs = found.pairs.iter().enumerate();
            let left = pairs.filter(|(_, pair)| !done.contains(&pair.name));
            jobs.extend(left.map(|(pair, _)| PairJob { dataset, pair }));
        }
        jobs
    }

    fn note(&mut self, job: PairJob, restored: Result<Restored>) -> Result<()> {
        let dataset = &self.datasets[job.dataset];
        let pair = &dataset.pairs[job.pair];
        let measured = restored.and_then(|restored| {
            let image = measure(dataset, &pair.name, &restored)?;
            Ok((restored.image, image))
        });
        let (picture, image) = match measured {
            Ok(measured) => measured,
            Err(error) => {
                let failure = Failure {
                    name: pair.name.clone(),
                    reason: error.to_string(),
                };
                (self.progress)(&dataset.name, Err(&failure));
                self.results[job.dataset].failures.push(failure);
                return Ok(());
            }
        };
        self.results[job.dataset].images.push(image.clone());
        // The picture first: what the journal has is not done again.
        self.keep_newest(job.dataset, &picture)?;
        self.journal.add(job.dataset, &image)?;
        (self.progress)(&dataset.name, Ok(&image));
        Ok(())
    }

    /// Writes the dataset's newest restored image if it is wanted, and removes the one in whose place it is in the report.
    fn keep_newest(&self, place: usize, picture: &RgbImage) -> Result<()> {
        let dataset = &self.datasets[place];
        let images = &self.results[place].images;
        let Some((newest, earlier)) = images.split_last() else {
            return Ok(());
        };
        if !self.folder.all {
            let chosen = extremes(images, self.most);
            if !chosen.contains(&earlier.len()) {
                return Ok(());
            }
            let before = extremes(earlier, self.most);
            for gone in before.into_iter().filter(|index| !chosen.contains(index)) {
                // A picture too many does no harm.
                let _ = fs::remove_file(self.folder.file(dataset, &images[gone].restored.name));
            }
        }
        let options = EncodeOptions {
            force: true,
            ..EncodeOptions::default()
        };
        let file = self.folder.file(dataset, &newest.restored.name);
        save_rgb8(picture, &file, &options)
    }

    /// The results, in order of the names, with their means.
    fn finish(self) -> Vec<DatasetResult> {
        let mut results = self.results;
        for result in &mut results {
            result
                .images
                .sort_by(|a, b| a.restored.name.cmp(&b.restored.name));
            result.failures.sort_by(|a, b| a.name.cmp(&b.name));
            result.count = result.images.len();
            result.blurred = Scores::mean(result.images.iter().map(|image| image.blurred));
            result.restored = Scores::mean(result.images.iter().map(|image| image.restored.scores));
        }
        results
    }
}

fn restore<B: Backend>(
    deblurrer: &Deblurrer<B>,
    pair: Arc<DecodedPair>,
    seed: u64,
) -> Result<Restored> {
    let start = Instant::now();
    let options = DeblurOptions {
        seed,
        ..DeblurOptions::default()
    };
    let restored = deblurrer.deblur_with(&Photograph::from_rgb8(&pair.blur), &options)?;
    Ok(Restored {
        image: restored.photograph.to_rgb8(),
        doubt: restored.doubt(deblurrer.attention()),
        seconds: start.elapsed().as_secs_f64(),
        pair,
    })
}

fn measure(dataset: &Dataset, name: &str, restored: &Restored) -> Result<ImageResult> {
    let sharp = &restored.pair.sharp;
    let before = dataset.protocol.measure(&restored.pair.blur, sharp)?;
    let after = dataset.protocol.measure(&restored.image, sharp)?;
    let of_blurred = before
        .warnings()
        .into_iter()
        .map(|warning| format!("blurred input: {warning}"));
    Ok(ImageResult {
        restored: ImageScores {
            warnings: after
                .warnings()
                .into_iter()
                .chain(of_blurred)
                .chain(restored.doubt.clone())
                .chain(restored.pair.warnings.iter().cloned())
                .collect(),
            ..ImageScores::new(name, after.scores)
        },
        width: sharp.width() as usize,
        height: sharp.height() as usize,
        seconds: restored.seconds,
        blurred: before.scores,
    })
}
