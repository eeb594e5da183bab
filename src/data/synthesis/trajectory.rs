//! The path of a shaking camera as a random process.

use std::f64::consts::{PI, TAU};

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Points of a whole trajectory, equally spaced in time.
const POINTS: usize = 1024;

// How strongly an anxiety of 1 acts in the course of one whole trajectory, whose length and duration are both 1. Each
// trajectory draws its own share, from nothing to these values.

/// Standard deviation of the velocity's accumulated Gaussian perturbation, in units of the speed.
const JITTER: f64 = 2.0;
/// Acceleration towards the origin per unit of distance from it.
const PULL: f64 = 120.0;
/// Expected number of impulsive shakes.
const SHAKES: f64 = 2.0;

/// A path in the plane at unit speed, starting at the origin.
///
/// The model is that of Boracchi and Foi (2012): a particle with inertia whose velocity is perturbed by Gaussian noise,
/// pulled back to where it started, and now and then thrown almost straight back by an impulsive shake. `anxiety`
/// scales all three; at 0 the path is a straight line in a random direction.
pub(super) struct Trajectory {
    points: Vec<[f64; 2]>,
}

impl Trajectory {
    pub(super) fn random(anxiety: f64, rng: &mut impl Rng) -> Self {
        let step = 1.0 / (POINTS - 1) as f64;
        let jitter = anxiety * JITTER * rng.random::<f64>() * step.sqrt();
        let pull = anxiety * PULL * rng.random::<f64>() * step;
        let shake = (anxiety * SHAKES * rng.random::<f64>() * step).min(1.0);

        let mut heading = direction(rng.random::<f64>() * TAU);
        let mut point = [0.0; 2];
        let mut points = Vec::with_capacity(POINTS);
        points.push(point);
        for _ in 1..POINTS {
            if rng.random_bool(shake) {
                let [cos, sin] = direction(PI + rng.random::<f64>() - 0.5);
                heading = [
                    cos * heading[0] - sin * heading[1],
                    sin * heading[0] + cos * heading[1],
                ];
            }
            let normal: [f64; 2] = std::array::from_fn(|_| StandardNormal.sample(rng));
            for axis in 0..2 {
                heading[axis] += jitter * normal[axis] - pull * point[axis];
            }
            let speed = heading[0].hypot(heading[1]);
            // The speed stays 1; a velocity that happens to cancel out has no direction to keep, so it draws one.
            heading = if speed > 1e-9 {
                heading.map(|v| v / speed)
            } else {
                direction(rng.random::<f64>() * TAU)
            };
            point = std::array::from_fn(|axis| point[axis] + heading[axis] * step);
            points.push(point);
        }
        Self { points }
    }

    /// Where the path is at `time` in [0, 1].
    pub(super) fn at(&self, time: f64) -> [f64; 2] {
        let position = time.clamp(0.0, 1.0) * (POINTS - 1) as f64;
        let before = (position as usize).min(POINTS - 2);
        let share = position - before as f64;
        let (a, b) = (self.points[before], self.points[before + 1]);
        std::array::from_fn(|axis| a[axis] + share * (b[axis] - a[axis]))
    }

    /// From one to the other of the two points that lie farthest apart; never zero, since the speed is not.
    pub(super) fn extent(&self) -> [f64; 2] {
        let squared = |v: [f64; 2]| v[0] * v[0] + v[1] * v[1];
        let mut longest = [0.0; 2];
        for (i, a) in self.points.iter().enumerate() {
            for b in &self.points[..i] {
                let between = [a[0] - b[0], a[1] - b[1]];
                if squared(between) > squared(longest) {
                    longest = between;
                }
            }
        }
        longest
    }
}

fn direction(angle: f64) -> [f64; 2] {
    [angle.cos(), angle.sin()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn trajectory(anxiety: f64, seed: u64) -> Trajectory {
        Trajectory::random(anxiety, &mut StdRng::seed_from_u64(seed))
    }

    fn diameter(path: &Trajectory) -> f64 {
        let [x, y] = path.extent();
        x.hypot(y)
    }

    #[test]
    fn without_anxiety_the_path_is_straight() {
        for seed in 0..20 {
            let diameter = diameter(&trajectory(0.0, seed));
            assert!(
                (diameter - 1.0).abs() < 1e-9,
                "seed {seed}: diameter {diameter} of a path of length 1"
            );
        }
    }

    #[test]
    fn anxiety_crumples_the_path() {
        let mean = |anxiety| {
            (0..40)
                .map(|seed| diameter(&trajectory(anxiety, seed)))
                .sum::<f64>()
                / 40.0
        };
        let (calm, nervous) = (mean(0.1), mean(1.0));
        assert!(
            nervous < 0.7 * calm,
            "mean diameter {nervous} at anxiety 1, {calm} at 0.1"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn speed_is_constant_whatever_the_anxiety(anxiety in 0.0..10.0_f64, seed: u64) {
            let path = trajectory(anxiety, seed);
            let step = 1.0 / (POINTS - 1) as f64;
            for pair in path.points.windows(2) {
                let length = (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]);
                prop_assert!((length - step).abs() < 1e-9, "a step of {} where {} was due", length, step);
            }
        }

        #[test]
        fn interpolation_meets_the_points(index in 0..POINTS, seed: u64) {
            let path = trajectory(0.5, seed);
            let found = path.at(index as f64 / (POINTS - 1) as f64);
            let distance = (found[0] - path.points[index][0]).hypot(found[1] - path.points[index][1]);
            prop_assert!(distance < 1e-9, "off by {}", distance);
        }
    }
}
