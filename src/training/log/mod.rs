//! What a training reports, as plain data, and where it goes.
//!
//! | question | file |
//! |---|---|
//! | when something is reported, and which means | [`Recorder`] |
//! | lines for people | [`Lines`] |
//! | one JSON object a line, for programs | [`JsonLines`] |
//! | TensorBoard's event files | [`TensorBoard`] |
//! | validation images as files | [`Pictures`] |

mod json_lines;
mod lines;
pub(crate) mod pictures;
pub(crate) mod recorder;
mod tensorboard;

use std::borrow::Cow;

use image::RgbImage;
use serde::{Deserialize, Deserializer, Serialize};

use super::stage::Stage;
use crate::error::Result;

pub use json_lines::JsonLines;
pub use lines::Lines;
pub use pictures::Pictures;
pub use recorder::{Recorder, Step};
pub use tensorboard::TensorBoard;

/// Something that a training reports.
///
/// In JSON, numbers that are not finite are `null`, and come back as NaN; values that are not there have no key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Record {
    /// The steps since the record before.
    Train(TrainRecord),
    /// A validation.
    Validation(ValidationRecord),
}

/// The steps of a stage since the record before: means, and the state after the last of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// 1 or 2.
    pub stage: u8,
    /// Optimiser steps of the stage done so far.
    pub iteration: usize,
    /// Optimiser steps of the stage in all.
    pub iterations: usize,
    /// Mean pixel loss between output and sharp image over the images; none where the stage does not have it.
    #[serde(
        default,
        deserialize_with = "some_or_nan",
        skip_serializing_if = "Option::is_none"
    )]
    pub pixel_loss: Option<f64>,
    /// Mean loss in the frequency domain over the images, before it is weighted; none where it has no weight.
    #[serde(
        default,
        deserialize_with = "some_or_nan",
        skip_serializing_if = "Option::is_none"
    )]
    pub frequency_loss: Option<f64>,
    /// Mean difference of the mean light over the images, before it is weighted; none where it has no weight.
    #[serde(
        default,
        deserialize_with = "some_or_nan",
        skip_serializing_if = "Option::is_none"
    )]
    pub light_loss: Option<f64>,
    /// Mean loss of the diffusion over the images; none where the stage does not have it.
    #[serde(
        default,
        deserialize_with = "some_or_nan",
        skip_serializing_if = "Option::is_none"
    )]
    pub diffusion_loss: Option<f64>,
    /// Mean norm over all parameters of the gradient, before it is clipped.
    #[serde(
        default,
        deserialize_with = "some_or_nan",
        skip_serializing_if = "Option::is_none"
    )]
    pub gradient_norm: Option<f64>,
    /// The learning rate of the last step.
    #[serde(deserialize_with = "or_nan")]
    pub learning_rate: f64,
    /// Training images per second, on all devices together.
    #[serde(deserialize_with = "or_nan")]
    pub images_per_second: f64,
    /// Resident memory of the process; none where the operating system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Seconds until the stage's last step, validations not counted, at the present rate.
    #[serde(deserialize_with = "or_nan")]
    pub seconds_left: f64,
}

/// The mean scores of a validation: over the images of each set, and over the sets, each of which counts alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// 1 or 2.
    pub stage: u8,
    /// Optimiser steps of the stage done so far.
    pub iteration: usize,
    /// Mean over the sets of the peak signal-to-noise ratio in dB. This is what the best validation has most of.
    #[serde(deserialize_with = "or_nan")]
    pub psnr: f64,
    /// Mean over the sets of the SSIM per channel, as BasicSR logs it.
    #[serde(deserialize_with = "or_nan")]
    pub ssim: f64,
    /// Mean over the sets of how many dB the PSNR is above the blurred input's; none in logs of earlier versions.
    #[serde(
        default,
        deserialize_with = "some_or_nan",
        skip_serializing_if = "Option::is_none"
    )]
    pub gain: Option<f64>,
    /// How many images were scored in all.
    pub images: usize,
    /// The sets by themselves; none in logs of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetRecord>,
    /// Some of the images; not part of the JSON.
    #[serde(skip)]
    pub pictures: Vec<Picture>,
}

/// The mean scores of a validation set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetRecord {
    /// Its name; no two sets of a training have the same.
    pub name: String,
    /// Mean over the images of the peak signal-to-noise ratio in dB.
    #[serde(deserialize_with = "or_nan")]
    pub psnr: f64,
    /// Mean over the images of the SSIM per channel.
    #[serde(deserialize_with = "or_nan")]
    pub ssim: f64,
    /// Mean over the images of how many dB the PSNR is above the blurred input's.
    #[serde(deserialize_with = "or_nan")]
    pub gain: f64,
    /// How many images were scored.
    pub images: usize,
}

/// A validation image as people look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The pair's name.
    pub name: String,
    /// Blur, output and sharp side by side.
    pub image: RgbImage,
}

/// Where records go.
pub trait Sink: Send {
    /// Takes one record, and holds nothing back: what has been written survives the end of the process.
    ///
    /// # Errors
    /// The file or folder behind the sink cannot be written. The sink is not used any more then.
    fn write(&mut self, record: &Record) -> Result<()>;
}

/// A stage as people call it.
fn stage_name(stage: u8) -> Cow<'static, str> {
    match Stage::numbered(stage) {
        Some(stage) => stage.name().into(),
        None => format!("stage {stage}").into(),
    }
}

fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(f64::NAN))
}

fn some_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    or_nan(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn train(stage: u8, iteration: usize) -> TrainRecord {
        TrainRecord {
            stage,
            iteration,
            iterations: 1_800,
            pixel_loss: Some(0.031_21),
            frequency_loss: None,
            light_loss: None,
            diffusion_loss: None,
            gradient_norm: Some(0.412_3),
            learning_rate: 9.831e-4,
            images_per_second: 12.3,
            memory_bytes: Some(1_288_490_189),
            seconds_left: 723.0,
        }
    }

    pub(super) fn validation(stage: u8, iteration: usize) -> ValidationRecord {
        ValidationRecord {
            stage,
            iteration,
            psnr: 27.123,
            ssim: 0.812_3,
            gain: None,
            images: 6,
            sets: Vec::new(),
            pictures: Vec::new(),
        }
    }

    /// As [`validation`], of two sets.
    pub(super) fn validation_of_sets(stage: u8, iteration: usize) -> ValidationRecord {
        let set = |name: &str, psnr, gain, images| SetRecord {
            name: name.into(),
            psnr,
            ssim: 0.75,
            gain,
            images,
        };
        ValidationRecord {
            psnr: 26.0,
            ssim: 0.75,
            gain: Some(0.125),
            sets: vec![set("gopro", 27.0, 0.5, 4), set("shake", 25.0, -0.25, 2)],
            ..validation(stage, iteration)
        }
    }

    #[test]
    fn records_keep_their_json_names() {
        let json = |record: &Record| serde_json::to_string(record).unwrap();
        assert_eq!(
            json(&Record::Train(train(1, 150))),
            r#"{"kind":"train","stage":1,"iteration":150,"iterations":1800,"pixel_loss":0.03121,"gradient_norm":0.4123,"learning_rate":0.0009831,"images_per_second":12.3,"memory_bytes":1288490189,"seconds_left":723.0}"#
        );
        let mut record = validation(2, 600);
        record.pictures.push(Picture {
            name: "a".into(),
            image: RgbImage::new(2, 1),
        });
        assert_eq!(
            json(&Record::Validation(record)),
            r#"{"kind":"validation","stage":2,"iteration":600,"psnr":27.123,"ssim":0.8123,"images":6}"#
        );
        assert_eq!(
            json(&Record::Validation(validation_of_sets(1, 5))),
            concat!(
                r#"{"kind":"validation","stage":1,"iteration":5,"psnr":26.0,"ssim":0.75,"gain":0.125,"images":6,"sets":["#,
                r#"{"name":"gopro","psnr":27.0,"ssim":0.75,"gain":0.5,"images":4},"#,
                r#"{"name":"shake","psnr":25.0,"ssim":0.75,"gain":-0.25,"images":2}]}"#
            )
        );
    }

    #[test]
    fn records_come_back_from_json_as_they_were() {
        for record in [
            Record::Train(train(1, 150)),
            Record::Validation(validation(2, 600)),
            Record::Validation(validation_of_sets(2, 600)),
        ] {
            let json = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        }
    }

    #[test]
    fn what_is_not_finite_stays_apart_from_what_is_not_there() {
        let record = TrainRecord {
            pixel_loss: Some(f64::INFINITY),
            images_per_second: f64::NAN,
            ..train(1, 1)
        };
        let json = serde_json::to_string(&Record::Train(record)).unwrap();
        assert!(json.contains(r#""pixel_loss":null"#), "{json}");
        let Record::Train(found) = serde_json::from_str(&json).unwrap() else {
            panic!("{json}");
        };
        assert!(found.pixel_loss.unwrap().is_nan());
        assert_eq!(found.diffusion_loss, None);
        assert!(found.images_per_second.is_nan());
    }
}
