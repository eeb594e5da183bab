//! A photograph made smaller before it is blurred.

use image::RgbImage;

use super::scene::{Rect, Scene};

/// Shrinks `image` until no side is longer than `max_size`, in linear light as a coarser sensor would.
pub(super) fn shrink(image: RgbImage, max_size: Option<u32>) -> RgbImage {
    let (width, height) = image.dimensions();
    let longer = width.max(height);
    let Some(size) = max_size.filter(|&size| size < longer) else {
        return image;
    };
    let scaled = |side: u32| {
        let exact = u64::from(side) * u64::from(size);
        ((exact + u64::from(longer) / 2) / u64::from(longer)).max(1) as u32
    };
    let size = [scaled(width) as usize, scaled(height) as usize];
    let whole = Rect::of_size(size);
    Scene::new(&image, size, whole).image(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn small_photographs_are_not_enlarged() {
        let image = RgbImage::from_pixel(5, 4, Rgb([9, 8, 7]));
        assert!(shrink(image.clone(), Some(6)) == image);
    }
}
