//! Datasets for unit tests.

use image::RgbImage;
use tempfile::TempDir;

use super::{DEFAULT_CACHE_BYTES, PairReader, SampleStream, StreamConfig};
use crate::config::PatchConfig;
use crate::data::layout::Part;
use crate::data::pairs::{Pair, Source, find_images, find_pairs};
use crate::data::synthesis::BlurModel;

/// Pairs whose blurry pixels say where they come from: (pair, column, row).
pub(in crate::data) fn gradient_pairs(count: u8, width: u32, height: u32) -> (TempDir, Vec<Pair>) {
    let folder = TempDir::new().unwrap();
    for (side, blue) in [("input", 0), ("target", 100)] {
        let path = folder.path().join(side);
        std::fs::create_dir(&path).unwrap();
        for pair in 0..count {
            let pixel = |x, y| image::Rgb([pair + blue, x as u8, y as u8]);
            let image = RgbImage::from_fn(width, height, pixel);
            image.save(path.join(format!("{pair:03}.png"))).unwrap();
        }
    }
    let found = find_pairs(folder.path(), None, Part::Train).unwrap();
    (folder, found.pairs)
}

pub(in crate::data) fn config(patches: &[(usize, usize, usize)]) -> StreamConfig {
    let entry = |&(patch, batch, iterations)| PatchConfig {
        patch,
        batch,
        iterations,
    };
    StreamConfig {
        seed: 7,
        iterations: 100,
        patches: patches.iter().map(entry).collect(),
        augment: true,
        noise_len: 6,
        timesteps: 8,
    }
}

pub(in crate::data) fn stream(pairs: Vec<Pair>, config: StreamConfig) -> SampleStream {
    let sources = one_source(&pairs);
    SampleStream::new(PairReader::new(pairs, DEFAULT_CACHE_BYTES), sources, config).unwrap()
}

pub(in crate::data) fn one_source(pairs: &[Pair]) -> Vec<Source> {
    vec![Source {
        pairs: pairs.len(),
        weight: 1.0,
    }]
}

/// Sharp photographs, and a blur of all kinds but shrinking.
pub(in crate::data) fn photographs(
    count: u32,
    width: u32,
    height: u32,
) -> (TempDir, Vec<Pair>, BlurModel) {
    let folder = TempDir::new().unwrap();
    for index in 0..count {
        let image = RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([
                (x * 5 + index * 60) as u8,
                (y * 9) as u8,
                ((x ^ y) * 3) as u8,
            ])
        });
        image
            .save(folder.path().join(format!("{index}.png")))
            .unwrap();
    }
    let found = find_images(folder.path(), None, Part::Train).unwrap();
    let mut model = BlurModel::default();
    for probability in [
        &mut model.object.probability,
        &mut model.defocus.probability,
        &mut model.highlights.probability,
        &mut model.noise.probability,
        &mut model.jpeg.probability,
    ] {
        *probability = 1.0;
    }
    (folder, found.pairs, model)
}
