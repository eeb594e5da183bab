//! Time and peak memory of the small and the full-size model (presets `small` and `gopro`) on Flex for whole images up to
//! 12 megapixels, the exact result without tiling the image. Each size is a process of its own, so that its peak is its own.
//!
//! `cargo bench --bench memory`; presets and sizes such as `-- small 1280x720` instead of all.

mod machine;

use std::process::Command;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor};
use hi_diff::kernels::sgemm_rate;
use hi_diff::{Config, Noise};

const PRESETS: [&str; 2] = ["small", "gopro"];

const SIZES: [&str; 4] = ["256x256", "1280x720", "2560x1440", "4000x3000"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, preset, size] = arguments.as_slice()
        && flag == "--case"
    {
        return run(preset, size);
    }
    // What is named of some kind, or else all of it.
    let chosen = |all: &'static [&'static str], is_one: &dyn Fn(&str) -> bool| {
        let named = arguments.iter().map(String::as_str);
        let named: Vec<&str> = named.filter(|name| is_one(name)).collect();
        if named.is_empty() {
            all.to_vec()
        } else {
            named
        }
    };
    println!("{} threads", machine::threads());
    println!("| preset | size | megapixels | seconds | R | peak memory (GB) |");
    println!("|---|---|---|---|---|---|");
    for preset in chosen(&PRESETS, &|name| PRESETS.contains(&name)) {
        for size in chosen(&SIZES, &|name| name.contains('x')) {
            let program = std::env::current_exe().expect("this program");
            let status = Command::new(program)
                .args(["--case", preset, size])
                .status();
            assert!(status.is_ok_and(|status| status.success()), "{size} failed");
        }
    }
}

fn run(preset: &str, size: &str) {
    let (width, height) = size.split_once('x').expect("WIDTHxHEIGHT");
    let [width, height] = [width, height].map(|side| side.parse::<usize>().expect("a number"));
    let config = Config::preset(preset).expect("a preset");
    let device = Default::default();
    let model = config.init::<Flex>(&device);
    let sgemm = sgemm_rate();
    let shape = [1, 3, height, width];
    let blur = Tensor::<Flex, 4>::random(shape, Distribution::Uniform(0.0, 1.0), &device);
    let start = Instant::now();
    let sharp = model.deblur(blur, Noise::Seed(0)).expect("an image");
    std::hint::black_box(sharp.into_data());
    let seconds = start.elapsed().as_secs_f64();
    let sgemm = (sgemm + sgemm_rate()) / 2.0;
    let rate = 2.0 * model.summary(height, width).total.macs as f64 / seconds;
    println!(
        "| {preset} | {width}×{height} | {:.2} | {seconds:.2} | {:.1} % | {} |",
        (width * height) as f64 / 1e6,
        100.0 * rate / sgemm,
        machine::peak_text()
    );
}
