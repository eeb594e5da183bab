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
use burn::tensor::{Tensor, TensorPrimitive};

use super::Backend;

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

    fn channel_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let with_bias = bias.is_some();
        track::<B, C, _>(ChannelNorm { with_bias, epsilon }, x, weight, bias)
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
