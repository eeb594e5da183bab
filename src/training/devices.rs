//! The devices that share a training, and how they work together.

use burn::tensor::backend::Backend;
use burn::train::{ExecutionStrategy, MultiDeviceOptim};

/// One or more devices; each step's batch is shared among them, and the gradient is that of the whole batch.
pub struct Devices<B: Backend> {
    list: Vec<B::Device>,
    strategy: fn(Vec<B::Device>) -> ExecutionStrategy<B>,
}

impl<B: Backend> Devices<B> {
    /// A single device.
    pub fn one(device: B::Device) -> Self {
        Self::gather(vec![device])
    }

    /// Devices of which the first gathers the gradients and makes the step: Burn's multi-device strategy. The same
    /// device may appear more than once.
    pub fn gather(list: Vec<B::Device>) -> Self {
        Self {
            list,
            strategy: |mut list| match list.len() {
                1 => ExecutionStrategy::SingleDevice(list.remove(0)),
                _ => ExecutionStrategy::MultiDevice(list, MultiDeviceOptim::OptimMainDevice),
            },
        }
    }

    /// Devices that each have the optimiser and reduce the gradients among them: Burn's distributed-data-parallel
    /// strategy.
    #[cfg(feature = "ddp")]
    pub fn distributed(list: Vec<B::Device>) -> Self
    where
        B: burn::tensor::backend::distributed::DistributedBackend,
    {
        use burn::tensor::backend::distributed::{DistributedConfig, ReduceOperation};
        Self {
            list,
            // The devices' gradients are weighted by their shares of the batch already.
            strategy: |list| {
                let all_reduce_op = ReduceOperation::Sum;
                ExecutionStrategy::ddp(list, DistributedConfig { all_reduce_op })
            },
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The device of validation and checkpoints.
    pub fn main(&self) -> B::Device {
        self.list.first().cloned().unwrap_or_default()
    }

    pub(super) fn strategy(&self) -> ExecutionStrategy<B> {
        (self.strategy)(self.list.clone())
    }
}

impl<B: Backend> Default for Devices<B> {
    fn default() -> Self {
        Self::one(B::Device::default())
    }
}
