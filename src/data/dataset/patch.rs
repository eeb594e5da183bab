//! A square of a picture as the numbers of a sample.

use image::RgbImage;

use crate::data::augment::Augmentation;
use crate::reflect::reflect;

/// A square of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crop {
    pub top: usize,
    pub left: usize,
    pub side: usize,
}

impl Crop {
    /// Writes the augmented square as planes in [0, 1]. Beyond the picture's borders it is reflected.
    pub fn write(&self, image: &RgbImage, augmentation: Augmentation, planes: &mut [f32]) {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (side, area) = (self.side, self.side * self.side);
        let pixels = image.as_raw();
        for y in 0..side {
            for x in 0..side {
                let (row, column) = augmentation.source(y, x, side, side);
                let row = reflect((self.top + row) as i64, height);
                let column = reflect((self.left + column) as i64, width);
                let pixel = &pixels[3 * (row * width + column)..][..3];
                for (channel, &value) in pixel.iter().enumerate() {
                    planes[channel * area + y * side + x] = f32::from(value) / 255.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::data::dataset::examples::{config, gradient_pairs, stream};

    #[test]
    fn both_images_are_cut_and_turned_alike() {
        let (_folder, pairs) = gradient_pairs(2, 40, 30);
        let stream = stream(pairs, config(&[(8, 8, 10)]));
        let batch = stream.batch(0, 0..8).unwrap();
        let area = 64;
        let mut corners = BTreeMap::new();
        for slot in 0..8 {
            let place =
                |planes: &[f32]| planes[(slot * 3 + 1) * area..(slot * 3 + 3) * area].to_vec();
            assert_eq!(place(&batch.blur), place(&batch.sharp), "slot {slot}");
            let values = place(&batch.blur);
            *corners
                .entry((values[0].to_bits(), values[7].to_bits()))
                .or_insert(0) += 1;
        }
        assert!(corners.len() > 4, "the crops hardly vary: {corners:?}");
    }

    #[test]
    fn patches_larger_than_the_image_are_reflected() {
        let (_folder, pairs) = gradient_pairs(1, 5, 3);
        let mut config = config(&[(8, 1, 10)]);
        config.augment = false;
        let batch = stream(pairs, config).batch(0, 0..1).unwrap();
        let plane = |channel: usize| {
            let values = &batch.blur[channel * 64..(channel + 1) * 64];
            values
                .iter()
                .map(|value| (value * 255.0).round() as u8)
                .collect::<Vec<_>>()
        };
        assert_eq!(plane(1)[..8], [0, 1, 2, 3, 4, 3, 2, 1]);
        let rows: Vec<_> = plane(2).chunks(8).map(|row| row[0]).collect();
        assert_eq!(rows, [0, 1, 2, 1, 0, 1, 2, 1]);
    }
}
