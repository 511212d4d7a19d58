//! Sessions on their threads with ONNX Runtime itself. The graphs are written byte by byte: nothing to install.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use reelsight_ort::{Element, OrtError, Session, SessionOptions, Tensor, runtime};

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

/// A float matrix `[rows, columns]` of unknown sizes.
fn port(name: &str) -> Vec<u8> {
    let dims: Vec<u8> = ["r", "c"]
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

/// Writes a graph from `x` to `y`.
fn graph(name: &str, nodes: &[Vec<u8>]) -> PathBuf {
    let graph = [
        nodes.concat(),
        field(2, b"test"),
        field(11, &port("x")),
        field(12, &port("y")),
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
