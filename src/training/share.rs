//! Work that is shared out among the processor's threads, with the results put together in a fixed order.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::stack;

/// Calls `work` on each item and `add`s the results to `sum`, in the items' order, which it returns.
///
/// Several threads take an item at a time. What `work` does in parallel has the threads that are left to it: none but its
/// own, if there are as many items as threads. As long as `work` has the same result on any number of threads, so has this.
pub(super) fn add_up<I: Send, T: Send, S: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> T + Sync,
    sum: S,
    add: impl Fn(&mut S, T) + Sync,
) -> S {
    let pools = Pools::take(items.len().min(rayon::current_num_threads()).max(1));
    let items = Mutex::new(items.into_iter().enumerate());
    let sum = Mutex::new(InOrder {
        next: 0,
        waiting: BTreeMap::new(),
        sum,
    });
    let run = || {
        loop {
            let item = lock(&items).next();
            let Some((index, item)) = item else { break };
            let result = work(item);
            lock(&sum).add(index, result, &add);
        }
    };
    in_each(&pools.held, &run);
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.sum
}

fn in_each(pools: &[ThreadPool], run: &(impl Fn() + Sync)) {
    if let Some((pool, others)) = pools.split_first() {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| run());
            in_each(others, run);
        });
    }
}

/// Pools that share the threads at hand, and go back to the others when they are done with: a thread keeps its buffers from step to
/// step. While they are held nobody else has them. A thread that waits for another of its pool takes what else there is to do,
/// and if that were a sample of somebody else it would wait, deep in its own gradient, for a lock that it holds itself.
struct Pools {
    held: Vec<ThreadPool>,
    /// Of each.
    threads: usize,
}

/// Those that nobody holds, by their threads.
static FREE: Mutex<BTreeMap<usize, Vec<ThreadPool>>> = Mutex::new(BTreeMap::new());

impl Pools {
    fn take(count: usize) -> Self {
        let threads = (rayon::current_num_threads() / count).max(1);
        let mut held: Vec<_> = {
            let mut free = lock(&FREE);
            let free = free.entry(threads).or_default();
            free.drain(free.len().saturating_sub(count)..).collect()
        };
        while held.len() < count {
            let pool = ThreadPoolBuilder::new()
                .num_threads(threads)
                .stack_size(stack::BYTES)
                .thread_name(|_| "sample".to_string())
                .build();
            held.push(pool.expect("the system has threads to give"));
        }
        Self { held, threads }
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        let mut free = lock(&FREE);
        free.entry(self.threads).or_default().append(&mut self.held);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds results in order, and keeps those that come too early.
struct InOrder<T, S> {
    next: usize,
    waiting: BTreeMap<usize, T>,
    sum: S,
}

impl<T, S> InOrder<T, S> {
    fn add(&mut self, index: usize, result: T, add: impl Fn(&mut S, T)) {
        self.waiting.insert(index, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            add(&mut self.sum, result);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_out_at_the_same_time_has_threads_of_its_own() {
        let one = Pools::take(1);
        let other = Pools::take(1);
        let thread = |pools: &Pools| pools.held[0].install(|| std::thread::current().id());
        assert_ne!(thread(&one), thread(&other));
    }

    #[test]
    fn results_are_added_in_order_on_any_number_of_threads() {
        for threads in [1, 2, 3, 12] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            let (found, inner) = pool.unwrap().install(|| {
                let work = |item: usize| {
                    std::thread::sleep(std::time::Duration::from_millis(5 - item as u64));
                    (item, rayon::current_num_threads())
                };
                let add = |sum: &mut Vec<_>, result| sum.push(result);
                let sum = add_up((0..5).collect(), work, Vec::new(), add);
                let items: Vec<usize> = sum.iter().map(|(item, _)| *item).collect();
                let inner = sum.iter().all(|(_, inner)| *inner == (threads / 5).max(1));
                (items, inner)
            });
            assert_eq!(found, [0, 1, 2, 3, 4]);
            assert!(inner, "{threads} threads");
        }
    }
}
