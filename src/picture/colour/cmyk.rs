//! Amounts of ink (CMYK) to sRGB.

use std::{array, mem};

use moxcms::{
    DataColorSpace, LutDataType, LutMultidimensionalType, LutStore, LutType, LutWarehouse,
    ProfileVersion, ToneReprCurve,
};
use rayon::prelude::*;

use super::encoding::{D50, Encoding};
use super::light::linear_to_srgb;
use super::profile::parse;

/// A sample of 8 or 16 bits.
pub(crate) trait Sample: Copy + Into<u32> + Send + Sync {
    const MAX: u32;

    /// Of a number that is at most [`MAX`](Self::MAX).
    fn of(number: u32) -> Self;
}

impl Sample for u8 {
    const MAX: u32 = 255;

    fn of(number: u32) -> u8 {
        number as u8
    }
}

impl Sample for u16 {
    const MAX: u32 = 65_535;

    fn of(number: u32) -> u16 {
        number as u16
    }
}

/// Interleaved CMYK, where 0 is no ink, to interleaved sRGB of the same bits, and a warning where it is approximate.
///
/// By `profile`'s table for the perceptual intent, which all profiles of inks have and which is what
/// browsers and littlecms use by default; the colorimetric one where there is no other. The darkest
/// ink becomes black (black point compensation), as it does by littlecms for that intent: otherwise
/// photographs come out flat, as paper is. Without a profile that can be used, R = (1 − C) · (1 − K)
/// and so on.
pub(crate) fn cmyk_to_rgb<T: Sample>(
    samples: &[T],
    profile: Option<&[u8]>,
) -> (Vec<T>, Option<String>) {
    let warning = match profile.map(Inks::of_profile) {
        Some(Ok(inks)) => return (inks.to_srgb(samples), None),
        Some(Err(reason)) => {
            format!("its CMYK profile cannot be used ({reason}): colours are approximate")
        }
        None => "CMYK without a profile: colours are approximate".to_string(),
    };
    (plain(samples), Some(warning))
}

fn plain<T: Sample>(samples: &[T]) -> Vec<T> {
    convert(samples, |cmyk| {
        let [c, m, y, paper] = cmyk.map(|ink| u64::from(T::MAX - ink.into()));
        let max = u64::from(T::MAX);
        [c, m, y].map(|rest| T::of(((rest * paper + max / 2) / max) as u32))
    })
}

fn convert<T: Sample>(samples: &[T], pixel: impl Fn([T; 4]) -> [T; 3] + Sync) -> Vec<T> {
    let (inks, _) = samples.as_chunks::<4>();
    let mut rgb = vec![T::of(0); 3 * inks.len()];
    const PIXELS: usize = 1 << 14;
    let parts = rgb.par_chunks_mut(3 * PIXELS).zip(inks.par_chunks(PIXELS));
    parts.for_each(|(rgb, inks)| {
        for (rgb, &inks) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(inks) {
            *rgb = pixel(inks);
        }
    });
    rgb
}

/// What a profile says of inks: curves, a grid of colours, curves and a matrix, curves (ICC.1:2022, 10.10 to 10.12).
///
/// `moxcms` reads the tables but does not evaluate them here: it interpolates in another way than
/// littlecms, by which colours differ by tens of steps between the few points of small profiles.
struct Inks {
    curves: [Vec<f32>; 4],
    /// Points along each ink.
    grid: [usize; 4],
    /// The last ink's points are next to each other.
    colours: Vec<[f32; 3]>,
    middle: Option<Middle>,
    last: [Vec<f32>; 3],
    connection: Connection,
    /// Luminance of the darkest ink, that of paper being 1.
    black: f32,
}

struct Middle {
    curves: [Vec<f32>; 3],
    matrix: [[f64; 3]; 3],
    bias: [f64; 3],
}

/// What the numbers in [0, 1] mean that come out of the last curves.
enum Connection {
    /// L* = scale · 100 · v; a* and b* = scale · 255 · v − 128.
    Lab { scale: f32 },
    /// XYZ = 65,535 / 32,768 · v.
    Xyz,
}

/// The luminance of black by ICC's perceptual intent, in version 4.
const PERCEPTUAL_BLACK: f32 = 0.003_473_1;

/// An L* of 50. No darkest ink is lighter, whatever the profile says.
const LIGHTEST_BLACK: f32 = 0.184_187;

impl Inks {
    /// # Errors
    ///
    /// Why the profile cannot be used.
    fn of_profile(bytes: &[u8]) -> Result<Inks, String> {
        let profile = parse(bytes)?;
        if profile.color_space != DataColorSpace::Cmyk {
            return Err("it does not describe CMYK".to_string());
        }
        let perceptual = profile.lut_a_to_b_perceptual.as_ref();
        let table = perceptual.or(profile.lut_a_to_b_colorimetric.as_ref());
        let mut inks = match table.ok_or("it has no table of colours")? {
            LutWarehouse::Lut(table) => Inks::of_lut(table, profile.pcs)?,
            LutWarehouse::Multidimensional(table) => Inks::of_curves(table, profile.pcs)?,
        };
        inks.black = if perceptual.is_some() && profile.version() >= ProfileVersion::V4_0 {
            PERCEPTUAL_BLACK
        } else {
            let [_, luminance, _] =
                inks.xyz(inks.colour(&inks.positions(&[1.0]).map(|ink| ink[0])));
            luminance.clamp(0.0, LIGHTEST_BLACK)
        };
        Ok(inks)
    }

    /// Of lut8Type and lut16Type.
    fn of_lut(table: &LutDataType, pcs: DataColorSpace) -> Result<Inks, String> {
        let grid = [usize::from(table.num_clut_grid_points); 4];
        let scale = match table.lut_type {
            LutType::Lut16 => 65_535.0 / 65_280.0, // by 100 of L* at 65,280
            _ => 1.0,
        };
        Ok(Inks {
            curves: curves(parts(&table.input_table, table.num_input_table_entries))?,
            grid,
            colours: colours(&table.clut_table, grid)?,
            middle: None,
            last: curves(parts(&table.output_table, table.num_output_table_entries))?,
            connection: Connection::of(pcs, scale)?,
            black: 0.0,
        })
    }

    /// Of lutAToBType.
    fn of_curves(table: &LutMultidimensionalType, pcs: DataColorSpace) -> Result<Inks, String> {
        let [c, m, y, k, ..] = table.grid_points.map(usize::from);
        let grid = [c, m, y, k];
        let middle = match table.m_curves.as_slice() {
            [] => None,
            found => Some(Middle {
                curves: curves(sampled(found)?)?,
                matrix: table.matrix.v,
                bias: table.bias.v,
            }),
        };
        Ok(Inks {
            curves: curves(sampled(&table.a_curves)?)?,
            grid,
            colours: colours(
                table.clut.as_ref().ok_or("it has no grid of colours")?,
                grid,
            )?,
            middle,
            last: curves(sampled(&table.b_curves)?)?,
            connection: Connection::of(pcs, 1.0)?,
            black: 0.0,
        })
    }

    fn to_srgb<T: Sample>(&self, samples: &[T]) -> Vec<T> {
        let values: Vec<f32> = (0..=T::MAX)
            .map(|sample| sample as f32 / T::MAX as f32)
            .collect();
        let positions = self.positions(&values);
        let light_of_xyz = Encoding::srgb().light_of_xyz();
        let encoded = linear_to_srgb();
        convert(samples, |inks| {
            let at: [&Position; 4] = array::from_fn(|i| &positions[i][inks[i].into() as usize]);
            let xyz = self.xyz(self.colour(&at.map(|position| *position)));
            light_of_xyz.map(|row| {
                let light = dot(row, xyz);
                let light = (light - self.black) / (1.0 - self.black);
                T::of((encoded.at(light) * T::MAX as f32 + 0.5) as u32)
            })
        })
    }

    /// Of each ink, where in the grid it is for these values.
    fn positions(&self, values: &[f32]) -> [Vec<Position>; 4] {
        let [_, m, y, k] = self.grid;
        let strides = [m * y * k, y * k, k, 1];
        array::from_fn(|ink| {
            let (curve, points, stride) = (&self.curves[ink], self.grid[ink], strides[ink]);
            let position = |&value: &f32| {
                let along = interpolate(curve, value) * (points - 1) as f32;
                let below = (along as usize).min(points - 1);
                Position {
                    offset: below * stride,
                    step: if below + 1 < points { stride } else { 0 },
                    part: along - below as f32,
                }
            };
            values.iter().map(position).collect()
        })
    }

    /// Between the points of the grid, linear along cyan and tetrahedral in the others.
    fn colour(&self, [c, others @ ..]: &[Position; 4]) -> [f32; 3] {
        let low = self.tetrahedral(c.offset, others);
        if c.part == 0.0 {
            return low;
        }
        let high = self.tetrahedral(c.offset + c.step, others);
        array::from_fn(|i| low[i] + c.part * (high[i] - low[i]))
    }

    /// From the lowest corner of a cell to the highest along its edges, the one with the largest part first.
    fn tetrahedral(&self, start: usize, others: &[Position; 3]) -> [f32; 3] {
        let [mut a, mut b, mut c] = others.each_ref();
        let mut at = start + a.offset + b.offset + c.offset;
        if a.part < b.part {
            mem::swap(&mut a, &mut b);
        }
        if b.part < c.part {
            mem::swap(&mut b, &mut c);
        }
        if a.part < b.part {
            mem::swap(&mut a, &mut b);
        }
        let mut found = self.colours[at].map(|value| (1.0 - a.part) * value);
        for (axis, weight) in [(a, a.part - b.part), (b, b.part - c.part), (c, c.part)] {
            at += axis.step;
            let corner = self.colours[at];
            found = array::from_fn(|i| found[i] + weight * corner[i]);
        }
        found
    }

    /// What the grid's numbers mean: XYZ, that of paper being D50.
    fn xyz(&self, mut values: [f32; 3]) -> [f32; 3] {
        if let Some(middle) = &self.middle {
            let shaped = array::from_fn(|i| interpolate(&middle.curves[i], values[i]));
            values = array::from_fn(|i| {
                let row = middle.matrix[i].map(|number| number as f32);
                dot(row, shaped) + middle.bias[i] as f32
            });
        }
        let values: [f32; 3] = array::from_fn(|i| interpolate(&self.last[i], values[i]));
        let Connection::Lab { scale } = self.connection else {
            return values.map(|value| value * (65_535.0 / 32_768.0));
        };
        let [l, a, b] = values.map(|value| value * scale);
        let y = (100.0 * l + 16.0) / 116.0;
        let x = y + (255.0 * a - 128.0) / 500.0;
        let z = y - (255.0 * b - 128.0) / 200.0;
        let light = |f: f32| match f > 24.0 / 116.0 {
            true => f * f * f,
            false => (f - 16.0 / 116.0) * (108.0 / 841.0),
        };
        let [white_x, _, white_z] = D50.map(|value| value as f32);
        [white_x * light(x), light(y), white_z * light(z)]
    }
}

/// Along one ink.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// To the point below.
    offset: usize,
    /// From there to the one above; 0 at the last.
    step: usize,
    /// Of the way between them.
    part: f32,
}

impl Connection {
    fn of(pcs: DataColorSpace, scale: f32) -> Result<Connection, String> {
        match pcs {
            DataColorSpace::Lab => Ok(Connection::Lab { scale }),
            DataColorSpace::Xyz => Ok(Connection::Xyz),
            _ => Err("its colours are neither Lab nor XYZ".to_string()),
        }
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// `curve`, of one point or more, over [0, 1].
fn interpolate(curve: &[f32], value: f32) -> f32 {
    let last = curve.len() - 1;
    let along = value.clamp(0.0, 1.0) * last as f32;
    let below = (along as usize).min(last);
    let (low, high) = (curve[below], curve[(below + 1).min(last)]);
    low + (along - below as f32) * (high - low)
}

/// One curve after the other.
fn parts(store: &LutStore, length: u16) -> Vec<Vec<f32>> {
    let points = store.to_clut_f32();
    points
        .chunks_exact(usize::from(length).max(1))
        .map(<[f32]>::to_vec)
        .collect()
}

/// The points of curves, those of functions being many.
fn sampled(curves: &[ToneReprCurve]) -> Result<Vec<Vec<f32>>, String> {
    const STEPS: u16 = 4096;
    let points = |curve: &ToneReprCurve| match curve {
        ToneReprCurve::Lut(points) if points.len() > 1 => Ok(points
            .iter()
            .map(|&point| f32::from(point) / 65_535.0)
            .collect()),
        function => {
            let function = function
                .make_linear_evaluator()
                .map_err(|error| error.to_string())?;
            let at = |step| function.evaluate_value(f32::from(step) / f32::from(STEPS));
            Ok((0..=STEPS).map(at).collect())
        }
    };
    curves.iter().map(points).collect()
}

fn curves<const N: usize>(found: Vec<Vec<f32>>) -> Result<[Vec<f32>; N], String> {
    if found.iter().flatten().any(|point| !point.is_finite()) || found.iter().any(Vec::is_empty) {
        return Err("a curve without values".to_string());
    }
    let found = <[Vec<f32>; N]>::try_from(found);
    found.map_err(|found| format!("{} curves, expected {N}", found.len()))
}

fn colours(store: &LutStore, grid: [usize; 4]) -> Result<Vec<[f32; 3]>, String> {
    let points: usize = grid.iter().product(); // of bytes, so that four of them cannot overflow
    let values = store.to_clut_f32();
    let (colours, rest) = values.as_chunks::<3>();
    if points == 0 || colours.len() != points || !rest.is_empty() {
        return Err(format!(
            "a grid of {} values, expected 3 · {points}",
            values.len()
        ));
    }
    Ok(colours.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile with a table of 8 bits, of two points along each ink.
    fn profile(version: u8, corners: &[[u8; 3]; 16]) -> Vec<u8> {
        let ramp: Vec<u8> = (0..=255).collect();
        let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
        table.extend(
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
                .as_flattened()
                .iter()
                .flat_map(|it| [0, *it, 0, 0]),
        );
        table.extend(ramp.repeat(4));
        table.extend(corners.as_flattened());
        table.extend(ramp.repeat(3));
        let mut icc = vec![0; 128];
        icc[8] = version;
        icc[12..24].copy_from_slice(b"prtrCMYKLab ");
        icc[36..40].copy_from_slice(b"acsp");
        icc.extend(1_u32.to_be_bytes());
        icc.extend(b"A2B0");
        icc.extend(144_u32.to_be_bytes());
        icc.extend((table.len() as u32).to_be_bytes());
        icc.extend(table);
        let length = (icc.len() as u32).to_be_bytes();
        icc[..4].copy_from_slice(&length);
        icc
    }

    /// Each ink multiplies L* (in 8 bits).
    fn inks() -> [[u8; 3]; 16] {
        array::from_fn(|corner| {
            let lightness = |ink: usize, factor: f32| {
                if corner >> (3 - ink) & 1 == 1 {
                    factor
                } else {
                    1.0
                }
            };
            let l = 255.0
                * lightness(0, 0.6)
                * lightness(1, 0.5)
                * lightness(2, 0.9)
                * lightness(3, 0.2);
            [l.round() as u8, 128, 128]
        })
    }

    #[test]
    fn corners_of_the_grid_are_the_profiles_colours() {
        let icc = profile(2, &inks());
        let cmyk = [
            [0_u8, 0, 0, 0],
            [0, 0, 0, 255],
            [255, 255, 255, 255],
            [255, 0, 0, 0],
        ];
        let (rgb, warning) = cmyk_to_rgb(cmyk.as_flattened(), Some(&icc));
        assert_eq!(warning, None);
        // L* of 100, 20, 5.5 (which becomes black) and 60; littlecms gives the same.
        assert_eq!(rgb, [255, 255, 255, 43, 43, 43, 0, 0, 0, 144, 144, 144]);
    }

    #[test]
    fn sixteen_bits_are_as_eight() {
        let icc = profile(2, &inks());
        let cmyk: Vec<u8> = (0..4000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let (eight, _) = cmyk_to_rgb(&cmyk, Some(&icc));
        let wide: Vec<u16> = cmyk.iter().map(|&ink| u16::from(ink) * 257).collect();
        let (sixteen, _) = cmyk_to_rgb(&wide, Some(&icc));
        for (&eight, &sixteen) in eight.iter().zip(&sixteen) {
            assert!((f32::from(eight) - f32::from(sixteen) / 257.0).abs() <= 0.51);
        }
        assert!(eight.iter().max() > Some(&100));
    }

    #[test]
    fn version_4_has_a_black_of_its_own() {
        let cmyk = [[0, 0, 0, 255], [255_u8; 4], [255, 0, 0, 0]];
        let gray = |icc: &[u8]| {
            let (rgb, _) = cmyk_to_rgb(cmyk.as_flattened(), Some(icc));
            [rgb[0], rgb[3], rgb[6]]
        };
        assert_eq!(gray(&profile(2, &inks())), [43, 0, 144]);
        assert_eq!(gray(&profile(4, &inks())), [45, 9, 144]); // as littlecms
    }

    #[test]
    fn interpolation_is_tetrahedral() {
        // Only where magenta and yellow are full there is light.
        let corners = array::from_fn(|corner| {
            if corner & 0b0110 == 0b0110 {
                [255, 128, 128]
            } else {
                [0, 128, 128]
            }
        });
        let icc = profile(2, &corners);
        let inks = Inks::of_profile(&icc).unwrap();
        let at = |values: [f32; 4]| {
            let [c, m, y, k] = values.map(|value| inks.positions(&[value]));
            inks.colour(&[c[0][0], m[1][0], y[2][0], k[3][0]])[0]
        };
        assert!((at([0.3, 0.7, 0.4, 0.1]) - 0.4).abs() < 1e-6); // and not 0.28, by products
        assert!((at([0.9, 0.2, 0.8, 0.6]) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn without_a_profile_the_plain_formula_and_a_warning() {
        let cmyk = [0, 0, 0, 0, 255, 0, 0, 0, 0, 128, 0, 128, 9, 9, 9, 255, 7];
        let (rgb, warning) = cmyk_to_rgb::<u8>(&cmyk, None);
        assert_eq!(rgb, [255, 255, 255, 0, 255, 255, 127, 63, 127, 0, 0, 0]);
        assert!(warning.unwrap().contains("without a profile"));
        let (wide, _) = cmyk_to_rgb::<u16>(&[65_535, 0, 32_768, 0], None);
        assert_eq!(wide, [0, 65_535, 32_767]);
    }

    #[test]
    fn a_profile_that_cannot_be_used_is_said() {
        let whole = profile(2, &inks());
        let mut of_rgb = whole.clone();
        of_rgb[16..20].copy_from_slice(b"RGB ");
        let mut bare = whole.clone();
        bare[132..136].copy_from_slice(b"zzzz");
        for (icc, reason) in [
            (&whole[..300], "Invalid"),
            (&of_rgb, "does not describe CMYK"),
            (&bare, "no table"),
            (b"", "Invalid"),
        ] {
            let (rgb, warning) = cmyk_to_rgb(&[0_u8, 0, 0, 255], Some(icc));
            assert_eq!(rgb, [0, 0, 0]);
            let warning = warning.unwrap();
            assert!(
                warning.contains(reason) && warning.contains("approximate"),
                "{warning}"
            );
        }
    }
}
