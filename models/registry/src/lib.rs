//! Model folders: layout, manifest, digests.
