//! The chunks of a PNG that say what its values mean.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::Colour;
use super::profile::for_samples;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Inflated, an ICC profile is no larger. (The largest of printers have 10 MiB.)
const MOST_OF_A_PROFILE: usize = 16 << 20;

/// A profile's name in the chunk, which no program needs.
const PROFILE_NAME: &[u8] = b"ICC profile";

/// The chunks that this module reads and writes.
const KINDS: [&[u8; 4]; 7] = [
    b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI",
];

impl Colour {
    /// By the chunks before the pixels of a PNG. What is damaged, and what comes a second time, is left out.
    pub(crate) fn of_png(bytes: &[u8]) -> Colour {
        let mut colour = Colour::default();
        let chunks = Chunks::of(bytes).take_while(|chunk| &chunk.kind != b"IDAT");
        for chunk in chunks.filter(Chunk::is_whole) {
            match &chunk.kind {
                b"cICP" => keep(&mut colour.cicp, chunk.data.try_into().ok()),
                b"iCCP" if colour.icc.is_none() => match inflate_profile(chunk.data) {
                    Ok(profile) => colour.icc = Some(profile),
                    Err(reason) => colour.left_out = Some(reason),
                },
                b"sRGB" => keep(
                    &mut colour.srgb,
                    <[u8; 1]>::try_from(chunk.data).ok().map(|[it]| it),
                ),
                b"gAMA" => keep(&mut colour.gamma, numbers::<1>(chunk.data).map(|[it]| it)),
                b"cHRM" => keep(&mut colour.chromaticities, numbers(chunk.data)),
                b"mDCV" => keep(&mut colour.mastering, chunk.data.try_into().ok()),
                b"cLLI" => keep(&mut colour.light_level, chunk.data.try_into().ok()),
                _ => {}
            }
        }
        colour
    }

    /// `encoded`, a PNG, with the chunks that say this, the ICC profile among them, in place of those
    /// of the same kinds that it has.
    ///
    /// A profile of colours becomes one of grays beside gray samples and the reverse, and is left out
    /// where it cannot: PNG forbids it.
    ///
    /// # Errors
    ///
    /// `encoded` is no PNG.
    #[allow(clippy::wrong_self_convention)] // into a PNG that there is
    pub(crate) fn into_png(&self, encoded: Vec<u8>) -> Result<Vec<u8>, String> {
        let header = Chunks::of(&encoded)
            .next()
            .filter(|chunk| &chunk.kind == b"IHDR");
        let header = header.ok_or("the encoder made no PNG")?;
        let &[.., kind, _, _, _] = header.data else {
            return Err("the encoder made a PNG without a colour type".to_string());
        };
        let gray = matches!(kind, 0 | 4); // and 2, 3 (a palette of colours) and 6
        let mut png = Vec::with_capacity(encoded.len() + 1024);
        png.extend_from_slice(SIGNATURE);
        png.extend_from_slice(header.bytes);
        for (kind, data) in self.chunks(gray) {
            let start = png.len() + 4;
            let length = u32::try_from(data.len()).map_err(|_| "a colour profile over 4 GiB")?;
            png.extend_from_slice(&length.to_be_bytes());
            png.extend_from_slice(kind);
            png.extend_from_slice(&data);
            let crc = crc32fast::hash(&png[start..]);
            png.extend_from_slice(&crc.to_be_bytes());
        }
        let mut done = SIGNATURE.len() + header.bytes.len();
        for chunk in Chunks::of(&encoded).skip(1) {
            if &chunk.kind == b"IDAT" {
                break;
            }
            if !KINDS.contains(&&chunk.kind) {
                png.extend_from_slice(chunk.bytes);
            }
            done += chunk.bytes.len();
        }
        png.extend_from_slice(encoded.get(done..).unwrap_or_default());
        Ok(png)
    }

    /// Kinds and data.
    fn chunks(&self, gray: bool) -> Vec<(&'static [u8; 4], Vec<u8>)> {
        let big_endian = |numbers: &[u32]| numbers.iter().flat_map(|it| it.to_be_bytes()).collect();
        let profile = self.icc.as_deref().and_then(|icc| for_samples(icc, gray));
        let chunks = [
            (b"cICP", self.cicp.map(|it| it.to_vec())),
            (b"iCCP", profile.map(|profile| deflate_profile(&profile))),
            (b"sRGB", self.srgb.map(|it| vec![it])),
            (b"gAMA", self.gamma.map(|it| big_endian(&[it]))),
            (b"cHRM", self.chromaticities.map(|it| big_endian(&it))),
            (b"mDCV", self.mastering.map(|it| it.to_vec())),
            (b"cLLI", self.light_level.map(|it| it.to_vec())),
        ];
        let present = chunks
            .into_iter()
            .filter_map(|(kind, data)| Some((kind, data?)));
        present.collect()
    }
}

/// The first counts.
fn keep<T>(field: &mut Option<T>, found: Option<T>) {
    if field.is_none() {
        *field = found;
    }
}

fn numbers<const N: usize>(data: &[u8]) -> Option<[u32; N]> {
    let (numbers, rest) = data.as_chunks::<4>();
    let numbers: &[[u8; 4]; N] = numbers.try_into().ok()?;
    rest.is_empty().then(|| numbers.map(u32::from_be_bytes))
}

/// Of an iCCP chunk: a name, a zero, the method (0), and a zlib stream.
fn inflate_profile(data: &[u8]) -> Result<Vec<u8>, String> {
    let name = data.iter().take(80).position(|&byte| byte == 0);
    let stream = name.and_then(|end| data.get(end + 1..));
    let Some((&0, stream)) = stream.and_then(<[u8]>::split_first) else {
        return Err("its iCCP chunk is damaged".to_string());
    };
    let mut profile = Vec::new();
    let most = MOST_OF_A_PROFILE as u64 + 1;
    match ZlibDecoder::new(stream)
        .take(most)
        .read_to_end(&mut profile)
    {
        Err(error) => Err(format!("its iCCP chunk is damaged ({error})")),
        Ok(length) if length > MOST_OF_A_PROFILE => Err("it has over 16 MiB".to_string()),
        Ok(_) => Ok(profile),
    }
}

fn deflate_profile(profile: &[u8]) -> Vec<u8> {
    let data = [PROFILE_NAME, &[0, 0]].concat();
    let mut encoder = ZlibEncoder::new(data, Compression::best());
    encoder
        .write_all(profile)
        .and_then(|()| encoder.finish())
        .expect("a vector takes all")
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// With length, kind and CRC.
    bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn split_off(bytes: &mut &'a [u8]) -> Option<Chunk<'a>> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let data = rest.get(..length)?;
        let (whole, rest) = bytes.split_at_checked(length.checked_add(12)?)?;
        *bytes = rest;
        Some(Chunk {
            kind: *kind,
            data,
            bytes: whole,
        })
    }

    /// Whether its CRC is right.
    fn is_whole(&self) -> bool {
        let (said, crc) = self.bytes.split_at(self.bytes.len() - 4);
        said.get(4..)
            .is_some_and(|said| crc32fast::hash(said).to_be_bytes() == crc)
    }
}

/// A PNG's chunks up to the first that reaches over the end; none of what is no PNG.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    fn of(bytes: &'a [u8]) -> Chunks<'a> {
        Chunks {
            rest: bytes.strip_prefix(SIGNATURE).unwrap_or_default(),
        }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        Chunk::split_off(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use image::codecs::png::{PngDecoder, PngEncoder};
    use image::{ExtendedColorType, ImageDecoder, ImageEncoder};
    use std::io::Cursor;

    use super::*;

    const SRGB_CHRM: [u32; 8] = [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000];

    fn png(colour: ExtendedColorType, profile: Option<&[u8]>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(&mut file);
        if let Some(profile) = profile {
            encoder.set_icc_profile(profile.to_vec()).unwrap();
        }
        encoder
            .write_image(
                &[1, 2, 3, 4, 5, 6][..usize::from(colour.channel_count()) * 2],
                2,
                1,
                colour,
            )
            .unwrap();
        file
    }

    fn everything() -> Colour {
        let gray = Colour {
            gamma: Some(100_000),
            chromaticities: Some(SRGB_CHRM),
            ..Colour::default()
        };
        Colour {
            icc: gray.to_icc(false, false),
            cicp: Some([9, 16, 0, 1]),
            srgb: Some(1),
            gamma: Some(45_455),
            chromaticities: Some(SRGB_CHRM),
            mastering: Some(std::array::from_fn(|i| i as u8)),
            light_level: Some([1, 2, 3, 4, 5, 6, 7, 8]),
            left_out: None,
        }
    }

    fn kinds(png: &[u8]) -> Vec<[u8; 4]> {
        Chunks::of(png).map(|chunk| chunk.kind).collect()
    }

    #[test]
    fn all_that_is_said_comes_back() {
        let colour = everything();
        let bare = png(ExtendedColorType::Rgb8, None);
        assert_eq!(Colour::of_png(&bare), Colour::default());
        let file = colour.into_png(bare.clone()).unwrap();
        assert_eq!(Colour::of_png(&file), colour);
        assert!(Chunks::of(&file).all(|chunk| chunk.is_whole()));
        let mut decoder = PngDecoder::new(Cursor::new(&file)).unwrap();
        assert_eq!(decoder.icc_profile().unwrap(), colour.icc);
        let mut pixels = [0; 6];
        decoder.read_image(&mut pixels).unwrap();
        assert_eq!(pixels, [1, 2, 3, 4, 5, 6]);
        assert_eq!(Colour::default().into_png(file).unwrap(), bare);
    }

    #[test]
    fn what_the_encoder_said_is_replaced() {
        let icc = everything().icc.unwrap();
        let file = png(ExtendedColorType::Rgb8, Some(&icc));
        assert_eq!(Colour::of_png(&file).icc.as_ref(), Some(&icc));
        let said = Colour {
            gamma: Some(100_000),
            ..Colour::default()
        };
        let file = said.into_png(file).unwrap();
        assert_eq!(kinds(&file), [*b"IHDR", *b"gAMA", *b"IDAT", *b"IEND"]);
        assert_eq!(Colour::of_png(&file), said);
    }

    #[test]
    fn a_profile_of_colours_becomes_one_of_grays_beside_gray_samples() {
        let icc = everything().icc.unwrap();
        let colour = Colour {
            icc: Some(icc.clone()),
            ..Colour::default()
        };
        let file = colour.into_png(png(ExtendedColorType::L8, None)).unwrap();
        let found = Colour::of_png(&file);
        assert_eq!(&found.icc.as_ref().unwrap()[16..20], b"GRAY");
        assert_eq!(found.light(), colour.light());
        let unknown = Colour {
            icc: Some(b"no profile".to_vec()),
            ..Colour::default()
        };
        let file = unknown.into_png(png(ExtendedColorType::L8, None)).unwrap();
        assert_eq!(Colour::of_png(&file), Colour::default());
    }

    #[test]
    fn what_is_damaged_or_second_is_left_out() {
        let colour = everything();
        let file = colour.into_png(png(ExtendedColorType::Rgb8, None)).unwrap();
        let at = file.windows(4).position(|found| found == b"gAMA").unwrap();
        let mut damaged = file.clone();
        damaged[at + 5] ^= 1;
        assert_eq!(Colour::of_png(&damaged).gamma, None);
        // 4 of length, 4 of kind, 4 of data, 4 of CRC
        let gamma = &file[at - 4..at + 12];
        let other = Colour {
            gamma: Some(7),
            ..colour.clone()
        };
        let other = other.into_png(png(ExtendedColorType::Rgb8, None)).unwrap();
        let twice = [
            &other[..at - 4],
            &other[at - 4..at + 12],
            gamma,
            &other[at + 12..],
        ]
        .concat();
        assert_eq!(Colour::of_png(&twice).gamma, Some(7));
        let behind = [&file[..at - 4], &file[at + 12..], gamma].concat();
        assert_eq!(Colour::of_png(&behind).gamma, None);
    }

    #[test]
    fn a_profile_that_inflates_to_very_much_is_left_out() {
        let large = deflate_profile(&vec![0; MOST_OF_A_PROFILE + 1]);
        assert_eq!(inflate_profile(&large).unwrap_err(), "it has over 16 MiB");
        let most = deflate_profile(&vec![0; MOST_OF_A_PROFILE]);
        assert_eq!(inflate_profile(&most).unwrap().len(), MOST_OF_A_PROFILE);
        for bad in [
            &b""[..],
            b"name",
            b"name\0",
            b"name\0\x01",
            b"name\0\0",
            b"name\0\0nonsense",
        ] {
            assert!(inflate_profile(bad).unwrap_err().contains("damaged"));
        }
    }

    #[test]
    fn no_beginning_of_a_file_is_too_short() {
        let file = everything()
            .into_png(png(ExtendedColorType::Rgb8, None))
            .unwrap();
        for end in 0..file.len() {
            let _ = Colour::of_png(&file[..end]);
            let _ = everything().into_png(file[..end].to_vec());
        }
        assert!(Colour::default().into_png(b"GIF89a".to_vec()).is_err());
    }
}
