//! Steps and validations in, records out: every few iterations the means of the steps since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Picture, Record, SetRecord, Sink, TrainRecord, ValidationRecord};
use crate::config::StageConfig;
use crate::data::loader::ValidationScore;
use crate::data::schedule::PatchSchedule;
use crate::error::Error;

/// Where the error of a sink goes.
pub type OnFailure = Arc<dyn Fn(Error) + Send + Sync>;

/// A step on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Optimiser steps of the stage done with this one. With several devices, each reports its part of the step.
    pub iteration: usize,
    /// Images of the step on this device.
    pub images: usize,
    /// The pixel loss, if the stage has it.
    pub pixel: Option<f64>,
    /// The loss in the frequency domain before it is weighted, if the stage has it.
    pub frequency: Option<f64>,
    /// The difference of mean light before it is weighted, if the stage has it.
    pub light: Option<f64>,
    /// The loss of the diffusion, if the stage has it.
    pub diffusion: Option<f64>,
    /// The norm of the gradient over all parameters, if it was measured.
    pub gradient_norm: Option<f64>,
}

/// Makes [`Record`]s of a stage's steps and validations, and gives them to its sinks.
///
/// A sink that fails gets no more records. Its error goes to `on_failure`, the records to the other sinks.
pub struct Recorder {
    stage: u8,
    config: StageConfig,
    schedule: PatchSchedule,
    log_every: usize,
    sinks: Vec<Box<dyn Sink>>,
    on_failure: OnFailure,
    clock: Box<dyn Fn() -> Duration + Send>,
    last: Option<TrainRecord>,
    /// Steps done.
    iteration: usize,
    /// Images of the last of them that have been reported.
    reported: usize,
    /// When the last step ended, or the validation after it.
    ended: Duration,
    window: Window,
}

/// What has happened since the last record of training.
#[derive(Debug, Default)]
struct Window {
    /// Steps done before.
    first: usize,
    /// Time spent on steps.
    spent: Duration,
    images: usize,
    pixel: Mean,
    frequency: Mean,
    light: Mean,
    diffusion: Mean,
    gradient_norm: Mean,
}

#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: Option<f64>, count: usize) {
        if let (Some(value), 1..) = (value, count) {
            self.sum += value * count as f64;
            self.count += count;
        }
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Recorder {
    /// A recorder for stage 1 or 2, trained as `config` says, that goes on after `done` iterations and reports training
    /// every `log_every` iterations and after the last one.
    pub fn new(
        stage: u8,
        config: &StageConfig,
        log_every: usize,
        done: usize,
        sinks: Vec<Box<dyn Sink>>,
        on_failure: OnFailure,
    ) -> Self {
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed());
        Self {
            stage,
            config: config.clone(),
            schedule: PatchSchedule::new(&config.patches),
            log_every: log_every.max(1),
            sinks,
            on_failure,
            clock,
            last: None,
            iteration: done,
            reported: 0,
            ended: Duration::ZERO,
            window: Window {
                first: done,
                ..Window::default()
            },
        }
    }

    /// Takes note of a step on one device.
    pub fn step(&mut self, step: Step) {
        if step.iteration > self.iteration {
            self.report_if_due(); // the step before, if images of it are missing
            self.iteration = step.iteration;
            self.reported = 0;
        }
        let now = (self.clock)();
        self.window.spent += now.saturating_sub(self.ended);
        self.ended = now;
        self.reported += step.images;
        self.window.images += step.images;
        self.window.pixel.add(step.pixel, step.images);
        self.window.frequency.add(step.frequency, step.images);
        self.window.light.add(step.light, step.images);
        self.window.diffusion.add(step.diffusion, step.images);
        self.window.gradient_norm.add(step.gradient_norm, 1);
        let last = step.iteration.saturating_sub(1);
        if self.reported >= self.schedule.at(last).batch {
            self.report_if_due();
        }
    }

    /// The record of training made last.
    pub fn last(&self) -> Option<&TrainRecord> {
        self.last.as_ref()
    }

    /// Reports the validation after the steps so far, with the name of each set and the scores of its images, and
    /// pictures of some of them. The time since the last step does not count as training. Sets without scores are left
    /// out, and without any there is nothing to report.
    pub fn validated(&mut self, sets: &[(String, Vec<ValidationScore>)], pictures: Vec<Picture>) {
        self.report_if_due();
        let means = sets.iter().filter_map(|(name, scores)| {
            let mean = ValidationScore::mean(scores)?;
            Some((name, mean, scores.len()))
        });
        let means: Vec<_> = means.collect();
        let of_sets: Vec<ValidationScore> = means.iter().map(|(_, mean, _)| *mean).collect();
        if let Some(mean) = ValidationScore::mean(&of_sets) {
            let set = |(name, mean, images): (&String, ValidationScore, usize)| SetRecord {
                name: name.clone(),
                psnr: mean.psnr,
                ssim: mean.ssim,
                gain: mean.gain,
                images,
            };
            self.write(&Record::Validation(ValidationRecord {
                stage: self.stage,
                iteration: self.iteration,
                psnr: mean.psnr,
                ssim: mean.ssim,
                gain: Some(mean.gain),
                images: means.iter().map(|(_, _, images)| images).sum(),
                sets: means.into_iter().map(set).collect(),
                pictures,
            }));
        }
        self.ended = (self.clock)();
    }

    /// Reports the window if it ends with an iteration to report.
    fn report_if_due(&mut self) {
        let (iteration, iterations) = (self.iteration, self.config.iterations);
        let due = iteration.is_multiple_of(self.log_every) || iteration == iterations;
        if !due || iteration <= self.window.first {
            return;
        }
        let next = Window {
            first: iteration,
            ..Window::default()
        };
        let window = std::mem::replace(&mut self.window, next);
        let seconds = window.spent.as_secs_f64();
        let pixels_done = self.schedule.pixels(window.first, iteration);
        let pixels_left = self.schedule.pixels(iteration, iterations);
        let record = TrainRecord {
            stage: self.stage,
            iteration,
            iterations,
            pixel_loss: window.pixel.value(),
            frequency_loss: window.frequency.value(),
            light_loss: window.light.value(),
            diffusion_loss: window.diffusion.value(),
            gradient_norm: window.gradient_norm.value(),
            learning_rate: self.config.learning_rate.at(iteration),
            images_per_second: window.images as f64 / seconds,
            memory_bytes: memory_stats::memory_stats().map(|stats| stats.physical_mem as u64),
            seconds_left: pixels_left * seconds / pixels_done,
        };
        self.last = Some(record.clone());
        self.write(&Record::Train(record));
    }

    fn write(&mut self, record: &Record) {
        self.sinks.retain_mut(|sink| match sink.write(record) {
            Ok(()) => true,
            Err(error) => {
                (self.on_failure)(error);
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use image::RgbImage;

    use super::*;
    use crate::config::PatchConfig;
    use crate::error::{Error, Result};

    /// Remembers the records, and fails from a number of them on.
    #[derive(Clone, Default)]
    struct Memory {
        records: Arc<Mutex<Vec<Record>>>,
        capacity: Option<usize>,
    }

    impl Sink for Memory {
        fn write(&mut self, record: &Record) -> Result<()> {
            let mut records = self.records.lock().unwrap();
            if self
                .capacity
                .is_some_and(|capacity| records.len() >= capacity)
            {
                return Err(Error::refused(Path::new("log"), "full"));
            }
            records.push(record.clone());
            Ok(())
        }
    }

    impl Memory {
        fn take(&self) -> Vec<Record> {
            std::mem::take(&mut self.records.lock().unwrap())
        }

        fn take_train(&self) -> TrainRecord {
            match self.take().as_slice() {
                [Record::Train(record)] => record.clone(),
                other => panic!("not one record of training: {other:?}"),
            }
        }
    }

    /// A recorder, what it writes, and its clock in seconds.
    struct Bench {
        recorder: Recorder,
        memory: Memory,
        seconds: Arc<AtomicU64>,
    }

    impl Bench {
        /// Ten steps of four patches of 8², then steps of two patches of 16².
        fn new(iterations: usize, log_every: usize, done: usize) -> Self {
            let entry = |patch, batch, iterations| PatchConfig {
                patch,
                batch,
                iterations,
            };
            let config = StageConfig {
                iterations,
                patches: vec![entry(8, 4, 10), entry(16, 2, 5)],
                ..StageConfig::default()
            };
            let memory = Memory::default();
            let sinks: Vec<Box<dyn Sink>> = vec![Box::new(memory.clone())];
            let fail: OnFailure = Arc::new(|error| panic!("{error}"));
            let mut recorder = Recorder::new(2, &config, log_every, done, sinks, fail);
            let seconds = Arc::new(AtomicU64::new(0));
            let clock = Arc::clone(&seconds);
            recorder.clock = Box::new(move || Duration::from_secs(clock.load(Ordering::Relaxed)));
            Self {
                recorder,
                memory,
                seconds,
            }
        }

        fn pass(&self, seconds: u64) {
            self.seconds.fetch_add(seconds, Ordering::Relaxed);
        }

        fn step(&mut self, iteration: usize, images: usize, pixel: f64) {
            self.recorder.step(Step {
                iteration,
                images,
                pixel: Some(pixel),
                frequency: Some(2.0 * pixel),
                light: Some(3.0 * pixel),
                diffusion: None,
                gradient_norm: Some(pixel / 2.0),
            });
        }
    }

    #[test]
    fn steps_are_reported_every_so_often_and_at_the_last() {
        let mut bench = Bench::new(5, 2, 0);
        let mut reported = Vec::new();
        for iteration in 1..=5 {
            bench.pass(1);
            bench.step(iteration, 4, iteration as f64);
            for record in bench.memory.take() {
                let Record::Train(record) = record else {
                    panic!("{record:?}")
                };
                assert_eq!(record.iteration, iteration, "at once");
                assert_eq!((record.stage, record.iterations), (2, 5));
                assert_eq!(record.images_per_second, 4.0);
                assert_eq!(record.diffusion_loss, None);
                assert_eq!(
                    record.gradient_norm,
                    record.pixel_loss.map(|loss| loss / 2.0)
                );
                assert!(record.memory_bytes.is_none_or(|bytes| bytes > 1 << 20));
                reported.push((iteration, record.pixel_loss.unwrap(), record.seconds_left));
            }
        }
        assert_eq!(reported, [(2, 1.5, 3.0), (4, 3.5, 1.0), (5, 5.0, 0.0)]);
    }

    #[test]
    fn losses_are_means_over_the_images() {
        let mut bench = Bench::new(20, 11, 9);
        bench.pass(4);
        bench.step(10, 4, 1.0);
        bench.step(11, 2, 4.0);
        let record = bench.memory.take_train();
        assert_eq!(record.pixel_loss, Some(2.0));
        assert_eq!(record.frequency_loss, Some(4.0));
        assert_eq!(record.light_loss, Some(6.0));
        assert_eq!(record.images_per_second, 1.5);
        let rate = StageConfig::default().learning_rate.at(11);
        assert_eq!(record.learning_rate, rate);
    }

    #[test]
    fn the_parts_of_a_step_on_several_devices_are_one_iteration() {
        let mut bench = Bench::new(20, 2, 0);
        for iteration in 1..=2 {
            bench.pass(1);
            bench.step(iteration, 3, 1.0);
            assert_eq!(bench.memory.take(), [], "a part is missing");
            bench.step(iteration, 1, 5.0);
        }
        let record = bench.memory.take_train();
        assert_eq!(record.iteration, 2);
        assert_eq!(record.pixel_loss, Some(2.0));
        assert_eq!(record.images_per_second, 4.0);
    }

    #[test]
    fn a_step_that_lacks_images_is_reported_with_the_next() {
        let mut bench = Bench::new(20, 2, 0);
        bench.pass(1);
        bench.step(2, 1, 1.0);
        bench.pass(5);
        bench.step(3, 4, 9.0);
        let record = bench.memory.take_train();
        assert_eq!(
            (
                record.iteration,
                record.pixel_loss,
                record.images_per_second
            ),
            (2, Some(1.0), 1.0),
            "without the next"
        );
        bench.step(4, 1, 2.0);
        bench.recorder.validated(&[], Vec::new());
        assert_eq!(bench.memory.take_train().iteration, 4);
    }

    #[test]
    fn a_validation_is_reported_and_takes_no_training_time() {
        let mut bench = Bench::new(20, 4, 0);
        bench.pass(3);
        bench.step(3, 4, 1.0);
        bench.pass(100);
        let pictures = vec![Picture {
            name: "a".into(),
            image: RgbImage::new(2, 1),
        }];
        let score = |psnr, ssim, gain| ValidationScore { psnr, ssim, gain };
        let sets = [
            ("a", vec![score(20.0, 0.5, -1.0), score(30.0, 0.75, 2.0)]),
            ("none", Vec::new()),
            ("b", vec![score(35.0, 0.875, 1.5)]),
        ];
        let sets = sets.map(|(name, scores)| (name.to_string(), scores));
        bench.recorder.validated(&sets, pictures.clone());
        let set = |name: &str, psnr, ssim, gain, images| SetRecord {
            name: name.into(),
            psnr,
            ssim,
            gain,
            images,
        };
        let expected = ValidationRecord {
            stage: 2,
            iteration: 3,
            psnr: 30.0,
            ssim: 0.75,
            gain: Some(1.0),
            images: 3,
            sets: vec![set("a", 25.0, 0.625, 0.5, 2), set("b", 35.0, 0.875, 1.5, 1)],
            pictures,
        };
        assert_eq!(bench.memory.take(), [Record::Validation(expected)]);
        bench.pass(1);
        bench.step(4, 4, 3.0);
        let record = bench.memory.take_train();
        assert_eq!(record.pixel_loss, Some(2.0), "steps before count");
        assert_eq!(record.images_per_second, 2.0, "8 images in 3 + 1 seconds");

        bench.recorder.validated(&[], Vec::new());
        assert_eq!(bench.memory.take(), [], "nothing was scored");
    }

    #[test]
    fn the_time_left_goes_with_the_pixels_of_the_steps() {
        let mut bench = Bench::new(100, 12, 8);
        for iteration in 9..=12 {
            bench.pass(3);
            bench.step(iteration, 4, 1.0);
        }
        let record = bench.memory.take_train();
        let done = 2.0 * 256.0 + 2.0 * 512.0;
        assert_eq!(record.seconds_left, 88.0 * 512.0 / done * 12.0);
    }

    #[test]
    fn a_diverged_loss_shows() {
        let mut bench = Bench::new(20, 2, 0);
        bench.step(1, 4, f64::NAN);
        bench.step(2, 4, 1.0);
        let record = bench.memory.take_train();
        assert!(record.pixel_loss.unwrap().is_nan(), "{record:?}");
    }

    #[test]
    fn a_sink_that_fails_is_reported_once_and_left_out() {
        let mut bench = Bench::new(20, 1, 0);
        let failing = Memory {
            capacity: Some(1),
            ..Memory::default()
        };
        bench.recorder.sinks.insert(0, Box::new(failing.clone()));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::clone(&errors);
        bench.recorder.on_failure =
            Arc::new(move |error: Error| sent.lock().unwrap().push(error.to_string()));
        for iteration in 1..=4 {
            bench.step(iteration, 4, 1.0);
        }
        assert_eq!(*errors.lock().unwrap(), ["log: full"]);
        assert_eq!(failing.take().len(), 1);
        assert_eq!(bench.memory.take().len(), 4);
    }
}
