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
}
