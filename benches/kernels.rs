//! The operations on whole blocks on Flex, against the same out of plain Burn operations, at the sizes of the model released
//! for GoPro on a 256×256 image.
//!
//! `cargo bench --bench kernels`; the table of ratios follows Criterion's figures.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::module::Param;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Distribution, Tensor, activation};
use criterion::{Criterion, SamplingMode};
use hi_diff::model::{
    DownsampleConfig, Gdfn, GdfnConfig, HimConfig, LayerNorm, LayerNormConfig, Mdta, MdtaConfig,
};

/// Channels, heads and side: decoder level 1, encoder levels 2 and 3, the latent level.
const SIZES: [[usize; 3]; 4] = [[96, 1, 256], [96, 2, 128], [192, 4, 64], [384, 8, 32]];

type Image = Tensor<Flex, 4>;
type Run = Box<dyn Fn(Image) -> Image>;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Default::default())
}

/// Layer normalisation in Burn's operations.
fn normalize(norm: &LayerNorm<Flex>, x: Image) -> Image {
    let channels = x.dims()[1];
    let centered = x.clone() - x.mean_dim(1);
    let deviation = centered
        .clone()
        .square()
        .mean_dim(1)
        .add_scalar(1e-5)
        .sqrt();
    let per_channel =
        |parameter: &Param<Tensor<Flex, 1>>| parameter.val().reshape([1, channels, 1, 1]);
    let shift = norm.bias.as_ref().expect("with bias");
    centered / deviation * per_channel(&norm.weight) + per_channel(shift)
}

fn grouped(x: Image, weight: Image) -> Image {
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], x.dims()[1]);
    conv2d(x, weight, None, options)
}

fn plain_mdta(norm: &LayerNorm<Flex>, mdta: &Mdta<Flex>, x: Image) -> Image {
    let [batch, channels, height, width] = x.dims();
    let heads = mdta.temperature.dims()[0];
    let qkv = mdta.qkv.forward(normalize(norm, x.clone()));
    let qkv = grouped(qkv, mdta.qkv_dwconv.weight.val());
    let [q, k, v]: [Image; 3] = qkv
        .chunk(3, 1)
        .into_iter()
        .map(|part| part.reshape([batch, heads, channels / heads, height * width]))
        .collect::<Vec<_>>()
        .try_into()
        .expect("three");
    let unit = |x: Image| x.clone() / x.square().sum_dim(3).sqrt();
    let logits = unit(q).matmul(unit(k).transpose()) * mdta.temperature.val().unsqueeze();
    let output = activation::softmax(logits, 3).matmul(v);
    x + mdta
        .project_out
        .forward(output.reshape([batch, channels, height, width]))
}

fn plain_gdfn(norm: &LayerNorm<Flex>, gdfn: &Gdfn<Flex>, x: Image) -> Image {
    let hidden = gdfn.project_in.forward(normalize(norm, x.clone()));
    let [a, b]: [Image; 2] = grouped(hidden, gdfn.dwconv.weight.val())
        .chunk(2, 1)
        .try_into()
        .expect("two halves");
    x + gdfn.project_out.forward(activation::gelu(a) * b)
}

/// Each kernel's name, size, and both ways to run it.
fn cases() -> Vec<(String, [usize; 4], Run, Run)> {
    let device = Default::default();
    let mut cases: Vec<(String, [usize; 4], Run, Run)> = Vec::new();
    for [channels, heads, side] in SIZES {
        let shape = [1, channels, side, side];
        let norm = || LayerNormConfig::new(channels).init::<Flex>(&device);
        let (a, b) = (norm(), norm());
        let module = MdtaConfig::new(channels, heads).init::<Flex>(&device);
        let twin = module.clone();
        cases.push((
            "mdta".into(),
            shape,
            Box::new(move |x| module.forward_residual(x, &a, None)),
            Box::new(move |x| plain_mdta(&b, &twin, x)),
        ));
        let (a, b) = (norm(), norm());
        let module = GdfnConfig::new(channels, 2.66).init::<Flex>(&device);
        let twin = module.clone();
        cases.push((
            "gdfn".into(),
            shape,
            Box::new(move |x| module.forward_residual(x, &a, None)),
            Box::new(move |x| plain_gdfn(&b, &twin, x)),
        ));
        let conv = DownsampleConfig::new(channels).init::<Flex>(&device);
        let twin = Conv2dConfig::new([channels, channels / 2], [3, 3])
            .with_padding(burn::nn::PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_bias(false)
            .init::<Flex>(&device);
        cases.push((
            "downsample".into(),
            shape,
            Box::new(move |x| conv.forward(x)),
            Box::new(move |x| hi_diff::model::resample::pixel_unshuffle(twin.forward(x), 2)),
        ));
    }
    for [channels, heads, side, tokens] in [[96, 1, 256, 16], [96, 2, 128, 4], [192, 4, 64, 4]] {
        let him = HimConfig::new(channels, 256, heads).init::<Flex>(&device);
        let twin = him.clone();
        let prior = random([1, tokens, 256]);
        let z = prior.clone();
        cases.push((
            "him".into(),
            [1, channels, side, side],
            Box::new(move |x| him.forward(x, prior.clone())),
            Box::new(move |x| plain_him(&twin, x, z.clone())),
        ));
    }
    cases
}

fn plain_him(him: &hi_diff::model::Him<Flex>, x: Image, prior: Tensor<Flex, 3>) -> Image {
    let [batch, channels, height, width] = x.dims();
    let heads = him.heads;
    let split = |tokens: Tensor<Flex, 3>| {
        let [batch, count, _] = tokens.dims();
        tokens
            .reshape([batch, count, heads, channels / heads])
            .swap_dims(1, 2)
    };
    let pixels = normalize(&him.norm1, x.clone())
        .flatten::<3>(2, 3)
        .swap_dims(1, 2);
    let q = split(him.q.forward(pixels));
    let [k, v]: [Tensor<Flex, 3>; 2] = him
        .kv
        .forward(him.norm2.forward_tokens(prior))
        .chunk(2, 2)
        .try_into()
        .expect("two halves");
    let scale = ((channels / heads) as f64).sqrt().recip();
    let attention = activation::softmax(q.mul_scalar(scale).matmul(split(k).transpose()), 3);
    let output = attention.matmul(split(v)).swap_dims(1, 2);
    let output = him
        .proj
        .forward(output.reshape([batch, height * width, channels]));
    x + output
        .swap_dims(1, 2)
        .reshape([batch, channels, height, width])
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Vec::new();
    for (name, shape, ours, plain) in cases() {
        let [_, channels, side, _] = shape;
        let mut group = criterion.benchmark_group(format!("{name}/{channels}x{side}x{side}"));
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        let x = random(shape);
        let mut shortest = [Duration::MAX; 2];
        for (run, (way, shortest)) in [("ours", &ours), ("plain", &plain)]
            .into_iter()
            .zip(&mut shortest)
            .map(|((way, run), shortest)| (run, (way, shortest)))
        {
            let least = RefCell::new(Duration::MAX);
            group.bench_function(way, |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    for _ in 0..iterations {
                        let x = x.clone().add_scalar(0.0); // Its own memory, as between blocks.
                        let start = Instant::now();
                        std::hint::black_box(run(x));
                        let time = start.elapsed();
                        least.replace_with(|least| (*least).min(time));
                        total += time;
                    }
                    total
                });
            });
            *shortest = least.into_inner();
        }
        group.finish();
        table.push((name, channels, side, shortest));
    }
    criterion.final_summary();

    println!("| kernel | size | ours (ms) | plain Burn (ms) | ratio |");
    println!("|---|---|---|---|---|");
    for (name, channels, side, [ours, plain]) in table {
        if ours == Duration::MAX || plain == Duration::MAX {
            continue; // Filtered out on the command line.
        }
        println!(
            "| {name} | {channels}×{side}×{side} | {:.2} | {:.1} | {:.1} |",
            ours.as_secs_f64() * 1e3,
            plain.as_secs_f64() * 1e3,
            plain.as_secs_f64() / ours.as_secs_f64()
        );
    }
}
