//! Operations with a gradient of their own, under Burn's `Autodiff`.

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
use burn::tensor::FloatDType;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::counting;

/// The tensors that an operation takes, the image first; some may be missing.
pub(super) type Operands<T, const N: usize> = [Option<T>; N];

/// An operation on the tensors of backend `B`.
pub(super) trait Operation<B: Backend, const N: usize>:
    Debug + Copy + Send + Sync + 'static
{
    /// Whether computing the output again is cheap against keeping it, where gradient checkpointing is on.
    const LIGHT: bool;

    /// The output.
    fn forward(&self, operands: Operands<FloatTensor<B>, N>) -> FloatTensor<B>;

    /// The gradients of the operands that there are, in their shapes, from the output's.
    fn backward(
        &self,
        operands: Operands<FloatTensor<B>, N>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, N>;
}

/// Runs an operation and records what its backward needs: the operands.
pub(super) fn track<B, C, O, const N: usize>(
    operation: O,
    operands: Operands<FloatTensor<Autodiff<B, C>>, N>,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    O: Operation<B, N>,
{
    // Burn wants a node for each parent; a missing operand's is one that needs no gradient.
    let missing = operands.iter().any(Option::is_none).then(|| {
        let image = operands.iter().flatten().next().expect("an image");
        let device = B::float_device(&image.primitive);
        let empty = B::float_zeros([1].into(), &device, FloatDType::F32);
        FloatTensor::<Autodiff<B, C>>::new(empty)
    });
    let nodes = operands.each_ref().map(|operand| {
        let operand = operand.as_ref().or(missing.as_ref());
        operand.expect("one or the other").node.clone()
    });
    let preparation = Tracked(operation).prepare::<C>(nodes);
    let preparation = match O::LIGHT {
        true => preparation
            .memory_bound()
            .retro_forward(Again::<B, O, N> {
                operation,
                operands: operands
                    .each_ref()
                    .map(|operand| operand.as_ref().map(|operand| operand.node.id)),
                backend: PhantomData,
            })
            .parents(operands.iter().flatten()),
        false => preparation.compute_bound(),
    };
    // Until the output is registered the operands must be referred to: another thread's backward pass meanwhile clears
    // away what nothing refers to, and with them all that they were made from.
    let held = operands
        .each_ref()
        .map(|operand| operand.as_ref().map(|operand| operand.rc.clone()));
    let output = match preparation.stateful() {
        OpsKind::Tracked(mut preparation) => {
            let kept = operands.each_ref().map(|operand| {
                let operand = operand.as_ref()?;
                Some(preparation.checkpoint(operand))
            });
            let output = operation.forward(primitives::<B, C, N>(operands));
            preparation.finish(kept, output)
        }
        OpsKind::UnTracked(preparation) => {
            preparation.finish(operation.forward(primitives::<B, C, N>(operands)))
        }
    };
    drop(held);
    output
}

fn primitives<B: Backend, C: CheckpointStrategy, const N: usize>(
    operands: Operands<FloatTensor<Autodiff<B, C>>, N>,
) -> Operands<FloatTensor<B>, N> {
    operands.map(|operand| operand.map(|operand| operand.primitive))
}

/// Computes an operation's output again in the backward pass.
#[derive(Debug)]
struct Again<B, O, const N: usize> {
    operation: O,
    operands: Operands<NodeId, N>,
    backend: PhantomData<B>,
}

impl<B: Backend, O: Operation<B, N>, const N: usize> RetroForward for Again<B, O, N> {
    fn forward(&self, states: &mut BackwardStates, output: NodeId) {
        let operands = self
            .operands
            .map(|node| node.map(|node| states.get_state::<FloatTensor<B>>(&node)));
        states.save(output, self.operation.forward(operands));
    }
}

#[derive(Debug)]
struct Tracked<O>(O);

impl<B: Backend, O: Operation<B, N>, const N: usize> Backward<B, N> for Tracked<O> {
    type State = Operands<NodeId, N>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let operands = ops
            .state
            .map(|node| node.map(|node| checkpointer.retrieve_node_output(node)));
        counting::backward();
        let gradients = self.0.backward(operands, grad);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
