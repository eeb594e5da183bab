//! At most 256 colours for a picture of more.

use std::collections::{BTreeSet, HashMap};

/// What an index of a byte can mean.
const MOST: usize = 256;
/// How often colours are moved to the mean of the pixels that they stand for.
const ROUNDS: usize = 8;
/// The upper bits of a sample that tell colours apart while the 256 are looked for.
const BITS: u32 = 6;

/// A picture by indices of its colours.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) palette: Vec<[u8; 3]>,
    /// `[height, width]`.
    pub(super) indices: Vec<u8>,
    /// The index of what is not seen.
    pub(super) transparent: Option<u8>,
}

/// The picture in at most 256 colours: its own if it has no more, else similar ones, without dithering,
/// which would flicker from frame to frame. An alpha below half is transparent, any other opaque; with
/// `transparent`, one of the 256 stands for that, used or not.
pub(super) fn reduce(pixels: &[[u8; 4]], transparent: bool) -> Indexed {
    let seen = |&[r, g, b, alpha]: &[u8; 4]| (alpha >= 128).then_some([r, g, b]);
    let transparent = transparent || pixels.iter().any(|pixel| seen(pixel).is_none());
    let most = if transparent { MOST - 1 } else { MOST };
    let colours = || pixels.iter().filter_map(seen);
    let mut palette = few(colours(), most).unwrap_or_else(|| many(colours(), most));

    let middles: Vec<[f32; 3]> = palette.iter().map(|colour| colour.map(f32::from)).collect();
    let mut known = HashMap::new();
    let mut index = |colour: [u8; 3]| -> u8 {
        let nearest = || nearest(&middles, colour.map(f32::from)) as u8; // of at most 256
        *known.entry(colour).or_insert_with(nearest)
    };
    let unseen = palette.len() as u8; // at most 255 where it is used
    let indices = pixels
        .iter()
        .map(|pixel| seen(pixel).map_or(unseen, &mut index))
        .collect();
    if transparent {
        palette.push([0; 3]);
    }
    Indexed {
        palette,
        indices,
        transparent: transparent.then_some(unseen),
    }
}

/// The colours there are, if at most `most`.
fn few(colours: impl Iterator<Item = [u8; 3]>, most: usize) -> Option<Vec<[u8; 3]>> {
    let mut found = BTreeSet::new();
    for colour in colours {
        found.insert(colour);
        if found.len() > most {
            return None;
        }
    }
    Some(found.into_iter().collect())
}

/// `most` colours of a small sum of squared distances from the picture's: groups of colours are cut in two
/// where that is largest, then moved by Lloyd's algorithm (k-means).
fn many(colours: impl Iterator<Item = [u8; 3]>, most: usize) -> Vec<[u8; 3]> {
    let mut groups = vec![Group::of(cells(colours))];
    while groups.len() < most {
        let worst = (0..groups.len()).max_by(|&a, &b| groups[a].error.total_cmp(&groups[b].error));
        let Some((worst, (low, high))) = worst.and_then(|at| Some((at, groups[at].cut()?))) else {
            break;
        };
        groups[worst] = low;
        groups.push(high);
    }
    let mut middles: Vec<[f32; 3]> = groups
        .iter()
        .map(|group| group.mean.map(|v| v as f32))
        .collect();
    let cells: Vec<Cell> = groups.into_iter().flat_map(|group| group.cells).collect();
    for _ in 0..ROUNDS {
        let mut sums = vec![Cell::default(); middles.len()];
        for cell in &cells {
            sums[nearest(&middles, cell.mean().map(|value| value as f32))].add(cell);
        }
        for (middle, sum) in middles.iter_mut().zip(&sums) {
            if sum.pixels > 0.0 {
                *middle = sum.mean().map(|value| value as f32);
            }
        }
    }
    let rounded = |middle: [f32; 3]| middle.map(|value| value.round() as u8);
    middles.into_iter().map(rounded).collect()
}

/// The index of the colour next to `colour`.
fn nearest(middles: &[[f32; 3]], colour: [f32; 3]) -> usize {
    let mut best = (0, f32::INFINITY);
    for (index, middle) in middles.iter().enumerate() {
        let [r, g, b] = [0, 1, 2].map(|c| middle[c] - colour[c]);
        let distance = r * r + g * g + b * b;
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best.0
}

/// Pixels of much the same colour: how many, and the sums of their samples.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    pixels: f64,
    sums: [f64; 3],
}

impl Cell {
    fn add(&mut self, other: &Cell) {
        self.pixels += other.pixels;
        for (sum, other) in self.sums.iter_mut().zip(other.sums) {
            *sum += other;
        }
    }

    fn mean(&self) -> [f64; 3] {
        self.sums.map(|sum| sum / self.pixels)
    }
}

fn cells(colours: impl Iterator<Item = [u8; 3]>) -> Vec<Cell> {
    let mut cells = vec![Cell::default(); 1 << (3 * BITS)];
    for colour in colours {
        let join = |bits, sample: u8| bits << BITS | usize::from(sample >> (8 - BITS));
        cells[colour.into_iter().fold(0, join)].add(&Cell {
            pixels: 1.0,
            sums: colour.map(f64::from),
        });
    }
    cells.retain(|cell| cell.pixels > 0.0);
    cells
}

/// Cells that one colour stands for.
struct Group {
    cells: Vec<Cell>,
    mean: [f64; 3],
    /// The channel that varies most.
    widest: usize,
    /// The sum of squared distances from the mean.
    error: f64,
}

impl Group {
    fn of(cells: Vec<Cell>) -> Group {
        let mut all = Cell::default();
        cells.iter().for_each(|cell| all.add(cell));
        let mean = all.mean();
        let mut errors = [0.0; 3];
        for cell in &cells {
            for (error, (value, mean)) in errors.iter_mut().zip(cell.mean().iter().zip(mean)) {
                *error += cell.pixels * (value - mean).powi(2);
            }
        }
        let widest = (0..3).max_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        Group {
            cells,
            mean,
            widest: widest.unwrap_or(0),
            error: errors.iter().sum(),
        }
    }

    /// The cells below the mean and the others; `None` if all are of one side.
    fn cut(&self) -> Option<(Group, Group)> {
        let below = |cell: &&Cell| cell.mean()[self.widest] < self.mean[self.widest];
        let (low, high): (Vec<Cell>, Vec<Cell>) = self.cells.iter().partition(below);
        (!low.is_empty() && !high.is_empty()).then(|| (Group::of(low), Group::of(high)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(indexed: &Indexed) -> Vec<Option<[u8; 3]>> {
        let colour = |index: &u8| {
            (indexed.transparent != Some(*index)).then(|| indexed.palette[usize::from(*index)])
        };
        indexed.indices.iter().map(colour).collect()
    }

    /// As many colours as said, `last` the alpha of one more pixel.
    fn colours(count: u32, last: u8) -> Vec<[u8; 4]> {
        let colour = |n: u32| [(n % 256) as u8, (n / 256 * 40) as u8, 7, 255];
        (0..count).map(colour).chain([[9, 9, 9, last]]).collect()
    }

    #[test]
    fn up_to_256_colours_are_kept_transparency_being_one() {
        for (count, last) in [(1, 255), (255, 255), (255, 0), (255, 127), (0, 0), (0, 128)] {
            let pixels = colours(count, last);
            let indexed = reduce(&pixels, false);
            let expected: Vec<_> = pixels
                .iter()
                .map(|&[r, g, b, alpha]| (alpha >= 128).then_some([r, g, b]))
                .collect();
            assert_eq!(shown(&indexed), expected, "{count} {last}");
            assert!(indexed.palette.len() <= 256, "{count} {last}");
        }
    }

    #[test]
    fn a_colour_is_left_for_what_is_transparent_elsewhere() {
        let pixels = colours(254, 255);
        let indexed = reduce(&pixels, true);
        assert_eq!(
            (indexed.palette.len(), indexed.transparent),
            (256, Some(255))
        );
        assert!(shown(&indexed).iter().all(Option::is_some));
    }

    #[test]
    fn more_become_similar_ones() {
        for (count, last) in [(256, 255), (256, 0), (1000, 255), (1000, 0)] {
            let pixels = colours(count, last);
            let indexed = reduce(&pixels, false);
            assert!(indexed.palette.len() <= 256, "{count} {last}");
            for (pixel, shown) in pixels.iter().zip(shown(&indexed)) {
                let distance =
                    shown.map(|shown| (0..3).map(|c| shown[c].abs_diff(pixel[c])).max().unwrap());
                // The palette has one for about 4 of 1,000 colours.
                assert_eq!(distance.is_none(), pixel[3] < 128, "{pixel:?} {shown:?}");
                assert!(distance.unwrap_or(0) <= 8, "{pixel:?} {shown:?}");
            }
        }
    }
}
