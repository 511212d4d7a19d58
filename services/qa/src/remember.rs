//! Answers by `request_id`: the same call gives the same answer for a day.

use prost::Message as _;
use reelsight_proto::{time::now_millis, v1::AskResult};
use reelsight_store::Reply;

use crate::{Qa, QaError, accept::Accepted};

/// Scope of remembered answers.
const SCOPE: &str = "ask";

impl Qa {
    /// What an earlier call with the same id was answered.
    pub(crate) async fn remembered(&self, accepted: &Accepted) -> Result<Option<AskResult>, QaError> {
        let (id, fingerprint) = (accepted.request_id.clone(), accepted.fingerprint.clone());
        let since = now_millis() - i64::try_from(self.0.parts.limits.keep_replies.as_millis()).unwrap_or(0);
        match self
            .0
            .parts
            .store
            .run(move |db| db.reply(SCOPE, &id, &fingerprint, since))
            .await?
        {
            None => Ok(None),
            Some(Reply::Different) => Err(QaError::RequestIdReused(accepted.request_id.clone())),
            Some(Reply::Same(bytes)) => AskResult::decode(bytes.as_slice())
                .map(Some)
                .map_err(|_malformed| QaError::Internal("a remembered answer cannot be read")),
        }
    }

    pub(crate) async fn remember(&self, accepted: &Accepted, result: &AskResult) -> Result<(), QaError> {
        if accepted.request_id.is_empty() {
            return Ok(());
        }
        let (id, fingerprint) = (accepted.request_id.clone(), accepted.fingerprint.clone());
        let bytes = result.encode_to_vec();
        let write = self
            .0
            .parts
            .store
            .run(move |db| db.put_reply(SCOPE, &id, &fingerprint, &bytes, now_millis()));
        Ok(write.await?)
    }
}
