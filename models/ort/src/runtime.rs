//! The one ONNX Runtime environment of the process.

use std::{
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use ort::{
    environment::Environment,
    ep::{self, ExecutionProviderDispatch},
    session::Session,
};

use crate::{OrtError, library::find_library};

/// The loaded library and its environment.
#[derive(Debug)]
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
    on_cuda: AtomicBool,
}

/// Where graphs run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, or an error when it cannot be used.
    Cuda,
    /// CUDA where it can be used, else the processor.
    Auto,
}

/// Whether an execution provider can be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// `CPU`, `CUDA`...
    pub name: &'static str,
    /// Why it cannot be used; `None` when it can.
    pub problem: Option<String>,
}

/// Loads the library on the first call (see [`find_library`]); later calls return the same one, whatever their path.
///
/// # Errors
/// [`OrtError::Library`] when it is not there, is not ONNX Runtime or is too old.
pub fn runtime(path: Option<&Path>) -> Result<&'static Runtime, OrtError> {
    static RUNTIME: OnceLock<Result<Runtime, OrtError>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Runtime::load(path))
        .as_ref()
        .map_err(Clone::clone)
}

impl Runtime {
    fn load(path: Option<&Path>) -> Result<Self, OrtError> {
        let path = find_library(path)?;
        let builder = ort::init_from(&path).map_err(|error| OrtError::Library {
            why: error.to_string(),
        })?;
        let environment = builder
            .with_name("reelsight")
            .with_telemetry(false)
            .build()
            .map_err(|error| OrtError::Library {
                why: error.message().to_owned(),
            })?;
        Ok(Self {
            environment,
            path,
            on_cuda: AtomicBool::new(false),
        })
    }

    /// The library that was loaded.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of the library, for example `1.31.1`, as its file name or its build information says.
    #[must_use]
    pub fn version(&self) -> String {
        let name = self
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let from_name = name.rsplit_once(".so.").map(|(_, version)| version.to_owned());
        let branch = || {
            ort::info()
                .split_once("git-branch=")
                .and_then(|(_, rest)| rest.split(',').next())
        };
        from_name
            .filter(|version| version.contains('.'))
            .or_else(|| branch().map(|branch| branch.trim_start_matches("rel-").to_owned()))
            .unwrap_or_else(|| "unknown".to_owned())
    }

    /// Tries each provider that this build knows. What the library claims to support says nothing.
    #[must_use]
    pub fn execution_providers_that_really_load(&self) -> Vec<Provider> {
        let candidates: [(&'static str, ExecutionProviderDispatch); 2] = [
            ("CPU", ep::CPU::default().build()),
            ("CUDA", ep::CUDA::default().build()),
        ];
        candidates
            .into_iter()
            .map(|(name, provider)| {
                let problem = self
                    .register(provider)
                    .err()
                    .map(|error| error.message().to_owned());
                Provider { name, problem }
            })
            .collect()
    }

    /// Where graphs run that are loaded from now on; gives what [`Device::Auto`] came to.
    ///
    /// # Errors
    /// [`OrtError::Provider`] when CUDA was asked for and its library or device is missing.
    pub fn select(&self, device: Device) -> Result<Device, OrtError> {
        let problem = match device {
            Device::Cpu => None,
            _ => self.register(ep::CUDA::default().build()).err(),
        };
        match (device, problem) {
            (Device::Cuda, Some(error)) => Err(OrtError::Provider {
                name: "CUDA",
                why: error.message().to_owned(),
            }),
            (Device::Cpu, _) | (Device::Auto, Some(_)) => {
                self.on_cuda.store(false, Ordering::Relaxed);
                Ok(Device::Cpu)
            }
            _ => {
                self.on_cuda.store(true, Ordering::Relaxed);
                Ok(Device::Cuda)
            }
        }
    }

    /// The providers of a session, best first; the processor is always behind them.
    pub(crate) fn providers(&self) -> Vec<ExecutionProviderDispatch> {
        if self.on_cuda.load(Ordering::Relaxed) {
            vec![ep::CUDA::default().build().error_on_failure()]
        } else {
            Vec::new()
        }
    }

    /// A provider counts when it can be registered.
    fn register(&self, provider: ExecutionProviderDispatch) -> ort::Result<()> {
        Session::builder(&self.environment)?.with_execution_providers([provider.error_on_failure()])?;
        Ok(())
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}
