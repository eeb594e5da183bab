//! Two photographs as one picture.

use super::{Carried, Depth, Photograph, Tone};
use crate::error::{Error, Result};

/// Pixels of the white line between the two.
const GAP: usize = 4;

impl Photograph {
    /// This photograph on the left and `right`, of the same size, on the right, with a thin white line between: for the eye
    /// to compare.
    ///
    /// The picture has this photograph's bits and profile, colour if one of them has, and alpha likewise.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the sizes differ.
    pub fn beside(&self, right: &Photograph) -> Result<Photograph> {
        let (width, height) = (self.width(), self.height());
        if (right.width(), right.height()) != (width, height) {
            return Err(Error::Shape {
                what: "photograph on the right (height, width)".into(),
                found: vec![right.height(), right.width()],
                expected: format!("[{height}, {width}] as on the left"),
            });
        }
        let alpha = (self.alpha.is_some() || right.alpha.is_some()).then(|| {
            let [left, right] = [self, right].map(|one| one.alpha_at(self.depth));
            join(&left, &right, width, self.depth.max())
        });
        let colour = [self.tone, right.tone].contains(&Tone::Colour);
        Ok(Photograph {
            width: 2 * self.width + GAP as u32,
            height: self.height,
            rgb: join(&self.rgb, &right.rgb, width, 1.0),
            alpha,
            tone: if colour { Tone::Colour } else { Tone::Gray },
            depth: self.depth,
            hidden: None,
            carried: Carried {
                colour: self.carried.colour.clone(),
                ..Carried::new(self.carried.format)
            },
        })
    }

    /// The alpha samples at `depth`, opaque where there is none.
    fn alpha_at(&self, depth: Depth) -> Vec<u16> {
        match &self.alpha {
            None => vec![depth.max(); self.pixels()],
            Some(alpha) => {
                let samples = alpha.iter();
                samples.map(|&a| self.depth.rescale(a, depth)).collect()
            }
        }
    }
}

/// Rows of `width` values each, with `GAP` times `between` in the middle.
fn join<T: Copy>(left: &[T], right: &[T], width: usize, between: T) -> Vec<T> {
    let mut rows = Vec::with_capacity(left.len() + right.len() + GAP * (left.len() / width));
    for (left, right) in left.chunks_exact(width).zip(right.chunks_exact(width)) {
        rows.extend_from_slice(left);
        rows.extend_from_slice(&[between; GAP]);
        rows.extend_from_slice(right);
    }
    rows
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn plain(width: u32, height: u32, value: u8) -> Photograph {
        Photograph::from_rgb8(&RgbImage::from_pixel(width, height, Rgb([value, 0, 7])))
    }

    #[test]
    fn each_side_is_its_photograph_and_the_line_is_white() {
        let picture = plain(3, 2, 10).beside(&plain(3, 2, 200)).unwrap();
        let picture = picture.to_rgb8();
        assert_eq!(picture.dimensions(), (10, 2));
        for (x, _, pixel) in picture.enumerate_pixels() {
            let expected = match x {
                0..3 => [10, 0, 7],
                3..7 => [255; 3],
                _ => [200, 0, 7],
            };
            assert_eq!(pixel.0, expected, "column {x}");
        }
    }

    #[test]
    fn alpha_bits_and_tone_hold_both() {
        let mut left = Photograph::from_gray(1, 1, vec![0.5]).unwrap();
        left.depth = Depth::Sixteen;
        let mut right = plain(1, 1, 3);
        right.alpha = Some(vec![51]);
        let picture = left.beside(&right).unwrap();
        assert_eq!(
            (picture.tone, picture.depth),
            (Tone::Colour, Depth::Sixteen)
        );
        let opaque = u16::MAX;
        let alpha = [opaque, opaque, opaque, opaque, opaque, 51 * 257];
        assert_eq!(picture.alpha(), Some(&alpha[..]));
        assert_eq!(left.beside(&left).unwrap().tone, Tone::Gray);
    }

    #[test]
    fn sizes_that_differ_are_refused() {
        let error = plain(3, 2, 0).beside(&plain(2, 3, 0)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("[3, 2]") && error.contains("[2, 3]"),
            "{error}"
        );
    }
}
