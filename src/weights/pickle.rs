//! Reads the pickles in PyTorch checkpoints as data.
//!
//! A pickle is a program, and Python runs whatever function it names. Here it builds nothing but plain values and
//! tensor descriptions: the few functions that make those are recognised by name, any other call is an error, and
//! nothing is ever run. Values live in flat tables, so that neither a deeply nested nor a self-repeating pickle costs
//! more memory or stack than a small multiple of its own length.

use std::collections::HashMap;

use super::tensors::Dtype;

/// Longest pickle read; the published Transformer's has 80 kB.
const LONGEST: usize = 8 << 20;
/// Most dimensions of a tensor; a convolution's weight has four.
const MOST_DIMENSIONS: usize = 8;

/// A value on the pickle's stack. Containers are indices into the tables of [`Pickle`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// A value that no weight file needs to be understood, such as `None` or a float.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Global(&'a str, &'a str),
    Sequence(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

/// A block of numbers that tensors are views of.
#[derive(Debug, Clone)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    pub elements: usize,
}

/// A tensor as a view of a storage, sizes in elements.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub storage: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a pickle describes.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    pub root: Option<Value<'a>>,
    /// Bytes read.
    pub length: usize,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub sequences: Vec<Vec<Value<'a>>>,
    pub storages: Vec<Storage<'a>>,
    pub views: Vec<View>,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `input`; whatever follows it is left alone.
    pub fn read(input: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            input: &input[..input.len().min(LONGEST)],
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pickle: Pickle::default(),
        };
        while machine.step()? {}
        machine.pickle.root = Some(machine.pop()?);
        machine.pickle.length = machine.at;
        Ok(machine.pickle)
    }

    /// The value of a text key; the last one, as in Python, should there be several.
    pub fn lookup(&self, dict: usize, key: &str) -> Option<Value<'a>> {
        let entries = self.dicts.get(dict)?;
        let found = entries
            .iter()
            .rev()
            .find(|(k, _)| matches!(k, Value::Text(k) if *k == key));
        found.map(|(_, value)| *value)
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// Carries out one instruction; false at the end of the pickle.
    fn step(&mut self) -> Result<bool, String> {
        let at = self.at;
        match self.byte()? {
            0x80 => {
                let protocol = self.byte()?;
                if !(2..=5).contains(&protocol) {
                    return Err(format!("pickle protocol {protocol}, expected 2 to 5"));
                }
            }
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::Other),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => self.integer::<1>()?,
            b'M' => self.integer::<2>()?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }
            b'U' | 0x8c => self.text::<1>()?,
            b'T' | b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            b'c' => {
                let global = Value::Global(self.line()?, self.line()?);
                self.stack.push(global);
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.stack.push(Value::Global(module, name));
                }
                _ => return Err("a function without a name".to_string()),
            },
            0x95 => {
                self.take(8)?; // The frame's length serves readers of streams only.
            }
            b'q' => {
                let slot = self.byte()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b']' | b')' => self.sequence(Vec::new()),
            b't' | b'l' => {
                let items = self.since_mark()?;
                self.sequence(items);
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b'}' => self.dict(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(items)?;
            }
            b'b' => {
                self.pop()?; // Attributes, such as a state dict's `_metadata`, carry no tensors.
            }
            b'Q' => self.persistent()?,
            b'R' => self.call()?,
            code => {
                return Err(format!(
                    "unknown pickle instruction 0x{code:02x} at byte {at}"
                ));
            }
        }
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.input.get(self.at..end));
        let taken = taken.ok_or_else(|| format!("the pickle ends early, at byte {}", self.at))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn unsigned<const N: usize>(&mut self) -> Result<u64, String> {
        Ok(self
            .array::<N>()?
            .iter()
            .rev()
            .fold(0, |value, &byte| (value << 8) | u64::from(byte)))
    }

    fn integer<const N: usize>(&mut self) -> Result<(), String> {
        let value = self.unsigned::<N>()?;
        self.stack
            .push(i64::try_from(value).map_or(Value::Other, Value::Int));
        Ok(())
    }

    fn long(&mut self) -> Result<(), String> {
        let length = self.byte()?;
        let digits = self.take(length.into())?;
        let negative = digits.last().is_some_and(|&byte| byte >= 0x80);
        let mut bytes = if negative { [0xff; 8] } else { [0; 8] };
        self.stack.push(match bytes.get_mut(..digits.len()) {
            Some(low) => {
                low.copy_from_slice(digits);
                Value::Int(i64::from_le_bytes(bytes))
            }
            None => Value::Other,
        });
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.unsigned::<N>()?;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let text = str::from_utf8(bytes).map_err(|_| "a name that is not UTF-8".to_string())?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len());
        let line = self.take(length)?;
        self.take(1)?;
        str::from_utf8(line).map_err(|_| "a name that is not UTF-8".to_string())
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > bottom {
            true => self.stack.pop().ok_or_else(underflow),
            false => Err(underflow()),
        }
    }

    fn last(&self) -> Result<Value<'a>, String> {
        self.stack.last().copied().ok_or_else(underflow)
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let value = self.last()?;
        self.memo.insert(slot, value);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value = self
            .memo
            .get(&slot)
            .ok_or_else(|| format!("no value {slot} to repeat"))?;
        self.stack.push(*value);
        Ok(())
    }

    fn sequence(&mut self, items: Vec<Value<'a>>) {
        self.stack
            .push(Value::Sequence(self.pickle.sequences.len()));
        self.pickle.sequences.push(items);
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let mut items = (0..length)
            .map(|_| self.pop())
            .collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.sequence(items);
        Ok(())
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        let Value::Sequence(index) = self.last()? else {
            return Err("items for something that is no list".to_string());
        };
        self.pickle.sequences[index].extend(items);
        Ok(())
    }

    fn dict(&mut self) {
        self.stack.push(Value::Dict(self.pickle.dicts.len()));
        self.pickle.dicts.push(Vec::new());
    }

    fn set(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        if items.len() % 2 == 1 {
            return Err("a key without a value".to_string());
        }
        match self.last()? {
            Value::Dict(index) => {
                let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                self.pickle.dicts[index].extend(pairs);
                Ok(())
            }
            _ => Err("entries for something that is no dictionary".to_string()),
        }
    }

    fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Sequence(index) => self.pickle.sequences.get(index).map(Vec::as_slice),
            _ => None,
        }
    }

    /// A reference to numbers outside the pickle: `("storage", type, key, device, elements)`, in the legacy format
    /// followed by a view's bounds, always `None` since 2017.
    fn persistent(&mut self) -> Result<(), String> {
        let reference = self.pop()?;
        let storage = match self.items(reference) {
            Some(
                &[
                    Value::Text("storage"),
                    Value::Global("torch" | "torch.cuda", kind),
                    Value::Text(key),
                    Value::Text(_),
                    Value::Int(elements),
                ]
                | &[
                    Value::Text("storage"),
                    Value::Global("torch" | "torch.cuda", kind),
                    Value::Text(key),
                    Value::Text(_),
                    Value::Int(elements),
                    Value::Other,
                ],
            ) => Storage {
                key,
                dtype: dtype(kind)?,
                elements: size(elements)?,
            },
            _ => return Err("a reference that is no tensor storage".to_string()),
        };
        self.stack.push(Value::Storage(self.pickle.storages.len()));
        self.pickle.storages.push(storage);
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let Value::Global(module, name) = self.pop()? else {
            return Err("a call of something that is no function".to_string());
        };
        match (module, name) {
            ("collections", "OrderedDict") => {
                let pairs = self.pairs(arguments);
                let pairs = pairs.ok_or("a dictionary of something else than pairs")?;
                self.dict();
                self.set(pairs)?;
            }
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => self.tensor(arguments)?,
            ("torch._utils", "_rebuild_parameter") => {
                match self.items(arguments).and_then(<[_]>::first) {
                    Some(&tensor @ Value::Tensor(_)) => self.stack.push(tensor),
                    _ => return Err("a parameter without a tensor".to_string()),
                }
            }
            _ => {
                return Err(format!(
                    "asks for a call of `{module}.{name}`, which no weights need; only plain tensors are read, and \
                     no code in a file is ever run"
                ));
            }
        }
        Ok(())
    }

    /// The keys and values that an `OrderedDict` is made from: nothing, or a list of pairs, as Python 2 wrote them. The list
    /// is empty afterwards, so that many dictionaries of one list do not take more memory than one.
    fn pairs(&mut self, arguments: Value<'a>) -> Option<Vec<Value<'a>>> {
        let list = match *self.items(arguments)? {
            [] => return Some(Vec::new()),
            [Value::Sequence(list)] => list,
            _ => return None,
        };
        let pairs = std::mem::take(self.pickle.sequences.get_mut(list)?);
        let pairs = pairs.into_iter().map(|pair| match self.items(pair)? {
            &[key, value] => Some([key, value]),
            _ => None,
        });
        Some(pairs.collect::<Option<Vec<_>>>()?.into_flattened())
    }

    fn tensor(&mut self, arguments: Value<'a>) -> Result<(), String> {
        let view = match self.items(arguments) {
            Some(
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    shape,
                    strides,
                    ..,
                ],
            ) => View {
                storage,
                offset: size(offset)?,
                shape: self.sizes(shape)?,
                strides: self.sizes(strides)?,
            },
            _ => return Err("a tensor without storage, offset, shape and strides".to_string()),
        };
        if view.shape.len() != view.strides.len() {
            return Err(format!(
                "a tensor of shape {:?} and strides {:?}",
                view.shape, view.strides
            ));
        }
        self.stack.push(Value::Tensor(self.pickle.views.len()));
        self.pickle.views.push(view);
        Ok(())
    }

    fn sizes(&self, value: Value<'a>) -> Result<Vec<usize>, String> {
        let items = self.items(value).ok_or("a shape that is no tuple")?;
        if items.len() > MOST_DIMENSIONS {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        let sizes = items.iter().map(|item| match *item {
            Value::Int(value) => size(value),
            _ => Err("a size that is no integer".to_string()),
        });
        sizes.collect()
    }
}

fn underflow() -> String {
    "the pickle takes more values than it made".to_string()
}

fn size(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("a size of {value}"))
}

fn dtype(storage: &str) -> Result<Dtype, String> {
    let other = |name, bytes| Dtype::Other {
        name: String::from(name),
        bytes,
    };
    Ok(match storage {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => other("int64", 8),
        "IntStorage" => other("int32", 4),
        "ShortStorage" => other("int16", 2),
        "CharStorage" => other("int8", 1),
        "ByteStorage" => other("uint8", 1),
        "BoolStorage" => other("bool", 1),
        "ComplexFloatStorage" => other("complex64", 8),
        "ComplexDoubleStorage" => other("complex128", 16),
        _ => return Err(format!("unknown storage type `{storage}`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_a_python_function_is_refused_by_name() {
        // What `pickle.dumps` makes of an object whose `__reduce__` is `(os.system, ("touch owned",))`.
        let payload = b"\x80\x02cposix\nsystem\nX\x0b\x00\x00\x00touch owned\x85R.";
        let error = Pickle::read(payload).unwrap_err();
        assert!(error.contains("`posix.system`"), "{error}");
        assert!(error.contains("no code in a file is ever run"), "{error}");
    }

    #[test]
    fn an_ordered_dictionary_may_be_made_from_a_list_of_pairs() {
        // What Python 2 makes of `OrderedDict([("a", 1), ("b", 2)])`.
        let pairs = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R.";
        let pickle = Pickle::read(pairs).unwrap();
        let Some(Value::Dict(dict)) = pickle.root else {
            panic!("{:?}", pickle.root);
        };
        for (key, expected) in [("a", 1), ("b", 2)] {
            let value = pickle.lookup(dict, key);
            assert!(matches!(value, Some(Value::Int(value)) if value == expected));
        }
        let error = Pickle::read(b"\x80\x02ccollections\nOrderedDict\n](](U\x01aee\x85R.");
        assert!(error.unwrap_err().contains("pairs"));
    }

    #[test]
    fn dictionaries_of_one_list_do_not_multiply_it() {
        let mut bytes = b"\x80\x02](".to_vec();
        bytes.extend(b"NN\x86".repeat(1000));
        bytes.extend(b"eq\x00ccollections\nOrderedDict\nq\x01");
        bytes.extend(b"h\x01h\x00\x85R".repeat(1000));
        bytes.push(b'.');
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.dicts.iter().map(Vec::len).sum::<usize>(), 1000);
    }

    #[test]
    fn values_repeated_through_the_memo_are_shared() {
        // Each level is a pair of the one below: 2^1000 values if copied.
        let mut bytes = b"\x80\x02]q\x00".to_vec();
        for _ in 0..1000 {
            bytes.extend(b"h\x00h\x00\x86q\x00");
        }
        bytes.push(b'.');
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.sequences.len(), 1001);
    }

    #[test]
    fn a_million_nested_tuples_do_not_exhaust_the_stack() {
        let mut bytes = b"\x80\x02N".to_vec();
        bytes.extend(std::iter::repeat_n(0x85, 1_000_000));
        bytes.push(b'.');
        assert_eq!(Pickle::read(&bytes).unwrap().sequences.len(), 1_000_000);
    }

    #[test]
    fn long_integers_keep_their_sign() {
        for (bytes, expected) in [
            (&b"\x8a\x01\xff."[..], -1),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8a\x00.", 0),
        ] {
            let root = Pickle::read(bytes).unwrap().root;
            assert!(
                matches!(root, Some(Value::Int(value)) if value == expected),
                "{root:?}"
            );
        }
    }

    #[test]
    fn a_claimed_length_beyond_the_end_is_an_error() {
        let error = Pickle::read(b"\x80\x02X\xff\xff\xff\xffabc.").unwrap_err();
        assert!(error.contains("ends early"), "{error}");
    }

    #[test]
    fn stack_underflow_is_an_error() {
        for bytes in [&b"."[..], b"R.", b"t.", b"(a.", b"}s.", b"(.", b"h\x00."] {
            assert!(Pickle::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
