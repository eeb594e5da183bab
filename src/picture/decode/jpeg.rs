//! JPEG (ITU-T T.81): Huffman-coded pictures of 8 bits, sequential or progressive.
//!
//! No decoder in Rust reads every valid file, and none notices damage: zune-jpeg takes the common kinds, jpeg-decoder the rare
//! ones, and [`check`] follows the entropy-coded data beside them, code by code, to see whether all of it is there.

use std::borrow::Cow;

use jpeg_decoder::ColorTransform;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

// Markers (T.81, table B.1), without the byte 0xFF before them.
const DHT: u8 = 0xC4;
const RST: std::ops::RangeInclusive<u8> = 0xD0..=0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DQT: u8 = 0xDB;
const DNL: u8 = 0xDC;
const DRI: u8 = 0xDD;
const APP0: u8 = 0xE0;
const APP14: u8 = 0xEE;
const APP15: u8 = 0xEF;
const COM: u8 = 0xFE;

/// A tiny file could otherwise ask for thousands of passes over a huge picture. Encoders write about ten scans.
const MOST_SCANS: usize = 500;
/// The percentage of a picture that may be lost before its end-of-image marker: a damaged picture above, a truncated one below.
const LOST_PERCENT: usize = 10;
const CONVERT: &str = "convert it to a usual JPEG or PNG with another program";

/// Rows from the top, pixels from the left, components beside each other, without padding.
#[derive(Debug, PartialEq)]
pub(crate) enum Samples {
    Gray(Vec<u8>),
    Rgb(Vec<u8>),
    /// Cyan, magenta, yellow, black: 0 is no ink, 255 all of it (files have it the other way round, as Adobe began it).
    Cmyk(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Jpeg {
    pub width: u32,
    pub height: u32,
    pub samples: Samples,
    /// What is wrong with a file that is decoded all the same.
    pub warnings: Vec<String>,
    /// Bytes behind the end-of-image marker: further pictures, videos or anything else.
    pub trailer: usize,
}

/// What the frame header says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    /// In pixels.
    pub width: u32,
    pub height: u32,
    /// 1 (gray), 3 or 4.
    pub components: u8,
    pub progressive: bool,
}

/// Reads the frame header, and no pixels.
///
/// # Errors
/// What cannot be decoded, by name; a file that is no JPEG or ends before the frame header.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, String> {
    let frame = frame(bytes)?;
    Ok(Header {
        width: frame.width as u32,
        height: frame.height as u32,
        components: frame.components.len() as u8,
        progressive: frame.progressive,
    })
}

/// The offset behind the first picture's end-of-image marker, if it has one.
pub(crate) fn end(bytes: &[u8]) -> Option<usize> {
    let last = Segments::new(bytes).ok()?.last()?;
    (last.marker == EOI).then_some(last.end)
}

/// Decodes the first picture of a file. The memory needed is by the sizes in the frame header, so check [`header`] first.
///
/// # Errors
/// As for [`header`]; a truncated file, part of whose pixels or detail is missing; kinds of files that no decoder reads right; a
/// file too damaged for the decoder.
pub(crate) fn decode(bytes: &[u8]) -> Result<Jpeg, String> {
    let frame = frame(bytes)?;
    let segments: Vec<Segment> = Segments::new(bytes)?.collect();
    if segments.iter().filter(|s| s.marker == SOS).count() > MOST_SCANS {
        return Err(format!("more than {MOST_SCANS} scans"));
    }
    let end = segments.last().filter(|s| s.marker == EOI).map(|s| s.end);
    // The decoders want an end, and to read no further.
    let picture = match end {
        Some(end) => Cow::Borrowed(&bytes[..end]),
        None => Cow::Owned([bytes, &[0xFF, EOI]].concat()),
    };
    let (found, pixels) = rayon::join(
        || check(&frame, &segments),
        || {
            decoder(&frame, &segments)
                .and_then(|decoder| pixels(&picture, &frame, &segments, decoder))
        },
    );
    if let Some(missing) = found.truncated(end.is_some()) {
        return Err(format!("truncated: {missing}"));
    }
    let samples = match (pixels, &found.damage) {
        (Ok(samples), _) => samples,
        (Err(reason), None) => return Err(reason),
        (Err(reason), Some(damage)) => return Err(format!("damaged: {damage}; {reason}")),
    };
    Ok(Jpeg {
        width: frame.width as u32,
        height: frame.height as u32,
        samples,
        warnings: found.warnings(end.is_some()),
        trailer: end.map_or(0, |end| bytes.len() - end),
    })
}

/// One marker with what belongs to it.
#[derive(Debug)]
struct Segment<'a> {
    marker: u8,
    /// Its parameters, without their length.
    body: &'a [u8],
    /// Entropy-coded data, with restart markers, after SOS.
    data: &'a [u8],
    /// The offset behind all of it.
    end: usize,
    /// Bytes before the marker that belong to nothing.
    stray: usize,
}

/// The segments from the start to the end-of-image marker, or to where the file ends or stops making sense.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    over: bool,
}

impl<'a> Segments<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, String> {
        match bytes {
            [0xFF, SOI, ..] => Ok(Segments {
                bytes,
                at: 2,
                over: false,
            }),
            _ => Err("not a JPEG file".into()),
        }
    }

    /// The parameters of the marker that lies before `at`.
    fn body(&self, at: usize) -> Option<&'a [u8]> {
        let length = self.bytes.get(at..at + 2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        self.bytes.get(at + 2..at + length.max(2))
    }

    /// Whether the marker at `at` ends entropy-coded data. Damage makes markers of data, which rarely fit to what follows.
    fn ends_data(&self, marker: u8, at: usize) -> bool {
        let next = |at: usize| self.bytes.get(at).is_none_or(|&byte| byte == 0xFF);
        match (marker, self.body(at)) {
            (EOI, _) => true,
            (SOS, Some(body)) => {
                body.len() == 4 + 2 * usize::from(body.first().copied().unwrap_or(0))
            }
            (DHT | DQT | DNL | DRI | APP0..=APP15 | COM, Some(body)) => next(at + 2 + body.len()),
            _ => false,
        }
    }

    /// Where the entropy-coded data that begins at `from` ends.
    fn data_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(found) = self.bytes[at..].iter().position(|&byte| byte == 0xFF) {
            let first = at + found;
            at = first + 1;
            while self.bytes.get(at) == Some(&0xFF) {
                at += 1;
            }
            let Some(&marker) = self.bytes.get(at) else {
                return first;
            };
            if self.ends_data(marker, at + 1) {
                return first;
            }
        }
        self.bytes.len()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        if self.over {
            return None;
        }
        let stray = self.bytes[self.at..]
            .iter()
            .position(|&byte| byte == 0xFF)?;
        let mut at = self.at + stray;
        while self.bytes.get(at)? == &0xFF {
            at += 1;
        }
        let marker = self.bytes[at];
        at += 1;
        let mut segment = Segment {
            marker,
            body: &[],
            data: &[],
            end: at,
            stray,
        };
        match marker {
            EOI => self.over = true,
            // Without parameters: 0xFF00 is stuffing, 0xFF01 a temporary marker.
            0 | 1 | 0xD0..=SOI => {}
            _ => {
                segment.body = self.body(at)?;
                at += 2 + segment.body.len();
                segment.end = if marker == SOS { self.data_end(at) } else { at };
                segment.data = &self.bytes[at..segment.end];
            }
        }
        self.at = segment.end;
        Some(segment)
    }
}

/// A frame header (T.81, B.2.2).
#[derive(Debug)]
struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    components: Vec<Component>,
    /// The greatest sampling factors.
    h: usize,
    v: usize,
}

/// One component's identifier and sampling factors, 1 to 4.
#[derive(Debug)]
struct Component {
    id: u8,
    h: usize,
    v: usize,
}

impl Frame {
    /// The component's blocks of 8×8 samples across and down, without those that only complete an interleaved unit.
    fn blocks(&self, component: &Component) -> (usize, usize) {
        let blocks =
            |size: usize, factor: usize, most: usize| (size * factor).div_ceil(most).div_ceil(8);
        (
            blocks(self.width, component.h, self.h),
            blocks(self.height, component.v, self.v),
        )
    }

    /// Interleaved units (MCUs) across and down.
    fn units(&self) -> (usize, usize) {
        (
            self.width.div_ceil(8 * self.h),
            self.height.div_ceil(8 * self.v),
        )
    }
}

fn frame(bytes: &[u8]) -> Result<Frame, String> {
    for Segment { marker, body, .. } in Segments::new(bytes)? {
        let kind = match marker {
            0xC0..=0xC2 => return read_frame(marker == 0xC2, body),
            0xC9..=0xCF => "arithmetic coding, which few programs read",
            0xC3 => "lossless JPEG, which few programs read",
            0xC5..=0xC7 | 0xDE => "hierarchical JPEG, which few programs read",
            SOS | EOI => return Err("damaged: no frame header before the picture".into()),
            _ => continue,
        };
        return Err(format!("{kind}; {CONVERT}"));
    }
    Err("truncated: it ends before the picture begins".into())
}

fn read_frame(progressive: bool, body: &[u8]) -> Result<Frame, String> {
    let &[bits, h1, h0, w1, w0, count, ref rest @ ..] = body else {
        return Err("damaged: a frame header that is too short".into());
    };
    let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
    if bits != 8 {
        return Err(format!(
            "{bits} bits a sample, where 8 can be read; {CONVERT}"
        ));
    }
    if !matches!(count, 1 | 3 | 4) {
        return Err(format!("{count} components, where 1, 3 and 4 can be read"));
    }
    if width == 0 {
        return Err("damaged: a width of 0".into());
    }
    if height == 0 {
        return Err(format!(
            "its height comes behind the first scan (a DNL marker), which few programs read; {CONVERT}"
        ));
    }
    let components: Vec<_> = rest
        .chunks_exact(3)
        .map(|c| Component {
            id: c[0],
            h: usize::from(c[1] >> 4),
            v: usize::from(c[1] & 15),
        })
        .collect();
    if components.len() != usize::from(count)
        || components
            .iter()
            .any(|c| !(1..=4).contains(&c.h) || !(1..=4).contains(&c.v))
    {
        return Err("damaged: a frame header that makes no sense".into());
    }
    let h = components.iter().map(|c| c.h).max().unwrap_or(1);
    let v = components.iter().map(|c| c.v).max().unwrap_or(1);
    Ok(Frame {
        progressive,
        width: usize::from(width),
        height: usize::from(height),
        components,
        h,
        v,
    })
}

/// A scan header (T.81, B.2.3).
struct Scan {
    /// Index in the frame, DC table, AC table.
    components: Vec<(usize, usize, usize)>,
    /// The coefficients, in zigzag order, from and to.
    spectrum: (usize, usize),
    /// The bits known before, and left after this scan. 0: all.
    high: u8,
    low: u8,
}

impl Scan {
    fn read(frame: &Frame, body: &[u8]) -> Option<Scan> {
        let (&count, rest) = body.split_first()?;
        let (list, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[start, end, bits, ..] = rest else {
            return None;
        };
        let component = |c: &[u8]| {
            let index = frame.components.iter().position(|of| of.id == c[0])?;
            Some((index, usize::from(c[1] >> 4), usize::from(c[1] & 15)))
        };
        let components: Option<Vec<_>> = list.chunks_exact(2).map(component).collect();
        let (mut spectrum, mut high, mut low) =
            ((usize::from(start), usize::from(end)), bits >> 4, bits & 15);
        if !frame.progressive {
            (spectrum, high, low) = ((0, 63), 0, 0);
        }
        let components = components.filter(|list| (1..=4).contains(&list.len()))?;
        let several = components.len() > 1 && frame.progressive && spectrum.1 > 0;
        let valid = spectrum.0 <= spectrum.1 && spectrum.1 < 64 && low < 14 && !several;
        valid.then_some(Scan {
            components,
            spectrum,
            high,
            low,
        })
    }
}

/// The colours that the samples are in, as libjpeg tells them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Colour {
    Gray,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

fn colour(frame: &Frame, segments: &[Segment]) -> Colour {
    let adobe = segments
        .iter()
        .find(|s| s.marker == APP14 && s.body.starts_with(b"Adobe"));
    let transform = adobe.and_then(|s| s.body.get(11)).copied();
    let jfif = segments
        .iter()
        .any(|s| s.marker == APP0 && s.body.starts_with(b"JFIF\0"));
    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
    match (frame.components.len(), transform) {
        (1, _) => Colour::Gray,
        (4, None | Some(0)) => Colour::Cmyk,
        (4, Some(_)) => Colour::Ycck,
        (_, Some(0)) if !jfif => Colour::Rgb,
        (_, None) if !jfif && ids == *b"RGB" => Colour::Rgb,
        _ => Colour::YCbCr,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Decoder {
    /// zune-jpeg 0.5.15: fast. Silently wrong where a scan of a sequential picture lacks a component, where other segments than
    /// tables lie behind scans, and for some samplings.
    Zune,
    /// jpeg-decoder 0.3.2. Wrong for scans of one component of some samplings.
    JpegDecoder,
}

/// The decoder that is right for this kind of file.
fn decoder(frame: &Frame, segments: &[Segment]) -> Result<Decoder, String> {
    let from = segments
        .iter()
        .position(|s| s.marker == SOS)
        .ok_or("damaged: no picture in it")?;
    let after = &segments[from..];
    let usual = if frame.progressive {
        after
            .iter()
            .all(|s| matches!(s.marker, SOS | DHT | DQT | DRI | EOI | 0xD0..=0xD7))
    } else {
        let all = after[0]
            .body
            .first()
            .is_some_and(|&count| usize::from(count) == frame.components.len());
        all && after[1..]
            .iter()
            .all(|s| matches!(s.marker, EOI | 0xD0..=0xD7))
    };
    let sampling = match &frame.components[..] {
        [one] => one.h != 3 && one.v != 3,
        [first, rest @ ..] if rest.len() == 2 => {
            matches!((first.h, first.v), (1 | 2, 1 | 2) | (4, 1))
                && rest.iter().all(|c| (c.h, c.v) == (1, 1))
        }
        _ => false,
    };
    if usual && sampling {
        return Ok(Decoder::Zune);
    }
    // jpeg-decoder takes the blocks of interleaved units, cut where the picture ends, for those of the component.
    let (across, down) = frame.units();
    let scans = after
        .iter()
        .filter(|s| s.marker == SOS)
        .filter_map(|s| Scan::read(frame, s.body));
    let wrong = scans.filter(|scan| scan.components.len() == 1).any(|scan| {
        let component = &frame.components[scan.components[0].0];
        let taken = (
            (across * component.h).min(frame.width.div_ceil(8)),
            (down * component.v).min(frame.height.div_ceil(8)),
        );
        taken != frame.blocks(component)
    });
    match wrong {
        true => Err(format!(
            "an unusual sampling of its components, in scans of one component; {CONVERT}"
        )),
        false => Ok(Decoder::JpegDecoder),
    }
}

fn pixels(
    picture: &[u8],
    frame: &Frame,
    segments: &[Segment],
    decoder: Decoder,
) -> Result<Samples, String> {
    let colour = colour(frame, segments);
    let zune = if decoder == Decoder::Zune {
        by_zune(picture, colour)?
    } else {
        None
    };
    let samples = match zune {
        Some(samples) => samples,
        None => by_jpeg_decoder(picture, colour)?,
    };
    if samples.len() != frame.width * frame.height * frame.components.len() {
        return Err("the decoder gives another size than the frame header".into());
    }
    Ok(match colour {
        Colour::Gray => Samples::Gray(samples),
        Colour::Rgb | Colour::YCbCr => Samples::Rgb(samples),
        // jpeg-decoder takes every file for one of Adobe's, which have 0 for all the ink, as other programs do.
        Colour::Cmyk | Colour::Ycck => Samples::Cmyk(samples),
    })
}

/// None where zune-jpeg takes the colours for others.
fn by_zune(picture: &[u8], colour: Colour) -> Result<Option<Vec<u8>>, String> {
    let most = usize::from(u16::MAX);
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(most)
        .set_max_height(most);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(picture), options);
    decoder
        .decode_headers()
        .map_err(|error| error.to_string())?;
    let output = match (colour, decoder.input_colorspace()) {
        (Colour::Gray, Some(ColorSpace::Luma)) => ColorSpace::Luma,
        (Colour::Rgb, Some(ColorSpace::RGB)) | (Colour::YCbCr, Some(ColorSpace::YCbCr)) => {
            ColorSpace::RGB
        }
        _ => return Ok(None),
    };
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(output));
    decoder
        .decode()
        .map(Some)
        .map_err(|error| error.to_string())
}

fn by_jpeg_decoder(picture: &[u8], colour: Colour) -> Result<Vec<u8>, String> {
    let mut decoder = jpeg_decoder::Decoder::new(picture);
    decoder.set_color_transform(match colour {
        Colour::Gray => ColorTransform::Grayscale,
        Colour::Rgb => ColorTransform::RGB,
        Colour::YCbCr => ColorTransform::YCbCr,
        Colour::Cmyk => ColorTransform::CMYK,
        Colour::Ycck => ColorTransform::YCCK,
    });
    decoder.decode().map_err(|error| error.to_string())
}

/// What [`check`] finds.
#[derive(Debug, Default)]
struct Found {
    /// The first damage.
    damage: Option<String>,
    /// The greatest percentage of a scan that is missing, rounded up, and whether that scan is a later one that refines.
    lost: usize,
    refines: bool,
    /// A component that no scan brings.
    absent: bool,
    /// Coefficients of a progressive picture, or their last bits, that no scan brings.
    coarse: bool,
}

impl Found {
    /// What is missing, so that there is no picture to work with. `ended`: by an end-of-image marker.
    fn truncated(&self, ended: bool) -> Option<String> {
        let bears = if ended { LOST_PERCENT } else { 0 };
        match self {
            _ if self.absent => Some("the data of a whole component is missing".into()),
            _ if self.lost > bears && self.refines => {
                Some("scans that bring the picture's detail are missing".into())
            }
            _ if self.lost > bears => {
                Some(format!("about {} % of the picture is missing", self.lost))
            }
            _ if self.coarse && !ended => {
                Some("scans that bring the picture's detail are missing".into())
            }
            _ => None,
        }
    }

    fn warnings(&self, ended: bool) -> Vec<String> {
        let damage = self
            .damage
            .as_ref()
            .map(|what| format!("damaged: {what}; what could be read was taken"));
        let coarse = self
            .coarse
            .then(|| "its scans do not bring all of the detail".to_owned());
        let end =
            (!ended).then(|| "no end-of-image marker; all of the picture is there".to_owned());
        [damage, coarse, end].into_iter().flatten().collect()
    }

    fn damage(&mut self, what: impl FnOnce() -> String) {
        self.damage.get_or_insert_with(what);
    }
}

/// Follows the entropy-coded data of all scans, without making pixels of it.
fn check(frame: &Frame, segments: &[Segment]) -> Found {
    let mut found = Found::default();
    let mut tables: [[Option<Table>; 4]; 2] = Default::default();
    let mut restart = 0;
    // Of each component's coefficients, the lowest bit that has come.
    let mut known = vec![[u8::MAX; 64]; frame.components.len()];
    let mut nonzero: Vec<Vec<u64>> = frame.components.iter().map(|_| Vec::new()).collect();
    for segment in segments {
        if segment.stray > 0 {
            found.damage(|| format!("{} bytes too many before a marker", segment.stray));
        }
        match segment.marker {
            DHT if read_tables(segment.body, &mut tables).is_none() => {
                found.damage(|| "a Huffman table that makes no sense".into());
            }
            DRI if segment.body.len() >= 2 => {
                restart = usize::from(u16::from_be_bytes([segment.body[0], segment.body[1]]))
            }
            SOS => {
                let Some(scan) = Scan::read(frame, segment.body) else {
                    found.damage(|| "a scan header that makes no sense".into());
                    continue;
                };
                let refines =
                    known[scan.components[0].0][scan.spectrum.0] != u8::MAX || scan.spectrum.0 > 0;
                for &(component, ..) in &scan.components {
                    known[component][scan.spectrum.0..=scan.spectrum.1].fill(scan.low);
                }
                let lost = found.lost;
                check_scan(
                    frame,
                    &scan,
                    segment.data,
                    &tables,
                    restart,
                    &mut nonzero,
                    &mut found,
                );
                if found.lost > lost {
                    found.refines = refines;
                }
            }
            _ => {}
        }
    }
    found.absent = known.iter().any(|bits| bits[0] == u8::MAX);
    found.coarse = known.iter().flatten().any(|&bits| bits != 0);
    found
}

fn check_scan(
    frame: &Frame,
    scan: &Scan,
    data: &[u8],
    tables: &[[Option<Table>; 4]; 2],
    restart: usize,
    nonzero: &mut [Vec<u64>],
    found: &mut Found,
) {
    let single = scan.components.len() == 1;
    let first = &frame.components[scan.components[0].0];
    let (across, down) = if single {
        frame.blocks(first)
    } else {
        frame.units()
    };
    let total = across * down;
    let table = |class: usize, index: usize| tables[class].get(index).and_then(Option::as_ref);
    let mut plan = Vec::new();
    for &(index, dc, ac) in &scan.components {
        let needs_dc = scan.spectrum.0 == 0 && scan.high == 0;
        let (dc, ac) = (table(0, dc), table(1, ac));
        // Frames of Motion-JPEG videos have none, and are not checked; other files without are for the decoder to refuse.
        if (needs_dc && dc.is_none()) || (scan.spectrum.1 > 0 && ac.is_none()) {
            return;
        }
        let component = &frame.components[index];
        plan.push((dc, ac, if single { 1 } else { component.h * component.v }));
    }
    let nonzero = &mut nonzero[scan.components[0].0];
    if frame.progressive && scan.spectrum.1 > 0 && nonzero.is_empty() {
        nonzero.resize(total, 0);
    }
    let each = if restart == 0 { total } else { restart };
    let (mut unit, mut lost) = (0, 0);
    for (number, (piece, marker)) in pieces(data).enumerate() {
        let (mut bits, mut run) = (Bits::new(piece), 0);
        let last = (unit + each).min(total);
        while unit < last && !bits.spent() {
            for &(dc, ac, blocks) in &plan {
                for _ in 0..blocks {
                    let mask = nonzero.get_mut(unit);
                    if bits
                        .block(frame.progressive, scan, dc, ac, mask, &mut run)
                        .is_none()
                    {
                        found.damage(|| {
                            format!("an impossible code at {} % of a scan", 100 * unit / total)
                        });
                        // As libjpeg does, so that the rest is counted.
                        bits.take(16);
                    }
                }
            }
            unit += 1;
        }
        let short = last - unit + usize::from(bits.spent());
        lost += short;
        let percent = 100 * (last - short) / total;
        unit = last;
        if short > 0 {
            found.damage(|| format!("data missing at {percent} % of a scan"));
        } else if bits.left() > 0 {
            found.damage(|| format!("{} bytes too many at {percent} % of a scan", bits.left()));
        }
        if marker.is_some_and(|marker| usize::from(marker & 7) != number % 8) {
            found.damage(|| format!("a wrong restart marker at {percent} % of a scan"));
        }
    }
    if unit < total {
        lost += total - unit;
        found.damage(|| format!("data missing at {} % of a scan", 100 * unit / total));
    }
    found.lost = found.lost.max((100 * lost).div_ceil(total));
}

/// Entropy-coded data between restart markers, each with the marker behind it.
fn pieces(data: &[u8]) -> impl Iterator<Item = (&[u8], Option<u8>)> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest?;
        let mut at = 0;
        while let Some(found) = data[at..].iter().position(|&byte| byte == 0xFF) {
            let first = at + found;
            at = first + 1;
            while data.get(at) == Some(&0xFF) {
                at += 1;
            }
            if let Some(marker) = data.get(at).filter(|marker| RST.contains(marker)) {
                rest = Some(&data[at + 1..]);
                return Some((&data[..first], Some(*marker)));
            }
        }
        rest = None;
        Some((data, None))
    })
}

/// Bits of the codes that are looked up at once.
const FAST: u32 = 10;

/// A Huffman table (T.81, C.2).
struct Table {
    /// By the next [`FAST`] bits: length and symbol of the code; 0 for longer ones.
    fast: Vec<u16>,
    /// By length: the first 16 bits that are of a longer code.
    limit: [u32; 17],
    /// By length: what to add to a code for its symbol's index.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

fn read_tables(mut body: &[u8], tables: &mut [[Option<Table>; 4]; 2]) -> Option<()> {
    while let Some((&slot, rest)) = body.split_first() {
        let (counts, rest) = rest.split_at_checked(16)?;
        let (symbols, rest) =
            rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
        *tables
            .get_mut(usize::from(slot >> 4))?
            .get_mut(usize::from(slot & 15))? = Some(Table::new(counts, symbols)?);
        body = rest;
    }
    Some(())
}

impl Table {
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Table> {
        let mut fast = vec![0; 1 << FAST];
        let (mut limit, mut offset) = ([0; 17], [0; 17]);
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, &count) in (1..=16_u32).zip(counts) {
            offset[length as usize] = index as i32 - code as i32;
            for &symbol in symbols.get(index..index + usize::from(count))? {
                if length <= FAST {
                    let from = (code as usize) << (FAST - length);
                    fast.get_mut(from..from + (1 << (FAST - length)))?
                        .fill((length as u16) << 8 | u16::from(symbol));
                }
                code += 1;
            }
            index += usize::from(count);
            limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        (limit[16] <= 1 << 16).then(|| Table {
            fast,
            limit,
            offset,
            symbols: symbols.to_vec(),
        })
    }
}

/// The bits of one piece; zeros behind its end.
struct Bits<'a> {
    data: &'a [u8],
    /// The next `count` bits, from the top.
    next: u64,
    count: u32,
    /// Zeros that were appended.
    zeros: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Bits {
            data,
            next: 0,
            count: 0,
            zeros: 0,
        }
    }

    /// At least 32 bits in `next`.
    #[inline]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some((four, rest)) = self.data.split_first_chunk::<4>()
            && !four.contains(&0xFF)
        {
            self.next |= u64::from(u32::from_be_bytes(*four)) << (32 - self.count);
            self.count += 32;
            self.data = rest;
            return;
        }
        while self.count <= 56 {
            let byte = match self.data {
                [0xFF, _, rest @ ..] => (0xFF, rest),
                [byte, rest @ ..] => (*byte, rest),
                [] => {
                    self.zeros += 8;
                    (0, self.data)
                }
            };
            self.next |= u64::from(byte.0) << (56 - self.count);
            self.count += 8;
            self.data = byte.1;
        }
    }

    /// Reads up to 16 bits.
    #[inline]
    fn take(&mut self, bits: u32) -> u32 {
        self.fill();
        let value = (self.next >> 1 >> (63 - bits)) as u32;
        self.next <<= bits;
        self.count -= bits;
        value
    }

    #[inline]
    fn symbol(&mut self, table: &Table) -> Option<u32> {
        self.fill();
        let next = (self.next >> 48) as u32;
        let entry = u32::from(table.fast[(next >> (16 - FAST)) as usize]);
        if entry != 0 {
            self.next <<= entry >> 8;
            self.count -= entry >> 8;
            return Some(entry & 0xFF);
        }
        let length = (FAST + 1..=16).find(|&length| next < table.limit[length as usize])?;
        let index = (next >> (16 - length)) as i32 + table.offset[length as usize];
        self.take(length);
        table
            .symbols
            .get(index as usize)
            .map(|&symbol| u32::from(symbol))
    }

    /// Whether more bits were read than there are.
    fn spent(&self) -> bool {
        self.count < self.zeros
    }

    /// Whole bytes that were not read.
    fn left(&self) -> usize {
        self.data.len() + (self.count.saturating_sub(self.zeros) / 8) as usize
    }

    /// Passes over one block. None: a code that no encoder writes.
    /// `mask`: which coefficients of it are not zero so far; `run`: blocks to come that end at once.
    #[inline]
    fn block(
        &mut self,
        progressive: bool,
        scan: &Scan,
        dc: Option<&Table>,
        ac: Option<&Table>,
        mask: Option<&mut u64>,
        run: &mut u32,
    ) -> Option<()> {
        let (mut from, to) = scan.spectrum;
        if from == 0 {
            if scan.high > 0 {
                self.take(1);
            } else {
                let size = self.symbol(dc?)?;
                self.take(size.min(16));
            }
            from = 1;
        }
        if to == 0 {
            return Some(());
        }
        match mask {
            Some(mask) if progressive && scan.high > 0 => self.refine(from, to, ac?, mask, run),
            mask => self.coefficients(from, to, ac?, mask, run),
        }
    }

    #[inline]
    fn coefficients(
        &mut self,
        from: usize,
        to: usize,
        ac: &Table,
        mask: Option<&mut u64>,
        run: &mut u32,
    ) -> Option<()> {
        if *run > 0 {
            *run -= 1;
            return Some(());
        }
        let (mut at, mut set) = (from, 0);
        while at <= to {
            let symbol = self.symbol(ac)?;
            let (zeros, size) = (symbol >> 4, symbol & 15);
            if size > 0 {
                self.take(size);
                at += zeros as usize;
                set |= 1_u64.checked_shl(at as u32)?;
                at += 1;
            } else if zeros == 15 {
                at += 16;
            } else {
                *run = (1 << zeros) - 1 + self.take(zeros);
                break;
            }
        }
        if let Some(mask) = mask {
            *mask |= set;
        }
        Some(())
    }

    /// T.81, G.1.2.3.
    fn refine(
        &mut self,
        from: usize,
        to: usize,
        ac: &Table,
        mask: &mut u64,
        run: &mut u32,
    ) -> Option<()> {
        let mut at = from;
        while at <= to && *run == 0 {
            let symbol = self.symbol(ac)?;
            let (mut zeros, size) = (symbol >> 4, symbol & 15);
            if size == 0 && zeros < 15 {
                *run = (1 << zeros) + self.take(zeros);
                break;
            }
            self.take(size.min(1));
            while at <= to {
                if *mask >> at & 1 == 1 {
                    self.take(1);
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            if size > 0 {
                *mask |= 1_u64.checked_shl(at as u32)?;
            }
            at += 1;
        }
        if *run > 0 {
            *run -= 1;
            let corrected = if at <= to {
                *mask >> at << at << (63 - to)
            } else {
                0
            };
            for _ in 0..corrected.count_ones() {
                self.take(1);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/jpeg/", $name, ".jpg"))
        };
    }

    const SIZE: (u32, u32) = (44, 26);
    const SEQUENTIAL: &[u8] = fixture!("sequential");
    const PROGRESSIVE: &[u8] = fixture!("progressive");
    const RESTART: &[u8] = fixture!("restart");
    const SEPARATE: &[u8] = fixture!("separate");
    const RGB: &[u8] = fixture!("rgb");

    /// What the fixtures show: red and cyan grow to the right, green and magenta to the bottom; and so on.
    fn shown(x: u32, y: u32) -> [u8; 4] {
        [40 + 4 * x, 60 + 6 * y, 200 - 2 * x - 3 * y, 10 + x].map(|sample| sample as u8)
    }

    /// How far the samples are from those of the fixtures' picture, on average.
    fn distance(samples: &Samples) -> f64 {
        let (samples, channels) = match samples {
            Samples::Gray(samples) => (samples, 1),
            Samples::Rgb(samples) => (samples, 3),
            Samples::Cmyk(samples) => (samples, 4),
        };
        let (width, height) = SIZE;
        assert_eq!(samples.len(), (width * height * channels) as usize);
        let wanted = (0..height).flat_map(|y| {
            (0..width).flat_map(move |x| shown(x, y).into_iter().take(channels as usize))
        });
        let sum: u64 = samples
            .iter()
            .zip(wanted)
            .map(|(&sample, wanted)| u64::from(sample.abs_diff(wanted)))
            .sum();
        sum as f64 / samples.len() as f64
    }

    #[track_caller]
    fn decoded(bytes: &[u8]) -> Jpeg {
        let jpeg = decode(bytes).unwrap();
        assert_eq!((jpeg.width, jpeg.height), SIZE);
        jpeg
    }

    #[track_caller]
    fn warning(bytes: &[u8]) -> String {
        let [warning] = decoded(bytes).warnings.try_into().unwrap();
        warning
    }

    fn with(bytes: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
        [&bytes[..at], what, &bytes[at..]].concat()
    }

    /// Where the entropy-coded data of each scan lie.
    fn data(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
        let scans = Segments::new(bytes).unwrap().filter(|s| s.marker == SOS);
        scans.map(|s| s.end - s.data.len()..s.end).collect()
    }

    /// Without the segments of a marker.
    fn without(bytes: &[u8], marker: u8) -> Vec<u8> {
        let kept = Segments::new(bytes).unwrap().filter(|s| s.marker != marker);
        let kept = kept.flat_map(|s| {
            bytes[s.end - s.data.len() - s.body.len() - if s.marker == EOI { 2 } else { 4 }..s.end]
                .to_vec()
        });
        [0xFF, SOI].into_iter().chain(kept).collect()
    }

    #[test]
    fn all_kinds_are_decoded_alike() {
        let kinds: [(&str, &[u8]); 10] = [
            ("sequential", SEQUENTIAL),
            ("progressive", PROGRESSIVE),
            ("restart", RESTART),
            ("separate", SEPARATE),
            ("partly", fixture!("partly")),
            ("uneven", fixture!("uneven")),
            ("gray", fixture!("gray")),
            ("rgb", RGB),
            ("cmyk", fixture!("cmyk")),
            ("ycck", fixture!("ycck")),
        ];
        for (name, bytes) in kinds {
            let Header {
                width,
                height,
                components,
                progressive,
            } = header(bytes).unwrap();
            assert_eq!(
                ((width, height), progressive),
                (SIZE, name == "progressive"),
                "{name}"
            );
            let jpeg = decoded(bytes);
            assert_eq!((&jpeg.warnings[..], jpeg.trailer), (&[][..], 0), "{name}");
            let of = match jpeg.samples {
                Samples::Gray(_) => 1,
                Samples::Rgb(_) => 3,
                Samples::Cmyk(_) => 4,
            };
            assert_eq!(of, components, "{name}");
            let distance = distance(&jpeg.samples);
            assert!(distance < 2.5, "{name}: {distance}");
        }
    }

    #[test]
    fn the_fast_decoder_takes_the_usual_kinds() {
        let of = |bytes| {
            decoder(
                &frame(bytes).unwrap(),
                &Segments::new(bytes).unwrap().collect::<Vec<_>>(),
            )
        };
        for bytes in [SEQUENTIAL, PROGRESSIVE, RESTART, RGB] {
            assert_eq!(of(bytes), Ok(Decoder::Zune));
        }
        let comment = with(PROGRESSIVE, data(PROGRESSIVE)[0].end, b"\xFF\xFE\0\x04ab");
        for bytes in [SEPARATE, fixture!("uneven"), &comment] {
            assert_eq!(of(bytes), Ok(Decoder::JpegDecoder));
        }
        assert!(distance(&decoded(&comment).samples) < 2.5);
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let arithmetic = fixture!("arithmetic");
        assert!(header(arithmetic).unwrap_err().contains("arithmetic"));
        assert!(decode(arithmetic).unwrap_err().contains("arithmetic"));
        assert!(
            decode(fixture!("refused"))
                .unwrap_err()
                .contains("sampling")
        );
        let at = SEQUENTIAL
            .windows(2)
            .position(|two| two == [0xFF, 0xC0])
            .unwrap();
        for (offset, byte, name) in [
            (1, 0xC3, "lossless"),
            (1, 0xC5, "hierarchical"),
            (4, 12, "12 bits"),
            (6, 0, "DNL"),
            (8, 0, "width"),
            (9, 2, "2 comp"),
        ] {
            let mut bytes = SEQUENTIAL.to_vec();
            bytes[at + offset] = byte;
            let message = header(&bytes).unwrap_err();
            assert!(message.contains(name), "{message}");
        }
        assert!(header(b"GIF89a").unwrap_err().contains("not a JPEG"));
        assert!(
            header(&SEQUENTIAL[..at + 6])
                .unwrap_err()
                .contains("truncated")
        );
        assert!(header(&[0xFF, SOI, 0xFF, EOI]).is_err());
    }

    #[test]
    fn colours_are_told_as_libjpeg_does() {
        let jfif = b"\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
        let adobe = |transform| [b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0", &[transform][..]].concat();
        let of = |bytes: &[u8]| {
            colour(
                &frame(bytes).unwrap(),
                &Segments::new(bytes).unwrap().collect::<Vec<_>>(),
            )
        };
        let bare = without(SEQUENTIAL, APP0);
        assert_eq!(of(&bare), Colour::YCbCr);
        assert_eq!(of(&with(&bare, 2, &adobe(1))), Colour::YCbCr);
        assert_eq!(of(&with(&bare, 2, &adobe(0))), Colour::Rgb);
        assert_eq!(of(&with(SEQUENTIAL, 2, &adobe(0))), Colour::YCbCr);
        assert_eq!(of(RGB), Colour::Rgb);
        assert_eq!(of(&with(RGB, 2, jfif)), Colour::YCbCr);
        // Neither decoder tells these two by itself.
        assert!(distance(&decoded(&with(RGB, 2, &adobe(0))).samples) < 2.5);
        assert!(distance(&decoded(&with(RGB, 2, jfif)).samples) > 10.0);
    }

    #[test]
    fn without_an_end_all_pixels_are_there() {
        for bytes in [SEQUENTIAL, PROGRESSIVE, RESTART, SEPARATE] {
            for cut in [1, 2] {
                let bytes = &bytes[..bytes.len() - cut];
                assert_eq!(end(bytes), None);
                assert!(warning(bytes).starts_with("no end-of-image marker"));
                assert!(distance(&decoded(bytes).samples) < 2.5);
            }
        }
    }

    #[test]
    fn truncated_files_are_refused() {
        for bytes in [SEQUENTIAL, PROGRESSIVE, RESTART, SEPARATE, RGB] {
            for length in (2..bytes.len() - 4).step_by(3) {
                let message = decode(&bytes[..length]).unwrap_err();
                assert!(
                    message.starts_with("truncated"),
                    "{length} of {}: {message}",
                    bytes.len()
                );
            }
            let scans = data(bytes);
            let half = [&bytes[..(scans[0].start + scans[0].end) / 2], &[0xFF, EOI]].concat();
            let message = decode(&half).unwrap_err();
            assert!(message.starts_with("truncated"), "{message}");
        }
    }

    #[test]
    fn scans_that_never_come_are_told() {
        let scans = data(PROGRESSIVE);
        let last = &PROGRESSIVE[..scans[scans.len() - 2].end];
        assert!(decode(last).unwrap_err().starts_with("truncated"));
        assert!(warning(&[last, &[0xFF, EOI]].concat()).contains("detail"));
        let first = &SEPARATE[..data(SEPARATE)[1].end];
        assert!(
            decode(&[first, &[0xFF, EOI]].concat())
                .unwrap_err()
                .contains("component")
        );
    }

    #[test]
    fn damage_is_told() {
        for bytes in [SEQUENTIAL, PROGRESSIVE, RESTART, SEPARATE, RGB] {
            let scan = data(bytes).pop().unwrap();
            assert!(warning(&with(bytes, scan.end, &[1, 2, 3])).contains("3 bytes too many"));
            let garbage = with(bytes, 2, &[1, 2]);
            assert!(warning(&garbage).contains("2 bytes too many before a marker"));
        }
        let scan = data(SEQUENTIAL).remove(0);
        let mut bytes = SEQUENTIAL.to_vec();
        // All ones are no code.
        let at = scan.start + scan.len() / 2;
        bytes.splice(at..at + 4, [0xFF, 0, 0xFF, 0]);
        assert!(warning(&bytes).starts_with("damaged: an impossible code"));
        let marker = scan_marker(RESTART);
        let mut bytes = RESTART.to_vec();
        bytes[marker + 1] ^= 4;
        assert!(warning(&bytes).contains("a wrong restart marker"));
    }

    fn scan_marker(bytes: &[u8]) -> usize {
        let scan = data(bytes).remove(0);
        scan.start
            + bytes[scan]
                .windows(2)
                .position(|two| two == [0xFF, 0xD0])
                .unwrap()
    }

    #[test]
    fn what_the_standard_allows_is_no_damage() {
        for bytes in [SEQUENTIAL, PROGRESSIVE, RESTART, SEPARATE] {
            let scan = data(bytes).pop().unwrap();
            let thumbnail = [
                b"\xFF\xE1".as_slice(),
                &(RGB.len() as u16 + 2).to_be_bytes(),
                RGB,
            ]
            .concat();
            let comment = b"\xFF\xFE\0\x06\xFF\xD9\xFF\xD8";
            for valid in [
                with(bytes, 2, &thumbnail),
                with(bytes, scan.end, &[0xFF; 3]),
                with(bytes, scan.end, comment),
            ] {
                let jpeg = decoded(&valid);
                assert_eq!((jpeg.warnings, jpeg.trailer), (vec![], 0));
                assert!(distance(&jpeg.samples) < 2.5);
                assert_eq!(end(&valid), Some(valid.len()));
            }
        }
        let marker = scan_marker(RESTART);
        assert_eq!(
            decoded(&with(RESTART, marker, &[0xFF; 2])).warnings,
            [""; 0]
        );
    }

    #[test]
    fn what_follows_is_counted() {
        for more in [SEQUENTIAL, b"\xFF", &[0; 100]] {
            for bytes in [SEQUENTIAL, PROGRESSIVE, SEPARATE] {
                let both = [bytes, more].concat();
                let jpeg = decoded(&both);
                assert_eq!((jpeg.warnings, jpeg.trailer), (vec![], more.len()));
                assert_eq!(end(&both), Some(bytes.len()));
                assert_eq!(jpeg.samples, decoded(bytes).samples);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived_by_what_is_our_own() {
        for bytes in [SEQUENTIAL, PROGRESSIVE, RESTART, SEPARATE] {
            for at in 2..bytes.len() {
                for byte in [0, 0xFF, bytes[at] ^ 0x10] {
                    let mut bytes = bytes.to_vec();
                    bytes[at] = byte;
                    let Ok(frame) = frame(&bytes) else { continue };
                    let segments: Vec<_> = Segments::new(&bytes).unwrap().collect();
                    let _ = decoder(&frame, &segments);
                    let lost = check(&frame, &segments).lost;
                    assert!(lost <= 100, "{lost}");
                }
            }
        }
    }
}
