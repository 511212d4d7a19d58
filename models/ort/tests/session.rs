//! Sessions on their threads with ONNX Runtime itself. The graphs are written byte by byte: nothing to install.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use reelsight_ort::{
    Buffer, Device, Element, InPlace, LocalSession, OrtError, Session, SessionOptions, Tensor, runtime,
};

fn field(number: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 1 << 14);
    let length = [
        u8::try_from(body.len() & 0x7f).unwrap() | 0x80,
        u8::try_from(body.len() >> 7).unwrap(),
    ];
    [&[number << 3 | 2][..], &length, body].concat()
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// A float tensor of unknown sizes.
fn port(name: &str, dims: &[&str]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|dim| field(1, &field(2, dim.as_bytes())))
        .collect();
    let tensor = [number(1, 1), field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs
        .iter()
        .flat_map(|input| field(1, input.as_bytes()))
        .collect();
    field(
        1,
        &[inputs, field(2, output.as_bytes()), field(4, op.as_bytes())].concat(),
    )
}

/// Writes a graph of matrices from `x` to `y`.
fn graph(name: &str, nodes: &[Vec<u8>]) -> PathBuf {
    graph_of_rank(name, nodes, &["r", "c"])
}

fn graph_of_rank(name: &str, nodes: &[Vec<u8>], dims: &[&str]) -> PathBuf {
    let graph = [
        nodes.concat(),
        field(2, b"test"),
        field(11, &port("x", dims)),
        field(12, &port("y", dims)),
    ]
    .concat();
    let opset = [field(1, b""), number(2, 17)].concat();
    let path = std::env::temp_dir().join(format!("reelsight-ort-{name}-{}.onnx", std::process::id()));
    std::fs::write(&path, [number(1, 8), field(7, &graph), field(8, &opset)].concat()).unwrap();
    path
}

fn load(name: &str, nodes: &[Vec<u8>]) -> Session {
    let options = SessionOptions {
        name: name.into(),
        intra_threads: 1,
        queue: 2,
    };
    Session::load(runtime(None).unwrap(), &graph(name, nodes), &options).unwrap()
}

fn doubler(name: &str) -> Session {
    load(name, &[node("Add", &["x", "x"], "y")])
}

/// A graph `[a, b, c, d] -> [a, b, c, d]` that doubles its input, run by the test's own thread.
fn local_doubler(name: &str) -> LocalSession {
    let options = SessionOptions {
        name: name.into(),
        intra_threads: 1,
        queue: 1,
    };
    let path = graph_of_rank(name, &[node("Add", &["x", "x"], "y")], &["a", "b", "c", "d"]);
    LocalSession::load(runtime(None).unwrap(), &path, &options).unwrap()
}

/// Multiplies a matrix with itself many times over.
fn slow(name: &str) -> Session {
    let names: Vec<_> = (0..200).map(|at| format!("t{at}")).collect();
    let mut nodes = vec![node("MatMul", &["x", "x"], "t0")];
    nodes.extend(
        names
            .windows(2)
            .map(|pair| node("MatMul", &[&pair[0], "x"], &pair[1])),
    );
    nodes.push(node("Identity", &["t199"], "y"));
    load(name, &nodes)
}

fn ones(size: usize) -> Tensor {
    Tensor::from_f32(&[size, size], vec![1.0 / size as f32; size * size]).unwrap()
}

#[test]
fn a_run_gives_its_outputs_and_they_feed_the_next_run() {
    let session = doubler("feed");
    assert_eq!(session.inputs()[0].element, Some(Element::F32));
    assert_eq!(session.inputs()[0].dims, [None, None]);
    let mut tensor = Tensor::from_f32(&[2, 3], (0..6_u8).map(f32::from).collect()).unwrap();
    for _ in 0..3 {
        let mut outputs = session.run(vec![("x".into(), tensor)], &|| false).unwrap();
        assert!(outputs.take("nothing").is_err());
        tensor = outputs.take("y").unwrap();
    }
    assert_eq!(tensor.shape(), [2, 3]);
    assert_eq!(&*tensor.to_f32().unwrap(), [0.0, 8.0, 16.0, 24.0, 32.0, 40.0]);
    assert_eq!(
        &*tensor.head(1, 2).unwrap().to_f32().unwrap(),
        [0.0, 8.0, 24.0, 32.0]
    );
    assert_eq!(tensor.head(0, 0).unwrap().shape(), [0, 3]);
}

#[test]
fn wrong_inputs_are_errors_and_the_session_goes_on() {
    let session = doubler("wrong");
    let wrong = |name: &str, tensor| session.run(vec![(name.into(), tensor)], &|| false);
    assert!(matches!(wrong("z", ones(2)), Err(OrtError::Run { .. })));
    let integers = Tensor::from_i64(&[1, 1], vec![1]).unwrap();
    assert!(matches!(wrong("x", integers), Err(OrtError::Run { .. })));
    assert!(Tensor::from_f32(&[2, 2], vec![0.0; 3]).is_err());
    assert!(wrong("x", ones(2)).is_ok());
}

#[test]
fn empty_and_half_precision_tensors_are_what_they_say() {
    let empty = Tensor::empty(Element::F16, &[1, 2, 0, 4]).unwrap();
    assert_eq!(
        (empty.shape(), empty.element(), empty.bytes()),
        (vec![1, 2, 0, 4], Some(Element::F16), 0)
    );
    assert!(Tensor::empty(Element::F32, &[1, 2]).is_err());
    let half = Tensor::from_f32_as_f16(&[3], &[1.0, -0.5, 65504.0]).unwrap();
    assert_eq!(
        (half.bytes(), &*half.to_f32().unwrap()),
        (6, &[1.0, -0.5, 65504.0][..])
    );
    let scalar = Tensor::from_i64(&[], vec![7]).unwrap();
    assert_eq!(scalar.shape(), Vec::<usize>::new());
}

#[test]
fn a_stopped_run_returns_at_once_and_gives_the_thread_back() {
    let session = slow("stop");
    let start = Instant::now();
    let stopped = session.run(vec![("x".into(), ones(1500))], &|| {
        start.elapsed() > Duration::from_millis(50)
    });
    assert!(matches!(stopped, Err(OrtError::Stopped)));
    // The whole run would take 200 products of 7 GFLOP each.
    let next = session
        .run(vec![("x".into(), ones(4))], &|| false)
        .unwrap()
        .take("y")
        .unwrap();
    assert!((next.to_f32().unwrap()[0] - 0.25).abs() < 1e-5);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_run_that_waits_behind_another_can_be_stopped_too() {
    let session = slow("queue");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let first =
            scope.spawn(|| session.run(vec![("x".into(), ones(1500))], &|| stop.load(Ordering::Relaxed)));
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        let waiting = session.run(vec![("x".into(), ones(2))], &|| {
            start.elapsed() > Duration::from_millis(20)
        });
        assert!(matches!(waiting, Err(OrtError::Stopped)));
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(first.join().unwrap(), Err(OrtError::Stopped)));
    });
}

#[test]
fn a_graph_that_cannot_be_loaded_says_why() {
    let path = std::env::temp_dir().join(format!("reelsight-ort-bad-{}.onnx", std::process::id()));
    std::fs::write(&path, "not a graph").unwrap();
    let options = SessionOptions {
        name: "bad".into(),
        intra_threads: 1,
        queue: 1,
    };
    let error = Session::load(runtime(None).unwrap(), &path, &options).unwrap_err();
    assert!(
        matches!(&error, OrtError::Load { path: named, why } if *named == path && !why.is_empty()),
        "{error}"
    );
}

#[test]
fn the_runtime_names_its_version_and_the_providers_that_load() {
    let runtime = runtime(None).unwrap();
    assert!(runtime.version().starts_with("1."), "{}", runtime.version());
    let providers = runtime.execution_providers_that_really_load();
    assert_eq!((providers[0].name, providers[0].problem.as_ref()), ("CPU", None));
}

#[test]
fn a_provider_that_is_not_there_is_an_error_and_auto_goes_on_without_it() {
    let runtime = runtime(None).unwrap();
    assert_eq!(runtime.select(Device::Cpu).unwrap(), Device::Cpu);
    let cuda = runtime.execution_providers_that_really_load().remove(1);
    match cuda.problem {
        Some(problem) => {
            let error = runtime.select(Device::Cuda).unwrap_err();
            assert!(
                matches!(&error, OrtError::Provider { name: "CUDA", why } if *why == problem),
                "{error}"
            );
            assert!(error.to_string().contains("--provider cpu"), "{error}");
            assert_eq!(runtime.select(Device::Auto).unwrap(), Device::Cpu);
        }
        None => assert_eq!(runtime.select(Device::Auto).unwrap(), Device::Cuda),
    }
    runtime.select(Device::Cpu).unwrap();
}

#[test]
fn a_cache_is_updated_where_it_lies_and_its_neighbours_stay() {
    let mut session = local_doubler("in-place");
    let mut buffer = Buffer::zeroed(Element::F32, 24).unwrap();
    let ones: Vec<u8> = std::iter::repeat_n(1.0_f32.to_le_bytes(), 24).flatten().collect();
    buffer.as_bytes_mut().copy_from_slice(&ones);
    for _ in 0..3 {
        let cache = InPlace {
            past: "x",
            present: "y",
            buffer: &mut buffer,
            offset: 8,
            shape: [1, 2, 4, 1],
        };
        session.run(&[], &mut [cache], &[]).unwrap();
    }
    let values: Vec<f32> = buffer
        .as_bytes()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(values, [[1.0; 8], [8.0; 8], [1.0; 8]].concat());

    let mut beyond = Buffer::zeroed(Element::F32, 7).unwrap();
    let cache = InPlace {
        past: "x",
        present: "y",
        buffer: &mut beyond,
        offset: 0,
        shape: [1, 2, 4, 1],
    };
    assert!(matches!(
        session.run(&[], &mut [cache], &[]),
        Err(OrtError::Run { .. })
    ));
}

#[test]
fn a_session_of_its_own_thread_gives_outputs_and_says_what_is_wrong() {
    let mut session = local_doubler("local");
    let tensor = Tensor::from_f32(&[1, 1, 1, 2], vec![1.5, -2.0]).unwrap();
    let feeds = [("x".into(), tensor.clone())];
    let mut outputs = session.run(&feeds, &mut [], &["y".into()]).unwrap();
    let doubled = outputs.take("y").unwrap();
    assert_eq!(&*doubled.to_f32().unwrap(), [3.0, -4.0]);
    let copy = Tensor::from_bytes(Element::F32, &[2], doubled.as_bytes()).unwrap();
    assert_eq!(&*copy.to_f32().unwrap(), [3.0, -4.0]);
    assert!(Tensor::from_bytes(Element::F32, &[3], doubled.as_bytes()).is_err());
    assert!(matches!(
        session.run(&feeds, &mut [], &["z".into()]),
        Err(OrtError::Run { .. })
    ));
    assert!(matches!(
        session.run(&[], &mut [], &["y".into()]),
        Err(OrtError::Run { .. })
    ));
    session.stopper().stop();
    assert!(matches!(
        session.run(&feeds, &mut [], &["y".into()]),
        Err(OrtError::Stopped)
    ));
}
