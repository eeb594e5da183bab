//! ICC profiles as files have them.

use moxcms::{ColorProfile, DataColorSpace, ParsingOptions, TransferCharacteristics};

use super::encoding::{BT709, Encoding};
use super::light::Light;

/// As PNG's, when inflated.
const MOST_BYTES: usize = 16 << 20;

/// The tags that this program uses.
const TAGS: [&[u8; 4]; 11] = [
    b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"chad", b"cicp", b"A2B0",
    b"A2B1",
];

/// What a profile says of values; not its texts, nor its tables to the device.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn parse(profile: &[u8]) -> Result<ColorProfile, String> {
    let options = ParsingOptions {
        max_profile_size: MOST_BYTES + 1,
        ..ParsingOptions::default()
    };
    let profile = ColorProfile::new_from_slice_with_options(&with_tags_in_use(profile), options);
    profile.map_err(|error| error.to_string())
}

/// `profile` without the names of the tags that are not used, or are there again.
///
/// `moxcms` reads all that it knows, each as often as it is named. A few thousand translations of a
/// description or tables that lie upon each other would take any amount of memory or time, and an
/// odd date would make the whole profile useless.
fn with_tags_in_use(profile: &[u8]) -> Vec<u8> {
    let mut profile = profile.to_vec();
    let Some((count, table)) = profile
        .get_mut(128..)
        .and_then(<[u8]>::split_first_chunk_mut)
    else {
        return profile;
    };
    let count = usize::try_from(u32::from_be_bytes(*count)).unwrap_or(usize::MAX);
    let mut left = TAGS.to_vec();
    for entry in table.as_chunks_mut::<12>().0.iter_mut().take(count) {
        let name = entry.first_chunk_mut::<4>();
        let Some(name) = name else { continue };
        match left.iter().position(|&tag| tag == name) {
            Some(found) => drop(left.swap_remove(found)),
            None => *name = [0; 4],
        }
    }
    profile
}

/// Whether `profile` describes gray (or else RGB) samples of a picture, by its header.
///
/// One of a printer's inks does not, nor one that only links others or names colours.
pub(crate) fn fits(profile: &[u8], gray: bool) -> bool {
    let class = profile.get(12..16);
    let of_pictures = [b"scnr", b"mntr", b"prtr", b"spac"]
        .iter()
        .any(|it| class == Some(it.as_slice()));
    of_pictures && profile.get(16..20) == Some(if gray { b"GRAY" } else { b"RGB " })
}

/// The profile itself where it fits, and otherwise what it says of grays for colours or the reverse, if it can be told.
pub(super) fn for_samples(profile: &[u8], gray: bool) -> Option<Vec<u8>> {
    if fits(profile, gray) {
        return Some(profile.to_vec());
    }
    // Of inks and links, nothing can be said.
    let other = fits(profile, !gray).then(|| parse(profile).ok())??;
    Some(encoding(&other)?.to_icc(gray))
}

/// Of a profile of gray or of primaries and curves, and not of tables. sRGB's primaries with gray, and one curve for all.
pub(super) fn encoding(profile: &ColorProfile) -> Option<Encoding> {
    if has_tables(profile) || profile.pcs != DataColorSpace::Xyz {
        return None;
    }
    if let Some(curve) = &profile.gray_trc {
        return Encoding::of_chromaticities(&BT709, curve.clone());
    }
    if !profile.is_matrix_shaper() {
        return None;
    }
    let curve = profile.green_trc.clone()?;
    Some(Encoding::new(
        profile.colorant_matrix(),
        profile.chromatic_adaptation,
        curve,
    ))
}

pub(super) fn light(profile: &ColorProfile) -> Light {
    match profile.cicp.map(|points| points.transfer_characteristics) {
        Some(TransferCharacteristics::Smpte2084) => Light::Pq,
        Some(TransferCharacteristics::Hlg) => Light::Hlg,
        // Its curves say the rest.
        _ => encoding(profile).map_or(Light::Display, |encoding| encoding.light()),
    }
}

fn has_tables(profile: &ColorProfile) -> bool {
    profile.lut_a_to_b_perceptual.is_some() || profile.lut_a_to_b_colorimetric.is_some()
}

#[cfg(test)]
mod tests {
    use moxcms::{LutDataType, LutStore, LutType, LutWarehouse, Matrix3d, ToneReprCurve};

    use super::*;

    fn linear(gray: bool) -> Vec<u8> {
        let curve = ToneReprCurve::Parametric(vec![1.0]);
        Encoding::of_chromaticities(&BT709, curve)
            .unwrap()
            .to_icc(gray)
    }

    #[test]
    fn profiles_fit_the_samples_that_they_describe() {
        for gray in [false, true] {
            let profile = linear(gray);
            assert!(fits(&profile, gray) && !fits(&profile, !gray));
            let mut inks = profile.clone();
            inks[16..20].copy_from_slice(b"CMYK");
            assert!(!fits(&inks, gray) && for_samples(&inks, gray).is_none());
            let mut link = profile.clone();
            link[12..16].copy_from_slice(b"link");
            assert!(!fits(&link, gray));
        }
        assert!(!fits(b"", false) && !fits(&[0; 128], true));
    }

    #[test]
    fn gray_and_colour_profiles_say_the_same() {
        for gray in [false, true] {
            let profile = linear(gray);
            assert_eq!(for_samples(&profile, gray).unwrap(), profile);
            let other = for_samples(&profile, !gray).unwrap();
            assert!(fits(&other, !gray));
            assert_eq!(light(&parse(&other).unwrap()), Light::Linear);
            assert_eq!(other, linear(!gray));
        }
    }

    #[test]
    fn profiles_of_tables_are_shown_as_they_are() {
        let mut profile = parse(&linear(false)).unwrap();
        assert_eq!(light(&profile), Light::Linear);
        let ends = || LutStore::Store8([0, 255].repeat(3));
        profile.lut_a_to_b_perceptual = Some(LutWarehouse::Lut(LutDataType {
            num_input_channels: 3,
            num_output_channels: 3,
            num_clut_grid_points: 1,
            matrix: Matrix3d::IDENTITY,
            num_input_table_entries: 2,
            num_output_table_entries: 2,
            input_table: ends(),
            clut_table: LutStore::Store8(vec![0; 3]),
            output_table: ends(),
            lut_type: LutType::Lut8,
        }));
        assert_eq!(light(&profile), Light::Display);
    }

    #[test]
    fn code_points_within_a_profile_tell_of_hdr() {
        let bt2100 = ColorProfile::new_bt2020_pq().encode().unwrap();
        assert_eq!(light(&parse(&bt2100).unwrap()), Light::Pq);
        let hlg = ColorProfile::new_bt2020_hlg().encode().unwrap();
        assert_eq!(light(&parse(&hlg).unwrap()), Light::Hlg);
        let srgb = ColorProfile::new_srgb().encode().unwrap();
        assert_eq!(light(&parse(&srgb).unwrap()), Light::Display);
    }

    /// 16 MiB with 100,000 translations of a text of 8 MiB, and 100,000 names of a curve of many points.
    #[test]
    fn what_a_profile_says_very_often_is_read_once_or_not() {
        let times = 100_000_u32;
        let mut table = [0; 128].to_vec();
        let linear = linear(false);
        table[..128].copy_from_slice(&linear[..128]);
        let tags = u32::from_be_bytes(*linear[128..].first_chunk().unwrap());
        table.extend((tags + times + 1).to_be_bytes());
        let moved = 12 * (times + 1);
        for entry in linear[132..].as_chunks::<12>().0.iter().take(tags as usize) {
            let offset = u32::from_be_bytes(*entry[4..].first_chunk().unwrap()) + moved;
            let name = if &entry[..4] == b"desc" {
                b"zzzz"
            } else {
                &entry[..4]
            };
            table.extend([name, &offset.to_be_bytes(), &entry[8..]].concat());
        }
        let start = 132 + 12 * (tags + times + 1) + (linear.len() as u32 - 132 - 12 * tags);
        let text = MOST_BYTES as u32 - start;
        table.extend([*b"desc", start.to_be_bytes(), text.to_be_bytes()].concat());
        for _ in 0..times {
            table.extend([*b"rTRC", start.to_be_bytes(), text.to_be_bytes()].concat());
        }
        table.extend(&linear[132 + 12 * tags as usize..]);
        assert_eq!(table.len(), start as usize);
        table.extend(b"mluc\0\0\0\0");
        table.extend(times.to_be_bytes());
        table.extend([0, 0, 0, 12]);
        let strings = 16 + 12 * times;
        for _ in 0..times {
            table.extend(
                [
                    *b"enUS",
                    (text - strings).to_be_bytes(),
                    strings.to_be_bytes(),
                ]
                .concat(),
            );
        }
        table.resize(MOST_BYTES, 0);
        assert_eq!(light(&parse(&table).unwrap()), Light::Linear);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for bytes in [&b""[..], b"no profile", &[0; 200]] {
            assert!(parse(bytes).is_err());
            assert!(for_samples(bytes, false).is_none());
        }
    }
}
