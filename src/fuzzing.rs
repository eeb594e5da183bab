//! What `fuzz/` reaches and programs do not: only there with `cfg(fuzzing)`, which cargo-fuzz sets.

use std::path::Path;

use crate::inference::video;
use crate::picture::{self, Region};
use crate::weights;

/// All numbers of a `.pth`, whatever network it is of.
///
/// # Errors
/// What is wrong with it.
pub fn pytorch(bytes: &[u8]) -> Result<Vec<f32>, String> {
    weights::fuzzing::pytorch(bytes)
}

/// All numbers of a `.safetensors`, whatever networks it has.
///
/// # Errors
/// What is wrong with it.
pub fn safetensors(bytes: &[u8]) -> Result<Vec<f32>, String> {
    weights::fuzzing::safetensors(bytes)
}

/// A region of a picture as 8-bit RGB, and the size of the picture, as patches are read.
///
/// # Errors
/// The file cannot be read, or the region is outside.
pub fn region(
    path: &Path,
    [left, top, width, height]: [u32; 4],
) -> crate::Result<(image::RgbImage, (u32, u32))> {
    let region = Region {
        top,
        left,
        height,
        width,
    };
    let (part, size) = picture::open_region(path, region)?;
    Ok((part.pixels, size))
}

/// A picture's size as its header has it.
///
/// # Errors
/// The file cannot be read.
pub fn size(path: &Path) -> crate::Result<(u32, u32)> {
    picture::size(path)
}

/// Goes on with the frames beside `output`, whose `state.json` may be damaged; how many there are.
///
/// # Errors
/// They were made in another way.
pub fn video_frames(input: &Path, output: &Path) -> crate::Result<usize> {
    video::resumed_frames(input, output)
}

/// Reads an answer of ffprobe's.
///
/// # Errors
/// It is none, or of a video that cannot be deblurred.
pub fn video_streams(json: &[u8]) -> crate::Result<()> {
    video::read_answer(json)
}
