//! A part of the picture that moves by itself.

use std::f64::consts::TAU;

use rand::Rng;

use super::light::Light;
use super::scene::{Rect, Scene};

/// Waves of the outline's distance from the centre, in periods a turn, and how far the first of them may reach.
const WAVES: std::ops::RangeInclusive<u32> = 2..=5;
const AMPLITUDE: f64 = 0.5;
/// Directions in which the outline is tabulated.
const DIRECTIONS: usize = 512;

/// A region with a smooth outline and a soft edge.
#[derive(Clone)]
pub(super) struct Outline {
    centre: [f64; 2],
    /// Distance of the outline from the centre by direction.
    radii: Vec<f64>,
    /// Width of the edge in pixels.
    softness: f64,
    least: f64,
    most: f64,
}

impl Outline {
    /// A region anywhere in a picture of `size`, whose outline is `radius` away from its centre on average.
    pub fn random(size: [usize; 2], radius: f64, softness: f64, rng: &mut impl Rng) -> Self {
        let centre = size.map(|side| (side as f64 - 1.0) * rng.random::<f64>());
        let waves: Vec<[f64; 3]> = WAVES
            .map(|periods| {
                let periods = f64::from(periods);
                let amplitude = AMPLITUDE / periods * rng.random::<f64>();
                [periods, amplitude, TAU * rng.random::<f64>()]
            })
            .collect();
        let radii: Vec<f64> = (0..DIRECTIONS)
            .map(|direction| {
                let angle = TAU * direction as f64 / DIRECTIONS as f64;
                let wave = |[periods, amplitude, phase]: &[f64; 3]| {
                    amplitude * (periods * angle + phase).cos()
                };
                radius * (1.0 + waves.iter().map(wave).sum::<f64>())
            })
            .collect();
        Self {
            centre,
            // An edge has some width, for a step would be jagged.
            softness: softness.max(1.0),
            least: radii.iter().copied().fold(f64::INFINITY, f64::min),
            most: radii.iter().copied().fold(0.0, f64::max),
            radii,
        }
    }

    #[cfg(test)]
    pub fn centre(&self) -> [f64; 2] {
        self.centre
    }

    /// A point in the region's midst or about its outline.
    pub fn point(&self, rng: &mut impl Rng) -> [f64; 2] {
        let angle = rng.random::<f64>() * TAU;
        let distance = self.radius_at(angle) * rng.random::<f64>().sqrt() * 1.1;
        [
            self.centre[0] + distance * angle.cos(),
            self.centre[1] + distance * angle.sin(),
        ]
    }

    /// Where the region is.
    pub fn bounds(&self) -> Rect {
        let reach = self.most + self.softness;
        let [left, top] = self.centre.map(|v| (v - reach).floor() as i64);
        let side = (2.0 * reach).ceil() as usize + 2;
        Rect {
            left,
            top,
            width: side,
            height: side,
        }
    }

    /// How much of a pixel belongs to the region, 0 to 1.
    fn share(&self, x: f64, y: f64) -> f32 {
        let [right, down] = [x - self.centre[0], y - self.centre[1]];
        let distance = right.hypot(down);
        let inside = |radius: f64| (radius - distance) / self.softness + 0.5;
        if inside(self.least) >= 1.0 {
            return 1.0;
        }
        if inside(self.most) <= 0.0 {
            return 0.0;
        }
        let share = inside(self.radius_at(down.atan2(right))).clamp(0.0, 1.0);
        (share * share * (3.0 - 2.0 * share)) as f32
    }

    fn radius_at(&self, angle: f64) -> f64 {
        let place = (angle / TAU).rem_euclid(1.0) * DIRECTIONS as f64;
        let before = place as usize;
        let (a, b) = (
            self.radii[before % DIRECTIONS],
            self.radii[(before + 1) % DIRECTIONS],
        );
        a + (place - before as f64) * (b - a)
    }

    /// What of `scene` in `rect` belongs to the region: light times its share, and the share as fourth lane.
    pub fn cut(&self, scene: &Scene, rect: Rect) -> Scene {
        let start = scene.index(rect);
        let mut pixels = Vec::with_capacity(rect.width * rect.height);
        for y in 0..rect.height {
            let row = &scene.pixels[start + y * scene.rect.width..][..rect.width];
            let down = (rect.top + y as i64) as f64;
            pixels.extend(row.iter().enumerate().map(|(x, light)| {
                let share = self.share((rect.left + x as i64) as f64, down);
                let [r, g, b] = [0, 1, 2].map(|lane| share * light[lane]);
                [r, g, b, share]
            }));
        }
        Scene { rect, pixels }
    }
}

/// Lays a moved region over its background: what it leaves uncovered shows the background, which has the region at rest
/// in it and therefore no hole.
pub(super) fn lay_over(background: &mut Light, object: &Light) {
    let uncovered = 1.0 - object[3];
    for lane in 0..3 {
        background[lane] = object[lane] + uncovered * background[lane];
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_region_is_whole_inside_and_ends_softly_within_its_bounds() {
        for seed in 0..20 {
            let rng = &mut StdRng::seed_from_u64(seed);
            let outline = Outline::random([100, 80], 20.0, 4.0, rng);
            let [x, y] = outline.centre;
            assert_eq!(outline.share(x, y), 1.0);
            let bounds = outline.bounds();
            let border = (0..=bounds.width).flat_map(|i| {
                let along = bounds.left as f64 + i as f64;
                let down = bounds.top as f64 + i as f64;
                let (right, bottom) = (
                    bounds.left as f64 + bounds.width as f64,
                    bounds.top as f64 + bounds.height as f64,
                );
                [
                    (along, bounds.top as f64),
                    (along, bottom),
                    (bounds.left as f64, down),
                    (right, down),
                ]
            });
            for (x, y) in border {
                assert_eq!(outline.share(x, y), 0.0);
            }
            // From the centre outwards it never grows by leaps.
            let shares: Vec<f32> = (0..400)
                .map(|i| outline.share(x + f64::from(i) * 0.1, y))
                .collect();
            let leap = shares.windows(2).map(|pair| (pair[0] - pair[1]).abs());
            assert!(leap.fold(0.0, f32::max) < 0.1);
        }
    }
}
