//! Local attention at test time against the public code's, with the weights of the reduced pipelines.

mod common;

use burn::tensor::backend::Backend;
use common::{Fixture, assert_close, reduced_gopro, reduced_realblur};
use hi_diff::kernels::without;
use hi_diff::model::{Attention, Transformer};
use hi_diff::weights::Network;
use hi_diff::{Config, HiDiff};

on_each_backend!(gopro, realblur);

fn gopro<B: Backend>() {
    local::<B>("gopro", reduced_gopro());
}

fn realblur<B: Backend>() {
    local::<B>("realblur", reduced_realblur());
}

/// Cases with windows that divide the image, overlap, end at the border, and are larger than the image.
fn local<B: Backend>(name: &str, config: Config) {
    let model: HiDiff<B> = config.init(&Default::default());
    let mut transformer: Transformer<B> = model.transformer;
    let weights = Fixture::open(&format!("pipelines/pipeline_{name}"));
    weights.load("net_g.", Network::Transformer, &mut transformer);
    let fixture = Fixture::open(&format!("pipelines/local_{name}"));
    let windows = fixture.meta("windows");
    let windows = windows.as_object().expect("windows by name");
    assert_eq!(windows.len(), 4);
    for (case, window) in windows {
        let tensor = |what: &str| fixture.data(&format!("{case}.{what}"));
        let blur = fixture.tensor::<B, 4>(&format!("{case}.blur"));
        let prior = fixture.tensor::<B, 3>(&format!("{case}.prior"));
        let window = window.as_u64().expect("pixels") as usize;
        for (what, attention) in [
            ("local", Attention::Local(window)),
            ("global", Attention::Global),
        ] {
            let transformer = transformer.clone().with_attention(attention);
            let run = || transformer.forward(blur.clone(), Some(prior.clone()));
            // By the kernels, where there are any, and by the formula.
            for output in [run(), without(run)] {
                assert_close(&format!("{case}.{what}"), output, &tensor(what), 1e-4);
            }
        }
    }
}
