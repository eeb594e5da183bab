//! Animated PNG (PNG, third edition).

use std::io::{Cursor, Write};

use ::png::{
    BitDepth, BlendOp, ColorType, Compression, Decoder, DisposeOp, Encoder, Limits, Reader,
    Transformations,
};
use image::DynamicImage;

use super::{After, Animation, Composer, Count, Delay, Frame, Part, Raster, Sample, common_size};

pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What numbers in PNG go to.
const MOST: u32 = u32::MAX >> 1;

/// What the chunks of an animation say.
struct Contents {
    count: Count,
    loops: u32,
    frames: Vec<Control>,
    /// 8 or 16; fewer are read as 8.
    sixteen_bits: bool,
}

/// The `fcTL` chunk of a frame.
struct Control {
    width: u32,
    height: u32,
    x: u32,
    y: u32,
    delay: Delay,
    after: After,
    over: bool,
}

/// `None` of a PNG that is not animated or is one picture.
pub(super) fn count(bytes: &[u8]) -> Result<Option<Count>, String> {
    Ok(contents(bytes)?.map(|contents| contents.count))
}

/// The animation in a PNG file; `None` of a file that is not animated, or whose only frame is the picture itself.
///
/// # Errors
///
/// The animation is truncated or damaged, or the pictures, one of them the
/// [still](Animation::still) if there is one, have over `max_pixels_in_all` pixels.
pub(crate) fn of_png(bytes: &[u8], max_pixels_in_all: u64) -> Result<Option<Animation>, String> {
    let Some(contents) = contents(bytes)? else {
        return Ok(None);
    };
    contents.count.check(max_pixels_in_all)?;
    if contents.sixteen_bits {
        decode::<u16>(bytes, &contents).map(Some)
    } else {
        decode::<u8>(bytes, &contents).map(Some)
    }
}

fn contents(bytes: &[u8]) -> Result<Option<Contents>, String> {
    let body = bytes.strip_prefix(SIGNATURE).ok_or("not a PNG file")?;
    let mut all = chunks(body);
    let header = all.next().filter(|(name, _)| name == b"IHDR");
    let (_, header) = header.ok_or("no IHDR chunk")?;
    let &[w0, w1, w2, w3, h0, h1, h2, h3, bits, ..] = header
        .first_chunk::<13>()
        .ok_or("the IHDR chunk is too short")?;
    let width = u32::from_be_bytes([w0, w1, w2, w3]);
    let height = u32::from_be_bytes([h0, h1, h2, h3]);
    let mut animated = None;
    let mut still = true; // until a frame precedes the picture
    let mut frames = Vec::new();
    let mut seen_picture = false;
    for (name, data) in all {
        match &name {
            b"acTL" if !seen_picture && animated.is_none() => {
                let &[n0, n1, n2, n3, l0, l1, l2, l3] =
                    data.first_chunk().ok_or("the acTL chunk is too short")?;
                let promised = u32::from_be_bytes([n0, n1, n2, n3]);
                let loops = u32::from_be_bytes([l0, l1, l2, l3]);
                if promised > MOST || loops > MOST {
                    return Err("the acTL chunk has a number over 2³¹ − 1".into());
                }
                animated = Some((promised, loops));
            }
            b"fcTL" if animated.is_some() => frames.push(
                control(data, width, height)
                    .map_err(|reason| format!("frame {}: {reason}", frames.len() + 1))?,
            ),
            b"IDAT" if animated.is_none() => break,
            b"IDAT" if !seen_picture => {
                seen_picture = true;
                still = frames.is_empty();
            }
            // The `png` crate panics at it.
            b"PLTE" if !data.len().is_multiple_of(3) => {
                return Err("a PLTE chunk of no whole colours".into());
            }
            b"IEND" => break,
            _ => {}
        }
    }
    let Some((promised, loops)) = animated else {
        return Ok(None);
    };
    if promised as usize != frames.len() || frames.is_empty() {
        return Err(format!(
            "an animation of {promised} frames with {} in the file",
            frames.len()
        ));
    }
    let count = Count {
        width,
        height,
        frames: frames.len(),
        still,
    };
    Ok((count.pictures() > 1).then_some(Contents {
        count,
        loops,
        frames,
        sixteen_bits: bits == 16,
    }))
}

/// Names and data of the chunks in `bytes`, up to one that the file does not hold wholly.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_first_chunk()?;
        let (data, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        bytes = rest.get(4..).unwrap_or_default(); // the checksum
        Some((*name, data))
    })
}

fn control(data: &[u8], canvas_width: u32, canvas_height: u32) -> Result<Control, String> {
    let data: &[u8; 26] = data.first_chunk().ok_or("the fcTL chunk is too short")?;
    let long = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    let short = |at: usize| u32::from(u16::from_be_bytes([data[at], data[at + 1]]));
    let (width, height, x, y) = (long(4), long(8), long(12), long(16));
    let inside = |offset: u32, side: u32, canvas: u32| {
        side > 0 && offset.checked_add(side).is_some_and(|end| end <= canvas)
    };
    if !inside(x, width, canvas_width) || !inside(y, height, canvas_height) {
        return Err(format!(
            "{width} × {height} pixels at {x}, {y} are not within the canvas of {canvas_width} × {canvas_height}"
        ));
    }
    Ok(Control {
        width,
        height,
        x,
        y,
        delay: Delay {
            numerator: short(20),
            denominator: if short(22) == 0 { 100 } else { short(22) },
        },
        after: match data[24] {
            0 => After::Keep,
            1 => After::Clear,
            2 => After::Restore,
            other => return Err(format!("unknown way {other} to dispose of it")),
        },
        over: match data[25] {
            0 => false,
            1 => true,
            other => return Err(format!("unknown way {other} to blend it")),
        },
    })
}

fn decode<S: Sample>(bytes: &[u8], contents: &Contents) -> Result<Animation, String> {
    let Count { width, height, .. } = contents.count;
    // Each frame takes a row's bytes off the limit, at most 8 a pixel.
    let rows = contents.count.pictures() * u64::from(width) * 8;
    let limits = Limits {
        bytes: Limits::default().bytes.saturating_add(rows as usize),
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let (colour, _) = reader.output_color_type();
    let mut buffer = vec![0; reader.output_buffer_size().ok_or("a frame is too large")?];

    let still = match contents.count.still {
        true => Some(
            next(&mut reader, &mut buffer, (width, height))
                .map_err(|reason| format!("the still picture: {reason}"))?,
        ),
        false => None,
    };
    let mut composer = Composer::<S>::new(contents.count);
    for (index, control) in contents.frames.iter().enumerate() {
        let raster = next(&mut reader, &mut buffer, (control.width, control.height))
            .map_err(|reason| format!("frame {}: {reason}", index + 1))?;
        composer.show(&Part {
            x: control.x as usize,
            y: control.y as usize,
            raster,
            over: control.over,
            after: control.after,
            delay: control.delay,
        });
    }
    let gray = matches!(colour, ColorType::Grayscale | ColorType::GrayscaleAlpha);
    let alpha = matches!(colour, ColorType::GrayscaleAlpha | ColorType::Rgba);
    composer.finish(still, contents.loops, gray, alpha)
}

/// The picture in the next chunks of pixels, if it has the size (width, height).
fn next<S: Sample>(
    reader: &mut Reader<Cursor<&[u8]>>,
    buffer: &mut [u8],
    size: (u32, u32),
) -> Result<Raster<S>, String> {
    let picture = reader
        .next_frame(buffer)
        .map_err(|error| error.to_string())?;
    if (picture.width, picture.height) != size {
        return Err("another size than its fcTL chunk says".into());
    }
    // The rows of an interlaced part lie as far apart as those of the canvas.
    let stride = match reader.info().interlaced {
        true => reader
            .output_line_size(reader.info().width)
            .ok_or("a row is too large")?,
        false => picture.line_size,
    };
    let rows = buffer.chunks(stride.max(1)).take(size.1 as usize);
    let mut pixels = Vec::with_capacity(size.0 as usize * size.1 as usize);
    for row in rows {
        let samples = S::of_big_endian(&row[..picture.line_size.min(row.len())]);
        let samples = samples.chunks_exact(picture.color_type.samples());
        pixels.extend(samples.map(|pixel| match *pixel {
            [gray] => [gray, gray, gray, S::MAX],
            [gray, alpha] => [gray, gray, gray, alpha],
            [red, green, blue] => [red, green, blue, S::MAX],
            [red, green, blue, alpha] => [red, green, blue, alpha],
            _ => [S::default(); 4], // no colour type has other numbers of samples
        }));
    }
    Ok(Raster {
        width: size.0 as usize,
        height: size.1 as usize,
        pixels,
    })
}

/// Writes the animation as PNG, at the frames' own depth and kind.
///
/// A single frame without still becomes an ordinary picture. Delays over 65,535 s are cut, and those
/// that a fraction of 16 bits cannot say are rounded. Loops over 2³¹ − 1 are cut.
///
/// # Errors
///
/// The pictures differ in size or kind or are neither of 8 nor 16 bits, or `file` refuses.
pub(crate) fn to_png(animation: &Animation, file: impl Write) -> Result<(), String> {
    let (width, height) = common_size(animation)?;
    let frames = &animation.frames[..];
    let count = u32::try_from(frames.len()).map_err(|_| "too many frames")?;
    let first = animation.still.as_ref().unwrap_or(&frames[0].pixels);
    let (colour, depth) = png_kind(first)?;
    let write = || -> Result<(), ::png::EncodingError> {
        let mut encoder = Encoder::new(file, width, height);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        encoder.set_compression(Compression::Fast);
        let animated = count > 1 || animation.still.is_some();
        if animated {
            encoder.set_animated(count, animation.loops.min(MOST))?;
            encoder.set_sep_def_img(animation.still.is_some())?;
            encoder.set_dispose_op(DisposeOp::None)?;
            encoder.set_blend_op(BlendOp::Source)?;
        }
        let mut writer = encoder.write_header()?;
        if let Some(still) = &animation.still {
            writer.write_image_data(&big_endian(still))?;
        }
        for Frame { pixels, delay } in frames {
            if animated {
                let (numerator, denominator) = short_delay(*delay);
                writer.set_frame_delay(numerator, denominator)?;
            }
            writer.write_image_data(&big_endian(pixels))?;
        }
        writer.finish()
    };
    write().map_err(|error| error.to_string())
}

fn png_kind(picture: &DynamicImage) -> Result<(ColorType, BitDepth), String> {
    use image::ColorType as Kind;
    Ok(match picture.color() {
        Kind::L8 => (ColorType::Grayscale, BitDepth::Eight),
        Kind::La8 => (ColorType::GrayscaleAlpha, BitDepth::Eight),
        Kind::Rgb8 => (ColorType::Rgb, BitDepth::Eight),
        Kind::Rgba8 => (ColorType::Rgba, BitDepth::Eight),
        Kind::L16 => (ColorType::Grayscale, BitDepth::Sixteen),
        Kind::La16 => (ColorType::GrayscaleAlpha, BitDepth::Sixteen),
        Kind::Rgb16 => (ColorType::Rgb, BitDepth::Sixteen),
        Kind::Rgba16 => (ColorType::Rgba, BitDepth::Sixteen),
        other => return Err(format!("samples of type {other:?}, expected 8 or 16 bits")),
    })
}

/// The samples as PNG orders their bytes.
fn big_endian(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = picture.as_bytes().to_vec();
    if picture.color().bytes_per_pixel() / picture.color().channel_count() == 2 {
        for sample in bytes.as_chunks_mut().0 {
            *sample = u16::from_ne_bytes(*sample).to_be_bytes();
        }
    }
    bytes
}

/// The delay as a fraction of 16 bits each, exact where there is one.
fn short_delay(delay: Delay) -> (u16, u16) {
    let (numerator, denominator) = (delay.numerator, delay.denominator.max(1));
    for divisor in [1, greatest_common_divisor(numerator, denominator)] {
        let exact = (
            u16::try_from(numerator / divisor),
            u16::try_from(denominator / divisor),
        );
        if let (Ok(numerator), Ok(denominator)) = exact {
            return (numerator, denominator);
        }
    }
    // As many parts of a second as leave the numerator in 16 bits.
    let seconds = f64::from(numerator) / f64::from(denominator);
    let parts = (f64::from(u16::MAX) / seconds)
        .floor()
        .clamp(1.0, f64::from(u16::MAX));
    ((seconds * parts).round() as u16, parts as u16) // `as` cuts what is over
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::animation::tests::{animation, pictures};
    use ::png::Info;
    use ::png::chunk::{ChunkType, IDAT, fcTL, fdAT};

    /// A stream of zlib without compression.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u16).to_le_bytes();
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in bytes {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        let mut stream = vec![0x78, 1, 1, length[0], length[1], !length[0], !length[1]];
        stream.extend_from_slice(bytes);
        stream.extend((b << 16 | a).to_be_bytes());
        stream
    }

    /// (width, height, x, y, dispose, blend) and the filtered rows of a frame.
    type Drawn<'a> = ([u32; 4], u8, u8, &'a [u8]);

    /// A gray animation with alpha, 4 × 3 pixels, with a still if said.
    fn file(interlaced: bool, still: bool, frames: &[Drawn]) -> Vec<u8> {
        let mut info = Info::with_size(4, 3);
        info.color_type = ColorType::GrayscaleAlpha;
        info.interlaced = interlaced;
        let mut file = Vec::new();
        let mut writer = Encoder::with_info(&mut file, info)
            .unwrap()
            .write_header()
            .unwrap();
        let mut put = |name: ChunkType, sequence: Option<u32>, data: &[u8]| {
            let sequence = sequence.map(u32::to_be_bytes);
            let data = [sequence.as_ref().map_or(&[][..], |bytes| &bytes[..]), data].concat();
            writer.write_chunk(name, &data).unwrap();
        };
        put(
            ChunkType(*b"acTL"),
            None,
            &[0, 0, 0, frames.len() as u8, 0, 0, 0, 9],
        );
        if still {
            put(IDAT, None, &zlib(&[0; 27]));
        }
        let mut sequence = 0..;
        for (index, ([width, height, x, y], dispose, blend, rows)) in frames.iter().enumerate() {
            let mut control: Vec<u8> = [width, height, x, y]
                .iter()
                .flat_map(|n| n.to_be_bytes())
                .collect();
            control.extend([0, 1, 0, 0, *dispose, *blend]); // 1/100 s
            put(fcTL, sequence.next(), &control);
            match index == 0 && !still {
                true => put(IDAT, None, &zlib(rows)),
                false => put(fdAT, sequence.next(), &zlib(rows)),
            }
        }
        writer.finish().unwrap();
        file
    }

    /// Rows of pixels (gray, alpha), filtered not at all.
    fn rows(width: usize, pixels: &[[u8; 2]]) -> Vec<u8> {
        let row = |row: &[[u8; 2]]| [&[0], row.as_flattened()].concat();
        pixels.chunks(width).flat_map(row).collect()
    }

    fn shown(found: &Animation) -> Vec<Vec<[u8; 2]>> {
        let pixels = |frame: &Frame| frame.pixels.as_bytes().as_chunks().0.to_vec();
        found.frames.iter().map(pixels).collect()
    }

    #[test]
    fn parts_are_drawn_as_their_chunks_say() {
        let all = rows(4, &[[100, 255]; 12]);
        let half = rows(2, &[[200, 128]; 2]);
        for still in [false, true] {
            let bytes = file(
                false,
                still,
                &[
                    ([4, 3, 0, 0], 0, 1, &all),
                    ([2, 1, 1, 1], 2, 1, &half),
                    ([2, 1, 2, 2], 1, 0, &half),
                    ([2, 1, 0, 0], 0, 0, &half),
                ],
            );
            let found = of_png(&bytes, 60).unwrap().unwrap();
            assert_eq!(found.loops, 9);
            assert_eq!(found.still.is_some(), still);
            assert!(found.frames.iter().all(|frame| frame.delay
                == Delay {
                    numerator: 1,
                    denominator: 100
                }));
            let base = [100, 255];
            let mut expected = vec![vec![base; 12]; 4];
            expected[1][5..7].fill([150, 255]); // blended, then what was before again
            expected[2][10..12].fill([200, 128]); // replaced
            expected[3][10..12].fill([0, 0]); // cleared
            expected[3][0..2].fill([200, 128]);
            assert_eq!(shown(&found), expected);
            let count = Count {
                width: 4,
                height: 3,
                frames: 4,
                still,
            };
            assert_eq!(crate::picture::animation::count(&bytes), Ok(Some(count)));
            assert!(of_png(&bytes, 47).is_err());
            assert_eq!(of_png(&bytes, 48).is_err(), still);
        }
    }

    #[test]
    fn parts_of_interlaced_files_have_rows_of_their_own_length() {
        // Of 3 × 3 pixels: passes 1 (1 pixel), 4 (1), 5 (2), 6 (1, 1), 7 (3).
        let pixel = |n: u8| [n, 255];
        let passes = [
            rows(1, &[pixel(0)]),
            rows(1, &[pixel(2)]),
            rows(2, &[pixel(6), pixel(8)]),
            rows(1, &[pixel(1), pixel(7)]),
            rows(3, &[pixel(3), pixel(4), pixel(5)]),
        ]
        .concat();
        // Of 4 × 3 pixels: passes 1 (1), 4 (1), 5 (2), 6 (2, 2), 7 (4).
        let all = [
            rows(1, &[pixel(99); 2]),
            rows(2, &[pixel(99); 6]),
            rows(4, &[pixel(99); 4]),
        ]
        .concat();
        let bytes = file(
            true,
            false,
            &[([4, 3, 0, 0], 0, 0, &all), ([3, 3, 1, 0], 0, 0, &passes)],
        );
        let found = of_png(&bytes, 100).unwrap().unwrap();
        assert_eq!(shown(&found)[0], [pixel(99); 12]);
        let expected = [99, 0, 1, 2, 99, 3, 4, 5, 99, 6, 7, 8].map(pixel);
        assert_eq!(shown(&found)[1], expected);
    }

    #[test]
    fn what_is_written_comes_back_at_its_depth_and_kind() {
        for pictures in pictures() {
            let original = animation(pictures, MOST);
            let mut bytes = Vec::new();
            to_png(&original, &mut bytes).unwrap();
            assert_eq!(of_png(&bytes, 10_000).unwrap().unwrap(), original);

            let mut first = original.clone();
            first.frames.truncate(1);
            bytes.clear();
            to_png(&first, &mut bytes).unwrap();
            assert_eq!(
                of_png(&bytes, 10_000).unwrap().unwrap(),
                first,
                "still and one frame"
            );
            first.still = None;
            bytes.clear();
            to_png(&first, &mut bytes).unwrap();
            assert_eq!(of_png(&bytes, 0), Ok(None));
            assert_eq!(
                image::load_from_memory(&bytes).unwrap(),
                first.frames[0].pixels
            );
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let all = rows(4, &[[100, 255]; 12]);
        let frame: Drawn = ([4, 3, 0, 0], 0, 0, &all);
        let bytes = file(false, false, &[frame, frame]);
        let data_end = bytes.len() - 16; // before the last checksum and IEND
        for end in 0..data_end {
            assert!(!matches!(of_png(&bytes[..end], 1000), Ok(Some(_))), "{end}");
        }
        for (place, reason) in [
            ([4, 3, 1, 0], "4 × 3 pixels at 1, 0 are not within"),
            ([0, 3, 0, 0], "0 × 3 pixels"),
            ([1, 1, u32::MAX, 0], "not within"),
        ] {
            let found =
                of_png(&file(false, false, &[frame, (place, 0, 0, &all)]), 1000).unwrap_err();
            assert!(
                found.starts_with("frame 2: ") && found.contains(reason),
                "{found}"
            );
        }
        let mut fewer = bytes.clone();
        let at = fewer.windows(4).position(|name| name == b"acTL").unwrap();
        fewer[at + 7] = 3;
        assert_eq!(
            of_png(&fewer, 1000),
            Err("an animation of 3 frames with 2 in the file".into())
        );
    }

    #[test]
    fn delays_are_fractions_of_16_bits() {
        let short = |numerator, denominator| {
            short_delay(Delay {
                numerator,
                denominator,
            })
        };
        assert_eq!(short(4, 100), (4, 100));
        assert_eq!(short(1001, 30_000), (1001, 30_000));
        assert_eq!(short(70_000, 1000), (70, 1));
        assert_eq!(short(0, 1_000_000), (0, 1));
        assert_eq!(short(u32::MAX, 1), (u16::MAX, 1));
        for (numerator, denominator) in [(70_001, 1000), (1, 1_000_003), (16_777_215, 1000)] {
            let (n, d) = short(numerator, denominator);
            let error = f64::from(n) / f64::from(d) - f64::from(numerator) / f64::from(denominator);
            assert!(error.abs() < 0.2, "{n}/{d} for {numerator}/{denominator}");
        }
    }
}
