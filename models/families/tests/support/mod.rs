//! Twins of published models, made pictures, and a runner that does nothing clever.
#![allow(dead_code, reason = "each test file uses another part")]

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use reelsight_families::{Family, Media, Prompt};
use reelsight_media::{MediaTime, Pts, RgbFrame, TimeBase, Timeline};
use reelsight_ort::{Element, Port, Session, SessionOptions, Tensor, runtime};
use reelsight_preprocess::VisionInput;
use reelsight_registry::{ModelFolder, Role};

/// A folder of its own for this test, written by `reelsight_twins` with numpy and onnx alone.
pub(crate) fn twin(family: &str) -> PathBuf {
    twin_with(family, &[])
}

/// [`twin`] with further arguments.
pub(crate) fn twin_with(family: &str, arguments: &[&str]) -> PathBuf {
    static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let made = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let out = std::env::temp_dir().join(format!("reelsight-twin-{family}-{}-{made}", std::process::id()));
    std::fs::remove_dir_all(&out).ok();
    let done = Command::new(repository.join(".venv/bin/python"))
        .args(["-m", "reelsight_twins.twins", family])
        .arg(&out)
        .args(arguments)
        .env("PYTHONPATH", repository.join("models/training"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out
}

/// Picture `index` of a video, or a still one, by the formula of `reelsight_twins/cases.py`.
pub(crate) fn picture(seed: u32, width: u32, height: u32, index: u32) -> RgbFrame {
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let inside = ((x + seed * 5) / 16 + (y + seed * 3) / 16).is_multiple_of(5);
            let ground = [x * 3 + seed, y * 4 + seed * 7, (x * y / 5 + seed * 11) * 2];
            let square = [seed * 53 % 256, (seed * 17 + 90) % 256, 220];
            let colour = if inside { square } else { ground };
            data.extend(colour.map(|value| u8::try_from(value % 256).unwrap()));
        }
    }
    RgbFrame {
        width,
        height,
        data: data.into(),
        index: u64::from(index),
        time: MediaTime {
            pts: Pts(i64::from(index)),
            base: TimeBase::new(1, 25).unwrap(),
        },
        damaged: false,
    }
}

/// `frames` frames at `fps`.
pub(crate) fn timeline(frames: u32, fps: u32) -> Timeline {
    let base = TimeBase::new(1, fps).unwrap();
    Timeline::new(base, (0..i64::from(frames)).collect(), i64::from(frames)).unwrap()
}

type Inputs = Vec<(Arc<str>, Tensor)>;

/// A model's graphs, run one after the other.
pub(crate) struct Runner {
    embed: Option<Session>,
    vision: Option<Session>,
    decoder: Session,
}

impl Runner {
    pub(crate) fn load(folder: &ModelFolder) -> Self {
        let load = |role: Role| {
            let options = SessionOptions {
                name: role.stem().into(),
                intra_threads: 1,
                queue: 1,
            };
            let path = folder.graph_path(role)?;
            Some(Session::load(runtime(None).unwrap(), path, &options).unwrap())
        };
        Self {
            embed: load(Role::EmbedTokens),
            vision: load(Role::VisionEncoder),
            decoder: load(Role::Decoder).unwrap(),
        }
    }

    fn run(session: &Session, inputs: Inputs, output: &str) -> (Vec<usize>, Vec<f32>) {
        let mut outputs = session.run(inputs, &|| false).unwrap();
        let tensor = outputs.take(output).unwrap();
        (tensor.shape(), tensor.to_f32().unwrap().into_owned())
    }

    /// Embeddings of every slot of `prompt`.
    pub(crate) fn see(
        &self,
        family: &dyn Family,
        media: &[&Media],
        prompt: &Prompt,
        inputs: &[Vec<VisionInput>],
    ) -> Vec<Vec<f32>> {
        let Some(vision) = &self.vision else {
            return Vec::new();
        };
        let mut extra = None;
        let rows: Vec<Vec<Vec<f32>>> = inputs
            .iter()
            .map(|inputs| {
                let one = |input: &VisionInput| {
                    let fed = picture_inputs(vision, input);
                    if let Some(name) = family.extra_output() {
                        extra = Some(Self::run(vision, fed.clone(), name).1);
                    }
                    Self::run(vision, fed, "image_features").1
                };
                inputs.iter().map(one).collect()
            })
            .collect();
        let slot = |slot: &reelsight_families::FrameSlot| {
            let size = match media[slot.medium] {
                Media::Image { width, height } => Some((*width, *height)),
                Media::Video(_) => None,
            };
            let first = slot.pictures.start / family.frames_per_slot();
            let last = slot.pictures.end.div_ceil(family.frames_per_slot());
            let shown: Vec<&[f32]> = rows[slot.medium][first..last]
                .iter()
                .map(|rows| &**rows)
                .collect();
            family.assemble(&shown, size, extra.as_deref()).unwrap()
        };
        prompt.frames.iter().map(slot).collect()
    }

    /// Logits after the prompt, and the tokens that follow it.
    pub(crate) fn greedy(
        &self,
        prompt: &Prompt,
        features: &[Vec<f32>],
        end: &BTreeSet<u32>,
        limit: usize,
    ) -> (Vec<f32>, Vec<u32>) {
        let (mut cache, mut first, mut tokens) = (HashMap::new(), Vec::new(), Vec::<u32>::new());
        let mut seen = 0;
        while tokens.len() < limit && tokens.last().is_none_or(|last| !end.contains(last)) {
            let ids = tokens.last().map_or(&*prompt.ids, std::slice::from_ref);
            let mut rows = self.embeddings(ids);
            if let Some(rows) = rows.as_mut().filter(|_| tokens.is_empty()) {
                let hidden = rows.len() / ids.len();
                for (slot, features) in prompt.frames.iter().zip(features) {
                    let at = slot.visual.start * hidden..slot.visual.end * hidden;
                    rows[at].copy_from_slice(features);
                }
            }
            let logits = self.step(prompt, ids, rows.as_deref(), seen, &mut cache);
            seen += ids.len();
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
            tokens.push(u32::try_from(best.unwrap()).unwrap());
            if first.is_empty() {
                first = logits;
            }
        }
        (first, tokens)
    }

    fn embeddings(&self, ids: &[u32]) -> Option<Vec<f32>> {
        let inputs = vec![("input_ids".into(), ids_tensor(ids))];
        Some(Self::run(self.embed.as_ref()?, inputs, "inputs_embeds").1)
    }

    fn step(
        &self,
        prompt: &Prompt,
        ids: &[u32],
        rows: Option<&[f32]>,
        seen: usize,
        cache: &mut HashMap<Arc<str>, Tensor>,
    ) -> Vec<f32> {
        let (new, total) = (ids.len(), seen + ids.len());
        let input = |port: &Port| match &*port.name {
            "input_ids" => ids_tensor(ids),
            "inputs_embeds" => {
                let rows = rows.unwrap().to_vec();
                Tensor::from_f32(&[1, new, rows.len() / new], rows).unwrap()
            }
            "attention_mask" => Tensor::from_i64(&[1, total], vec![1; total]).unwrap(),
            "position_ids" => {
                let axes = if port.dims.len() == 3 { 3 } else { 1 };
                let places = (0..axes).flat_map(|axis| {
                    (seen..total).map(move |token| i64::from(prompt.positions.at(token)[axis]))
                });
                let shape = [axes, 1, new];
                Tensor::from_i64(&shape[3 - port.dims.len()..], places.collect()).unwrap()
            }
            "num_logits_to_keep" => Tensor::from_i64(&[], vec![1]).unwrap(),
            past => cache.get(past).cloned().unwrap_or_else(|| {
                let shape: Vec<_> = port
                    .dims
                    .iter()
                    .enumerate()
                    .map(|(axis, dim)| dim.unwrap_or(usize::from(axis == 0)))
                    .collect();
                Tensor::empty(Element::F32, &shape).unwrap()
            }),
        };
        let ports = self.decoder.inputs();
        let inputs = ports.iter().map(|port| (Arc::clone(&port.name), input(port)));
        let mut outputs = self.decoder.run(inputs.collect(), &|| false).unwrap();
        for port in ports
            .iter()
            .filter(|port| port.name.starts_with("past_key_values."))
        {
            let present = port.name.replacen("past_key_values.", "present.", 1);
            cache.insert(Arc::clone(&port.name), outputs.take(&present).unwrap());
        }
        let logits = outputs.take("logits").unwrap();
        let width = *logits.shape().last().unwrap();
        let values = logits.to_f32().unwrap();
        values[values.len() - width..].to_vec()
    }
}

fn ids_tensor(ids: &[u32]) -> Tensor {
    let ids: Vec<_> = ids.iter().map(|&id| i64::from(id)).collect();
    Tensor::from_i64(&[1, ids.len()], ids).unwrap()
}

fn picture_inputs(vision: &Session, input: &VisionInput) -> Inputs {
    let fill = |port: &Port| match (&*port.name, input) {
        ("pixel_values", VisionInput::Patches(patches)) => {
            let rows = patches.data.len() / patches.width;
            Tensor::from_f32(&[rows, patches.width], patches.data.clone()).unwrap()
        }
        ("pixel_values", VisionInput::Picture(picture)) => {
            let shape = [&vec![1; port.dims.len() - 3][..], &picture.shape].concat();
            Tensor::from_f32(&shape, picture.data.clone()).unwrap()
        }
        ("pixel_attention_mask", VisionInput::Picture(picture)) => {
            let shape = [&vec![1; port.dims.len() - 2][..], &picture.shape[1..]].concat();
            Tensor::from_bool(&shape, picture.mask.clone()).unwrap()
        }
        (_, VisionInput::Patches(patches)) => {
            let grid = patches.grid.iter().map(|&side| i64::from(side));
            Tensor::from_i64(&[1, 3], grid.collect()).unwrap()
        }
        (other, _) => panic!("an input {other}"),
    };
    vision
        .inputs()
        .iter()
        .map(|port| (Arc::clone(&port.name), fill(port)))
        .collect()
}
