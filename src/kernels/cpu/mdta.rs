//! MDTA with its normalisation and residual, in two passes over the tiles.
//!
//! The first makes queries and keys and adds up their products and norms, keeping nothing else. Attention is then a small
//! matrix for each head, and is multiplied into the output projection; the second pass makes the values and adds one
//! C×C product of them to the image. Making the values there costs a normalisation; keeping them would cost as much memory as
//! the image has.
//!
//! With local attention, the first pass adds up each [cell](Cell) by itself, and a window's sums are those of its cells. The
//! mean of what several windows make of a pixel is what the mean of their matrices makes of it, so that the second pass takes
//! as many products as without windows.

use rayon::prelude::*;
use rten_vecmath::SumSquare;

use super::branch::{
    AddToImage, Branch, GROUP, RowStep, TILE_PIXELS, add_to_tiles, expanded_stride,
    normalized_lengths, step_pixels, walk,
};
use super::depthwise::{Framed, InPanels, Plane, Taps, convolve, taps};
use super::inner_products::{Rows, inner_products};
use super::isa::dispatch;
use super::normalize::Norm;
use super::panels::PanelLayout;
use super::product::{Into, Matrix, product};
use super::scratch;
use super::tiles::{Image, ImageMut, Tile, tiles, tiles_for_threads, tiles_within};
use crate::kernels::windows::{Cell, Windows};

/// The least norm that queries and keys are divided by.
const LEAST_NORM: f32 = 1e-12;

/// Parts that a cell is added up in.
const PARTS: usize = 32;

/// Of all heads, one behind the other, with D = C/heads channels each.
#[derive(Clone)]
pub(super) struct Sums {
    /// `q kᵀ`: `[heads, D, D]`
    pub products: Vec<f32>,
    /// Of the queries, squared: `[C]`
    pub queries: Vec<f32>,
    /// Of the keys, squared: `[C]`
    pub keys: Vec<f32>,
}

/// Adds MDTA of the normalised image to the image; `temperature` has a number for each head. With a `window` of so many
/// pixels a side, attention is that of windows, and where they overlap their mean.
pub(super) fn add(
    image: &mut [f32],
    size: [usize; 3],
    norm: &Norm,
    temperature: &[f32],
    branch: &Branch<'_>,
    window: Option<usize>,
) {
    let [channels, height, width] = size;
    let mut image = ImageMut::new(image, size);
    let [rows, columns] = [height, width].map(|size| Windows::new(size, window.unwrap_or(size)));
    let cells = Cells::new(&rows, &columns);
    let attention = cells.attention(&image, norm, temperature, branch);
    let tiles: Vec<(usize, Tile)> = match cells.places.len() {
        1 => tiles_for_threads(height, width, TILE_PIXELS)
            .into_iter()
            .map(|tile| (0, tile))
            .collect(),
        _ => (cells.places.iter().enumerate())
            .flat_map(|(index, place)| {
                let tiles = tiles_within(&place.tile(), TILE_PIXELS);
                tiles.into_iter().map(move |tile| (index, tile))
            })
            .collect(),
    };
    let (cell_of, tiles): (Vec<usize>, Vec<Tile>) = tiles.into_iter().unzip();

    add_to_tiles(
        &mut image,
        &tiles,
        norm,
        (branch.precision, branch.project_bias),
        [channels, GROUP],
        |tile| {
            let attention = &attention[cell_of[tile]];
            let values_to_output = fold_projection(attention, branch.project, channels);
            move |step: &RowStep<'_>,
                  expanded: &mut [f32],
                  values: &mut [f32],
                  add: &AddToImage<'_>| {
                for first in (0..channels).step_by(GROUP) {
                    let count = GROUP.min(channels - first);
                    let expanded = &mut expanded[first * step.expanded_stride()..];
                    let range = [2 * channels + first, count];
                    convolved(step, branch, range, expanded, |channel, x, taps, bias| {
                        let output = InPanels {
                            data: &mut *values,
                            layout: PanelLayout::panels(count),
                            channel,
                            width: step.width(),
                        };
                        convolve(x, taps, bias, output);
                    });
                    let weights = &values_to_output[first..];
                    add(Matrix::new(weights, channels, count, channels), values);
                }
            }
        },
    );
}

/// The image in pieces, each covered by the same windows.
struct Cells {
    places: Vec<Place>,
    /// Windows of a row of them.
    across: usize,
    /// All windows.
    windows: usize,
}

/// A piece of the image.
struct Place {
    rows: Cell,
    columns: Cell,
}

impl Place {
    fn tile(&self) -> Tile {
        let (rows, columns) = (&self.rows.pixels, &self.columns.pixels);
        Tile {
            top: rows.start,
            left: columns.start,
            height: rows.len(),
            width: columns.len(),
        }
    }
}

impl Cells {
    fn new(rows: &Windows, columns: &Windows) -> Self {
        let across = columns.cells();
        let places = rows.cells().into_iter().flat_map(|rows| {
            across.iter().map(move |columns| Place {
                rows: rows.clone(),
                columns: columns.clone(),
            })
        });
        Self {
            places: places.collect(),
            across: columns.starts.len(),
            windows: rows.starts.len() * columns.starts.len(),
        }
    }

    /// The windows that cover a piece.
    fn windows<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = usize> + 'a {
        let rows = place.rows.windows.clone();
        rows.flat_map(move |row| {
            let columns = place.columns.windows.clone();
            columns.map(move |column| row * self.across + column)
        })
    }

    /// The attention of each piece, `[heads, D, D]`: the mean over the windows that cover it.
    fn attention(
        &self,
        image: &Image<'_>,
        norm: &Norm,
        temperature: &[f32],
        branch: &Branch<'_>,
    ) -> Vec<Vec<f32>> {
        let heads = temperature.len();
        let tiles: Vec<Vec<Tile>> = match self.places.len() {
            1 => vec![tiles(image.height, image.width, TILE_PIXELS)],
            _ => (self.places.iter())
                .map(|place| tiles_within(&place.tile(), TILE_PIXELS))
                .collect(),
        };
        let zero = Sums::zero(image.channels, heads);
        // In parts, each in order, and the parts in order: the same sum for any number of threads.
        let parts: Vec<(usize, &[Tile])> = (tiles.iter().enumerate())
            .flat_map(|(place, tiles)| {
                let part = tiles.len().div_ceil(PARTS).max(1);
                tiles.chunks(part).map(move |tiles| (place, tiles))
            })
            .collect();
        let parts: Vec<(usize, Sums)> = (parts.into_par_iter())
            .map(|(place, tiles)| {
                let mut sums = zero.clone();
                for tile in tiles {
                    sums.add_tile(image, tile, norm, heads, branch);
                }
                (place, sums)
            })
            .collect();
        let mut windows = vec![zero; self.windows];
        for (place, part) in parts {
            for window in self.windows(&self.places[place]) {
                windows[window].plus(&part);
            }
        }
        let windows: Vec<Vec<f32>> = (windows.par_iter())
            .map(|sums| attention(&sums.cosines(), temperature))
            .collect();
        let mean = |place: &Place| {
            let mut covering = self.windows(place);
            let first = covering.next().map(|window| windows[window].clone());
            let mut sum = first.unwrap_or_default();
            let mut count = 1.0;
            for window in covering {
                sum.iter_mut()
                    .zip(&windows[window])
                    .for_each(|(sum, x)| *sum += x);
                count += 1.0;
            }
            if count > 1.0 {
                sum.iter_mut().for_each(|sum| *sum /= count);
            }
            sum
        };
        self.places.iter().map(mean).collect()
    }
}

/// Channels of `qkv`: expands them and lets `convolve` do the rest for each, counted from the first.
fn convolved(
    step: &RowStep<'_>,
    branch: &Branch<'_>,
    [first, count]: [usize; 2],
    expanded: &mut [f32],
    mut convolve: impl FnMut(usize, Framed<'_>, &Taps, f32),
) {
    step.expand(branch, [first, count], expanded);
    let planes = expanded.chunks_exact_mut(step.expanded_stride());
    for (index, expanded) in planes.take(count).enumerate() {
        let channel = first + index;
        let (taps, bias) = (taps(branch.taps, channel), branch.tap_bias(channel));
        convolve(index, step.framed(expanded), taps, bias);
        step.keep(expanded);
    }
}

impl Sums {
    fn zero(channels: usize, heads: usize) -> Self {
        Self {
            products: vec![0.0; channels * channels / heads],
            queries: vec![0.0; channels],
            keys: vec![0.0; channels],
        }
    }

    fn plus(&mut self, other: &Self) {
        for (total, part) in [
            (&mut self.products, &other.products),
            (&mut self.queries, &other.queries),
            (&mut self.keys, &other.keys),
        ] {
            for (total, part) in total.iter_mut().zip(part) {
                *total += part;
            }
        }
    }

    fn add_tile(
        &mut self,
        image: &Image<'_>,
        tile: &Tile,
        norm: &Norm,
        heads: usize,
        branch: &Branch<'_>,
    ) {
        let channels = image.channels;
        let per_head = channels / heads;
        let [loaded, normalized] = normalized_lengths(image, tile);
        let lengths = [
            loaded,
            normalized,
            2 * channels * expanded_stride(tile),
            2 * channels * step_pixels(tile),
        ];
        scratch::with(lengths, |[loaded, normalized, expanded, outputs]| {
            let step = |step: &RowStep<'_>| {
                let pixels = step.pixels();
                for first in (0..2 * channels).step_by(GROUP) {
                    let range = [first, GROUP.min(2 * channels - first)];
                    let expanded = &mut expanded[first * step.expanded_stride()..];
                    let outputs = &mut outputs[first * pixels..];
                    convolved(step, branch, range, expanded, |channel, x, taps, bias| {
                        let data = &mut outputs[channel * pixels..][..pixels];
                        let width = step.width();
                        convolve(x, taps, bias, Plane { data, width });
                    });
                }
                let (queries, keys) = outputs.split_at(channels * pixels);
                for (planes, squares) in [(queries, &mut self.queries), (keys, &mut self.keys)] {
                    for (square, plane) in squares.iter_mut().zip(planes.chunks_exact(pixels)) {
                        *square += dispatch(SumSquare::new(plane));
                    }
                }
                for head in 0..heads {
                    let [q, k] = [queries, keys].map(|x| Rows {
                        data: &x[head * per_head * pixels..],
                        source: PanelLayout::planes(pixels),
                        count: per_head,
                    });
                    let products = &mut self.products[head * per_head * per_head..];
                    inner_products(Into::Add, q, k, pixels, products, per_head);
                }
            };
            // SAFETY: in this pass no thread writes to the image.
            unsafe { walk(image, norm, tile, None, [loaded, normalized], step) };
        });
    }
}

impl Sums {
    /// `q kᵀ / (|q| |k|)`, rows of D, head by head.
    pub fn cosines(&self) -> Vec<f32> {
        let per_head = self.products.len() / self.queries.len();
        let mut cosines = self.products.clone();
        for (query, row) in cosines.chunks_exact_mut(per_head).enumerate() {
            let keys = &self.keys[query / per_head * per_head..][..per_head];
            for (product, key) in row.iter_mut().zip(keys) {
                *product /= norm(self.queries[query]) * norm(*key);
            }
        }
        cosines
    }
}

/// The norm to divide by, from a sum of squares.
pub(super) fn norm(squares: f32) -> f32 {
    squares.sqrt().max(LEAST_NORM)
}

/// `softmax(cosine · temperature)`, rows of D, head by head.
pub(super) fn attention(cosines: &[f32], temperature: &[f32]) -> Vec<f32> {
    let per_head = (cosines.len() / temperature.len()).isqrt();
    let mut attention = cosines.to_vec();
    for (query, row) in attention.chunks_exact_mut(per_head).enumerate() {
        for logit in &mut *row {
            *logit *= temperature[query / per_head];
        }
        softmax(row);
    }
    attention
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
pub(super) fn fold_projection(attention: &[f32], project: &[f32], channels: usize) -> Vec<f32> {
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
