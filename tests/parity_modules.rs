//! Every module against the published network's outputs, with the published network's weights.

mod common;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use common::{Fixture, assert_close};
use hi_diff::model::{
    DenoiserConfig, DownsampleConfig, GdfnConfig, HimConfig, LatentEncoderConfig,
    LatentEncoderVariant, LayerNormConfig, MdtaConfig, ModelConfig, NormKind, Prior, Transformer,
    TransformerBlockConfig, TransformerConfig, UpsampleConfig,
};
use hi_diff::weights::Network;

const TOLERANCE: f32 = 1e-4;

on_each_backend!(
    layer_norm,
    attention,
    feed_forward,
    block,
    him,
    resampling,
    transformer,
    transformer_bias_free,
    latent_encoders,
    mixer_denoiser,
    mlp_denoiser,
);

fn layer_norm<B: Backend>() {
    for (name, kind) in [
        ("WithBias", NormKind::WithBias),
        ("BiasFree", NormKind::BiasFree),
    ] {
        let fixture = Fixture::open(&format!("modules/layer_norm_{name}"));
        let mut norm = LayerNormConfig::new(12)
            .with_kind(kind)
            .init::<B>(&Default::default());
        // By itself the layer has no name that "body" could follow.
        fixture.load_renamed("weights.", Network::Transformer, &mut norm, |key| {
            key.replace("body.", "")
        });
        let x: Tensor<B, 4> = fixture.tensor("x");
        let y = fixture.data("y");
        assert_close(name, norm.forward_image(x.clone()), &y, TOLERANCE);

        let tokens = x.flatten::<3>(2, 3).swap_dims(1, 2);
        let output = norm.forward_tokens(tokens).swap_dims(1, 2);
        let output = output.reshape([2, 12, 5, 7]);
        assert_close(&format!("{name} over tokens"), output, &y, TOLERANCE);
    }
}

/// The fixture's x, z3 and y; `group1` is the one with modulation.
fn guided<B: Backend>(name: &str) -> (Fixture, Tensor<B, 4>, Tensor<B, 2>) {
    let fixture = Fixture::open(&format!("modules/{name}"));
    let (x, z3) = (fixture.tensor("x"), fixture.tensor("prior"));
    (fixture, x, z3)
}

const GUIDED: [(&str, Option<usize>); 2] = [("group1", Some(32)), ("group4", None)];

fn attention<B: Backend>() {
    for (group, modulation) in GUIDED {
        let (fixture, x, z3) = guided::<B>(&format!("attention_{group}"));
        let config = MdtaConfig::new(16, 4).with_modulation(modulation);
        let mut module = config.init(&Default::default());
        fixture.load("weights.", Network::Transformer, &mut module);
        assert_close(
            group,
            module.forward(x, Some(&z3)),
            &fixture.data("y"),
            TOLERANCE,
        );
    }
}

fn feed_forward<B: Backend>() {
    for (group, modulation) in GUIDED {
        let (fixture, x, z3) = guided::<B>(&format!("feed_forward_{group}"));
        let config = GdfnConfig::new(16, 2.66).with_modulation(modulation);
        let mut module = config.init(&Default::default());
        fixture.load("weights.", Network::Transformer, &mut module);
        assert_close(
            group,
            module.forward(x, Some(&z3)),
            &fixture.data("y"),
            TOLERANCE,
        );
    }
}

fn block<B: Backend>() {
    for (group, modulation) in GUIDED {
        let (fixture, x, z3) = guided::<B>(&format!("block_{group}"));
        let config = TransformerBlockConfig::new(16, 4, 2.66).with_modulation(modulation);
        let mut module = config.init(&Default::default());
        fixture.load("weights.", Network::Transformer, &mut module);
        assert_close(
            group,
            module.forward(x, Some(&z3)),
            &fixture.data("y"),
            TOLERANCE,
        );
    }
}

fn him<B: Backend>() {
    let fixture = Fixture::open("modules/him");
    let mut module = HimConfig::new(16, 32, 4).init::<B>(&Default::default());
    fixture.load("weights.", Network::Transformer, &mut module);
    let output = module.forward(fixture.tensor("x"), fixture.tensor("prior"));
    assert_close("HIM", output, &fixture.data("y"), TOLERANCE);
}

fn resampling<B: Backend>() {
    let fixture = Fixture::open("modules/downsample");
    let mut down = DownsampleConfig::new(16).init::<B>(&Default::default());
    fixture.load("weights.", Network::Transformer, &mut down);
    assert_close(
        "down",
        down.forward(fixture.tensor("x")),
        &fixture.data("y"),
        TOLERANCE,
    );

    let fixture = Fixture::open("modules/upsample");
    let mut up = UpsampleConfig::new(16).init::<B>(&Default::default());
    fixture.load("weights.", Network::Transformer, &mut up);
    assert_close(
        "up",
        up.forward(fixture.tensor("x")),
        &fixture.data("y"),
        TOLERANCE,
    );
}

fn whole_transformer<B: Backend>(name: &str, transformer: TransformerConfig) {
    let fixture = Fixture::open(&format!("modules/{name}"));
    let model = ModelConfig {
        prior: Prior::MultiScale,
        embed_dim: 4,
        transformer,
        ..ModelConfig::default()
    };
    let mut transformer: Transformer<B> = model
        .transformer
        .init(model.guidance(), &Default::default());
    fixture.load("weights.", Network::Transformer, &mut transformer);
    let output = transformer.forward(fixture.tensor("x"), Some(fixture.tensor("prior")));
    assert_close(name, output, &fixture.data("y"), TOLERANCE);
}

fn transformer<B: Backend>() {
    let config = TransformerConfig {
        dim: 4,
        blocks: [1, 2, 1, 2],
        refinement_blocks: 1,
        ..TransformerConfig::default()
    };
    whole_transformer::<B>("transformer", config);
}

fn transformer_bias_free<B: Backend>() {
    let config = TransformerConfig {
        dim: 4,
        blocks: [1, 2, 1, 2],
        refinement_blocks: 1,
        expansion: 2.0,
        bias: true,
        norm: NormKind::BiasFree,
        ..TransformerConfig::default()
    };
    whole_transformer::<B>("transformer_bias_free", config);
}

fn latent_encoders<B: Backend>() {
    for (name, variant) in [
        ("gelu", LatentEncoderVariant::Gelu),
        ("lrelu", LatentEncoderVariant::Lrelu),
    ] {
        for (stage, in_channels, network) in [
            (1, 6, Network::LatentEncoder),
            (2, 3, Network::ConditionEncoder),
        ] {
            let fixture = Fixture::open(&format!("modules/latent_encoder_{name}_stage{stage}"));
            let config = LatentEncoderConfig {
                variant,
                blocks: 3,
                ..LatentEncoderConfig::default()
            };
            let mut encoder = config.init::<B>(in_channels, 8, 4, &Default::default());
            fixture.load("weights.", network, &mut encoder);
            let blur = fixture.tensor("blur");
            let image = match stage {
                1 => Tensor::cat(vec![fixture.tensor("sharp"), blur], 1),
                _ => blur,
            };
            let what = format!("{name}, stage {stage}");
            assert_close(&what, encoder.forward(image), &fixture.data("z"), TOLERANCE);
        }
    }
}

fn denoiser<B: Backend>(name: &str, time: f64, config: DenoiserConfig) {
    let fixture = Fixture::open(&format!("modules/{name}"));
    let mut denoiser = config.init::<B>(16, 32, &Default::default());
    fixture.load("weights.", Network::Denoiser, &mut denoiser);
    let output = denoiser.forward(fixture.tensor("x"), time, fixture.tensor("c"));
    assert_close(name, output, &fixture.data("y"), TOLERANCE);
}

fn mixer_denoiser<B: Backend>() {
    for time in [1, 8] {
        let config = DenoiserConfig::Mixer {
            hidden: 24,
            blocks: 2,
            patch_expansion: 0.5,
            channel_expansion: 2.0,
        };
        denoiser::<B>(&format!("denoiser_mixer_t{time}"), time as f64, config);
    }
}

fn mlp_denoiser<B: Backend>() {
    for time in [0, 15] {
        let config = DenoiserConfig::Mlp { layers: 4 };
        denoiser::<B>(&format!("denoiser_simple_t{time}"), time as f64, config);
    }
}

/// The comparison itself can fail: an untouched random module is nowhere near a fixture.
#[cfg(feature = "flex")]
#[test]
fn random_weights_do_not_pass() {
    use burn::backend::Flex;
    use burn::nn::conv::Conv2dConfig;

    let fixture = Fixture::open("modules/downsample");
    let conv = Conv2dConfig::new([16, 8], [3, 3]).init::<Flex>(&Default::default());
    let x: Tensor<Flex, 4> = fixture.tensor("x");
    let output = conv.forward(x.pad((1, 1, 1, 1), 0.0));
    let output = hi_diff::model::resample::pixel_unshuffle(output, 2);
    let difference = common::relative_difference(&output.into_data(), &fixture.data("y"));
    assert!(difference > 0.1, "off by {difference}");
}
