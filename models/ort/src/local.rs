//! A session that belongs to the thread that runs it, with caches that are updated in place.
#![expect(
    unsafe_code,
    reason = "the safe layer copies borrowed inputs, so that past and present could not be one"
)]

use std::{
    ffi::CString,
    fmt,
    path::Path,
    ptr::{self, NonNull},
    sync::Arc,
};

use ort::{AsPointer, memory::Allocator, session::RunOptions, value::DynValue};

use crate::{
    Buffer, OrtError, Outputs, Port, Runtime, SessionOptions, Tensor,
    buffer::{RawValue, check},
    session::{open, port},
};

/// A part of a [`Buffer`] that one run uses as past and as present: the graph adds to it where it lies.
///
/// Only sound for operators that allow it (`GroupQueryAttention` with a past of fixed capacity); for others the result
/// is wrong, though never unsafe.
#[derive(Debug)]
pub struct InPlace<'a> {
    /// Name of the input.
    pub past: &'a str,
    /// Name of the output.
    pub present: &'a str,
    /// Where the cache lies.
    pub buffer: &'a mut Buffer,
    /// First element of the part.
    pub offset: usize,
    /// Shape of the part, capacity included.
    pub shape: [usize; 4],
}

/// A loaded graph that the calling thread runs itself: no hand-over, and KV stays where it is.
pub struct LocalSession {
    name: String,
    session: ort::session::Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    options: Arc<Stopper>,
}

/// Ends the run of a [`LocalSession`] from another thread.
pub struct Stopper(RunOptions);

impl Stopper {
    /// The running run, and each later one, ends at its next operator with [`OrtError::Stopped`].
    pub fn stop(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(error = error.message(), "a run could not be stopped");
        }
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

impl LocalSession {
    /// Loads the graph at `path`; external data is found beside it.
    ///
    /// # Errors
    /// [`OrtError::Load`] with what ONNX Runtime says.
    pub fn load(runtime: &'static Runtime, path: &Path, options: &SessionOptions) -> Result<Self, OrtError> {
        let failed = |error: ort::Error| OrtError::Load {
            path: path.to_owned(),
            why: error.message().to_owned(),
        };
        let session = open(runtime, path, options).map_err(failed)?;
        Ok(Self {
            name: options.name.clone(),
            inputs: session.inputs().iter().map(port).collect(),
            outputs: session.outputs().iter().map(port).collect(),
            session,
            options: Arc::new(Stopper(RunOptions::new().map_err(failed)?)),
        })
    }

    /// Inputs of the graph, in order.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs of the graph, in order.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| &*port.name == name)
    }

    /// Ends runs from another thread.
    #[must_use]
    pub fn stopper(&self) -> Arc<Stopper> {
        Arc::clone(&self.options)
    }

    /// Runs the graph. `feeds` are its inputs but those of `caches`, `wanted` the outputs to return.
    ///
    /// # Errors
    /// [`OrtError::Run`] when ONNX Runtime refuses or fails, [`OrtError::OutOfMemory`] when an allocation failed,
    /// [`OrtError::Stopped`] after [`Stopper::stop`].
    pub fn run(
        &mut self,
        feeds: &[(Arc<str>, Tensor)],
        caches: &mut [InPlace<'_>],
        wanted: &[Arc<str>],
    ) -> Result<Outputs, OrtError> {
        let known = |ports: &[Port], name: &str| ports.iter().any(|port| &*port.name == name);
        let inputs = feeds
            .iter()
            .map(|(name, _)| &**name)
            .chain(caches.iter().map(|cache| cache.past));
        let outputs = wanted
            .iter()
            .map(|name| &**name)
            .chain(caches.iter().map(|cache| cache.present));
        let input_names = self.names(inputs.clone().filter(|name| known(&self.inputs, name)))?;
        let output_names = self.names(outputs.clone().filter(|name| known(&self.outputs, name)))?;
        if input_names.len() != inputs.count() || output_names.len() != outputs.count() {
            return Err(self.failed("an input or output has a name that the graph does not know"));
        }
        let views = caches
            .iter_mut()
            .map(|cache| cache.buffer.value(cache.offset, &cache.shape));
        let views: Vec<RawValue> = views.collect::<Result<_, _>>()?;
        let values: Vec<_> = feeds
            .iter()
            .map(|(_, tensor)| tensor.value().ptr())
            .chain(views.iter().map(|view| view.as_ptr().cast_const()))
            .collect();
        let mut results: Vec<_> = wanted
            .iter()
            .map(|_| ptr::null_mut())
            .chain(views.iter().map(RawValue::as_ptr))
            .collect();
        let input_ptrs: Vec<_> = input_names.iter().map(|name| name.as_ptr()).collect();
        let output_ptrs: Vec<_> = output_names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: every array has the length that is given with it and outlives the call; views lie within buffers that
        // are borrowed mutably for the whole call; `&mut self` makes this the only run of the session.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                self.options.0.ptr(),
                input_ptrs.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_ptrs.as_ptr(),
                output_ptrs.len(),
                results.as_mut_ptr(),
            )
        };
        check(&self.name, status)?;
        let allocator = Allocator::default();
        let outputs = wanted.iter().zip(results).map(|(name, value)| {
            let value = NonNull::new(value).ok_or_else(|| self.failed("an output is missing"))?;
            // SAFETY: the run allocated it for us, and it lies in host memory as its device's allocator is the default.
            let value: DynValue = unsafe { DynValue::from_ptr(value, Some(&allocator)) };
            let tensor = Tensor::from_output(value).map_err(|error| OrtError::run(&self.name, &error))?;
            Ok((name.to_string(), tensor))
        });
        outputs.collect::<Result<_, _>>().map(Outputs)
    }

    fn names<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<Vec<CString>, OrtError> {
        names
            .map(|name| CString::new(name).map_err(|_nul| self.failed("a name has a zero byte")))
            .collect()
    }

    fn failed(&self, why: &str) -> OrtError {
        OrtError::Run {
            session: self.name.clone(),
            why: why.to_owned(),
        }
    }
}

impl fmt::Debug for LocalSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSession")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
