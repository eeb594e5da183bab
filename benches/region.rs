//! How much a region's result differs from that of the whole photograph, by the pixels around it that the Transformer sees.
//!
//! `cargo bench --bench region -- BLURRED [WEIGHTS]`: a photograph or a folder of them, and weights that know their
//! configuration, without which the bundled ones compute. The prior is the whole photograph's, as for `hi-diff deblur
//! --region`. Of each photograph the regions are its middle and a corner, of 128 and of 256 pixels a side.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use hi_diff::inference::files::{Plan, PlanOptions};
use hi_diff::model::SIZE_MULTIPLE;
use hi_diff::picture::{Limits, Photograph};
use hi_diff::weights::Loader;
use hi_diff::{HiDiff, Noise, Result};

const CONTEXTS: [usize; 8] = [0, 16, 32, 64, 96, 128, 192, 256];
const SIDES: [usize; 2] = [128, 256];

type Values = Tensor<Flex, 4>;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args()
        .skip(1)
        .filter(|text| !text.starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let Some(blurred) = arguments.first() else {
        println!("give a photograph or a folder: cargo bench --bench region -- BLURRED [WEIGHTS]");
        return Ok(());
    };
    let device = Default::default();
    let model = match arguments.get(1) {
        Some(weights) => Loader::new().load::<Flex>(weights, &device)?.0,
        None => HiDiff::bundled(&device)?,
    };
    let files = Plan::with(
        std::slice::from_ref(blurred),
        Path::new("none/"),
        &PlanOptions::default(),
    )?;
    // Squared and greatest differences by side and context.
    let mut found = [[(0.0f64, 0.0f32, 0u32); CONTEXTS.len()]; SIDES.len()];
    for job in &files.jobs {
        let photograph = Photograph::open(&job.input, &Limits::default())?;
        let image = tensor(&photograph);
        let condition = model.condition(image.clone())?;
        let prior = condition
            .map(|condition| model.prior_given(condition, Noise::Seed(0)))
            .transpose()?;
        let whole = model.restore(image.clone(), prior.clone())?;
        let (height, width) = (photograph.height(), photograph.width());
        for (side, found) in SIDES.into_iter().zip(&mut found) {
            for [top, left] in [[(height - side) / 2, (width - side) / 2], [0, width - side]] {
                for (context, found) in CONTEXTS.into_iter().zip(found.iter_mut()) {
                    let start =
                        |at: usize| at.saturating_sub(context) / SIZE_MULTIPLE * SIZE_MULTIPLE;
                    let end = |at: usize, length: usize| {
                        (at + side + context)
                            .next_multiple_of(SIZE_MULTIPLE)
                            .min(length)
                    };
                    let (y, x) = (start(top)..end(top, height), start(left)..end(left, width));
                    let [dy, dx] = [top - y.start, left - x.start];
                    let part = image.clone().slice([0..1, 0..3, y, x]);
                    let part = model.restore(part, prior.clone())?;
                    let inside = part.slice([0..1, 0..3, dy..dy + side, dx..dx + side]);
                    let expected = [0..1, 0..3, top..top + side, left..left + side];
                    let difference =
                        inside.clamp(0.0, 1.0) - whole.clone().slice(expected).clamp(0.0, 1.0);
                    let values = difference.into_data();
                    for value in values.iter::<f32>() {
                        found.0 += f64::from(value).powi(2);
                        found.1 = found.1.max(value.abs());
                    }
                    found.2 += 1;
                }
            }
        }
    }
    println!(
        "{} photographs; to the whole's result: PSNR in dB, greatest difference in 1/255",
        files.jobs.len()
    );
    println!("| context | 128: PSNR | greatest | 256: PSNR | greatest |\n|---|---|---|---|---|");
    for (number, context) in CONTEXTS.into_iter().enumerate() {
        let cells = SIDES.iter().zip(&found).map(|(side, found)| {
            let (squares, greatest, count) = found[number];
            let mean = squares / (f64::from(count) * (3 * side * side) as f64);
            format!("{:.1} | {:.1}", -10.0 * mean.log10(), 255.0 * greatest)
        });
        println!("| {context} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

/// `[1, 3, height, width]`
fn tensor(photograph: &Photograph) -> Values {
    let shape = [1, 3, photograph.height(), photograph.width()];
    Tensor::from_data(
        TensorData::new(photograph.rgb().to_vec(), shape),
        &Default::default(),
    )
}
