//! The learning rate by iteration.

use std::f64::consts::PI;

use burn::lr_scheduler::LrScheduler;
use burn::tensor::backend::Backend;

use crate::config::LearningRateConfig;

impl LearningRateConfig {
    /// The rate of an iteration, counted from 1.
    ///
    /// Within cycle i it is `minima[i] + restart_weights[i] · (initial − minima[i]) · (1 + cos(π p)) / 2`, where p is
    /// the part of the cycle's period that has passed. As in the published runs, a cycle begins one iteration after
    /// its predecessor's last value has been used. After the last cycle the rate stays at its minimum. Before
    /// iteration `warm_up` the rate is `initial · iteration / warm_up`.
    pub fn at(&self, iteration: usize) -> f64 {
        if iteration < self.warm_up {
            return self.initial * iteration as f64 / self.warm_up as f64;
        }
        let passed = iteration.saturating_sub(1);
        let mut start = 0;
        for ((&period, &weight), &minimum) in self
            .periods
            .iter()
            .zip(&self.restart_weights)
            .zip(&self.minima)
        {
            if passed <= start + period {
                let part = (passed - start) as f64 / period as f64;
                return minimum
                    + weight * 0.5 * (self.initial - minimum) * (1.0 + (PI * part).cos());
            }
            start += period;
        }
        self.minima.last().copied().unwrap_or(self.initial)
    }
}

/// Burn's view of a [`LearningRateConfig`].
#[derive(Debug, Clone)]
pub struct CyclicCosine {
    config: LearningRateConfig,
    /// How often the rate is asked for in one iteration.
    asked: usize,
    /// How often it has been asked for.
    count: usize,
}

impl CyclicCosine {
    /// The schedule before its first iteration, for a loop that asks for each iteration's rate `asked` times.
    pub fn new(config: LearningRateConfig, asked: usize) -> Self {
        Self {
            config,
            asked,
            count: 0,
        }
    }
}

impl LrScheduler for CyclicCosine {
    /// The iterations done.
    type Record<B: Backend> = usize;

    fn step(&mut self) -> f64 {
        self.count += 1;
        self.config.at(self.count.div_ceil(self.asked))
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.count / self.asked
    }

    fn load_record<B: Backend>(mut self, iteration: usize) -> Self {
        self.count = iteration * self.asked;
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn published() -> Value {
        let text = include_str!("../../tests/fixtures/learning_rates.json");
        serde_json::from_str(text).unwrap()
    }

    fn config(published: &Value, run: &str) -> LearningRateConfig {
        let list = |key: &str| published[run][key].clone();
        LearningRateConfig {
            initial: published["base_lr"].as_f64().unwrap(),
            periods: serde_json::from_value(list("periods")).unwrap(),
            restart_weights: serde_json::from_value(list("restart_weights")).unwrap(),
            minima: serde_json::from_value(list("eta_mins")).unwrap(),
            warm_up: 0,
        }
    }

    fn assert_rate(config: &LearningRateConfig, iteration: usize, expected: f64) {
        let rate = config.at(iteration);
        let error = (rate - expected).abs();
        assert!(
            error < 1e-15,
            "iteration {iteration}: {rate:e} instead of {expected:e}"
        );
    }

    #[test]
    fn the_released_schedule_is_reproduced() {
        let published = published();
        let config = config(&published, "released");
        assert_eq!(config, LearningRateConfig::default());
        for (iteration, rate) in published["released"]["lr_at_iteration"]
            .as_object()
            .unwrap()
        {
            assert_rate(&config, iteration.parse().unwrap(), rate.as_f64().unwrap());
        }
    }

    #[test]
    fn the_warm_up_rises_to_the_schedule() {
        let config = LearningRateConfig {
            warm_up: 4,
            ..LearningRateConfig::default()
        };
        for (iteration, rate) in (1..).zip([0.5e-4, 1e-4, 1.5e-4, 2e-4, 2e-4]) {
            assert_rate(&config, iteration, rate);
        }
    }

    #[test]
    fn restarts_below_the_initial_rate_are_reproduced() {
        let published = published();
        let config = config(&published, "short");
        let rates = published["short"]["lr_at_iterations_1_to_10"]
            .as_array()
            .unwrap();
        let mut scheduler = CyclicCosine::new(config.clone(), 1);
        for (index, rate) in rates.iter().enumerate() {
            assert_rate(&config, index + 1, rate.as_f64().unwrap());
            assert_eq!(scheduler.step(), config.at(index + 1));
        }
        assert_eq!(config.at(1_000), 1e-6, "after the last cycle");
        let mut shared = CyclicCosine::new(config.clone(), 2);
        let rates: Vec<_> = (0..4).map(|_| shared.step()).collect();
        let [first, second] = [1, 2].map(|iteration| config.at(iteration));
        assert_eq!(rates, [first, first, second, second]);
    }
}
