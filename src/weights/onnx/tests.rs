//! What is in the files, without a runtime. `tests/onnx` runs them.

use std::collections::HashSet;
use std::path::Path;

use prost::Message;

use super::*;
use crate::HiDiff;

const REDUCED: &str = r#"
    [model]
    embed_dim = 4
    transformer = { dim = 4, blocks = [1, 2, 1, 1], refinement_blocks = 1 }
    latent_encoder = { blocks = 2 }
    denoiser = { variant = "mixer", hidden = 12 }
"#;

fn config(changes: &[&str]) -> Config {
    let changes: Vec<_> = changes.iter().map(|text| text.parse().unwrap()).collect();
    let config = Config::parse(REDUCED, "test").unwrap();
    config.with("test", &changes).unwrap()
}

fn states(config: &Config) -> Vec<StateDict> {
    let model: HiDiff<burn::backend::Flex> = config.init_training(&Default::default());
    StateDict::of_model(&model)
}

fn written(config: &Config, options: &OnnxOptions) -> Result<ModelProto> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    save_onnx(&path, config, &states(config), options, false)?;
    let bytes = std::fs::read(&path).unwrap();
    Ok(ModelProto::decode(&bytes[..]).unwrap())
}

fn kinds() -> Vec<Config> {
    vec![
        config(&[]),
        config(&[
            "model.latent_encoder.variant=lrelu",
            "model.denoiser={ variant = \"mlp\", layers = 2 }",
            "diffusion.sampler=x0",
        ]),
        config(&[
            "model.prior=single-scale",
            "model.transformer.norm=bias-free",
        ]),
        config(&["model.prior=none", "model.transformer.bias=true"]),
        config(&["diffusion.sampler=ancestral", "diffusion.timesteps=3"]),
    ]
}

fn every_option() -> Vec<OnnxOptions> {
    let full = OnnxOptions::default();
    let half = OnnxOptions {
        precision: Precision::Half,
        ..full.clone()
    };
    let local = OnnxOptions {
        size: Some([32, 48]),
        attention: Attention::Local(16),
        ..full.clone()
    };
    vec![full, half, local]
}

/// Name, element type and dimensions.
fn described(values: &[ValueInfoProto]) -> Vec<(String, i32, String)> {
    let of = |value: &ValueInfoProto| {
        let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
        let dims = tensor.shape.unwrap().dim;
        let dims = dims.into_iter().map(|dim| match dim.dim_param {
            Some(name) => name,
            None => dim.dim_value.unwrap().to_string(),
        });
        let dims = Vec::from_iter(dims).join(" ");
        (value.name.clone().unwrap(), tensor.elem_type.unwrap(), dims)
    };
    values.iter().map(of).collect()
}

fn meta(model: &ModelProto, key: &str) -> Option<String> {
    let mut entries = model.metadata_props.iter();
    let entry = entries.find(|entry| entry.key.as_deref() == Some(key))?;
    entry.value.clone()
}

#[test]
fn nodes_take_what_comes_before_them_and_nothing_is_left_over() {
    for (config, options) in kinds().iter().flat_map(|config| {
        let options = every_option().into_iter();
        options.map(move |options| (config, options))
    }) {
        let model = written(config, &options).unwrap();
        assert_eq!(model.ir_version, Some(8));
        assert_eq!(model.opset_import[0].version, Some(17));
        let graph = model.graph.unwrap();
        let mut known = HashSet::new();
        let names = graph.input.iter().map(|value| value.name.clone().unwrap());
        for name in names.chain(graph.initializer.iter().map(|t| t.name.clone().unwrap())) {
            assert!(known.insert(name.clone()), "{name} twice");
        }
        let mut unused = known.clone();
        let mut nodes = HashSet::new();
        for node in &graph.node {
            assert!(nodes.insert(node.name.clone().unwrap()), "{node:?} twice");
            for input in &node.input {
                assert!(known.contains(input), "{node:?} before {input}");
                unused.remove(input);
            }
            for output in &node.output {
                assert!(known.insert(output.clone()), "{output} twice");
                unused.insert(output.clone());
            }
        }
        assert_eq!(Vec::from_iter(unused), ["sharp"], "{options:?}");
    }
}

#[test]
fn every_parameter_is_in_the_file() {
    for config in kinds() {
        let graph = written(&config, &OnnxOptions::default())
            .unwrap()
            .graph
            .unwrap();
        let names: Vec<_> = graph
            .initializer
            .iter()
            .map(|t| t.name.clone().unwrap())
            .collect();
        for state in states(&config) {
            let stem = state.network().stem();
            for tensor in state.tensors() {
                let key = format!("{stem}.{}", tensor.name);
                // The time's part of the first layer is a constant of each step.
                let folded = [
                    "net_d.time_mlp",
                    "net_d.first_layer.0.bias",
                    "net_d.resmlp.0.bias",
                ];
                let expected = onnx_networks(&config).contains(&state.network())
                    && !folded.contains(&key.as_str());
                let found = names.iter().any(|name| {
                    name.strip_prefix(&key).is_some_and(|rest| {
                        ["", ".transposed", ".of_z", ".of_condition"].contains(&rest)
                    })
                });
                assert_eq!(found, expected, "{key}");
            }
        }
    }
}

#[test]
fn inputs_and_outputs_are_those_of_the_model() {
    let full = OnnxOptions::default();
    let row = |name: &str, dims: &str| (name.to_string(), proto::FLOAT, dims.to_string());
    let of = |config: &Config, options: &OnnxOptions| {
        let graph = written(config, options).unwrap().graph.unwrap();
        [described(&graph.input), described(&graph.output)]
    };
    let [gopro, realblur, single, none, ancestral] = kinds().try_into().unwrap();
    let sharp = vec![row("sharp", "N 3 H W")];
    let both = vec![row("blur", "N 3 H W"), row("noise", "N 16 16")];
    for config in [&gopro, &realblur, &single] {
        assert_eq!(of(config, &full), [both.clone(), sharp.clone()]);
    }
    assert_eq!(of(&none, &full), [both[..1].to_vec(), sharp.clone()]);
    let mut three = both.clone();
    three.push(row("step_noise", "N 2 16 16"));
    assert_eq!(of(&ancestral, &full), [three, sharp.clone()]);
    let half = OnnxOptions {
        precision: Precision::Half,
        ..full.clone()
    };
    assert_eq!(of(&gopro, &half), [both, sharp]);
    let fixed = OnnxOptions {
        size: Some([32, 48]),
        ..full
    };
    let expected = [
        vec![row("blur", "1 3 32 48"), row("noise", "1 16 16")],
        vec![row("sharp", "1 3 32 48")],
    ];
    assert_eq!(of(&gopro, &fixed), expected);
}

#[test]
fn metadata_says_what_the_weights_are() {
    let config = config(&["training.ema=0.9"]);
    let options = OnnxOptions {
        precision: Precision::Half,
        size: Some([32, 48]),
        attention: Attention::Local(16),
        licence: Some("Apache-2.0".into()),
        origin: Some("a test".into()),
    };
    let model = written(&config, &options).unwrap();
    let found: Config = serde_json::from_str(&meta(&model, "config").unwrap()).unwrap();
    assert_eq!(found, config.without_training());
    for (key, expected) in [
        ("format", "hi-diff"),
        ("precision", "f16"),
        ("attention", "local:16"),
        ("model_license", "Apache-2.0"),
        ("origin", "a test"),
    ] {
        assert_eq!(meta(&model, key).as_deref(), Some(expected), "{key}");
    }
    let plain = written(&config, &OnnxOptions::default()).unwrap();
    assert_eq!(meta(&plain, "model_license"), None);
    assert_eq!(meta(&plain, "precision").as_deref(), Some("f32"));
}

#[test]
fn half_precision_takes_half_the_room() {
    let config = config(&["model.transformer.dim=16", "model.embed_dim=16"]);
    let size = |precision| {
        let options = OnnxOptions {
            precision,
            ..OnnxOptions::default()
        };
        let graph = written(&config, &options).unwrap().graph.unwrap();
        let bytes = graph
            .initializer
            .iter()
            .map(|t| t.raw_data.as_ref().unwrap().len());
        bytes.sum::<usize>() as f64
    };
    let share = size(Precision::Half) / size(Precision::Full);
    assert!((0.5..0.55).contains(&share), "{share}");
}

#[test]
fn what_cannot_be_written_is_an_error_that_says_why() {
    let good = config(&[]);
    let error =
        |config: &Config, options: &OnnxOptions| written(config, options).unwrap_err().to_string();
    let size = |size| OnnxOptions {
        size: Some(size),
        ..OnnxOptions::default()
    };
    assert!(error(&good, &size([100, 64])).contains("multiples of 8"));
    assert!(error(&good, &size([0, 64])).contains("multiples of 8"));
    let local = |window, size| OnnxOptions {
        size,
        attention: Attention::Local(window),
        ..OnnxOptions::default()
    };
    assert!(error(&good, &local(384, None)).contains("--size"));
    assert!(error(&good, &local(20, Some([64, 64]))).contains("multiple of 8"));
    assert!(error(&good, &local(0, Some([64, 64]))).contains("multiple of 8"));
    let long = config(&["diffusion.timesteps=1001"]);
    assert!(error(&long, &OnnxOptions::default()).contains("diffusion.timesteps = 1001"));

    let path = Path::new("model.onnx");
    let some: Vec<_> = states(&good)
        .into_iter()
        .filter(|state| state.network() != Network::Denoiser)
        .collect();
    let missing = model(path, &good, &some, &OnnxOptions::default()).unwrap_err();
    assert!(missing.to_string().contains("no denoiser"), "{missing}");
    let other = states(&config(&["model.transformer.blocks=[1, 1, 1, 1]"]));
    let missing = model(path, &good, &other, &OnnxOptions::default()).unwrap_err();
    let key = "`net_g.encoder_level2.blocks.1.norm1.body.weight` is missing";
    assert!(missing.to_string().contains(key), "{missing}");
}
