//! Weight files: published folders, `.safetensors`, and what strangers send.
#![cfg(any(feature = "flex", feature = "ndarray"))]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use hi_diff::config::Tables;
use hi_diff::weights::{
    LoadOptions, Loader, Network, Precision, StateDict, Weights, save_pytorch, save_safetensors,
};
use hi_diff::{Config, Error, HiDiff};
use tempfile::TempDir;

#[cfg(feature = "flex")]
type B = burn::backend::Flex;
#[cfg(not(feature = "flex"))]
type B = burn::backend::NdArray;

const STRICT: LoadOptions = LoadOptions {
    allow_non_finite: false,
};

fn changed(config: &Config, change: impl FnOnce(&mut Tables)) -> Config {
    config.changed("test", change).unwrap()
}

/// The configuration of `pipelines/*_gopro`.
fn gopro() -> Config {
    let text = r#"
        [model]
        embed_dim = 4
        transformer = { dim = 4, blocks = [1, 2, 1, 1], refinement_blocks = 1 }
        latent_encoder = { variant = "gelu", blocks = 2 }
        denoiser = { variant = "mixer", hidden = 12 }
    "#;
    Config::parse(text, "gopro fixtures").unwrap()
}

/// The configuration of `pipelines/*_realblur`.
fn realblur() -> Config {
    let text = r#"
        [model]
        embed_dim = 4
        transformer = { dim = 4, blocks = [1, 2, 1, 1], refinement_blocks = 1, expansion = 2.0 }
        latent_encoder = { variant = "lrelu", blocks = 2 }
        denoiser = { variant = "mlp", layers = 2 }
        [diffusion]
        sampler = "x0"
        timesteps = 16
    "#;
    Config::parse(text, "realblur fixtures").unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn checkpoint(name: &str) -> PathBuf {
    fixtures()
        .join("pipelines")
        .join(format!("checkpoint_{name}"))
}

/// A copy of a checkpoint, to be spoilt.
fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for network in Network::ALL {
        let file = format!("{}.pth", network.stem());
        fs::copy(checkpoint(name).join(&file), folder.path().join(&file)).unwrap();
    }
    folder
}

fn model(config: &Config) -> HiDiff<B> {
    config.init_training(&Default::default())
}

fn load(path: impl AsRef<Path>, config: Option<&Config>) -> hi_diff::Result<HiDiff<B>> {
    let loaded = loader(config)
        .latent_encoder()
        .load(path, &Default::default());
    loaded.map(|(model, _)| model)
}

fn loader(config: Option<&Config>) -> Loader {
    config
        .cloned()
        .map_or_else(Loader::new, |config| Loader::new().config(config))
}

fn refusal(path: impl AsRef<Path>, config: Option<&Config>) -> String {
    load(path, config)
        .expect_err("these weights must be refused")
        .to_string()
}

/// The weights of a pipeline fixture, read with the safetensors crate alone: key to shape and values.
fn pipeline(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let path = fixtures()
        .join("pipelines")
        .join(format!("pipeline_{name}.safetensors"));
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let weights = file.iter().filter(|(key, _)| key.starts_with("net_"));
    weights
        .map(|(key, tensor)| {
            let (numbers, _) = tensor.data().as_chunks();
            let values = numbers
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            (key.to_string(), (tensor.shape().to_vec(), values))
        })
        .collect()
}

fn by_key(states: &[StateDict]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut found = BTreeMap::new();
    for state in states {
        for tensor in state.tensors() {
            let key = format!("{}.{}", state.network().stem(), tensor.name);
            found.insert(key, (tensor.shape.clone(), tensor.values.clone()));
        }
    }
    found
}

#[test]
fn published_folders_load_completely_and_exactly() {
    for (name, config) in [("gopro", gopro()), ("realblur", realblur())] {
        let model = load(checkpoint(name), Some(&config)).unwrap();
        let (found, expected) = (by_key(&StateDict::of_model(&model)), pipeline(name));
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        for (key, expected) in &expected {
            assert_eq!(&found[key], expected, "{name}: {key}");
        }
    }
}

#[test]
fn linear_weights_are_transposed_into_burns_layout() {
    let model = load(checkpoint("gopro"), Some(&gopro())).unwrap();
    let burn = model
        .transformer
        .multi_scale
        .as_ref()
        .unwrap()
        .tokens1
        .weight
        .val();
    assert_eq!(burn.dims(), [16, 4]);
    let burn: Vec<f32> = burn.into_data().into_vec().unwrap();
    let (_, published) = &pipeline("gopro")["net_g.down_1.1.weight"];
    for (row, column) in [(0, 1), (3, 2), (15, 3)] {
        assert_eq!(
            burn[row * 4 + column],
            published[column * 16 + row],
            "({row}, {column})"
        );
    }
}

#[test]
fn inference_does_not_need_the_latent_encoder() {
    let folder = copy("gopro");
    fs::remove_file(folder.path().join("net_le.pth")).unwrap();
    let load = |loader: Loader| loader.load::<B>(folder.path(), &Default::default());
    let (model, _) = load(loader(Some(&gopro()))).unwrap();
    assert!(model.latent_encoder.is_none());
    let error = load(loader(Some(&gopro())).latent_encoder());
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("the latent encoder is missing: expected net_le.pth"),
        "{error}"
    );
}

#[test]
fn older_wrapped_and_strided_checkpoints_hold_the_same_weights() {
    let expected = load(checkpoint("gopro"), Some(&gopro())).unwrap();
    let expected = StateDict::of(Network::Denoiser, expected.denoiser.as_ref().unwrap());
    for variant in ["legacy", "data_parallel", "views"] {
        let weights = Weights::open(fixtures().join("weights").join(variant)).unwrap();
        assert_eq!(weights.networks(), [Network::Denoiser]);
        let mut denoiser = model(&gopro()).denoiser.unwrap();
        weights
            .apply(Network::Denoiser, &mut denoiser, &STRICT)
            .unwrap();
        assert_eq!(
            StateDict::of(Network::Denoiser, &denoiser),
            expected,
            "{variant}"
        );
    }
}

#[test]
fn both_kinds_of_files_come_back_as_they_were_written() {
    for (name, config) in [("gopro", gopro()), ("realblur", realblur())] {
        let states = StateDict::of_model(&load(checkpoint(name), Some(&config)).unwrap());
        let folder = TempDir::new().unwrap();
        let single = folder.path().join("model.safetensors");
        let several = folder.path().join("model");
        save_safetensors(&single, &config, &states, Precision::Full, false).unwrap();
        save_pytorch(&several, &config, &states, Precision::Full, false).unwrap();

        assert_eq!(StateDict::of_model(&load(&single, None).unwrap()), states);
        assert_eq!(StateDict::of_model(&load(&several, None).unwrap()), states);
        for path in [&single, &several] {
            assert_eq!(Weights::open(path).unwrap().config(), Some(&config));
        }
        // No temporary file is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        let again = folder.path().join("again.safetensors");
        save_safetensors(&again, &config, &states, Precision::Full, false).unwrap();
        assert!(
            fs::read(&again).unwrap() == fs::read(&single).unwrap(),
            "differs between runs"
        );
    }
}

#[test]
fn half_precision_halves_the_file_and_rounds_to_eleven_bits() {
    let states = StateDict::of_model(&load(checkpoint("gopro"), Some(&gopro())).unwrap());
    let folder = TempDir::new().unwrap();
    let single = folder.path().join("half.safetensors");
    save_safetensors(&single, &gopro(), &states, Precision::Half, false).unwrap();
    let several = folder.path().join("half");
    save_pytorch(&several, &gopro(), &states, Precision::Half, false).unwrap();

    let single = StateDict::of_model(&load(&single, None).unwrap());
    assert_eq!(
        StateDict::of_model(&load(&several, Some(&gopro())).unwrap()),
        single
    );
    for (key, (_, values)) in by_key(&states) {
        for (half, full) in by_key(&single)[&key].1.iter().zip(values) {
            // Below 2⁻¹⁴ the spacing stays 2⁻²⁴.
            let bound = (full.abs() / 2048.0).max(2f32.powi(-25));
            assert!((half - full).abs() <= bound, "{key}: {full} became {half}");
        }
    }
}

#[test]
fn values_beyond_half_precision_are_not_written_as_infinite() {
    let mut denoiser = model(&gopro()).denoiser.unwrap();
    if let hi_diff::model::Denoiser::Mixer(mixer) = &mut denoiser {
        let value = burn::tensor::Tensor::from_floats([70_000.0], &Default::default());
        mixer.time_scale = burn::module::Param::from_tensor(value);
    }
    let states = [StateDict::of(Network::Denoiser, &denoiser)];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half.safetensors");
    let error = save_safetensors(&path, &gopro(), &states, Precision::Half, false).unwrap_err();
    assert!(
        error.to_string().contains("`net_d.time_mlp`: 70000"),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn existing_files_are_kept_without_force() {
    let states = StateDict::of_model(&load(checkpoint("gopro"), Some(&gopro())).unwrap());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "mine").unwrap();
    fs::write(folder.path().join("net_d.pth"), "mine").unwrap();
    for error in [
        save_safetensors(&path, &gopro(), &states, Precision::Full, false).unwrap_err(),
        save_pytorch(folder.path(), &gopro(), &states, Precision::Full, false).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "something was written"
    );
    save_safetensors(&path, &gopro(), &states, Precision::Full, true).unwrap();
    save_pytorch(folder.path(), &gopro(), &states, Precision::Full, true).unwrap();
    assert!(load(&path, None).is_ok() && load(folder.path(), Some(&gopro())).is_ok());
}

#[test]
fn everything_that_does_not_fit_is_listed_with_file_key_and_shapes() {
    let config = changed(&gopro(), |config| {
        config.model.transformer.dim = 8;
        config.model.latent_encoder.blocks = 3;
    });
    let Err(Error::Mismatch { path, problems }) = load(checkpoint("gopro"), Some(&config)) else {
        panic!("a mismatch was expected");
    };
    assert_eq!(path, checkpoint("gopro"));
    for line in [
        "net_g.pth: `patch_embed.proj.weight`: found shape [4, 3, 3, 3], expected [8, 3, 3, 3]",
        "net_g.pth: `encoder_level1.him.kv.weight`: found shape [8, 16], expected [16, 16]",
        "net_le.pth: `blocks.2.0.weight`: missing, expected shape [4, 4, 3, 3]",
        "net_le_dm.pth: `blocks.2.2.bias`: missing, expected shape [4]",
    ] {
        assert!(
            problems.iter().any(|problem| problem == line),
            "no line `{line}`: {problems:#?}"
        );
    }
    assert!(
        !problems.iter().any(|problem| problem.starts_with("net_d")),
        "{problems:#?}"
    );

    let config = changed(&gopro(), |config| config.model.latent_encoder.blocks = 1);
    let error = refusal(checkpoint("gopro"), Some(&config));
    let line = "net_le_dm.pth: `blocks.1.0.bias`: unexpected, of shape [4]";
    assert!(error.contains(line), "{error}");
}

#[test]
fn a_single_file_names_keys_by_their_prefix() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let states = StateDict::of_model(&load(checkpoint("gopro"), Some(&gopro())).unwrap());
    save_safetensors(&path, &realblur(), &states, Precision::Full, false).unwrap();
    let error = refusal(&path, None);
    let line = "`net_g.encoder_level1.blocks.0.ffn.project_in.weight`: found shape [20, 4, 1, 1], expected \
                [16, 4, 1, 1]";
    assert!(error.contains(line), "{error}");
    assert!(error.contains("model.safetensors: does not fit"), "{error}");
}

#[test]
fn a_mismatch_leaves_the_model_as_it_was() {
    let folder = copy("gopro");
    fs::copy(
        checkpoint("realblur").join("net_d.pth"),
        folder.path().join("net_d.pth"),
    )
    .unwrap();
    let mut model = model(&gopro());
    let before = StateDict::of_model(&model);
    let weights = Weights::open(folder.path()).unwrap();
    weights.apply_all(&mut model, &STRICT).unwrap_err();
    assert!(
        StateDict::of_model(&model) == before,
        "the fitting networks were loaded"
    );
}

#[test]
fn mixed_up_files_are_recognised() {
    for (wanted, given, line) in [
        (
            "net_g",
            "net_d",
            "net_g.pth: these are the keys of the denoiser, expected the transformer's",
        ),
        (
            "net_le_dm",
            "net_le",
            "net_le_dm.pth: these are the keys of the latent encoder, expected the condition encoder's",
        ),
        (
            "net_d",
            "net_g",
            "net_d.pth: these are the keys of the transformer, expected the denoiser's",
        ),
    ] {
        let folder = copy("gopro");
        let file = |stem: &str| format!("{stem}.pth");
        let source = checkpoint("gopro").join(file(given));
        fs::copy(source, folder.path().join(file(wanted))).unwrap();
        let error = refusal(folder.path(), Some(&gopro()));
        assert!(error.contains(line), "{error}");
    }
}

#[test]
fn values_that_are_not_finite_are_refused_unless_allowed() {
    let mut trained = load(checkpoint("gopro"), Some(&gopro())).unwrap();
    let poison = TensorData::new(vec![1.0, f32::NAN, f32::INFINITY, 2.0], [4]);
    let encoder = trained.condition_encoder.as_mut().unwrap();
    let values = burn::tensor::Tensor::from_data(poison, &Default::default());
    encoder.conv_in.bias = Some(burn::module::Param::from_tensor(values));
    let folder = TempDir::new().unwrap();
    save_pytorch(
        folder.path(),
        &gopro(),
        &StateDict::of_model(&trained),
        Precision::Full,
        false,
    )
    .unwrap();

    let error = refusal(folder.path(), Some(&gopro()));
    let line = "net_le_dm.pth: `conv1.0.bias`: 2 of 4 values are NaN or infinite";
    assert!(error.contains(line), "{error}");
    let mut model = model(&gopro());
    let lenient = LoadOptions {
        allow_non_finite: true,
    };
    Weights::open(folder.path())
        .unwrap()
        .apply_all(&mut model, &lenient)
        .unwrap();
}

#[test]
fn configurations_are_asked_for_and_compared() {
    let error = refusal(checkpoint("gopro"), None);
    assert!(error.contains("--config"), "{error}");

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let states = StateDict::of_model(&load(checkpoint("gopro"), Some(&gopro())).unwrap());
    save_safetensors(&path, &gopro(), &states, Precision::Full, false).unwrap();
    let other = changed(&gopro(), |config| config.training.seed = 7);
    assert!(
        load(&path, Some(&other)).is_ok(),
        "training is no part of the weights"
    );
    let other = changed(&gopro(), |config| config.diffusion.timesteps = 4);
    let error = refusal(&path, Some(&other));
    assert!(
        error.contains("diffusion.timesteps is 8 there, 4 here"),
        "{error}"
    );
}

#[test]
fn wrong_paths_are_explained() {
    let config = gopro();
    let empty = TempDir::new().unwrap();
    let error = refusal(empty.path(), Some(&config));
    assert!(
        error.contains("holds none of net_g.pth, net_le.pth, net_le_dm.pth, net_d.pth"),
        "{error}"
    );
    let error = refusal(checkpoint("gopro").join("net_g.pth"), Some(&config));
    assert!(
        error.contains("net_g.pth: a model is a folder of such files"),
        "{error}"
    );
    let absent = refusal(empty.path().join("absent.safetensors"), Some(&config));
    assert!(absent.contains("absent.safetensors"), "{absent}");
    let foreign = fixtures().join("pipelines/pipeline_gopro.safetensors");
    let error = refusal(foreign, Some(&config));
    assert!(
        error.contains("expected names that begin with one of net_g."),
        "{error}"
    );
}

#[test]
fn code_in_a_pickle_is_not_run() {
    let weights = Weights::open(fixtures().join("weights/payload")).unwrap();
    let mut denoiser = model(&gopro()).denoiser.unwrap();
    let error = weights
        .apply(Network::Denoiser, &mut denoiser, &STRICT)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("net_d.pth: asks for a call of `posix.system`"),
        "{text}"
    );
    assert!(
        !Path::new("payload-was-run").exists(),
        "the payload was run"
    );
}

/// What loading says of these bytes as `net_d.pth`.
fn denoiser_from(folder: &TempDir, bytes: &[u8]) -> hi_diff::Result<StateDict> {
    fs::write(folder.path().join("net_d.pth"), bytes).unwrap();
    let mut denoiser = model(&gopro()).denoiser.unwrap();
    Weights::open(folder.path())?.apply(Network::Denoiser, &mut denoiser, &STRICT)?;
    Ok(StateDict::of(Network::Denoiser, &denoiser))
}

#[test]
fn foreign_files_are_one_clear_error() {
    let folder = TempDir::new().unwrap();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0".to_vec();
    for bytes in [
        Vec::new(),
        png,
        vec![0; 5000],
        vec![0xff; 5000],
        b"PK\x03\x04".to_vec(),
    ] {
        let error = denoiser_from(&folder, &bytes).unwrap_err();
        assert!(
            matches!(&error, Error::Weights { path, .. } if path.ends_with("net_d.pth")),
            "{error}"
        );

        let single = folder.path().join("model.safetensors");
        fs::write(&single, &bytes).unwrap();
        let error = Weights::open(&single).unwrap_err();
        assert!(
            matches!(&error, Error::Weights { path, .. } if *path == single),
            "{error}"
        );
    }
}

#[test]
fn truncated_checkpoints_are_one_clear_error_wherever_they_end() {
    let folder = TempDir::new().unwrap();
    for source in ["pipelines/checkpoint_gopro", "weights/legacy"] {
        let bytes = fs::read(fixtures().join(source).join("net_d.pth")).unwrap();
        for length in (0..bytes.len()).step_by(97) {
            let error = denoiser_from(&folder, &bytes[..length]).unwrap_err();
            assert!(
                matches!(error, Error::Weights { .. }),
                "{source} cut at {length}: {error}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_in_a_zip_checkpoint_is_found() {
    let folder = TempDir::new().unwrap();
    let original = fs::read(checkpoint("gopro").join("net_d.pth")).unwrap();
    let expected = denoiser_from(&folder, &original).unwrap();
    let mut found = 0;
    for position in (0..original.len()).step_by(41) {
        let mut bytes = original.clone();
        bytes[position] ^= 1 << (position % 8);
        match denoiser_from(&folder, &bytes) {
            // Times, padding and the like do not matter.
            Ok(state) => assert!(
                state == expected,
                "other weights after a flip at {position}"
            ),
            Err(Error::Weights { .. } | Error::Mismatch { .. }) => found += 1,
            Err(error) => panic!("flip at {position}: {error}"),
        }
    }
    assert!(found > 200, "only {found} flips were found");
}

#[test]
fn flipped_bits_never_panic() {
    let folder = TempDir::new().unwrap();
    let legacy = fs::read(fixtures().join("weights/legacy/net_d.pth")).unwrap();
    let single = folder.path().join("model.safetensors");
    let states = StateDict::of_model(&load(checkpoint("realblur"), Some(&realblur())).unwrap());
    save_safetensors(&single, &realblur(), &states, Precision::Half, false).unwrap();
    let header = fs::read(&single).unwrap();
    // The pickle and the header come first; the numbers after them say nothing.
    for position in (0..6000).step_by(7) {
        let mut bytes = legacy.clone();
        bytes[position] ^= 1 << (position % 8);
        if let Err(error) = denoiser_from(&folder, &bytes) {
            assert!(
                matches!(error, Error::Weights { .. } | Error::Mismatch { .. }),
                "{error}"
            );
        }
        let mut bytes = header.clone();
        bytes[position] ^= 1 << (position % 8);
        fs::write(&single, &bytes).unwrap();
        if let Err(error) = load(&single, None) {
            let kind = matches!(error, Error::Weights { .. } | Error::Mismatch { .. });
            assert!(kind, "flip at {position}: {error}");
        }
    }
}

#[test]
fn sizes_in_a_header_are_not_believed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let tensor = |shape: &str, end: &str| {
        format!(r#"{{"net_g.x":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    for bytes in [
        u64::MAX.to_le_bytes().to_vec(),
        (1u64 << 40).to_le_bytes().to_vec(),
        file(&tensor("[1000000000000]", "4000000000000"), 16),
        file(&tensor("[4611686018427387903]", "18446744073709551612"), 16),
        file(
            &tensor("[18446744073709551615,18446744073709551615]", "16"),
            16,
        ),
        file(&tensor("[4]", "16"), 12),
        file(&tensor("[4]", "16"), 20),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = Weights::open(&path).unwrap_err();
        assert!(matches!(error, Error::Weights { .. }), "{error}");
    }
}
