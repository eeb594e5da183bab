//! The metadata that a photograph carries, from one file to another.
//!
//! EXIF, XMP, IPTC, Photoshop's resources, comments, texts and resolution are read from JPEG, PNG and WebP, made true for the
//! restored picture, and written into a file of any of these formats (TIFF: [`Metadata::for_tiff`]). What a format has no
//! place for goes to the nearest place that it has, or is reported.
//!
//! Reading leaves out what is damaged and says so in [`Metadata::warnings`]. Not read are ICC profiles, which belong to the
//! pixels, further pictures and their index (MPF), gain maps, and the APP segments of single makers.

mod exif;
mod jpeg;
mod photoshop;
mod png;
mod webp;
mod xmp;

use exif::{Exif, tag};

/// What a file says about its picture.
///
/// The default is nothing at all: it strips a file. (Who strips all but the resolution keeps [`resolution`](Self::resolution).)
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata {
    /// A TIFF structure, `II*\0…` or `MM\0*…`, without `Exif\0\0`.
    pub exif: Option<Vec<u8>>,
    /// An XMP packet.
    pub xmp: Option<Vec<u8>>,
    /// The second packet that a JPEG's can refer to. Other formats join them.
    pub extended_xmp: Option<ExtendedXmp>,
    /// IPTC IIM records.
    pub iptc: Option<Vec<u8>>,
    /// Photoshop's image resources, one behind the other; IPTC among them is taken where `iptc` is none.
    pub photoshop: Option<Vec<u8>>,
    /// A JPEG's comments, in the encoding that they have.
    pub comments: Vec<Vec<u8>>,
    /// A PNG's texts, but for those that hold EXIF, XMP or IPTC.
    pub texts: Vec<Text>,
    /// The container's own: of JFIF, of a PNG's `pHYs`, of a TIFF or a BMP. EXIF may have another.
    pub resolution: Option<Resolution>,
    /// What had to be left out in reading, and why.
    pub warnings: Vec<String>,
    /// The program that made the picture upright.
    pub software: Option<String>,
}

/// A packet too large for a JPEG's segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExtendedXmp {
    /// Its name in the first packet: an MD5 sum, as hexadecimal digits.
    name: [u8; 32],
    packet: Vec<u8>,
}

/// A text with its keyword.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Text {
    pub keyword: String,
    pub text: String,
    /// Such as `en-GB`, empty if not known.
    pub language: String,
    /// The keyword in that language, or empty.
    pub translated: String,
}

/// Pixels a unit, or without a unit the ratio of the two alone (a pixel's height to its width).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Resolution {
    pub x: f64,
    pub y: f64,
    pub unit: Unit,
}

/// The length that a resolution is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Inch,
    Centimetre,
    None,
}

impl Resolution {
    /// `None` if it says nothing: values that are not positive, or equal ones without a unit.
    pub(crate) fn new(x: f64, y: f64, unit: Unit) -> Option<Self> {
        let possible = |value: f64| value > 0.0 && value <= f64::from(u32::MAX);
        let says = possible(x) && possible(y) && (unit != Unit::None || x != y);
        says.then_some(Resolution { x, y, unit })
    }

    /// In another unit; a mere ratio has none.
    fn per(self, unit: Unit) -> Self {
        let factor = match (self.unit, unit) {
            (Unit::Inch, Unit::Centimetre) => 1.0 / 2.54,
            (Unit::Centimetre, Unit::Inch) => 2.54,
            (Unit::None, _) => return self,
            _ => 1.0,
        };
        Resolution {
            x: self.x * factor,
            y: self.y * factor,
            unit,
        }
    }

    /// In whole pixels a metre, if there is a unit.
    pub(crate) fn per_metre(self) -> Option<[u32; 2]> {
        let metre = |value: f64| (100.0 * value).round() as u32;
        let Resolution { x, y, unit } = self.per(Unit::Centimetre);
        (unit == Unit::Centimetre).then(|| [metre(x), metre(y)])
    }

    /// Whether both say the same to a thousandth.
    fn is_nearly(self, other: Resolution) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * b.abs();
        let same = other.per(self.unit);
        same.unit == self.unit && near(self.x, same.x) && near(self.y, same.y)
    }
}

/// What becomes of statements about the colour space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColourSpace {
    /// They say sRGB.
    Srgb,
    /// They say that it is another one.
    Uncalibrated,
    /// They stay as they are.
    Keep,
}

/// What is made true.
struct Upright<'a> {
    width: u32,
    height: u32,
    colour: ColourSpace,
    software: &'a str,
}

/// Most bytes of an XMP packet. Cameras and editors write some kB, with embedded pictures a few MB.
const MOST_XMP: usize = 16 << 20;

/// The texts that EXIF has a place for.
const IN_EXIF: [(&str, u16); 4] = [
    ("Description", tag::IMAGE_DESCRIPTION),
    ("Title", tag::IMAGE_DESCRIPTION),
    ("Author", tag::ARTIST),
    ("Copyright", tag::COPYRIGHT),
];

/// Most bytes of a text that goes into EXIF.
const MOST_TEXT_IN_EXIF: usize = 16 << 10;

impl Metadata {
    /// Of a JPEG file.
    pub(crate) fn of_jpeg(bytes: &[u8]) -> Self {
        jpeg::read(bytes)
    }

    /// Of a PNG file, animated or not.
    pub(crate) fn of_png(bytes: &[u8]) -> Self {
        png::read(bytes)
    }

    /// Of a WebP file, animated or not.
    pub(crate) fn of_webp(bytes: &[u8]) -> Self {
        webp::read(bytes)
    }

    /// How the stored pixels are turned, 1 to 8 as in EXIF; 1, upright, where EXIF does not say.
    pub(crate) fn orientation(&self) -> u16 {
        let exif = self.exif.as_deref().and_then(Exif::new);
        exif.and_then(|exif| exif.orientation()).unwrap_or(1)
    }

    /// The resolution to state where there is one place for it: the container's own, or else EXIF's.
    pub(crate) fn stated_resolution(&self) -> Option<Resolution> {
        let of_exif = || Exif::new(self.exif.as_deref()?)?.resolution();
        self.resolution.or_else(of_exif)
    }

    /// Makes it true for a picture that is upright, `width` × `height` pixels, of the colour space `colour`, and restored by
    /// `software`.
    ///
    /// Orientation, sizes and colour spaces are changed where they are stated. Thumbnails go, and what refers to a gain map
    /// or a video behind the picture. What cannot be understood is left out, with a warning. The resolution stays: its sides
    /// are the caller's to swap.
    pub(crate) fn upright(&mut self, width: u32, height: u32, colour: ColourSpace, software: &str) {
        let to = Upright {
            width,
            height,
            colour,
            software,
        };
        self.software = Some(software.to_owned());
        self.upright_photoshop();
        self.upright_exif(&to);
        self.upright_xmp(&to);
        for text in &mut self.texts {
            // ImageMagick copies EXIF entries.
            let value = match text.keyword.as_str() {
                "exif:Orientation" => "1".into(),
                "exif:PixelXDimension" | "exif:ExifImageWidth" => width.to_string(),
                "exif:PixelYDimension" | "exif:ExifImageLength" => height.to_string(),
                "Software" => software.to_owned(),
                _ => continue,
            };
            text.text = value;
        }
    }

    fn upright_exif(&mut self, to: &Upright) {
        let Some(block) = self.exif.take() else {
            return;
        };
        let Some(mut exif) = Exif::new(&block) else {
            return self
                .warn("EXIF whose header or first directory is damaged, or of more than 64 MiB");
        };
        exif.upright(to);
        self.exif = Some(exif.into_bytes());
    }

    fn upright_xmp(&mut self, to: &Upright) {
        if let Some(packet) = self.xmp.take() {
            self.xmp = upright_packet(&packet, to);
            if self.xmp.is_none() {
                self.warn("XMP that is damaged, or of more than 16 MiB");
            }
        }
        if let Some(extended) = self.extended_xmp.take() {
            let ExtendedXmp { name, packet } = extended;
            let named = self.xmp.as_deref().and_then(xmp::extension) == Some(name);
            let packet = upright_packet(&packet, to).filter(|_| named);
            self.extended_xmp = packet.map(|packet| ExtendedXmp { name, packet });
            if self.extended_xmp.is_none() {
                self.warn("extended XMP that is damaged, or of more than 16 MiB");
            }
        }
        if self.extended_xmp.is_none()
            && let Some(packet) = &self.xmp
        {
            self.xmp = xmp::without_extension(packet);
        }
    }

    /// Takes out thumbnails and what has its place elsewhere.
    fn upright_photoshop(&mut self) {
        const ICC_PROFILE: u16 = 1039;
        let Some(bytes) = self.photoshop.take() else {
            return;
        };
        let (resources, whole) = photoshop::resources(&bytes);
        if !whole {
            self.warn("Photoshop resources that are damaged");
        }
        let mut kept = Vec::new();
        for resource in resources {
            let place = match resource.id {
                Some(photoshop::IPTC) => Some(&mut self.iptc),
                Some(1058 | 1059) => Some(&mut self.exif),
                Some(1060) => Some(&mut self.xmp),
                Some(1033 | 1036 | ICC_PROFILE) => None,
                _ => {
                    kept.extend(resource.whole);
                    // The last may lack its padding.
                    kept.resize(kept.len().next_multiple_of(2), 0);
                    continue;
                }
            };
            if let Some(place @ None) = place {
                *place = Some(resource.data.to_vec());
            }
        }
        self.photoshop = Some(kept).filter(|kept| !kept.is_empty());
    }

    /// Writes it into the JPEG file `encoded`, behind its JFIF segment. Also says what a JPEG cannot hold.
    ///
    /// # Errors
    ///
    /// `encoded` is not a JPEG file.
    pub(crate) fn add_to_jpeg(&self, encoded: Vec<u8>) -> Result<(Vec<u8>, Vec<String>), String> {
        jpeg::write(self.clone(), encoded)
    }

    /// Writes it into the PNG file `encoded`, animated or not. Also says what a PNG cannot hold.
    ///
    /// # Errors
    ///
    /// `encoded` is not a PNG file.
    pub(crate) fn add_to_png(&self, encoded: Vec<u8>) -> Result<(Vec<u8>, Vec<String>), String> {
        png::write(self.clone(), encoded)
    }

    /// Writes it into the WebP file `encoded`, animated or not, with a `VP8X` chunk or without. Also says what a WebP cannot
    /// hold.
    ///
    /// # Errors
    ///
    /// `encoded` is not a WebP file, or would become larger than 4 GiB.
    pub(crate) fn add_to_webp(&self, encoded: Vec<u8>) -> Result<(Vec<u8>, Vec<String>), String> {
        webp::write(self.clone(), encoded)
    }

    /// As a TIFF holds it: EXIF with all that can be put into its entries, one XMP packet, IPTC, Photoshop's resources and
    /// resolution. Also says what a TIFF cannot hold.
    pub(crate) fn for_tiff(&self) -> (Self, Vec<String>) {
        let mut own = self.clone();
        let mut lost = Vec::new();
        own.join_xmp(&mut lost);
        own.texts_to_exif();
        own.comment_to_exif();
        own.lose_texts(&mut lost);
        (own, lost)
    }

    /// What there is besides a resolution, in words.
    pub(crate) fn beside_resolution(&self) -> Vec<String> {
        let parts = [
            (self.exif.is_some(), "EXIF"),
            (self.xmp.is_some(), "XMP"),
            (self.iptc.is_some(), "IPTC"),
            (self.photoshop.is_some(), "Photoshop resources"),
            (!self.comments.is_empty(), "comments"),
            (!self.texts.is_empty(), "texts"),
        ];
        let there = parts.into_iter().filter(|(there, _)| *there);
        there.map(|(_, name)| name.to_string()).collect()
    }

    /// One packet of two.
    fn join_xmp(&mut self, lost: &mut Vec<String>) {
        let Some(extended) = self.extended_xmp.take() else {
            return;
        };
        let Some(packet) = &self.xmp else {
            return;
        };
        let joined = xmp::merge(packet, &extended.packet);
        if joined.is_none() {
            lost.push("the second part of the XMP".into());
        }
        self.xmp = joined.or_else(|| xmp::without_extension(packet));
    }

    /// Moves the texts that EXIF has a place for into entries that are missing.
    fn texts_to_exif(&mut self) {
        let mut places: Vec<(u16, usize)> = Vec::new(); // entries, and which text goes there
        let exif = self.exif.as_deref().and_then(Exif::new);
        for (keyword, tag) in IN_EXIF {
            let suits = |text: &Text| {
                text.keyword.eq_ignore_ascii_case(keyword) && text.text.len() <= MOST_TEXT_IN_EXIF
            };
            let taken = exif.as_ref().is_some_and(|exif| exif.has_text(tag));
            if let Some(index) = self.texts.iter().position(suits)
                && !taken
                && !places.iter().any(|&(other, _)| other == tag)
            {
                places.push((tag, index));
            }
        }
        let fields = places.iter();
        let fields = fields.map(|&(tag, index)| (tag, self.texts[index].text.as_str()));
        if let Some(exif) = self.with_texts(&fields.collect::<Vec<_>>()) {
            self.exif = Some(exif);
            places.sort_by_key(|&(_, index)| index);
            for (_, index) in places.into_iter().rev() {
                self.texts.remove(index);
            }
        }
    }

    /// Moves the first comment into the description, as other programs do, if there is none.
    fn comment_to_exif(&mut self) {
        let exif = self.exif.as_deref().and_then(Exif::new);
        if exif.is_some_and(|exif| exif.has_text(tag::IMAGE_DESCRIPTION)) {
            return;
        }
        let keyword = |text: &Text| text.keyword.eq_ignore_ascii_case("Comment");
        let found = self.texts.iter().position(keyword);
        let comment = match (self.comments.first(), found) {
            (Some(comment), _) => text_of(comment),
            (None, Some(index)) => self.texts[index].text.clone(),
            (None, None) => return,
        };
        if comment.len() > MOST_TEXT_IN_EXIF {
            return;
        }
        if let Some(exif) = self.with_texts(&[(tag::IMAGE_DESCRIPTION, &comment)]) {
            self.exif = Some(exif);
            match (self.comments.is_empty(), found) {
                (false, _) => drop(self.comments.remove(0)),
                (true, Some(index)) => drop(self.texts.remove(index)),
                (true, None) => {}
            }
        }
    }

    /// EXIF with the texts `fields`, made if there is none. `None` if there are no texts, or no room.
    fn with_texts(&self, fields: &[(u16, &str)]) -> Option<Vec<u8>> {
        if fields.iter().all(|(_, text)| text.is_empty()) {
            return None;
        }
        let mut exif = self.exif_or_new()?;
        exif.set_texts(fields).then(|| exif.into_bytes())
    }

    /// Puts the resolution into EXIF, where it is the only place.
    fn resolution_to_exif(&mut self, lost: &mut Vec<String>) {
        let Some(resolution) = self.resolution else {
            return;
        };
        let Some(mut exif) = self.exif_or_new() else {
            return lost.push("the resolution".into());
        };
        let same = exif
            .resolution()
            .is_some_and(|one| one.is_nearly(resolution));
        if !same && !exif.set_resolution(resolution) {
            lost.push("the resolution".into());
        }
        self.exif = Some(exif.into_bytes());
    }

    fn exif_or_new(&self) -> Option<Exif> {
        match &self.exif {
            Some(block) => Exif::new(block),
            None => {
                let mut exif = Exif::empty();
                if let Some(software) = &self.software {
                    exif.set_texts(&[(tag::SOFTWARE, software)]);
                }
                Some(exif)
            }
        }
    }

    /// Takes out comments and texts, for a format without places for them.
    fn lose_texts(&mut self, lost: &mut Vec<String>) {
        if !self.comments.is_empty() {
            lost.push("comments".into());
            self.comments.clear();
        }
        for text in self.texts.drain(..) {
            // The software is EXIF's, or says what made a picture without EXIF.
            if text.keyword != "Software" {
                lost.push(named(&text));
            }
        }
    }

    /// Whether there is anything but a resolution.
    fn says_nothing(&self) -> bool {
        self.exif.is_none()
            && self.xmp.is_none()
            && self.iptc.is_none()
            && self.photoshop.is_none()
            && self.comments.is_empty()
            && self.texts.is_empty()
    }

    fn warn(&mut self, left_out: &str) {
        let warning = format!("left out: {left_out}");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

fn upright_packet(packet: &[u8], to: &Upright) -> Option<Vec<u8>> {
    Some(packet)
        .filter(|packet| packet.len() <= MOST_XMP)
        .and_then(|packet| xmp::upright(packet, to))
}

/// How a text is called in a list of what is lost.
fn named(text: &Text) -> String {
    format!("the text `{}`", text.keyword.escape_debug())
}

/// Bytes whose encoding is not known: UTF-8 if they can be, else Latin-1.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => latin1(bytes),
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFTWARE: &str = "hi-diff 0.1.0";

    fn jpeg() -> Vec<u8> {
        let jfif = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
        [&jfif[..], b"\xff\xda\0\x02\xff\xd9"].concat()
    }

    fn png() -> Vec<u8> {
        b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xae\x42\x60\x82".to_vec()
    }

    fn text(keyword: &str, text: &str) -> Text {
        Text {
            keyword: keyword.into(),
            text: text.into(),
            ..Text::default()
        }
    }

    fn upright(mut metadata: Metadata) -> Metadata {
        metadata.upright(10, 20, ColourSpace::Srgb, SOFTWARE);
        metadata
    }

    fn has(metadata: &Metadata, part: &str) -> bool {
        let block = metadata.exif.as_deref().unwrap_or_default();
        block
            .windows(part.len())
            .any(|window| window == part.as_bytes())
    }

    #[test]
    fn texts_go_where_a_jpeg_has_places() {
        let texts = [
            ("Title", "title"),
            ("Description", "description"),
            ("author", "Jö"),
            ("Comment", "comment"),
            ("Software", "old"),
        ];
        let metadata = upright(Metadata {
            texts: texts
                .map(|(keyword, content)| text(keyword, content))
                .into(),
            ..Metadata::default()
        });
        let (bytes, lost) = metadata.add_to_jpeg(jpeg()).unwrap();
        assert!(lost.is_empty());
        let found = Metadata::of_jpeg(&bytes);
        assert!(
            ["description", "Jö", SOFTWARE]
                .iter()
                .all(|part| has(&found, part))
        );
        assert!(!has(&found, "title"));
        assert_eq!(found.comments, [&b"Title: title"[..], b"comment"]);
        // What EXIF says itself stays.
        let mut other = upright(found);
        other.texts = vec![text("Author", "Somebody")];
        let found = Metadata::of_jpeg(&other.add_to_jpeg(jpeg()).unwrap().0);
        assert!(has(&found, "Jö") && !has(&found, "Somebody"));
        assert_eq!(found.comments.len(), 3);
        // A TIFF has no comments.
        let (tiff, lost) = metadata.for_tiff();
        assert!(has(&tiff, "description") && tiff.texts.is_empty());
        assert_eq!(lost, ["the text `Title`", "the text `Comment`"]);
    }

    #[test]
    fn a_comment_becomes_a_text_or_a_description() {
        let metadata = upright(Metadata {
            comments: vec![b"caf\xe9".to_vec(), b"second".to_vec()],
            ..Metadata::default()
        });
        let (bytes, _) = metadata.add_to_png(png()).unwrap();
        let expected = [
            text("Comment", "café"),
            text("Comment", "second"),
            text("Software", SOFTWARE),
        ];
        assert_eq!(Metadata::of_png(&bytes).texts, expected);
        let (tiff, lost) = metadata.for_tiff();
        assert!(has(&tiff, "café") && has(&tiff, SOFTWARE));
        assert_eq!(lost, ["comments"]);
    }

    #[test]
    fn nothing_is_added_to_nothing() {
        let nothing = upright(Metadata::default());
        assert_eq!(nothing.add_to_jpeg(jpeg()).unwrap(), (jpeg(), vec![]));
        assert_eq!(nothing.add_to_png(png()).unwrap(), (png(), vec![]));
        let resolution = Resolution::new(300.0, 300.0, Unit::Inch);
        let alone = upright(Metadata {
            resolution,
            ..Metadata::default()
        });
        let (bytes, _) = alone.add_to_png(png()).unwrap();
        let expected = Metadata {
            resolution,
            ..Metadata::default()
        };
        assert_eq!(Metadata::of_png(&bytes), expected);
    }

    #[test]
    fn the_software_is_said_once() {
        let mut exif = Exif::empty();
        exif.set_texts(&[
            (tag::ARTIST, "Jo"),
            (tag::SOFTWARE, "a much older program than this"),
        ]);
        let metadata = upright(Metadata {
            exif: Some(exif.into_bytes()),
            texts: vec![text("Software", "old"), text("exif:Orientation", "6")],
            ..Metadata::default()
        });
        assert!(has(&metadata, SOFTWARE) && !has(&metadata, "older"));
        let (bytes, _) = metadata.add_to_png(png()).unwrap();
        let expected = [text("Software", SOFTWARE), text("exif:Orientation", "1")];
        assert_eq!(Metadata::of_png(&bytes).texts, expected);
    }

    #[test]
    fn photoshops_resources_lose_thumbnails_and_give_the_rest_its_place() {
        let resources = [
            (1033, &b"t"[..]),
            (1005, b"r"),
            (photoshop::IPTC, b"\x1c"),
            (1061, b"digest"),
            (1036, b"t"),
            (1039, b"p"),
        ];
        let bytes = resources
            .map(|(id, data)| photoshop::resource(id, data))
            .concat();
        let metadata = upright(Metadata {
            photoshop: Some([&bytes[..], b"8BIMdamaged"].concat()),
            ..Metadata::default()
        });
        let kept = [
            photoshop::resource(1005, b"r"),
            photoshop::resource(1061, b"digest"),
        ]
        .concat();
        assert_eq!(metadata.photoshop, Some(kept));
        assert_eq!(metadata.iptc.as_deref(), Some(&b"\x1c"[..]));
        assert_eq!(metadata.warnings.len(), 1);
    }

    #[test]
    fn what_cannot_be_understood_goes_with_a_warning() {
        let metadata = upright(Metadata {
            exif: Some(b"Exif?".to_vec()),
            xmp: Some(b"<a".to_vec()),
            ..Metadata::default()
        });
        assert_eq!((&metadata.exif, &metadata.xmp), (&None, &None));
        assert_eq!(metadata.warnings.len(), 2);
        assert_eq!(metadata.orientation(), 1);
    }

    #[test]
    fn the_containers_resolution_goes_before_exifs() {
        let mut exif = Exif::empty();
        let of_exif = Resolution::new(72.0, 72.0, Unit::Inch);
        exif.set_resolution(of_exif.unwrap());
        let mut metadata = Metadata {
            exif: Some(exif.into_bytes()),
            ..Metadata::default()
        };
        assert_eq!(metadata.stated_resolution(), of_exif);
        metadata.resolution = Resolution::new(300.0, 300.0, Unit::Inch);
        let (bytes, _) = metadata.add_to_png(png()).unwrap();
        let found = Metadata::of_png(&bytes);
        assert_eq!(found.stated_resolution(), metadata.resolution);
        // EXIF keeps its own, where it is not the only place.
        assert_eq!(found.exif, metadata.exif);
        metadata.resolution_to_exif(&mut Vec::new());
        let exif = Exif::new(metadata.exif.as_deref().unwrap()).unwrap();
        assert_eq!(exif.resolution(), metadata.resolution);
    }
}
