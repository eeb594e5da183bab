//! How much of the result ends up in a photograph, and where.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::disagreement::Disagreement;
use crate::error::{Error, Result};
use crate::model::SIZE_MULTIPLE;
use crate::picture::{Photograph, resized};

/// The most that [`Blend::strength`] can be.
const STRONGEST: f32 = 1.5;

/// The pixels around a region that the Transformer sees with it (docs/regions.md).
const CONTEXT: usize = 64;

/// How much of the result ends up in a photograph, and where. The default is all of it, everywhere.
///
/// Photograph and result are mixed in linear light. Where the share of the result is 0, the photograph's values stay exactly as they
/// are; where it is 1, they are exactly the result's.
#[derive(Debug, Clone, PartialEq)]
pub struct Blend {
    /// The share of the result: 0 is the photograph, 1 the result, and up to 1.5 goes beyond it.
    pub strength: f32,
    /// A share for each pixel beside the strength, as if both were multiplied; none: 1.
    pub mask: Option<Mask>,
    /// Where there is a result at all; none: everywhere.
    pub region: Option<Region>,
    /// Over how many pixels the share rises from nothing, from the edges of mask and region inwards. At the photograph's own
    /// border nothing rises.
    pub feather: usize,
}

impl Default for Blend {
    fn default() -> Self {
        Self {
            strength: 1.0,
            mask: None,
            region: None,
            feather: 0,
        }
    }
}

/// A rectangle of a photograph, in pixels from its upper left corner. As text: `X,Y,WIDTH,HEIGHT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Columns to its left.
    pub x: usize,
    /// Rows above it.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Region {
    fn whole(width: usize, height: usize) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    fn spanning(rows: Range<usize>, columns: Range<usize>) -> Self {
        Self {
            x: columns.start,
            y: rows.start,
            width: columns.len(),
            height: rows.len(),
        }
    }

    pub(super) fn rows(&self) -> Range<usize> {
        self.y..self.y + self.height
    }

    pub(super) fn columns(&self) -> Range<usize> {
        self.x..self.x + self.width
    }

    /// With `context` around it, as far as the photograph goes, on the grid on which the model shrinks the whole.
    fn with_context(&self, context: usize, width: usize, height: usize) -> Self {
        let grown = |span: Range<usize>, length: usize| {
            let start = span.start.saturating_sub(context);
            let end = (span.end + context).next_multiple_of(SIZE_MULTIPLE);
            start - start % SIZE_MULTIPLE..end.min(length)
        };
        Self::spanning(grown(self.rows(), height), grown(self.columns(), width))
    }

    /// The part of a photograph reduced in size that has all of this one's.
    fn reduced(&self, from: [usize; 2], to: [usize; 2]) -> Self {
        let smaller = |span: Range<usize>, side: usize| {
            span.start * to[side] / from[side]..(span.end * to[side]).div_ceil(from[side])
        };
        Self::spanning(smaller(self.rows(), 1), smaller(self.columns(), 0))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!("found {text}, expected X,Y,WIDTH,HEIGHT in pixels, such as 640,200,300,300")
        };
        let numbers: Option<Vec<usize>> = text
            .split(',')
            .map(|number| number.trim().parse().ok())
            .collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) => Ok(Self {
                x,
                y,
                width,
                height,
            }),
            _ => Err(wrong()),
        }
    }
}

/// A share of the result for each pixel of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    name: String,
    width: usize,
    height: usize,
    shares: Vec<f32>, // [height, width]
}

impl Mask {
    /// Takes a picture's brightness as shares: black is none of the result, white all of it, and a gray that is stored as half of
    /// white is half. Of colours it is the luma of BT.709, and what is transparent counts as black. `name` is what errors call it.
    pub fn new(name: impl Into<String>, picture: &Photograph) -> Self {
        let pixels = picture.width() * picture.height();
        let rgb = picture.rgb();
        let most = f32::from(picture.depth().max());
        let share = |at: usize| {
            let [red, green, blue] = [0, 1, 2].map(|plane| rgb[plane * pixels + at]);
            let luma = match red == green && red == blue {
                true => red,
                false => 0.2126 * red + 0.7152 * green + 0.0722 * blue,
            };
            let alpha = picture
                .alpha()
                .map_or(1.0, |alpha| f32::from(alpha[at]) / most);
            luma * alpha
        };
        Self {
            name: name.into(),
            width: picture.width(),
            height: picture.height(),
            shares: (0..pixels).map(share).collect(),
        }
    }

    /// A checksum of its size and shares, by which it is known again.
    pub fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        for side in [self.width, self.height] {
            hasher.update(&(side as u64).to_le_bytes());
        }
        for share in &self.shares {
            hasher.update(&share.to_le_bytes());
        }
        format!("{:08x}", hasher.finalize())
    }

    fn row(&self, y: usize) -> &[f32] {
        &self.shares[y * self.width..][..self.width]
    }

    /// The least part of `region` outside of which all of it is black; `None` if nothing is left.
    fn bounds(&self, region: Region) -> Option<Region> {
        let columns = region.columns();
        let marked = |y: &usize| {
            self.row(*y)[columns.clone()]
                .iter()
                .any(|&share| share > 0.0)
        };
        let top = region.rows().find(marked)?;
        let bottom = region.rows().rfind(marked)?;
        let (mut left, mut right) = (columns.end, columns.start);
        for y in top..=bottom {
            let mut row = columns.clone().filter(|&x| self.row(y)[x] > 0.0);
            if let Some(first) = row.next() {
                left = left.min(first);
                right = right.max(row.next_back().unwrap_or(first));
            }
        }
        Some(Region::spanning(top..bottom + 1, left..right + 1))
    }

    fn reduced(&self, to: [usize; 2]) -> Self {
        let from = [self.width, self.height].map(|side| side as u32);
        Self {
            name: self.name.clone(),
            width: to[0],
            height: to[1],
            shares: resized(self.shares.clone(), from, to.map(|side| side as u32)),
        }
    }
}

impl Blend {
    /// That it can be done to a photograph of this size in pixels.
    ///
    /// # Errors
    /// The reason: a strength that is not 0 to 1.5, a region that is empty or not within the photograph, or a mask of another size.
    pub fn check(&self, width: usize, height: usize) -> std::result::Result<(), String> {
        if !(0.0..=STRONGEST).contains(&self.strength) {
            return Err(format!(
                "strength {}, expected 0 to {STRONGEST}",
                self.strength
            ));
        }
        if let Some(region) = self.region {
            let fits = |at: usize, length: usize, side: usize| {
                length > 0 && at.checked_add(length).is_some_and(|end| end <= side)
            };
            if !fits(region.x, region.width, width) || !fits(region.y, region.height, height) {
                return Err(format!(
                    "the region {region} is not within its {width}×{height} pixels"
                ));
            }
        }
        match &self.mask {
            Some(mask) if (mask.width, mask.height) != (width, height) => Err(format!(
                "it has {width}×{height} pixels upright, and the mask {} has {}×{}: they have to be equal",
                mask.name, mask.width, mask.height
            )),
            _ => Ok(()),
        }
    }

    /// As an error, the reason why it does not fit a photograph.
    pub(super) fn unfit(reason: String) -> Error {
        Error::Config {
            origin: "deblurring".into(),
            key: "blend".into(),
            reason,
        }
    }

    /// What of a photograph of this size is computed: where there is a share of the result, with the pixels around it that the
    /// Transformer sees. `None` if nothing is.
    ///
    /// # Errors
    /// [`Error::Config`] with the reason of [`check`](Self::check).
    pub fn part(&self, width: usize, height: usize) -> Result<Option<Region>> {
        let inside = self.inside(width, height)?;
        Ok(inside.map(|inside| inside.with_context(CONTEXT, width, height)))
    }

    /// Where there is a share of the result.
    fn inside(&self, width: usize, height: usize) -> Result<Option<Region>> {
        self.check(width, height).map_err(Self::unfit)?;
        if self.strength == 0.0 {
            return Ok(None);
        }
        let region = self.region.unwrap_or_else(|| Region::whole(width, height));
        Ok(match &self.mask {
            Some(mask) => mask.bounds(region),
            None => Some(region),
        })
    }

    pub(super) fn selection(&self, width: usize, height: usize) -> Result<Option<Selection>> {
        let (Some(inside), Some(part)) = (self.inside(width, height)?, self.part(width, height)?)
        else {
            return Ok(None);
        };
        let uneven = self.mask.is_some() || (self.feather > 0 && self.region.is_some());
        let shares = uneven.then(|| {
            let mut shares = Vec::with_capacity(inside.width * inside.height);
            for y in inside.rows() {
                match &self.mask {
                    Some(mask) => shares.extend_from_slice(&mask.row(y)[inside.columns()]),
                    None => shares.resize(shares.len() + inside.width, 1.0),
                }
            }
            match self.feather {
                0 => shares,
                feather => softened(&shares, inside, [width, height], feather),
            }
        });
        Ok(Some(Selection {
            inside,
            part,
            shares,
            strength: self.strength,
            size: [width, height],
        }))
    }

    /// The same for a photograph that was reduced in size, both as width and height.
    pub(super) fn reduced(&self, from: [usize; 2], to: [usize; 2]) -> Self {
        Self {
            strength: self.strength,
            mask: self.mask.as_ref().map(|mask| mask.reduced(to)),
            region: self.region.map(|region| region.reduced(from, to)),
            feather: (self.feather * to[0] + from[0] / 2) / from[0],
        }
    }
}

/// What [`Blend`] means for a photograph of a certain size.
pub(super) struct Selection {
    /// Where there is a share of the result.
    inside: Region,
    /// What is computed.
    part: Region,
    /// Of `inside`, `[height, width]`, without the strength; none: all of the result.
    shares: Option<Vec<f32>>,
    strength: f32,
    /// Width and height of the photograph.
    size: [usize; 2],
}

impl Selection {
    /// What is computed of a photograph.
    pub fn cut<'a>(&self, photograph: &'a Photograph) -> Cow<'a, Photograph> {
        match self.is_whole() {
            true => Cow::Borrowed(photograph),
            false => Cow::Owned(photograph.cut(self.part.rows(), self.part.columns())),
        }
    }

    /// The photograph with the result of its part in place.
    pub fn mix(&self, photograph: &Photograph, restored: Photograph) -> Photograph {
        if self.is_whole() && self.shares.is_none() && self.strength == 1.0 {
            return restored;
        }
        let Region { x, y, width, .. } = self.inside;
        let share = |row: usize, column: usize| match &self.shares {
            Some(shares) => self.strength * shares[(row - y) * width + column - x],
            None => self.strength,
        };
        let place = (self.inside.rows(), self.inside.columns());
        photograph.mixed(&restored, [self.part.y, self.part.x], place, share)
    }

    /// Where the samples of the part disagree, as a map of the whole photograph.
    pub fn spread(&self, disagreement: Disagreement) -> Disagreement {
        if self.is_whole() && self.inside == self.part {
            return disagreement;
        }
        let [width, height] = self.size;
        let mut deviation = vec![0.0; width * height];
        for y in self.inside.rows() {
            let from = (y - self.part.y) * self.part.width + self.inside.x - self.part.x;
            let row = &disagreement.deviation()[from..][..self.inside.width];
            deviation[y * width + self.inside.x..][..row.len()].copy_from_slice(row);
        }
        Disagreement::new(width, height, deviation)
    }

    fn is_whole(&self) -> bool {
        [self.part.width, self.part.height] == self.size
    }
}

/// The greatest shares that are nowhere above `shares`, and that rise by no more than 1 in `feather + 1` pixels. So black stays
/// black, and gray stays what it is away from it. Outside of `inside`, where the photograph of `size` goes on, they are 0.
fn softened(shares: &[f32], inside: Region, size: [usize; 2], feather: usize) -> Vec<f32> {
    let step = 1.0 / (feather as f32 + 1.0);
    let slant = step * std::f32::consts::SQRT_2;
    let (width, height) = (inside.width + 2, inside.height + 2);
    // With what is around, whose own shares do not count where the photograph has ended.
    let mut grid = vec![f32::INFINITY; width * height];
    for y in 0..height {
        for x in 0..width {
            let (row, column) = (inside.y + y, inside.x + x);
            let within = [y, x]
                .iter()
                .zip([height, width])
                .all(|(&at, end)| at > 0 && at + 1 < end);
            if within {
                grid[y * width + x] = shares[(y - 1) * inside.width + x - 1];
            } else if (1..=size[1]).contains(&row) && (1..=size[0]).contains(&column) {
                grid[y * width + x] = 0.0;
            }
        }
    }
    // Two passes of a chamfer distance (Borgefors 1986), each from the neighbours that it has seen.
    let mut pass = |at: usize, neighbours: [(usize, f32); 4]| {
        let least = neighbours
            .iter()
            .map(|&(neighbour, step)| grid[neighbour] + step);
        grid[at] = least.fold(grid[at], f32::min);
    };
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let at = y * width + x;
            let above = at - width;
            pass(
                at,
                [
                    (at - 1, step),
                    (above - 1, slant),
                    (above, step),
                    (above + 1, slant),
                ],
            );
        }
    }
    for y in (1..height - 1).rev() {
        for x in (1..width - 1).rev() {
            let at = y * width + x;
            let below = at + width;
            pass(
                at,
                [
                    (at + 1, step),
                    (below + 1, slant),
                    (below, step),
                    (below - 1, slant),
                ],
            );
        }
    }
    let rows = grid.chunks_exact(width).skip(1).take(inside.height);
    rows.flat_map(|row| &row[1..width - 1]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: usize, height: usize, share: impl Fn(usize, usize) -> f32) -> Mask {
        let at = |at: usize| share(at % width, at / width);
        let shares = (0..width * height).map(at).collect();
        Mask::new(
            "mask.png",
            &Photograph::from_gray(width, height, shares).unwrap(),
        )
    }

    fn masked(mask: Mask, feather: usize) -> Blend {
        Blend {
            mask: Some(mask),
            feather,
            ..Blend::default()
        }
    }

    fn region(x: usize, y: usize, width: usize, height: usize) -> Region {
        Region {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn a_region_is_four_numbers() {
        assert_eq!("1, 20,300,4".parse(), Ok(region(1, 20, 300, 4)));
        assert_eq!(region(1, 20, 300, 4).to_string(), "1,20,300,4");
        for wrong in ["", "1,2,3", "1,2,3,4,5", "1,2,3,-4", "1,2,3,4.5", "a,b,c,d"] {
            let error = wrong.parse::<Region>().unwrap_err();
            assert!(error.contains("expected X,Y,WIDTH,HEIGHT"), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_sizes() {
        let of = |region| Blend {
            region: Some(region),
            ..Blend::default()
        };
        for fitting in [region(0, 0, 40, 30), region(39, 29, 1, 1)] {
            assert_eq!(of(fitting).check(40, 30), Ok(()));
        }
        for beyond in [
            region(0, 0, 41, 30),
            region(40, 0, 1, 1),
            region(0, 0, 0, 3),
            region(usize::MAX, 0, 2, 3),
        ] {
            let reason = of(beyond).check(40, 30).unwrap_err();
            assert!(reason.contains("40×30"), "{reason}");
        }
        let reason = masked(mask(30, 40, |_, _| 1.0), 0)
            .check(40, 30)
            .unwrap_err();
        assert!(
            ["40×30", "30×40", "mask.png"]
                .iter()
                .all(|it| reason.contains(it)),
            "{reason}"
        );
        for strength in [-0.1, 1.6, f32::NAN, f32::INFINITY] {
            let blend = Blend {
                strength,
                ..Blend::default()
            };
            assert!(blend.part(40, 30).is_err(), "{strength}");
        }
    }

    #[test]
    fn no_more_is_computed_than_is_seen_and_its_context_on_the_grid() {
        let small =
            |x: usize, y: usize| f32::from((300..310).contains(&x) && (203..=204).contains(&y));
        let blend = masked(mask(1000, 900, small), 0);
        assert_eq!(
            blend.inside(1000, 900).unwrap(),
            Some(region(300, 203, 10, 2))
        );
        let part = blend.part(1000, 900).unwrap().unwrap();
        assert_eq!((part.x, part.y), (300 - CONTEXT - 4, 203 - CONTEXT - 3));
        assert_eq!((part.columns().end, part.rows().end), (376, 272));
        // Only the region's part of it.
        let both = |region| Blend {
            region: Some(region),
            ..blend.clone()
        };
        let found = both(region(305, 0, 100, 900)).inside(1000, 900).unwrap();
        assert_eq!(found, Some(region(305, 203, 5, 2)));
        assert_eq!(both(region(0, 0, 300, 900)).part(1000, 900).unwrap(), None);
        assert_eq!(masked(mask(9, 9, |_, _| 0.0), 3).part(9, 9).unwrap(), None);
        assert_eq!(
            Blend::default().part(9, 7).unwrap(),
            Some(region(0, 0, 9, 7))
        );
        let none = Blend {
            strength: 0.0,
            ..Blend::default()
        };
        assert_eq!(none.part(9, 7).unwrap(), None);
    }

    #[test]
    fn a_soft_edge_rises_inwards_and_never_above_the_mask() {
        // White to the right of column 20, half of it in the lower half.
        let shares = |x: usize, y: usize| match (x >= 20, y >= 30) {
            (false, _) => 0.0,
            (true, false) => 1.0,
            (true, true) => 0.5,
        };
        let hard = mask(60, 60, shares);
        let selection = masked(hard.clone(), 3).selection(60, 60).unwrap().unwrap();
        let (inside, soft) = (selection.inside, selection.shares.as_ref().unwrap());
        assert_eq!(inside, region(20, 0, 40, 60));
        let at = |x: usize, y: usize| soft[y * inside.width + x - 20];
        // The photograph's border is no edge.
        for y in [0, 10] {
            let found: Vec<_> = (20..26).map(|x| at(x, y)).collect();
            assert_eq!(found, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
            assert_eq!(at(59, y), 1.0);
        }
        assert_eq!(
            [at(20, 50), at(21, 50), at(22, 50), at(59, 59)],
            [0.25, 0.5, 0.5, 0.5]
        );
        assert_eq!(
            [at(40, 30), at(40, 29), at(40, 28), at(40, 27)],
            [0.5, 0.75, 1.0, 1.0]
        );
        for y in 0..60 {
            for x in 20..60 {
                assert!(at(x, y) <= shares(x, y) && at(x, y) > 0.0, "{x}, {y}");
            }
        }
        // A region's edge, too, but not where it is the photograph's.
        let corner = Blend {
            region: Some(region(0, 50, 10, 10)),
            feather: 1,
            ..Blend::default()
        };
        let selection = corner.selection(60, 60).unwrap().unwrap();
        let soft = selection.shares.unwrap();
        assert_eq!([soft[0], soft[9], soft[90], soft[99]], [0.5, 0.5, 1.0, 0.5]);
    }

    #[test]
    fn colours_count_by_luma_and_transparent_is_black() {
        let colours = [[0, 255, 0], [255; 3], [128; 3], [0; 3]];
        let pixels = image::RgbImage::from_raw(4, 1, colours.concat()).unwrap();
        let found = Mask::new("", &Photograph::from_rgb8(&pixels)).shares;
        assert_eq!(found, [0.7152, 1.0, 128.0 / 255.0, 0.0]);
        let mut file = std::io::Cursor::new(Vec::new());
        let clear = image::RgbaImage::from_raw(
            3,
            1,
            vec![255, 255, 255, 0, 255, 255, 255, 51, 9, 9, 9, 255],
        );
        clear
            .unwrap()
            .write_to(&mut file, image::ImageFormat::Png)
            .unwrap();
        let picture = Photograph::decode(file.get_ref(), "mask", &Default::default()).unwrap();
        assert_eq!(Mask::new("", &picture).shares, [0.0, 0.2, 9.0 / 255.0]);
    }

    #[test]
    fn fingerprints_tell_size_and_content() {
        let of = |width, height, share| mask(width, height, |_, _| share).fingerprint();
        let all = [of(2, 3, 0.5), of(3, 2, 0.5), of(2, 3, 0.6)];
        assert!(all[0] != all[1] && all[0] != all[2]);
        assert_eq!(all[0], of(2, 3, 0.5));
    }

    #[test]
    fn a_reduced_photograph_has_all_of_the_region() {
        let blend = Blend {
            region: Some(region(33, 10, 5, 81)),
            feather: 8,
            mask: Some(mask(100, 200, |x, _| f32::from(x < 50))),
            ..Blend::default()
        };
        let small = blend.reduced([100, 200], [25, 50]);
        assert_eq!(
            (small.region, small.feather),
            (Some(region(8, 2, 2, 21)), 2)
        );
        let mask = small.mask.as_ref().unwrap();
        assert_eq!(
            (mask.shares.len(), mask.shares[0], mask.shares[24]),
            (25 * 50, 1.0, 0.0)
        );
        small.check(25, 50).unwrap();
    }
}
