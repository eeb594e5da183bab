//! What motion does to a picture while the shutter is open.

use std::collections::BTreeMap;

use rand::Rng;

use super::light::Light;
use super::scene::{Rect, Scene};
use super::trajectory::Trajectory;

/// Instants sampled per pixel of path, measured where the picture moves most.
const INSTANTS_PER_PIXEL: f64 = 2.0;
/// Poses that move the picture by less than this, in pixels, from one another count as one.
const MERGED: f64 = 0.5;
/// The centre of rotation lies within this share of the picture's size around the middle.
const CENTRE_SPREAD: f64 = 0.2;

/// Shifts and turns in the course of one exposure.
#[derive(Clone)]
pub(super) struct Path {
    /// In pixels.
    pub translation: Trajectory,
    /// Along its first axis, in radians.
    pub roll: Trajectory,
    /// Share of the trajectories during which the shutter is open.
    pub exposure: f64,
}

/// How a picture, or a part of it, moves during one exposure: all its paths together. The mean over the exposure is no
/// motion at all, so that the blurred picture stays aligned with the sharp one; of a video's frames the one in the middle is
/// where the picture is.
#[derive(Clone)]
pub(super) struct Motion {
    /// The point that rolls turn about, in pixels.
    centre: [f64; 2],
    paths: Vec<Path>,
    frames: Option<Frames>,
}

/// How a video sees a motion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    /// Odd, so that one is in the middle.
    pub count: u8,
    /// The share of the time between two frames during which the shutter is open.
    pub open: f64,
}

/// Where a picture is at some instants.
pub(super) struct Poses {
    centre: [f64; 2],
    poses: Vec<Pose>,
}

#[derive(Clone, Copy, Default)]
struct Pose {
    shift: [f64; 2],
    roll: f64,
    /// Share of the exposure.
    weight: f64,
}

impl Motion {
    /// A picture of `size` that does not move yet.
    pub fn still(size: [usize; 2], rng: &mut impl Rng) -> Self {
        let centre = size.map(|side| {
            let side = side as f64;
            (side - 1.0) / 2.0 + CENTRE_SPREAD * side * (rng.random::<f64>() - 0.5)
        });
        Self {
            centre,
            paths: Vec::new(),
            frames: None,
        }
    }

    /// The same, seen by a video if there are `frames`.
    pub fn during(self, frames: Option<Frames>) -> Self {
        Self { frames, ..self }
    }

    /// The same with a further motion.
    pub fn with(mut self, path: Path) -> Self {
        self.paths.push(path);
        self
    }

    /// The poses that show how what is in `rect` moves.
    pub fn poses(&self, rect: Rect) -> Poses {
        // A pixel's displacement by a roll of one radian where it is largest.
        let reach = rect.corners().map(|[x, y]| {
            let [x, y] = [x - self.centre[0], y - self.centre[1]];
            x.hypot(y)
        });
        let reach = reach.into_iter().fold(0.0, f64::max);
        let length =
            |path: &Path| path.exposure * (path.translation.length() + path.roll.length() * reach);
        let length: f64 = self.paths.iter().map(length).sum();
        let count = 1 + (length * INSTANTS_PER_PIXEL).ceil() as usize;
        let poses = match self.frames {
            None => {
                let time = |i| (i as f64 + 0.5) / count as f64;
                let poses: Vec<_> = (0..count).map(|i| self.pose(time(i), count)).collect();
                let mean = mean(&poses);
                about(poses, mean)
            }
            Some(Frames {
                count: frames,
                open,
            }) => {
                let frames = usize::from(frames);
                // Of each frame.
                let count = (open * count as f64 / frames as f64).ceil() as usize;
                let time = |frame, i| {
                    let within = (i as f64 + 0.5) / count as f64 - 0.5;
                    (frame as f64 + 0.5 + open * within) / frames as f64
                };
                let instants = (0..frames).flat_map(|frame| (0..count).map(move |i| (frame, i)));
                let poses = instants.map(|(frame, i)| self.pose(time(frame, i), frames * count));
                about(poses.collect(), self.pose(0.5, 1))
            }
        };
        Poses {
            centre: self.centre,
            poses: merge(&poses, reach),
        }
    }

    /// After a share of the exposure; one of `count` poses of equal weight.
    fn pose(&self, time: f64, count: usize) -> Pose {
        let mut pose = Pose {
            weight: 1.0 / count as f64,
            ..Pose::default()
        };
        for path in &self.paths {
            let time = path.exposure * time;
            let shift = path.translation.at(time);
            pose.shift = [0, 1].map(|axis| pose.shift[axis] + shift[axis]);
            pose.roll += path.roll.at(time)[0];
        }
        pose
    }
}

impl Poses {
    /// The farthest that anything in `rect` moves along an axis, in pixels.
    pub fn farthest(&self, rect: Rect) -> f64 {
        let corners = rect.corners();
        self.poses
            .iter()
            .flat_map(|pose| corners.map(|corner| pose.displacement(self.centre, corner)))
            .map(|[x, y]| x.abs().max(y.abs()))
            .fold(0.0, f64::max)
    }

    /// The light that reaches each pixel of `rect`, row by row. `scene` has it with a margin of one pixel more than
    /// [`farthest`](Self::farthest).
    pub fn expose(&self, scene: &Scene, rect: Rect) -> Vec<Light> {
        let mut light = vec![Light::default(); rect.width * rect.height];
        let from_scene = [rect.left - scene.rect.left, rect.top - scene.rect.top];
        for (y, row) in light.chunks_exact_mut(rect.width).enumerate() {
            let first = [rect.left as f64, (rect.top + y as i64) as f64];
            for pose in &self.poses {
                let moved = pose.displacement(self.centre, first);
                let from = [
                    from_scene[0] as f64 + moved[0],
                    (from_scene[1] + y as i64) as f64 + moved[1],
                ];
                let (sin, cos) = pose.roll.sin_cos();
                add_line(scene, row, from, [cos, sin], pose.weight as f32);
            }
        }
        light
    }
}

impl Pose {
    /// How far the picture moves at `point`.
    fn displacement(&self, centre: [f64; 2], point: [f64; 2]) -> [f64; 2] {
        let (sin, cos) = self.roll.sin_cos();
        let [x, y] = [point[0] - centre[0], point[1] - centre[1]];
        [
            (cos - 1.0) * x - sin * y + self.shift[0],
            sin * x + (cos - 1.0) * y + self.shift[1],
        ]
    }
}

fn mean(poses: &[Pose]) -> Pose {
    let mut mean = Pose::default();
    for pose in poses {
        mean.shift = [0, 1].map(|axis| mean.shift[axis] + pose.weight * pose.shift[axis]);
        mean.roll += pose.weight * pose.roll;
    }
    mean
}

/// Poses as they are seen from `origin`.
fn about(mut poses: Vec<Pose>, origin: Pose) -> Vec<Pose> {
    for pose in &mut poses {
        pose.shift = [0, 1].map(|axis| pose.shift[axis] - origin.shift[axis]);
        pose.roll -= origin.roll;
    }
    poses
}

/// A crumpled path visits the same places again and again; each is rendered once, with the weights' sum. The mean over
/// all poses stays what it was.
fn merge(poses: &[Pose], reach: f64) -> Vec<Pose> {
    let mut cells: BTreeMap<[i64; 3], Pose> = BTreeMap::new();
    for pose in poses {
        let position = [pose.shift[0], pose.shift[1], pose.roll * reach];
        let cell = cells
            .entry(position.map(|v| (v / MERGED).round() as i64))
            .or_default();
        let weight = cell.weight + pose.weight;
        let share = pose.weight / weight;
        cell.shift =
            [0, 1].map(|axis| cell.shift[axis] + share * (pose.shift[axis] - cell.shift[axis]));
        cell.roll += share * (pose.roll - cell.roll);
        cell.weight = weight;
    }
    cells.into_values().collect()
}

/// Adds, to each pixel of `row`, `weight` times the scene sampled bilinearly at `from`, `from + step`, …
///
/// Where the picture hardly turns, long runs of pixels lie in the same way between those of the scene.
fn add_line(scene: &Scene, row: &mut [Light], from: [f64; 2], step: [f64; 2], weight: f32) {
    let stride = scene.rect.width;
    // How the place between the scene's pixels changes from one pixel to the next.
    let drift = [step[0] - 1.0, step[1]];
    let mut done = 0;
    while done < row.len() {
        let place = [0, 1].map(|axis| from[axis] + done as f64 * step[axis]);
        let corner = place.map(f64::floor);
        let share = [0, 1].map(|axis| place[axis] - corner[axis]);
        let stays = |axis: usize| match drift[axis] {
            drift if drift > 0.0 => (1.0 - share[axis]) / drift,
            drift if drift < 0.0 => share[axis] / -drift,
            _ => f64::INFINITY,
        };
        let count = (stays(0).min(stays(1)) as usize).saturating_add(1);
        let count = count.min(row.len() - done);
        let index = corner[1] as usize * stride + corner[0] as usize;
        let upper = &scene.pixels[index..][..count + 1];
        let lower = &scene.pixels[index + stride..][..count + 1];
        let run = Run {
            share: share.map(|v| v as f32),
            drift: drift.map(|v| v as f32),
            weight,
        };
        run.add(&mut row[done..done + count], upper, lower);
        done += count;
    }
}

/// Pixels that lie between four neighbours in almost the same way.
struct Run {
    share: [f32; 2],
    drift: [f32; 2],
    weight: f32,
}

impl Run {
    /// `upper` and `lower` have one pixel more than `row`.
    #[inline]
    fn add(&self, row: &mut [Light], upper: &[Light], lower: &[Light]) {
        // The share is summed up rather than multiplied out: the compiler then leaves pixels one after the other, and
        // computes the four lanes of each at once.
        let [mut right, mut down] = self.share;
        let upper = upper.iter().zip(&upper[1..]);
        let lower = lower.iter().zip(&lower[1..]);
        for (pixel, ((&a, &b), (&c, &d))) in row.iter_mut().zip(upper.zip(lower)) {
            let (above, below) = (self.weight * (1.0 - down), self.weight * down);
            let weights = [
                above * (1.0 - right),
                above * right,
                below * (1.0 - right),
                below * right,
            ];
            let mut sum = *pixel;
            for lane in 0..4 {
                sum[lane] += weights[0] * a[lane]
                    + weights[1] * b[lane]
                    + weights[2] * c[lane]
                    + weights[3] * d[lane];
            }
            *pixel = sum;
            right += self.drift[0];
            down += self.drift[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    const SIZE: [usize; 2] = [200, 120];

    fn motion(extent: f64, degrees: f64, seed: u64) -> Motion {
        moving(SIZE, extent, degrees, [0.7, 0.8], seed)
    }

    fn moving(
        size: [usize; 2],
        extent: f64,
        degrees: f64,
        [anxiety, exposure]: [f64; 2],
        seed: u64,
    ) -> Motion {
        let rng = &mut StdRng::seed_from_u64(seed);
        let motion = Motion::still(size, rng);
        let mut trajectory =
            |extent, upright| Trajectory::random(anxiety, rng).with_extent(extent, upright);
        motion.with(Path {
            translation: trajectory(extent, false),
            roll: trajectory(degrees.to_radians(), true),
            exposure,
        })
    }

    fn expose(motion: &Motion, sharp: &RgbImage) -> Vec<Light> {
        let size = [sharp.width() as usize, sharp.height() as usize];
        let whole = Rect::of_size(size);
        let poses = motion.poses(whole);
        let margin = poses.farthest(whole).ceil() as usize + 1;
        poses.expose(&Scene::new(sharp, size, whole.grown(margin)), whole)
    }

    /// The picture of a bright dot at `at`.
    fn spread(motion: &Motion, at: [u32; 2]) -> Vec<f32> {
        let mut dot = RgbImage::new(200, 120);
        dot.put_pixel(at[0], at[1], Rgb([255; 3]));
        expose(motion, &dot).iter().map(|light| light[1]).collect()
    }

    #[test]
    fn roll_makes_the_blur_vary_over_the_picture() {
        let centre_of = |at: [u32; 2], degrees| {
            let light = spread(&motion(8.0, degrees, 3), at);
            let mut crop = Vec::new();
            for y in at[1] - 12..at[1] + 12 {
                let start = (y * 200 + at[0] - 12) as usize;
                crop.extend_from_slice(&light[start..start + 24]);
            }
            crop
        };
        let difference = |degrees| {
            let (a, b) = (centre_of([40, 60], degrees), centre_of([160, 60], degrees));
            a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0
        };
        let (with, without) = (difference(2.0), difference(0.0));
        assert!(
            without < 1e-4,
            "without roll, kernels differ by {without} of their energy"
        );
        assert!(
            with > 0.2,
            "with roll, kernels differ by only {with} of their energy"
        );
    }

    #[test]
    fn a_dot_keeps_its_energy() {
        let total: f32 = spread(&motion(15.0, 0.5, 9), [100, 60]).iter().sum();
        assert!(
            (total - 1.0).abs() < 0.02,
            "a dot of energy 1 became {total}"
        );
    }

    #[test]
    fn runs_sample_as_pixels_one_by_one() {
        let picture = RgbImage::from_fn(90, 80, |x, y| {
            Rgb([(x * 7) as u8, (y * 5) as u8, ((x ^ y) * 3) as u8])
        });
        let scene = Scene::new(&picture, [90, 80], Rect::of_size([90, 80]));
        for degrees in [0.0_f64, 0.4, -3.0, 30.0] {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let from = [12.3, 30.7];
            let mut row = vec![Light::default(); 40];
            add_line(&scene, &mut row, from, [cos, sin], 0.5);
            for (i, found) in row.iter().enumerate() {
                let [x, y] = [from[0] + i as f64 * cos, from[1] + i as f64 * sin];
                let at = |x: f64, y: f64| f64::from(scene.pixels[y as usize * 90 + x as usize][0]);
                let (a, b) = (x.floor(), y.floor());
                let (u, v) = (x - a, y - b);
                let upper = (1.0 - u) * at(a, b) + u * at(a + 1.0, b);
                let lower = (1.0 - u) * at(a, b + 1.0) + u * at(a + 1.0, b + 1.0);
                let expected = 0.5 * ((1.0 - v) * upper + v * lower);
                let found = f64::from(found[0]);
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{found}, expected {expected}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_mean_displacement_is_zero_everywhere(extent in 0.0..40.0_f64, degrees in 0.0..1.5_f64, seed: u64) {
            let motion = motion(extent, degrees, seed).poses(Rect::of_size(SIZE));
            let weight: f64 = motion.poses.iter().map(|pose| pose.weight).sum();
            prop_assert!((weight - 1.0).abs() < 1e-9, "weights sum to {}", weight);
            for point in [[0.0, 0.0], [199.0, 0.0], [100.0, 60.0], [0.0, 119.0], [199.0, 119.0]] {
                let mean = motion.poses.iter().fold([0.0; 2], |mean, pose| {
                    let moved = pose.displacement(motion.centre, point);
                    [mean[0] + pose.weight * moved[0], mean[1] + pose.weight * moved[1]]
                });
                prop_assert!(mean[0].hypot(mean[1]) < 0.05, "{:?} moves by {:?} on average", point, mean);
            }
        }

        #[test]
        fn pictures_of_any_size_can_be_exposed(
            width in 1..20_u32, height in 1..20_u32, extent in 0.0..60.0_f64, degrees in 0.0..30.0_f64, seed: u64,
        ) {
            let size = [width as usize, height as usize];
            let motion = moving(size, extent, degrees, [1.0, 1.0], seed);
            let white = RgbImage::from_pixel(width, height, Rgb([255; 3]));
            for light in expose(&motion, &white) {
                prop_assert!((light[0] - 1.0).abs() < 1e-4, "white became {}", light[0]);
            }
        }
    }
}
