//! Metadata in a PNG's chunks.
//!
//! Read by hand, because `img-parts` refuses the whole file where one chunk is damaged, and written by it.
//!
//! IPTC, and EXIF before it had a chunk, are in texts called "Raw profile type …": a line break, a name, a line break, the
//! number of bytes, a line break, and the bytes as hexadecimal digits. ImageMagick invented that, and exiftool does it too.

use std::fmt::Write as _;
use std::io::{Read, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use img_parts::png::{Png, PngChunk};

use super::{Metadata, Resolution, Text, Unit, exif, latin1, named, photoshop, text_of, xmp};

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
const XMP: &str = "XML:com.adobe.xmp";
const RAW: &str = "Raw profile type ";

/// Most text chunks that are read.
const MOST_TEXTS: usize = 1000;

/// Most bytes of a compressed text, unpacked.
const MOST_UNPACKED: u64 = 1 << 20;

/// Most bytes of all texts together.
const MOST_IN_ALL: usize = 16 << 20;

/// From this length on, a text is compressed.
const LONG: usize = 1024;

struct Chunk<'a> {
    name: [u8; 4],
    contents: &'a [u8],
    /// Whether its checksum is right.
    whole: bool,
}

/// The chunks up to the end or the first damaged length; of `IDAT` and `fdAT` without contents.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        let (name, after) = rest.split_first_chunk::<4>()?;
        let contents = after.get(..length)?;
        let (sum, behind) = after[length..].split_first_chunk()?;
        self.0 = behind;
        let pixels = matches!(name, b"IDAT" | b"fdAT");
        (name != b"IEND").then(|| Chunk {
            name: *name,
            contents: if pixels { &[] } else { contents },
            whole: pixels || crc32fast::hash(&rest[..4 + length]) == u32::from_be_bytes(*sum),
        })
    }
}

pub(super) fn read(bytes: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    let Some(chunks) = bytes.strip_prefix(SIGNATURE) else {
        return found;
    };
    let mut texts = Vec::new();
    for Chunk {
        name,
        contents,
        whole,
    } in Chunks(chunks)
    {
        let what = match &name {
            b"eXIf" => "EXIF",
            b"pHYs" => "the resolution",
            b"tEXt" | b"zTXt" | b"iTXt" => "a text",
            b"caBX" => {
                found.warn("content credentials (C2PA), which hold for the file's own bytes alone");
                continue;
            }
            _ => continue,
        };
        match &name {
            _ if !whole => found.warn(&format!("{what} with a wrong checksum")),
            b"eXIf" if found.exif.is_some() => found.warn("a second EXIF chunk"),
            b"eXIf" => found.exif = Some(exif::without_prefix(contents).to_vec()),
            b"pHYs" => found.resolution = density(contents),
            _ if texts.len() == MOST_TEXTS => {
                found.warn(&format!("texts behind the first {MOST_TEXTS}"));
            }
            _ => texts.push((name, contents)),
        }
    }
    let mut room = MOST_IN_ALL;
    for (name, contents) in texts {
        match text(&name, contents) {
            None => found.warn("a text that is damaged, or larger than 1 MiB unpacked"),
            Some(Text { text, .. }) if text.len() > room => found.warn("texts that are too large"),
            Some(text) => {
                room -= text.text.len();
                place(&mut found, text);
            }
        }
    }
    found
}

fn density(contents: &[u8]) -> Option<Resolution> {
    let (x, rest) = contents.split_first_chunk()?;
    let (y, unit) = rest.split_first_chunk()?;
    let [x, y] = [x, y].map(|value| f64::from(u32::from_be_bytes(*value)));
    match unit {
        [0] => Resolution::new(x, y, Unit::None),
        [1] => {
            let own = Resolution::new(x / 100.0, y / 100.0, Unit::Centimetre)?;
            let inch = own.per(Unit::Inch);
            // Half a pixel a metre is lost where inches were meant.
            let meant = |value: f64| (value - value.round()).abs() <= 0.0127;
            match meant(inch.x) && meant(inch.y) {
                true => Resolution::new(inch.x.round(), inch.y.round(), Unit::Inch),
                false => Some(own),
            }
        }
        _ => None,
    }
}

/// The text of a chunk.
fn text(name: &[u8; 4], contents: &[u8]) -> Option<Text> {
    let (keyword, rest) = split(contents)?;
    if keyword.is_empty() || keyword.len() > 79 {
        return None;
    }
    let mut found = Text {
        keyword: latin1(keyword),
        ..Text::default()
    };
    match (name, rest) {
        (b"tEXt", text) => found.text = latin1(text),
        (b"zTXt", [0, packed @ ..]) => found.text = latin1(&unpack(packed)?),
        (b"iTXt", [packed @ 0..=1, 0, rest @ ..]) => {
            let (language, rest) = split(rest)?;
            let (translated, text) = split(rest)?;
            found.language = latin1(language);
            found.translated = text_of(translated);
            found.text = match packed {
                0 => text_of(text),
                _ => text_of(&unpack(text)?),
            };
        }
        _ => return None,
    }
    Some(found)
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut unpacked = ZlibDecoder::new(packed).take(MOST_UNPACKED + 1);
    unpacked.read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MOST_UNPACKED).then_some(text)
}

/// Puts a text where it belongs.
fn place(found: &mut Metadata, text: Text) {
    if text.keyword == XMP {
        return found.xmp = Some(text.text.into_bytes());
    }
    let kind = text.keyword.strip_prefix(RAW).map(str::to_ascii_lowercase);
    let Some(kind @ ("exif" | "app1" | "iptc" | "8bim" | "xmp" | "icc" | "icm")) = kind.as_deref()
    else {
        return found.texts.push(text);
    };
    let Some(bytes) = raw_profile(&text.text) else {
        return found.warn(&format!("{} that is damaged", named(&text)));
    };
    match kind {
        "icc" | "icm" => found.warn("a colour profile in a text"),
        "iptc" if bytes.first() == Some(&0x1c) => found.iptc = Some(bytes),
        "iptc" | "8bim" => found.photoshop = Some(bytes),
        "xmp" => drop(found.xmp.get_or_insert(bytes)),
        _ => match bytes.strip_prefix(xmp::PREFIX) {
            Some(packet) => drop(found.xmp.get_or_insert_with(|| packet.to_vec())),
            None => drop(
                found
                    .exif
                    .get_or_insert_with(|| exif::without_prefix(&bytes).to_vec()),
            ),
        },
    }
}

/// The bytes of a raw profile.
fn raw_profile(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.strip_prefix('\n')?.splitn(3, '\n');
    let _name = lines.next()?;
    let length: usize = lines.next()?.trim().parse().ok()?;
    let digits: Option<Vec<u8>> = lines
        .next()?
        .chars()
        .filter(|digit| !digit.is_ascii_whitespace())
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (bytes.len() == length && digits.len() == 2 * length).then_some(bytes)
}

fn raw_profile_of(name: &str, bytes: &[u8]) -> Text {
    let mut text = format!("\n{name}\n{:8}", bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        if index % 36 == 0 {
            text.push('\n');
        }
        let _ = write!(text, "{byte:02x}"); // to a `String`, which does not fail
    }
    text.push('\n');
    Text {
        keyword: format!("{RAW}{name}"),
        text,
        ..Text::default()
    }
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
    metadata.join_xmp(&mut lost);
    let mut png = Png::from_bytes(encoded.into()).map_err(|error| error.to_string())?;
    let chunks = chunks(&metadata, &mut lost);
    // The encoder's own, which must not be there twice.
    let replaced = |kind| {
        matches!(&kind, b"eXIf" | b"pHYs")
            && chunks.iter().any(|chunk: &PngChunk| chunk.kind() == kind)
    };
    png.chunks_mut().retain(|chunk| !replaced(chunk.kind()));
    // Before the pixels, and before what belongs to those of an animation.
    let pixels = |chunk: &PngChunk| matches!(&chunk.kind(), b"acTL" | b"fcTL" | b"IDAT" | b"IEND");
    let at = png
        .chunks()
        .iter()
        .position(pixels)
        .unwrap_or(png.chunks().len());
    png.chunks_mut().splice(at..at, chunks);
    let mut file = Vec::with_capacity(length.max(png.len()));
    let written = png.encoder().write_to(&mut file);
    written.map_err(|error| error.to_string())?;
    Ok((file, lost))
}

fn chunks(metadata: &Metadata, lost: &mut Vec<String>) -> Vec<PngChunk> {
    let mut chunks = Vec::new();
    let mut push = |kind, contents: Vec<u8>, what: &str| match contents.len() {
        0..0x8000_0000 => chunks.push(PngChunk::new(kind, contents.into())),
        _ => lost.push(format!("{what} of more than 2 GiB")),
    };
    if let Some(resolution) = metadata.stated_resolution() {
        push(*b"pHYs", density_of(resolution), "the resolution");
    }
    if let Some(block) = &metadata.exif {
        push(*b"eXIf", block.clone(), "EXIF");
    }
    if let Some(packet) = &metadata.xmp {
        let head = [XMP.as_bytes(), &[0; 5]].concat();
        push(
            *b"iTXt",
            [&head, text_of(packet).as_bytes()].concat(),
            "XMP",
        );
    }
    let iptc = metadata.iptc.as_deref().filter(|iptc| iptc.len() < 1 << 28);
    let iptc = iptc.map(|iptc| raw_profile_of("iptc", &photoshop::resource(photoshop::IPTC, iptc)));
    let comments = metadata.comments.iter().map(|comment| Text {
        keyword: "Comment".into(),
        text: text_of(comment),
        ..Text::default()
    });
    let has_software =
        metadata.exif.is_some() || metadata.texts.iter().any(|text| text.keyword == "Software");
    let software = metadata
        .software
        .as_ref()
        .filter(|_| !has_software && !metadata.says_nothing());
    let software = software.map(|software| Text {
        keyword: "Software".into(),
        text: software.clone(),
        ..Text::default()
    });
    let texts = metadata.texts.iter().cloned();
    for text in texts.chain(comments).chain(software).chain(iptc) {
        let (kind, contents) = packed(&text);
        push(kind, contents, &named(&text));
    }
    if metadata.photoshop.is_some() {
        lost.push("Photoshop resources".into());
    }
    chunks
}

fn density_of(resolution: Resolution) -> Vec<u8> {
    let Resolution { x, y, unit } = resolution.per(Unit::Centimetre);
    let metre = unit != Unit::None;
    let factor = match metre {
        true => 100.0,
        // A ratio in whole numbers.
        false if x.fract() == 0.0 && y.fract() == 0.0 => 1.0,
        false => 1000.0,
    };
    let [x, y] = [x, y].map(|value| ((value * factor).round() as u32).clamp(1, i32::MAX as u32));
    [&x.to_be_bytes()[..], &y.to_be_bytes(), &[metre.into()]].concat()
}

/// The chunk of a text: its name and contents.
fn packed(text: &Text) -> ([u8; 4], Vec<u8>) {
    let clean = |text: &str| text.replace('\0', "");
    let keyword: Vec<u8> = text
        .keyword
        .chars()
        .filter_map(|letter| u8::try_from(letter).ok())
        .collect();
    let body = clean(&text.text);
    let latin: Option<Vec<u8>> = body
        .chars()
        .map(|letter| u8::try_from(letter).ok())
        .collect();
    let plain = text.language.is_empty() && text.translated.is_empty();
    let (kind, head, body) = match latin.filter(|_| plain) {
        Some(latin) => (*b"tEXt", vec![], latin),
        None => {
            let names = format!("{}\0{}\0", clean(&text.language), clean(&text.translated));
            (*b"iTXt", names.into_bytes(), body.into_bytes())
        }
    };
    let packed = Some(&body)
        .filter(|body| body.len() >= LONG)
        .and_then(|body| pack(body));
    let is_packed = u8::from(packed.is_some());
    let body = packed.unwrap_or(body);
    match (&kind, is_packed) {
        (b"iTXt", _) => (
            kind,
            [&keyword, &[0, is_packed, 0][..], &head, &body].concat(),
        ),
        (_, 1) => (*b"zTXt", [&keyword, &[0, 0][..], &body].concat()),
        _ => (kind, [&keyword, &[0][..], &body].concat()),
    }
}

fn pack(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        for (name, contents) in chunks.iter().chain([&(b"IEND", &b""[..])]) {
            bytes.extend((contents.len() as u32).to_be_bytes());
            let named = [&name[..], contents].concat();
            bytes.extend(&named);
            bytes.extend(crc32fast::hash(&named).to_be_bytes());
        }
        bytes
    }

    fn plain() -> Vec<u8> {
        file(&[
            (b"IHDR", &[0; 13]),
            (b"iCCP", b"p"),
            (b"acTL", &[0; 8]),
            (b"fcTL", &[0; 26]),
            (b"IDAT", b"x"),
        ])
    }

    fn of(keyword: &str, text: &str) -> Text {
        Text {
            keyword: keyword.into(),
            text: text.into(),
            ..Text::default()
        }
    }

    #[test]
    fn all_of_it_comes_back_before_the_pixels() {
        let translated = Text {
            language: "de".into(),
            translated: "Schlüssel".into(),
            ..of("Key", "a")
        };
        let metadata = Metadata {
            exif: Some(b"II*\0".to_vec()),
            xmp: Some("<é>".into()),
            iptc: Some((0..=255).collect()),
            texts: vec![
                of("Title", "caf\u{e9}\nb"),
                of("Source", "日本"),
                of("Long", &"é".repeat(2000)),
                of("Longer", &"日".repeat(2000)),
                translated,
            ],
            resolution: Resolution::new(11.0, 118.11, Unit::Centimetre),
            ..Metadata::default()
        };
        let (bytes, lost) = write(metadata.clone(), plain()).unwrap();
        assert!(lost.is_empty());
        let names: Vec<_> = Chunks(&bytes[8..]).map(|chunk| chunk.name).collect();
        let names = names.concat();
        let expected = "IHDRiCCPpHYseXIfiTXttEXtiTXtzTXtiTXtiTXttEXtacTLfcTLIDAT";
        assert_eq!(String::from_utf8(names).unwrap(), expected);
        let mut found = read(&bytes);
        let iptc = found.photoshop.take().unwrap();
        assert_eq!(
            iptc,
            photoshop::resource(photoshop::IPTC, &(0..=255).collect::<Vec<u8>>())
        );
        assert_eq!(
            found,
            Metadata {
                iptc: None,
                ..metadata.clone()
            }
        );
        // What is there already is not there twice.
        let (again, _) = write(
            Metadata {
                texts: vec![],
                ..metadata
            },
            bytes,
        )
        .unwrap();
        let exif = Chunks(&again[8..]).filter(|chunk| &chunk.name == b"eXIf");
        assert_eq!(exif.count(), 1);
    }

    #[test]
    fn what_is_damaged_is_left_out() {
        let (whole, _) = write(
            Metadata {
                texts: vec![of("A", "b")],
                ..Metadata::default()
            },
            plain(),
        )
        .unwrap();
        let at = whole
            .windows(4)
            .position(|window| window == b"tEXt")
            .unwrap();
        let mut bytes = whole.clone();
        bytes[at + 6] ^= 1;
        let found = read(&bytes);
        assert_eq!((found.texts.len(), found.warnings.len()), (0, 1));
        for end in 0..whole.len() {
            assert_eq!(
                read(&whole[..end]).texts.len(),
                usize::from(end >= at + 4 + 3 + 4),
                "{end}"
            );
        }
        for text in [&b"\0b"[..], b"none", &[b'k'; 90]] {
            assert_eq!(read(&file(&[(b"tEXt", text)])).warnings.len(), 1);
        }
    }

    #[test]
    fn a_text_unpacks_to_1_mib_and_no_more() {
        for (length, fits) in [(1 << 20, true), ((1 << 20) + 1, false)] {
            let packed = [&b"k\0\0"[..], &pack(&vec![b'a'; length]).unwrap()].concat();
            assert_eq!(
                read(&file(&[(b"zTXt", &packed)])).texts.len(),
                usize::from(fits)
            );
            assert!(
                read(&file(&[(b"zTXt", &packed[..packed.len() - 9])]))
                    .texts
                    .is_empty()
            );
        }
        let one: (&[u8; 4], &[u8]) = (b"tEXt", b"k\0");
        for (texts, warnings) in [(1000, 0), (1002, 1)] {
            let found = read(&file(&vec![one; texts]));
            assert_eq!((found.texts.len(), found.warnings.len()), (1000, warnings));
        }
    }

    #[test]
    fn raw_profiles_are_what_they_hold() {
        let raw = |name: &str, bytes: &[u8]| {
            let Text { keyword, text, .. } = raw_profile_of(name, bytes);
            read(&file(&[(
                b"tEXt",
                &[keyword.as_bytes(), b"\0", text.as_bytes()].concat(),
            )]))
        };
        for name in ["exif", "APP1"] {
            assert_eq!(raw(name, b"Exif\0\0II*\0").exif.unwrap(), b"II*\0");
        }
        assert_eq!(
            raw("APP1", b"http://ns.adobe.com/xap/1.0/\0<>")
                .xmp
                .unwrap(),
            b"<>"
        );
        assert_eq!(raw("xmp", b"<>").xmp.unwrap(), b"<>");
        assert_eq!(raw("iptc", b"\x1c\x02").iptc.unwrap(), b"\x1c\x02");
        assert_eq!(raw("8bim", b"8BIM").photoshop.unwrap(), b"8BIM");
        assert_eq!(raw("icc", b"a").warnings.len(), 1);
        assert_eq!(raw("other", b"a").texts.len(), 1);
        for text in [
            "\niptc\n 3\n1c02\n",
            "\niptc\n 2\n1c0\n",
            "\niptc\n 2\n1cxx\n",
            "iptc",
            "\n\n\n",
        ] {
            let found = read(&file(&[(b"tEXt", format!("{RAW}iptc\0{text}").as_bytes())]));
            assert_eq!((found.iptc, found.warnings.len()), (None, 1), "{text:?}");
        }
    }

    #[test]
    fn inches_survive_the_metre() {
        for dots in 1..2000 {
            let resolution = Resolution::new(dots.into(), 72.0, Unit::Inch);
            let contents = density_of(resolution.unwrap());
            assert_eq!(density(&contents), resolution);
        }
        let ratio = Resolution::new(2.0, 3.0, Unit::None);
        assert_eq!(density(&density_of(ratio.unwrap())), ratio);
        assert_eq!(density(&[0, 0, 0, 0, 0, 0, 0, 1, 1]), None);
    }
}
