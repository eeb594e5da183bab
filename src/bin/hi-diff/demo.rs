//! `hi-diff demo`: the bundled sample through the bundled weights.

use std::path::PathBuf;

use burn::tensor::backend::Backend;
use hi_diff::HiDiff;
use hi_diff::evaluation::{psnr, ssim_per_channel};
use hi_diff::inference::Deblurrer;
use hi_diff::picture::{EncodeOptions, Limits, Photograph};

use crate::backend::{BackendChoice, with_backend};
use crate::output;

/// Part of a frame of GoPro's training part (Nah, Kim and Lee, CVPR 2017; CC BY 4.0), and the same with the blur of a moving camera.
const SHARP: &[u8] = include_bytes!("../../../assets/sample-sharp.png");
const BLURRED: &[u8] = include_bytes!("../../../assets/sample-blurred.png");

/// Deblur the bundled sample with the bundled weights
///
/// Prints PSNR and SSIM against the sharp original before and after, and writes blurred and deblurred side by side.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The side-by-side picture
    #[arg(short, long, value_name = "FILE", default_value = "hi-diff-demo.png")]
    output: PathBuf,
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Start of the diffusion: equal seeds give equal results
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Always true: what fails is an error.
pub fn run(args: Args) -> hi_diff::Result<bool> {
    with_backend!(args.backend, B => demo::<B>(&args))
}

fn demo<B: Backend>(args: &Args) -> hi_diff::Result<bool> {
    let bundled = |bytes, name| Photograph::decode(bytes, name, &Limits::default());
    let sharp = bundled(SHARP, "the bundled sharp sample")?.to_rgb8();
    let photograph = bundled(BLURRED, "the bundled blurred sample")?;
    let blurred = photograph.to_rgb8();

    let device = Default::default();
    let deblurrer = Deblurrer::<B>::new(HiDiff::bundled(&device)?, device);
    let deblurred = deblurrer.deblur(&photograph, args.seed)?;
    let restored = deblurred.to_rgb8();

    output::line(format!(
        "{:<10}{:>10}{:>24}",
        "", "PSNR (dB)", "SSIM (2-D, per channel)"
    ));
    for (name, image) in [("blurred", &blurred), ("deblurred", &restored)] {
        let (psnr, ssim) = (psnr(image, &sharp)?, ssim_per_channel(image, &sharp)?);
        output::line(format!("{name:<10}{psnr:>10.2}{ssim:>24.4}"));
    }

    // Made anew by each run of the demo, so an earlier one may be replaced.
    let options = EncodeOptions {
        force: true,
        ..EncodeOptions::default()
    };
    photograph
        .beside(&deblurred)?
        .save(&args.output, &options)?;
    output::line(format!("blurred | deblurred: {}", args.output.display()));
    Ok(true)
}
