//! How much memory a photograph takes on a processor, and what of it fits.

use super::blend::Region;
use super::deblurrer::DeblurOptions;
use super::tiling::Tiling;
use crate::config::Config;
use crate::model::SIZE_MULTIPLE;

/// Bytes of a value.
const VALUE: f64 = 4.0;

/// Planes of a photograph's values.
const COLOURS: f64 = 3.0;

/// What is not counted one by one, as a share of what is.
const SLACK: f64 = 0.03;

/// What does not depend on the photograph, in bytes: the threads' buffers.
const APART: f64 = 8e6;

/// Pieces of no more bytes than these share the allocator's heap and leave gaps in it; larger ones go back to the system.
const HEAP_PIECE: f64 = 32.0 * 1024.0 * 1024.0;

/// Tiles of fewer pixels a side are not proposed: their results are far from the whole's (docs/tiling.md).
const LEAST_TILE: usize = 256;

/// The steps in which tiles are proposed.
const TILE_STEP: usize = 64;

/// The overlap of a proposed tile.
const OVERLAP: usize = 32;

/// What of a photograph fits into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// All of it, by the options given.
    AsAsked,
    /// These tiles, and no larger ones.
    Tiles(Tiling),
    /// Not even the smallest tiles, which need so many bytes.
    Nothing(u64),
}

/// The bytes that [`Deblurrer::deblur_where`](super::Deblurrer::deblur_where) takes at most on a processor, for a photograph
/// of this size in pixels, of which `part` is computed ([`Blend::part`](super::Blend::part); none: the whole), and by these options:
/// beside the model, with the photograph itself. An estimate, from measurements on Flex: the truth is between three quarters
/// of it and 5 % more.
pub fn need(
    config: &Config,
    height: usize,
    width: usize,
    part: Option<Region>,
    options: &DeblurOptions,
) -> u64 {
    let whole = height as f64 * width as f64;
    let part = part.filter(|part| [part.height, part.width] != [height, width]);
    // The photograph with the part in it, and the part, once more as it comes.
    let laying = part.map_or(0.0, |part| {
        COLOURS * (whole + part.height as f64 * part.width as f64)
    });
    let (height, width) = part.map_or((height, width), |part| (part.height, part.width));
    let pixels = height as f64 * width as f64;
    let rounded = |side: usize| side.next_multiple_of(SIZE_MULTIPLE) as f64;
    let (at_once, tiled) = match options.tiling {
        Some(tiling) if tiling.divides(height, width) => {
            let side = |length: usize| rounded(length.min(tiling.size()));
            // Cut out of the photograph, laid into a row of tiles, and that into the result.
            let row = side(height) * width as f64;
            let values = 2.0 * COLOURS * pixels + COLOURS * row;
            (side(height) * side(width), Some(values))
        }
        _ => (rounded(height) * rounded(width), None),
    };
    // What is computed of it if that is a part, the sum of its views, and mean and squares of its samples.
    let several = (options.augment, options.samples.get() > 1);
    let held = usize::from(part.is_some()) + usize::from(several.0) + 2 * usize::from(several.1);
    let held = COLOURS * whole + held as f64 * COLOURS * pixels;
    let restoring = tiled.unwrap_or(0.0) + at_once * transformer(config);
    let values = held + restoring.max(condition(config) * whole).max(laying);
    // The second time, less fits into the gaps of the first.
    let times = match several == (false, false) && tiled.is_none() {
        true => 1.0,
        false => 2.0,
    };
    ((1.0 + SLACK) * VALUE * values + times * gap(config, at_once) + APART) as u64
}

/// The largest of the activations that leaves a gap, in bytes. Each level has twice the channels of the one above on a quarter
/// of its pixels.
fn gap(config: &Config, pixels: f64) -> f64 {
    let first = VALUE * config.model.transformer.dim as f64 * pixels;
    let levels = [1.0, 2.0, 4.0, 8.0].map(|times| first / times);
    let in_heap = levels.into_iter().filter(|&bytes| bytes <= HEAP_PIECE);
    in_heap.fold(0.0, f64::max)
}

/// Values a pixel where the Transformer is widest: where decoder level 1 begins, there are the skip (C) and what it becomes a
/// part of (2C), and the image, which is added in the end.
fn transformer(config: &Config) -> f64 {
    3.0 * config.model.transformer.dim as f64 + COLOURS + 2.0
}

/// Values a pixel of the condition encoder, if there is one, which sees the whole photograph: the image, rearranged, and four
/// times its own channels at a sixteenth of the pixels.
fn condition(config: &Config) -> f64 {
    match config.model.prior {
        crate::model::Prior::None => 0.0,
        _ => COLOURS + 4.0 * config.model.embed_dim as f64 / 16.0,
    }
}

/// What fits into `free` bytes, of which the work may take `need`.
pub fn fit(
    config: &Config,
    height: usize,
    width: usize,
    part: Option<Region>,
    options: &DeblurOptions,
    free: u64,
) -> Fit {
    let need_of = |tiling| {
        let options = DeblurOptions { tiling, ..*options };
        need(config, height, width, part, &options)
    };
    if need_of(options.tiling) <= free {
        return Fit::AsAsked;
    }
    let asked = options.tiling.map_or(usize::MAX, Tiling::size);
    let (height, width) = part.map_or((height, width), |part| (part.height, part.width));
    let largest = height.max(width).min(asked).saturating_sub(1) / TILE_STEP;
    let mut least = None;
    for steps in (LEAST_TILE / TILE_STEP..=largest).rev() {
        let Ok(tiling) = Tiling::new(steps * TILE_STEP, OVERLAP) else {
            continue;
        };
        let need = need_of(Some(tiling));
        if need <= free {
            return Fit::Tiles(tiling);
        }
        least = Some(need);
    }
    Fit::Nothing(least.unwrap_or_else(|| need_of(options.tiling)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(preset: &str) -> Config {
        Config::preset(preset).unwrap()
    }

    fn tiles(size: usize) -> DeblurOptions {
        DeblurOptions {
            tiling: Some(Tiling::new(size, OVERLAP).unwrap()),
            ..DeblurOptions::default()
        }
    }

    /// Preset, width, height, tile (0 for none), eight views or one, samples, and megabytes that the program took on Flex and two
    /// threads, beside what it has with the weights loaded.
    const MEASURED: [(&str, usize, usize, usize, bool, usize, f64); 25] = [
        ("tiny", 1024, 768, 0, false, 1, 127.0),
        ("tiny", 1280, 720, 0, false, 1, 148.0),
        ("tiny", 2048, 1536, 0, false, 1, 387.0),
        ("tiny", 4000, 3000, 0, false, 1, 1473.0),
        ("tiny", 1280, 720, 256, false, 1, 52.0),
        ("tiny", 1280, 720, 512, false, 1, 84.0),
        ("tiny", 4000, 3000, 512, false, 1, 537.0),
        ("tiny", 2048, 1536, 512, true, 1, 206.0),
        ("tiny", 1280, 720, 0, true, 1, 186.0),
        ("tiny", 1280, 720, 0, false, 2, 190.0),
        ("tiny", 1280, 720, 0, true, 2, 208.0),
        ("tiny", 2048, 1536, 0, true, 1, 436.0),
        ("tiny", 2048, 1536, 0, true, 2, 473.0),
        ("small", 1024, 768, 0, false, 1, 177.0),
        ("small", 1280, 720, 0, false, 1, 207.0),
        ("small", 2048, 1536, 0, false, 1, 696.0),
        ("small", 4000, 3000, 0, false, 1, 2626.0),
        ("small", 1280, 720, 256, false, 1, 60.0),
        ("small", 1280, 720, 512, false, 1, 127.0),
        ("small", 4000, 3000, 512, false, 1, 553.0),
        ("small", 1280, 720, 0, true, 1, 240.0),
        ("gopro", 1024, 768, 0, false, 1, 495.0),
        ("gopro", 1280, 720, 0, false, 1, 587.0),
        ("gopro", 1280, 720, 256, false, 1, 106.0),
        ("gopro", 1280, 720, 512, false, 1, 212.0),
    ];

    #[test]
    fn the_need_is_what_was_measured() {
        for (preset, width, height, tile, augment, samples, taken) in MEASURED {
            let options = DeblurOptions {
                augment,
                samples: samples.try_into().unwrap(),
                tiling: (tile > 0).then(|| Tiling::new(tile, OVERLAP).unwrap()),
                ..DeblurOptions::default()
            };
            let need = need(&config(preset), height, width, None, &options) as f64 / 1e6;
            let more = 100.0 * (need / taken - 1.0);
            println!(
                "{preset} {width}×{height} {tile} {augment} {samples}: {need:.0} MB, {taken} MB: {more:+.1} %"
            );
            assert!(
                (-5.0..=30.0).contains(&more),
                "{preset} {width}×{height}: {need:.0} MB, measured {taken} MB: {more:+.1} %"
            );
        }
    }

    /// Likewise of 432×432 pixels of a large photograph, by the model `tiny`.
    #[test]
    fn a_part_needs_what_was_measured_and_much_less_than_the_whole() {
        let part = Region {
            x: 3936,
            y: 2432,
            width: 432,
            height: 432,
        };
        let (tiny, options) = (config("tiny"), DeblurOptions::default());
        for (width, height, taken) in [(4330, 2887, 451.0), (8660, 5774, 1803.0)] {
            let need = |part| need(&tiny, height, width, part, &options) as f64 / 1e6;
            let more = 100.0 * (need(Some(part)) / taken - 1.0);
            assert!(
                (-5.0..=30.0).contains(&more),
                "{width}×{height}: {more:+.1} %"
            );
            assert!(need(Some(part)) < 0.5 * need(None));
        }
        // A part that is all of it is the whole.
        let all = Region {
            x: 0,
            y: 0,
            width: 640,
            height: 480,
        };
        let of = |part| need(&tiny, 480, 640, part, &options);
        assert_eq!(of(Some(all)), of(None));
    }

    #[test]
    fn what_does_not_fit_is_done_in_the_largest_tiles_that_do() {
        let (small, options) = (config("small"), DeblurOptions::default());
        let (height, width) = (3000, 4000);
        let fit_in = |free: u64| fit(&small, height, width, None, &options, free);
        let whole = need(&small, height, width, None, &options);
        assert_eq!(fit_in(whole), Fit::AsAsked);
        let Fit::Tiles(tiling) = fit_in(whole - 1) else {
            panic!("{:?}", fit_in(whole - 1));
        };
        assert!(tiling.size() % TILE_STEP == 0 && tiling.overlap() == OVERLAP);
        assert!(need(&small, height, width, None, &tiles(tiling.size())) < whole);
        let larger = tiles(tiling.size() + TILE_STEP);
        assert!(
            !larger.tiling.unwrap().divides(height, width)
                || need(&small, height, width, None, &larger) >= whole
        );

        let least = need(&small, height, width, None, &tiles(LEAST_TILE));
        assert_eq!(fit_in(least), Fit::Tiles(tiles(LEAST_TILE).tiling.unwrap()));
        assert_eq!(fit_in(least - 1), Fit::Nothing(least));
        assert_eq!(fit_in(0), Fit::Nothing(least));
        // Where there are no smaller tiles, the need is that of what was asked for.
        let tiny = need(&small, 100, 100, None, &options);
        assert_eq!(fit(&small, 100, 100, None, &options, 0), Fit::Nothing(tiny));
    }

    #[test]
    fn smaller_tiles_than_those_asked_for_are_found() {
        let small = config("small");
        let free = need(&small, 3000, 4000, None, &tiles(1024));
        assert_eq!(
            fit(&small, 3000, 4000, None, &tiles(1024), free),
            Fit::AsAsked
        );
        assert_eq!(
            fit(&small, 3000, 4000, None, &tiles(2048), free),
            Fit::Tiles(tiles(1024).tiling.unwrap())
        );
    }

    #[test]
    fn no_size_overflows() {
        let gopro = config("gopro");
        let most = need(&gopro, 65_535, 65_535, None, &DeblurOptions::default());
        assert!(most > 2_000_000_000_000, "{most}");
        need(&gopro, usize::MAX / 8, usize::MAX / 8, None, &tiles(256));
    }
}
