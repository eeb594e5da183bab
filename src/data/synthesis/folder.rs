//! Pairs from whole folders of photographs.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use walkdir::WalkDir;

use super::BlurModel;
use super::shrink::shrink;
use crate::error::{Error, Result};
use crate::picture::{EncodeOptions, Format, PassedOver, open_rgb8, save_rgb8};

/// What [`synthesize_folder`] makes of each photograph.
#[derive(Clone, Debug)]
pub struct SynthesisOptions {
    /// Together with a photograph's relative path and the index of the pair, all that its blur depends on.
    pub seed: u64,
    /// Pairs made of each photograph, at least 1.
    pub count: usize,
    /// Shrinks photographs whose longer side has more pixels, which also averages JPEG artefacts and noise away.
    pub max_size: Option<u32>,
    /// Replaces outputs that exist.
    pub force: bool,
}

impl Default for SynthesisOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            count: 1,
            max_size: None,
            force: false,
        }
    }
}

/// What [`synthesize_folder`] did.
#[derive(Debug, Default)]
pub struct SynthesisReport {
    /// Pairs written.
    pub pairs: usize,
    /// What was wrong with each photograph of which not all pairs could be made, in order of the photographs' names.
    pub failures: Vec<Error>,
    /// What a user should know of the photographs, each with its name.
    pub warnings: Vec<String>,
    /// The files that are no images by their extension.
    pub passed_over: PassedOver,
}

/// Writes `out/input/NAME.png` (blurred) and `out/target/NAME.png` (sharp), both 8-bit RGB, for each photograph below `sharp`:
/// each file whose extension [`is_read`](Format::is_read), or `sharp` itself.
///
/// `NAME` is the photograph's path below `sharp` without its extension; with several pairs a photograph, `_0`, `_1`, …
/// follow. Hidden files and folders are left out. The photographs are worked on in parallel; `progress` hears the
/// number of pairs dealt with and their total, in no particular order.
///
/// A photograph that cannot be read does not stop the others: the report lists it.
///
/// # Errors
///
/// Before anything is written: [`Error::Config`] for a model or option that is not valid, [`Error::Io`] when `sharp`
/// cannot be listed, [`Error::Data`] when it holds no photographs or two that would share a name, [`Error::Refused`] when
/// an output exists and `force` is not set, or is one of the photographs.
pub fn synthesize_folder(
    sharp: &Path,
    out: &Path,
    model: &BlurModel,
    options: &SynthesisOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<SynthesisReport> {
    model.validate()?;
    options.validate()?;
    let (photographs, passed_over) = find(sharp, out)?;
    let tasks = name_outputs(sharp, &photographs)?;
    check_outputs(&photographs, out, &tasks, options)?;

    let total = tasks.len() * options.count;
    let done = AtomicUsize::new(0);
    let outcomes: Vec<_> = tasks
        .par_iter()
        .map(|(name, photograph)| {
            let mut advance =
                |pairs| progress(done.fetch_add(pairs, Ordering::Relaxed) + pairs, total);
            let made = make_pairs(photograph, name, out, model, options, &mut advance);
            if made.pairs < options.count {
                advance(options.count - made.pairs);
            }
            made
        })
        .collect();
    let mut report = SynthesisReport {
        passed_over,
        ..SynthesisReport::default()
    };
    for made in outcomes {
        report.pairs += made.pairs;
        report.failures.extend(made.failures);
        report.warnings.extend(made.warnings);
    }
    Ok(report)
}

impl SynthesisOptions {
    fn validate(&self) -> Result<()> {
        let zero = |key: &str| Error::Config {
            origin: "synthesis".into(),
            key: key.into(),
            reason: "found 0, expected at least 1".into(),
        };
        if self.count == 0 {
            return Err(zero("count"));
        }
        if self.max_size == Some(0) {
            return Err(zero("max_size"));
        }
        Ok(())
    }
}

/// All photographs below `sharp` (or `sharp` itself) and what is beside them, but none below `out`, where an earlier run
/// may have left its pairs.
fn find(sharp: &Path, out: &Path) -> Result<(Vec<PathBuf>, PassedOver)> {
    let outputs = [out.join("input"), out.join("target")].map(|folder| folder.canonicalize().ok());
    let is_output = |path: &Path| {
        outputs
            .iter()
            .flatten()
            .any(|o| path.canonicalize().is_ok_and(|p| p == *o))
    };
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.');
    let walk = WalkDir::new(sharp)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() == 0
                || !(hidden(entry.file_name())
                    || entry.file_type().is_dir() && is_output(entry.path()))
        });
    let mut photographs = Vec::new();
    let mut passed_over = PassedOver::new(sharp);
    for entry in walk {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(sharp).to_path_buf();
            Error::Io {
                path,
                source: error.into(),
            }
        })?;
        if !entry.file_type().is_file() {
            continue;
        }
        if entry.depth() == 0 || Format::is_read(entry.path()) {
            photographs.push(entry.into_path());
        } else {
            passed_over.add(entry.path());
        }
    }
    if photographs.is_empty() {
        return Err(Error::Data {
            path: sharp.into(),
            reason: passed_over.no_images(),
        });
    }
    Ok((photographs, passed_over))
}

/// Photographs by the name that their pairs get: the relative path without extension, separated by `/` on every
/// platform, since the random numbers depend on it.
fn name_outputs<'a>(
    sharp: &Path,
    photographs: &'a [PathBuf],
) -> Result<BTreeMap<String, &'a Path>> {
    let mut tasks = BTreeMap::new();
    for photograph in photographs {
        let mut relative = photograph.strip_prefix(sharp).unwrap_or(photograph);
        if relative.as_os_str().is_empty() {
            relative = photograph.file_name().map_or(relative, Path::new);
        }
        let stem = relative.with_extension("");
        let parts: Vec<_> = stem.iter().map(|part| part.to_string_lossy()).collect();
        if let Some(other) = tasks.insert(parts.join("/"), photograph.as_path()) {
            let reason = format!(
                "its pairs would have the names of those of {}: rename one",
                other.display()
            );
            return Err(Error::Data {
                path: photograph.clone(),
                reason,
            });
        }
    }
    Ok(tasks)
}

fn pair_paths(out: &Path, name: &str, index: usize, count: usize) -> [PathBuf; 2] {
    let file = if count > 1 {
        format!("{name}_{index}.png")
    } else {
        format!("{name}.png")
    };
    ["input", "target"].map(|role| out.join(role).join(&file))
}

fn check_outputs(
    photographs: &[PathBuf],
    out: &Path,
    tasks: &BTreeMap<String, &Path>,
    options: &SynthesisOptions,
) -> Result<()> {
    let sources: HashSet<PathBuf> = photographs
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    for name in tasks.keys() {
        for index in 0..options.count {
            for path in pair_paths(out, name, index, options.count) {
                if path.symlink_metadata().is_err() {
                    continue;
                }
                let reason = if path
                    .canonicalize()
                    .is_ok_and(|path| sources.contains(&path))
                {
                    "is one of the photographs: choose another output folder"
                } else if !options.force {
                    "exists already: choose another output folder, or force to replace it"
                } else {
                    continue;
                };
                return Err(Error::Refused {
                    path,
                    reason: reason.into(),
                });
            }
        }
    }
    Ok(())
}

/// The pairs made of one photograph, and what stopped them from being `options.count`.
fn make_pairs(
    photograph: &Path,
    name: &str,
    out: &Path,
    model: &BlurModel,
    options: &SynthesisOptions,
    advance: &mut dyn FnMut(usize),
) -> SynthesisReport {
    let mut report = SynthesisReport::default();
    let photograph = match open_rgb8(photograph) {
        Ok(read) => {
            report.warnings = read.warnings;
            shrink(read.pixels, options.max_size)
        }
        Err(error) => {
            report.failures.push(error);
            return report;
        }
    };
    let encode = EncodeOptions {
        force: options.force,
        ..EncodeOptions::default()
    };
    for index in 0..options.count {
        let pair = || -> Result<()> {
            let pair = model.pair(&photograph, pair_seed(options.seed, name, index))?;
            let [input, target] = pair_paths(out, name, index, options.count);
            save_rgb8(&pair.sharp, &target, &encode)?;
            save_rgb8(&pair.blur, &input, &encode)
        };
        if let Err(error) = pair() {
            report.failures.push(error);
            return report;
        }
        report.pairs += 1;
        advance(1);
    }
    report
}

/// FNV-1a over the seed, the name and the index, written out because the standard library's hashes may change.
fn pair_seed(seed: u64, name: &str, index: usize) -> u64 {
    let bytes = seed
        .to_le_bytes()
        .into_iter()
        .chain(name.bytes())
        .chain((index as u64).to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
