//! What a training starts from, and what of it stays: weights of another configuration, new guidance, frozen networks.
#![cfg(all(feature = "train", feature = "flex"))]

mod small;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::{Autodiff, Flex};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use hi_diff::config::Network;
use hi_diff::training::{Devices, Display, Stages, TrainingOptions, TrainingReport, loss, train};
use hi_diff::weights::{Fit, Precision, StateDict, Weights, save_safetensors};
use hi_diff::{Config, Error, HiDiff};
use small::{MODEL, pairs};
use tempfile::TempDir;

type B = Autodiff<Flex>;

const TRAINING: &str = r#"
[training]
seed = 3
ema = 0.9
[training.validation]
every = 2
images = 1
log_every = 2
keep = 3
[training.stage_one]
iterations = 4
learning_rate = { initial = 1e-3, periods = [4], restart_weights = [1.0], minima = [1e-3] }
patches = [{ patch = 16, batch = 2, iterations = 4 }]
[training.stage_two]
iterations = 4
learning_rate = { initial = 1e-3, periods = [4], restart_weights = [1.0], minima = [1e-3] }
patches = [{ patch = 16, batch = 2, iterations = 4 }]
"#;

/// The small configuration, with some of its text replaced.
fn config(replacements: &[(&str, &str)]) -> Config {
    Config::parse(&text(replacements), "test").unwrap()
}

fn text(replacements: &[(&str, &str)]) -> String {
    let text = format!("{MODEL}{TRAINING}");
    replacements.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

const UNGUIDED: (&str, &str) = ("[model]", "[model]\nprior = \"none\"");

/// One draws initial values at a time: a backend's seed is the process's, and a training's would not be its own.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn model(config: &Config) -> HiDiff<B> {
    let device = Default::default();
    let _alone = alone();
    config.init_training(&device).fork(&device)
}

/// A file of a model's weights as they are.
fn saved(folder: &TempDir, config: &Config, model: &HiDiff<B>, precision: Precision) -> PathBuf {
    let path = folder.path().join("weights.safetensors");
    save_safetensors(&path, config, &StateDict::of_model(model), precision, true).unwrap();
    path
}

/// Every parameter by network and name.
fn values(model: &HiDiff<B>) -> BTreeMap<String, Vec<f32>> {
    let states = StateDict::of_model(model);
    let named = states.iter().flat_map(|state| {
        let stem = state.network().stem();
        let tensors = state.tensors().iter();
        tensors.map(move |tensor| (format!("{stem}.{}", tensor.name), tensor.values.clone()))
    });
    named.collect()
}

fn of(fits: &[Fit], network: Network) -> &Fit {
    fits.iter().find(|fit| fit.network == network).unwrap()
}

/// A guided model that starts from an unguided one, as a training makes it, and the number of silent parts.
fn guided_from_unguided(guided: &Config, folder: &TempDir) -> (HiDiff<B>, HiDiff<B>, usize) {
    let config = config(&[UNGUIDED]);
    let unguided = model(&config);
    let path = saved(folder, &config, &unguided, Precision::Full);
    let mut model = model(guided);
    let fits = Weights::open(path)
        .unwrap()
        .apply_fitting(&mut model)
        .unwrap();
    let is_new = |name: &str| of(&fits, Network::Transformer).is_new(name);
    let (transformer, count) = model.transformer.guidance_without_effect(is_new);
    model.transformer = transformer;
    (model, unguided, count)
}

#[test]
fn new_guidance_begins_without_effect_and_can_learn() {
    for (guided, parts) in [
        (config(&[]), 9),
        (
            config(&[("[model]", "[model]\nprior = \"single-scale\"")]),
            8,
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let (guided, unguided, count) = guided_from_unguided(&guided, &folder);
        assert_eq!(count, parts);
        let device = Default::default();
        let image = |shift| {
            let values = (0..2 * 3 * 24 * 16).map(|i| ((i * 7 + shift) % 29) as f32 / 29.0);
            Tensor::<B, 4>::from_data(TensorData::new(values.collect(), [2, 3, 24, 16]), &device)
        };
        let (blur, sharp) = (image(0), image(3));
        let output = guided
            .stage_one(blur.clone(), sharp.clone())
            .unwrap()
            .deblurred;
        let expected = unguided.transformer.forward(blur, None);
        assert_eq!(output.to_data(), expected.into_data());

        let gradients = loss::l1(output, sharp).backward();
        let mut found = 0;
        let mut learns = |what: &str, tensor: Option<f32>| {
            assert!(tensor.unwrap_or(0.0) > 0.0, "{what} has no gradient");
            found += 1;
        };
        let transformer = &guided.transformer;
        for (level, him) in [
            ("encoder_level1", &transformer.encoder_level1.him),
            ("encoder_level2", &transformer.encoder_level2.him),
            ("encoder_level3", &transformer.encoder_level3.him),
            ("latent", &transformer.latent.him),
            ("decoder_level3", &transformer.decoder_level3.him),
            ("decoder_level2", &transformer.decoder_level2.him),
            ("decoder_level1", &transformer.decoder_level1.him),
            ("refinement", &transformer.refinement.him),
        ] {
            let Some(him) = him else { continue };
            assert!(
                him.proj
                    .weight
                    .val()
                    .into_data()
                    .iter::<f32>()
                    .all(|value| value == 0.0)
            );
            let gradient = him.proj.weight.val().grad(&gradients);
            learns(
                level,
                gradient.map(|gradient| gradient.abs().max().into_scalar()),
            );
        }
        let block = &transformer.latent.blocks[0];
        for (half, modulation) in [
            ("attn", &block.attn.modulation),
            ("ffn", &block.ffn.modulation),
        ] {
            let Some(modulation) = modulation else {
                continue;
            };
            for linear in [&modulation.scale, &modulation.shift] {
                let gradient = linear.weight.val().grad(&gradients);
                learns(
                    half,
                    gradient.map(|gradient| gradient.abs().max().into_scalar()),
                );
            }
        }
        assert!(found >= parts);
    }
}

#[test]
fn what_fits_is_taken_and_the_rest_stays() {
    let folder = TempDir::new().unwrap();
    let source = config(&[]);
    let from = model(&source);
    let path = saved(&folder, &source, &from, Precision::Full);
    let weights = Weights::open(&path).unwrap();
    let from = values(&from);
    // More blocks, another prior and T; other shapes of the encoder's mixer and of all that sees the prior.
    for (other, same, differ) in [
        (
            config(&[
                ("blocks = [1, 1, 1, 1]", "blocks = [1, 2, 1, 1]"),
                ("timesteps = 2", "timesteps = 5"),
            ]),
            "net_g.encoder_level2.blocks.0.attn.qkv.weight",
            "net_g.encoder_level2.blocks.1.attn.qkv.weight",
        ),
        (
            config(&[("embed_dim = 4", "embed_dim = 6")]),
            "net_g.encoder_level1.him.q.weight",
            "net_g.encoder_level1.him.kv.weight",
        ),
    ] {
        let mut to = model(&other);
        let before = values(&to);
        let fits = weights.apply_fitting(&mut to).unwrap();
        let after = values(&to);
        assert_eq!(after[same], from[same]);
        assert_eq!(after[differ], before[differ]);
        let fit = of(&fits, Network::Transformer);
        let name = |key: &str| key.trim_start_matches("net_g.").to_string();
        assert!(fit.taken.contains(&name(same)), "{fit}");
        assert!(fit.missing.contains(&name(differ)) || fit.reshaped.contains(&name(differ)));
        // Every parameter is either the file's or as it was.
        let mut taken = 0;
        for (key, value) in &after {
            let is_taken = fits.iter().any(|fit| {
                let own = key.strip_prefix(&format!("{}.", fit.network.stem()));
                own.is_some_and(|own| fit.taken.iter().any(|name| name == own))
            });
            let expected = if is_taken { &from[key] } else { &before[key] };
            assert_eq!(value, expected, "{key}");
            taken += usize::from(is_taken);
        }
        assert_eq!(taken, fits.iter().map(|fit| fit.taken.len()).sum::<usize>());
    }
    // Guided weights in a model that has none of it.
    let mut unguided = model(&config(&[UNGUIDED]));
    let fits = weights.apply_fitting(&mut unguided).unwrap();
    assert!(of(&fits, Network::Transformer).missing.is_empty());
    assert!(of(&fits, Network::Denoiser).taken.is_empty());
    assert!(
        of(&fits, Network::Denoiser)
            .to_string()
            .contains("not in the model")
    );
}

#[test]
fn half_precision_and_published_folders_are_taken_too() {
    let folder = TempDir::new().unwrap();
    let config = config(&[]);
    let from = model(&config);
    let path = saved(&folder, &config, &from, Precision::Half);
    let mut to = model(&config);
    Weights::open(&path)
        .unwrap()
        .apply_fitting(&mut to)
        .unwrap();
    let (from, to) = (values(&from), values(&to));
    for (key, value) in &to {
        for (found, expected) in value.iter().zip(&from[key]) {
            assert!(
                (found - expected).abs() <= expected.abs() * 1e-3 + 1e-7,
                "{key}"
            );
        }
    }

    let published =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipelines/checkpoint_gopro");
    let text = r#"
        [model]
        embed_dim = 4
        transformer = { dim = 4, blocks = [1, 3, 1, 1], refinement_blocks = 2 }
        latent_encoder = { variant = "gelu", blocks = 2 }
        denoiser = { variant = "mlp", layers = 2 }
    "#;
    let mut to = model(&Config::parse(text, "test").unwrap());
    let fits = Weights::open(published)
        .unwrap()
        .apply_fitting(&mut to)
        .unwrap();
    assert!(of(&fits, Network::LatentEncoder).missing.is_empty());
    assert!(of(&fits, Network::Denoiser).taken.is_empty());
    let of_transformer = of(&fits, Network::Transformer).to_string();
    let expected = "encoder_level2.blocks.2.*, decoder_level2.blocks.2.*, refinement.blocks.1.*";
    assert!(of_transformer.ends_with(expected), "{of_transformer}");
}

#[test]
fn what_cannot_be_a_start_is_refused_and_nothing_is_left_behind() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = config(&[]);
    let start = |path: &Path, stages: Stages, config: &Config| {
        let options = TrainingOptions {
            initial: Some(path.to_path_buf()),
            stages,
            ..options(&folder, "refused")
        };
        let error = run(config, &options).unwrap_err();
        assert!(!options.out.exists(), "{error}");
        let message = error.to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        message
    };

    let missing = folder.path().join("nowhere.safetensors");
    start(&missing, Stages::One, &config);

    let mut strange = model(&config);
    strange.latent_encoder = None;
    let path = saved(&folder, &config, &strange, Precision::Full);
    let message = start(&path, Stages::Two, &config);
    assert!(message.contains("latent encoder is missing"), "{message}");

    strange.transformer.output.weight = strange
        .transformer
        .output
        .weight
        .map(|weight| Tensor::full(weight.dims(), f32::NAN, &weight.device()));
    let path = saved(&folder, &config, &strange, Precision::Full);
    let message = start(&path, Stages::One, &config);
    assert!(
        message.contains("output.weight") && message.contains("NaN"),
        "{message}"
    );

    let states = [StateDict::of(
        Network::Denoiser,
        model(&config).denoiser.as_ref().unwrap(),
    )];
    save_safetensors(&path, &config, &states, Precision::Full, true).unwrap();
    let unguided = self::config(&[UNGUIDED]);
    let message = start(&path, Stages::One, &unguided);
    assert!(message.contains("nothing in it fits"), "{message}");

    // Guidance that is silent and may not learn.
    let path = saved(&folder, &unguided, &model(&unguided), Precision::Full);
    let frozen = self::config(&[("seed = 3", "seed = 3\nfreeze = [\"transformer\"]")]);
    let message = start(&path, Stages::One, &frozen);
    assert!(message.contains("training.freeze"), "{message}");
}

fn options(folder: &TempDir, out: &str) -> TrainingOptions {
    TrainingOptions {
        data: Some(folder.path().join("pairs")),
        display: Display::Lines,
        ..TrainingOptions::new(folder.path().join(out))
    }
}

fn run(config: &Config, options: &TrainingOptions) -> hi_diff::Result<TrainingReport> {
    let _alone = alone();
    train::<B>(config, options, &Devices::default())
}

/// The values of a weight file, as bytes by key.
fn stored(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter();
    tensors
        .map(|(key, view)| (key.to_string(), view.data().to_vec()))
        .collect()
}

fn of_network(
    tensors: &BTreeMap<String, Vec<u8>>,
    network: Network,
) -> BTreeMap<&String, &Vec<u8>> {
    let prefix = format!("{}.", network.stem());
    let own: BTreeMap<_, _> = tensors
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .collect();
    assert!(!own.is_empty(), "{network:?}");
    own
}

#[test]
fn a_guided_run_goes_on_from_an_unguided_one() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let unguided = run(&config(&[UNGUIDED]), &options(&folder, "unguided")).unwrap();
    let from = stored(&unguided.weights);

    // Without a step's effect it is what it started from; `training.init` says so as `--init` does.
    let still = format!("seed = 3\ninit = {:?}", unguided.weights);
    let still = config(&[
        ("seed = 3", &still),
        ("initial = 1e-3", "initial = 0.0"),
        ("ema = 0.9", "ema = 0.0"),
        ("minima = [1e-3]", "minima = [0.0]"),
    ]);
    let one = TrainingOptions {
        stages: Stages::One,
        ..options(&folder, "still")
    };
    let report = run(&still, &one).unwrap();
    let after = stored(&report.weights);
    assert!(from.iter().all(|(key, value)| after[key] == *value));
    let silent = |key: &String| key.contains(".him.proj.") || key.contains(".ln2.");
    assert!(
        after
            .iter()
            .filter(|(key, _)| silent(key))
            .all(|(_, bytes)| bytes.iter().all(|&byte| byte == 0))
    );
    let score = |report: &TrainingReport| report.stages[0].last.unwrap().psnr.unwrap();
    assert_eq!(score(&report), score(&unguided));

    // With it, guidance learns.
    let learning = TrainingOptions {
        initial: Some(unguided.weights.clone()),
        ..options(&folder, "learning")
    };
    let report = run(&config(&[]), &learning).unwrap();
    let after = stored(&learning.out.join("stage-one.safetensors"));
    let learnt = after
        .iter()
        .filter(|(key, bytes)| silent(key) && bytes.iter().any(|&byte| byte != 0));
    assert_eq!(
        learnt.count(),
        after.keys().filter(|key| silent(key)).count()
    );
    assert!(report.weights.is_file());
    let written = std::fs::read_to_string(learning.out.join("config.toml")).unwrap();
    assert!(written.contains("init = "), "{written}");

    // A run without a checkpoint begins from the same weights when it is resumed; one with a checkpoint needs none.
    let expected = stored(&report.weights);
    for folder in ["stage-one", "stage-two"] {
        std::fs::remove_dir_all(learning.out.join(folder)).unwrap();
    }
    std::fs::remove_file(learning.out.join("stage-one.safetensors")).unwrap();
    let resume = TrainingOptions {
        resume: true,
        initial: None,
        ..learning
    };
    let report = run(&config(&[]), &resume).unwrap();
    assert!(stored(&report.weights) == expected);
    std::fs::remove_file(&unguided.weights).unwrap();
    let newest =
        |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap().contains("-2.");
    for entry in std::fs::read_dir(resume.out.join("stage-one/checkpoint"))
        .unwrap()
        .flatten()
    {
        let path = entry.path();
        if newest(entry) {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_dir_all(resume.out.join("stage-two")).unwrap();
    std::fs::remove_file(resume.out.join("stage-one.safetensors")).unwrap();
    let report = run(&config(&[]), &resume).unwrap();
    assert!(stored(&report.weights) == expected);
}

#[test]
fn frozen_networks_keep_every_bit_and_the_others_learn() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let plain = config(&[]);
    let from = model(&plain);
    let path = saved(&folder, &plain, &from, Precision::Full);
    let before = stored(&path);
    for frozen in [
        &[Network::Transformer][..],
        &[Network::LatentEncoder, Network::Denoiser],
        &[Network::Transformer, Network::ConditionEncoder],
    ] {
        let names: Vec<_> = frozen.iter().map(|network| network.name()).collect();
        let freeze = format!("seed = 3\nfreeze = {names:?}");
        let config = config(&[("seed = 3", &freeze)]);
        let options = TrainingOptions {
            initial: Some(path.clone()),
            ..options(&folder, &names.join("-"))
        };
        let report = run(&config, &options).unwrap();
        let one = stored(&options.out.join("stage-one.safetensors"));
        let two = stored(&report.weights);
        for network in Network::ALL {
            let same = |after| of_network(&before, network) == of_network(after, network);
            let is_frozen = frozen.contains(&network);
            match network {
                Network::Transformer => {
                    assert_eq!((same(&one), same(&two)), (is_frozen, is_frozen))
                }
                Network::LatentEncoder => assert_eq!(same(&one), is_frozen),
                Network::ConditionEncoder | Network::Denoiser => assert_eq!(same(&two), is_frozen),
            }
        }

        // And the same from the first checkpoint of stage two on.
        for entry in std::fs::read_dir(options.out.join("stage-two/checkpoint"))
            .unwrap()
            .flatten()
        {
            if entry.file_name().into_string().unwrap().contains("-2.") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let resume = TrainingOptions {
            resume: true,
            initial: None,
            ..options
        };
        let resumed = run(&config, &resume).unwrap();
        assert!(stored(&resumed.weights) == two);
    }
}

#[test]
fn freezing_all_that_a_stage_trains_is_an_error_that_names_the_key() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let frozen = |names: &str, more: &[(&str, &str)]| {
        let freeze = format!("seed = 3\nfreeze = [{names}]");
        config(&[&[("seed = 3", freeze.as_str())], more].concat())
    };
    let split = ("ema = 0.9", "ema = 0.9\nobjective = \"split\"");
    for (config, stages) in [
        (
            frozen("\"transformer\", \"latent_encoder\"", &[]),
            Stages::Both,
        ),
        (frozen("\"transformer\"", &[UNGUIDED]), Stages::One),
        (
            frozen("\"transformer\", \"condition_encoder\", \"denoiser\"", &[]),
            Stages::Two,
        ),
        (
            frozen("\"condition_encoder\", \"denoiser\"", &[split]),
            Stages::Both,
        ),
    ] {
        let options = TrainingOptions {
            stages,
            ..options(&folder, "run")
        };
        let error = run(&config, &options).unwrap_err();
        assert!(
            matches!(&error, Error::Config { key, .. } if key == "training.freeze"),
            "{error}"
        );
        assert!(
            error.to_string().contains("nothing is left to learn"),
            "{error}"
        );
    }
    let text = text(&[("seed = 3", "seed = 3\nfreeze = [\"encoder\"]")]);
    let error = Config::parse(&text, "test").unwrap_err().to_string();
    for part in [
        "training.freeze",
        "encoder",
        "transformer",
        "latent_encoder",
        "condition_encoder",
        "denoiser",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn other_losses_are_logged_and_are_another_run() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let loss = "[training.validation]";
    let with = format!(
        "[training.loss]\npixel = \"charbonnier\"\nfrequency = 0.1\nlight = 0.3\nprior = 0.5\n{loss}"
    );
    let config = config(&[(loss, &with)]);
    let options = options(&folder, "run");
    let report = run(&config, &options).unwrap();
    let log = std::fs::read_to_string(options.out.join("log.jsonl")).unwrap();
    let records = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let trained: Vec<_> = records.filter(|record| record["kind"] == "train").collect();
    assert_eq!(trained.len(), 4);
    for record in trained {
        let (pixel, frequency) = (
            record["pixel_loss"].as_f64(),
            record["frequency_loss"].as_f64(),
        );
        // Of an unnormalised transform, so it is larger than the pixels' own.
        assert!(
            frequency.unwrap() > pixel.unwrap() && pixel.unwrap() > 1e-3,
            "{record}"
        );
        let light = record["light_loss"].as_f64().unwrap();
        assert!(light > 0.0 && light < 1.0, "{record}");
    }
    let plain = run(&self::config(&[]), &self::options(&folder, "plain")).unwrap();
    assert!(stored(&plain.weights) != stored(&report.weights));

    let resume = TrainingOptions {
        resume: true,
        ..options
    };
    for (from, to) in [
        ("pixel = \"charbonnier\"", "pixel = \"l1\""),
        ("prior = 0.5", "prior = 0.25"),
    ] {
        let changed = with.replace(from, to);
        let error = run(&self::config(&[(loss, &changed)]), &resume)
            .unwrap_err()
            .to_string();
        assert!(error.contains("training.loss."), "{error}");
    }
    for (key, bad) in [
        ("frequency", "-0.1"),
        ("prior", "nan"),
        ("frequency", "inf"),
        ("light", "-1.0"),
    ] {
        let text = text(&[(loss, &format!("[training.loss]\n{key} = {bad}\n{loss}"))]);
        let error = Config::parse(&text, "test").unwrap_err().to_string();
        assert!(error.contains(&format!("training.loss.{key}")), "{error}");
    }
}
