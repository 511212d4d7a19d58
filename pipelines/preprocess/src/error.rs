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
    /// One side is more than 200 times the other, or 0: crop the picture.
    #[error("a {width}x{height} picture is too narrow: no side may be more than 200 times the other")]
    Aspect {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
    },
}
