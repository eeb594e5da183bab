//! Parameters and multiply-accumulates against the published table.
#![cfg(feature = "flex")]

use burn::backend::Flex;
use hi_diff::model::{Cost, Summary};
use hi_diff::{Config, HiDiff};

fn summary(preset: &str) -> Summary {
    let config = Config::preset(preset).expect("a preset");
    let model: HiDiff<Flex> = config.init_training(&Default::default());
    model.summary(256, 256)
}

fn network(summary: &Summary, name: &str) -> Cost {
    summary
        .networks
        .iter()
        .find(|network| network.name == name)
        .expect(name)
        .cost
}

/// Billions, as published with two digits.
fn giga(macs: u64) -> f64 {
    (macs as f64 / 1e7).round() / 100.0
}

#[test]
fn totals_are_the_published_ones() {
    for (preset, params, macs) in [
        ("gopro", 28_486_900, 142.62),
        ("hi-diff-2", 23_985_583, 125.49),
        ("ablation/baseline", 19_132_158, 117.25),
        ("ablation/single-guide", 21_978_340, 125.39),
        ("ablation/split-training", 23_985_583, 125.49),
    ] {
        let total = summary(preset).total;
        assert_eq!(total.params, params, "parameters of {preset}");
        assert_eq!(giga(total.macs), macs, "GMACs of {preset}: {}", total.macs);
    }
    for preset in ["realblur-j", "realblur-r"] {
        assert_eq!(
            summary(preset).total.params,
            24_182_959,
            "parameters of {preset}"
        );
    }
}

#[test]
fn networks_are_the_published_ones() {
    let gopro = summary("gopro");
    let transformer = Cost {
        params: 25_298_923,
        macs: 140_205_110_272,
    };
    assert_eq!(network(&gopro, "transformer"), transformer);
    let encoder = network(&gopro, "condition_encoder");
    assert_eq!(
        (encoder.params, (encoder.macs as f64 / 1e6).round()),
        (558_040, 2077.0)
    );
    let denoiser = network(&gopro, "denoiser");
    // By hand: 16 tokens through 768→512, 2 × (512 channels through 16→8→16, 16 tokens through 512→1024→512), 512→256.
    let pass = 16 * 768 * 512 + 2 * (512 * 2 * 16 * 8 + 16 * 2 * 512 * 1024) + 16 * 512 * 256;
    assert_eq!(
        denoiser,
        Cost {
            params: 2_629_937,
            macs: 8 * pass
        }
    );
    assert_eq!(network(&gopro, "latent_encoder").params, 585_688);

    let second = summary("hi-diff-2");
    let transformer = network(&second, "transformer");
    assert_eq!(
        (transformer.params, (transformer.macs as f64 / 1e6).round()),
        (22_281_943, 121_718.0)
    );
    let encoder = network(&second, "condition_encoder");
    assert_eq!(encoder.params, 1_506_264);
    // The published count takes the pooling, a million additions, as operations too.
    assert!(
        (encoder.macs as f64 / 3.748e9 - 1.0).abs() < 5e-4,
        "{}",
        encoder.macs
    );
}

#[test]
fn a_model_without_prior_is_the_transformer_alone() {
    let names: Vec<_> = summary("ablation/baseline")
        .networks
        .iter()
        .map(|n| n.name)
        .collect();
    assert_eq!(names, ["transformer"]);
}
