//! The backward of each operation, for any backend under `Autodiff`.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{FloatDType, Tensor, TensorPrimitive};

use super::{Backend, BlockGradients, BranchWeights, HimWeights, plain};

impl<B: Backend, C: CheckpointStrategy> Backend for Autodiff<B, C> {
    fn depthwise_conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        track::<B, C, _>(DepthwiseConv3x3, x, weight, bias)
    }

    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        track::<B, C, _>(Conv3x3, x, weight, bias)
    }

    fn conv3x3_unshuffle(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        track_block::<B, C, _, 2>(Unshuffling, [Some(x), Some(weight)])
    }

    fn conv3x3_shuffle(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        skip: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        track_block::<B, C, _, 3>(Shuffling, [Some(x), Some(weight), Some(skip)])
    }

    fn channel_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let with_bias = bias.is_some();
        track::<B, C, _>(ChannelNorm { with_bias, epsilon }, x, weight, bias)
    }

    fn mdta(
        x: FloatTensor<Self>,
        temperature: FloatTensor<Self>,
        weights: BranchWeights<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let Some(gradients) = B::block_gradients(&x.primitive) else {
            return plain::mdta::<Self>(x, temperature, weights);
        };
        let ([a, b, c, d, e, f, g, h, i, j], epsilon) = weights.into_parts();
        let tensors = [Some(x), Some(temperature), a, b, c, d, e, f, g, h, i, j];
        track_block::<B, C, _, 12>(MdtaBlock { epsilon, gradients }, tensors)
    }

    fn gdfn(x: FloatTensor<Self>, weights: BranchWeights<FloatTensor<Self>>) -> FloatTensor<Self> {
        let Some(gradients) = B::block_gradients(&x.primitive) else {
            return plain::gdfn::<Self>(x, weights);
        };
        let ([a, b, c, d, e, f, g, h, i, j], epsilon) = weights.into_parts();
        let tensors = [Some(x), a, b, c, d, e, f, g, h, i, j];
        track_block::<B, C, _, 11>(GdfnBlock { epsilon, gradients }, tensors)
    }

    fn him(x: FloatTensor<Self>, weights: HimWeights<FloatTensor<Self>>) -> FloatTensor<Self> {
        let Some(gradients) = B::block_gradients(&x.primitive) else {
            return plain::him::<Self>(x, weights);
        };
        let ([a, b, c, d, e, f, g, h, i, j], epsilon, heads) = weights.into_parts();
        let operation = HimBlock {
            epsilon,
            heads,
            gradients,
        };
        track_block::<B, C, _, 11>(operation, [Some(x), a, b, c, d, e, f, g, h, i, j])
    }

    fn shares_samples() -> bool {
        B::shares_samples()
    }

    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        track_unary::<B, C, _>(Gelu, x)
    }

    fn gelu_gate(x: FloatTensor<Self>) -> FloatTensor<Self> {
        track_unary::<B, C, _>(GeluGate, x)
    }
}

/// An operation on an image `[batch, channels, height, width]` with a weight and, added at the end, an optional bias for
/// each output channel.
trait Affine<B: Backend>: Debug + Copy + Send + 'static {
    /// Whether computing the output again is cheap against keeping it, where gradient checkpointing is on.
    const LIGHT: bool;

    fn forward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B>;

    /// The gradients for x and weight.
    fn backward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>);
}

#[derive(Debug, Clone, Copy)]
struct DepthwiseConv3x3;

impl<B: Backend> Affine<B> for DepthwiseConv3x3 {
    const LIGHT: bool = true; // Nine multiplications an element, of tensors that are the largest of all.

    fn forward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        B::depthwise_conv3x3(x, weight, bias)
    }

    fn backward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        B::depthwise_conv3x3_backward(x, weight, grad)
    }
}

#[derive(Debug, Clone, Copy)]
struct Conv3x3;

impl<B: Backend> Affine<B> for Conv3x3 {
    const LIGHT: bool = false;

    fn forward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        B::conv3x3(x, weight, bias)
    }

    fn backward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        B::conv3x3_backward(x, weight, grad)
    }
}

#[derive(Debug, Clone, Copy)]
struct ChannelNorm {
    with_bias: bool,
    epsilon: f64,
}

impl<B: Backend> Affine<B> for ChannelNorm {
    const LIGHT: bool = true;

    fn forward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        B::channel_norm(x, weight, bias, self.epsilon)
    }

    fn backward(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        B::channel_norm_backward(x, weight, grad, self.with_bias, self.epsilon)
    }
}

/// Runs an operation and records what its backward needs. Burn fixes the number of parents by type, hence two records.
fn track<B: Backend, C: CheckpointStrategy, O: Affine<B>>(
    operation: O,
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: Option<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let again = AffineAgain::<B, O> {
        operation,
        x: x.node.id,
        weight: weight.node.id,
        bias: bias.as_ref().map(|bias| bias.node.id),
        backend: PhantomData,
    };
    match bias {
        Some(bias) => {
            let nodes = [x.node.clone(), weight.node.clone(), bias.node.clone()];
            let prep = WithBias(operation).prepare::<C>(nodes);
            let prep = match O::LIGHT {
                true => prep
                    .memory_bound()
                    .retro_forward(again)
                    .parents([&x, &weight, &bias]),
                false => prep.compute_bound(),
            };
            match prep.stateful() {
                OpsKind::Tracked(mut prep) => {
                    let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
                    let bias = Some(bias.primitive);
                    let output = operation.forward(x.primitive, weight.primitive, bias);
                    prep.finish(state, output)
                }
                OpsKind::UnTracked(prep) => {
                    let bias = Some(bias.primitive);
                    prep.finish(operation.forward(x.primitive, weight.primitive, bias))
                }
            }
        }
        None => {
            let prep = WithoutBias(operation).prepare::<C>([x.node.clone(), weight.node.clone()]);
            let prep = match O::LIGHT {
                true => prep
                    .memory_bound()
                    .retro_forward(again)
                    .parents([&x, &weight]),
                false => prep.compute_bound(),
            };
            match prep.stateful() {
                OpsKind::Tracked(mut prep) => {
                    let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
                    let output = operation.forward(x.primitive, weight.primitive, None);
                    prep.finish(state, output)
                }
                OpsKind::UnTracked(prep) => {
                    prep.finish(operation.forward(x.primitive, weight.primitive, None))
                }
            }
        }
    }
}

/// Computes an operation's output again in the backward pass.
#[derive(Debug)]
struct AffineAgain<B, O> {
    operation: O,
    x: NodeId,
    weight: NodeId,
    bias: Option<NodeId>,
    backend: PhantomData<B>,
}

impl<B: Backend, O: Affine<B>> RetroForward for AffineAgain<B, O> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let weight = states.get_state::<FloatTensor<B>>(&self.weight);
        let bias = self
            .bias
            .map(|bias| states.get_state::<FloatTensor<B>>(&bias));
        states.save(out_node, self.operation.forward(x, weight, bias));
    }
}

#[derive(Debug)]
struct WithBias<O>(O);

impl<B: Backend, O: Affine<B>> Backward<B, 3> for WithBias<O> {
    type State = (NodeId, NodeId);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_weight, node_bias] = ops.parents;
        let (x, weight) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = node_bias {
            grads.register::<B>(node.id, bias_gradient::<B>(grad.clone()));
        }
        let x = checkpointer.retrieve_node_output(x);
        let weight = checkpointer.retrieve_node_output(weight);
        let (grad_x, grad_weight) = self.0.backward(x, weight, grad);
        if let Some(node) = node_x {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = node_weight {
            grads.register::<B>(node.id, grad_weight);
        }
    }
}

#[derive(Debug)]
struct WithoutBias<O>(O);

impl<B: Backend, O: Affine<B>> Backward<B, 2> for WithoutBias<O> {
    type State = (NodeId, NodeId);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_weight] = ops.parents;
        let (x, weight) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let x = checkpointer.retrieve_node_output(x);
        let weight = checkpointer.retrieve_node_output(weight);
        let (grad_x, grad_weight) = self.0.backward(x, weight, grad);
        if let Some(node) = node_x {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = node_weight {
            grads.register::<B>(node.id, grad_weight);
        }
    }
}

/// The sum over batch, height and width: `[batch, channels, height, width]` to `[channels]`.
fn bias_gradient<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    let grad: Tensor<B, 4> = Tensor::from_primitive(TensorPrimitive::Float(grad));
    let channels = grad.dims()[1];
    let sum = grad.sum_dim(3).sum_dim(2).sum_dim(0).reshape([channels]);
    sum.into_primitive().tensor()
}

/// An operation without parameters, cheap to compute again.
trait Unary<B: Backend>: Debug + Copy + Send + 'static {
    fn forward(self, x: FloatTensor<B>) -> FloatTensor<B>;

    fn backward(self, x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B>;
}

#[derive(Debug, Clone, Copy)]
struct Gelu;

impl<B: Backend> Unary<B> for Gelu {
    fn forward(self, x: FloatTensor<B>) -> FloatTensor<B> {
        B::exact_gelu(x)
    }

    fn backward(self, x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
        B::exact_gelu_backward(x, grad)
    }
}

#[derive(Debug, Clone, Copy)]
struct GeluGate;

impl<B: Backend> Unary<B> for GeluGate {
    fn forward(self, x: FloatTensor<B>) -> FloatTensor<B> {
        B::gelu_gate(x)
    }

    fn backward(self, x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
        B::gelu_gate_backward(x, grad)
    }
}

fn track_unary<B: Backend, C: CheckpointStrategy, O: Unary<B>>(
    operation: O,
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let again = UnaryAgain::<B, O> {
        operation,
        x: x.node.id,
        backend: PhantomData,
    };
    match OfOne(operation)
        .prepare::<C>([x.node.clone()])
        .memory_bound()
        .retro_forward(again)
        .parents([&x])
        .stateful()
    {
        OpsKind::Tracked(mut prep) => {
            let state = prep.checkpoint(&x);
            prep.finish(state, operation.forward(x.primitive))
        }
        OpsKind::UnTracked(prep) => prep.finish(operation.forward(x.primitive)),
    }
}

/// Computes an operation's output again in the backward pass.
#[derive(Debug)]
struct UnaryAgain<B, O> {
    operation: O,
    x: NodeId,
    backend: PhantomData<B>,
}

impl<B: Backend, O: Unary<B>> RetroForward for UnaryAgain<B, O> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        states.save(out_node, self.operation.forward(x));
    }
}

#[derive(Debug)]
struct OfOne<O>(O);

impl<B: Backend, O: Unary<B>> Backward<B, 1> for OfOne<O> {
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let x = checkpointer.retrieve_node_output(ops.state);
        if let Some(node) = node_x {
            grads.register::<B>(node.id, self.0.backward(x, grad));
        }
    }
}

/// An operation on a whole block, out of `N` tensors of which some may be missing. Only these are kept for the backward
/// pass.
trait Block<B: Backend, const N: usize>: Debug + Clone + Send + 'static {
    fn forward(&self, tensors: [Option<FloatTensor<B>>; N]) -> FloatTensor<B>;

    fn backward(
        &self,
        tensors: [Option<FloatTensor<B>>; N],
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; N];
}

/// [`Backend::conv3x3_unshuffle`]
#[derive(Debug, Clone)]
struct Unshuffling;

impl<B: Backend> Block<B, 2> for Unshuffling {
    fn forward(&self, [x, weight]: [Option<FloatTensor<B>>; 2]) -> FloatTensor<B> {
        B::conv3x3_unshuffle(x.expect("an image"), weight.expect("a weight"))
    }

    fn backward(
        &self,
        [x, weight]: [Option<FloatTensor<B>>; 2],
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; 2] {
        let (x, weight) = (x.expect("an image"), weight.expect("a weight"));
        let (x, weight) = B::conv3x3_unshuffle_backward(x, weight, grad);
        [Some(x), Some(weight)]
    }
}

/// [`Backend::conv3x3_shuffle`]
#[derive(Debug, Clone)]
struct Shuffling;

impl<B: Backend> Block<B, 3> for Shuffling {
    fn forward(&self, [x, weight, skip]: [Option<FloatTensor<B>>; 3]) -> FloatTensor<B> {
        let (x, weight) = (x.expect("an image"), weight.expect("a weight"));
        B::conv3x3_shuffle(x, weight, skip.expect("channels behind"))
    }

    fn backward(
        &self,
        [x, weight, _]: [Option<FloatTensor<B>>; 3],
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; 3] {
        let (x, weight) = (x.expect("an image"), weight.expect("a weight"));
        let (x, weight, skip) = B::conv3x3_shuffle_backward(x, weight, grad);
        [Some(x), Some(weight), Some(skip)]
    }
}

#[derive(Debug, Clone)]
struct MdtaBlock<B: Backend> {
    epsilon: f64,
    gradients: BlockGradients<B>,
}

impl<B: Backend> Block<B, 12> for MdtaBlock<B> {
    fn forward(&self, tensors: [Option<FloatTensor<B>>; 12]) -> FloatTensor<B> {
        let (x, temperature, weights) = self.split(tensors);
        B::mdta(x, temperature, weights)
    }

    fn backward(
        &self,
        tensors: [Option<FloatTensor<B>>; 12],
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; 12] {
        let (x, temperature, weights) = self.split(tensors);
        let (x, temperature, weights) = (self.gradients.mdta)(x, temperature, weights, grad);
        let ([a, b, c, d, e, f, g, h, i, j], _) = weights.into_parts();
        [Some(x), Some(temperature), a, b, c, d, e, f, g, h, i, j]
    }
}

impl<B: Backend> MdtaBlock<B> {
    #[allow(clippy::type_complexity)] // The arguments of the operation.
    fn split(
        &self,
        tensors: [Option<FloatTensor<B>>; 12],
    ) -> (
        FloatTensor<B>,
        FloatTensor<B>,
        BranchWeights<FloatTensor<B>>,
    ) {
        let [x, temperature, a, b, c, d, e, f, g, h, i, j] = tensors;
        (
            x.expect("an image"),
            temperature.expect("a temperature"),
            BranchWeights::from_parts([a, b, c, d, e, f, g, h, i, j], self.epsilon),
        )
    }
}

#[derive(Debug, Clone)]
struct GdfnBlock<B: Backend> {
    epsilon: f64,
    gradients: BlockGradients<B>,
}

impl<B: Backend> Block<B, 11> for GdfnBlock<B> {
    fn forward(&self, tensors: [Option<FloatTensor<B>>; 11]) -> FloatTensor<B> {
        let [x, a, b, c, d, e, f, g, h, i, j] = tensors;
        let weights = BranchWeights::from_parts([a, b, c, d, e, f, g, h, i, j], self.epsilon);
        B::gdfn(x.expect("an image"), weights)
    }

    fn backward(
        &self,
        tensors: [Option<FloatTensor<B>>; 11],
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; 11] {
        let [x, a, b, c, d, e, f, g, h, i, j] = tensors;
        let weights = BranchWeights::from_parts([a, b, c, d, e, f, g, h, i, j], self.epsilon);
        let (x, weights) = (self.gradients.gdfn)(x.expect("an image"), weights, grad);
        let ([a, b, c, d, e, f, g, h, i, j], _) = weights.into_parts();
        [Some(x), a, b, c, d, e, f, g, h, i, j]
    }
}

#[derive(Debug, Clone)]
struct HimBlock<B: Backend> {
    epsilon: f64,
    heads: usize,
    gradients: BlockGradients<B>,
}

impl<B: Backend> Block<B, 11> for HimBlock<B> {
    fn forward(&self, tensors: [Option<FloatTensor<B>>; 11]) -> FloatTensor<B> {
        let [x, a, b, c, d, e, f, g, h, i, j] = tensors;
        let parts = [a, b, c, d, e, f, g, h, i, j];
        let weights = HimWeights::from_parts(parts, self.epsilon, self.heads);
        B::him(x.expect("an image"), weights)
    }

    fn backward(
        &self,
        tensors: [Option<FloatTensor<B>>; 11],
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; 11] {
        let [x, a, b, c, d, e, f, g, h, i, j] = tensors;
        let parts = [a, b, c, d, e, f, g, h, i, j];
        let weights = HimWeights::from_parts(parts, self.epsilon, self.heads);
        let (x, weights) = (self.gradients.him)(x.expect("an image"), weights, grad);
        let ([a, b, c, d, e, f, g, h, i, j], ..) = weights.into_parts();
        [Some(x), a, b, c, d, e, f, g, h, i, j]
    }
}

#[derive(Debug)]
struct OfBlock<O>(O);

impl<B: Backend, O: Block<B, N>, const N: usize> Backward<B, N> for OfBlock<O> {
    type State = [Option<FloatTensor<B>>; N];

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let gradients = self.0.backward(ops.state, grad);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

fn track_block<B: Backend, C: CheckpointStrategy, O: Block<B, N>, const N: usize>(
    operation: O,
    tensors: [Option<FloatTensor<Autodiff<B, C>>>; N],
) -> FloatTensor<Autodiff<B, C>> {
    // Burn wants a node for each parent; a missing tensor's is one that needs no gradient.
    let none = tensors[0].as_ref().map(|x| B::float_device(&x.primitive));
    let none = none.map(|device| {
        let empty = B::float_zeros([1].into(), &device, FloatDType::F32);
        FloatTensor::<Autodiff<B, C>>::new(empty)
    });
    let nodes = tensors.each_ref().map(|tensor| {
        let tensor = tensor.as_ref().or(none.as_ref());
        tensor.expect("the first tensor is there").node.clone()
    });
    let primitives = tensors.map(|tensor| tensor.map(|tensor| tensor.primitive));
    match OfBlock(operation.clone())
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let output = operation.forward(primitives.clone());
            prep.finish(primitives, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(operation.forward(primitives)),
    }
}
