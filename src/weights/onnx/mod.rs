//! Models as ONNX files, written and not read: the whole inference as one graph of opset 17, for programs in other languages.

mod attention;
mod graph;
mod layers;
mod prior;
mod proto;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod transformer;

use std::io::Write;
use std::path::Path;

use prost::Message;

use super::write::check_range;
use super::{NamedTensor, Network, Precision, StateDict};
use crate::config::{Config, Prior};
use crate::diffusion::Sampler;
use crate::error::{Error, Result};
use crate::model::{Attention, SIZE_MULTIPLE};
use crate::whole::write_whole;
use graph::{Attribute, Graph, Value};
use prior::ChainNoise;
use proto::{
    DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// The operators' version: runtimes since 2022 have it.
const OPSET: i64 = 17;
/// The format's version that came with it.
const IR_VERSION: i64 = 8;
/// No protobuf file is larger.
const LARGEST: u64 = (1 << 31) - 1;
/// A longer chain makes a file of more nodes than runtimes load in sensible time.
const MOST_STEPS: usize = 1_000;
/// Far above any picture.
const LONGEST_SIDE: usize = 65_536;

/// What an ONNX file is made for, and what it says of its weights.
#[derive(Debug, Clone, Default)]
pub struct OnnxOptions {
    /// What weights are stored in, and what most is computed in. Inputs and output are in single precision either way, and
    /// so is what overflows half precision.
    pub precision: Precision,
    /// Height and width of the one image that a run takes, multiples of 8. Otherwise each run chooses batch, height and width.
    pub size: Option<[usize; 2]>,
    /// Local attention needs a size.
    pub attention: Attention,
    /// The licence of the weights, by its SPDX name or address.
    pub licence: Option<String>,
    /// Where the weights come from.
    pub origin: Option<String>,
}

/// Writes the whole inference as one ONNX file of opset 17: condition encoder, reverse chain and Transformer, or the Transformer
/// alone without a prior. LE, which only training needs, is left out.
///
/// | name | shape | what |
/// |---|---|---|
/// | `blur` | `[N, 3, H, W]` | RGB from 0 to 1; H and W multiples of 8 |
/// | `noise` | `[N, tokens, channels]` | Gaussian, the start of the chain; not without a prior |
/// | `step_noise` | `[N, T − 1, tokens, channels]` | Gaussian, for t = T to 2; with the `ancestral` sampler alone |
/// | `sharp` | `[N, 3, H, W]` | as blur; values may leave 0 to 1 slightly |
///
/// # Errors
/// [`Error::Refused`] if the file exists and `force` is false, [`Error::Shape`] for a size or window that is no multiple of 8,
/// [`Error::Weights`] if a network is missing, a value is too large for `precision`, or the file would have more than 2 GiB, or
/// [`Error::Io`]. The file then is as before.
pub fn save_onnx(
    path: impl AsRef<Path>,
    config: &Config,
    states: &[StateDict],
    options: &OnnxOptions,
    force: bool,
) -> Result<()> {
    let path = path.as_ref();
    write_whole(path, force, |file| {
        let model = model(path, config, states, options)?;
        let length = model.encoded_len() as u64;
        if length > LARGEST {
            return Err(too_large(path, length));
        }
        file.write_all(&model.encode_to_vec())
            .map_err(Error::io(path))
    })
}

/// The networks of an ONNX file.
pub fn onnx_networks(config: &Config) -> &'static [Network] {
    match config.model.prior {
        Prior::None => &[Network::Transformer],
        Prior::MultiScale | Prior::SingleScale => &[
            Network::Transformer,
            Network::ConditionEncoder,
            Network::Denoiser,
        ],
    }
}

fn too_large(path: &Path, bytes: u64) -> Error {
    let reason = format!(
        "would have {bytes} bytes, and an ONNX file has at most {LARGEST}: write half precision"
    );
    Error::weights(path, reason)
}

fn model(
    path: &Path,
    config: &Config,
    states: &[StateDict],
    options: &OnnxOptions,
) -> Result<ModelProto> {
    check(path, config, options)?;
    let networks = onnx_networks(config);
    let states: Vec<StateDict> = states
        .iter()
        .filter(|state| networks.contains(&state.network()))
        .cloned()
        .collect();
    for network in networks {
        if !states.iter().any(|state| state.network() == *network) {
            let reason = format!("the weights have no {}, which it needs", network.title());
            return Err(Error::weights(path, reason));
        }
    }
    check_range(path, &states, options.precision)?;
    let numbers = states.iter().flat_map(StateDict::tensors);
    let numbers: usize = numbers.map(|tensor| tensor.values.len()).sum();
    let bytes = (numbers * options.precision.bytes()) as u64;
    if bytes > LARGEST {
        return Err(too_large(path, bytes));
    }
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("hi-diff".to_string()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_string()),
        graph: Some(graph(path, config, &states, options)?),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
        metadata_props: metadata(path, config, options)?,
    })
}

fn check(path: &Path, config: &Config, options: &OnnxOptions) -> Result<()> {
    let shape = |what: &str, found: &[usize], expected: &str| Error::Shape {
        what: what.to_string(),
        found: found.to_vec(),
        expected: expected.to_string(),
    };
    if let Some(size) = options.size {
        let fits = |&side: &usize| {
            side.is_multiple_of(SIZE_MULTIPLE) && (SIZE_MULTIPLE..=LONGEST_SIDE).contains(&side)
        };
        if !size.iter().all(fits) {
            let expected = "height and width that are multiples of 8, from 8 to 65536";
            return Err(shape("size", &size, expected));
        }
    }
    if let Attention::Local(window) = options.attention {
        if window == 0 || !window.is_multiple_of(SIZE_MULTIPLE) {
            let expected = "a window of local attention that is a multiple of 8";
            return Err(shape("window", &[window], expected));
        }
        if options.size.is_none() {
            let reason = "local attention needs a fixed height and width: name them (--size)";
            return Err(Error::weights(path, reason));
        }
    }
    let steps = config.diffusion.timesteps;
    if config.model.prior != Prior::None && steps > MOST_STEPS {
        let reason = format!(
            "diffusion.timesteps = {steps}: every step of the chain is written out, at most {MOST_STEPS}"
        );
        return Err(Error::weights(path, reason));
    }
    Ok(())
}

/// Configuration, licence and origin.
fn metadata(
    path: &Path,
    config: &Config,
    options: &OnnxOptions,
) -> Result<Vec<StringStringEntryProto>> {
    let failed = |error: serde_json::Error| Error::weights(path, error.to_string());
    let config = serde_json::to_string(&config.without_training()).map_err(failed)?;
    let precision = match options.precision {
        Precision::Full => "f32",
        Precision::Half => "f16",
    };
    let attention = match options.attention {
        Attention::Global => "global".to_string(),
        Attention::Local(window) => format!("local:{window}"),
    };
    let entries = [
        ("format", Some("hi-diff".to_string())),
        ("config", Some(config)),
        ("precision", Some(precision.to_string())),
        ("attention", Some(attention)),
        ("model_license", options.licence.clone()), // ONNX's own name for it
        ("origin", options.origin.clone()),
    ];
    let entries = entries.into_iter().filter_map(|(key, value)| {
        Some(StringStringEntryProto {
            key: Some(key.to_string()),
            value: Some(value?),
        })
    });
    Ok(entries.collect())
}

fn graph(
    path: &Path,
    config: &Config,
    states: &[StateDict],
    options: &OnnxOptions,
) -> Result<GraphProto> {
    let mut g = Graph::new(path, states, options.precision);
    let model = &config.model;
    let blur = Value::named("blur");
    let noise = Value::named("noise");
    let step_noise = Value::named("step_noise");
    let guided = model.prior != Prior::None;
    let extra = match guided {
        true => Sampler::new(&config.diffusion).noise_steps(),
        false => 0,
    };

    let sides = Sides::new(&mut g, &blur, options.size);
    let prior = match guided {
        true => {
            let condition = prior::condition(&mut g, config, &blur, options.size)?;
            let noise = ChainNoise {
                start: &noise,
                steps: (extra > 0).then_some(&step_noise),
            };
            let prior = prior::reverse_chain(&mut g, config, &condition, noise)?;
            Some(g.op_named("prior", "Identity", &[&prior]))
        }
        false => None,
    };
    let change = transformer::transformer(
        &mut g,
        model,
        options.attention,
        &blur,
        &sides,
        prior.as_ref(),
    )?;
    g.op_named("sharp", "Add", &[&change, &blur]);

    let [height, width] = match options.size {
        Some(size) => size.map(Dimension::of),
        None => ["H", "W"].map(Dimension::Chosen),
    };
    let batch = match options.size {
        Some(_) => Dimension::of(1),
        None => Dimension::Chosen("N"),
    };
    let image = [batch, Dimension::of(3), height, width];
    let [tokens, channels] = [model.prior_tokens(), model.prior_channels()].map(Dimension::of);
    let prior = [batch, tokens, channels];
    let mut input = vec![value_info("blur", BLUR, &image)];
    if guided {
        input.push(value_info("noise", NOISE, &prior));
    }
    if extra > 0 {
        let shape = [batch, Dimension::of(extra), tokens, channels];
        input.push(value_info("step_noise", STEP_NOISE, &shape));
    }
    Ok(GraphProto {
        input,
        output: vec![value_info("sharp", SHARP, &image)],
        value_info: Vec::from_iter(guided.then(|| value_info("prior", PRIOR, &prior))),
        ..g.finish()
    })
}

const BLUR: &str = "RGB from 0 to 1; height and width are multiples of 8";
const NOISE: &str = "Gaussian noise of mean 0 and deviation 1, where the reverse chain starts";
const STEP_NOISE: &str = "Gaussian noise of mean 0 and deviation 1, for each step but the last";
const PRIOR: &str = "what the reverse chain makes of the noise, and the Transformer is guided by";
const SHARP: &str = "RGB; values may leave 0 to 1 slightly";

/// A size of an input or output.
#[derive(Debug, Clone, Copy)]
enum Dimension {
    Fixed(i64),
    /// By each run, under this name.
    Chosen(&'static str),
}

impl Dimension {
    fn of(size: usize) -> Self {
        Self::Fixed(size as i64)
    }
}

fn value_info(name: &str, what: &str, shape: &[Dimension]) -> ValueInfoProto {
    let dim = shape.iter().map(|dimension| match *dimension {
        Dimension::Fixed(size) => DimensionProto {
            dim_value: Some(size),
            dim_param: None,
        },
        Dimension::Chosen(name) => DimensionProto {
            dim_value: None,
            dim_param: Some(name.to_string()),
        },
    });
    let tensor = TensorTypeProto {
        elem_type: Some(proto::FLOAT),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_string()),
        r#type: Some(TypeProto {
            tensor_type: Some(tensor),
        }),
        doc_string: Some(what.to_string()),
    }
}

/// Height and width of the image.
enum Sides {
    Known([usize; 2]),
    /// `[2]`, known when the model runs.
    Asked(Value),
}

impl Sides {
    fn new(g: &mut Graph, blur: &Value, size: Option<[usize; 2]>) -> Self {
        match size {
            Some(size) => Self::Known(size),
            None => {
                g.enter("size");
                let attributes = [Attribute::Int("start", 2), Attribute::Int("end", 4)];
                Self::Asked(g.op("Shape", &[blur], &attributes))
            }
        }
    }

    /// The shape of an image that is smaller by a factor.
    fn image_shape(&self, g: &mut Graph, factor: usize) -> ImageShape {
        match self {
            Self::Known(size) => ImageShape::Known(size.map(|side| side / factor)),
            Self::Asked(sides) => {
                let factor = g.ints(&[factor as i64]);
                let sides = g.div(sides, &factor);
                let others = g.ints(&[0, -1]);
                ImageShape::Asked(g.concat(&[&others, &sides], 0))
            }
        }
    }
}

/// What brings `[batch, …, pixels]` back into the shape of an image.
enum ImageShape {
    Known([usize; 2]),
    /// `[0, −1, height, width]`, known when the model runs.
    Asked(Value),
}

impl ImageShape {
    /// `[0, −1, height, width]`
    fn value(&self, g: &mut Graph) -> Value {
        match self {
            &Self::Known([height, width]) => g.ints(&[0, -1, height as i64, width as i64]),
            Self::Asked(shape) => shape.clone(),
        }
    }
}
