//! How many training samples a second the loader makes: patches of 128 pixels from PNG photographs of 1280×720, and from
//! their crops of 512×512, kept in memory or decoded each time, by one worker and by two.
//!
//! `cargo bench --bench loader`. A sample is a blurry and a sharp patch, with its noise.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hi_diff::Result;
use hi_diff::config::PatchConfig;
use hi_diff::data::crops::{CropOptions, crop_dataset};
use hi_diff::data::dataset::{DEFAULT_CACHE_BYTES, PairReader, SampleStream, StreamConfig};
use hi_diff::data::layout::Part;
use hi_diff::data::pairs::{Pair, find_pairs};
use image::RgbImage;
use image::imageops::{self, FilterType};

const PHOTOGRAPHS: u32 = 12;
const PATCH: usize = 128;
const BATCH: usize = 8;
/// The published model's: one draw of 16 tokens with 256 channels.
const NOISE: usize = 16 * 256;
/// Of each figure.
const TIME: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(hi_diff::Error::io("temporary folder"))?;
    let (photographs, crops) = (
        folder.path().join("photographs"),
        folder.path().join("crops"),
    );
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
            patches(&pairs, DEFAULT_CACHE_BYTES, workers)
        });
        row("  decoded as far as the patch needs", |workers| {
            patches(&pairs, 0, workers)
        });
        row("  decoded whole, no patch made", |workers| {
            whole(&pairs, workers)
        });
    }
    Ok(())
}

fn row(name: &str, measure: impl Fn(usize) -> f64) {
    println!("{name:44}{:>12.0}{:>12.0}", measure(1), measure(2));
}

/// Samples a second of a stream that keeps so many bytes of pixels.
fn patches(pairs: &[Pair], cache_bytes: usize, workers: usize) -> f64 {
    let config = StreamConfig {
        seed: 0,
        iterations: usize::MAX,
        patches: vec![PatchConfig {
            patch: PATCH,
            batch: BATCH,
            iterations: usize::MAX,
        }],
        augment: true,
        noise_len: NOISE,
        timesteps: 8,
    };
    let reader = PairReader::new(pairs.to_vec(), cache_bytes);
    let stream = SampleStream::new(reader, config).expect("there are pairs");
    let batch = |iteration| {
        let batch = stream.batch(iteration, 0..BATCH);
        std::hint::black_box(batch.expect("readable images")).batch
    };
    if cache_bytes > 0 {
        // The first epoch fills the memory.
        for iteration in 0..pairs.len().div_ceil(BATCH) {
            batch(iteration);
        }
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
    for side in ["input", "target"] {
        let name = if side == "input" { "blurred" } else { "sharp" };
        let path = format!("{}/assets/sample-{name}.png", env!("CARGO_MANIFEST_DIR"));
        let sample = image::open(path)
            .expect("the sample photograph")
            .into_rgb8();
        std::fs::create_dir_all(root.join(side)).expect("a writable folder");
        for index in 0..PHOTOGRAPHS {
            let (width, height) = (sample.width() - PHOTOGRAPHS, sample.height() - PHOTOGRAPHS);
            let detail = imageops::crop_imm(&sample, index, index, width, height).to_image();
            let mut photograph = imageops::resize(&detail, 1280, 720, FilterType::CatmullRom);
            add_noise(&mut photograph, u64::from(index) + 1);
            let path = root.join(side).join(format!("{index:02}.png"));
            photograph.save(path).expect("a writable file");
        }
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
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let bytes: u64 = pairs
        .iter()
        .map(|pair| size(&pair.blur) + size(&pair.sharp))
        .sum();
    bytes as f64 / (2 * pairs.len()) as f64 / 1e6
}
