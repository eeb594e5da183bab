//! What a picture's stored values mean: its colour space, as its file says it, and how the values are shown to the model.
//!
//! The picture's colour space stays: values are not converted to another, and the result says of its
//! values what the file said. Two kinds are otherwise. Values that are linear in light, or nearly, are
//! shown to the model with sRGB's curve and go back by its inverse ([`Light`]). Amounts of ink become
//! sRGB by their profile ([`cmyk_to_rgb`]).
//!
//! A profile that cannot be read is kept as it is, as another program may be able to: the values are
//! shown as they are, with a [`warning`](Colour::warning).

mod chunks;
mod cmyk;
mod encoding;
mod light;
mod points;
mod profile;
mod transfer;

use moxcms::{ToneReprCurve, TransferCharacteristics};

pub(crate) use cmyk::cmyk_to_rgb;
pub(crate) use light::Light;
pub(crate) use transfer::Transfer;

use encoding::{BT709, Encoding, srgb_curve};
use points::Points;

/// What a file says of its values. It goes into the result as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Colour {
    /// An ICC profile, whole.
    pub icc: Option<Vec<u8>>,
    /// PNG's cICP: primaries, transfer, matrix, full range (ITU-T H.273).
    pub cicp: Option<[u8; 4]>,
    /// PNG's sRGB: the rendering intent.
    pub srgb: Option<u8>,
    /// PNG's gAMA: 100,000 times the exponent from light to values.
    pub gamma: Option<u32>,
    /// PNG's cHRM: 100,000 times x and y of white, red, green and blue.
    pub chromaticities: Option<[u32; 8]>,
    /// PNG's mDCV, the mastering display's volume, unread.
    pub mastering: Option<[u8; 24]>,
    /// PNG's cLLI, the content's light level, unread.
    pub light_level: Option<[u8; 8]>,
    /// Why a profile that the file has is not here.
    pub left_out: Option<String>,
}

/// What counts of all that a file says. In PNG (third edition, 4.3): cICP, iCCP, sRGB, and gAMA with cHRM.
enum Meaning<'a> {
    Points(Points),
    Profile(&'a [u8]),
    /// What gAMA and cHRM say; sRGB where there is nothing.
    Numbers(Encoding),
}

impl Colour {
    fn meaning(&self) -> Meaning<'_> {
        if let Some(points) = self.cicp.and_then(Points::known) {
            return Meaning::Points(points);
        }
        match &self.icc {
            Some(profile) => Meaning::Profile(profile),
            None if self.srgb.is_some() => Meaning::Numbers(Encoding::srgb()),
            None => Meaning::Numbers(self.numbers()),
        }
    }

    fn numbers(&self) -> Encoding {
        let curve = match self.gamma {
            None | Some(0) => srgb_curve(),
            Some(gamma) => ToneReprCurve::Parametric(vec![(1e5 / f64::from(gamma)) as f32]),
        };
        let said = self.chromaticities.map(|numbers| {
            let [x0, y0, x1, y1, x2, y2, x3, y3] = numbers.map(|number| f64::from(number) / 1e5);
            [[x0, y0], [x1, y1], [x2, y2], [x3, y3]]
        });
        let primaries = said.unwrap_or(BT709);
        // Numbers that are no primaries say nothing.
        let encoding = Encoding::of_chromaticities(&primaries, curve.clone())
            .or_else(|| Encoding::of_chromaticities(&BT709, curve))
            .unwrap_or_else(Encoding::srgb);
        // The numbers that stand for sRGB in PNG.
        let srgb = matches!(self.gamma, Some(45_000..=46_000)) && encoding.has_srgb_primaries();
        if srgb { Encoding::srgb() } else { encoding }
    }

    /// How values go to the model and back.
    pub(crate) fn light(&self) -> Light {
        match self.meaning() {
            Meaning::Points(points) => points.light(),
            Meaning::Profile(icc) => {
                profile::parse(icc).map_or(Light::Display, |it| profile::light(&it))
            }
            Meaning::Numbers(encoding) => encoding.light(),
        }
    }

    /// Between values as the model sees them and linear light. sRGB's curve where nothing is known.
    pub(crate) fn transfer(&self) -> Transfer {
        match self.light() {
            Light::Linear | Light::Gamma(_) => return Transfer::srgb(),
            Light::Pq => return Transfer::of_hdr(TransferCharacteristics::Smpte2084),
            Light::Hlg => return Transfer::of_hdr(TransferCharacteristics::Hlg),
            Light::Display => {}
        }
        match self.encoding() {
            Some(encoding) => Transfer::of_curve(encoding.curve()),
            None => Transfer::srgb(),
        }
    }

    /// Primaries and curve of the values, where they have such.
    fn encoding(&self) -> Option<Encoding> {
        match self.meaning() {
            Meaning::Points(points) => points.encoding(),
            Meaning::Profile(icc) => profile::parse(icc)
                .ok()
                .and_then(|it| profile::encoding(&it)),
            Meaning::Numbers(encoding) => Some(encoding),
        }
    }

    /// A profile that says this of gray or of RGB samples, for files that have no other means.
    ///
    /// `as_display` for values as the model sees them: with sRGB's curve where the file's are linear.
    /// `None` where they are sRGB, nothing is known, or no profile can say it (see
    /// [`needs_png`](Self::needs_png)).
    pub(crate) fn to_icc(&self, as_display: bool, gray: bool) -> Option<Vec<u8>> {
        let encoding = match self.meaning() {
            Meaning::Profile(icc) => {
                let parsed = profile::parse(icc).ok();
                let parsed = parsed.filter(|it| as_display && !profile::light(it).is_display());
                match parsed {
                    None => return profile::for_samples(icc, gray),
                    Some(parsed) => profile::encoding(&parsed)?,
                }
            }
            Meaning::Points(points) => match points.encoding() {
                Some(encoding) => encoding,
                None => return profile::for_samples(self.icc.as_deref()?, gray),
            },
            Meaning::Numbers(encoding) => encoding,
        };
        let shown = as_display && !encoding.light().is_display();
        let encoding = if shown {
            encoding.with_srgb_curve()
        } else {
            encoding
        };
        let srgb = encoding.has_srgb_curve() && (gray || encoding.has_srgb_primaries());
        (!srgb).then(|| encoding.to_icc(gray))
    }

    /// Whether the values are sRGB, or nothing else is known of them.
    pub(crate) fn is_srgb(&self) -> bool {
        let encoding = self.encoding();
        encoding.is_some_and(|it| it.has_srgb_curve() && it.has_srgb_primaries())
    }

    /// Why a file of another format than PNG cannot hold these values: only cICP says what they are.
    ///
    /// A profile that says the same by a tag of its own ('cicp') can go into other formats; into those
    /// without profiles (BMP, GIF), [`Light::Pq`] and [`Light::Hlg`] cannot.
    pub(crate) fn needs_png(&self) -> Option<String> {
        let Meaning::Points(points) = self.meaning() else {
            return None;
        };
        let what = points.beyond_profiles()?;
        let profile = self.icc.as_deref().and_then(|icc| profile::parse(icc).ok());
        let light = profile.map_or(Light::Display, |it| profile::light(&it));
        let said = matches!(light, Light::Pq | Light::Hlg) && light == points.light();
        (!said).then(|| format!("its values are {what}, which only PNG can say; write PNG instead"))
    }

    /// What is wrong with the profile, if anything is.
    pub(crate) fn warning(&self) -> Option<String> {
        if let Some(reason) = &self.left_out {
            return Some(format!("its colour profile is left out: {reason}"));
        }
        let reason = profile::parse(self.icc.as_deref()?).err()?;
        Some(format!(
            "its colour profile cannot be read ({reason}): it is kept, and the values are taken as they are"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::profile::fits;
    use super::*;

    fn gamma(gamma: u32) -> Colour {
        Colour {
            gamma: Some(gamma),
            ..Colour::default()
        }
    }

    fn points(primaries: u8, transfer: u8) -> Colour {
        Colour {
            cicp: Some([primaries, transfer, 0, 1]),
            ..Colour::default()
        }
    }

    fn profile(icc: Option<Vec<u8>>) -> Colour {
        assert!(icc.is_some());
        Colour {
            icc,
            ..Colour::default()
        }
    }

    /// Adobe RGB's, and D65.
    const WIDE: [u32; 8] = [31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000];

    #[test]
    fn light_by_gamma() {
        assert_eq!(gamma(100_000).light(), Light::Linear);
        assert_eq!(gamma(45_455).light(), Light::Display);
        assert_eq!(gamma(55_556).light(), Light::Display);
        assert!(matches!(gamma(80_000).light(), Light::Gamma(it) if (it - 1.25).abs() < 1e-6));
        assert!(matches!(gamma(25_000).light(), Light::Gamma(it) if (it - 4.0).abs() < 1e-4));
        for nonsense in [0, 1, u32::MAX] {
            assert_eq!(gamma(nonsense).light(), Light::Display, "{nonsense}");
        }
    }

    #[test]
    fn the_higher_chunk_counts() {
        let mut colour = gamma(100_000);
        assert_eq!(colour.light(), Light::Linear);
        colour.srgb = Some(0);
        assert_eq!(colour.light(), Light::Display);
        colour.icc = gamma(100_000).to_icc(false, false);
        assert_eq!(colour.light(), Light::Linear);
        colour.cicp = Some([9, 16, 0, 1]);
        assert_eq!(colour.light(), Light::Pq);
        colour.cicp = Some([9, 2, 0, 1]); // unspecified, so that the next counts
        assert_eq!(colour.light(), Light::Linear);
    }

    #[test]
    fn what_is_srgb() {
        let srgb = Colour {
            srgb: Some(0),
            ..gamma(45_455)
        };
        let close = Colour {
            chromaticities: Some([31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]),
            ..gamma(45_455)
        };
        let own = profile(moxcms::ColorProfile::new_srgb().encode().ok());
        for colour in [Colour::default(), srgb, close, gamma(45_455), points(1, 13)] {
            assert!(colour.is_srgb(), "{colour:?}");
            assert_eq!(colour.to_icc(false, false), None);
            assert_eq!(colour.to_icc(true, true), None);
        }
        assert!(own.is_srgb());
        let wide = Colour {
            chromaticities: Some(WIDE),
            ..gamma(45_455)
        };
        for colour in [
            wide,
            gamma(55_556),
            gamma(100_000),
            points(12, 13),
            points(1, 1),
            points(9, 16),
        ] {
            assert!(!colour.is_srgb(), "{colour:?}");
        }
    }

    #[test]
    fn profiles_say_what_the_chunks_do() {
        let wide = Colour {
            chromaticities: Some(WIDE),
            ..gamma(45_473) // Adobe RGB's: 256 / 563
        };
        let icc = wide.to_icc(false, false).unwrap();
        let read = profile::parse(&icc).unwrap();
        let adobe = moxcms::ColorProfile::new_adobe_rgb().colorant_matrix().v;
        let found = read.colorant_matrix().v;
        for (found, expected) in found.as_flattened().iter().zip(adobe.as_flattened()) {
            assert!((found - expected).abs() < 3e-4, "{found}, {expected}");
        }
        assert!(!profile(Some(icc)).is_srgb());
    }

    #[test]
    fn linear_light_shown_is_srgb() {
        let linear = gamma(100_000);
        let icc = linear.to_icc(false, false);
        assert_eq!(profile(icc).light(), Light::Linear);
        assert!(fits(&linear.to_icc(false, true).unwrap(), true));
        assert_eq!(linear.to_icc(true, false), None);
        assert_eq!(linear.to_icc(true, true), None);
        let wide = Colour {
            chromaticities: Some(WIDE),
            ..linear
        };
        for colour in [wide.clone(), profile(wide.to_icc(false, false))] {
            let shown = profile(colour.to_icc(true, false));
            assert_eq!(shown.light(), Light::Display);
            assert!(!shown.is_srgb());
            assert_eq!(colour.to_icc(true, true), None);
        }
    }

    #[test]
    fn a_display_profile_goes_on_as_it_came() {
        let icc = gamma(55_556).to_icc(false, false).unwrap();
        let colour = profile(Some(icc.clone()));
        for shown in [false, true] {
            assert_eq!(colour.to_icc(shown, false).as_ref(), Some(&icc));
            assert!(fits(&colour.to_icc(shown, true).unwrap(), true));
        }
    }

    #[test]
    fn hdr_needs_png() {
        for (colour, what) in [(points(9, 16), "PQ"), (points(9, 18), "HLG")] {
            assert!(colour.needs_png().unwrap().contains(what));
            assert_eq!(colour.to_icc(false, false), None);
        }
        assert_eq!(points(12, 13).needs_png(), None);
        assert_eq!(gamma(100_000).needs_png(), None);
        let icc = moxcms::ColorProfile::new_bt2020_pq().encode().ok();
        let said = Colour {
            icc: icc.clone(),
            ..points(9, 16)
        };
        assert_eq!(said.needs_png(), None);
        assert_eq!(said.to_icc(true, false), icc);
        let other = Colour {
            icc,
            ..points(9, 18)
        };
        assert!(other.needs_png().is_some());
    }

    #[test]
    fn a_profile_that_cannot_be_read_is_kept() {
        let icc = gamma(100_000).to_icc(false, false).unwrap();
        let mut broken = icc.clone();
        broken.truncate(200);
        let colour = profile(Some(broken.clone()));
        assert_eq!(colour.light(), Light::Display);
        assert!(colour.warning().unwrap().contains("cannot be read"));
        assert_eq!(colour.to_icc(true, false), Some(broken));
        assert_eq!(profile(Some(icc)).warning(), None);
        assert_eq!(Colour::default().warning(), None);
    }

    #[test]
    fn numbers_that_are_no_primaries_say_nothing() {
        let colour = Colour {
            chromaticities: Some([u32::MAX; 8]),
            ..gamma(100_000)
        };
        assert_eq!(colour.light(), Light::Linear);
        assert_eq!(
            colour.to_icc(false, false),
            gamma(100_000).to_icc(false, false)
        );
    }
}
