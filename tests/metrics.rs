//! PSNR and both SSIMs against values computed by the public reference implementations.
#![cfg(feature = "image")]

use std::path::Path;

use hi_diff::evaluation::{psnr, ssim_per_channel, ssim_volumetric};
use image::RgbImage;
use serde_json::Value;

const PAIRS: [&str; 3] = ["0", "1", "2"];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/metrics")
        .join(name)
}

fn agrees(metric: fn(&RgbImage, &RgbImage) -> hi_diff::Result<f64>, key: &str, tolerance: f64) {
    let expected = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for pair in PAIRS {
        let open = |role| {
            image::open(fixture(&format!("{pair}_{role}.png")))
                .unwrap()
                .to_rgb8()
        };
        let found = metric(&open("restored"), &open("sharp")).unwrap();
        let expected = expected[pair][key].as_f64().unwrap();
        let error = (found - expected).abs();
        println!("{key}, pair {pair}: {found}, off by {error:.1e}");
        assert!(
            error < tolerance,
            "{key}, pair {pair}: found {found}, expected {expected}"
        );
    }
}

#[test]
fn psnr_agrees_within_a_hundredth_of_a_decibel() {
    agrees(psnr, "psnr", 0.01);
}

#[test]
fn per_channel_ssim_agrees_with_basicsr() {
    agrees(ssim_per_channel, "ssim_per_channel", 0.0005);
}

#[test]
fn volumetric_ssim_agrees_with_matlab() {
    agrees(ssim_volumetric, "ssim_volumetric", 0.0005);
}
