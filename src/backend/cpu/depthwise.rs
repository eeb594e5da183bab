//! The depthwise 3×3 convolution and its backward.
//!
//! Memory is `[batch, channels, height, width]`, so a channel of an image is one contiguous plane. Each output row
//! reads three input rows (zeros beyond the border) and is written once. Threads take whole planes, so results do not
//! depend on how many there are.

use rayon::prelude::*;

use super::Dims;

/// The nine weights of a channel, row by row.
type Taps = [f32; 9];

/// So many running sums side by side let the compiler use vector registers without reordering any one of them.
const LANES: usize = 16;

/// Convolves each plane of `x` with its channel's taps.
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
            let taps: Taps = std::array::from_fn(|tap| weight[channel * 9 + tap]);
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            convolve_plane(x, &taps, bias, output, width);
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
            for image in 0..batch {
                let start = (image * channels + channel) * plane;
                correlate_plane(&x[start..][..plane], &grad[start..][..plane], sums, width);
            }
        });
    (grad_x, grad_weight)
}

/// The rows above, at and below `row`; `zeros` stands for those outside.
fn three_rows<'a>(plane: &'a [f32], zeros: &'a [f32], row: usize, width: usize) -> [&'a [f32]; 3] {
    let at = |row: usize| &plane[row * width..][..width];
    let height = plane.len() / width;
    [
        if row == 0 { zeros } else { at(row - 1) },
        at(row),
        if row + 1 == height {
            zeros
        } else {
            at(row + 1)
        },
    ]
}

fn convolve_plane(x: &[f32], taps: &Taps, bias: f32, output: &mut [f32], width: usize) {
    let zeros = vec![0.0; width];
    for (row, output) in output.chunks_exact_mut(width).enumerate() {
        convolve_row(three_rows(x, &zeros, row, width), taps, bias, output);
    }
}

fn convolve_row(rows: [&[f32]; 3], taps: &Taps, bias: f32, output: &mut [f32]) {
    let width = output.len();
    output[0] = convolve_pixel(rows, taps, bias, 0);
    output[width - 1] = convolve_pixel(rows, taps, bias, width - 1);
    if width < 3 {
        return;
    }
    // Slices of one length each, so that no access in the loop needs a check and the loop becomes vector code.
    let inner = width - 2;
    let [a, b, c] = rows;
    let (a0, a1, a2) = (&a[..inner], &a[1..][..inner], &a[2..][..inner]);
    let (b0, b1, b2) = (&b[..inner], &b[1..][..inner], &b[2..][..inner]);
    let (c0, c1, c2) = (&c[..inner], &c[1..][..inner], &c[2..][..inner]);
    let output = &mut output[1..][..inner];
    for i in 0..inner {
        let a = a0[i] * taps[0] + a1[i] * taps[1] + a2[i] * taps[2];
        let b = b0[i] * taps[3] + b1[i] * taps[4] + b2[i] * taps[5];
        let c = c0[i] * taps[6] + c1[i] * taps[7] + c2[i] * taps[8];
        output[i] = bias + a + b + c;
    }
}

/// One pixel, at a border or not: the scalar form of [`convolve_row`].
fn convolve_pixel(rows: [&[f32]; 3], taps: &Taps, bias: f32, column: usize) -> f32 {
    let mut sum = bias;
    for (row, taps) in rows.iter().zip(taps.chunks_exact(3)) {
        if column > 0 {
            sum += row[column - 1] * taps[0];
        }
        sum += row[column] * taps[1];
        if column + 1 < row.len() {
            sum += row[column + 1] * taps[2];
        }
    }
    sum
}

/// Adds to `sums` the nine inner products of `grad` with the shifted `x`.
fn correlate_plane(x: &[f32], grad: &[f32], sums: &mut [f32], width: usize) {
    let zeros = vec![0.0; width];
    for (row, grad) in grad.chunks_exact(width).enumerate() {
        let rows = three_rows(x, &zeros, row, width);
        for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(3)) {
            sums[0] += inner_product(&row[..width - 1], &grad[1..]);
            sums[1] += inner_product(row, grad);
            sums[2] += inner_product(&row[1..], &grad[..width - 1]);
        }
    }
}

fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}
