//! TIFF files read: every page of full resolution with its colours as stored and what tells about
//! it. Directories are read and checked here; compressed strips and tiles are unpacked by the
//! [`tiff`] crate, one at a time, and laid out here, which covers planes, tiles, palettes, any
//! number of bits and subsampled chroma.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{Cursor, ErrorKind};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::{TiffError, TiffResult};

use super::super::ifd::{Description, Directory, Tiff};

/// How alpha goes with the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpha {
    /// Colours are multiplied by alpha.
    Associated,
    Unassociated,
}

/// How a file's samples are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
    Jpeg,
    Other,
}

/// Samples, channels interleaved, rows from top to bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Samples {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

impl Samples {
    /// What they take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Samples::Eight(samples) => samples.len() as u64,
            Samples::Sixteen(samples) => 2 * samples.len() as u64,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// 0 is black.
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
    /// 0 is no ink.
    Cmyk,
}

impl Channels {
    pub(crate) fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::GrayAlpha => 2,
            Channels::Rgb => 3,
            Channels::Rgba | Channels::Cmyk => 4,
        }
    }
}

/// A picture of full resolution.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub width: u32,
    pub height: u32,
    /// Samples of less than 8 bits are scaled to 8, those of 9 to 15 bits to 16.
    pub samples: Samples,
    pub channels: Channels,
    /// Of [`Channels::GrayAlpha`] and [`Channels::Rgba`].
    pub alpha: Option<Alpha>,
    pub compression: Compression,
    /// Whether differences of neighbours are compressed.
    pub predictor: bool,
    /// 1 to 8 as in EXIF; not applied.
    pub orientation: u16,
    pub icc: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
    pub iptc: Option<Vec<u8>>,
    /// Photoshop's image resources.
    pub photoshop: Option<Vec<u8>>,
    /// A block of TIFF structure (`II*\0…`): the page's descriptive tags, with the Exif, GPS and
    /// interoperability directories.
    pub exif: Option<Vec<u8>>,
}

impl Page {
    fn metadata_bytes(&self) -> u64 {
        let blocks = [
            &self.icc,
            &self.xmp,
            &self.iptc,
            &self.photoshop,
            &self.exif,
        ];
        blocks
            .iter()
            .copied()
            .flatten()
            .map(|block| block.len() as u64)
            .sum()
    }
}

/// What is known without decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Of the first page of full resolution, as are all but the next two.
    pub width: u32,
    pub height: u32,
    /// 1 to 8 as in EXIF; the size is that before it is applied.
    pub orientation: u16,
    /// Pages of full resolution.
    pub pages: usize,
    /// Bytes of the samples of all pages together, of those that can be read.
    pub bytes_decoded: u64,
}

/// # Errors
/// If the first page cannot be read (a raw photograph, a kind of samples or compression that is not
/// supported, a truncated file); errors within compressed data are found by decoding only.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, String> {
    let file = open(bytes)?;
    let (pages, _) = pages(&file)?;
    let first = Layout::of(&pages[0])?;
    first.chunks(&file, &pages[0])?;
    let layouts = pages.iter().flat_map(Layout::of);
    let bytes_decoded = layouts.map(|layout| layout.bytes_decoded());
    let bytes_decoded = bytes_decoded.fold(0, u64::saturating_add);
    Ok(Header {
        width: first.width,
        height: first.height,
        orientation: first.orientation,
        pages: pages.len(),
        bytes_decoded,
    })
}

/// All pages of full resolution, and warnings of what is left out or unusual.
///
/// # Errors
/// As of [`header`] for any page; if the pages' samples take more than `max_bytes`; if compressed
/// data are damaged.
pub(crate) fn decode(bytes: &[u8], max_bytes: u64) -> Result<(Vec<Page>, Vec<String>), String> {
    decode_some(bytes, max_bytes, usize::MAX)
}

/// The first page of full resolution; else as [`decode`].
///
/// # Errors
/// As of [`decode`], further pages apart.
pub(crate) fn decode_first(bytes: &[u8], max_bytes: u64) -> Result<(Page, Vec<String>), String> {
    let (mut pages, warnings) = decode_some(bytes, max_bytes, 1)?;
    Ok((pages.swap_remove(0), warnings)) // there is a page, or an error
}

fn decode_some(
    bytes: &[u8],
    max_bytes: u64,
    most: usize,
) -> Result<(Vec<Page>, Vec<String>), String> {
    let file = open(bytes)?;
    let (directories, mut warnings) = pages(&file)?;
    let several = directories.len() > 1;
    let of_page = |index: usize, reason: String| match several {
        true => format!("page {}: {reason}", index + 1),
        false => reason,
    };
    let directories = &directories[..most.min(directories.len())];
    let layouts = directories
        .iter()
        .enumerate()
        .map(|(index, directory)| Layout::of(directory).map_err(|reason| of_page(index, reason)));
    let layouts = layouts.collect::<Result<Vec<Layout>, String>>()?;
    let within = |bytes: u64| match bytes <= max_bytes {
        true => Ok(()),
        false => Err(format!(
            "the pictures take {bytes} bytes, the limit is {max_bytes}"
        )),
    };
    let sizes = layouts
        .iter()
        .map(|layout| layout.bytes_decoded().max(layout.chunk_bytes()));
    within(sizes.fold(0, u64::saturating_add))?;
    let mut pages = Vec::new();
    let mut spent = 0;
    for (index, (layout, directory)) in layouts.iter().zip(directories).enumerate() {
        let page = decode_page(&file, layout, directory);
        let page = page.map_err(|reason| of_page(index, reason))?;
        // Pages may share their metadata in the file, but not here.
        spent += layout.bytes_decoded() + page.metadata_bytes();
        within(spent)?;
        pages.push(page);
        let found = layout.warnings.iter().cloned();
        warnings.extend(found.map(|warning| of_page(index, warning)));
    }
    Ok((pages, warnings))
}

fn decode_page(file: &Tiff, layout: &Layout, directory: &Directory) -> Result<Page, String> {
    let chunks = layout.chunks(file, directory)?;
    let samples = match layout.bits {
        ..=8 => Samples::Eight(finish(
            read_samples(file, layout, &chunks)?,
            layout,
            u8::MAX,
        )),
        _ => Samples::Sixteen(finish(
            read_samples(file, layout, &chunks)?,
            layout,
            u16::MAX,
        )),
    };
    let owned = |tag| directory.raw(tag).map(<[u8]>::to_vec);
    Ok(Page {
        width: layout.width,
        height: layout.height,
        samples,
        channels: layout.channels(),
        alpha: layout.alpha.map(|(_, alpha)| alpha),
        compression: match layout.codec {
            Codec::Plain => Compression::None,
            Codec::Lzw => Compression::Lzw,
            Codec::Deflate => Compression::Deflate,
            Codec::PackBits => Compression::PackBits,
            Codec::Jpeg => Compression::Jpeg,
            Codec::Fax4 => Compression::Other,
        },
        predictor: layout.predictor,
        orientation: layout.orientation,
        icc: owned(34_675),
        xmp: owned(700),
        iptc: owned(33_723),
        photoshop: owned(34_377),
        exif: Description::of(file, directory).to_exif(),
    })
}

/// # Errors
/// If it is no TIFF, or a raw photograph that its first bytes tell.
fn open(bytes: &[u8]) -> Result<Tiff<'_>, String> {
    let begins = |pattern: &[u8]| bytes.starts_with(pattern);
    if begins(b"IIRO") || begins(b"IIRS") || begins(b"MMOR") {
        return Err(raw("ORF"));
    }
    if begins(b"IIU\0") {
        return Err(raw("RW2"));
    }
    let canon = bytes.get(8..10) == Some(b"CR");
    if canon && begins(b"II*\0") {
        return Err(raw("CR2"));
    }
    Tiff::open(bytes)
}

fn raw(kind: &str) -> String {
    format!(
        "a raw photograph ({kind}): develop it first, e.g. with darktable, RawTherapee or \
         Lightroom, and export it as TIFF or PNG"
    )
}

/// The directories of the pages of full resolution, at least one, and warnings.
fn pages<'a>(file: &Tiff<'a>) -> Result<(Vec<Directory<'a>>, Vec<String>), String> {
    const MOST: usize = 1 << 16; // page numbers have 16 bits
    let mut pages = Vec::new();
    let mut seen = HashSet::new();
    let (mut reduced, mut masks, mut fields) = (0, 0, 0);
    let mut at = file.first;
    while at != 0 {
        if !seen.insert(at) || seen.len() > MOST {
            return Err("damaged: its directories form a ring, or are too many".to_string());
        }
        let Some(directory) = file.directory(at).filter(|found| found.complete) else {
            return Err(match at >= file.bytes.len() as u64 {
                true => format!("truncated: directory {} lies beyond the end", seen.len()),
                false => format!(
                    "truncated or damaged: directory {} is not whole",
                    seen.len()
                ),
            });
        };
        refuse_raw(file, &directory)?;
        at = directory.next;
        const ENTRY_BYTES: usize = 12; // at least
        fields += directory.fields.len();
        if fields * ENTRY_BYTES > file.bytes.len() {
            return Err("damaged: its directories overlap".to_string());
        }
        match Role::of(&directory)? {
            Role::Full => pages.push(directory),
            Role::Reduced => reduced += 1,
            Role::Mask => masks += 1,
        }
    }
    let warnings = match masks {
        0 => Vec::new(),
        _ => vec![format!("masks of other pages are left out: {masks}")],
    };
    match (pages.is_empty(), reduced) {
        (false, _) => Ok((pages, warnings)),
        (true, 0) => Err("no picture in this file".to_string()),
        (true, _) => Err("no picture but reduced ones (thumbnails) in this file".to_string()),
    }
}

/// What a page is to a reader of pictures.
enum Role {
    Full,
    Reduced,
    Mask,
}

impl Role {
    fn of(directory: &Directory) -> Result<Role, String> {
        let subfile = directory.uint(254)?.unwrap_or(0);
        let old_subfile = directory.uint(255)?.unwrap_or(1);
        let photometric = directory.uint(262)?;
        Ok(if subfile & 1 != 0 || old_subfile == 2 {
            Role::Reduced
        } else if subfile & 4 != 0 || photometric == Some(4) {
            Role::Mask
        } else {
            Role::Full
        })
    }
}

/// # Errors
/// If this directory, or one that it names as a part of it, is a raw photograph's.
fn refuse_raw(file: &Tiff, directory: &Directory) -> Result<(), String> {
    if directory.get(50_706).is_some() {
        return Err(raw("DNG"));
    }
    let parts = directory.get(330).and_then(|field| field.uints());
    let parts = parts.unwrap_or_default();
    const MOST: usize = 16; // raw photographs have up to five
    let parts = parts.iter().take(MOST).filter_map(|&at| file.directory(at));
    let parts: Vec<Directory> = parts.collect();
    let mut all = parts.iter().chain([directory]);
    let is_raw = all.any(|part| {
        let has = |tag, values: &[u64]| {
            part.uint(tag)
                .is_ok_and(|value| value.is_some_and(|value| values.contains(&value)))
        };
        let sensor = has(262, &[32_803, 34_892]); // colour filter array, linear raw
        // Sony's, Samsung's, Nikon's, Pentax's.
        sensor || has(259, &[32_767, 32_770, 34_713, 65_535])
    });
    if !is_raw {
        return Ok(());
    }
    let make = directory.raw(271).unwrap_or_default().to_ascii_uppercase();
    let kinds = [
        ("NIKON", "NEF"),
        ("SONY", "ARW"),
        ("PENTAX", "PEF"),
        ("RICOH", "PEF"),
    ];
    let kind = kinds
        .iter()
        .find(|(maker, _)| make.starts_with(maker.as_bytes()));
    Err(raw(kind.map_or("values of a sensor", |(_, kind)| kind)))
}

/// What colours a page's samples are.
#[derive(Debug, Clone, PartialEq)]
enum Colour {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    /// Red, green and blue of every index.
    Palette(Vec<[u8; 3]>),
    Cmyk,
    YCbCr(YCbCr),
}

#[derive(Debug, Clone, PartialEq)]
struct YCbCr {
    /// Pixels that share chroma samples, across and down.
    subsampling: (usize, usize),
    /// The shares of red, green and blue in luma.
    luma: [f64; 3],
    /// For each component the values of its zero and of its full scale.
    reference: [[f64; 2]; 3],
}

/// Compressions that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Plain,
    Lzw,
    Deflate,
    PackBits,
    Jpeg,
    Fax4,
}

impl Codec {
    /// # Errors
    /// If it cannot be read, naming it.
    fn of(code: u64) -> Result<Codec, String> {
        let name = match code {
            1 => return Ok(Codec::Plain),
            4 => return Ok(Codec::Fax4),
            5 => return Ok(Codec::Lzw),
            7 => return Ok(Codec::Jpeg),
            8 | 32_946 => return Ok(Codec::Deflate),
            32_773 => return Ok(Codec::PackBits),
            2 | 32_771 => "CCITT run lengths",
            3 => "CCITT group 3 (fax)",
            6 => "old-style JPEG",
            9 | 10 | 34_661 => "JBIG",
            32_766 => "NeXT run lengths",
            32_809 => "ThunderScan",
            33_003..=33_005 | 34_712 => "JPEG 2000",
            34_676 | 34_677 => "SGI LogLuv",
            34_887 => "LERC",
            34_892 => "JPEG of a DNG",
            34_925 => "LZMA",
            34_933 => "PNG",
            34_934 | 22_610 => "JPEG XR",
            50_000 | 34_926 => "Zstandard",
            50_001 | 34_927 => "WebP",
            50_002 | 52_546 => "JPEG XL",
            _ => "unknown",
        };
        Err(format!(
            "compression {code} ({name}) is not supported: save it uncompressed or with LZW or \
             Deflate"
        ))
    }

    fn name(self) -> &'static str {
        match self {
            Codec::Plain => "uncompressed",
            Codec::Lzw => "LZW",
            Codec::Deflate => "Deflate",
            Codec::PackBits => "PackBits",
            Codec::Jpeg => "JPEG",
            Codec::Fax4 => "CCITT group 4",
        }
    }

    /// More bytes than `length` compressed ones can give for `rows` rows of `row_bytes`: what a
    /// header says beyond is not believed, nor memory taken for it.
    fn most_bytes(self, length: u64, row_bytes: u64) -> u64 {
        const SMALL: u64 = 1 << 16;
        match self {
            Codec::Plain => length,
            Codec::PackBits => length.saturating_mul(64),
            Codec::Deflate => length.saturating_mul(1_040), // its format allows 1032
            // A code of 12 bits stands for up to 4096 bytes; blocks of JPEG take a few bits.
            Codec::Lzw | Codec::Jpeg => length.saturating_mul(4_096).saturating_add(SMALL),
            Codec::Fax4 => length.saturating_mul(8).saturating_mul(row_bytes), // a bit a row
        }
    }
}

/// How a page's samples are stored, checked.
struct Layout<'a> {
    width: u32,
    height: u32,
    orientation: u16,
    colour: Colour,
    /// Of a sample, 1 to 16.
    bits: u16,
    /// Samples of a pixel as stored.
    samples: usize,
    /// The sample that is alpha.
    alpha: Option<(usize, Alpha)>,
    codec: Codec,
    predictor: bool,
    /// Whether the lowest bit of every byte comes first.
    reversed: bool,
    jpeg_tables: Option<&'a [u8]>,
    /// Whether every sample of a pixel has its own chunks.
    planar: bool,
    tiled: bool,
    chunk_width: u32,
    chunk_height: u32,
    warnings: Vec<String>,
}

impl<'a> Layout<'a> {
    /// # Errors
    /// If it is damaged, or cannot be read.
    fn of(directory: &Directory<'a>) -> Result<Layout<'a>, String> {
        let mut warnings = Vec::new();
        let side = |tag, name| match directory.uint(tag)? {
            Some(side @ 1..=0xffff_ffff) => Ok(side as u32),
            Some(side) => Err(format!("damaged: a {name} of {side} pixels")),
            None => Err(format!("damaged: its {name} is not given")),
        };
        let (width, height) = (side(256, "width")?, side(257, "height")?);
        let code = directory.uint(259)?.unwrap_or(1);
        let samples = directory.uint(277)?.unwrap_or(1);
        let photometric = photometric(directory, code, samples, &mut warnings)?;
        let bits = bits(directory)?;
        let codec = Codec::of(code)?;
        let colour = colour(directory, photometric, bits, codec)?;
        let alpha = alpha(directory, &colour, samples, &mut warnings)?;
        if colour == Colour::Cmyk {
            check_inks(directory, bits, &mut warnings)?;
        }
        let planar = match directory.uint(284)? {
            None | Some(1) => false,
            Some(2) => samples > 1,
            Some(value) => return Err(format!("damaged: planar configuration {value}")),
        };
        let predictor = predictor(directory, codec, bits)?;
        if codec == Codec::Fax4 && (bits, samples) != (1, 1) {
            return Err(format!(
                "damaged: CCITT of {samples} samples of {bits} bits"
            ));
        }
        if codec == Codec::Jpeg && bits != 8 {
            return Err(format!(
                "JPEG of {bits} bits a sample is not supported, 8 are"
            ));
        }
        let mut layout = Layout {
            width,
            height,
            orientation: match directory.uint(274) {
                Ok(Some(value @ 1..=8)) => value as u16,
                _ => 1,
            },
            colour,
            bits,
            samples: samples as usize,
            alpha,
            codec,
            predictor,
            reversed: directory.uint(266)? == Some(2) && codec != Codec::Jpeg,
            // Tables of a begin and an end only are none.
            jpeg_tables: directory.raw(347).filter(|tables| tables.len() > 8),
            planar,
            tiled: directory.get(324).is_some() || directory.get(322).is_some(),
            chunk_width: width,
            chunk_height: height,
            warnings,
        };
        if layout.subsampling() != (1, 1) && (planar || predictor) {
            return Err(
                "YCbCr with shared chroma in planes or with a predictor is not supported: \
                        save it as RGB"
                    .to_string(),
            );
        }
        if layout.tiled {
            layout.chunk_width = side(322, "tile width")?;
            layout.chunk_height = side(323, "tile height")?;
        } else if let Some(rows) = directory.uint(278)? {
            if rows == 0 {
                return Err("damaged: strips of no rows".to_string());
            }
            layout.chunk_height = rows.min(height.into()) as u32;
        }
        Ok(layout)
    }

    /// Where every strip or tile lies within the file, and its bytes, one at least.
    ///
    /// # Errors
    /// If one is missing, lies beyond the end, or is too short for what it is said to hold.
    fn chunks(&self, file: &Tiff, directory: &Directory) -> Result<Vec<(u64, u64)>, String> {
        let (at_tag, length_tag) = if self.tiled { (324, 325) } else { (273, 279) };
        let size = file.bytes.len() as u64;
        let offsets = directory
            .uints(at_tag)?
            .ok_or("damaged: it does not tell where its samples lie")?;
        let lengths = match directory.uints(length_tag)? {
            Some(lengths) => lengths,
            None => up_to_the_next(&offsets, size),
        };
        let expected =
            (self.planes() as u64).saturating_mul(self.across().saturating_mul(self.down()));
        let found = offsets.len().min(lengths.len()) as u64;
        if found < expected {
            return Err(format!("damaged: {found} strips or tiles of {expected}"));
        }
        let chunks = offsets.into_iter().zip(lengths).take(expected as usize);
        let chunks: Vec<(u64, u64)> = chunks.collect();
        // Equal tiles may be stored once, but a small file is not to take hours to read.
        const SHARED: u64 = 64;
        let most = size.saturating_mul(SHARED).max(1 << 30);
        let lengths = chunks.iter().map(|&(_, length)| length);
        if lengths.fold(0, u64::saturating_add) > most {
            return Err("damaged: its strips or tiles overlap".to_string());
        }
        for (index, &(at, length)) in chunks.iter().enumerate() {
            let name = self.chunk_name(index);
            if length == 0 || at == 0 {
                return Err(format!("truncated: {name} has no data"));
            }
            if at.saturating_add(length) > size {
                return Err(format!("truncated: {name} lies beyond the end"));
            }
            let row_bytes = self.row_bytes().unwrap_or(u64::MAX);
            let needed = self.encoded_bytes(self.encoded_rows(index));
            if needed.is_none_or(|needed| needed > self.codec.most_bytes(length, row_bytes)) {
                let kind = self.codec.name();
                return Err(format!(
                    "truncated: {name} has {length} bytes ({kind}), too few for its size"
                ));
            }
        }
        Ok(chunks)
    }

    fn chunk_name(&self, index: usize) -> String {
        format!(
            "{} {}",
            if self.tiled { "tile" } else { "strip" },
            index + 1
        )
    }

    fn planes(&self) -> usize {
        if self.planar { self.samples } else { 1 }
    }

    fn across(&self) -> u64 {
        self.width.div_ceil(self.chunk_width).into()
    }

    fn down(&self) -> u64 {
        self.height.div_ceil(self.chunk_height).into()
    }

    /// Rows that a chunk's data hold: a tile always all, the last strip what remains.
    fn encoded_rows(&self, index: usize) -> u64 {
        let row = index as u64 / self.across() % self.down();
        match self.tiled {
            true => self.chunk_height.into(),
            false => u64::from(self.height - row as u32 * self.chunk_height)
                .min(self.chunk_height.into()),
        }
    }

    /// Samples of a pixel within a chunk.
    fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Bytes of a row of a chunk whose chroma is not shared.
    fn row_bytes(&self) -> Option<u64> {
        let samples = u64::from(self.chunk_width).checked_mul(self.chunk_samples() as u64)?;
        Some(samples.checked_mul(self.bits.into())?.div_ceil(8))
    }

    /// Bytes of a chunk of `rows` rows, decompressed.
    fn encoded_bytes(&self, rows: u64) -> Option<u64> {
        let (across, down) = self.subsampling();
        if (across, down) == (1, 1) {
            return self.row_bytes()?.checked_mul(rows);
        }
        let units = u64::from(self.chunk_width).div_ceil(across as u64);
        let units = units.checked_mul(rows.div_ceil(down as u64))?;
        units.checked_mul((across * down + 2) as u64)
    }

    /// Pixels that share chroma samples in decompressed data: those of JPEG share none any more.
    fn subsampling(&self) -> (usize, usize) {
        match &self.colour {
            Colour::YCbCr(kind) if self.codec != Codec::Jpeg => kind.subsampling,
            _ => (1, 1),
        }
    }

    /// Bytes of the samples of the largest chunk.
    fn chunk_bytes(&self) -> u64 {
        let pixels = u64::from(self.chunk_width) * u64::from(self.chunk_height);
        let samples = pixels.saturating_mul(self.chunk_samples() as u64);
        samples.saturating_mul(self.sample_bytes())
    }

    fn sample_bytes(&self) -> u64 {
        if self.bits > 8 { 2 } else { 1 }
    }

    fn channels(&self) -> Channels {
        match (&self.colour, self.alpha) {
            (Colour::Cmyk, _) => Channels::Cmyk,
            (Colour::WhiteIsZero | Colour::BlackIsZero, None) => Channels::Gray,
            (Colour::WhiteIsZero | Colour::BlackIsZero, Some(_)) => Channels::GrayAlpha,
            (_, None) => Channels::Rgb,
            (_, Some(_)) => Channels::Rgba,
        }
    }

    fn bytes_decoded(&self) -> u64 {
        let samples = self.samples.max(self.channels().count()) as u64;
        let pixels = u64::from(self.width) * u64::from(self.height);
        pixels.saturating_mul(samples * self.sample_bytes())
    }
}

/// The length of each chunk, where the file does not tell them: all up to the next one.
fn up_to_the_next(offsets: &[u64], size: u64) -> Vec<u64> {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    let end = |at: u64| {
        let next = sorted.partition_point(|&other| other <= at);
        sorted.get(next).map_or(size, |&next| next.min(size))
    };
    let lengths = offsets.iter().map(|&at| end(at).saturating_sub(at));
    lengths.collect()
}

/// The photometric interpretation; one that is not given is guessed as libtiff does.
fn photometric(
    directory: &Directory,
    compression: u64,
    samples: u64,
    warnings: &mut Vec<String>,
) -> Result<u64, String> {
    if let Some(found) = directory.uint(262)? {
        return Ok(found);
    }
    let (guess, name) = match (compression, samples) {
        (2..=4, 1) => (0, "0 is white"),
        (_, 1 | 2) => (1, "0 is black"),
        (_, 3 | 4) => (2, "RGB"),
        _ => {
            return Err(format!(
                "damaged: it does not tell what its {samples} samples are"
            ));
        }
    };
    warnings.push(format!(
        "it does not tell what colours its samples are: {name} is assumed"
    ));
    Ok(guess)
}

/// Bits of a sample.
fn bits(directory: &Directory) -> Result<u16, String> {
    const ADVICE: &str = "export it as TIFF or PNG of 16 bits";
    let bits = directory.uints(258)?.unwrap_or_else(|| vec![1]);
    let formats = directory.uints(339)?.unwrap_or_else(|| vec![1]);
    let most = bits.iter().copied().max().unwrap_or(1);
    match formats.iter().find(|&&format| format != 1 && format != 4) {
        Some(2) => return Err(format!("signed samples of {most} bits: {ADVICE}")),
        Some(3) => {
            return Err(format!(
                "samples of {most} bits floating point, which may be linear light and brighter \
                 than white: {ADVICE}"
            ));
        }
        Some(5 | 6) => {
            return Err(format!(
                "samples that are complex numbers, no picture: {ADVICE}"
            ));
        }
        Some(format) => return Err(format!("samples of unknown format {format}: {ADVICE}")),
        None => {}
    }
    if bits.iter().any(|&other| other != most) {
        return Err(format!("samples of different bits ({bits:?}): {ADVICE}"));
    }
    match most {
        1..=16 => Ok(most as u16),
        0 => Err("damaged: samples of no bits".to_string()),
        _ => Err(format!("samples of {most} bits (whole numbers): {ADVICE}")),
    }
}

fn predictor(directory: &Directory, codec: Codec, bits: u16) -> Result<bool, String> {
    if !matches!(codec, Codec::Lzw | Codec::Deflate) {
        return Ok(false); // others have none, whatever the tag says
    }
    match directory.uint(317)?.unwrap_or(1) {
        1 => Ok(false),
        2 if bits == 8 || bits == 16 => Ok(true),
        2 => Err(format!(
            "the predictor of samples of {bits} bits is not supported"
        )),
        other => Err(format!(
            "predictor {other} of whole numbers is not supported"
        )),
    }
}

fn colour(
    directory: &Directory,
    photometric: u64,
    bits: u16,
    codec: Codec,
) -> Result<Colour, String> {
    const ADVICE: &str = "export it as RGB";
    match photometric {
        0 => Ok(Colour::WhiteIsZero),
        1 => Ok(Colour::BlackIsZero),
        2 => Ok(Colour::Rgb),
        3 => palette(directory, bits),
        5 => Ok(Colour::Cmyk),
        6 if bits != 8 => Err(format!("YCbCr of {bits} bits is not supported: {ADVICE}")),
        6 => Ok(Colour::YCbCr(ycbcr(directory, codec)?)),
        8..=10 => Err(format!("CIE L*a*b* colours are not supported: {ADVICE}")),
        32_844 | 32_845 => Err(
            "LogLuv colours, which are linear light and brighter than white: export it as TIFF or \
             PNG of 16 bits"
                .to_string(),
        ),
        other => Err(format!("colours of unknown kind {other}: {ADVICE}")),
    }
}

fn palette(directory: &Directory, bits: u16) -> Result<Colour, String> {
    if bits > 8 {
        return Err(format!(
            "a palette of {bits} bits is not supported: export it as RGB"
        ));
    }
    let map = directory
        .uints(320)?
        .ok_or("damaged: its palette is missing")?;
    let count = 1 << bits;
    if map.len() < 3 * count {
        let found = map.len();
        return Err(format!(
            "damaged: a palette of {found} values, expected {}",
            3 * count
        ));
    }
    // Some writers give 8 bits in place of 16.
    let shift = if map.iter().all(|&value| value < 256) {
        0
    } else {
        8
    };
    let value = |channel: usize, index: usize| (map[channel * count + index] >> shift) as u8;
    let colours = (0..count).map(|index| [0, 1, 2].map(|channel| value(channel, index)));
    Ok(Colour::Palette(colours.collect()))
}

fn ycbcr(directory: &Directory, codec: Codec) -> Result<YCbCr, String> {
    let jfif = YCbCr {
        subsampling: (1, 1),
        luma: [0.299, 0.587, 0.114],
        reference: [[0.0, 255.0], [128.0, 255.0], [128.0, 255.0]],
    };
    if codec == Codec::Jpeg {
        return Ok(jfif); // as libtiff, which leaves it to the JPEG decoder
    }
    let subsampling = match directory.uints(530)?.as_deref() {
        None => (2, 2),
        Some(&[across @ (1 | 2 | 4), down @ (1 | 2 | 4)]) => (across as usize, down as usize),
        Some(other) => return Err(format!("damaged: chroma shared by {other:?} pixels")),
    };
    let finite = |values: &Vec<f64>| values.iter().all(|value| value.is_finite());
    let luma = directory.rationals(529).filter(finite);
    let luma = luma.and_then(|values| <[f64; 3]>::try_from(values).ok());
    let luma = luma.filter(|shares| shares[1] > 0.0);
    let reference = directory.rationals(532).filter(finite);
    let reference = reference.and_then(|values| <[f64; 6]>::try_from(values).ok());
    let reference = reference.map(|[a, b, c, d, e, f]| [[a, b], [c, d], [e, f]]);
    let differ = |pairs: &[[f64; 2]; 3]| pairs.iter().all(|[zero, full]| zero != full);
    Ok(YCbCr {
        subsampling,
        luma: luma.unwrap_or(jfif.luma),
        reference: reference.filter(differ).unwrap_or(jfif.reference),
    })
}

/// Which sample of a pixel is alpha. The first extra sample that is said to be alpha is taken as
/// such. One of unspecified meaning that is the only one is taken as unassociated alpha, as
/// ImageMagick does (libtiff takes that of RGB for alpha too, but associated): the colours stay as
/// they are either way, and what it holds is not lost.
///
/// # Errors
/// If there are too few samples, or so many that it is no photograph.
fn alpha(
    directory: &Directory,
    colour: &Colour,
    samples: u64,
    warnings: &mut Vec<String>,
) -> Result<Option<(usize, Alpha)>, String> {
    const MOST: u64 = 64;
    let colours = match colour {
        Colour::WhiteIsZero | Colour::BlackIsZero | Colour::Palette(_) => 1,
        Colour::Rgb | Colour::YCbCr(_) => 3,
        Colour::Cmyk => 4,
    };
    if samples < colours {
        return Err(format!(
            "damaged: {samples} samples a pixel, its colours need {colours}"
        ));
    }
    let extra = samples - colours;
    let stated = directory.uints(338)?.unwrap_or_default();
    let mut stated = stated.iter().take(extra as usize).zip(colours as usize..);
    let mut alpha = stated.find_map(|(meaning, index)| match meaning {
        1 => Some((index, Alpha::Associated)),
        2 => Some((index, Alpha::Unassociated)),
        _ => None,
    });
    let most_unspecified = if colours == 1 { 1 } else { 3 };
    if extra > MOST || alpha.is_none() && extra > most_unspecified {
        return Err(format!(
            "{samples} samples a pixel, none of them said to be alpha (multispectral?): export \
             the picture as RGB"
        ));
    }
    if alpha.is_none() && extra == 1 {
        warnings.push("its extra sample, not said to be alpha, is taken as alpha".to_string());
        alpha = Some((colours as usize, Alpha::Unassociated));
    }
    if *colour == Colour::Cmyk && alpha.take().is_some() {
        warnings.push("the alpha of CMYK colours is left out".to_string());
    } else if extra > u64::from(alpha.is_some()) {
        warnings.push("samples beyond colours and alpha are left out".to_string());
    }
    Ok(alpha)
}

/// # Errors
/// If there are other inks than those of CMYK.
fn check_inks(directory: &Directory, bits: u16, warnings: &mut Vec<String>) -> Result<(), String> {
    if directory.uint(332)?.unwrap_or(1) == 2 {
        let inks = directory.uint(334)?.unwrap_or(4);
        if inks != 4 {
            return Err(format!("{inks} inks that are not CMYK: export it as RGB"));
        }
        warnings.push("its inks are said to be others than CMYK, and taken as CMYK".to_string());
    }
    let full = (1 << bits) - 1;
    if let Some(range) = directory.uints(336)?
        && range.chunks(2).any(|pair| pair != [0, full])
    {
        let warning = format!("its inks' range {range:?} is taken as 0 to {full}");
        warnings.push(warning);
    }
    Ok(())
}

/// An unsigned sample of 8 or 16 bits.
trait Sample: Copy + Default + From<u8> {
    /// The lowest bits.
    fn of(value: u16) -> Self;
    fn value(self) -> u16;
}

impl Sample for u8 {
    fn of(value: u16) -> u8 {
        value as u8
    }
    fn value(self) -> u16 {
        self.into()
    }
}

impl Sample for u16 {
    fn of(value: u16) -> u16 {
        value
    }
    fn value(self) -> u16 {
        self
    }
}

/// The samples as stored, interleaved.
fn read_samples<T: Sample>(
    file: &Tiff,
    layout: &Layout,
    chunks: &[(u64, u64)],
) -> Result<Vec<T>, String> {
    let usize_of = |value: u64| usize::try_from(value).map_err(|_| "too large".to_string());
    let (width, samples) = (layout.width as usize, layout.samples);
    let (across, down) = (layout.across() as usize, layout.down() as usize);
    let (chunk_width, chunk_height) = (layout.chunk_width as usize, layout.chunk_height as usize);
    let chunk_samples = layout.chunk_samples();
    let row_bytes = usize_of(layout.row_bytes().unwrap_or(u64::MAX))?;
    let pixels = usize_of(u64::from(layout.width) * u64::from(layout.height))?;
    let mut all = vec![T::default(); pixels.checked_mul(samples).ok_or("too large")?];
    let mut row = vec![T::default(); chunk_width * chunk_samples];
    for (index, &chunk) in chunks.iter().enumerate() {
        let plane = index / (across * down);
        let (left, top) = (
            index % across * chunk_width,
            index / across % down * chunk_height,
        );
        let columns = chunk_width.min(width - left);
        let data = read_chunk(file, layout, index, chunk)?;
        let rows = chunk_height.min(layout.height as usize - top);
        for (y, packed) in data.chunks_exact(row_bytes).take(rows).enumerate() {
            unpack(packed, layout.bits, file.big_endian, &mut row);
            if layout.predictor {
                undo_differences(&mut row, chunk_samples);
            }
            let begin = ((top + y) * width + left) * samples;
            let to = &mut all[begin..][..columns * samples];
            if layout.planar {
                let to = to.iter_mut().skip(plane).step_by(samples);
                to.zip(&row).for_each(|(to, from)| *to = *from);
            } else {
                to.copy_from_slice(&row[..columns * samples]);
            }
        }
    }
    Ok(all)
}

/// Numbers of `bits` bits, the highest first, into samples, not scaled.
fn unpack<T: Sample>(packed: &[u8], bits: u16, big_endian: bool, samples: &mut [T]) {
    match bits {
        8 => packed
            .iter()
            .zip(samples)
            .for_each(|(byte, sample)| *sample = T::from(*byte)),
        16 => {
            let pairs = packed.chunks_exact(2).zip(samples);
            pairs.for_each(|(pair, sample)| {
                let pair = [pair[0], pair[1]];
                *sample = T::of(if big_endian {
                    u16::from_be_bytes(pair)
                } else {
                    u16::from_le_bytes(pair)
                });
            });
        }
        _ => {
            let (mut held, mut count) = (0_u32, 0);
            let mut bytes = packed.iter();
            for sample in samples {
                while count < bits {
                    held = held << 8 | u32::from(*bytes.next().unwrap_or(&0));
                    count += 8;
                }
                count -= bits;
                *sample = T::of((held >> count) as u16 & ((1 << bits) - 1));
            }
        }
    }
}

/// Sums up what a predictor left of a row.
fn undo_differences<T: Sample>(row: &mut [T], samples: usize) {
    for index in samples..row.len() {
        row[index] = T::of(
            row[index]
                .value()
                .wrapping_add(row[index - samples].value()),
        );
    }
}

/// A strip's or tile's data, decompressed: at least all its rows, without shared chroma.
fn read_chunk<'a>(
    file: &Tiff<'a>,
    layout: &Layout,
    index: usize,
    (at, length): (u64, u64),
) -> Result<Cow<'a, [u8]>, String> {
    let name = layout.chunk_name(index);
    let missing = || format!("truncated: {name} ends early");
    let mut data = Cow::Borrowed(file.slice(at, length).ok_or_else(missing)?);
    if layout.reversed {
        let bytes = data.iter().map(|byte| byte.reverse_bits());
        data = Cow::Owned(bytes.collect());
    }
    let rows = layout.encoded_rows(index);
    let needed = layout.encoded_bytes(rows).ok_or_else(missing)?;
    if layout.codec != Codec::Plain {
        let unpacked = decompress(layout, &data, rows, needed).map_err(|reason| match reason {
            Failure::Short => format!(
                "truncated: the {} data of {name} end early",
                layout.codec.name()
            ),
            Failure::Other(reason) => format!("{} data of {name}: {reason}", layout.codec.name()),
        });
        data = Cow::Owned(unpacked?);
    }
    if (data.len() as u64) < needed {
        return Err(missing());
    }
    Ok(match layout.subsampling() {
        (1, 1) => data,
        shared => Cow::Owned(spread_chroma(
            &data,
            layout.chunk_width as usize,
            rows as usize,
            shared,
        )),
    })
}

/// Why data are not decompressed.
enum Failure {
    Short,
    Other(String),
}

impl From<TiffError> for Failure {
    fn from(error: TiffError) -> Failure {
        match error {
            TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => Failure::Short,
            other => Failure::Other(other.to_string()),
        }
    }
}

fn decompress(layout: &Layout, data: &[u8], rows: u64, needed: u64) -> Result<Vec<u8>, Failure> {
    let other = |reason: &str| Failure::Other(reason.to_string());
    let too_large = || other("too large");
    let rows = u32::try_from(rows).map_err(|_| too_large())?;
    let strip = |compression, width, rows, samples, bits| Strip {
        data,
        compression,
        width,
        rows,
        samples,
        bits,
        jpeg_tables: None,
    };
    // To these a chunk is bytes, whose meaning does not matter.
    let as_bytes = |compression| {
        let (width, rows) = match u32::try_from(needed) {
            Ok(needed) => (needed, 1),
            Err(_) => (
                layout
                    .row_bytes()
                    .and_then(|row| u32::try_from(row).ok())
                    .ok_or_else(too_large)?,
                rows,
            ),
        };
        Ok(strip(compression, width, rows, 1, 8).decompress()?)
    };
    match layout.codec {
        Codec::Plain => Ok(data.to_vec()),
        Codec::Lzw if data[0] == 0 && data.get(1).is_some_and(|byte| byte & 1 == 1) => {
            Err(other("LZW as it was before TIFF 6 is not supported"))
        }
        Codec::Lzw => as_bytes(5),
        Codec::Deflate => as_bytes(8),
        Codec::PackBits => as_bytes(32_773),
        Codec::Fax4 => Ok(strip(4, layout.chunk_width, rows, 1, 1).decompress()?),
        Codec::Jpeg => {
            let frame = JpegFrame::of(data).ok_or_else(|| other("its header is damaged"))?;
            let samples = layout.chunk_samples();
            if frame.bits != 8 {
                return Err(Failure::Other(format!(
                    "{} bits a sample, 8 are supported",
                    frame.bits
                )));
            }
            // A taller frame than its strip is allowed, as the last one's is that of the others, but not any height, as each
            // strip's frame is decoded whole.
            let most = match layout.down() {
                1 => u64::from(rows) + 4_096,
                _ => u64::from(layout.chunk_height) + 16,
            };
            let wrong = frame.height < rows || u64::from(frame.height) > most;
            if wrong
                || frame.width != layout.chunk_width
                || usize::from(frame.components) != samples
            {
                return Err(Failure::Other(format!(
                    "{}×{} pixels of {} components, expected {}×{rows} of {samples}",
                    frame.width, frame.height, frame.components, layout.chunk_width
                )));
            }
            let strip = Strip {
                jpeg_tables: layout.jpeg_tables,
                ..strip(7, layout.chunk_width, rows, samples as u16, 8)
            };
            Ok(strip.decompress()?)
        }
    }
}

/// The frame that a JPEG's header tells of.
struct JpegFrame {
    width: u32,
    height: u32,
    components: u8,
    bits: u8,
}

impl JpegFrame {
    fn of(jpeg: &[u8]) -> Option<JpegFrame> {
        let mut at = 2; // behind the start marker
        loop {
            while *jpeg.get(at)? != 0xff {
                at += 1;
            }
            while *jpeg.get(at)? == 0xff {
                at += 1;
            }
            let marker = jpeg[at];
            let segment = jpeg.get(at + 1..)?;
            let short = |at: usize| {
                Some(u16::from_be_bytes([
                    *segment.get(at)?,
                    *segment.get(at + 1)?,
                ]))
            };
            match marker {
                0xc4 | 0xc8 | 0xcc => {}
                0xc0..=0xcf => {
                    return Some(JpegFrame {
                        bits: *segment.get(2)?,
                        height: short(3)?.into(),
                        width: short(5)?.into(),
                        components: *segment.get(7)?,
                    });
                }
                0xd0..=0xd8 | 0x01 => {
                    at += 1; // has no length
                    continue;
                }
                0xda | 0xd9 => return None, // scan or end before any frame
                _ => {}
            }
            at += 1 + usize::from(short(0)?);
        }
    }
}

/// A chunk as a TIFF of its own, which the `tiff` crate unpacks: said to be of one strip of plain
/// samples where 0 is black, whose values the crate leaves as they are.
struct Strip<'a> {
    data: &'a [u8],
    compression: u16,
    width: u32,
    rows: u32,
    samples: u16,
    bits: u16,
    jpeg_tables: Option<&'a [u8]>,
}

impl Strip<'_> {
    fn decompress(&self) -> TiffResult<Vec<u8>> {
        const SHORT: u16 = 3;
        const LONG: u16 = 4;
        const UNDEFINED: u16 = 7;
        const LONG8: u16 = 16;
        let count = 9 + u64::from(self.jpeg_tables.is_some());
        let tables_at = 16 + 8 + 20 * count + 8;
        let tables = self.jpeg_tables.unwrap_or_default();
        let data_at = tables_at + tables.len() as u64;
        let mut file = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec(); // BigTIFF
        file.extend(count.to_le_bytes());
        let mut entry = |tag: u16, kind: u16, count: u64, value: u64| {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(count.to_le_bytes());
            file.extend(value.to_le_bytes());
        };
        entry(256, LONG, 1, self.width.into());
        entry(257, LONG, 1, self.rows.into());
        entry(258, SHORT, 1, self.bits.into());
        entry(259, SHORT, 1, self.compression.into());
        entry(262, SHORT, 1, 1);
        entry(273, LONG8, 1, data_at);
        entry(277, SHORT, 1, self.samples.into());
        entry(278, LONG, 1, self.rows.into());
        entry(279, LONG8, 1, self.data.len() as u64);
        if self.jpeg_tables.is_some() {
            entry(347, UNDEFINED, tables.len() as u64, tables_at);
        }
        file.extend([0; 8]); // no next directory
        file.extend(tables);
        file.extend(self.data);
        // The caller has compared all sizes with its limits.
        let decoder = Decoder::new(Cursor::new(file))?;
        match decoder.with_limits(Limits::unlimited()).read_chunk(0)? {
            DecodingResult::U8(samples) => Ok(samples),
            _ => Err(TiffError::IntSizeError),
        }
    }
}

/// Gives every pixel the chroma of its block, as libtiff does. Blocks hold their luma samples row by
/// row, then the two chroma samples.
fn spread_chroma(blocks: &[u8], width: usize, rows: usize, shared: (usize, usize)) -> Vec<u8> {
    let (across, down) = shared;
    let block_bytes = across * down + 2;
    let per_row = width.div_ceil(across);
    let mut pixels = vec![0; width * rows * 3];
    for (index, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (index % width, index / width);
        let block = &blocks[(y / down * per_row + x / across) * block_bytes..][..block_bytes];
        pixel[0] = block[y % down * across + x % across];
        pixel[1..].copy_from_slice(&block[across * down..]);
    }
    pixels
}

/// Samples as stored, in the page's channels and scaled to the full range of their type.
fn finish<T: Sample>(mut samples: Vec<T>, layout: &Layout, full: T) -> Vec<T> {
    let count = layout.samples;
    let stored_full = ((1_u32 << layout.bits) - 1) as u16;
    let scaled = |sample: T| {
        let (full, stored_full) = (u32::from(full.value()), u32::from(stored_full));
        T::of(((u32::from(sample.value()) * full + stored_full / 2) / stored_full) as u16)
    };
    let indexed = matches!(layout.colour, Colour::Palette(_));
    if stored_full != full.value() && !indexed {
        samples
            .iter_mut()
            .for_each(|sample| *sample = scaled(*sample));
    }
    match &layout.colour {
        Colour::WhiteIsZero => {
            let grays = samples.iter_mut().step_by(count);
            grays.for_each(|gray| *gray = T::of(full.value() - gray.value()));
        }
        Colour::YCbCr(kind) => {
            let to_rgb = kind.to_rgb();
            for pixel in samples.chunks_exact_mut(count) {
                let rgb = to_rgb([0, 1, 2].map(|index| pixel[index].value() as u8));
                pixel
                    .iter_mut()
                    .zip(rgb)
                    .for_each(|(sample, value)| *sample = T::from(value));
            }
        }
        Colour::Palette(colours) => {
            let pixels = samples.chunks_exact(count);
            return pixels
                .flat_map(|pixel| {
                    let colour = colours[usize::from(pixel[0].value())].map(T::from);
                    let alpha = layout.alpha.map(|(index, _)| scaled(pixel[index]));
                    colour.into_iter().chain(alpha)
                })
                .collect();
        }
        Colour::BlackIsZero | Colour::Rgb | Colour::Cmyk => {}
    }
    keep_channels(samples, layout)
}

/// Leaves out the samples that are neither colours nor alpha.
fn keep_channels<T: Sample>(mut samples: Vec<T>, layout: &Layout) -> Vec<T> {
    let kept = layout.channels().count();
    let stride = layout.samples;
    let colours = kept - usize::from(layout.alpha.is_some());
    if kept == stride {
        return samples; // alpha is the only extra sample
    }
    let pixels = samples.len() / stride;
    for pixel in 0..pixels {
        let (from, to) = (pixel * stride, pixel * kept);
        // Alpha first: it lies behind the colours, which may be written over it.
        let alpha = layout.alpha.map(|(index, _)| samples[from + index]);
        samples.copy_within(from..from + colours, to);
        if let Some(alpha) = alpha {
            samples[to + colours] = alpha;
        }
    }
    samples.truncate(pixels * kept);
    samples
}

impl YCbCr {
    fn to_rgb(&self) -> impl Fn([u8; 3]) -> [u8; 3] {
        let [red, green, blue] = self.luma.map(|share| share as f32);
        // A component's zero, and its full scale in units of 255 (luma) or 127 (chroma).
        let scales = [255.0, 127.0, 127.0];
        let [y, cb, cr] = [0, 1, 2].map(|index| {
            let [zero, most] = self.reference[index];
            (zero as f32, (scales[index] / (most - zero)) as f32)
        });
        move |pixel| {
            let [luma, cb, cr] = [(pixel[0], y), (pixel[1], cb), (pixel[2], cr)]
                .map(|(value, (zero, scale))| (f32::from(value) - zero) * scale);
            let r = luma + cr * (2.0 - 2.0 * red);
            let b = luma + cb * (2.0 - 2.0 * blue);
            let g = (luma - blue * b - red * r) / green;
            [r, g, b].map(|value| value.round().clamp(0.0, 255.0) as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    /// Values of a tag, written as SHORT where they fit and as LONG else.
    type Tags<'a> = &'a [(u16, &'a [u32])];

    /// A TIFF of one or more pages, each given by its tags and the data of its strips or, where the
    /// tags say so, tiles.
    fn file(big_endian: bool, pages: &[(Tags, &[&[u8]])]) -> Vec<u8> {
        let short = |value: u16| {
            if big_endian {
                value.to_be_bytes()
            } else {
                value.to_le_bytes()
            }
        };
        let long = |value: u32| {
            if big_endian {
                value.to_be_bytes()
            } else {
                value.to_le_bytes()
            }
        };
        let mut file = if big_endian {
            b"MM\0*".to_vec()
        } else {
            b"II*\0".to_vec()
        };
        let mut link = file.len();
        file.extend([0; 4]);
        for (tags, chunks) in pages {
            let mut places = Vec::new();
            for chunk in *chunks {
                places.push(file.len() as u32);
                file.extend(*chunk);
            }
            let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
            let tiled = tags.iter().any(|(tag, _)| *tag == 322);
            let mut all = tags.to_vec();
            all.extend([(if tiled { 324 } else { 273 }, &places[..])]);
            all.extend([(if tiled { 325 } else { 279 }, &lengths[..])]);
            all.sort_by_key(|(tag, _)| *tag);
            let mut entries = Vec::new();
            for (tag, values) in &all {
                let small = values.iter().all(|&value| value <= 0xffff);
                let bytes: Vec<u8> = match small {
                    true => values
                        .iter()
                        .flat_map(|&value| short(value as u16))
                        .collect(),
                    false => values.iter().flat_map(|&value| long(value)).collect(),
                };
                entries.extend(short(*tag));
                entries.extend(short(if small { 3 } else { 4 }));
                entries.extend(long(values.len() as u32));
                if bytes.len() <= 4 {
                    entries.extend(bytes.iter().chain(&[0; 4]).take(4));
                } else {
                    entries.extend(long(file.len() as u32));
                    file.extend(bytes);
                }
            }
            let at = long(file.len() as u32);
            file[link..link + 4].copy_from_slice(&at);
            file.extend(short(all.len() as u16));
            file.extend(entries);
            link = file.len();
            file.extend([0; 4]);
        }
        file
    }

    /// The structural tags of an uncompressed page in one strip.
    fn tags<'a>(
        size: &'a [u32; 2],
        bits: &'a [u32],
        photometric: &'a [u32; 1],
    ) -> Vec<(u16, &'a [u32])> {
        vec![
            (256, &size[..1]),
            (257, &size[1..]),
            (258, bits),
            (262, photometric),
        ]
    }

    fn one(file: &[u8]) -> Page {
        decode_first(file, LIMIT).unwrap().0
    }

    fn refused(file: &[u8]) -> String {
        let reason = decode(file, LIMIT).unwrap_err();
        assert_eq!(header(file), Err(reason.clone()));
        reason
    }

    #[test]
    fn gray_of_any_bits_is_scaled_whichever_value_is_white() {
        let cases: [(u32, &[u8], Samples); 4] = [
            (1, &[0b1010_0000], Samples::Eight(vec![255, 0, 255])),
            (2, &[0b0110_1100], Samples::Eight(vec![85, 170, 255])),
            (4, &[0x0f, 0x80], Samples::Eight(vec![0, 255, 136])),
            (
                12,
                &[0xff, 0xf8, 0x00, 0x00, 0x10],
                Samples::Sixteen(vec![65_535, 32_776, 16]),
            ),
        ];
        for (bits, data, expected) in cases {
            for big_endian in [false, true] {
                let black = one(&file(
                    big_endian,
                    &[(&tags(&[3, 1], &[bits], &[1]), &[data])],
                ));
                assert_eq!(
                    (&black.samples, black.channels),
                    (&expected, Channels::Gray),
                    "{bits}"
                );
                let white = one(&file(
                    big_endian,
                    &[(&tags(&[3, 1], &[bits], &[0]), &[data])],
                ));
                let turned = match &expected {
                    Samples::Eight(samples) => {
                        Samples::Eight(samples.iter().map(|v| 255 - v).collect())
                    }
                    Samples::Sixteen(samples) => {
                        Samples::Sixteen(samples.iter().map(|v| 65_535 - v).collect())
                    }
                };
                assert_eq!(white.samples, turned, "{bits} bits");
            }
        }
    }

    #[test]
    fn planes_of_tiles_come_together() {
        // 3×3 pixels in tiles of 2×2, of 16 bits: value = plane, row, column.
        let value = |plane: u16, y: u16, x: u16| plane << 8 | y << 4 | x;
        let mut tiles = Vec::new();
        for plane in 0..3 {
            for (top, left) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
                let places = [(0, 0), (0, 1), (1, 0), (1, 1)];
                let values = places.map(|(y, x)| value(plane, top + y, left + x).to_be_bytes());
                tiles.push(values.concat());
            }
        }
        let tiles: Vec<&[u8]> = tiles.iter().map(Vec::as_slice).collect();
        let mut tags = tags(&[3, 3], &[16, 16, 16], &[2]);
        tags.extend([(277, &[3][..]), (284, &[2]), (322, &[2]), (323, &[2])]);
        let mut expected = Vec::new();
        for (y, x) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
            expected.extend((0..3).map(|plane| value(plane, y, x)));
        }
        assert_eq!(
            one(&file(true, &[(&tags, &tiles)])).samples,
            Samples::Sixteen(expected)
        );
    }

    #[test]
    fn palettes_of_16_and_of_8_bits_are_told_apart() {
        let map16 = [
            0, 0x8080, 0xffff, 0x0100, 1, 0x4000, 0x1234, 0, 9, 0xab00, 0, 0,
        ];
        let map8 = [0, 128, 255, 1, 0, 64, 18, 0, 0, 171, 0, 0];
        for map in [map16, map8] {
            let mut tags = tags(&[3, 1], &[2], &[3]);
            tags.push((320, &map));
            let page = one(&file(false, &[(&tags, &[&[0b0001_1000]])]));
            assert_eq!(
                page.samples,
                Samples::Eight(vec![0, 0, 0, 128, 64, 171, 255, 18, 0])
            );
            assert_eq!(page.channels, Channels::Rgb);
        }
    }

    #[test]
    fn shared_chroma_is_spread() {
        let mut tags = tags(&[3, 2], &[8, 8, 8], &[6]);
        tags.extend([(277, &[3][..]), (530, &[2, 2])]);
        // Two blocks of 2×2: gray, and one whose second column lies beyond the picture.
        let blocks = [10, 20, 30, 40, 128, 128, 50, 0, 60, 0, 128, 228];
        let Samples::Eight(samples) = one(&file(false, &[(&tags, &[&blocks])])).samples else {
            panic!("8 bits expected");
        };
        assert_eq!(samples[..6], [10, 10, 10, 20, 20, 20]);
        assert_eq!(samples[6..9], [190, 0, 50]); // 50 + 1.402·100, …
        assert_eq!(samples[9..15], [30, 30, 30, 40, 40, 40]);
        assert_eq!(samples[15..], [200, 0, 60]);
    }

    /// Tables, and a frame of 16×16 pixels with shared chroma: gray but for Cr of 191.
    fn jpeg() -> (Vec<u8>, Vec<u8>) {
        let mut tables = b"\xff\xd8\xff\xdb\0\x43\0".to_vec();
        tables.extend([8; 64]);
        // Of DC coefficients categories 0 and 6, of others the end of a block only.
        tables.extend(b"\xff\xc4\0\x15\0\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x06");
        tables.extend(b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xd9");
        let mut frame =
            b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10\x03\x01\x22\0\x02\x11\0\x03\x11\0".to_vec();
        frame.extend(b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0");
        // Five blocks of zeros; one of category 6 with 63; ones to the end of the byte.
        frame.extend([0b0000_0000, 0b0010_1111, 0b1101_1111, 0xff, 0xd9]);
        (tables, frame)
    }

    #[test]
    fn jpeg_takes_its_tables_and_becomes_rgb() {
        let (tables, frame) = jpeg();
        let tables: Vec<u32> = tables.iter().map(|&byte| byte.into()).collect();
        let mut page_tags = tags(&[16, 16], &[8, 8, 8], &[6]);
        page_tags.extend([(259, &[7][..]), (277, &[3]), (530, &[2, 2])]);
        let mut bytes = file(
            false,
            &[(&[&page_tags[..], &[(347, &tables)]].concat(), &[&frame])],
        );
        // The tables were written as SHORT: make them bytes.
        let entry = bytes
            .windows(4)
            .position(|four| four == [0x5b, 1, 3, 0])
            .unwrap();
        let at = u32::from_le_bytes(bytes[entry + 8..entry + 12].try_into().unwrap()) as usize;
        bytes[entry + 2] = 7;
        for (index, &value) in tables.iter().enumerate() {
            bytes[at + index] = value as u8;
        }
        let page = one(&bytes);
        assert_eq!(page.compression, Compression::Jpeg);
        assert_eq!(page.samples, Samples::Eight([216, 83, 128].repeat(256)));

        // A frame of another size than the strip, and one that has no tables.
        page_tags[0].1 = &[17];
        assert!(refused_by_decoding(&file(false, &[(&page_tags, &[&frame])])).contains("16×16"));
        page_tags[0].1 = &[16];
        assert!(refused_by_decoding(&file(false, &[(&page_tags, &[&frame])])).contains("JPEG"));
    }

    fn refused_by_decoding(file: &[u8]) -> String {
        header(file).unwrap();
        decode(file, LIMIT).unwrap_err()
    }

    #[test]
    fn fax_of_group_4_has_black_ones() {
        let mut tags = tags(&[8, 8], &[1], &[0]);
        tags.push((259, &[4]));
        // Eight rows as the one before, which is white; the end.
        let page = one(&file(false, &[(&tags, &[&[0xff, 0x00, 0x10, 0x01]])]));
        assert_eq!(page.samples, Samples::Eight(vec![255; 64]));
        assert_eq!(page.compression, Compression::Other);
    }

    /// 80 kB took minutes: each of thousands of strips of one row had the same tall JPEG for its data.
    #[test]
    fn strips_that_share_a_tall_jpeg_are_refused() {
        let (_, mut strip) = jpeg();
        let at = strip
            .windows(2)
            .position(|two| two == [0xff, 0xc0])
            .unwrap();
        strip[at + 5..at + 7].copy_from_slice(&4_096_u16.to_be_bytes());
        let width = u16::from_be_bytes([strip[at + 7], strip[at + 8]]).into();
        let size = [width, 4];
        let samples = [u32::from(strip[at + 9])];
        let bits = vec![8; samples[0] as usize];
        let photometric = [if samples[0] == 1 { 1 } else { 6 }];
        let mut tags = tags(&size, &bits, &photometric);
        tags.extend([(259, &[7][..]), (277, &samples[..]), (278, &[1][..])]);
        let reason = refused_by_decoding(&file(false, &[(&tags, &[&strip[..]; 4])]));
        assert!(reason.contains("×4096 pixels"), "{reason}");
    }

    #[test]
    fn strips_that_share_much_data_are_refused() {
        let data = vec![0; 1 << 20];
        let places = vec![8; 2_000];
        let lengths = vec![data.len() as u32; 2_000];
        let size = [1, 2_000];
        let mut tags = tags(&size, &[8], &[1]);
        tags.extend([(259, &[8][..]), (278, &[1][..])]);
        let mut file = file(false, &[(&tags, &[&data])]);
        // The file's own strip is replaced by 2000 that are the same.
        let [places, lengths] = [places, lengths].map(|values| {
            let at = file.len() as u32;
            file.extend(values.iter().flat_map(|value: &u32| value.to_le_bytes()));
            at
        });
        for (tag, at) in [(273_u16, places), (279, lengths)] {
            let head = [&tag.to_le_bytes()[..], &[4, 0]].concat();
            let entry = file.windows(4).rposition(|four| {
                four[..2] == head[..2] && (four[2..] == head[2..] || four[2..] == [3, 0])
            });
            let entry = entry.unwrap();
            let value = [&head[..], &2_000_u32.to_le_bytes(), &at.to_le_bytes()].concat();
            file[entry..entry + 12].copy_from_slice(&value);
        }
        let reason = refused(&file);
        assert!(reason.contains("overlap"), "{reason}");
    }

    #[test]
    fn strips_without_lengths_end_where_the_next_begins() {
        assert_eq!(up_to_the_next(&[20, 8, 8, 90], 50), [30, 12, 12, 0]);
    }

    #[test]
    fn the_lowest_bit_may_come_first() {
        let mut tags = tags(&[3, 1], &[1], &[1]);
        tags.push((266, &[2]));
        let page = one(&file(false, &[(&tags, &[&[0b0000_0011]])]));
        assert_eq!(page.samples, Samples::Eight(vec![255, 255, 0]));
    }

    #[test]
    fn alpha_is_what_is_said_to_be_alpha_or_the_only_extra_sample() {
        use Alpha::{Associated, Unassociated};
        use Channels::{Cmyk, Gray, GrayAlpha, Rgb, Rgba};
        type Case<'a> = (u32, u32, &'a [u32], Channels, Option<Alpha>, &'a [u8], bool);
        // Photometric, samples, meaning of the extra ones; what comes out, and whether with a warning.
        let cases: [Case; 11] = [
            (1, 1, &[], Gray, None, &[0], false),
            (1, 2, &[2], GrayAlpha, Some(Unassociated), &[0, 1], false),
            (1, 2, &[1], GrayAlpha, Some(Associated), &[0, 1], false),
            (1, 2, &[0], GrayAlpha, Some(Unassociated), &[0, 1], true),
            (2, 4, &[1], Rgba, Some(Associated), &[0, 1, 2, 3], false),
            (2, 4, &[], Rgba, Some(Unassociated), &[0, 1, 2, 3], true),
            (2, 5, &[0, 2], Rgba, Some(Unassociated), &[0, 1, 2, 4], true),
            (2, 5, &[1, 2], Rgba, Some(Associated), &[0, 1, 2, 3], true),
            (2, 5, &[0, 0], Rgb, None, &[0, 1, 2], true),
            (5, 4, &[], Cmyk, None, &[0, 1, 2, 3], false),
            (5, 5, &[2], Cmyk, None, &[0, 1, 2, 3], true),
        ];
        for (photometric, samples, extra, channels, alpha, expected, warns) in cases {
            let (bits, photometric, count) = (vec![8; samples as usize], [photometric], [samples]);
            let mut tags = tags(&[2, 1], &bits, &photometric);
            tags.push((277, &count));
            if !extra.is_empty() {
                tags.push((338, extra));
            }
            let pixel: Vec<u8> = (0..samples as u8).collect();
            let bytes = file(false, &[(&tags, &[&[&pixel[..], &pixel].concat()])]);
            let (page, warnings) = decode_first(&bytes, LIMIT).unwrap();
            let case = format!("{photometric:?} {samples} {extra:?}");
            assert_eq!((page.channels, page.alpha), (channels, alpha), "{case}");
            assert_eq!(
                page.samples,
                Samples::Eight([expected, expected].concat()),
                "{case}"
            );
            assert_eq!(!warnings.is_empty(), warns, "{case}: {warnings:?}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let cases: [(u16, &[u32], &str); 21] = [
            (258, &[32], "32 bits (whole numbers)"),
            (258, &[0], "no bits"),
            (339, &[2], "signed samples"),
            (339, &[3], "floating point"),
            (339, &[6], "complex"),
            (262, &[8], "L*a*b*"),
            (262, &[32_845], "LogLuv"),
            (262, &[32_803], "raw photograph"),
            (262, &[77], "unknown kind 77"),
            (262, &[3], "palette is missing"),
            (259, &[2], "CCITT"),
            (259, &[6], "old-style JPEG"),
            (259, &[34_713], "raw photograph"),
            (259, &[34_925], "LZMA"),
            (259, &[50_000], "Zstandard"),
            (259, &[50_001], "WebP"),
            (259, &[50_002], "JPEG XL"),
            (277, &[5], "multispectral"),
            (50_706, &[1], "raw photograph (DNG)"),
            (254, &[1], "thumbnails"),
            (254, &[4], "no picture"),
        ];
        for (tag, values, words) in cases {
            let mut tags = tags(&[1, 1], &[8], &[1]);
            tags.retain(|(other, _)| *other != tag);
            tags.push((tag, values));
            let reason = refused(&file(false, &[(&tags, &[&[0; 9]])]));
            assert!(reason.contains(words), "{tag} {values:?}: {reason}");
        }
        for (magic, words) in [
            (&b"IIRO\x08\0\0\0"[..], "ORF"),
            (b"IIU\0\x08\0\0\0", "RW2"),
            (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
        ] {
            assert!(refused(magic).contains(words));
        }
    }

    #[test]
    fn a_raw_photograph_is_known_by_its_parts() {
        let sensor = file(false, &[(&tags(&[1, 1], &[16], &[32_803]), &[&[0; 2]])]);
        // The sensor's directory is moved behind a thumbnail that names it as its part.
        let thumbnail = tags(&[1, 1], &[8], &[1]);
        let part = u32::from_le_bytes(sensor[4..8].try_into().unwrap());
        let length = file(
            false,
            &[(&[&thumbnail[..], &[(330, &[0x1_0000])]].concat(), &[&[0]])],
        )
        .len() as u32;
        assert!(length < 0x1_0000);
        let padding = vec![0; (0x1_0000 - length) as usize];
        let mut bytes = file(
            false,
            &[(&[&thumbnail[..], &[(330, &[0x1_0000])]].concat(), &[&[0]])],
        );
        bytes.extend(padding);
        bytes.extend(&sensor[part as usize..]);
        assert!(refused(&bytes).contains("raw photograph"));
    }

    #[test]
    fn pages_of_full_resolution_are_pictures() {
        let (gray, small, mask) = (
            tags(&[2, 1], &[8], &[1]),
            [(254, &[1][..])],
            [(254, &[4][..])],
        );
        let rgb = [
            &tags(&[1, 1], &[8, 8, 8], &[2])[..],
            &[(277, &[3]), (274, &[6])],
        ]
        .concat();
        let bytes = file(
            false,
            &[
                (&[&gray[..], &small].concat(), &[&[0, 0]]),
                (&rgb, &[&[1, 2, 3]]),
                (&[&gray[..], &mask].concat(), &[&[0, 0]]),
                (&gray, &[&[4, 5]]),
            ],
        );
        let (pages, warnings) = decode(&bytes, LIMIT).unwrap();
        let samples: Vec<&Samples> = pages.iter().map(|page| &page.samples).collect();
        assert_eq!(
            samples,
            [&Samples::Eight(vec![1, 2, 3]), &Samples::Eight(vec![4, 5])]
        );
        assert_eq!((pages[0].orientation, pages[1].orientation), (6, 1));
        assert!(matches!(&warnings[..], [warning] if warning.contains("masks")));
        let expected = Header {
            width: 1,
            height: 1,
            orientation: 6,
            pages: 2,
            bytes_decoded: 5,
        };
        assert_eq!(header(&bytes), Ok(expected));
        assert_eq!(one(&bytes).samples, *samples[0]);
        assert!(decode(&bytes, 4).unwrap_err().contains("limit is 4"));
        assert!(decode_first(&bytes, 4).is_ok());

        let float = [&gray[..], &[(339, &[3])]].concat();
        let bytes = file(false, &[(&gray, &[&[0, 0]]), (&float, &[&[0, 0]])]);
        assert!(decode(&bytes, LIMIT).unwrap_err().starts_with("page 2: "));
        assert!(decode_first(&bytes, LIMIT).is_ok() && header(&bytes).is_ok());
    }

    #[test]
    fn a_ring_of_directories_ends() {
        let gray = tags(&[2, 1], &[8], &[1]);
        let mut bytes = file(false, &[(&gray, &[&[0, 0]])]);
        let link = bytes.len() - 4;
        bytes.copy_within(4..8, link);
        assert!(refused(&bytes).contains("ring"));
    }

    #[test]
    fn every_cut_is_an_error_that_says_truncated() {
        let bytes = file(false, &[(&tags(&[4, 2], &[8], &[1]), &[&[7; 8]])]);
        assert_eq!(one(&bytes).samples, Samples::Eight(vec![7; 8]));
        for length in 2..bytes.len() - 4 {
            let reason = refused(&bytes[..length]);
            assert!(reason.contains("truncated"), "{length}: {reason}");
        }
        for code in [5, 8, 32_773] {
            let mut tags = tags(&[4, 2], &[8], &[1]);
            let codes = [code];
            tags.push((259, &codes));
            // An LZW clear code, an empty Deflate stream, a run of one byte.
            let data: &[u8] = match code {
                5 => &[0x80, 0],
                8 => &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1],
                _ => &[0, 7],
            };
            let reason = refused_by_decoding(&file(false, &[(&tags, &[data])]));
            assert!(reason.starts_with("truncated"), "{code}: {reason}");
        }
    }

    #[test]
    fn sizes_that_the_data_cannot_hold_take_no_memory() {
        for code in [1, 4, 5, 7, 8, 32_773] {
            let codes = [code];
            let bits = if code == 4 { [1] } else { [8] };
            let mut tags = tags(&[0xffff_ffff, 0xffff_ffff], &bits, &[1]);
            tags.push((259, &codes));
            let bytes = file(false, &[(&tags, &[&[0; 32]])]);
            assert!(refused_for_size(&bytes).contains("truncated"), "{code}");
            assert!(
                decode(&bytes, LIMIT).unwrap_err().contains("limit"),
                "{code}"
            );
        }
    }

    fn refused_for_size(file: &[u8]) -> String {
        header(file).unwrap_err()
    }

    #[test]
    fn changed_bytes_never_panic() {
        let (_, frame) = jpeg();
        let mut fax = tags(&[8, 8], &[1], &[0]);
        fax.push((259, &[4]));
        let mut lzw = tags(&[4, 2], &[8], &[1]);
        lzw.push((259, &[5]));
        let mut jpeg = tags(&[16, 16], &[8, 8, 8], &[6]);
        jpeg.extend([(259, &[7][..]), (277, &[3]), (530, &[2, 2])]);
        let bytes = file(
            true,
            &[
                (&fax, &[&[0xff, 0x00, 0x10, 0x01]]),
                (&lzw, &[&[0x80, 0, 0x10]]),
                (&jpeg, &[&frame]),
            ],
        );
        for at in 0..bytes.len() {
            for value in [
                0,
                1,
                2,
                0x7f,
                0xff,
                bytes[at] ^ 1,
                bytes[at].wrapping_add(1),
            ] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = header(&changed);
                let _ = decode(&changed, LIMIT);
            }
        }
    }
}
