//! GIF (GIF89a), of one frame or many.

use std::io::Write;

use ::gif::{ColorOutput, DecodeOptions, DisposalMethod, Encoder, EncodingError, Repeat};
use image::DynamicImage;

use super::palette::reduce;
use super::{After, Animation, Composer, Count, Delay, Part, Raster, common_size, whole_delays};

/// The least delay, in 1/100 s, that players keep; shorter ones last 1/10 s in most.
const LEAST_DELAY: u64 = 2;

pub(super) fn count(bytes: &[u8]) -> Result<Count, String> {
    Ok(contents(bytes)?.count)
}

/// The frames of a GIF file, colour of 8 bits, with alpha where some are transparent.
///
/// Where the first frame is larger than the file's canvas, that grows; what later ones have beyond it is
/// cut. The background colour is not looked at: as in browsers, it is transparent. What follows the last
/// frame may be missing or damaged.
///
/// # Errors
///
/// There is no frame, one is truncated or damaged or without colours, or they have over
/// `max_pixels_in_all` pixels, frames · width · height.
pub(crate) fn of_gif(bytes: &[u8], max_pixels_in_all: u64) -> Result<Animation, String> {
    let Contents { count, largest } = contents(bytes)?;
    count.check(max_pixels_in_all)?;
    if largest > max_pixels_in_all {
        return Err(format!(
            "a frame of {largest} pixels, at most {max_pixels_in_all} are allowed"
        ));
    }
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.allow_unknown_blocks(true);
    let mut decoder = options
        .read_info(bytes)
        .map_err(|error| error.to_string())?;
    let mut composer = Composer::<u8>::new(count);
    for index in 1..=count.frames {
        let part = next(&mut decoder).map_err(|reason| format!("frame {index}: {reason}"))?;
        composer.show(&part);
    }
    let loops = match decoder.repeat() {
        Repeat::Infinite => 0,
        Repeat::Finite(more) => u32::from(more) + 1,
    };
    composer.finish(None, loops, false, false)
}

fn next(decoder: &mut ::gif::Decoder<&[u8]>) -> Result<Part<u8>, String> {
    let frame = decoder
        .next_frame_info()
        .map_err(|error| error.to_string())?;
    let frame = frame.ok_or("missing")?;
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let (x, y) = (usize::from(frame.left), usize::from(frame.top));
    let delay = Delay {
        numerator: frame.delay.into(),
        denominator: 100,
    };
    let after = match frame.dispose {
        DisposalMethod::Any | DisposalMethod::Keep => After::Keep,
        DisposalMethod::Background => After::Clear,
        DisposalMethod::Previous => After::Restore,
    };
    let mut pixels = vec![[0; 4]; width * height];
    decoder
        .read_into_buffer(pixels.as_flattened_mut())
        .map_err(|error| error.to_string())?;
    Ok(Part {
        x,
        y,
        raster: Raster {
            width,
            height,
            pixels,
        },
        over: true,
        after,
        delay,
    })
}

/// What the blocks of a file say.
struct Contents {
    count: Count,
    /// Pixels of the frame that has most.
    largest: u64,
}

fn contents(bytes: &[u8]) -> Result<Contents, String> {
    let header = bytes.first_chunk::<13>();
    let header =
        header.filter(|header| header.starts_with(b"GIF87a") || header.starts_with(b"GIF89a"));
    let &[.., w0, w1, h0, h1, flags, _, _] = header.ok_or("not a GIF file")?;
    let mut count = Count {
        width: u16::from_le_bytes([w0, w1]).into(),
        height: u16::from_le_bytes([h0, h1]).into(),
        frames: 0,
        still: false,
    };
    let mut largest = 0;
    let mut rest = bytes.get(13 + table_size(flags)..).unwrap_or_default();
    loop {
        match rest.split_first() {
            Some((0x21, block)) => {
                // Damaged after the last frame or before the next one: without that, nothing is lost.
                let Some(after) = block.get(1..).and_then(after_sub_blocks) else {
                    break;
                };
                rest = after;
            }
            Some((0x2c, block)) => {
                let number = count.frames + 1;
                let truncated = || format!("frame {number}: truncated");
                let &[x0, x1, y0, y1, w0, w1, h0, h1, flags] =
                    block.first_chunk().ok_or_else(truncated)?;
                let [x, y, width, height] = [[x0, x1], [y0, y1], [w0, w1], [h0, h1]]
                    .map(|n| u32::from(u16::from_le_bytes(n)));
                if width == 0 || height == 0 {
                    return Err(format!("frame {number}: {width} × {height} pixels"));
                }
                if number == 1 {
                    count.width = count.width.max(x + width);
                    count.height = count.height.max(y + height);
                }
                largest = largest.max(u64::from(width) * u64::from(height));
                // The colours, and the number of bits that codes begin with.
                let data = block.get(9 + table_size(flags) + 1..);
                rest = data.and_then(after_sub_blocks).ok_or_else(truncated)?;
                count.frames = number;
            }
            _ => break, // the trailer, the end of the file, or what other programs take for it
        }
    }
    if count.frames == 0 {
        return Err("no frame".into());
    }
    Ok(Contents { count, largest })
}

/// Bytes of the colour table that a descriptor's flags announce.
fn table_size(flags: u8) -> usize {
    if flags & 0x80 == 0 {
        0
    } else {
        3 << ((flags & 7) + 1)
    }
}

/// What follows a sequence of sub-blocks. `None` if it does not end.
fn after_sub_blocks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        bytes = rest.get(usize::from(*length)..)?;
        if *length == 0 {
            return Some(bytes);
        }
    }
}

/// Writes the animation as GIF, with up to 256 colours a frame; what is less than half opaque is transparent.
///
/// A single frame becomes an ordinary picture. Delays are rounded to 1/100 s, at most 655.35 s, and those
/// that are not exact to 2/100 at least, as players show shorter ones for longer. Loops over 65,536 are cut.
///
/// # Errors
///
/// The pictures differ in size or kind, have over 65,535 pixels a side, or `file` refuses.
pub(crate) fn to_gif(animation: &Animation, file: impl Write) -> Result<(), String> {
    let (width, height) = common_size(animation)?;
    let (Ok(width), Ok(height)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(format!(
            "{width} × {height} pixels, GIF holds up to {} a side",
            u16::MAX
        ));
    };
    let delays = whole_delays(&animation.frames, 100, LEAST_DELAY);
    // A frame is drawn over what is there, so that nothing must be there where it is transparent. Some
    // programs clear the canvas to a colour unless the frame before has a transparent one too.
    let mut frames = animation.frames.iter();
    let transparent = frames.any(|frame| frame.pixels.color().has_alpha());
    let dispose = if transparent {
        DisposalMethod::Background
    } else {
        DisposalMethod::Keep
    };
    let write = || -> Result<(), EncodingError> {
        let mut encoder = Encoder::new(file, width, height, &[])?;
        if animation.frames.len() > 1 {
            encoder.set_repeat(match animation.loops {
                0 => Repeat::Infinite,
                loops => Repeat::Finite(u16::try_from(loops - 1).unwrap_or(u16::MAX)),
            })?;
        }
        for (frame, delay) in animation.frames.iter().zip(delays) {
            encoder.write_frame(&::gif::Frame {
                width,
                height,
                delay: u16::try_from(delay).unwrap_or(u16::MAX),
                dispose,
                ..indexed(&frame.pixels, transparent)
            })?;
        }
        encoder.into_inner()?.flush()?;
        Ok(())
    };
    write().map_err(|error| error.to_string())
}

/// The colours and pixels of a frame.
fn indexed(picture: &DynamicImage, transparent: bool) -> ::gif::Frame<'static> {
    let samples = picture.to_rgba8().into_raw();
    let reduced = reduce(samples.as_chunks().0, transparent);
    ::gif::Frame {
        palette: Some(reduced.palette.into_flattened()),
        transparent: reduced.transparent,
        buffer: reduced.indices.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::animation::Frame;
    use image::{Rgb, RgbImage, RgbaImage};

    const RED: [u8; 4] = [255, 0, 0, 255];
    const BLUE: [u8; 4] = [0, 0, 255, 255];
    const NONE: [u8; 4] = [0; 4];

    /// A part of `side` · `side` pixels of index `index`, of red, blue and transparent ones.
    fn part(
        side: u16,
        x: u16,
        y: u16,
        index: u8,
        dispose: DisposalMethod,
    ) -> ::gif::Frame<'static> {
        let pixels = vec![index; usize::from(side * side)];
        ::gif::Frame {
            left: x,
            top: y,
            dispose,
            delay: u16::from(index),
            palette: Some(vec![255, 0, 0, 0, 0, 255, 9, 9, 9]),
            ..::gif::Frame::from_indexed_pixels(side, side, pixels, Some(2))
        }
    }

    fn file(side: u16, repeat: Repeat, parts: &[::gif::Frame]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), side, side, &[]).unwrap();
        encoder.set_repeat(repeat).unwrap();
        for part in parts {
            encoder.write_frame(part).unwrap();
        }
        encoder.into_inner().unwrap()
    }

    fn shown(found: &Animation) -> Vec<Vec<[u8; 4]>> {
        let pixels = |frame: &Frame| frame.pixels.to_rgba8().as_chunks().0.to_vec();
        found.frames.iter().map(pixels).collect()
    }

    #[test]
    fn parts_are_drawn_as_their_blocks_say() {
        let bytes = file(
            2,
            Repeat::Finite(4),
            &[
                part(2, 0, 0, 0, DisposalMethod::Any),
                part(1, 1, 0, 1, DisposalMethod::Previous),
                part(2, 1, 1, 1, DisposalMethod::Background), // three pixels beyond the canvas
                part(2, 0, 0, 2, DisposalMethod::Keep),
                part(9, 7, 7, 1, DisposalMethod::Keep), // all of them
            ],
        );
        let found = of_gif(&bytes, 81).unwrap();
        assert_eq!(found.loops, 5);
        let delays: Vec<_> = found
            .frames
            .iter()
            .map(|frame| frame.delay.numerator)
            .collect();
        assert_eq!(delays, [0, 1, 1, 2, 1]);
        let expected = [
            [RED, RED, RED, RED],
            [RED, BLUE, RED, RED],
            [RED, RED, RED, BLUE],
            [RED, RED, RED, NONE],
            [RED, RED, RED, NONE],
        ];
        assert_eq!(shown(&found), expected);
        assert_eq!(
            of_gif(&bytes, 80).unwrap_err(),
            "a frame of 81 pixels, at most 80 are allowed"
        );
        assert!(
            of_gif(&bytes, 19)
                .unwrap_err()
                .starts_with("5 pictures of 2 × 2 pixels")
        );
        let count = Count {
            width: 2,
            height: 2,
            frames: 5,
            still: false,
        };
        assert_eq!(crate::picture::animation::count(&bytes), Ok(Some(count)));
    }

    #[test]
    fn interlaced_rows_are_sorted() {
        let mut part = part(8, 0, 0, 0, DisposalMethod::Keep);
        // The rows in the order of the file: 0, 4, 2, 6, 1, 3, 5, 7.
        part.buffer = [0, 1, 0, 0, 0, 0, 0, 1]
            .map(|row| [row; 8])
            .as_flattened()
            .to_vec()
            .into();
        part.interlaced = true;
        let found = of_gif(&file(8, Repeat::Infinite, &[part]), 64).unwrap();
        let rows: Vec<_> = shown(&found)[0].iter().step_by(8).copied().collect();
        assert_eq!(rows, [RED, RED, RED, RED, BLUE, RED, RED, BLUE]);
        assert!(
            matches!(found.frames[0].pixels, DynamicImage::ImageRgb8(_)),
            "nothing is transparent"
        );
    }

    #[test]
    fn the_canvas_holds_the_first_frame() {
        let parts = [
            part(3, 1, 0, 0, DisposalMethod::Keep),
            part(9, 0, 0, 1, DisposalMethod::Keep),
        ];
        let mut bytes = file(1, Repeat::Infinite, &parts);
        for size in [1, 0] {
            bytes[6..10].copy_from_slice(&[size, 0, size, 0]);
            let found = of_gif(&bytes, 100).unwrap();
            assert_eq!(
                (
                    found.frames[0].pixels.width(),
                    found.frames[0].pixels.height()
                ),
                (4, 3)
            );
            assert_eq!(shown(&found)[1], [BLUE; 12]);
        }
    }

    #[test]
    fn what_is_cut_is_refused_but_for_the_end_mark() {
        let keep = DisposalMethod::Keep;
        let bytes = file(
            4,
            Repeat::Infinite,
            &[part(4, 0, 0, 0, keep), part(4, 0, 0, 1, keep)],
        );
        let frames = |end: usize| of_gif(&bytes[..end], 1000).map(|found| found.frames.len());
        let first = (0..bytes.len()).find(|end| frames(*end).is_ok()).unwrap();
        assert_eq!(frames(first), Ok(1));
        // What precedes the second frame's own block can be lost without a picture being lost.
        let second = (first..bytes.len())
            .find(|end| frames(*end).is_err())
            .unwrap();
        assert!(
            frames(second)
                .unwrap_err()
                .starts_with("frame 2: truncated")
        );
        for end in second..bytes.len() - 1 {
            assert!(frames(end).is_err(), "{end}");
        }
        assert_eq!(
            (frames(bytes.len() - 1), frames(bytes.len())),
            (Ok(2), Ok(2))
        );
        let followed = [&bytes[..bytes.len() - 1], b"\0\0junk"].concat();
        assert_eq!(of_gif(&followed, 1000).unwrap().frames.len(), 2);
    }

    #[test]
    fn frames_of_few_colours_come_back() {
        let picture =
            |n: u8| RgbImage::from_fn(16, 16, |x, y| Rgb([x as u8 * 16, y as u8 * 16, n]));
        let mut clear = image::DynamicImage::from(picture(1)).into_rgba8();
        for pixel in clear.pixels_mut().step_by(3) {
            pixel.0 = [0; 4];
        }
        let clear_other = RgbaImage::from_pixel(16, 16, image::Rgba([0; 4]));
        let sequences: [[DynamicImage; 2]; 2] = [
            [picture(1).into(), picture(2).into()],
            [clear.into(), clear_other.into()],
        ];
        for pictures in sequences {
            for loops in [0, 1, 2, 65_536] {
                let frame = |(pixels, numerator)| Frame {
                    pixels,
                    delay: Delay {
                        numerator,
                        denominator: 100,
                    },
                };
                let original = Animation {
                    frames: pictures
                        .clone()
                        .into_iter()
                        .zip([0, 65_535])
                        .map(frame)
                        .collect(),
                    loops,
                    still: None,
                };
                let mut bytes = Vec::new();
                to_gif(&original, &mut bytes).unwrap();
                assert_eq!(of_gif(&bytes, 10_000).unwrap(), original);
            }
        }
    }

    #[test]
    fn many_colours_become_similar() {
        let picture = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([x as u8 * 4, y as u8 * 4, (x + y) as u8])
        });
        let delay = Delay {
            numerator: 1,
            denominator: 30,
        };
        let frame = Frame {
            pixels: picture.clone().into(),
            delay,
        };
        let mut bytes = Vec::new();
        let frames = vec![frame.clone(), frame];
        to_gif(
            &Animation {
                frames,
                loops: 0,
                still: None,
            },
            &mut bytes,
        )
        .unwrap();
        let found = of_gif(&bytes, 10_000).unwrap();
        let difference: u64 = found.frames[0]
            .pixels
            .as_bytes()
            .iter()
            .zip(picture.iter())
            .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
            .sum();
        let mean = difference as f64 / (3.0 * 64.0 * 64.0);
        assert!(
            mean < 25.0,
            "mean squared difference {mean}, 16 · 16 colours apart in two channels: 18"
        );
    }

    #[test]
    fn sizes_beyond_the_format_are_refused() {
        let picture = DynamicImage::new_luma8(65_536, 1);
        let animation = crate::picture::animation::tests::animation(vec![picture], 0);
        assert!(
            to_gif(&animation, Vec::new())
                .unwrap_err()
                .contains("65536 × 1 pixels")
        );
    }
}
