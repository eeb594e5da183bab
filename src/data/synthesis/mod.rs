//! Blurred and sharp pairs from sharp photographs.
//!
//! A [`BlurModel`] photographs a sharp picture with a shaking camera. The shake is the random trajectory of Boracchi and
//! Foi, "Modeling the performance of image restoration from motion blur" (2012), which public deblurring work
//! (DeblurGAN among it) uses too, once for the translation and once for the roll about the optical axis. Each instant
//! of the exposure moves and turns the whole picture; the sensor averages over all instants in linear light. Because of
//! the roll, no two places are blurred alike.

mod folder;
mod light;
mod motion;
mod picture;
mod trajectory;

use std::io::Cursor;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, RgbImage};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub use folder::{SynthesisOptions, SynthesisReport, synthesize_folder};

use crate::error::{Error, Result};
use motion::{CameraMotion, MotionConfig};

/// How sharp pictures are blurred. Every range is drawn from uniformly, once a picture.
///
/// The defaults range from hardly visible shakes to strong ones on pictures of about half a megapixel or less.
/// Displacements are in pixels, so larger pictures want a larger `extent`.
#[derive(Clone, Debug, PartialEq)]
pub struct BlurModel {
    /// The largest distance, in pixels, between two points of the camera's translation trajectory: 0 to 1000.
    pub extent: RangeInclusive<f32>,
    /// How far the camera rolls about the optical axis in the course of its trajectory, in degrees: 0 to 45. The centre
    /// of rotation is drawn near the middle of the picture.
    pub rotation_degrees: RangeInclusive<f32>,
    /// How nervous the hand is: 0 moves straight on; 1 turns often, is pulled back to where it started, and jerks about
    /// once an exposure; at most 10.
    pub anxiety: RangeInclusive<f32>,
    /// The share of the trajectory during which the shutter is open: above 0, at most 1. Short exposures see a small
    /// piece of the trajectory.
    pub exposure: RangeInclusive<f32>,
    /// Shot noise: its standard deviation at full brightness, in linear light where white is 1: 0 to 1. The variance is
    /// proportional to the light.
    pub shot_noise: RangeInclusive<f32>,
    /// Read noise: its standard deviation, everywhere the same, in linear light where white is 1: 0 to 1.
    pub read_noise: RangeInclusive<f32>,
    /// JPEG qualities, 1 to 100, at which the blurred picture is compressed; `None` leaves it uncompressed.
    pub jpeg: Option<RangeInclusive<u8>>,
}

impl Default for BlurModel {
    fn default() -> Self {
        Self {
            extent: 3.0..=24.0,
            rotation_degrees: 0.0..=0.8,
            anxiety: 0.0..=1.0,
            exposure: 0.5..=1.0,
            shot_noise: 0.0..=0.0,
            read_noise: 0.0..=0.0,
            jpeg: None,
        }
    }
}

/// What was drawn for one picture. All of it is drawn whatever the ranges, so that switching noise on does not change
/// the motion of the same seed.
struct Shot {
    motion: MotionConfig,
    shot_noise: f32,
    read_noise: f32,
    jpeg: Option<u8>,
}

impl BlurModel {
    /// Whether every range is usable.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the first field that is empty, not finite or beyond its limits.
    pub fn validate(&self) -> Result<()> {
        check("extent", &self.extent, 0.0..=1000.0)?;
        check("rotation_degrees", &self.rotation_degrees, 0.0..=45.0)?;
        check("anxiety", &self.anxiety, 0.0..=10.0)?;
        check("exposure", &self.exposure, 0.01..=1.0)?;
        check("shot_noise", &self.shot_noise, 0.0..=1.0)?;
        check("read_noise", &self.read_noise, 0.0..=1.0)?;
        match &self.jpeg {
            Some(qualities) => check("jpeg", qualities, 1..=100),
            None => Ok(()),
        }
    }

    /// `sharp` as a shaking camera sees it, of the same size and in register with it: the mean displacement is zero.
    ///
    /// Equal seeds give equal pictures, whatever the number of threads.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the model is not valid, [`Error::Shape`] when the picture is empty, or too large for
    /// JPEG where that is asked for.
    pub fn blur(&self, sharp: &RgbImage, seed: u64) -> Result<RgbImage> {
        self.validate()?;
        let (width, height) = sharp.dimensions();
        let limit = if self.jpeg.is_some() {
            u32::from(u16::MAX)
        } else {
            u32::MAX
        };
        if width == 0 || height == 0 || width.max(height) > limit {
            return Err(Error::Shape {
                what: "sharp picture (height, width)".into(),
                found: vec![height as usize, width as usize],
                expected: format!("1 to {limit} pixels along each side"),
            });
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let shot = self.draw(&mut rng);
        let motion = CameraMotion::random(&shot.motion, width, height, &mut rng);
        let mut light = motion.expose(sharp);
        light::add_noise(&mut light, shot.read_noise, shot.shot_noise, &mut rng);
        let blurred = light::to_image(&light, width, height);
        match shot.jpeg {
            Some(quality) => recompress(blurred, quality),
            None => Ok(blurred),
        }
    }

    fn draw(&self, rng: &mut impl Rng) -> Shot {
        let mut uniform = |range: &RangeInclusive<f32>| rng.random_range(range.clone());
        let motion = MotionConfig {
            extent: uniform(&self.extent).into(),
            roll: f64::from(uniform(&self.rotation_degrees)).to_radians(),
            anxiety: uniform(&self.anxiety).into(),
            exposure: uniform(&self.exposure).into(),
        };
        let (shot_noise, read_noise) = (uniform(&self.shot_noise), uniform(&self.read_noise));
        let qualities = self.jpeg.clone();
        let quality = rng.random_range(qualities.clone().unwrap_or(100..=100));
        Shot {
            motion,
            shot_noise,
            read_noise,
            jpeg: qualities.map(|_| quality),
        }
    }
}

fn check<T: PartialOrd + std::fmt::Debug>(
    field: &str,
    range: &RangeInclusive<T>,
    limits: RangeInclusive<T>,
) -> Result<()> {
    // A NaN fails every comparison and so ends here as well.
    if limits.contains(range.start())
        && limits.contains(range.end())
        && range.start() <= range.end()
    {
        return Ok(());
    }
    Err(Error::Config {
        origin: "blur model".into(),
        key: field.into(),
        reason: format!("found {range:?}, expected a range from low to high within {limits:?}"),
    })
}

fn recompress(image: RgbImage, quality: u8) -> Result<RgbImage> {
    let failed = |error: image::ImageError| Error::Image {
        path: PathBuf::from("blurred picture"),
        reason: format!("JPEG of quality {quality}: {error}"),
    };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(&image)
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

    fn still() -> BlurModel {
        BlurModel {
            extent: 0.0..=0.0,
            rotation_degrees: 0.0..=0.0,
            ..BlurModel::default()
        }
    }

    fn noisy() -> BlurModel {
        BlurModel {
            shot_noise: 0.01..=0.02,
            read_noise: 0.001..=0.004,
            jpeg: Some(60..=95),
            ..BlurModel::default()
        }
    }

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 5) as u8, (y * 9) as u8, ((x ^ y) * 3) as u8])
        })
    }

    fn mean_light(image: &RgbImage) -> f64 {
        let sum: f64 = image
            .as_raw()
            .iter()
            .map(|&code| f64::from(light::linear(code)))
            .sum();
        sum / image.as_raw().len() as f64
    }

    #[test]
    fn equal_seeds_give_equal_pictures_and_others_differ() {
        let (model, sharp) = (noisy(), picture(60, 40));
        let first = model.blur(&sharp, 5).unwrap();
        assert!(first == model.blur(&sharp, 5).unwrap());
        assert!(first != model.blur(&sharp, 6).unwrap());
    }

    #[test]
    fn threads_do_not_change_the_picture() {
        let (model, sharp) = (noisy(), picture(90, 70));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| model.blur(&sharp, 11).unwrap())
        };
        assert!(with(1) == with(3));
    }

    #[test]
    fn mean_light_is_kept() {
        let sharp = RgbImage::from_fn(120, 90, |x, y| {
            let wave = 0.5 + 0.4 * (x as f32 / 30.0).sin() * (y as f32 / 25.0).cos();
            Rgb([(wave * 255.0) as u8; 3])
        });
        for seed in 0..5 {
            let blurred = BlurModel::default().blur(&sharp, seed).unwrap();
            let (before, after) = (mean_light(&sharp), mean_light(&blurred));
            assert!(
                (after / before - 1.0).abs() < 0.02,
                "seed {seed}: mean light {before} became {after}"
            );
        }
    }

    #[test]
    fn noise_leaves_the_motion_alone() {
        let sharp = picture(80, 60);
        let quiet = BlurModel::default().blur(&sharp, 2).unwrap();
        let model = BlurModel {
            shot_noise: 0.0..=0.002,
            ..BlurModel::default()
        };
        let noisy = model.blur(&sharp, 2).unwrap();
        let errors = quiet
            .as_raw()
            .iter()
            .zip(noisy.as_raw())
            .map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = errors.sum::<f64>() / quiet.as_raw().len() as f64;
        assert!(
            mean < 1.0,
            "a trace of noise changed the samples by {mean} on average"
        );
    }

    #[test]
    fn jpeg_alters_the_picture_more_at_low_quality() {
        let sharp = picture(64, 64);
        let error = |quality| {
            let model = BlurModel {
                jpeg: Some(quality..=quality),
                ..still()
            };
            let image = model.blur(&sharp, 1).unwrap();
            image
                .as_raw()
                .iter()
                .zip(sharp.as_raw())
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum::<u64>()
        };
        let (low, high) = (error(20), error(95));
        assert!(
            low > 2 * high && high > 0,
            "total error {low} at quality 20, {high} at 95"
        );
    }

    #[test]
    fn a_bad_range_is_an_error_that_names_the_field() {
        #[allow(
            clippy::reversed_empty_ranges,
            reason = "the very mistake that validation is for"
        )]
        let cases = [
            (
                "extent",
                BlurModel {
                    extent: 9.0..=3.0,
                    ..still()
                },
            ),
            (
                "extent",
                BlurModel {
                    extent: 0.0..=f32::INFINITY,
                    ..still()
                },
            ),
            (
                "rotation_degrees",
                BlurModel {
                    rotation_degrees: -1.0..=1.0,
                    ..still()
                },
            ),
            (
                "anxiety",
                BlurModel {
                    anxiety: f32::NAN..=1.0,
                    ..still()
                },
            ),
            (
                "exposure",
                BlurModel {
                    exposure: 0.0..=0.0,
                    ..still()
                },
            ),
            (
                "shot_noise",
                BlurModel {
                    shot_noise: 0.0..=2.0,
                    ..still()
                },
            ),
            (
                "read_noise",
                BlurModel {
                    read_noise: 0.0..=f32::NAN,
                    ..still()
                },
            ),
            (
                "jpeg",
                BlurModel {
                    jpeg: Some(0..=90),
                    ..still()
                },
            ),
        ];
        for (field, model) in cases {
            let error = model.blur(&picture(8, 8), 0).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }

    #[test]
    fn an_empty_picture_is_an_error() {
        let error = still().blur(&RgbImage::new(0, 4), 0).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn without_motion_the_picture_stays_as_it_is(width in 1..40_u32, height in 1..40_u32, seed: u64) {
            let sharp = picture(width, height);
            prop_assert!(still().blur(&sharp, seed).unwrap() == sharp);
        }
    }
}
