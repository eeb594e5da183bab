//! The few operations the model needs beyond Burn's own.
//!
//! [`Backend`] extends Burn's trait by methods that all have a body in plain Burn operations. Which backends have it:
//!
//! - Flex and NdArray (features `flex`, `ndarray`), with kernels of this crate in place of those bodies;
//! - every backend of Burn's on CubeCL, alone or under Burn's fusion, by the bodies as they are: WGPU (feature `wgpu`,
//!   with `vulkan` or `metal` for shaders in the system's own language) and CUDA (feature `cuda`);
//! - [`Autodiff`](burn::backend::Autodiff) over any of them, where each method gets its backward in terms of the inner
//!   backend's methods;
//! - a backend type of your own by one empty `impl`, as `examples/your_backend` shows. Rust lets only the crate of the
//!   type or of the trait write it, so a backend of a third crate wants a type of yours around it.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
pub mod plain;
mod weights;

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub use cpu::sgemm_rate;
pub use weights::{BranchWeights, HimWeights, LayerWeights, NormWeights};

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

/// What the model asks of a backend.
pub trait Backend: burn::tensor::backend::Backend {
    /// The 3×3 convolution of each channel by itself: stride 1, zero padding 1.
    ///
    /// # Shapes
    /// - x: `[batch, channels, height, width]`
    /// - weight: `[channels, 1, 3, 3]`
    /// - bias: `[channels]`
    /// - output: as x
    fn depthwise_conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::depthwise_conv3x3::<Self>(x, weight, bias)
    }

    /// The gradients of [`depthwise_conv3x3`](Self::depthwise_conv3x3) for its input and its weight, of the shapes of
    /// these. (The bias's gradient is the sum of `grad` over batch, height and width.)
    ///
    /// # Shapes
    /// - x and grad: `[batch, channels, height, width]`
    /// - weight: `[channels, 1, 3, 3]`
    fn depthwise_conv3x3_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::depthwise_conv3x3_backward::<Self>(x, weight, grad)
    }

    /// The 3×3 convolution: stride 1, zero padding 1.
    ///
    /// # Shapes
    /// - x: `[batch, from, height, width]`
    /// - weight: `[to, from, 3, 3]`
    /// - bias: `[to]`
    /// - output: `[batch, to, height, width]`
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::conv3x3::<Self>(x, weight, bias)
    }

    /// The gradients of [`conv3x3`](Self::conv3x3) for its input and its weight, of the shapes of these. (The bias's
    /// gradient is the sum of `grad` over batch, height and width.)
    fn conv3x3_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::conv3x3_backward::<Self>(x, weight, grad)
    }

    /// [`conv3x3`](Self::conv3x3) without bias, then each square of 2×2 pixels into channels.
    ///
    /// # Shapes
    /// - x: `[batch, from, height, width]`, height and width even
    /// - weight: `[to, from, 3, 3]`
    /// - output: `[batch, 4 · to, height / 2, width / 2]`
    fn conv3x3_unshuffle(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::conv3x3_unshuffle::<Self>(x, weight)
    }

    /// [`conv3x3`](Self::conv3x3) without bias, then four channels into each square of 2×2 pixels, and behind the
    /// channels of the result those of `skip`.
    ///
    /// # Shapes
    /// - x: `[batch, from, height, width]`
    /// - weight: `[to, from, 3, 3]`, `to` a multiple of 4
    /// - skip: `[batch, others, 2 · height, 2 · width]`
    /// - output: `[batch, to / 4 + others, 2 · height, 2 · width]`
    fn conv3x3_shuffle(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        skip: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::conv3x3_shuffle::<Self>(x, weight, skip)
    }

    /// The gradients of [`conv3x3_unshuffle`](Self::conv3x3_unshuffle) for its input and its weight, of the shapes of
    /// these; `grad` is of the output's.
    fn conv3x3_unshuffle_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::conv3x3_unshuffle_backward::<Self>(x, weight, grad)
    }

    /// The gradients of [`conv3x3_shuffle`](Self::conv3x3_shuffle) for its input, its weight and the channels behind, of
    /// the shapes of these; `grad` is of the output's.
    fn conv3x3_shuffle_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain::conv3x3_shuffle_backward::<Self>(x, weight, grad)
    }

    /// Normalises each pixel over its channels; `bias` says which kind, see
    /// [`LayerNorm`](crate::model::LayerNorm).
    ///
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    /// - weight and bias: `[channels]`
    fn channel_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        plain::channel_norm::<Self>(x, weight, bias, epsilon)
    }

    /// The gradients of [`channel_norm`](Self::channel_norm) for its input and its weight, of the shapes of these.
    /// `with_bias` is the kind. (The bias's gradient is the sum of `grad` over batch, height and width.)
    fn channel_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        with_bias: bool,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::channel_norm_backward::<Self>(x, weight, grad, with_bias, epsilon)
    }

    /// The exact GELU, `x · Φ(x)`. Burn has one too, whose backward is that of an approximation on most backends.
    ///
    /// # Shapes
    /// - x and output: any, the same
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::exact_gelu::<Self>(x)
    }

    /// The gradient of [`exact_gelu`](Self::exact_gelu) at x.
    fn exact_gelu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::exact_gelu_backward::<Self>(x, grad)
    }

    /// GDFN's gate: `gelu(a) · b`, where a and b are the halves of x's channels.
    ///
    /// # Shapes
    /// - x: `[batch, 2 · hidden, height, width]`
    /// - output: `[batch, hidden, height, width]`
    fn gelu_gate(x: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::gelu_gate::<Self>(x)
    }

    /// The gradient of [`gelu_gate`](Self::gelu_gate), of x's shape; `grad` is of the output's.
    fn gelu_gate_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::gelu_gate_backward::<Self>(x, grad)
    }

    /// `x + MDTA(LN(x))`, see [`Mdta`](crate::model::Mdta). `weights` expands to 3C channels and projects C.
    ///
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    /// - temperature: `[heads, 1, 1]`
    fn mdta(
        x: FloatTensor<Self>,
        temperature: FloatTensor<Self>,
        weights: BranchWeights<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::mdta::<Self>(x, temperature, weights)
    }

    /// `x + GDFN(LN(x))`, see [`Gdfn`](crate::model::Gdfn). `weights` expands to 2h channels and projects h.
    ///
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    fn gdfn(x: FloatTensor<Self>, weights: BranchWeights<FloatTensor<Self>>) -> FloatTensor<Self> {
        plain::gdfn::<Self>(x, weights)
    }

    /// `x + HIM(LN(x))`, see [`Him`](crate::model::Him).
    ///
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    fn him(x: FloatTensor<Self>, weights: HimWeights<FloatTensor<Self>>) -> FloatTensor<Self> {
        plain::him::<Self>(x, weights)
    }

    /// Whether a training step cuts its batch into samples and shares these out among the processor's threads, instead of
    /// every operation. A GPU wants the whole batch at once.
    fn shares_samples() -> bool {
        false
    }

    /// This backend's kernels for the gradients of MDTA, GDFN and HIM as wholes, if it has them for x's format. Elsewhere
    /// automatic differentiation goes through the parts.
    fn block_gradients(x: &FloatTensor<Self>) -> Option<BlockGradients<Self>> {
        let _ = x;
        None
    }
}

/// Each function takes the arguments of its operation and the gradient of the output, and returns the gradients of the
/// arguments, in their shapes.
#[allow(clippy::type_complexity)] // The arguments of the operations, there and back.
#[derive(Debug, Clone, Copy)]
pub struct BlockGradients<B: Backend> {
    /// Of [`Backend::mdta`].
    pub mdta: fn(
        FloatTensor<B>,
        FloatTensor<B>,
        BranchWeights<FloatTensor<B>>,
        FloatTensor<B>,
    ) -> (
        FloatTensor<B>,
        FloatTensor<B>,
        BranchWeights<FloatTensor<B>>,
    ),
    /// Of [`Backend::gdfn`].
    pub gdfn: fn(
        FloatTensor<B>,
        BranchWeights<FloatTensor<B>>,
        FloatTensor<B>,
    ) -> (FloatTensor<B>, BranchWeights<FloatTensor<B>>),
    /// Of [`Backend::him`].
    pub him: fn(
        FloatTensor<B>,
        HimWeights<FloatTensor<B>>,
        FloatTensor<B>,
    ) -> (FloatTensor<B>, HimWeights<FloatTensor<B>>),
}

/// The exact GELU, by [`Backend::exact_gelu`].
pub fn gelu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let output = B::exact_gelu(x.into_primitive().tensor());
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// A [`Backend`] that differentiates, over an inner [`Backend`]: what training asks for.
pub trait AutodiffBackend:
    Backend + burn::tensor::backend::AutodiffBackend<InnerBackend: Backend>
{
}

impl<B> AutodiffBackend for B where
    B: Backend + burn::tensor::backend::AutodiffBackend<InnerBackend: Backend>
{
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu {
    //! The GPU backends take every operation in plain Burn operations.

    use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

    impl<R, F, I, T> super::Backend for CubeBackend<R, F, I, T>
    where
        R: CubeRuntime,
        F: FloatElement,
        I: IntElement,
        T: BoolElement,
    {
    }

    #[cfg(feature = "fusion")]
    impl<B: burn_fusion::FusionBackend> super::Backend for burn_fusion::Fusion<B> {}
}
