//! Inference of the full-size model (preset `gopro`) on Flex.
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor};
use gemm::{Parallelism, gemm};
use hi_diff::{Config, Noise};

fn sgemm() -> f64 {
    const N: usize = 2048;
    let (a, b) = (vec![0.5f32; N * N], vec![0.25f32; N * N]);
    let mut c = vec![0.0f32; N * N];
    let mut best = f64::MAX;
    for _ in 0..6 {
        let start = Instant::now();
        unsafe {
            gemm(
                N,
                N,
                N,
                c.as_mut_ptr(),
                1,
                N as isize,
                false,
                a.as_ptr(),
                1,
                N as isize,
                b.as_ptr(),
                1,
                N as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::Rayon(2),
            );
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (N as f64).powi(3) / best
}

fn main() {
    let config = Config::preset("gopro").unwrap();
    let device = Default::default();
    let model = config.init::<Flex>(&device);
    let rate = sgemm();
    if let Ok(t) = std::env::var("THR") {
        gemm::set_lhs_packing_threshold_single_thread(t.parse().unwrap());
    }
    println!("sgemm {:.1}", rate / 1e9);
    let sizes: Vec<[usize; 2]> = match std::env::var("SIZES") {
        Ok(s) => s
            .split(',')
            .map(|p| {
                let (h, w) = p.split_once('x').unwrap();
                [h.parse().unwrap(), w.parse().unwrap()]
            })
            .collect(),
        _ => vec![[256, 256], [512, 512]],
    };
    for [h, w] in sizes {
        let blur =
            Tensor::<Flex, 4>::random([1, 3, h, w], Distribution::Uniform(0.0, 1.0), &device);
        let mut best = f64::MAX;
        for _ in 0..std::env::var("REPS").map_or(4, |r| r.parse().unwrap()) {
            let start = Instant::now();
            let out = model.deblur(blur.clone(), Noise::Seed(0)).unwrap();
            std::hint::black_box(out.into_data());
            best = best.min(start.elapsed().as_secs_f64());
        }
        let flop = 2.0 * 142.62e9 * (h * w) as f64 / 65536.0;
        println!(
            "{h}x{w}: {best:.3} s, {:.1} GFLOP/s, R = {:.1} % (sgemm again {:.1})",
            flop / best / 1e9,
            100.0 * flop / best / rate,
            sgemm() / 1e9
        );
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        println!(
            "{}",
            status.lines().find(|l| l.starts_with("VmHWM")).unwrap()
        );
    }
}
