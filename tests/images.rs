//! Photographs through files: what is kept, what is refused, and that nothing panics.
#![cfg(feature = "image")]

use std::fs;
use std::io::Cursor;
use std::path::Path;

use hi_diff::Error;
use hi_diff::picture::{Depth, EncodeOptions, Format, Limits, Photograph, Tone};
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ColorType, DynamicImage, ImageEncoder, ImageFormat, RgbImage};

const COLOUR_TYPES: [ColorType; 8] = [
    ColorType::L8,
    ColorType::La8,
    ColorType::Rgb8,
    ColorType::Rgba8,
    ColorType::L16,
    ColorType::La16,
    ColorType::Rgb16,
    ColorType::Rgba16,
];

/// A smooth picture, so that JPEG changes it little, with an alpha that is nowhere opaque.
fn picture(width: u32, height: u32, colour: ColorType) -> DynamicImage {
    let image = image::Rgba32FImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        image::Rgba([
            0.9 * x,
            0.1 + 0.8 * y,
            0.5 + 0.3 * x - 0.4 * y,
            0.2 + 0.3 * x * y,
        ])
    });
    let image = DynamicImage::from(image);
    match colour {
        ColorType::L8 => image.into_luma8().into(),
        ColorType::La8 => image.into_luma_alpha8().into(),
        ColorType::Rgb8 => image.into_rgb8().into(),
        ColorType::Rgba8 => image.into_rgba8().into(),
        ColorType::L16 => image.into_luma16().into(),
        ColorType::La16 => image.into_luma_alpha16().into(),
        ColorType::Rgb16 => image.into_rgb16().into(),
        ColorType::Rgba16 => image.into_rgba16().into(),
        other => panic!("no picture of {other:?}"),
    }
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn decode(bytes: &[u8]) -> hi_diff::Result<Photograph> {
    Photograph::decode(bytes, "test image", &Limits::default())
}

/// Writes as `format`, reads again.
fn through(photograph: &Photograph, format: Format) -> hi_diff::Result<Photograph> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join("image")
        .with_extension(format.extensions()[0]);
    photograph.save(&path, &EncodeOptions::default())?;
    Photograph::open(&path, &Limits::default())
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn every_format_keeps_what_it_can() {
    for colour in COLOUR_TYPES {
        for (width, height) in [(21, 13), (1, 1), (1, 9), (8, 1)] {
            let source = picture(width, height, colour);
            let photograph = decode(&encoded(&source, ImageFormat::Png)).unwrap();
            assert_eq!(
                photograph.alpha().is_some(),
                colour.has_alpha(),
                "{colour:?}"
            );
            assert_eq!(
                photograph.tone() == Tone::Colour,
                colour.has_color(),
                "{colour:?}"
            );
            let sixteen = colour.bits_per_pixel() == 16 * u16::from(colour.channel_count());
            assert_eq!(photograph.depth() == Depth::Sixteen, sixteen, "{colour:?}");

            // A GIF has few colours, and pixels that are seen or not.
            for format in Format::ALL
                .into_iter()
                .filter(|&format| format != Format::Gif)
            {
                let what = format!("{colour:?} {width}×{height} as {format}");
                let again = through(&photograph, format);
                if format == Format::Jpeg && colour.has_alpha() {
                    let error = again.unwrap_err().to_string();
                    assert!(error.contains("cannot keep the alpha"), "{what}: {error}");
                    continue;
                }
                let again = again.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(again.format(), format, "{what}");
                assert_eq!(
                    (again.width(), again.height()),
                    (width as usize, height as usize)
                );

                let keeps_bits = matches!(format, Format::Png | Format::Tiff);
                let depth = if keeps_bits {
                    photograph.depth()
                } else {
                    Depth::Eight
                };
                assert_eq!(again.depth(), depth, "{what}");
                assert_eq!(again.tone(), photograph.tone(), "{what}");

                let rounding = if depth == photograph.depth() {
                    0.0
                } else {
                    0.5 / 255.0 + 1e-6
                };
                let alpha = |photograph: &Photograph| {
                    let max = f32::from(photograph.depth().max());
                    let alpha = photograph.alpha()?;
                    Some(
                        alpha
                            .iter()
                            .map(|&a| f32::from(a) / max)
                            .collect::<Vec<_>>(),
                    )
                };
                match (alpha(&photograph), alpha(&again)) {
                    (None, None) => {}
                    (Some(before), Some(after)) => {
                        let difference = largest_difference(&before, &after);
                        assert!(difference <= rounding, "{what}: alpha off by {difference}");
                    }
                    _ => panic!("{what}: alpha appeared or vanished"),
                }
                let allowed = if format == Format::Jpeg {
                    0.03
                } else {
                    rounding
                };
                let difference = largest_difference(photograph.rgb(), again.rgb());
                assert!(
                    difference <= allowed,
                    "{what}: off by {difference}, allowed {allowed}"
                );
            }
        }
    }
}

#[test]
fn restored_pixels_reach_the_file_with_the_alpha_of_the_original() {
    for colour in COLOUR_TYPES {
        let photograph = decode(&encoded(&picture(7, 5, colour), ImageFormat::Png)).unwrap();
        let inverted = photograph.rgb().iter().map(|value| 1.0 - value).collect();
        let restored = photograph.with_rgb(inverted).unwrap();
        let again = through(&restored, Format::Png).unwrap();
        assert_eq!(again.alpha(), photograph.alpha(), "{colour:?}");
        assert_eq!(
            (again.tone(), again.depth()),
            (photograph.tone(), photograph.depth())
        );
        let sums: Vec<_> = photograph
            .rgb()
            .iter()
            .zip(again.rgb())
            .map(|(a, b)| a + b)
            .collect();
        let off = largest_difference(&sums, &vec![1.0; sums.len()]);
        assert!(off < 1e-6, "{colour:?}: value and inverse sum to 1 ± {off}");
    }
}

#[test]
fn an_opaque_alpha_does_not_keep_a_photograph_from_jpeg() {
    let opaque = DynamicImage::from(picture(9, 9, ColorType::Rgb8).into_rgba8());
    let photograph = decode(&encoded(&opaque, ImageFormat::Png)).unwrap();
    assert!(photograph.alpha().is_some());
    let again = through(&photograph, Format::Jpeg).unwrap();
    assert!(again.alpha().is_none());
}

#[test]
fn jpeg_quality_changes_size_and_error() {
    let folder = tempfile::tempdir().unwrap();
    let noise = RgbImage::from_fn(64, 64, |x, y| {
        let hash = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761);
        image::Rgb([(hash >> 8) as u8, (hash >> 16) as u8, (hash >> 24) as u8])
    });
    let photograph = Photograph::from_rgb8(&noise);
    let mut sizes = Vec::new();
    for quality in [20, 95] {
        let path = folder.path().join(format!("{quality}.jpg"));
        photograph
            .save(
                &path,
                &EncodeOptions {
                    quality,
                    ..EncodeOptions::default()
                },
            )
            .unwrap();
        sizes.push(fs::metadata(&path).unwrap().len());
    }
    assert!(
        2 * sizes[0] < sizes[1],
        "{sizes:?} bytes at quality 20 and 95"
    );
    for quality in [0, 101] {
        let path = folder.path().join("never.jpg");
        let error = photograph
            .save(
                &path,
                &EncodeOptions {
                    quality,
                    ..EncodeOptions::default()
                },
            )
            .unwrap_err();
        assert!(error.to_string().contains("expected 1 to 100"), "{error}");
        assert!(!path.exists());
    }
}

// Orientation.

/// The TIFF structure of an EXIF block with one entry, the orientation.
fn exif(orientation: u16) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0".to_vec();
    block.extend(entry(0x0112, 3, 1, u32::from(orientation)));
    block.extend([0; 4]);
    block
}

/// One entry of a little-endian TIFF directory.
fn entry(tag: u16, kind: u16, count: u32, value: u32) -> Vec<u8> {
    let mut bytes = [tag.to_le_bytes(), kind.to_le_bytes()].concat();
    bytes.extend(count.to_le_bytes());
    bytes.extend(value.to_le_bytes());
    bytes
}

/// An uncompressed gray TIFF of one strip.
fn gray_tiff(width: u32, height: u32, orientation: u16, samples: &[u8]) -> Vec<u8> {
    let entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8), // bits
        (259, 3, 1), // no compression
        (262, 3, 1), // black is zero
        (273, 4, 8), // where the strip begins
        (274, 3, u32::from(orientation)),
        (277, 3, 1), // samples a pixel
        (278, 4, height),
        (279, 4, samples.len() as u32),
    ];
    let mut file = b"II*\0".to_vec();
    file.extend((8 + samples.len() as u32).to_le_bytes());
    file.extend(samples);
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, value) in entries {
        file.extend(entry(tag, kind, 1, value));
    }
    file.extend([0; 4]);
    file
}

/// 16×24 in four quarters of these values: top left, top right, bottom left, bottom right.
const QUARTERS: [u8; 4] = [20, 90, 160, 230];

fn quarters() -> DynamicImage {
    let pixel = |x, y| image::Luma([QUARTERS[usize::from(x >= 8) + 2 * usize::from(y >= 12)]]);
    image::GrayImage::from_fn(16, 24, pixel).into()
}

/// A file of `quarters` whose EXIF block says `orientation`.
fn oriented(format: Format, orientation: u16) -> Vec<u8> {
    let image = quarters();
    let (samples, colour) = (image.as_bytes(), image.color().into());
    let mut file = Vec::new();
    match format {
        Format::Png => {
            let mut encoder = PngEncoder::new(&mut file);
            encoder.set_exif_metadata(exif(orientation)).unwrap();
            encoder.write_image(samples, 16, 24, colour).unwrap();
        }
        Format::WebP => {
            let mut encoder = WebPEncoder::new_lossless(&mut file);
            encoder.set_exif_metadata(exif(orientation)).unwrap();
            encoder.write_image(samples, 16, 24, colour).unwrap();
        }
        Format::Jpeg => {
            let plain = encoded(&image, ImageFormat::Jpeg);
            let block = [b"Exif\0\0".to_vec(), exif(orientation)].concat();
            file.extend(&plain[..2]);
            file.extend([0xff, 0xe1]);
            file.extend((2 + block.len() as u16).to_be_bytes());
            file.extend(block);
            file.extend(&plain[2..]);
        }
        Format::Tiff => file = gray_tiff(16, 24, orientation, samples),
        Format::Bmp | Format::Gif => panic!("{format} has no orientation"),
    }
    file
}

fn corners(photograph: &Photograph) -> [u8; 4] {
    let image = photograph.to_rgb8();
    let (right, bottom) = (image.width() - 1, image.height() - 1);
    [(0, 0), (right, 0), (0, bottom), (right, bottom)].map(|(x, y)| image[(x, y)][0])
}

#[test]
fn orientation_is_applied_once() {
    // Which stored quarter is seen top left, top right, bottom left, bottom right (EXIF 2.32).
    let seen = [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [3, 1, 2, 0],
        [1, 3, 0, 2],
    ];
    for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
        for (orientation, seen) in (1..).zip(seen) {
            let what = format!("{format}, orientation {orientation}");
            let upright = decode(&oriented(format, orientation)).unwrap();
            let size = if orientation < 5 { (16, 24) } else { (24, 16) };
            for photograph in [&upright, &through(&upright, format).unwrap()] {
                assert_eq!((photograph.width(), photograph.height()), size, "{what}");
                let expected = seen.map(|quarter| QUARTERS[quarter]);
                let found = corners(photograph);
                let near = expected.iter().zip(found).all(|(e, f)| e.abs_diff(f) <= 4);
                assert!(near, "{what}: corners {found:?}, expected {expected:?}");
            }
        }
    }
}

#[test]
fn an_orientation_that_does_not_exist_is_none() {
    for orientation in [0, 9, 300] {
        let photograph = decode(&oriented(Format::Jpeg, orientation)).unwrap();
        assert_eq!(
            (photograph.width(), photograph.height()),
            (16, 24),
            "{orientation}"
        );
    }
}

// ICC profiles.

/// As much of a profile as says which colour space it describes.
fn profile(space: &[u8; 4]) -> Vec<u8> {
    let mut profile: Vec<u8> = (0..=255).cycle().take(700).collect();
    profile[12..16].copy_from_slice(b"mntr");
    profile[16..20].copy_from_slice(space);
    profile
}

fn with_profile(colour: ColorType, profile: Vec<u8>) -> Photograph {
    let image = picture(12, 10, colour);
    let mut file = Vec::new();
    let mut encoder = PngEncoder::new(&mut file);
    encoder.set_icc_profile(profile).unwrap();
    encoder
        .write_image(image.as_bytes(), 12, 10, colour.into())
        .unwrap();
    decode(&file).unwrap()
}

#[test]
fn the_icc_profile_is_kept() {
    let photograph = with_profile(ColorType::Rgb8, profile(b"RGB "));
    let restored = photograph
        .with_rgb(vec![0.5; photograph.rgb().len()])
        .unwrap();
    for format in Format::ALL {
        let kept = through(&restored, format)
            .unwrap()
            .icc()
            .map(<[u8]>::to_vec);
        let none = matches!(format, Format::Bmp | Format::Gif);
        let expected = (!none).then(|| profile(b"RGB "));
        assert!(
            kept == expected,
            "{format}: {:?} bytes",
            kept.map(|kept| kept.len())
        );
    }
}

#[test]
fn a_profile_stays_only_with_values_that_it_describes() {
    let gray = with_profile(ColorType::L8, profile(b"GRAY"));
    for format in Format::ALL {
        let kept = through(&gray, format).unwrap().icc().is_some();
        let expected = matches!(format, Format::Png | Format::Jpeg | Format::Tiff);
        assert_eq!(kept, expected, "{format}");
    }
    let gray_alpha = with_profile(ColorType::La8, profile(b"GRAY"));
    assert!(through(&gray_alpha, Format::Png).unwrap().icc().is_some());
    assert!(through(&gray_alpha, Format::Tiff).unwrap().icc().is_some());
    assert!(
        with_profile(ColorType::Rgb8, profile(b"CMYK"))
            .icc()
            .is_none()
    );
}

// Refusals.

fn refusal(bytes: &[u8]) -> String {
    match decode(bytes) {
        Err(error) => error.to_string(),
        Ok(photograph) => panic!("decoded {}×{}", photograph.width(), photograph.height()),
    }
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
fn a_few_bytes_that_claim_a_huge_image_are_refused_by_their_header() {
    let small = picture(4, 4, ColorType::Rgb8);
    let mut png = encoded(&small, ImageFormat::Png);
    png[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let check = crc(&png[12..29]);
    png[29..33].copy_from_slice(&check.to_be_bytes());

    let mut jpeg = encoded(&small, ImageFormat::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);

    let mut webp = encoded(&small, ImageFormat::WebP);
    assert_eq!((&webp[12..16], webp[20]), (&b"VP8L"[..], 0x2f));
    let sides = 0x3ffe | (0x3ffe << 14); // each less one, in 14 bits
    webp[21..25].copy_from_slice(&u32::to_le_bytes(sides));

    let mut bmp = encoded(&small, ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000_u32.to_le_bytes());

    let tiff = gray_tiff(60_000, 60_000, 1, &[0; 16]);
    for (bytes, size) in [
        (png, "60000×60000"),
        (jpeg, "65535×65535"),
        (webp, "16383×16383"),
        (bmp, "60000×60000"),
    ] {
        let error = refusal(&bytes);
        assert!(
            error.contains(size) && error.contains("the limit is 134217728"),
            "{error}"
        );
    }
    let error = refusal(&tiff);
    assert!(error.contains("truncated"), "{error}");
}

#[test]
fn limits_can_be_set() {
    let file = encoded(&picture(30, 20, ColorType::Rgb8), ImageFormat::Png);
    let try_with = |limits: Limits| Photograph::decode(&file, "test image", &limits);
    let limits = Limits {
        max_side: 30,
        max_pixels: 600,
        max_alloc: 1 << 20,
    };
    try_with(limits).unwrap();
    for (limits, word) in [
        (
            Limits {
                max_side: 29,
                ..limits
            },
            "29 pixels a side",
        ),
        (
            Limits {
                max_pixels: 599,
                ..limits
            },
            "599",
        ),
        (
            Limits {
                max_alloc: 1_000,
                ..limits
            },
            "limit",
        ),
    ] {
        let error = try_with(limits).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    fs::write(&path, &file).unwrap();
    let small = Limits {
        max_alloc: file.len() as u64 - 1,
        ..limits
    };
    let error = Photograph::open(&path, &small).unwrap_err().to_string();
    assert!(
        error.contains(&format!("{} bytes, the limit is", file.len())),
        "{error}"
    );
}

#[test]
fn what_is_no_image_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = folder.path().join(name);
        let error = Photograph::open(&path, &Limits::default())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        error
    };
    fs::write(folder.path().join("empty.png"), "").unwrap();
    assert!(open("empty.png").contains("empty"));
    fs::write(folder.path().join("text.jpg"), "This is no photograph.").unwrap();
    assert!(open("text.jpg").contains("not an image, expected PNG, JPEG"));
    fs::create_dir(folder.path().join("folder.png")).unwrap();
    assert!(open("folder.png").contains("a folder, expected an image"));
    open("missing.png");
    let float = DynamicImage::from(picture(3, 3, ColorType::Rgb8).into_rgb32f());
    fs::write(
        folder.path().join("float.tif"),
        encoded(&float, ImageFormat::Tiff),
    )
    .unwrap();
    assert!(open("float.tif").contains("32 bits floating point"));
}

#[test]
fn content_counts_more_than_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    fs::write(
        &path,
        encoded(&picture(3, 3, ColorType::Rgb16), ImageFormat::Png),
    )
    .unwrap();
    let photograph = Photograph::open(&path, &Limits::default()).unwrap();
    assert_eq!(
        (photograph.format(), photograph.depth()),
        (Format::Png, Depth::Sixteen)
    );
}

/// 24×16 pixels of red to blue as lossy WebP, which the image crate reads and does not write.
const LOSSY_WEBP: &[u8] = include_bytes!("fixtures/lossy.webp");

fn samples() -> Vec<(String, Vec<u8>)> {
    let mut samples = vec![("lossy WebP".to_string(), LOSSY_WEBP.to_vec())];
    for (format, colour) in [
        (ImageFormat::Png, ColorType::Rgb8),
        (ImageFormat::Png, ColorType::La16),
        (ImageFormat::Jpeg, ColorType::Rgb8),
        (ImageFormat::Jpeg, ColorType::L8),
        (ImageFormat::WebP, ColorType::Rgba8),
        (ImageFormat::Tiff, ColorType::Rgb16),
        (ImageFormat::Bmp, ColorType::Rgb8),
        (ImageFormat::Bmp, ColorType::L8),
        (ImageFormat::Bmp, ColorType::Rgba8),
    ] {
        let name = format!("{format:?} of {colour:?}");
        samples.push((name, encoded(&picture(24, 16, colour), format)));
    }
    for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
        samples.push((format!("{format} with EXIF"), oriented(format, 6)));
    }
    samples
}

#[test]
fn truncated_files_are_errors() {
    for (name, file) in samples() {
        let whole = decode(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        for cut in 0..file.len() {
            // A trailer without pixels may be missing, and then nothing else is.
            if let Ok(photograph) = decode(&file[..cut]) {
                let same = photograph.rgb() == whole.rgb() && photograph.alpha() == whole.alpha();
                assert!(same, "{name}: {cut} of {} bytes", file.len());
            }
        }
        for part in [file.len() / 2, file.len() * 9 / 10] {
            assert!(
                decode(&file[..part]).is_err(),
                "{name}: {part} of {} bytes",
                file.len()
            );
        }
    }
}

#[test]
fn damaged_files_do_not_panic() {
    let limits = Limits {
        max_side: 4096,
        max_pixels: 1 << 20,
        max_alloc: 1 << 26,
    };
    for (_, file) in samples() {
        for at in 0..file.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] ^= damage;
                // Some damage cannot be told from a picture; it must be an error or a picture.
                let _ = Photograph::decode(&damaged, "damaged", &limits);
            }
        }
    }
}

#[test]
fn refused_photographs_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let too_wide = Photograph::from_rgb8(&RgbImage::new(65_536, 1));
    let save = |name: &str| too_wide.save(folder.path().join(name), &EncodeOptions::default());
    for name in ["a.jpg", "a.webp", "a.gif", "a", "b.txt"] {
        let error = save(name).unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "{name}: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    save("new/folder/a.png").unwrap();
}

#[test]
fn saving_replaces_a_file_only_with_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let save = |value: u8, force| {
        let image = RgbImage::from_pixel(2, 2, image::Rgb([value; 3]));
        Photograph::from_rgb8(&image).save(
            &path,
            &EncodeOptions {
                force,
                ..Default::default()
            },
        )
    };
    let value = |path: &Path| {
        Photograph::open(path, &Limits::default())
            .unwrap()
            .to_rgb8()[(0, 0)][0]
    };
    save(1, false).unwrap();
    let error = save(2, false).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(value(&path), 1);
    save(3, true).unwrap();
    assert_eq!(value(&path), 3);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
