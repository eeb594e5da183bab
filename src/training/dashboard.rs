//! Burn's dashboard, on a terminal.

#[cfg(feature = "cli")]
use std::io::{IsTerminal, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn::train::{Interrupter, LearnerSummary};

use super::options::Display;
use crate::data::stop::Stop;

/// The dashboard, where it is wanted and there is a terminal, and what hands its wish to stop on.
#[cfg(feature = "cli")]
pub(super) fn dashboard(
    display: Display,
    stop: &Stop,
    checkpoint: Option<usize>,
) -> Option<(impl MetricsRenderer + 'static, Watch)> {
    use burn::train::renderer::tui::TuiMetricsRendererWrapper;
    let wanted = display == Display::Dashboard && stdout().is_terminal();
    wanted.then(|| {
        let asking = Interrupter::new();
        let dashboard = TuiMetricsRendererWrapper::new(asking.clone(), checkpoint);
        (dashboard, Watch::start(asking, stop.clone()))
    })
}

/// None: the crate is built without it.
#[cfg(not(feature = "cli"))]
pub(super) fn dashboard(
    _: Display,
    _: &Stop,
    _: Option<usize>,
) -> Option<(impl MetricsRenderer + 'static, Watch)> {
    None::<(Nothing, Watch)>
}

/// Hands the dashboard's wish to stop on to the run, which answers it as any other: after the step, with a checkpoint.
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    fn start(asking: Interrupter, stop: Stop) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&over);
        let watch = move || {
            while !watched.load(Ordering::Relaxed) {
                if asking.should_stop() {
                    stop.ask();
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
        };
        Self {
            over,
            thread: Some(std::thread::spawn(watch)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().ok();
        }
    }
}

/// A display that shows nothing: the log has lines of its own.
pub(super) struct Nothing;

impl MetricsRendererTraining for Nothing {
    fn update_train(&mut self, _: MetricState) {}

    fn update_valid(&mut self, _: MetricState) {}

    fn render_train(&mut self, _: TrainingProgress, _: Vec<ProgressType>) {}

    fn render_valid(&mut self, _: TrainingProgress, _: Vec<ProgressType>) {}

    fn on_train_end(
        &mut self,
        _: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn core::error::Error>> {
        Ok(())
    }
}

impl MetricsRendererEvaluation for Nothing {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}

    fn render_test(&mut self, _: EvaluationProgress, _: Vec<ProgressType>) {}
}

impl MetricsRenderer for Nothing {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, _: MetricDefinition) {}
}
