//! Which patch and batch a step has: a stage's schedule of patches.
#![cfg_attr(not(feature = "train"), allow(dead_code))]

use crate::config::PatchConfig;

/// Steps of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    /// The first of them, from 0.
    pub start: usize,
    /// The first step that is not of this size any more.
    pub end: usize,
    /// Samples in all steps before.
    pub samples_before: u64,
    /// Side of the patches in pixels.
    pub patch: usize,
    /// Patches in a step.
    pub batch: usize,
}

impl Phase {
    /// How many of the steps from `start` up to, without, `end` are of this size.
    pub fn steps_between(&self, start: usize, end: usize) -> usize {
        end.min(self.end).saturating_sub(start.max(self.start))
    }
}

/// Patch and batch by step: each entry holds for its iterations, the last one to the end. Without entries, steps are of
/// nothing.
#[derive(Debug, Clone)]
pub(crate) struct PatchSchedule(Vec<Phase>);

impl PatchSchedule {
    pub fn new(entries: &[PatchConfig]) -> Self {
        let (mut start, mut samples_before) = (0_usize, 0_u64);
        let phase = |entry: &PatchConfig| {
            let phase = Phase {
                start,
                end: start.saturating_add(entry.iterations),
                samples_before,
                patch: entry.patch,
                batch: entry.batch,
            };
            start = phase.end;
            let samples = (entry.iterations as u64).saturating_mul(entry.batch as u64);
            samples_before = samples_before.saturating_add(samples);
            phase
        };
        let mut phases: Vec<Phase> = entries.iter().map(phase).collect();
        if let Some(last) = phases.last_mut() {
            last.end = usize::MAX;
        }
        Self(phases)
    }

    /// The sizes, one after the other.
    pub fn phases(&self) -> &[Phase] {
        &self.0
    }

    /// The size of a step, from 0.
    pub fn at(&self, step: usize) -> Phase {
        let after = self.0.partition_point(|phase| phase.start <= step);
        let phase = self.0.get(after.saturating_sub(1));
        phase.copied().unwrap_or_default()
    }

    /// Pixels of the patches of the steps from `start` up to, without, `end`: what their time is taken to go with.
    pub fn pixels(&self, start: usize, end: usize) -> f64 {
        let part = |phase: &Phase| {
            let steps = phase.steps_between(start, end);
            steps as f64 * phase.batch as f64 * (phase.patch as f64).powi(2)
        };
        self.0.iter().map(part).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_holds_for_its_iterations_and_the_last_to_the_end() {
        let entry = |(patch, batch, iterations)| PatchConfig {
            patch,
            batch,
            iterations,
        };
        let schedule = PatchSchedule::new(&[(8, 4, 2), (16, 3, 1), (24, 2, 1)].map(entry));
        let found: Vec<_> = (0..5)
            .map(|step| schedule.at(step))
            .map(|phase| (phase.patch, phase.batch, phase.samples_before))
            .collect();
        let last = (24, 2, 11);
        assert_eq!(found, [(8, 4, 0), (8, 4, 0), (16, 3, 8), last, last]);
        let steps = schedule.phases().iter().map(|it| it.steps_between(1, 10));
        assert_eq!(Vec::from_iter(steps), [1, 1, 7]);
        assert_eq!(schedule.pixels(1, 3), 4.0 * 64.0 + 3.0 * 256.0);
        let nothing = PatchSchedule::new(&[]);
        assert_eq!((nothing.at(3).batch, nothing.pixels(0, 9)), (0, 0.0));
    }
}
