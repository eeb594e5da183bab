//! Whether a result keeps its photograph's colours where there is nothing to sharpen.
//!
//! Of a flat area, blurred and sharp picture have the same colour. Statistics of small windows are known to give others on a
//! few photographs in a thousand, in blocks, where the picture is flat, dark or saturated.

/// Pixels of a cell's side.
const CELL: usize = 16;

/// A cell is flat if the means of the cells around it, so many in each direction, differ by less than [`FLAT`] of 1: more than
/// a blur that the model removes moves light.
const AROUND: usize = 2;
const FLAT: f32 = 12.0 / 255.0;

/// The most that a good result's flat cells differ from the photograph's, of 1 (docs/local-attention.md).
pub const MOST_DRIFT: f32 = 8.0 / 255.0;

/// By how much the mean colour of some flat cell of the result differs from the blurred picture's, at most; values from 0 to 1.
///
/// # Shapes
/// - blurred, restored: `[3, height, width]`, row by row
pub fn drift(blurred: &[f32], restored: &[f32], height: usize, width: usize) -> f32 {
    let pixels = (height * width).max(1);
    let all = |image: &[f32]| -> Vec<Vec<f32>> {
        let planes = image.chunks_exact(pixels);
        planes.map(|plane| means(plane, height, width)).collect()
    };
    let (before, after) = (all(blurred), all(restored));
    let (rows, columns) = (height.div_ceil(CELL), width.div_ceil(CELL));
    let near = |at: usize, count: usize| at.saturating_sub(AROUND)..(at + AROUND + 1).min(count);
    let is_flat = |row: usize, column: usize| {
        before.iter().all(|plane| {
            let (mut least, mut greatest) = (f32::INFINITY, f32::NEG_INFINITY);
            for row in near(row, rows) {
                for mean in &plane[row * columns..][near(column, columns)] {
                    (least, greatest) = (least.min(*mean), greatest.max(*mean));
                }
            }
            greatest - least < FLAT
        })
    };
    let cells = (0..rows * columns).filter(|cell| is_flat(cell / columns, cell % columns));
    cells.fold(0f32, |most, cell| {
        let planes = before.iter().zip(&after);
        planes.fold(most, |most, (before, after)| {
            most.max((after[cell].clamp(0.0, 1.0) - before[cell]).abs())
        })
    })
}

/// The means of a plane's cells, row by row.
fn means(plane: &[f32], height: usize, width: usize) -> Vec<f32> {
    let columns = width.div_ceil(CELL);
    let mut sums = vec![(0f64, 0usize); height.div_ceil(CELL) * columns];
    for (index, line) in plane.chunks_exact(width.max(1)).enumerate() {
        let row = &mut sums[index / CELL * columns..][..columns];
        for (cell, pixels) in row.iter_mut().zip(line.chunks(CELL)) {
            cell.0 += pixels.iter().copied().map(f64::from).sum::<f64>();
            cell.1 += pixels.len();
        }
    }
    let mean = |(sum, count): (f64, usize)| (sum / count.max(1) as f64) as f32;
    sums.into_iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: usize = 130;
    const WIDTH: usize = 170;

    fn picture(value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let plane = (0..HEIGHT * WIDTH).map(|index| value(index / WIDTH, index % WIDTH));
        let plane: Vec<f32> = plane.collect();
        [&plane[..], &plane, &plane].concat()
    }

    #[test]
    fn a_sharper_edge_is_no_drift() {
        let ramp = picture(|_, x| (x as f32 / 12.0 - 6.0).clamp(0.0, 1.0));
        let edge = picture(|_, x| if x < 78 { 0.0 } else { 1.0 });
        assert_eq!(drift(&ramp, &edge, HEIGHT, WIDTH), 0.0);
        assert_eq!(drift(&ramp, &ramp, HEIGHT, WIDTH), 0.0);
    }

    #[test]
    fn a_block_of_another_colour_in_a_flat_area_is() {
        let flat = picture(|y, _| 0.3 + y as f32 * 1e-4);
        let mut mosaic = flat.clone();
        for row in 48..96 {
            for value in &mut mosaic[2 * HEIGHT * WIDTH + row * WIDTH..][48..96] {
                *value += 0.125;
            }
        }
        let found = drift(&flat, &mosaic, HEIGHT, WIDTH);
        assert!((found - 0.125).abs() < 1e-4, "{found}");
        assert_eq!(drift(&[], &[], 0, 0), 0.0);
    }
}
