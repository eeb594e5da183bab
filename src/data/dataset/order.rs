//! Which pair a sample is of.

use std::sync::{Arc, Mutex, PoisonError};

use rand::seq::SliceRandom;

use crate::data::pairs::Source;
use crate::data::random::{Purpose, generator_at};

/// An order of a source's pairs.
type Order = Arc<[u32]>;

/// The sources take turns as their weights say. The pairs of each pass in epochs, each in a shuffled order of its own.
#[derive(Debug)]
pub(super) struct PairOrder {
    seed: u64,
    /// At least one, each with a pair.
    sources: Vec<Source>,
    /// The orders drawn last, by source and epoch; workers at an epoch's border need two.
    drawn: Mutex<Vec<((usize, u64), Order)>>,
}

impl PairOrder {
    pub fn new(seed: u64, sources: Vec<Source>) -> Self {
        Self {
            seed,
            sources,
            drawn: Mutex::new(Vec::new()),
        }
    }

    /// The place of a sample's pair among those of all sources, one after the other.
    pub fn pair_of(&self, sample: u64) -> usize {
        let (source, place) = self.source_at(sample);
        let before = self.sources[..source].iter();
        let first: usize = before.map(|source| source.pairs).sum();
        let pairs = self.sources[source].pairs as u64;
        let order = self.order(source, place / pairs);
        first + order[(place % pairs) as usize] as usize
    }

    /// The source of a sample, and how many samples before it had the same.
    ///
    /// Up to any sample, each source has had as many as its weight says, to within one: the first source takes its
    /// share of all samples, evenly spread, the second its share of the rest, and so on.
    fn source_at(&self, sample: u64) -> (usize, u64) {
        let mut left: f64 = self.sources.iter().map(|source| source.weight).sum();
        let mut place = sample;
        let last = self.sources.len() - 1;
        for (index, source) in self.sources[..last].iter().enumerate() {
            let share = source.weight / left;
            let taken = |samples: u64| (samples as f64 * share) as u64;
            if taken(place + 1) > taken(place) {
                return (index, taken(place));
            }
            place -= taken(place);
            left -= source.weight;
        }
        (last, place)
    }

    fn order(&self, source: usize, epoch: u64) -> Order {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (source, epoch);
        if let Some((_, order)) = drawn.iter().find(|(order, _)| *order == wanted) {
            return Arc::clone(order);
        }
        let mut order: Vec<u32> = (0..self.sources[source].pairs as u32).collect();
        order.shuffle(&mut generator_at(
            self.seed,
            Purpose::Order,
            epoch,
            source as u64,
        ));
        let order: Order = order.into();
        if drawn.len() == 4 * self.sources.len() {
            drawn.remove(0);
        }
        drawn.push((wanted, Arc::clone(&order)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::examples::{config, gradient_pairs, stream};
    use crate::data::dataset::{DEFAULT_CACHE_BYTES, PairReader, PatchBatch, SampleStream};

    /// The pair a sample was cut from, from its first blurry value.
    fn pair_of(batch: &PatchBatch, slot: usize) -> usize {
        (batch.blur[slot * 3 * batch.patch * batch.patch] * 255.0).round() as usize
    }

    #[test]
    fn every_pair_passes_once_an_epoch_in_changing_order() {
        let (_folder, pairs) = gradient_pairs(6, 12, 12);
        let stream = stream(pairs, config(&[(8, 4, 3), (16, 2, 9)]));
        let order: Vec<_> = (0..12)
            .flat_map(|i| {
                let batch = stream.batch(i, 0..stream.batch_size(i)).unwrap();
                (0..batch.batch)
                    .map(|slot| pair_of(&batch, slot))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(order.len(), 30);
        for epoch in order.chunks(6) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5], "epoch {epoch:?}");
        }
        assert_ne!(order[..6], order[6..12]);
    }

    #[test]
    fn sources_have_their_shares_and_each_its_epochs() {
        let (_folder, pairs) = gradient_pairs(9, 12, 12);
        let sources: Vec<_> = [(2, 1.0), (4, 5.0), (3, 2.0)]
            .map(|(pairs, weight)| Source { pairs, weight })
            .into();
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        let stream = SampleStream::new(reader, sources, config(&[(8, 4, 1000)])).unwrap();
        let order: Vec<_> = (0..40)
            .flat_map(|step| (0..4).map(move |slot| (step, slot)))
            .map(|(step, slot)| stream.pair_at(step, slot))
            .collect();
        for (first, count, weight) in [(0, 2, 1.0), (2, 4, 5.0), (6, 3, 2.0)] {
            let is_own = |pair: &usize| (first..first + count).contains(pair);
            for taken in 1..=order.len() {
                let own = order[..taken].iter().filter(|pair| is_own(pair)).count();
                let expected = taken as f64 * weight / 8.0;
                assert!((own as f64 - expected).abs() < 2.0, "{own} of {taken}");
            }
            let own: Vec<_> = order.iter().copied().filter(|pair| is_own(pair)).collect();
            for epoch in own.chunks_exact(count) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert!(sorted.iter().copied().eq(first..first + count), "{epoch:?}");
            }
        }
    }
}
