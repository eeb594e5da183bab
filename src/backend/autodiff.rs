//! The backward of each operation, for any backend under `Autodiff`.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, Tensor, TensorMetadata, TensorPrimitive};

use super::Backend;

/// [`Backend::depthwise_conv3x3`] without its bias.
#[derive(Debug)]
struct DepthwiseConv3x3;

impl<B: Backend> Backward<B, 2> for DepthwiseConv3x3 {
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
        let (grad_x, grad_weight) = B::depthwise_conv3x3_backward(x, weight, grad);
        if let Some(node) = node_x {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = node_weight {
            grads.register::<B>(node.id, grad_weight);
        }
    }
}

/// [`Backend::channel_norm`] with mean and bias.
#[derive(Debug)]
struct LayerNormWithBias {
    epsilon: f64,
}

impl<B: Backend> Backward<B, 3> for LayerNormWithBias {
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
        let (grad_x, grad_weight) = B::channel_norm_backward(x, weight, grad, true, self.epsilon);
        if let Some(node) = node_x {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = node_weight {
            grads.register::<B>(node.id, grad_weight);
        }
    }
}

/// [`Backend::channel_norm`] of the bias-free kind.
#[derive(Debug)]
struct LayerNormBiasFree {
    epsilon: f64,
}

impl<B: Backend> Backward<B, 2> for LayerNormBiasFree {
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
        let (grad_x, grad_weight) = B::channel_norm_backward(x, weight, grad, false, self.epsilon);
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

/// [`Backend::gelu_gate`].
#[derive(Debug)]
struct GeluGate;

impl<B: Backend> Backward<B, 1> for GeluGate {
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
            grads.register::<B>(node.id, B::gelu_gate_backward(x, grad));
        }
    }
}

impl<B: Backend, C: CheckpointStrategy> Backend for Autodiff<B, C> {
    fn depthwise_conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let output = match DepthwiseConv3x3
            .prepare::<C>([x.node.clone(), weight.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
                let output = B::depthwise_conv3x3(x.primitive, weight.primitive, None);
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::depthwise_conv3x3(x.primitive, weight.primitive, None))
            }
        };
        match bias {
            None => output,
            Some(bias) => {
                let [channels] = bias.shape().dims();
                let output: Tensor<Self, 4> =
                    Tensor::from_primitive(TensorPrimitive::Float(output));
                let bias: Tensor<Self, 1> = Tensor::from_primitive(TensorPrimitive::Float(bias));
                let output = output + bias.reshape(Shape::new([1, channels, 1, 1]));
                output.into_primitive().tensor()
            }
        }
    }

    fn channel_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        match bias {
            Some(bias) => match (LayerNormWithBias { epsilon })
                .prepare::<C>([x.node.clone(), weight.node.clone(), bias.node.clone()])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(mut prep) => {
                    let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
                    let bias = Some(bias.primitive);
                    prep.finish(state, B::channel_norm(x.primitive, weight.primitive, bias, epsilon))
                }
                OpsKind::UnTracked(prep) => {
                    let bias = Some(bias.primitive);
                    prep.finish(B::channel_norm(x.primitive, weight.primitive, bias, epsilon))
                }
            },
            None => match (LayerNormBiasFree { epsilon })
                .prepare::<C>([x.node.clone(), weight.node.clone()])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(mut prep) => {
                    let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
                    prep.finish(state, B::channel_norm(x.primitive, weight.primitive, None, epsilon))
                }
                OpsKind::UnTracked(prep) => {
                    prep.finish(B::channel_norm(x.primitive, weight.primitive, None, epsilon))
                }
            },
        }
    }

    fn gelu_gate(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluGate.prepare::<C>([x.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = prep.checkpoint(&x);
                prep.finish(state, B::gelu_gate(x.primitive))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::gelu_gate(x.primitive)),
        }
    }
}

