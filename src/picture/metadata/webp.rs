//! Metadata in a WebP's chunks.
//!
//! Read by hand, because `img-parts` refuses the whole file where one chunk is damaged, and written by it, but for the flags
//! of XMP in `VP8X`, which it does not set.

use img_parts::Bytes;
use img_parts::riff::{RiffChunk, RiffContent};
use img_parts::webp::{self, WebP};

use super::{Metadata, exif};

const ALPHA: u8 = 0x10;
const ICC: u8 = 0x20;
const EXIF: u8 = 0x08;
const XMP: u8 = 0x04;

/// The chunks up to the first damaged one: names and contents.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let contents = rest.get(..length)?;
        self.0 = rest.get(length.next_multiple_of(2)..).unwrap_or_default();
        Some((*name, contents))
    }
}

pub(super) fn read(bytes: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    for (name, contents) in Chunks(bytes.get(12..).unwrap_or_default()) {
        match name {
            webp::CHUNK_EXIF if found.exif.is_none() => {
                found.exif = Some(exif::without_prefix(contents).to_vec());
            }
            webp::CHUNK_XMP if found.xmp.is_none() => found.xmp = Some(contents.to_vec()),
            webp::CHUNK_EXIF => found.warn("a second EXIF chunk"),
            webp::CHUNK_XMP => found.warn("a second XMP chunk"),
            [b'C', b'2', b'P', b'A'] => {
                found.warn("content credentials (C2PA), which hold for the file's own bytes alone");
            }
            _ => {}
        }
    }
    found
}

pub(super) fn write(
    mut metadata: Metadata,
    encoded: Vec<u8>,
) -> Result<(Vec<u8>, Vec<String>), String> {
    let mut lost = Vec::new();
    metadata.join_xmp(&mut lost);
    metadata.texts_to_exif();
    metadata.comment_to_exif();
    metadata.resolution_to_exif(&mut lost);
    metadata.lose_texts(&mut lost);
    if metadata.iptc.is_some() {
        lost.push("IPTC".into());
    }
    if metadata.photoshop.is_some() {
        lost.push("Photoshop resources".into());
    }
    let chunks = [
        (webp::CHUNK_EXIF, metadata.exif),
        (webp::CHUNK_XMP, metadata.xmp),
    ];
    let chunks = chunks.map(|(name, contents)| Some((name, contents?)));
    let chunks: Vec<_> = chunks.into_iter().flatten().collect();
    if chunks.is_empty() {
        return Ok((encoded, lost));
    }
    let more: usize = chunks.iter().map(|(_, contents)| contents.len() + 9).sum();
    if encoded.len() + more + 18 > u32::MAX as usize {
        return Err("a WebP holds at most 4 GiB".into());
    }
    let mut webp = WebP::from_bytes(encoded.into()).map_err(|error| error.to_string())?;
    extend(&mut webp)?;
    for (name, contents) in chunks {
        webp.remove_chunks_by_id(name);
        let content = RiffContent::Data(contents.into());
        webp.chunks_mut().push(RiffChunk::new(name, content));
        set_flag(&mut webp, if name == webp::CHUNK_EXIF { EXIF } else { XMP });
    }
    let mut file = Vec::with_capacity(webp.len() as usize);
    let written = webp.encoder().write_to(&mut file);
    written.map_err(|error| error.to_string())?;
    Ok((file, lost))
}

/// Makes a file of the simple format one of the extended format.
fn extend(webp: &mut WebP) -> Result<(), String> {
    if webp.has_chunk(webp::CHUNK_VP8X) {
        return Ok(());
    }
    let (width, height) = webp.dimensions().ok_or("no size in the WebP")?;
    let lossless = webp
        .chunk_by_id(webp::CHUNK_VP8L)
        .and_then(|chunk| chunk.content().data());
    // Behind a signature of 8 bits and 14 bits for each side.
    let alpha = lossless
        .and_then(|data| data.get(4))
        .is_some_and(|byte| byte & 0x10 != 0);
    let mut flags = 0;
    if alpha || webp.has_chunk(webp::CHUNK_ALPH) {
        flags |= ALPHA;
    }
    if webp.has_chunk(webp::CHUNK_ICCP) {
        flags |= ICC;
    }
    let mut contents = vec![flags, 0, 0, 0];
    for side in [width, height] {
        contents.extend(&side.saturating_sub(1).to_le_bytes()[..3]);
    }
    let content = RiffContent::Data(contents.into());
    webp.chunks_mut()
        .insert(0, RiffChunk::new(webp::CHUNK_VP8X, content));
    Ok(())
}

fn set_flag(webp: &mut WebP, flag: u8) {
    let mut chunks = webp.chunks_mut().iter_mut();
    let extended = chunks.find(|chunk| chunk.id() == webp::CHUNK_VP8X);
    if let Some(RiffContent::Data(data)) = extended.map(RiffChunk::content_mut) {
        let mut contents = data.to_vec();
        if let Some(flags) = contents.first_mut() {
            *flags |= flag;
        }
        *data = Bytes::from(contents);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut body = b"WEBP".to_vec();
        for (name, contents) in chunks {
            body.extend_from_slice(&name[..]);
            body.extend((contents.len() as u32).to_le_bytes());
            body.extend_from_slice(contents);
            body.resize(body.len().next_multiple_of(2), 0);
        }
        [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
    }

    /// 64 × 96 pixels with alpha: 13 and 95 << 14 and the bit of alpha.
    const LOSSLESS: [u8; 5] = [0x2f, 63, 0xc0, 0x17, 0x10];

    fn both() -> Metadata {
        Metadata {
            exif: Some(b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec()),
            xmp: Some(b"odd".to_vec()),
            ..Metadata::default()
        }
    }

    #[test]
    fn a_simple_file_becomes_an_extended_one() {
        let (bytes, lost) = write(both(), file(&[(b"VP8L", &LOSSLESS)])).unwrap();
        assert!(lost.is_empty());
        let found: Vec<_> = Chunks(&bytes[12..]).collect();
        let names: Vec<_> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"VP8X", b"VP8L", b"EXIF", b"XMP "]);
        assert_eq!(
            found[0].1,
            [ALPHA | EXIF | XMP, 0, 0, 0, 63, 0, 0, 95, 0, 0]
        );
        assert_eq!(
            bytes.len(),
            8 + u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize
        );
        assert_eq!(read(&bytes), both());
    }

    #[test]
    fn an_extended_file_keeps_its_flags_and_order() {
        let animated = [0x02 | ICC, 0, 0, 0, 9, 0, 0, 9, 0, 0];
        let chunks: [(&[u8; 4], &[u8]); 5] = [
            (b"VP8X", &animated),
            (b"ICCP", b"p"),
            (b"ANIM", &[0; 6]),
            (b"ANMF", b"x"),
            (b"EXIF", b"old"),
        ];
        let mut one = both();
        one.xmp = None;
        let (bytes, _) = write(one, file(&chunks)).unwrap();
        let found: Vec<_> = Chunks(&bytes[12..]).collect();
        let names: Vec<_> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"EXIF"]);
        assert_eq!(found[0].1[0], 0x02 | ICC | EXIF);
        assert_ne!(found[4].1, b"old");
    }

    #[test]
    fn a_prefix_and_a_missing_end_do_no_harm() {
        let mut bytes = file(&[(b"EXIF", b"Exif\0\0II*\0"), (b"XMP ", b"abc")]);
        assert_eq!(read(&bytes).exif.unwrap(), b"II*\0");
        bytes.pop(); // the padding
        assert_eq!(read(&bytes).xmp.unwrap(), b"abc");
        bytes.pop();
        assert_eq!(read(&bytes).xmp, None);
    }

    #[test]
    fn what_has_no_place_is_said_and_nothing_is_added_to_nothing() {
        let plain = file(&[(b"VP8L", &LOSSLESS)]);
        assert_eq!(
            write(Metadata::default(), plain.clone()).unwrap(),
            (plain.clone(), vec![])
        );
        let metadata = Metadata {
            iptc: Some(vec![0x1c]),
            ..Metadata::default()
        };
        assert_eq!(
            write(metadata, plain.clone()).unwrap(),
            (plain, vec!["IPTC".to_owned()])
        );
        assert!(write(both(), b"RIFF".to_vec()).is_err());
    }
}
