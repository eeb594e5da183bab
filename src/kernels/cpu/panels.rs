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

use std::marker::PhantomData;
use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp};

use super::isa::dispatch;
use super::product::{Into, Matrix, product};
use super::tiles::{ImageMut, Tile};
use super::{LANES, bf16};
use crate::kernels::precision::Precision;

/// Pixels of a panel: whole vectors on every processor.
pub(super) const PANEL: usize = 64;

/// Rows of weights whose results are summed up at once: with four vectors of pixels, 24 sums of AVX-512's or NEON's 32
/// registers; with two vectors, 12 of AVX's 16.
const ROWS: usize = 6;

/// Channels whose products are written out one behind the other. (With four the compiler loads so far ahead that sums leave
/// the registers.)
const UNROLLED: usize = 2;

/// Channels summed up before the next rows: so many of a panel's stay in the nearest cache meanwhile.
const CHANNELS: usize = 144;

/// Where a product finds its pixels.
pub(super) trait Addressing: Copy {
    /// Of the first channel.
    fn pixel(self, pixel: usize) -> usize;

    /// From the first channel to another.
    fn channel(self, channel: usize) -> usize;
}

/// Where a channel's pixel lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct PanelLayout {
    /// From a panel to the next.
    panel: usize,
    /// From a channel to the next.
    channel: usize,
}

impl PanelLayout {
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
        self.pixel(pixel) + Addressing::channel(self, channel)
    }
}

impl Addressing for PanelLayout {
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

impl Addressing for Offsets<'_> {
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

/// Pixels of a row of a tile in panels: whole vectors, so that none of them lies in two rows.
pub(super) fn row_pixels(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// Where a product's results go: lines in planes, a plane for each row of weights, out of pixels in lines of [`row_pixels`].
/// What is between the lines is left as it is.
pub(super) struct Lines<'a> {
    /// The first plane's first line.
    data: *mut f32,
    /// From there to the end of what may be written to.
    length: usize,
    shape: LineShape,
    lifetime: PhantomData<&'a mut [f32]>,
}

/// How lines lie in planes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineShape {
    /// From a plane to the next.
    pub stride: usize,
    /// From a line to the next.
    pub pitch: usize,
    /// Pixels of a line.
    pub width: usize,
}

impl<'a> Lines<'a> {
    /// `data` begins with the first plane's first line.
    pub fn new(data: &'a mut [f32], shape: LineShape) -> Self {
        Self {
            data: data.as_mut_ptr(),
            length: data.len(),
            shape,
            lifetime: PhantomData,
        }
    }

    /// Planes of so many pixels, `stride` apart.
    pub fn planes(data: &'a mut [f32], stride: usize, pixels: usize) -> Self {
        let shape = LineShape {
            stride,
            pitch: pixels,
            width: pixels,
        };
        Self::new(data, shape)
    }

    /// Rows of a tile in the image, from the tile's row `first` on.
    ///
    /// # Safety
    /// Nothing else reads or writes the rows that [`multiply`] is asked for as long as this is in use.
    pub unsafe fn in_image(image: &'a ImageMut<'_>, tile: &Tile, first: usize) -> Self {
        let (data, length) = image.from(tile.top + first, tile.left..tile.left + tile.width);
        Self {
            data,
            length,
            shape: LineShape {
                stride: image.height * image.width,
                pitch: image.width,
                width: tile.width,
            },
            lifetime: PhantomData,
        }
    }
}

/// Where a vector goes in each plane.
#[derive(Clone, Copy)]
pub(super) struct Place<I: Isa> {
    offset: usize,
    /// Which of the vector's pixels there are.
    pub mask: <I::F32 as Simd>::Mask,
    /// Whether they all are.
    whole: bool,
}

impl Lines<'_> {
    /// Panics if there is no room for so many rows and pixels.
    fn check(&self, rows: usize, pixels: usize) {
        let LineShape {
            stride,
            pitch,
            width,
        } = self.shape;
        let lines = pixels.div_ceil(row_pixels(width));
        let plane = (lines - 1) * pitch + width;
        assert!(width <= pitch && (rows == 1 || plane <= stride));
        assert!((rows - 1) * stride + plane <= self.length);
    }

    /// Of the vector that begins with this pixel.
    #[inline(always)]
    pub fn place<I: Isa>(&self, isa: I, pixel: usize) -> Place<I> {
        let ops = isa.f32();
        let LineShape { pitch, width, .. } = self.shape;
        let (line, column) = (pixel / row_pixels(width), pixel % row_pixels(width));
        // With short vectors, the last ones of a line may have no pixel.
        let column = column.min(width);
        let count = (width - column).min(ops.len());
        Place {
            offset: line * pitch + column,
            mask: ops.first_n_mask(count),
            whole: count == ops.len(),
        }
    }

    #[inline(always)]
    pub fn pointer<I: Isa>(&self, row: usize, place: &Place<I>) -> *mut f32 {
        self.data
            .wrapping_add(row * self.shape.stride + place.offset)
    }
}

/// `target = weights · pixels`, or added to it; `bias` has a number for each row.
///
/// # Panics
/// If `pixels` or the target are too small, or a row's weights do not lie side by side.
pub(super) fn multiply<S: Addressing>(
    into: Into,
    weights: Matrix<'_>,
    bias: Option<&[f32]>,
    pixels: (&[f32], S, usize),
    target: Lines<'_>,
) {
    multiply_in(Precision::F32, into, weights, bias, pixels, target);
}

/// As [`multiply`], with the operands in another precision, if the processor has instructions for it.
pub(super) fn multiply_in<S: Addressing>(
    precision: Precision,
    into: Into,
    weights: Matrix<'_>,
    bias: Option<&[f32]>,
    (pixels, source, count): (&[f32], S, usize),
    target: Lines<'_>,
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
    let product = Multiply {
        into,
        weights,
        bias,
        pixels,
        source,
        count,
        target,
    };
    match bf16::unit().filter(|_| precision == Precision::Bf16) {
        Some(unit) => bf16::multiply(unit, &product),
        None => dispatch(product),
    }
}

/// As [`multiply`], into planes `stride` apart, on all threads, which take rows of weights.
pub(super) fn wide_multiply<S: Addressing + Sync>(
    into: Into,
    weights: Matrix<'_>,
    bias: Option<&[f32]>,
    (pixels, source, count): (&[f32], S, usize),
    output: &mut [f32],
    stride: usize,
) {
    let [rows, _] = weights.size();
    let part = rows.div_ceil(rayon::current_num_threads());
    let part = part.next_multiple_of(ROWS);
    let outputs = output.par_chunks_mut(part * stride);
    let firsts = (0..rows).into_par_iter().step_by(part);
    firsts.zip(outputs).for_each(|(first, output)| {
        let range = first..rows.min(first + part);
        multiply(
            into,
            weights.rows(range.clone()),
            bias.map(|bias| &bias[range]),
            (pixels, source, count),
            Lines::planes(output, stride, count),
        );
    });
}

/// FLOP/s of weights `[rows, channels]` times so many pixels, on one thread, the middle of five: by this product out of
/// panels, and by the `gemm` crate out of planes. For this crate's benchmarks.
pub fn product_rates([rows, channels, pixels]: [usize; 3]) -> [f64; 2] {
    let weights = vec![0.5; rows * channels];
    let weights = Matrix::new(&weights, rows, channels, channels);
    let panels = vec![0.25; length(channels, pixels)];
    let planes = vec![0.25; channels * pixels];
    let planes = Matrix::new(&planes, channels, pixels, pixels);
    let mut output = vec![0.0; rows * pixels];
    let flops = 2.0 * (rows * channels * pixels) as f64;
    let times = (2e8 / flops).ceil() as usize;
    let mut rate = |once: &mut dyn FnMut(&mut [f32])| {
        let mut seconds: Vec<f64> = (0..6)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..times {
                    once(&mut output);
                }
                start.elapsed().as_secs_f64()
            })
            .skip(1)
            .collect();
        seconds.sort_by(f64::total_cmp);
        flops * times as f64 / seconds[2]
    };
    let source = (&panels[..], PanelLayout::panels(channels), pixels);
    let ours = rate(&mut |output| {
        let target = Lines::planes(output, pixels, pixels);
        multiply(Into::Set, weights, None, source, target);
    });
    let gemm = rate(&mut |output| product(Into::Set, weights, planes, output, pixels));
    [ours, gemm]
}

/// A product whose lengths fit.
pub(super) struct Multiply<'a, S> {
    pub into: Into,
    pub weights: Matrix<'a>,
    pub bias: Option<&'a [f32]>,
    pub pixels: &'a [f32],
    pub source: S,
    pub count: usize,
    pub target: Lines<'a>,
}

impl<S: Addressing> SimdOp for Multiply<'_, S> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        match isa.f32().len() {
            8 => self.strips::<I, 2>(isa),
            _ => self.strips::<I, 4>(isa),
        }
    }
}

impl<S: Addressing> Multiply<'_, S> {
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
        places: &[Place<I>; N],
    ) {
        let ops = isa.f32();
        let mut sums = [[ops.zero(); N]; R];
        let mut weights = [std::ptr::null(); R];
        for (r, weights) in weights.iter_mut().enumerate() {
            *weights = self.weights.row(row + r)[channels.clone()].as_ptr();
            for place in places {
                ops.prefetch_write(self.target.pointer(row + r, place));
            }
        }
        // Hidden, or else the compiler derives each pointer from the one before, again for each channel.
        let weights = std::hint::black_box(weights);
        let pixels = self.pixels[self.source.pixel(pixel)..].as_ptr();
        let next_rows = self.weights.row_stride() * R;
        for start in (0..channels.len()).step_by(LANES) {
            for weights in weights {
                ops.prefetch(weights.wrapping_add(start + next_rows));
            }
            let end = channels.len().min(start + LANES);
            let mut channel = start;
            // Several in a row, for fewer of the instructions between the products.
            while channel + UNROLLED <= end {
                for i in 0..UNROLLED {
                    let offset = self.source.channel(channels.start + channel + i);
                    let pixels = pixels.wrapping_add(offset);
                    // SAFETY: `multiply` has compared the length with the end of the last channel's last vector; the slices
                    // whose beginnings the weights are have so many channels.
                    unsafe { add_products(isa, pixels, weights, channel + i, &mut sums) };
                }
                channel += UNROLLED;
            }
            while channel < end {
                let offset = self.source.channel(channels.start + channel);
                let pixels = pixels.wrapping_add(offset);
                // SAFETY: likewise.
                unsafe { add_products(isa, pixels, weights, channel, &mut sums) };
                channel += 1;
            }
        }
        let first = channels.start == 0;
        // One branch for all of them: one each would cost as much as masks.
        match places.iter().all(|place| place.whole) {
            true => self.store::<I, N, R, true>(isa, row, first, places, sums),
            false => self.store::<I, N, R, false>(isa, row, first, places, sums),
        }
    }

    /// Brings sums to their places, whose vectors are `WHOLE` or end with a line; the `first` ones with their bias.
    #[inline(always)]
    fn store<I: Isa, const N: usize, const R: usize, const WHOLE: bool>(
        &mut self,
        isa: I,
        row: usize,
        first: bool,
        places: &[Place<I>; N],
        sums: [[I::F32; N]; R],
    ) {
        let ops = isa.f32();
        let bias = self.bias.filter(|_| first);
        for (r, sums) in sums.into_iter().enumerate() {
            for (mut sum, place) in sums.into_iter().zip(places) {
                if let Some(bias) = bias {
                    sum = ops.add(sum, ops.splat(bias[row + r]));
                }
                let target = self.target.pointer(row + r, place);
                // SAFETY: `multiply` has asked `check` for all rows and pixels, which has compared the length with the last
                // row's last line; the mask leaves out what is behind a line. The target is borrowed exclusively, or
                // `in_image`'s caller excludes others.
                unsafe {
                    if !first || self.into == Into::Add {
                        let before = match WHOLE {
                            true => ops.load_ptr(target),
                            false => ops.load_ptr_mask(target, place.mask),
                        };
                        sum = ops.add(sum, before);
                    }
                    match WHOLE {
                        true => ops.store_ptr(sum, target),
                        false => ops.store_ptr_mask(sum, target, place.mask),
                    }
                }
            }
        }
    }
}

/// Adds a channel's products: `R` weights times `N` vectors of pixels.
///
/// # Safety
/// There are so many pixels from the pointer on, and a weight of the channel behind each of the others.
#[inline(always)]
unsafe fn add_products<I: Isa, const N: usize, const R: usize>(
    isa: I,
    pixels: *const f32,
    weights: [*const f32; R],
    channel: usize,
    sums: &mut [[I::F32; N]; R],
) {
    let ops = isa.f32();
    let mut x = [ops.zero(); N];
    for (i, x) in x.iter_mut().enumerate() {
        // SAFETY: the caller's word.
        *x = unsafe { ops.load_ptr(pixels.add(i * ops.len())) };
    }
    for (sums, weights) in sums.iter_mut().zip(weights) {
        // SAFETY: likewise.
        let weight = ops.splat(unsafe { *weights.add(channel) });
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = ops.mul_add(x, weight, *sum);
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
    fn arranged(planes: &[f32], channels: usize, layout: PanelLayout, length: usize) -> Vec<f32> {
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
            threads in 0usize..4,
        ) {
            let weights = values(rows * channels, 5);
            let weights = Matrix::new(&weights, rows, channels, channels);
            let planes = values(channels * count, 3);
            let stride = count.next_multiple_of(LANES);
            let (layout, length) = match in_panels {
                true => (PanelLayout::panels(channels), length(channels, count)),
                false => (PanelLayout::planes(stride), channels * stride),
            };
            let pixels = arranged(&planes, channels, layout, length);
            let bias = values(rows, 11);
            let bias = with_bias.then_some(&*bias);
            let into = if add { Into::Add } else { Into::Set };
            let mut output = values(rows * stride, 7);
            let mut expected = output.clone();
            let source = (&*pixels, layout, count);
            if threads == 0 {
                let target = Lines::planes(&mut output, stride, count);
                multiply(into, weights, bias, source, target);
            } else {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let wide = || wide_multiply(into, weights, bias, source, &mut output, stride);
                pool.unwrap().install(wide);
            }

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
            let layout = PanelLayout::panels(3);
            let mut planes = vec![0.0; rows * count];
            let target = Lines::planes(&mut planes, count, count);
            multiply(Into::Set, weights, None, (&pixels, layout, count), target);

            let stride = lines * pitch;
            let mut found = vec![f32::INFINITY; rows * stride];
            let target = Lines::new(&mut found, LineShape { stride, pitch, width });
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
            let layout = PanelLayout::panels(3);
            let mut planes = vec![0.0; rows * count];
            let target = Lines::planes(&mut planes, count, count);
            multiply(Into::Set, weights, None, (&pixels, layout, count), target);

            let mut found = values(rows * height * width, 7);
            let before = found.clone();
            let image = ImageMut::new(&mut found, [rows, height, width]);
            // SAFETY: there is one thread.
            let target = unsafe { Lines::in_image(&image, &tile, 0) };
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
            let shape = LineShape {
                stride: 3 * pitch,
                pitch,
                width,
            };
            let results = on_each_set!(values(rows * 3 * pitch, 7), |output| Multiply {
                into: Into::Add,
                weights,
                bias: Some(&bias),
                pixels: &pixels,
                source: PanelLayout::panels(channels),
                count,
                target: Lines::new(output, shape),
            });
            assert_equal(&results);
        }
    }

    #[test]
    #[should_panic(expected = "last + LANES")]
    fn pixels_beyond_their_slice_are_refused() {
        let weights = Matrix::new(&[1.0; 4], 2, 2, 2);
        let mut output = [0.0; 128];
        let target = Lines::planes(&mut output, 64, 64);
        let pixels = (&[0.0; 127][..], PanelLayout::panels(2), 64);
        multiply(Into::Set, weights, None, pixels, target);
    }
}
