//! WebP with loss, as libwebp encodes it, and what a WebP file is made of.

use webp::{Encoder, PixelLayout, WebPConfig};

/// The most pixels a side of a WebP picture.
const MAX_SIDE: u32 = 16_383;

/// A WebP file of 8-bit interleaved `samples`, `[height, width, 3]` or with `alpha` `[height, width, 4]`.
///
/// `quality` is libwebp's, 1 to 100. Alpha is kept exactly; colours where it is 0 are not. An alpha that
/// is opaque everywhere is left out.
///
/// # Errors
///
/// The samples are not as many as said, a side is 0 or over 16,383, the quality is not 1 to 100, or
/// memory is short.
pub(crate) fn encode_webp_lossy(
    samples: &[u8],
    width: u32,
    height: u32,
    alpha: bool,
    quality: u8,
) -> Result<Vec<u8>, String> {
    if !(1..=100).contains(&quality) {
        return Err(format!("WebP quality {quality}, expected 1 to 100"));
    }
    if ![width, height]
        .iter()
        .all(|side| (1..=MAX_SIDE).contains(side))
    {
        return Err(format!(
            "{width} × {height} pixels, WebP holds 1 to {MAX_SIDE} a side"
        ));
    }
    let layout = if alpha {
        PixelLayout::Rgba
    } else {
        PixelLayout::Rgb
    };
    let expected = width as usize * height as usize * usize::from(layout.bytes_per_pixel());
    if samples.len() != expected {
        return Err(format!("{} samples, expected {expected}", samples.len()));
    }
    let mut config = WebPConfig::new().map_err(|()| "libwebp is of another version")?;
    config.quality = f32::from(quality);
    // Colour has half the resolution of brightness. Halved with care for what is seen, edges stay sharper:
    // 0.1 to 1.7 dB at a quality of 95 for 4 to 11% more bytes.
    config.use_sharp_yuv = 1;
    match Encoder::new(samples, layout, width, height).encode_advanced(&config) {
        Ok(file) => Ok(file.to_vec()),
        Err(reason) => Err(format!("libwebp cannot encode it: {reason:?}")),
    }
}

/// Whether the picture, or the first frame, is coded with loss. `false` of what is no WebP.
pub(crate) fn webp_is_lossy(bytes: &[u8]) -> bool {
    riff_body(bytes).and_then(is_lossy).unwrap_or(false)
}

fn is_lossy(chunks_of: &[u8]) -> Option<bool> {
    chunks(chunks_of).find_map(|chunk| match &chunk.name {
        b"VP8 " => Some(true),
        b"VP8L" => Some(false),
        b"ANMF" => chunk.data.get(16..).and_then(is_lossy),
        _ => None,
    })
}

/// A chunk of a RIFF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) name: [u8; 4],
    /// Less than the chunk says where the file ends within it.
    pub(crate) data: &'a [u8],
    pub(crate) whole: bool,
}

/// The chunks of a WebP file. `None` if it is none.
pub(crate) fn riff_body(bytes: &[u8]) -> Option<&[u8]> {
    let (_, rest) = bytes
        .split_at_checked(4)
        .filter(|(name, _)| name == b"RIFF")?;
    let (size, rest) = rest.split_first_chunk()?;
    // What follows the RIFF chunk is not part of the picture.
    let body = rest
        .get(..u32::from_le_bytes(*size) as usize)
        .unwrap_or(rest);
    body.strip_prefix(b"WEBP")
}

/// The chunks that lie in `bytes` one after another.
pub(crate) fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let size = u32::from_le_bytes(*size) as usize;
        let (data, padded) = rest.split_at(size.min(rest.len()));
        bytes = padded.get(size % 2..).unwrap_or_default();
        Some(Chunk {
            name: *name,
            data,
            whole: data.len() == size,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, RgbaImage};

    /// Smooth colours, and an alpha of 0 to 255.
    fn picture(width: u32, height: u32) -> DynamicImage {
        RgbaImage::from_fn(width, height, |x, y| {
            image::Rgba([x * 4, y * 5, 90 + x + y, x * 37 + y * 11].map(|value| value as u8))
        })
        .into()
    }

    fn mean_difference(file: &[u8], original: &DynamicImage) -> f64 {
        let decoded = image::load_from_memory(file).unwrap().to_rgb8();
        let original = original.to_rgb8();
        assert_eq!(decoded.dimensions(), original.dimensions());
        let pairs = decoded.iter().zip(original.iter());
        let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        f64::from(sum) / decoded.len() as f64
    }

    #[test]
    fn more_quality_is_closer_and_larger() {
        let picture = picture(61, 47);
        let [low, middle, high] = [1, 60, 100]
            .map(|quality| encode_webp_lossy(&picture.to_rgb8(), 61, 47, false, quality).unwrap());
        assert!(low.len() < middle.len() && middle.len() < high.len());
        let [low, middle, high] = [low, middle, high].map(|file| mean_difference(&file, &picture));
        assert!(high < middle && middle < low, "{high} {middle} {low}");
        assert!(high < 2.0, "{high}");
    }

    #[test]
    fn alpha_is_kept_exactly() {
        let picture = picture(33, 20).to_rgba8();
        let file = encode_webp_lossy(&picture, 33, 20, true, 30).unwrap();
        let decoded = image::load_from_memory(&file).unwrap().to_rgba8();
        assert!(
            picture
                .pixels()
                .zip(decoded.pixels())
                .all(|(a, b)| a[3] == b[3])
        );
    }

    #[test]
    fn other_sizes_and_qualities_are_refused() {
        let refused = |samples: usize, width, height, alpha, quality| {
            encode_webp_lossy(&vec![0; samples], width, height, alpha, quality).unwrap_err()
        };
        assert!(refused(12, 2, 2, false, 0).contains("quality 0"));
        assert!(refused(12, 2, 2, false, 101).contains("quality 101"));
        assert!(refused(0, 0, 2, false, 90).contains("0 × 2 pixels"));
        assert!(refused(0, 1, u32::MAX, false, 90).contains("1 to 16383"));
        assert!(refused(3 * 16_384, 16_384, 1, false, 90).contains("1 to 16383"));
        assert!(refused(12, 2, 2, true, 90).contains("12 samples, expected 16"));
    }

    #[test]
    fn loss_is_seen_in_every_container() {
        let picture = picture(8, 8);
        let opaque = encode_webp_lossy(&picture.to_rgb8(), 8, 8, false, 90).unwrap();
        let with_alpha = encode_webp_lossy(&picture.to_rgba8(), 8, 8, true, 90).unwrap();
        let mut without = Vec::new();
        let encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut without);
        picture.write_with_encoder(encoder).unwrap();
        assert_eq!(
            (&opaque[12..16], &with_alpha[12..16]),
            (&b"VP8 "[..], &b"VP8X"[..])
        );
        assert!(webp_is_lossy(&opaque) && webp_is_lossy(&with_alpha) && !webp_is_lossy(&without));
        assert!(webp_is_lossy(&opaque[..30]), "truncated");
        assert!(!webp_is_lossy(&opaque[..15]) && !webp_is_lossy(b"RIFF") && !webp_is_lossy(b""));
    }

    #[test]
    fn chunks_are_padded_to_even_lengths_and_cut_at_the_end() {
        let bytes = b"abcd\x03\0\0\0xyz\0efgh\0\0\0\0ijkl\x09\0\0\0uv";
        let found: Vec<_> = chunks(bytes).collect();
        let chunk = |name: &[u8; 4], data, whole| Chunk {
            name: *name,
            data,
            whole,
        };
        let expected = [
            chunk(b"abcd", &b"xyz"[..], true),
            chunk(b"efgh", b"", true),
            chunk(b"ijkl", b"uv", false),
        ];
        assert_eq!(found, expected);
        assert_eq!(riff_body(b"RIFF\x06\0\0\0WEBPabcd"), Some(&b"ab"[..]));
        assert_eq!(riff_body(b"RIFF\xff\0\0\0WEBPabcd"), Some(&b"abcd"[..]));
        assert_eq!(riff_body(b"RIFF\xff\0\0\0WAVEabcd"), None);
    }
}
