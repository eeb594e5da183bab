//! PyTorch checkpoints, `torch.save` of `{"params": state_dict}`: the zip format and the one before PyTorch 1.6.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Seek, Write};
use std::ops::Range;
use std::sync::Arc;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::pickle::{Pickle, Storage, Value};
use super::tensors::{Entry, Tensors};
use super::{Precision, StateDict};

/// Where a state dict may be: as published, then as other trainers name it. Without any, the file itself is one.
const ROOTS: [&str; 3] = ["params", "params_ema", "state_dict"];

/// How a file of the legacy format begins: the pickle of the integer 0x1950a86a20f9469cfc6c.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const LEGACY_VERSION: i64 = 1001;

/// The tensors of a checkpoint. Errors say what is wrong with the file.
pub(super) fn read(bytes: Vec<u8>) -> Result<Tensors, String> {
    let entries = if bytes.starts_with(b"PK") {
        read_zip(&bytes)?
    } else if bytes.starts_with(LEGACY) {
        read_legacy(&bytes)?
    } else {
        return Err("not a PyTorch checkpoint".to_string());
    };
    Ok(Tensors {
        bytes: Arc::new(bytes),
        entries,
    })
}

fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let members = members(bytes).map_err(|reason| format!("damaged zip archive: {reason}"))?;
    let mut pickles = members.iter().filter_map(|(name, range)| {
        let folder = name.strip_suffix("data.pkl")?;
        (folder.is_empty() || folder.ends_with('/')).then_some((folder, range))
    });
    let (folder, range) = match (pickles.next(), pickles.next()) {
        (Some(only), None) => only,
        (None, _) => {
            return Err("a zip archive without data.pkl, no PyTorch checkpoint".to_string());
        }
        _ => return Err("a zip archive with more than one data.pkl".to_string()),
    };
    let content = |name: String| {
        members
            .get(&name)
            .and_then(|range| bytes.get(range.clone()))
    };
    if content(format!("{folder}byteorder")).is_some_and(|order| order.trim_ascii() == b"big") {
        return Err("saved on a big-endian machine, which is not supported".to_string());
    }
    let pickle = Pickle::read(bytes.get(range.clone()).unwrap_or_default())?;
    entries(&pickle, |storage| {
        members
            .get(&format!("{folder}data/{}", storage.key))
            .cloned()
    })
}

/// Where the content of every member lies. PyTorch stores them uncompressed.
fn members(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut members = HashMap::new();
    let mut total = 0;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| error.to_string())?;
        let name = member.name().to_string();
        if member.compression() != CompressionMethod::Stored {
            return Err(format!(
                "`{name}` is compressed, which torch.save never does"
            ));
        }
        let start = member
            .data_start()
            .and_then(|start| usize::try_from(start).ok());
        let length = usize::try_from(member.size()).ok();
        let range = start
            .zip(length)
            .and_then(|(start, length)| Some(start..start.checked_add(length)?))
            .filter(|range| range.end <= bytes.len())
            .ok_or_else(|| format!("`{name}` reaches beyond the end of the file"))?;
        // Members that share bytes could make a small file as long as one likes to read through.
        total += range.len();
        if total > bytes.len() {
            return Err("the members overlap".to_string());
        }
        // Reading to the end compares the checksum.
        let read = io::copy(&mut member, &mut io::sink());
        read.map_err(|error| format!("`{name}`: {error}"))?;
        members.insert(name, range);
    }
    Ok(members)
}

fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let mut at = LEGACY.len();
    let mut next = || {
        let pickle = Pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += pickle.length;
        Ok::<_, String>(pickle)
    };
    let (version, system, content, keys) = (next()?, next()?, next()?, next()?);

    if !matches!(version.root, Some(Value::Int(LEGACY_VERSION))) {
        return Err(format!(
            "legacy format of another version than {LEGACY_VERSION}"
        ));
    }
    if let Some(Value::Dict(system_facts)) = system.root
        && let Some(Value::Bool(false)) = system.lookup(system_facts, "little_endian")
    {
        return Err("saved on a big-endian machine, which is not supported".to_string());
    }
    let storages = legacy_storages(bytes, at, &content, &keys)?;
    entries(&content, |storage| storages.get(storage.key).cloned())
}

/// The storages follow the pickles in the order of `keys`, each after its number of elements.
fn legacy_storages<'a>(
    bytes: &[u8],
    mut at: usize,
    content: &Pickle<'a>,
    keys: &Pickle<'a>,
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let Some(Value::Sequence(list)) = keys.root else {
        return Err("no list of storages".to_string());
    };
    let known: HashMap<&str, &Storage> = content.storages.iter().map(|s| (s.key, s)).collect();
    let mut ranges = HashMap::new();
    for key in keys.sequences.get(list).into_iter().flatten() {
        let storage = match key {
            Value::Text(key) => known
                .get(key)
                .ok_or_else(|| format!("unknown storage `{key}`"))?,
            _ => return Err("a storage without a name".to_string()),
        };
        let ends_early = || format!("the file ends within storage `{}`", storage.key);
        let (count, rest) = bytes
            .get(at..)
            .and_then(<[u8]>::split_first_chunk)
            .ok_or_else(ends_early)?;
        if u64::from_le_bytes(*count) != storage.elements as u64 {
            return Err(format!(
                "storage `{}` has another size than it says",
                storage.key
            ));
        }
        let length = storage.elements.checked_mul(storage.dtype.bytes());
        let length = length
            .filter(|&length| length <= rest.len())
            .ok_or_else(ends_early)?;
        let start = at + count.len();
        at = start + length;
        ranges.insert(storage.key, start..at);
    }
    Ok(ranges)
}

/// The tensors of the state dict in a pickle, whose storages `locate` finds in the file.
fn entries(
    pickle: &Pickle,
    locate: impl Fn(&Storage) -> Option<Range<usize>>,
) -> Result<BTreeMap<String, Entry>, String> {
    let Some(Value::Dict(root)) = pickle.root else {
        return Err("holds no dictionary of tensors".to_string());
    };
    let nested = ROOTS.iter().find_map(|key| match pickle.lookup(root, key) {
        Some(Value::Dict(dict)) => Some(dict),
        _ => None,
    });
    let mut entries = BTreeMap::new();
    for (key, value) in pickle
        .dicts
        .get(nested.unwrap_or(root))
        .into_iter()
        .flatten()
    {
        let Value::Text(key) = *key else {
            return Err("a dictionary key that is no text".to_string());
        };
        let Value::Tensor(view) = *value else {
            return Err(format!(
                "`{key}` is no tensor; expected a state dict, by itself or under one of the keys {}",
                ROOTS.join(", ")
            ));
        };
        let view = &pickle.views[view];
        let storage = &pickle.storages[view.storage];
        let range =
            locate(storage).ok_or_else(|| format!("`{key}`: its numbers are not in the file"))?;
        if storage.elements.checked_mul(storage.dtype.bytes()) != Some(range.len()) {
            return Err(format!(
                "`{key}`: {} bytes stored for {} elements of {}",
                range.len(),
                storage.elements,
                storage.dtype
            ));
        }
        let (shape, strides) = (view.shape.clone(), view.strides.clone());
        let entry = Entry::new(storage.dtype.clone(), shape, strides, range, view.offset)
            .map_err(|reason| format!("`{key}`: {reason}"))?;
        // Data-parallel training puts the model into a wrapper of that name.
        let name = key.trim_start_matches("module.");
        if entries.insert(name.to_string(), entry).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(entries)
}

/// Writes `{"params": state_dict}` as `torch.save` does.
pub(super) fn write(
    output: impl Write + Seek,
    state: &StateDict,
    precision: Precision,
) -> io::Result<()> {
    let folder = state.network().stem();
    // A fixed time, so that the same weights make the same file.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let mut archive = ZipWriter::new(output);
    let mut member = |name: &str, content: &[u8]| {
        archive.start_file(format!("{folder}/{name}"), options)?;
        archive.write_all(content)
    };
    member("data.pkl", &pickle(state, precision))?;
    member("byteorder", b"little")?;
    for (index, tensor) in state.tensors().iter().enumerate() {
        member(&format!("data/{index}"), &precision.encode(&tensor.values))?;
    }
    member("version", b"3\n")?;
    archive.finish()?.flush()
}

fn pickle(state: &StateDict, precision: Precision) -> Vec<u8> {
    let storage = match precision {
        Precision::Full => "FloatStorage",
        Precision::Half => "HalfStorage",
    };
    let mut writer = PickleWriter(b"\x80\x02".to_vec());
    writer.code(b'}').text("params").ordered_dict().code(b'(');
    for (index, tensor) in state.tensors().iter().enumerate() {
        writer
            .text(&tensor.name)
            .global("torch._utils", "_rebuild_tensor_v2")
            .code(b'(');
        // The numbers: ("storage", type, key, device, elements).
        writer.code(b'(').text("storage").global("torch", storage);
        writer
            .text(&index.to_string())
            .text("cpu")
            .integer(tensor.values.len())
            .code(b't');
        writer.code(b'Q').integer(0); // by reference, from the first element on
        writer
            .sizes(&tensor.shape)
            .sizes(&super::tensors::row_major(&tensor.shape));
        writer.code(0x89).ordered_dict(); // no gradient, no hooks
        writer.code(b't').code(b'R');
    }
    writer.code(b'u').code(b's').code(b'.');
    writer.0
}

/// Writes the few pickle instructions (protocol 2) that a state dict takes.
struct PickleWriter(Vec<u8>);

impl PickleWriter {
    fn code(&mut self, code: u8) -> &mut Self {
        self.0.push(code);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.0.extend(format!("c{module}\n{name}\n").as_bytes());
        self
    }

    fn ordered_dict(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict")
            .code(b')')
            .code(b'R')
    }

    fn integer(&mut self, value: usize) -> &mut Self {
        self.0.extend(b"\x8a\x08");
        self.0.extend((value as i64).to_le_bytes());
        self
    }

    fn sizes(&mut self, sizes: &[usize]) -> &mut Self {
        self.code(b'(');
        for &size in sizes {
            self.integer(size);
        }
        self.code(b't')
    }
}
