//! Builds a graph: nodes in order, weights and constants, and names for what passes between them.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::proto::{self, AttributeProto, GraphProto, NodeProto, TensorProto};
use super::{NamedTensor, Precision, StateDict};
use crate::error::{Error, Result};

/// What a node takes or gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value(Rc<str>);

impl Value {
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }
}

/// An attribute of a node.
pub(super) enum Attribute<'a> {
    Float(&'a str, f32),
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
}

impl From<&Attribute<'_>> for AttributeProto {
    fn from(attribute: &Attribute<'_>) -> Self {
        let new = |name: &str, kind| Self {
            name: Some(name.to_string()),
            r#type: Some(kind),
            ..Self::default()
        };
        match *attribute {
            Attribute::Float(name, value) => Self {
                f: Some(value),
                ..new(name, proto::ONE_FLOAT)
            },
            Attribute::Int(name, value) => Self {
                i: Some(value),
                ..new(name, proto::INT)
            },
            Attribute::Ints(name, values) => Self {
                ints: values.to_vec(),
                ..new(name, proto::INTS)
            },
            Attribute::Text(name, value) => Self {
                s: Some(value.as_bytes().to_vec()),
                ..new(name, proto::STRING)
            },
        }
    }
}

/// A graph that grows by operations on its values.
pub(super) struct Graph<'a> {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Initializers by their name.
    known: HashMap<String, Value>,
    /// Weights that were brought from half to single precision, by their name.
    widened: HashMap<String, Value>,
    /// Constants by type, shape and bytes.
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), Value>,
    /// By the key of a `.safetensors`.
    parameters: HashMap<String, &'a NamedTensor>,
    /// What nodes are named after: the part of the model that is being built.
    scope: String,
    /// How weights are stored.
    stored: Precision,
    /// What is computed in now.
    computed: Precision,
    /// The weights' file or the result, for errors.
    path: &'a Path,
}

impl<'a> Graph<'a> {
    pub fn new(path: &'a Path, states: &'a [StateDict], precision: Precision) -> Self {
        let parameters = states.iter().flat_map(|state| {
            let stem = state.network().stem();
            let tensors = state.tensors().iter();
            tensors.map(move |tensor| (format!("{stem}.{}", tensor.name), tensor))
        });
        Self {
            nodes: Vec::new(),
            initializers: Vec::new(),
            known: HashMap::new(),
            widened: HashMap::new(),
            constants: HashMap::new(),
            parameters: parameters.collect(),
            scope: String::new(),
            stored: precision,
            computed: precision,
            path,
        }
    }

    /// The finished graph, without inputs and outputs.
    pub fn finish(self) -> GraphProto {
        GraphProto {
            node: self.nodes,
            name: Some("hi-diff".to_string()),
            initializer: self.initializers,
            ..GraphProto::default()
        }
    }

    /// Names the nodes that follow.
    pub fn enter(&mut self, part: &str) {
        self.scope = part.to_string();
    }

    /// From here on in single precision, whatever the weights are stored in.
    pub fn compute_in_single(&mut self) {
        self.computed = Precision::Full;
    }

    /// From here on in what the weights are stored in.
    pub fn compute_as_stored(&mut self) {
        self.computed = self.stored;
    }

    /// A node with one output.
    pub fn op(&mut self, kind: &str, inputs: &[&Value], attributes: &[Attribute]) -> Value {
        let output = Value(format!("{}/{kind}_{}", self.scope, self.nodes.len()).into());
        self.push(kind, inputs, attributes, std::slice::from_ref(&output));
        output
    }

    /// A node with one output, of a name that outsiders know.
    pub fn op_named(&mut self, name: &str, kind: &str, inputs: &[&Value]) -> Value {
        let output = Value::named(name);
        self.push(kind, inputs, &[], std::slice::from_ref(&output));
        output
    }

    /// A value's parts along an axis, all of the same size.
    pub fn split<const N: usize>(&mut self, x: &Value, axis: i64) -> [Value; N] {
        let node = self.nodes.len();
        let outputs =
            std::array::from_fn(|part| Value(format!("{}/Split_{node}_{part}", self.scope).into()));
        self.push("Split", &[x], &[Attribute::Int("axis", axis)], &outputs);
        outputs
    }

    fn push(&mut self, kind: &str, inputs: &[&Value], attributes: &[Attribute], to: &[Value]) {
        let name = |value: &Value| value.0.to_string();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|value| name(value)).collect(),
            output: to.iter().map(name).collect(),
            name: Some(format!("{}/{kind}_{}", self.scope, self.nodes.len())),
            op_type: Some(kind.to_string()),
            attribute: attributes.iter().map(AttributeProto::from).collect(),
        });
    }

    /// Whether the weights have this parameter.
    pub fn has(&self, key: &str) -> bool {
        self.parameters.contains_key(key)
    }

    /// A parameter of the weights.
    pub fn parameter(&self, key: &str) -> Result<&'a NamedTensor> {
        let found = self.parameters.get(key).copied();
        found.ok_or_else(|| Error::weights(self.path, format!("`{key}` is missing")))
    }

    /// The outputs of a layer with the weights `{key}.weight`.
    pub fn outputs(&self, key: &str) -> Result<usize> {
        let shape = &self.parameter(&format!("{key}.weight"))?.shape;
        Ok(shape.first().copied().unwrap_or(1))
    }

    /// A parameter as it is, in what is computed in.
    pub fn weight(&mut self, key: &str) -> Result<Value> {
        let tensor = self.parameter(key)?;
        Ok(self.stored_weight(key, &tensor.shape, &tensor.values))
    }

    /// A parameter in single precision, as it is used where half precision does not do.
    pub fn weight_in_single(&mut self, key: &str, shape: &[usize]) -> Result<Value> {
        let tensor = self.parameter(key)?;
        Ok(self.initializer(key, Precision::Full, shape, &tensor.values))
    }

    /// The transpose of a linear layer's weights, `[in, out]`.
    pub fn transposed(&mut self, key: &str) -> Result<Value> {
        let tensor = self.parameter(key)?;
        let columns = tensor.shape.last().copied().unwrap_or(1);
        self.columns(key, "transposed", 0..columns)
    }

    /// The transpose of some columns of a linear layer's weights: those for a part of its input. `name` is theirs.
    pub fn columns(
        &mut self,
        key: &str,
        name: &str,
        part: std::ops::Range<usize>,
    ) -> Result<Value> {
        let tensor = self.parameter(key)?;
        let width = tensor.shape.last().copied().unwrap_or(1).max(1);
        let (rows, count) = (tensor.values.len() / width, part.len());
        let column = |column| tensor.values.iter().skip(column).step_by(width).copied();
        let values: Vec<f32> = part.flat_map(column).collect();
        Ok(self.stored_weight(&format!("{key}.{name}"), &[count, rows], &values))
    }

    /// Weights in what they are stored in, and brought to what is computed in.
    pub fn stored_weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let weight = self.initializer(name, self.stored, shape, values);
        if (self.stored, self.computed) != (Precision::Half, Precision::Full) {
            return weight;
        }
        if let Some(value) = self.widened.get(name) {
            return value.clone();
        }
        let value = self.cast(&weight, proto::FLOAT);
        self.widened.insert(name.to_string(), value.clone());
        value
    }

    /// A tensor of the file; the first of a name stays.
    fn initializer(
        &mut self,
        name: &str,
        precision: Precision,
        shape: &[usize],
        values: &[f32],
    ) -> Value {
        if let Some(value) = self.known.get(name) {
            return value.clone();
        }
        let dims: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let value = self.tensor(name, kind(precision), dims, precision.encode(values));
        self.known.insert(name.to_string(), value.clone());
        value
    }

    fn tensor(&mut self, name: &str, kind: i32, dims: Vec<i64>, bytes: Vec<u8>) -> Value {
        self.initializers.push(TensorProto {
            dims,
            data_type: Some(kind),
            name: Some(name.to_string()),
            raw_data: Some(bytes),
        });
        Value::named(name)
    }

    fn constant(&mut self, kind: i32, dims: Vec<i64>, bytes: Vec<u8>) -> Value {
        let key = (kind, dims, bytes);
        if let Some(value) = self.constants.get(&key) {
            return value.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        let value = self.tensor(&name, key.0, key.1.clone(), key.2.clone());
        self.constants.insert(key, value.clone());
        value
    }

    /// A number in what is computed in.
    pub fn scalar(&mut self, value: f64) -> Value {
        let bytes = self.computed.encode(&[value as f32]);
        self.constant(kind(self.computed), Vec::new(), bytes)
    }

    /// A number in single precision.
    pub fn single_scalar(&mut self, value: f64) -> Value {
        self.singles(&[], &[value as f32])
    }

    /// Numbers in single precision.
    pub fn singles(&mut self, shape: &[usize], values: &[f32]) -> Value {
        let dims = shape.iter().map(|&size| size as i64).collect();
        self.constant(proto::FLOAT, dims, Precision::Full.encode(values))
    }

    /// Numbers in what is computed in.
    pub fn constants(&mut self, shape: &[usize], values: &[f32]) -> Value {
        let dims = shape.iter().map(|&size| size as i64).collect();
        let bytes = self.computed.encode(values);
        self.constant(kind(self.computed), dims, bytes)
    }

    /// A list of integers.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        self.shaped_ints(&[values.len() as i64], values)
    }

    /// Integers of a shape; a single one of none is a number.
    pub fn shaped_ints(&mut self, dims: &[i64], values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(proto::INT64, dims.to_vec(), bytes.collect())
    }

    fn cast(&mut self, x: &Value, kind: i32) -> Value {
        self.op("Cast", &[x], &[Attribute::Int("to", i64::from(kind))])
    }

    /// A value that was computed in what is computed in now, in single precision.
    pub fn single(&mut self, x: &Value) -> Value {
        match self.computed {
            Precision::Full => x.clone(),
            Precision::Half => self.cast(x, proto::FLOAT),
        }
    }

    /// A value in single precision, in what is computed in now.
    pub fn computed(&mut self, x: &Value) -> Value {
        match self.computed {
            Precision::Full => x.clone(),
            Precision::Half => self.cast(x, proto::FLOAT16),
        }
    }

    /// Integers or truths as numbers in single precision.
    pub fn number(&mut self, x: &Value) -> Value {
        self.cast(x, proto::FLOAT)
    }

    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Add", &[a, b], &[])
    }

    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Sub", &[a, b], &[])
    }

    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Mul", &[a, b], &[])
    }

    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Div", &[a, b], &[])
    }

    /// `x · factor`, in what is computed in.
    pub fn scale(&mut self, x: &Value, factor: f64) -> Value {
        let factor = self.scalar(factor);
        self.mul(x, &factor)
    }

    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("MatMul", &[a, b], &[])
    }

    pub fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.op("Transpose", &[x], &[Attribute::Ints("perm", order)])
    }

    /// In a shape where 0 stays as it is, and one −1 takes the rest.
    pub fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.reshape_to(x, &shape)
    }

    pub fn reshape_to(&mut self, x: &Value, shape: &Value) -> Value {
        self.op("Reshape", &[x, shape], &[])
    }

    pub fn concat(&mut self, parts: &[&Value], axis: i64) -> Value {
        self.op("Concat", parts, &[Attribute::Int("axis", axis)])
    }

    pub fn softmax(&mut self, x: &Value, axis: i64) -> Value {
        self.op("Softmax", &[x], &[Attribute::Int("axis", axis)])
    }

    /// A statistic along an axis, which stays with size 1.
    pub fn reduce(&mut self, kind: &str, x: &Value, axis: i64) -> Value {
        let attributes = [
            Attribute::Ints("axes", &[axis]),
            Attribute::Int("keepdims", 1),
        ];
        self.op(kind, &[x], &attributes)
    }
}

fn kind(precision: Precision) -> i32 {
    match precision {
        Precision::Full => proto::FLOAT,
        Precision::Half => proto::FLOAT16,
    }
}
