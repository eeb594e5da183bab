//! XMP packets, changed by small edits of their text.
//!
//! The packet may use any prefixes, write a property as an attribute or as an element, and be in any encoding that has ASCII
//! in it. Only properties of the picture itself are changed: copies within others, such as a history, are not.

use std::ops::Range;

use super::{ColourSpace, Upright};

/// What a packet begins with in a JPEG.
pub(super) const PREFIX: &[u8; 29] = b"http://ns.adobe.com/xap/1.0/\0";

/// Namespaces, with the prefixes that they have where a packet does not declare them.
const NAMESPACES: [(&str, &str); 9] = [
    ("rdf", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"),
    ("tiff", "http://ns.adobe.com/tiff/1.0/"),
    ("exif", "http://ns.adobe.com/exif/1.0/"),
    ("xmp", "http://ns.adobe.com/xap/1.0/"),
    ("xmpNote", "http://ns.adobe.com/xmp/note/"),
    ("hdrgm", "http://ns.adobe.com/hdr-gain-map/1.0/"),
    ("HDRGainMap", "http://ns.apple.com/HDRGainMap/1.0/"),
    ("Container", "http://ns.google.com/photos/1.0/container/"),
    ("GCamera", "http://ns.google.com/photos/1.0/camera/"),
];

/// What becomes of a property.
enum Edit {
    Set(String),
    Remove,
}

/// `packet` true for an upright picture, without thumbnails and without what refers to a gain map or a video behind the
/// picture. `None` if it cannot be understood.
pub(super) fn upright(packet: &[u8], to: &Upright) -> Option<Vec<u8>> {
    edit(packet, |prefix, name| {
        let set = |value: u32| Some(Edit::Set(value.to_string()));
        match (prefix, name) {
            ("tiff", "Orientation") => set(1),
            ("tiff", "ImageWidth") | ("exif", "PixelXDimension") => set(to.width),
            ("tiff", "ImageLength") | ("exif", "PixelYDimension") => set(to.height),
            ("tiff", "Software") => Some(Edit::Set(escaped(to.software))),
            ("exif", "ColorSpace") => match to.colour {
                ColourSpace::Srgb => set(1),
                ColourSpace::Uncalibrated => set(0xffff),
                ColourSpace::Keep => None,
            },
            ("xmp", "Thumbnails") | ("hdrgm" | "HDRGainMap" | "Container", _) => Some(Edit::Remove),
            ("GCamera", name)
                if ["MotionPhoto", "MicroVideo"]
                    .iter()
                    .any(|one| name.starts_with(one)) =>
            {
                Some(Edit::Remove)
            }
            _ => None,
        }
    })
}

/// `packet` that does not refer to an extended one.
pub(super) fn without_extension(packet: &[u8]) -> Option<Vec<u8>> {
    edit(packet, |prefix, name| {
        (prefix == "xmpNote" && name == "HasExtendedXMP").then_some(Edit::Remove)
    })
}

/// The name of the extended packet that `packet` refers to.
pub(super) fn extension(packet: &[u8]) -> Option<[u8; 32]> {
    let at = find(packet, b"HasExtendedXMP")?;
    let rest = packet.get(at + b"HasExtendedXMP".len()..)?;
    // Behind `="` of an attribute, or `>` of an element.
    let start = rest.iter().take(64).position(u8::is_ascii_alphanumeric)?;
    let name: [u8; 32] = *rest.get(start..)?.first_chunk()?;
    name.iter().all(u8::is_ascii_alphanumeric).then_some(name)
}

/// `packet` with the properties of `extended`. `None` if they cannot be joined by their text.
pub(super) fn merge(packet: &[u8], extended: &[u8]) -> Option<Vec<u8>> {
    let packet = without_extension(packet)?;
    let (into, outer) = rdf(&packet)?;
    let (from, declared) = rdf(extended)?;
    if !declared.iter().all(|one| outer.contains(one)) {
        return None;
    }
    Some([&packet[..into.end], &extended[from], &packet[into.end..]].concat())
}

/// `packet` without the blanks that programs leave at its end, to grow into.
pub(super) fn without_padding(packet: &[u8]) -> Vec<u8> {
    let end = b"<?xpacket end=";
    let at = packet.windows(end.len()).rposition(|window| window == end);
    let (text, end) = packet.split_at(at.unwrap_or(packet.len()));
    [text.trim_ascii_end(), end].concat()
}

/// A namespace's prefix and address, as written.
type Declaration<'a> = (&'a [u8], &'a [u8]);

/// What is within the element `rdf:RDF`, and the namespaces that it and those around it declare, but for its own and Adobe's
/// `x`, which nothing within it uses.
fn rdf(packet: &[u8]) -> Option<(Range<usize>, Vec<Declaration<'_>>)> {
    let mut declared = Vec::new();
    let mut start = None;
    for tag in Tags::of(packet) {
        let tag = tag?;
        let is_rdf = tag.name.ends_with(b":RDF");
        match (start, tag.kind) {
            (Some(start), Kind::Close) if is_rdf => {
                return Some((start..tag.range.start, declared));
            }
            (None, Kind::Open) => {
                let all = attributes(packet, &tag)?;
                let attributes = all.into_iter().map(|one| (one.name, &packet[one.value]));
                declared.extend(attributes.filter(|(name, _)| {
                    name.starts_with(b"xmlns:") && !matches!(*name, b"xmlns:x" | b"xmlns:rdf")
                }));
                if is_rdf {
                    start = Some(tag.range.end);
                }
            }
            _ => {}
        }
    }
    None
}

/// `packet` with the properties changed for which `change` of prefix (as in `NAMESPACES`) and name says so.
fn edit(packet: &[u8], change: impl Fn(&str, &str) -> Option<Edit>) -> Option<Vec<u8>> {
    let prefixes = prefixes(packet)?;
    let edit_of = |name: &[u8]| {
        let (prefix, name) = split(&prefixes, name)?;
        change(prefix, std::str::from_utf8(name).ok()?)
    };
    let mut out = Vec::with_capacity(packet.len());
    let mut copied = 0; // how much of the packet is in `out`, or left out of it
    let mut depth: usize = 0;
    let mut rdf = None; // the depth of what is within `rdf:RDF`
    let mut inside: Option<(usize, bool)> = None; // an element left out: its depth, and whether its end is
    for tag in Tags::of(packet) {
        let tag = tag?;
        if tag.kind == Kind::Close {
            depth = depth.checked_sub(1)?;
            if let Some((_, whole)) = inside.filter(|&(at, _)| at == depth) {
                copied = if whole {
                    tag.range.end
                } else {
                    tag.range.start
                };
                inside = None;
            }
            continue;
        }
        let at = depth;
        depth += usize::from(tag.kind == Kind::Open);
        if inside.is_some() {
            continue;
        }
        if split(&prefixes, tag.name) == Some(("rdf", b"RDF")) {
            rdf = Some(at + 1);
        } else if rdf == Some(at) {
            // A description, whose attributes are properties.
            for attribute in attributes(packet, &tag)? {
                let (until, value) = match edit_of(attribute.name) {
                    None => continue,
                    Some(Edit::Remove) => (attribute.range.start, String::new()),
                    Some(Edit::Set(value)) => (attribute.value.start, value),
                };
                let removed = until == attribute.range.start;
                out.extend(&packet[copied..until]);
                out.extend(value.bytes());
                copied = if removed {
                    attribute.range.end
                } else {
                    attribute.value.end
                };
            }
        } else if rdf.is_some_and(|rdf| at == rdf + 1) {
            match (edit_of(tag.name), tag.kind) {
                (Some(Edit::Remove), kind) => {
                    out.extend(&packet[copied..tag.range.start]);
                    copied = tag.range.end;
                    inside = (kind == Kind::Open).then_some((at, true));
                }
                (Some(Edit::Set(value)), Kind::Open) => {
                    out.extend(&packet[copied..tag.range.end]);
                    out.extend(value.bytes());
                    copied = tag.range.end;
                    inside = Some((at, false));
                }
                _ => {}
            }
        }
    }
    if depth != 0 || rdf.is_none() {
        return None;
    }
    out.extend(&packet[copied..]);
    Some(out)
}

/// The prefixes that `packet` declares for `NAMESPACES`, and those.
fn prefixes(packet: &[u8]) -> Option<Vec<(&[u8], &'static str)>> {
    let mut prefixes = Vec::new();
    for tag in Tags::of(packet) {
        let tag = tag?;
        if tag.kind == Kind::Close || find(&packet[tag.range.clone()], b"xmlns:").is_none() {
            continue;
        }
        for attribute in attributes(packet, &tag)? {
            let Some(prefix) = attribute.name.strip_prefix(b"xmlns:") else {
                continue;
            };
            let address = &packet[attribute.value];
            let known = NAMESPACES.iter().find(|(_, one)| one.as_bytes() == address);
            if let Some(&(usual, _)) = known
                && !prefixes.contains(&(prefix, usual))
                && prefixes.len() < 100
            {
                prefixes.push((prefix, usual));
            }
        }
    }
    prefixes.extend(NAMESPACES.map(|(usual, _)| (usual.as_bytes(), usual)));
    Some(prefixes)
}

/// The usual prefix and the name without prefix of `name`.
fn split<'a>(
    prefixes: &[(&[u8], &'static str)],
    name: &'a [u8],
) -> Option<(&'static str, &'a [u8])> {
    let colon = name.iter().position(|&byte| byte == b':')?;
    let found = prefixes
        .iter()
        .find(|(prefix, _)| *prefix == &name[..colon])?;
    Some((found.1, &name[colon + 1..]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    /// `<name/>`
    Empty,
}

struct Tag<'a> {
    kind: Kind,
    /// From `<` to behind `>`.
    range: Range<usize>,
    name: &'a [u8],
}

/// The tags of an XML text; `None` where it cannot be understood, the last then.
struct Tags<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tags<'a> {
    fn of(text: &'a [u8]) -> Self {
        Tags { text, at: 0 }
    }

    /// From `start` to behind its end.
    fn tag(&self, start: usize) -> Option<Tag<'a>> {
        let mut quote = None;
        let length = self.text[start..].iter().position(|&byte| {
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                _ => {}
            }
            quote.is_none() && byte == b'>'
        })?;
        let range = start..start + length + 1;
        let text = &self.text[start + 1..start + length];
        let (kind, text) = match text {
            [b'/', text @ ..] => (Kind::Close, text),
            [text @ .., b'/'] => (Kind::Empty, text),
            text => (Kind::Open, text),
        };
        let end = text
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(text.len());
        let name = &text[..end];
        (!name.is_empty()).then_some(Tag { kind, range, name })
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Option<Tag<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.text.get(self.at..)?;
            let start = self.at + rest.iter().position(|&byte| byte == b'<')?;
            let rest = &self.text[start..];
            let skipped: [(&[u8], &[u8]); 3] =
                [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
            let end = match skipped.iter().find(|(open, _)| rest.starts_with(open)) {
                Some((open, close)) => {
                    find(&rest[open.len()..], close).map(|at| start + open.len() + at + close.len())
                }
                None => {
                    let tag = self.tag(start);
                    self.at = tag.as_ref().map_or(self.text.len(), |tag| tag.range.end);
                    return Some(tag);
                }
            };
            self.at = end.unwrap_or(self.text.len());
            if end.is_none() {
                return Some(None);
            }
        }
    }
}

struct Attribute<'a> {
    /// With the blanks before it.
    range: Range<usize>,
    name: &'a [u8],
    /// Between the quotes.
    value: Range<usize>,
}

/// The attributes of a tag of `text`, if all can be understood.
fn attributes<'a>(text: &'a [u8], tag: &Tag) -> Option<Vec<Attribute<'a>>> {
    let blanks = |from: usize| {
        let blank = text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace());
        from + blank.count()
    };
    let mut found = Vec::new();
    let mut at = tag.range.start + 1 + tag.name.len();
    let end = tag.range.end - 1 - usize::from(tag.kind == Kind::Empty);
    loop {
        let start = blanks(at);
        if start >= end {
            return Some(found);
        }
        let length = text[start..end]
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || *byte == b'=')?;
        let name = &text[start..start + length];
        let equals = blanks(start + length);
        let open = blanks(equals + 1);
        let quote = *text
            .get(open)
            .filter(|quote| matches!(quote, b'"' | b'\''))?;
        if text[equals] != b'=' || open >= end {
            return None;
        }
        let length = text[open + 1..end].iter().position(|&byte| byte == quote)?;
        let close = open + 1 + length;
        found.push(Attribute {
            range: at..close + 1,
            name,
            value: open + 1..close,
        });
        at = close + 1;
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('"', "&quot;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Upright = Upright {
        width: 640,
        height: 480,
        colour: ColourSpace::Uncalibrated,
        software: "a & \"b\"",
    };

    /// A packet of a description with these attributes and elements.
    fn packet(attributes: &str, elements: &str) -> String {
        format!(
            "<?xpacket begin='' id=''?><!-- <a> --><x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='a>b'>\
             <rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>\
             <rdf:Description rdf:about=''{attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>   <?xpacket end='w'?>"
        )
    }

    fn check(before: (&str, &str), after: (&str, &str)) {
        let changed = upright(packet(before.0, before.1).as_bytes(), &TO).unwrap();
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(changed, packet(after.0, after.1));
    }

    #[test]
    fn attributes_and_elements_become_true() {
        check(
            (
                r#" tiff:Orientation="6" tiff:ImageWidth = '1' dc:title="6""#,
                "<exif:PixelYDimension>1</exif:PixelYDimension><exif:ColorSpace>1</exif:ColorSpace>\
                 <tiff:Software>c</tiff:Software><tiff:Make>M</tiff:Make>",
            ),
            (
                r#" tiff:Orientation="1" tiff:ImageWidth = '640' dc:title="6""#,
                "<exif:PixelYDimension>480</exif:PixelYDimension><exif:ColorSpace>65535</exif:ColorSpace>\
                 <tiff:Software>a &amp; &quot;b&quot;</tiff:Software><tiff:Make>M</tiff:Make>",
            ),
        );
    }

    #[test]
    fn thumbnails_gain_maps_and_videos_go() {
        check(
            (
                " hdrgm:Version='1.0'\n GCamera:MicroVideoOffset=\"7\" xmp:Rating='3' GCamera:MotionPhoto='1'",
                "<xmp:Thumbnails><rdf:Alt><rdf:li><xmp:Thumbnails/>a</rdf:li></rdf:Alt></xmp:Thumbnails>\
                 <Container:Directory/><dc:title>t</dc:title><hdrgm:Gamma>2</hdrgm:Gamma>",
            ),
            (" xmp:Rating='3'", "<dc:title>t</dc:title>"),
        );
    }

    #[test]
    fn prefixes_are_the_packets_own_and_copies_stay() {
        let other = " xmlns:T='http://ns.adobe.com/tiff/1.0/' T:Orientation='6'";
        let copy = "<M:Pantry><rdf:li tiff:Orientation='6'><tiff:Orientation>6</tiff:Orientation></rdf:li></M:Pantry>";
        let changed = other.replace('6', "1");
        check((other, copy), (&changed, copy));
    }

    #[test]
    fn damaged_packets_are_not_understood() {
        let whole = packet(" tiff:Orientation='6'", "<a:b>c</a:b>");
        let end = whole.find("</x:xmpmeta>").unwrap();
        for cut in 0..end {
            assert!(upright(&whole.as_bytes()[..cut], &TO).is_none(), "{cut}");
        }
        assert!(upright(packet(" a=b", "").as_bytes(), &TO).is_none());
        assert!(upright(b"", &TO).is_none());
        let wide: Vec<u8> = whole.bytes().flat_map(|byte| [byte, 0]).collect();
        assert!(upright(&wide, &TO).is_none());
    }

    #[test]
    fn two_packets_become_one() {
        let name = "0123456789ABCDEF0123456789ABCDEF";
        for first in [
            packet(
                &format!(" xmpNote:HasExtendedXMP=\"{name}\""),
                "<a:b>c</a:b>",
            ),
            packet(
                "",
                &format!("<a:b>c</a:b><xmpNote:HasExtendedXMP>{name}</xmpNote:HasExtendedXMP>"),
            ),
        ] {
            assert_eq!(extension(first.as_bytes()).unwrap(), name.as_bytes());
            let second = packet(" xmlns:d='e'", "<d:f>g</d:f>");
            let one =
                String::from_utf8(merge(first.as_bytes(), second.as_bytes()).unwrap()).unwrap();
            let both = "<rdf:Description rdf:about=''><a:b>c</a:b></rdf:Description>\
                        <rdf:Description rdf:about='' xmlns:d='e'><d:f>g</d:f></rdf:Description></rdf:RDF>";
            assert!(one.contains(both), "{one}");
            assert!(!one.contains("HasExtended"));
            // A namespace that the first does not declare around it.
            let second = second.replace("<x:xmpmeta", "<x:xmpmeta xmlns:y='z'");
            assert!(merge(first.as_bytes(), second.as_bytes()).is_none());
        }
    }
}
