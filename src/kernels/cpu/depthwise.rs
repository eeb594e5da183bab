//! The depthwise 3×3 convolution on planes with a frame of one pixel, alone and with GDFN's gate behind it, and the
//! operation on whole images with its backward.
//!
//! A vector of outputs is nine products of shifted vectors of inputs. A plane's rows follow each other with a stride of
//! `width + 2`; behind its end a vector may be read ([`LANES`]).

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};

use super::gelu_gate::Gelu;
use super::isa::dispatch;
use super::panels::{PanelLayout, row_pixels};
use super::{Dims, LANES, scratch};

/// The nine weights of a channel, row by row.
pub(super) type Taps = [f32; 9];

/// A plane with its frame.
#[derive(Clone, Copy)]
pub(super) struct Framed<'a> {
    data: &'a [f32],
    pub height: usize,
    pub width: usize,
}

impl<'a> Framed<'a> {
    /// `data` begins with the frame's first row and goes on for a vector behind its last.
    pub fn new(data: &'a [f32], height: usize, width: usize) -> Self {
        assert!(data.len() >= (height + 2) * (width + 2) + LANES);
        Self {
            data,
            height,
            width,
        }
    }

    /// The nine products for a vector of outputs at (row, column), and for those below it. Several at once share their
    /// inputs: four take 18 loads, one takes 9.
    ///
    /// # Safety
    /// `row + ROWS <= height` and `column < width`.
    #[inline(always)]
    unsafe fn convolve<I: Isa, const ROWS: usize>(
        &self,
        isa: I,
        row: usize,
        column: usize,
        taps: &[I::F32; 9],
        bias: I::F32,
    ) -> [I::F32; ROWS] {
        let ops = isa.f32();
        let stride = self.width + 2;
        let mut sums = [bias; ROWS];
        for input in 0..ROWS + 2 {
            for shift in 0..3 {
                let offset = (row + input) * stride + column + shift;
                // SAFETY: the largest offset is `(height + 1) · stride + width + 1`, the frame's last pixel, and a vector
                // more than that lies inside the slice, as `new` has checked.
                let x = unsafe { ops.load_ptr(self.data.as_ptr().add(offset)) };
                for (output, sum) in sums.iter_mut().enumerate() {
                    if let Some(tap) = input.checked_sub(output)
                        && tap < 3
                    {
                        *sum = ops.mul_add(x, taps[3 * tap + shift], *sum);
                    }
                }
            }
        }
        sums
    }
}

/// Rows that are convolved at once, as many as share most of their inputs: the first and how many, 4, 2 or 1.
fn groups(height: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let row = next;
        let rows = match height - row {
            0 => return None,
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        next += rows;
        Some((row, rows))
    })
}

/// Each tap in all elements of a vector. (Mapping the array would call a closure without the vector instructions.)
#[inline(always)]
fn splat<I: Isa>(isa: I, taps: &Taps) -> [I::F32; 9] {
    let ops = isa.f32();
    let mut vectors = [ops.zero(); 9];
    for (vector, tap) in vectors.iter_mut().zip(taps) {
        *vector = ops.splat(*tap);
    }
    vectors
}

/// Stores the first elements of a vector, as many as there is room for.
#[inline(always)]
pub(super) fn store_some<I: Isa>(isa: I, values: I::F32, output: &mut [f32]) {
    let ops = isa.f32();
    if output.len() >= ops.len() {
        ops.store(values, output);
    } else {
        let mut all = [0.0; LANES];
        ops.store(values, &mut all);
        output.copy_from_slice(&all[..output.len()]);
    }
}

/// Where a plane of outputs goes.
pub(super) trait Output {
    /// Stores the vector of outputs from (row, column) on; those behind the row's end are left out, or nobody reads them.
    fn store<I: Isa>(&mut self, isa: I, row: usize, column: usize, values: I::F32);

    /// Panics if there is no room for so many outputs.
    fn check(&self, height: usize, width: usize);
}

/// Rows of so many pixels, one behind the other.
pub(super) struct Plane<'a> {
    pub data: &'a mut [f32],
    pub width: usize,
}

impl Output for Plane<'_> {
    fn check(&self, height: usize, width: usize) {
        assert!(self.width == width && self.data.len() == height * width);
    }

    #[inline(always)]
    fn store<I: Isa>(&mut self, isa: I, row: usize, column: usize, values: I::F32) {
        let row = &mut self.data[row * self.width..][..self.width];
        store_some(isa, values, &mut row[column..]);
    }
}

/// A channel of panels, in rows of [`row_pixels`].
pub(super) struct InPanels<'a> {
    pub data: &'a mut [f32],
    pub layout: PanelLayout,
    pub channel: usize,
    pub width: usize,
}

impl Output for InPanels<'_> {
    fn check(&self, height: usize, width: usize) {
        let last = (height * row_pixels(width)).saturating_sub(LANES);
        assert!(self.width == width);
        assert!(self.layout.offset(self.channel, last) + LANES <= self.data.len());
    }

    #[inline(always)]
    fn store<I: Isa>(&mut self, isa: I, row: usize, column: usize, values: I::F32) {
        let pixel = row * row_pixels(self.width) + column;
        let offset = self.layout.offset(self.channel, pixel);
        isa.f32().store(values, &mut self.data[offset..]);
    }
}

struct Convolve<'a, O> {
    x: Framed<'a>,
    taps: &'a Taps,
    bias: f32,
    output: O,
}

impl<O: Output> SimdOp for Convolve<'_, O> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let ops = isa.f32();
        let taps = splat(isa, self.taps);
        let bias = ops.splat(self.bias);
        for (row, rows) in groups(self.x.height) {
            match rows {
                4 => self.rows::<I, 4>(isa, row, &taps, bias),
                2 => self.rows::<I, 2>(isa, row, &taps, bias),
                _ => self.rows::<I, 1>(isa, row, &taps, bias),
            }
        }
    }
}

impl<O: Output> Convolve<'_, O> {
    /// Some rows of outputs.
    #[inline(always)]
    fn rows<I: Isa, const ROWS: usize>(
        &mut self,
        isa: I,
        row: usize,
        taps: &[I::F32; 9],
        bias: I::F32,
    ) {
        assert!(row + ROWS <= self.x.height);
        for column in (0..self.x.width).step_by(isa.f32().len()) {
            // SAFETY: the rows and the column are the plane's.
            let sums = unsafe { self.x.convolve::<I, ROWS>(isa, row, column, taps, bias) };
            for (output, sum) in sums.into_iter().enumerate() {
                self.output.store(isa, row + output, column, sum);
            }
        }
    }
}

/// Convolves a framed plane.
pub(super) fn convolve(x: Framed<'_>, taps: &Taps, bias: f32, output: impl Output) {
    output.check(x.height, x.width);
    dispatch(Convolve {
        x,
        taps,
        bias,
        output,
    });
}

struct Gate<'a, O> {
    a: Framed<'a>,
    b: Framed<'a>,
    taps: [&'a Taps; 2],
    bias: [f32; 2],
    output: O,
}

impl<O: Output> SimdOp for Gate<'_, O> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let ops = isa.f32();
        let (taps_a, taps_b) = (splat(isa, self.taps[0]), splat(isa, self.taps[1]));
        let (bias_a, bias_b) = (ops.splat(self.bias[0]), ops.splat(self.bias[1]));
        let (taps, bias) = ([taps_a, taps_b], [bias_a, bias_b]);
        for (row, rows) in groups(self.a.height) {
            match rows {
                4 => self.rows::<I, 4>(isa, row, &taps, bias),
                2 => self.rows::<I, 2>(isa, row, &taps, bias),
                _ => self.rows::<I, 1>(isa, row, &taps, bias),
            }
        }
    }
}

impl<O: Output> Gate<'_, O> {
    /// Some rows of outputs.
    #[inline(always)]
    fn rows<I: Isa, const ROWS: usize>(
        &mut self,
        isa: I,
        row: usize,
        taps: &[[I::F32; 9]; 2],
        bias: [I::F32; 2],
    ) {
        assert!(row + ROWS <= self.a.height);
        for column in (0..self.a.width).step_by(isa.f32().len()) {
            // SAFETY: the rows and the column are the planes'.
            let [a, b] = unsafe {
                [
                    self.a
                        .convolve::<I, ROWS>(isa, row, column, &taps[0], bias[0]),
                    self.b
                        .convolve::<I, ROWS>(isa, row, column, &taps[1], bias[1]),
                ]
            };
            for (output, (a, b)) in a.into_iter().zip(b).enumerate() {
                self.output
                    .store(isa, row + output, column, gate(isa, a, b));
            }
        }
    }
}

/// `gelu(a) · b`
#[inline(always)] // A closure would be a function of its own, without the vector instructions.
fn gate<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    isa.f32().mul(Gelu.eval(isa, a), b)
}

/// Convolves two framed planes and lets the one gate the other: `gelu(a) · b`.
pub(super) fn convolve_and_gate(
    [a, b]: [Framed<'_>; 2],
    taps: [&Taps; 2],
    bias: [f32; 2],
    output: impl Output,
) {
    assert!(a.height == b.height && a.width == b.width);
    output.check(a.height, a.width);
    dispatch(Gate {
        a,
        b,
        taps,
        bias,
        output,
    });
}

/// The weights of a channel out of `[channels · 9]`.
pub(super) fn taps(weight: &[f32], channel: usize) -> &Taps {
    weight.as_chunks().0[channel..]
        .first()
        .expect("nine weights for each channel")
}

/// Puts a plane into a buffer with a frame of zeros.
pub(super) fn frame(x: &[f32], width: usize, framed: &mut [f32]) {
    let stride = width + 2;
    let height = x.len() / width;
    framed[..stride].fill(0.0);
    framed[(height + 1) * stride..].fill(0.0);
    let rows = framed[stride..].chunks_exact_mut(stride);
    for (row, x) in rows.zip(x.chunks_exact(width)) {
        row[0] = 0.0;
        row[1..=width].copy_from_slice(x);
        row[width + 1] = 0.0;
    }
}

/// The length of a plane with its frame and room to read a vector beyond.
pub(super) fn framed_length(height: usize, width: usize) -> usize {
    (height + 2) * (width + 2) + LANES
}

/// Convolves each plane of `x` with its channel's taps. Threads take planes.
///
/// Shapes: x and the result as `dims`, weight `[channels · 9]`, bias `[channels]`.
pub(super) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, dims: Dims) -> Vec<f32> {
    let [_, channels, height, width] = dims;
    let mut output = vec![0.0; x.len()];
    if output.is_empty() {
        return output;
    }
    let plane = height * width;
    output
        .par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .enumerate()
        .for_each(|(index, (output, x))| {
            let channel = index % channels;
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            scratch::with([framed_length(height, width)], |[framed]| {
                frame(x, width, framed);
                let framed = Framed::new(framed, height, width);
                let data = output;
                convolve(framed, taps(weight, channel), bias, Plane { data, width });
            });
        });
    output
}

/// The gradients for the input, as `dims`, and for the weight, `[channels · 9]`.
pub(super) fn backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    dims: Dims,
) -> (Vec<f32>, Vec<f32>) {
    let [batch, channels, height, width] = dims;
    let turned: Vec<f32> = weight
        .chunks_exact(9)
        .flat_map(|taps| taps.iter().rev().copied())
        .collect();
    let grad_x = forward(grad, &turned, None, dims);

    let mut grad_weight = vec![0.0; channels * 9];
    if grad_x.is_empty() {
        return (grad_x, grad_weight);
    }
    let plane = height * width;
    grad_weight
        .par_chunks_mut(9)
        .enumerate()
        .for_each(|(channel, sums)| {
            scratch::with([framed_length(height, width)], |[framed]| {
                for image in 0..batch {
                    let start = (image * channels + channel) * plane;
                    frame(&x[start..][..plane], width, framed);
                    let framed = Framed::new(framed, height, width);
                    for (sum, part) in sums
                        .iter_mut()
                        .zip(correlate(framed, &grad[start..][..plane]))
                    {
                        *sum += part;
                    }
                }
            });
        });
    (grad_x, grad_weight)
}

struct Correlate<'a> {
    x: Framed<'a>,
    grad: &'a [f32],
}

impl SimdOp for Correlate<'_> {
    type Output = Taps;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> Taps {
        let ops = isa.f32();
        let mut sums = [ops.zero(); 9];
        for (row, rows) in groups(self.x.height) {
            match rows {
                4 => self.rows::<I, 4>(isa, row, &mut sums),
                2 => self.rows::<I, 2>(isa, row, &mut sums),
                _ => self.rows::<I, 1>(isa, row, &mut sums),
            }
        }
        sums.map(|sum| ops.sum(sum))
    }
}

impl Correlate<'_> {
    /// Adds the products of some rows, which share their inputs.
    #[inline(always)]
    fn rows<I: Isa, const ROWS: usize>(&self, isa: I, row: usize, sums: &mut [I::F32; 9]) {
        let ops = isa.f32();
        let width = self.x.width;
        let grads = self.grad[row * width..][..ROWS * width].as_ptr();
        for column in (0..width).step_by(ops.len()) {
            let mask = ops.first_n_mask((width - column).min(ops.len()));
            let mut grad = [ops.zero(); ROWS];
            for (output, grad) in grad.iter_mut().enumerate() {
                // SAFETY: the slice whose beginning this is has so many rows; the mask leaves out what is behind one.
                *grad = unsafe { ops.load_ptr_mask(grads.add(output * width + column), mask) };
            }
            for input in 0..ROWS + 2 {
                for shift in 0..3 {
                    let offset = (row + input) * (width + 2) + column + shift;
                    // SAFETY: as in `Framed::convolve`, since `grad` has the plane's size.
                    let x = unsafe { ops.load_ptr(self.x.data.as_ptr().add(offset)) };
                    for (output, grad) in grad.iter().enumerate() {
                        if let Some(tap) = input.checked_sub(output)
                            && tap < 3
                        {
                            let sum = &mut sums[3 * tap + shift];
                            *sum = ops.mul_add(x, *grad, *sum);
                        }
                    }
                }
            }
        }
    }
}

/// The nine inner products of `grad` with the shifted x: the gradient of a plane's taps.
pub(super) fn correlate(x: Framed<'_>, grad: &[f32]) -> Taps {
    assert_eq!(grad.len(), x.height * x.width);
    dispatch(Correlate { x, grad })
}

#[cfg(test)]
mod tests {
    use super::super::instruction_sets::{assert_equal, on_each_set, on_set, values};
    use super::super::panels;
    use super::*;

    #[test]
    fn every_instruction_set_convolves_alike() {
        for (height, width) in [(5, 37), (4, 16), (1, 1), (3, 70), (11, 20)] {
            let [a, b] = [3, 5].map(|step| values(framed_length(height, width), step));
            let [a, b] = [&a, &b].map(|data| Framed::new(data, height, width));
            let weights = values(18, 7);
            let [taps_a, taps_b] = [0, 1].map(|channel| taps(&weights, channel));

            let plane = vec![0.0; height * width];
            let results = on_each_set!(plane.clone(), |data| Convolve {
                x: a,
                taps: taps_a,
                bias: 0.5,
                output: Plane { data, width },
            });
            assert_equal(&results);

            let length = panels::length(2, height * row_pixels(width));
            let results = on_each_set!(vec![0.0; length], |data| Gate {
                a,
                b,
                taps: [taps_a, taps_b],
                bias: [0.5, -0.25],
                output: InPanels {
                    data,
                    layout: PanelLayout::panels(2),
                    channel: 1,
                    width,
                },
            });
            // Behind a row's end is whatever the frame has there, as far as each set's vectors go.
            let layout = PanelLayout::panels(2);
            let pixels = (0..height).flat_map(|row| {
                (0..width).map(move |column| layout.offset(1, row * row_pixels(width) + column))
            });
            let pixels: Vec<usize> = pixels.collect();
            let inside = |result: &Vec<f32>| pixels.iter().map(|pixel| result[*pixel]).collect();
            assert_equal(&results.iter().map(inside).collect::<Vec<_>>());

            let grad = values(height * width, 11);
            let results = on_each_set!(vec![0.0; 9], |sums| Correlated {
                operation: Correlate { x: a, grad: &grad },
                sums,
            });
            assert_equal(&results);
        }
    }

    /// Puts the sums into a buffer.
    struct Correlated<'a> {
        operation: Correlate<'a>,
        sums: &'a mut [f32],
    }

    impl SimdOp for Correlated<'_> {
        type Output = ();

        fn eval<I: Isa>(self, isa: I) {
            self.sums.copy_from_slice(&self.operation.eval(isa));
        }
    }
}
