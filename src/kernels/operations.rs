//! What kernels there may be for, and which operands fit together.

use std::fmt::Debug;

use burn::tensor::{DType, Shape};

use super::gradients::Operands;

/// An operand's shape and number format.
#[derive(Debug, Clone)]
pub(super) struct Outline {
    pub shape: Shape,
    pub format: DType,
}

/// An operation, the image first among its operands.
pub(super) trait Describe<const N: usize>: Debug + Copy + Send + Sync + 'static {
    /// Whether computing the output again is cheap against keeping it.
    const LIGHT: bool;

    /// The shapes that the operands must have beside an image `[batch, channels, height, width]`; [`ANY`] stands for any
    /// length. None if no kernel takes such an image.
    fn shapes(&self, image: [usize; 4], operands: &Operands<Outline, N>) -> Option<Shapes<N>>;
}

/// The shapes of operands.
pub(super) type Shapes<const N: usize> = [Vec<usize>; N];

/// A length that anything fits.
pub(super) const ANY: usize = usize::MAX;

/// Whether a kernel can do an operation with these: they have the shapes that it asks for. (Burn's own operations broadcast
/// the rest, or say what does not fit.)
///
/// # Panics
/// If they have different number formats, which backends take each in their own way.
pub(super) fn fit<O: Describe<N>, const N: usize>(
    operation: &O,
    operands: &Operands<Outline, N>,
) -> bool {
    let Some(image) = &operands[0] else {
        return false;
    };
    for operand in operands.iter().flatten() {
        assert!(
            operand.format == image.format,
            "{operation:?} of {:?} {:?} with {:?} {:?}: a module and what it is given are to have one number format",
            image.format,
            image.shape.as_slice(),
            operand.format,
            operand.shape.as_slice(),
        );
    }
    let sizes = match *image.shape.as_slice() {
        [batch, channels, height, width] => [batch, channels, height, width],
        _ => return false,
    };
    let Some(shapes) = operation.shapes(sizes, operands) else {
        return false;
    };
    operands.iter().zip(shapes).all(|(operand, shape)| {
        operand.as_ref().is_none_or(|operand| {
            let lengths = operand.shape.as_slice();
            lengths.len() == shape.len()
                && (lengths.iter().zip(&shape))
                    .all(|(found, asked)| *asked == ANY || found == asked)
        })
    })
}

/// The 3×3 convolution of each channel by itself: x, weight `[channels, 1, 3, 3]`, bias `[channels]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depthwise;

/// The 3×3 convolution: x, weight `[to, from, 3, 3]`, bias `[to]` and, if shuffled, the channels behind the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution(pub Arrangement);

/// Where a convolution's outputs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// `[to, height, width]`
    Plain,
    /// Each square of 2×2 pixels into channels: `[4 · to, height / 2, width / 2]`
    Unshuffled,
    /// Four channels into a square of 2×2 pixels: `[to / 4, 2 · height, 2 · width]`
    Shuffled,
}

/// The normalisation of each pixel over its channels: x, weight and, if it is centred, bias `[channels]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelNorm {
    pub epsilon: f64,
}

/// The exact GELU: x `[1, 1, 1, elements]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gelu;

/// GDFN's gate: x `[batch, 2 · hidden, height, width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct GeluGate;

/// `x + MDTA(LN(x))`: x, the temperature `[heads, 1, 1]` and a branch's weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mdta {
    pub epsilon: f64,
    /// Pixels of the side of a window, which has statistics of its own. Backward is for the whole image alone.
    pub window: Option<usize>,
}

/// `x + GDFN(LN(x))`: x and a branch's weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gdfn {
    pub epsilon: f64,
}

/// `x + HIM(LN(x))`: x and HIM's weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Him {
    pub epsilon: f64,
    pub heads: usize,
}

/// A dimension of an operand.
fn length(operand: &Option<Outline>, dimension: usize) -> Option<usize> {
    operand.as_ref()?.shape.as_slice().get(dimension).copied()
}

impl Describe<3> for Depthwise {
    /// Nine multiplications an element, of tensors that are the largest of all.
    const LIGHT: bool = true;

    fn shapes(
        &self,
        image @ [_, channels, ..]: [usize; 4],
        _: &Operands<Outline, 3>,
    ) -> Option<Shapes<3>> {
        Some([image.into(), vec![channels, 1, 3, 3], vec![channels]])
    }
}

impl Describe<4> for Convolution {
    const LIGHT: bool = false;

    fn shapes(
        &self,
        image @ [batch, from, height, width]: [usize; 4],
        operands: &Operands<Outline, 4>,
    ) -> Option<Shapes<4>> {
        let to = length(&operands[1], 0)?;
        let whole = match self.0 {
            Arrangement::Plain => true,
            Arrangement::Unshuffled => height % 2 == 0 && width % 2 == 0,
            Arrangement::Shuffled => to % 4 == 0,
        };
        whole.then(|| {
            [
                image.into(),
                vec![to, from, 3, 3],
                vec![to],
                vec![batch, ANY, 2 * height, 2 * width],
            ]
        })
    }
}

impl Describe<3> for ChannelNorm {
    const LIGHT: bool = true;

    fn shapes(
        &self,
        image @ [_, channels, ..]: [usize; 4],
        _: &Operands<Outline, 3>,
    ) -> Option<Shapes<3>> {
        Some([image.into(), vec![channels], vec![channels]])
    }
}

impl Describe<1> for Gelu {
    const LIGHT: bool = true;

    fn shapes(&self, image: [usize; 4], _: &Operands<Outline, 1>) -> Option<Shapes<1>> {
        Some([image.into()])
    }
}

impl Describe<1> for GeluGate {
    const LIGHT: bool = true;

    fn shapes(
        &self,
        image @ [_, channels, ..]: [usize; 4],
        _: &Operands<Outline, 1>,
    ) -> Option<Shapes<1>> {
        (channels % 2 == 0).then(|| [image.into()])
    }
}

/// LN's weight and bias, the modulation's two, then weight and bias of the layers that expand, convolve and project.
fn branch([batch, channels, ..]: [usize; 4], expanded: usize, inner: usize) -> Shapes<10> {
    [
        vec![channels],
        vec![channels],
        vec![batch, channels],
        vec![batch, channels],
        vec![expanded, channels, 1, 1],
        vec![expanded],
        vec![expanded, 1, 3, 3],
        vec![expanded],
        vec![channels, inner, 1, 1],
        vec![channels],
    ]
}

impl Describe<12> for Mdta {
    const LIGHT: bool = false;

    fn shapes(
        &self,
        image @ [_, channels, ..]: [usize; 4],
        operands: &Operands<Outline, 12>,
    ) -> Option<Shapes<12>> {
        let heads = length(&operands[1], 0).filter(|heads| channels.is_multiple_of(*heads))?;
        let [a, b, c, d, e, f, g, h, i, j] = branch(image, 3 * channels, channels);
        let temperature = vec![heads, 1, 1];
        Some([image.into(), temperature, a, b, c, d, e, f, g, h, i, j])
    }
}

impl Describe<11> for Gdfn {
    const LIGHT: bool = false;

    fn shapes(&self, image: [usize; 4], operands: &Operands<Outline, 11>) -> Option<Shapes<11>> {
        let expanded = length(&operands[5], 0).filter(|expanded| expanded % 2 == 0)?;
        let [a, b, c, d, e, f, g, h, i, j] = branch(image, expanded, expanded / 2);
        Some([image.into(), a, b, c, d, e, f, g, h, i, j])
    }
}

impl Describe<11> for Him {
    const LIGHT: bool = false;

    fn shapes(
        &self,
        image @ [batch, channels, ..]: [usize; 4],
        operands: &Operands<Outline, 11>,
    ) -> Option<Shapes<11>> {
        let tokens = length(&operands[7], 1)?;
        channels.is_multiple_of(self.heads).then(|| {
            [
                image.into(),
                vec![channels],
                vec![channels],
                vec![batch, channels],
                vec![batch, channels],
                vec![channels, channels],
                vec![channels],
                vec![batch, tokens, channels],
                vec![batch, tokens, channels],
                vec![channels, channels],
                vec![channels],
            ]
        })
    }
}
