//! Blurred and sharp pairs from sharp photographs.
//!
//! A [`BlurModel`] photographs a sharp picture as a shaking camera does, or one with its lens out of focus, or with
//! something moving before it. A shake is the random trajectory of Boracchi and Foi, "Modeling the performance of image
//! restoration from motion blur" (2012), which public deblurring work (DeblurGAN among it) uses too, once for the
//! translation and once for the roll about the optical axis. Each instant of the exposure moves and turns the whole
//! picture; the sensor averages over all instants in linear light. Because of the roll, no two places are blurred alike.
//!
//! In order: the photograph is shrunk; what is white becomes brighter; the lens spreads the light; motion does, of the
//! camera and of an object; noise is added; the sensor clips; the picture is compressed. Every spread is centred on where
//! its light comes from, so that the blurred picture is in register with the sharp one.

mod defocus;
mod folder;
mod light;
mod motion;
mod object;
mod scene;
mod shrink;
mod trajectory;

use std::io::Cursor;
use std::path::PathBuf;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, RgbImage, imageops};
use rand::Rng;
use rand::rngs::StdRng;

pub use crate::config::blur::{
    BlurModel, DefocusConfig, FramesConfig, HighlightsConfig, JpegConfig, NoiseConfig,
    ObjectConfig, Range, ShakeConfig, ShrinkConfig,
};
pub use folder::{SynthesisOptions, SynthesisReport, synthesize_folder};

use super::dataset::DecodedPair;
use super::random::{Purpose, generator_at};
use crate::error::{Error, Result};
use crate::picture::Region;
use defocus::Defocus;
use light::Light;
use motion::{Frames, Motion, Path};
use object::{Outline, lay_over};
use scene::{Rect, Scene};
use trajectory::Trajectory;

/// A whole photograph is not shrunk to fewer pixels a side.
const LEAST_SIDE: usize = 64;
/// JPEG's blocks.
const JPEG_BLOCK: usize = 8;

impl BlurModel {
    /// The blurred picture of a photograph and the sharp one, of the same size and in register.
    ///
    /// Equal seeds give equal pictures.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the model is not valid, [`Error::Shape`] when the photograph is empty, or too large for
    /// JPEG where that is asked for.
    pub fn pair(&self, photograph: &RgbImage, seed: u64) -> Result<DecodedPair> {
        self.validate()?;
        let (width, height) = photograph.dimensions();
        let most = match self.jpeg.probability > 0.0 {
            true => u32::from(u16::MAX),
            false => u32::MAX,
        };
        if width == 0 || height == 0 || width.max(height) > most {
            return Err(Error::Shape {
                what: "sharp picture (height, width)".into(),
                found: vec![height as usize, width as usize],
                expected: format!("1 to {most} pixels along each side"),
            });
        }
        let shot = Shot::new(self, [width as usize, height as usize], LEAST_SIDE, seed);
        let [width, height] = shot.size;
        let whole = Region {
            top: 0,
            left: 0,
            height: height as u32,
            width: width as u32,
        };
        shot.render(photograph, whole)
    }
}

/// What is drawn for one picture of a photograph.
pub(super) struct Shot {
    /// Of the picture: width and height of the photograph, shrunk.
    size: [usize; 2],
    camera: Motion,
    object: Option<(Outline, Motion)>,
    /// Whether the exposure is the mean of encoded frames.
    frames: bool,
    defocus: Option<Defocus>,
    highlights: Option<Highlights>,
    noise: Option<Noise>,
    jpeg: Option<u8>,
    seed: u64,
}

struct Highlights {
    threshold: f32,
    gain: f32,
}

struct Noise {
    shot: f32,
    read: f32,
}

/// What random numbers of a shot are for: each has a generator of its own, so that no kind of blur depends on whether
/// another happens.
#[derive(Clone, Copy)]
enum Draw {
    Sharp,
    Shrink,
    Shake,
    Object,
    Defocus,
    Highlights,
    Noise,
    Jpeg,
    /// The noise of each pixel.
    Pixels,
    Frames,
}

impl Draw {
    fn generator(self, seed: u64) -> StdRng {
        generator_at(seed, Purpose::Blur, self as u64, 0)
    }
}

/// A generator, unless the event of this probability does not happen.
fn happens(kind: Draw, seed: u64, probability: f64) -> Option<StdRng> {
    let mut rng = kind.generator(seed);
    (rng.random::<f64>() < probability).then_some(rng)
}

fn uniform([low, high]: Range, rng: &mut StdRng) -> f64 {
    rng.random_range(low..=high)
}

impl Shot {
    /// What `seed` gives for a photograph of `size`, width and height, which is not shrunk to a side of less than
    /// `least` pixels.
    pub(super) fn new(model: &BlurModel, size: [usize; 2], least: usize, seed: u64) -> Self {
        let size = match happens(Draw::Shrink, seed, model.shrink.probability) {
            Some(mut rng) => {
                let most = size[0].min(size[1]) as f64 / least.max(1) as f64;
                let factor = uniform(model.shrink.factor, &mut rng).min(most).max(1.0);
                size.map(|side| ((side as f64 / factor).round() as usize).max(1))
            }
            None => size,
        };
        let is_sharp = happens(Draw::Sharp, seed, model.sharp).is_some();
        let blur = |kind, probability| happens(kind, seed, probability).filter(|_| !is_sharp);

        let frames = blur(Draw::Frames, model.frames.probability).map(|mut rng| {
            let [low, high] = model.frames.count;
            Frames {
                count: (rng.random_range(low..=high) - 1) / 2 * 2 + 1,
                open: uniform(model.frames.open, &mut rng),
            }
        });
        let is_video = frames.is_some();
        let extent = |own| if is_video { model.frames.extent } else { own };
        let camera = match blur(Draw::Shake, model.shake.probability) {
            Some(mut rng) => shake(&model.shake, extent(model.shake.extent), size, &mut rng),
            None => Motion::still(size, &mut Draw::Shake.generator(seed)),
        };
        let camera = camera.during(frames);
        let object = blur(Draw::Object, model.object.probability).map(|mut rng| {
            let config = &model.object;
            let side = size[0].min(size[1]) as f64;
            let radius = uniform(config.size, &mut rng) * side / 2.0;
            let softness = uniform(config.softness, &mut rng);
            let outline = Outline::random(size, radius, softness, &mut rng);
            let extent = uniform(extent(config.extent), &mut rng);
            let anxiety = uniform(config.anxiety, &mut rng);
            let path = Path {
                translation: Trajectory::random(anxiety, &mut rng).with_extent(extent, false),
                roll: Trajectory::still(),
                exposure: 1.0,
            };
            (outline, camera.clone().with(path))
        });
        let defocus = blur(Draw::Defocus, model.defocus.probability).map(|mut rng| {
            let config = &model.defocus;
            let radius = uniform(config.radius, &mut rng);
            let variation = uniform(config.variation, &mut rng);
            let softness = uniform(config.softness, &mut rng);
            Defocus::random(size, radius, variation, softness, config.polygon, &mut rng)
        });
        let highlights = blur(Draw::Highlights, model.highlights.probability).map(|mut rng| {
            let config = &model.highlights;
            Highlights {
                threshold: uniform(config.threshold, &mut rng) as f32,
                gain: uniform(config.gain, &mut rng) as f32,
            }
        });
        let highlights = highlights.filter(|_| !is_video);
        let noise = happens(Draw::Noise, seed, model.noise.probability).map(|mut rng| Noise {
            shot: uniform(model.noise.shot, &mut rng) as f32,
            read: uniform(model.noise.read, &mut rng) as f32,
        });
        let noise = noise.filter(|_| !is_video);
        let jpeg = happens(Draw::Jpeg, seed, model.jpeg.probability).map(|mut rng| {
            let [low, high] = model.jpeg.quality;
            rng.random_range(low..=high)
        });
        Self {
            size,
            camera,
            object,
            frames: is_video,
            defocus,
            highlights,
            noise,
            jpeg,
            seed,
        }
    }

    /// A square of `side` pixels, or as much of it as the picture has: where there is room, so far from the borders
    /// that nothing beyond them is needed, and about the object, if there is one.
    pub(super) fn place(&self, side: usize, rng: &mut impl Rng) -> Region {
        let whole = Rect::of_size(self.size);
        let object = self.object.as_ref();
        let motion = object.map_or(&self.camera, |(_, motion)| motion);
        let moved = motion.poses(whole).farthest(whole).ceil() as usize + 1;
        let block = self.jpeg.map_or(0, |_| JPEG_BLOCK - 1);
        let margin = moved + block + self.spread();
        let point = object.map(|(outline, _)| outline.point(rng));
        let [left, top] = [0, 1].map(|axis| {
            let room = self.size[axis].saturating_sub(side);
            let margin = margin.min(room / 2);
            let anywhere = rng.random_range(margin..=room - margin);
            match point {
                Some(point) => {
                    let start = (point[axis] - side as f64 / 2.0).round().max(0.0) as usize;
                    start.clamp(margin, room - margin)
                }
                None => anywhere,
            }
        });
        Region {
            top: top as u32,
            left: left as u32,
            height: side.min(self.size[1]) as u32,
            width: side.min(self.size[0]) as u32,
        }
    }

    /// How far the lens spreads light.
    fn spread(&self) -> usize {
        self.defocus.as_ref().map_or(0, Defocus::margin)
    }

    /// The blurred and the sharp picture in a region of what is taken of `photograph`. What lies outside the region and
    /// moves into it is there.
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be compressed.
    pub(super) fn render(&self, photograph: &RgbImage, region: Region) -> Result<DecodedPair> {
        let wanted = Rect {
            left: region.left.into(),
            top: region.top.into(),
            width: region.width as usize,
            height: region.height as usize,
        };
        // JPEG's blocks lie as in the whole picture.
        let exposed = match self.jpeg {
            Some(_) => wanted.on_grid(JPEG_BLOCK, self.size),
            None => wanted,
        };
        let (sharp, mut blurred) = self.expose(photograph, exposed, wanted);
        if let Some(Noise { shot, read }) = self.noise {
            let mut rng = Draw::Pixels.generator(self.seed);
            light::add_noise(&mut blurred.pixels, read, shot, &mut rng);
        }
        let blur = match self.jpeg {
            Some(quality) => {
                let whole = recompress(&blurred.image(exposed), quality)?;
                let left = (wanted.left - exposed.left) as u32;
                let top = (wanted.top - exposed.top) as u32;
                imageops::crop_imm(&whole, left, top, region.width, region.height).to_image()
            }
            None => blurred.image(wanted),
        };
        Ok(DecodedPair {
            blur,
            sharp,
            warnings: Vec::new(),
        })
    }

    /// The blurred light in `rect`, and the sharp picture in `wanted`, which lies within it.
    fn expose(&self, photograph: &RgbImage, rect: Rect, wanted: Rect) -> (RgbImage, Scene) {
        let camera = self.camera.poses(rect);
        let object = self.object.as_ref();
        let object = object.map(|(outline, motion)| (outline, motion.poses(rect)));
        let poses = object.iter().map(|(_, poses)| poses).chain([&camera]);
        let moved = poses.map(|poses| poses.farthest(rect).ceil() as usize + 1);
        let moved = moved.fold(0, usize::max);

        let seen = rect.grown(moved);
        let mut scene = Scene::new(photograph, self.size, seen.grown(self.spread()));
        let sharp = scene.image(wanted);
        if let Some(highlights) = &self.highlights {
            highlights.brighten(&mut scene.pixels);
        }
        if self.frames {
            light::map(&mut scene.pixels, light::encode);
        }
        if let Some(defocus) = &self.defocus {
            scene = defocus.expose(&scene, seen);
        }
        let mut light = camera.expose(&scene, rect);
        if let Some((outline, poses)) = object {
            let reached = outline.bounds().grown(moved).common(rect);
            if reached.width > 0 && reached.height > 0 {
                let layer = outline.cut(&scene, reached.grown(moved));
                let layer = poses.expose(&layer, reached);
                let [right, down] = [reached.left - rect.left, reached.top - rect.top];
                for (y, row) in layer.chunks_exact(reached.width).enumerate() {
                    let start = (down as usize + y) * rect.width + right as usize;
                    for (background, object) in light[start..].iter_mut().zip(row) {
                        lay_over(background, object);
                    }
                }
            }
        }
        if self.frames {
            light::map(&mut light, light::decode);
        }
        let blurred = Scene {
            rect,
            pixels: light,
        };
        (sharp, blurred)
    }
}

fn shake(config: &ShakeConfig, extent: Range, size: [usize; 2], rng: &mut StdRng) -> Motion {
    let extent = uniform(extent, rng);
    let roll = uniform(config.rotation, rng).to_radians();
    let anxiety = uniform(config.anxiety, rng);
    let exposure = uniform(config.exposure, rng);
    Motion::still(size, rng).with(Path {
        translation: Trajectory::random(anxiety, rng).with_extent(extent, false),
        roll: Trajectory::random(anxiety, rng).with_extent(roll, true),
        exposure,
    })
}

impl Highlights {
    /// Pixels that are almost white get the light that the sensor has clipped: more of it the nearer to white they are.
    fn brighten(&self, pixels: &mut [Light]) {
        for pixel in pixels {
            // Not the brightest channel: a colour with one channel at its end is no lamp.
            let luminance = 0.2126 * pixel[0] + 0.7152 * pixel[1] + 0.0722 * pixel[2];
            if luminance > self.threshold {
                let share = (luminance - self.threshold) / (1.0 - self.threshold);
                let factor = 1.0 + (self.gain - 1.0) * share * share;
                *pixel = pixel.map(|value| value * factor);
            }
        }
    }
}

/// The picture through JPEG, its colours as fine as its light (4:4:4): `image` encodes no other way.
fn recompress(image: &RgbImage, quality: u8) -> Result<RgbImage> {
    let failed = |error: image::ImageError| Error::Image {
        path: PathBuf::from("blurred picture"),
        reason: format!("JPEG of quality {quality}: {error}"),
    };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(image)
        .map_err(failed)?;
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    Ok(DynamicImage::from_decoder(decoder)
        .map_err(failed)?
        .into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    /// No blur of any kind.
    fn still() -> BlurModel {
        let mut model = BlurModel::default();
        model.shake.probability = 0.0;
        model
    }

    fn noisy() -> BlurModel {
        let mut model = BlurModel::default();
        (model.noise.probability, model.jpeg.probability) = (1.0, 1.0);
        model
    }

    /// Everything at once.
    fn full() -> BlurModel {
        let mut model = noisy();
        for probability in [
            &mut model.shrink.probability,
            &mut model.object.probability,
            &mut model.defocus.probability,
            &mut model.highlights.probability,
        ] {
            *probability = 1.0;
        }
        model
    }

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 5) as u8, (y * 9) as u8, ((x ^ y) * 3) as u8])
        })
    }

    fn blur(model: &BlurModel, sharp: &RgbImage, seed: u64) -> RgbImage {
        model.pair(sharp, seed).unwrap().blur
    }

    /// By how many codes two pictures differ in the mean.
    fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
        assert_eq!(a.dimensions(), b.dimensions());
        let codes = a.as_raw().iter().zip(b.as_raw());
        let sum: f64 = codes.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / a.as_raw().len() as f64
    }

    #[test]
    fn equal_seeds_give_equal_pictures_and_others_differ() {
        let (model, sharp) = (full(), picture(120, 100));
        let first = blur(&model, &sharp, 5);
        assert!(first == blur(&model, &sharp, 5));
        assert!(first != blur(&model, &sharp, 6));
    }

    #[test]
    fn mean_light_is_kept() {
        let sharp = RgbImage::from_fn(120, 90, |x, y| {
            let wave = 0.5 + 0.4 * (x as f32 / 30.0).sin() * (y as f32 / 25.0).cos();
            Rgb([(wave * 255.0) as u8; 3])
        });
        let mut model = BlurModel::default();
        (model.object.probability, model.defocus.probability) = (1.0, 1.0);
        for seed in 0..5 {
            let shot = Shot::new(&model, [120, 90], 64, seed);
            let whole = Rect::of_size([120, 90]);
            let scene = Scene::new(&sharp, [120, 90], whole);
            let (_, blurred) = shot.expose(&sharp, whole, whole);
            let [before, after] = [scene, blurred].map(|scene| {
                let light = scene.pixels.iter().map(|light| f64::from(light[0]));
                light.sum::<f64>()
            });
            assert!(
                (after / before - 1.0).abs() < 0.02,
                "seed {seed}: light {before} became {after}"
            );
        }
    }

    #[test]
    fn no_kind_of_blur_depends_on_another() {
        let sharp = picture(80, 60);
        let alone = blur(&BlurModel::default(), &sharp, 2);
        let mut model = full();
        model.shrink.factor = [1.0; 2];
        model.object.extent = [0.0; 2];
        model.defocus.radius = [0.0; 2];
        model.highlights.gain = [1.0; 2];
        (model.noise.shot, model.noise.read) = ([0.0, 0.002], [0.0; 2]);
        model.jpeg.quality = [100; 2];
        let mean = difference(&alone, &blur(&model, &sharp, 2));
        assert!(
            mean < 1.5,
            "a trace of all others changed the samples by {mean}"
        );
    }

    #[test]
    fn frames_keep_the_mean_of_what_is_encoded_and_have_no_noise() {
        // Bright stripes on black, whose mean light is far from the light of their mean.
        let sharp = RgbImage::from_fn(160, 120, |x, _| Rgb([if x % 8 < 4 { 220 } else { 20 }; 3]));
        let mut model = noisy();
        (model.jpeg.probability, model.highlights.probability) = (0.0, 1.0);
        (model.frames.probability, model.frames.open) = (1.0, [1.0; 2]);
        model.frames.extent = [24.0; 2];
        let mean = |image: &RgbImage| {
            let sum: u64 = image.as_raw().iter().map(|&code| u64::from(code)).sum();
            sum as f64 / image.as_raw().len() as f64
        };
        for seed in 0..5 {
            let blurred = blur(&model, &sharp, seed);
            assert!(difference(&sharp, &blurred) > 10.0, "seed {seed}");
            let moved = (mean(&sharp) - mean(&blurred)).abs();
            assert!(moved < 1.5, "seed {seed}: the mean code moved by {moved}");
        }
        model.frames.probability = 0.0;
        let (found, light) = (mean(&blur(&model, &sharp, 0)), mean(&sharp));
        assert!(found > light + 10.0, "in linear light: {found}");
        model.frames.probability = 1.0;
        model.shake.probability = 0.0;
        assert!(blur(&model, &sharp, 0) == sharp);
    }

    #[test]
    fn a_shutter_that_is_hardly_open_leaves_as_many_copies_as_there_are_frames() {
        let line = RgbImage::from_fn(200, 40, |x, _| Rgb([if x == 100 { 255 } else { 0 }; 3]));
        let mut model = BlurModel::default();
        model.shake.rotation = [0.0; 2];
        model.shake.anxiety = [0.0; 2];
        model.shake.exposure = [1.0; 2];
        model.frames.probability = 1.0;
        (model.frames.count, model.frames.open) = ([9; 2], [0.01; 2]);
        model.frames.extent = [80.0; 2];
        // One whose motion is along the rows for the most part.
        let row = |seed| -> Vec<u8> {
            let blurred = blur(&model, &line, seed);
            (0..200).map(|x| blurred.get_pixel(x, 20)[0]).collect()
        };
        let copies = (0..20).map(|seed| {
            let row = row(seed);
            // The middle one stays in its place.
            assert!(row[100] > 20, "seed {seed}");
            row.chunk_by(|a, b| (*a > 0) == (*b > 0))
                .filter(|run| run[0] > 0)
                .count()
        });
        assert_eq!(copies.max(), Some(9));
    }

    #[test]
    fn what_stays_sharp_is_not_blurred_but_shrunk_and_noisy() {
        let mut model = full();
        model.sharp = 1.0;
        model.noise.probability = 0.0;
        model.jpeg.probability = 0.0;
        model.shrink.factor = [1.5; 2];
        let pair = model.pair(&picture(120, 99), 3).unwrap();
        assert!(pair.blur == pair.sharp);
        assert_eq!(pair.sharp.dimensions(), (80, 66));
        model.noise.probability = 1.0;
        let noisy = model.pair(&picture(120, 99), 3).unwrap();
        assert!(noisy.sharp == pair.sharp && noisy.blur != pair.blur);
    }

    #[test]
    fn jpeg_alters_the_picture_more_at_low_quality() {
        let sharp = picture(64, 64);
        let error = |quality| {
            let mut model = still();
            (model.jpeg.probability, model.jpeg.quality) = (1.0, [quality; 2]);
            difference(&sharp, &blur(&model, &sharp, 1))
        };
        let (low, high) = (error(20), error(95));
        assert!(
            low > 2.0 * high && high > 0.0,
            "mean error {low} at quality 20, {high} at 95"
        );
    }

    #[test]
    fn an_object_moves_before_a_background_that_does_not() {
        let sharp = picture(200, 160);
        let mut model = still();
        model.object.probability = 1.0;
        model.object.size = [0.3; 2];
        for seed in 0..10 {
            let shot = Shot::new(&model, [200, 160], 64, seed);
            let (outline, motion) = shot.object.as_ref().unwrap();
            let moved = motion.poses(Rect::of_size([200, 160]));
            let moved = moved.farthest(Rect::of_size([200, 160])).ceil() as usize + 1;
            let reached = outline.bounds().grown(moved);
            let blurred = blur(&model, &sharp, seed);
            let mut changed = 0;
            for (x, y, pixel) in sharp.enumerate_pixels() {
                let across = i64::from(x) - reached.left;
                let down = i64::from(y) - reached.top;
                let inside = (0..reached.width as i64).contains(&across)
                    && (0..reached.height as i64).contains(&down);
                let differs = pixel != blurred.get_pixel(x, y);
                assert!(inside || !differs, "seed {seed}: {x}, {y} has changed");
                changed += usize::from(differs);
            }
            assert!(changed > 50, "seed {seed}: {changed} pixels have changed");
        }
    }

    #[test]
    fn a_moved_object_leaves_no_hole() {
        let white = RgbImage::from_pixel(100, 80, Rgb([200; 3]));
        let mut model = BlurModel::default();
        model.object.probability = 1.0;
        for seed in 0..10 {
            let blurred = blur(&model, &white, seed);
            assert!(difference(&white, &blurred) < 1e-9, "seed {seed}");
        }
    }

    #[test]
    fn highlights_leave_bright_trails_and_the_target_as_it_was() {
        let lamp = RgbImage::from_fn(80, 60, |x, y| {
            let lit = (38..42).contains(&x) && (28..32).contains(&y);
            Rgb([if lit { 255 } else { 20 }; 3])
        });
        let mut model = BlurModel::default();
        model.shake.extent = [20.0; 2];
        let plain = model.pair(&lamp, 4).unwrap();
        model.highlights.probability = 1.0;
        model.highlights.gain = [8.0; 2];
        let bright = model.pair(&lamp, 4).unwrap();
        assert!(plain.sharp == bright.sharp);
        let brightest = |image: &RgbImage| image.as_raw().iter().copied().max().unwrap();
        assert!(brightest(&bright.blur) > brightest(&plain.blur) + 60);
        assert_eq!(bright.blur.get_pixel(1, 1), plain.blur.get_pixel(1, 1));
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_its_key() {
        type Change = fn(&mut BlurModel);
        let cases: [(&str, Change); 14] = [
            ("sharp", |model| model.sharp = 1.5),
            ("shake.probability", |model| {
                model.shake.probability = f64::NAN
            }),
            ("shake.extent", |model| model.shake.extent = [9.0, 3.0]),
            ("shake.extent", |model| {
                model.shake.extent = [0.0, f64::INFINITY]
            }),
            ("shake.rotation", |model| model.shake.rotation = [-1.0, 1.0]),
            ("shake.anxiety", |model| {
                model.shake.anxiety = [f64::NAN, 1.0]
            }),
            ("shake.exposure", |model| model.shake.exposure = [0.0; 2]),
            ("frames.count", |model| model.frames.count = [1, 7]),
            ("frames.open", |model| model.frames.open = [0.0, 1.0]),
            ("shrink.factor", |model| model.shrink.factor = [0.5, 2.0]),
            ("defocus.polygon", |model| model.defocus.polygon = -0.1),
            ("noise.shot", |model| model.noise.shot = [0.0, 2.0]),
            ("noise.read", |model| model.noise.read = [0.0, f64::NAN]),
            ("jpeg.quality", |model| model.jpeg.quality = [0, 90]),
        ];
        for (key, change) in cases {
            let mut model = still();
            change(&mut model);
            let error = model.pair(&picture(8, 8), 0).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`data.blur.{key}`")),
                "{key}: {error}"
            );
        }
    }

    #[test]
    fn an_empty_picture_is_an_error() {
        let error = still().pair(&RgbImage::new(0, 4), 0).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }

    /// Where the light of a scene is, about a point that is its middle.
    fn centre_of_light(scene: &Scene) -> [f64; 2] {
        let mut sums = [0.0; 3];
        for (index, light) in scene.pixels.iter().enumerate() {
            let x = scene.rect.left + (index % scene.rect.width) as i64;
            let y = scene.rect.top + (index / scene.rect.width) as i64;
            let light = f64::from(light[1]);
            sums = [
                sums[0] + light * x as f64,
                sums[1] + light * y as f64,
                sums[2] + light,
            ];
        }
        [sums[0] / sums[2], sums[1] / sums[2]]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn without_motion_the_picture_stays_as_it_is(width in 1..40_u32, height in 1..40_u32, seed: u64) {
            let sharp = picture(width, height);
            let pair = still().pair(&sharp, seed).unwrap();
            prop_assert!(pair.blur == sharp && pair.sharp == sharp);
        }

        #[test]
        fn a_dot_stays_where_it_is(
            shake: bool, object: bool, shrink: bool, defocus: bool, highlights: bool, seed: u64,
        ) {
            let mut model = full();
            for (happens, probability) in [
                (shake, &mut model.shake.probability),
                (object, &mut model.object.probability),
                (shrink, &mut model.shrink.probability),
                (defocus, &mut model.defocus.probability),
                (highlights, &mut model.highlights.probability),
            ] {
                *probability = f64::from(u8::from(happens));
            }
            // An object that moves farther than it is wide uncovers the background, which has the dot at rest in it.
            model.object.size = [0.8; 2];
            (model.object.extent, model.shake.extent) = ([3.0, 15.0], [3.0, 15.0]);
            let size = [400, 320];
            let shot = Shot::new(&model, size, 100, seed);
            let whole = Rect::of_size(shot.size);
            let factor = [0, 1].map(|axis| size[axis] as f64 / shot.size[axis] as f64);
            let middle = match &shot.object {
                Some((outline, _)) => outline.centre(),
                None => shot.size.map(|side| side as f64 / 2.0),
            };
            let room = |axis: usize| (45.0..shot.size[axis] as f64 - 45.0).contains(&middle[axis]);
            prop_assume!(room(0) && room(1));
            let at = [0, 1].map(|axis| (middle[axis] * factor[axis]) as u32);
            let mut dot = RgbImage::new(size[0] as u32, size[1] as u32);
            for y in 0..4 {
                for x in 0..4 {
                    dot.put_pixel(at[0] + x, at[1] + y, Rgb([255; 3]));
                }
            }
            let (_, blurred) = shot.expose(&dot, whole, whole);
            let mut sharp = Scene::new(&dot, shot.size, whole);
            if let Some(highlights) = &shot.highlights {
                // They move the centre of a shrunk dot, whose pixels are not all white.
                highlights.brighten(&mut sharp.pixels);
            }
            let (before, after) = (centre_of_light(&sharp), centre_of_light(&blurred));
            let moved = (before[0] - after[0]).hypot(before[1] - after[1]);
            prop_assert!(moved < 0.05, "{before:?} became {after:?}");
        }

        #[test]
        fn a_patch_is_what_the_whole_picture_has_there(
            jpeg: bool, side in 16..70_usize, width in 40..150_u32, height in 40..150_u32, seed: u64,
        ) {
            let mut model = full();
            model.noise.probability = 0.0;
            model.jpeg.probability = f64::from(u8::from(jpeg));
            let photograph = picture(width, height);
            let shot = Shot::new(&model, [width as usize, height as usize], side, seed);
            let region = shot.place(side, &mut Draw::Sharp.generator(seed));
            let [across, down] = shot.size.map(|side| side as u32);
            let whole = Region { top: 0, left: 0, height: down, width: across };
            let (whole, patch) = (shot.render(&photograph, whole).unwrap(), shot.render(&photograph, region).unwrap());
            let cut = |image: &RgbImage| {
                imageops::crop_imm(image, region.left, region.top, region.width, region.height).to_image()
            };
            prop_assert!(cut(&whole.sharp) == patch.sharp);
            // How finely a motion is sampled depends on how far the picture's corners move.
            let mean = difference(&cut(&whole.blur), &patch.blur);
            prop_assert!(mean < if jpeg { 3.0 } else { 1.0 }, "differs by {}", mean);
        }

        #[test]
        fn patches_keep_from_the_borders_where_there_is_room(seed: u64, side in 8..200_usize) {
            let mut model = full();
            model.shrink.probability = 0.0;
            let shot = Shot::new(&model, [300, 220], side, seed);
            let region = shot.place(side, &mut Draw::Sharp.generator(seed));
            let (_, motion) = shot.object.as_ref().unwrap();
            let whole = Rect::of_size([300, 220]);
            let margin = motion.poses(whole).farthest(whole).ceil() as u32 + shot.spread() as u32;
            for (start, length, side) in [(region.left, region.width, 300), (region.top, region.height, 220)] {
                let room = (side - length) / 2;
                prop_assert!(start >= margin.min(room) && start + length + margin.min(room) <= side);
            }
        }
    }
}
