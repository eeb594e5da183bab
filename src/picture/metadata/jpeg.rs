//! Metadata in a JPEG's segments.
//!
//! Read by hand, because `img-parts` refuses the whole file where one segment is damaged, and written by it.

use img_parts::Bytes;
use img_parts::jpeg::{Jpeg, JpegSegment, markers};

use super::{ExtendedXmp, Metadata, Resolution, Text, Unit, exif, named, photoshop, xmp};

const JFIF: &[u8; 5] = b"JFIF\0";

/// What segments of an extended XMP packet begin with. A name of 32 bytes, the packet's length and an offset follow.
const EXTENDED: &[u8; 35] = b"http://ns.adobe.com/xmp/extension/\0";

/// Most bytes of a segment behind its length.
const MOST: usize = 65_533;

/// Most comments that are kept.
const MOST_COMMENTS: usize = 1000;

/// The segments before the first scan: markers and contents.
struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let marker = self.0.iter().position(|&byte| byte == 0xff)?;
            let rest = &self.0[marker..];
            let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
            let (&marker, rest) = rest[fill..].split_first()?;
            match marker {
                markers::SOS | markers::EOI => return None,
                // Those without contents, and what is no marker.
                0..=0x01 | markers::RST0..=markers::SOI => self.0 = rest,
                _ => {
                    let (length, contents) = rest.split_first_chunk()?;
                    let length = usize::from(u16::from_be_bytes(*length)).checked_sub(2)?;
                    let contents = contents.get(..length)?;
                    self.0 = &rest[2 + length..];
                    return Some((marker, contents));
                }
            }
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    let mut photoshop = Vec::new();
    let mut extended = Vec::new();
    let mut jumbf = false;
    let mut exif_before = false;
    for (marker, contents) in Segments(bytes) {
        let exif = marker == markers::APP1 && contents.starts_with(b"Exif\0");
        match marker {
            markers::APP0 if contents.starts_with(JFIF) && found.resolution.is_none() => {
                found.resolution = density(contents);
            }
            markers::APP1 if exif => {
                add_exif(&mut found, exif::without_prefix(contents), exif_before);
            }
            markers::APP1 => {
                if let Some(packet) = contents.strip_prefix(xmp::PREFIX) {
                    match &found.xmp {
                        None => found.xmp = Some(packet.to_vec()),
                        Some(_) => found.warn("a second XMP packet"),
                    }
                } else if let Some(part) = contents.strip_prefix(EXTENDED) {
                    extended.push(part);
                }
            }
            markers::APP11 if contents.starts_with(b"JP") => jumbf = true,
            markers::APP13 => {
                photoshop.extend(contents.strip_prefix(photoshop::PREFIX).unwrap_or_default());
            }
            markers::COM if found.comments.len() < MOST_COMMENTS => {
                found.comments.push(contents.to_vec());
            }
            markers::COM => found.warn(&format!("comments behind the first {MOST_COMMENTS}")),
            _ => {}
        }
        exif_before = exif;
    }
    if jumbf {
        found.warn("content credentials (C2PA), which hold for the file's own bytes alone");
    }
    found.photoshop = Some(photoshop).filter(|bytes| !bytes.is_empty());
    if !extended.is_empty() {
        found.extended_xmp = found
            .xmp
            .as_deref()
            .and_then(|packet| join(packet, extended));
        if found.extended_xmp.is_none() {
            found.warn("extended XMP of which a part is missing");
        }
    }
    found
}

/// A block larger than a segment goes on in the next one.
fn add_exif(found: &mut Metadata, part: &[u8], directly_behind: bool) {
    match &mut found.exif {
        None => found.exif = Some(part.to_vec()),
        Some(block) if directly_behind && !exif::begins(part) => block.extend(part),
        Some(_) => found.warn("a second EXIF segment"),
    }
}

fn density(jfif: &[u8]) -> Option<Resolution> {
    let &[unit, x0, x1, y0, y1] = jfif.get(7..)?.first_chunk()?;
    let unit = match unit {
        0 => Unit::None,
        1 => Unit::Inch,
        2 => Unit::Centimetre,
        _ => return None,
    };
    let [x, y] = [[x0, x1], [y0, y1]].map(|value| f64::from(u16::from_be_bytes(value)));
    Resolution::new(x, y, unit)
}

/// The extended packet that `packet` names, of its `parts`.
fn join(packet: &[u8], parts: Vec<&[u8]>) -> Option<ExtendedXmp> {
    let name = xmp::extension(packet)?;
    let mut own = Vec::new();
    for part in parts {
        let (of, rest) = part.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (offset, text) = rest.split_first_chunk()?;
        if of.eq_ignore_ascii_case(&name) {
            own.push((
                u32::from_be_bytes(*offset),
                u32::from_be_bytes(*length),
                text,
            ));
        }
    }
    own.sort_by_key(|&(offset, ..)| offset);
    let whole = own.first()?.1 as usize;
    let mut packet = Vec::new();
    for (offset, _, text) in own {
        if offset as usize != packet.len() {
            return None;
        }
        packet.extend(text);
    }
    (packet.len() == whole).then_some(ExtendedXmp { name, packet })
}

pub(super) fn write(
    mut metadata: Metadata,
    encoded: Vec<u8>,
) -> Result<(Vec<u8>, Vec<String>), String> {
    let mut lost = Vec::new();
    if metadata == Metadata::default() {
        return Ok((encoded, lost));
    }
    let length = encoded.len();
    let mut jpeg = Jpeg::from_bytes(encoded.into()).map_err(|error| error.to_string())?;
    metadata.texts_to_exif();
    let at = jfif(&jpeg);
    if at.is_none() {
        metadata.resolution_to_exif(&mut lost);
    } else if let Some(resolution) = metadata.stated_resolution() {
        set_density(&mut jpeg, resolution, &mut lost);
    }
    let segments = segments(metadata, &mut lost);
    let at = at.map_or(0, |at| at + 1);
    jpeg.segments_mut().splice(at..at, segments);
    let mut file = Vec::with_capacity(length.max(jpeg.len()));
    let written = jpeg.encoder().write_to(&mut file);
    written.map_err(|error| error.to_string())?;
    Ok((file, lost))
}

fn jfif(jpeg: &Jpeg) -> Option<usize> {
    jpeg.segments().iter().position(|segment| {
        segment.marker() == markers::APP0 && segment.contents().starts_with(JFIF)
    })
}

fn set_density(jpeg: &mut Jpeg, resolution: Resolution, lost: &mut Vec<String>) {
    let units = [resolution.unit, Unit::Inch, Unit::Centimetre];
    let fits = units
        .into_iter()
        .map(|unit| resolution.per(unit))
        .filter(|one| {
            let possible = 0.5..65_535.5;
            possible.contains(&one.x) && possible.contains(&one.y)
        });
    // Whole numbers alone: in the unit that comes nearest, its own if several do.
    let off = |one: &Resolution| {
        let part = |value: f64| (value - value.round()).abs() / value;
        part(one.x).max(part(one.y)).max(1e-5)
    };
    let nearest = fits.min_by(|a, b| off(a).total_cmp(&off(b)));
    let Some(Resolution { x, y, unit }) = nearest else {
        return lost.push("the resolution".into());
    };
    let unit = match unit {
        Unit::None => 0,
        Unit::Inch => 1,
        Unit::Centimetre => 2,
    };
    let segment = jfif(jpeg).and_then(|at| jpeg.segments_mut().get_mut(at));
    if let Some(segment) = segment
        && let mut contents = segment.contents().to_vec()
        && let Some(place) = contents.get_mut(7..12)
    {
        place[0] = unit;
        place[1..3].copy_from_slice(&(x.round() as u16).to_be_bytes());
        place[3..5].copy_from_slice(&(y.round() as u16).to_be_bytes());
        *segment = JpegSegment::new_with_contents(markers::APP0, contents.into());
    }
}

fn segments(metadata: Metadata, lost: &mut Vec<String>) -> Vec<JpegSegment> {
    let mut segments = Vec::new();
    let mut push = |marker, parts: &[&[u8]]| {
        let contents = parts.concat();
        let fits = contents.len() <= MOST;
        if fits {
            segments.push(JpegSegment::new_with_contents(
                marker,
                Bytes::from(contents),
            ));
        }
        fits
    };
    if let Some(block) = &metadata.exif
        && !push(markers::APP1, &[exif::PREFIX, block])
    {
        let most = exif::MOST_IN_JPEG;
        lost.push(format!(
            "EXIF of {} bytes, of which a JPEG holds {most}",
            block.len()
        ));
    }
    if let Some(packet) = &metadata.xmp {
        let written = push(markers::APP1, &[xmp::PREFIX, packet])
            || push(markers::APP1, &[xmp::PREFIX, &xmp::without_padding(packet)]);
        if !written {
            let most = MOST - xmp::PREFIX.len();
            lost.push(format!(
                "XMP of {} bytes, of which a JPEG holds {most}",
                packet.len()
            ));
        } else if let Some(ExtendedXmp { name, packet }) = &metadata.extended_xmp {
            let length = (packet.len() as u32).to_be_bytes(); // at most `MOST_XMP`
            let head = EXTENDED.len() + name.len() + 8;
            for (index, part) in packet.chunks(MOST - head).enumerate() {
                let offset = (index * (MOST - head)) as u32;
                push(
                    markers::APP1,
                    &[EXTENDED, name, &length, &offset.to_be_bytes(), part],
                );
            }
        }
    }
    for part in resources(&metadata) {
        push(markers::APP13, &[photoshop::PREFIX, &part]);
    }
    for comment in &metadata.comments {
        push(markers::COM, &[comment]);
    }
    for text in &metadata.texts {
        let comment = match text.keyword.as_str() {
            // EXIF's, or about a picture without EXIF.
            "Software" => continue,
            keyword if keyword.eq_ignore_ascii_case("Comment") => text.text.clone(),
            keyword => format!("{keyword}: {}", text.text),
        };
        if is_binary(text) || !push(markers::COM, &[comment.as_bytes()]) {
            lost.push(named(text));
        }
    }
    segments
}

/// Profiles and packets that programs hide in texts.
fn is_binary(text: &Text) -> bool {
    let keyword = &text.keyword;
    keyword.starts_with("Raw profile type ") || keyword.starts_with("XML:")
}

/// Photoshop's resources and IPTC, in as many parts as segments are needed. A part ends with a resource where it can.
fn resources(metadata: &Metadata) -> Vec<Vec<u8>> {
    const MOST_PART: usize = MOST - photoshop::PREFIX.len();
    let iptc = metadata.iptc.as_deref().filter(|iptc| iptc.len() < 1 << 30);
    let bytes = [
        iptc.map_or_else(Vec::new, |iptc| photoshop::resource(photoshop::IPTC, iptc)),
        metadata.photoshop.clone().unwrap_or_default(),
    ]
    .concat();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for resource in photoshop::resources(&bytes).0 {
        match parts.last_mut() {
            Some(part) if part.len() + resource.whole.len() <= MOST_PART => {
                part.extend(resource.whole);
            }
            _ => parts.extend(resource.whole.chunks(MOST_PART).map(<[u8]>::to_vec)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(segments: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0xff, markers::SOI];
        for (marker, contents) in segments {
            bytes.extend([0xff, *marker]);
            bytes.extend((contents.len() as u16 + 2).to_be_bytes());
            bytes.extend_from_slice(contents);
        }
        bytes.extend([0xff, markers::SOS, 0, 2, 1, 2, 3, 0xff, markers::EOI]);
        bytes
    }

    const PLAIN_JFIF: &[u8] = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
    const BLOCK: &[u8] = b"II*\0\x08\0\0\0\0\0\0\0\0\0";

    fn plain() -> Vec<u8> {
        file(&[
            (markers::APP0, PLAIN_JFIF),
            (markers::APP2, b"ICC_PROFILE\0"),
            (markers::DQT, b"q"),
        ])
    }

    #[test]
    fn all_of_it_comes_back_in_a_legal_order() {
        let name = *b"0123456789ABCDEF0123456789ABCDEF";
        let packet = [b"HasExtendedXMP=\"", &name[..], b"\""].concat();
        let metadata = Metadata {
            exif: Some(BLOCK.to_vec()),
            xmp: Some(packet),
            extended_xmp: Some(ExtendedXmp {
                name,
                packet: vec![b'x'; 70_000],
            }),
            photoshop: Some(
                [
                    photoshop::resource(1005, b"r"),
                    photoshop::resource(7, &[7; 65_500]),
                ]
                .concat(),
            ),
            comments: vec![b"caf\xe9".to_vec(), vec![]],
            resolution: Resolution::new(300.0, 72.0, Unit::Inch),
            ..Metadata::default()
        };
        let (bytes, lost) = write(metadata.clone(), plain()).unwrap();
        assert!(lost.is_empty());
        let order: Vec<_> = Segments(&bytes).map(|(marker, _)| marker).collect();
        let [m0, m1, m2, m13] = [markers::APP0, markers::APP1, markers::APP2, markers::APP13];
        let com = markers::COM;
        assert_eq!(
            order,
            [m0, m1, m1, m1, m1, m13, m13, com, com, m2, markers::DQT]
        );
        assert_eq!(read(&bytes), metadata);
        assert!(bytes.ends_with(&[0xff, markers::SOS, 0, 2, 1, 2, 3, 0xff, markers::EOI]));
        // IPTC comes back as one of Photoshop's resources.
        let iptc = Metadata {
            iptc: Some(vec![0x1c]),
            ..Metadata::default()
        };
        let found = read(&write(iptc, plain()).unwrap().0);
        assert_eq!(
            found.photoshop.unwrap(),
            photoshop::resource(photoshop::IPTC, &[0x1c])
        );
    }

    #[test]
    fn what_is_damaged_is_left_out() {
        let exif = [exif::PREFIX, BLOCK].concat();
        let more = [exif::PREFIX, &b"more"[..]].concat();
        let part = |offset: u8, text: &[u8]| {
            [
                EXTENDED,
                &[b'A'; 32][..],
                &[0, 0, 0, 6, 0, 0, 0, offset],
                text,
            ]
            .concat()
        };
        let packet = [xmp::PREFIX, &b"HasExtendedXMP='"[..], &[b'A'; 32]].concat();
        let found = |segments: &[(u8, &[u8])]| read(&file(segments));
        // EXIF in two segments, and a second one.
        let both = found(&[(0xe1, &exif), (0xe1, &more)]);
        assert_eq!(both.exif.unwrap(), [BLOCK, b"more"].concat());
        let two = found(&[(0xe1, &exif), (0xe1, &exif)]);
        assert_eq!((two.exif.unwrap(), two.warnings.len()), (BLOCK.to_vec(), 1));
        // Extended XMP in any order, or with a part missing.
        let (a, b) = (part(0, b"abc"), part(3, b"def"));
        let whole = found(&[(0xe1, &packet), (0xe1, &b), (0xe1, &a)]);
        assert_eq!(whole.extended_xmp.unwrap().packet, b"abcdef");
        for parts in [[&a, &a], [&b, &b]] {
            let found = found(&[(0xe1, &packet), (0xe1, parts[0]), (0xe1, parts[1])]);
            assert_eq!((found.extended_xmp, found.warnings.len()), (None, 1));
        }
        let whole = file(&[(0xe1, &exif), (0xfe, b"comment")]);
        for end in 0..whole.len() {
            let found = read(&whole[..end]);
            assert_eq!(found.exif.is_some(), end >= 2 + 4 + exif.len(), "{end}");
            assert_eq!(
                found.comments.len(),
                usize::from(end >= 2 + 8 + exif.len() + 7)
            );
        }
    }

    #[test]
    fn what_is_too_large_is_left_out_and_said() {
        let metadata = Metadata {
            exif: Some([BLOCK, &[0; 65_520]].concat()),
            xmp: Some([&[b'a'; 60_000][..], &[b' '; 9_000], b"<?xpacket end='w'?>"].concat()),
            texts: vec![Text {
                keyword: "Comment".into(),
                text: "a".repeat(65_534),
                ..Text::default()
            }],
            ..Metadata::default()
        };
        let (bytes, lost) = write(metadata, plain()).unwrap();
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(
            lost[0].contains("65534 bytes") && lost[0].contains("65527"),
            "{lost:?}"
        );
        assert_eq!(read(&bytes).xmp.unwrap().len(), 60_019);
    }

    #[test]
    fn densities_are_whole_numbers_of_the_nearest_unit() {
        let through = |x: f64, unit| {
            let resolution = Resolution::new(x, x, unit);
            let metadata = Metadata {
                resolution,
                ..Metadata::default()
            };
            let (bytes, lost) = write(metadata, plain()).unwrap();
            read(&bytes)
                .resolution
                .map(|one| (one.x, one.unit))
                .ok_or(lost)
        };
        assert_eq!(through(300.0, Unit::Inch), Ok((300.0, Unit::Inch)));
        assert_eq!(through(94.49, Unit::Centimetre), Ok((240.0, Unit::Inch)));
        assert_eq!(
            through(50.0, Unit::Centimetre),
            Ok((50.0, Unit::Centimetre))
        );
        assert_eq!(
            through(99_060.0, Unit::Inch),
            Ok((39_000.0, Unit::Centimetre))
        );
        assert_eq!(
            through(0.01, Unit::Inch),
            Err(vec!["the resolution".to_owned()])
        );
        assert_eq!(write(Metadata::default(), plain()).unwrap().0, plain());
    }

    #[test]
    fn without_jfif_the_resolution_is_exifs() {
        let resolution = Resolution::new(300.0, 300.0, Unit::Inch);
        let metadata = Metadata {
            resolution,
            ..Metadata::default()
        };
        let (bytes, _) = write(metadata, file(&[(markers::APP14, b"Adobe")])).unwrap();
        let found = read(&bytes);
        assert_eq!(
            (found.resolution, found.stated_resolution()),
            (None, resolution)
        );
        let first = Segments(&bytes).next().unwrap().0;
        assert_eq!(first, markers::APP1);
    }
}
