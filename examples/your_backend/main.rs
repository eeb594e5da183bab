//! HI-Diff on a backend that the crate does not name: one of your own.
//!
//! `cargo run --release --example your_backend`
//!
//! The model asks for [`hi_diff::backend::Backend`], whose methods all have bodies in plain Burn operations. So a type
//! that is a Burn backend joins with one empty `impl`, below; it may override a method where it has a faster kernel.

mod delegate;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use burn::backend::Flex;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use hi_diff::backend::Backend;
use hi_diff::{Config, HiDiff, Noise};

/// Any Burn backend, counting the operations asked of it.
#[derive(Debug, Default, Clone, Copy)]
struct Counting<B>(PhantomData<B>);

/// All that HI-Diff needs.
impl<B: burn::tensor::backend::Backend> Backend for Counting<B> {}

static COUNTS: Mutex<BTreeMap<&str, usize>> = Mutex::new(BTreeMap::new());

fn count(operation: &'static str) {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry(operation).or_default() += 1;
}

/// Deblurs a picture by a small model, the same on every backend: weights, picture and noise are seeded.
fn deblur<B: Backend>() -> hi_diff::Result<TensorData> {
    let device = B::Device::default();
    B::seed(&device, 1);
    let model: HiDiff<B> = Config::preset("tiny")?.init(&device);
    let parameters = model.num_params(); // Also draws the weights, which wait for their first use.
    println!("{}: {parameters} parameters", B::name(&device));
    COUNTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();

    let size = 64;
    let stripes = (0..3 * size * size)
        .map(|i| (i % size % 8) as f32 / 8.0)
        .collect();
    let blur = Tensor::from_data(TensorData::new(stripes, [1, 3, size, size]), &device);
    Ok(model.deblur(blur, Noise::Seed(2))?.into_data())
}

fn main() -> hi_diff::Result<()> {
    let expected = deblur::<Flex>()?;
    let found = deblur::<Counting<Flex>>()?;

    let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(found.shape, expected.shape);
    // Not exactly 0: on Flex itself the crate has its own kernel for the depthwise convolution.
    assert!(difference < 1e-4, "the backends differ by {difference:e}");
    println!("Counting<Flex> agrees with Flex within {difference:.1e}, by these operations:");

    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|&(_, times)| std::cmp::Reverse(times));
    for (operation, times) in counts {
        println!("{times:6} {operation}");
    }
    Ok(())
}
