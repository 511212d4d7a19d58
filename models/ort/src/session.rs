//! One operating-system thread owns one ONNX Runtime session; requests reach it through a bounded channel.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use ort::{
    session::{NoSelectedOutputs, RunOptions, SessionInputValue, builder::GraphOptimizationLevel},
    value::ValueType,
};

use crate::{Element, OrtError, Runtime, Tensor};

/// How often a waiting caller looks whether it should stop.
const POLL: Duration = Duration::from_millis(5);

/// Where ONNX Runtime looks for external data when it is not beside the graph.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// How to run one graph.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Names the thread (`ort-<name>`) and the errors.
    pub name: String,
    /// Threads inside operators; 0 lets ONNX Runtime decide.
    pub intra_threads: usize,
    /// Requests that may wait beside the running one.
    pub queue: usize,
}

/// An input or output as ONNX Runtime reports it after loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the graph.
    pub name: Arc<str>,
    /// Element type; `None` for one that cannot be fed from here.
    pub element: Option<Element>,
    /// Axes; `None` where the size is known only when the graph runs.
    pub dims: Vec<Option<usize>>,
}

/// Outputs of a run, by name.
#[derive(Debug)]
pub struct Outputs(pub(crate) Vec<(String, Tensor)>);

impl Outputs {
    /// Takes an output.
    ///
    /// # Errors
    /// [`OrtError::Run`] when the graph has no such output.
    pub fn take(&mut self, name: &str) -> Result<Tensor, OrtError> {
        let at = self.0.iter().position(|(found, _)| found == name);
        let missing = || OrtError::Run {
            session: name.to_owned(),
            why: "the graph has no such output".into(),
        };
        at.map(|at| self.0.swap_remove(at).1).ok_or_else(missing)
    }
}

/// A loaded graph. Cloning is cheap; runs of all clones take turns, first come first served. The thread ends with the
/// last clone.
#[derive(Clone)]
pub struct Session(Arc<Actor>);

struct Actor {
    name: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    inputs: Vec<(Arc<str>, Tensor)>,
    options: Arc<RunOptions<NoSelectedOutputs>>,
    reply: Sender<Result<Outputs, OrtError>>,
}

type Loaded = Result<(Vec<Port>, Vec<Port>), OrtError>;

impl Session {
    /// Loads the graph at `path` (external data is found beside it) on a thread of its own.
    ///
    /// # Errors
    /// [`OrtError::Load`] with what ONNX Runtime says.
    pub fn load(runtime: &'static Runtime, path: &Path, options: &SessionOptions) -> Result<Self, OrtError> {
        let (requests, inbox) = bounded(options.queue.max(1));
        let (ready, loaded) = bounded(1);
        let (path, options) = (path.to_owned(), options.clone());
        let name = options.name.clone();
        let failed = |why: String| OrtError::Load {
            path: PathBuf::from(&options.name),
            why,
        };
        let thread = std::thread::Builder::new()
            .name(format!("ort-{name}"))
            .spawn({
                let options = options.clone();
                move || serve(runtime, &path, &options, &ready, &inbox)
            })
            .map_err(|error| failed(error.to_string()))?;
        let mut actor = Actor {
            name,
            inputs: Vec::new(),
            outputs: Vec::new(),
            requests: Some(requests),
            thread: Some(thread),
        };
        let loaded: Loaded = loaded
            .recv()
            .map_err(|_gone| failed("its thread ended while loading".into()))?;
        (actor.inputs, actor.outputs) = loaded?;
        Ok(Self(Arc::new(actor)))
    }

    /// Inputs of the graph, in order.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.0.inputs
    }

    /// Outputs of the graph, in order.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.0.outputs
    }

    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.0.inputs.iter().find(|port| &*port.name == name)
    }

    /// Runs the graph and waits for its outputs.
    ///
    /// # Cancellation
    /// `stop` is asked every 5 ms. Once it says yes this returns [`OrtError::Stopped`]; a run that had begun ends at its
    /// next operator.
    ///
    /// # Errors
    /// [`OrtError::Run`] when ONNX Runtime refuses or fails, [`OrtError::OutOfMemory`] when an allocation failed.
    pub fn run(&self, inputs: Vec<(Arc<str>, Tensor)>, stop: &dyn Fn() -> bool) -> Result<Outputs, OrtError> {
        let options = RunOptions::new().map_err(|error| OrtError::run(&self.0.name, &error))?;
        let options = Arc::new(options);
        let (reply, answer) = bounded(1);
        let mut request = Request {
            inputs,
            options: Arc::clone(&options),
            reply,
        };
        let Some(requests) = &self.0.requests else {
            return Err(self.gone());
        };
        loop {
            if stop() {
                return Err(OrtError::Stopped);
            }
            match requests.send_timeout(request, POLL) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(back)) => request = back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(self.gone()),
            }
        }
        loop {
            match answer.recv_timeout(POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) if stop() => {
                    options
                        .terminate()
                        .map_err(|error| OrtError::run(&self.0.name, &error))?;
                    return Err(OrtError::Stopped);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn gone(&self) -> OrtError {
        OrtError::Run {
            session: self.0.name.clone(),
            why: "its thread has ended".into(),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(session = self.name, "session thread panicked");
        }
    }
}

fn serve(
    runtime: &Runtime,
    path: &Path,
    options: &SessionOptions,
    ready: &Sender<Loaded>,
    inbox: &Receiver<Request>,
) {
    let mut session = match open(runtime, path, options) {
        Ok(session) => session,
        Err(error) => {
            let why = error.message().to_owned();
            ready
                .send(Err(OrtError::Load {
                    path: path.to_owned(),
                    why,
                }))
                .ok();
            return;
        }
    };
    let ports = (
        session.inputs().iter().map(port).collect(),
        session.outputs().iter().map(port).collect(),
    );
    if ready.send(Ok(ports)).is_err() {
        return;
    }
    for Request {
        inputs,
        options: run_options,
        reply,
    } in inbox
    {
        let result = run(&mut session, &inputs, &run_options);
        // The caller may have stopped waiting.
        reply
            .send(result.map_err(|error| OrtError::run(&options.name, &error)))
            .ok();
    }
}

pub(crate) fn open(
    runtime: &Runtime,
    path: &Path,
    options: &SessionOptions,
) -> ort::Result<ort::session::Session> {
    let mut builder = ort::session::Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_log_id(&options.name)?;
    if options.intra_threads > 0 {
        builder = builder.with_intra_threads(options.intra_threads)?;
    }
    // Sessions share the cores: threads that spin while they wait would take them from each other.
    builder = builder.with_intra_op_spinning(false)?;
    let providers = runtime.providers();
    if !providers.is_empty() {
        builder = builder.with_execution_providers(providers)?;
    }
    // A prepared graph lies in a cache, its weights in the model's folder.
    if let Some(folder) = crate::graph::weights_dir(path) {
        builder = builder.with_config_entry(WEIGHTS_FOLDER, folder)?;
    }
    builder.commit_from_file(path)
}

fn run(
    session: &mut ort::session::Session,
    inputs: &[(Arc<str>, Tensor)],
    options: &RunOptions<NoSelectedOutputs>,
) -> ort::Result<Outputs> {
    let inputs: Vec<(&str, SessionInputValue<'_>)> = inputs
        .iter()
        .map(|(name, tensor)| (&**name, tensor.value().into()))
        .collect();
    let outputs = session.run_with_options(inputs, options)?;
    let outputs = outputs
        .into_iter()
        .map(|(name, value)| Ok((name.to_owned(), Tensor::from_output(value)?)));
    outputs.collect::<ort::Result<_>>().map(Outputs)
}

pub(crate) fn port(outlet: &ort::value::Outlet) -> Port {
    let (element, dims) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (
            Element::from_ort(*ty),
            shape.iter().map(|&size| usize::try_from(size).ok()).collect(),
        ),
        _ => (None, Vec::new()),
    };
    Port {
        name: outlet.name().into(),
        element,
        dims,
    }
}
