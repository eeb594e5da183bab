//! Muon for the weights that are matrices (Jordan et al., 2024), AdamW for all others.
//!
//! Muon's step is the momentum with all its singular values made 1, so that directions in which the gradient is always
//! small are learnt as fast as others. A 1×1 convolution is a matrix, and one whose kernel is larger is one with a column for
//! each input channel and place. Depthwise kernels, biases, norms, and the first and last convolution stay AdamW's.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::{
    AdamW, AdamWState, AdjustLrFn, LearningRate, Muon, MuonConfig, MuonState, SimpleOptimizer,
};
use burn::record::Record;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rayon::prelude::*;

/// Fewer rows or input channels make no matrix.
const LEAST_CHANNELS: usize = 8;

/// AdamW, and Muon for matrices if there is one.
#[derive(Clone)]
pub struct MuonAdamW<B: Backend> {
    adamw: AdamW,
    muon: Option<(Muon<B>, f64)>,
}

/// What is kept of one weight between steps: by the one, or by the other for each of its matrices.
#[derive(Record, Clone)]
pub struct MuonAdamWState<B: Backend, const D: usize> {
    adamw: Option<AdamWState<B, D>>,
    matrices: Vec<MuonState<B, 2>>,
}

impl<B: Backend> MuonAdamW<B> {
    /// AdamW alone.
    pub fn adamw(adamw: AdamW) -> Self {
        Self { adamw, muon: None }
    }

    /// Muon beside AdamW, at `factor` times its learning rate. At 1 a step changes a matrix's values by a fifth of the
    /// rate, as AdamW's usually does (root mean square).
    pub fn with_muon(adamw: AdamW, weight_decay: f64, factor: f64) -> Self {
        let decay = WeightDecayConfig::new((weight_decay / factor) as f32);
        let muon = MuonConfig::new()
            .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
            .with_weight_decay(Some(decay))
            .build();
        Self {
            adamw,
            muon: Some((muon, factor)),
        }
    }
}

/// Number, rows and columns of the matrices that a weight of this shape is made of.
///
/// Queries, keys and values of MDTA, and the two halves of GDFN, are computed by one convolution, and are matrices of their
/// own: outputs that are a multiple of the inputs.
fn matrices(shape: &[usize]) -> Option<[usize; 3]> {
    let (&rows, &channels, kernel) = match shape {
        [rows, channels, kernel @ ..] => (rows, channels, kernel.iter().product::<usize>()),
        _ => return None,
    };
    if rows < LEAST_CHANNELS || channels < LEAST_CHANNELS {
        return None;
    }
    let number = match kernel {
        1 if shape.len() == 4 && rows == 3 * channels => 3,
        1 if shape.len() == 4 && rows >= 2 * channels && rows % 2 == 0 => 2,
        _ => 1,
    };
    Some([number, rows / number, channels * kernel])
}

impl<B: Backend> SimpleOptimizer<B> for MuonAdamW<B> {
    type State<const D: usize> = MuonAdamWState<B, D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<B, D>,
        gradient: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let shape = weight.dims();
        let (adamw, kept) = state.map_or((None, Vec::new()), |kept| (kept.adamw, kept.matrices));
        let (Some((muon, factor)), Some([number, rows, columns])) = (&self.muon, matrices(&shape))
        else {
            let (weight, adamw) =
                SimpleOptimizer::<B>::step(&self.adamw, rate, weight, gradient, adamw);
            let matrices = Vec::new();
            return (weight, Some(MuonAdamWState { adamw, matrices }));
        };
        let split =
            |tensor: Tensor<B, D>| tensor.reshape([number * rows, columns]).chunk(number, 0);
        let mut kept = kept.into_iter().map(Some).collect::<Vec<_>>();
        kept.resize(number, None);
        let parts: Vec<_> = split(weight)
            .into_iter()
            .zip(split(gradient))
            .zip(kept)
            .collect();
        // Each by itself, at the same time.
        let (parts, kept): (Vec<_>, Vec<_>) = parts
            .into_par_iter()
            .map(|((weight, gradient), kept)| muon.step::<2>(factor * rate, weight, gradient, kept))
            .unzip();
        let state = MuonAdamWState {
            adamw: None,
            matrices: kept.into_iter().flatten().collect(),
        };
        (Tensor::cat(parts, 0).reshape(shape), Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        let adamw = state.adamw;
        let matrices = state.matrices.into_iter();
        MuonAdamWState {
            adamw: adamw.map(|kept| <AdamW as SimpleOptimizer<B>>::to_device(kept, device)),
            matrices: matrices.map(|kept| Muon::to_device(kept, device)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_matrix_and_what_is_several() {
        for (shape, expected) in [
            (&[16, 16, 1, 1][..], Some([1, 16, 16])),
            (&[48, 16, 1, 1], Some([3, 16, 16])),
            (&[64, 16, 1, 1], Some([2, 32, 16])),
            (&[16, 32, 1, 1], Some([1, 16, 32])),
            (&[8, 16, 3, 3], Some([1, 8, 144])),
            (&[64, 256], Some([1, 64, 256])),
            (&[48, 1, 3, 3], None),
            (&[16, 3, 3, 3], None),
            (&[3, 16, 3, 3], None),
            (&[16], None),
            (&[8, 1, 1], None),
        ] {
            assert_eq!(matrices(shape), expected, "{shape:?}");
        }
    }

    #[cfg(feature = "flex")]
    mod steps {
        use burn::backend::Flex;
        use burn::optim::AdamWConfig;
        use burn::tensor::Distribution;

        use super::*;

        fn adamw() -> AdamW {
            AdamWConfig::new().with_weight_decay(0.0).build()
        }

        /// Of each matrix, how far its Gram matrix is from a multiple of the identity, and the step's root mean square.
        #[test]
        fn a_step_has_singular_values_near_one_and_adamws_size() {
            let device = Default::default();
            let muon = MuonAdamW::<Flex>::with_muon(adamw(), 0.0, 1.0);
            let gradient =
                Tensor::<Flex, 4>::random([48, 16, 1, 1], Distribution::Default, &device);
            let weight = Tensor::zeros([48, 16, 1, 1], &device);
            let (weight, state) = muon.step(0.1, weight, gradient, None);
            assert_eq!(state.unwrap().matrices.len(), 3);
            for matrix in weight.reshape::<2, _>([48, 16]).chunk(3, 0) {
                // The rate, a fifth, and the root of the longer side.
                let step = matrix.div_scalar(0.1 * 0.2 * 4.0);
                let gram = step.clone().matmul(step.transpose());
                let values: Vec<f32> = gram.into_data().iter().collect();
                let trace: f32 = (0..16).map(|i| values[17 * i]).sum();
                // Muon's few iterations leave singular values of 0.7 to 1.2.
                assert!((0.5 * 16.0..1.44 * 16.0).contains(&trace), "{trace}");
            }
        }

        #[test]
        fn what_is_no_matrix_gets_adamws_step() {
            let device = Default::default();
            let muon = MuonAdamW::<Flex>::with_muon(adamw(), 0.0, 3.0);
            let gradient = Tensor::<Flex, 1>::from_floats([1.0, -2.0, 0.5], &device);
            let weight = Tensor::<Flex, 1>::ones([3], &device);
            let (expected, _) = SimpleOptimizer::<Flex>::step(
                &adamw(),
                0.1,
                weight.clone(),
                gradient.clone(),
                None,
            );
            let (found, state) = muon.step(0.1, weight, gradient, None);
            assert_eq!(found.into_data(), expected.into_data());
            assert!(state.unwrap().adamw.is_some());
        }

        #[test]
        fn a_state_of_the_other_optimiser_is_begun_anew() {
            let device = Default::default();
            let weight = Tensor::<Flex, 2>::ones([8, 8], &device);
            let gradient = Tensor::<Flex, 2>::random([8, 8], Distribution::Default, &device);
            let with = MuonAdamW::<Flex>::with_muon(adamw(), 0.0, 1.0);
            let without = MuonAdamW::<Flex>::adamw(adamw());
            let step = |optimizer: &MuonAdamW<Flex>, state| {
                optimizer.step(0.1, weight.clone(), gradient.clone(), state)
            };
            for (first, second) in [(&with, &without), (&without, &with)] {
                let (_, state) = step(first, None);
                let (found, _) = step(second, state);
                let (expected, _) = step(second, None);
                assert_eq!(found.into_data(), expected.into_data());
            }
        }
    }
}
