//! Which backends have kernels, and how an operation on any backend's tensors finds its kernel: by their types.
//!
//! | backend | what is taken |
//! |---|---|
//! | Flex and NdArray, in single precision | everything, by [`cpu`](super::cpu) |
//! | WGPU and CUDA, with and without fusion | convolutions, normalisation, GELU and its gate, by [`gpu`](super::gpu) |
//! | any other | nothing: the model's formulas, differentiated by Burn |
//!
//! Each alone and under `Autodiff` with either of Burn's checkpointing strategies. A backend joins by a line in [`run`].

use std::any::{Any, TypeId};

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

#[cfg(feature = "cuda")]
use burn::tensor::bf16;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::f16;

use super::counting;
#[cfg(any(feature = "flex", feature = "ndarray"))]
use super::cpu::{CpuTensor, OnProcessor};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::gpu::OnGpu;
use super::gradients::{Operands, Operation, track};
use super::operations::{Describe, Outline, fit};

#[cfg(not(any(feature = "flex", feature = "ndarray")))]
pub(super) use super::operations::Describe as OnProcessor;
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub(super) use super::operations::Describe as OnGpu;

/// Does an operation by a kernel, or gives the operands back if there is none for them.
pub(super) fn run<B: Backend, O: OnProcessor<N> + OnGpu<N>, const N: usize>(
    operation: O,
    operands: Operands<FloatTensor<B>, N>,
) -> Result<FloatTensor<B>, Operands<FloatTensor<B>, N>> {
    let mut call = Call::<B, O, N>::new(operation, operands)?;
    call.on_each_processor();
    call.on_each_gpu();
    call.finish()
}

/// As [`run`], for operations that GPUs do in smaller ones.
pub(super) fn run_on_processor<B: Backend, O: OnProcessor<N>, const N: usize>(
    operation: O,
    operands: Operands<FloatTensor<B>, N>,
) -> Result<FloatTensor<B>, Operands<FloatTensor<B>, N>> {
    let mut call = Call::<B, O, N>::new(operation, operands)?;
    call.on_each_processor();
    call.finish()
}

/// Whether a backend's kernels share their work out among the processor's threads.
#[cfg(feature = "train")]
pub(crate) fn on_processor<B: Backend>() -> bool {
    fn is<B: Backend, K: 'static>() -> bool {
        TypeId::of::<FloatTensor<B>>() == TypeId::of::<K>()
    }
    #[allow(unused_mut)] // In a build without these backends.
    let mut found = is::<B, ()>();
    #[cfg(feature = "flex")]
    {
        use burn_flex::Flex;
        found |= is::<B, FloatTensor<Flex>>() || is::<B, FloatTensor<Autodiff<Flex>>>();
    }
    #[cfg(feature = "ndarray")]
    {
        use burn_ndarray::NdArray;
        found |= is::<B, FloatTensor<NdArray>>()
            || is::<B, FloatTensor<Autodiff<NdArray<f32, i64>>>>()
            || is::<B, FloatTensor<Autodiff<NdArray<f32, i32>>>>();
    }
    found
}

/// An operation that looks for its kernel.
struct Call<B: Backend, O, const N: usize> {
    operation: O,
    format: Option<DType>,
    operands: Option<Operands<FloatTensor<B>, N>>,
    output: Option<FloatTensor<B>>,
}

impl<B: Backend, O: Describe<N>, const N: usize> Call<B, O, N> {
    /// Gives the operands back if they do not fit together.
    fn new(
        operation: O,
        operands: Operands<FloatTensor<B>, N>,
    ) -> Result<Self, Operands<FloatTensor<B>, N>> {
        let outlines = operands.each_ref().map(|operand| {
            operand.as_ref().map(|operand| Outline {
                shape: operand.shape(),
                format: operand.dtype(),
            })
        });
        match fit(&operation, &outlines) && !counting::off() {
            true => Ok(Self {
                format: outlines[0].as_ref().map(|image| image.format),
                operation,
                operands: Some(operands),
                output: None,
            }),
            false => Err(operands),
        }
    }

    fn finish(self) -> Result<FloatTensor<B>, Operands<FloatTensor<B>, N>> {
        match self.output {
            Some(output) => Ok(output),
            None => Err(self.operands.expect("no kernel has taken them")),
        }
    }

    /// Does `work` if the backend's tensors are those of backend `K`.
    fn attempt<K: Backend>(
        &mut self,
        work: impl FnOnce(&O, Operands<FloatTensor<K>, N>) -> FloatTensor<K>,
    ) {
        let Some(operands) = self.operands.take() else {
            return; // Another kernel has taken them.
        };
        match cast::<_, Operands<FloatTensor<K>, N>>(operands) {
            Ok(operands) => {
                counting::forward();
                let output = cast(work(&self.operation, operands));
                let output =
                    output.unwrap_or_else(|_| unreachable!("the types are those of the operands"));
                self.output = Some(output);
            }
            Err(operands) => self.operands = Some(operands),
        }
    }

    /// Under `Autodiff` over backend `K`, with either strategy.
    fn differentiated<K: Backend, P: Operation<K, N>>(&mut self, wrap: impl Fn(&O) -> P) {
        if TypeId::of::<B>() == TypeId::of::<Autodiff<K, NoCheckpointing>>() {
            self.attempt::<Autodiff<K, NoCheckpointing>>(|operation, operands| {
                track::<K, NoCheckpointing, P, N>(wrap(operation), operands)
            });
        } else if TypeId::of::<B>() == TypeId::of::<Autodiff<K, BalancedCheckpointing>>() {
            self.attempt::<Autodiff<K, BalancedCheckpointing>>(|operation, operands| {
                track::<K, BalancedCheckpointing, P, N>(wrap(operation), operands)
            });
        }
    }
}

impl<B: Backend, O: OnProcessor<N>, const N: usize> Call<B, O, N> {
    /// The backends in the processor's memory. Their kernels are for single precision.
    fn on_each_processor(&mut self) {
        if self.format != Some(DType::F32) {
            return;
        }
        #[cfg(feature = "flex")]
        self.on_processor::<burn_flex::Flex>();
        #[cfg(feature = "ndarray")]
        {
            self.on_processor::<burn_ndarray::NdArray<f32, i64>>();
            self.on_processor::<burn_ndarray::NdArray<f32, i32>>();
        }
    }

    #[cfg(any(feature = "flex", feature = "ndarray"))]
    fn on_processor<K: Backend<FloatTensorPrimitive: CpuTensor>>(&mut self) {
        self.attempt::<K>(|operation, operands| operation.forward(operands));
        self.differentiated::<K, _>(|operation| Processor(*operation));
    }
}

impl<B: Backend, O: OnGpu<N>, const N: usize> Call<B, O, N> {
    /// The GPU backends, by their number formats as Burn's aliases have them.
    fn on_each_gpu(&mut self) {
        #[cfg(feature = "wgpu")]
        {
            use burn_wgpu::Wgpu;
            self.on_gpu::<Wgpu<f32, i32, u32>>();
            self.on_gpu::<Wgpu<f32, i32, u8>>();
            self.on_gpu::<Wgpu<f16, i32, u32>>();
            self.on_gpu::<Wgpu<f16, i32, u8>>();
        }
        #[cfg(feature = "cuda")]
        {
            use burn_cuda::Cuda;
            self.on_gpu::<Cuda<f32, i32>>();
            self.on_gpu::<Cuda<f16, i32>>();
            self.on_gpu::<Cuda<bf16, i32>>();
        }
    }

    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn on_gpu<K: Backend>(&mut self) {
        if TypeId::of::<B>() == TypeId::of::<K>() {
            self.attempt::<K>(|operation, operands| operation.forward::<K>(operands));
        }
        self.differentiated::<K, _>(|operation| Gpu(*operation));
    }
}

/// An operation by its kernel for the processor.
#[cfg(any(feature = "flex", feature = "ndarray"))]
#[derive(Debug, Clone, Copy)]
struct Processor<O>(O);

#[cfg(any(feature = "flex", feature = "ndarray"))]
impl<B, O, const N: usize> Operation<B, N> for Processor<O>
where
    B: Backend<FloatTensorPrimitive: CpuTensor>,
    O: OnProcessor<N>,
{
    const LIGHT: bool = O::LIGHT;

    fn forward(&self, operands: Operands<FloatTensor<B>, N>) -> FloatTensor<B> {
        self.0.forward(operands)
    }

    fn backward(
        &self,
        operands: Operands<FloatTensor<B>, N>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, N> {
        self.0.backward(operands, grad)
    }
}

/// An operation by its kernel for GPUs.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[derive(Debug, Clone, Copy)]
struct Gpu<O>(O);

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl<B: Backend, O: OnGpu<N>, const N: usize> Operation<B, N> for Gpu<O> {
    const LIGHT: bool = O::LIGHT;

    fn forward(&self, operands: Operands<FloatTensor<B>, N>) -> FloatTensor<B> {
        self.0.forward::<B>(operands)
    }

    fn backward(
        &self,
        operands: Operands<FloatTensor<B>, N>,
        grad: FloatTensor<B>,
    ) -> Operands<FloatTensor<B>, N> {
        self.0.backward::<B>(operands, grad)
    }
}

/// The value as another type, if it is of that type.
fn cast<From: 'static, To: 'static>(value: From) -> Result<To, From> {
    let mut value = Some(value);
    match (&mut value as &mut dyn Any).downcast_mut::<Option<To>>() {
        Some(found) => Ok(found.take().expect("it was put there")),
        None => Err(value.expect("nothing has taken it")),
    }
}
