//! AVIF through the crate `re_rav1d`, dav1d in Rust, which decodes the AV1 pictures; boxes, tiles, colours and
//! orientation are read here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::DynamicImage;
use re_rav1d::dav1d::pixel::YUVRange;
use re_rav1d::dav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings};

use super::container::{Container, Nclx, Transform};
use super::planes::{Plane, Planes};
use super::{Decoded, code_points};

/// Width and height of the upright photograph in an AVIF file, in pixels, from its header alone.
///
/// # Errors
/// The file is damaged, or an animation alone.
pub(super) fn avif_size(bytes: &[u8]) -> Result<(u32, u32), String> {
    let container = Container::read(bytes)?;
    let mut size = coded_size(&container, container.primary)?;
    for step in container.transforms(container.primary, size.0, size.1)? {
        match step {
            Transform::Crop([_, _, width, height]) => size = (width, height),
            Transform::Rotate(turns) if turns % 2 == 1 => size = (size.1, size.0),
            _ => {}
        }
    }
    Ok(size)
}

/// Decodes the primary photograph of an AVIF file; that of an animation is what it shows where nothing moves.
///
/// What the container leaves open of the colours, the AV1 stream tells; an unspecified matrix is BT.601.
///
/// # Errors
/// The file is damaged, has more than `max_pixels`, is an animation alone, or its colours use a matrix that is not read
/// (of constant luminance, ICtCp).
pub(super) fn decode_avif(bytes: &[u8], max_pixels: u64) -> Result<Decoded, String> {
    let container = Container::read(bytes)?;
    let item = container.primary;
    let (planes, told) = decode_item(&container, item, max_pixels)?;
    let alpha_item = container.alpha(item);
    let alpha = alpha_item
        .map(|item| decode_item(&container, item, max_pixels))
        .transpose()?;
    let alpha = alpha.map(|(alpha, _)| alpha);
    let same = |alpha: &Planes| {
        (alpha.luma.width, alpha.luma.height) == (planes.luma.width, planes.luma.height)
    };
    if !alpha.as_ref().is_none_or(same) {
        return Err("its alpha has another size than its colours".to_owned());
    }
    let (width, height) = coded_size(&container, item)?;
    let steps = container.transforms(item, width, height)?;
    let picture = planes.picture(told.matrix, alpha.as_ref())?;
    drop((planes, alpha));
    let mut warnings = Vec::new();
    if bytes.get(8..12) == Some(b"avis") {
        warnings.push("holds an animation: its still picture is taken".to_owned());
    }
    Ok(Decoded {
        pixels: steps.into_iter().fold(picture, transformed),
        icc: container.icc(item),
        cicp: code_points(told.primaries, told.transfer),
        exif: container.exif(item),
        xmp: container.xmp(item),
        premultiplied: alpha_item
            .is_some_and(|alpha| container.referred(item, b"prem").any(|id| id == alpha)),
        warnings,
    })
}

fn coded_size(container: &Container, item: u32) -> Result<(u32, u32), String> {
    container
        .size(item)
        .ok_or_else(|| "does not tell its size".to_owned())
}

fn transformed(picture: DynamicImage, step: Transform) -> DynamicImage {
    match step {
        Transform::Crop([left, top, width, height]) => picture.crop_imm(left, top, width, height),
        Transform::Rotate(1) => picture.rotate270(),
        Transform::Rotate(2) => picture.rotate180(),
        Transform::Rotate(_) => picture.rotate90(),
        Transform::FlipVertically => picture.flipv(),
        Transform::FlipHorizontally => picture.fliph(),
    }
}

/// The planes of a coded picture or of a grid of them, as large as the header says, and their colours.
fn decode_item(
    container: &Container,
    item: u32,
    max_pixels: u64,
) -> Result<(Planes, Nclx), String> {
    let (width, height) = coded_size(container, item)?;
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(format!(
            "{width}x{height} pixels, more than {max_pixels} in all"
        ));
    }
    let first_tile = || {
        container
            .referred(item, b"dimg")
            .next()
            .and_then(|tile| container.nclx(tile))
    };
    let told = container.nclx(item).or_else(first_tile);
    let (planes, told) = match container.kind(item) {
        Some(b"av01") => decode_stream(&container.data(item)?, told, max_pixels)?,
        Some(b"grid") => decode_grid(container, item, told, max_pixels)?,
        Some(kind) => {
            return Err(format!(
                "holds a picture of kind `{}`, which is not read",
                kind.escape_ascii()
            ));
        }
        None => return Err("does not have its own primary picture".to_owned()),
    };
    if (planes.luma.width, planes.luma.height) != (width as usize, height as usize) {
        let (coded, rows) = (planes.luma.width, planes.luma.height);
        return Err(format!(
            "its header says {width}x{height} pixels, and its picture has {coded}x{rows}"
        ));
    }
    Ok((planes, told))
}

/// Decodes tiles, in rows from the top left, into one picture.
fn decode_grid(
    container: &Container,
    item: u32,
    told: Option<Nclx>,
    max_pixels: u64,
) -> Result<(Planes, Nclx), String> {
    let grid = container.grid(item)?;
    let (width, height) = (grid.width as usize, grid.height as usize);
    let (rows, columns) = (grid.rows as usize, grid.columns as usize);
    let tiles: Vec<u32> = container.referred(item, b"dimg").collect();
    if tiles.len() != rows * columns {
        return Err(format!(
            "its grid has {} tiles and not {columns}x{rows}",
            tiles.len()
        ));
    }
    if u64::from(grid.width) * u64::from(grid.height) > max_pixels {
        return Err(format!(
            "{width}x{height} pixels, more than {max_pixels} in all"
        ));
    }
    let mut whole: Option<(Planes, Nclx, usize, usize)> = None;
    for (index, &tile) in tiles.iter().enumerate() {
        if container.kind(tile) != Some(b"av01") {
            return Err("its grid has tiles that are not AV1".to_owned());
        }
        let (part, told) = decode_stream(&container.data(tile)?, told, max_pixels)?;
        let (across, down) = (part.luma.width, part.luma.height);
        let (canvas, _, tile_width, tile_height) = match &mut whole {
            Some(whole) => whole,
            none => none.insert((canvas(&part, grid.width, grid.height), told, across, down)),
        };
        let chroma_size =
            |planes: &Planes| planes.chroma.as_ref().map(|[cb, _]| (cb.width, cb.height));
        let alike = (across, down) == (*tile_width, *tile_height)
            && (part.depth, part.full_range) == (canvas.depth, canvas.full_range)
            && chroma_size(&part).is_some() == chroma_size(canvas).is_some();
        // All tiles but those at the right and at the bottom are inside; without this, many could be decoded for nothing.
        let covers = |tile: usize, count: usize, side: usize| {
            (tile * (count - 1)..=tile * count).contains(&side)
        };
        if !alike || !covers(across, columns, width) || !covers(down, rows, height) {
            return Err("its grid's tiles do not fit together".to_owned());
        }
        let (left, top) = (index % columns * across, index / columns * down);
        canvas.luma.place(&part.luma, left, top);
        if let (Some(parts), Some(planes)) = (&part.chroma, &mut canvas.chroma) {
            for (part, plane) in parts.iter().zip(planes) {
                plane.place(part, left * part.width / across, top * part.height / down);
            }
        }
    }
    whole
        .map(|(planes, told, ..)| (planes, told))
        .ok_or_else(|| "its grid has no tiles".to_owned())
}

/// An empty picture of `width` by `height` whose planes are like those of `tile`.
fn canvas(tile: &Planes, width: u32, height: u32) -> Planes {
    let (width, height) = (width as usize, height as usize);
    let part = |whole: usize, of: usize, in_tile: usize| {
        if of == in_tile {
            whole
        } else {
            whole.div_ceil(2)
        }
    };
    let chroma = tile.chroma.as_ref().map(|[cb, _]| {
        let plane = Plane::black(
            part(width, tile.luma.width, cb.width),
            part(height, tile.luma.height, cb.height),
        );
        [plane.clone(), plane]
    });
    Planes {
        luma: Plane::black(width, height),
        chroma,
        depth: tile.depth,
        full_range: tile.full_range,
    }
}

/// Decodes an AV1 stream: its last picture, which of several qualities is the best one.
fn decode_stream(
    stream: &[u8],
    told: Option<Nclx>,
    max_pixels: u64,
) -> Result<(Planes, Nclx), String> {
    let reason = |error: Error| format!("its AV1 stream is damaged or not supported ({error})");
    if stream.is_empty() {
        return Err("its AV1 stream is empty".to_owned());
    }
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(max_pixels).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings).map_err(reason)?;
    let mut last = None;
    let mut sent = decoder.send_data(stream.to_vec(), None, None, None);
    loop {
        match decoder.get_picture() {
            Ok(picture) => last = Some(picture),
            Err(Error::Again) if sent.is_err() => {}
            Err(Error::Again) => break,
            Err(error) => return Err(reason(error)),
        }
        match sent {
            Ok(()) => {}
            Err(Error::Again) => sent = decoder.send_pending_data(),
            Err(error) => return Err(reason(error)),
        }
    }
    let picture = last.ok_or("its AV1 stream has no picture")?;
    let told = told.unwrap_or_else(|| colours(&picture));
    Ok((planes(&picture, told.full_range)?, told))
}

/// What the AV1 stream tells of colours. The crate panics at numbers that are reserved, which then say nothing.
fn colours(picture: &Picture) -> Nclx {
    const UNSPECIFIED: u16 = 2;
    let codes = || {
        let primaries = picture.color_primaries() as u16;
        (
            primaries,
            picture.transfer_characteristic() as u16,
            picture.matrix_coefficients() as u16,
        )
    };
    let codes = catch_unwind(AssertUnwindSafe(codes));
    let (primaries, transfer, matrix) = codes.unwrap_or((UNSPECIFIED, UNSPECIFIED, UNSPECIFIED));
    Nclx {
        primaries,
        transfer,
        matrix,
        full_range: picture.color_range() == YUVRange::Full,
    }
}

fn planes(picture: &Picture, full_range: bool) -> Result<Planes, String> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let depth = picture
        .bits_per_component()
        .ok_or("its samples have an unknown number of bits")?
        .0 as u32;
    let plane = |component: PlanarImageComponent, width: usize, height: usize| -> Option<Plane> {
        let data = picture.plane(component);
        let rows = data.chunks(picture.stride(component) as usize).take(height);
        let mut samples = Vec::with_capacity(width * height);
        for row in rows {
            if depth == 8 {
                samples.extend(row.get(..width)?.iter().map(|&sample| u16::from(sample)));
            } else {
                let pairs = row.get(..2 * width)?.as_chunks::<2>().0;
                samples.extend(pairs.iter().map(|pair| u16::from_ne_bytes(*pair)));
            }
        }
        (samples.len() == width * height).then_some(Plane {
            width,
            height,
            samples,
        })
    };
    let (chroma_width, chroma_height) = match picture.pixel_layout() {
        PixelLayout::I420 => (width.div_ceil(2), height.div_ceil(2)),
        PixelLayout::I422 => (width.div_ceil(2), height),
        PixelLayout::I400 | PixelLayout::I444 => (width, height),
    };
    let chroma = |component| plane(component, chroma_width, chroma_height);
    let read = || -> Option<Planes> {
        let chroma = match picture.pixel_layout() {
            PixelLayout::I400 => None,
            _ => Some([
                chroma(PlanarImageComponent::U)?,
                chroma(PlanarImageComponent::V)?,
            ]),
        };
        let luma = plane(PlanarImageComponent::Y, width, height)?;
        Some(Planes {
            luma,
            chroma,
            depth,
            full_range,
        })
    };
    read()
        .ok_or_else(|| "the decoder gave another number of samples than the picture has".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::decode::heif::tests::{
        check_gray, check_premultiplied, check_turned, quarters,
    };

    const TURNED: &[u8] = include_bytes!("../../../../tests/fixtures/heif/tiles-turned.avif");
    const PREMULTIPLIED: &[u8] =
        include_bytes!("../../../../tests/fixtures/heif/premultiplied.avif");
    const GRAY: &[u8] = include_bytes!("../../../../tests/fixtures/heif/gray-10bit.avif");
    const TWELVE_BIT: &[u8] = include_bytes!("../../../../tests/fixtures/heif/twelve-bit.avif");
    const ANIMATION: &[u8] = include_bytes!("../../../../tests/fixtures/heif/animation.avif");
    const LIMIT: u64 = 1 << 20;

    #[test]
    fn tiles_come_out_upright_with_their_metadata() {
        check_turned(&decode_avif(TURNED, LIMIT).unwrap());
        assert_eq!(avif_size(TURNED), Ok((72, 104)));
    }

    #[test]
    fn alpha_and_gray_of_ten_bits_are_kept() {
        check_premultiplied(&decode_avif(PREMULTIPLIED, LIMIT).unwrap());
        check_gray(&decode_avif(GRAY, LIMIT).unwrap());
    }

    #[test]
    fn twelve_bits_and_odd_sides_are_read() {
        let decoded = decode_avif(TWELVE_BIT, LIMIT).unwrap();
        assert!(matches!(decoded.pixels, DynamicImage::ImageRgb16(_)));
        assert_eq!((decoded.pixels.width(), decoded.pixels.height()), (41, 25));
        assert_eq!(avif_size(TWELVE_BIT), Ok((41, 25)));
        assert_eq!(decoded.cicp, None);
        quarters(&decoded.pixels, [0, 1, 2, 3]);
    }

    #[test]
    fn of_an_animation_the_still_picture_is_taken() {
        let decoded = decode_avif(ANIMATION, LIMIT).unwrap();
        quarters(&decoded.pixels, [0, 1, 2, 3]);
        assert_eq!(decoded.warnings.len(), 1);
    }

    #[test]
    fn too_many_pixels_are_refused() {
        assert!(decode_avif(TURNED, 104 * 72).is_ok());
        let error = decode_avif(TURNED, 104 * 72 - 1).err().unwrap();
        assert!(error.contains("104x72 pixels, more than 7487"), "{error}");
    }

    #[test]
    fn damage_gives_errors() {
        let whole = |bytes: &[u8]| decode_avif(bytes, LIMIT).is_ok() && avif_size(bytes).is_ok();
        // The EXIF and XMP data come last, and a photograph is read without them.
        for length in (0..TURNED.len() - 73).step_by(13) {
            assert!(!whole(&TURNED[..length]), "cut to {length}");
        }
        // One bit of every seventh byte of the boxes: other pictures at most.
        for at in (0..500).step_by(7) {
            let mut bytes = TURNED.to_vec();
            bytes[at] ^= 1 << (at % 8);
            whole(&bytes);
        }
    }

    #[test]
    fn a_size_that_the_picture_does_not_have_is_refused() {
        let at = TWELVE_BIT
            .windows(4)
            .position(|name| name == b"ispe")
            .unwrap();
        let mut bytes = TWELVE_BIT.to_vec();
        bytes[at + 11] = 40;
        let error = decode_avif(&bytes, LIMIT).err().unwrap();
        assert!(
            error.contains("40x25") && error.contains("41x25"),
            "{error}"
        );
    }
}
