//! What a camera's motion does to the picture while the shutter is open.

use std::collections::BTreeMap;

use image::RgbImage;
use rand::Rng;
use rayon::prelude::*;

use super::light::{Light, to_light};
use super::trajectory::Trajectory;

/// Instants sampled per pixel of path, measured where the picture moves most.
const INSTANTS_PER_PIXEL: f64 = 2.0;
/// Poses that move the picture by less than this, in pixels, from one another count as one.
const MERGED: f64 = 0.5;
/// The centre of rotation lies within this share of the picture's size around the middle.
const CENTRE_SPREAD: f64 = 0.2;

/// How a camera moves during one exposure.
pub(super) struct MotionConfig {
    /// Diameter of the whole translation trajectory in pixels.
    pub(super) extent: f64,
    /// Span of the whole roll trajectory in radians.
    pub(super) roll: f64,
    pub(super) anxiety: f64,
    /// Share of the trajectory during which the shutter is open.
    pub(super) exposure: f64,
}

/// The picture's poses during one exposure. Their weighted mean is no motion at all, so that the blurred picture stays
/// aligned with the sharp one.
pub(super) struct CameraMotion {
    /// The point that the roll turns about, in pixels.
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

impl CameraMotion {
    pub(super) fn random(
        config: &MotionConfig,
        width: u32,
        height: u32,
        rng: &mut impl Rng,
    ) -> Self {
        let size = [f64::from(width), f64::from(height)];
        let centre = size
            .map(|side| (side - 1.0) / 2.0 + CENTRE_SPREAD * side * (rng.random::<f64>() - 0.5));
        // A pixel's displacement by a roll of one radian where it is largest, at the farthest corner.
        let reach = {
            let [x, y] = [0, 1].map(|axis| {
                centre[axis]
                    .abs()
                    .max((size[axis] - 1.0 - centre[axis]).abs())
            });
            x.hypot(y)
        };

        let translation = Trajectory::random(config.anxiety, rng);
        let roll = Trajectory::random(config.anxiety, rng);
        let (extent, along) = (translation.extent(), roll.extent());
        let shift_scale = config.extent / extent[0].hypot(extent[1]);
        let roll_scale = config.roll / along[0].hypot(along[1]);
        // Along its longest extent, a path in the plane makes a motion with one degree of freedom and a known span.
        let along = along.map(|v| v / along[0].hypot(along[1]));
        let path = config.exposure * (shift_scale + roll_scale * reach);
        let count = 1 + (path * INSTANTS_PER_PIXEL).ceil() as usize;
        let instants: Vec<Pose> = (0..count)
            .map(|i| {
                let time = config.exposure * (i as f64 + 0.5) / count as f64;
                Pose {
                    shift: translation.at(time).map(|v| v * shift_scale),
                    roll: dot(roll.at(time), along) * roll_scale,
                    weight: 1.0 / count as f64,
                }
            })
            .collect();
        Self {
            centre,
            poses: merge(&centred(instants), reach),
        }
    }

    /// The farthest that any pixel of a picture of this size moves, in pixels.
    fn farthest(&self, width: usize, height: usize) -> f64 {
        let corners = [
            [0.0, 0.0],
            [width as f64, 0.0],
            [0.0, height as f64],
            [width as f64, height as f64],
        ];
        self.poses
            .iter()
            .flat_map(|pose| corners.map(|corner| pose.displacement(self.centre, corner)))
            .map(|[x, y]| x.abs().max(y.abs()))
            .fold(0.0, f64::max)
    }

    /// The light that reaches each pixel of `sharp`'s sensor, row by row. Beyond its borders the scene is mirrored.
    pub(super) fn expose(&self, sharp: &RgbImage) -> Vec<Light> {
        let (width, height) = (sharp.width() as usize, sharp.height() as usize);
        let margin = self.farthest(width, height).ceil() as usize + 1;
        let scene = Scene::new(sharp, margin);
        let mut light = vec![Light::default(); width * height];
        light
            .par_chunks_exact_mut(width)
            .enumerate()
            .for_each(|(y, row)| {
                for pose in &self.poses {
                    let start = pose.displacement(self.centre, [0.0, y as f64]);
                    let (sin, cos) = pose.roll.sin_cos();
                    let from = [margin as f64 + start[0], (margin + y) as f64 + start[1]];
                    scene.add_line(
                        row,
                        from.map(|v| v as f32),
                        [cos as f32, sin as f32],
                        pose.weight as f32,
                    );
                }
            });
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

fn dot(a: [f64; 2], b: [f64; 2]) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

fn centred(mut poses: Vec<Pose>) -> Vec<Pose> {
    let mut mean = Pose::default();
    for pose in &poses {
        mean.shift = [0, 1].map(|axis| mean.shift[axis] + pose.weight * pose.shift[axis]);
        mean.roll += pose.weight * pose.roll;
    }
    for pose in &mut poses {
        pose.shift = [0, 1].map(|axis| pose.shift[axis] - mean.shift[axis]);
        pose.roll -= mean.roll;
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

/// A picture in linear light, mirrored beyond its borders by a margin wide enough that no sample needs a border test.
struct Scene {
    stride: usize,
    pixels: Vec<Light>,
}

impl Scene {
    fn new(sharp: &RgbImage, margin: usize) -> Self {
        let (width, height) = (sharp.width() as usize, sharp.height() as usize);
        // One more on the far side: a sample exactly on the last pixel still reads its right and lower neighbours.
        let (stride, rows) = (width + 2 * margin + 1, height + 2 * margin + 1);
        let columns: Vec<u32> = (0..stride).map(|x| mirrored(x, margin, width)).collect();
        let mut pixels = Vec::with_capacity(stride * rows);
        for y in (0..rows).map(|y| mirrored(y, margin, height)) {
            pixels.extend(columns.iter().map(|&x| to_light(sharp.get_pixel(x, y))));
        }
        Self { stride, pixels }
    }

    /// Adds, to each pixel of `row`, `weight` times the scene sampled bilinearly at `from`, `from + step`, …
    fn add_line(&self, row: &mut [Light], from: [f32; 2], step: [f32; 2], weight: f32) {
        for (i, sum) in row.iter_mut().enumerate() {
            let [x, y] = [0, 1].map(|axis| from[axis] + i as f32 * step[axis]);
            let (left, top) = (x as i32, y as i32);
            let (right_share, lower_share) = (x - left as f32, y - top as f32);
            let index = top as usize * self.stride + left as usize;
            let upper = &self.pixels[index..index + 2];
            let lower = &self.pixels[index + self.stride..index + self.stride + 2];
            let (a, b) = (weight * (1.0 - lower_share), weight * lower_share);
            let weights = [
                a * (1.0 - right_share),
                a * right_share,
                b * (1.0 - right_share),
                b * right_share,
            ];
            for lane in 0..4 {
                sum[lane] += weights[0] * upper[0][lane]
                    + weights[1] * upper[1][lane]
                    + weights[2] * lower[0][lane]
                    + weights[3] * lower[1][lane];
            }
        }
    }
}

/// The pixel, along a side of `length`, that position `padded` of the padded side shows.
fn mirrored(padded: usize, margin: usize, length: usize) -> u32 {
    let period = (2 * length).saturating_sub(2).max(1) as i64;
    let position = (padded as i64 - margin as i64).rem_euclid(period);
    position.min(period - position).min(length as i64 - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn motion(extent: f64, degrees: f64, seed: u64) -> CameraMotion {
        let config = MotionConfig {
            extent,
            roll: degrees.to_radians(),
            anxiety: 0.7,
            exposure: 0.8,
        };
        CameraMotion::random(&config, 200, 120, &mut StdRng::seed_from_u64(seed))
    }

    /// The picture of a bright dot at `at`.
    fn spread(motion: &CameraMotion, at: [u32; 2]) -> Vec<f32> {
        let mut dot = RgbImage::new(200, 120);
        dot.put_pixel(at[0], at[1], Rgb([255; 3]));
        motion.expose(&dot).iter().map(|light| light[1]).collect()
    }

    #[test]
    fn mirroring_repeats_no_border_pixel() {
        let found: Vec<u32> = (0..9).map(|i| mirrored(i, 3, 3)).collect();
        assert_eq!(found, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        let single: Vec<u32> = (0..5).map(|i| mirrored(i, 2, 1)).collect();
        assert_eq!(single, [0; 5]);
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_mean_displacement_is_zero_everywhere(extent in 0.0..40.0_f64, degrees in 0.0..1.5_f64, seed: u64) {
            let motion = motion(extent, degrees, seed);
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
            let config = MotionConfig { extent, roll: degrees.to_radians(), anxiety: 1.0, exposure: 1.0 };
            let motion = CameraMotion::random(&config, width, height, &mut StdRng::seed_from_u64(seed));
            let white = RgbImage::from_pixel(width, height, Rgb([255; 3]));
            for light in motion.expose(&white) {
                prop_assert!((light[0] - 1.0).abs() < 1e-4, "white became {}", light[0]);
            }
        }
    }
}
