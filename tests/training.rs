//! Training runs as a user starts them, on a model of a few thousand parameters.
#![cfg(all(feature = "train", feature = "flex"))]

mod small;

#[path = "common/wait.rs"]
mod wait;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use burn::backend::{Autodiff, Flex};
use hi_diff::Config;
use hi_diff::config::{OptimizerKind, StageResult, Tables, TrainingPrecision};
use hi_diff::data::stop::Stop;
use hi_diff::training::{Devices, Display, Stages, TrainingOptions, TrainingReport, train};
use small::{MODEL, pairs};
use tempfile::TempDir;

const TRAINING: &str = r#"
[data]
validation_share = 0.25
[training]
seed = 3
ema = 0.5
[training.validation]
every = 3
images = 2
log_every = 2
keep = 1
[training.stage_one]
iterations = 8
clip = 0.5
learning_rate = { initial = 1e-3, periods = [8], restart_weights = [1.0], minima = [1e-5] }
patches = [{ patch = 16, batch = 2, iterations = 5 }, { patch = 24, batch = 1, iterations = 3 }]
[training.stage_two]
iterations = 5
clip = 0.5
accumulation = 2
learning_rate = { initial = 1e-3, periods = [5], restart_weights = [1.0], minima = [1e-5] }
patches = [{ patch = 16, batch = 2, iterations = 5 }]
"#;

fn text() -> String {
    format!("{MODEL}{TRAINING}")
}

fn config() -> Config {
    Config::parse(&text(), "test").unwrap()
}

fn changed(config: &Config, change: impl FnOnce(&mut Tables)) -> Config {
    config.changed("test", change).unwrap()
}

fn options(folder: &TempDir, out: &str) -> TrainingOptions {
    TrainingOptions {
        data: Some(folder.path().join("pairs")),
        validation: None,
        out: folder.path().join(out),
        stages: Stages::Both,
        resume: false,
        initial: None,
        display: Display::Lines,
        command: None,
        after_validation: None,
        stop: Stop::new(),
    }
}

/// One training at a time: a backend's seed is the process's, and another training would draw from it too.
fn run(config: &Config, options: &TrainingOptions) -> hi_diff::Result<TrainingReport> {
    run_on(&Devices::default(), config, options)
}

fn run_on(
    devices: &Devices<Autodiff<Flex>>,
    config: &Config,
    options: &TrainingOptions,
) -> hi_diff::Result<TrainingReport> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    train(config, options, devices)
}

#[test]
fn both_stages_run_from_pairs_to_weights() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = config();
    let report = run(&config, &options(&folder, "run")).unwrap();
    let iterations: Vec<_> = report.stages.iter().map(|stage| stage.iterations).collect();
    assert_eq!(iterations, [8, 5]);
    for stage in &report.stages {
        let last = stage.last.unwrap();
        assert_eq!(last.iteration, stage.iterations);
        assert!(last.psnr.unwrap() > 5.0, "{last:?}");
        assert!(stage.best.unwrap().psnr >= last.psnr);
    }
    assert!(report.weights.is_file());
}

fn weights(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Undoes what a run did after the checkpoint before its last one.
fn forget_after(stage: &Path, epoch: usize) {
    for entry in std::fs::read_dir(stage.join("checkpoint"))
        .unwrap()
        .flatten()
    {
        let name = entry.file_name().into_string().unwrap();
        let written = name
            .split(['-', '.'])
            .find_map(|part| part.parse::<usize>().ok())
            .unwrap();
        if written > epoch {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// The records of a run's log, without what depends on the clock and the machine.
fn log(out: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let record = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["images_per_second", "memory_bytes", "seconds_left"] {
            record.as_object_mut().unwrap().remove(key);
        }
        record
    };
    text.lines().map(record).collect()
}

/// Asks a run to stop once its log has this many lines.
fn stop_at(options: &TrainingOptions, lines: usize) -> std::thread::JoinHandle<()> {
    let (path, stop) = (options.out.join("log.jsonl"), options.stop.clone());
    std::thread::spawn(move || {
        wait::until("the log", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().count() >= lines
        });
        stop.ask();
    })
}

#[test]
fn a_stopped_run_saves_where_it_is_and_goes_on_from_there() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = config();
    let whole = options(&folder, "whole");
    let expected = weights(&run(&config, &whole).unwrap().weights);
    // Wherever the request falls, in either stage, in steps or validations.
    for lines in [1, 2, 4, 7, 9] {
        let stopped = options(&folder, &format!("stopped-{lines}"));
        let asker = stop_at(&stopped, lines);
        let mut outcome = run(&config, &stopped);
        asker.join().unwrap();
        if let Err(error) = &outcome {
            let message = error.to_string();
            assert!(message.contains("interrupted"), "{message}");
            assert!(message.contains("is saved up to iteration"), "{message}");
            let resume = TrainingOptions {
                resume: true,
                stop: Stop::new(),
                ..stopped.clone()
            };
            outcome = run(&config, &resume);
        }
        assert_eq!(
            weights(&outcome.unwrap().weights),
            expected,
            "{lines} lines"
        );
        let validations = |out: &Path| -> Vec<_> {
            let kept = |record: &serde_json::Value| record["kind"] == "validation";
            log(out).into_iter().filter(kept).collect()
        };
        assert_eq!(validations(&stopped.out), validations(&whole.out));
    }
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = config();
    let mut options = options(&folder, "run");
    options.stages = Stages::One;
    let report = run(&config, &options).unwrap();
    let expected = weights(&report.weights);
    std::fs::remove_file(&report.weights).unwrap();
    let file = options.out.join("stage-one/checkpoint/optim-3.mpk");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    options.resume = true;
    let report = run(&config, &options).unwrap();
    assert!(weights(&report.weights) == expected);
    let iterations = log(&options.out);
    let iterations = iterations.iter().map(|record| record["iteration"].as_u64());
    let expected = [2, 3, 4, 6, 6, 8, 8].map(Some);
    assert!(iterations.eq(expected), "each once");
}

#[test]
fn a_checkpoint_that_cannot_be_written_stops_the_run_and_keeps_the_one_before() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = config();
    let mut options = options(&folder, "run");
    options.stages = Stages::One;
    // In the way of the second checkpoint: a folder where its file should be.
    let checkpoints = options.out.join("stage-one/checkpoint");
    std::fs::create_dir_all(checkpoints.join("model-2.mpk/in-the-way")).unwrap();
    let error = run(&config, &options).unwrap_err().to_string();
    assert!(error.contains("model-2.mpk"), "{error}");
    assert!(error.contains("is saved up to iteration 3"), "{error}");
    std::fs::remove_dir_all(checkpoints.join("model-2.mpk")).unwrap();
    options.resume = true;
    let resumed = run(&config, &options).unwrap();
    let mut whole = options.clone();
    whole.out = folder.path().join("whole");
    let whole = run(&config, &whole).unwrap();
    assert!(weights(&resumed.weights) == weights(&whole.weights));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = changed(&config(), |config| {
        config.training.stage_one.clip = 0.0;
        config.training.stage_one.learning_rate.initial = 1e30;
    });
    let error = run(&config, &options(&folder, "run"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not finite") && error.contains("--resume"),
        "{error}"
    );
}

#[test]
fn two_replicas_train_as_one_device() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = changed(&config(), |config| {
        config.training.stage_one.patches.truncate(1); // a batch of two
        config.training.stage_two.patches.truncate(1);
    });
    let one = run(&config, &options(&folder, "one")).unwrap();
    let two = options(&folder, "two");
    let devices = Devices::gather(vec![Default::default(); 2]);
    let two = run_on(&devices, &config, &two).unwrap();
    let values = |path: &Path| -> Vec<f32> {
        let bytes = weights(path);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = tensors.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let numbers = |bytes: &[u8]| {
            let numbers = bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            numbers.collect::<Vec<_>>()
        };
        tensors
            .iter()
            .flat_map(|(_, view)| numbers(view.data()))
            .collect()
    };
    let (one, two) = (values(&one.weights), values(&two.weights));
    assert_eq!(one.len(), two.len());
    // Where a gradient is almost nothing, Adam makes a whole step of its rounding errors.
    let differing = one
        .iter()
        .zip(&two)
        .filter(|(a, b)| (*a - *b).abs() > 1e-5)
        .count();
    assert!(
        differing * 100 < one.len(),
        "{differing} of {} weights differ",
        one.len()
    );
}

#[test]
fn half_precision_trains_and_resumes() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    for precision in [TrainingPrecision::Bf16, TrainingPrecision::F16] {
        let config = changed(&config(), |config| config.training.precision = precision);
        let whole = options(&folder, &format!("{precision:?}"));
        let report = run(&config, &whole).unwrap();
        for stage in &report.stages {
            assert!(stage.last.unwrap().psnr.unwrap() > 5.0, "{precision:?}");
        }
        let stopped = options(&folder, &format!("{precision:?}-stopped"));
        let asker = stop_at(&stopped, 2);
        let first = run(&config, &stopped);
        asker.join().unwrap();
        let resume = TrainingOptions {
            resume: true,
            stop: Stop::new(),
            ..stopped
        };
        let resumed = first.or_else(|_| run(&config, &resume)).unwrap();
        assert!(weights(&resumed.weights) == weights(&report.weights));
    }
}

#[test]
fn a_run_leaves_its_numbers_and_pictures() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = config();
    let options = options(&folder, "run");
    run(&config, &options).unwrap();
    let records = log(&options.out);
    let at = |kind: &str, stage: u64| -> Vec<u64> {
        let own = records
            .iter()
            .filter(|record| record["kind"] == kind && record["stage"] == stage);
        own.map(|record| record["iteration"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(at("train", 1), [2, 4, 6, 8]);
    assert_eq!(at("train", 2), [2, 4, 5]);
    assert_eq!(at("validation", 1), [3, 6, 8]);
    assert_eq!(at("validation", 2), [3, 5]);
    for record in &records {
        let (stage, train) = (record["stage"].as_u64().unwrap(), record["kind"] == "train");
        let keys = match (train, stage) {
            (true, 1) => &["pixel_loss", "gradient_norm", "learning_rate"][..],
            (true, _) => &["pixel_loss", "diffusion_loss", "gradient_norm"][..],
            (false, _) => &["psnr", "ssim", "images"][..],
        };
        for key in keys {
            assert!(record[key].is_number(), "{key} in {record}");
        }
    }
    for stage in ["stage-one", "stage-two"] {
        let events: Vec<_> = std::fs::read_dir(options.out.join("tensorboard").join(stage))
            .unwrap()
            .collect();
        assert_eq!(events.len(), 1, "{stage}");
        let pictures = std::fs::read_dir(options.out.join(stage).join("pictures")).unwrap();
        let names: Vec<_> = pictures
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        assert!(
            names.iter().any(|name| name.starts_with("000003-")),
            "{names:?}"
        );
    }
}

#[test]
fn a_resumed_run_ends_in_the_same_weights() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = changed(&config(), |config| config.training.validation.keep = 3);
    let options = options(&folder, "run");
    run(&config, &options).unwrap();
    let expected_one = weights(&options.out.join("stage-one.safetensors"));
    let expected_two = weights(&options.out.join("model.safetensors"));

    forget_after(&options.out.join("stage-two"), 1);
    std::fs::remove_file(options.out.join("model.safetensors")).unwrap();
    let resume = TrainingOptions {
        resume: true,
        ..options.clone()
    };
    let report = run(&config, &resume).unwrap();
    assert_eq!(report.stages.len(), 1, "stage one was done");
    assert!(weights(&report.weights) == expected_two, "stage two");

    forget_after(&options.out.join("stage-one"), 2);
    std::fs::remove_file(options.out.join("stage-one.safetensors")).unwrap();
    std::fs::remove_dir_all(options.out.join("stage-two")).unwrap();
    let report = run(&config, &resume).unwrap();
    let one = weights(&options.out.join("stage-one.safetensors"));
    assert!(one == expected_one, "stage one");
    assert!(
        weights(&report.weights) == expected_two,
        "stage two after stage one"
    );

    // More workers, and stage two in a call of its own.
    let config = changed(&config, |config| config.data.workers = 3);
    let first = TrainingOptions {
        stages: Stages::One,
        out: folder.path().join("apart"),
        ..options
    };
    run(&config, &first).unwrap();
    let apart = weights(&first.out.join("stage-one.safetensors"));
    assert!(apart == expected_one, "stage one with more workers");
    let second = TrainingOptions {
        stages: Stages::Two,
        ..first
    };
    let report = run(&config, &second).unwrap();
    assert!(weights(&report.weights) == expected_two, "the stages apart");
}

#[test]
fn a_run_on_photographs_resumes_bit_for_bit_and_knows_its_sources() {
    let folder = TempDir::new().unwrap();
    let [paired, sharp] = ["pairs", "sharp"].map(|name| folder.path().join(name));
    pairs(&paired);
    std::fs::create_dir(&sharp).unwrap();
    for index in 0..4 {
        let name = format!("{index}.png");
        std::fs::copy(paired.join("target").join(&name), sharp.join(&name)).unwrap();
    }
    let sources = format!(
        "[data]\nsources = [{{ path = {paired:?} }}, {{ path = {sharp:?}, layout = \"sharp\", weight = 2 }}]\n\
         blur = {{ frames = {{ probability = 0.5 }}, object = {{ probability = 0.5 }}, noise = {{ probability = 0.5 }}, jpeg = {{ probability = 0.5 }} }}"
    );
    let config = Config::parse(&text().replace("[data]", &sources), "test").unwrap();
    let config = changed(&config, |config| {
        config.training.stage_one.optimizer.kind = OptimizerKind::Muon;
    });
    let whole = TrainingOptions {
        data: None,
        stages: Stages::One,
        ..options(&folder, "whole")
    };
    let expected = weights(&run(&config, &whole).unwrap().weights);

    let stopped = TrainingOptions {
        out: folder.path().join("stopped"),
        stop: Stop::new(),
        ..whole.clone()
    };
    let asker = stop_at(&stopped, 2);
    let outcome = run(&config, &stopped);
    asker.join().unwrap();
    let resume = TrainingOptions {
        resume: true,
        stop: Stop::new(),
        ..stopped
    };
    let config = changed(&config, |config| config.data.workers = 3);
    let report = outcome.or_else(|_| run(&config, &resume)).unwrap();
    assert!(weights(&report.weights) == expected);

    let other = changed(&config, |config| config.data.sources[1].weight = 3.0);
    let error = run(&other, &resume).unwrap_err().to_string();
    assert!(error.contains("`data.sources[1].weight`"), "{error}");
    let other = changed(&config, |config| config.data.blur.sharp = 0.5);
    let error = run(&other, &resume).unwrap_err().to_string();
    assert!(error.contains("`data.blur.sharp`"), "{error}");
}

#[test]
fn a_checkpoint_of_another_version_is_refused_and_stays() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let options = TrainingOptions {
        stages: Stages::One,
        ..options(&folder, "run")
    };
    run(&config(), &options).unwrap();
    let checkpoints = options.out.join("stage-one/checkpoint");
    for entry in std::fs::read_dir(&checkpoints).unwrap().flatten() {
        if entry.path().extension().is_some_and(|end| end == "json") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(text.contains("\"format\": 1,"), "{text}");
            std::fs::write(entry.path(), text.replace("\"format\": 1,", "")).unwrap();
        }
    }
    let files = || {
        let entries = std::fs::read_dir(&checkpoints).unwrap().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name(), weights(&entry.path())))
            .collect();
        files.sort();
        files
    };
    let before = files();
    std::fs::remove_file(options.out.join("stage-one.safetensors")).unwrap();
    let resume = TrainingOptions {
        resume: true,
        ..options
    };
    let error = run(&config(), &resume).unwrap_err().to_string();
    assert!(
        error.contains("another version") && error.contains("--init"),
        "{error}"
    );
    assert!(files() == before);
}

#[test]
fn photographs_alone_are_enough_to_train_on() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let options = TrainingOptions {
        data: Some(folder.path().join("pairs/target")),
        stages: Stages::One,
        ..options(&folder, "run")
    };
    let report = run(&config(), &options).unwrap();
    // One of the four photographs is held out.
    let validation = report.stages[0].last.unwrap();
    assert!(validation.psnr.unwrap() > 5.0, "{validation:?}");
}

#[test]
fn a_run_is_not_overwritten_nor_resumed_as_another() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = changed(&config(), |config| config.training.stage_one.iterations = 1);
    let options = TrainingOptions {
        stages: Stages::One,
        ..options(&folder, "run")
    };
    let resume = TrainingOptions {
        resume: true,
        ..options.clone()
    };

    run(&config, &resume).expect("nothing to resume is a beginning");
    let error = run(&config, &options).unwrap_err().to_string();
    assert!(error.contains("a training run is here"), "{error}");
    let config = changed(&config, |config| config.model.transformer.dim = 16);
    let error = run(&config, &resume).unwrap_err().to_string();
    assert!(error.contains("`model.transformer.dim`"), "{error}");
    let config = changed(&config, |config| {
        config.model.transformer.dim = 8;
        config.training.stage_one.iterations = 3;
        config.training.stage_one.clip = 0.25;
    });
    std::fs::remove_file(options.out.join("stage-one.safetensors")).unwrap();
    let report = run(&config, &resume).expect("what may change");
    assert_eq!(report.stages[0].iterations, 3);
    std::fs::remove_file(folder.path().join("pairs/input/0.png")).unwrap();
    std::fs::remove_file(folder.path().join("pairs/target/0.png")).unwrap();
    std::fs::remove_file(options.out.join("stage-one.safetensors")).unwrap();
    let error = run(&config, &resume).unwrap_err().to_string();
    assert!(error.contains("pairs are not those"), "{error}");
}

#[test]
fn a_picture_that_cannot_be_decoded_does_not_end_a_training() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("pairs");
    pairs(&data);
    let spoil = |path: &str| {
        let path = data.join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        // In its pixels, behind the header, so that only decoding finds it.
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8].fill(0x5a);
        std::fs::write(&path, &bytes).unwrap();
    };
    spoil("input/0.png");
    spoil("target/2.png");
    let config = config();
    let one = run(&config, &options(&folder, "one")).unwrap();
    assert_eq!(
        one.stages[0].iterations,
        config.training.stage_one.iterations
    );
    // The same pairs are passed over each time.
    run(&config, &options(&folder, "two")).unwrap();
    let weights = |name: &str| std::fs::read(folder.path().join(name).join("model.safetensors"));
    assert!(weights("one").unwrap() == weights("two").unwrap());
    for index in 0..4 {
        std::fs::write(data.join(format!("input/{index}.png")), b"").unwrap();
    }
    let error = run(&config, &options(&folder, "none"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("0.png") && error.contains("empty"),
        "{error}"
    );
}

#[test]
fn split_training_leaves_the_transformer_untouched() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    for sampler in ["eps", "x0", "ancestral"] {
        let text = text()
            .replace(
                "timesteps = 2",
                &format!("timesteps = 2\nsampler = \"{sampler}\""),
            )
            .replace("seed = 3", "seed = 3\nobjective = \"split\"");
        let config = Config::parse(&text, "test").unwrap();
        let options = options(&folder, sampler);
        let report = run(&config, &options).unwrap();
        let read = |path: &Path, network: &str| {
            let bytes = weights(path);
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let own = tensors
                .iter()
                .filter(|(key, _)| key.starts_with(&format!("{network}.")));
            let mut own: Vec<_> = own
                .map(|(key, view)| (key.to_string(), view.data().to_vec()))
                .collect();
            own.sort();
            assert!(!own.is_empty(), "{network}");
            own
        };
        let before = options.out.join("stage-one.safetensors");
        assert_eq!(
            read(&report.weights, "net_g"),
            read(&before, "net_g"),
            "{sampler}"
        );
        assert_ne!(
            read(&report.weights, "net_d"),
            read(&before, "net_d"),
            "{sampler}"
        );
        assert_ne!(
            read(&report.weights, "net_le_dm"),
            read(&before, "net_le_dm"),
            "{sampler}"
        );
    }
}

#[test]
fn a_model_without_a_prior_has_one_stage() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let text = text().replace("[model]", "[model]\nprior = \"none\"");
    let config = Config::parse(&text, "test").unwrap();
    let report = run(&config, &options(&folder, "run")).unwrap();
    assert_eq!(report.stages.len(), 1);
    assert!(report.weights.ends_with("model.safetensors") && report.weights.is_file());
    let two = TrainingOptions {
        stages: Stages::Two,
        ..options(&folder, "two")
    };
    let error = run(&config, &two).unwrap_err().to_string();
    assert!(error.contains("no stage two"), "{error}");
}

/// Both stages get worse after iteration 3, since the learning rate is then far too high.
fn worse_from_iteration_3() -> Config {
    changed(&config(), |config| {
        let training = &mut config.training;
        training.ema = 0.1;
        for stage in [&mut training.stage_one, &mut training.stage_two] {
            stage.iterations = 8;
            stage.learning_rate.periods = vec![3, 5];
            stage.learning_rate.restart_weights = vec![1.0, 30.0];
            stage.learning_rate.minima = vec![1e-5, 1e-5];
        }
    })
}

#[test]
fn the_result_may_be_the_best_weights() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = changed(&worse_from_iteration_3(), |config| {
        config.training.result = StageResult::Best;
    });
    let best = options(&folder, "best");
    let report = run(&config, &best).unwrap();
    for stage in &report.stages {
        assert_eq!((stage.iterations, stage.result), (8, 3), "{stage:?}");
        assert_eq!(stage.best.unwrap().iteration, 3);
        assert!(!stage.ended_early);
    }

    // Runs that end there have the same.
    let short = changed(&worse_from_iteration_3(), |config| {
        config.training.stage_one.iterations = 3;
        config.training.stage_two.iterations = 3;
    });
    let expected = options(&folder, "short");
    let short = run(&short, &expected).unwrap();
    assert_eq!(short.stages[1].result, 3);
    for name in ["stage-one.safetensors", "model.safetensors"] {
        assert!(
            weights(&best.out.join(name)) == weights(&expected.out.join(name)),
            "{name}"
        );
    }

    // So does the run when it is resumed after its last step, and with other words it has others.
    let resume = TrainingOptions {
        resume: true,
        ..best.clone()
    };
    std::fs::remove_file(best.out.join("model.safetensors")).unwrap();
    let again = run(&config, &resume).unwrap();
    assert!(weights(&again.weights) == weights(&short.weights));
    let config = changed(&config, |config| config.training.result = StageResult::Last);
    let last = run(&config, &resume).unwrap();
    assert_eq!(last.stages[0].result, 8);
    assert!(weights(&last.weights) != weights(&short.weights));

    let config = changed(&config, |config| config.training.result = StageResult::Best);
    let model = best.out.join("stage-two/checkpoint/model-1.mpk");
    let bytes = weights(&model);
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let error = run(&config, &resume).unwrap_err().to_string();
    for part in [
        "best checkpoint",
        "model-1.mpk",
        "damaged",
        "training.result",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn early_stopping_ends_a_stage_as_if_it_were_done() {
    let folder = TempDir::new().unwrap();
    pairs(&folder.path().join("pairs"));
    let config = changed(&worse_from_iteration_3(), |config| {
        config.training.early_stopping = 1;
    });
    let early = options(&folder, "early");
    let report = run(&config, &early).unwrap();
    for stage in &report.stages {
        assert_eq!((stage.iterations, stage.result), (6, 6), "{stage:?}");
        assert!(stage.ended_early);
    }
    let six = changed(&worse_from_iteration_3(), |config| {
        config.training.stage_one.iterations = 6;
        config.training.stage_two.iterations = 6;
    });
    let six = run(&six, &options(&folder, "six")).unwrap();
    assert!(weights(&report.weights) == weights(&six.weights));

    let resume = TrainingOptions {
        resume: true,
        ..early.clone()
    };
    let before = log(&early.out);
    std::fs::remove_file(early.out.join("model.safetensors")).unwrap();
    let again = run(&config, &resume).unwrap();
    assert!(again.stages[0].ended_early);
    assert!(weights(&again.weights) == weights(&six.weights));
    assert_eq!(log(&early.out), before, "no step more");
    std::fs::remove_file(early.out.join("stage-one.safetensors")).unwrap();
    let again = run(&config, &resume).unwrap();
    assert_eq!(again.stages.len(), 2, "stage one's weights anew");
    assert!(weights(&again.weights) == weights(&six.weights));
    // With more patience the stage goes on.
    let config = changed(&config, |config| config.training.early_stopping = 9);
    let on = run(&config, &resume).unwrap();
    assert_eq!(
        (on.stages[0].iterations, on.stages[0].ended_early),
        (8, false)
    );
}

#[test]
fn each_validation_folder_has_scores_of_its_own() {
    let folder = TempDir::new().unwrap();
    for name in ["pairs", "street", "shake/street"] {
        pairs(&folder.path().join(name));
    }
    // The second set's blurred images are the sharp ones.
    let second = folder.path().join("shake/street");
    for index in 0..4 {
        let name = format!("{index}.png");
        let sharp = second.join("target").join(&name);
        std::fs::copy(sharp, second.join("input").join(&name)).unwrap();
    }
    let config = changed(&config(), |config| {
        config.training.validation.images = 3;
        config.training.validation.pictures = 1;
        config.data.validation = vec![folder.path().join("street"), second];
    });
    let options = options(&folder, "run");
    let report = run(&config, &options).unwrap();
    let records = log(&options.out);
    let validations: Vec<_> = records
        .iter()
        .filter(|record| record["kind"] == "validation")
        .collect();
    assert_eq!(validations.len(), 5);
    let mut blurred = Vec::new();
    for record in &validations {
        assert_eq!(record["images"], 6);
        let [first, second] = record["sets"].as_array().unwrap().as_slice() else {
            panic!("{record}");
        };
        assert_eq!(
            (&first["name"], &first["images"]),
            (&"street".into(), &3.into())
        );
        assert_eq!(second["name"], "street-2");
        for score in ["psnr", "ssim", "gain"] {
            let of = |record: &serde_json::Value| record[score].as_f64().unwrap();
            let mean = (of(first) + of(second)) / 2.0;
            assert!((of(record) - mean).abs() < 1e-9, "{score} in {record}");
        }
        let difference =
            |set: &serde_json::Value| set["psnr"].as_f64().unwrap() - set["gain"].as_f64().unwrap();
        assert!(
            (difference(second) - 100.0).abs() < 1e-9,
            "equal images have 100 dB"
        );
        blurred.push(difference(first));
    }
    // What the blurred images have by themselves, on the part that was scored.
    let image = |side: &str, index: usize| {
        let path = folder
            .path()
            .join("street")
            .join(side)
            .join(format!("{index}.png"));
        let image = image::open(path).unwrap().into_rgb8();
        image::imageops::crop_imm(&image, 2, 3, 32, 24).to_image()
    };
    let psnr = [0, 1, 2].map(|index| {
        hi_diff::evaluation::psnr(&image("input", index), &image("target", index)).unwrap()
    });
    let expected = psnr.iter().sum::<f64>() / 3.0;
    for found in blurred {
        assert!(
            (found - expected).abs() < 1e-9,
            "{found} instead of {expected}"
        );
    }
    let last = validations.last().unwrap()["psnr"].as_f64();
    assert_eq!(report.stages[1].last.unwrap().psnr, last);
    let pictures = std::fs::read_dir(options.out.join("stage-two/pictures")).unwrap();
    let names: Vec<_> = pictures
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    for name in ["000005-street-0.png", "000005-street-2-0.png"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
}
