//! Why a server does not start.

use std::{io, net::SocketAddr};

use reelsight_qa::QaError;
use reelsight_store::StoreError;

/// Messages read after "failed to start: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// There is no authentication yet.
    #[error(
        "{0} is not loopback and there is no authentication: listen on 127.0.0.1, or say --insecure-listen"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A media root cannot be used.
    #[error("a media root is missing or no folder: {0}")]
    MediaRoot(io::Error),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Questions cannot be served.
    #[error(transparent)]
    Qa(#[from] QaError),
    /// Nothing can be decoded.
    #[error(transparent)]
    Workers(#[from] reelsight_decode::DecodeError),
    /// A bug in what happens at the start.
    #[error("a step of the start panicked: {0}")]
    Panicked(tokio::task::JoinError),
    /// The contract's descriptors cannot be served.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}
