//! The operations on whole blocks against the same out of smaller ones, in values and gradients, over shapes on all sides
//! of tiles, steps and vectors; and that no result depends on the number of threads.

mod common;

use burn::backend::Autodiff;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensorOps;
use burn::tensor::{Tensor, TensorData, TensorMetadata, TensorPrimitive};
use common::assert_close;
use hi_diff::backend::{Backend, BranchWeights, HimWeights, LayerWeights, NormWeights, plain};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

on_each_backend!(
    mdta_equals_its_parts,
    gdfn_equals_its_parts,
    him_equals_its_parts,
    convolutions_with_shuffling_equal_their_parts,
);

type Float<B> = <B as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;

/// What a block is tried with.
#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    batch: usize,
    heads: usize,
    per_head: usize,
    height: usize,
    width: usize,
    /// Of the layers.
    bias: bool,
    centered: bool,
    modulated: bool,
}

prop_compose! {
    fn case()(
        seed in any::<u64>(),
        batch in 1usize..3,
        heads in 1usize..4,
        per_head in 1usize..7,
        height in 1usize..40,
        width in 1usize..70,
        bias in any::<bool>(),
        centered in any::<bool>(),
        modulated in any::<bool>(),
    ) -> Case {
        Case { seed, batch, heads, per_head, height, width, bias, centered, modulated }
    }
}

/// Images of several tiles, in height and in width, whole and not.
const LARGE: [[usize; 2]; 4] = [[5, 601], [131, 301], [64, 512], [97, 257]];

fn each_case(cases: u32, test: impl Fn(Case)) {
    for (seed, [height, width]) in LARGE.into_iter().enumerate() {
        test(Case {
            seed: seed as u64,
            batch: 1 + seed % 2,
            heads: 2,
            per_head: 3,
            height,
            width,
            bias: seed % 2 == 0,
            centered: seed < 3,
            modulated: seed % 2 == 1,
        });
    }
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |case| {
        test(case);
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&case(), run) {
        panic!("{error}");
    }
}

/// Makes random tensors.
struct Draw(StdRng);

impl Draw {
    fn values<B: Backend, const D: usize>(&mut self, shape: [usize; D]) -> Float<B> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.0.random_range(-1.0..1.0)).collect();
        let tensor = Tensor::<B, D>::from_data(TensorData::new(values, shape), &Default::default());
        tensor.into_primitive().tensor()
    }

    fn norm<B: Backend>(&mut self, case: &Case) -> NormWeights<Float<B>> {
        let channels = case.heads * case.per_head;
        NormWeights {
            weight: self.values::<B, 1>([channels]),
            bias: case.centered.then(|| self.values::<B, 1>([channels])),
            epsilon: 1e-5,
            modulation: case
                .modulated
                .then(|| [0, 1].map(|_| self.values::<B, 2>([case.batch, channels]))),
        }
    }

    fn layer<B: Backend, const D: usize>(
        &mut self,
        case: &Case,
        shape: [usize; D],
        to: usize,
    ) -> LayerWeights<Float<B>> {
        LayerWeights {
            weight: self.values::<B, D>(shape),
            bias: case.bias.then(|| self.values::<B, 1>([to])),
        }
    }

    fn branch<B: Backend>(
        &mut self,
        case: &Case,
        expanded: usize,
        inner: usize,
    ) -> BranchWeights<Float<B>> {
        let channels = case.heads * case.per_head;
        BranchWeights {
            norm: self.norm::<B>(case),
            expand: self.layer::<B, 4>(case, [expanded, channels, 1, 1], expanded),
            depthwise: self.layer::<B, 4>(case, [expanded, 1, 3, 3], expanded),
            project: self.layer::<B, 4>(case, [channels, inner, 1, 1], channels),
        }
    }
}

/// Compares tensors of any rank.
fn compare<B: Backend>(
    what: &str,
    case: &Case,
    found: Float<B>,
    expected: Float<B>,
    tolerance: f32,
) {
    let flat = |tensor: Float<B>| {
        let count = tensor.shape().num_elements();
        Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(B::float_reshape(
            tensor,
            [count].into(),
        )))
    };
    assert_eq!(found.shape(), expected.shape(), "{what} of {case:?}");
    let expected = flat(expected).into_data();
    assert_close(
        &format!("{what} of {case:?}"),
        flat(found),
        &expected,
        tolerance,
    );
}

fn tensors<F>(weights: HimWeights<F>) -> Vec<F> {
    let mut all = Vec::new();
    weights.map(|tensor| all.push(tensor));
    all
}

/// Of every weight of a branch.
fn compare_branches<B: Backend>(
    case: &Case,
    found: BranchWeights<Float<B>>,
    expected: BranchWeights<Float<B>>,
) {
    let list = |weights: BranchWeights<Float<B>>| {
        let mut all = Vec::new();
        weights.map(|tensor| all.push(tensor));
        all
    };
    compare_all::<B>(case, list(found), list(expected));
}

fn compare_all<B: Backend>(case: &Case, found: Vec<Float<B>>, expected: Vec<Float<B>>) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.into_iter().zip(expected).enumerate() {
        compare::<B>(
            &format!("gradient {index}"),
            case,
            found,
            expected,
            GRADIENT,
        );
    }
}

/// One pixel has a standard deviation of nearly nothing where its channels are few, and gradients in proportion.
const GRADIENT: f32 = 1e-3;

fn leaf<B: Backend>(values: Float<B>) -> Float<Autodiff<B>> {
    Autodiff::<B>::float_set_require_grad(Autodiff::<B>::from_inner(values), true)
}

/// From leaves to their gradients by automatic differentiation, given the output's.
fn gradients<B: Backend>(
    output: Float<Autodiff<B>>,
    grad: Float<B>,
) -> impl Fn(Float<Autodiff<B>>) -> Float<B> {
    let grad = Autodiff::<B>::from_inner(grad);
    let gradients = Autodiff::<B>::backward(Autodiff::<B>::float_sum(Autodiff::<B>::float_mul(
        output, grad,
    )));
    move |leaf| Autodiff::<B>::grad(&leaf, &gradients).expect("every leaf is used")
}

fn mdta_equals_its_parts<B: Backend>() {
    each_case(24, |case| {
        let mut draw = Draw(StdRng::seed_from_u64(case.seed));
        let channels = case.heads * case.per_head;
        let shape = [case.batch, channels, case.height, case.width];
        let x = draw.values::<B, 4>(shape);
        let temperature = draw.values::<B, 3>([case.heads, 1, 1]);
        let weights = draw.branch::<B>(&case, 3 * channels, channels);
        let found = B::mdta(x.clone(), temperature.clone(), weights.clone());
        let expected = plain::mdta::<B>(x.clone(), temperature.clone(), weights.clone());
        compare::<B>("output", &case, found, expected, 1e-4);

        let grad = draw.values::<B, 4>(shape);
        let leaves = (leaf::<B>(x.clone()), leaf::<B>(temperature.clone()));
        let parts = weights.clone().map(leaf::<B>);
        let output = plain::mdta::<Autodiff<B>>(leaves.0.clone(), leaves.1.clone(), parts.clone());
        let gradient = gradients::<B>(output, grad.clone());
        let kernels = B::block_gradients(&x).expect("single precision");
        let found = (kernels.mdta)(x, temperature, weights, grad);
        let expected = (gradient(leaves.0), gradient(leaves.1), parts.map(gradient));
        compare::<B>("gradient of x", &case, found.0, expected.0, GRADIENT);
        compare::<B>(
            "gradient of the temperature",
            &case,
            found.1,
            expected.1,
            GRADIENT,
        );
        compare_branches::<B>(&case, found.2, expected.2);
    });
}

fn gdfn_equals_its_parts<B: Backend>() {
    each_case(24, |case| {
        let mut draw = Draw(StdRng::seed_from_u64(case.seed));
        let channels = case.heads * case.per_head;
        let hidden = (channels as f64 * 2.66).floor() as usize;
        let shape = [case.batch, channels, case.height, case.width];
        let x = draw.values::<B, 4>(shape);
        let weights = draw.branch::<B>(&case, 2 * hidden, hidden);
        let found = B::gdfn(x.clone(), weights.clone());
        let expected = plain::gdfn::<B>(x.clone(), weights.clone());
        compare::<B>("output", &case, found, expected, 1e-4);

        let grad = draw.values::<B, 4>(shape);
        let (leaf_x, parts) = (leaf::<B>(x.clone()), weights.clone().map(leaf::<B>));
        let output = plain::gdfn::<Autodiff<B>>(leaf_x.clone(), parts.clone());
        let gradient = gradients::<B>(output, grad.clone());
        let kernels = B::block_gradients(&x).expect("single precision");
        let found = (kernels.gdfn)(x, weights, grad);
        let expected = (gradient(leaf_x), parts.map(gradient));
        compare::<B>("gradient of x", &case, found.0, expected.0, GRADIENT);
        compare_branches::<B>(&case, found.1, expected.1);
    });
}

fn him_equals_its_parts<B: Backend>() {
    each_case(24, |mut case| {
        // A single channel has no variance at all: the norm multiplies by 1/√ε, and rounding errors with it.
        if case.heads == 1 {
            case.per_head += 1;
        }
        let mut draw = Draw(StdRng::seed_from_u64(case.seed));
        let channels = case.heads * case.per_head;
        let tokens = 1 + (case.seed % 16) as usize;
        let x = draw.values::<B, 4>([case.batch, channels, case.height, case.width]);
        let weights = HimWeights {
            norm: draw.norm::<B>(&case),
            query: draw.layer::<B, 2>(&case, [channels, channels], channels),
            keys: draw.values::<B, 3>([case.batch, tokens, channels]),
            values: draw.values::<B, 3>([case.batch, tokens, channels]),
            project: draw.layer::<B, 2>(&case, [channels, channels], channels),
            heads: case.heads,
        };
        let found = B::him(x.clone(), weights.clone());
        let expected = plain::him::<B>(x.clone(), weights.clone());
        compare::<B>("output", &case, found, expected, 1e-4);

        let grad = draw.values::<B, 4>([case.batch, channels, case.height, case.width]);
        let (leaf_x, parts) = (leaf::<B>(x.clone()), weights.clone().map(leaf::<B>));
        let output = plain::him::<Autodiff<B>>(leaf_x.clone(), parts.clone());
        let gradient = gradients::<B>(output, grad.clone());
        let kernels = B::block_gradients(&x).expect("single precision");
        let found = (kernels.him)(x, weights, grad);
        let expected = (gradient(leaf_x), parts.map(gradient));
        compare::<B>("gradient of x", &case, found.0, expected.0, GRADIENT);
        compare_all::<B>(&case, tensors(found.1), tensors(expected.1));
    });
}

fn convolutions_with_shuffling_equal_their_parts<B: Backend>() {
    each_case(24, |case| {
        let mut draw = Draw(StdRng::seed_from_u64(case.seed));
        let (from, to) = (case.heads * case.per_head, 4 * case.heads);
        let (height, width) = (2 * case.height, 2 * case.width);
        let x = draw.values::<B, 4>([case.batch, from, height, width]);
        let weight = draw.values::<B, 4>([to, from, 3, 3]);
        let found = B::conv3x3_unshuffle(x.clone(), weight.clone());
        let expected = plain::conv3x3_unshuffle::<B>(x.clone(), weight.clone());
        compare::<B>("unshuffled", &case, found, expected, 1e-4);

        let (leaf_x, leaf_weight) = (leaf::<B>(x.clone()), leaf::<B>(weight.clone()));
        let output = plain::conv3x3_unshuffle::<Autodiff<B>>(leaf_x.clone(), leaf_weight.clone());
        let grad = draw.values::<B, 4>([case.batch, 4 * to, height / 2, width / 2]);
        let gradient = gradients::<B>(output, grad.clone());
        let found = B::conv3x3_unshuffle_backward(x.clone(), weight.clone(), grad);
        let expected = vec![gradient(leaf_x), gradient(leaf_weight)];
        compare_all::<B>(&case, vec![found.0, found.1], expected);

        let skip = draw.values::<B, 4>([case.batch, case.per_head, 2 * height, 2 * width]);
        let found = B::conv3x3_shuffle(x.clone(), weight.clone(), skip.clone());
        let expected = plain::conv3x3_shuffle::<B>(x.clone(), weight.clone(), skip.clone());
        compare::<B>("shuffled", &case, found, expected, 1e-4);

        let leaves = [&x, &weight, &skip].map(|tensor| leaf::<B>(tensor.clone()));
        let [a, b, c] = leaves.clone();
        let output = plain::conv3x3_shuffle::<Autodiff<B>>(a, b, c);
        let channels = case.heads + case.per_head;
        let grad = draw.values::<B, 4>([case.batch, channels, 2 * height, 2 * width]);
        let gradient = gradients::<B>(output, grad.clone());
        let found = B::conv3x3_shuffle_backward(x, weight, grad);
        let expected = leaves.map(gradient).into();
        compare_all::<B>(&case, vec![found.0, found.1, found.2], expected);
    });
}

/// The whole model, whose sums over pixels would show another order of addition.
#[cfg(feature = "flex")]
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    use burn::backend::Flex;
    use hi_diff::Noise;

    let config = hi_diff::Config::preset("tiny").expect("a preset");
    let model = config.init::<Flex>(&Default::default());
    let mut draw = Draw(StdRng::seed_from_u64(7));
    let blur = draw.values::<Flex, 4>([1, 3, 139, 301]);
    let blur = Tensor::<Flex, 4>::from_primitive(TensorPrimitive::Float(blur));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let deblur = || {
            model
                .deblur(blur.clone(), Noise::Seed(0))
                .expect("an image")
        };
        pool.expect("threads").install(deblur).into_data()
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(
            run(threads) == one,
            "{threads} threads give other values than one"
        );
    }
}
