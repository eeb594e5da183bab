//! Which of the compiled backends computes.

use std::panic;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use clap::ValueEnum;
use hi_diff::Error;
#[cfg(feature = "train")]
use hi_diff::{Config, config::Parallel, training::Devices};

/// A choice on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The first that is compiled in and finds its device: CUDA, WGPU, Flex, NdArray
    #[default]
    Auto,
    /// The processor
    Flex,
    /// The processor, slower; for comparison
    Ndarray,
    /// Any GPU, by Vulkan, Metal or WebGPU
    Wgpu,
    /// An NVIDIA GPU
    Cuda,
}

impl BackendChoice {
    /// A processor's backend, for work that needs no GPU.
    pub fn processor() -> Self {
        match (cfg!(feature = "flex"), cfg!(feature = "ndarray")) {
            (true, _) => Self::Flex,
            (_, true) => Self::Ndarray,
            _ => Self::Auto,
        }
    }

    /// The backend to use, known to be compiled in and to have its device.
    pub fn resolve(self) -> hi_diff::Result<Self> {
        if self != Self::Auto {
            return match self.works() {
                true => Ok(self),
                false => Err(self.unavailable()),
            };
        }
        [Self::Cuda, Self::Wgpu, Self::Flex, Self::Ndarray]
            .into_iter()
            .find(|choice| choice.works())
            .ok_or_else(|| self.unavailable())
    }

    fn works(self) -> bool {
        match self {
            Self::Auto => false,
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => computes::<burn::backend::Wgpu>(),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => false,
            #[cfg(feature = "cuda")]
            Self::Cuda => computes::<burn::backend::Cuda>(),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => false,
        }
    }

    /// That this backend only deblurs.
    #[cfg(feature = "train")]
    pub fn cannot_train(self) -> Error {
        let reason = "does not train: use another, such as `--backend flex`".to_string();
        Error::Backend {
            name: self.name(),
            reason,
        }
    }

    fn name(self) -> String {
        match self.to_possible_value() {
            Some(value) => value.get_name().to_string(),
            None => String::new(),
        }
    }

    fn unavailable(self) -> Error {
        let name = self.name();
        let compiled = match self {
            Self::Auto | Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        };
        let reason = match compiled {
            true => "finds no device: use another, such as `--backend flex`".to_string(),
            false => format!("is not in this build: add it with `--features {name}`"),
        };
        Error::Backend { name, reason }
    }
}

/// Whether a backend's device does a first computation. GPU backends panic where there is no driver or device.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
fn computes<B: Backend>() -> bool {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(|| {
        let one = Tensor::<B, 1>::ones([1], &B::Device::default());
        one.into_data()
            .to_vec::<f32>()
            .is_ok_and(|values| values == [1.0])
    });
    panic::set_hook(hook);
    outcome.unwrap_or(false)
}

/// Evaluates an expression with the chosen backend as a type: `with_backend!(choice, B => f::<B>())`.
macro_rules! with_backend {
    ($choice:expr, $backend:ident => $body:expr) => {{
        use $crate::backend::BackendChoice;
        match $choice.resolve()? {
            #[cfg(feature = "flex")]
            BackendChoice::Flex => {
                type $backend = burn::backend::Flex;
                $body
            }
            #[cfg(feature = "ndarray")]
            BackendChoice::Ndarray => {
                type $backend = burn::backend::NdArray;
                $body
            }
            #[cfg(feature = "wgpu")]
            BackendChoice::Wgpu => {
                type $backend = burn::backend::Wgpu;
                $body
            }
            #[cfg(feature = "cuda")]
            BackendChoice::Cuda => {
                type $backend = burn::backend::Cuda;
                $body
            }
            other => unreachable!("{other:?} was resolved but is not compiled in"),
        }
    }};
}
pub(crate) use with_backend;

/// As [`with_backend`], with the chosen backend under `Autodiff` as the configuration wants it, and with its devices:
/// `with_training_backend!(choice, config, (B, devices) => f::<B>(&devices))`. Without NdArray, whose convolutions are
/// too slow to train with.
#[cfg(feature = "train")]
macro_rules! with_training_backend {
    ($choice:expr, $config:expr, ($backend:ident, $devices:ident) => $body:expr) => {{
        use $crate::backend::BackendChoice;
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        use $crate::backend::with_autodiff;
        match $choice.resolve()? {
            #[cfg(feature = "flex")]
            BackendChoice::Flex => {
                // Gradient checkpointing changes nothing here: the kernels keep their inputs and no more.
                type $backend = burn::backend::Autodiff<burn::backend::Flex>;
                let $devices: hi_diff::training::Devices<$backend> = $crate::backend::gathering(&$config)?;
                $body
            }
            #[cfg(feature = "wgpu")]
            BackendChoice::Wgpu => {
                with_autodiff!(burn::backend::Wgpu, $crate::backend::parallel, $config, ($backend, $devices) => $body)
            }
            #[cfg(feature = "cuda")]
            BackendChoice::Cuda => {
                with_autodiff!(burn::backend::Cuda, $crate::backend::parallel, $config, ($backend, $devices) => $body)
            }
            other => return Err(other.cannot_train()),
        }
    }};
}
#[cfg(feature = "train")]
pub(crate) use with_training_backend;

#[cfg(all(feature = "train", any(feature = "wgpu", feature = "cuda")))]
macro_rules! with_autodiff {
    ($inner:ty, $find:path, $config:expr, ($backend:ident, $devices:ident) => $body:expr) => {{
        use burn::backend::Autodiff;
        use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
        if $config.training.gradient_checkpointing {
            type $backend = Autodiff<$inner, BalancedCheckpointing>;
            let $devices: hi_diff::training::Devices<$backend> = $find(&$config)?;
            $body
        } else {
            type $backend = Autodiff<$inner>;
            let $devices: hi_diff::training::Devices<$backend> = $find(&$config)?;
            $body
        }
    }};
}
#[cfg(all(feature = "train", any(feature = "wgpu", feature = "cuda")))]
pub(crate) use with_autodiff;

/// The devices of `training.devices`, of which the first gathers the gradients.
#[cfg(feature = "train")]
pub fn gathering<B: Backend>(config: &Config) -> hi_diff::Result<Devices<B>> {
    match config.training.parallel {
        Parallel::Gather => Ok(Devices::gather(devices::<B>(&config.training.devices)?)),
        Parallel::Ddp => Err(Error::Config {
            origin: "this build".into(),
            key: "training.parallel".into(),
            reason:
                "\"ddp\": needs a GPU backend and a build with `--features ddp`; use \"gather\""
                    .into(),
        }),
    }
}

/// The devices of `training.devices`, working together as the configuration says.
#[cfg(all(feature = "ddp", any(feature = "wgpu", feature = "cuda")))]
pub fn parallel<B>(config: &Config) -> hi_diff::Result<Devices<B>>
where
    B: burn::tensor::backend::distributed::DistributedBackend,
{
    match config.training.parallel {
        Parallel::Gather => gathering(config),
        Parallel::Ddp => Ok(Devices::distributed(devices::<B>(
            &config.training.devices,
        )?)),
    }
}

#[cfg(all(
    feature = "train",
    not(feature = "ddp"),
    any(feature = "wgpu", feature = "cuda")
))]
pub use gathering as parallel;

/// A processor is one device, whatever its number; a GPU backend has as many as the machine.
#[cfg(feature = "train")]
fn devices<B: Backend>(numbers: &[usize]) -> hi_diff::Result<Vec<B::Device>> {
    use burn::tensor::backend::{DeviceId, DeviceOps};
    fn at<D: DeviceOps>(number: usize) -> D {
        D::from_id(DeviceId::new(0, number as u16))
    }
    if numbers == [0] {
        return Ok(vec![B::Device::default()]);
    }
    let processor = B::name(&B::Device::default()).contains("flex");
    let count = if processor {
        usize::MAX
    } else {
        B::device_count(0)
    };
    numbers
        .iter()
        .map(|&number| match number < count {
            true => Ok(at::<B::Device>(number)),
            false => Err(Error::Config {
                origin: "this machine".into(),
                key: "training.devices".into(),
                reason: format!("{number}: expected numbers below {count}, the devices found"),
            }),
        })
        .collect()
}
