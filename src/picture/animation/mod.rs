//! Animations, APNG, animated WebP and GIF, as the whole pictures that are shown one after another.
//!
//! Files of these formats hold parts of a canvas, which are drawn over or in place of what is there.
//! What is read here is the canvas after each part. What is written are whole canvases again, each in
//! place of the one before, so that files become larger than their originals.
//!
//! Metadata and profiles are neither read nor written.

use image::DynamicImage;

mod gif;
mod palette;
mod png;
mod webp;

pub(crate) use gif::{of_gif, to_gif};
pub(crate) use png::{of_png, to_png};
pub(crate) use webp::{of_webp, to_webp};

/// Pictures shown one after another, all of one size, kind and depth.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Animation {
    pub(crate) frames: Vec<Frame>,
    /// How many times the frames are shown, 0 for ever.
    pub(crate) loops: u32,
    /// What programs that know no animations show of an APNG, where it is not the first frame. Of the
    /// frames' size and kind. Only APNG has it: WebP and GIF are written without.
    pub(crate) still: Option<DynamicImage>,
}

/// A whole picture and how long it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// 8 bits, or 16 from an APNG of that many; gray from a gray APNG; with alpha where the file has it
    /// or where some frame leaves some of the canvas uncovered.
    pub(crate) pixels: DynamicImage,
    pub(crate) delay: Delay,
}

/// A time in seconds, as a fraction. The denominator is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

/// What a file holds, by its structure alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// Of the canvas, pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: usize,
    /// Whether there is a [still](Animation::still) besides.
    pub(crate) still: bool,
}

impl Count {
    fn pictures(self) -> u64 {
        self.frames as u64 + u64::from(self.still)
    }

    /// The samples of all pictures fit in memory only if someone has said how many may be there.
    fn check(self, max_pixels_in_all: u64) -> Result<(), String> {
        let (width, height) = (self.width, self.height);
        let pixels = u128::from(self.pictures()) * u128::from(width) * u128::from(height);
        if pixels > u128::from(max_pixels_in_all) {
            let pictures = self.pictures();
            return Err(format!(
                "{pictures} pictures of {width} × {height} pixels, at most {max_pixels_in_all} pixels in all are allowed"
            ));
        }
        Ok(())
    }
}

/// The frames of an APNG, an animated WebP or any GIF, without decoding. `None` of other files, and of
/// those that [`of_png`] and [`of_webp`] do not take as animations.
///
/// # Errors
///
/// The structure of the animation is damaged or the file ends within it.
pub(crate) fn count(bytes: &[u8]) -> Result<Option<Count>, String> {
    if bytes.starts_with(png::SIGNATURE) {
        png::count(bytes)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        webp::count(bytes)
    } else if bytes.starts_with(b"GIF8") {
        gif::count(bytes).map(Some)
    } else {
        Ok(None)
    }
}

impl Delay {
    /// In 1/`per_second` s, if that is a whole number.
    fn whole(self, per_second: u32) -> Option<u64> {
        let units = u64::from(self.numerator) * u64::from(per_second);
        let denominator = u64::from(self.denominator.max(1));
        units
            .is_multiple_of(denominator)
            .then_some(units / denominator)
    }
}

/// Each frame's delay in whole 1/`per_second` s.
///
/// Those that cannot be said exactly become at least `least` and are rounded such that their errors do
/// not add up over the animation.
fn whole_delays(frames: &[Frame], per_second: u32, least: u64) -> Vec<u64> {
    let mut late = 0.0; // how much later than it should the next frame comes
    let rounded = |delay: Delay| {
        if let Some(exact) = delay.whole(per_second) {
            return exact;
        }
        let seconds = f64::from(delay.numerator) / f64::from(delay.denominator.max(1));
        let exact = seconds * f64::from(per_second);
        let units = ((exact - late).round() as u64).max(least);
        late += units as f64 - exact;
        units
    };
    frames
        .iter()
        .map(|frame| frame.delay)
        .map(rounded)
        .collect()
}

/// The size that all pictures have.
///
/// # Errors
///
/// There is no frame, or the pictures differ in size, kind or depth.
fn common_size(animation: &Animation) -> Result<(u32, u32), String> {
    let first = &animation.frames.first().ok_or("no frames")?.pixels;
    let frames = animation.frames.iter().map(|frame| &frame.pixels);
    let same = |picture: &DynamicImage| {
        (picture.width(), picture.height(), picture.color())
            == (first.width(), first.height(), first.color())
    };
    if !frames.chain(&animation.still).all(same) {
        return Err("frames of different sizes or kinds".into());
    }
    Ok((first.width(), first.height()))
}

/// What happens to a part of the canvas after it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It stays.
    Keep,
    /// It becomes transparent.
    Clear,
    /// It becomes what it was before.
    Restore,
}

/// A rectangle of pixels, red, green, blue and alpha.
#[derive(Debug, Clone)]
struct Raster<S> {
    width: usize,
    height: usize,
    pixels: Vec<[S; 4]>, // [height, width]
}

/// What one frame of a file draws. What lies beyond the canvas is not drawn.
#[derive(Debug)]
struct Part<S> {
    /// Of the upper left corner.
    x: usize,
    y: usize,
    raster: Raster<S>,
    /// Whether it is blended over what is there, and not put in its place.
    over: bool,
    after: After,
    delay: Delay,
}

/// Draws parts on a canvas, at first transparent, and collects what is shown.
struct Composer<S> {
    canvas: Raster<S>,
    shown: Vec<(Raster<S>, Delay)>,
}

impl<S: Sample> Composer<S> {
    fn new(count: Count) -> Self {
        let (width, height) = (count.width as usize, count.height as usize);
        let pixels = vec![[S::default(); 4]; width * height];
        Composer {
            canvas: Raster {
                width,
                height,
                pixels,
            },
            shown: Vec::new(),
        }
    }

    fn show(&mut self, part: &Part<S>) {
        let before = (part.after == After::Restore).then(|| self.canvas.clone());
        self.rows(part, |there, new| {
            if part.over {
                for (there, new) in there.iter_mut().zip(new) {
                    *there = over(*new, *there);
                }
            } else {
                there.copy_from_slice(new);
            }
        });
        self.shown.push((self.canvas.clone(), part.delay));
        if part.after == After::Clear {
            self.rows(part, |there, _| there.fill([S::default(); 4]));
        } else if let Some(before) = before {
            self.canvas = before;
        }
    }

    /// Calls `change` with each row of the canvas that `part` covers and the part's own, of the same length.
    fn rows(&mut self, part: &Part<S>, change: impl Fn(&mut [[S; 4]], &[[S; 4]])) {
        let canvas = &mut self.canvas;
        let columns = part.raster.width.min(canvas.width.saturating_sub(part.x));
        if columns == 0 {
            return;
        }
        let there = canvas.pixels.chunks_exact_mut(canvas.width).skip(part.y);
        let new = part.raster.pixels.chunks_exact(part.raster.width);
        for (there, new) in there.zip(new) {
            change(&mut there[part.x..part.x + columns], &new[..columns]);
        }
    }

    /// The animation of what was shown, gray if `gray`, with alpha if `alpha` or if it is needed.
    fn finish(
        self,
        still: Option<Raster<S>>,
        loops: u32,
        gray: bool,
        alpha: bool,
    ) -> Result<Animation, String> {
        let opaque = |raster: &Raster<S>| raster.pixels.iter().all(|pixel| pixel[3] == S::MAX);
        let all = self.shown.iter().map(|(raster, _)| raster).chain(&still);
        let layout = Layout {
            gray,
            alpha: alpha || !all.into_iter().all(opaque),
        };
        let frame = |(raster, delay)| {
            let pixels = layout.picture(raster)?;
            Ok(Frame { pixels, delay })
        };
        Ok(Animation {
            frames: self
                .shown
                .into_iter()
                .map(frame)
                .collect::<Result<_, String>>()?,
            loops,
            still: still.map(|raster| layout.picture(raster)).transpose()?,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    gray: bool,
    alpha: bool,
}

impl Layout {
    fn picture<S: Sample>(self, raster: Raster<S>) -> Result<DynamicImage, String> {
        let size = u32::try_from(raster.width).ok();
        let size = size.zip(u32::try_from(raster.height).ok());
        let pixels = raster.pixels;
        let samples = match (self.gray, self.alpha) {
            (true, false) => pixels.into_iter().map(|[gray, ..]| gray).collect(),
            (true, true) => pixels.into_iter().flat_map(|[g, _, _, a]| [g, a]).collect(),
            (false, false) => pixels
                .into_iter()
                .flat_map(|[r, g, b, _]| [r, g, b])
                .collect(),
            (false, true) => pixels.into_flattened(),
        };
        size.and_then(|(width, height)| S::picture(self, width, height, samples))
            .ok_or_else(|| "a frame is too large".into())
    }
}

/// 8 or 16 bits.
trait Sample: Copy + Default + PartialEq + Into<u64> {
    /// What means 1.
    const MAX: Self;

    /// `value` is at most [`MAX`](Self::MAX).
    fn narrow(value: u64) -> Self;

    /// Whole samples of `bytes`, most significant byte first.
    fn of_big_endian(bytes: &[u8]) -> Vec<Self>;

    fn picture(layout: Layout, width: u32, height: u32, samples: Vec<Self>)
    -> Option<DynamicImage>;
}

/// A [`DynamicImage`] of samples of one type, whose variants' names differ.
macro_rules! picture {
    ($gray:ident, $gray_alpha:ident, $colour:ident, $colour_alpha:ident) => {
        fn picture(
            layout: Layout,
            width: u32,
            height: u32,
            samples: Vec<Self>,
        ) -> Option<DynamicImage> {
            use image::ImageBuffer as Buffer;
            Some(match (layout.gray, layout.alpha) {
                (true, false) => DynamicImage::$gray(Buffer::from_raw(width, height, samples)?),
                (true, true) => {
                    DynamicImage::$gray_alpha(Buffer::from_raw(width, height, samples)?)
                }
                (false, false) => DynamicImage::$colour(Buffer::from_raw(width, height, samples)?),
                (false, true) => {
                    DynamicImage::$colour_alpha(Buffer::from_raw(width, height, samples)?)
                }
            })
        }
    };
}

impl Sample for u8 {
    const MAX: u8 = u8::MAX;

    fn narrow(value: u64) -> u8 {
        value as u8
    }

    fn of_big_endian(bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    picture!(ImageLuma8, ImageLumaA8, ImageRgb8, ImageRgba8);
}

impl Sample for u16 {
    const MAX: u16 = u16::MAX;

    fn narrow(value: u64) -> u16 {
        value as u16
    }

    fn of_big_endian(bytes: &[u8]) -> Vec<u16> {
        let (samples, _) = bytes.as_chunks();
        samples
            .iter()
            .map(|sample| u16::from_be_bytes(*sample))
            .collect()
    }

    picture!(ImageLuma16, ImageLumaA16, ImageRgb16, ImageRgba16);
}

/// `new` over `there`, neither multiplied by its alpha, rounded to the nearest.
fn over<S: Sample>(new: [S; 4], there: [S; 4]) -> [S; 4] {
    let one: u64 = S::MAX.into();
    let (new_alpha, there_alpha): (u64, u64) = (new[3].into(), there[3].into());
    if new_alpha == one {
        return new;
    }
    if new_alpha == 0 {
        return there;
    }
    // What each adds to the sum, times one².
    let (part, rest) = (new_alpha * one, there_alpha * (one - new_alpha));
    let whole = part + rest; // over 0 as `new_alpha` is
    let mut pixel = [S::MAX; 4];
    for ((result, new), there) in pixel.iter_mut().zip(new).zip(there).take(3) {
        *result = S::narrow((new.into() * part + there.into() * rest + whole / 2) / whole);
    }
    pixel[3] = S::narrow((whole + one / 2) / one);
    pixel
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Pixel};

    /// Two noisy pictures of each kind.
    pub(super) fn pictures() -> Vec<Vec<DynamicImage>> {
        fn noise<P: Pixel>(
            seed: u32,
            narrow: fn(u32) -> P::Subpixel,
        ) -> ImageBuffer<P, Vec<P::Subpixel>> {
            let (width, height) = (7, 5);
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                narrow(state >> 16)
            };
            let samples = width * height * u32::from(P::CHANNEL_COUNT);
            ImageBuffer::from_raw(width, height, (0..samples).map(|_| next()).collect()).unwrap()
        }
        fn two<P: Pixel>(narrow: fn(u32) -> P::Subpixel) -> Vec<DynamicImage>
        where
            DynamicImage: From<ImageBuffer<P, Vec<P::Subpixel>>>,
        {
            [1, 2].map(|seed| noise::<P>(seed, narrow).into()).into()
        }
        let (eight, sixteen) = (|value| value as u8, |value| value as u16);
        vec![
            two::<image::Luma<u8>>(eight),
            two::<image::LumaA<u8>>(eight),
            two::<image::Rgb<u8>>(eight),
            two::<image::Rgba<u8>>(eight),
            two::<image::Luma<u16>>(sixteen),
            two::<image::LumaA<u16>>(sixteen),
            two::<image::Rgb<u16>>(sixteen),
            two::<image::Rgba<u16>>(sixteen),
        ]
    }

    /// Of these pictures, and a still where they are two.
    pub(super) fn animation(pictures: Vec<DynamicImage>, loops: u32) -> Animation {
        let delay = |n: usize| Delay {
            numerator: n as u32 * 7,
            denominator: 100,
        };
        let still = pictures.get(1).cloned();
        let frames = pictures.into_iter().enumerate();
        let frames = frames.map(|(n, pixels)| Frame {
            pixels,
            delay: delay(n),
        });
        Animation {
            frames: frames.collect(),
            loops,
            still,
        }
    }

    #[test]
    fn blending_is_that_of_real_numbers_rounded() {
        fn check<S: Sample + TryFrom<u64>>(step: usize) {
            let one: u64 = S::MAX.into();
            let values = (0..=one).step_by(step);
            for (new_alpha, there_alpha) in values
                .clone()
                .flat_map(|a| values.clone().map(move |b| (a, b)))
            {
                let (new, there) = ([one, 7, 0, new_alpha], [0, one, 9, there_alpha]);
                let found = over(new.map(S::narrow), there.map(S::narrow)).map(Into::<u64>::into);
                let (a, b) = (
                    new_alpha as f64 / one as f64,
                    there_alpha as f64 / one as f64,
                );
                let alpha = a + b * (1.0 - a);
                assert!((found[3] as f64 - alpha * one as f64).abs() <= 0.5 + 1e-6);
                for c in 0..3 {
                    let sum = new[c] as f64 * a + there[c] as f64 * b * (1.0 - a);
                    if a > 0.0 {
                        assert!(
                            (found[c] as f64 - sum / alpha).abs() <= 0.5 + 1e-6,
                            "{new:?} {there:?}"
                        );
                    }
                }
            }
        }
        check::<u8>(3);
        check::<u16>(771);
        assert_eq!(over([1_u8, 2, 3, 0], [4, 5, 6, 7]), [4, 5, 6, 7]);
    }

    /// What a canvas of one row shows of parts (x, colour of a pixel, over, after).
    fn row(parts: &[(usize, [u8; 4], bool, After)]) -> Vec<Vec<[u8; 4]>> {
        let mut composer = Composer::new(Count {
            width: 3,
            height: 1,
            frames: 0,
            still: false,
        });
        for &(x, colour, over, after) in parts {
            let raster = Raster {
                width: 2,
                height: 2,
                pixels: vec![colour; 4],
            };
            let delay = Delay {
                numerator: 0,
                denominator: 1,
            };
            composer.show(&Part {
                x,
                y: 0,
                raster,
                over,
                after,
                delay,
            });
        }
        composer
            .shown
            .into_iter()
            .map(|(raster, _)| raster.pixels)
            .collect()
    }

    #[test]
    fn parts_stay_or_go_and_are_cut_at_the_edges() {
        let ([a, b, c], none) = ([[1, 1, 1, 255], [2, 2, 2, 255], [3, 3, 3, 0]], [0; 4]);
        let shown = row(&[
            (0, a, true, After::Keep),
            (2, b, true, After::Restore),
            (1, b, false, After::Clear),
            (0, c, true, After::Keep),
            (1, c, false, After::Keep),
            (9, b, false, After::Keep),
        ]);
        let expected = [
            [a, a, none],
            [a, a, b],
            [a, b, b],
            [a, none, none],
            [a, c, c],
            [a, c, c],
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn delays_are_exact_or_rounded_without_drift() {
        let frames = |delays: &[(u32, u32)]| -> Vec<Frame> {
            let frame = |&(numerator, denominator)| Frame {
                pixels: DynamicImage::new_luma8(1, 1),
                delay: Delay {
                    numerator,
                    denominator,
                },
            };
            delays.iter().map(frame).collect()
        };
        assert_eq!(
            whole_delays(&frames(&[(1, 30); 6]), 1000, 1),
            [33, 34, 33, 33, 34, 33]
        );
        assert_eq!(
            whole_delays(&frames(&[(1, 30), (5, 1), (1, 30), (0, 9)]), 1000, 1),
            [33, 5000, 34, 0]
        );
        assert_eq!(
            whole_delays(&frames(&[(1, 1000), (1, 100), (5, 100), (1, 0)]), 100, 2),
            [2, 1, 5, 100]
        );
        assert_eq!(
            whole_delays(&frames(&[(u32::MAX, 1)]), 1000, 1),
            [u64::from(u32::MAX) * 1000]
        );
    }

    #[test]
    fn pictures_must_be_alike_and_some() {
        let mut pictures = pictures();
        let other = pictures[0].remove(1);
        let mut animation = animation(vec![other, pictures[1].remove(0)], 0);
        animation.still = None;
        for written in [
            to_png(&animation, Vec::new()),
            to_gif(&animation, Vec::new()),
        ] {
            assert!(written.unwrap_err().contains("different sizes or kinds"));
        }
        animation.frames.clear();
        assert_eq!(to_webp(&animation, None), Err("no frames".into()));
    }

    #[test]
    fn other_files_have_no_animation() {
        assert_eq!(count(b""), Ok(None));
        assert_eq!(count(b"RIFF....WAVE"), Ok(None));
        assert_eq!(count(&[0xff, 0xd8, 0xff, 0xe0]), Ok(None));
    }
}
