//! Wanted frames, in order.

use std::sync::Arc;

use reelsight_media::{CancelFlag, FrameError, FrameSource, RgbFrame};

use crate::{
    convert::{PlanarFrame, ToPlanes, ToRgb},
    error::DecodeError,
    executor::Run,
    hardware::Gpu,
    index::PacketIndex,
    input::Input,
    limits::DecodeLimits,
    stats::DecodeStats,
    threads::ThreadBudget,
};

/// How frames are decoded.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Threads for decoding and converting; at least 1, and no more than the budget gives.
    pub threads: usize,
    /// Whom the threads are shared with. Default [`ThreadBudget::process`].
    pub budget: ThreadBudget,
    /// Bytes of pictures that may wait for the consumer.
    pub budget_bytes: usize,
    /// Width and height to stretch every picture to, after rotation; `None` keeps the picture's own.
    pub size: Option<(u32, u32)>,
    /// Scale straight from YUV with swscale's bicubic: faster, and not the pixels that reference processors see.
    pub scale_in_yuv: bool,
    /// What the source may cost.
    pub limits: DecodeLimits,
    /// Raised by whoever wants decoding to stop.
    pub cancel: CancelFlag,
}

impl Default for DecodeOptions {
    /// One thread, 64 MiB, the picture's own size.
    fn default() -> Self {
        Self {
            threads: 1,
            budget: ThreadBudget::process(),
            budget_bytes: 64 << 20,
            size: None,
            scale_in_yuv: false,
            limits: DecodeLimits::default(),
            cancel: CancelFlag::new(),
        }
    }
}

/// A [`FrameSource`] over the wanted frames of one source. Dropping it stops and joins its threads.
///
/// Frames that cannot be decoded are replaced by the best picture before them, with `damaged` set; when nothing can be
/// decoded up to the end of the video, the stream ends early.
pub struct FrameReader(Run<RgbFrame>);

impl FrameReader {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> DecodeStats {
        self.0.stats()
    }

    /// [`FrameSource::next_frame`] with the whole error.
    ///
    /// # Errors
    /// [`DecodeError`] when no further frame can be decoded.
    pub fn try_next(&mut self) -> Result<Option<RgbFrame>, DecodeError> {
        self.0.next()
    }
}

impl FrameSource for FrameReader {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        self.try_next().map_err(FrameError::from)
    }
}

/// Starts decoding `frames`, strictly increasing indices into the index's timeline.
///
/// # Errors
/// [`DecodeError`] when the frames or the size are out of range; what fails later comes out of
/// [`FrameSource::next_frame`].
///
/// # Cancellation
/// Within one packet of the flag being raised or the reader being dropped.
pub fn read_frames(
    input: &Input,
    index: Arc<PacketIndex>,
    frames: Vec<u64>,
    options: DecodeOptions,
) -> Result<FrameReader, DecodeError> {
    read_frames_on(None, input, index, frames, options)
}

/// [`read_frames`] on a GPU that [`Gpu::choose`] found right and quick for these frames.
///
/// # Errors
/// As [`read_frames`].
pub fn read_frames_on(
    gpu: Option<Gpu>,
    input: &Input,
    index: Arc<PacketIndex>,
    frames: Vec<u64>,
    options: DecodeOptions,
) -> Result<FrameReader, DecodeError> {
    check_frames(&index, &frames)?;
    let (size, scale_in_yuv) = (options.size, options.scale_in_yuv);
    if let Some((width, height)) = size {
        check_output(width, height, &options.limits)?;
    }
    let (orientation, limits) = (index.orientation, options.limits.clone());
    Run::start(input, index, frames, options, gpu, move || {
        ToRgb::new(orientation, size, scale_in_yuv, &limits)
    })
    .map(FrameReader)
}

/// Decodes `frames` and gives the decoder's own samples, before any conversion or rotation; `options.size` is ignored.
///
/// # Errors
/// [`DecodeError`] when the frames are out of range or cannot be decoded.
pub fn read_planes(
    input: &Input,
    index: Arc<PacketIndex>,
    frames: Vec<u64>,
    options: DecodeOptions,
) -> Result<Vec<PlanarFrame>, DecodeError> {
    check_frames(&index, &frames)?;
    let mut run = Run::start(input, index, frames, options, None, ToPlanes::default)?;
    let mut out = Vec::new();
    while let Some(frame) = run.next()? {
        out.push(frame);
    }
    Ok(out)
}

fn check_frames(index: &PacketIndex, frames: &[u64]) -> Result<(), DecodeError> {
    let count = index.timeline.len() as u64;
    let falling = frames
        .windows(2)
        .find(|pair| pair[0] >= pair[1])
        .map(|pair| pair[1]);
    let beyond = frames.last().copied().filter(|&last| last >= count);
    falling
        .or(beyond)
        .map_or(Ok(()), |frame| Err(DecodeError::InvalidFrames { frame, count }))
}

fn check_output(width: u32, height: u32, limits: &DecodeLimits) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::InvalidSize { width, height });
    }
    crate::demux::check_size(width, height, limits)
}
