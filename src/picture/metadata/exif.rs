//! EXIF blocks (a TIFF structure), changed in place: maker notes hold offsets into the block, so nothing moves.

use std::ops::Range;

use super::{ColourSpace, Resolution, Unit, Upright};

pub(super) mod tag {
    pub const IMAGE_WIDTH: u16 = 0x0100;
    pub const IMAGE_LENGTH: u16 = 0x0101;
    pub const IMAGE_DESCRIPTION: u16 = 0x010e;
    pub const STRIP_OFFSETS: u16 = 0x0111;
    pub const ORIENTATION: u16 = 0x0112;
    pub const STRIP_BYTE_COUNTS: u16 = 0x0117;
    pub const X_RESOLUTION: u16 = 0x011a;
    pub const Y_RESOLUTION: u16 = 0x011b;
    pub const RESOLUTION_UNIT: u16 = 0x0128;
    pub const SOFTWARE: u16 = 0x0131;
    pub const ARTIST: u16 = 0x013b;
    pub const SUB_IFDS: u16 = 0x014a;
    pub const THUMBNAIL_OFFSET: u16 = 0x0201;
    pub const THUMBNAIL_LENGTH: u16 = 0x0202;
    pub const COPYRIGHT: u16 = 0x8298;
    pub const EXIF_IFD: u16 = 0x8769;
    pub const GPS_IFD: u16 = 0x8825;
    pub const COLOR_SPACE: u16 = 0xa001;
    pub const PIXEL_X_DIMENSION: u16 = 0xa002;
    pub const PIXEL_Y_DIMENSION: u16 = 0xa003;
    pub const INTEROP_IFD: u16 = 0xa005;
    pub const INTEROP_INDEX: u16 = 0x0001;
}

const BYTE: u16 = 1;
const ASCII: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const IFD: u16 = 13;

/// Most bytes of a block. Cameras write some kB, with previews in the maker notes up to some MB.
const MOST: usize = 64 << 20;

/// Most directories that are followed. Cameras write five.
const MOST_DIRECTORIES: usize = 16;

/// Most numbers of one entry that are looked at, such as the strips of a thumbnail.
const MOST_NUMBERS: usize = 1024;

/// Most bytes of a block in a JPEG, whose segment has a length of 16 bits and the prefix `Exif\0\0`.
pub(super) const MOST_IN_JPEG: usize = 65_533 - PREFIX.len();

/// What stands before the block in a JPEG, and in some other files by mistake.
pub(super) const PREFIX: &[u8; 6] = b"Exif\0\0";

/// `bytes` without the prefix `Exif\0\0`, whose last byte some writers fill with something else.
pub(super) fn without_prefix(bytes: &[u8]) -> &[u8] {
    match bytes {
        [b'E', b'x', b'i', b'f', 0, _, block @ ..] => block,
        block => block,
    }
}

/// Whether a TIFF structure begins here.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*")
}

/// A block whose header and first directory can be read.
pub(super) struct Exif {
    bytes: Vec<u8>,
    big_endian: bool,
}

struct Directory {
    at: usize,
    /// Those that lie within the block.
    entries: Vec<Entry>,
    /// Whether all entries and the offset of the next directory lie within the block.
    whole: bool,
}

impl Directory {
    fn table(&self) -> Range<usize> {
        self.at..self.next() + 4
    }

    /// Where the offset of the next directory is.
    fn next(&self) -> usize {
        self.at + 2 + 12 * self.entries.len()
    }

    fn find(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    at: usize,
    tag: u16,
    kind: u16,
    count: u32,
}

/// An entry to be written.
struct Field {
    tag: u16,
    kind: u16,
    count: u32,
    value: Vec<u8>,
}

impl Exif {
    /// `None` if header or first directory lie outside of `bytes`, or if those are too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = without_prefix(bytes);
        if !begins(bytes) || bytes.len() > MOST {
            return None;
        }
        let exif = Exif {
            bytes: bytes.to_vec(),
            big_endian: bytes[0] == b'M',
        };
        let first = exif.first();
        (first.whole || !first.entries.is_empty()).then_some(exif)
    }

    /// A block without entries.
    pub fn empty() -> Self {
        Exif {
            bytes: b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec(),
            big_endian: false,
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// 1 to 8, if there is one.
    pub fn orientation(&self) -> Option<u16> {
        let value = self.number(self.first().find(tag::ORIENTATION)?)?;
        u16::try_from(value)
            .ok()
            .filter(|value| (1..=8).contains(value))
    }

    /// If there is one that says something.
    pub fn resolution(&self) -> Option<Resolution> {
        let first = self.first();
        let unit = match first.find(tag::RESOLUTION_UNIT) {
            None => Unit::Inch,
            Some(entry) => match self.number(entry)? {
                1 => Unit::None,
                2 => Unit::Inch,
                3 => Unit::Centimetre,
                _ => return None,
            },
        };
        let [x, y] =
            [tag::X_RESOLUTION, tag::Y_RESOLUTION].map(|tag| self.rational(first.find(tag)?));
        Resolution::new(x?, y?, unit)
    }

    /// Whether a text is there and not blank.
    pub fn has_text(&self, tag: u16) -> bool {
        let first = self.first();
        let value = first.find(tag).and_then(|entry| self.value(entry));
        value.is_some_and(|value| {
            let mut text = self.bytes[value].iter();
            text.any(|byte| !matches!(byte, 0 | b' '))
        })
    }

    /// Makes the entries about pixels true, and takes the thumbnail out.
    pub fn upright(&mut self, to: &Upright) {
        let first = self.first();
        for entry in &first.entries {
            match entry.tag {
                tag::IMAGE_WIDTH => self.set_number(entry, LONG, to.width),
                tag::IMAGE_LENGTH => self.set_number(entry, LONG, to.height),
                tag::EXIF_IFD => self.upright_exif(entry, to),
                _ => {}
            }
        }
        self.remove_thumbnail(&first);
        self.set_texts(&[(tag::SOFTWARE, to.software)]);
        // Last: directories of a hostile block may overlap.
        for entry in self.first().entries {
            if entry.tag == tag::ORIENTATION {
                self.set_number(&entry, SHORT, 1);
            }
        }
    }

    fn upright_exif(&mut self, pointer: &Entry, to: &Upright) {
        let Some(directory) = self.pointed(pointer) else {
            return;
        };
        for entry in &directory.entries {
            match (entry.tag, to.colour) {
                (tag::PIXEL_X_DIMENSION, _) => self.set_number(entry, LONG, to.width),
                (tag::PIXEL_Y_DIMENSION, _) => self.set_number(entry, LONG, to.height),
                (tag::COLOR_SPACE, ColourSpace::Srgb) => self.set_number(entry, SHORT, 1),
                (tag::COLOR_SPACE, ColourSpace::Uncalibrated) => {
                    self.set_number(entry, SHORT, 0xffff);
                }
                (tag::INTEROP_IFD, ColourSpace::Srgb) => self.set_interop_srgb(entry),
                _ => {}
            }
        }
    }

    /// Cameras say Adobe RGB by the index `R03`, sRGB by `R98`.
    fn set_interop_srgb(&mut self, pointer: &Entry) {
        let directory = self.pointed(pointer);
        let index = directory.and_then(|directory| directory.find(tag::INTEROP_INDEX).copied());
        if let Some(Entry {
            at,
            kind: ASCII,
            count: 4,
            ..
        }) = index
            && self.bytes.get(at + 8..at + 12) == Some(b"R03\0")
        {
            self.bytes[at + 8..at + 12].copy_from_slice(b"R98\0");
        }
    }

    /// Takes out the directories behind the first, and clears what only they used.
    fn remove_thumbnail(&mut self, first: &Directory) {
        if !first.whole {
            return;
        }
        let mut next = self.u32(first.next());
        self.put_u32(first.next(), 0);
        let live = self.live();
        let mut dead = Vec::new();
        for _ in 0..MOST_DIRECTORIES {
            let Some(at) = next.filter(|&at| at != 0) else {
                break;
            };
            let directory = self.directory(at as usize);
            if !directory.whole {
                break;
            }
            let values = directory
                .entries
                .iter()
                .filter_map(|entry| self.value(entry));
            dead.extend(values);
            dead.extend(self.thumbnail(&directory));
            dead.push(directory.table());
            next = self.u32(directory.next());
        }
        self.clear(dead, &live);
    }

    fn thumbnail(&self, directory: &Directory) -> Vec<Range<usize>> {
        let pairs = [
            (tag::THUMBNAIL_OFFSET, tag::THUMBNAIL_LENGTH),
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS),
        ];
        let mut ranges = Vec::new();
        for (offset, length) in pairs {
            let [offsets, lengths] = [offset, length].map(|tag| {
                directory
                    .find(tag)
                    .map_or_else(Vec::new, |entry| self.numbers(entry))
            });
            let within = offsets
                .into_iter()
                .zip(lengths)
                .filter_map(|(offset, length)| {
                    let start = offset as usize;
                    Some(start..start.checked_add(length as usize)?)
                });
            ranges.extend(within);
        }
        ranges
    }

    /// Sets texts of the first directory, and says whether there was room. Empty ones are not set.
    pub fn set_texts(&mut self, texts: &[(u16, &str)]) -> bool {
        let mut fields = Vec::new();
        for &(tag, text) in texts {
            let text = text.split('\0').next().unwrap_or_default();
            let value = [text.as_bytes(), b"\0"].concat();
            if !text.is_empty()
                && let Ok(count) = u32::try_from(value.len())
            {
                fields.push(Field {
                    tag,
                    kind: ASCII,
                    count,
                    value,
                });
            }
        }
        self.set(fields)
    }

    /// Sets the three entries of a resolution, and says whether there was room.
    pub fn set_resolution(&mut self, resolution: Resolution) -> bool {
        let unit = match resolution.unit {
            Unit::None => 1,
            Unit::Inch => 2,
            Unit::Centimetre => 3,
        };
        let rational = |tag, value: f64| {
            let (numerator, denominator) = fraction(value);
            let value = [self.of_u32(numerator), self.of_u32(denominator)].concat();
            Field {
                tag,
                kind: RATIONAL,
                count: 1,
                value,
            }
        };
        let fields = vec![
            rational(tag::X_RESOLUTION, resolution.x),
            rational(tag::Y_RESOLUTION, resolution.y),
            Field {
                tag: tag::RESOLUTION_UNIT,
                kind: SHORT,
                count: 1,
                value: self.of_u16(unit).to_vec(),
            },
        ];
        self.set(fields)
    }

    /// Entries that are there are replaced, others added by a new first directory at the end.
    ///
    /// Nothing is done where the first directory is damaged, or where a block that a JPEG can hold would become one that it
    /// cannot.
    fn set(&mut self, fields: Vec<Field>) -> bool {
        let first = self.first();
        let (old, new): (Vec<_>, Vec<_>) = fields
            .into_iter()
            .partition(|field| first.find(field.tag).is_some());
        let values = old.iter().chain(&new).map(|field| field.value.len() + 1);
        let table = match new.len() {
            0 => 0,
            more => first.table().len() + 12 * more + 1,
        };
        let grown = self.bytes.len() + values.sum::<usize>() + table;
        let most = match self.bytes.len() {
            0..=MOST_IN_JPEG => MOST_IN_JPEG,
            _ => u32::MAX as usize,
        };
        if !first.whole || grown > most || first.entries.len() + new.len() > 0xffff {
            return false;
        }
        for field in old {
            if let Some(&entry) = first.find(field.tag) {
                let value = self.value(&entry);
                self.set_number(&entry, BYTE, 0);
                let live = self.live();
                self.clear(value.into_iter().collect(), &live);
                let written = self.written(&field);
                self.bytes[entry.at..entry.at + 12].copy_from_slice(&written);
            }
        }
        if !new.is_empty() {
            self.grow(&first, &new);
        }
        true
    }

    fn grow(&mut self, first: &Directory, fields: &[Field]) {
        let mut entries: Vec<(u16, [u8; 12])> = Vec::new();
        for entry in &first.entries {
            let mut written = [0; 12];
            written.copy_from_slice(&self.bytes[entry.at..entry.at + 12]);
            entries.push((entry.tag, written));
        }
        for field in fields {
            entries.push((field.tag, self.written(field)));
        }
        entries.sort_by_key(|&(tag, _)| tag);
        let next = self.bytes[first.next()..first.next() + 4].to_vec();
        let mut table = self.of_u16(entries.len() as u16).to_vec(); // `set` has checked it
        table.extend(entries.iter().flat_map(|(_, written)| written));
        table.extend(next);
        let at = self.append(&table);
        self.put_u32(4, at);
        let live = self.live();
        self.clear(vec![first.table()], &live);
    }

    /// The entry of `field`, whose value, if it takes more than 4 bytes, goes to the end.
    fn written(&mut self, field: &Field) -> [u8; 12] {
        let mut entry = [0; 12];
        entry[..2].copy_from_slice(&self.of_u16(field.tag));
        entry[2..4].copy_from_slice(&self.of_u16(field.kind));
        entry[4..8].copy_from_slice(&self.of_u32(field.count));
        if field.value.len() <= 4 {
            entry[8..8 + field.value.len()].copy_from_slice(&field.value);
        } else {
            let at = self.append(&field.value);
            entry[8..].copy_from_slice(&self.of_u32(at));
        }
        entry
    }

    /// At an even offset, as TIFF wants it.
    fn append(&mut self, value: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(2), 0);
        let at = self.bytes.len() as u32; // `set` has compared the sum with `u32::MAX`
        self.bytes.extend_from_slice(value);
        at
    }

    /// Fills `dead` with zeros, or cuts it off at the end of the block, but for what is in `live`.
    fn clear(&mut self, dead: Vec<Range<usize>>, live: &[Range<usize>]) {
        let live_end = live.last().map_or(0, |last| last.end);
        for range in joined(dead).into_iter().rev() {
            let end = range.end.min(self.bytes.len());
            let mut start = range.start;
            let behind = live.partition_point(|one| one.end <= start);
            for one in live[behind..].iter().take_while(|one| one.start < end) {
                self.zero(start..one.start);
                start = one.end;
            }
            self.zero(start..end);
            let cut = range.start.max(live_end);
            if cut < end && matches!(self.bytes[end..], [] | [0]) {
                self.bytes.truncate(cut);
            }
        }
    }

    fn zero(&mut self, range: Range<usize>) {
        if let Some(bytes) = self.bytes.get_mut(range) {
            bytes.fill(0);
        }
    }

    /// The bytes that the first directory and those below it use, in order and disjoint.
    fn live(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        ranges.push(0..8);
        let mut seen = Vec::new();
        let mut waiting = vec![self.first()];
        while let Some(directory) = waiting.pop() {
            if seen.contains(&directory.at) || seen.len() == MOST_DIRECTORIES {
                continue;
            }
            seen.push(directory.at);
            ranges.push(directory.table());
            for entry in &directory.entries {
                ranges.extend(self.value(entry));
                let pointers = [tag::EXIF_IFD, tag::GPS_IFD, tag::INTEROP_IFD, tag::SUB_IFDS];
                if pointers.contains(&entry.tag) {
                    let offsets = self.numbers(entry).into_iter();
                    let room = MOST_DIRECTORIES.saturating_sub(waiting.len());
                    waiting.extend(offsets.take(room).map(|at| self.directory(at as usize)));
                }
            }
        }
        joined(ranges)
    }

    fn first(&self) -> Directory {
        self.directory(self.u32(4).unwrap_or(u32::MAX) as usize)
    }

    fn pointed(&self, pointer: &Entry) -> Option<Directory> {
        Some(self.directory(self.number(pointer)? as usize))
    }

    fn directory(&self, at: usize) -> Directory {
        let at = at.min(self.bytes.len());
        let stated = self.u16(at).map(usize::from);
        let room = self.bytes.len().saturating_sub(at + 2) / 12;
        let count = stated.unwrap_or(0).min(room);
        let entries = (0..count).filter_map(|index| {
            let at = at + 2 + 12 * index;
            Some(Entry {
                at,
                tag: self.u16(at)?,
                kind: self.u16(at + 2)?,
                count: self.u32(at + 4)?,
            })
        });
        let mut directory = Directory {
            at,
            entries: entries.collect(),
            whole: false,
        };
        // The header is no place for a directory: it would be changed with it.
        directory.whole = at >= 8
            && stated == Some(directory.entries.len())
            && self.u32(directory.next()).is_some();
        directory
    }

    /// Where the value of `entry` is, if it lies within the block and its kind is known.
    fn value(&self, entry: &Entry) -> Option<Range<usize>> {
        let size = match entry.kind {
            BYTE | ASCII | 6 | 7 | 129 => 1,
            SHORT | 8 => 2,
            LONG | 9 | 11 | IFD => 4,
            RATIONAL | 10 | 12 => 8,
            _ => return None,
        };
        let length = (entry.count as usize).checked_mul(size)?;
        let start = match length {
            0..=4 => entry.at + 8,
            _ => self.u32(entry.at + 8)? as usize,
        };
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// The first of them; nothing here has more than a few.
    fn numbers(&self, entry: &Entry) -> Vec<u32> {
        let Some(value) = self.value(entry) else {
            return Vec::new();
        };
        let at = |size: usize| value.clone().step_by(size).take(MOST_NUMBERS);
        match entry.kind {
            BYTE => at(1).map(|at| self.bytes[at].into()).collect(),
            SHORT => at(2).filter_map(|at| self.u16(at).map(u32::from)).collect(),
            LONG | IFD => at(4).filter_map(|at| self.u32(at)).collect(),
            _ => Vec::new(),
        }
    }

    fn number(&self, entry: &Entry) -> Option<u32> {
        self.numbers(entry).first().copied()
    }

    fn rational(&self, entry: &Entry) -> Option<f64> {
        if entry.kind != RATIONAL || entry.count == 0 {
            return None;
        }
        let at = self.value(entry)?.start;
        Some(f64::from(self.u32(at)?) / f64::from(self.u32(at + 4)?))
    }

    /// Makes `entry` one number of a `kind` (SHORT or LONG, or a BYTE for none in particular).
    fn set_number(&mut self, entry: &Entry, kind: u16, value: u32) {
        let mut written = [0; 10];
        written[..2].copy_from_slice(&self.of_u16(kind));
        written[2..6].copy_from_slice(&self.of_u32(1));
        match kind {
            SHORT => written[6..8].copy_from_slice(&self.of_u16(value as u16)),
            _ => written[6..].copy_from_slice(&self.of_u32(value)),
        }
        if let Some(place) = self.bytes.get_mut(entry.at + 2..entry.at + 12) {
            place.copy_from_slice(&written);
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(match self.big_endian {
            true => u16::from_be_bytes(*bytes),
            false => u16::from_le_bytes(*bytes),
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(match self.big_endian {
            true => u32::from_be_bytes(*bytes),
            false => u32::from_le_bytes(*bytes),
        })
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        let value = self.of_u32(value);
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&value);
        }
    }

    fn of_u16(&self, value: u16) -> [u8; 2] {
        match self.big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }

    fn of_u32(&self, value: u32) -> [u8; 4] {
        match self.big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }
}

/// The same bytes as ranges in order, with a gap between any two.
fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|right, left| {
        let touching = right.start <= left.end;
        if touching {
            left.end = left.end.max(right.end);
        }
        touching
    });
    ranges
}

/// Numerator and denominator of `value`, to four decimals where it has them.
fn fraction(value: f64) -> (u32, u32) {
    for denominator in [1, 100, 10_000] {
        let numerator = value * f64::from(denominator);
        let whole = (numerator - numerator.round()).abs() <= 1e-6 * numerator;
        if numerator <= f64::from(u32::MAX) && (whole || denominator == 10_000) {
            return (numerator.round() as u32, denominator);
        }
    }
    (value.round() as u32, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Upright = Upright {
        width: 70_000,
        height: 96,
        colour: ColourSpace::Srgb,
        software: "hi-diff 0.1.0",
    };

    /// A block with a thumbnail, whose bytes are 0xaa, before or behind a maker note, whose bytes are 0xbb, at offset
    /// `MAKER_NOTE`.
    fn block(big_endian: bool, thumbnail_last: bool) -> Vec<u8> {
        let short = |value: u16| match big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let long = |value: u32| match big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let directory = |entries: &[(u16, u16, u32, u32)], next: u32| {
            let mut bytes = short(entries.len() as u16).to_vec();
            for &(tag, kind, count, value) in entries {
                bytes.extend([short(tag), short(kind)].concat());
                bytes.extend(long(count));
                match kind {
                    SHORT => bytes.extend([short(value as u16), [0; 2]].concat()),
                    _ => bytes.extend(long(value)),
                }
            }
            bytes.extend(long(next));
            bytes
        };
        let (thumbnail, maker_note) = match thumbnail_last {
            true => (300, MAKER_NOTE),
            false => (170, MAKER_NOTE),
        };
        let mut bytes = match big_endian {
            true => b"MM\0*\0\0\0\x08".to_vec(),
            false => b"II*\0\x08\0\0\0".to_vec(),
        };
        let first = [
            (tag::IMAGE_WIDTH, SHORT, 1, 96),
            (tag::ORIENTATION, SHORT, 1, 6),
            (tag::EXIF_IFD, LONG, 1, 50),
        ];
        bytes.extend(directory(&first, 120));
        let exif = [
            (0x927c, 7, 40, maker_note),
            (tag::COLOR_SPACE, SHORT, 1, 0xffff),
            (tag::PIXEL_X_DIMENSION, SHORT, 1, 96),
            (tag::PIXEL_Y_DIMENSION, LONG, 1, 64),
        ];
        bytes.extend(directory(&exif, 0));
        bytes.resize(120, 0);
        let second = [
            (tag::X_RESOLUTION, RATIONAL, 1, 240),
            (tag::THUMBNAIL_OFFSET, LONG, 1, thumbnail),
            (tag::THUMBNAIL_LENGTH, LONG, 1, 31),
        ];
        bytes.extend(directory(&second, 0));
        bytes.resize(if thumbnail_last { 331 } else { 300 }, 0);
        bytes[240..248].fill(0xaa);
        bytes[thumbnail as usize..][..31].fill(0xaa);
        bytes[maker_note as usize..][..40].fill(0xbb);
        bytes
    }

    const MAKER_NOTE: u32 = 260;

    fn number(exif: &Exif, tag: u16) -> Option<u32> {
        let first = exif.first();
        let below = first.find(tag::EXIF_IFD).and_then(|one| exif.pointed(one));
        let entry = first.find(tag).copied();
        exif.number(&entry.or_else(|| below?.find(tag).copied())?)
    }

    #[test]
    fn entries_become_true_and_the_maker_note_stays_where_it_is() {
        for (big_endian, last) in [(false, false), (false, true), (true, false), (true, true)] {
            let before = block(big_endian, last);
            let mut exif = Exif::new(&before).unwrap();
            assert_eq!(exif.orientation(), Some(6));
            exif.upright(&TO);
            let expected = [
                (tag::ORIENTATION, 1),
                (tag::IMAGE_WIDTH, 70_000),
                (tag::PIXEL_X_DIMENSION, 70_000),
                (tag::PIXEL_Y_DIMENSION, 96),
                (tag::COLOR_SPACE, 1),
            ];
            for (tag, value) in expected {
                assert_eq!(number(&exif, tag), Some(value), "{tag:x}");
            }
            let first = exif.first();
            assert!(first.entries.is_sorted_by_key(|entry| entry.tag));
            let software = exif.value(first.find(tag::SOFTWARE).unwrap()).unwrap();
            assert_eq!(&exif.bytes[software], b"hi-diff 0.1.0\0");
            assert_eq!(exif.u32(first.next()), Some(0));
            let bytes = exif.into_bytes();
            assert!(!bytes.contains(&0xaa), "{big_endian} {last}");
            assert_eq!(bytes[260..300], [0xbb; 40]);
            // The old directory is empty, and a thumbnail at the end is cut off: 14 bytes of text and 54 of the new one.
            assert_eq!(bytes[8..50], [0; 42]);
            assert_eq!(bytes.len(), 300 + 14 + 54);
            // What is there already is replaced, and nothing grows.
            let mut again = Exif::new(&bytes).unwrap();
            again.upright(&TO);
            assert!(again.into_bytes().len() <= bytes.len() + 14);
        }
    }

    #[test]
    fn what_others_use_of_a_thumbnail_stays() {
        let mut bytes = block(false, false);
        // The thumbnail reaches into the maker note, and its resolution lies there.
        bytes[120 + 2 + 8] = 4;
        bytes[120 + 2 + 8 + 1] = 1;
        bytes[120 + 2 + 24 + 8] = 100;
        let mut exif = Exif::new(&bytes).unwrap();
        exif.upright(&TO);
        assert_eq!(exif.bytes[260..300], [0xbb; 40]);
        assert_eq!(exif.bytes[170..240], [0; 70]);
    }

    #[test]
    fn a_damaged_directory_still_gets_its_orientation() {
        let whole = block(true, false);
        for end in 10..whole.len() {
            let Some(mut exif) = Exif::new(&whole[..end]) else {
                assert!(end < 8 + 2 + 12, "{end}");
                continue;
            };
            let had = exif.orientation();
            assert_eq!(had, (end >= 8 + 2 + 24).then_some(6), "{end}");
            exif.upright(&TO);
            assert_eq!(exif.orientation(), had.map(|_| 1), "{end}");
        }
        for header in [
            &b"II\0*\x08\0\0\0\0\0"[..],
            b"II*\0\xff\xff\xff\xff",
            b"II*",
            b"",
        ] {
            assert!(Exif::new(header).is_none());
        }
    }

    #[test]
    fn directories_in_a_circle_come_to_an_end() {
        let mut bytes = block(false, false);
        bytes[120 + 2 + 36] = 120; // the second one's next is itself
        bytes[50 + 2..][..12].copy_from_slice(b"\x69\x87\x04\0\x01\0\0\0\x32\0\0\0");
        let mut exif = Exif::new(&bytes).unwrap();
        exif.upright(&TO);
        assert_eq!(exif.orientation(), Some(1));
        // The header is none.
        let mut bytes = b"II*\0\x04\0\0\0".to_vec();
        bytes.resize(100, 0);
        let mut exif = Exif::new(&bytes).unwrap();
        exif.upright(&TO);
        assert_eq!(exif.into_bytes(), bytes);
    }

    #[test]
    fn a_resolution_comes_back() {
        for (x, y, unit) in [
            (300.0, 300.0, Unit::Inch),
            (118.11, 59.5, Unit::Centimetre),
            (1.0, 2.0, Unit::None),
        ] {
            let resolution = Resolution::new(x, y, unit);
            for mut exif in [Exif::empty(), Exif::new(&block(true, true)).unwrap()] {
                assert_eq!(exif.resolution(), None);
                assert!(exif.set_resolution(Resolution {
                    x: 1.5,
                    y: 7.0,
                    unit: Unit::Inch
                }));
                let length = exif.bytes.len();
                assert!(exif.set_resolution(resolution.unwrap()));
                assert_eq!(exif.resolution(), resolution);
                assert!(exif.bytes.len() <= length + 16);
                assert!(Exif::new(&exif.into_bytes()).unwrap().first().whole);
            }
        }
    }

    #[test]
    fn no_block_grows_out_of_a_jpeg() {
        let mut bytes = block(false, false);
        bytes.resize(MOST_IN_JPEG - 40, 1);
        let mut exif = Exif::new(&bytes).unwrap();
        exif.upright(&TO);
        assert_eq!(
            (exif.bytes.len(), exif.orientation()),
            (bytes.len(), Some(1))
        );
        assert!(!exif.set_texts(&[(tag::ARTIST, "a")]));
        assert!(!exif.has_text(tag::ARTIST));
    }
}
