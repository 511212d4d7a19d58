//! What processors give to vision graphs.

/// A normalised picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelTensor {
    /// `[3, H, W]`, row-major.
    pub data: Vec<f32>,
    /// `[3, H, W]`.
    pub shape: [usize; 3],
    /// `[H, W]`: which pixels are picture rather than padding. All of them here, as pictures are squared, not padded.
    pub mask: Vec<bool>,
}

/// Normalised patches of one picture, or of the pictures of one temporal patch.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchTensor {
    /// `[patches, width]`, row-major; the four patches that are merged into one token follow each other.
    pub data: Vec<f32>,
    /// Values of a patch: channels times its frames times its area.
    pub width: usize,
    /// Patches along time, height and width.
    pub grid: [u32; 3],
}

/// One run of a vision graph.
#[derive(Debug, Clone, PartialEq)]
pub enum VisionInput {
    /// A picture of the size for which the graph was made.
    Picture(PixelTensor),
    /// Patches of a picture of any size.
    Patches(PatchTensor),
}

impl VisionInput {
    /// The normalised values.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        match self {
            Self::Picture(picture) => &picture.data,
            Self::Patches(patches) => &patches.data,
        }
    }
}
