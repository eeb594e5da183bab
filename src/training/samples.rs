//! What a stage is fed: patches to train on, and images to validate on.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;

use super::devices::Devices;
use super::learner::StageRun;
use super::options::Display;
use crate::data::dataset::{DEFAULT_CACHE_BYTES, Notes, PairReader, SampleStream, StreamConfig};
use crate::data::loader::{NoiseShape, PatchLoader, PatchLoaderSettings, ValidationLoader};
use crate::data::pairs::Pair;
use crate::data::random::{Purpose, seed_at};
use crate::diffusion::Sampler;
use crate::error::Result;

impl StageRun<'_> {
    /// The training's patches after `done` iterations.
    pub fn patches<B: AutodiffBackend>(
        &self,
        done: usize,
        validate_first: bool,
        devices: &Devices<B>,
    ) -> Result<PatchLoader<B>> {
        let (run, noise) = (self.run, self.noise());
        let stream = SampleStream::new(
            self.reader(run.train.clone(), DEFAULT_CACHE_BYTES),
            run.sources.clone(),
            StreamConfig {
                seed: self.seed(),
                iterations: self.config.iterations,
                patches: self.config.patches.clone(),
                augment: run.config.data.augment,
                noise_len: noise.values(),
                timesteps: run.config.diffusion.timesteps,
            },
        )?;
        let settings = PatchLoaderSettings {
            every: self.training.validation.every,
            workers: run.config.data.workers,
            noise,
            stop: run.options.stop.clone(),
        };
        let device = devices.main();
        Ok(PatchLoader::new(
            Arc::new(stream),
            settings,
            done,
            validate_first,
            device,
        ))
    }

    pub fn validation_images<B: AutodiffBackend>(
        &self,
        devices: &Devices<B>,
    ) -> ValidationLoader<B::InnerBackend> {
        let sets = &self.run.validation;
        let pairs = sets.iter().flat_map(|set| set.pairs.clone()).collect();
        let lengths: Vec<usize> = sets.iter().map(|set| set.pairs.len()).collect();
        let settings = &self.training.validation;
        ValidationLoader::new(
            self.reader(pairs, DEFAULT_CACHE_BYTES / 4),
            &lengths,
            [settings.images, settings.pictures],
            self.seed(),
            self.noise(),
            self.run.options.stop.clone(),
            devices.main(),
        )
    }

    fn reader(&self, pairs: Vec<Pair>, cache_bytes: usize) -> PairReader {
        let notes = match self.run.options.display {
            Display::Lines => Notes::new(|note| eprintln!("warning: {note}")),
            // The dashboard has the whole terminal.
            _ => Notes::default(),
        };
        PairReader::new(pairs, cache_bytes)
            .blurring(self.run.config.data.blur.clone())
            .telling(notes)
    }

    fn seed(&self) -> u64 {
        let number = self.stage.number().into();
        seed_at(self.training.seed, Purpose::Stage, number, 0)
    }

    fn noise(&self) -> NoiseShape {
        let config = self.run.config;
        let draws = 1 + Sampler::new(&config.diffusion).noise_steps();
        NoiseShape {
            draws,
            tokens: config.model.prior_tokens(),
            channels: config.model.prior_channels(),
        }
    }
}
