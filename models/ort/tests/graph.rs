//! Graph passes against the originals and against transformers, on a small Llama of random weights in every form.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only tests call the helpers"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use reelsight_ort::{
    Buffer, Element, InPlace, LocalSession, SessionOptions, Tensor,
    graph::{GraphError, Instrument, Passes, prepare, rewrite},
    runtime,
};

const LAYERS: usize = 2;
const HEADS: [usize; 4] = [1, 2, 64, 32];
const TOKENS: usize = 13;

static GRAPHS: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let out = scratch("graphs");
    let status = Command::new(root.join(".venv/bin/python"))
        .arg(root.join("models/ort/tests/graphs.py"))
        .arg(&out)
        .env("PYTHONPATH", root.join("models/training"))
        .env("OMP_NUM_THREADS", "2")
        .status()
        .expect("run `make setup-test` first");
    assert!(status.success());
    out
});

/// Published graphs without weights; `None` where the shared data is not there.
#[expect(clippy::print_stdout, reason = "says why a test does nothing")]
fn published(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("REELSIGHT_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/onnx-graphs").join(name);
    if !path.is_file() {
        println!("skipped: no {}", path.display());
    }
    path.is_file().then_some(path)
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("reelsight-graph-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

const STATIC: Passes = Passes {
    static_kv: true,
    explicit_positions: true,
    instrument: Instrument {
        kv_mass: false,
        queries: false,
        hidden: false,
    },
};

fn session(path: &Path) -> LocalSession {
    let options = SessionOptions {
        name: "graph".into(),
        intra_threads: 1,
        queue: 1,
    };
    LocalSession::load(runtime(None).unwrap(), path, &options).unwrap()
}

fn floats(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(GRAPHS.join(format!("{name}.f32"))).unwrap();
    bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// Runs the prompt in pieces over caches in place; gives the outputs of the last piece.
fn run(path: &Path, pieces: &[usize], observed: i64, wanted: &[String]) -> Vec<Vec<f32>> {
    let mut session = session(path);
    let inputs: Vec<Arc<str>> = session
        .inputs()
        .iter()
        .map(|port| Arc::clone(&port.name))
        .collect();
    let embeds = floats("embeds");
    let len = HEADS.iter().product();
    let mut buffers: Vec<_> = (0..2 * LAYERS)
        .map(|_| Buffer::zeroed(Element::F32, len).unwrap())
        .collect();
    let names: Vec<(String, String)> = (0..LAYERS)
        .flat_map(|layer| ["key", "value"].map(|part| format!("{layer}.{part}")))
        .map(|name| (format!("past_key_values.{name}"), format!("present.{name}")))
        .collect();
    let (mut begin, mut last) = (0, Vec::new());
    for &new in pieces {
        let end = begin + new;
        let positions = (begin..end).map(|at| i64::try_from(at).unwrap());
        let ids = positions.clone().map(|at| (at * 7 + 3) % 96).collect();
        let all = [
            ("input_ids", Tensor::from_i64(&[1, new], ids)),
            (
                "inputs_embeds",
                Tensor::from_f32(&[1, new, 64], embeds[begin * 64..end * 64].to_vec()),
            ),
            ("attention_mask", Tensor::from_i64(&[1, end], vec![1; end])),
            ("position_ids", Tensor::from_i64(&[1, new], positions.collect())),
            ("num_logits_to_keep", Tensor::from_i64(&[], vec![0])),
            ("obs_rows", Tensor::from_i64(&[], vec![observed])),
        ];
        let feeds = all
            .into_iter()
            .map(|(name, tensor)| (Arc::from(name), tensor.unwrap()));
        let feeds: Vec<_> = feeds.filter(|(name, _)| inputs.contains(name)).collect();
        let mut views: Vec<_> = names
            .iter()
            .zip(&mut buffers)
            .map(|((past, present), buffer)| InPlace {
                past,
                present,
                buffer,
                offset: 0,
                shape: HEADS,
            })
            .collect();
        let names: Vec<Arc<str>> = wanted.iter().map(|name| Arc::from(&**name)).collect();
        let mut outputs = session.run(&feeds, &mut views, &names).unwrap();
        last = wanted
            .iter()
            .map(|name| outputs.take(name).unwrap().to_f32().unwrap().into_owned())
            .collect();
        begin = end;
    }
    last
}

#[test]
fn every_form_becomes_one_that_writes_in_place_and_says_the_same() {
    let cache = scratch("static");
    let expected = floats("logits");
    for (form, rewritten) in [
        ("gqa", 0),
        ("gqa-implicit", 0),
        ("plain", 2),
        ("beside", 2),
        ("eager", 2),
        ("sdpa", 2),
    ] {
        let original = GRAPHS.join(format!("{form}.onnx"));
        let prepared = prepare(&original, &cache, STATIC).unwrap();
        assert_eq!(prepared.rewritten_layers, rewritten, "{form}");
        assert_eq!(
            prepared.moved_positions,
            if form == "gqa-implicit" { 2 } else { 0 },
            "{form}"
        );
        assert_eq!(prepared.path == original, form == "gqa", "{form}");
        for pieces in [&[TOKENS][..], &[6, 1, 1, 5], &[12, 1]] {
            let logits = run(&prepared.path, pieces, 0, &["logits".to_owned()]).remove(0);
            let tail = &expected[expected.len() - logits.len()..];
            let error = difference(&logits, tail);
            assert!(error < 2e-4, "{form} {pieces:?}: {error}");
        }
    }
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn quantised_weights_are_kept_as_they_are() {
    let cache = scratch("q8");
    let original = GRAPHS.join("q8.onnx");
    let prepared = prepare(&original, &cache, STATIC).unwrap();
    assert_eq!(prepared.rewritten_layers, 2);
    let (old, new) = (
        original.metadata().unwrap().len(),
        prepared.path.metadata().unwrap().len(),
    );
    assert!(new * 2 < old, "weights were copied: {new} of {old} bytes");
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn observation_equals_transformers() {
    let cache = scratch("observe");
    let everything = Passes {
        instrument: Instrument {
            kv_mass: true,
            queries: true,
            hidden: true,
        },
        ..STATIC
    };
    let (mass, hidden) = (floats("mass"), floats("hidden"));
    let per_layer = mass.len() / LAYERS;
    for form in ["gqa", "gqa-implicit", "plain", "eager", "sdpa"] {
        let prepared = prepare(&GRAPHS.join(format!("{form}.onnx")), &cache, everything).unwrap();
        let wanted: Vec<String> = ["kv_mass.0", "kv_mass.1", "hidden_last", "q_obs.1"]
            .map(str::to_owned)
            .to_vec();
        for pieces in [&[TOKENS][..], &[7, 6]] {
            let seen = run(&prepared.path, pieces, 4, &wanted);
            for layer in 0..LAYERS {
                let error = difference(&seen[layer], &mass[layer * per_layer..(layer + 1) * per_layer]);
                assert!(error < 1e-5, "{form} {pieces:?} layer {layer}: {error}");
            }
            let states = &seen[2];
            let error = difference(states, &hidden[hidden.len() - states.len()..]);
            assert!(error < 1e-4, "{form} {pieces:?} states: {error}");
            assert_eq!(seen[3].len(), 4 * 4 * 32, "{form} heads, rows, size");
        }
        let nothing = run(&prepared.path, &[TOKENS], 0, &wanted);
        assert!(
            nothing[0].iter().all(|mass| *mass == 0.0) && nothing[3].is_empty(),
            "{form}"
        );
    }
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn observation_of_a_window_with_capped_scores_equals_numpy() {
    let cache = scratch("window");
    let passes = Passes {
        instrument: Instrument {
            kv_mass: true,
            ..Instrument::default()
        },
        ..STATIC
    };
    let prepared = prepare(&GRAPHS.join("window.onnx"), &cache, passes).unwrap();
    let wanted = floats("window");
    let per_layer = wanted.len() / LAYERS;
    let names = ["kv_mass.0", "kv_mass.1"].map(str::to_owned);
    for pieces in [&[TOKENS][..], &[7, 6]] {
        let seen = run(&prepared.path, pieces, 4, &names);
        for (layer, seen) in seen.iter().enumerate() {
            let error = difference(seen, &wanted[layer * per_layer..(layer + 1) * per_layer]);
            assert!(error < 1e-5, "{pieces:?} layer {layer}: {error}");
        }
    }
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn a_second_time_finds_what_the_first_made_and_mends_what_is_damaged() {
    let cache = scratch("cache");
    let original = GRAPHS.join("plain.onnx");
    let first = prepare(&original, &cache, STATIC).unwrap();
    let written = first.path.metadata().unwrap().modified().unwrap();
    assert_eq!(prepare(&original, &cache, STATIC).unwrap(), first);
    assert_eq!(first.path.metadata().unwrap().modified().unwrap(), written);
    let whole = std::fs::read(&first.path).unwrap();
    std::fs::write(&first.path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(prepare(&original, &cache, STATIC).unwrap(), first);
    assert_eq!(std::fs::read(&first.path).unwrap(), whole);
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn what_is_no_decoder_is_refused_with_a_reason() {
    let cache = scratch("refused");
    let path = cache.join("cut.onnx");
    let whole = std::fs::read(GRAPHS.join("plain.onnx")).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(matches!(
        prepare(&path, &cache, STATIC),
        Err(GraphError::Corrupt { .. })
    ));
    if let Some(vision) = published("gemma3-4b/onnx/vision_encoder.onnx") {
        let error = prepare(&vision, &cache, STATIC).unwrap_err();
        assert!(matches!(error, GraphError::Unsupported(_)), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("not convertible because it has no inputs past"),
            "{error}"
        );
    }
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn published_structures_convert_and_stay_valid() {
    let everything = Passes {
        instrument: Instrument {
            kv_mass: true,
            queries: true,
            hidden: true,
        },
        ..STATIC
    };
    let out = scratch("published");
    let mut written = Vec::new();
    for suffix in ["", "_fp16", "_q4", "_q4f16", "_quantized"] {
        let Some(path) = published(&format!("gemma3-4b/onnx/decoder_model_merged{suffix}.onnx")) else {
            return;
        };
        let (bytes, prepared) = rewrite(&path, everything).unwrap();
        assert_eq!(
            (prepared.rewritten_layers, prepared.moved_positions),
            (0, 34),
            "{suffix}"
        );
        let file = out.join(format!("gemma{suffix}.onnx"));
        std::fs::write(&file, bytes).unwrap();
        written.push((path, file));
    }
    // A cache that is not keys and values alone.
    let hybrid = published("qwen3.5-0.8b/onnx/decoder_model_merged_quantized.onnx").unwrap();
    let error = rewrite(&hybrid, STATIC).unwrap_err().to_string();
    assert_eq!(
        error,
        "not convertible because its state past_conv.0 is not keys and values"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    for (original, file) in &written {
        let output = Command::new(root.join(".venv/bin/python"))
            .arg(root.join("models/ort/tests/valid.py"))
            .args([original, file])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::remove_dir_all(out).unwrap();
}
