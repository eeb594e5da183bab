//! `[data.blur]`: how sharp photographs are blurred. What the numbers mean is in `data::synthesis`.

use serde::{Deserialize, Serialize};

use crate::checks::Check;
use crate::error::Result;

/// The least and the greatest value of what is drawn uniformly for each picture.
pub type Range = [f64; 2];

/// How sharp pictures are blurred: each kind by its probability, and with values drawn from its ranges.
///
/// The kinds are drawn independently of one another, so that changing one leaves the others of the same seed as they
/// are. The default is camera shake alone, from hardly visible to strong on pictures of about half a megapixel or less.
/// Lengths are in pixels of the picture as it is shrunk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlurModel {
    /// Probability that a picture keeps no blur: shake, object, defocus and highlights are left out.
    pub sharp: f64,
    /// The photograph is made smaller before anything else.
    pub shrink: ShrinkConfig,
    /// The camera moves while the shutter is open.
    pub shake: ShakeConfig,
    /// The blur is the mean of a video's frames.
    pub frames: FramesConfig,
    /// A part of the picture moves while the shutter is open.
    pub object: ObjectConfig,
    /// The lens is out of focus.
    pub defocus: DefocusConfig,
    /// What is white is brighter than white until it is blurred.
    pub highlights: HighlightsConfig,
    /// The sensor's noise.
    pub noise: NoiseConfig,
    /// The blurred picture is compressed as JPEG.
    pub jpeg: JpegConfig,
}

/// Shrinking in linear light, which takes a photograph's own blur, noise and JPEG artefacts away. The shrunk picture is
/// the sharp one of the pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShrinkConfig {
    /// How often.
    pub probability: f64,
    /// How many times smaller, 1 to 16; less where too little of the picture would be left.
    pub factor: Range,
}

impl Default for ShrinkConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            factor: [1.0, 2.5],
        }
    }
}

/// A camera that shakes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShakeConfig {
    /// How often.
    pub probability: f64,
    /// The largest distance, in pixels, between two points of the camera's translation trajectory: 0 to 1000.
    pub extent: Range,
    /// How far the camera rolls about the optical axis in the course of its trajectory, in degrees: 0 to 45. The centre
    /// of rotation is drawn near the middle of the picture.
    pub rotation: Range,
    /// How nervous the hand is: 0 moves straight on; 1 turns often, is pulled back to where it started, and jerks about
    /// once an exposure; at most 10.
    pub anxiety: Range,
    /// The share of the trajectory during which the shutter is open: 0.01 to 1. Short exposures see a small piece of the
    /// trajectory.
    pub exposure: Range,
}

impl Default for ShakeConfig {
    fn default() -> Self {
        Self {
            probability: 1.0,
            extent: [3.0, 24.0],
            rotation: [0.0, 0.8],
            anxiety: [0.0, 1.0],
            exposure: [0.5, 1.0],
        }
    }
}

/// Blur as GoPro's pairs have it: the mean of a video's frames, as they are encoded and not in linear light, with the frame in
/// the middle as the sharp picture. Highlights and noise are left out: each frame was clipped by itself, and the mean of many
/// has little noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FramesConfig {
    /// How often.
    pub probability: f64,
    /// How many frames: 3 to 99, an even number being one less.
    pub count: [u8; 2],
    /// The share of the time between two frames during which the shutter is open: 0.01 to 1. At 1 the trail has no gaps.
    pub open: Range,
    /// In place of the shake's extent, and of the object's.
    pub extent: Range,
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            count: [7, 13],
            open: [0.2, 1.0],
            extent: [3.0, 40.0],
        }
    }
}

/// A region of random shape that moves by a trajectory of its own, and with the camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectConfig {
    /// How often.
    pub probability: f64,
    /// Mean diameter as a share of the picture's shorter side: 0.01 to 1.
    pub size: Range,
    /// The largest distance, in pixels, between two points of its trajectory: 0 to 1000.
    pub extent: Range,
    /// How crooked its trajectory is, as the camera's: 0 to 10.
    pub anxiety: Range,
    /// Width of its soft edge in pixels: 0 to 100.
    pub softness: Range,
}

impl Default for ObjectConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            size: [0.15, 0.6],
            extent: [3.0, 24.0],
            anxiety: [0.0, 0.3],
            softness: [1.0, 6.0],
        }
    }
}

/// A lens out of focus: each point becomes the picture of the aperture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DefocusConfig {
    /// How often.
    pub probability: f64,
    /// The aperture's radius in pixels, in the middle of the picture: 0 to 50.
    pub radius: Range,
    /// By what share of it the radius grows to one side of the picture and falls to the other, in a random direction:
    /// 0 to 1.
    pub variation: Range,
    /// Width of the aperture's soft edge in pixels: 0.5 to 10.
    pub softness: Range,
    /// Probability that the aperture is a polygon, of 5 to 9 blades, rather than a disc.
    pub polygon: f64,
}

impl Default for DefocusConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            radius: [0.5, 4.0],
            variation: [0.0, 1.0],
            softness: [0.5, 2.0],
            polygon: 0.5,
        }
    }
}

/// Light that the photograph's sensor has clipped: it is given back before the blur, and clipped again after it, so that
/// lamps leave bright trails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HighlightsConfig {
    /// How often.
    pub probability: f64,
    /// The luminance, of white's 1 in linear light, above which a pixel becomes brighter: 0 to 1.
    pub threshold: Range,
    /// How many times brighter white becomes: 1 to 100.
    pub gain: Range,
}

impl Default for HighlightsConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            threshold: [0.9, 0.98],
            gain: [2.0, 10.0],
        }
    }
}

/// Gaussian noise in linear light.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// How often.
    pub probability: f64,
    /// Shot noise: its standard deviation at full brightness, where white is 1: 0 to 1. The variance is proportional to
    /// the light.
    pub shot: Range,
    /// Read noise: its standard deviation, everywhere the same: 0 to 1.
    pub read: Range,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            shot: [0.0, 0.012],
            read: [0.0, 0.004],
        }
    }
}

/// JPEG compression of the blurred picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JpegConfig {
    /// How often.
    pub probability: f64,
    /// Quality, 1 to 100.
    pub quality: [u8; 2],
}

impl Default for JpegConfig {
    fn default() -> Self {
        Self {
            probability: 0.0,
            quality: [60, 95],
        }
    }
}

impl BlurModel {
    /// Whether every value is usable.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the first range that is empty, not finite or beyond its limits,
    /// and the first probability that is none.
    pub fn validate(&self) -> Result<()> {
        self.check(&Check {
            origin: "blur model",
        })
    }

    pub(super) fn check(&self, check: &Check) -> Result<()> {
        let Self {
            sharp,
            shrink,
            shake,
            frames,
            object,
            defocus,
            highlights,
            noise,
            jpeg,
        } = self;
        for (key, probability) in [
            ("sharp", *sharp),
            ("shrink.probability", shrink.probability),
            ("shake.probability", shake.probability),
            ("frames.probability", frames.probability),
            ("object.probability", object.probability),
            ("defocus.probability", defocus.probability),
            ("defocus.polygon", defocus.polygon),
            ("highlights.probability", highlights.probability),
            ("noise.probability", noise.probability),
            ("jpeg.probability", jpeg.probability),
        ] {
            check.number(&format!("data.blur.{key}"), probability, 0.0, 1.0)?;
        }
        let quality = jpeg.quality.map(f64::from);
        let count = frames.count.map(f64::from);
        for (key, [low, high], [least, most]) in [
            ("shrink.factor", shrink.factor, [1.0, 16.0]),
            ("shake.extent", shake.extent, [0.0, 1000.0]),
            ("shake.rotation", shake.rotation, [0.0, 45.0]),
            ("shake.anxiety", shake.anxiety, [0.0, 10.0]),
            ("shake.exposure", shake.exposure, [0.01, 1.0]),
            ("frames.count", count, [3.0, 99.0]),
            ("frames.open", frames.open, [0.01, 1.0]),
            ("frames.extent", frames.extent, [0.0, 1000.0]),
            ("object.size", object.size, [0.01, 1.0]),
            ("object.extent", object.extent, [0.0, 1000.0]),
            ("object.anxiety", object.anxiety, [0.0, 10.0]),
            ("object.softness", object.softness, [0.0, 100.0]),
            ("defocus.radius", defocus.radius, [0.0, 50.0]),
            ("defocus.variation", defocus.variation, [0.0, 1.0]),
            ("defocus.softness", defocus.softness, [0.5, 10.0]),
            ("highlights.threshold", highlights.threshold, [0.0, 1.0]),
            ("highlights.gain", highlights.gain, [1.0, 100.0]),
            ("noise.shot", noise.shot, [0.0, 1.0]),
            ("noise.read", noise.read, [0.0, 1.0]),
            ("jpeg.quality", quality, [1.0, 100.0]),
        ] {
            // A NaN fails every comparison and so ends here as well.
            check.that(
                least <= low && low <= high && high <= most,
                &format!("data.blur.{key}"),
                [low, high],
                &format!("two numbers from {least} to {most}, the lower one first"),
            )?;
        }
        Ok(())
    }
}
