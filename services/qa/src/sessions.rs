//! Sessions: what a follow-up starts from.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use reelsight_catalog::Resolved;
use reelsight_decode::PacketIndex;
use reelsight_engine::{
    AskOutcome, AskTarget, Engine, GenerationOptions, KvTier, SamplingRequest, SessionKv,
};
use reelsight_proto::{
    time::{now_millis, timestamp_from_millis},
    v1::{
        CacheTier, GenerationConfig, SamplingReport, Session, SessionState, VideoSource, session::Expiration,
        video_source::Source,
    },
};
use reelsight_store::{SessionRow, TurnRow};

use crate::{
    Qa, QaError,
    accept::Accepted,
    forms,
    job::{self, DecodedCount},
    progress::Run,
    validate::{self, invalid},
};

/// How the names of sessions begin.
const SESSIONS: &str = "sessions/";

/// A session as it was written down.
pub(crate) struct Stored {
    pub(crate) row: SessionRow,
    pub(crate) turns: u32,
    /// Source, sampling, model, sampling report; the rest of the message is made when it is shown.
    pub(crate) record: Session,
}

/// The id in `sessions/{id}`.
pub(crate) fn session_id(name: &str) -> Result<&str, QaError> {
    let id = name.strip_prefix(SESSIONS).filter(|id| {
        !id.is_empty()
            && id.len() <= 64
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    id.ok_or_else(|| invalid("session", "session names have the form sessions/{id}"))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Qa {
    pub(crate) async fn stored_session(&self, id: &str) -> Result<Stored, QaError> {
        let key = id.to_owned();
        let missing = || QaError::NotFound {
            kind: "reelsight.v1.Session",
            name: format!("sessions/{id}"),
        };
        let (row, turns) = self
            .0
            .parts
            .store
            .run(move |db| db.session(&key))
            .await?
            .ok_or_else(missing)?;
        let record = Session::decode(row.record.as_slice())
            .map_err(|_malformed| QaError::Internal("a stored session cannot be read"))?;
        Ok(Stored { row, turns, record })
    }

    /// As [`Qa::stored_session`], and not expired.
    pub(crate) async fn live_session(&self, id: &str) -> Result<Stored, QaError> {
        let stored = self.stored_session(id).await?;
        if stored.row.expires_ms <= now_millis() {
            self.forget_state(id);
            return Err(QaError::SessionExpired(format!("sessions/{id}")));
        }
        Ok(stored)
    }

    /// The public form.
    pub(crate) fn session_message(&self, stored: Stored) -> Session {
        let Stored { row, turns, record } = stored;
        let expired = row.expires_ms <= now_millis();
        let engine = self.models().get(&record.model).ok();
        let tier = match engine.and_then(|engine| engine.kept_in(&kept_name(&row.id))) {
            Some(KvTier::Host) => CacheTier::HostKv,
            Some(KvTier::Disk) => CacheTier::DiskKv,
            None => CacheTier::Source,
        };
        Session {
            name: format!("sessions/{}", row.id),
            state: if expired {
                SessionState::Expired
            } else {
                SessionState::Ready
            }
            .into(),
            expiration: Some(Expiration::ExpireTime(timestamp_from_millis(row.expires_ms))),
            turn_count: turns,
            cache_tier: tier.into(),
            create_time: Some(timestamp_from_millis(row.created_ms)),
            ..record
        }
    }

    /// Writes down a new session with its first turn, if it had one, and keeps its state.
    pub(crate) async fn keep_session(
        &self,
        id: &str,
        accepted: &Accepted,
        mut source: VideoSource,
        (resolved, index): (&Resolved, &PacketIndex),
        report: SamplingReport,
        outcome: &AskOutcome,
    ) -> Result<(), QaError> {
        let ttl = accepted.session_ttl;
        // Bytes that came in the call are kept as media, so that the session can be rebuilt from them.
        if matches!(source.source, None | Some(Source::InlineContent(_))) {
            let media = self.0.parts.uploads.keep_source(resolved, index, ttl).await?;
            source.source = Some(Source::Media(format!("media/{}", media.id)));
        }
        let headers = std::mem::take(&mut source.request_headers);
        let engine = self.models().get(&accepted.config.model)?;
        let record = Session {
            source: Some(source),
            sampling: Some(accepted.sampling),
            model: engine.info().name.clone(),
            sampling_report: Some(report),
            ..Session::default()
        };
        let now = now_millis();
        let row = SessionRow {
            id: id.to_owned(),
            record: record.encode_to_vec(),
            source_key: resolved.key().as_str().to_owned(),
            ttl_ms: millis(ttl),
            created_ms: now,
            expires_ms: now.saturating_add(millis(ttl)),
        };
        let turn = (!accepted.question.is_empty()).then(|| turn(accepted));
        let write = self.0.parts.store.run(move |db| {
            db.put_session(&row)?;
            turn.map_or(Ok(()), |turn| db.add_turn(&row.id, &turn))
        });
        write.await?;
        self.0.headers.put(id, headers);
        keep_state(engine, id, outcome.session.as_ref());
        Ok(())
    }

    /// Adds a turn to a session, which lives on from now, and keeps its new state.
    pub(crate) async fn extend_session(
        &self,
        stored: Stored,
        accepted: &Accepted,
        outcome: &AskOutcome,
    ) -> Result<(), QaError> {
        let (id, ttl_ms, turn) = (stored.row.id.clone(), stored.row.ttl_ms, turn(accepted));
        let engine = self.models().get(&stored.record.model)?.clone();
        if self.renew_session(stored, ttl_ms, Some(turn)).await?.is_some() {
            keep_state(&engine, &id, outcome.session.as_ref());
        }
        Ok(())
    }

    /// Lets a session, and the media that it is about, live for `ttl_ms` from now; adds a turn. Nothing when it was
    /// deleted meanwhile.
    pub(crate) async fn renew_session(
        &self,
        mut stored: Stored,
        ttl_ms: i64,
        turn: Option<TurnRow>,
    ) -> Result<Option<Stored>, QaError> {
        stored.row.ttl_ms = ttl_ms;
        stored.row.expires_ms = now_millis().saturating_add(ttl_ms);
        let row = stored.row.clone();
        let media = match stored
            .record
            .source
            .as_ref()
            .and_then(|source| source.source.as_ref())
        {
            Some(Source::Media(name)) => name.strip_prefix("media/").map(str::to_owned),
            _ => None,
        };
        let write = self.0.parts.store.run(move |db| {
            if db.session(&row.id)?.is_none() {
                return Ok(false);
            }
            if let Some(media) = media {
                db.extend_media(&media, row.expires_ms)?;
            }
            db.put_session(&row)?;
            turn.map_or(Ok(()), |turn| db.add_turn(&row.id, &turn))?;
            Ok(true)
        });
        Ok(write.await?.then_some(stored))
    }

    /// The KV state of a session, if there still is one.
    pub(crate) async fn kept_state(&self, engine: &Engine, id: &str) -> Result<Option<SessionKv>, QaError> {
        let (engine, name) = (engine.clone(), kept_name(id));
        if engine.kept_in(&name) == Some(KvTier::Disk) {
            let read = self.0.parts.tracker.spawn_blocking(move || engine.kept(&name));
            return read
                .await
                .map_err(|_panicked| QaError::Internal("a KV state could not be read"));
        }
        Ok(engine.kept(&name))
    }

    /// Forgets what is kept of a session.
    pub(crate) fn forget_state(&self, id: &str) {
        let name = kept_name(id);
        self.models().all().for_each(|engine| engine.forget(&name));
        self.0.headers.remove(id);
    }

    /// Makes a session's state again from its source and its earlier questions.
    pub(crate) async fn rebuild(
        &self,
        engine: &Engine,
        stored: &Stored,
        run: &Run<'_>,
    ) -> Result<SessionKv, QaError> {
        let name = format!("sessions/{}", stored.row.id);
        let mut source = stored.record.source.clone().unwrap_or_default();
        source.request_headers = self.0.headers.get(&stored.row.id);
        let resolved = self.0.parts.sources.open(&source).await?;
        if resolved.key().as_str() != stored.row.source_key {
            return Err(QaError::SourceChanged(name));
        }
        let index = self.0.parts.sources.index(&resolved).await?;
        let sampling = stored.record.sampling.unwrap_or_default();
        let mut request = validate::sampling(&sampling, source.range.as_ref())?;
        validate::clip_range(&mut request, index.timeline.duration_secs())?;
        let (id, key) = (stored.row.id.clone(), stored.row.id.clone());
        let turns = self.0.parts.store.run(move |db| db.turns(&key)).await?;
        let target = self.first_target(engine, &resolved, index, &request, &run.decoded)?;
        let no_generation = GenerationOptions::default();
        let first = job::submit(engine, target, "", no_generation, (false, true), run.context)?;
        let mut state = state_of(job::finish(first).await?)?;
        for turn in turns {
            let config = GenerationConfig::decode(turn.generation.as_slice())
                .map_err(|_malformed| QaError::Internal("a stored turn cannot be read"))?;
            let target = AskTarget::Session(state);
            let mut generation = validate::generation(&config)?;
            forms::with_schema(engine, &config, &mut generation).await?;
            let handle = job::submit(
                engine,
                target,
                &turn.question,
                generation,
                (false, true),
                run.context,
            )?;
            state = state_of(job::finish(handle).await?)?;
        }
        keep_state(engine, &id, Some(&state));
        Ok(state)
    }

    fn first_target(
        &self,
        engine: &Engine,
        resolved: &Resolved,
        index: Arc<PacketIndex>,
        request: &SamplingRequest,
        count: &DecodedCount,
    ) -> Result<AskTarget, QaError> {
        let request = SamplingRequest {
            picture: Some((index.info.width, index.info.height)),
            ..*request
        };
        let plan = engine.plan(&index.timeline, &request, "", 0)?;
        let parts = &self.0.parts;
        job::video_target(
            &parts.sources,
            resolved,
            index,
            plan,
            &parts.limits,
            count.clone(),
        )
    }
}

/// Under which name engines keep the state of a session.
fn kept_name(id: &str) -> String {
    format!("{SESSIONS}{id}")
}

/// The session whose state engines keep as `name`.
pub(crate) fn session_of(name: &str) -> Option<&str> {
    name.strip_prefix(SESSIONS)
}

fn keep_state(engine: &Engine, id: &str, state: Option<&SessionKv>) {
    if let Some(state) = state {
        engine.keep(&kept_name(id), state);
    }
}

fn state_of(outcome: AskOutcome) -> Result<SessionKv, QaError> {
    outcome.session.ok_or(QaError::Internal(
        "the engine kept no session although it was asked to",
    ))
}

fn turn(accepted: &Accepted) -> TurnRow {
    TurnRow {
        question: accepted.question.clone(),
        generation: accepted.config.encode_to_vec(),
    }
}
