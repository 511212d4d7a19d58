//! The decoder's arithmetic on a model with random weights: chunks, crops and masks.

#[path = "../tests/support/made.rs"]
mod made;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use proptest::{prelude::*, test_runner::Config};
use reelsight_families::{Prompt, Turn, VideoShown};
use reelsight_ort::{LocalSession, SessionOptions, runtime};
use reelsight_registry::{ModelFolder, Role};

use crate::{
    EngineConfig,
    ask::{Scoring, place_frames},
    control::Control,
    graphs::{Decoder, Features, Tokens},
    kv::{Append, Layout, Next, Pages, Ragged, Rows, Traits, probe},
    model::Model,
};

const SEED: u64 = 5;
const FRAMES: u64 = 6;
/// A chunk of one token goes through other kernels (vector by matrix), which round in another order.
const ROUNDING: f32 = 1e-4;
/// Room of a sequence.
const ROOM: usize = 400;

struct Bench {
    model: Arc<Model>,
    rows: Rows,
    traits: Traits,
}

fn load(form: &str) -> Bench {
    let folder = ModelFolder::open(&made::twin(form)).unwrap();
    let (model, decoder) = Model::load(&folder, &EngineConfig::default()).unwrap();
    let decoder = if form == "gqa" {
        decoder
    } else {
        as_published(&folder, model.hidden)
    };
    let embed = |ids: &[u32]| model.embed(ids, &Control::endless()).map(Tokens::Embeds);
    let (rows, traits) = probe(decoder, 4, model.info.context_tokens, &embed).unwrap();
    Bench {
        model: Arc::new(model),
        rows,
        traits,
    }
}

/// The graph as it is in the folder, with a cache that grows.
fn as_published(folder: &ModelFolder, hidden: usize) -> Decoder {
    let options = SessionOptions {
        name: "published".into(),
        intra_threads: 1,
        queue: 1,
    };
    let path = folder.graph_path(Role::Decoder).unwrap();
    Decoder::new(
        LocalSession::load(runtime(None).unwrap(), path, &options).unwrap(),
        hidden,
    )
    .unwrap()
}

/// Benches of all forms, for tests that need many cases.
fn benches() -> MutexGuard<'static, BTreeMap<&'static str, Bench>> {
    static BENCHES: Mutex<BTreeMap<&'static str, Bench>> = Mutex::new(BTreeMap::new());
    BENCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bench that tests share, one at a time.
fn bench() -> MutexGuard<'static, Bench> {
    static BENCH: OnceLock<Mutex<Bench>> = OnceLock::new();
    let bench = BENCH.get_or_init(|| Mutex::new(load("gqa")));
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    fn append(&mut self, id: u64, from: usize, embeds: Vec<f32>, shown: Option<&[bool]>) -> Vec<f32> {
        let count = embeds.len() / self.model.hidden;
        let positions: Vec<_> = (from..from + count)
            .map(|at| [u32::try_from(at).unwrap(); 3])
            .collect();
        let new = Append {
            tokens: Tokens::Embeds(embeds),
            positions: &positions,
            shown,
            keep: 1,
            states: false,
        };
        self.rows.append(id, new).unwrap().row(0).to_vec()
    }

    /// Prefills up to token `end` of `prompt`, `chunk` tokens at a time; gives the last logits.
    fn prefill(
        &mut self,
        id: u64,
        (prompt, features): &(Prompt, BTreeMap<usize, Features>),
        end: usize,
        chunk: usize,
    ) -> Vec<f32> {
        let mut logits = Vec::new();
        while self.rows.len(id) < end {
            let start = self.rows.len(id);
            let next = end.min(start.saturating_add(chunk));
            let mut embeds = self
                .model
                .embed(&prompt.ids[start..next], &Control::endless())
                .unwrap();
            place_frames(prompt, start, features, &mut embeds, self.model.hidden).unwrap();
            logits = self.append(id, start, embeds, None);
        }
        logits
    }

    /// A sequence of the whole prompt, and the logits after it.
    fn prefilled(&mut self, id: u64, chunk: usize) -> Vec<f32> {
        let scene = scene(&self.model);
        self.rows.close(id);
        self.rows.open(id, ROOM).unwrap();
        self.prefill(id, &scene, scene.0.ids.len(), chunk)
    }
}

/// A question about six frames, with their embeddings.
fn scene(model: &Model) -> (Prompt, BTreeMap<usize, Features>) {
    let video = VideoShown {
        stamps_secs: (0..6).map(f64::from).collect(),
        duration_secs: 6.0,
        size: None,
    };
    let turn = Turn {
        question: "What color is the square?".into(),
        answer: None,
    };
    let pixels = (0..FRAMES).map(|index| {
        let frame = made::frame(SEED, index * 25);
        model.family.video_pixels(&[frame], &video).unwrap()
    });
    let pixels: Vec<_> = pixels.collect();
    let vision = model.vision.as_ref().unwrap();
    let features = vision.run(&pixels, &Control::endless()).unwrap();
    let prompt = model.family.prompt(&video, &[turn]).unwrap();
    (prompt, features.into_iter().enumerate().collect())
}

/// The largest difference of two rows of logits.
fn distance(row: &[f32], other: &[f32]) -> f32 {
    assert_eq!(row.len(), other.len());
    row.iter()
        .zip(other)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, ..Config::default() })]

    #[test]
    fn prefill_in_any_chunks_gives_the_logits_of_one_pass(cuts in prop::collection::vec(1..140_usize, 0..6), chunk in 1..200_usize) {
        let mut bench = bench();
        let scene = scene(&bench.model);
        let expected = bench.prefilled(0, usize::MAX);
        let mut cuts = cuts;
        cuts.retain(|&cut| cut < scene.0.ids.len());
        cuts.sort_unstable();
        cuts.push(scene.0.ids.len());
        bench.rows.close(0);
        bench.rows.open(0, ROOM).unwrap();
        let logits = cuts.into_iter().map(|end| bench.prefill(0, &scene, end, chunk)).last().unwrap();
        prop_assert!(distance(&logits, &expected) < ROUNDING);
    }

    #[test]
    fn a_cropped_cache_continues_as_if_the_rest_had_never_been(keep in 1..150_usize) {
        let mut bench = bench();
        let scene = scene(&bench.model);
        let expected = bench.prefilled(0, 64);
        let end = scene.0.ids.len();
        bench.rows.truncate(0, keep.min(end - 1)).unwrap();
        let logits = bench.prefill(0, &scene, end, 64);
        prop_assert!(distance(&logits, &expected) < ROUNDING);
    }

    /// Sequences of any lengths, some of which are not asked, through any row of a slab.
    #[test]
    fn a_ragged_batch_gives_what_each_row_gives_alone(
        lens in prop::collection::vec(1..100_usize, 4), steps in prop::collection::vec(1..16_u8, 1..6), form in 0..3_usize,
    ) {
        let form = ["gqa-implicit", "plain", "gqa"][form];
        let mut benches = benches();
        let bench = benches.entry(form).or_insert_with(|| load(form));
        (0..10).for_each(|row| bench.rows.close(row));
        let ids = |row: usize, at: usize| u32::try_from(3 + (row * 31 + at * 7) % 90).unwrap();
        for (row, &len) in lens.iter().enumerate() {
            bench.rows.open(row as u64, ROOM).unwrap();
            let prompt: Vec<_> = (0..len).map(|at| ids(row, at)).collect();
            let embeds = bench.model.embed(&prompt, &Control::endless()).unwrap();
            bench.append(row as u64, 0, embeds, None);
        }
        let mut lens = lens;
        for step in steps {
            let chosen: Vec<usize> = (0..4).filter(|row| step >> row & 1 == 1).collect();
            let next = chosen.iter().map(|&row| Next {
                sequence: row as u64,
                token: Tokens::Embeds(bench.model.embed(&[ids(row, lens[row])], &Control::endless()).unwrap()),
                position: [u32::try_from(lens[row]).unwrap(); 3],
            }).collect();
            let mut found = BTreeMap::new();
            bench.rows.decode(next, |id, row| { found.insert(id, row.to_vec()); }).unwrap();
            prop_assert_eq!(found.len(), chosen.len());
            for row in chosen {
                let whole: Vec<_> = (0..=lens[row]).map(|at| ids(row, at)).collect();
                let embeds = bench.model.embed(&whole, &Control::endless()).unwrap();
                bench.rows.open(9, ROOM).unwrap();
                let alone = bench.append(9, 0, embeds, None);
                bench.rows.close(9);
                prop_assert!(distance(&alone, &found[&(row as u64)]) < 2.0 * ROUNDING, "row {}", row);
                lens[row] += 1;
            }
        }
    }
}

#[test]
fn what_graphs_can_do_is_found_out() {
    let kind = |form: &str| {
        let traits = load(form).traits;
        (traits.layout, traits.masks_hide)
    };
    assert_eq!(kind("gqa"), (Layout::Slabs(Ragged::Columns), true));
    assert_eq!(kind("plain"), (Layout::Tensors, true));
    assert_eq!(kind("gqa-implicit"), (Layout::Slabs(Ragged::Alone), true));
}

/// Some published graphs give logits of the last token alone; then the others take a run each.
#[test]
fn wanted_rows_are_the_same_in_one_run_and_in_several() {
    let mut bench = bench();
    let ids = [5_u32, 9, 4, 7, 8];
    let positions: Vec<_> = (0..5).map(|at| [at; 3]).collect();
    let mut runs = [false, true].map(|last_only| {
        let embeds = bench.model.embed(&ids, &Control::endless()).unwrap();
        bench.rows.close(0);
        bench.rows.open(0, ROOM).unwrap();
        bench.rows.set_last_only(last_only);
        let new = Append {
            tokens: Tokens::Embeds(embeds),
            positions: &positions,
            shown: None,
            keep: 3,
            states: false,
        };
        let logits = bench.rows.append(0, new).unwrap();
        assert_eq!((logits.rows(), bench.rows.len(0)), (3, 5));
        (0..3).map(|at| logits.row(at).to_vec()).collect::<Vec<_>>()
    });
    bench.rows.set_last_only(false);
    let [once, apart] = &mut runs;
    for (once, apart) in once.iter().zip(apart) {
        assert!(distance(once, apart) < ROUNDING);
    }
}

#[test]
fn every_form_of_decoder_graph_gives_the_same_logits() {
    let expected = bench().prefilled(0, 64);
    for form in ["plain", "gqa-implicit"] {
        let logits = load(form).prefilled(0, 64);
        assert!(distance(&logits, &expected) < 1e-3, "{form}");
    }
}

#[test]
fn a_sequence_that_was_saved_and_loaded_goes_on_as_if_it_had_stayed() {
    for form in ["gqa", "plain"] {
        let mut bench = load(form);
        let scene = scene(&bench.model);
        let expected = bench.prefilled(0, 64);
        bench.rows.truncate(0, 100).unwrap();
        let mut pages = Pages::default();
        pages.push(bench.rows.save(0, 0..60).unwrap(), 60);
        pages.push(bench.rows.save(0, 60..100).unwrap(), 40);
        bench.rows.close(0);
        assert_eq!(bench.rows.used_bytes(), 0);
        bench.rows.open(7, ROOM).unwrap();
        bench.rows.load(7, &pages.head(90)).unwrap();
        let logits = bench.prefill(7, &scene, scene.0.ids.len(), 64);
        assert!(distance(&logits, &expected) < ROUNDING, "{form}");
    }
}

#[test]
fn a_hidden_frame_cannot_be_seen() {
    let mut bench = bench();
    let (prompt, mut features) = scene(&bench.model);
    let mut run = |pixels: f32, hide: bool| {
        features.insert(2, vec![pixels; features[&2].len()].into());
        // The third frame is the last thing in the cache, so nothing else has seen it.
        let end = prompt.frames[2].block.end;
        bench.rows.close(0);
        bench.rows.open(0, ROOM).unwrap();
        bench.prefill(0, &(prompt.clone(), features.clone()), end, 64);
        let mut shown = vec![true; end];
        shown[prompt.frames[2].block.clone()].fill(!hide);
        let embeds = bench
            .model
            .embed(&prompt.ids[prompt.video_tokens()..], &Control::endless())
            .unwrap();
        bench.append(0, end, embeds, Some(&shown))
    };
    assert_eq!(run(0.1, true), run(-0.7, true));
    assert_ne!(run(0.1, false), run(-0.7, false));
}

/// The likelihood of an answer with frames hidden, against transformers with the same zeros in its attention mask.
#[test]
fn likelihoods_with_hidden_frames_equal_those_of_transformers() {
    let mut bench = bench();
    let bench = &mut *bench;
    let (prompt, _) = scene(&bench.model);
    bench.prefilled(0, 64);
    let mut video = Pages::default();
    let video_tokens = prompt.video_tokens();
    video.push(bench.rows.save(0, 0..video_tokens).unwrap(), video_tokens);
    let answer = [300, 25, 310, 77];
    let masks: [&[usize]; 5] = [&[], &[2], &[0, 1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], &[0, 5]];
    let Bench { model, rows, .. } = bench;
    let embed = |ids: &[u32]| model.embed(ids, &Control::endless()).map(Tokens::Embeds);
    let mut ours = Vec::new();
    // Hidden by the mask, and left out of the cache.
    for video in [None, Some(video)] {
        let scoring = Scoring::new(&prompt, 6, 1, &answer, video, embed).unwrap();
        ours.push(masks.map(|hidden| {
            scoring
                .likelihood(0, &prompt, rows, |frame| !hidden.contains(&frame))
                .unwrap()
        }));
    }
    let blocks: Vec<_> = prompt
        .frames
        .iter()
        .map(|slot| [slot.block.start, slot.block.end])
        .collect();
    let request = serde_json::json!({
        "ids": prompt.ids, "video_tokens": prompt.video_tokens(), "answer": answer, "blocks": blocks, "hidden": masks,
        "seed": SEED, "frames": (0..FRAMES).map(|index| index * 25).collect::<Vec<_>>(),
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/masked.py");
    let folder = made::twin("gqa");
    let printed = made::run_python(&[
        script.to_str().unwrap(),
        folder.to_str().unwrap(),
        &request.to_string(),
    ]);
    let theirs: Vec<f64> = serde_json::from_str(&printed).unwrap();
    for ours in ours {
        for ((ours, theirs), hidden) in ours.iter().zip(&theirs).zip(masks) {
            assert!((ours - theirs).abs() < 2e-3, "{hidden:?}: {ours} and {theirs}");
        }
        assert!(
            (ours[0] - ours[2]).abs() > 0.01,
            "hiding all frames changes nothing: {ours:?}"
        );
    }
}
