//! Products in bfloat16: close to those in single precision, on the processors that have them, and an error on others.
#![cfg(all(feature = "flex", feature = "image"))]

use burn::backend::Flex;
use hi_diff::HiDiff;
use hi_diff::inference::Deblurrer;
use hi_diff::kernels::{Precision, with_precision};
use hi_diff::picture::{Limits, Photograph};

fn restored(precision: Precision) -> hi_diff::Result<Vec<u8>> {
    let device = Default::default();
    let model = HiDiff::<Flex>::bundled(&device)?;
    let blurred = Photograph::open("tests/fixtures/photograph/blurred.png", &Limits::default())?;
    let deblurrer = Deblurrer::new(model, device).in_precision(precision)?;
    Ok(deblurrer.deblur(&blurred, 7)?.to_rgb8().into_raw())
}

#[test]
fn a_photograph_in_bf16_is_that_in_f32_but_for_a_level() {
    if let Err(error) = Precision::Bf16.check() {
        let message = error.to_string();
        assert!(
            message.contains("bf16") && message.contains("AMX"),
            "{message}"
        );
        assert!(restored(Precision::Bf16).is_err());
        return;
    }
    let [exact, found] =
        [Precision::F32, Precision::Bf16].map(|precision| restored(precision).unwrap());
    assert!(exact != found, "products were not in bf16");
    let mut differences: Vec<u8> = exact
        .iter()
        .zip(&found)
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let squares: f64 = differences.iter().map(|d| f64::from(*d).powi(2)).sum();
    let psnr = 10.0 * (255.0 * 255.0 * differences.len() as f64 / squares).log10();
    assert!(psnr > 55.0, "{psnr:.1} dB between bf16 and f32");
    differences.sort_unstable();
    let high = differences[differences.len() * 999 / 1000];
    assert!(high <= 1, "one in a thousand differs by {high} levels");
}

#[test]
fn the_precision_is_that_of_the_work_alone() {
    let before = restored(Precision::F32).unwrap();
    with_precision(Precision::Bf16, || {
        // The inner one counts.
        assert!(restored(Precision::F32).unwrap() == before);
    });
    assert!(restored(Precision::F32).unwrap() == before);
}
