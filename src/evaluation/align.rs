//! Alignment of two photographs of one scene by the enhanced correlation coefficient.
//!
//! Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization", 2008: the
//! forward additive algorithm, in the form and with the settings by which RealBlur's published figures were computed
//! (OpenCV's `findTransformECC`).

use rayon::prelude::*;

use super::cholesky::Cholesky;
use super::gray::{Gray, Slopes};
use super::homography::Homography;
use crate::error::{Error, Result};

/// Free entries of a homography, whose last is 1.
const PARAMETERS: usize = 8;
const ITERATIONS: usize = 100;
/// A step that moves no corner by more than this, in pixels, is the last: more of them would change nothing.
const STILL: f64 = 1e-6;
/// Where the last step still moves a corner by more than this, in pixels, it matters when the iterations end.
const SETTLED: f64 = 0.01;
/// Images whose variance is a smaller share of their power are flat.
const FLAT: f64 = 1e-12;

/// How a restored image lies over its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// Takes the target's pixel `(x, y, 1)` to the restored image's, up to a factor; the last entry is 1.
    pub homography: [[f64; 3]; 3],
    /// By what the restored image was multiplied before.
    pub gain: f64,
    /// Of the smoothed images, before the last iteration: 1 for images that differ by brightness and contrast alone.
    pub correlation: f64,
    /// At most 100.
    pub iterations: usize,
    /// How far the last iteration moved a corner of the image, in pixels.
    pub last_step: f64,
}

impl Alignment {
    /// Whether the last iteration moved no corner by more than 0.01 pixels.
    pub fn converged(&self) -> bool {
        self.last_step <= SETTLED
    }
}

/// Finds the homography under which `restored` correlates best with `target`, from the identity on. Both are of one
/// size, and neither has been smoothed. The gain is the caller's: it is 1 here.
pub(super) fn align(restored: &Gray, target: &Gray) -> Result<Alignment> {
    let target = target.smoothed();
    let restored = Slopes::of(&restored.smoothed());
    let mut map = Homography::IDENTITY;
    let mut iterations = 0;
    loop {
        iterations += 1;
        let EccStep {
            parameters,
            correlation,
        } = Sums::over(&target, &restored, &map).step()?;
        let moved = add(&map, &parameters);
        let last_step = map.distance(&moved, target.width, target.height);
        map = moved;
        if iterations == ITERATIONS || last_step <= STILL {
            return Ok(Alignment {
                homography: map.0,
                gain: 1.0,
                correlation,
                iterations,
                last_step,
            });
        }
    }
}

/// Parameters are the homography's entries column by column, but for the last.
fn add(map: &Homography, step: &[f64; PARAMETERS]) -> Homography {
    let mut moved = *map;
    for (index, value) in step.iter().enumerate() {
        moved.0[index % 3][index / 3] += value;
    }
    moved
}

/// What an iteration needs to know of the pixels: sums over all of them. A slope is the restored image's derivative with
/// respect to the parameters, at the place where a target's pixel falls.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    slopes_slopes: [[f64; PARAMETERS]; PARAMETERS],
    slopes_restored: [f64; PARAMETERS],
    /// From here on, over the covered pixels alone.
    slopes_target: [f64; PARAMETERS],
    slopes: [f64; PARAMETERS],
    count: f64,
    restored: f64,
    restored_restored: f64,
    target: f64,
    target_target: f64,
    restored_target: f64,
}

struct EccStep {
    parameters: [f64; PARAMETERS],
    correlation: f64,
}

impl Sums {
    /// Row by row, and the rows in order: the same bits whatever the number of threads.
    fn over(target: &Gray, restored: &Slopes, map: &Homography) -> Self {
        let rows: Vec<Self> = (target.samples.par_chunks(target.width).enumerate())
            .map(|(y, row)| Self::over_row(y, row, restored, map))
            .collect();
        let mut sums = Self::default();
        rows.iter().for_each(|row| sums.add(row));
        sums
    }

    fn over_row(y: usize, targets: &[f32], restored: &Slopes, map: &Homography) -> Self {
        let mut sums = Self::default();
        let y = y as f64;
        for (x, &target) in targets.iter().enumerate() {
            let (x, target) = (x as f64, f64::from(target));
            let at = map.image(x, y);
            let Some([value, dx, dy]) = restored.between(at.x, at.y) else {
                continue;
            };
            let (a, b) = (dx / at.divisor, dy / at.divisor);
            let c = -(at.x * a + at.y * b);
            let slope = [a * x, b * x, c * x, a * y, b * y, c * y, a, b];
            for (sums, factor) in sums.slopes_slopes.iter_mut().zip(slope) {
                add_scaled(sums, factor, &slope);
            }
            // As in OpenCV, pixels just outside that interpolation still reaches are in these two sums.
            add_scaled(&mut sums.slopes_restored, value, &slope);
            if at.is_on(restored.width, restored.height) {
                add_scaled(&mut sums.slopes_target, target, &slope);
                add_scaled(&mut sums.slopes, 1.0, &slope);
                sums.count += 1.0;
                sums.restored += value;
                sums.restored_restored += value * value;
                sums.target += target;
                sums.target_target += target * target;
                sums.restored_target += value * target;
            }
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        for (sums, others) in self.slopes_slopes.iter_mut().zip(&other.slopes_slopes) {
            add_scaled(sums, 1.0, others);
        }
        add_scaled(&mut self.slopes_restored, 1.0, &other.slopes_restored);
        add_scaled(&mut self.slopes_target, 1.0, &other.slopes_target);
        add_scaled(&mut self.slopes, 1.0, &other.slopes);
        self.count += other.count;
        self.restored += other.restored;
        self.restored_restored += other.restored_restored;
        self.target += other.target;
        self.target_target += other.target_target;
        self.restored_target += other.restored_target;
    }

    /// The parameters' step that maximises the correlation, as the slopes predict it.
    fn step(&self) -> Result<EccStep> {
        let fail = |reason: &str| Err(Error::Alignment(reason.into()));
        if self.count == 0.0 {
            return fail("they do not overlap");
        }
        let (restored_mean, target_mean) = (self.restored / self.count, self.target / self.count);
        let restored_power = self.restored_restored - self.restored * restored_mean;
        let target_power = self.target_target - self.target * target_mean;
        let product = self.restored_target - self.restored * target_mean;
        if restored_power <= FLAT * self.restored_restored
            || target_power <= FLAT * self.target_target
        {
            return fail("one of them has no texture");
        }
        let Some(normal) = Cholesky::new(&self.slopes_slopes) else {
            return fail("there is too little texture to tell all directions apart");
        };

        // Both images with their means taken off, projected onto the slopes.
        let mut restored = self.slopes_restored;
        add_scaled(&mut restored, -restored_mean, &self.slopes);
        let mut target = self.slopes_target;
        add_scaled(&mut target, -target_mean, &self.slopes);

        let explained = normal.solve(&restored);
        let gain = dot(&restored, &explained);
        let denominator = product - dot(&target, &explained);
        // Written so that NaN fails too.
        let is_correlated = denominator > 0.0;
        if !is_correlated {
            return fail("they do not correlate; are both of the same scene?");
        }
        let contrast = (restored_power - gain) / denominator;
        let residual = std::array::from_fn(|i| contrast * target[i] - restored[i]);
        let parameters = normal.solve(&residual);
        if parameters.iter().any(|value| !value.is_finite()) {
            return fail("the alignment left the range of numbers");
        }
        Ok(EccStep {
            parameters,
            correlation: product / (restored_power * target_power).sqrt(),
        })
    }
}

#[inline]
fn add_scaled(sums: &mut [f64; PARAMETERS], factor: f64, values: &[f64; PARAMETERS]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

fn dot(a: &[f64; PARAMETERS], b: &[f64; PARAMETERS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
