//! Everything that an operator decides.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use reelsight_catalog::{SourceLimits, UploadLimits};
use reelsight_fetch::{CertificateDer, FetchLimits, HostOrCidr, Resolver, S3Stores, SystemResolver};
use reelsight_qa::QaLimits;
use reelsight_worker::WorkerOptions;

use crate::ServerError;

/// Settings of a server. `Default` serves loopback, opens no folder and no private address.
#[derive(Clone)]
pub struct ServerConfig {
    /// Address of the API; port 0 takes a free one. Default `127.0.0.1:50051`.
    pub listen: SocketAddr,
    /// Address of the admin API; none by default.
    pub admin_listen: Option<SocketAddr>,
    /// Accept addresses other than loopback although there is no authentication yet. Default off.
    pub insecure_listen: bool,
    /// Uploads, the database and temporary files. Default `.data`.
    pub data_dir: PathBuf,
    /// Folders whose files clients may name in `server_path`.
    pub media_roots: Vec<PathBuf>,
    /// What URL sources may reach although it is not global.
    pub url_allow: Vec<HostOrCidr>,
    /// Certificate authorities that URL sources may be vouched for by, beside the web's.
    pub url_authorities: Vec<CertificateDer<'static>>,
    /// Buckets that `s3://` sources may name; none by default.
    pub s3_stores: S3Stores,
    /// Looks names of URL sources up.
    pub resolver: Arc<dyn Resolver>,
    /// Requests of any kind at a time; surplus is refused. Default 512.
    pub max_requests: usize,
    /// Largest message that is taken; a chunk of an upload and `inline_content` fit. Default 8 MiB.
    pub max_message_bytes: usize,
    /// Streams of one connection. Default 256.
    pub max_streams_per_connection: u32,
    /// A ping goes out after this much silence of a connection. Default 30 s.
    pub keepalive: Duration,
    /// How long running asks may take to end at shutdown. Default 10 s.
    pub drain: Duration,
    /// What sources may cost.
    pub sources: SourceLimits,
    /// What fetches may cost.
    pub fetch: FetchLimits,
    /// What uploads may cost.
    pub uploads: UploadLimits,
    /// How decode workers are started; their number follows from the other limits.
    pub workers: WorkerOptions,
    /// Decode what strangers send although this system cannot lock decoders in. Default off.
    pub allow_unsandboxed: bool,
    /// What asks may cost. `max_active` and `max_queued` must be those of the engines.
    pub qa: QaLimits,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("listen", &self.listen)
            .field("admin_listen", &self.admin_listen)
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            admin_listen: None,
            insecure_listen: false,
            data_dir: ".data".into(),
            media_roots: Vec::new(),
            url_allow: Vec::new(),
            url_authorities: Vec::new(),
            s3_stores: S3Stores::default(),
            resolver: Arc::new(SystemResolver),
            max_requests: 512,
            max_message_bytes: 8 << 20,
            max_streams_per_connection: 256,
            keepalive: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            sources: SourceLimits::default(),
            fetch: FetchLimits::default(),
            uploads: UploadLimits::default(),
            workers: WorkerOptions::default(),
            allow_unsandboxed: false,
            qa: QaLimits::default(),
        }
    }
}

impl ServerConfig {
    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// [`ServerError::NotLoopback`].
    pub fn validate(&self) -> Result<(), ServerError> {
        for address in [Some(self.listen), self.admin_listen].into_iter().flatten() {
            if !address.ip().is_loopback() && !self.insecure_listen {
                return Err(ServerError::NotLoopback(address));
            }
        }
        Ok(())
    }

    /// All limits by name, as `GetServerInfo` shows them.
    #[must_use]
    pub fn limits(&self) -> BTreeMap<String, String> {
        let secs = |duration: Duration| format!("{}s", duration.as_secs_f64());
        let pairs = [
            ("max_requests", self.max_requests.to_string()),
            ("max_message_bytes", self.max_message_bytes.to_string()),
            ("max_active_asks", self.qa.max_active.to_string()),
            ("max_queued_asks", self.qa.max_queued.to_string()),
            ("max_operations", self.qa.max_operations.to_string()),
            ("session_bytes", self.qa.session_bytes.to_string()),
            ("session_ttl", secs(self.qa.session_ttl)),
            ("max_upload_bytes", self.uploads.max_bytes.to_string()),
            ("max_media_bytes", self.uploads.max_total_bytes.to_string()),
            ("max_inline_bytes", self.sources.inline_bytes.to_string()),
            ("max_fetch_bytes", self.fetch.max_bytes.to_string()),
            ("fetch_timeout", secs(self.fetch.total)),
            (
                "max_video_seconds",
                self.sources.decode.max_duration_secs.to_string(),
            ),
            ("max_video_pixels", self.sources.decode.max_pixels.to_string()),
            ("max_video_tracks", self.sources.decode.max_tracks.to_string()),
            ("max_video_frames", self.sources.decode.max_frames.to_string()),
            (
                "max_decode_memory_bytes",
                self.sources.decode.max_memory_bytes.to_string(),
            ),
            ("decode_timeout", secs(self.sources.decode.max_wall)),
            ("index_timeout", secs(self.sources.index_time)),
        ];
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_the_operators_word() {
        let open = |address: &str| ServerConfig {
            listen: address.parse().unwrap(),
            ..ServerConfig::default()
        };
        assert!(open("127.0.0.1:0").validate().is_ok() && open("[::1]:0").validate().is_ok());
        for address in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1"] {
            assert!(
                matches!(open(address).validate(), Err(ServerError::NotLoopback(_))),
                "{address}"
            );
            assert!(
                ServerConfig {
                    insecure_listen: true,
                    ..open(address)
                }
                .validate()
                .is_ok()
            );
        }
        let admin = ServerConfig {
            admin_listen: Some("0.0.0.0:1".parse().unwrap()),
            ..ServerConfig::default()
        };
        assert!(admin.validate().is_err());
    }
}
