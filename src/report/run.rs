//! What a training run has left in its folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::numbers::thousands;
use crate::training::Stage;
use crate::training::calls::Call;
use crate::training::checkpoint::exhausted;
use crate::training::log::{Record, SetRecord, TrainRecord, ValidationRecord};
use crate::training::run::{CONFIG_FILE, LOG, PICTURES};

/// So many validation images of a stage are shown, of its last validation.
const MOST_PICTURES: usize = 4;

/// What a run's folder says of it.
#[derive(Debug, Clone)]
pub struct Run {
    /// The run's folder.
    pub folder: PathBuf,
    /// The commands that made the run.
    pub calls: Vec<Call>,
    /// The configuration as TOML.
    pub config: String,
    /// Stages one and two, as far as they have begun.
    pub stages: Vec<StageLog>,
}

/// What the log has of a stage.
#[derive(Debug, Clone)]
pub struct StageLog {
    /// Which stage.
    pub stage: Stage,
    /// Means over steps, in order.
    pub training: Vec<TrainRecord>,
    /// Validations, in order.
    pub validations: Vec<ValidationRecord>,
    /// Picture files of the last validation that has some.
    pub pictures: Vec<PathBuf>,
    /// Whether early stopping ended it.
    pub ended_early: bool,
}

impl Run {
    /// Reads the run in `folder`. What is not there yet is empty, and what is no record in its log is left out.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            match path.is_file() {
                true => fs::read(&path).map_err(Error::io(&path)),
                false => Ok(Vec::new()),
            }
        };
        let (log, config) = (text(LOG)?, text(CONFIG_FILE)?);
        let records = log
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok());
        let mut stages = Stage::ALL.map(|stage| StageLog {
            stage,
            training: Vec::new(),
            validations: Vec::new(),
            pictures: Vec::new(),
            ended_early: false,
        });
        for record in records {
            let number = match &record {
                Record::Train(record) => record.stage,
                Record::Validation(record) => record.stage,
            };
            let stage = stages.iter_mut().find(|it| it.stage.number() == number);
            match (stage, record) {
                (Some(stage), Record::Train(record)) => stage.training.push(record),
                (Some(stage), Record::Validation(record)) => stage.validations.push(record),
                (None, _) => {}
            }
        }
        let mut stages: Vec<StageLog> = stages.into();
        stages.retain(|stage| !stage.training.is_empty() || !stage.validations.is_empty());
        let config = String::from_utf8_lossy(&config).into_owned();
        let patience =
            Config::parse(&config, CONFIG_FILE).map_or(0, |config| config.training.early_stopping);
        for stage in &mut stages {
            stage.pictures = latest_pictures(folder, stage.stage);
            let scores = stage.validations.iter().map(|record| Some(record.psnr));
            stage.ended_early = exhausted(scores, patience).is_some();
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            calls: Call::all(folder)?,
            config,
            stages,
        })
    }
}

/// Files are called `<iteration>-<name>.png`.
fn latest_pictures(folder: &Path, stage: Stage) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join(stage.folder()).join(PICTURES)) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut numbered: Vec<(usize, PathBuf)> = paths
        .filter_map(|path| Some((iteration_and_name(&path)?.0, path)))
        .collect();
    numbered.sort();
    let last = numbered.last().map_or(0, |picture| picture.0);
    numbered.retain(|picture| picture.0 == last);
    numbered.truncate(MOST_PICTURES);
    numbered.into_iter().map(|picture| picture.1).collect()
}

pub(super) fn iteration_and_name(path: &Path) -> Option<(usize, String)> {
    let name = path.file_name()?.to_string_lossy();
    let (iteration, name) = name.strip_suffix(".png")?.split_once('-')?;
    Some((iteration.parse().ok()?, name.to_string()))
}

impl StageLog {
    /// Optimiser steps in all.
    pub(super) fn iterations(&self) -> usize {
        self.training.last().map_or(0, |record| record.iterations)
    }

    pub(super) fn progress(&self) -> String {
        let done = self.training.last().map_or(0, |record| record.iteration);
        let early = match self.ended_early && done < self.iterations() {
            true => ", ended early",
            false => "",
        };
        format!(
            "{} of {} iterations{early}",
            thousands(done as u64),
            thousands(self.iterations() as u64)
        )
    }

    pub(super) fn best(&self) -> Option<&ValidationRecord> {
        let finite = self
            .validations
            .iter()
            .filter(|record| !record.psnr.is_nan());
        finite.max_by(|a, b| a.psnr.total_cmp(&b.psnr))
    }

    /// A number of the training records by iteration.
    pub(super) fn trained(&self, number: impl Fn(&TrainRecord) -> Option<f64>) -> Vec<(f64, f64)> {
        let numbered = |record: &TrainRecord| Some((record.iteration as f64, number(record)?));
        self.training.iter().filter_map(numbered).collect()
    }

    /// A number of the validations by iteration.
    pub(super) fn validated(
        &self,
        number: impl Fn(&ValidationRecord) -> Option<f64>,
    ) -> Vec<(f64, f64)> {
        let numbered = |record: &ValidationRecord| Some((record.iteration as f64, number(record)?));
        self.validations.iter().filter_map(numbered).collect()
    }

    /// The names of the validation sets, in order; none where there is only one.
    pub(super) fn sets(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for set in self.validations.iter().flat_map(|record| &record.sets) {
            if !names.contains(&set.name.as_str()) {
                names.push(set.name.as_str());
            }
        }
        match names.as_slice() {
            [_] => Vec::new(),
            _ => names,
        }
    }

    /// A number of one validation set by iteration.
    pub(super) fn validated_set(
        &self,
        name: &str,
        number: impl Fn(&SetRecord) -> f64,
    ) -> Vec<(f64, f64)> {
        self.validated(|record| record.sets.iter().find(|set| set.name == name).map(&number))
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::training::log::Sink;
    use crate::training::log::{Picture, Pictures};

    #[test]
    fn an_empty_folder_is_a_run_that_has_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::read(folder.path()).unwrap();
        assert!(run.stages.is_empty() && run.calls.is_empty() && run.config.is_empty());
    }

    #[test]
    fn records_are_by_stage_and_what_is_none_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let train = |stage: u8, iteration: usize| {
            format!(
                r#"{{"kind":"train","stage":{stage},"iteration":{iteration},"iterations":90,"pixel_loss":null,"learning_rate":0.1,"images_per_second":2.0,"seconds_left":1.0}}"#
            )
        };
        let validation = |psnr: &str| {
            format!(
                r#"{{"kind":"validation","stage":2,"iteration":20,"psnr":{psnr},"ssim":0.8,"images":3}}"#
            )
        };
        let lines = [
            train(1, 90),
            "no record".into(),
            train(2, 10),
            train(7, 10),
            validation("null"),
            validation("31.5"),
            train(2, 30)[..40].into(),
        ];
        fs::write(folder.path().join(LOG), lines.join("\n")).unwrap();
        let run = Run::read(folder.path()).unwrap();
        let [one, two] = run.stages.as_slice() else {
            panic!("{run:?}");
        };
        assert_eq!((one.training.len(), two.training.len()), (1, 1));
        assert!(one.training[0].pixel_loss.unwrap().is_nan());
        assert_eq!(two.progress(), "10 of 90 iterations");
        assert_eq!(two.best().unwrap().psnr, 31.5);
    }

    #[test]
    fn a_stage_that_early_stopping_ended_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let train = r#"{"kind":"train","stage":1,"iteration":30,"iterations":90,"learning_rate":0.1,"images_per_second":2.0,"seconds_left":1.0}"#;
        let validation = |iteration: usize, psnr: f64| {
            format!(
                r#"{{"kind":"validation","stage":1,"iteration":{iteration},"psnr":{psnr},"ssim":0.8,"images":3}}"#
            )
        };
        let lines = [(10, 31.0), (20, 30.0), (30, 30.5)].map(|(at, psnr)| validation(at, psnr));
        let log = [train.to_string(), lines.join("\n")].join("\n");
        fs::write(folder.path().join(LOG), log).unwrap();
        for (patience, expected) in [
            (0, "30 of 90 iterations"),
            (2, "30 of 90 iterations, ended early"),
            (3, "30 of 90 iterations"),
        ] {
            let config = format!("[training]\nearly_stopping = {patience}");
            fs::write(folder.path().join(CONFIG_FILE), config).unwrap();
            let run = Run::read(folder.path()).unwrap();
            assert_eq!(run.stages[0].progress(), expected);
        }
    }

    #[test]
    fn pictures_are_those_of_the_last_validation() {
        let folder = tempfile::tempdir().unwrap();
        let record = |iteration| {
            let names = ["f", "e", "d", "c", "b/1-2", "a"];
            let pictures = names.map(|name| Picture {
                name: name.into(),
                image: RgbImage::new(11, 1),
            });
            Record::Validation(ValidationRecord {
                stage: 1,
                iteration,
                psnr: 30.0,
                ssim: 0.9,
                gain: None,
                images: 6,
                sets: Vec::new(),
                pictures: pictures.into(),
            })
        };
        let mut sink = Pictures::new(folder.path().join("stage-one/pictures"));
        // The longer number would come first by name.
        for iteration in [999_999, 1_000_000, 500] {
            sink.write(&record(iteration)).unwrap();
        }
        let found = latest_pictures(folder.path(), Stage::One);
        let found: Vec<_> = found
            .iter()
            .filter_map(|path| iteration_and_name(path))
            .collect();
        let expected = ["a", "b-1-2", "c", "d"].map(|name| (1_000_000, name.to_string()));
        assert_eq!(found, expected);
        assert!(latest_pictures(folder.path(), Stage::Two).is_empty());
    }
}
