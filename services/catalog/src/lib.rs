//! Media: uploads, and every kind of source turned into one readable file with a known identity; probe.
//!
//! Owns: media roots ([`MediaRoots`]), resolution of a `VideoSource` ([`Sources`]), the packet index of each source
//! (cached in memory and on disk, [`IndexStore`]), uploads that resume ([`Uploads`]), and `MediaService`. Does not own: what is asked about the media; the
//! plan that `ProbeSource` shows comes from a [`Planner`]. Starts no threads; indexing and hashing borrow tokio's
//! blocking threads, indexing at most [`SourceLimits::indexing`] at a time.
//!
//! ```
//! use reelsight_catalog::MediaRoots;
//! assert!(MediaRoots::default().open("cat.mp4").is_err(), "nothing is open by default");
//! ```

mod chunks;
mod error;
mod file_digest;
mod index_cache;
mod index_store;
mod info;
mod roots;
mod service;
mod sources;
mod uploads;

pub use chunks::{ChunkFile, MAX_CHUNK};
pub use error::CatalogError;
pub use index_store::IndexStore;
pub use info::{media_from_row, media_info_from_index};
pub use roots::MediaRoots;
pub use service::{Media, Plan, Planner};
pub use sources::{Decoders, Resolved, SourceKey, SourceLimits, Sources};
pub use uploads::{UploadLimits, Uploads};
