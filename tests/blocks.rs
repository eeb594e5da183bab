//! The kernels for whole blocks against the blocks' formulas, in values and gradients, over shapes on all sides of tiles,
//! steps and vectors; that kernels are taken where they should be; and that no result depends on the number of threads.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use common::relative_difference;
use hi_diff::config::NormKind;
use hi_diff::kernels::{self, Count};
use hi_diff::model::{
    Downsample, DownsampleConfig, GdfnConfig, Him, HimConfig, LayerNorm, LayerNormConfig, Mdta,
    MdtaConfig, Upsample, UpsampleConfig,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

on_each_backend!(
    mdta_equals_its_formula,
    gdfn_equals_its_formula,
    him_equals_its_formula,
    convolutions_with_shuffling_equal_their_formulas,
    what_does_not_fit_is_the_same_with_and_without_kernels,
);

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

/// One pixel has a standard deviation of nearly nothing where its channels are few, and gradients in proportion.
const GRADIENT: f32 = 1e-3;

/// Makes random numbers from -1 to 1.
struct Draw(StdRng);

impl Draw {
    fn tensor<B: Backend, const D: usize>(&mut self, shape: [usize; D]) -> Tensor<B, D> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.0.random_range(-1.0..1.0)).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    fn module<B: Backend, M: Module<B>>(&mut self, module: M) -> M {
        module.map(self)
    }
}

/// Draws a module's parameters, those too that begin as ones and zeros.
impl<B: Backend> ModuleMapper<B> for Draw {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        parameter.map(|tensor| {
            let learns = tensor.is_require_grad();
            self.tensor(tensor.dims()).set_require_grad(learns)
        })
    }
}

/// Each parameter's gradient, in the module's order.
struct GradientsOf<'a, B: AutodiffBackend>(&'a B::Gradients, Vec<TensorData>);

impl<B: AutodiffBackend> ModuleVisitor<B> for GradientsOf<'_, B> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        let gradient = parameter.val().grad(self.0);
        let gradient = gradient.expect("every parameter is used");
        self.1.push(gradient.into_data());
    }
}

/// Compares what a module gives by kernels with what it gives by its formula: its output alone and under `Autodiff`,
/// where the gradients of a random projection of the output are compared too. All of it is done by one kernel, if `whole`.
fn compare<B: Backend, M: Module<Autodiff<B>>>(
    case: &impl std::fmt::Debug,
    whole: bool,
    module: &M,
    inputs: &[Tensor<B, 4>],
    forward: impl Fn(&M, &[Tensor<Autodiff<B>, 4>]) -> Tensor<Autodiff<B>, 4>,
) {
    let run = || {
        let leaf = |x: &Tensor<B, 4>| Tensor::from_inner(x.clone()).require_grad();
        let inputs: Vec<Tensor<Autodiff<B>, 4>> = inputs.iter().map(leaf).collect();
        let output = forward(module, &inputs);
        let weights = Draw(StdRng::seed_from_u64(11)).tensor(output.dims());
        let gradients = (output.clone() * weights).sum().backward();
        let mut all = GradientsOf::<Autodiff<B>>(&gradients, Vec::new());
        module.visit(&mut all);
        let found = inputs
            .iter()
            .map(|x| x.grad(&gradients).expect("used").into_data());
        (output.into_data(), found.chain(all.1).collect::<Vec<_>>())
    };
    let (found, taken) = kernels::count(run);
    let expected = kernels::without(run);
    assert!(
        taken.forward > 0 && taken.backward == taken.forward,
        "{taken:?} of {case:?}"
    );
    if whole && common::has_kernels::<B>() {
        assert_eq!(
            taken,
            Count {
                forward: 1,
                backward: 1
            },
            "{case:?}"
        );
    }
    let close = |what: &str, found: &TensorData, expected: &TensorData, tolerance: f32| {
        let difference = relative_difference(found, expected);
        assert!(
            difference <= tolerance,
            "{what} of {case:?}: off by {difference:.2e}"
        );
    };
    close("output", &found.0, &expected.0, 1e-4);
    assert_eq!(found.1.len(), expected.1.len());
    for (index, (found, expected)) in found.1.iter().zip(&expected.1).enumerate() {
        close(&format!("gradient {index}"), found, expected, GRADIENT);
    }
}

impl Case {
    fn draw(&self) -> Draw {
        Draw(StdRng::seed_from_u64(self.seed))
    }

    fn channels(&self) -> usize {
        self.heads * self.per_head
    }

    fn norm<B: Backend>(&self, draw: &mut Draw) -> LayerNorm<B> {
        let kind = match self.centered {
            true => NormKind::WithBias,
            false => NormKind::BiasFree,
        };
        let config = LayerNormConfig::new(self.channels()).with_kind(kind);
        draw.module(config.init(&Default::default()))
    }

    fn image<B: Backend>(&self, draw: &mut Draw) -> Tensor<B, 4> {
        draw.tensor([self.batch, self.channels(), self.height, self.width])
    }
}

/// Channels of the prior.
const PRIOR: usize = 5;

fn mdta_equals_its_formula<B: Backend>() {
    each_case(24, |case| {
        let mut draw = case.draw();
        let config = MdtaConfig::new(case.channels(), case.heads)
            .with_bias(case.bias)
            .with_modulation(case.modulated.then_some(PRIOR));
        let block: Mdta<Autodiff<B>> = draw.module(config.init(&Default::default()));
        let norm = case.norm::<Autodiff<B>>(&mut draw);
        let (x, z3) = (case.image(&mut draw), draw.tensor([case.batch, PRIOR]));
        compare::<B, _>(&case, true, &(block, norm), &[x], |(block, norm), x| {
            block.forward_residual(x[0].clone(), norm, Some(&z3))
        });
    });
}

fn gdfn_equals_its_formula<B: Backend>() {
    each_case(24, |case| {
        let mut draw = case.draw();
        let config = GdfnConfig::new(case.channels(), 2.66)
            .with_bias(case.bias)
            .with_modulation(case.modulated.then_some(PRIOR));
        let block = draw.module(config.init::<Autodiff<B>>(&Default::default()));
        let norm = case.norm::<Autodiff<B>>(&mut draw);
        let (x, z3) = (case.image(&mut draw), draw.tensor([case.batch, PRIOR]));
        compare::<B, _>(&case, true, &(block, norm), &[x], |(block, norm), x| {
            block.forward_residual(x[0].clone(), norm, Some(&z3))
        });
    });
}

fn him_equals_its_formula<B: Backend>() {
    each_case(24, |mut case| {
        // A single channel has no variance at all: the norm multiplies by 1/√ε, and rounding errors with it.
        if case.heads == 1 {
            case.per_head += 1;
        }
        let mut draw = case.draw();
        let tokens = 1 + (case.seed % 16) as usize;
        let config = HimConfig::new(case.channels(), PRIOR, case.heads)
            .with_bias(case.bias)
            .with_norm(match case.centered {
                true => NormKind::WithBias,
                false => NormKind::BiasFree,
            });
        let block: Him<Autodiff<B>> = draw.module(config.init(&Default::default()));
        let (x, prior) = (
            case.image(&mut draw),
            draw.tensor([case.batch, tokens, PRIOR]),
        );
        compare::<B, _>(&case, true, &block, &[x], |block, x| {
            block.forward(x[0].clone(), prior.clone())
        });
    });
}

fn convolutions_with_shuffling_equal_their_formulas<B: Backend>() {
    each_case(24, |case| {
        let mut draw = case.draw();
        let channels = 4 * case.heads;
        let (height, width) = (2 * case.height, 2 * case.width);
        let down: Downsample<Autodiff<B>> =
            draw.module(DownsampleConfig::new(channels).init(&Default::default()));
        let x = draw.tensor([case.batch, channels, height, width]);
        compare::<B, _>(&case, true, &down, &[x], |down, x| {
            down.forward(x[0].clone())
        });

        let up: Upsample<Autodiff<B>> =
            draw.module(UpsampleConfig::new(channels).init(&Default::default()));
        let x = draw.tensor([case.batch, channels, case.height, case.width]);
        let skip = draw.tensor([case.batch, case.per_head, height, width]);
        compare::<B, _>(&case, true, &up, &[x, skip], |up, inputs| {
            up.forward_with_skip(inputs[0].clone(), inputs[1].clone())
        });
    });
}

/// One prior or modulation serves a whole batch; that of another batch is refused.
fn what_does_not_fit_is_the_same_with_and_without_kernels<B: Backend>() {
    let mut draw = Draw(StdRng::seed_from_u64(3));
    let device = Default::default();
    let him: Him<B> = draw.module(HimConfig::new(8, PRIOR, 2).init(&device));
    let config = MdtaConfig::new(8, 2).with_modulation(Some(PRIOR));
    let mdta: Mdta<B> = draw.module(config.init(&device));
    let norm: LayerNorm<B> = draw.module(LayerNormConfig::new(8).init(&device));
    let x: Tensor<B, 4> = draw.tensor([2, 8, 9, 12]);

    let (prior, z3) = (
        draw.tensor::<B, 3>([1, 4, PRIOR]),
        draw.tensor::<B, 2>([1, PRIOR]),
    );
    for (what, one, each) in [
        (
            "HIM",
            him.forward(x.clone(), prior.clone()),
            him.forward(x.clone(), prior.repeat_dim(0, 2)),
        ),
        (
            "MDTA",
            mdta.forward_residual(x.clone(), &norm, Some(&z3)),
            mdta.forward_residual(x.clone(), &norm, Some(&z3.clone().repeat_dim(0, 2))),
        ),
    ] {
        common::assert_close(what, one, &each.into_data(), 1e-5);
    }

    let (prior, z3) = (
        draw.tensor::<B, 3>([3, 4, PRIOR]),
        draw.tensor::<B, 2>([3, PRIOR]),
    );
    let refused = |work: &dyn Fn() -> Tensor<B, 4>| {
        let attempt = || catch_unwind(AssertUnwindSafe(|| work().into_data())).is_err();
        attempt() && kernels::without(attempt)
    };
    assert!(refused(&|| him.forward(x.clone(), prior.clone())));
    assert!(refused(&|| mdta.forward_residual(
        x.clone(),
        &norm,
        Some(&z3)
    )));
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
    let blur: Tensor<Flex, 4> = draw.tensor([1, 3, 139, 301]);
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

/// A model in half precision takes pictures in single precision; a block is told what it cannot do.
#[cfg(feature = "flex")]
#[test]
fn half_precision_is_a_models_affair_and_a_blocks_refusal() {
    use burn::backend::Flex;
    use burn::tensor::{DType, FloatDType};
    use hi_diff::Noise;

    struct Half;
    impl<B: Backend> ModuleMapper<B> for Half {
        fn map_float<const D: usize>(&mut self, p: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            p.map(|tensor| tensor.cast(FloatDType::F16))
        }
    }

    let model = hi_diff::Config::preset("tiny").expect("a preset");
    let model = model.init::<Flex>(&Default::default());
    let mut draw = Draw(StdRng::seed_from_u64(5));
    let blur: Tensor<Flex, 4> = draw.tensor::<Flex, 4>([1, 3, 40, 48]).abs();
    let deblur = |model: &hi_diff::HiDiff<Flex>| {
        let sharp = model.deblur(blur.clone(), Noise::Seed(0));
        sharp.expect("an image")
    };
    let expected = deblur(&model).into_data();
    let found = deblur(&model.clone().map(&mut Half));
    assert_eq!(found.dtype(), DType::F32);
    common::assert_close("in half precision", found, &expected, 2e-2);

    let block: Mdta<Flex> = MdtaConfig::new(8, 2).init(&Default::default());
    let norm: LayerNorm<Flex> = LayerNormConfig::new(8).init(&Default::default());
    let (block, norm) = (block.map(&mut Half), norm.map(&mut Half));
    let x = draw.tensor::<Flex, 4>([1, 8, 8, 8]);
    let attempt = catch_unwind(AssertUnwindSafe(|| block.forward_residual(x, &norm, None)));
    let reason = attempt.expect_err("formats that differ");
    let reason = reason.downcast_ref::<String>().expect("a message");
    assert!(reason.contains("one number format"), "{reason}");
}

/// Burn clears away what nothing refers to whenever a thread has its gradients, in the graphs of all threads.
#[cfg(feature = "flex")]
#[test]
fn gradients_are_whole_while_other_threads_have_theirs() {
    use burn::backend::Flex;
    type B = Autodiff<Flex>;

    let make = || {
        let mut draw = Draw(StdRng::seed_from_u64(9));
        let block: Mdta<B> = draw.module(MdtaConfig::new(8, 2).init(&Default::default()));
        let norm: LayerNorm<B> = draw.module(LayerNormConfig::new(8).init(&Default::default()));
        (block, norm, draw.tensor::<Flex, 4>([1, 8, 12, 12]))
    };
    let run = |(block, norm, values): &(Mdta<B>, LayerNorm<B>, Tensor<Flex, 4>)| {
        let leaf = Tensor::<B, 4>::from_inner(values.clone()).require_grad();
        let mut x = leaf.clone().mul_scalar(0.5);
        for _ in 0..3 {
            x = block.forward_residual(x, norm, None);
        }
        let gradients = x.sum().backward();
        leaf.grad(&gradients).expect("the leaf is used").into_data()
    };
    let expected = run(&make());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = make();
                for _ in 0..200 {
                    assert!(run(&own) == expected, "a gradient that is not whole");
                }
            });
        }
    });
}
