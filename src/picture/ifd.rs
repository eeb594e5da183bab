//! TIFF directories (IFDs), of TIFF files and of EXIF blocks: of either byte order, classic or
//! BigTIFF. Nothing here fails on a value that lies beyond the end: it is told as missing.

/// Entries of a directory beyond which a file is taken for damaged.
const MOST_ENTRIES: u64 = 4_096;

const EXIF: u16 = 34_665;
const GPS: u16 = 34_853;
const INTEROP: u16 = 40_965;

/// Tags of a picture's directory that tell about the picture, and nothing about how it is stored.
const DESCRIPTIVE: [u16; 23] = [
    269,    // DocumentName
    270,    // ImageDescription
    271,    // Make
    272,    // Model
    282,    // XResolution
    283,    // YResolution
    285,    // PageName
    296,    // ResolutionUnit
    305,    // Software
    306,    // DateTime
    315,    // Artist
    316,    // HostComputer
    318,    // WhitePoint
    319,    // PrimaryChromaticities
    18_246, // Rating
    18_249, // RatingPercent
    33_432, // Copyright
    40_091, // XPTitle
    40_092, // XPComment
    40_093, // XPAuthor
    40_094, // XPKeywords
    40_095, // XPSubject
    50_341, // PrintImageMatching
];

/// A file or block of TIFF structure.
#[derive(Clone, Copy)]
pub(crate) struct Tiff<'a> {
    pub bytes: &'a [u8],
    pub big_endian: bool,
    /// BigTIFF: offsets of 8 bytes.
    big: bool,
    /// Where the first directory lies.
    pub first: u64,
}

/// The entries of a directory that have a known type, as they come.
pub(crate) struct Directory<'a> {
    pub fields: Vec<Field<'a>>,
    /// Where the next directory lies; 0: nowhere.
    pub next: u64,
    /// Whether all entries lie within the bytes.
    pub complete: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub tag: u16,
    /// The TIFF type (2: ASCII, 3: SHORT, …), which [`width`] knows.
    pub kind: u16,
    pub count: u64,
    /// Its values in the file's byte order; missing where they lie beyond the end.
    bytes: Option<&'a [u8]>,
    big_endian: bool,
}

impl<'a> Tiff<'a> {
    /// # Errors
    /// If these bytes do not begin as a TIFF does.
    pub fn open(bytes: &'a [u8]) -> Result<Tiff<'a>, String> {
        let big_endian = match bytes.get(..2) {
            Some(b"II") => false,
            Some(b"MM") => true,
            _ => return Err("not a TIFF: it begins with neither II nor MM".to_string()),
        };
        let mut tiff = Tiff {
            bytes,
            big_endian,
            big: false,
            first: 0,
        };
        let truncated = || "truncated: the TIFF header ends early".to_string();
        match tiff.uint(2, 2).ok_or_else(truncated)? {
            42 => tiff.first = tiff.uint(4, 4).ok_or_else(truncated)?,
            43 => {
                let offset_bytes = tiff.uint(4, 2).ok_or_else(truncated)?;
                if offset_bytes != 8 {
                    return Err(format!(
                        "BigTIFF with offsets of {offset_bytes} bytes, not 8"
                    ));
                }
                tiff.big = true;
                tiff.first = tiff.uint(8, 8).ok_or_else(truncated)?;
            }
            version => return Err(format!("not a TIFF: version {version}, not 42 or 43")),
        }
        Ok(tiff)
    }

    /// The directory at `at`; `None` where none begins within the bytes, or one of too many entries.
    pub fn directory(&self, at: u64) -> Option<Directory<'a>> {
        let (count_bytes, entry_bytes, offset_bytes) =
            if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.uint(at, count_bytes)?;
        if at == 0 || count > MOST_ENTRIES {
            return None;
        }
        let begin = at + count_bytes; // both within the bytes' length
        let end = begin + count * entry_bytes;
        let mut fields = Vec::new();
        let mut complete = true;
        for entry in (begin..end).step_by(entry_bytes as usize) {
            if self.slice(entry, entry_bytes).is_none() {
                complete = false;
                break;
            }
            fields.extend(self.field(entry, offset_bytes));
        }
        Some(Directory {
            fields,
            next: self.uint(end, offset_bytes).unwrap_or(0),
            complete,
        })
    }

    /// The entry at `at`, unless its type is unknown.
    fn field(&self, at: u64, offset_bytes: u64) -> Option<Field<'a>> {
        let tag = self.uint(at, 2)? as u16;
        let kind = self.uint(at + 2, 2)? as u16;
        let count = self.uint(at + 4, offset_bytes)?;
        let size = count.checked_mul(width(kind)?);
        let value = at + 4 + offset_bytes;
        let bytes = size.and_then(|size| match size <= offset_bytes {
            true => self.slice(value, size),
            false => self.slice(self.uint(value, offset_bytes)?, size),
        });
        Some(Field {
            tag,
            kind,
            count,
            bytes,
            big_endian: self.big_endian,
        })
    }

    /// The bytes in `at..at + length`, if there are so many.
    pub fn slice(&self, at: u64, length: u64) -> Option<&'a [u8]> {
        let end = usize::try_from(at.checked_add(length)?).ok()?;
        self.bytes.get(usize::try_from(at).ok()?..end)
    }

    fn uint(&self, at: u64, bytes: u64) -> Option<u64> {
        Some(uint(self.slice(at, bytes)?, self.big_endian))
    }
}

impl<'a> Directory<'a> {
    pub fn get(&self, tag: u16) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.tag == tag)
    }

    /// The bytes of a field's value, whatever their type.
    pub fn raw(&self, tag: u16) -> Option<&'a [u8]> {
        self.get(tag)?.bytes.filter(|bytes| !bytes.is_empty())
    }

    /// The unsigned integers of a field, `None` where there is no such field.
    ///
    /// # Errors
    /// If the field has no such values, or they lie beyond the end.
    pub fn uints(&self, tag: u16) -> Result<Option<Vec<u64>>, String> {
        let Some(field) = self.get(tag) else {
            return Ok(None);
        };
        if field.bytes.is_none() {
            return Err(format!(
                "truncated: the values of tag {tag} lie beyond the end"
            ));
        }
        match field.uints() {
            Some(values) if !values.is_empty() => Ok(Some(values)),
            _ => Err(format!(
                "tag {tag} has no whole numbers (type {})",
                field.kind
            )),
        }
    }

    /// The first unsigned integer of a field.
    ///
    /// # Errors
    /// As of [`Directory::uints`].
    pub fn uint(&self, tag: u16) -> Result<Option<u64>, String> {
        Ok(self.uints(tag)?.map(|values| values[0]))
    }

    /// The fractions of a field, if it has such.
    pub fn rationals(&self, tag: u16) -> Option<Vec<f64>> {
        let field = self.get(tag).filter(|field| field.kind == 5)?;
        let fractions = field.bytes?.chunks_exact(8).map(|pair| {
            let (above, below) = pair.split_at(4);
            uint(above, field.big_endian) as f64 / uint(below, field.big_endian) as f64
        });
        Some(fractions.collect())
    }
}

impl Field<'_> {
    pub fn uints(&self) -> Option<Vec<u64>> {
        let size = match self.kind {
            1 | 3 | 4 | 13 | 16 | 18 => width(self.kind)? as usize,
            _ => return None,
        };
        let values = self.bytes?.chunks_exact(size);
        Some(values.map(|bytes| uint(bytes, self.big_endian)).collect())
    }

    /// The values in the asked byte order, if they are there.
    pub fn value(&self, big_endian: bool) -> Option<Vec<u8>> {
        let mut bytes = self.bytes?.to_vec();
        let word = match self.kind {
            5 | 10 => 4, // two LONGs
            kind => width(kind)? as usize,
        };
        if big_endian != self.big_endian {
            bytes.chunks_exact_mut(word).for_each(<[u8]>::reverse);
        }
        Some(bytes)
    }
}

/// What tells about a picture: the fields of its directory and those below that do, in ascending
/// order of tags, none twice, all with their values; without pointers to directories.
#[derive(Default)]
pub(crate) struct Description<'a> {
    pub image: Vec<Field<'a>>,
    pub exif: Vec<Field<'a>>,
    pub interop: Vec<Field<'a>>,
    pub gps: Vec<Field<'a>>,
}

impl<'a> Description<'a> {
    pub fn of(tiff: &Tiff<'a>, picture: &Directory<'a>) -> Description<'a> {
        let below = |parent: &Directory<'a>, tag| {
            let at = *parent.get(tag)?.uints()?.first()?;
            tiff.directory(at)
        };
        let exif = below(picture, EXIF);
        let interop = exif.as_ref().and_then(|exif| below(exif, INTEROP));
        let gps = below(picture, GPS);
        let all = |directory: Option<Directory<'a>>| {
            directory.map_or_else(Vec::new, |directory| tidy(&directory, |_| true))
        };
        Description {
            image: tidy(picture, |tag| DESCRIPTIVE.contains(&tag)),
            exif: all(exif),
            interop: all(interop),
            gps: all(gps),
        }
    }

    /// An EXIF block: a little-endian classic TIFF of these fields and no picture; `None` if there
    /// is nothing to tell, or too much.
    pub fn to_exif(&self) -> Option<Vec<u8>> {
        const BEGIN: u32 = 8;
        let (image, exif) = (entries(&self.image), entries(&self.exif));
        let (interop, gps) = (entries(&self.interop), entries(&self.gps));
        let has_exif = !(exif.is_empty() && interop.is_empty());
        if image.is_empty() && !has_exif && gps.is_empty() {
            return None;
        }
        // The pointers lie within their entries: what they say does not move what follows.
        let with = |mut fields: Vec<Entry>, pointers: &[(bool, u16, u32)]| {
            let wanted = pointers.iter().filter(|(wanted, ..)| *wanted);
            fields.extend(wanted.map(|&(_, tag, at)| Entry::pointer(tag, at)));
            fields.sort_by_key(|entry| entry.tag);
            fields
        };
        let image_with = |exif_at, gps_at| {
            let pointers = [(has_exif, EXIF, exif_at), (!gps.is_empty(), GPS, gps_at)];
            directory_bytes(&with(image.clone(), &pointers), BEGIN)
        };
        let exif_with = |at, interop_at| {
            let pointers = [(!interop.is_empty(), INTEROP, interop_at)];
            match has_exif {
                true => directory_bytes(&with(exif.clone(), &pointers), at),
                false => Some(Vec::new()),
            }
        };
        let after = |at: u32, bytes: &[u8]| at.checked_add(u32::try_from(bytes.len()).ok()?);
        let exif_at = after(BEGIN, &image_with(0, 0)?)?;
        let interop_at = after(exif_at, &exif_with(exif_at, 0)?)?;
        let interop_bytes = match interop.is_empty() {
            true => Vec::new(),
            false => directory_bytes(&interop, interop_at)?,
        };
        let gps_at = after(interop_at, &interop_bytes)?;
        let mut block = b"II*\0\x08\0\0\0".to_vec();
        block.extend(image_with(exif_at, gps_at)?);
        block.extend(exif_with(exif_at, interop_at)?);
        block.extend(interop_bytes);
        if !gps.is_empty() {
            block.extend(directory_bytes(&gps, gps_at)?);
        }
        Some(block)
    }
}

fn tidy<'a>(directory: &Directory<'a>, keep: impl Fn(u16) -> bool) -> Vec<Field<'a>> {
    let is_value = |field: &Field| {
        let pointer = [EXIF, GPS, INTEROP].contains(&field.tag) || [13, 18].contains(&field.kind);
        !pointer && field.count > 0 && field.bytes.is_some()
    };
    let mut fields: Vec<Field> = directory.fields.clone();
    fields.retain(|field| is_value(field) && keep(field.tag));
    fields.sort_by_key(|field| field.tag); // stable: of several, the first stays
    fields.dedup_by_key(|field| field.tag);
    fields
}

/// An entry of a classic little-endian directory.
#[derive(Clone)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u32,
    value: Vec<u8>,
}

impl Entry {
    fn pointer(tag: u16, at: u32) -> Entry {
        let value = at.to_le_bytes().to_vec();
        Entry {
            tag,
            kind: 4,
            count: 1,
            value,
        }
    }
}

/// The fields that an EXIF block can hold: without the types that BigTIFF brought.
fn entries(fields: &[Field]) -> Vec<Entry> {
    let entry = |field: &Field| {
        Some(Entry {
            tag: field.tag,
            kind: field.kind,
            count: u32::try_from(field.count).ok()?,
            value: field.value(false)?,
        })
    };
    let classic = fields
        .iter()
        .filter(|field| ![16, 17].contains(&field.kind));
    classic.filter_map(entry).collect()
}

/// A little-endian directory that lies at `at`, with its values behind it.
fn directory_bytes(entries: &[Entry], at: u32) -> Option<Vec<u8>> {
    const INLINE: usize = 4;
    let head = 2 + 12 * entries.len() + 4;
    let mut bytes = Vec::new();
    let mut values = Vec::new();
    bytes.extend(u16::try_from(entries.len()).ok()?.to_le_bytes());
    for entry in entries {
        bytes.extend(entry.tag.to_le_bytes());
        bytes.extend(entry.kind.to_le_bytes());
        bytes.extend(entry.count.to_le_bytes());
        if entry.value.len() <= INLINE {
            let mut value = entry.value.clone();
            value.resize(INLINE, 0);
            bytes.extend(value);
        } else {
            let offset = u32::try_from(head + values.len()).ok()?;
            bytes.extend(at.checked_add(offset)?.to_le_bytes());
            values.extend(&entry.value);
            values.resize(values.len().next_multiple_of(2), 0);
        }
    }
    bytes.extend([0; 4]); // no next directory
    bytes.extend(values);
    Some(bytes)
}

/// The bytes of one value of a TIFF type; `None` of an unknown one.
fn width(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 | 129 => Some(1), // 129: UTF-8, of EXIF 3.0
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}

fn uint(bytes: &[u8], big_endian: bool) -> u64 {
    let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    match big_endian {
        true => bytes.iter().fold(0, push),
        false => bytes.iter().rev().fold(0, push),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A big-endian block with a description (7 bytes), an Exif directory with a LONG8, a
    /// maker's note, and an ISO; its second directory lies beyond the end.
    fn block() -> Vec<u8> {
        let mut block = b"MM\0*\0\0\0\x08\0\x03".to_vec();
        block.extend(b"\x01\x0e\0\x02\0\0\0\x07\0\0\0\x32"); // 50
        block.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"); // orientation: is no description
        block.extend(b"\x87\x69\0\x04\0\0\0\x01\0\0\0\x3a"); // 58
        block.extend(b"\0\0\x40\0A photo\0".iter().take(12));
        block.resize(58, 0);
        block.extend(b"\0\x03\x92\x7c\0\x07\0\0\0\x03xyz\0");
        block.extend(b"\x88\x27\0\x03\0\0\0\x01\0\xc8\0\0");
        block.extend(b"\x90\0\0\x07\0\0\0\x08\0\0\xff\0"); // its value lies beyond the end
        block.extend([0; 4]);
        block
    }

    #[test]
    fn a_block_is_read_and_written_in_the_other_byte_order() {
        let block = block();
        let tiff = Tiff::open(&block).unwrap();
        let first = tiff.directory(tiff.first).unwrap();
        let written = Description::of(&tiff, &first).to_exif().unwrap();

        let tiff = Tiff::open(&written).unwrap();
        assert!(!tiff.big_endian);
        let first = tiff.directory(tiff.first).unwrap();
        let tags: Vec<u16> = first.fields.iter().map(|field| field.tag).collect();
        assert_eq!(tags, [270, EXIF]);
        assert_eq!(first.raw(270), Some(b"A photo".as_slice()));
        let exif = tiff.directory(first.uint(EXIF).unwrap().unwrap()).unwrap();
        let tags: Vec<u16> = exif.fields.iter().map(|field| field.tag).collect();
        assert_eq!(tags, [0x8827, 0x927c]);
        assert_eq!(exif.uint(0x8827), Ok(Some(200)));
        assert_eq!(exif.raw(0x927c), Some(b"xyz".as_slice()));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_read_without_panic() {
        let block = block();
        for at in 0..block.len() {
            let mut changed = block.clone();
            for bytes in [&block[..at], {
                changed[at] = 0xff;
                &changed
            }] {
                if let Ok(tiff) = Tiff::open(bytes)
                    && let Some(first) = tiff.directory(tiff.first)
                {
                    Description::of(&tiff, &first).to_exif();
                }
            }
        }
    }

    #[test]
    fn a_directory_that_ends_early_gives_what_it_has() {
        let block = block();
        let tiff = Tiff::open(&block[..10 + 12 + 5]).unwrap();
        let first = tiff.directory(tiff.first).unwrap();
        assert_eq!((first.fields.len(), first.complete), (1, false));
        assert!(first.uints(270).unwrap_err().starts_with("truncated"));
    }
}
