//! A loaded model: its graphs on their threads, its tokenizer, its family, its policy.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use reelsight_families::{Family, FamilyError};
use reelsight_ort::{LocalSession, OrtError, Session, SessionOptions, graph::for_serving, runtime};
use reelsight_registry::{ModelFolder, Role};
use reelsight_text::{TokenBytes, Tokenizer};
use sha2::{Digest, Sha256};

use crate::{
    EngineConfig, EngineError, ModelInfo, VideoPlan,
    constraint::Grammars,
    control::Control,
    graphs::{Decoder, Embedder, Grounding, VisionEncoder},
};

const DEFAULT_MAX_TOKENS: usize = 128;

/// Everything a job needs of a model.
#[derive(Debug)]
pub(crate) struct Model {
    /// Tells sessions of this load from those of another.
    pub(crate) id: u64,
    pub(crate) info: ModelInfo,
    pub(crate) family: Box<dyn Family>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Width of embeddings.
    pub(crate) hidden: usize,
    /// `None` when the decoder takes ids.
    embed: Option<Embedder>,
    /// `None` for a text model.
    pub(crate) vision: Option<VisionEncoder>,
    /// The model's own word on what its answers rest on.
    pub(crate) grounding: Option<Grounding>,
    /// Ids that end an answer.
    pub(crate) end: BTreeSet<u32>,
    /// The vocabulary as schemas see it.
    pub(crate) grammars: Grammars,
    /// What each token stands for; read when first wanted.
    spelled: OnceLock<Vec<TokenBytes>>,
    /// Answers that mean "not in the video", normalised.
    no_evidence: Vec<String>,
    default_max_tokens: usize,
}

impl Model {
    /// Loads `folder`; the decoder is for one thread alone, the rest for all.
    pub(crate) fn load(folder: &ModelFolder, config: &EngineConfig) -> Result<(Self, Decoder), EngineError> {
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let tokenizer = reelsight_families::tokenizer(folder).map_err(|error| EngineError::model(&error))?;
        let family =
            reelsight_families::load(folder, &tokenizer).map_err(|error| EngineError::model(&error))?;
        let end =
            reelsight_families::end_tokens(folder, &tokenizer).map_err(|error| EngineError::model(&error))?;
        let digest = folder.digest().map_err(|error| EngineError::model(&error))?;
        let (tokens, hidden) = (family.tokens_per_frame(), family.hidden_size());
        let vision = if family.sees() {
            let graph = session(folder, Role::VisionEncoder, config)?;
            let (rows, extra) = (family.rows_per_picture(), family.extra_output());
            Some(VisionEncoder::new(graph, rows, hidden, extra)?)
        } else {
            None
        };
        let decoder = Decoder::new(
            local(&for_serving(path_of(folder, Role::Decoder)?).path, config)?,
            hidden,
        )?;
        let embed = if decoder.takes_ids() {
            None
        } else {
            Some(Embedder::new(session(folder, Role::EmbedTokens, config)?)?)
        };
        let grounding = match folder.grounding_path() {
            Some(path) => Some(Grounding::new(
                load(&path, "grounding", config)?,
                decoder.cache_names().iter().map(|(_, present)| present),
            )?),
            None => None,
        };
        if folder.is_dynamically_quantized() {
            tracing::warn!(
                model = folder.name(),
                "the decoder quantises activations: answers depend on chunk sizes"
            );
        }
        let manifest = folder.manifest();
        let (fps, frames) = family.default_sampling();
        let context = family.context_tokens();
        let info = ModelInfo {
            name: folder.name().to_owned(),
            family: family.name().to_owned(),
            precision: folder.precision().to_owned(),
            context_tokens: manifest
                .context_tokens
                .map_or(context, |wanted| wanted.min(context)),
            tokens_per_frame: tokens,
            kv_bytes_per_token: decoder.bytes_per_token(),
            weight_bytes: folder.weight_bytes(),
            sha256: digest.sha256,
            license: folder.license().to_owned(),
            default_fps: manifest.default_fps.unwrap_or(fps),
            default_max_frames: manifest.default_max_frames.unwrap_or(frames),
        };
        let model = Self {
            id: LOADS.fetch_add(1, Ordering::Relaxed),
            no_evidence: manifest
                .no_evidence
                .iter()
                .map(|answer| normalised(answer))
                .collect(),
            default_max_tokens: manifest.default_max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            info,
            family,
            tokenizer,
            hidden,
            embed,
            vision,
            grounding,
            end,
            grammars: Grammars::default(),
            spelled: OnceLock::new(),
        };
        Ok((model, decoder))
    }

    /// Embeddings of `ids`, `[ids, hidden]`.
    pub(crate) fn embed(&self, ids: &[u32], control: &Control) -> Result<Vec<f32>, EngineError> {
        match &self.embed {
            Some(embed) => embed.run(ids, control),
            None => Err(EngineError::Internal {
                message: "the decoder embeds by itself".into(),
            }),
        }
    }

    /// Under which name the KV of a video is kept: equal names mean equal tokens. `key` is what the caller says of the
    /// content: its digest, and how it is decoded.
    pub(crate) fn prefix_name(&self, key: &str, plan: &VideoPlan) -> String {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(self.info.sha256.as_bytes());
        add(key.as_bytes());
        for (frame, time) in plan.frames.iter().zip(&plan.times) {
            add(&frame.to_le_bytes());
            add(&time.secs().to_le_bytes());
        }
        add(&plan.duration_secs.to_le_bytes());
        add(format!("{:?}", plan.picture).as_bytes());
        format!("video/{}", hex::encode(hasher.finalize()))
    }

    /// What token `id` adds to a text; the name of a control token.
    pub(crate) fn token_bytes(&self, id: u32) -> Vec<u8> {
        // A tokenizer whose tokens are no bytes can still say what one of them reads like.
        let known = self
            .spelled
            .get_or_init(|| self.tokenizer.token_bytes().unwrap_or_default());
        match known.get(id as usize) {
            Some(TokenBytes::Text(bytes)) => bytes.clone(),
            Some(TokenBytes::Control(name)) => name.clone().into_bytes(),
            Some(TokenBytes::Unused) => Vec::new(),
            None => self
                .tokenizer
                .decode(&[id], false)
                .unwrap_or_default()
                .into_bytes(),
        }
    }

    /// Whether `answer` as a whole says that the video does not show it.
    pub(crate) fn says_no_evidence(&self, answer: &str) -> bool {
        self.no_evidence.contains(&normalised(answer))
    }

    /// `requested`, or the model's default for 0.
    pub(crate) fn max_tokens(&self, requested: usize) -> usize {
        if requested == 0 {
            self.default_max_tokens
        } else {
            requested
        }
    }
}

fn normalised(answer: &str) -> String {
    answer.trim().trim_end_matches('.').to_lowercase()
}

fn local(path: &Path, config: &EngineConfig) -> Result<LocalSession, EngineError> {
    let options = SessionOptions {
        name: Role::Decoder.stem().to_owned(),
        intra_threads: config.intra_threads,
        queue: 1,
    };
    let runtime = runtime(None).map_err(ort_error)?;
    LocalSession::load(runtime, path, &options).map_err(ort_error)
}

fn session(folder: &ModelFolder, role: Role, config: &EngineConfig) -> Result<Session, EngineError> {
    load(path_of(folder, role)?, role.stem(), config)
}

fn path_of(folder: &ModelFolder, role: Role) -> Result<&Path, EngineError> {
    let missing = || EngineError::Model {
        message: format!("the folder has no {} graph", role.stem()),
    };
    folder.graph_path(role).ok_or_else(missing)
}

fn load(path: &Path, name: &str, config: &EngineConfig) -> Result<Session, EngineError> {
    let options = SessionOptions {
        name: name.to_owned(),
        intra_threads: config.intra_threads,
        // The encoder of each running ask, and the scheduler.
        queue: config.max_active.max(1) + 1,
    };
    let runtime = runtime(None).map_err(ort_error)?;
    Session::load(runtime, path, &options).map_err(ort_error)
}

fn ort_error(error: OrtError) -> EngineError {
    match error {
        OrtError::OutOfMemory { session, .. } => EngineError::DeviceMemory { what: session },
        other => EngineError::Model {
            message: other.to_string(),
        },
    }
}

/// What a family says about a prompt.
pub(crate) fn prompt_error(error: &FamilyError) -> EngineError {
    match error {
        FamilyError::ControlToken { .. } => EngineError::InvalidInput {
            field: "question",
            message: error.to_string(),
        },
        FamilyError::Refused { .. } | FamilyError::Frame(_) => EngineError::InvalidInput {
            field: "source",
            message: error.to_string(),
        },
        other => EngineError::Internal {
            message: other.to_string(),
        },
    }
}
