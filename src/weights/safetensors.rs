//! One `.safetensors` file with every network, under the prefixes `net_g.`, `net_le.`, `net_le_dm.` and `net_d.`, and
//! the configuration in the header's metadata.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use safetensors::tensor::{Dtype as FileDtype, Metadata};
use serde_json::json;

use super::tensors::{Dtype, Entry, Tensors};
use super::{Network, Precision, StateDict};
use crate::config::{Config, Tables};

const FORMAT: &str = "hi-diff";
/// Raised whenever older readers would misunderstand a file.
const VERSION: &str = "1";

/// What such a file holds.
#[derive(Debug)]
pub(super) struct Content {
    pub config: Option<Config>,
    pub networks: BTreeMap<Network, Tensors>,
}

/// Parses a whole file. Errors say what is wrong with it.
pub(super) fn read(bytes: Vec<u8>) -> Result<Content, String> {
    let foreign = |reason: String| format!("not a safetensors file, or damaged: {reason}");
    let (length, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| foreign(format!("{} bytes are too few", bytes.len())))?;
    let header = usize::try_from(u64::from_le_bytes(*length)).ok();
    let header = header
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| foreign(format!("a header of {} bytes", u64::from_le_bytes(*length))))?;
    // Parsing checks that the tensors lie one behind the other, each as long as its shape says.
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|error| foreign(error.to_string()))?;
    let data = length.len() + header.len();
    if metadata.data_len() != bytes.len() - data {
        let (found, expected) = (bytes.len() - data, metadata.data_len());
        return Err(foreign(format!(
            "{found} bytes of data, expected {expected}"
        )));
    }

    let config = read_config(&metadata)?;
    let mut entries = BTreeMap::<Network, BTreeMap<String, Entry>>::new();
    for (key, info) in metadata.tensors() {
        let (network, name) = key
            .split_once('.')
            .and_then(|(stem, name)| Some((Network::from_stem(stem)?, name)))
            .ok_or_else(|| {
                let prefixes = Network::ALL.map(|network| format!("{}.", network.stem()));
                format!(
                    "`{key}`: expected names that begin with one of {}",
                    prefixes.join(", ")
                )
            })?;
        let (start, end) = info.data_offsets;
        let range = data + start..data + end;
        let entry = Entry::contiguous(dtype(info.dtype), info.shape.clone(), range)
            .map_err(|reason| format!("`{key}`: {reason}"))?;
        entries
            .entry(network)
            .or_default()
            .insert(name.to_string(), entry);
    }
    if entries.is_empty() {
        return Err("holds no tensors".to_string());
    }
    let bytes = Arc::new(bytes);
    let tensors = |entries| Tensors {
        bytes: bytes.clone(),
        entries,
    };
    let networks = entries
        .into_iter()
        .map(|(network, entries)| (network, tensors(entries)));
    Ok(Content {
        config,
        networks: networks.collect(),
    })
}

fn read_config(metadata: &Metadata) -> Result<Option<Config>, String> {
    let value = |key| metadata.metadata().as_ref()?.get(key).map(String::as_str);
    if let (Some(FORMAT), Some(version)) = (value("format"), value("version"))
        && version != VERSION
    {
        return Err(format!(
            "version {version} of the format, expected {VERSION}"
        ));
    }
    let Some(text) = value("config") else {
        return Ok(None);
    };
    let tables: Tables = serde_json::from_str(text)
        .map_err(|error| format!("the configuration in its metadata: {error}"))?;
    let config = tables.check("in its metadata");
    config.map(Some).map_err(|error| error.to_string())
}

fn dtype(kind: FileDtype) -> Dtype {
    match kind {
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F64 => Dtype::F64,
        other => Dtype::Other {
            name: other.to_string(),
            bytes: other.bitsize().div_ceil(8),
        },
    }
}

/// Writes every network's tensors behind a header.
pub(super) fn write(
    mut output: impl Write,
    config: &Config,
    states: &[StateDict],
    precision: Precision,
) -> io::Result<()> {
    let kind = match precision {
        Precision::Full => FileDtype::F32,
        Precision::Half => FileDtype::F16,
    };
    // Written here rather than with the safetensors crate, whose metadata comes in a random order: the same weights
    // shall make the same file.
    let mut header = serde_json::Map::new();
    let config = serde_json::to_string(&config.without_training())?;
    let metadata = json!({ "config": config, "format": FORMAT, "version": VERSION });
    header.insert("__metadata__".to_string(), metadata);
    let mut end = 0;
    for (state, tensor) in tensors(states) {
        let start = end;
        end += tensor.values.len() * precision.bytes();
        let key = format!("{}.{}", state.network().stem(), tensor.name);
        let info = json!({ "dtype": kind, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(key, info);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' '); // aligns the data

    output.write_all(&(header.len() as u64).to_le_bytes())?;
    output.write_all(&header)?;
    for (_, tensor) in tensors(states) {
        output.write_all(&precision.encode(&tensor.values))?;
    }
    output.flush()
}

fn tensors(states: &[StateDict]) -> impl Iterator<Item = (&StateDict, &super::NamedTensor)> {
    states
        .iter()
        .flat_map(|state| state.tensors().iter().map(move |tensor| (state, tensor)))
}
