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

/// A path in the plane at constant speed, starting at the origin.
///
/// The model is that of Boracchi and Foi (2012): a particle with inertia whose velocity is perturbed by Gaussian noise,
/// pulled back to where it started, and now and then thrown almost straight back by an impulsive shake. `anxiety`
/// scales all three; at 0 the path is a straight line in a random direction.
#[derive(Clone)]
pub(super) struct Trajectory {
    points: Vec<[f64; 2]>,
    length: f64,
}

impl Trajectory {
    /// No motion at all.
    pub(super) fn still() -> Self {
        Self {
            points: vec![[0.0; 2]; 2],
            length: 0.0,
        }
    }

    /// A path of length 1.
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
        Self {
            points,
            length: 1.0,
        }
    }

    /// The same path, as much larger as makes it `extent` wide, and turned so that its longest extent lies along the
    /// first axis if `upright`: what then happens along that axis is a motion with one degree of freedom and a known
    /// span.
    pub(super) fn with_extent(mut self, extent: f64, upright: bool) -> Self {
        let [x, y] = self.extent();
        let diameter = x.hypot(y);
        let scale = extent / diameter;
        let [cos, sin] = match upright {
            true => [x / diameter, y / diameter],
            false => [1.0, 0.0],
        };
        for point in &mut self.points {
            let [x, y] = *point;
            *point = [scale * (cos * x + sin * y), scale * (cos * y - sin * x)];
        }
        self.length *= scale;
        self
    }

    /// How long the whole path is.
    pub(super) fn length(&self) -> f64 {
        self.length
    }

    /// Where the path is at `time` in [0, 1].
    pub(super) fn at(&self, time: f64) -> [f64; 2] {
        let position = time.clamp(0.0, 1.0) * (self.points.len() - 1) as f64;
        let before = (position as usize).min(self.points.len() - 2);
        let share = position - before as f64;
        let (a, b) = (self.points[before], self.points[before + 1]);
        std::array::from_fn(|axis| a[axis] + share * (b[axis] - a[axis]))
    }

    /// From the earlier to the later of the two points that lie farthest apart; never zero on a path of some length.
    fn extent(&self) -> [f64; 2] {
        let squared = |v: [f64; 2]| v[0] * v[0] + v[1] * v[1];
        let corners = self.hull();
        let mut longest = [0.0; 2];
        for (i, &a) in corners.iter().enumerate() {
            for &b in &corners[..i] {
                let (a, b) = (self.points[a.max(b)], self.points[a.min(b)]);
                let between = [a[0] - b[0], a[1] - b[1]];
                if squared(between) > squared(longest) {
                    longest = between;
                }
            }
        }
        longest
    }

    /// The points on the convex hull, among which are those that lie farthest apart, by Andrew's monotone chain.
    fn hull(&self) -> Vec<usize> {
        let points = &self.points;
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| {
            let ([ax, ay], [bx, by]) = (points[a], points[b]);
            ax.total_cmp(&bx).then(ay.total_cmp(&by))
        });
        let turns_left = |a: usize, b: usize, c: usize| {
            let ([ax, ay], [bx, by], [cx, cy]) = (points[a], points[b], points[c]);
            (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) > 0.0
        };
        let mut hull: Vec<usize> = Vec::new();
        for half in [
            &mut order.iter() as &mut dyn Iterator<Item = &usize>,
            &mut order.iter().rev(),
        ] {
            let start = hull.len();
            for &point in half {
                while hull.len() >= start + 2
                    && !turns_left(hull[hull.len() - 2], hull[hull.len() - 1], point)
                {
                    hull.pop();
                }
                hull.push(point);
            }
        }
        hull
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

    #[test]
    fn the_extent_is_what_comparing_all_points_finds() {
        for seed in 0..40 {
            let path = trajectory(f64::from(seed as u32 % 5) / 2.0, seed);
            let mut farthest = 0.0_f64;
            for (i, a) in path.points.iter().enumerate() {
                for b in &path.points[..i] {
                    farthest = farthest.max((a[0] - b[0]).hypot(a[1] - b[1]));
                }
            }
            let found = diameter(&path);
            assert!(
                (found - farthest).abs() < 1e-12,
                "seed {seed}: {found}, expected {farthest}"
            );
        }
    }

    #[test]
    fn a_path_is_scaled_and_turned_to_its_extent() {
        let path = trajectory(0.8, 3).with_extent(7.0, true);
        let [x, y] = path.extent();
        assert!((x.abs() - 7.0).abs() < 1e-9 && y.abs() < 1e-9, "{x} {y}");
        let steps = path.points.windows(2);
        let length: f64 = steps
            .map(|pair| (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]))
            .sum();
        assert!((length - path.length()).abs() < 1e-6, "{length}");
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
