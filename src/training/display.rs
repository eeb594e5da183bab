//! Progress as plain lines, for logs and for standard output that is no terminal.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::time::{Duration, Instant};

use burn::train::metric::{MetricDefinition, MetricEntry, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn::train::LearnerSummary;

use super::metrics::{DiffusionLoss, GradientNormMetric, PixelLoss, Psnr, Quantity};
use crate::config::StageConfig;

/// Prints a line of means every few iterations, and one after each validation.
pub struct Lines<W> {
    out: W,
    stage: &'static str,
    schedule: Schedule,
    log_every: usize,
    names: HashMap<MetricId, String>,
    means: BTreeMap<String, Mean>,
    iteration: usize,
    /// Images of the current epoch that have passed.
    passed: usize,
    window: Window,
}

/// The sizes of the steps of a stage, and where a validation interval begins.
#[derive(Debug, Clone)]
pub struct Schedule {
    config: StageConfig,
    every: usize,
}

impl Schedule {
    /// A stage that is validated every so many iterations.
    pub fn new(config: &StageConfig, every: usize) -> Self {
        Self { config: config.clone(), every }
    }

    /// Pixels of the patches of the steps from `start` up to, without, `end`: what their time is taken to go with.
    fn pixels(&self, start: usize, end: usize) -> f64 {
        let (mut first, mut pixels) = (0_usize, 0.0);
        let last = self.config.patches.len().saturating_sub(1);
        for (index, entry) in self.config.patches.iter().enumerate() {
            let next = if index == last { usize::MAX } else { first.saturating_add(entry.iterations) };
            let steps = end.min(next).saturating_sub(start.max(first));
            pixels += steps as f64 * (entry.batch * entry.patch * entry.patch) as f64;
            first = next;
        }
        pixels
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64, count: usize) {
        self.sum += value * count as f64;
        self.count += count;
    }

    fn value(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// Since the last line.
struct Window {
    start: Instant,
    first: usize,
    images: usize,
}

impl<W: Write + Send + Sync> Lines<W> {
    /// Lines on `out` for a stage that goes on after `done` iterations.
    pub fn new(
        out: W,
        stage: &'static str,
        schedule: Schedule,
        log_every: usize,
        done: usize,
    ) -> Self {
        Self {
            out,
            stage,
            schedule,
            log_every,
            names: HashMap::new(),
            means: BTreeMap::new(),
            iteration: done,
            passed: 0,
            window: Window { start: Instant::now(), first: done, images: 0 },
        }
    }

    fn collect(&mut self, state: MetricState) {
        let MetricState::Numeric(MetricEntry { metric_id, .. }, entry) = state else {
            return;
        };
        let (value, count) = match entry {
            NumericEntry::Value(value) => (value, 1),
            NumericEntry::Aggregated { aggregated_value, count } => (aggregated_value, count),
        };
        if let Some(name) = self.names.get(&metric_id) {
            self.means.entry(name.clone()).or_default().add(value, count);
        }
    }

    fn mean(&self, name: &str) -> Option<f64> {
        self.means.get(name).map(Mean::value)
    }

    fn line(&mut self, text: &str) {
        // Training goes on when its standard output is closed.
        writeln!(self.out, "{}: {text}", self.stage).and_then(|()| self.out.flush()).ok();
    }

    fn training_line(&mut self) {
        let total = self.schedule.config.iterations;
        let elapsed = self.window.start.elapsed().as_secs_f64();
        let mut parts = vec![format!("{}/{total}", self.iteration)];
        let labels = [(PixelLoss::NAME, "pixel loss"), (DiffusionLoss::NAME, "diffusion loss")];
        for (name, label) in labels {
            parts.extend(self.mean(name).map(|mean| format!("{label} {mean:.5}")));
        }
        parts.extend(self.mean(GradientNormMetric::NAME).map(|norm| format!("gradient norm {norm:.4}")));
        parts.push(format!("lr {:.3e}", self.schedule.config.learning_rate.at(self.iteration)));
        parts.push(format!("{:.1} images/s", self.window.images as f64 / elapsed));
        let done = self.schedule.pixels(self.window.first, self.iteration);
        let left = self.schedule.pixels(self.iteration, total) * elapsed / done;
        parts.push(format!("{} left", duration(left)));
        self.line(&parts.join("  "));
        self.means.clear();
        self.restart_window();
    }

    fn restart_window(&mut self) {
        self.window = Window { start: Instant::now(), first: self.iteration, images: 0 };
    }
}

/// Hours, minutes and seconds, without the part that does not matter.
fn duration(seconds: f64) -> String {
    let Ok(duration) = Duration::try_from_secs_f64(seconds) else {
        return "unknown time".to_string();
    };
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {:02} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

impl<W: Write + Send + Sync> MetricsRendererTraining for Lines<W> {
    fn update_train(&mut self, state: MetricState) {
        self.collect(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.collect(state);
    }

    fn render_train(&mut self, item: TrainingProgress, _: Vec<ProgressType>) {
        let epoch = item.global_progress.items_processed;
        let first = epoch.saturating_sub(1) * self.schedule.every;
        self.iteration = first + item.iteration.unwrap_or(0);
        let passed = item.progress.map_or(0, |progress| progress.items_processed);
        let before = if passed < self.passed { 0 } else { self.passed };
        self.window.images += passed - before;
        self.passed = passed;
        let last = self.iteration == self.schedule.config.iterations;
        if self.iteration.is_multiple_of(self.log_every) || last {
            self.training_line();
        }
    }

    fn render_valid(&mut self, item: TrainingProgress, _: Vec<ProgressType>) {
        let progress = item.progress.map(|progress| (progress.items_processed, progress.items_total));
        if let Some((processed, total)) = progress
            && processed == total
        {
            let iteration = self.iteration;
            if let Some(psnr) = self.mean(Psnr::NAME) {
                self.line(&format!("{iteration}  validation PSNR {psnr:.3} dB over {total} images"));
            }
            self.means.clear();
            self.restart_window();
        }
    }

    fn on_train_end(
        &mut self,
        _: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn core::error::Error>> {
        Ok(())
    }
}

impl<W: Write + Send + Sync> MetricsRendererEvaluation for Lines<W> {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}

    fn render_test(&mut self, _: EvaluationProgress, _: Vec<ProgressType>) {}
}

impl<W: Write + Send + Sync> MetricsRenderer for Lines<W> {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PatchConfig;

    #[test]
    fn the_time_left_goes_with_the_pixels_of_the_steps() {
        let entry = |patch, batch, iterations| PatchConfig { patch, batch, iterations };
        let config = StageConfig {
            iterations: 100,
            patches: vec![entry(8, 4, 10), entry(16, 2, 5)],
            ..StageConfig::default()
        };
        let schedule = Schedule::new(&config, 50);
        assert_eq!(schedule.pixels(0, 10), 10.0 * 256.0);
        assert_eq!(schedule.pixels(8, 12), 2.0 * 256.0 + 2.0 * 512.0);
        assert_eq!(schedule.pixels(15, 100), 85.0 * 512.0, "the last entry holds to the end");
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        assert_eq!(duration(59.9), "59 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(7_260.0), "2 h 01 min");
        assert_eq!(duration(f64::NAN), "unknown time");
    }
}
