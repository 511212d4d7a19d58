//! Windows of a graph whose answer is known: the brightness of each picture.

#![expect(clippy::print_stderr, reason = "skipped tests are told")]

use std::{path::Path, process::Command};

use reelsight_media::CancelFlag;
use reelsight_sampling::{ShotDetector as _, ShotError};
use reelsight_shots::{MANIFEST_FILE, ShotsError, TransNetV2};

/// Writes a graph with `cut` = mean of the picture / 255, in windows of 10 pictures of which 2 at each end lend context.
const SCRIPT: &str = r#"
import hashlib, json, pathlib, sys
import onnx
from onnx import TensorProto, helper
frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, "frames", 2, 4, 3])
cut = helper.make_tensor_value_info("cut", TensorProto.FLOAT, [1, "frames"])
scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0])
nodes = [helper.make_node("ReduceMean", ["frames"], ["mean"], axes=[2, 3, 4], keepdims=0),
         helper.make_node("Div", ["mean", "scale"], ["cut"])]
graph = helper.make_graph(nodes, "brightness", [frames], [cut], [scale])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
folder = pathlib.Path(sys.argv[1])
data = model.SerializeToString()
(folder / "graph.onnx").write_bytes(data)
(folder / "shots.json").write_text(json.dumps({
    "name": "brightness", "graph": "graph.onnx", "sha256": hashlib.sha256(data).hexdigest(),
    "width": 4, "height": 2, "window": 10, "margin": 2}))
"#;

fn made(folder: &Path) -> bool {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let done = Command::new(python).args(["-c", SCRIPT]).arg(folder).status();
    let made = done.is_ok_and(|status| status.success());
    if !made {
        eprintln!("SKIPPED: no onnx in .venv to write a graph with (make setup-test installs it)");
    }
    made
}

fn load(folder: &Path) -> Result<Box<TransNetV2>, ShotsError> {
    TransNetV2::load(folder, 1, CancelFlag::new()).map(Box::new)
}

#[test]
fn every_picture_is_judged_once_wherever_windows_begin_and_end() {
    let folder = tempfile::tempdir().unwrap();
    if !made(folder.path()) {
        return;
    }
    for count in [1, 5, 6, 7, 12, 13, 31] {
        let bright = |at: usize| matches!(at, 3 | 9 | 17..=21 | 28);
        let mut detector = load(folder.path()).unwrap();
        assert_eq!((detector.name(), detector.size()), ("brightness", (4, 2)));
        for at in 0..count {
            detector.push(&[if bright(at) { 204 } else { 25 }; 24]).unwrap();
        }
        let found: Vec<_> = detector.finish(0.5).unwrap();
        let expected = [(3, 4), (9, 10), (17, 22), (28, 29)];
        let expected: Vec<_> = expected.into_iter().filter(|&(_, to)| to < count).collect();
        let places: Vec<_> = found.iter().map(|found| (found.from, found.to)).collect();
        assert_eq!(places, expected, "{count} pictures");
        assert!(
            found.iter().all(|found| (found.score - 0.8).abs() < 1e-6),
            "{found:?}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let absent = load(folder.path()).unwrap_err();
    assert!(matches!(absent, ShotsError::NotInstalled { .. }), "{absent}");
    if !made(folder.path()) {
        return;
    }
    let wrong = load(folder.path()).unwrap().push(&[0; 5]).unwrap_err();
    assert_eq!(
        wrong,
        ShotError::WrongSize {
            expected: 24,
            actual: 5
        }
    );
    std::fs::write(folder.path().join("graph.onnx"), b"something else").unwrap();
    let damaged = load(folder.path()).unwrap_err();
    assert!(damaged.to_string().contains("sha256"), "{damaged}");
    std::fs::write(folder.path().join(MANIFEST_FILE), b"{}").unwrap();
    assert!(matches!(
        load(folder.path()).unwrap_err(),
        ShotsError::Corrupt { .. }
    ));
}
