//! PSNR and both SSIMs against values computed by the public reference implementations.
#![cfg(feature = "image")]

use std::path::Path;

use hi_diff::evaluation::{Protocol, psnr, ssim_per_channel, ssim_volumetric};
use image::RgbImage;
use serde_json::Value;

const PAIRS: [&str; 3] = ["0", "1", "2"];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/metrics")
        .join(name)
}

fn open(pair: &str, role: &str) -> RgbImage {
    let path = fixture(&format!("{pair}_{role}.png"));
    image::open(path).unwrap().to_rgb8()
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn agrees(metric: fn(&RgbImage, &RgbImage) -> hi_diff::Result<f64>, key: &str, tolerance: f64) {
    let expected = expected();
    for pair in PAIRS {
        let found = metric(&open(pair, "restored"), &open(pair, "sharp")).unwrap();
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

#[test]
fn realblur_agrees_with_the_release() {
    let expected = expected();
    for pair in PAIRS {
        let measurement = Protocol::Realblur
            .measure(&open(pair, "restored"), &open(pair, "sharp"))
            .unwrap();
        println!("pair {pair}: {measurement:?}");
        let expected = &expected[pair]["aligned"];
        let psnr = measurement.scores.psnr - expected["psnr"].as_f64().unwrap();
        let ssim = measurement.scores.ssim - expected["ssim"].as_f64().unwrap();
        println!("off by {psnr:.1e} dB and {ssim:.1e}");
        assert!(psnr.abs() < 0.05, "PSNR of pair {pair} is off by {psnr} dB");
        assert!(ssim.abs() < 0.001, "SSIM of pair {pair} is off by {ssim}");
    }
}
