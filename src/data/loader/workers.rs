//! Threads that prepare training steps ahead.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::data::dataset::{PatchBatch, SampleStream};
use crate::error::{Error, Result};

/// Steps that each worker prepares ahead.
const PREFETCH: usize = 2;

/// The slots of a step that fall to a share of the items.
pub(super) fn slots(
    stream: &SampleStream,
    share: Option<&(Range<usize>, usize)>,
    iteration: usize,
) -> Range<usize> {
    let batch = stream.batch_size(iteration);
    match share {
        None => 0..batch,
        Some((items, total)) => {
            let slot = |item: usize| batch * item / (*total).max(1);
            slot(items.start)..slot(items.end)
        }
    }
}

/// The threads that prepare the steps of one epoch.
pub(super) struct Workers {
    outputs: Vec<Receiver<Result<PatchBatch>>>,
    threads: Vec<JoinHandle<()>>,
    /// The steps that [`next`](Self::next) has not handed out.
    pub remaining: Range<usize>,
    turn: usize,
}

impl Workers {
    pub fn start(
        stream: &Arc<SampleStream>,
        share: Option<&(Range<usize>, usize)>,
        epoch: Range<usize>,
        count: usize,
    ) -> Self {
        let count = count.clamp(1, epoch.len().max(1));
        let mut workers = Self {
            outputs: Vec::new(),
            threads: Vec::new(),
            remaining: epoch.clone(),
            turn: 0,
        };
        for worker in 0..count {
            let (sender, receiver) = sync_channel(PREFETCH);
            let (stream, share) = (Arc::clone(stream), share.cloned());
            let steps = epoch.clone().skip(worker).step_by(count);
            let work = move || {
                for iteration in steps {
                    let slots = slots(&stream, share.as_ref(), iteration);
                    let batch = stream.batch(iteration, slots);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            };
            workers.outputs.push(receiver);
            workers.threads.push(std::thread::spawn(work));
        }
        workers
    }

    pub fn next(&mut self) -> Option<Result<PatchBatch>> {
        let iteration = self.remaining.next()?;
        let output = self.outputs.get(self.turn)?.recv();
        self.turn = (self.turn + 1) % self.outputs.len();
        let lost = |_| Error::Training(format!("the worker of iteration {iteration} broke off"));
        let output = output.map_err(lost).and_then(|output| output);
        if output.is_err() {
            self.remaining = 0..0;
        }
        Some(output)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Without receivers the workers' next send fails, and they end.
        self.outputs.clear();
        for thread in self.threads.drain(..) {
            // A worker that panicked has been reported by `next`.
            drop(thread.join());
        }
    }
}
