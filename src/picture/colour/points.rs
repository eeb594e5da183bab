//! Coding-independent code points (ITU-T H.273): PNG's cICP.

use moxcms::ToneReprCurve;

use super::encoding::{BT709, Chromaticities, D65, Encoding, srgb_curve};
use super::light::Light;

/// Illuminant C.
const C: [f64; 2] = [0.310, 0.316];

/// Code points that this program knows.
pub(super) struct Points {
    primaries: Chromaticities,
    transfer: Transfer,
    /// Black is 0 and white the largest sample.
    full_range: bool,
}

enum Transfer {
    Curve(ToneReprCurve),
    Logarithmic,
    Pq,
    Hlg,
}

impl Points {
    /// `None` of points that are reserved, unspecified, or of other values than RGB.
    pub(super) fn known([primaries, transfer, matrix, full_range]: [u8; 4]) -> Option<Points> {
        (matrix == 0).then_some(())?;
        Some(Points {
            primaries: chromaticities(primaries)?,
            transfer: Transfer::known(transfer)?,
            full_range: full_range != 0,
        })
    }

    pub(super) fn light(&self) -> Light {
        match &self.transfer {
            Transfer::Curve(curve) => super::encoding::light_of(curve),
            Transfer::Logarithmic => Light::Display,
            Transfer::Pq => Light::Pq,
            Transfer::Hlg => Light::Hlg,
        }
    }

    /// What a profile can say.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        match &self.transfer {
            Transfer::Curve(curve) if self.full_range => {
                Encoding::of_chromaticities(&self.primaries, curve.clone())
            }
            _ => None,
        }
    }

    /// Why no profile says this, in words that follow "its values are".
    pub(super) fn beyond_profiles(&self) -> Option<&'static str> {
        match self.transfer {
            Transfer::Pq => Some("HDR light (PQ)"),
            Transfer::Hlg => Some("HDR light (HLG)"),
            Transfer::Logarithmic => Some("logarithms of light"),
            Transfer::Curve(_) if !self.full_range => Some("of narrow range"),
            Transfer::Curve(_) => None,
        }
    }
}

impl Transfer {
    fn known(number: u8) -> Option<Transfer> {
        // v = a · l^0.45 − (a − 1) above l = b, and a multiple of l below; here its inverse.
        let camera = |a: f32, b: f32, slope: f32| {
            let parameters = [1.0 / 0.45, 1.0 / a, (a - 1.0) / a, 1.0 / slope, slope * b];
            ToneReprCurve::Parametric(parameters.to_vec())
        };
        let power = |exponent: f32| ToneReprCurve::Parametric(vec![exponent]);
        Some(match number {
            // BT.709, BT.601, xvYCC, BT.1361 and BT.2020
            1 | 6 | 11 | 12 | 14 | 15 => Transfer::Curve(camera(1.099_296_8, 0.018_053_97, 4.5)),
            4 => Transfer::Curve(power(2.2)),
            5 => Transfer::Curve(power(2.8)),
            7 => Transfer::Curve(camera(1.111_572_2, 0.022_821_586, 4.0)), // SMPTE 240M
            8 => Transfer::Curve(power(1.0)),
            9 | 10 => Transfer::Logarithmic,
            13 => Transfer::Curve(srgb_curve()),
            16 => Transfer::Pq,
            // SMPTE ST 428-1, where 48 of the 52.37 cd/m² of the largest sample are white
            17 => {
                let brighter = (52.37_f32 / 48.0).powf(1.0 / 2.6);
                Transfer::Curve(ToneReprCurve::Parametric(vec![2.6, brighter, 0.0]))
            }
            18 => Transfer::Hlg,
            _ => return None,
        })
    }
}

fn chromaticities(number: u8) -> Option<Chromaticities> {
    let bt601 = [D65, [0.630, 0.340], [0.310, 0.595], [0.155, 0.070]];
    let p3 = |white| [white, [0.680, 0.320], [0.265, 0.690], [0.150, 0.060]];
    Some(match number {
        1 => BT709,
        4 => [C, [0.67, 0.33], [0.21, 0.71], [0.14, 0.08]],
        5 => [D65, [0.64, 0.33], [0.29, 0.60], [0.15, 0.06]],
        6 | 7 => bt601,
        8 => [C, [0.681, 0.319], [0.243, 0.692], [0.145, 0.049]],
        9 => [D65, [0.708, 0.292], [0.170, 0.797], [0.131, 0.046]],
        10 => [[1.0 / 3.0, 1.0 / 3.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]],
        11 => p3([0.314, 0.351]),
        12 => p3(D65),
        22 => [D65, [0.630, 0.340], [0.295, 0.605], [0.155, 0.077]],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_points() {
        for primaries in [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22] {
            for transfer in [1, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 17] {
                let points = Points::known([primaries, transfer, 0, 1]).unwrap();
                assert!(points.encoding().is_some(), "{primaries} {transfer}");
                assert_eq!(points.light().is_display(), transfer != 8);
                assert!(points.beyond_profiles().is_none());
            }
        }
        for unknown in [
            [2, 13, 0, 1],
            [1, 2, 0, 1],
            [3, 13, 0, 1],
            [1, 0, 0, 1],
            [1, 13, 9, 1],
            [1, 255, 0, 1],
        ] {
            assert!(Points::known(unknown).is_none(), "{unknown:?}");
        }
    }

    #[test]
    fn lights() {
        let light = |transfer| Points::known([9, transfer, 0, 1]).unwrap().light();
        assert_eq!(light(8), Light::Linear);
        assert_eq!((light(16), light(18)), (Light::Pq, Light::Hlg));
        assert_eq!((light(9), light(1)), (Light::Display, Light::Display));
    }

    #[test]
    fn what_profiles_cannot_say() {
        for (points, expected) in [
            ([9, 16, 0, 1], "PQ"),
            ([9, 18, 0, 1], "HLG"),
            ([1, 10, 0, 1], "logarithms"),
            ([1, 13, 0, 0], "narrow range"),
        ] {
            let points = Points::known(points).unwrap();
            assert!(points.encoding().is_none());
            assert!(points.beyond_profiles().unwrap().contains(expected));
        }
    }

    /// Pieces of the curves meet.
    #[test]
    fn curves_have_no_step() {
        for transfer in [1, 7] {
            let Some(Transfer::Curve(ToneReprCurve::Parametric(curve))) = Transfer::known(transfer)
            else {
                panic!("not parametric");
            };
            let [g, a, b, c, d] = curve[..] else {
                panic!("{curve:?}")
            };
            assert!(((a * d + b).powf(g) - c * d).abs() < 1e-6);
            assert!(((a + b).powf(g) - 1.0).abs() < 1e-6);
        }
    }
}
