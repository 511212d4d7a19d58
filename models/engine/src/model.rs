//! A loaded model: its graphs on their threads, its tokenizer, its family, its policy.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use reelsight_families::{Family, FamilyError};
use reelsight_ort::{OrtError, Session, SessionOptions, runtime};
use reelsight_registry::{ModelFolder, Role};
use reelsight_text::Tokenizer;

use crate::{
    EngineConfig, EngineError, ModelInfo,
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
    pub(crate) embed: Embedder,
    /// `None` for a text model.
    pub(crate) vision: Option<VisionEncoder>,
    pub(crate) decoder: Decoder,
    /// The model's own word on what its answers rest on.
    pub(crate) grounding: Option<Grounding>,
    /// Ids that end an answer.
    pub(crate) end: BTreeSet<u32>,
    /// Answers that mean "not in the video", normalised.
    no_evidence: Vec<String>,
    default_max_tokens: usize,
}

impl Model {
    pub(crate) fn load(folder: &ModelFolder, config: &EngineConfig) -> Result<Self, EngineError> {
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let tokenizer = reelsight_families::tokenizer(folder).map_err(|error| EngineError::model(&error))?;
        let family =
            reelsight_families::load(folder, &tokenizer).map_err(|error| EngineError::model(&error))?;
        let end =
            reelsight_families::end_tokens(folder, &tokenizer).map_err(|error| EngineError::model(&error))?;
        let digest = folder.digest().map_err(|error| EngineError::model(&error))?;
        let (tokens, hidden) = (family.tokens_per_frame(), family.hidden_size());
        let embed = Embedder::new(session(folder, Role::EmbedTokens, config)?)?;
        let vision = if family.sees() {
            let graph = session(folder, Role::VisionEncoder, config)?;
            let (rows, extra) = (family.rows_per_picture(), family.extra_output());
            Some(VisionEncoder::new(graph, rows, hidden, extra)?)
        } else {
            None
        };
        let decoder = Decoder::new(session(folder, Role::Decoder, config)?, hidden)?;
        let grounding = match folder.grounding_path() {
            Some(path) => Some(Grounding::new(
                load(&path, "grounding", config)?,
                &decoder.present(),
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
        Ok(Self {
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
            embed,
            vision,
            decoder,
            grounding,
            end,
        })
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

fn session(folder: &ModelFolder, role: Role, config: &EngineConfig) -> Result<Session, EngineError> {
    let missing = || EngineError::Model {
        message: format!("the folder has no {} graph", role.stem()),
    };
    let path = folder.graph_path(role).ok_or_else(missing)?;
    load(path, role.stem(), config)
}

fn load(path: &Path, name: &str, config: &EngineConfig) -> Result<Session, EngineError> {
    let options = SessionOptions {
        name: name.to_owned(),
        intra_threads: config.intra_threads,
        // Each job waits for at most two runs at a time: one of its encoder thread, one of its own.
        queue: 2 * config.max_active.max(1),
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
