//! What an evaluation has done so far, in a file that survives its end at any moment.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Protocol;
use super::datasets::Dataset;
use super::results::ImageResult;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::inference::AttentionChoice;
use crate::model::Attention;
use crate::whole::write_whole;

/// What an evaluation is of, and how: the journal's first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationPlan {
    /// The command line that began it.
    pub command: String,
    /// The weights' path, or `bundled`.
    pub weights: String,
    /// [`StateDict::fingerprint`](crate::weights::StateDict::fingerprint) of the model.
    pub fingerprint: String,
    /// What computes.
    pub backend: String,
    /// Of the noise that the diffusion starts from.
    pub seed: u64,
    /// Over what MDTA's statistics were taken.
    #[serde(default = "global")]
    pub attention: String,
    /// Whether restored images are kept.
    pub save_images: bool,
    /// The model's.
    pub config: Config,
    /// In the order of the command line.
    pub datasets: Vec<PlannedDataset>,
}

/// The attention of plans from before there was a choice.
fn global() -> String {
    AttentionChoice::Always(Attention::Global).to_string()
}

/// A dataset of an [`EvaluationPlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDataset {
    /// As tables call it.
    pub name: String,
    /// How it is measured.
    pub protocol: Protocol,
    /// How many pairs it has.
    pub count: usize,
}

impl From<&Dataset> for PlannedDataset {
    fn from(dataset: &Dataset) -> Self {
        Self {
            name: dataset.name.clone(),
            protocol: dataset.protocol,
            count: dataset.images(),
        }
    }
}

impl EvaluationPlan {
    /// What keeps images done under this plan from standing beside those done under `now`. Command, backend and the weights'
    /// path may change.
    fn difference(&self, now: &Self) -> Option<String> {
        let text = |datasets: &[PlannedDataset]| {
            let each = datasets.iter().map(|dataset| {
                format!(
                    "{} ({} pairs, {})",
                    dataset.name, dataset.count, dataset.protocol
                )
            });
            each.collect::<Vec<_>>().join(", ")
        };
        let images = |saved| if saved { "with" } else { "without" };
        if self.fingerprint != now.fingerprint || self.config.model != now.config.model {
            Some(format!("other weights, those of {}", self.weights))
        } else if self.config.diffusion != now.config.diffusion {
            Some("another diffusion".into())
        } else if self.seed != now.seed {
            Some(format!("seed {}, not {}", self.seed, now.seed))
        } else if self.attention != now.attention {
            Some(format!(
                "attention {}, not {}",
                self.attention, now.attention
            ))
        } else if self.datasets != now.datasets {
            Some(format!(
                "{}, not {}",
                text(&self.datasets),
                text(&now.datasets)
            ))
        } else if self.save_images != now.save_images {
            Some(format!("{} restored images", images(self.save_images)))
        } else {
            None
        }
    }
}

/// A line for an image that is done.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The dataset's place in the plan.
    dataset: usize,
    #[serde(flatten)]
    image: ImageResult,
}

/// The images that are done, by the dataset's place in the plan and the pair's name.
pub type Done = HashMap<(usize, String), ImageResult>;

/// The file, open to be added to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins a journal at `path` in place of any that is there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn begin(path: &Path, plan: &EvaluationPlan) -> Result<Self> {
        let head = json_line(path, plan)?;
        write_whole(path, true, |file| {
            file.write_all(&head).map_err(Error::io(path))
        })?;
        Self::append_to(path)
    }

    /// Goes on with the journal at `path`: what it has done, and the plan it was begun with. A last line that the end of a
    /// process cut short is dropped.
    ///
    /// # Errors
    /// [`Error::Evaluation`] if its plan is another than `now`, [`Error::Data`] if it is damaged, [`Error::Io`].
    pub fn resume(path: &Path, now: &EvaluationPlan) -> Result<(Self, EvaluationPlan, Done)> {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
        let plan: EvaluationPlan = parse(path, 1, lines.next().unwrap_or_default())?;
        if let Some(difference) = plan.difference(now) {
            return Err(Error::Evaluation(format!(
                "{} was begun with {difference}: it cannot go on like this; choose another folder, or begin anew by force",
                path.display()
            )));
        }
        let mut done = Done::new();
        for (index, line) in lines.enumerate() {
            let line: Line = parse(path, index + 2, line)?;
            done.insert((line.dataset, line.image.restored.name.clone()), line.image);
        }
        if whole < bytes.len() {
            write_whole(path, true, |file| {
                file.write_all(&bytes[..whole]).map_err(Error::io(path))
            })?;
        }
        Ok((Self::append_to(path)?, plan, done))
    }

    fn append_to(path: &Path) -> Result<Self> {
        let file = File::options().append(true).open(path);
        Ok(Self {
            path: path.to_path_buf(),
            file: file.map_err(Error::io(path))?,
        })
    }

    /// Adds an image that is done.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, dataset: usize, image: &ImageResult) -> Result<()> {
        let image = image.clone();
        let line = json_line(&self.path, &Line { dataset, image })?;
        self.file.write_all(&line).map_err(Error::io(&self.path))
    }
}

fn json_line(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|error| Error::io(path)(error.into()))?;
    line.push(b'\n');
    Ok(line)
}

fn parse<'de, T: Deserialize<'de>>(path: &Path, number: usize, line: &'de [u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|error| Error::Data {
        path: path.to_path_buf(),
        reason: format!("line {number} is damaged ({error}); begin anew by force"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::results::{ImageScores, Scores};
    use tempfile::TempDir;

    fn plan() -> EvaluationPlan {
        EvaluationPlan {
            command: "hi-diff eval".into(),
            weights: "bundled".into(),
            fingerprint: "0a1b2c3d".into(),
            backend: "flex".into(),
            attention: global(),
            seed: 0,
            save_images: false,
            config: Config::default(),
            datasets: vec![PlannedDataset {
                name: "HIDE".into(),
                protocol: Protocol::Gopro,
                count: 2,
            }],
        }
    }

    fn image(name: &str) -> ImageResult {
        let scores = |psnr| Scores { psnr, ssim: 0.9 };
        ImageResult {
            restored: ImageScores::new(name, scores(f64::INFINITY)),
            width: 3,
            height: 2,
            seconds: 0.5,
            blurred: scores(28.5),
        }
    }

    #[test]
    fn a_journal_cut_anywhere_has_the_images_before_the_cut() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("new/journal.jsonl");
        let mut journal = Journal::begin(&path, &plan()).unwrap();
        for name in ["a", "b/c"] {
            journal.add(0, &image(name)).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let ends: Vec<_> = (0..whole.len()).filter(|&at| whole[at] == b'\n').collect();
        assert_eq!(ends.len(), 3);
        for cut in ends[0] + 1..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, begun, done) = Journal::resume(&path, &plan()).unwrap();
            assert_eq!(begun, plan());
            let expected = ends[1..].iter().filter(|&&end| end < cut).count();
            assert_eq!(done.len(), expected, "cut after {cut} bytes");
            journal.add(0, &image("d")).unwrap();
            let (_, _, done) = Journal::resume(&path, &plan()).unwrap();
            assert_eq!(done[&(0, "d".into())], image("d"));
            assert_eq!(done.len(), expected + 1);
        }
    }

    #[test]
    fn other_weights_seeds_or_datasets_cannot_go_on() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("journal.jsonl");
        Journal::begin(&path, &plan()).unwrap();
        let refused = |change: &dyn Fn(&mut EvaluationPlan)| {
            let mut now = plan();
            change(&mut now);
            Journal::resume(&path, &now)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let error = refused(&|plan| plan.fingerprint = "1".into()).unwrap_err();
        assert!(error.contains("other weights, those of bundled"), "{error}");
        let error = refused(&|plan| plan.seed = 1).unwrap_err();
        assert!(error.contains("seed 0, not 1"), "{error}");
        let error = refused(&|plan| plan.datasets[0].count = 3).unwrap_err();
        assert!(
            error.contains("HIDE (2 pairs, gopro), not HIDE (3 pairs, gopro)"),
            "{error}"
        );
        assert_eq!(refused(&|plan| plan.backend = "cuda".into()), Ok(()));
        fs::write(&path, "{}\n").unwrap();
        let error = refused(&|_| {}).unwrap_err();
        assert!(error.contains("line 1 is damaged"), "{error}");
    }
}
