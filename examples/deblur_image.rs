//! Photo in, photo out.
//!
//! ```sh
//! cargo run --release --example deblur_image -- blurred.jpg sharp.jpg                     # by the bundled weights
//! cargo run --release --example deblur_image -- blurred.jpg sharp.jpg gopro.safetensors   # by these
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::backend::Flex;
use hi_diff::HiDiff;
use hi_diff::inference::Deblurrer;
use hi_diff::picture::{EncodeOptions, Limits, Photograph};

fn deblur(input: &Path, output: &Path, weights: Option<&Path>) -> hi_diff::Result<()> {
    let device = Default::default();
    let model = match weights {
        Some(path) => HiDiff::<Flex>::load(path, &device)?,
        None => HiDiff::bundled(&device)?,
    };
    let blurred = Photograph::open(input, &Limits::default())?;
    // The diffusion starts from noise; the same seed, here 0, gives the same result.
    let sharp = Deblurrer::new(model, device).deblur(&blurred, 0)?;
    // The format follows from the name. A file that exists is an error, unless the options say `force`.
    sharp.save(output, &EncodeOptions::default())?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let result = match arguments.as_slice() {
        [input, output] => deblur(input, output, None),
        [input, output, weights] => deblur(input, output, Some(weights)),
        _ => {
            eprintln!("usage: deblur_image BLURRED SHARP [WEIGHTS]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}"); // Names the file and what is wrong with it.
            ExitCode::FAILURE
        }
    }
}
