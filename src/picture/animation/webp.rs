//! Animated WebP (RFC 9649).

use std::io::Cursor;

use image::codecs::webp::{WebPDecoder, WebPEncoder};
use image::{DynamicImage, ExtendedColorType, ImageDecoder};

use super::{After, Animation, Composer, Count, Delay, Part, Raster, common_size, whole_delays};
use crate::picture::webp_lossy::{Chunk, chunks, encode_webp_lossy, riff_body};

/// In the flags of `VP8X`.
const ANIMATED: u8 = 0b10;
const ALPHA: u8 = 0b1_0000;
/// In the flags of `ANMF`.
const REPLACE: u8 = 0b10;
const CLEAR: u8 = 0b1;

/// What the chunks of an animation say.
struct Contents<'a> {
    count: Count,
    alpha: bool,
    loops: u16,
    frames: Vec<Coded<'a>>,
}

/// A frame as the file holds it.
struct Coded<'a> {
    x: usize,
    y: usize,
    width: u32,
    height: u32,
    milliseconds: u32,
    flags: u8,
    /// `ALPH`, `VP8 ` and `VP8L` of these.
    chunks: Vec<Chunk<'a>>,
}

/// `None` of a WebP that is not animated or has one frame.
pub(super) fn count(bytes: &[u8]) -> Result<Option<Count>, String> {
    Ok(contents(bytes)?.map(|contents| contents.count))
}

/// The animation in a WebP file; `None` of a file that is not animated or has one frame.
///
/// The background colour is not looked at: as in browsers, it is transparent.
///
/// # Errors
///
/// The file is truncated or damaged, or has over `max_pixels_in_all` pixels, frames · width · height.
pub(crate) fn of_webp(bytes: &[u8], max_pixels_in_all: u64) -> Result<Option<Animation>, String> {
    let Some(contents) = contents(bytes)? else {
        return Ok(None);
    };
    contents.count.check(max_pixels_in_all)?;
    let mut composer = Composer::<u8>::new(contents.count);
    for (index, frame) in contents.frames.iter().enumerate() {
        let raster = decode(frame).map_err(|reason| format!("frame {}: {reason}", index + 1))?;
        composer.show(&Part {
            x: frame.x,
            y: frame.y,
            raster,
            over: frame.flags & REPLACE == 0,
            after: if frame.flags & CLEAR == 0 {
                After::Keep
            } else {
                After::Clear
            },
            delay: Delay {
                numerator: frame.milliseconds,
                denominator: 1000,
            },
        });
    }
    let loops = u32::from(contents.loops);
    composer
        .finish(None, loops, false, contents.alpha)
        .map(Some)
}

fn contents(bytes: &[u8]) -> Result<Option<Contents<'_>>, String> {
    let body = riff_body(bytes).ok_or("not a WebP file")?;
    let mut all = chunks(body);
    let Some(header) = all.next().filter(|chunk| &chunk.name == b"VP8X") else {
        return Ok(None);
    };
    let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = header
        .data
        .first_chunk()
        .ok_or("the VP8X chunk is too short")?;
    if flags & ANIMATED == 0 {
        return Ok(None);
    }
    let (width, height) = (three([w0, w1, w2]) + 1, three([h0, h1, h2]) + 1);
    let mut loops = None;
    let mut frames = Vec::new();
    for chunk in all {
        match &chunk.name {
            b"ANIM" => {
                let &[.., low, high] = chunk
                    .data
                    .first_chunk::<6>()
                    .ok_or("the ANIM chunk is too short")?;
                loops = loops.or(Some(u16::from_le_bytes([low, high])));
            }
            b"ANMF" => frames.push(
                coded(chunk, width, height)
                    .map_err(|reason| format!("frame {}: {reason}", frames.len() + 1))?,
            ),
            _ => {}
        }
    }
    match frames.len() {
        0 => Err("an animation without frames".into()),
        1 => Ok(None),
        count => Ok(Some(Contents {
            count: Count {
                width,
                height,
                frames: count,
                still: false,
            },
            alpha: flags & ALPHA != 0,
            loops: loops.ok_or("an animation without ANIM chunk")?,
            frames,
        })),
    }
}

fn coded(chunk: Chunk<'_>, canvas_width: u32, canvas_height: u32) -> Result<Coded<'_>, String> {
    if !chunk.whole {
        return Err("truncated".into());
    }
    let (header, rest) = chunk
        .data
        .split_first_chunk::<16>()
        .ok_or("the ANMF chunk is too short")?;
    let number = |at: usize| three([header[at], header[at + 1], header[at + 2]]);
    let (x, y) = (number(0) * 2, number(3) * 2);
    let (width, height) = (number(6) + 1, number(9) + 1);
    if x + width > canvas_width || y + height > canvas_height {
        return Err(format!(
            "{width} × {height} pixels at {x}, {y} are beyond the canvas of {canvas_width} × {canvas_height}"
        ));
    }
    let of_picture = |chunk: &Chunk| matches!(&chunk.name, b"ALPH" | b"VP8 " | b"VP8L");
    Ok(Coded {
        x: x as usize,
        y: y as usize,
        width,
        height,
        milliseconds: number(12),
        flags: header[15],
        chunks: chunks(rest).filter(of_picture).collect(),
    })
}

/// The pixels of a frame alone, which is decoded as a file of one picture.
fn decode(frame: &Coded) -> Result<Raster<u8>, String> {
    let (alpha, picture) = match frame.chunks[..] {
        [picture] if &picture.name != b"ALPH" => (None, picture),
        [alpha, picture] if (&alpha.name, &picture.name) == (b"ALPH", b"VP8 ") => {
            (Some(alpha), picture)
        }
        // Alpha beside VP8L means nothing, which has its own.
        [alpha, picture] if (&alpha.name, &picture.name) == (b"ALPH", b"VP8L") => (None, picture),
        _ => return Err("expected one VP8 or VP8L chunk".into()),
    };
    if coded_size(picture) != Some((frame.width, frame.height)) {
        return Err("the picture has another size than its frame".into());
    }
    let mut body = Vec::new();
    if let Some(alpha) = alpha {
        push_chunk(
            &mut body,
            b"VP8X",
            &extended_header(ALPHA, frame.width, frame.height),
        )?;
        push_chunk(&mut body, b"ALPH", alpha.data)?;
    }
    push_chunk(&mut body, &picture.name, picture.data)?;
    let file = Cursor::new(riff(body)?);
    let decoder = WebPDecoder::new(file).map_err(|error| error.to_string())?;
    if decoder.dimensions() != (frame.width, frame.height) {
        return Err("the picture has another size than its frame".into());
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    let samples = picture.into_rgba8().into_raw();
    Ok(Raster {
        width: frame.width as usize,
        height: frame.height as usize,
        pixels: samples.as_chunks().0.to_vec(),
    })
}

/// Width and height that a `VP8 ` or `VP8L` chunk's own header says.
fn coded_size(chunk: Chunk) -> Option<(u32, u32)> {
    if &chunk.name == b"VP8 " {
        let &[.., 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = chunk.data.first_chunk::<10>()? else {
            return None;
        };
        let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
        Some((side([w0, w1]), side([h0, h1])))
    } else {
        let &[0x2f, b0, b1, b2, b3] = chunk.data.first_chunk()? else {
            return None;
        };
        let bits = u32::from_le_bytes([b0, b1, b2, b3]);
        Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
    }
}

/// A WebP file of the animation: with loss of libwebp's `quality`, 1 to 100, or without.
///
/// A single frame becomes an ordinary picture. 16 bits are rounded to 8, and gray becomes colour.
/// Delays are rounded to milliseconds, at most 16,777 s; the number of loops to at most 65,535.
///
/// # Errors
///
/// The pictures differ in size or kind, have over 16,383 pixels a side, or the file would have over 4 GiB.
pub(crate) fn to_webp(animation: &Animation, quality: Option<u8>) -> Result<Vec<u8>, String> {
    let (width, height) = common_size(animation)?;
    if let [frame] = &animation.frames[..] {
        return encode(&frame.pixels, quality);
    }
    let delays = whole_delays(&animation.frames, 1000, 1);
    let alpha = animation
        .frames
        .iter()
        .any(|frame| frame.pixels.color().has_alpha());
    let flags = if alpha { ANIMATED | ALPHA } else { ANIMATED };
    let loops = u16::try_from(animation.loops).unwrap_or(u16::MAX);

    let mut body = Vec::new();
    push_chunk(&mut body, b"VP8X", &extended_header(flags, width, height))?;
    let [low, high] = loops.to_le_bytes();
    push_chunk(&mut body, b"ANIM", &[0, 0, 0, 0, low, high])?;
    for (frame, delay) in animation.frames.iter().zip(delays) {
        let file = encode(&frame.pixels, quality)?;
        let milliseconds = delay.min(0xff_ffff) as u32;
        let mut data = vec![0; 6]; // the upper left corner
        for number in [width - 1, height - 1, milliseconds] {
            data.extend_from_slice(&number.to_le_bytes()[..3]);
        }
        data.push(REPLACE);
        for chunk in chunks(riff_body(&file).unwrap_or_default()) {
            if matches!(&chunk.name, b"ALPH" | b"VP8 " | b"VP8L") {
                push_chunk(&mut data, &chunk.name, chunk.data)?;
            }
        }
        push_chunk(&mut body, b"ANMF", &data)?;
    }
    riff(body)
}

fn encode(picture: &DynamicImage, quality: Option<u8>) -> Result<Vec<u8>, String> {
    let (width, height) = (picture.width(), picture.height());
    let alpha = picture.color().has_alpha();
    let samples = if alpha {
        picture.to_rgba8().into_raw()
    } else {
        picture.to_rgb8().into_raw()
    };
    if let Some(quality) = quality {
        return encode_webp_lossy(&samples, width, height, alpha, quality);
    }
    let kind = if alpha {
        ExtendedColorType::Rgba8
    } else {
        ExtendedColorType::Rgb8
    };
    let mut file = Vec::new();
    WebPEncoder::new_lossless(&mut file)
        .encode(&samples, width, height, kind)
        .map_err(|error| error.to_string())?;
    Ok(file)
}

fn three([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

/// The data of a `VP8X` chunk.
fn extended_header(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut data = vec![flags, 0, 0, 0];
    for side in [width, height] {
        data.extend_from_slice(&(side - 1).to_le_bytes()[..3]);
    }
    data
}

fn push_chunk(body: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) -> Result<(), String> {
    body.extend_from_slice(name);
    body.extend_from_slice(&length(data.len())?);
    body.extend_from_slice(data);
    if !data.len().is_multiple_of(2) {
        body.push(0);
    }
    Ok(())
}

/// The file of the chunks in `body`.
fn riff(body: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&length(body.len() + 4)?);
    file.extend_from_slice(b"WEBP");
    file.extend_from_slice(&body);
    Ok(file)
}

fn length(bytes: usize) -> Result<[u8; 4], String> {
    match u32::try_from(bytes) {
        Ok(length) if length < u32::MAX - 9 => Ok(length.to_le_bytes()),
        _ => Err("over 4 GiB, which WebP cannot hold".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::animation::tests::{animation, pictures};
    use crate::picture::webp_lossy::webp_is_lossy;
    use image::{Rgba, RgbaImage};

    /// The file of one frame for each (x, y, milliseconds, flags, a file of its picture).
    fn file(flags: u8, side: u32, loops: u8, frames: &[(u8, u8, u8, u8, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        push_chunk(&mut body, b"VP8X", &extended_header(flags, side, side)).unwrap();
        push_chunk(&mut body, b"ICCP", b"any").unwrap();
        push_chunk(&mut body, b"ANIM", &[1, 2, 3, 4, loops, 0]).unwrap();
        for (x, y, milliseconds, flags, picture) in frames {
            let size = image::load_from_memory(picture).unwrap();
            let mut data = vec![*x / 2, 0, 0, *y / 2, 0, 0];
            data.extend([size.width() as u8 - 1, 0, 0, size.height() as u8 - 1, 0, 0]);
            data.extend([*milliseconds, 0, 0, *flags]);
            for chunk in chunks(riff_body(picture).unwrap()) {
                if &chunk.name != b"VP8X" {
                    push_chunk(&mut data, &chunk.name, chunk.data).unwrap();
                }
            }
            push_chunk(&mut body, b"ANMF", &data).unwrap();
        }
        riff(body).unwrap()
    }

    fn square(side: u32, colour: [u8; 4], quality: Option<u8>) -> Vec<u8> {
        encode(
            &RgbaImage::from_pixel(side, side, Rgba(colour)).into(),
            quality,
        )
        .unwrap()
    }

    #[test]
    fn parts_are_drawn_as_their_flags_say() {
        let red = square(4, [255, 0, 0, 255], None);
        let half_green = || square(2, [0, 255, 0, 128], None);
        let bytes = file(
            ANIMATED | ALPHA,
            4,
            3,
            &[
                (0, 0, 10, 0, red),
                (2, 0, 0, 0, half_green()),
                (0, 2, 30, CLEAR | REPLACE, half_green()),
                (2, 2, 40, CLEAR, square(2, [0, 0, 255, 0], None)),
            ],
        );
        let found = of_webp(&bytes, 64).unwrap().unwrap();
        assert_eq!(found.loops, 3);
        let delays: Vec<_> = found.frames.iter().map(|frame| frame.delay).collect();
        let expected = [10, 0, 30, 40].map(|numerator| Delay {
            numerator,
            denominator: 1000,
        });
        assert_eq!(delays, expected);
        let at = |frame: usize, x, y| {
            found.frames[frame]
                .pixels
                .as_rgba8()
                .unwrap()
                .get_pixel(x, y)
                .0
        };
        assert_eq!(at(0, 2, 0), [255, 0, 0, 255]);
        assert_eq!(at(1, 2, 0), [127, 128, 0, 255]); // blended
        assert_eq!(at(2, 2, 0), [127, 128, 0, 255]); // kept
        assert_eq!(at(2, 0, 2), [0, 255, 0, 128]); // replaced
        assert_eq!(at(3, 0, 2), [0; 4]); // cleared
        assert_eq!(at(3, 3, 3), [255, 0, 0, 255]); // beneath what is transparent
        let of_more = of_webp(&bytes, 63).unwrap_err();
        assert!(
            of_more.contains("4 pictures of 4 × 4 pixels, at most 63"),
            "{of_more}"
        );
        assert_eq!(
            crate::picture::animation::count(&bytes).unwrap().unwrap(),
            Count {
                width: 4,
                height: 4,
                frames: 4,
                still: false
            }
        );
    }

    #[test]
    fn lossy_parts_with_and_without_alpha_are_read() {
        let bytes = file(
            ANIMATED,
            8,
            0,
            &[
                (0, 0, 0, 0, square(8, [200, 100, 50, 255], Some(90))),
                (0, 0, 0, REPLACE, square(8, [200, 100, 50, 77], Some(90))),
            ],
        );
        let found = of_webp(&bytes, 1000).unwrap().unwrap();
        for (frame, alpha) in found.frames.iter().zip([255, 77]) {
            let [r, g, b, a] = frame.pixels.as_rgba8().unwrap().get_pixel(3, 3).0;
            assert!(
                r.abs_diff(200) < 4 && g.abs_diff(100) < 4 && b.abs_diff(50) < 4,
                "{r} {g} {b}"
            );
            assert_eq!(a, alpha);
        }
        assert!(webp_is_lossy(&bytes));
    }

    #[test]
    fn what_is_written_without_loss_comes_back() {
        for pictures in pictures().into_iter().filter(|pictures| {
            matches!(
                pictures[0],
                DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)
            )
        }) {
            let mut original = animation(pictures, 65_535);
            original.still = None;
            for frame in &mut original.frames {
                frame.delay.denominator = 1000;
            }
            let bytes = to_webp(&original, None).unwrap();
            assert_eq!(of_webp(&bytes, 10_000).unwrap().unwrap(), original);
            assert!(!webp_is_lossy(&bytes));

            let lossy = to_webp(&original, Some(80)).unwrap();
            let found = of_webp(&lossy, 10_000).unwrap().unwrap();
            assert!(webp_is_lossy(&lossy));
            assert_eq!(found.loops, 65_535);
            for (found, original) in found.frames.iter().zip(&original.frames) {
                assert_eq!(found.delay, original.delay);
                assert_eq!(found.pixels.color(), original.pixels.color());
            }
        }
    }

    #[test]
    fn one_frame_is_a_picture() {
        let frame = square(4, [9, 8, 7, 255], None);
        assert_eq!(of_webp(&frame, 0), Ok(None));
        assert_eq!(
            of_webp(&file(ANIMATED, 4, 0, &[(0, 0, 0, 0, frame.clone())]), 0),
            Ok(None)
        );
        let picture = image::load_from_memory(&frame).unwrap();
        let written = to_webp(&animation(vec![picture], 0), None).unwrap();
        assert_eq!(written[12..16], *b"VP8L");
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let part = || square(4, [9, 8, 7, 200], Some(50));
        let bytes = file(
            ANIMATED,
            4,
            0,
            &[(0, 0, 0, 0, part()), (0, 0, 0, 0, part())],
        );
        for end in 0..bytes.len() {
            let found = of_webp(&bytes[..end], 1000);
            assert!(!matches!(found, Ok(Some(_))), "{end}");
        }
        let beyond = file(
            ANIMATED,
            4,
            0,
            &[(0, 0, 0, 0, part()), (2, 0, 0, 0, part())],
        );
        let reason = of_webp(&beyond, 1000).unwrap_err();
        assert!(
            reason.starts_with("frame 2: 4 × 4 pixels at 2, 0"),
            "{reason}"
        );
        // A picture that says it is larger than its frame, of 16,383² pixels.
        let mut larger = bytes.clone();
        let at = larger
            .windows(3)
            .position(|three| three == [0x9d, 0x01, 0x2a])
            .unwrap();
        larger[at + 3..at + 7].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
        let reason = of_webp(&larger, 1000).unwrap_err();
        assert!(reason.contains("another size than its frame"), "{reason}");
    }
}
