//! Model folders: layout, manifest, digests.
//!
//! Owns: what is in a folder ([`ModelFolder`]), which precision of it to use, what it lacks, what its publisher and
//! its manifest ([`Manifest`]) say, its sha256, and how files become a model folder ([`select`], [`Staging`]). Reads graphs without their weights ([`GraphSummary`]).
//! Does not own: running anything. Starts no threads.
//!
//! ```no_run
//! let folder = reelsight_registry::ModelFolder::open("models/zoo/reelsight-tiny".as_ref())?;
//! println!("{} {} {}", folder.name(), folder.family(), folder.precision());
//! # Ok::<(), reelsight_registry::RegistryError>(())
//! ```

mod choose;
mod digest;
mod error;
mod files;
mod folder;
mod genai;
mod import;
mod layout;
mod list;
mod manifest;
mod mixed;
mod onnx;
mod wire;

pub use digest::{Digest, sha256};
pub use error::RegistryError;
pub use folder::ModelFolder;
pub use import::{Listed, Selection, Staging, files_of, select};
pub use layout::{Layout, Role};
pub use list::{Check, CheckReport, ModelSummary, check, list};
pub use manifest::{ImageBackend, MANIFEST_FILE, Manifest, MropeTextRestart};
pub use onnx::{Dim, ExternalFile, GraphSummary, Port};
