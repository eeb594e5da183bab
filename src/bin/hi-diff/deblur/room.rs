//! Whether a photograph fits into the memory that is free, asked before it is read and before it is computed.

use burn::tensor::Device;
use burn::tensor::backend::Backend;
use hi_diff::inference::files::Job;
use hi_diff::inference::{DeblurOptions, Fit, Tiling, fit, need};
use hi_diff::picture::Photograph;
use hi_diff::{Config, Error, memory};

use super::settings::{Settings, is_stream};

/// Bytes a pixel of a photograph that is read: decoded, at most 8, as values, 12, and its file.
const READING: u64 = 24;

/// Bytes a pixel of a result that is written, beside its values: its samples and what is packed of them.
const WRITING: u64 = 12;

/// With `--compare`, also those of the photograph, and of both side by side.
const COMPARING: u64 = 48;

/// What is asked of the memory, for a model on a processor. A GPU's memory is not asked.
pub struct Room<'a> {
    config: Option<&'a Config>,
    /// Before the first photograph, in bytes.
    free_at_first: Option<u64>,
    settings: &'a Settings,
}

/// How a photograph is done.
pub struct Way {
    pub options: DeblurOptions,
    /// Why not as asked, for the user.
    pub warning: Option<String>,
}

impl<'a> Room<'a> {
    pub fn new<B: Backend>(config: &'a Config, settings: &'a Settings, device: &Device<B>) -> Self {
        let backend = B::name(device);
        let on_processor = ["flex", "ndarray"]
            .iter()
            .any(|name| backend.contains(name));
        if on_processor {
            // Threads reserve address space as they begin. Now they have, and it counts as taken.
            rayon::broadcast(|_| drop(std::hint::black_box(Vec::<u8>::with_capacity(1))));
        }
        Self {
            config: on_processor.then_some(config),
            free_at_first: memory::free_bytes().filter(|_| on_processor),
            settings,
        }
    }

    /// That the job's photograph can be read, if nothing else is in memory: while another is computed, that leaves room
    /// for it.
    ///
    /// # Errors
    /// [`Error::Image`] with the bytes that it needs and those that are free.
    pub fn for_reading(&self, job: &Job) -> hi_diff::Result<()> {
        let Some(free) = self.free_at_first else {
            return Ok(());
        };
        let need = READING * pixels(job);
        match need <= free {
            true => Ok(()),
            false => Err(too_large(job, "to be read", need, free, None)),
        }
    }

    /// How the job's photograph is done, while `next` is read and a result of `before` pixels is written.
    ///
    /// # Errors
    /// [`Error::Image`] if it does not fit as `--tile` says, or in no way.
    pub fn way(
        &self,
        job: &Job,
        blurred: &Photograph,
        next: Option<&Job>,
        before: u64,
    ) -> hi_diff::Result<Way> {
        let options = self.settings.deblur;
        let as_asked = Way {
            options,
            warning: None,
        };
        let (height, width) = (blurred.height(), blurred.width());
        let part = self.settings.blend.part(width, height)?;
        let (Some(config), Some(free), Some(_)) = (self.config, memory::free_bytes(), part) else {
            return Ok(as_asked);
        };
        let writing = WRITING + if self.settings.compare { COMPARING } else { 0 };
        let others = READING * next.map_or(0, pixels) + writing * before;
        // The photograph is in memory by now.
        let there = 12 * (height * width) as u64;
        let left = (free + there).saturating_sub(others);
        let need = need(config, height, width, part, &options);
        match fit(config, height, width, part, &options, left) {
            Fit::AsAsked => Ok(as_asked),
            Fit::Tiles(tiling) if options.tiling.is_none() => Ok(Way {
                options: DeblurOptions {
                    tiling: Some(tiling),
                    ..options
                },
                warning: Some(instead(need, left, tiling)),
            }),
            Fit::Tiles(tiling) => Err(too_large(job, "in these tiles", need, left, Some(tiling))),
            Fit::Nothing(least) => {
                let how = match options.tiling {
                    None => "even in small tiles",
                    Some(_) => "in tiles",
                };
                Err(too_large(job, how, least, left, None))
            }
        }
    }

    /// That a frame can be done as asked: all frames of a video are done in one way.
    ///
    /// # Errors
    /// [`Error::Image`] with the tiles that fit.
    pub fn for_frame(&self, job: &Job, frame: &Photograph) -> hi_diff::Result<()> {
        match self.way(job, frame, None, 0)? {
            Way { warning: None, .. } => Ok(()),
            Way { options, .. } => {
                let tile = options.tiling.map_or(0, Tiling::size);
                let reason = format!("its frames do not fit into memory: give `--tile {tile}`");
                Err(image(job, reason))
            }
        }
    }
}

/// Of the job's photograph, by its header; 0 where that cannot be read, which the reading will say.
fn pixels(job: &Job) -> u64 {
    if is_stream(&job.input) {
        return 0;
    }
    job.size()
        .map_or(0, |(width, height)| u64::from(width) * u64::from(height))
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

fn instead(need: u64, free: u64, tiling: Tiling) -> String {
    format!(
        "needs {} of memory, and {} are free: done in tiles of {} pixels, each restored by itself, so that the result is \
         not that of the whole photograph; see docs/tiling.md",
        gigabytes(need),
        gigabytes(free),
        tiling.size()
    )
}

fn too_large(job: &Job, how: &str, need: u64, free: u64, fitting: Option<Tiling>) -> Error {
    let mut reason = format!(
        "needs {} of memory {how}, and {} are free",
        gigabytes(need),
        gigabytes(free)
    );
    if let Some(tiling) = fitting {
        reason.push_str(&format!(": `--tile {}` fits", tiling.size()));
    }
    image(job, reason)
}

fn image(job: &Job, reason: String) -> Error {
    Error::Image {
        path: job.input.clone(),
        reason,
    }
}
