//! Products of weights and pixels, for pixels in the order in which the product reads them.
//!
//! A general matrix product first copies its operands into such an order. Here the normalisation and the depthwise
//! convolution write it in the first place, and the product's results go to where they are wanted: into planes, or onto the
//! image. In panels, channel by channel ([`PANEL`] pixels side by side):
//!
//! ```text
//!   channel 0: pixels 0…63 │ channel 1: pixels 0…63 │ … ║ channel 0: pixels 64…127 │ …
//! ```
//!
//! A few rows of weights times a few vectors of pixels are summed up in registers, over all channels; weights are read as
//! they are.

use std::ops::Range;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp};

use super::LANES;
use super::product::{Into, Matrix};
use super::tiles::{Image, Tile};

/// Pixels of a panel: whole vectors on every processor.
pub(super) const PANEL: usize = 64;

/// Rows of weights whose results are summed up at once: with four vectors of pixels, 24 sums of AVX-512's or NEON's 32
/// registers; with two vectors, 12 of AVX's 16.
const ROWS: usize = 6;

/// Channels summed up before the next rows: so many of a panel's stay in the nearest cache meanwhile.
const CHANNELS: usize = 144;

/// Where a product finds its pixels.
pub(super) trait Source: Copy {
    /// Of the first channel.
    fn pixel(self, pixel: usize) -> usize;

    /// From the first channel to another.
    fn channel(self, channel: usize) -> usize;
}

/// Where a channel's pixel lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// From a panel to the next.
    panel: usize,
    /// From a channel to the next.
    channel: usize,
}

impl Layout {
    /// Panels of so many channels.
    pub fn panels(channels: usize) -> Self {
        Self {
            panel: channels * PANEL,
            channel: PANEL,
        }
    }

    /// Planes so far apart.
    pub fn planes(stride: usize) -> Self {
        Self {
            panel: PANEL,
            channel: stride,
        }
    }

    #[inline(always)]
    pub fn offset(self, channel: usize, pixel: usize) -> usize {
        self.pixel(pixel) + Source::channel(self, channel)
    }
}

impl Source for Layout {
    #[inline(always)]
    fn pixel(self, pixel: usize) -> usize {
        pixel / PANEL * self.panel + pixel % PANEL
    }

    #[inline(always)]
    fn channel(self, channel: usize) -> usize {
        channel * self.channel
    }
}

/// Planes at these offsets, each as if it were a channel's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets<'a>(pub &'a [usize]);

impl Source for Offsets<'_> {
    #[inline(always)]
    fn pixel(self, pixel: usize) -> usize {
        pixel
    }

    #[inline(always)]
    fn channel(self, channel: usize) -> usize {
        self.0[channel]
    }
}

/// The length of a buffer for panels.
pub(super) fn length(channels: usize, pixels: usize) -> usize {
    pixels.next_multiple_of(PANEL) * channels
}

/// Where results go.
pub(super) trait Target {
    /// A vector's place in each row.
    type Place<I: Isa>: Copy;

    /// Of the vector that begins with this pixel.
    fn place<I: Isa>(&self, isa: I, pixel: usize) -> Self::Place<I>;

    /// # Safety
    /// `row` is one of the rows, and `place` is of one of the pixels, that the target was made for.
    unsafe fn load<I: Isa>(&self, isa: I, row: usize, place: Self::Place<I>) -> I::F32;

    /// # Safety
    /// As [`load`](Self::load).
    unsafe fn store<I: Isa>(&mut self, isa: I, row: usize, place: Self::Place<I>, values: I::F32);

    /// Brings the vector's memory near before it is asked for.
    fn prefetch<I: Isa>(&self, isa: I, row: usize, place: Self::Place<I>);

    /// Panics if the target was not made for so many rows and pixels.
    fn check(&self, rows: usize, pixels: usize);
}

/// Planes, so far apart that whole vectors fit. What lies between a plane's pixels and the end of their last vector is lost.
pub(super) struct Planes<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

impl Target for Planes<'_> {
    type Place<I: Isa> = usize;

    fn check(&self, rows: usize, pixels: usize) {
        let room = pixels.next_multiple_of(LANES);
        assert!(room <= self.stride && self.data.len() >= (rows - 1) * self.stride + room);
    }

    #[inline(always)]
    fn place<I: Isa>(&self, _: I, pixel: usize) -> usize {
        pixel
    }

    #[inline(always)]
    fn prefetch<I: Isa>(&self, isa: I, row: usize, place: usize) {
        let data = self.data.as_ptr().cast_mut();
        isa.f32()
            .prefetch_write(data.wrapping_add(row * self.stride + place));
    }

    #[inline(always)]
    unsafe fn load<I: Isa>(&self, isa: I, row: usize, place: usize) -> I::F32 {
        // SAFETY: `check` has compared the length with the end of the last row's last vector.
        unsafe {
            isa.f32()
                .load_ptr(self.data.as_ptr().add(row * self.stride + place))
        }
    }

    #[inline(always)]
    unsafe fn store<I: Isa>(&mut self, isa: I, row: usize, place: usize, values: I::F32) {
        let data = self.data.as_mut_ptr();
        // SAFETY: likewise.
        unsafe {
            isa.f32()
                .store_ptr(values, data.add(row * self.stride + place))
        }
    }
}

/// Pixels of a row of a tile in panels: whole vectors, so that none of them lies in two rows.
pub(super) fn row_pixels(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// Lines in planes, `pitch` from one to the next, out of pixels in lines of [`row_pixels`]. What is between them is left.
pub(super) struct Lines<'a> {
    /// Begins with the first plane's first line.
    pub data: &'a mut [f32],
    /// From a plane to the next.
    pub stride: usize,
    pub pitch: usize,
    /// Pixels of a line.
    pub width: usize,
}

impl Target for Lines<'_> {
    /// The offset in a plane, and which of the vector's pixels there are.
    type Place<I: Isa> = (usize, <I::F32 as Simd>::Mask);

    fn check(&self, rows: usize, pixels: usize) {
        let lines = pixels.div_ceil(row_pixels(self.width));
        let plane = (lines - 1) * self.pitch + self.width;
        assert!(self.width <= self.pitch && self.data.len() >= (rows - 1) * self.stride + plane);
    }

    #[inline(always)]
    fn place<I: Isa>(&self, isa: I, pixel: usize) -> Self::Place<I> {
        let whole = row_pixels(self.width);
        let (line, column) = (pixel / whole, pixel % whole);
        // With short vectors, the last ones of a line may have no pixel.
        let column = column.min(self.width);
        let count = (self.width - column).min(isa.f32().len());
        (line * self.pitch + column, isa.f32().first_n_mask(count))
    }

    #[inline(always)]
    fn prefetch<I: Isa>(&self, isa: I, row: usize, (offset, _): Self::Place<I>) {
        let data = self.data.as_ptr().cast_mut();
        isa.f32()
            .prefetch_write(data.wrapping_add(row * self.stride + offset));
    }

    #[inline(always)]
    unsafe fn load<I: Isa>(&self, isa: I, row: usize, (offset, mask): Self::Place<I>) -> I::F32 {
        let data = self.data.as_ptr().wrapping_add(row * self.stride + offset);
        // SAFETY: `check` has compared the length with the last row's last line; the mask leaves out what is behind a line.
        unsafe { isa.f32().load_ptr_mask(data, mask) }
    }

    #[inline(always)]
    unsafe fn store<I: Isa>(
        &mut self,
        isa: I,
        row: usize,
        (offset, mask): Self::Place<I>,
        values: I::F32,
    ) {
        let data = self.data.as_mut_ptr();
        let data = data.wrapping_add(row * self.stride + offset);
        // SAFETY: likewise.
        unsafe { isa.f32().store_ptr_mask(values, data, mask) }
    }
}

/// Rows of a tile in the image, out of pixels in rows of [`row_pixels`].
pub(super) struct InImage<'a> {
    image: &'a Image<'a>,
    tile: &'a Tile,
    rows: Range<usize>,
}

impl<'a> InImage<'a> {
    /// `rows` are counted in the tile.
    ///
    /// # Safety
    /// Nothing else reads or writes the rows as long as this is in use, and the image was made by [`Image::new`].
    pub unsafe fn new(image: &'a Image<'a>, tile: &'a Tile, rows: Range<usize>) -> Self {
        Self { image, tile, rows }
    }
}

impl Target for InImage<'_> {
    /// The offset in a channel of the image, and which of the vector's pixels there are.
    type Place<I: Isa> = (usize, <I::F32 as Simd>::Mask);

    fn check(&self, rows: usize, pixels: usize) {
        assert!(rows <= self.image.channels && self.tile.top + self.rows.end <= self.image.height);
        assert!(self.tile.left + self.tile.width <= self.image.width);
        assert!(pixels <= self.rows.len() * row_pixels(self.tile.width));
    }

    #[inline(always)]
    fn place<I: Isa>(&self, isa: I, pixel: usize) -> Self::Place<I> {
        let ops = isa.f32();
        let whole = row_pixels(self.tile.width);
        let (row, column) = (pixel / whole, pixel % whole);
        let row = self.tile.top + self.rows.start + row;
        // With short vectors, the last ones of a row may have no pixel.
        let column = column.min(self.tile.width);
        let count = (self.tile.width - column).min(ops.len());
        let offset = row * self.image.width + self.tile.left + column;
        (offset, ops.first_n_mask(count))
    }

    #[inline(always)]
    fn prefetch<I: Isa>(&self, isa: I, row: usize, (offset, _): Self::Place<I>) {
        let pixels = self.image.channel(row).wrapping_add(offset);
        isa.f32().prefetch_write(pixels);
    }

    #[inline(always)]
    unsafe fn load<I: Isa>(&self, isa: I, row: usize, (offset, mask): Self::Place<I>) -> I::F32 {
        // SAFETY: `check` has compared the tile's rows with the image; the mask leaves out what is behind a row's end.
        unsafe {
            isa.f32()
                .load_ptr_mask(self.image.channel(row).add(offset), mask)
        }
    }

    #[inline(always)]
    unsafe fn store<I: Isa>(
        &mut self,
        isa: I,
        row: usize,
        (offset, mask): Self::Place<I>,
        values: I::F32,
    ) {
        let ops = isa.f32();
        // SAFETY: likewise; `new`'s caller excludes others.
        unsafe { ops.store_ptr_mask(values, self.image.channel(row).add(offset), mask) }
    }
}

/// `target = weights · pixels`, or added to it; `bias` has a number for each row.
///
/// # Panics
/// If `pixels` or the target are too small, or the weights' columns do not lie side by side.
pub(super) fn multiply<S: Source, T: Target>(
    into: Into,
    weights: Matrix<'_>,
    bias: Option<&[f32]>,
    (pixels, source, count): (&[f32], S, usize),
    target: T,
) {
    let [rows, channels] = weights.size();
    if rows == 0 || channels == 0 || count == 0 {
        return;
    }
    target.check(rows, count);
    let last = (0..channels).map(|channel| source.channel(channel)).max();
    let last = last.unwrap_or(0) + source.pixel((count - 1) / LANES * LANES);
    assert!(last + LANES <= pixels.len());
    assert!(bias.is_none_or(|bias| bias.len() == rows));
    assert!(weights.columns_adjoin());
    Multiply {
        into,
        weights,
        bias,
        pixels,
        source,
        count,
        target,
    }
    .dispatch();
}

struct Multiply<'a, S, T> {
    into: Into,
    weights: Matrix<'a>,
    bias: Option<&'a [f32]>,
    pixels: &'a [f32],
    source: S,
    count: usize,
    target: T,
}

impl<S: Source, T: Target> SimdOp for Multiply<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        match isa.f32().len() {
            8 => self.strips::<I, 2>(isa),
            _ => self.strips::<I, 4>(isa),
        }
    }
}

impl<S: Source, T: Target> Multiply<'_, S, T> {
    /// With `N` vectors of pixels at once.
    #[inline(always)]
    fn strips<I: Isa, const N: usize>(&mut self, isa: I) {
        let lanes = isa.f32().len();
        let vectors = self.count.div_ceil(lanes);
        for strip in 0..vectors / N {
            self.strip::<I, N>(isa, strip * N * lanes);
        }
        for vector in vectors / N * N..vectors {
            self.strip::<I, 1>(isa, vector * lanes);
        }
    }

    /// All weights times a few vectors of pixels, so many channels at a time that these stay in the nearest cache.
    #[inline(always)]
    fn strip<I: Isa, const N: usize>(&mut self, isa: I, pixel: usize) {
        let lanes = isa.f32().len();
        let [rows, channels] = self.weights.size();
        let mut places = [self.target.place(isa, pixel); N];
        for (i, place) in places.iter_mut().enumerate().skip(1) {
            *place = self.target.place(isa, pixel + i * lanes);
        }
        let step = channels.div_ceil(channels.div_ceil(CHANNELS));
        for first in (0..channels).step_by(step) {
            let part = first..channels.min(first + step);
            let mut row = 0;
            while row + ROWS <= rows {
                self.sums::<I, N, ROWS>(isa, row, part.clone(), pixel, &places);
                row += ROWS;
            }
            match rows - row {
                5 => self.sums::<I, N, 5>(isa, row, part, pixel, &places),
                4 => self.sums::<I, N, 4>(isa, row, part, pixel, &places),
                3 => self.sums::<I, N, 3>(isa, row, part, pixel, &places),
                2 => self.sums::<I, N, 2>(isa, row, part, pixel, &places),
                1 => self.sums::<I, N, 1>(isa, row, part, pixel, &places),
                _ => {}
            }
        }
    }

    /// `R` rows of weights times `N` vectors of pixels, over some of the channels.
    #[inline(always)]
    fn sums<I: Isa, const N: usize, const R: usize>(
        &mut self,
        isa: I,
        row: usize,
        channels: Range<usize>,
        pixel: usize,
        places: &[T::Place<I>; N],
    ) {
        let ops = isa.f32();
        let lanes = ops.len();
        let mut sums = [[ops.zero(); N]; R];
        let mut weights = [std::ptr::null(); R];
        for (r, weights) in weights.iter_mut().enumerate() {
            *weights = self.weights.row(row + r)[channels.clone()].as_ptr();
            for place in places {
                self.target.prefetch(isa, row + r, *place);
            }
        }
        let pixels = self.pixels[self.source.pixel(pixel)..].as_ptr();
        let next_rows = self.weights.row_stride() * R;
        for start in (0..channels.len()).step_by(LANES) {
            for weights in weights {
                ops.prefetch(weights.wrapping_add(start + next_rows));
            }
            for channel in start..channels.len().min(start + LANES) {
                let pixels = pixels.wrapping_add(self.source.channel(channels.start + channel));
                let mut x = [ops.zero(); N];
                for (i, x) in x.iter_mut().enumerate() {
                    // SAFETY: `multiply` has compared the length with the end of the last channel's last vector.
                    *x = unsafe { ops.load_ptr(pixels.add(i * lanes)) };
                }
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    // SAFETY: the slices whose beginnings these are have so many channels.
                    let weight = ops.splat(unsafe { *weights.add(channel) });
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = ops.mul_add(x, weight, *sum);
                    }
                }
            }
        }
        let first = channels.start == 0;
        let bias = self.bias.filter(|_| first);
        for (r, sums) in sums.into_iter().enumerate() {
            for (mut sum, place) in sums.into_iter().zip(*places) {
                if let Some(bias) = bias {
                    sum = ops.add(sum, ops.splat(bias[row + r]));
                }
                // SAFETY: `check` has compared rows and pixels with what the target was made for.
                unsafe {
                    if !first || self.into == Into::Add {
                        sum = ops.add(sum, self.target.load(isa, row + r, place));
                    }
                    self.target.store(isa, row + r, place, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::instruction_sets::{assert_equal, on_each_set, on_set, values};
    use super::super::product::product;
    use super::*;

    /// The channels' pixels in another layout.
    fn arranged(planes: &[f32], channels: usize, layout: Layout, length: usize) -> Vec<f32> {
        let count = planes.len() / channels;
        let mut arranged = vec![f32::NAN; length];
        for channel in 0..channels {
            for pixel in 0..count {
                arranged[layout.offset(channel, pixel)] = planes[channel * count + pixel];
            }
        }
        arranged
    }

    proptest! {
        #[test]
        fn products_equal_a_general_matrix_products(
            rows in 1usize..30,
            channels in 1usize..300,
            count in 1usize..200,
            in_panels in any::<bool>(),
            with_bias in any::<bool>(),
            add in any::<bool>(),
        ) {
            let weights = values(rows * channels, 5);
            let weights = Matrix::new(&weights, rows, channels, channels);
            let planes = values(channels * count, 3);
            let stride = count.next_multiple_of(LANES);
            let (layout, length) = match in_panels {
                true => (Layout::panels(channels), length(channels, count)),
                false => (Layout::planes(stride), channels * stride),
            };
            let pixels = arranged(&planes, channels, layout, length);
            let bias = values(rows, 11);
            let bias = with_bias.then_some(&*bias);
            let into = if add { Into::Add } else { Into::Set };
            let mut output = values(rows * stride, 7);
            let mut expected = output.clone();
            let target = Planes { data: &mut output, stride };
            multiply(into, weights, bias, (&pixels, layout, count), target);

            let planes = Matrix::new(&planes, channels, count, count);
            product(into, weights, planes, &mut expected, stride);
            for row in 0..rows {
                let bias = bias.map_or(0.0, |bias| bias[row]);
                for pixel in row * stride..row * stride + count {
                    let (found, expected) = (output[pixel], expected[pixel] + bias);
                    prop_assert!((found - expected).abs() < 1e-3, "{found} at {pixel}, expected {expected}");
                }
            }
        }

        #[test]
        fn lines_take_their_pixels_alone(
            [lines, width, gap] in prop::array::uniform3(1usize..40),
            rows in 1usize..8,
        ) {
            let count = lines * row_pixels(width);
            let (pitch, weights) = (width + gap, values(rows * 3, 5));
            let weights = Matrix::new(&weights, rows, 3, 3);
            let pixels = values(length(3, count), 3);
            let layout = Layout::panels(3);
            let mut planes = vec![0.0; rows * count];
            let target = Planes { data: &mut planes, stride: count };
            multiply(Into::Set, weights, None, (&pixels, layout, count), target);

            let stride = lines * pitch;
            let mut found = vec![f32::INFINITY; rows * stride];
            let target = Lines { data: &mut found, stride, pitch, width };
            multiply(Into::Set, weights, None, (&pixels, layout, count), target);
            for (index, found) in found.into_iter().enumerate() {
                let (row, line) = (index / stride, index % stride / pitch);
                let column = index % pitch;
                let expected = match column < width {
                    true => planes[row * count + line * row_pixels(width) + column],
                    false => f32::INFINITY,
                };
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn sums_are_added_to_the_tiles_pixels_alone(
            [height, width] in prop::array::uniform2(1usize..40),
            [top, left] in prop::array::uniform2(0usize..40),
            rows in 1usize..8,
        ) {
            let (top, left) = (top % height, left % width);
            let tile = Tile { top, left, height: height - top, width: (width - left).div_ceil(2) };
            let count = tile.height * row_pixels(tile.width);
            let weights = values(rows * 3, 5);
            let weights = Matrix::new(&weights, rows, 3, 3);
            let pixels = values(length(3, count), 3);
            let layout = Layout::panels(3);
            let mut planes = vec![0.0; rows * count];
            let target = Planes { data: &mut planes, stride: count };
            multiply(Into::Set, weights, None, (&pixels, layout, count), target);

            let mut found = values(rows * height * width, 7);
            let before = found.clone();
            let image = Image::new(&mut found, [rows, height, width]);
            // SAFETY: there is one thread.
            let target = unsafe { InImage::new(&image, &tile, 0..tile.height) };
            multiply(Into::Add, weights, None, (&pixels, layout, count), target);
            for (index, (found, before)) in found.iter().zip(before).enumerate() {
                let (row, y, x) = (index / width / height, index / width % height, index % width);
                let inside = y >= top && (left..left + tile.width).contains(&x);
                let added = match inside {
                    true => planes[row * count + (y - top) * row_pixels(tile.width) + x - left],
                    false => 0.0,
                };
                prop_assert_eq!(*found, before + added);
            }
        }
    }

    #[test]
    fn every_instruction_set_multiplies_alike() {
        for (rows, channels, width) in [(13, 20, 37), (6, 300, 64), (1, 1, 1), (5, 9, 16)] {
            let (weights, bias) = (values(rows * channels, 5), values(rows, 11));
            let weights = Matrix::new(&weights, rows, channels, channels);
            let count = 3 * row_pixels(width);
            let pixels = values(length(channels, count), 3);
            let pitch = width + 2;
            let results = on_each_set!(values(rows * 3 * pitch, 7), |output| Multiply {
                into: Into::Add,
                weights,
                bias: Some(&bias),
                pixels: &pixels,
                source: Layout::panels(channels),
                count,
                target: Lines {
                    data: output,
                    stride: 3 * pitch,
                    pitch,
                    width,
                },
            });
            assert_equal(&results);
        }
    }

    #[test]
    #[should_panic(expected = "last + LANES")]
    fn pixels_beyond_their_slice_are_refused() {
        let weights = Matrix::new(&[1.0; 4], 2, 2, 2);
        let target = Planes {
            data: &mut [0.0; 128],
            stride: 64,
        };
        let pixels = (&[0.0; 127][..], Layout::panels(2), 64);
        multiply(Into::Set, weights, None, pixels, target);
    }
}
