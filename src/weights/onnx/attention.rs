//! MDTA's attention between channels, over the whole image or over windows of it.

use super::ImageShape;
use super::graph::{Graph, Value};
use super::transformer::Level;
use crate::error::Result;
use crate::kernels::windows::Windows;
use crate::model::Attention;

/// The least norm that queries and keys are divided by; see `model::mdta`.
const LEAST_NORM: f64 = 1e-12;

/// `softmax(q kᵀ · temperature) · v` of each head, between channels, of `[batch, 3C, height, width]`.
pub(super) fn attention(g: &mut Graph, qkv: &Value, key: &str, level: &Level) -> Result<Value> {
    let temperature = format!("{key}.temperature");
    let heads = level.heads;
    let temperature = g.weight_in_single(&temperature, &[heads, 1, 1])?;
    let per_head = g.outputs(&format!("{key}.project_out"))? / heads;
    let one = Heads {
        heads: heads as i64,
        per_head: per_head as i64,
        temperature,
    };
    let Some((windows, [height, width])) = windows(level) else {
        let shape = level.shape.value(g);
        return Ok(one.attend(g, qkv, &shape));
    };
    let [rows, columns] = &windows;
    let bands: Vec<Value> = rows
        .starts
        .iter()
        .map(|&top| {
            let band = slice(g, qkv, 2, top, rows.length);
            let shape = g.ints(&[0, -1, rows.length as i64, columns.length as i64]);
            let parts: Vec<Value> = columns
                .starts
                .iter()
                .map(|&left| {
                    let window = slice(g, &band, 3, left, columns.length);
                    one.attend(g, &window, &shape)
                })
                .collect();
            place(g, parts, columns, 3, width)
        })
        .collect();
    let sum = place(g, bands, rows, 2, height);
    Ok(average(g, &sum, &windows, [height, width]))
}

/// Of one attention.
struct Heads {
    heads: i64,
    /// C/heads
    per_head: i64,
    /// `[heads, 1, 1]`, in single precision.
    temperature: Value,
}

impl Heads {
    /// Of all pixels of `qkv`; the result gets `shape`.
    fn attend(&self, g: &mut Graph, qkv: &Value, shape: &Value) -> Value {
        let qkv = g.reshape(qkv, &[0, 3 * self.heads, self.per_head, -1]);
        let [q, k, v] = g.split(&qkv, 1); // [batch, heads, C/heads, pixels] each
        // Sums over all pixels overflow half precision.
        let (q, k) = (g.single(&q), g.single(&k));
        let least = g.single_scalar(LEAST_NORM);
        let norm = |g: &mut Graph, x: &Value| {
            let norm = g.reduce("ReduceL2", x, 3);
            g.op("Max", &[&norm, &least], &[])
        };
        let (of_q, of_k) = (norm(g, &q), norm(g, &k));
        let swap = [0, 1, 3, 2];
        let (k, of_k) = (g.transpose(&k, &swap), g.transpose(&of_k, &swap));
        let logits = g.matmul(&q, &k);
        // Dividing the small matrix is the same as dividing q and k.
        let norms = g.mul(&of_q, &of_k);
        let logits = g.div(&logits, &norms);
        let logits = g.mul(&logits, &self.temperature);
        let attention = g.softmax(&logits, 3);
        let attention = g.computed(&attention);
        let attended = g.matmul(&attention, &v);
        g.reshape_to(&attended, shape)
    }
}

/// The windows of a level and its size; none where one window is the whole image.
fn windows(level: &Level) -> Option<([Windows; 2], [usize; 2])> {
    let (Attention::Local(window), ImageShape::Known(size)) = (level.attention, &level.shape)
    else {
        return None;
    };
    let windows = size.map(|size| Windows::new(size, window));
    let single = windows.iter().all(|windows| windows.starts.len() == 1);
    (!single).then_some((windows, *size))
}

fn slice(g: &mut Graph, x: &Value, axis: i64, start: usize, length: usize) -> Value {
    let (start, end) = (start as i64, (start + length) as i64);
    let (start, end, axis) = (g.ints(&[start]), g.ints(&[end]), g.ints(&[axis]));
    g.op("Slice", &[x, &start, &end, &axis], &[])
}

/// The sum of parts, each at its place along an axis of so many pixels.
fn place(g: &mut Graph, parts: Vec<Value>, windows: &Windows, axis: usize, size: usize) -> Value {
    let placed: Vec<Value> = parts
        .iter()
        .zip(&windows.starts)
        .map(|(part, &start)| {
            let behind = size - start - windows.length;
            if start == 0 && behind == 0 {
                return part.clone();
            }
            let mut pads = [0; 8];
            (pads[axis], pads[4 + axis]) = (start as i64, behind as i64);
            let pads = g.ints(&pads);
            g.op("Pad", &[part, &pads], &[])
        })
        .collect();
    let mut placed = placed.into_iter();
    let first = placed.next().expect("an axis has a window");
    placed.fold(first, |sum, part| g.add(&sum, &part))
}

/// A sum over windows, divided by how many cover each pixel.
fn average(g: &mut Graph, sum: &Value, windows: &[Windows; 2], size: [usize; 2]) -> Value {
    let [rows, columns] = [0, 1].map(|axis| windows[axis].cover(size[axis]));
    let [rows, columns] = [rows, columns].map(|cover| {
        cover
            .into_iter()
            .map(|count| count as f32)
            .collect::<Vec<f32>>()
    });
    let rows = g.constants(&[1, 1, rows.len(), 1], &rows);
    let columns = g.constants(&[1, 1, 1, columns.len()], &columns);
    let average = g.div(sum, &rows);
    g.div(&average, &columns)
}
