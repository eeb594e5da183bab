//! The whole model against the published one: inference from blur and noise, and the stage-one pass.

mod common;

use burn::tensor::backend::Backend;
use common::{Fixture, assert_close, reduced_gopro, reduced_realblur};
use hi_diff::weights::Network;
use hi_diff::{Config, HiDiff};

on_each_backend!(gopro, realblur);

fn gopro<B: Backend>() {
    pipeline::<B>("gopro", reduced_gopro());
}

fn realblur<B: Backend>() {
    pipeline::<B>("realblur", reduced_realblur());
}

fn pipeline<B: Backend>(name: &str, config: Config) {
    let fixture = Fixture::open(&format!("pipelines/pipeline_{name}"));
    let mut model: HiDiff<B> = config.init_training(&Default::default());
    fixture.load("net_g.", Network::Transformer, &mut model.transformer);
    let condition_encoder = model.condition_encoder.as_mut().expect("a guided model");
    fixture.load("net_le_dm.", Network::ConditionEncoder, condition_encoder);
    let denoiser = model.denoiser.as_mut().expect("a guided model");
    fixture.load("net_d.", Network::Denoiser, denoiser);
    let latent_encoder = model.latent_encoder.as_mut().expect("a training model");
    fixture.load("net_le.", Network::LatentEncoder, latent_encoder);

    let blur = fixture.tensor::<B, 4>("blur");
    let noise = fixture.tensor::<B, 3>("noise");
    let padded = hi_diff::model::pad_reflect(blur.clone(), 8);
    assert_close("padded", padded, &fixture.data("padded"), 0.0);
    let prior = model
        .prior(blur.clone(), noise.clone())
        .expect("fitting shapes");
    let prior = prior.expect("a guided model");
    assert_close("prior", prior, &fixture.data("prior"), 1e-4);
    let deblurred = model.deblur(blur, noise).expect("fitting shapes");
    assert_close("deblurred", deblurred, &fixture.data("deblurred"), 1e-4);

    let output = model
        .stage_one(
            fixture.tensor("stage1_blur"),
            fixture.tensor("stage1_sharp"),
        )
        .expect("fitting shapes");
    let prior = output.prior.expect("a guided model");
    assert_close(
        "stage one's prior",
        prior,
        &fixture.data("stage1_prior"),
        1e-4,
    );
    let expected = fixture.data("stage1_deblurred");
    assert_close("stage one's output", output.deblurred, &expected, 1e-4);
}
