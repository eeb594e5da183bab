//! Pages as the program writes them, from fixtures and generated numbers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hi_diff::Config;
use hi_diff::ablation::{Finished, PairScore};
use hi_diff::ablation::{Report, Row};
use hi_diff::evaluation::results::{
    DatasetResult, Evaluation, Failure, ImageResult, ImageScores, Scores,
};
use hi_diff::evaluation::{Protocol, psnr, ssim_volumetric};
use hi_diff::report;
use hi_diff::report::Pictures;
use hi_diff::training::calls::Call;
use hi_diff::training::log::{
    JsonLines, Picture, Record, SetRecord, Sink, TrainRecord, ValidationRecord,
};
use image::imageops::{FilterType, blur, resize};
use image::{Rgb, RgbImage};

/// A file's name, from a stranger.
pub const HOSTILE: &str =
    "<script>window.harmed = 1</script>\"'><img src=x onerror='window.harmed=1'>.png";

fn file(path: &str) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    image::open(path).unwrap().into_rgb8()
}

fn between(a: &RgbImage, b: &RgbImage, share: f64) -> RgbImage {
    let mut mixed = a.clone();
    for (value, &other) in mixed.iter_mut().zip(b.as_raw()) {
        *value = (f64::from(*value) * (1.0 - share) + f64::from(other) * share).round() as u8;
    }
    mixed
}

/// Pairs of sharp photographs and what a model that is worth something might make of their blurred ones: among them one
/// that got worse, one that was restored exactly, and one larger than the page keeps.
fn examples() -> Vec<(String, Pictures)> {
    let mut examples = Vec::new();
    for index in 0..3 {
        let sharp = file(&format!("tests/fixtures/metrics/{index}_sharp.png"));
        let pictures = Pictures {
            blurred: blur(&sharp, 1.5 + index as f32),
            restored: file(&format!("tests/fixtures/metrics/{index}_restored.png")),
            sharp,
        };
        examples.push((format!("GOPR0410_11_00/{:06}.png", 47 + index), pictures));
    }
    let photograph = (
        file("tests/fixtures/photograph/sharp.png"),
        file("tests/fixtures/photograph/blurred.png"),
    );
    let shares = [0.62, 0.35, 0.71, -0.2, 0.5, 0.66, 0.58, 0.15, 0.44];
    for (index, share) in shares.into_iter().enumerate() {
        let width = 400 - 24 * index as u32;
        let part = |image: &RgbImage| {
            image::imageops::crop_imm(image, 10 * index as u32, 5 * index as u32, width, 240)
                .to_image()
        };
        let (sharp, blurred) = (part(&photograph.0), part(&photograph.1));
        let restored = match share < 0.0 {
            true => blur(&blurred, 1.0),
            false => between(&blurred, &sharp, share),
        };
        let pictures = Pictures {
            blurred,
            restored,
            sharp,
        };
        examples.push((
            format!("GOPR0854_11_00/{:06}.png", 1 + 50 * index),
            pictures,
        ));
    }
    let large = |image: &RgbImage| resize(image, 1600, 1280, FilterType::CatmullRom);
    let (sharp, blurred) = (large(&photograph.0), large(&photograph.1));
    let pictures = Pictures {
        restored: between(&blurred, &sharp, 0.8),
        blurred,
        sharp,
    };
    examples.push(("GOPR0862_11_00/000001.png".to_string(), pictures));
    examples
}

fn scores(image: &RgbImage, sharp: &RgbImage) -> Scores {
    Scores {
        psnr: psnr(image, sharp).unwrap(),
        ssim: ssim_volumetric(image, sharp).unwrap(),
    }
}

fn dataset(name: &str, examples: &[(String, Pictures)]) -> DatasetResult {
    let images = examples
        .iter()
        .enumerate()
        .map(|(index, (name, pictures))| ImageResult {
            restored: ImageScores {
                warnings: match index {
                    1 => vec!["the alignment did not converge".to_string()],
                    _ => Vec::new(),
                },
                ..ImageScores::new(name, scores(&pictures.restored, &pictures.sharp))
            },
            width: pictures.sharp.width() as usize,
            height: pictures.sharp.height() as usize,
            seconds: 0.2 + 0.013 * (index * 7 % 11) as f64,
            blurred: scores(&pictures.blurred, &pictures.sharp),
        });
    let images: Vec<ImageResult> = images.collect();
    let mean = |of: fn(&ImageResult) -> Scores| {
        let count = images.len() as f64;
        let mean = |value: fn(&Scores) -> f64| {
            images.iter().map(|image| value(&of(image))).sum::<f64>() / count
        };
        Some(Scores {
            psnr: mean(|scores| scores.psnr),
            ssim: mean(|scores| scores.ssim),
        })
    };
    DatasetResult {
        name: name.to_string(),
        folder: format!("/data/{name}"),
        protocol: Protocol::Gopro,
        blurred: mean(|image| image.blurred),
        restored: mean(|image| image.restored.scores),
        count: images.len(),
        failures: vec![Failure {
            name: "GOPR0871_11_00/000299.png".into(),
            reason: "the PNG ends too early <in line 3>".into(),
        }],
        images,
    }
}

/// A page of two datasets; in the second there are the hostile name and an image that was restored exactly.
pub fn evaluation(folder: &Path) -> PathBuf {
    let gopro = examples();
    let mut hide = gopro[3..7].to_vec();
    hide[0].0 = HOSTILE.to_string();
    let exact = &mut hide[2].1;
    exact.restored = exact.sharp.clone();
    let mut datasets = vec![dataset("GoPro", &gopro), dataset("HIDE", &hide)];
    datasets[1].failures.clear();
    for (dataset, count) in datasets.iter_mut().zip([0, 1]) {
        dataset
            .images
            .iter_mut()
            .take(count)
            .for_each(|image| image.restored.warnings.clear());
    }
    let evaluation = Evaluation {
        command: "hi-diff eval --weights gopro.safetensors --data /data/GoPro --data /data/HIDE --backend flex".into(),
        version: "0.1.0".into(),
        weights: "gopro.safetensors".into(),
        backend: "flex".into(),
        attention: "global".into(),
            seed: 0,
        config: Config::preset("gopro").unwrap(),
        datasets,
    };
    let path = folder.join("evaluation.html");
    let mut pictures = |dataset: &DatasetResult, image: &ImageResult| {
        let examples = if dataset.name == "GoPro" {
            &gopro
        } else {
            &hide
        };
        let found = examples
            .iter()
            .find(|(name, _)| *name == image.restored.name);
        Ok(found.map(|(_, pictures)| pictures.clone()))
    };
    let mut out = File::create(&path).unwrap();
    report::evaluation::write(&mut out, &evaluation, 6, &mut pictures).unwrap();
    path
}

/// Numbers that fall, or rise, as those of trainings do, with some noise.
fn noise(seed: usize) -> f64 {
    (seed.wrapping_mul(2_654_435_761) >> 7 & 1_023) as f64 / 1_023.0 - 0.5
}

fn log(folder: &Path, stage: u8, iterations: usize, done: usize, seed: usize) {
    let mut log = JsonLines::open(folder.join("log.jsonl"), stage, 0).unwrap();
    let every = (iterations / 300).max(1);
    for iteration in (every..=done).step_by(every) {
        let share = iteration as f64 / iterations as f64;
        let jitter = noise(seed + iteration / every);
        let falling = 0.02 + 0.11 * (-9.0 * share).exp();
        let record = TrainRecord {
            stage,
            iteration,
            iterations,
            pixel_loss: Some(falling * (1.0 + 0.2 * jitter)),
            frequency_loss: None,
            light_loss: None,
            diffusion_loss: (stage == 2).then_some(0.4 * falling * (1.0 + 0.5 * jitter)),
            gradient_norm: Some(0.05 + 2.0 * falling * (1.0 + jitter)),
            learning_rate: 1e-6 + 1e-4 * (1.0 + (share * std::f64::consts::PI).cos()),
            images_per_second: 41.0 + 3.0 * jitter,
            memory_bytes: Some((2_900 << 20) + (iteration as u64 * 300)),
            seconds_left: 100.0,
        };
        log.write(&Record::Train(record)).unwrap();
        if iteration % (every * 20) == 0 {
            let set = |name: &str| SetRecord {
                name: name.into(),
                psnr: 30.0 + jitter + name.len() as f64 * 0.1,
                ssim: 0.9 + 0.01 * jitter,
                gain: jitter,
                images: 25,
            };
            let record = ValidationRecord {
                stage,
                iteration,
                psnr: 31.4 - 5.0 * (-6.0 * share).exp() + 0.3 * jitter + seed as f64 * 0.03,
                ssim: 0.95 - 0.1 * (-6.0 * share).exp(),
                gain: Some(4.4 - 5.0 * (-6.0 * share).exp()),
                images: 50,
                sets: ["GOPRO_Large", HOSTILE].map(set).into(),
                pictures: Vec::new(),
            };
            log.write(&Record::Validation(record)).unwrap();
        }
    }
}

/// A run that was stopped in stage two and resumed.
pub fn training(folder: &Path) -> PathBuf {
    let run = folder.join("run");
    log(&run, 1, 60_000, 60_000, 3);
    log(&run, 2, 60_000, 41_000, 11);
    fs::write(
        run.join("config.toml"),
        include_str!("../../configs/tiny.toml"),
    )
    .unwrap();
    for command in [
        "hi-diff train --config tiny --data pairs/ --out run/",
        "hi-diff train --config tiny --data pairs/ --out run/ --resume",
    ] {
        Call::new(command, "flex").append(&run).unwrap();
    }
    let (name, pictures) = &examples()[3];
    for (stage, iteration) in [
        ("stage-one", 500),
        ("stage-one", 60_000),
        ("stage-two", 40_000),
    ] {
        for name in [name, HOSTILE] {
            let picture = Picture::of(name, &pictures.blurred, &pictures.restored, &pictures.sharp);
            let record = Record::Validation(ValidationRecord {
                stage: 1,
                iteration,
                psnr: 30.0,
                ssim: 0.9,
                gain: None,
                images: 1,
                sets: Vec::new(),
                pictures: vec![picture],
            });
            let folder = run.join(stage).join("pictures");
            hi_diff::training::log::Pictures::new(folder)
                .write(&record)
                .unwrap();
        }
    }
    report::training::write_beside(&run).unwrap()
}

/// A study of most rows, one of which is not done.
pub fn ablation(folder: &Path) -> PathBuf {
    let study = folder.join("study");
    let names: Vec<String> = (0..20).map(|index| format!("{index:03}.png")).collect();
    let scores = |psnr: f64| -> Vec<PairScore> {
        let scored = names.iter().enumerate().map(|(index, name)| PairScore {
            name: name.clone(),
            psnr: psnr + 4.0 * noise(index) + 0.4 * noise(index + psnr.to_bits() as usize % 991),
            ssim_volumetric: psnr / 34.0,
        });
        scored.collect()
    };
    let rows = [
        (Row::Baseline, 31.6),
        (Row::SingleGuide, 31.7),
        (Row::SplitTraining, 30.6),
        (Row::HiDiff, 32.0),
        (Row::Timesteps(1), 31.2),
        (Row::Timesteps(2), 31.7),
        (Row::Timesteps(4), 31.9),
        (Row::Timesteps(16), 32.01),
    ];
    let finished = rows.map(|(row, psnr)| {
        let finished = Finished {
            params: 23_985_583,
            macs: 125_490_000_000,
            scores: scores(psnr),
        };
        (row, finished)
    });
    let config = Config::preset("ablation/hi-diff").unwrap();
    let report = Report::new(
        &config,
        "100000",
        &scores(25.6),
        &finished,
        &[Row::Timesteps(32)],
    );
    log(&study.join("runs/stage-one"), 1, 100_000, 100_000, 2);
    for (index, (row, _)) in rows.iter().enumerate() {
        let run = study.join("runs").join(row.to_string());
        match row {
            Row::Baseline => log(&run, 1, 200_000, 200_000, index),
            _ => log(&run, 2, 100_000, 100_000, 5 * index),
        }
    }
    fs::write(
        study.join("ablation.json"),
        serde_json::to_vec(&report).unwrap(),
    )
    .unwrap();
    fs::write(
        study.join("plan.toml"),
        "budget = \"100000\"\nsteps = 100000\n",
    )
    .unwrap();
    let command =
        "hi-diff ablate --data pairs/ --validation held-out/ --out study/ --budget 100000";
    Call::new(command, "flex").append(&study).unwrap();
    report::ablation::write_beside(&study).unwrap()
}

/// The mean of a part of a picture between two shares of its width, borders left out.
pub fn brightness(picture: &RgbImage, from: f64, to: f64) -> f64 {
    let width = f64::from(picture.width());
    let columns = (width * from) as u32..(width * to) as u32;
    let rows = picture.height() / 4..picture.height() * 3 / 4;
    let values = rows
        .clone()
        .flat_map(|y| columns.clone().map(move |x| (x, y)));
    let mean =
        |Rgb(values): Rgb<u8>| values.iter().map(|&value| f64::from(value)).sum::<f64>() / 3.0;
    let total: f64 = values.map(|(x, y)| mean(*picture.get_pixel(x, y))).sum();
    total / (rows.len() * columns.len()) as f64
}
