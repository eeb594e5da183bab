//! Random numbers by position: what a draw gives depends on the seed and on what it is for, never on when it is made.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// What random numbers are drawn for. Each purpose has streams of its own.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "train"), allow(dead_code))] // Only training has all of them.
pub(crate) enum Purpose {
    /// The order of the pairs within an epoch.
    Order = 1,
    /// Crop position and augmentation of a patch.
    Patch = 2,
    /// The diffusion's noise and timestep for a patch.
    Diffusion = 3,
    /// The diffusion's noise for a validation image.
    Validation = 4,
    /// A stage's own seed.
    Stage = 5,
    /// How a photograph is blurred: a seed for each patch or picture, and from it one for each kind of blur.
    Blur = 6,
}

/// The 64-bit seed at a position.
pub(crate) fn seed_at(seed: u64, purpose: Purpose, first: u64, second: u64) -> u64 {
    [purpose as u64, first, second]
        .into_iter()
        .fold(mix(seed), |state, part| mix(state ^ part))
}

/// The generator at a position.
pub(crate) fn generator_at(seed: u64, purpose: Purpose, first: u64, second: u64) -> StdRng {
    StdRng::seed_from_u64(seed_at(seed, purpose, first, second))
}

/// SplitMix64's step: a bijection whose output bits all depend on all input bits.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbouring_positions_and_purposes_have_seeds_of_their_own() {
        let mut seeds = HashSet::new();
        for seed in 0..4 {
            for purpose in [Purpose::Order, Purpose::Patch, Purpose::Diffusion] {
                for first in 0..20 {
                    for second in 0..20 {
                        seeds.insert(seed_at(seed, purpose, first, second));
                    }
                }
            }
        }
        assert_eq!(seeds.len(), 4 * 3 * 20 * 20);
    }
}
