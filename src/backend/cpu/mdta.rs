//! MDTA with its normalisation and residual, in two passes over the tiles.
//!
//! The first makes queries and keys and adds up their products and norms, keeping nothing else. Attention is then a small
//! matrix for each head, and is multiplied into the output projection; the second pass makes the values and adds one
//! C×C product of them to the image. Making the values there costs a normalisation; keeping them would cost as much memory as
//! the image has.

use rayon::prelude::*;

use super::branch::{Branch, GROUP, add_to_tiles, load_normalized, planes};
use super::depthwise::{Framed, convolve, taps};
use super::normalize::Norm;
use super::product::{Into, Matrix, product};
use super::scratch;
use super::tiles::{Image, Tile, tiles};

/// The least norm that queries and keys are divided by.
const LEAST_NORM: f32 = 1e-12;

/// Tiles are added up in so many parts, each part in order, and the parts in order: the same sum for any number of threads.
const PARTS: usize = 32;

/// Of all heads, one behind the other, with D = C/heads channels each.
#[derive(Clone)]
struct Sums {
    /// `q kᵀ`: `[heads, D, D]`
    products: Vec<f32>,
    /// Of the queries, squared: `[C]`
    queries: Vec<f32>,
    /// Of the keys, squared: `[C]`
    keys: Vec<f32>,
}

/// Adds MDTA of the normalised image to the image; `temperature` has a number for each head.
pub(super) fn add(
    image: &mut [f32],
    size: [usize; 3],
    norm: &Norm,
    temperature: &[f32],
    branch: &Branch<'_>,
) {
    let [channels, height, width] = size;
    let tiles = tiles(height, width);
    let mut image = Image::new(image, size);
    let sums = sums(&mut image, &tiles, norm, temperature.len(), branch);
    let values_to_output = fold_projection(&attention(sums, temperature), branch.project, channels);

    add_to_tiles(
        &mut image,
        &tiles,
        branch.project_bias,
        |tile| planes(tile, GROUP) + GROUP * tile.pixels(),
        norm,
        |image, tile, normalized, sum, scratch| {
            let (expanded, values) = scratch.split_at_mut(planes(tile, GROUP));
            for first in (0..channels).step_by(GROUP) {
                let count = GROUP.min(channels - first);
                let range = [2 * channels + first, count];
                convolved(branch, image, tile, normalized, range, expanded, values);
                product(
                    if first == 0 { Into::Set } else { Into::Add },
                    Matrix::new(&values_to_output[first..], channels, count, channels),
                    Matrix::new(values, count, tile.pixels(), tile.pixels()),
                    sum,
                    tile.pixels(),
                );
            }
        },
    );
}

/// Channels of `qkv` after both convolutions, from a normalised tile, as planes without frame.
fn convolved(
    branch: &Branch<'_>,
    image: &Image<'_>,
    tile: &Tile,
    normalized: &[f32],
    [first, count]: [usize; 2],
    expanded: &mut [f32],
    output: &mut [f32],
) {
    let stride = tile.framed_stride();
    branch.expand(image, tile, normalized, [first, count], expanded);
    let planes = output.chunks_exact_mut(tile.pixels()).take(count);
    for ((i, output), expanded) in planes.enumerate().zip(expanded.chunks_exact(stride)) {
        let framed = Framed::new(expanded, tile.height, tile.width);
        let channel = first + i;
        convolve(
            framed,
            taps(branch.taps, channel),
            branch.tap_bias(channel),
            output,
        );
    }
}

/// The first pass.
fn sums(
    image: &mut Image<'_>,
    tiles: &[Tile],
    norm: &Norm,
    heads: usize,
    branch: &Branch<'_>,
) -> Sums {
    let channels = image.channels;
    let per_head = channels / heads;
    let zero = Sums {
        products: vec![0.0; channels * per_head],
        queries: vec![0.0; channels],
        keys: vec![0.0; channels],
    };
    let image = &*image;
    let parts: Vec<Sums> = tiles
        .par_chunks(tiles.len().div_ceil(PARTS).max(1))
        .map(|tiles| {
            let mut sums = zero.clone();
            for tile in tiles {
                add_tile(image, tile, norm, heads, branch, &mut sums);
            }
            sums
        })
        .collect();
    parts.into_iter().fold(zero.clone(), |mut total, part| {
        let add = |total: &mut [f32], part: &[f32]| {
            for (total, part) in total.iter_mut().zip(part) {
                *total += part;
            }
        };
        add(&mut total.products, &part.products);
        add(&mut total.queries, &part.queries);
        add(&mut total.keys, &part.keys);
        total
    })
}

fn add_tile(
    image: &Image<'_>,
    tile: &Tile,
    norm: &Norm,
    heads: usize,
    branch: &Branch<'_>,
    sums: &mut Sums,
) {
    let channels = image.channels;
    let per_head = channels / heads;
    let pixels = tile.pixels();
    let lengths = [
        channels * tile.framed_stride(),
        planes(tile, GROUP),
        per_head * pixels,
        per_head * pixels,
    ];
    scratch::with(lengths, |[normalized, expanded, q, k]| {
        // SAFETY: in this pass no thread writes to the image.
        unsafe { load_normalized(image, norm, tile, None, normalized) };
        for head in 0..heads {
            let start = head * per_head;
            for (output, squares, offset) in [
                (&mut *q, &mut sums.queries, 0),
                (&mut *k, &mut sums.keys, channels),
            ] {
                for first in (0..per_head).step_by(GROUP) {
                    let count = GROUP.min(per_head - first);
                    let range = [offset + start + first, count];
                    let output = &mut output[first * pixels..];
                    convolved(branch, image, tile, normalized, range, expanded, output);
                }
                let squares = &mut squares[start..][..per_head];
                for (square, plane) in squares.iter_mut().zip(output.chunks_exact(pixels)) {
                    *square += rten_simd::SimdOp::dispatch(rten_vecmath::SumSquare::new(plane));
                }
            }
            product(
                Into::Add,
                Matrix::new(q, per_head, pixels, pixels),
                Matrix::new(k, per_head, pixels, pixels).transposed(),
                &mut sums.products[start * per_head..],
                per_head,
            );
        }
    });
}

/// `softmax(q kᵀ / (|q| |k|) · temperature)`, rows of D, head by head.
fn attention(sums: Sums, temperature: &[f32]) -> Vec<f32> {
    let per_head = sums.queries.len() / temperature.len();
    let mut products = sums.products;
    for (query, row) in products.chunks_exact_mut(per_head).enumerate() {
        let head = query / per_head;
        let keys = &sums.keys[head * per_head..][..per_head];
        let norm = sums.queries[query].sqrt().max(LEAST_NORM);
        for (logit, key) in row.iter_mut().zip(keys) {
            *logit = *logit / (norm * key.sqrt().max(LEAST_NORM)) * temperature[head];
        }
        softmax(row);
    }
    products
}

fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in &mut *row {
        *x = (*x - largest).exp();
        sum += *x;
    }
    for x in row {
        *x /= sum;
    }
}

/// The output projection `[C, C]` times the heads' attention: from values to the output, `[C, C]`.
fn fold_projection(attention: &[f32], project: &[f32], channels: usize) -> Vec<f32> {
    let per_head = attention.len() / channels;
    let mut folded = vec![0.0; channels * channels];
    let heads = attention.chunks_exact(per_head * per_head).enumerate();
    for (head, attention) in heads {
        let start = head * per_head;
        product(
            Into::Set,
            Matrix::new(&project[start..], channels, per_head, channels),
            Matrix::new(attention, per_head, per_head, per_head),
            &mut folded[start..],
            channels,
        );
    }
    folded
}
