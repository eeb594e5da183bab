//! Images by tiles.
//!
//! Memory is `[channels, height, width]`. Rows of a tile are copied into a buffer with a frame of one pixel around the tile,
//! since a 3×3 convolution reads that far:
//!
//! ```text
//!   ← width + 2 →
//!   f f f f f f f   f: the frame, pixels of the neighbouring tiles, zeros outside the image
//!   f t t t t t f   t: the tile
//!   f t t t t t f
//!   f f f f f f f
//! ```
//!
//! Where a sum runs over pixels of several tiles, tiles depend on the image's size alone, so that results do not depend on
//! how many threads share them.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use rayon::prelude::*;

use super::LANES;
use super::panels::row_pixels;

const TILE_WIDTH: usize = 256;

/// No image is cut into more than two tiles of fewer pixels, and none into tiles of fewer than the least, for their frames'
/// sake.
const USUAL_TILE_PIXELS: usize = 512;
const LEAST_TILE_PIXELS: usize = 128;

/// A rectangle of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Tile {
    pub fn framed_width(&self) -> usize {
        self.width + 2
    }

    /// Rows with the frame.
    pub fn framed_height(&self) -> usize {
        self.height + 2
    }

    /// With the pixels around it that lie inside the image.
    pub fn surrounded(&self, height: usize, width: usize) -> Tile {
        let (top, left) = (self.top.saturating_sub(1), self.left.saturating_sub(1));
        Tile {
            top,
            left,
            height: height.min(self.top + self.height + 1) - top,
            width: width.min(self.left + self.width + 1) - left,
        }
    }

    fn frame_length(&self) -> usize {
        2 * self.framed_width() + 2 * self.height
    }
}

/// Cuts an image into tiles of at most about so many pixels, row by row, by its size alone. Small images are cut too, so
/// that there is work for several threads.
pub(super) fn tiles(height: usize, width: usize, pixels: usize) -> Vec<Tile> {
    let most = (height * width / 2).clamp(LEAST_TILE_PIXELS, pixels.max(LEAST_TILE_PIXELS));
    cut(
        height,
        width,
        (height * width / 4).clamp(USUAL_TILE_PIXELS.min(most), most),
    )
}

/// Cuts an image into tiles of at most about so many pixels for the threads at hand, as large as gives work to each. For
/// what is the same for a pixel whatever tile it is in.
pub(super) fn tiles_for_threads(height: usize, width: usize, pixels: usize) -> Vec<Tile> {
    let share = (height * width).div_ceil(rayon::current_num_threads());
    cut(height, width, share.clamp(LEAST_TILE_PIXELS, pixels))
}

/// Cuts a rectangle into tiles of at most about so many pixels, by its size alone.
pub(super) fn tiles_within(part: &Tile, pixels: usize) -> Vec<Tile> {
    let tiles = cut(part.height, part.width, pixels.max(LEAST_TILE_PIXELS));
    let moved = |tile: Tile| Tile {
        top: part.top + tile.top,
        left: part.left + tile.left,
        ..tile
    };
    tiles.into_iter().map(moved).collect()
}

fn cut(height: usize, width: usize, pixels: usize) -> Vec<Tile> {
    if height == 0 || width == 0 {
        return Vec::new();
    }
    let columns = width.div_ceil(TILE_WIDTH);
    let tile_width = width.div_ceil(columns).next_multiple_of(LANES).min(width);
    let tile_height = height.div_ceil(height.div_ceil((pixels / tile_width).max(1)));
    let spans = |size: usize, step: usize| {
        (0..size)
            .step_by(step)
            .map(move |start| (start, step.min(size - start)))
    };
    spans(height, tile_height)
        .flat_map(|(top, height)| {
            spans(width, tile_width).map(move |(left, width)| Tile {
                top,
                left,
                height,
                width,
            })
        })
        .collect()
}

/// An image that several threads read.
pub(super) struct Image<'a> {
    data: *mut f32,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    lifetime: PhantomData<&'a [f32]>,
}

/// An image that several threads read, and write each its own tiles of.
pub(super) struct ImageMut<'a> {
    image: Image<'a>,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the methods that read ask their callers that no thread writes meanwhile.
unsafe impl Sync for Image<'_> {}

/// To read from.
impl<'a> Deref for ImageMut<'a> {
    type Target = Image<'a>;

    fn deref(&self) -> &Image<'a> {
        &self.image
    }
}

impl<'a> ImageMut<'a> {
    /// # Panics
    /// If the slice's length is not that of the image.
    pub fn new(data: &'a mut [f32], [channels, height, width]: [usize; 3]) -> Self {
        assert_eq!(data.len(), channels * height * width);
        Self {
            image: Image {
                data: data.as_mut_ptr(),
                channels,
                height,
                width,
                lifetime: PhantomData,
            },
            lifetime: PhantomData,
        }
    }

    /// Pixels of a row, to write to.
    ///
    /// # Safety
    /// Nothing else reads or writes them while the slice is in use.
    #[allow(clippy::mut_from_ref)] // The pixels are shared out among threads by the callers' word.
    pub unsafe fn row_mut(&self, channel: usize, row: usize, columns: Range<usize>) -> &mut [f32] {
        let offset = self.offset(channel, row, &columns);
        // SAFETY: as in `row`; the caller excludes reads too.
        unsafe { std::slice::from_raw_parts_mut(self.image.data.add(offset), columns.len()) }
    }

    /// Pixels of a row of the first channel, and how many elements there are from there on.
    pub fn from(&self, row: usize, columns: Range<usize>) -> (*mut f32, usize) {
        let offset = self.offset(0, row, &columns);
        let length = self.channels * self.height * self.width - offset;
        (self.image.data.wrapping_add(offset), length)
    }

    /// The frames of all tiles as they are now: with them, a tile can be computed from its neighbours' old pixels after
    /// these were replaced.
    pub fn frames(&mut self, tiles: &[Tile]) -> Vec<Vec<f32>> {
        let image = &*self;
        // SAFETY: `self` is borrowed exclusively, and this only reads.
        let frame = |tile: &Tile| unsafe { image.frame(tile) };
        tiles.par_iter().map(frame).collect()
    }

    /// Copies planes `stride` apart into a tile.
    ///
    /// # Safety
    /// Nothing else reads or writes the tile meanwhile.
    pub unsafe fn store(&self, tile: &Tile, planes: &[f32], stride: usize) {
        let columns = tile.left..tile.left + tile.width;
        let planes = planes[..self.channels * stride].chunks_exact(stride);
        for (channel, plane) in planes.enumerate() {
            for (row, plane) in plane.chunks_exact(tile.width).take(tile.height).enumerate() {
                // SAFETY: the caller excludes others.
                let pixels = unsafe { self.row_mut(channel, tile.top + row, columns.clone()) };
                pixels.copy_from_slice(plane);
            }
        }
    }
}

impl<'a> Image<'a> {
    /// # Panics
    /// If the slice's length is not that of the image.
    pub fn new(data: &'a [f32], [channels, height, width]: [usize; 3]) -> Self {
        assert_eq!(data.len(), channels * height * width);
        Self {
            data: data.as_ptr().cast_mut(), // Only an `ImageMut` writes by it, and makes its own.
            channels,
            height,
            width,
            lifetime: PhantomData,
        }
    }

    fn offset(&self, channel: usize, row: usize, columns: &Range<usize>) -> usize {
        assert!(channel < self.channels && row < self.height);
        assert!(columns.start <= columns.end && columns.end <= self.width);
        (channel * self.height + row) * self.width + columns.start
    }

    /// Pixels of a row.
    ///
    /// # Safety
    /// No thread writes to them while the slice is in use.
    pub unsafe fn row(&self, channel: usize, row: usize, columns: Range<usize>) -> &[f32] {
        let offset = self.offset(channel, row, &columns);
        // SAFETY: `offset` has checked that the pixels lie inside the slice that `new` was given, which is borrowed as
        // long as `self`; the caller excludes writes.
        unsafe { std::slice::from_raw_parts(self.data.add(offset), columns.len()) }
    }

    /// # Safety
    /// No thread writes to the frame's pixels meanwhile.
    unsafe fn frame(&self, tile: &Tile) -> Vec<f32> {
        let length = tile.frame_length();
        let mut frames = vec![0.0; self.channels * length];
        let bottom = tile.top + tile.height;
        for (channel, frame) in frames.chunks_exact_mut(length).enumerate() {
            let (above, frame) = frame.split_at_mut(tile.framed_width());
            let (below, sides) = frame.split_at_mut(tile.framed_width());
            // SAFETY: the caller excludes writes.
            unsafe {
                if tile.top > 0 {
                    self.framed_row(channel, tile.top - 1, tile, above);
                }
                if bottom < self.height {
                    self.framed_row(channel, bottom, tile, below);
                }
                let right = tile.left + tile.width;
                for (row, sides) in sides.chunks_exact_mut(2).enumerate() {
                    if tile.left > 0 {
                        sides[0] = self.row(channel, tile.top + row, tile.left - 1..right)[0];
                    }
                    if right < self.width {
                        sides[1] = self.row(channel, tile.top + row, right..right + 1)[0];
                    }
                }
            }
        }
        frames
    }

    /// A row of a tile with the pixel before and the pixel after; what is outside the image is left as it is.
    ///
    /// # Safety
    /// No thread writes to the pixels meanwhile.
    unsafe fn framed_row(&self, channel: usize, row: usize, tile: &Tile, output: &mut [f32]) {
        let start = tile.left.saturating_sub(1);
        let end = (tile.left + tile.width + 1).min(self.width);
        let first = start + 1 - tile.left;
        // SAFETY: the caller excludes writes.
        let pixels = unsafe { self.row(channel, row, start..end) };
        output[first..][..pixels.len()].copy_from_slice(pixels);
    }

    /// Copies a framed tile into planes `stride` apart. What is outside the image is zero.
    ///
    /// # Safety
    /// No thread writes to the tile's pixels and to those around it meanwhile.
    pub unsafe fn load_framed(&self, tile: &Tile, output: &mut [f32], stride: usize) {
        let width = tile.framed_width();
        let planes = output[..self.channels * stride].chunks_exact_mut(stride);
        for (channel, plane) in planes.enumerate() {
            let rows = plane.chunks_exact_mut(width).take(tile.framed_height());
            for (row, output) in rows.enumerate() {
                output[0] = 0.0;
                output[width - 1] = 0.0;
                match (tile.top + row).checked_sub(1) {
                    // SAFETY: the caller excludes writes.
                    Some(row) if row < self.height => unsafe {
                        self.framed_row(channel, row, tile, output);
                    },
                    _ => output.fill(0.0),
                }
            }
        }
    }

    /// Copies rows of a tile with the pixels around it into planes `stride` apart, `pitch` from a row to the next. `rows`
    /// are the image's.
    ///
    /// # Safety
    /// No thread writes to the tile's pixels meanwhile, nor, if no `frame` from earlier is given, to those around it.
    pub unsafe fn load_surrounded(
        &self,
        tile: &Tile,
        rows: Range<usize>,
        frame: Option<&[f32]>,
        output: &mut [f32],
        [stride, pitch]: [usize; 2],
    ) {
        let outer = tile.surrounded(self.height, self.width);
        // The first of them in a row with both neighbours.
        let first = outer.left + 1 - tile.left;
        let planes = output[..self.channels * stride].chunks_exact_mut(stride);
        for (channel, plane) in planes.enumerate() {
            let frame = frame.map(|frame| {
                let frame = &frame[channel * tile.frame_length()..][..tile.frame_length()];
                let (above, frame) = frame.split_at(tile.framed_width());
                let (below, sides) = frame.split_at(tile.framed_width());
                (above, below, sides.as_chunks::<2>().0)
            });
            for (row, output) in rows.clone().zip(plane.chunks_mut(pitch)) {
                let output = &mut output[..outer.width];
                match frame {
                    None => {
                        let columns = outer.left..outer.left + outer.width;
                        // SAFETY: the caller excludes writes.
                        output.copy_from_slice(unsafe { self.row(channel, row, columns) });
                    }
                    Some((above, ..)) if row < tile.top => {
                        output.copy_from_slice(&above[first..][..outer.width]);
                    }
                    Some((_, below, _)) if row >= tile.top + tile.height => {
                        output.copy_from_slice(&below[first..][..outer.width]);
                    }
                    Some((_, _, sides)) => {
                        let columns = tile.left..tile.left + tile.width;
                        // SAFETY: likewise.
                        let pixels = unsafe { self.row(channel, row, columns) };
                        output[tile.left - outer.left..][..tile.width].copy_from_slice(pixels);
                        let [before, after] = sides[row - tile.top];
                        if outer.left < tile.left {
                            output[0] = before;
                        }
                        if outer.left + outer.width > tile.left + tile.width {
                            output[outer.width - 1] = after;
                        }
                    }
                }
            }
        }
    }

    /// Copies rows of a tile without its frame into planes `stride` apart, [`row_pixels`] from a row to the next.
    ///
    /// # Safety
    /// No thread writes to the rows meanwhile.
    pub unsafe fn load_inner(
        &self,
        tile: &Tile,
        rows: Range<usize>,
        output: &mut [f32],
        stride: usize,
    ) {
        let columns = tile.left..tile.left + tile.width;
        let planes = output[..self.channels * stride].chunks_exact_mut(stride);
        for (channel, plane) in planes.enumerate() {
            let lines = plane.chunks_exact_mut(row_pixels(tile.width));
            for (row, output) in rows.clone().zip(lines) {
                // SAFETY: the caller excludes writes.
                let pixels = unsafe { self.row(channel, tile.top + row, columns.clone()) };
                output[..tile.width].copy_from_slice(pixels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A pixel's value, which tells where it is.
    fn value(channel: usize, row: usize, column: usize) -> f32 {
        (channel * 1_000_000 + row * 1_000 + column + 1) as f32
    }

    fn picture([channels, height, width]: [usize; 3]) -> Vec<f32> {
        let pixels = (0..channels * height * width).map(|index| {
            (
                index / width / height,
                index / width % height,
                index % width,
            )
        });
        pixels
            .map(|(channel, row, column)| value(channel, row, column))
            .collect()
    }

    proptest! {
        #[test]
        fn tiles_cover_every_pixel_once(height in 1usize..300, width in 1usize..700, pixels in 1usize..9000) {
            let mut covered = vec![0u8; height * width];
            for tile in tiles(height, width, pixels) {
                prop_assert_eq!(tile.left % 2, 0);
                for row in tile.top..tile.top + tile.height {
                    for covered in &mut covered[row * width..][tile.left..tile.left + tile.width] {
                        *covered += 1;
                    }
                }
            }
            prop_assert!(covered.iter().all(|count| *count == 1));
        }

        #[test]
        fn framed_tiles_hold_their_surroundings(height in 1usize..60, width in 1usize..320) {
            let size = [2, height, width];
            let data = picture(size);
            let image = Image::new(&data, size);
            for tile in tiles(height, width, 700) {
                let stride = tile.framed_height() * tile.framed_width();
                let mut framed = vec![-1.0; 2 * stride];
                // SAFETY: there is one thread, which does not write.
                unsafe { image.load_framed(&tile, &mut framed, stride) };
                for (index, found) in framed.iter().enumerate() {
                    let (channel, index) = (index / stride, index % stride);
                    let row = (tile.top + index / tile.framed_width()).checked_sub(1);
                    let column = (tile.left + index % tile.framed_width()).checked_sub(1);
                    let expected = match (row, column) {
                        (Some(row), Some(column)) if row < height && column < width => {
                            value(channel, row, column)
                        }
                        _ => 0.0,
                    };
                    prop_assert_eq!(*found, expected);
                }
            }
        }

        #[test]
        fn surrounded_tiles_hold_what_is_inside_the_image(
            height in 1usize..60,
            width in 1usize..600,
            earlier in any::<bool>(),
            gap in 0usize..3,
        ) {
            let size = [2, height, width];
            let mut data = picture(size);
            let tiles = tiles(height, width, 700);
            let mut image = ImageMut::new(&mut data, size);
            let frames = image.frames(&tiles);
            for (tile, frame) in tiles.iter().zip(&frames) {
                let outer = tile.surrounded(height, width);
                let pitch = outer.width + gap;
                let stride = outer.height * pitch;
                let mut loaded = vec![-1.0; 2 * stride];
                let rows = outer.top..outer.top + outer.height;
                let frame = earlier.then_some(frame.as_slice());
                // SAFETY: there is one thread, which does not write.
                unsafe { image.load_surrounded(tile, rows, frame, &mut loaded, [stride, pitch]) };
                for (index, found) in loaded.iter().enumerate() {
                    let (channel, row) = (index / stride, index % stride / pitch);
                    let column = index % pitch;
                    if column < outer.width {
                        prop_assert_eq!(*found, value(channel, outer.top + row, outer.left + column));
                    }
                }
            }
        }

        #[test]
        fn what_is_loaded_without_its_frame_is_the_tile(height in 1usize..40, width in 1usize..300) {
            let size = [3, height, width];
            let data = picture(size);
            let image = Image::new(&data, size);
            for tile in tiles(height, width, 300) {
                let stride = tile.height * row_pixels(tile.width);
                let mut planes = vec![0.0; 3 * stride];
                // SAFETY: there is one thread, which does not write.
                unsafe { image.load_inner(&tile, 0..tile.height, &mut planes, stride) };
                for (index, found) in planes.iter().enumerate() {
                    let (channel, pixel) = (index / stride, index % stride);
                    let (row, column) =
                        (pixel / row_pixels(tile.width), pixel % row_pixels(tile.width));
                    if column < tile.width {
                        prop_assert_eq!(*found, value(channel, tile.top + row, tile.left + column));
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "row < self.height")]
    fn a_row_outside_the_image_is_refused() {
        let mut data = picture([1, 2, 3]);
        let image = ImageMut::new(&mut data, [1, 2, 3]);
        // SAFETY: there is one thread, which does not write.
        unsafe { image.row(0, 2, 0..1) };
    }
}
