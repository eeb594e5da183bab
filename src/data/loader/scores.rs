//! How good the images of a validation are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How close a validation image came to its sharp one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidationScore {
    /// PSNR in dB over 8-bit RGB, at most 100.
    pub psnr: f64,
    /// SSIM per channel.
    pub ssim: f64,
    /// By how many dB the PSNR is above the blurry image's.
    pub gain: f64,
}

impl ValidationScore {
    /// The mean, or `None` of nothing.
    pub fn mean(scores: &[Self]) -> Option<Self> {
        let mean =
            |part: fn(&Self) -> f64| scores.iter().map(part).sum::<f64>() / scores.len() as f64;
        (!scores.is_empty()).then(|| Self {
            psnr: mean(|score| score.psnr),
            ssim: mean(|score| score.ssim),
            gain: mean(|score| score.gain),
        })
    }
}

/// The scores of the images of one validation.
#[derive(Debug, Clone, Default)]
pub struct ValidationScores(Arc<Mutex<ScoreList>>);

#[derive(Debug, Default)]
struct ScoreList {
    /// Each set's.
    sets: Vec<Vec<ValidationScore>>,
    /// How many there will be in all.
    expected: usize,
}

impl ValidationScores {
    /// Adds the score of an image of a set, which is counted from 0.
    pub fn push(&self, set: usize, score: ValidationScore) {
        let sets = &mut self.list().sets;
        if sets.len() <= set {
            sets.resize_with(set + 1, Vec::new);
        }
        sets[set].push(score);
    }

    /// Whether every image of the validation has its score.
    pub fn is_complete(&self) -> bool {
        let list = self.list();
        list.sets.iter().map(Vec::len).sum::<usize>() == list.expected
    }

    /// The mean over the sets of their means so far, in which each set counts alike; `None` before the first image.
    pub fn mean(&self) -> Option<ValidationScore> {
        let means = self
            .list()
            .sets
            .iter()
            .filter_map(|set| ValidationScore::mean(set))
            .collect::<Vec<_>>();
        ValidationScore::mean(&means)
    }

    pub(crate) fn begin(&self, expected: usize) {
        *self.list() = ScoreList {
            sets: Vec::new(),
            expected,
        };
    }

    /// One image fewer than was expected, as it cannot be read.
    pub(crate) fn pass_over(&self) {
        let mut list = self.list();
        list.expected = list.expected.saturating_sub(1);
    }

    fn list(&self) -> MutexGuard<'_, ScoreList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
