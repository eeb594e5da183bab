//! Metadata of strangers in sound pictures: read, and written to every format.
//!
//! The first byte chooses the formats read and written, then pieces follow: a kind, a length of two bytes, and that many bytes (or what is
//! left), which are put into the file with the right lengths and checksums.
#![no_main]

mod common;

use std::sync::OnceLock;

use hi_diff::picture::{EncodeOptions, Format, Frames, Photograph};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: common::watch_panics(), |bytes: &[u8]| {
    let Some((&format, rest)) = bytes.split_first() else {
        return;
    };
    let pieces = pieces(rest);
    let file = match format % 5 {
        0 => jpeg(&pieces),
        1 => png(&pieces),
        2 => webp(&pieces),
        3 => tiff(&pieces, false),
        _ => tiff(&pieces, true),
    };
    if let Ok(frames) = Frames::decode(&file, "in", &common::LIMITS) {
        common::write_and_read(&frames, usize::from(format / 5));
    }
});

fn pieces(mut rest: &[u8]) -> Vec<(u8, &[u8])> {
    let mut pieces = Vec::new();
    while let [kind, low, high, content @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(content.len());
        let (piece, after) = content.split_at(length);
        pieces.push((*kind, piece));
        rest = after;
    }
    pieces
}

fn base(format: Format) -> &'static [u8] {
    static BASES: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    let bases = BASES.get_or_init(|| {
        let values = (0..12).map(|at| at as f32 / 12.0).collect();
        let photograph = Photograph::from_gray(4, 3, values).unwrap();
        [Format::Jpeg, Format::Png, Format::WebP].map(|format| {
            photograph
                .to_bytes(format, &EncodeOptions::default(), "base")
                .unwrap()
                .0
        })
    });
    &bases[match format {
        Format::Jpeg => 0,
        Format::Png => 1,
        _ => 2,
    }]
}

fn jpeg(pieces: &[(u8, &[u8])]) -> Vec<u8> {
    let (start, rest) = base(Format::Jpeg).split_at(2);
    let mut file = start.to_vec();
    for (kind, content) in pieces {
        let (marker, head): (u8, &[u8]) = match kind % 12 {
            0 => (0xe1, b"Exif\0\0"),
            1 => (0xe1, b"http://ns.adobe.com/xap/1.0/\0"),
            2 => (0xe1, b"http://ns.adobe.com/xmp/extension/\0"),
            3 => (0xed, b"Photoshop 3.0\0"),
            4 => (0xe2, b"ICC_PROFILE\0\x01\x01"),
            5 => (0xe2, b"ICC_PROFILE\0"),
            6 => (0xe2, b"MPF\0"),
            7 => (0xee, b"Adobe"),
            8 => (0xfe, b""),
            9 => (0xe0, b"JFIF\0"),
            10 => (0xeb, b"JP"),
            _ => (0xe2, b""),
        };
        let content = &content[..content.len().min(65_533 - head.len())];
        file.extend([0xff, marker]);
        file.extend((2 + head.len() as u16 + content.len() as u16).to_be_bytes());
        file.extend([head, content].concat());
    }
    file.extend(rest);
    file
}

fn png(pieces: &[(u8, &[u8])]) -> Vec<u8> {
    let base = base(Format::Png);
    // Signature and IHDR.
    let (start, rest) = base.split_at(8 + 25);
    let mut file = start.to_vec();
    let mut end = Vec::new();
    for (kind, content) in pieces {
        let zipped = |head: &[u8]| [head, &stored(content)].concat();
        let (name, content): (&[u8; 4], Vec<u8>) = match kind % 24 {
            0 => (b"eXIf", content.to_vec()),
            1 => (
                b"iTXt",
                [b"XML:com.adobe.xmp\0\0\0\0\0".as_slice(), content].concat(),
            ),
            2 => (b"iTXt", content.to_vec()),
            3 => (b"tEXt", content.to_vec()),
            4 => (b"zTXt", zipped(b"Comment\0\0")),
            5 => (b"zTXt", zipped(b"Raw profile type exif\0\0")),
            6 => (b"zTXt", zipped(b"Raw profile type iptc\0\0")),
            7 => (b"zTXt", zipped(b"Raw profile type xmp\0\0")),
            8 => (b"zTXt", content.to_vec()),
            9 => (b"iCCP", zipped(b"ICC\0\0")),
            10 => (b"iCCP", content.to_vec()),
            11 => (b"gAMA", content.to_vec()),
            12 => (b"cHRM", content.to_vec()),
            13 => (b"sRGB", content.to_vec()),
            14 => (b"cICP", content.to_vec()),
            15 => (b"pHYs", content.to_vec()),
            16 => (b"tIME", content.to_vec()),
            17 => (b"tRNS", content.to_vec()),
            18 => (b"sBIT", content.to_vec()),
            19 => (b"bKGD", content.to_vec()),
            20 => (b"acTL", content.to_vec()),
            21 => (b"fcTL", content.to_vec()),
            22 => (b"mDCV", content.to_vec()),
            _ => (b"caBX", content.to_vec()),
        };
        let place = if kind & 0x80 == 0 {
            &mut file
        } else {
            &mut end
        };
        png_chunk(place, name, &content);
    }
    let (pixels, iend) = rest.split_at(rest.len() - 12);
    file.extend([pixels, &end, iend].concat());
    file
}

fn png_chunk(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    file.extend((content.len() as u32).to_be_bytes());
    let named = [name, content].concat();
    file.extend(&named);
    file.extend(crc32fast::hash(&named).to_be_bytes());
}

/// As zlib stores what it does not compress.
fn stored(content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(65_535)];
    let length = content.len() as u16;
    let mut stream = vec![0x78, 0x01, 1];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(content);
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in content {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

fn webp(pieces: &[(u8, &[u8])]) -> Vec<u8> {
    let picture = &base(Format::WebP)[12..];
    let (mut before, mut after, mut flags) = (Vec::new(), Vec::new(), 0);
    for (kind, content) in pieces {
        let (name, place, flag): (&[u8; 4], _, u8) = match kind % 5 {
            0 => (b"EXIF", &mut after, 8),
            1 => (b"XMP ", &mut after, 4),
            2 => (b"ICCP", &mut before, 32),
            3 => (b"IPTC", &mut after, 0),
            _ => (b"EXIF", &mut before, 8),
        };
        webp_chunk(place, name, content);
        flags |= flag;
    }
    let mut chunks = b"WEBP".to_vec();
    webp_chunk(&mut chunks, b"VP8X", &[flags, 0, 0, 0, 3, 0, 0, 2, 0, 0]);
    chunks.extend([&before, picture, &after].concat());
    let mut file = b"RIFF".to_vec();
    file.extend((chunks.len() as u32).to_le_bytes());
    file.extend(chunks);
    file
}

fn webp_chunk(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    file.extend(name);
    file.extend((content.len() as u32).to_le_bytes());
    file.extend(content);
    if content.len() % 2 == 1 {
        file.push(0);
    }
}

/// A gray TIFF of 2×2, whose IFD comes last, after what it points to.
fn tiff(pieces: &[(u8, &[u8])], big_endian: bool) -> Vec<u8> {
    let two = |number: u16| {
        if big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let four = |number: u32| {
        if big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let mut data = vec![10, 80, 160, 240];
    let mut tags: Vec<(u16, u16, u32, [u8; 4])> = Vec::new();
    let short = |tag, value| {
        let [a, b] = two(value);
        (tag, 3, 1, [a, b, 0, 0])
    };
    for (tag, value) in [
        (256, 2),
        (257, 2),
        (258, 8),
        (259, 1),
        (262, 1),
        (277, 1),
        (278, 2),
    ] {
        tags.push(short(tag, value));
    }
    tags.push((273, 4, 1, four(8)));
    tags.push((279, 4, 1, four(4)));
    for (kind, content) in pieces {
        let at = 8 + data.len() as u32;
        let count = content.len() as u32;
        let value = if count <= 4 {
            let mut value = [0; 4];
            value[..content.len()].copy_from_slice(content);
            value
        } else {
            data.extend(*content);
            data.resize(data.len().next_multiple_of(2), 0);
            four(at)
        };
        tags.push(match kind % 16 {
            0 => (34_665, 4, 1, four(at)), // where the content is the IFD
            1 => (34_853, 4, 1, four(at)),
            2 => (700, 1, count, value),
            3 => (33_723, 7, count, value),
            4 => (34_377, 1, count, value),
            5 => (34_675, 7, count, value),
            6 => (274, 3, count / 2, value),
            7 => (282, 5, count / 8, value),
            8 => (283, 5, count / 8, value),
            9 => (306, 2, count, value),
            10 => (270, 2, count, value),
            11 => (330, 4, 1, four(at)),
            12 => (301, 3, count / 2, value),
            13 => (532, 5, count / 8, value),
            14 => (33_723, 4, count / 4, value),
            _ => (u16::from(*kind) + 271, 2, count, value),
        });
    }
    tags.sort_by_key(|tag| tag.0);
    let mut file = if big_endian {
        b"MM\0\x2a".to_vec()
    } else {
        b"II\x2a\0".to_vec()
    };
    file.extend(four(8 + data.len() as u32));
    file.extend(data);
    file.extend(two(tags.len() as u16));
    for (tag, kind, count, value) in tags {
        file.extend([two(tag), two(kind)].concat());
        file.extend([four(count), value].concat());
    }
    file.extend(four(0));
    file
}
