//! Planes of luma and chroma, and the RGB picture that they mean (ITU-T H.273).

use image::DynamicImage;

use super::buffer;

/// One plane's samples, row by row without gaps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: Vec<u16>,
}

impl Plane {
    pub(super) fn black(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            samples: vec![0; width * height],
        }
    }

    fn row(&self, row: usize) -> &[u16] {
        &self.samples[row * self.width..][..self.width]
    }

    /// Copies `part` in, its first sample at `left`, `top`; what does not fit is left out.
    pub(super) fn place(&mut self, part: &Plane, left: usize, top: usize) {
        let width = part.width.min(self.width.saturating_sub(left));
        let rows = part
            .samples
            .chunks_exact(part.width.max(1))
            .zip(top..self.height);
        for (source, row) in rows.take(if width == 0 { 0 } else { part.height }) {
            self.samples[row * self.width + left..][..width].copy_from_slice(&source[..width]);
        }
    }
}

/// A decoded picture before it is RGB.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planes {
    pub(super) luma: Plane,
    /// Cb and Cr, of half the luma's width or height, rounded up, where they are subsampled. `None` for gray.
    pub(super) chroma: Option<[Plane; 2]>,
    /// Bits a sample: 8, 10 or 12.
    pub(super) depth: u32,
    pub(super) full_range: bool,
}

impl Planes {
    /// The picture, of 8 bits a channel, or of 16 if there are more than 8 in a sample. `matrix` is that of H.273;
    /// `alpha` has as many pixels.
    ///
    /// Chroma samples lie in the middle of the pixels that share them; those between are interpolated linearly.
    pub(super) fn picture(
        &self,
        matrix: u16,
        alpha: Option<&Planes>,
    ) -> Result<DynamicImage, String> {
        let (width, height) = (self.luma.width as u32, self.luma.height as u32);
        let deep = self.depth.max(alpha.map_or(0, |alpha| alpha.depth)) > 8;
        let gray = self.chroma.is_none();
        let picture = if deep {
            let data = self.interleaved(matrix, alpha, |value| (value * 65535.0 + 0.5) as u16)?;
            match (gray, alpha) {
                (true, None) => buffer(width, height, data).map(DynamicImage::ImageLuma16),
                (true, Some(_)) => buffer(width, height, data).map(DynamicImage::ImageLumaA16),
                (false, None) => buffer(width, height, data).map(DynamicImage::ImageRgb16),
                (false, Some(_)) => buffer(width, height, data).map(DynamicImage::ImageRgba16),
            }
        } else {
            let data = self.interleaved(matrix, alpha, |value| (value * 255.0 + 0.5) as u8)?;
            match (gray, alpha) {
                (true, None) => buffer(width, height, data).map(DynamicImage::ImageLuma8),
                (true, Some(_)) => buffer(width, height, data).map(DynamicImage::ImageLumaA8),
                (false, None) => buffer(width, height, data).map(DynamicImage::ImageRgb8),
                (false, Some(_)) => buffer(width, height, data).map(DynamicImage::ImageRgba8),
            }
        };
        picture.ok_or_else(|| {
            "the decoder gave another number of samples than the picture has".to_owned()
        })
    }

    /// All channels, pixel by pixel; `store` takes values from 0 to 1, and others that it has to clamp.
    fn interleaved<T>(
        &self,
        matrix: u16,
        alpha: Option<&Planes>,
        store: impl Fn(f32) -> T,
    ) -> Result<Vec<T>, String> {
        let to_rgb = match &self.chroma {
            Some(_) => Some(Matrix::new(matrix, self.subsampled())?),
            None => None,
        };
        let channels = if self.chroma.is_some() { 3 } else { 1 } + usize::from(alpha.is_some());
        let mut data = Vec::with_capacity(self.luma.samples.len() * channels);
        let luma = Scale::luma(self.depth, self.full_range);
        let chroma = match to_rgb {
            Some(Matrix::Identity) => luma,
            _ => Scale::chroma(self.depth, self.full_range),
        };
        let opacity = alpha.map(|alpha| Scale::luma(alpha.depth, alpha.full_range));
        let (width, height) = (self.luma.width, self.luma.height);
        let chroma_size = self
            .chroma
            .as_ref()
            .map_or((width, height), |[cb, _]| (cb.width, cb.height));
        let columns = neighbours(width, chroma_size.0);
        let mut between: [Vec<f32>; 2] = Default::default();
        for (row, (near, far)) in neighbours(height, chroma_size.1).into_iter().enumerate() {
            if let Some(planes) = &self.chroma {
                for (plane, between) in planes.iter().zip(&mut between) {
                    between.clear();
                    let pairs = plane.row(near).iter().zip(plane.row(far));
                    between.extend(pairs.map(|(&near, &far)| weighted(near.into(), far.into())));
                }
            }
            for (column, &sample) in self.luma.row(row).iter().enumerate() {
                let y = luma.of(sample.into());
                if let Some(to_rgb) = &to_rgb {
                    let (near, far) = columns[column];
                    let at = |plane: &[f32]| chroma.of(weighted(plane[near], plane[far]));
                    data.extend(to_rgb.rgb(y, at(&between[0]), at(&between[1])).map(&store));
                } else {
                    data.push(store(y));
                }
                if let (Some(alpha), Some(opacity)) = (alpha, &opacity) {
                    data.push(store(opacity.of(alpha.luma.row(row)[column].into())));
                }
            }
        }
        Ok(data)
    }

    fn subsampled(&self) -> bool {
        let whole =
            |[cb, _]: &[Plane; 2]| (cb.width, cb.height) == (self.luma.width, self.luma.height);
        !self.chroma.as_ref().is_none_or(whole)
    }
}

/// For each of `pixels` along a side, the chroma sample of its own and the next one on its side of that.
fn neighbours(pixels: usize, samples: usize) -> Vec<(usize, usize)> {
    let last = samples.saturating_sub(1);
    let pair = |pixel: usize| match (samples == pixels, pixel % 2) {
        (true, _) => (pixel, pixel),
        (false, 0) => ((pixel / 2).min(last), (pixel / 2).saturating_sub(1)),
        (false, _) => ((pixel / 2).min(last), (pixel / 2 + 1).min(last)),
    };
    (0..pixels).map(pair).collect()
}

/// What lies a quarter of the way from `near` to `far`.
fn weighted(near: f32, far: f32) -> f32 {
    0.75 * near + 0.25 * far
}

/// From samples to values: of luma and alpha from 0 to 1, of chroma from -0.5 to 0.5.
#[derive(Clone, Copy)]
struct Scale {
    zero: f32,
    factor: f32,
}

impl Scale {
    fn luma(depth: u32, full_range: bool) -> Self {
        match full_range {
            true => Self {
                zero: 0.0,
                factor: 1.0 / largest(depth),
            },
            false => Self {
                zero: 16.0 * step(depth),
                factor: 1.0 / (219.0 * step(depth)),
            },
        }
    }

    fn chroma(depth: u32, full_range: bool) -> Self {
        let factor = if full_range {
            largest(depth)
        } else {
            224.0 * step(depth)
        }
        .recip();
        Self {
            zero: 128.0 * step(depth),
            factor,
        }
    }

    fn of(&self, sample: f32) -> f32 {
        (sample - self.zero) * self.factor
    }
}

fn largest(depth: u32) -> f32 {
    ((1u32 << depth) - 1) as f32
}

/// How many steps of a sample are one of an 8-bit sample.
fn step(depth: u32) -> f32 {
    (1u32 << (depth - 8)) as f32
}

/// How luma and chroma make RGB.
enum Matrix {
    /// The planes are green, blue and red.
    Identity,
    YCgCo,
    /// The parts that red and blue have in luma.
    Weights(f32, f32),
}

impl Matrix {
    fn new(code: u16, subsampled: bool) -> Result<Self, String> {
        let matrix = match code {
            0 => Self::Identity,
            1 => Self::Weights(0.2126, 0.0722),
            4 => Self::Weights(0.30, 0.11),
            // Unspecified: what HEIF's profile for pictures (ISO/IEC 23000-22) presumes.
            2 | 5 | 6 => Self::Weights(0.299, 0.114),
            7 => Self::Weights(0.212, 0.087),
            8 => Self::YCgCo,
            9 => Self::Weights(0.2627, 0.0593),
            _ => {
                return Err(format!(
                    "its colours use matrix {code} of ITU-T H.273, which is not read"
                ));
            }
        };
        match matrix {
            Self::Identity if subsampled => Err("has RGB of unequal planes".to_owned()),
            matrix => Ok(matrix),
        }
    }

    fn rgb(&self, y: f32, cb: f32, cr: f32) -> [f32; 3] {
        match *self {
            Self::Identity => [cr, y, cb],
            Self::YCgCo => [y - cb + cr, y + cb, y - cb - cr],
            Self::Weights(red, blue) => {
                let r = y + 2.0 * (1.0 - red) * cr;
                let b = y + 2.0 * (1.0 - blue) * cb;
                [r, (y - red * r - blue * b) / (1.0 - red - blue), b]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, samples: &[u16]) -> Plane {
        Plane {
            width,
            height: samples.len() / width,
            samples: samples.to_vec(),
        }
    }

    fn one(samples: [u16; 3], depth: u32, full_range: bool) -> Planes {
        let [y, cb, cr] = samples.map(|sample| plane(1, &[sample]));
        Planes {
            luma: y,
            chroma: Some([cb, cr]),
            depth,
            full_range,
        }
    }

    fn rgb8(samples: [u16; 3], full_range: bool, matrix: u16) -> [u8; 3] {
        one(samples, 8, full_range)
            .picture(matrix, None)
            .unwrap()
            .to_rgb8()
            .get_pixel(0, 0)
            .0
    }

    #[test]
    fn matrices_and_ranges_are_those_of_h_273() {
        // Red and blue of BT.601, BT.709 and BT.2020, rounded to 8 bits.
        assert_eq!(rgb8([76, 85, 255], true, 6), [254, 0, 0]);
        assert_eq!(rgb8([81, 90, 240], false, 5), [254, 0, 0]);
        assert_eq!(rgb8([63, 102, 240], false, 1), [255, 1, 0]);
        assert_eq!(rgb8([74, 97, 240], false, 9), [255, 0, 1]);
        assert_eq!(rgb8([32, 240, 118], false, 1), [1, 0, 255]);
        for matrix in [1, 2, 4, 5, 6, 7, 8, 9] {
            assert_eq!(rgb8([128, 128, 128], true, matrix), [128, 128, 128]);
            assert_eq!(rgb8([16, 128, 128], false, matrix), [0, 0, 0]);
            assert_eq!(rgb8([235, 128, 128], false, matrix), [255, 255, 255]);
        }
        // Green, blue and red; and a difference of green and magenta.
        assert_eq!(rgb8([10, 20, 30], true, 0), [30, 10, 20]);
        assert_eq!(rgb8([100, 138, 128], true, 8), [90, 110, 90]);
        assert!(one([0; 3], 8, true).picture(10, None).is_err());
    }

    #[test]
    fn deep_samples_fill_sixteen_bits() {
        for (depth, full_range, white) in [
            (10, true, 1023),
            (12, true, 4095),
            (10, false, 940),
            (12, false, 3760),
        ] {
            let middle = 1 << (depth - 1);
            let picture = one([white, middle, middle], depth, full_range)
                .picture(6, None)
                .unwrap();
            assert_eq!(picture.as_rgb16().unwrap().get_pixel(0, 0).0, [65535; 3]);
        }
    }

    #[test]
    fn chroma_is_interpolated_from_the_middle_of_its_pixels() {
        // BT.601 of full range, where red is luma and 1.402 times Cr.
        let chroma = [plane(3, &[128; 3]), plane(3, &[128, 148, 128])];
        let planes = Planes {
            luma: plane(5, &[100; 5]),
            chroma: Some(chroma),
            depth: 8,
            full_range: true,
        };
        let picture = planes.picture(6, None).unwrap().to_rgb8();
        let red: Vec<u8> = picture.pixels().map(|pixel| pixel.0[0]).collect();
        let wanted = [0.0, 5.0, 15.0, 15.0, 5.0].map(|cr: f32| (100.0 + 1.402 * cr).round() as u8);
        assert_eq!(red, wanted);
    }

    #[test]
    fn alpha_of_its_own_depth_comes_last() {
        let gray = |sample, depth| Planes {
            luma: plane(1, &[sample]),
            chroma: None,
            depth,
            full_range: true,
        };
        let picture = gray(255, 8).picture(2, Some(&gray(512, 10))).unwrap();
        assert_eq!(
            picture.as_luma_alpha16().unwrap().get_pixel(0, 0).0,
            [65535, 32800]
        );
        let picture = gray(9, 8).picture(2, Some(&gray(77, 8))).unwrap();
        assert_eq!(picture.as_luma_alpha8().unwrap().get_pixel(0, 0).0, [9, 77]);
    }

    #[test]
    fn parts_are_cut_at_the_edges() {
        let mut whole = Plane::black(3, 2);
        let part = plane(2, &[1, 2, 3, 4]);
        whole.place(&part, 2, 1);
        assert_eq!(whole.samples, [0, 0, 0, 0, 0, 1]);
        whole.place(&part, 0, 0);
        assert_eq!(whole.samples, [1, 2, 0, 3, 4, 1]);
        whole.place(&part, 3, 0);
        whole.place(&part, 0, 2);
        assert_eq!(whole.samples, [1, 2, 0, 3, 4, 1]);
    }
}
