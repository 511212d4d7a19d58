//! Folders as they are published: layouts, precisions, external data, and every way in which they can be incomplete.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "only tests call the helpers"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reelsight_registry::{Dim, GraphSummary, ModelFolder, Port, RegistryError, Role, check, list};
use serde_json::{Value, json};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Real graphs without weights; `None`, with a word, where the shared data is not there.
fn published(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("REELSIGHT_SHARED").map_or(repository().join("../shared"), PathBuf::from);
    let path = shared.join("data/onnx-graphs").join(name);
    if !path.is_dir() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// A folder of its own for one test.
fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("reelsight-registry-{name}-{}", std::process::id()));
    fs::remove_dir_all(&path).ok();
    fs::create_dir_all(path.join("onnx")).unwrap();
    path
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn field(number: usize, body: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(body.len()), body.to_vec()].concat()
}

/// A graph with an operator and, if wanted, a tensor whose data lies in `external`.
fn graph(op: &str, external: Option<(&str, &str)>) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        field(
            13,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    let tensor = external.map(|(location, length)| {
        let tensor = [
            field(8, b"weight"),
            entry("location", location),
            entry("length", length),
        ]
        .concat();
        field(5, &tensor)
    });
    let node = field(1, &field(4, op.as_bytes()));
    field(7, &[node, tensor.unwrap_or_default()].concat())
}

fn complete(name: &str) -> PathBuf {
    let root = scratch(name);
    fs::write(
        root.join("config.json"),
        json!({"model_type": "smolvlm"}).to_string(),
    )
    .unwrap();
    fs::write(root.join("tokenizer.json"), "{}").unwrap();
    add(&root, "", "MatMul");
    root
}

/// The three graphs of a precision.
fn add(root: &Path, suffix: &str, op: &str) {
    for role in Role::ALL {
        fs::write(
            root.join(format!("onnx/{}{suffix}.onnx", role.stem())),
            graph(op, None),
        )
        .unwrap();
    }
}

#[test]
fn headers_of_published_graphs_are_what_the_onnx_package_reads() {
    let (Some(gemma), Some(qwen)) = (published("gemma3-4b"), published("qwen3.5-0.8b")) else {
        return;
    };
    let mut graphs: Vec<_> = [gemma, qwen]
        .iter()
        .flat_map(|root| fs::read_dir(root.join("onnx")).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "onnx"))
        .collect();
    graphs.sort();
    assert!(graphs.len() >= 18);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/describe.py");
    let output = Command::new(repository().join(".venv/bin/python"))
        .arg(script)
        .args(&graphs)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let expected: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => json!(size),
        Dim::Symbolic(name) => json!(name),
    };
    let port = |port: &Port| json!({"name": port.name, "elem_type": port.elem_type, "dims": port.dims.iter().map(dim).collect::<Vec<_>>()});
    for (path, expected) in graphs.iter().zip(expected) {
        let summary = GraphSummary::read(path).unwrap();
        let external = summary.external.iter();
        let external = external.map(|(location, file)| {
            (
                location.clone(),
                json!({"tensors": file.tensors, "min_bytes": file.min_bytes}),
            )
        });
        let found = json!({
            "inputs": summary.inputs.iter().map(port).collect::<Vec<_>>(),
            "outputs": summary.outputs.iter().map(port).collect::<Vec<_>>(),
            "ops": summary.ops.iter().filter(|op| expected["ops"].as_array().unwrap().contains(&json!(op))).collect::<Vec<_>>(),
            "external": external.collect::<serde_json::Map<_, _>>(),
        });
        assert_eq!(found["inputs"], expected["inputs"], "{}", path.display());
        assert_eq!(found["outputs"], expected["outputs"], "{}", path.display());
        assert_eq!(found["ops"], expected["ops"], "{}", path.display());
        assert_eq!(found["external"], expected["external"], "{}", path.display());
    }
}

#[test]
fn a_published_folder_without_its_data_names_every_missing_file() {
    let Some(gemma) = published("gemma3-4b") else {
        return;
    };
    let root = scratch("gemma");
    fs::write(
        root.join("config.json"),
        json!({"model_type": "gemma3"}).to_string(),
    )
    .unwrap();
    fs::write(root.join("tokenizer.json"), "{}").unwrap();
    for role in Role::ALL {
        let name = format!("{}.onnx", role.stem());
        fs::copy(gemma.join("onnx").join(&name), root.join("onnx").join(&name)).unwrap();
    }
    let Err(RegistryError::MissingFiles { files, .. }) = ModelFolder::open(&root) else {
        panic!("it opened")
    };
    for file in [
        "embed_tokens.onnx_data",
        "vision_encoder.onnx_data",
        "decoder_model_merged.onnx_data",
        "decoder_model_merged.onnx_data_7",
    ] {
        assert!(files.contains(&format!("onnx/{file}")), "{file} of {files:?}");
    }
}

#[test]
fn the_best_complete_precision_is_taken_and_the_manifest_may_overrule() {
    let root = complete("precision");
    let open = || ModelFolder::open(&root).unwrap();
    assert_eq!(open().precision(), "fp32");
    add(&root, "_fp16", "MatMul");
    assert_eq!(open().precision(), "fp32");
    // An 8-bit decoder that quantises while it runs comes last; one that does not comes before fp32.
    add(&root, "_quantized", "DynamicQuantizeLinear");
    assert_eq!(open().precision(), "fp32");
    assert!(
        !GraphSummary::read(open().graph_path(Role::Decoder).unwrap())
            .unwrap()
            .is_dynamically_quantized()
    );
    add(&root, "_quantized", "MatMulNBits");
    assert_eq!(open().precision(), "q8");
    // A single graph of a precision does not make the precision complete.
    fs::write(
        root.join("onnx/decoder_model_merged_q4.onnx"),
        graph("MatMulNBits", None),
    )
    .unwrap();
    assert_eq!(open().precision(), "q8");
    let manifest = json!({"name": "tiny", "precision": "fp16", "precisions": {"decoder_model_merged": "q4"}});
    fs::write(root.join("reelsight.json"), manifest.to_string()).unwrap();
    assert_eq!((open().name(), open().precision()), ("tiny", "fp16"));
    assert!(
        open()
            .graph_path(Role::Decoder)
            .unwrap()
            .ends_with("onnx/decoder_model_merged_q4.onnx")
    );
    assert!(
        open()
            .graph_path(Role::VisionEncoder)
            .unwrap()
            .ends_with("onnx/vision_encoder_fp16.onnx")
    );
    fs::write(root.join("reelsight.json"), r#"{"no_evidnce": []}"#).unwrap();
    assert!(matches!(
        ModelFolder::open(&root),
        Err(RegistryError::Corrupt { .. })
    ));
}

#[test]
fn what_is_wrong_with_a_folder_is_said_by_what_to_do() {
    let open = |root: &Path| ModelFolder::open(root).map(|_| ()).unwrap_err();
    assert!(matches!(
        open(Path::new("/nonexistent/model")),
        RegistryError::NotFound { .. }
    ));
    let root = complete("wrong");
    let decoder = root.join("onnx/decoder_model_merged.onnx");

    fs::write(&decoder, graph("MatMul", Some(("decoder.onnx_data", "100")))).unwrap();
    assert!(open(&root).to_string().contains("onnx/decoder.onnx_data"));
    fs::write(root.join("onnx/decoder.onnx_data"), [0; 40]).unwrap();
    assert!(open(&root).to_string().contains("has 40 of 100 bytes"));
    fs::write(root.join("onnx/decoder.onnx_data"), [0; 100]).unwrap();
    assert!(ModelFolder::open(&root).is_ok());
    fs::write(&decoder, graph("MatMul", Some(("../../etc/passwd", "1")))).unwrap();
    assert!(matches!(open(&root), RegistryError::Corrupt { .. }));

    let whole = graph("MatMul", None);
    fs::write(&decoder, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(open(&root), RegistryError::Corrupt { .. }));
    fs::write(&decoder, "<html>not found</html>").unwrap();
    assert!(matches!(open(&root), RegistryError::Corrupt { .. }));
    fs::remove_file(&decoder).unwrap();
    assert!(open(&root).to_string().contains("onnx/decoder_model_merged.onnx"));
    fs::remove_dir_all(root.join("onnx")).unwrap();
    fs::write(root.join("model.safetensors"), "").unwrap();
    assert!(open(&root).to_string().contains("export it to ONNX"));
    fs::write(root.join("genai_config.json"), "{}").unwrap();
    assert!(open(&root).to_string().contains("it names no decoder"));
}

#[test]
fn a_changed_file_fails_its_sum_and_every_byte_counts_in_the_digest() {
    let root = complete("digest");
    let digest = || ModelFolder::open(&root).unwrap().digest();
    let before = digest().unwrap();
    assert!(!before.verified);
    let sum = Command::new("sha256sum")
        .arg("config.json")
        .current_dir(&root)
        .output()
        .unwrap();
    fs::write(root.join("SHA256SUMS"), &sum.stdout).unwrap();
    let verified = digest().unwrap();
    assert!(verified.verified && verified.sha256 == before.sha256);
    fs::write(
        root.join("config.json"),
        json!({"model_type": "smolvlm", "x": 1}).to_string(),
    )
    .unwrap();
    assert!(digest().unwrap_err().to_string().contains("SHA256SUMS"));
    fs::remove_file(root.join("SHA256SUMS")).unwrap();
    assert_ne!(digest().unwrap().sha256, before.sha256);
}

#[test]
fn a_list_shows_usable_folders_and_what_is_wrong_with_the_others() {
    let root = scratch("list");
    let models = [("good", "smolvlm"), ("bad", "")];
    for (name, family) in models {
        let made = complete(&format!("list-{name}"));
        fs::rename(&made, root.join(name)).unwrap();
        fs::write(
            root.join(name).join("config.json"),
            json!({"model_type": family}).to_string(),
        )
        .unwrap();
    }
    fs::write(
        root.join("good/README.md"),
        "---\nlicense: apache-2.0\n---\n# Good\n",
    )
    .unwrap();
    let listed = list(std::slice::from_ref(&root));
    assert_eq!(
        listed.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
        ["bad", "good"]
    );
    assert!(listed[0].problem.as_ref().unwrap().contains("model_type"));
    assert_eq!(
        (listed[1].license.as_str(), listed[1].problem.as_ref()),
        ("apache-2.0", None)
    );
    assert!(check(&ModelFolder::open(&root.join("good")).unwrap()).ok());
    assert_eq!(list(&[root.join("good")]).len(), 1);
}
