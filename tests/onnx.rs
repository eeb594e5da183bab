//! ONNX files: what `hi-diff convert` says, and what ONNX Runtime makes of them.
#![cfg(all(feature = "cli", feature = "flex"))]

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process;

use assert_cmd::Command;
use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor, TensorData};
use common::{Fixture, changed, reduced_gopro, reduced_realblur};
use hi_diff::config::{NormKind, Prior, SamplerKind};
use hi_diff::diffusion::ChainNoise;
use hi_diff::model::Attention;
use hi_diff::weights::{Network, OnnxOptions, Precision, StateDict, save_onnx};
use hi_diff::{Config, HiDiff};
use predicates::str::contains;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiny::TINY;

fn convert(folder: &Path, flags: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("hi-diff").expect("the program is built");
    command.env_remove("RUST_BACKTRACE").arg("convert");
    command.arg(TINY).current_dir(folder);
    command.args(flags).assert()
}

#[test]
fn convert_writes_one_file_and_says_what_is_in_it() {
    let folder = TempDir::new().unwrap();
    let licence = ["--licence", "Apache-2.0", "--origin", "a test"];
    let done = convert(folder.path(), &[&["model.onnx"], &licence[..]].concat());
    done.success()
        .stdout(contains("transformer"))
        .stdout(contains("MB"))
        .stdout(contains("[N, 3, H, W]"))
        .stdout(contains("noise             [N, 16, 64]"))
        .stderr("");
    let full = fs::read(folder.path().join("model.onnx")).unwrap();

    // Nothing is overwritten, and with force the same comes out.
    convert(folder.path(), &["model.onnx"])
        .code(1)
        .stderr(contains("model.onnx: exists already"));
    let again = convert(
        folder.path(),
        &[&["model.onnx", "--force"], &licence[..]].concat(),
    );
    again.success();
    assert!(fs::read(folder.path().join("model.onnx")).unwrap() == full);

    // Without a licence there is a warning.
    convert(folder.path(), &["half.onnx", "--half"])
        .success()
        .stderr(contains("--licence"));
    let half = fs::metadata(folder.path().join("half.onnx")).unwrap().len();
    let share = half as f64 / full.len() as f64;
    assert!((0.4..0.75).contains(&share), "{share}");

    let local = ["local.onnx", "--attention", "local:32", "--size", "64x96"];
    convert(folder.path(), &[&local, &licence[..]].concat())
        .success()
        .stdout(contains("[1, 3, 64, 96]"));
    // No half-written files are left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn convert_refuses_what_makes_no_sense() {
    let folder = TempDir::new().unwrap();
    let fails = |flags: &[&str], code: i32, words: &str| {
        convert(folder.path(), flags)
            .code(code)
            .stderr(contains(words));
    };
    fails(&["a.onnx", "--size", "100x64"], 2, "multiple of 8");
    fails(&["a.onnx", "--size", "64"], 2, "720x1280");
    fails(
        &["a.onnx", "--attention", "local:20", "--size", "64x64"],
        2,
        "multiple of 8",
    );
    fails(&["a.onnx", "--attention", "auto"], 2, "local:N");
    fails(&["a.onnx", "--attention", "local:32"], 1, "--size");
    fails(
        &["a.safetensors", "--size", "64x64"],
        1,
        "--size is for an ONNX file",
    );
    fails(
        &["folder", "--licence", "MIT"],
        1,
        "--licence is for an ONNX file",
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut command = Command::cargo_bin("hi-diff").unwrap();
    command
        .args(["convert", "model.onnx", "a.safetensors"])
        .current_dir(folder.path());
    command
        .assert()
        .code(1)
        .stderr(contains("written and not read"));
}

/// A folder of models, inputs and what is expected of them.
struct Cases {
    folder: TempDir,
    list: Vec<Value>,
}

impl Cases {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            list: Vec::new(),
        }
    }

    fn model(&self, name: &str, config: &Config, model: &HiDiff<Flex>, options: &OnnxOptions) {
        let path = self.folder.path().join(format!("{name}.onnx"));
        save_onnx(&path, config, &StateDict::of_model(model), options, false).unwrap();
    }

    fn data(&self, name: &str, tensors: &[(&str, TensorData)]) {
        let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, data)| {
                let values = data.iter::<f32>().flat_map(f32::to_le_bytes);
                (*name, data.shape.to_vec(), values.collect())
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            (
                *name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        let file = safetensors::serialize(views, None).unwrap();
        let path = self.folder.path().join(format!("{name}.safetensors"));
        fs::write(path, file).unwrap();
    }

    fn case(&mut self, model: &str, data: &str, tolerance: f64, given_prior: bool) {
        self.list.push(json!({
            "name": format!("{model}: {data}"), "model": model, "data": data,
            "tolerance": tolerance, "given_prior": given_prior,
        }));
    }

    /// Compares a model with what Flex makes of random images, as many as `sizes`.
    fn against_flex(
        &mut self,
        name: &str,
        config: &Config,
        model: &HiDiff<Flex>,
        sizes: &[[usize; 2]],
    ) {
        self.model(name, config, model, &OnnxOptions::default());
        let half = OnnxOptions {
            precision: Precision::Half,
            ..OnnxOptions::default()
        };
        let of_half = format!("{name}-half");
        self.model(&of_half, config, model, &half);
        for (index, &[height, width]) in sizes.iter().enumerate() {
            let device = Default::default();
            let batch = 1 + index % 2;
            let uniform = Distribution::Uniform(0.0, 1.0);
            let blur = Tensor::<Flex, 4>::random([batch, 3, height, width], uniform, &device);
            let noise = model.seeded_noise(index as u64, batch, &device);
            let ChainNoise { start, steps } = noise.clone();
            let sharp = model
                .deblur(blur.clone(), hi_diff::Noise::Chain(noise))
                .unwrap();
            let mut tensors = vec![
                ("blur", blur.into_data()),
                ("noise", start.into_data()),
                ("sharp", sharp.into_data()),
            ];
            if !steps.is_empty() {
                let steps: Tensor<Flex, 4> = Tensor::stack(steps, 1);
                tensors.push(("step_noise", steps.into_data()));
            }
            let data = format!("{name}-{batch}x{height}x{width}");
            self.data(&data, &tensors);
            self.case(name, &data, 1e-4, false);
            self.case(&of_half, &data, 5e-3, false);
        }
    }

    /// The published model's output of the fixtures, and other sizes.
    fn pipeline(&mut self, name: &str, config: &Config) -> HiDiff<Flex> {
        let fixture = Fixture::open(&format!("pipelines/pipeline_{name}"));
        let mut model: HiDiff<Flex> = config.init(&Default::default());
        fixture.load("net_g.", Network::Transformer, &mut model.transformer);
        let encoder = model.condition_encoder.as_mut().expect("a guided model");
        fixture.load("net_le_dm.", Network::ConditionEncoder, encoder);
        let denoiser = model.denoiser.as_mut().expect("a guided model");
        fixture.load("net_d.", Network::Denoiser, denoiser);
        self.against_flex(name, config, &model, &[[40, 64], [104, 136], [8, 24]]);
        let data = format!("{name}-fixture");
        self.data(
            &data,
            &[
                ("blur", fixture.data("padded")),
                ("noise", fixture.data("noise")),
                ("sharp", fixture.data("deblurred")),
            ],
        );
        self.case(name, &data, 1e-4, false);
        self.case(&format!("{name}-half"), &data, 5e-3, false);
        self.local(name, config, &model);
        model
    }

    /// Local attention, and global attention of a fixed size.
    fn local(&mut self, name: &str, config: &Config, model: &HiDiff<Flex>) {
        // Not in the published crate.
        let file = format!("pipelines/local_{name}");
        if !common::fixture_path(&format!("{file}.safetensors")).exists() {
            return;
        }
        let fixture = Fixture::open(&file);
        let windows: HashMap<String, usize> =
            serde_json::from_value(fixture.meta("windows")).unwrap();
        for (case, window) in windows {
            let blur = fixture.data(&format!("{case}.blur"));
            for (kind, attention) in [
                ("local", Attention::Local(window)),
                ("global", Attention::Global),
            ] {
                let options = OnnxOptions {
                    size: Some([blur.shape[2], blur.shape[3]]),
                    attention,
                    ..OnnxOptions::default()
                };
                let key = format!("{name}-{case}-{kind}");
                self.model(&key, config, model, &options);
                self.data(
                    &key,
                    &[
                        ("blur", blur.clone()),
                        ("prior", fixture.data(&format!("{case}.prior"))),
                        ("sharp", fixture.data(&format!("{case}.{kind}"))),
                    ],
                );
                self.case(&key, &key, 1e-4, true);
            }
        }
    }

    fn run(self) {
        let list = json!(self.list).to_string();
        fs::write(self.folder.path().join("cases.json"), list).unwrap();
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/check.py");
        let check = process::Command::new(&python)
            .args([script.as_path(), self.folder.path()])
            .output()
            .unwrap_or_else(|error| panic!("{python}: {error}"));
        let out = String::from_utf8_lossy(&check.stdout);
        let errors = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{out}{errors}");
        let good = out.lines().filter(|line| line.starts_with("good")).count();
        assert_eq!(good, self.list.len(), "{out}{errors}");
        println!("{out}");
    }
}

/// Moves every parameter a little, so that none is where it does not show, such as a bias of 0.
struct Shake;

impl<B: Backend> ModuleMapper<B> for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|x| {
            let noise = x.random_like(Distribution::Uniform(-0.1, 0.1));
            x + noise
        })
    }
}

fn shaken(config: &Config) -> HiDiff<Flex> {
    Flex::seed(&Default::default(), 1);
    let model: HiDiff<Flex> = config.init(&Default::default());
    model.map(&mut Shake)
}

/// What ONNX Runtime makes of models of every kind. (Their structure is looked at beside the code that writes them.)
///
/// Needs a Python with the packages `onnx` and `onnxruntime`, named by the variable `PYTHON` if it is not `python3`:
///
/// ```sh
/// python3 -m venv /tmp/onnx && /tmp/onnx/bin/pip install onnx onnxruntime
/// PYTHON=/tmp/onnx/bin/python cargo test --test onnx -- --ignored
/// ```
#[test]
#[ignore = "needs a Python with the packages onnx and onnxruntime"]
fn onnx_runtime_restores_what_this_crate_does() {
    let mut cases = Cases::new();
    let gopro = reduced_gopro();
    cases.pipeline("gopro", &gopro);
    cases.pipeline("realblur", &reduced_realblur());

    let sizes = [[24, 40], [64, 48], [8, 8]];
    let kinds = [
        (
            "single-scale",
            changed(&gopro, |config| {
                config.model.prior = Prior::SingleScale;
                config.model.transformer.norm = NormKind::BiasFree;
            }),
        ),
        (
            "no-prior",
            changed(&gopro, |config| {
                config.model.prior = Prior::None;
                config.model.transformer.bias = true;
            }),
        ),
        (
            "ancestral",
            changed(&gopro, |config| {
                config.diffusion.sampler = SamplerKind::Ancestral;
                config.diffusion.timesteps = 4;
                config.model.group = 3;
            }),
        ),
        ("hi-diff-2", {
            changed(&reduced_realblur(), |config| {
                config.diffusion.timesteps = 4;
                config.model.group = 5;
            })
        }),
    ];
    for (name, config) in &kinds {
        cases.against_flex(name, config, &shaken(config), &sizes);
    }
    let device = Default::default();
    let bundled = HiDiff::<Flex>::bundled(&device).unwrap();
    let config = hi_diff::weights::bundled_config().unwrap();
    cases.against_flex("bundled", &config, &bundled, &[[64, 64], [48, 96]]);
    cases.run();
}
