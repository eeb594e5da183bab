//! Primaries and a curve: what a matrix profile and PNG's numbers say.

use moxcms::{Matrix3d, ToneReprCurve, Vector3d, Xyz, adaption_matrix_d};

use super::light::Light;

/// White, red, green, blue: x and y of each (CIE 1931).
pub(super) type Chromaticities = [[f64; 2]; 4];

pub(super) const D65: [f64; 2] = [0.3127, 0.3290];
pub(super) const BT709: Chromaticities = [D65, [0.64, 0.33], [0.30, 0.60], [0.15, 0.06]];

/// Of ICC's profile connection space.
pub(super) const D50: [f64; 3] = [0.9642, 1.0, 0.8249];

/// How far from sRGB's light or primaries is still sRGB: within an 8-bit step, and how profiles of it differ.
const SAME: f64 = 0.003;

/// Red, green and blue of linear light, and a curve for all three.
#[derive(Debug, Clone)]
pub(super) struct Encoding {
    /// To XYZ that is adapted to [`D50`].
    to_xyz: Matrix3d,
    /// From the white of the picture to [`D50`], where it is known.
    adaptation: Option<Matrix3d>,
    /// Values to light.
    curve: ToneReprCurve,
}

impl Encoding {
    pub(super) fn new(
        to_xyz: Matrix3d,
        adaptation: Option<Matrix3d>,
        curve: ToneReprCurve,
    ) -> Self {
        Encoding {
            to_xyz,
            adaptation,
            curve,
        }
    }

    /// `None` where the primaries have no such white, or one would need very much or negative light.
    pub(super) fn of_chromaticities(
        found: &Chromaticities,
        curve: ToneReprCurve,
    ) -> Option<Encoding> {
        let [white, primaries @ ..] = found.map(|[x, y]| [x, y, 1.0 - x - y]);
        let white = Vector3d {
            v: white.map(|value| value / white[1]),
        };
        let columns = Matrix3d { v: primaries }.transpose();
        let Vector3d { v: amounts } = columns.inverse().mul_vector(white);
        if !amounts.iter().all(|amount| (1e-4..1e4).contains(amount)) {
            return None;
        }
        let [x, y, z] = white.v.map(|value| value as f32);
        let adaptation = adaption_matrix_d(Xyz::new(x, y, z), d50());
        let v = columns
            .v
            .map(|row| std::array::from_fn(|i| row[i] * amounts[i]));
        let to_xyz = adaptation.mat_mul(Matrix3d { v });
        let sound = to_xyz
            .v
            .as_flattened()
            .iter()
            .all(|value| value.abs() < 100.0); // false for NaN
        sound.then(|| Self::new(to_xyz, Some(adaptation), curve))
    }

    pub(super) fn srgb() -> Encoding {
        Self::of_chromaticities(&BT709, srgb_curve()).expect("these primaries have this white")
    }

    /// As the model sees it.
    pub(super) fn with_srgb_curve(self) -> Encoding {
        Encoding {
            curve: srgb_curve(),
            ..self
        }
    }

    /// A matrix from XYZ that is adapted to [`D50`] to linear light.
    pub(super) fn light_of_xyz(&self) -> [[f32; 3]; 3] {
        self.to_xyz
            .inverse()
            .v
            .map(|row| row.map(|number| number as f32))
    }

    /// Values to light.
    pub(super) fn curve(&self) -> &ToneReprCurve {
        &self.curve
    }

    pub(super) fn light(&self) -> Light {
        light_of(&self.curve)
    }

    pub(super) fn has_srgb_primaries(&self) -> bool {
        let (found, srgb) = (self.to_xyz.v, Self::srgb().to_xyz.v);
        let mut pairs = found.as_flattened().iter().zip(srgb.as_flattened());
        pairs.all(|(a, b)| (a - b).abs() < SAME)
    }

    pub(super) fn has_srgb_curve(&self) -> bool {
        let (Some(found), Some(srgb)) = (sampled(&self.curve), sampled(&srgb_curve())) else {
            return false;
        };
        found.iter().zip(&srgb).all(|(a, b)| (a - b).abs() < SAME)
    }

    /// A profile (ICC.1:2022, version 4.3) of gray or of RGB values.
    pub(super) fn to_icc(&self, gray: bool) -> Vec<u8> {
        let text = |text: &str| {
            let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            let length = (utf16.len() as u32).to_be_bytes();
            let head: &[u8] = b"mluc\0\0\0\0\0\0\0\x01\0\0\0\x0cenUS";
            [head, &length, &28_u32.to_be_bytes(), &utf16].concat()
        };
        let xyz = |xyz: [f64; 3]| [b"XYZ \0\0\0\0", fixed(&xyz).as_slice()].concat();
        let curve = curve_tag(&self.curve);
        let mut tags = vec![
            (b"desc", text("The colours of this picture")),
            (b"cprt", text("No copyright")),
            (b"wtpt", xyz(D50)),
        ];
        if let Some(adaptation) = self.adaptation {
            let numbers = fixed(adaptation.v.as_flattened());
            tags.push((b"chad", [b"sf32\0\0\0\0", numbers.as_slice()].concat()));
        }
        if gray {
            tags.push((b"kTRC", curve));
        } else {
            let [red, green, blue] = self.to_xyz.transpose().v;
            tags.extend([
                (b"rXYZ", xyz(red)),
                (b"gXYZ", xyz(green)),
                (b"bXYZ", xyz(blue)),
            ]);
            tags.extend([
                (b"rTRC", curve.clone()),
                (b"gTRC", curve.clone()),
                (b"bTRC", curve),
            ]);
        }
        profile(if gray { b"GRAY" } else { b"RGB " }, &tags)
    }
}

/// The values' curve, by its middle: what kind of light it is.
pub(super) fn light_of(curve: &ToneReprCurve) -> Light {
    let Some(light) = sampled(curve) else {
        return Light::Display;
    };
    let linear = light
        .iter()
        .enumerate()
        .all(|(i, light)| (light - value(i)).abs() < 0.01);
    let middle = light[SAMPLES / 2];
    match linear {
        true => Light::Linear,
        false => Light::of_exponent(middle.ln() / 0.5_f64.ln()),
    }
}

const SAMPLES: usize = 33;

fn value(sample: usize) -> f64 {
    sample as f64 / (SAMPLES - 1) as f64
}

/// Light of values from 0 to 1; `None` of a curve that is none.
fn sampled(curve: &ToneReprCurve) -> Option<[f64; SAMPLES]> {
    let evaluator = curve.make_linear_evaluator().ok()?;
    let light: [f64; SAMPLES] =
        std::array::from_fn(|i| f64::from(evaluator.evaluate_value(value(i) as f32)));
    light.iter().all(|light| light.is_finite()).then_some(light)
}

pub(super) fn srgb_curve() -> ToneReprCurve {
    ToneReprCurve::Parametric(vec![2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.04045])
}

fn d50() -> Xyz {
    let [x, y, z] = D50.map(|value| value as f32);
    Xyz::new(x, y, z)
}

/// s15Fixed16Number.
fn fixed(numbers: &[f64]) -> Vec<u8> {
    let fixed = numbers
        .iter()
        .map(|number| (number * 65_536.0).round() as i32);
    fixed.flat_map(i32::to_be_bytes).collect()
}

/// curveType or parametricCurveType.
fn curve_tag(curve: &ToneReprCurve) -> Vec<u8> {
    match curve {
        ToneReprCurve::Lut(points) => {
            let count = (points.len() as u32).to_be_bytes();
            let points: Vec<u8> = points
                .iter()
                .flat_map(|point| point.to_be_bytes())
                .collect();
            [b"curv\0\0\0\0", count.as_slice(), &points].concat()
        }
        ToneReprCurve::Parametric(parameters) => {
            // The function's number, by how many parameters it has.
            let function = match parameters.len() {
                0..=2 => 0,
                3 => 1,
                4 => 2,
                5 | 6 => 3,
                _ => 4,
            };
            let parameters: Vec<f64> = parameters.iter().map(|&it| f64::from(it)).collect();
            [
                b"para\0\0\0\0\0",
                [function, 0, 0].as_slice(),
                &fixed(&parameters),
            ]
            .concat()
        }
    }
}

/// Header, table of tags, and tags, each at a multiple of four bytes; equal ones are written once.
fn profile(space: &[u8; 4], tags: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    const HEADER: usize = 128;
    let mut table = (tags.len() as u32).to_be_bytes().to_vec();
    let mut data: Vec<u8> = Vec::new();
    let start = HEADER + 4 + 12 * tags.len();
    let mut last: Option<(&[u8], usize)> = None;
    for (name, tag) in tags {
        let offset = match last {
            Some((same, offset)) if same == tag.as_slice() => offset,
            _ => start + data.len(),
        };
        if offset == start + data.len() {
            data.extend_from_slice(tag);
            data.resize(data.len().next_multiple_of(4), 0);
        }
        last = Some((tag, offset));
        table.extend_from_slice(*name);
        table.extend_from_slice(&(offset as u32).to_be_bytes());
        table.extend_from_slice(&(tag.len() as u32).to_be_bytes());
    }
    let mut header = [0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((start + data.len()) as u32).to_be_bytes());
    put(8, &[4, 0x30, 0, 0]); // version
    put(12, b"mntr"); // of a display
    put(16, space);
    put(20, b"XYZ ");
    // One day for all, so that equal pictures make equal files.
    put(24, &[7, 0xd0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    put(36, b"acsp");
    put(68, &fixed(&D50));
    [header.as_slice(), &table, &data].concat()
}

#[cfg(test)]
mod tests {
    use moxcms::ColorProfile;

    use super::*;

    fn gamma(exponent: f32) -> ToneReprCurve {
        ToneReprCurve::Parametric(vec![exponent])
    }

    #[test]
    fn srgb_has_the_known_colorants() {
        let found = Encoding::srgb().to_xyz.v;
        // Of the profile of sRGB that littlecms 2.19 makes.
        let known = [
            [0.436_035, 0.385_117, 0.143_051],
            [0.222_488, 0.716_904, 0.060_608],
            [0.013_916, 0.097_061, 0.713_913],
        ];
        for (found, known) in found.as_flattened().iter().zip(known.as_flattened()) {
            assert!((found - known).abs() < 2e-5, "{found}, {known}");
        }
    }

    #[test]
    fn white_is_d50() {
        let displays = [
            BT709,
            [[0.314, 0.351], [0.68, 0.32], [0.265, 0.69], [0.15, 0.06]],
        ];
        for chromaticities in displays {
            let encoding = Encoding::of_chromaticities(&chromaticities, gamma(1.0)).unwrap();
            for (row, white) in encoding.to_xyz.v.iter().zip(D50) {
                assert!((row.iter().sum::<f64>() - white).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn impossible_primaries_are_none() {
        let same = [[0.3, 0.3]; 4];
        let dark = [[0.3127, 0.0], BT709[1], BT709[2], BT709[3]];
        let outside = [[0.9, 0.05], BT709[1], BT709[2], BT709[3]];
        let huge = [D65, [42_000.0, 1.0], [0.3, 0.6], [0.15, 0.06]];
        for chromaticities in [same, dark, outside, huge, [[0.0; 2]; 4], [[f64::NAN; 2]; 4]] {
            let found = Encoding::of_chromaticities(&chromaticities, gamma(1.0));
            assert!(found.is_none(), "{found:?}");
        }
    }

    #[test]
    fn profiles_are_read_as_written() {
        for curve in [
            gamma(1.8),
            srgb_curve(),
            ToneReprCurve::Lut(vec![0, 9, 65_535]),
        ] {
            let encoding = Encoding::of_chromaticities(&BT709, curve.clone()).unwrap();
            let icc = encoding.to_icc(false);
            let read = ColorProfile::new_from_slice(&icc).unwrap();
            assert!(read.is_matrix_shaper());
            let found = read.colorant_matrix().v;
            for (found, said) in found
                .as_flattened()
                .iter()
                .zip(encoding.to_xyz.v.as_flattened())
            {
                assert!((found - said).abs() < 1e-5);
            }
            for trc in [read.red_trc, read.green_trc, read.blue_trc] {
                let (found, said) = (sampled(&trc.unwrap()).unwrap(), sampled(&curve).unwrap());
                assert!(
                    found
                        .iter()
                        .zip(said)
                        .all(|(found, said)| (found - said).abs() < 1e-4)
                );
            }
            let gray = ColorProfile::new_from_slice(&encoding.to_icc(true)).unwrap();
            assert!(gray.gray_trc.is_some() && gray.red_trc.is_none());
            assert_eq!(icc.len() % 4, 0);
            assert_eq!(icc, encoding.to_icc(false));
        }
    }

    #[test]
    fn curves_are_told_apart() {
        let of = |curve| light_of(&curve);
        assert_eq!(of(srgb_curve()), Light::Display);
        assert_eq!(of(gamma(1.8)), Light::Display);
        assert_eq!(of(gamma(1.0)), Light::Linear);
        assert_eq!(of(ToneReprCurve::Lut(Vec::new())), Light::Linear);
        assert_eq!(of(ToneReprCurve::Lut(vec![256])), Light::Linear);
        assert_eq!(
            of(ToneReprCurve::Lut(vec![0, 32_800, 65_535])),
            Light::Linear
        );
        assert!(matches!(of(gamma(1.25)), Light::Gamma(found) if (found - 1.25).abs() < 1e-4));
        assert_eq!(of(ToneReprCurve::Lut(vec![0])), Light::Display);
        assert_eq!(of(gamma(f32::NAN)), Light::Display);
    }
}
