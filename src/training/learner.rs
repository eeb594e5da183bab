//! One stage through Burn's `Learner`, from its newest checkpoint or from the beginning.

use std::fs;
use std::io::stdout;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::AutodiffBackend;
use burn::train::metric::LearningRateMetric;
use burn::train::{
    InferenceStep, Interrupter, Learner, SupervisedTraining, TrainStep, TrainingStrategy,
};

use super::checkpoint::{
    self, EarlyStopping, History, Interval, KeepLastAndBest, RunState, SealedRecorder, latest,
};
use super::dashboard::{Nothing, dashboard};
use super::devices::Devices;
use super::learning_rate::CyclicCosine;
use super::log::recorder::OnFailure;
use super::log::{JsonLines, Lines, Pictures, Record, Recorder, Sink, TensorBoard};
use super::metrics::{
    ImageScore, NoFiles, Number, StepLosses, StepNumbers, StepRecording, ValidationRecording,
};
use super::optimizer::{AfterStep, Overflow};
use super::options::{Display, Hook, StageReport};
use super::resume;
use super::run::{LOG, PICTURES, Run, TENSORBOARD};
use super::stage::Stage;
use super::step::{LossScale, StepSettings};
use crate::config::{Parallel, StageConfig, StageResult, TrainingConfig, TrainingPrecision};
use crate::data::loader::{Batch, ValidationImage};
use crate::error::{Error, Result};

/// A stage of a run.
pub(super) struct StageRun<'a> {
    pub run: &'a Run<'a>,
    pub stage: Stage,
    pub training: &'a TrainingConfig,
    pub config: &'a StageConfig,
    folder: PathBuf,
}

impl<'a> StageRun<'a> {
    pub fn new(run: &'a Run<'a>, stage: Stage) -> Self {
        let training = &run.config.training;
        Self {
            run,
            stage,
            training,
            config: stage.config(training),
            folder: run.options.out.join(stage.folder()),
        }
    }

    /// Trains the module that `make` makes.
    pub fn train<B, M>(
        &self,
        make: impl FnOnce(StepSettings) -> Result<M>,
        devices: &Devices<B>,
    ) -> Result<(M::InnerModule, StageReport)>
    where
        B: AutodiffBackend,
        M: TrainStep<Input = Batch<B>, Output = StepLosses<B::InnerBackend>>
            + AutodiffModule<B>
            + AfterStep
            + std::fmt::Display
            + 'static,
        M::InnerModule:
            InferenceStep<Input = ValidationImage<B::InnerBackend>, Output = ImageScore>,
    {
        let started = Instant::now();
        let Self {
            run,
            training,
            config,
            folder,
            ..
        } = self;
        let (options, stop) = (run.options, &run.options.stop);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (checkpoint, state) = self.position()?;
        let (done, validate_first) = (state.iteration, !state.validated);
        let interval = Interval {
            every: training.validation.every,
            iterations: config.iterations,
        };
        let epochs = match state.history.ends(training.early_stopping) {
            true => 0,
            false => interval.left(done) + usize::from(validate_first),
        };

        let loader = self.patches(done, validate_first, devices)?;
        let validation = self.validation_images(devices);
        let interrupter = Interrupter::new();
        let early_stopping = EarlyStopping::new(training.early_stopping);
        let strategy = KeepLastAndBest::new(
            folder,
            training.validation.keep,
            interval,
            state,
            validation.scores(),
            early_stopping.clone(),
            stop.clone(),
            interrupter.clone(),
        );
        let loss_scale = LossScale::default();
        let overflow = match training.precision {
            TrainingPrecision::F16 => Overflow::Skip(loss_scale.clone()),
            TrainingPrecision::F32 | TrainingPrecision::Bf16 => Overflow::Stop,
        };
        let optimizer = config
            .optimizer
            .init::<M, B>(config.clip, overflow, stop.clone());
        let norms = optimizer.gradient_norms();
        let recorder = Arc::new(Mutex::new(self.recorder(done)?));
        let sets = run.validation.iter().map(|set| set.name.as_str());
        let sets = sets.collect::<Vec<_>>();

        let mut supervised =
            SupervisedTraining::new(folder, Arc::new(loader), Arc::new(validation))
                .with_application_logger(None)
                .with_interrupter(interrupter.clone())
                .with_file_checkpointer(SealedRecorder::default())
                .with_checkpointing_strategy(strategy)
                .early_stopping(early_stopping)
                .with_metric_logger(NoFiles)
                .with_training_strategy(TrainingStrategy::Default(devices.strategy()))
                .num_epochs(checkpoint.unwrap_or(0) + epochs)
                .metric_train(StepRecording::new(recorder.clone(), norms.clone()))
                .metric_valid(ValidationRecording::new(recorder, &sets))
                .metric_train_numeric(Number::gradient_norm(norms))
                .metric_train_numeric(LearningRateMetric::new());
        for scores in Number::scores(&sets) {
            supervised = supervised.metric_valid_numeric(scores);
        }
        for loss in self.losses() {
            supervised = supervised.metric_train_numeric(loss);
        }
        let dashboard = dashboard(options.display, stop, checkpoint);
        let (mut supervised, watch) = match dashboard {
            Some((dashboard, watch)) => (supervised.renderer(dashboard), Some(watch)),
            None => (supervised.renderer(Nothing), None),
        };
        if let Some(checkpoint) = checkpoint {
            supervised = supervised.checkpoint(checkpoint);
        }

        let module = make(StepSettings {
            accumulation: config.accumulation,
            precision: training.precision,
            loss_scale,
            loss: training.loss.clone(),
        })?;
        let ddp = training.parallel == Parallel::Ddp && devices.count() > 1;
        // Burn's distributed strategy asks for the rate once a step for each of the devices.
        let scheduler = CyclicCosine::new(
            config.learning_rate.clone(),
            if ddp { devices.count() } else { 1 },
        );
        let result = supervised.launch(Learner::new(module, optimizer, scheduler));
        drop(watch);
        self.check_end(&interrupter)?;

        let report = self.report(started);
        let best = report.best.filter(|best| best.iteration != report.result);
        let Some(best) = best.filter(|_| training.result == StageResult::Best) else {
            return Ok((result.model, report));
        };
        let device = devices.main();
        let record =
            checkpoint::module::<B::InnerBackend, M::InnerModule>(folder, best.checkpoint, &device);
        let record = record.map_err(|reason| {
            let advice = "resume with training.result = \"last\" to do without it";
            Error::Training(format!(
                "the best checkpoint cannot be read; {advice}: {reason}"
            ))
        })?;
        let report = StageReport {
            result: best.iteration,
            ..report
        };
        Ok((result.model.load_record(record), report))
    }

    /// Where the stage goes on: the newest usable checkpoint, or the beginning.
    fn position(&self) -> Result<(Option<usize>, RunState)> {
        let (run, stage) = (self.run, self.stage);
        let pairs = resume::fingerprint(&run.train, &run.sources);
        let start = RunState::start(run.config, pairs);
        if !run.options.resume {
            return Ok((None, start));
        }
        let (newest, problems) = latest(&self.folder);
        if run.options.display != Display::Quiet {
            for problem in &problems {
                eprintln!("warning: {problem}; going back to the checkpoint before");
            }
        }
        let Some(newest) = newest else {
            return Ok((None, start));
        };
        let origin = format!("checkpoint {} of {stage}", newest.number);
        if !newest.state.is_resumable() {
            return Err(Error::Training(format!(
                "{origin} in {} was written by another version of this program, which alone can resume it; a new run can begin with its weights: \
                 `hi-diff convert`, then `--init`",
                self.folder.display()
            )));
        }
        resume::check(&origin, &newest.state.config, run.config)?;
        if newest.state.pairs != start.pairs {
            return Err(Error::Training(
                "the training pairs are not those that the run was begun with; it cannot be resumed with others".into(),
            ));
        }
        let state = RunState {
            config: run.config.clone(),
            ..newest.state
        };
        run.say(format_args!(
            "{stage}: going on after iteration {}",
            state.iteration
        ));
        Ok((Some(newest.number), state))
    }

    /// The losses that the stage has.
    fn losses(&self) -> Vec<Number<StepNumbers>> {
        let restores = self.stage.restores(self.training.objective);
        let weights = &self.training.loss;
        let losses = [
            restores.then(Number::pixel_loss),
            (restores && weights.frequency > 0.0).then(Number::frequency_loss),
            (restores && weights.light > 0.0).then(Number::light_loss),
            (self.stage == Stage::Two).then(Number::diffusion_loss),
        ];
        losses.into_iter().flatten().collect()
    }

    /// The stage's log, to all places where it goes.
    fn recorder(&self, done: usize) -> Result<Recorder> {
        let (options, stage) = (self.run.options, self.stage);
        let (out, number) = (&options.out, stage.number());
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(JsonLines::open(out.join(LOG), number, done)?),
            Box::new(TensorBoard::create(
                out.join(TENSORBOARD),
                stage.folder(),
                done,
            )?),
            Box::new(Pictures::new(self.folder.join(PICTURES))),
        ];
        if options.display == Display::Lines {
            sinks.push(Box::new(Lines::new(stdout())));
        }
        // The last, since it is to find what the others write.
        if let Some(hook) = options.after_validation.clone() {
            let folder = out.clone();
            sinks.push(Box::new(AfterValidation { hook, folder }));
        }
        let stop = options.stop.clone();
        let on_failure: OnFailure = Arc::new(move |error| stop.fail(error, None));
        let log_every = self.training.validation.log_every;
        Ok(Recorder::new(
            number,
            self.config,
            log_every,
            done,
            sinks,
            on_failure,
        ))
    }

    /// An error unless the stage has come to its end.
    fn check_end(&self, interrupter: &Interrupter) -> Result<()> {
        let stop = &self.run.options.stop;
        let reason = match stop.take_failure() {
            Some(reason) => reason,
            None if stop.is_asked() => "interrupted".to_string(),
            None if interrupter.should_stop() => interrupter
                .get_message()
                .unwrap_or_else(|| "stopped".to_string()),
            None => return Ok(()),
        };
        let saved = latest(&self.folder).0.map(|newest| newest.state.iteration);
        let next = match saved {
            Some(iteration) => format!(
                "{} is saved up to iteration {iteration}: the same command with --resume goes on from there",
                self.stage
            ),
            None => "no checkpoint has been written yet: --resume begins anew".to_string(),
        };
        Err(Error::Stopped {
            what: "training",
            reason,
            next,
        })
    }

    /// What the stage did, once it has come to its end; checkpoints that are not kept are removed.
    fn report(&self, started: Instant) -> StageReport {
        let state = checkpoint::prune(&self.folder, self.training.validation.keep);
        let (done, history) = match state {
            Some(state) => (state.iteration, state.history),
            None => (self.config.iterations, History::default()),
        };
        let ended_early = done < self.config.iterations;
        if ended_early {
            self.run.say(format_args!(
                "{}: ended early after iteration {done}: no better score in {} validations",
                self.stage, self.training.early_stopping
            ));
        }
        StageReport {
            stage: self.stage,
            iterations: done,
            ended_early,
            last: history.0.last().copied(),
            best: history.best(),
            result: done,
            elapsed: started.elapsed(),
        }
    }
}

/// Calls a hook after each validation.
struct AfterValidation {
    hook: Hook,
    folder: PathBuf,
}

impl Sink for AfterValidation {
    fn write(&mut self, record: &Record) -> Result<()> {
        match record {
            Record::Validation(_) => self.hook.call(&self.folder),
            Record::Train(_) => Ok(()),
        }
    }
}
