//! A lens out of focus.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use rand::Rng;

use super::light::Light;
use super::scene::{Rect, Scene};

/// Radii that differ by less than this, in pixels, count as one.
const STEP: f64 = 0.0625;
/// How much farther than its radius the corners of a polygon of five blades are from its middle.
const CORNER: f64 = 1.16;
/// Pixels that are computed together, with the radius in their middle.
const TOGETHER: usize = 4;

/// The picture of a point in every place: an aperture whose radius changes evenly along a direction, as of a plane that
/// is tilted.
#[derive(Clone)]
pub(super) struct Defocus {
    aperture: Aperture,
    /// In the middle of the picture.
    radius: f64,
    centre: [f64; 2],
    /// How much the radius grows by each pixel along either axis.
    slope: [f64; 2],
    largest: f64,
}

#[derive(Clone, Copy)]
struct Aperture {
    /// Blades of a polygon; none for a disc.
    blades: Option<u32>,
    turn: f64,
    softness: f64,
}

impl Defocus {
    /// A lens whose radius is 1 ± `variation` times `radius` on both sides of a picture of `size`.
    pub fn random(
        size: [usize; 2],
        radius: f64,
        variation: f64,
        softness: f64,
        polygon: f64,
        rng: &mut impl Rng,
    ) -> Self {
        let angle = rng.random::<f64>() * TAU;
        let blades = rng.random_range(5..=9);
        let is_polygon = rng.random::<f64>() < polygon;
        let turn = rng.random::<f64>() * TAU;
        let half = size.map(|side| (side as f64 - 1.0) / 2.0);
        let along = [angle.cos(), angle.sin()];
        // The corner farthest along the direction has the whole variation.
        let reach = (half[0] * along[0].abs() + half[1] * along[1].abs()).max(1.0);
        Self {
            aperture: Aperture {
                blades: is_polygon.then_some(blades),
                turn,
                softness,
            },
            radius,
            centre: half,
            slope: along.map(|v| v * radius * variation / reach),
            largest: radius * (1.0 + variation),
        }
    }

    /// How far a point is spread at most, in whole pixels.
    pub fn margin(&self) -> usize {
        let reach = self.largest + STEP + self.aperture.softness / 2.0;
        let steepness = self.slope[0].hypot(self.slope[1]).min(0.5);
        (CORNER * reach / (1.0 - steepness)).ceil() as usize + 1
    }

    fn radius_at(&self, x: f64, y: f64) -> f64 {
        let [right, down] = [x - self.centre[0], y - self.centre[1]];
        // Around the picture, where a motion brings light from, it grows no more: a margin is for the largest.
        let radius = self.radius + self.slope[0] * right + self.slope[1] * down;
        radius.clamp(0.0, self.largest)
    }

    /// The light in `rect`, of a scene that has it with a [`margin`](Self::margin).
    pub fn expose(&self, scene: &Scene, rect: Rect) -> Scene {
        let mut kernels: BTreeMap<usize, Vec<(isize, f32)>> = BTreeMap::new();
        let stride = scene.rect.width;
        let start = scene.index(rect);
        let mut pixels = vec![Light::default(); rect.width * rect.height];
        for (y, row) in pixels.chunks_exact_mut(rect.width.max(1)).enumerate() {
            let down = (rect.top + y as i64) as f64;
            for (index, block) in row.chunks_mut(TOGETHER).enumerate() {
                let x = index * TOGETHER;
                let middle = (rect.left + x as i64) as f64 + (block.len() - 1) as f64 / 2.0;
                let step = (self.radius_at(middle, down) / STEP).round() as usize;
                let kernel = kernels.entry(step).or_insert_with(|| {
                    let radius = step as f64 * STEP;
                    self.aperture.kernel(radius, self.slope, stride)
                });
                let place = (start + y * stride + x) as isize;
                if block.len() == TOGETHER {
                    gather::<TOGETHER>(&scene.pixels, place, kernel, block);
                } else {
                    for (i, pixel) in block.iter_mut().enumerate() {
                        let pixel = std::slice::from_mut(pixel);
                        gather::<1>(&scene.pixels, place + i as isize, kernel, pixel);
                    }
                }
            }
        }
        Scene { rect, pixels }
    }
}

/// The weighted means about `N` neighbouring pixels from `place` on.
#[inline]
fn gather<const N: usize>(
    scene: &[Light],
    place: isize,
    kernel: &[(isize, f32)],
    into: &mut [Light],
) {
    let mut sums = [Light::default(); N];
    for &(offset, weight) in kernel {
        let pixels = &scene[(place + offset) as usize..][..N];
        for (sum, pixel) in sums.iter_mut().zip(pixels) {
            for lane in 0..4 {
                sum[lane] += weight * pixel[lane];
            }
        }
    }
    into.copy_from_slice(&sums);
}

impl Aperture {
    /// The weights with which a pixel gets the light of those about it, by their distance in a scene with rows of
    /// `stride` pixels; their sum is 1.
    ///
    /// Each point spreads its light about itself. Where the radius grows by `slope`, those on one side spread it
    /// farther and thinner than those on the other.
    fn kernel(mut self, radius: f64, slope: [f64; 2], stride: usize) -> Vec<(isize, f32)> {
        // A point in focus has no soft edge to be spread by.
        self.softness = self.softness.min(1.0 + radius);
        let steepness = slope[0].hypot(slope[1]).min(0.5);
        let farthest = CORNER * (radius + self.softness / 2.0) / (1.0 - steepness);
        let reach = farthest.ceil() as i32;
        let places: Vec<[i32; 2]> = (-reach..=reach)
            .flat_map(|y| (-reach..=reach).map(move |x| [x, y]))
            .collect();
        // Sampling a shape at pixels moves its centre of mass a little.
        let mut centre = [0.0; 2];
        let mut weights = Vec::new();
        for _ in 0..3 {
            weights = places
                .iter()
                .map(|&[x, y]| {
                    self.share(f64::from(x) + centre[0], f64::from(y) + centre[1], radius)
                })
                .collect::<Vec<f64>>();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            let mean = [0, 1].map(|axis| {
                let moments = places.iter().zip(&weights);
                moments
                    .map(|(place, weight)| f64::from(place[axis]) * weight)
                    .sum::<f64>()
            });
            centre = [0, 1].map(|axis| centre[axis] + mean[axis]);
        }
        for (&[x, y], weight) in places.iter().zip(&mut weights) {
            let [x, y] = [f64::from(x), f64::from(y)];
            let there = (radius + slope[0] * x + slope[1] * y).max(0.0);
            let thinner = (radius + 0.5) / (there + 0.5);
            *weight = thinner * thinner * self.share(x + centre[0], y + centre[1], there);
        }
        let sum: f64 = weights.iter().sum();
        places
            .iter()
            .zip(weights.iter().map(|weight| weight / sum))
            .filter(|(_, weight)| *weight > 0.0)
            .map(|(&[x, y], weight)| (y as isize * stride as isize + x as isize, weight as f32))
            .collect()
    }

    /// How much of the light that falls `[x, y]` from the point passes.
    fn share(&self, x: f64, y: f64, radius: f64) -> f64 {
        let distance = match self.blades {
            None => x.hypot(y),
            Some(blades) => {
                // From the middle of the nearest side; as large as the disc of the same area.
                let sector = TAU / f64::from(blades);
                let angle = (y.atan2(x) - self.turn).rem_euclid(sector) - sector / 2.0;
                let area = (sector / 2.0).tan() / (sector / 2.0);
                x.hypot(y) * angle.cos() * area.sqrt()
            }
        };
        ((radius - distance) / self.softness + 0.5).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels() -> impl Iterator<Item = (String, Vec<(isize, f32)>)> {
        [None, Some(5), Some(6), Some(7), Some(9)]
            .into_iter()
            .flat_map(|blades| {
                [0.0, 0.25, 0.75, 1.5, 3.25, 8.0].map(|radius| {
                    let aperture = Aperture {
                        blades,
                        turn: 0.4,
                        softness: 1.0,
                    };
                    let what = format!("{blades:?} blades, radius {radius}");
                    (what, aperture.kernel(radius, [0.0; 2], 1000))
                })
            })
    }

    fn place(offset: isize) -> [f64; 2] {
        let y = (offset as f64 / 1000.0).round();
        [offset as f64 - 1000.0 * y, y]
    }

    #[test]
    fn apertures_keep_the_light_and_its_place() {
        for (what, kernel) in kernels() {
            let sum: f64 = kernel.iter().map(|(_, weight)| f64::from(*weight)).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{what}: {sum}");
            for axis in 0..2 {
                let moment =
                    |(offset, weight): &(isize, f32)| place(*offset)[axis] * f64::from(*weight);
                let mean: f64 = kernel.iter().map(moment).sum();
                assert!(mean.abs() < 0.01, "{what}: off by {mean}");
            }
        }
    }

    #[test]
    fn an_aperture_of_no_size_passes_the_point_alone() {
        for (what, kernel) in kernels().filter(|(what, _)| what.ends_with("radius 0")) {
            assert_eq!(kernel.len(), 1, "{what}");
        }
    }

    #[test]
    fn discs_and_polygons_have_the_area_of_their_radius() {
        for (what, kernel) in kernels().filter(|(what, _)| what.ends_with("radius 8")) {
            let largest = kernel.iter().map(|(_, weight)| *weight).fold(0.0, f32::max);
            let area = 1.0 / f64::from(largest);
            let expected = std::f64::consts::PI * 64.0;
            assert!((area / expected - 1.0).abs() < 0.03, "{what}: {area}");
        }
    }
}
