//! Image files by protocol: two folders matched by name, or two images, to one report.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::Protocol;
use super::results::{Failure, ImageScores, Scores};
use crate::data::layout::{self, data_error};
use crate::error::{Error, Result};
use crate::picture::{self, PassedOver, open_rgb8};

/// A restored image and its sharp target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePair {
    /// What the report calls it.
    pub name: String,
    /// The restored image.
    pub restored: PathBuf,
    /// The sharp target.
    pub target: PathBuf,
}

/// What [`score_files`] finds; displays as a table, and serializes to the JSON of `hi-diff metrics`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricsReport {
    /// What the figures mean.
    pub protocol: Protocol,
    /// Mean over `images` in dB; none without any. Infinite if one of them equals its target, which JSON has as `null`.
    pub psnr: Option<f64>,
    /// Mean over `images`; none without any.
    pub ssim: Option<f64>,
    /// Mean over `images` where it was asked for; none without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// How many images were measured.
    pub count: usize,
    /// In the order of the pairs.
    pub images: Vec<ImageScores>,
    /// The pairs that could not be measured, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// The pairs of two folders, or of two images.
///
/// # Errors
/// [`Error::Io`] if one of them does not exist, [`Error::Data`] for a folder and a file or for two images of different
/// sizes, and those of [`match_folders`].
pub fn match_paths(restored: &Path, target: &Path) -> Result<Vec<FilePair>> {
    let is_folder = |path: &Path| Ok(fs::metadata(path).map_err(Error::io(path))?.is_dir());
    match (is_folder(restored)?, is_folder(target)?) {
        (true, true) => match_folders(restored, target),
        (false, false) => {
            let name = restored.file_stem().unwrap_or(restored.as_os_str());
            let pair = FilePair {
                name: name.to_string_lossy().into_owned(),
                restored: restored.to_path_buf(),
                target: target.to_path_buf(),
            };
            match pair.sizes_differ() {
                Some(problem) => Err(data_error(restored, problem)),
                None => Ok(vec![pair]),
            }
        }
        (restored_is_folder, _) => {
            let other = if restored_is_folder { target } else { restored };
            let reason =
                "an image, but its counterpart is a folder; expected two images or two folders";
            Err(data_error(other, reason))
        }
    }
}

/// The images of two folders that have the same path there but for the extension, sorted by that name; folders inside
/// are searched too, and hidden files and folders left out. Never matched by order.
///
/// # Errors
/// [`Error::Data`] with every image that lacks a partner, shares its name, or differs from its partner in size (turned
/// upright, as far as the headers can be read), or if there are no images; [`Error::Io`] for an unreadable folder.
pub fn match_folders(restored: &Path, target: &Path) -> Result<Vec<FilePair>> {
    let listing = layout::match_folders(restored, target)?;
    let couples = listing.couples.into_iter();
    let pairs: Vec<_> = couples
        .map(|(name, couple)| FilePair {
            name,
            restored: couple.blur,
            target: couple.sharp,
        })
        .collect();
    let mut problems = listing.problems;
    let sizes: Vec<_> = pairs.par_iter().map(FilePair::sizes_differ).collect();
    for (pair, problem) in pairs.iter().zip(sizes) {
        problems.extend(problem.map(|problem| format!("{}: {problem}", pair.restored.display())));
    }
    if !problems.is_empty() {
        let problems = problems.join("\n  ");
        return Err(data_error(
            restored,
            format!("does not match {}:\n  {problems}", target.display()),
        ));
    }
    if pairs.is_empty() {
        let passed_over = PassedOver::of(restored, &listing.passed_over);
        return Err(data_error(restored, passed_over.no_images()));
    }
    Ok(pairs)
}

/// Measures each pair, as 8-bit RGB ([`Photograph::to_rgb8`](picture::Photograph::to_rgb8)). `progress` hears the number of pairs dealt with, in no
/// particular order.
///
/// Images of no more pairs than there are threads in the current rayon pool are in memory at once. The report does not
/// depend on the number of threads. A pair that cannot be read, aligned or otherwise measured does not stop the others.
pub fn score_files(
    pairs: &[FilePair],
    protocol: Protocol,
    progress: &(dyn Fn(usize) + Sync),
) -> MetricsReport {
    MetricsReport::new(protocol, pairs, measure_files(pairs, protocol, progress))
}

/// What the protocol finds of each pair.
pub(super) fn measure_files(
    pairs: &[FilePair],
    protocol: Protocol,
    progress: &(dyn Fn(usize) + Sync),
) -> Vec<Result<ImageScores>> {
    let done = AtomicUsize::new(0);
    let mut outcomes = Vec::with_capacity(pairs.len());
    // In groups, since a thread that waits for others begins another pair, if there is one.
    for group in pairs.chunks(rayon::current_num_threads()) {
        outcomes.par_extend(group.par_iter().map(|pair| {
            let outcome = pair.measure(protocol);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            outcome
        }));
    }
    outcomes
}

impl FilePair {
    fn measure(&self, protocol: Protocol) -> Result<ImageScores> {
        let (restored, target) = (open_rgb8(&self.restored)?, open_rgb8(&self.target)?);
        let measurement = protocol.measure(&restored.pixels, &target.pixels)?;
        let warnings = [measurement.warnings(), restored.warnings, target.warnings];
        Ok(ImageScores {
            warnings: warnings.concat(),
            ..ImageScores::new(&self.name, measurement.scores)
        })
    }

    /// How the sizes differ, if both can be read.
    fn sizes_differ(&self) -> Option<String> {
        let restored = picture::size(&self.restored).ok()?;
        let target = picture::size(&self.target).ok()?;
        let ((width, height), (target_width, target_height)) = (restored, target);
        (restored != target).then(|| {
            format!(
                "{width}×{height}, but its target {} is {target_width}×{target_height}",
                self.target.display()
            )
        })
    }
}

impl MetricsReport {
    /// Of what was found of each pair.
    pub(super) fn new(
        protocol: Protocol,
        pairs: &[FilePair],
        outcomes: impl IntoIterator<Item = Result<ImageScores>>,
    ) -> Self {
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for (pair, outcome) in pairs.iter().zip(outcomes) {
            match outcome {
                Ok(scores) => images.push(scores),
                Err(error) => failures.push(Failure {
                    name: pair.name.clone(),
                    reason: error.to_string(),
                }),
            }
        }
        let mean = Scores::mean(images.iter().map(|image| image.scores));
        let distances: Vec<f64> = images.iter().filter_map(|image| image.lpips).collect();
        let lpips = distances.iter().sum::<f64>() / distances.len() as f64;
        Self {
            protocol,
            lpips: (!distances.is_empty()).then_some(lpips),
            psnr: mean.map(|mean| mean.psnr),
            ssim: mean.map(|mean| mean.ssim),
            count: images.len(),
            images,
            failures,
        }
    }
}

impl fmt::Display for MetricsReport {
    /// The protocol, a line for each image, their mean, and the warnings. Failures are not in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "protocol {}: {}", self.protocol, self.protocol.figures())?;
        let mean = format!("mean of {}", self.count);
        let names = self.images.iter().map(|image| image.name.as_str());
        let lengths = names
            .chain(["image", &mean])
            .map(|name| name.chars().count());
        let width = lengths.max().unwrap_or_default();
        write!(f, "{:width$}  {:>9}  {:>6}", "image", "PSNR (dB)", "SSIM")?;
        if self.lpips.is_some() {
            write!(f, "  {:>6}", "LPIPS")?;
        }
        let mut row = |name: &str, psnr: f64, ssim: f64, lpips: Option<f64>| {
            write!(f, "\n{name:width$}  {psnr:9.2}  {ssim:6.4}")?;
            lpips.map_or(Ok(()), |lpips| write!(f, "  {lpips:6.4}"))
        };
        for image in &self.images {
            row(
                &image.name,
                image.scores.psnr,
                image.scores.ssim,
                image.lpips,
            )?;
        }
        if let Some((psnr, ssim)) = self.psnr.zip(self.ssim) {
            row(&mean, psnr, ssim, self.lpips)?;
        }
        for ImageScores { name, warnings, .. } in &self.images {
            for warning in warnings {
                write!(f, "\nwarning: {name}: {warning}")?;
            }
        }
        Ok(())
    }
}
