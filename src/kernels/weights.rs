//! What the operations on whole blocks take.

/// A layer normalisation over channels and, at level 4, the modulation behind it.
#[derive(Debug, Clone)]
pub struct NormWeights<F> {
    /// `[channels]`
    pub weight: F,
    /// `[channels]`; none for the bias-free kind.
    pub bias: Option<F>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Factor and summand of the modulation, `[batch, channels]` each.
    pub modulation: Option<[F; 2]>,
}

/// A convolution or linear layer.
#[derive(Debug, Clone)]
pub struct LayerWeights<F> {
    /// As the operation says.
    pub weight: F,
    /// One number for each output channel.
    pub bias: Option<F>,
}

/// What MDTA and GDFN have in common.
#[derive(Debug, Clone)]
pub struct BranchWeights<F> {
    /// Before the rest.
    pub norm: NormWeights<F>,
    /// 1×1: `[expanded, channels, 1, 1]`
    pub expand: LayerWeights<F>,
    /// Depthwise 3×3: `[expanded, 1, 3, 3]`
    pub depthwise: LayerWeights<F>,
    /// 1×1: `[channels, inner, 1, 1]`
    pub project: LayerWeights<F>,
}

/// HIM's weights, and the prior as it enters the attention.
#[derive(Debug, Clone)]
pub struct HimWeights<F> {
    /// Of the pixels.
    pub norm: NormWeights<F>,
    /// `[channels, channels]`, input by output.
    pub query: LayerWeights<F>,
    /// `[batch, tokens, channels]`
    pub keys: F,
    /// `[batch, tokens, channels]`
    pub values: F,
    /// `[channels, channels]`, input by output.
    pub project: LayerWeights<F>,
    /// Heads; a divisor of the channels.
    pub heads: usize,
}

impl<F> NormWeights<F> {
    /// As references.
    pub fn each_ref(&self) -> NormWeights<&F> {
        NormWeights {
            weight: &self.weight,
            bias: self.bias.as_ref(),
            epsilon: self.epsilon,
            modulation: self.modulation.as_ref().map(|parts| parts.each_ref()),
        }
    }

    /// With each tensor replaced.
    pub fn map<G>(self, mut f: impl FnMut(F) -> G) -> NormWeights<G> {
        NormWeights {
            weight: f(self.weight),
            bias: self.bias.map(&mut f),
            epsilon: self.epsilon,
            modulation: self.modulation.map(|parts| parts.map(&mut f)),
        }
    }

    /// Weight, bias, and the modulation's two.
    fn into_parts(self) -> [Option<F>; 4] {
        let [scale, shift] = match self.modulation {
            Some(parts) => parts.map(Some),
            None => [None, None],
        };
        [Some(self.weight), self.bias, scale, shift]
    }

    fn from_parts([weight, bias, scale, shift]: [Option<F>; 4], epsilon: f64) -> Self {
        Self {
            weight: weight.expect("a normalisation has a weight"),
            bias,
            epsilon,
            modulation: scale.zip(shift).map(|(scale, shift)| [scale, shift]),
        }
    }
}

impl<F> LayerWeights<F> {
    /// As references.
    pub fn each_ref(&self) -> LayerWeights<&F> {
        LayerWeights {
            weight: &self.weight,
            bias: self.bias.as_ref(),
        }
    }

    fn into_parts(self) -> [Option<F>; 2] {
        [Some(self.weight), self.bias]
    }

    fn from_parts([weight, bias]: [Option<F>; 2]) -> Self {
        Self {
            weight: weight.expect("a layer has a weight"),
            bias,
        }
    }

    /// With each tensor replaced.
    pub fn map<G>(self, mut f: impl FnMut(F) -> G) -> LayerWeights<G> {
        LayerWeights {
            weight: f(self.weight),
            bias: self.bias.map(f),
        }
    }
}

impl<F> BranchWeights<F> {
    /// As references.
    pub fn each_ref(&self) -> BranchWeights<&F> {
        BranchWeights {
            norm: self.norm.each_ref(),
            expand: self.expand.each_ref(),
            depthwise: self.depthwise.each_ref(),
            project: self.project.each_ref(),
        }
    }

    /// With each tensor replaced.
    pub fn map<G>(self, mut f: impl FnMut(F) -> G) -> BranchWeights<G> {
        BranchWeights {
            norm: self.norm.map(&mut f),
            expand: self.expand.map(&mut f),
            depthwise: self.depthwise.map(&mut f),
            project: self.project.map(f),
        }
    }
}

impl<F> HimWeights<F> {
    /// As references.
    pub fn each_ref(&self) -> HimWeights<&F> {
        HimWeights {
            norm: self.norm.each_ref(),
            query: self.query.each_ref(),
            keys: &self.keys,
            values: &self.values,
            project: self.project.each_ref(),
            heads: self.heads,
        }
    }

    /// With each tensor replaced.
    pub fn map<G>(self, mut f: impl FnMut(F) -> G) -> HimWeights<G> {
        HimWeights {
            norm: self.norm.map(&mut f),
            query: self.query.map(&mut f),
            keys: f(self.keys),
            values: f(self.values),
            project: self.project.map(f),
            heads: self.heads,
        }
    }
}

impl<F> BranchWeights<F> {
    /// Every tensor in a row: LN's weight and bias, the modulation's two, then weight and bias of each layer.
    pub(super) fn into_parts(self) -> ([Option<F>; 10], f64) {
        let epsilon = self.norm.epsilon;
        let [a, b, c, d] = self.norm.into_parts();
        let layers = [self.expand, self.depthwise, self.project];
        let [[e, f], [g, h], [i, j]] = layers.map(LayerWeights::into_parts);
        ([a, b, c, d, e, f, g, h, i, j], epsilon)
    }

    /// The inverse of [`into_parts`](Self::into_parts).
    pub(super) fn from_parts(parts: [Option<F>; 10], epsilon: f64) -> Self {
        let [norm @ .., e, f, g, h, i, j] = parts;
        let [expand, depthwise, project] = [[e, f], [g, h], [i, j]].map(LayerWeights::from_parts);
        Self {
            norm: NormWeights::from_parts(norm, epsilon),
            expand,
            depthwise,
            project,
        }
    }
}

impl<F> HimWeights<F> {
    /// Every tensor in a row: LN's weight and bias, the modulation's two, the query's, keys, values, the projection's.
    pub(super) fn into_parts(self) -> ([Option<F>; 10], f64, usize) {
        let epsilon = self.norm.epsilon;
        let [a, b, c, d] = self.norm.into_parts();
        let [[e, f], [i, j]] = [self.query, self.project].map(LayerWeights::into_parts);
        let [g, h] = [self.keys, self.values].map(Some);
        ([a, b, c, d, e, f, g, h, i, j], epsilon, self.heads)
    }

    /// The inverse of [`into_parts`](Self::into_parts).
    pub(super) fn from_parts(parts: [Option<F>; 10], epsilon: f64, heads: usize) -> Self {
        let [norm @ .., e, f, keys, values, i, j] = parts;
        let [query, project] = [[e, f], [i, j]].map(LayerWeights::from_parts);
        Self {
            norm: NormWeights::from_parts(norm, epsilon),
            query,
            keys: keys.expect("there are keys"),
            values: values.expect("there are values"),
            project,
            heads,
        }
    }
}
