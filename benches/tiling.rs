//! What tiling costs in quality: the bundled model on blurred photographs as a whole and in tiles, with the prior of the
//! whole photograph (as `hi-diff deblur --tile` does) and with each tile's own.
//!
//! `cargo bench --bench tiling -- PAIRS`, where PAIRS is a folder as `hi-diff synth` writes it: `input/` and `target/`.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use hi_diff::data::layout::Part;
use hi_diff::data::pairs::find_pairs;
use hi_diff::evaluation::psnr;
use hi_diff::inference::{DeblurOptions, Deblurrer, Planes, Tiling};
use hi_diff::picture::{Limits, Photograph};
use hi_diff::{HiDiff, Noise, Result};

/// Tile and overlap.
const TILINGS: [[usize; 2]; 7] = [
    [64, 16],
    [128, 0],
    [128, 16],
    [128, 32],
    [128, 64],
    [256, 32],
    [256, 64],
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.find(|text| !text.starts_with("--")) else {
        println!("give a folder with input/ and target/: cargo bench --bench tiling -- PAIRS");
        return Ok(());
    };
    let device = Default::default();
    let deblurrer = Deblurrer::<Flex>::new(HiDiff::bundled(&device)?, device);
    let pairs = find_pairs(&PathBuf::from(folder), None, Part::Test)?.pairs;
    println!("{} photographs; PSNR in dB, mean over them", pairs.len());

    let mut photographs = Vec::new();
    let mut sharpness = [0.0; 2];
    for pair in &pairs {
        let blurred = open(pair.blur.as_deref().unwrap_or(&pair.sharp))?;
        let sharp = open(&pair.sharp)?.to_rgb8();
        let whole = deblurrer.deblur(&blurred, 0)?.to_rgb8();
        sharpness[0] += psnr(&blurred.to_rgb8(), &sharp)?;
        sharpness[1] += psnr(&whole, &sharp)?;
        photographs.push((blurred, sharp, whole));
    }
    let count = photographs.len() as f64;
    println!(
        "blurred {:.3}, restored as a whole {:.3}",
        sharpness[0] / count,
        sharpness[1] / count
    );
    println!("| tile | overlap | prior | to the whole | to sharp | change |");
    println!("|---|---|---|---|---|---|");
    for [size, overlap] in TILINGS {
        let tiling = Tiling::new(size, overlap)?;
        let ways: [(&str, &Way); 2] = [("whole", &shared_prior), ("own", &own_prior)];
        for (name, way) in ways {
            let (mut to_whole, mut to_sharp, mut tiled_ones) = (0.0, 0.0, 0);
            for (blurred, sharp, whole) in &photographs {
                let tiled = way(&deblurrer, blurred, tiling)?.to_rgb8();
                to_sharp += psnr(&tiled, sharp)?;
                let difference = psnr(&tiled, whole)?;
                if difference.is_finite() {
                    to_whole += difference;
                    tiled_ones += 1;
                }
            }
            let (to_whole, to_sharp) = (to_whole / f64::from(tiled_ones), to_sharp / count);
            let change = to_sharp - sharpness[1] / count;
            println!(
                "| {size} | {overlap} | {name} | {to_whole:.1} | {to_sharp:.3} | {change:+.3} |"
            );
        }
    }
    Ok(())
}

type Way = dyn Fn(&Deblurrer<Flex>, &Photograph, Tiling) -> Result<Photograph>;

fn open(path: &Path) -> Result<Photograph> {
    Photograph::open(path, &Limits::default())
}

fn shared_prior(
    deblurrer: &Deblurrer<Flex>,
    blurred: &Photograph,
    tiling: Tiling,
) -> Result<Photograph> {
    let options = DeblurOptions {
        tiling: Some(tiling),
        ..DeblurOptions::default()
    };
    Ok(deblurrer.deblur_with(blurred, &options)?.photograph)
}

fn own_prior(
    deblurrer: &Deblurrer<Flex>,
    blurred: &Photograph,
    tiling: Tiling,
) -> Result<Photograph> {
    let image = Planes::new(blurred.rgb().to_vec(), blurred.height(), blurred.width())?;
    let restored = tiling.map(&image, |tile| {
        let (height, width) = (tile.height(), tile.width());
        let data = TensorData::new(tile.into_values(), [1, 3, height, width]);
        let tile = Tensor::from_data(data, &Default::default());
        let restored = deblurrer.model().deblur(tile, Noise::Seed(0))?;
        Planes::new(restored.into_data().iter::<f32>().collect(), height, width)
    })?;
    blurred.with_rgb(restored.into_values())
}
