//! TIFF files written: pages of gray or RGB of 8 or 16 bits, with alpha or without, in strips, with
//! colour profile and metadata. The [`tiff`] crate writes directories and compresses; which tags are
//! written is said here, for its own image encoder knows no gray with alpha and adds tags of its own.

use std::io::{Seek, Write};

use tiff::encoder::compression::{CompressionAlgorithm, Deflate, Lzw, Packbits};
use tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKind};
use tiff::tags::{Tag, Type};
use tiff::{Directory, TiffResult};

use super::super::decode::tiff::{Alpha, Channels, Compression};
use super::super::ifd::{Description, Field, Tiff};

/// Samples to write, channels interleaved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OutSamples<'a> {
    Eight(&'a [u8]),
    Sixteen(&'a [u16]),
}

/// A page to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out<'a> {
    pub width: u32,
    pub height: u32,
    /// Any but [`Channels::Cmyk`].
    pub channels: Channels,
    /// Upright: orientation 1 is written.
    pub samples: OutSamples<'a>,
    /// How alpha goes with the colours given, where there is alpha; `None` is as unassociated.
    pub alpha: Option<Alpha>,
    /// JPEG and others are written as Deflate with a predictor.
    pub compression: Compression,
    /// Whether LZW or Deflate compresses differences of neighbours.
    pub predictor: bool,
    pub icc: Option<&'a [u8]>,
    /// A block of TIFF structure, of either byte order: its descriptive tags and its Exif, GPS and
    /// interoperability directories are written, as far as they are readable; its thumbnail and what
    /// it says of the storage of samples are not.
    pub exif: Option<&'a [u8]>,
    pub xmp: Option<&'a [u8]>,
    pub iptc: Option<&'a [u8]>,
    /// Photoshop's image resources.
    pub photoshop: Option<&'a [u8]>,
    /// Pixels across and down per unit (1: none, 2: inch, 3: centimetre); in place of those of
    /// `exif`.
    pub resolution: Option<(f64, f64, u16)>,
    /// In place of that of `exif`.
    pub software: Option<&'a str>,
}

/// Bytes of the samples of a strip, about.
const STRIP_BYTES: usize = 1 << 18;

/// Writes a TIFF from the start of `file`, or a BigTIFF if 4 GiB may not be enough.
///
/// # Errors
/// If there is no page, samples do not match their page's size, channels are CMYK, or writing fails.
pub(crate) fn encode(pages: &[Out], mut file: impl Write + Seek) -> Result<(), String> {
    if pages.is_empty() {
        return Err("no page to write".to_string());
    }
    pages.iter().try_for_each(check)?;
    let most = pages.iter().map(most_bytes).fold(0, u64::saturating_add);
    let written = match most <= u64::from(u32::MAX) {
        true => TiffEncoder::new(&mut file).and_then(|encoder| write(pages, encoder)),
        false => TiffEncoder::new_big(&mut file).and_then(|encoder| write(pages, encoder)),
    };
    written.map_err(|error| error.to_string())?;
    file.flush().map_err(|error| error.to_string())
}

fn check(page: &Out) -> Result<(), String> {
    let (width, height) = (page.width, page.height);
    if page.channels == Channels::Cmyk {
        return Err("CMYK is not written".to_string());
    }
    if width == 0 || height == 0 {
        return Err(format!("{width}×{height} pixels, expected at least 1×1"));
    }
    let found = match page.samples {
        OutSamples::Eight(samples) => samples.len(),
        OutSamples::Sixteen(samples) => samples.len(),
    };
    let pixels = u64::from(width) * u64::from(height);
    let expected = pixels.saturating_mul(page.channels.count() as u64);
    match found as u64 == expected {
        true => Ok(()),
        false => Err(format!("{found} samples, expected {expected}")),
    }
}

/// What a page takes at most, all in all: samples that do not compress grow by half in LZW, less
/// else.
fn most_bytes(page: &Out) -> u64 {
    const TAGS: u64 = 1 << 16;
    let samples = match page.samples {
        OutSamples::Eight(samples) => samples.len() as u64,
        OutSamples::Sixteen(samples) => 2 * samples.len() as u64,
    };
    let grown = match Storage::of(page) {
        Storage::Plain => samples,
        _ => samples + samples / 2,
    };
    let per_row = 16 * u64::from(page.height); // places and lengths of strips, padding
    let metadata = [page.icc, page.exif, page.xmp, page.iptc, page.photoshop];
    let metadata = metadata.iter().flatten().map(|bytes| bytes.len() as u64);
    let metadata = metadata.fold(0, u64::saturating_add);
    grown
        .saturating_add(per_row)
        .saturating_add(metadata.saturating_mul(2))
        + TAGS
}

/// How samples are stored.
#[derive(Clone, Copy, PartialEq)]
enum Storage {
    Plain,
    PackBits,
    Lzw { predictor: bool },
    Deflate { predictor: bool },
}

impl Storage {
    fn of(page: &Out) -> Storage {
        let predictor = page.predictor;
        match page.compression {
            Compression::None => Storage::Plain,
            Compression::PackBits => Storage::PackBits,
            Compression::Lzw => Storage::Lzw { predictor },
            Compression::Deflate => Storage::Deflate { predictor },
            Compression::Jpeg | Compression::Other => Storage::Deflate { predictor: true },
        }
    }

    fn predictor(self) -> bool {
        matches!(
            self,
            Storage::Lzw { predictor: true } | Storage::Deflate { predictor: true }
        )
    }

    /// The number of the compression tag.
    fn code(self) -> u16 {
        match self {
            Storage::Plain => 1,
            Storage::Lzw { .. } => 5,
            Storage::Deflate { .. } => 8,
            Storage::PackBits => 32_773,
        }
    }
}

fn write<W: Write + Seek, K: TiffKind>(
    pages: &[Out],
    mut encoder: TiffEncoder<W, K>,
) -> TiffResult<()> {
    for (index, page) in pages.iter().enumerate() {
        write_page(&mut encoder, page, index, pages.len())?;
    }
    Ok(())
}

fn write_page<W: Write + Seek, K: TiffKind>(
    encoder: &mut TiffEncoder<W, K>,
    page: &Out,
    index: usize,
    count: usize,
) -> TiffResult<()> {
    let described = page.exif.and_then(|block| {
        let tiff = Tiff::open(block).ok()?;
        Some(Description::of(&tiff, &tiff.directory(tiff.first)?))
    });
    let described = described.unwrap_or_default();
    let interop = extra_directory(encoder, &described.interop, None)?;
    let interop = interop.map(|at| (Tag::Unknown(40_965), at));
    let exif = extra_directory(encoder, &described.exif, interop)?;
    let gps = extra_directory(encoder, &described.gps, None)?;

    let mut directory = encoder.image_directory()?;
    write_fields(&mut directory, &described.image)?;
    if let Some(at) = exif {
        directory.write_tag(Tag::ExifDirectory, at)?;
    }
    if let Some(at) = gps {
        directory.write_tag(Tag::GpsDirectory, at)?;
    }
    if let Some(resolution) = page.resolution {
        write_resolution(&mut directory, resolution)?;
    }
    if let Some(software) = page.software {
        let text = [software.as_bytes(), b"\0"].concat();
        write_bytes(&mut directory, Tag::Software, Type::ASCII, &text)?;
    }
    let blocks = [
        (page.icc, Tag::IccProfile, Type::UNDEFINED),
        (page.xmp, Tag::Unknown(700), Type::BYTE),
        (page.iptc, Tag::Unknown(33_723), Type::UNDEFINED),
        (page.photoshop, Tag::Unknown(34_377), Type::BYTE),
    ];
    for (block, tag, kind) in blocks {
        if let Some(block) = block.filter(|block| !block.is_empty()) {
            write_bytes(&mut directory, tag, kind, block)?;
        }
    }
    if count > 1 {
        const OF_SEVERAL: u32 = 2;
        directory.write_tag(Tag::NewSubfileType, OF_SEVERAL)?;
        if let (Ok(index), Ok(count)) = (u16::try_from(index), u16::try_from(count)) {
            directory.write_tag(Tag::Unknown(297), &[index, count][..])?;
        }
    }
    write_structure(&mut directory, page)?;
    match page.samples {
        OutSamples::Eight(samples) => write_strips(&mut directory, page, samples)?,
        OutSamples::Sixteen(samples) => write_strips(&mut directory, page, samples)?,
    }
    directory.finish()
}

/// Writes a directory below a page's, if there is something to write, and tells where it lies.
fn extra_directory<W: Write + Seek, K: TiffKind>(
    encoder: &mut TiffEncoder<W, K>,
    fields: &[Field],
    below: Option<(Tag, K::OffsetType)>,
) -> TiffResult<Option<K::OffsetType>> {
    if fields.is_empty() && below.is_none() {
        return Ok(None);
    }
    let mut directory = encoder.extra_directory()?;
    write_fields(&mut directory, fields)?;
    if let Some((tag, at)) = below {
        directory.write_tag(tag, at)?;
    }
    Ok(Some(directory.finish_with_offsets()?.offset))
}

fn write_fields<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<W, K>,
    fields: &[Field],
) -> TiffResult<()> {
    for field in fields {
        // Type 129, UTF-8, is of EXIF alone.
        let kind = Type::from_u16(field.kind).unwrap_or(Type::ASCII);
        if let Some(value) = field.value(cfg!(target_endian = "big")) {
            write_bytes(directory, Tag::from_u16_exhaustive(field.tag), kind, &value)?;
        }
    }
    Ok(())
}

/// Writes values given in the byte order of this machine, which is the file's.
fn write_bytes<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<W, K>,
    tag: Tag,
    kind: Type,
    values: &[u8],
) -> TiffResult<()> {
    let entry = directory.write_entry_bytes(kind, values)?;
    if values.len() % 2 == 1 && values.len() > size_of::<K::OffsetType>() {
        directory.write_data(0_u8)?; // what follows begins at an even place, as TIFF asks
    }
    directory.extend_from(&Directory::from_iter([(tag, entry)]));
    Ok(())
}

fn write_resolution<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<W, K>,
    (across, down, unit): (f64, f64, u16),
) -> TiffResult<()> {
    if let (Some(across), Some(down)) = (fraction(across), fraction(down)) {
        directory.write_tag(Tag::XResolution, across)?;
        directory.write_tag(Tag::YResolution, down)?;
        directory.write_tag(Tag::ResolutionUnit, unit)?;
    }
    Ok(())
}

/// The nearest fraction of a small denominator to a positive number.
fn fraction(value: f64) -> Option<Rational> {
    let scale = [1, 1_000, 1_000_000].into_iter().find(|&scale| {
        let scaled = value * f64::from(scale);
        (scaled - scaled.round()).abs() < 1e-6
    });
    let scale = scale.unwrap_or(if value < 1_000.0 { 1_000_000 } else { 1 });
    let above = (value * f64::from(scale)).round();
    let fits = above >= 1.0 && above <= f64::from(u32::MAX);
    fits.then_some(Rational {
        n: above as u32,
        d: scale,
    })
}

/// The tags that say how samples are stored, but for the places of strips.
fn write_structure<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<W, K>,
    page: &Out,
) -> TiffResult<()> {
    let samples = page.channels.count();
    let (photometric, has_alpha) = match page.channels {
        Channels::Gray => (1_u16, false),
        Channels::GrayAlpha => (1, true),
        Channels::Rgb | Channels::Cmyk => (2, false),
        Channels::Rgba => (2, true),
    };
    let bits: u16 = match page.samples {
        OutSamples::Eight(_) => 8,
        OutSamples::Sixteen(_) => 16,
    };
    let storage = Storage::of(page);
    directory.write_tag(Tag::ImageWidth, page.width)?;
    directory.write_tag(Tag::ImageLength, page.height)?;
    directory.write_tag(Tag::BitsPerSample, &vec![bits; samples][..])?;
    directory.write_tag(Tag::Compression, storage.code())?;
    directory.write_tag(Tag::PhotometricInterpretation, photometric)?;
    directory.write_tag(Tag::Orientation, 1_u16)?;
    directory.write_tag(Tag::SamplesPerPixel, samples as u16)?;
    directory.write_tag(Tag::PlanarConfiguration, 1_u16)?;
    if storage.predictor() {
        directory.write_tag(Tag::Predictor, 2_u16)?;
    }
    if has_alpha {
        let meaning: u16 = match page.alpha {
            Some(Alpha::Associated) => 1,
            Some(Alpha::Unassociated) | None => 2,
        };
        directory.write_tag(Tag::ExtraSamples, meaning)?;
    }
    Ok(())
}

/// An unsigned sample of 8 or 16 bits.
trait Sample: Copy {
    fn minus(self, other: Self) -> Self;
    /// Appends the sample in this machine's byte order.
    fn append(self, bytes: &mut Vec<u8>);
}

impl Sample for u8 {
    fn minus(self, other: u8) -> u8 {
        self.wrapping_sub(other)
    }
    fn append(self, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }
}

impl Sample for u16 {
    fn minus(self, other: u16) -> u16 {
        self.wrapping_sub(other)
    }
    fn append(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_ne_bytes());
    }
}

fn write_strips<W: Write + Seek, K: TiffKind, T: Sample>(
    directory: &mut DirectoryEncoder<W, K>,
    page: &Out,
    samples: &[T],
) -> TiffResult<()> {
    let channels = page.channels.count();
    let row_samples = page.width as usize * channels;
    let row_bytes = row_samples * size_of::<T>();
    let rows = (STRIP_BYTES / row_bytes).clamp(1, page.height as usize);
    let (mut places, mut lengths) = (Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    for strip in samples.chunks(rows * row_samples) {
        bytes.clear();
        for row in strip.chunks(row_samples) {
            append_row(row, channels, Storage::of(page).predictor(), &mut bytes);
        }
        let stored = compress(&bytes, row_bytes, Storage::of(page))?;
        places.push(K::convert_offset(directory.write_data(&stored[..])?)?);
        lengths.push(K::convert_offset(stored.len() as u64)?);
        if stored.len() % 2 == 1 {
            directory.write_data(0_u8)?;
        }
    }
    directory.write_tag(Tag::RowsPerStrip, rows as u32)?;
    directory.write_tag(Tag::StripOffsets, K::convert_slice(&places))?;
    directory.write_tag(Tag::StripByteCounts, K::convert_slice(&lengths))
}

fn append_row<T: Sample>(row: &[T], channels: usize, predictor: bool, bytes: &mut Vec<u8>) {
    if !predictor {
        return row.iter().for_each(|sample| sample.append(bytes));
    }
    let (first, rest) = row.split_at(channels);
    first.iter().for_each(|sample| sample.append(bytes));
    let pairs = rest.iter().zip(row);
    pairs.for_each(|(sample, before)| sample.minus(*before).append(bytes));
}

fn compress(strip: &[u8], row_bytes: usize, storage: Storage) -> TiffResult<Vec<u8>> {
    let mut stored = Vec::new();
    match storage {
        Storage::Plain => stored.extend(strip),
        Storage::Lzw { .. } => {
            Lzw.write_to(&mut stored, strip)?;
        }
        Storage::Deflate { .. } => {
            Deflate::default().write_to(&mut stored, strip)?;
        }
        Storage::PackBits => {
            // Runs do not reach over rows.
            for row in strip.chunks(row_bytes) {
                Packbits.write_to(&mut stored, row)?;
            }
        }
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::super::decode::tiff::{Page, Samples, decode};
    use super::*;

    fn out<'a>(width: u32, height: u32, channels: Channels, samples: OutSamples<'a>) -> Out<'a> {
        Out {
            width,
            height,
            channels,
            samples,
            alpha: None,
            compression: Compression::None,
            predictor: false,
            icc: None,
            exif: None,
            xmp: None,
            iptc: None,
            photoshop: None,
            resolution: None,
            software: None,
        }
    }

    fn written(pages: &[Out]) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        encode(pages, &mut file).unwrap();
        file.into_inner()
    }

    fn read(file: &[u8]) -> Vec<Page> {
        let (pages, warnings) = decode(file, 1 << 24).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        pages
    }

    fn field(file: &[u8], tag: u16) -> Option<Vec<u64>> {
        let tiff = Tiff::open(file).unwrap();
        tiff.directory(tiff.first).unwrap().uints(tag).unwrap()
    }

    #[test]
    fn all_channels_and_compressions_come_back() {
        use Channels::{Gray, GrayAlpha, Rgb, Rgba};
        let (width, height) = (37, 29);
        let all: Vec<u16> = (0..width * height * 4)
            .map(|i: u32| (i.wrapping_mul(i) >> 9) as u16)
            .collect();
        let bytes: Vec<u8> = all.iter().map(|&sample| (sample >> 8) as u8).collect();
        for channels in [Gray, GrayAlpha, Rgb, Rgba] {
            let count = (width * height) as usize * channels.count();
            let (eight, sixteen) = (&bytes[..count], &all[..count]);
            for (compression, predictor) in [
                (Compression::None, false),
                (Compression::PackBits, false),
                (Compression::Lzw, true),
                (Compression::Deflate, channels == Rgb),
            ] {
                let eight = Out {
                    compression,
                    predictor,
                    ..out(width, height, channels, OutSamples::Eight(eight))
                };
                let sixteen = Out {
                    samples: OutSamples::Sixteen(sixteen),
                    alpha: Some(Alpha::Associated),
                    ..eight
                };
                let file = written(&[eight, sixteen]);
                let pages = read(&file);
                for page in &pages {
                    assert_eq!((page.width, page.height), (width, height));
                    assert_eq!((page.channels, page.compression), (channels, compression));
                    assert_eq!((page.predictor, page.orientation), (predictor, 1));
                }
                assert!(pages[0].samples == Samples::Eight(bytes[..count].to_vec()));
                assert!(pages[1].samples == Samples::Sixteen(all[..count].to_vec()));
                let has_alpha = matches!(channels, GrayAlpha | Rgba);
                let alpha = [pages[0].alpha, pages[1].alpha];
                let expected = [Alpha::Unassociated, Alpha::Associated];
                assert_eq!(alpha, expected.map(|alpha| has_alpha.then_some(alpha)));
                assert_eq!(field(&file, 297), Some(vec![0, 2]));
            }
        }
    }

    #[test]
    fn large_pages_are_written_in_strips() {
        let samples: Vec<u16> = (0..200 * 400 * 3).map(|i: u32| (i >> 3) as u16).collect();
        for compression in [Compression::None, Compression::PackBits] {
            let page = Out {
                compression,
                ..out(200, 400, Channels::Rgb, OutSamples::Sixteen(&samples))
            };
            let file = written(&[page]);
            // 1200 bytes a row: 218 rows in 256 KiB.
            assert_eq!(field(&file, 278), Some(vec![218]));
            assert_eq!(field(&file, 273).unwrap().len(), 2);
            assert!(read(&file)[0].samples == Samples::Sixteen(samples.clone()));
        }
    }

    #[test]
    fn a_page_alone_has_no_tags_but_those_it_needs() {
        let file = written(&[out(2, 1, Channels::Gray, OutSamples::Eight(&[1, 2]))]);
        let tiff = Tiff::open(&file).unwrap();
        let fields = tiff.directory(tiff.first).unwrap().fields;
        let tags: Vec<u16> = fields.iter().map(|field| field.tag).collect();
        assert_eq!(
            tags,
            [256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284]
        );
    }

    #[test]
    fn jpeg_becomes_deflate_with_a_predictor() {
        let page = Out {
            compression: Compression::Jpeg,
            ..out(2, 1, Channels::Gray, OutSamples::Eight(&[1, 2]))
        };
        let pages = read(&written(&[page]));
        assert_eq!(
            (pages[0].compression, pages[0].predictor),
            (Compression::Deflate, true)
        );
    }

    /// A block, big-endian: a maker, an orientation, a thumbnail; an exposure of 1/250 s, a
    /// maker's note of 5 bytes, and a bias of −1/3; a place's direction.
    fn exif() -> Vec<u8> {
        let mut block = b"MM\0*\0\0\0\x08\0\x05".to_vec();
        block.extend(b"\x01\x0f\0\x02\0\0\0\x04abc\0");
        block.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0");
        block.extend(b"\x01\x31\0\x02\0\0\0\x03old");
        block.push(0);
        block.extend(b"\x87\x69\0\x04\0\0\0\x01\0\0\0\x4a"); // 74
        block.extend(b"\x88\x25\0\x04\0\0\0\x01\0\0\0\x8c"); // 140
        block.extend(b"\0\0\0\x9e"); // 158: the thumbnail's directory
        assert_eq!(block.len(), 74);
        block.extend(b"\0\x03\x82\x9a\0\x05\0\0\0\x01\0\0\0\x74"); // 116
        block.extend(b"\x92\x04\0\x0a\0\0\0\x01\0\0\0\x7c"); // 124
        block.extend(b"\x92\x7c\0\x07\0\0\0\x05\0\0\0\x84"); // 132
        block.extend([0; 4]);
        assert_eq!(block.len(), 116);
        block.extend(b"\0\0\0\x01\0\0\0\xfa\xff\xff\xff\xff\0\0\0\x03notes\0\0\0");
        assert_eq!(block.len(), 140);
        block.extend(b"\0\x01\0\x01\0\x02\0\0\0\x02N\0\0\0\0\0\0\0");
        assert_eq!(block.len(), 158);
        block.extend(b"\0\x01\x01\x03\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
        block
    }

    #[test]
    fn metadata_come_back() {
        let exif = exif();
        let samples = OutSamples::Eight(&[1, 2, 3]);
        let page = Out {
            icc: Some(b"profile"),
            exif: Some(&exif),
            xmp: Some(b"<x/>"),
            iptc: Some(b"iptc!"),
            photoshop: Some(b"8BIM"),
            resolution: Some((118.11, 300.0, 3)),
            software: Some("new"),
            ..out(1, 1, Channels::Rgb, samples)
        };
        let file = written(&[page]);
        let read = read(&file);
        assert_eq!(read[0].icc.as_deref(), Some(&b"profile"[..]));
        assert_eq!(read[0].xmp.as_deref(), Some(&b"<x/>"[..]));
        assert_eq!(read[0].iptc.as_deref(), Some(&b"iptc!"[..]));
        assert_eq!(read[0].photoshop.as_deref(), Some(&b"8BIM"[..]));
        assert_eq!((read[0].orientation, field(&file, 259)), (1, Some(vec![1])));

        let block = read[0].exif.as_deref().unwrap();
        let tiff = Tiff::open(block).unwrap();
        let first = tiff.directory(tiff.first).unwrap();
        assert_eq!(first.next, 0);
        let values = Description::of(&tiff, &first);
        let all = |fields: &[Field]| {
            let fields = fields
                .iter()
                .map(|field| (field.tag, field.kind, field.value(true).unwrap()));
            fields.collect::<Vec<_>>()
        };
        let hundredths =
            |above: u32, below: u32| [above.to_be_bytes(), below.to_be_bytes()].concat();
        let expected = [
            (271, 2, b"abc\0".to_vec()),
            (282, 5, hundredths(118_110, 1_000)),
            (283, 5, hundredths(300, 1)),
            (296, 3, vec![0, 3]),
            (305, 2, b"new\0".to_vec()),
        ];
        assert_eq!(all(&values.image), expected);
        let expected = [
            (0x829a, 5, hundredths(1, 250)),
            (0x9204, 10, hundredths(-1_i32 as u32, 3)),
            (0x927c, 7, b"notes".to_vec()),
        ];
        assert_eq!(all(&values.exif), expected);
        assert_eq!(all(&values.gps), [(1, 2, b"N\0".to_vec())]);
    }

    #[test]
    fn any_block_is_written_as_far_as_it_is_readable() {
        let whole = exif();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            for block in [&whole[..at], &changed] {
                let page = Out {
                    exif: Some(block),
                    ..out(1, 1, Channels::Gray, OutSamples::Eight(&[9]))
                };
                assert_eq!(read(&written(&[page]))[0].samples, Samples::Eight(vec![9]));
            }
        }
    }

    #[test]
    fn bigtiff_comes_back() {
        let exif = exif();
        let page = Out {
            exif: Some(&exif),
            compression: Compression::Lzw,
            ..out(
                2,
                2,
                Channels::GrayAlpha,
                OutSamples::Sixteen(&[1, 2, 3, 4, 5, 6, 7, 8]),
            )
        };
        let mut file = Cursor::new(Vec::new());
        write(&[page], TiffEncoder::new_big(&mut file).unwrap()).unwrap();
        let (big, classic) = (file.into_inner(), written(&[page]));
        assert_eq!(big[..4], *b"II+\0");
        let (big, classic) = (read(&big), read(&classic));
        assert_eq!(big[0].samples, classic[0].samples);
        assert_eq!(big[0].exif, classic[0].exif);
        assert!(big[0].exif.is_some());
    }

    #[test]
    fn wrong_pages_are_errors() {
        let encode = |pages: &[Out]| encode(pages, Cursor::new(Vec::new())).unwrap_err();
        let samples = OutSamples::Eight(&[1, 2, 3]);
        assert!(encode(&[]).contains("no page"));
        assert!(encode(&[out(2, 1, Channels::Rgb, samples)]).contains("3 samples, expected 6"));
        assert!(encode(&[out(0, 1, Channels::Rgb, samples)]).contains("0×1"));
        assert!(encode(&[out(1, 1, Channels::Cmyk, samples)]).contains("CMYK"));
    }
}
