//! Projective maps of the plane.

/// Maps pixel positions to pixel positions: `(x, y, 1)` times the matrix, divided by its third value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Homography(pub [[f64; 3]; 3]);

/// Where a homography takes a position.
#[derive(Debug, Clone, Copy)]
pub(super) struct MappedPoint {
    pub x: f64,
    pub y: f64,
    /// What `x` and `y` were divided by.
    pub divisor: f64,
}

impl MappedPoint {
    /// Whether the nearest pixel is one of an image's.
    #[inline]
    pub fn is_on(&self, width: usize, height: usize) -> bool {
        let within = |position: f64, length: usize| {
            (0.0..length as f64).contains(&position.round_ties_even())
        };
        within(self.x, width) && within(self.y, height)
    }
}

impl Homography {
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    #[inline]
    pub fn image(&self, x: f64, y: f64) -> MappedPoint {
        let [[a, b, c], [d, e, f], [g, h, i]] = self.0;
        let divisor = g * x + h * y + i;
        MappedPoint {
            x: (a * x + b * y + c) / divisor,
            y: (d * x + e * y + f) / divisor,
            divisor,
        }
    }

    /// How far apart two homographies take the corners of an image, at most, in pixels.
    pub fn distance(&self, other: &Self, width: usize, height: usize) -> f64 {
        let (right, bottom) = (width as f64 - 1.0, height as f64 - 1.0);
        let corners = [(0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom)];
        let distances = corners.map(|(x, y)| {
            let (a, b) = (self.image(x, y), other.image(x, y));
            (a.x - b.x).hypot(a.y - b.y)
        });
        distances.into_iter().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_divided_by_the_third_value() {
        let map = Homography([[2.0, 0.0, 1.0], [0.0, 4.0, -1.0], [1.0, 0.0, 1.0]]);
        let MappedPoint { x, y, divisor } = map.image(1.0, 3.0);
        assert_eq!((x, y, divisor), (1.5, 5.5, 2.0));
    }

    #[test]
    fn an_image_reaches_half_a_pixel_beyond_its_pixels() {
        let at = |x: f64, y: f64| Homography::IDENTITY.image(x, y).is_on(4, 3);
        assert!(at(-0.5, 0.0) && at(3.49, 2.49) && at(0.0, -0.5));
        assert!(!at(-0.51, 0.0) && !at(3.51, 0.0) && !at(0.0, 2.51));
        assert!(!at(f64::NAN, 0.0) && !at(0.0, f64::INFINITY));
    }

    #[test]
    fn the_distance_is_the_worst_corners() {
        let grown = Homography([[1.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        assert_eq!(Homography::IDENTITY.distance(&grown, 9, 5), 4.0);
        assert_eq!(grown.distance(&grown, 9, 5), 0.0);
    }
}
