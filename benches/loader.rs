//! How many training samples a second the loader makes: patches of 128 pixels from PNG photographs of 1280×720, and from
//! their crops of 512×512, kept in memory or decoded each time, by one worker and by two; and patches that are made of sharp
//! photographs of 2048×1365, by kinds of blur.
//!
//! `cargo bench --bench loader`, with `-- --sharp` for the last alone. A sample is a blurry and a sharp patch, with its
//! noise.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hi_diff::config::PatchConfig;
use hi_diff::data::crops::{CropOptions, crop_dataset};
use hi_diff::data::dataset::{DEFAULT_CACHE_BYTES, PairReader, SampleStream, StreamConfig};
use hi_diff::data::layout::{Layout, Part};
use hi_diff::data::pairs::{Pair, Source, find_images, find_pairs};
use hi_diff::data::synthesis::BlurModel;
use hi_diff::{Config, Result};
use image::RgbImage;
use image::imageops::{self, FilterType};

const PHOTOGRAPHS: u32 = 12;
const PATCH: usize = 128;
const BATCH: usize = 8;
/// The published model's: one draw of 16 tokens with 256 channels.
const NOISE: usize = 16 * 256;
/// Of each figure.
const TIME: Duration = Duration::from_secs(3);

/// Photographs to blur, and the patches made of them.
const SHARP: u32 = 4;
const SHARP_SIZE: [u32; 2] = [2048, 1365];
const SHARP_PATCHES: [usize; 2] = [96, 160];

/// All kinds of blur, as for photographs that strangers take.
const MIX: &str = "
[data.blur]
sharp = 0.08
shrink = { probability = 0.7 }
shake = { probability = 0.85, extent = [2, 20], rotation = [0, 0.6] }
object = { probability = 0.2 }
defocus = { probability = 0.2 }
highlights = { probability = 0.3 }
noise = { probability = 0.8 }
jpeg = { probability = 0.5 }
";

fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(hi_diff::Error::io("temporary folder"))?;
    if !std::env::args().any(|argument| argument == "--sharp") {
        pairs(folder.path())?;
    }
    sharp(&folder.path().join("sharp"))
}

/// Patches of pairs.
fn pairs(folder: &Path) -> Result<()> {
    let (photographs, crops) = (folder.join("photographs"), folder.join("crops"));
    write_photographs(&photographs);
    let options = CropOptions::default();
    crop_dataset(
        &photographs,
        None,
        Part::Train,
        &crops,
        &options,
        &|_, _| (),
    )?;

    println!(
        "{:44}{:>12}{:>12}",
        "samples a second", "1 worker", "2 workers"
    );
    for root in [&photographs, &crops] {
        let pairs = find_pairs(root, None, Part::Train)?.pairs;
        let (width, height) = (pairs[0].width, pairs[0].height);
        println!(
            "{} pairs of {width}×{height}, {:.2} MB a file",
            pairs.len(),
            megabytes(&pairs)
        );
        row("  in memory", |workers| {
            patches(
                PairReader::new(pairs.clone(), DEFAULT_CACHE_BYTES),
                PATCH,
                workers,
            )
        });
        row("  decoded as far as the patch needs", |workers| {
            patches(PairReader::new(pairs.clone(), 0), PATCH, workers)
        });
        row("  decoded whole, no patch made", |workers| {
            whole(&pairs, workers)
        });
    }
    Ok(())
}

/// Patches of sharp photographs, blurred by one worker.
fn sharp(folder: &Path) -> Result<()> {
    write_sharp(folder);
    let pairs = find_images(folder, Some(Layout::Sharp), Part::Train)?.pairs;
    let [width, height] = SHARP_SIZE;
    println!(
        "\n{:44}{:>24}{:>24}",
        format!("{SHARP} sharp photographs of {width}×{height}"),
        "patches of 96×96",
        "of 160×160"
    );
    let mut still = BlurModel::default();
    still.shake.probability = 0.0;
    let only = |change: fn(&mut BlurModel)| {
        let mut model = still.clone();
        change(&mut model);
        model
    };
    for (name, model) in [
        (
            "all kinds, by their probabilities",
            Config::parse(MIX, "mix")?.data.blur.clone(),
        ),
        ("no blur", still.clone()),
        ("shrunk", only(|model| model.shrink.probability = 1.0)),
        ("shake", only(|model| model.shake.probability = 1.0)),
        ("object", only(|model| model.object.probability = 1.0)),
        ("defocus", only(|model| model.defocus.probability = 1.0)),
        (
            "highlights",
            only(|model| model.highlights.probability = 1.0),
        ),
        ("noise", only(|model| model.noise.probability = 1.0)),
        ("JPEG", only(|model| model.jpeg.probability = 1.0)),
    ] {
        print!("  {name:42}");
        for patch in SHARP_PATCHES {
            let reader = PairReader::new(pairs.clone(), DEFAULT_CACHE_BYTES);
            let rate = patches(reader.blurring(model.clone()), patch, 1);
            print!("{rate:>9.0}/s {:>9.2} ms", 1e3 / rate);
        }
        println!();
    }
    Ok(())
}

fn row(name: &str, measure: impl Fn(usize) -> f64) {
    println!("{name:44}{:>12.0}{:>12.0}", measure(1), measure(2));
}

/// Samples a second of a stream of the reader's pairs.
fn patches(reader: PairReader, patch: usize, workers: usize) -> f64 {
    let config = StreamConfig {
        seed: 0,
        iterations: usize::MAX,
        patches: vec![PatchConfig {
            patch,
            batch: BATCH,
            iterations: usize::MAX,
        }],
        augment: true,
        noise_len: NOISE,
        timesteps: 8,
    };
    let pairs = reader.len();
    let sources = vec![Source { pairs, weight: 1.0 }];
    let stream = SampleStream::new(reader, sources, config).expect("there are pairs");
    let batch = |iteration| {
        let batch = stream.batch(iteration, 0..BATCH);
        std::hint::black_box(batch.expect("readable images")).batch
    };
    // The first epoch fills the memory.
    for iteration in 0..pairs.div_ceil(BATCH) {
        batch(iteration);
    }
    rate(workers, batch)
}

/// Pairs a second that are only decoded.
fn whole(pairs: &[Pair], workers: usize) -> f64 {
    let reader = PairReader::new(pairs.to_vec(), 0);
    rate(workers, |step| {
        let pair = reader.read(step % reader.len());
        std::hint::black_box(pair.expect("readable images"));
        1
    })
}

/// What `workers` threads do in a second, taking the steps in turn; `work` says how much a step was.
fn rate(workers: usize, work: impl Fn(usize) -> usize + Sync) -> f64 {
    let total = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in 0..workers {
            let (work, total) = (&work, &total);
            scope.spawn(move || {
                for step in (worker..).step_by(workers) {
                    if start.elapsed() >= TIME {
                        return;
                    }
                    total.fetch_add(work(step), Ordering::Relaxed);
                }
            });
        }
    });
    total.into_inner() as f64 / start.elapsed().as_secs_f64()
}

/// Enlarged details of the sample photograph, with a sensor's noise: files about as large as GoPro's.
fn write_photographs(root: &Path) {
    write_details(&root.join("input"), "blurred", PHOTOGRAPHS, [1280, 720]);
    write_details(&root.join("target"), "sharp", PHOTOGRAPHS, [1280, 720]);
}

fn write_sharp(root: &Path) {
    write_details(root, "sharp", SHARP, SHARP_SIZE);
}

fn write_details(folder: &Path, name: &str, count: u32, [width, height]: [u32; 2]) {
    let path = format!("{}/assets/sample-{name}.png", env!("CARGO_MANIFEST_DIR"));
    let sample = image::open(path)
        .expect("the sample photograph")
        .into_rgb8();
    std::fs::create_dir_all(folder).expect("a writable folder");
    for index in 0..count {
        let (right, bottom) = (sample.width() - count, sample.height() - count);
        let detail = imageops::crop_imm(&sample, index, index, right, bottom).to_image();
        let mut photograph = imageops::resize(&detail, width, height, FilterType::CatmullRom);
        add_noise(&mut photograph, u64::from(index) + 1);
        let path = folder.join(format!("{index:02}.png"));
        photograph.save(path).expect("a writable file");
    }
}

fn add_noise(image: &mut RgbImage, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for value in image.iter_mut() {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *value = value.saturating_add_signed((state % 5) as i8 - 2);
    }
}

fn megabytes(pairs: &[Pair]) -> f64 {
    let size = |pair: &Pair| std::fs::metadata(&pair.sharp).map_or(0, |found| found.len());
    let bytes: u64 = pairs.iter().map(size).sum();
    bytes as f64 / pairs.len() as f64 / 1e6
}
