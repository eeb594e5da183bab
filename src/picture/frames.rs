//! All pictures of a file: one, the frames of an animation, or pages.

use std::io::Read;
use std::path::Path;

use super::decode::{self, Extent};
use super::encode::{EncodeOptions, Saved, encode, save};
use super::{Format, Limits, Photograph};
use crate::error::{Error, Result};

/// When the frames of an animation are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Of each frame, in seconds, as numerator and denominator.
    pub delays: Vec<(u32, u32)>,
    /// How often the animation is shown; 0 is forever.
    pub loops: u32,
}

/// The pictures of a file, in order: a photograph, the frames of an animation (each the whole canvas, as it is shown), or the
/// pages of a TIFF.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    photographs: Vec<Photograph>, // not empty
    timing: Option<Timing>,
}

impl Frames {
    /// Reads and decodes all pictures of the file at `path`. `limits` are about all of them together.
    ///
    /// # Errors
    /// As for [`Photograph::open`].
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Frames> {
        let path = path.as_ref();
        Self::decode(&decode::read(path, limits)?, path, limits)
    }

    /// Reads to the end, and decodes all pictures; `origin` names the source in errors.
    ///
    /// # Errors
    /// As for [`Photograph::open`].
    pub fn from_reader(
        reader: impl Read,
        origin: impl AsRef<Path>,
        limits: &Limits,
    ) -> Result<Frames> {
        let origin = origin.as_ref();
        Self::decode(&decode::read_all(reader, origin, limits)?, origin, limits)
    }

    /// Decodes all pictures of a file's `bytes`; `origin` names them in errors.
    ///
    /// # Errors
    /// As for [`Photograph::open`].
    pub fn decode(bytes: &[u8], origin: impl AsRef<Path>, limits: &Limits) -> Result<Frames> {
        let origin = origin.as_ref();
        let decoded = decode::decode(bytes, origin, limits, Extent::All)?;
        let photographs = decoded.pictures.into_iter().map(Photograph::of_stored);
        let photographs = photographs.collect::<Result<Vec<_>, _>>();
        let photographs = photographs.map_err(|reason| Error::image(origin, reason))?;
        if photographs.is_empty() {
            return Err(Error::image(origin, "no picture in this file"));
        }
        Ok(Frames {
            photographs,
            timing: decoded.timing,
        })
    }

    /// The pictures, at least one.
    pub fn photographs(&self) -> &[Photograph] {
        &self.photographs
    }

    /// When they are shown, if they are an animation.
    pub fn timing(&self) -> Option<&Timing> {
        self.timing.as_ref()
    }

    /// As [`Photograph::check_format`], of each picture.
    ///
    /// # Errors
    /// The reason.
    pub fn check_format(&self, format: Format) -> Result<(), String> {
        let mut photographs = self.photographs.iter();
        photographs.try_for_each(|one| one.check_format(format))
    }

    /// As [`Photograph::beside`], each picture with `right`'s of the same number.
    ///
    /// # Errors
    /// As for [`Photograph::beside`].
    pub fn beside(&self, right: &Frames) -> Result<Frames> {
        let pairs = self.photographs.iter().zip(&right.photographs);
        let both = pairs.map(|(left, right)| left.beside(right));
        self.with_photographs(both.collect::<Result<_>>()?)
    }

    /// Other pictures, shown when these are.
    ///
    /// # Errors
    /// [`Error::Shape`] if their number differs.
    pub fn with_photographs(&self, photographs: Vec<Photograph>) -> Result<Frames> {
        if photographs.len() != self.photographs.len() {
            return Err(Error::Shape {
                what: "frames".into(),
                found: vec![photographs.len()],
                expected: format!("{} photographs", self.photographs.len()),
            });
        }
        Ok(Frames {
            photographs,
            timing: self.timing.clone(),
        })
    }

    /// As [`Photograph::save`]: all pictures where the format holds several of their kind (frames in PNG, WebP and GIF, pages in
    /// TIFF), else the first, of which the [`Saved`] tells.
    ///
    /// # Errors
    /// As for [`Photograph::save`].
    pub fn save(&self, path: impl AsRef<Path>, options: &EncodeOptions) -> Result<Saved> {
        save(&self.photographs, self.timing(), path.as_ref(), options)
    }

    /// The bytes of a file in this format, as [`save`](Self::save) would write it; `destination` names it in errors.
    ///
    /// # Errors
    /// As for [`Photograph::save`].
    pub fn to_bytes(
        &self,
        format: Format,
        options: &EncodeOptions,
        destination: impl AsRef<Path>,
    ) -> Result<(Vec<u8>, Saved)> {
        encode(
            &self.photographs,
            self.timing(),
            format,
            options,
            destination.as_ref(),
        )
    }
}

impl From<Photograph> for Frames {
    fn from(photograph: Photograph) -> Frames {
        Frames {
            photographs: vec![photograph],
            timing: None,
        }
    }
}
