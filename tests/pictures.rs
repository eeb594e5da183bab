//! Files that other programs write and cameras make, one for each kind that needs care: read rightly or refused by name,
//! and written with what they carried.
#![cfg(feature = "image")]

use std::path::{Path, PathBuf};

use hi_diff::picture::{Depth, EncodeOptions, Format, Frames, Limits, Photograph, Saved};
use image::{DynamicImage, Rgba, RgbaImage};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    folder.join(name)
}

fn open(name: &str) -> Photograph {
    Photograph::open(fixture(name), &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(name: &str) -> String {
    let error = Photograph::open(fixture(name), &Limits::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    error
}

fn decode(bytes: &[u8]) -> Photograph {
    Photograph::decode(bytes, "test", &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// As the program writes it, with the pixels that it has.
fn written(photograph: &Photograph, format: Format) -> (Vec<u8>, Saved) {
    let same = photograph.with_rgb(photograph.rgb().to_vec()).unwrap();
    let bytes = same.to_bytes(format, &EncodeOptions::default(), "result");
    bytes.unwrap_or_else(|error| panic!("{error}"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Root mean square of the differences of 8-bit values, and the greatest.
fn differences(a: &Photograph, b: &Photograph) -> (f64, f64) {
    let (a, b) = (a.to_rgb8(), b.to_rgb8());
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let each: Vec<f64> = pairs.map(|(&a, &b)| f64::from(a.abs_diff(b))).collect();
    let squares: f64 = each.iter().map(|difference| difference * difference).sum();
    let most = each.iter().copied().fold(0.0, f64::max);
    ((squares / each.len() as f64).sqrt(), most)
}

/// What nearly every file shows.
fn reference() -> Photograph {
    open("reference.png")
}

#[test]
fn what_can_be_read_is_read_rightly() {
    let reference = reference();
    for (name, most) in [
        ("animated.png", 0.0),
        ("bigtiff.tif", 0.0),
        ("metadata.jpg", 5.0),
        ("no-end-marker.jpg", 5.0),
        ("non-interleaved-420.jpg", 5.0),
        ("ycbcr-jpeg.tif", 5.0),
        // Made with a power of 2.2 in place of sRGB's curve.
        ("gama-linear-16bit.png", 3.0),
    ] {
        let (found, _) = differences(&open(name), &reference);
        eprintln!("{name}: {found:.2}");
        assert!(found <= most, "{name}: rms {found:.2}, at most {most}");
    }
}

#[test]
fn what_cannot_is_refused_by_name_with_a_way_out() {
    assert!(refusal("truncated.jpg").contains("truncated"));
    let raw = refusal("raw-like.dng");
    assert!(
        raw.contains("raw") && raw.contains("DNG") && raw.contains("export"),
        "{raw}"
    );
    let float = refusal("gray-float32.tif");
    assert!(
        float.contains("floating point") && float.contains("16 bits"),
        "{float}"
    );
}

#[test]
fn damage_that_leaves_a_picture_is_a_warning() {
    for (name, word) in [
        ("damaged-in-the-middle.jpg", "damaged"),
        ("no-end-marker.jpg", "end-of-image"),
    ] {
        let photograph = open(name);
        let [warning] = photograph.warnings() else {
            panic!("{name}: {:?}", photograph.warnings());
        };
        assert!(warning.contains(word), "{name}: {warning}");
    }
    for name in [
        "reference.png",
        "metadata.jpg",
        "non-interleaved-420.jpg",
        "bigtiff.tif",
    ] {
        assert_eq!(open(name).warnings(), [""; 0], "{name}");
    }
}

#[test]
fn tiles_of_planes_are_read() {
    let photograph = open("tiled-planar.tif");
    assert_eq!((photograph.width(), photograph.height()), (48, 40));
    let pixels = photograph.to_rgb8();
    // By tifffile.
    for (x, y, expected) in [
        (0, 0, [204, 198, 191]),
        (20, 5, [170, 148, 107]),
        (40, 30, [66, 50, 22]),
        (47, 39, [214, 201, 196]),
        (17, 33, [229, 196, 173]),
    ] {
        assert_eq!(pixels[(x, y)].0, expected, "({x}, {y})");
    }
}

#[test]
fn inks_become_colours_by_their_profile() {
    let photograph = open("cmyk-with-profile.jpg");
    let pixels = photograph.to_rgb8();
    // By littlecms, perceptual.
    for (x, y, expected) in [
        (10, 10, [187, 170, 169]),
        (70, 20, [180, 154, 134]),
        (100, 50, [88, 72, 60]),
        (30, 80, [222, 195, 183]),
        (140, 90, [205, 189, 191]),
    ] {
        let found = pixels[(x, y)].0;
        let near = found
            .iter()
            .zip(expected)
            .all(|(&found, expected)| found.abs_diff(expected) <= 2);
        assert!(near, "({x}, {y}): {found:?}, expected {expected:?}");
    }
    assert_eq!((photograph.icc(), photograph.warnings()), (None, &[][..]));
}

// Metadata.

/// The fixture's, as other programs read them: in EXIF, GPS, XMP and IPTC.
const CARRIED: [&[u8]; 3] = [b"TestCam", b"(c) Nobody", b"2020:01:02 03:04:05"];

#[test]
fn metadata_go_along_from_format_to_format() {
    let photograph = open("metadata.jpg");
    for format in [Format::Jpeg, Format::Png, Format::WebP, Format::Tiff] {
        let (bytes, saved) = written(&photograph, format);
        for part in CARRIED {
            assert!(
                contains(&bytes, part),
                "{format}: {}",
                String::from_utf8_lossy(part)
            );
        }
        assert!(contains(&bytes, b"Title here"), "{format}: XMP");
        assert!(contains(&bytes, b"hi-diff 0."), "{format}: Software");
        assert_eq!(
            saved.warnings.is_empty(),
            format != Format::WebP,
            "{:?}",
            saved.warnings
        );
        // And back to JPEG.
        let (again, _) = written(&decode(&bytes), Format::Jpeg);
        for part in CARRIED {
            assert!(
                contains(&again, part),
                "{format} to JPEG: {}",
                String::from_utf8_lossy(part)
            );
        }
        if format != Format::WebP {
            assert!(
                contains(&again, b"\x1c\x02\x19\x00\x03one"),
                "{format} to JPEG: IPTC keyword"
            );
        }
    }
    // 300 pixels an inch.
    let (jpeg, _) = written(&photograph, Format::Jpeg);
    assert_eq!(jpeg[13..18], [1, 1, 44, 1, 44]);
    let (png, _) = written(&photograph, Format::Png);
    assert!(contains(&png, b"pHYs\x00\x00\x2e\x23\x00\x00\x2e\x23\x01"));
}

#[test]
fn stripped_files_say_nothing_beside_their_picture() {
    let options = EncodeOptions {
        strip_metadata: true,
        ..EncodeOptions::default()
    };
    let photograph = open("metadata.jpg");
    for format in Format::ALL {
        let (bytes, saved) = photograph.to_bytes(format, &options, "result").unwrap();
        for part in CARRIED
            .into_iter()
            .chain([&b"Title here"[..], b"8BIM", b"Exif"])
        {
            assert!(
                !contains(&bytes, part),
                "{format}: {}",
                String::from_utf8_lossy(part)
            );
        }
        assert_eq!(saved.warnings, [""; 0], "{format}");
    }
}

#[test]
fn a_turned_photograph_is_upright_and_says_so() {
    let stored = |name: &str| image::open(fixture(name)).unwrap();
    let names = ["orientation-3.jpg", "orientation-exif-prefix.webp"];
    let upright = [stored(names[0]).rotate180(), stored(names[1]).rotate90()];
    for (name, upright) in names.into_iter().zip(upright) {
        let upright = Photograph::from_rgb8(&upright.into_rgb8());
        assert!(differences(&open(name), &upright).0 < 3.0, "{name}");
        for format in [Format::Jpeg, Format::Png, Format::WebP, Format::Tiff] {
            let again = decode(&written(&open(name), format).0);
            let (rms, _) = differences(&again, &upright);
            assert!(rms < 6.0, "{name} as {format}: turned again? rms {rms:.1}");
        }
    }
}

// Colour.

/// A chunk of a PNG, behind its name.
fn chunk<'a>(png: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let at = png.windows(4).position(|window| window == name)?;
    let length = u32::from_be_bytes(png[at - 4..at].try_into().ok()?);
    png.get(at + 4..)?.get(..length as usize)
}

#[test]
fn linear_light_is_shown_as_srgb_and_written_linear() {
    let photograph = open("gama-linear-16bit.png");
    let (png, _) = written(&photograph, Format::Png);
    assert_eq!(chunk(&png, b"gAMA"), Some(&100_000_u32.to_be_bytes()[..]));
    let before = image::open(fixture("gama-linear-16bit.png")).unwrap();
    let after = image::load_from_memory(&png).unwrap();
    assert!(before == after, "the stored samples are the same");
    // Where no chunk can say it, in the usual curve.
    let jpeg = decode(&written(&photograph, Format::Jpeg).0);
    assert!(differences(&jpeg, &reference()).0 < 4.0);
    let tiff = decode(&written(&photograph, Format::Tiff).0);
    assert_eq!(tiff.depth(), Depth::Sixteen);
    assert!(differences(&tiff, &reference()).0 < 3.0);
}

fn with_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let png = std::fs::read(fixture("reference.png")).unwrap();
    let body = [&name[..], data].concat();
    let chunk = [
        &(data.len() as u32).to_be_bytes()[..],
        &body,
        &crc(&body).to_be_bytes(),
    ];
    const HEADER: usize = 8 + 25;
    [&png[..HEADER], &chunk.concat(), &png[HEADER..]].concat()
}

/// The PNG's checksum (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[test]
fn what_a_png_says_of_its_colours_stays() {
    let points: [u32; 8] = [
        31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000,
    ];
    let points: Vec<u8> = points
        .iter()
        .flat_map(|point| point.to_be_bytes())
        .collect();
    let gamma = 45_455_u32.to_be_bytes();
    let chunks: [(&[u8; 4], &[u8]); 4] = [
        (b"sRGB", &[0]),
        (b"gAMA", &gamma),
        (b"cHRM", &points),
        (b"cICP", &[1, 13, 0, 1]),
    ];
    for (name, data) in chunks {
        let (png, _) = written(&decode(&with_chunk(name, data)), Format::Png);
        let what = String::from_utf8_lossy(name);
        assert_eq!(chunk(&png, name), Some(data), "{what}");
        image::load_from_memory(&png).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    // Adobe RGB's green, which a JPEG says by a profile.
    let jpeg = decode(&written(&decode(&with_chunk(b"cHRM", &points)), Format::Jpeg).0);
    assert!(jpeg.icc().is_some());
}

#[test]
fn light_brighter_than_white_stays_in_png() {
    for transfer in [16, 18] {
        let photograph = decode(&with_chunk(b"cICP", &[9, transfer, 0, 1]));
        let (png, _) = written(&photograph, Format::Png);
        assert_eq!(chunk(&png, b"cICP"), Some(&[9, transfer, 0, 1][..]));
        for format in Format::ALL
            .into_iter()
            .filter(|&format| format != Format::Png)
        {
            let error = photograph.check_format(format).unwrap_err();
            assert!(error.contains("PNG"), "{format}: {error}");
            let options = EncodeOptions::default();
            assert!(
                photograph.to_bytes(format, &options, "result").is_err(),
                "{format}"
            );
        }
    }
}

// Alpha.

#[test]
fn what_is_hidden_stays_and_is_not_shown_to_the_model() {
    let stored = image::open(fixture("alpha-hidden-white.png"))
        .unwrap()
        .into_rgba8();
    let photograph = open("alpha-hidden-white.png");
    let shown = photograph.to_rgb8();
    let mut hidden = 0;
    for (x, y, pixel) in stored.enumerate_pixels() {
        let Rgba([r, g, b, alpha]) = *pixel;
        if alpha == 0 {
            hidden += 1;
            assert_eq!([r, g, b], [255; 3]);
            assert_ne!(shown[(x, y)].0, [255; 3], "({x}, {y}) is seen by the model");
        } else {
            assert_eq!(shown[(x, y)].0, [r, g, b]);
        }
    }
    assert!(hidden > 1_000, "{hidden}");
    // A model that makes everything darker does not reach what is hidden.
    let darker: Vec<f32> = photograph.rgb().iter().map(|value| value / 2.0).collect();
    let darker = photograph.with_rgb(darker).unwrap();
    let (png, _) = darker
        .to_bytes(Format::Png, &EncodeOptions::default(), "result")
        .unwrap();
    let after = image::load_from_memory(&png).unwrap().into_rgba8();
    for (before, after) in stored.pixels().zip(after.pixels()) {
        assert_eq!(after[3], before[3]);
        if before[3] == 0 {
            assert_eq!(after, before);
        } else {
            assert!(after[0] <= before[0] / 2 + 1, "{after:?}");
        }
    }
}

/// The value of a TIFF's tag of one SHORT; little-endian files, as this program writes.
fn short(tiff: &[u8], tag: u16) -> Option<u16> {
    let word = |at: usize| Some(u16::from_le_bytes(tiff.get(at..at + 2)?.try_into().ok()?));
    let directory = u32::from_le_bytes(tiff.get(4..8)?.try_into().ok()?) as usize;
    let count = usize::from(word(directory)?);
    let mut entries = (0..count).map(|entry| directory + 2 + 12 * entry);
    let entry = entries.find(|&at| word(at) == Some(tag))?;
    word(entry + 8)
}

#[test]
fn tiffs_say_what_their_alpha_is_and_are_compressed_as_they_were() {
    const COMPRESSION: u16 = 259;
    const EXTRA_SAMPLES: u16 = 338;
    for (name, kind) in [("associated-alpha.tif", 1), ("unassociated-alpha.tif", 2)] {
        let (tiff, _) = written(&open(name), Format::Tiff);
        assert_eq!(&tiff[..4], b"II*\0");
        assert_eq!(short(&tiff, EXTRA_SAMPLES), Some(kind), "{name}");
        assert_eq!(short(&tiff, COMPRESSION), Some(1), "{name}");
        let samples = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgba8();
        let before = samples(&std::fs::read(fixture(name)).unwrap());
        assert!(
            before == samples(&tiff),
            "{name}: the stored samples are the same"
        );
    }
    // Shown to the model as it looks on its own.
    let (associated, unassociated) = (open("associated-alpha.tif"), open("unassociated-alpha.tif"));
    let alpha = unassociated.alpha().unwrap();
    let (a, b) = (associated.to_rgb8(), unassociated.to_rgb8());
    for ((a, b), &alpha) in a.pixels().zip(b.pixels()).zip(alpha) {
        let rounding = 2 + 256 / u32::from(alpha.max(1));
        for (a, b) in a.0.into_iter().zip(b.0) {
            assert!(
                alpha == 0 || u32::from(a.abs_diff(b)) <= rounding,
                "{a} {b} under {alpha}"
            );
        }
    }
}

// Several pictures in a file.

#[test]
fn animations_are_all_their_frames() {
    let frames = Frames::open(fixture("animated.png"), &Limits::default()).unwrap();
    assert_eq!(frames.photographs().len(), 2);
    let timing = frames.timing().unwrap().clone();
    assert_eq!(timing.loops, 0);
    assert!(
        timing.delays.iter().all(|&(a, b)| 10 * a == b),
        "{timing:?}"
    );
    let options = EncodeOptions::default();
    for format in [Format::Png, Format::WebP, Format::Gif] {
        let (bytes, saved) = frames.to_bytes(format, &options, "result").unwrap();
        assert_eq!(saved.warnings, [""; 0], "{format}");
        let again = Frames::decode(&bytes, "again", &Limits::default()).unwrap();
        let seconds = |frames: &Frames| -> Vec<f64> {
            let delays = &frames.timing().unwrap().delays;
            delays
                .iter()
                .map(|&(a, b)| f64::from(a) / f64::from(b))
                .collect()
        };
        assert_eq!(seconds(&again), seconds(&frames), "{format}");
        for (before, after) in frames.photographs().iter().zip(again.photographs()) {
            let (rms, _) = differences(before, after);
            let most = if format == Format::Gif { 8.0 } else { 0.0 };
            assert!(rms <= most, "{format}: {rms}");
        }
    }
    // One picture where there is room for one, and a word about the rest.
    let (bytes, saved) = frames.to_bytes(Format::Jpeg, &options, "result").unwrap();
    assert!(
        saved.warnings[0].contains("first of 2 frames"),
        "{:?}",
        saved.warnings
    );
    assert!(differences(&decode(&bytes), &reference()).0 < 5.0);
    let first = open("animated.png");
    assert!(
        first.warnings()[0].contains("2 frames"),
        "{:?}",
        first.warnings()
    );
}

#[test]
fn lossy_webp_stays_lossy_by_the_quality() {
    let photograph = open("orientation-exif-prefix.webp");
    let size = |quality| {
        let options = EncodeOptions {
            quality,
            ..EncodeOptions::default()
        };
        photograph
            .to_bytes(Format::WebP, &options, "result")
            .unwrap()
            .0
            .len()
    };
    let (small, large) = (size(30), size(95));
    assert!(
        2 * small < large,
        "{small} bytes at quality 30, {large} at 95"
    );
    let (lossless, _) = written(&reference(), Format::WebP);
    assert_eq!(differences(&decode(&lossless), &reference()).1, 0.0);
}

#[test]
fn transparent_gifs_keep_what_is_seen() {
    let image = RgbaImage::from_fn(20, 10, |x, y| {
        let alpha = if x < 10 { 0 } else { 255 };
        Rgba([(x * 5) as u8, (y * 9) as u8, 80, alpha])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    DynamicImage::from(image.clone())
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let (gif, _) = written(&decode(png.get_ref()), Format::Gif);
    let again = decode(&gif);
    assert_eq!(again.format(), Format::Gif);
    let alpha: Vec<u16> = image.pixels().map(|pixel| u16::from(pixel[3])).collect();
    assert_eq!(again.alpha(), Some(&alpha[..]));
    let found = again.to_rgb8();
    for (x, y, pixel) in image.enumerate_pixels().filter(|(.., pixel)| pixel[3] > 0) {
        assert_eq!(found[(x, y)].0, [pixel[0], pixel[1], pixel[2]]);
    }
}
