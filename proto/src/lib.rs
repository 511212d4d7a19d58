//! The wire contract, and the one table from error kinds to [`tonic::Status`].
//!
//! Owns `reelsight.v1` ([`v1`]), `google.longrunning` ([`google`]), their descriptors for reflection, and
//! [`status`]: every error that leaves a service does so through [`status::status_from_error`].
//! Does not own: any behaviour. Starts no threads.
//!
//! ```
//! use reelsight_proto::time::{duration_from_secs, secs_from_duration};
//! assert_eq!(secs_from_duration(&duration_from_secs(1.25)), 1.25);
//! ```

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    reason = "generated from proto/, where the comments are"
)]
mod contract {
    include!(concat!(env!("OUT_DIR"), "/contract.rs"));
}

pub mod reason;
pub mod status;
pub mod time;

pub use contract::{google, reelsight::v1};

/// All descriptors of the contract, encoded, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reelsight.descriptors.bin"));
