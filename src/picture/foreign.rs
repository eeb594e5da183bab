//! Kinds of file that are not read as photographs, or only by builds with a feature (HEIC, AVIF): known by their first bytes, so that a refusal can name them and say
//! what to do, and by their extensions, so that a folder's report can count what it passed over.
//!
//! Raw formats that are TIFF inside (NEF, ARW, DNG and their like) are told from TIFF by their tags, and not here.

/// What a foreign file is, as far as it changes what can be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HEIF with HEVC inside: what iPhones write.
    Heic,
    /// HEIF with AV1 inside.
    Avif,
    /// HEIF with another or an unknown codec inside.
    Heif,
    Jxl,
    Jpeg2000,
    /// What a camera's sensor measured.
    Raw,
    /// A working file of a picture editor.
    Layers,
    /// A picture of unbounded brightness (OpenEXR, Radiance).
    HighRange,
    /// Another format that holds one plain picture.
    Picture,
    /// Lines and text, which have pixels only once they are drawn.
    Drawing,
    Video,
    /// A web page or a data file under a picture's name.
    NoPicture,
}

impl Kind {
    /// What to do with a file of this kind: imperative, without a capital or a full stop.
    pub(crate) fn way_out(self) -> &'static str {
        match self {
            Kind::Heic => {
                "set the phone's camera to its most compatible format (iPhone: Settings, Camera, Formats), \
                 or convert it with `heif-convert IN.heic OUT.png`; a build with `--features heic` reads it"
            }
            Kind::Avif => {
                "convert it with `avifdec IN.avif OUT.png`; a build with `--features avif` reads it"
            }
            Kind::Heif => "convert it with `heif-convert IN.heif OUT.png`",
            Kind::Jxl => "convert it with `djxl IN.jxl OUT.png`",
            Kind::Jpeg2000 => "convert it with `opj_decompress -i IN.jp2 -o OUT.png`",
            Kind::Raw => {
                "develop it with the camera's or another raw converter and export it as TIFF or PNG"
            }
            Kind::Layers => "flatten it in its editor and export it as TIFF or PNG",
            Kind::HighRange => "map its tones to a photograph's and export it as TIFF or PNG",
            Kind::Picture => "convert it to PNG or TIFF",
            Kind::Drawing => "it is no photograph: draw it to PNG at the size that you want",
            Kind::Video => "take pictures out of it with `ffmpeg -i IN OUT%05d.png`",
            Kind::NoPicture => "it is no picture: fetch or save the photograph itself again",
        }
    }
}

/// A file that is not read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) kind: Kind,
    /// The format's usual name, as after "is a".
    pub(crate) name: &'static str,
    /// What to do with it: imperative, without a capital or a full stop.
    pub(crate) way_out: &'static str,
}

impl Foreign {
    fn new(kind: Kind, name: &'static str) -> Self {
        let way_out = kind.way_out();
        Self {
            kind,
            name,
            way_out,
        }
    }
}

const HEIC: &str = "HEIC";
const HEIF: &str = "HEIF";
const AVIF: &str = "AVIF";
const JXL: &str = "JPEG XL";
const JPEG_2000: &str = "JPEG 2000";
const MP4: &str = "MP4 video";
const MOV: &str = "QuickTime video";
const MATROSKA: &str = "Matroska or WebM video";
const AVI: &str = "AVI video";
const MPEG: &str = "MPEG video";
const TRANSPORT: &str = "MPEG transport stream";
const NETPBM: &str = "PNM or PAM";
const ILBM: &str = "ILBM";
const DICOM: &str = "DICOM";
const EMF: &str = "EMF";
const PAINT: &str = "Krita or OpenRaster";

/// Magic numbers: the offset at which they stand, their bytes, and what they mean. Of several, the first counts.
const MAGIC: &[(usize, &[u8], Kind, &str)] = &[
    (0, b"\xff\x0a", Kind::Jxl, JXL),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", Kind::Jxl, JXL),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", Kind::Jpeg2000, JPEG_2000),
    (0, b"\xff\x4f\xff\x51", Kind::Jpeg2000, JPEG_2000),
    // Canon's mark stands between the TIFF header and its first directory.
    (8, b"CR\x02\0", Kind::Raw, "CR2"),
    (8, b"\xba\xb0\xac\xbb", Kind::Raw, "CR2"),
    (6, b"HEAPCCDR", Kind::Raw, "CRW"),
    (8, b"IIIITwaR", Kind::Raw, "IIQ"),
    (8, b"IIII.waR", Kind::Raw, "IIQ"),
    (8, b"MMMM.RawT", Kind::Raw, "IIQ"),
    (8, b"MMMMRawT", Kind::Raw, "IIQ"),
    (0, b"FUJIFILMCCD-RAW", Kind::Raw, "RAF"),
    (0, b"IIRO", Kind::Raw, "ORF"),
    (0, b"IIRS", Kind::Raw, "ORF"),
    (0, b"MMOR", Kind::Raw, "ORF"),
    (0, b"IIU\0", Kind::Raw, "RW2"),
    (0, b"FOVb", Kind::Raw, "X3F"),
    (0, b"\0MRM", Kind::Raw, "MRW"),
    (0, b"ARRI", Kind::Raw, "ARRIRAW"),
    (0, b"8BPS\0\x01", Kind::Layers, "PSD"),
    (0, b"8BPS\0\x02", Kind::Layers, "PSB"),
    (0, b"gimp xcf ", Kind::Layers, "XCF"),
    (
        0,
        b"Paint Shop Pro Image File",
        Kind::Layers,
        "Paint Shop Pro picture",
    ),
    (38, b"application/x-krita", Kind::Layers, PAINT),
    (38, b"image/openraster", Kind::Layers, PAINT),
    (0, b"\x76\x2f\x31\x01", Kind::HighRange, "OpenEXR"),
    (0, b"#?RADIANCE", Kind::HighRange, "Radiance HDR"),
    (0, b"#?RGBE", Kind::HighRange, "Radiance HDR"),
    (0, b"PF\n", Kind::HighRange, "PFM"),
    (0, b"Pf\n", Kind::HighRange, "PFM"),
    (0, b"II\xbc\x01", Kind::Picture, "JPEG XR"),
    (0, b"II\xbc\0", Kind::Picture, "JPEG XR"),
    (0, b"qoif", Kind::Picture, "QOI"),
    (0, b"farbfeld", Kind::Picture, "farbfeld"),
    (0, b"FLIF", Kind::Picture, "FLIF"),
    (0, b"BPG\xfb", Kind::Picture, "BPG"),
    (0, b"DDS |\0\0\0", Kind::Picture, "DDS"),
    (0, b"\xabKTX ", Kind::Picture, "KTX"),
    (0, b"SDPX", Kind::Picture, "DPX"),
    (0, b"XPDS", Kind::Picture, "DPX"),
    (0, b"SIMPLE  =", Kind::Picture, "FITS"),
    (128, b"DICM", Kind::Picture, DICOM),
    (0, b"\x59\xa6\x6a\x95", Kind::Picture, "Sun raster"),
    (0, b"\x01\xda\0\x01", Kind::Picture, "SGI picture"),
    (0, b"\x01\xda\x01\x01", Kind::Picture, "SGI picture"),
    (0, b"\x0a\x05\x01", Kind::Picture, "PCX"),
    (0, b"AT&TFORM", Kind::Drawing, "DjVu"),
    (0, b"%PDF-", Kind::Drawing, "PDF"),
    (0, b"%!PS", Kind::Drawing, "EPS or PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", Kind::Drawing, "EPS or PostScript"),
    (0, b"\xd7\xcd\xc6\x9a", Kind::Drawing, "WMF"),
    (40, b" EMF", Kind::Drawing, EMF),
    (0, b"\x1a\x45\xdf\xa3", Kind::Video, MATROSKA),
    (0, b"\0\0\x01\xba", Kind::Video, MPEG),
    (0, b"\0\0\x01\xb3", Kind::Video, MPEG),
    (0, b"FLV\x01", Kind::Video, "Flash video"),
    (
        0,
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        Kind::Video,
        "Windows Media video",
    ),
    (0, b"OggS\0", Kind::Video, "Ogg"),
    (0, b"icns\0", Kind::Picture, "ICNS"),
    (0, b"PK\x03\x04", Kind::NoPicture, "ZIP archive"),
];

/// What the file is that begins with `bytes`, if that is known and is not a format that photographs are read from. Some
/// hundred bytes do; with a few thousand, an SVG with a long comment is known too.
pub(crate) fn foreign(bytes: &[u8]) -> Option<Foreign> {
    let at = |offset: usize, wanted: &[u8]| {
        bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(wanted))
    };
    if at(4, b"ftyp") {
        return Some(brand(bytes));
    }
    let magic = MAGIC.iter().find(|(offset, magic, ..)| at(*offset, magic));
    if let Some((_, _, kind, name)) = magic {
        return Some(Foreign::new(*kind, name));
    }
    if at(0, b"RIFF") && at(8, b"AVI ") {
        return Some(Foreign::new(Kind::Video, AVI));
    }
    if at(0, b"FORM") && (at(8, b"ILBM") || at(8, b"PBM ")) {
        return Some(Foreign::new(Kind::Picture, ILBM));
    }
    // QuickTime's files of old begin with any of its boxes.
    if [b"moov", b"mdat", b"wide", b"pnot"]
        .iter()
        .any(|name| at(4, *name))
    {
        return Some(Foreign::new(Kind::Video, MOV));
    }
    // A byte alone is a weak mark: three packets of a transport stream.
    if [0, 188, 376].iter().all(|&offset| at(offset, b"G")) {
        return Some(Foreign::new(Kind::Video, TRANSPORT));
    }
    if netpbm(bytes) {
        return Some(Foreign::new(Kind::Picture, NETPBM));
    }
    icon(bytes).or_else(|| markup(bytes))
}

/// What an ISO base media file is, by its brands: the major one, then those that it is compatible with.
fn brand(bytes: &[u8]) -> Foreign {
    let field = |at: usize| -> Option<&[u8; 4]> { bytes.get(at..)?.first_chunk() };
    let size = field(0).map_or(0, |size| u32::from_be_bytes(*size) as usize);
    // `mif1` and `msf1` say HEIF alone; a box is rarely longer than some brands, and no file needs hundreds.
    let end = size.min(bytes.len()).min(512);
    let brands = std::iter::once(8)
        .chain((16..end).step_by(4))
        .filter_map(field);
    let mut heif = false;
    for (place, brand) in brands.enumerate() {
        match brand {
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => {
                return Foreign::new(Kind::Heic, HEIC);
            }
            b"avif" | b"avis" => return Foreign::new(Kind::Avif, AVIF),
            b"crx " => return Foreign::new(Kind::Raw, "CR3"),
            b"jxl " => return Foreign::new(Kind::Jxl, JXL),
            b"jp2 " | b"jpx " | b"jpm " | b"mjp2" => {
                return Foreign::new(Kind::Jpeg2000, JPEG_2000);
            }
            b"mif1" | b"mif2" | b"msf1" | b"miaf" | b"jpeg" | b"avci" | b"j2ki" | b"vvic" => {
                heif = true
            }
            b"qt  " if place == 0 => return Foreign::new(Kind::Video, MOV),
            _ => {}
        }
    }
    if heif {
        Foreign::new(Kind::Heif, HEIF)
    } else {
        Foreign::new(Kind::Video, MP4)
    }
}

/// PBM, PGM, PPM, PAM: `P1` to `P7` and white space, or a comment.
fn netpbm(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..]
    )
}

/// Icons and cursors, whose magic number is nearly all zeros, and so wants a plausible first entry too.
fn icon(bytes: &[u8]) -> Option<Foreign> {
    let entry: &[u8; 22] = bytes.first_chunk()?;
    let [0, 0, kind @ (1 | 2), 0, count, 0, _, _, _, 0, ..] = *entry else {
        return None;
    };
    let offset = u32::from_le_bytes([entry[18], entry[19], entry[20], entry[21]]);
    let name = if kind == 1 { "ICO" } else { "CUR" };
    (count > 0 && offset >= 6 + 16 * u32::from(count)).then(|| Foreign::new(Kind::Picture, name))
}

/// SVG and HTML, which begin with any of white space, a declaration and comments.
fn markup(bytes: &[u8]) -> Option<Foreign> {
    let text = bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .trim_ascii_start();
    let text = &text[..text.len().min(4096)];
    if text.first() != Some(&b'<') {
        return None;
    }
    let holds = |word: &[u8]| {
        text.windows(word.len())
            .position(|part| part.eq_ignore_ascii_case(word))
    };
    // A page can hold a drawing, and a drawing a page: the outer one comes first.
    let svg = holds(b"<svg").map(|at| (at, Foreign::new(Kind::Drawing, "SVG")));
    let html = [b"<html".as_slice(), b"<!doctype html", b"<head", b"<body"]
        .into_iter()
        .filter_map(holds)
        .min()
        .map(|at| (at, Foreign::new(Kind::NoPicture, "web page")));
    svg.into_iter()
        .chain(html)
        .min_by_key(|(at, _)| *at)
        .map(|(_, foreign)| foreign)
}

/// Extensions, lower case, and what files of that name are.
const EXTENSIONS: &[(&str, &str)] = &[
    ("heic", HEIC),
    ("heics", HEIC),
    ("heif", HEIF),
    ("heifs", HEIF),
    ("hif", HEIF),
    ("avci", HEIF),
    ("avcs", HEIF),
    ("avif", AVIF),
    ("avifs", AVIF),
    ("jxl", JXL),
    ("jp2", JPEG_2000),
    ("j2k", JPEG_2000),
    ("j2c", JPEG_2000),
    ("jpc", JPEG_2000),
    ("jpf", JPEG_2000),
    ("jpx", JPEG_2000),
    ("jph", JPEG_2000),
    ("jhc", JPEG_2000),
    ("jls", "JPEG-LS"),
    ("jxr", "JPEG XR"),
    ("wdp", "JPEG XR"),
    ("hdp", "JPEG XR"),
    // Raw formats go by their extensions among photographers.
    ("3fr", "3FR"),
    ("ari", "ARRIRAW"),
    ("arw", "ARW"),
    ("cap", "CAP"),
    ("cr2", "CR2"),
    ("cr3", "CR3"),
    ("crw", "CRW"),
    ("dcr", "DCR"),
    ("dng", "DNG"),
    ("erf", "ERF"),
    ("fff", "FFF"),
    ("gpr", "GPR"),
    ("iiq", "IIQ"),
    ("k25", "K25"),
    ("kdc", "KDC"),
    ("mef", "MEF"),
    ("mos", "MOS"),
    ("mrw", "MRW"),
    ("nef", "NEF"),
    ("nrw", "NRW"),
    ("orf", "ORF"),
    ("ori", "ORF"),
    ("pef", "PEF"),
    ("raf", "RAF"),
    ("raw", "RAW"),
    ("rw2", "RW2"),
    ("rwl", "RWL"),
    ("rwz", "RWZ"),
    ("sr2", "SR2"),
    ("srf", "SRF"),
    ("srw", "SRW"),
    ("x3f", "X3F"),
    ("psd", "PSD"),
    ("psb", "PSB"),
    ("xcf", "XCF"),
    ("psp", "Paint Shop Pro picture"),
    ("pspimage", "Paint Shop Pro picture"),
    ("kra", PAINT),
    ("ora", PAINT),
    ("afphoto", "Affinity Photo"),
    ("exr", "OpenEXR"),
    ("hdr", "Radiance HDR"),
    ("rgbe", "Radiance HDR"),
    ("pfm", "PFM"),
    ("qoi", "QOI"),
    ("pbm", NETPBM),
    ("pgm", NETPBM),
    ("ppm", NETPBM),
    ("pnm", NETPBM),
    ("pam", NETPBM),
    ("tga", "TGA"),
    ("icb", "TGA"),
    ("vda", "TGA"),
    ("vst", "TGA"),
    ("ico", "ICO"),
    ("cur", "CUR"),
    ("icns", "ICNS"),
    ("dds", "DDS"),
    ("ktx", "KTX"),
    ("ktx2", "KTX"),
    ("ff", "farbfeld"),
    ("flif", "FLIF"),
    ("bpg", "BPG"),
    ("pcx", "PCX"),
    ("dpx", "DPX"),
    ("cin", "Cineon"),
    ("ras", "Sun raster"),
    ("sgi", "SGI picture"),
    ("rgb", "SGI picture"),
    ("iff", ILBM),
    ("lbm", ILBM),
    ("pict", "PICT"),
    ("pct", "PICT"),
    ("xbm", "XBM"),
    ("xpm", "XPM"),
    ("fits", "FITS"),
    ("fit", "FITS"),
    ("fts", "FITS"),
    ("dcm", DICOM),
    ("svg", "SVG"),
    ("svgz", "SVG"),
    ("pdf", "PDF"),
    ("eps", "EPS or PostScript"),
    ("ps", "EPS or PostScript"),
    ("ai", "Illustrator drawing"),
    ("wmf", "WMF"),
    ("emf", EMF),
    ("djvu", "DjVu"),
    ("djv", "DjVu"),
    ("mp4", MP4),
    ("m4v", MP4),
    ("3gp", MP4),
    ("3g2", MP4),
    ("mov", MOV),
    ("qt", MOV),
    ("mkv", MATROSKA),
    ("webm", MATROSKA),
    ("avi", AVI),
    ("mpg", MPEG),
    ("mpeg", MPEG),
    ("vob", MPEG),
    ("mts", TRANSPORT),
    ("m2ts", TRANSPORT),
    ("wmv", "Windows Media video"),
    ("flv", "Flash video"),
    ("ogv", "Ogg"),
    ("insp", "Insta360 picture"),
    ("insv", "Insta360 video"),
    ("lrv", MP4),
];

/// The name of the format that the extension `ext`, lower case and without its dot, means: for counting what a folder's
/// reading passes over. Pictures and videos alone; `None` for formats that are read, and for all else.
pub(crate) fn foreign_extension(ext: &str) -> Option<&'static str> {
    EXTENSIONS
        .iter()
        .find(|(known, _)| *known == ext)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Option<&'static str> {
        foreign(bytes).map(|foreign| foreign.name)
    }

    /// A `ftyp` box of a major brand and others, and the beginning of the next box.
    fn ftyp(major: &[u8; 4], others: &[&[u8; 4]]) -> Vec<u8> {
        let size = 16 + 4 * others.len() as u32;
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend_from_slice(b"ftyp");
        bytes.extend_from_slice(major);
        bytes.extend_from_slice(&[0; 4]);
        others
            .iter()
            .for_each(|brand| bytes.extend_from_slice(*brand));
        bytes.extend_from_slice(b"\0\0\0\x20meta");
        bytes
    }

    #[test]
    fn brands_tell_the_kinds_of_iso_media_apart() {
        type Case = (
            &'static [u8; 4],
            &'static [&'static [u8; 4]],
            Kind,
            &'static str,
        );
        let kinds: &[Case] = &[
            (b"heic", &[b"mif1", b"heic"], Kind::Heic, "HEIC"),
            (b"heix", &[b"mif1"], Kind::Heic, "HEIC"),
            (b"mif1", &[b"mif1", b"heic"], Kind::Heic, "HEIC"),
            (b"msf1", &[b"hevc"], Kind::Heic, "HEIC"),
            (b"avif", &[b"mif1", b"miaf"], Kind::Avif, "AVIF"),
            (b"avis", &[b"msf1"], Kind::Avif, "AVIF"),
            (b"mif1", &[b"miaf", b"avif"], Kind::Avif, "AVIF"),
            (b"mif1", &[b"jpeg"], Kind::Heif, "HEIF"),
            (b"crx ", &[b"isom"], Kind::Raw, "CR3"),
            (b"qt  ", &[], Kind::Video, "QuickTime video"),
            (
                b"isom",
                &[b"iso2", b"avc1", b"mp41"],
                Kind::Video,
                "MP4 video",
            ),
            (b"\0\0\0\0", &[], Kind::Video, "MP4 video"),
        ];
        for (major, others, kind, name) in kinds {
            let found = foreign(&ftyp(major, others)).unwrap();
            assert_eq!(
                (found.kind, found.name),
                (*kind, *name),
                "{major:?} {others:?}"
            );
        }
    }

    #[test]
    fn brands_end_with_their_box() {
        let mut bytes = ftyp(b"isom", &[b"mp41"]);
        bytes.extend_from_slice(b"heicheicheic");
        assert_eq!(name(&bytes), Some("MP4 video"));
        for size in [0u32, 1, 8, 15, u32::MAX] {
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            assert!(foreign(&bytes).is_some());
        }
    }

    #[test]
    fn magic_numbers_are_known_and_none_hides_another() {
        for (offset, magic, kind, name) in MAGIC {
            let mut bytes = vec![0x20; *offset];
            bytes.extend_from_slice(magic);
            bytes.extend_from_slice(&[0x20; 40]);
            let found = foreign(&bytes).unwrap();
            assert_eq!((found.kind, found.name), (*kind, *name));
            assert_eq!(
                foreign(&bytes[..offset + magic.len() - 1]),
                None,
                "{name} cut short"
            );
        }
    }

    #[test]
    fn what_is_read_is_not_foreign() {
        for bytes in [
            b"\xff\xd8\xff\xe0\0\x10JFIF\0".as_slice(),
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            b"II*\0\x08\0\0\0\x0c\0\0\x01\x04\0",
            b"MM\0*\0\0\0\x08\0\x0c\x01\0\0\x04",
            b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
            b"BM\x36\x04\0\0\0\0\0\0\x36\0\0\0",
            b"RIFF\x24\0\0\0WEBPVP8 ",
            b"",
            b"G",
            b"no picture at all, but text",
        ] {
            assert_eq!(name(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn weak_marks_want_more_than_their_first_bytes() {
        assert_eq!(name(b"RIFF\x24\0\0\0AVI LIST"), Some("AVI video"));
        assert_eq!(name(b"RIFF\x24\0\0\0WAVEfmt "), None);
        assert_eq!(name(b"\0\0\0\x08wide\0\0\0\0mdat"), Some("QuickTime video"));
        assert_eq!(name(b"FORM\0\0\0\0ILBMBMHD"), Some("ILBM"));
        assert_eq!(name(b"P6\n640 480\n255\n"), Some("PNM or PAM"));
        assert_eq!(name(b"P7\nWIDTH 4\n"), Some("PNM or PAM"));
        assert_eq!(name(b"P8\n"), None);
        assert_eq!(name(b"P6rhaps"), None);
        let mut stream = vec![0; 400];
        stream[0] = b'G';
        assert_eq!(name(&stream), None);
        stream[188] = b'G';
        stream[376] = b'G';
        assert_eq!(name(&stream), Some("MPEG transport stream"));
    }

    #[test]
    fn icons_want_a_plausible_entry() {
        let mut icon = [0; 24];
        icon[2] = 1;
        icon[4] = 2;
        icon[18] = 6 + 2 * 16;
        assert_eq!(name(&icon), Some("ICO"));
        icon[2] = 2;
        assert_eq!(name(&icon), Some("CUR"));
        icon[18] = 6 + 2 * 16 - 1;
        assert_eq!(name(&icon), None);
        // The head of an uncompressed TGA.
        assert_eq!(
            name(&[
                0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 64, 0, 24, 0, 1, 2, 3, 4
            ]),
            None
        );
    }

    #[test]
    fn drawings_and_pages_are_told_apart() {
        let svg = "\u{feff}\n<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'/>";
        assert_eq!(name(svg.as_bytes()), Some("SVG"));
        assert_eq!(
            name(b"<!DOCTYPE html><html><body><svg></svg>"),
            Some("web page")
        );
        assert_eq!(name(b"<SVG><foreignObject><html>"), Some("SVG"));
        assert_eq!(name(b"<?xml version='1.0'?><plist/>"), None);
        assert_eq!(name(b"see <svg>"), None);
    }

    #[test]
    fn extensions_are_lower_case_and_mean_one_kind() {
        let mut seen = std::collections::HashSet::new();
        for (ext, name) in EXTENSIONS {
            assert!(seen.insert(ext), "{ext} twice");
            assert_eq!(*ext, ext.to_ascii_lowercase());
            assert_eq!(foreign_extension(ext), Some(*name));
        }
        assert_eq!(foreign_extension("heic"), Some("HEIC"));
        assert_eq!(foreign_extension("dng"), Some("DNG"));
        for read in [
            "jpg", "jpeg", "jpe", "jfif", "png", "tif", "tiff", "bmp", "webp", "txt", "json", "",
        ] {
            assert_eq!(foreign_extension(read), None);
        }
    }

    #[test]
    fn ways_out_fit_into_a_sentence() {
        let kinds = MAGIC.iter().map(|(_, _, kind, _)| *kind);
        for kind in kinds.chain([Kind::Heic, Kind::Avif, Kind::Heif]) {
            let way_out = kind.way_out();
            assert!(
                way_out.len() < 190 && !way_out.ends_with('.') && !way_out.contains("  "),
                "{way_out}"
            );
            assert!(way_out.starts_with(char::is_lowercase));
        }
    }
}
