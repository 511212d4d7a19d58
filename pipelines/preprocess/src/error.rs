//! What can go wrong.

/// A picture cannot be prepared for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// A side is 0, or the bytes are not `width * height * 3`.
    #[error("a {width}x{height} picture with {bytes} bytes is not packed RGB")]
    InvalidFrame {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes given.
        bytes: usize,
    },
}
