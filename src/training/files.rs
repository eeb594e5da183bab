//! Temporary: the model's record until the weight files land.
use std::path::Path;

use burn::module::Module;
use burn::record::Recorder;

use super::checkpoint::WholeFileRecorder;
use super::run::Stages;
use crate::backend::Backend;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::HiDiff;

pub(super) enum Content {
    Training,
    Inference,
}

pub(super) fn save<B: Backend>(model: &HiDiff<B>, _: &Config, path: &Path, _: Content) -> Result<()> {
    let record = model.clone().into_record();
    Recorder::<B>::record(&WholeFileRecorder::default(), record, path.to_path_buf())
        .map_err(|e| Error::Training(e.to_string()))?;
    std::fs::rename(path.with_extension("mpk"), path).map_err(Error::io(path))
}

pub(super) fn load<B: Backend>(model: HiDiff<B>, path: &Path, _: Stages) -> Result<HiDiff<B>> {
    let device = model.devices()[0].clone();
    std::fs::copy(path, path.with_extension("mpk")).map_err(Error::io(path))?;
    let record = Recorder::<B>::load(&WholeFileRecorder::default(), path.to_path_buf(), &device)
        .map_err(|e| Error::Training(e.to_string()))?;
    Ok(model.load_record(record))
}
