//! The boxes of a HEIF file (ISO/IEC 14496-12 and 23008-12): which items there are, their bytes, properties and
//! references. Says nothing of codecs.

use std::borrow::Cow;
use std::collections::BTreeMap;

type Name = [u8; 4];

/// A file's items, by their identifiers.
pub(super) struct Container<'a> {
    file: &'a [u8],
    idat: &'a [u8],
    pub(super) primary: u32,
    items: BTreeMap<u32, Item<'a>>,
    places: BTreeMap<u32, Place>,
    properties: Vec<(Name, &'a [u8])>,
    /// Of each item, its properties' places in `properties`, from 1; 0 is none.
    associations: BTreeMap<u32, Vec<usize>>,
    references: Vec<Reference>,
}

struct Item<'a> {
    kind: Name,
    /// Of a `mime` item.
    content_type: &'a [u8],
}

/// Where an item's bytes are: in the file or in `idat`, in pieces of an offset and a length.
struct Place {
    in_idat: bool,
    pieces: Vec<(u64, u64)>,
}

struct Reference {
    kind: Name,
    from: u32,
    to: Vec<u32>,
}

/// A step from the decoded picture to the one that is shown, in the file's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    /// Left, top, width and height of what is kept.
    Crop([u32; 4]),
    /// Quarter turns anticlockwise, 1 to 3.
    Rotate(u8),
    /// Exchanges top and bottom.
    FlipVertically,
    /// Exchanges left and right.
    FlipHorizontally,
}

/// Colour primaries, transfer characteristics and matrix of ITU-T H.273, and whether values fill their range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nclx {
    pub(super) primaries: u16,
    pub(super) transfer: u16,
    pub(super) matrix: u16,
    pub(super) full_range: bool,
}

/// A picture made of equal tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// That all items' bytes are there. EXIF and XMP often come last, so that a file which ends early can have its picture.
///
/// # Errors
/// The file ends early. One whose boxes are not understood is the decoder's to judge.
pub(super) fn check_end(file: &[u8]) -> Result<(), String> {
    let Ok(container) = Container::read(file) else {
        return Ok(());
    };
    let mut items = container.places.keys();
    items.try_for_each(|&item| container.data(item).map(drop))
}

impl<'a> Container<'a> {
    /// Reads the `meta` box of `file`.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, String> {
        let meta = find(file, b"meta").ok_or("has no `meta` box, and so no still picture")?;
        let meta = full_box(meta).ok_or("its `meta` box is cut short")?.1.0;
        let named = |name: &Name| find(meta, name);
        let damaged = |name: &str| format!("its `{name}` box is missing or damaged");
        let properties = named(b"iprp").ok_or_else(|| damaged("iprp"))?;
        let mut container = Self {
            file,
            idat: named(b"idat").unwrap_or_default(),
            primary: named(b"pitm")
                .and_then(primary)
                .ok_or_else(|| damaged("pitm"))?,
            items: named(b"iinf")
                .and_then(items)
                .ok_or_else(|| damaged("iinf"))?,
            places: named(b"iloc")
                .and_then(places)
                .ok_or_else(|| damaged("iloc"))?,
            properties: boxes(find(properties, b"ipco").ok_or_else(|| damaged("ipco"))?).collect(),
            associations: BTreeMap::new(),
            references: match named(b"iref") {
                Some(body) => references(body).ok_or_else(|| damaged("iref"))?,
                None => Vec::new(),
            },
        };
        for (name, body) in boxes(properties) {
            if &name == b"ipma" {
                associations(body, &mut container.associations).ok_or_else(|| damaged("ipma"))?;
            }
        }
        Ok(container)
    }

    pub(super) fn kind(&self, item: u32) -> Option<&Name> {
        self.items.get(&item).map(|item| &item.kind)
    }

    /// The bytes of `item`. Pieces cannot add up to more than the file.
    pub(super) fn data(&self, item: u32) -> Result<Cow<'a, [u8]>, String> {
        let place = self
            .places
            .get(&item)
            .ok_or_else(|| format!("item {item} has no place"))?;
        let source = if place.in_idat { self.idat } else { self.file };
        let piece = |&(offset, length): &(u64, u64)| -> Option<&'a [u8]> {
            let start = usize::try_from(offset).ok()?;
            // Without a length, the piece is all the rest.
            let end = match length {
                0 => source.len(),
                _ => start.checked_add(usize::try_from(length).ok()?)?,
            };
            source.get(start..end)
        };
        let short = || format!("the file ends before the data of item {item}: it is cut short");
        if let [one] = place.pieces.as_slice() {
            return piece(one).map(Cow::Borrowed).ok_or_else(short);
        }
        let mut data = Vec::new();
        for one in &place.pieces {
            data.extend_from_slice(piece(one).ok_or_else(short)?);
            if data.len() > self.file.len() {
                return Err(format!("the pieces of item {item} overlap"));
            }
        }
        Ok(Cow::Owned(data))
    }

    fn properties(&self, item: u32) -> impl Iterator<Item = (&Name, &'a [u8])> {
        let indices = self.associations.get(&item).into_iter().flatten();
        let found = indices.filter_map(|&index| self.properties.get(index.checked_sub(1)?));
        found.map(|(name, body)| (name, *body))
    }

    fn property(&self, item: u32, name: &Name) -> Option<&'a [u8]> {
        self.properties(item)
            .find(|(found, _)| *found == name)
            .map(|(_, body)| body)
    }

    /// Width and height of `item` before its transforms (`ispe`).
    pub(super) fn size(&self, item: u32) -> Option<(u32, u32)> {
        let (_, mut body) = full_box(self.property(item, b"ispe")?)?;
        Some((body.u32()?, body.u32()?)).filter(|&(width, height)| width > 0 && height > 0)
    }

    pub(super) fn nclx(&self, item: u32) -> Option<Nclx> {
        let mut colours = self.properties(item).filter(|(name, _)| *name == b"colr");
        let mut body = Bytes(colours.find_map(|(_, body)| body.strip_prefix(b"nclx"))?);
        Some(Nclx {
            primaries: body.u16()?,
            transfer: body.u16()?,
            matrix: body.u16()?,
            full_range: body.u8()? & 0x80 != 0,
        })
    }

    pub(super) fn icc(&self, item: u32) -> Option<Vec<u8>> {
        let mut colours = self.properties(item).filter(|(name, _)| *name == b"colr");
        let profile = |body: &'a [u8]| {
            body.strip_prefix(b"prof")
                .or_else(|| body.strip_prefix(b"rICC"))
        };
        colours
            .find_map(|(_, body)| profile(body))
            .map(<[u8]>::to_vec)
    }

    /// How to get from the picture of `width` by `height` that `item` holds to what is shown.
    pub(super) fn transforms(
        &self,
        item: u32,
        width: u32,
        height: u32,
    ) -> Result<Vec<Transform>, String> {
        let mut steps = Vec::new();
        let (mut width, mut height) = (width, height);
        for (name, body) in self.properties(item) {
            let first = body.first().copied().unwrap_or(0);
            match name {
                b"clap" => {
                    let crop = clap(body, width, height)
                        .ok_or("its crop (`clap`) is not of whole pixels inside it")?;
                    [_, _, width, height] = crop;
                    steps.push(Transform::Crop(crop));
                }
                b"irot" if first & 3 != 0 => {
                    if first & 1 == 1 {
                        (width, height) = (height, width);
                    }
                    steps.push(Transform::Rotate(first & 3));
                }
                b"imir" if first & 1 == 0 => steps.push(Transform::FlipVertically),
                b"imir" => steps.push(Transform::FlipHorizontally),
                _ => {}
            }
        }
        Ok(steps)
    }

    pub(super) fn grid(&self, item: u32) -> Result<Grid, String> {
        let data = self.data(item)?;
        let mut body = Bytes(&data);
        let mut read = || -> Option<Grid> {
            let [_, flags, rows, columns] = *body.take(4)?.first_chunk()?;
            let (width, height) = match flags & 1 {
                0 => (body.u16()?.into(), body.u16()?.into()),
                _ => (body.u32()?, body.u32()?),
            };
            Some(Grid {
                rows: u32::from(rows) + 1,
                columns: u32::from(columns) + 1,
                width,
                height,
            })
        };
        let grid = read().filter(|grid| grid.width > 0 && grid.height > 0);
        grid.ok_or_else(|| "its grid of tiles is damaged".to_owned())
    }

    /// What `item` refers to with references of one kind.
    pub(super) fn referred(&self, item: u32, kind: &Name) -> impl Iterator<Item = u32> {
        let found = self
            .references
            .iter()
            .filter(move |one| one.from == item && one.kind == *kind);
        found.flat_map(|one| one.to.iter().copied())
    }

    /// What refers to `item` with references of one kind.
    fn referring(&self, item: u32, kind: &'static Name) -> impl Iterator<Item = u32> {
        let found = self
            .references
            .iter()
            .filter(move |one| one.kind == *kind && one.to.contains(&item));
        found.map(|one| one.from)
    }

    /// The item that holds the alpha of `item`.
    pub(super) fn alpha(&self, item: u32) -> Option<u32> {
        const ALPHA: [&[u8]; 2] = [
            b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0",
            b"urn:mpeg:hevc:2015:auxid:1\0",
        ];
        let is_alpha = |&item: &u32| {
            let body = self.property(item, b"auxC").and_then(full_box);
            body.is_some_and(|(_, body)| ALPHA.iter().any(|urn| body.0.starts_with(urn)))
        };
        self.referring(item, b"auxl").find(is_alpha)
    }

    /// The TIFF block of the EXIF data that describes `item`.
    pub(super) fn exif(&self, item: u32) -> Option<Vec<u8>> {
        let found = self
            .referring(item, b"cdsc")
            .find(|&item| self.kind(item) == Some(b"Exif"))?;
        let data = self.data(found).ok()?;
        let (skipped, rest) = data.split_first_chunk()?;
        let tiff = rest.get(usize::try_from(u32::from_be_bytes(*skipped)).ok()?..)?;
        (tiff.starts_with(b"II*\0") || tiff.starts_with(b"MM\0*")).then(|| tiff.to_vec())
    }

    /// The XMP packet that describes `item`.
    pub(super) fn xmp(&self, item: u32) -> Option<Vec<u8>> {
        let is_xmp = |item: &u32| {
            let item = self.items.get(item);
            item.is_some_and(|item| {
                &item.kind == b"mime" && item.content_type == b"application/rdf+xml"
            })
        };
        let found = self.referring(item, b"cdsc").find(is_xmp)?;
        self.data(found).ok().map(Cow::into_owned)
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of `count` bytes, 8 at most.
    fn number(&mut self, count: usize) -> Option<u64> {
        let bytes = self.take(count).filter(|bytes| bytes.len() <= 8)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        )
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    /// An item's identifier, which has become longer with the boxes' versions.
    fn id(&mut self, long: bool) -> Option<u32> {
        if long {
            self.u32()
        } else {
            self.u16().map(u32::from)
        }
    }
}

/// The boxes in `data`, up to one that is damaged.
fn boxes(data: &[u8]) -> impl Iterator<Item = (Name, &[u8])> {
    let mut rest = Bytes(data);
    std::iter::from_fn(move || {
        let whole = rest.0.len() as u64;
        let size = rest.u32()?;
        let name = *rest.take(4)?.first_chunk()?;
        let body = match size {
            0 => whole - 8,
            1 => rest.number(8)?.checked_sub(16)?,
            _ => u64::from(size).checked_sub(8)?,
        };
        Some((name, rest.take(usize::try_from(body).ok()?)?))
    })
}

fn find<'a>(data: &'a [u8], wanted: &Name) -> Option<&'a [u8]> {
    boxes(data)
        .find(|(name, _)| name == wanted)
        .map(|(_, body)| body)
}

/// A full box's version and flags, and what follows them.
fn full_box(body: &[u8]) -> Option<((u8, u32), Bytes<'_>)> {
    let mut body = Bytes(body);
    let word = body.u32()?;
    Some((((word >> 24) as u8, word & 0xff_ffff), body))
}

fn primary(body: &[u8]) -> Option<u32> {
    let ((version, _), mut body) = full_box(body)?;
    body.id(version > 0)
}

fn items(body: &[u8]) -> Option<BTreeMap<u32, Item<'_>>> {
    let ((version, _), mut body) = full_box(body)?;
    body.id(version > 0)?;
    let entries = boxes(body.0).filter(|(name, _)| name == b"infe");
    let item = |body| -> Option<(u32, Item<'_>)> {
        let ((version, _), mut body) = full_box(body)?;
        if version < 2 {
            return None;
        }
        let id = body.id(version > 2)?;
        body.u16()?;
        let kind = *body.take(4)?.first_chunk()?;
        // The item's name, then its content's type, both ended by a zero.
        let content_type = body.0.split(|&byte| byte == 0).nth(1).unwrap_or_default();
        Some((id, Item { kind, content_type }))
    };
    Some(entries.filter_map(|(_, body)| item(body)).collect())
}

fn places(body: &[u8]) -> Option<BTreeMap<u32, Place>> {
    let ((version, _), mut body) = full_box(body)?;
    let sizes = body.u16()?;
    let [offset_size, length_size, base_size, index_size] =
        [12, 8, 4, 0].map(|shift| usize::from(sizes >> shift & 15));
    let index_size = if version == 0 { 0 } else { index_size };
    let count = body.id(version > 1)?;
    let mut places = BTreeMap::new();
    for _ in 0..count {
        let id = body.id(version > 1)?;
        let method = if version == 0 { 0 } else { body.u16()? & 15 };
        let data_reference = body.u16()?;
        let base = body.number(base_size)?;
        let mut pieces = Vec::new();
        for _ in 0..body.u16()? {
            // An entry without any byte could be there as often as its count says.
            if offset_size + length_size + index_size == 0 && !pieces.is_empty() {
                return None;
            }
            body.number(index_size)?;
            let offset = base.checked_add(body.number(offset_size)?)?;
            pieces.push((offset, body.number(length_size)?));
        }
        // Other files, and pieces of other items, are nobody's still pictures.
        if method < 2 && data_reference == 0 {
            places.insert(
                id,
                Place {
                    in_idat: method == 1,
                    pieces,
                },
            );
        }
    }
    Some(places)
}

fn associations(body: &[u8], found: &mut BTreeMap<u32, Vec<usize>>) -> Option<()> {
    let ((version, flags), mut body) = full_box(body)?;
    for _ in 0..body.u32()? {
        let id = body.id(version > 0)?;
        let count = body.u8()?;
        let mut index = || match flags & 1 {
            0 => body.u8().map(|index| usize::from(index & 0x7f)),
            _ => body.u16().map(|index| usize::from(index & 0x7fff)),
        };
        let indices = (0..count).map(|_| index()).collect::<Option<Vec<_>>>()?;
        found.entry(id).or_default().extend(indices);
    }
    Some(())
}

fn references(body: &[u8]) -> Option<Vec<Reference>> {
    let ((version, _), body) = full_box(body)?;
    let one = |(kind, body)| -> Option<Reference> {
        let mut body = Bytes(body);
        let from = body.id(version > 0)?;
        let count = body.u16()?;
        let to = (0..count)
            .map(|_| body.id(version > 0))
            .collect::<Option<Vec<_>>>()?;
        Some(Reference { kind, from, to })
    };
    boxes(body.0).map(one).collect()
}

/// Left, top, width and height of a clean aperture in a picture of `width` by `height`, if they are whole and inside.
fn clap(body: &[u8], width: u32, height: u32) -> Option<[u32; 4]> {
    let mut body = Bytes(body);
    let mut fractions = [(0i128, 0i128); 4];
    for (index, fraction) in fractions.iter_mut().enumerate() {
        let numerator = body.u32()?;
        // Offsets from the middle have a sign.
        let numerator = if index < 2 {
            i128::from(numerator)
        } else {
            i128::from(numerator as i32)
        };
        *fraction = (numerator, i128::from(body.u32()?));
    }
    let [across, down, right, below] = fractions;
    let (left, width) = kept(width, across, right)?;
    let (top, height) = kept(height, down, below)?;
    Some([left, top, width, height])
}

/// The first pixel and the number of those kept along one side, of fractions for their number and for how far the
/// middle of them is from the side's.
fn kept(side: u32, extent: (i128, i128), offset: (i128, i128)) -> Option<(u32, u32)> {
    let whole = |numerator: i128, denominator: i128| {
        let fits = denominator != 0 && numerator % denominator == 0;
        fits.then(|| u32::try_from(numerator / denominator).ok())
            .flatten()
    };
    let length = whole(extent.0, extent.1).filter(|&length| length > 0)?;
    let spare = i128::from(side.checked_sub(length)?);
    let first = whole(spare * offset.1 + 2 * offset.0, 2 * offset.1)?;
    (first.checked_add(length)? <= side).then_some((first, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_whole_pixels_inside() {
        assert_eq!(kept(300, (200, 1), (0, 1)), Some((50, 200)));
        assert_eq!(kept(300, (400, 2), (-10, 1)), Some((40, 200)));
        assert_eq!(kept(301, (200, 1), (1, 2)), Some((51, 200)));
        assert_eq!(kept(301, (200, 1), (0, 1)), None);
        assert_eq!(kept(300, (200, 1), (51, 1)), None);
        assert_eq!(kept(300, (200, 1), (-51, 1)), None);
        assert_eq!(kept(300, (301, 1), (0, 1)), None);
        assert_eq!(kept(300, (0, 1), (0, 1)), None);
        assert_eq!(kept(300, (3, 0), (0, 1)), None);
        assert_eq!(kept(300, (200, 1), (0, 0)), None);
        assert_eq!(kept(u32::MAX, (1, 1), (i128::from(i32::MIN), 1)), None);
    }

    #[test]
    fn boxes_end_where_they_say_or_with_the_file() {
        let data = b"\0\0\0\x0aabcd12\0\0\0\x01long\0\0\0\0\0\0\0\x11x\0\0\0\0rest56";
        let found: Vec<_> = boxes(data).collect();
        assert_eq!(
            found,
            [
                (*b"abcd", b"12".as_slice()),
                (*b"long", b"x"),
                (*b"rest", b"56")
            ]
        );
        assert_eq!(boxes(b"\0\0\0\x07abcd").count(), 0);
        assert_eq!(boxes(b"\0\0\0\x0cabcd123").count(), 0);
        assert_eq!(
            boxes(b"\0\0\0\x01abcd\xff\xff\xff\xff\xff\xff\xff\xff").count(),
            0
        );
    }

    #[test]
    fn counts_take_no_memory_that_the_file_does_not_have() {
        // No sizes at all, and as many pieces as can be said.
        let empty = b"\x01\0\0\0\0\0\0\x01\0\x01\0\0\0\0\xff\xff";
        assert!(places(empty).is_none());
        assert!(places(b"\0\0\0\0\x44\0\xff\xff").is_none());
        assert!(associations(b"\0\0\0\0\xff\xff\xff\xff", &mut BTreeMap::new()).is_none());
    }
}
