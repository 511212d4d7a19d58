//! A request after validation: nothing in it can be wrong any more without opening something.

use std::time::Duration;

use reelsight_catalog::ChunkFile;
use reelsight_engine::{GenerationOptions, SamplingRequest};
use reelsight_proto::v1::{
    AskRequest, AskUploadRequest, GenerationConfig, Sampling, VideoSource, ask_request::Target,
};
use sha2::{Digest as _, Sha256};
use tonic::Streaming;

use crate::{Qa, QaError, sessions::session_id, validate};

/// What an ask is about.
pub(crate) enum Subject {
    /// A source that the server opens.
    Source(VideoSource),
    /// Bytes that follow in the call.
    Upload(Box<Upload>),
    /// A session, by id.
    Session(String),
}

/// Bytes on their way.
pub(crate) struct Upload {
    /// Says at most which part of the video to look at.
    pub(crate) source: VideoSource,
    pub(crate) chunks: Streaming<AskUploadRequest>,
    pub(crate) file: ChunkFile,
}

/// A validated ask.
pub(crate) struct Accepted {
    pub(crate) subject: Subject,
    pub(crate) request_id: String,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) question: String,
    pub(crate) sampling: Sampling,
    pub(crate) sampling_request: SamplingRequest,
    pub(crate) config: GenerationConfig,
    pub(crate) generation: GenerationOptions,
    pub(crate) citations: bool,
    pub(crate) progress_interval: Duration,
    /// Id of the session that the ask continues or leaves.
    pub(crate) session: Option<String>,
    pub(crate) session_ttl: Duration,
}

impl Accepted {
    /// `sessions/{id}`, or nothing.
    pub(crate) fn session_name(&self) -> String {
        self.session
            .as_ref()
            .map_or_else(String::new, |id| format!("sessions/{id}"))
    }
}

impl Qa {
    /// Validates an ask whose target is in the request.
    pub(crate) fn accept(&self, request: AskRequest) -> Result<Accepted, QaError> {
        validate::question(&request.question)?;
        let fingerprint = if request.request_id.is_empty() {
            Vec::new()
        } else {
            fingerprint(&request)
        };
        let subject = match request.target.clone() {
            None => return Err(validate::invalid("source", "name a source or a session")),
            Some(Target::Session(name)) => Subject::Session(session_id(&name)?.to_owned()),
            Some(Target::Source(source)) => {
                self.0.parts.sources.check(&source)?;
                Subject::Source(source)
            }
        };
        self.accept_about(request, fingerprint, subject)
    }

    /// Validates an ask about `subject`.
    pub(crate) fn accept_about(
        &self,
        request: AskRequest,
        fingerprint: Vec<u8>,
        subject: Subject,
    ) -> Result<Accepted, QaError> {
        validate::request_id(&request.request_id)?;
        let sampling = request.sampling.unwrap_or_default();
        let range = match &subject {
            Subject::Source(source) => source.range,
            Subject::Upload(upload) => upload.source.range,
            Subject::Session(_) if sampling != Sampling::default() => {
                return Err(validate::invalid(
                    "sampling",
                    "a session keeps the sampling that it was made with",
                ));
            }
            Subject::Session(_) => None,
        };
        let sampling_request = validate::sampling(&sampling, range.as_ref())?;
        let config = request.generation.unwrap_or_default();
        let generation = validate::generation(&config)?;
        // A session has its own model, which is looked up with it.
        if !matches!(subject, Subject::Session(_)) || !config.model.is_empty() {
            self.models().get(&config.model)?;
        }
        let options = request.options.unwrap_or_default();
        let session = match &subject {
            Subject::Session(id) => Some(id.clone()),
            _ => request.keep_session.then(|| uuid::Uuid::new_v4().to_string()),
        };
        Ok(Accepted {
            subject,
            request_id: request.request_id,
            fingerprint,
            question: request.question,
            sampling,
            sampling_request,
            config,
            generation,
            citations: options.citations,
            progress_interval: validate::progress_interval(&options)?,
            session,
            session_ttl: self.0.parts.limits.session_ttl,
        })
    }
}

/// The same for equal requests only.
pub(crate) fn fingerprint(message: &impl prost::Message) -> Vec<u8> {
    Sha256::digest(message.encode_to_vec()).to_vec()
}
