//! Decoding on a GPU: NVDEC through FFmpeg's CUDA hwaccel, behind the same decoder.
//!
//! Nothing is believed: before a GPU is used for a file, one of its intervals is decoded on both sides, and the GPU is
//! taken only when its samples are the same to the last byte and it was quicker. When a picture does not come out later,
//! the interval is decoded again by the CPU, as any other that failed.
//!
//! # Source
//! FFmpeg's `doc/examples/hw_decode.c`; `libavutil/hwcontext.h`.

use std::{
    ffi::CStr,
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

use ff::{ffi, frame};
use ffmpeg_next as ff;

use crate::{
    PlanarFrame,
    convert::ToPlanes,
    demux::Demuxer,
    error::DecodeError,
    executor::Run,
    frames::DecodeOptions,
    index::{self, PacketIndex},
    input::Input,
    plan::DecodePlan,
};

/// Less work than this is done before a GPU is ready.
const MIN_BYTES: u64 = 32 << 20;
const CUDA: ffi::AVHWDeviceType = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA;
const CUDA_PIXELS: ffi::AVPixelFormat = ffi::AVPixelFormat::AV_PIX_FMT_CUDA;

/// Why no GPU decodes.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NoHardware {
    /// FFmpeg was built without it.
    #[error("this FFmpeg has no CUDA")]
    NotBuilt,
    /// There is no device, no driver, or no right to use them.
    #[error("no CUDA device can be opened: {detail}")]
    NoDevice {
        /// What FFmpeg said.
        detail: String,
    },
    /// FFmpeg has no GPU decoder for the codec.
    #[error("this FFmpeg does not decode {codec} with CUDA")]
    NoCodec {
        /// FFmpeg's name of the codec.
        codec: String,
    },
    /// The CPU is done before a GPU is ready.
    #[error("the wanted frames take too little work")]
    TooLittle,
    /// The GPU's pictures are others.
    #[error("the GPU's pictures differ from the CPU's")]
    Differs,
    /// The CPU is quicker.
    #[error("the GPU took {gpu:?} for what {threads} CPU threads do in {cpu:?}")]
    Slower {
        /// Time of the GPU for the trial.
        gpu: Duration,
        /// Time of the CPU, divided by its threads.
        cpu: Duration,
        /// Those threads.
        threads: usize,
    },
    /// The trial failed.
    #[error("the trial failed: {0}")]
    Failed(#[from] DecodeError),
}

/// A GPU that decodes. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Gpu(Arc<Device>);

/// FFmpeg's handle to a device.
#[derive(Debug)]
struct Device(ptr::NonNull<ffi::AVBufferRef>);

#[expect(unsafe_code, reason = "FFI")]
// SAFETY: a device context is reference-counted with atomics, and FFmpeg locks what its users share.
unsafe impl Send for Device {}
#[expect(unsafe_code, reason = "FFI")]
// SAFETY: as above; nothing here writes through the pointer.
unsafe impl Sync for Device {}

impl Drop for Device {
    #[expect(unsafe_code, reason = "FFI")]
    fn drop(&mut self) {
        let mut reference = self.0.as_ptr();
        // SAFETY: the reference is ours, and this is its end.
        unsafe { ffi::av_buffer_unref(&raw mut reference) };
    }
}

impl Gpu {
    /// Opens the first CUDA device.
    ///
    /// # Errors
    /// [`NoHardware::NotBuilt`] or [`NoHardware::NoDevice`].
    pub fn open() -> Result<Self, NoHardware> {
        crate::about::quieten();
        if !device_types().contains(&CUDA) {
            return Err(NoHardware::NotBuilt);
        }
        let mut device = ptr::null_mut();
        #[expect(unsafe_code, reason = "FFI")]
        // SAFETY: no name, no options; the reference is only written to, and stays null on failure.
        let created =
            unsafe { ffi::av_hwdevice_ctx_create(&raw mut device, CUDA, ptr::null(), ptr::null_mut(), 0) };
        match ptr::NonNull::new(device) {
            Some(device) if created >= 0 => Ok(Self(Arc::new(Device(device)))),
            _ => Err(NoHardware::NoDevice {
                detail: ff::Error::from(created).to_string(),
            }),
        }
    }

    /// A GPU for `frames` of `input`, after a trial against the CPU.
    ///
    /// # Errors
    /// [`NoHardware`]: why the CPU should do it.
    pub fn choose(
        input: &Input,
        index: &Arc<PacketIndex>,
        frames: &[u64],
        options: &DecodeOptions,
    ) -> Result<Self, NoHardware> {
        let DecodeOptions { limits, cancel, .. } = options;
        let index = index::complete(input, Arc::clone(index), frames, limits, cancel)?;
        let threads = options.budget.join(options.threads).threads();
        let plan = DecodePlan::new(&index, frames.to_vec(), threads);
        if plan.intervals.iter().map(|interval| interval.cost).sum::<u64>() < MIN_BYTES {
            return Err(NoHardware::TooLittle);
        }
        let gpu = Self::open()?;
        let demuxer = Demuxer::open(input, limits, cancel)?;
        let codec = demuxer.stream()?.parameters().id();
        if ff::decoder::find(codec).is_none_or(|codec| !decodes(&codec)) {
            let codec = codec.name().to_owned();
            return Err(NoHardware::NoCodec { codec });
        }
        drop(demuxer);
        let Some(smallest) = plan.intervals.iter().min_by_key(|interval| interval.cost) else {
            return Err(NoHardware::TooLittle);
        };
        let wanted: Vec<u64> = smallest.wanted.iter().map(|wanted| wanted.frame).collect();
        let trial = |gpu: Option<Self>| {
            let begun = Instant::now();
            planes(input, &index, wanted.clone(), options, gpu).map(|planes| (planes, begun.elapsed()))
        };
        let (right, cpu) = trial(None)?;
        // The first pictures pay for the start of the device; later intervals do not.
        trial(Some(gpu.clone()))?;
        let (got, time) = trial(Some(gpu.clone()))?;
        judge(&right, &got, cpu, time, threads).map(|()| gpu)
    }
}

/// Whether what the GPU did is right and quick.
fn judge(
    right: &[PlanarFrame],
    got: &[PlanarFrame],
    cpu: Duration,
    gpu: Duration,
    threads: usize,
) -> Result<(), NoHardware> {
    if right.is_empty() || right != got {
        return Err(NoHardware::Differs);
    }
    let cpu = cpu / u32::try_from(threads.max(1)).unwrap_or(u32::MAX);
    if gpu >= cpu {
        return Err(NoHardware::Slower { gpu, cpu, threads });
    }
    Ok(())
}

/// The trial's pictures, decoded by one thread.
fn planes(
    input: &Input,
    index: &Arc<PacketIndex>,
    frames: Vec<u64>,
    options: &DecodeOptions,
    gpu: Option<Gpu>,
) -> Result<Vec<PlanarFrame>, DecodeError> {
    let options = DecodeOptions {
        threads: 1,
        ..options.clone()
    };
    let mut run = Run::start(input, Arc::clone(index), frames, options, gpu, ToPlanes::default)?;
    let mut planes = Vec::new();
    while let Some(frame) = run.next()? {
        planes.push(frame);
    }
    Ok(planes)
}

/// The kinds of devices that this FFmpeg knows.
#[expect(unsafe_code, reason = "FFI")]
fn device_types() -> Vec<ffi::AVHWDeviceType> {
    let next = |last: &ffi::AVHWDeviceType| {
        // SAFETY: the function walks a static table.
        let next = unsafe { ffi::av_hwdevice_iterate_types(*last) };
        (next != ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE).then_some(next)
    };
    let first = next(&ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE);
    std::iter::successors(first, next).collect()
}

/// Whether FFmpeg's decoder can hand its work to CUDA.
#[expect(unsafe_code, reason = "FFI")]
fn decodes(codec: &ff::Codec) -> bool {
    let wanted = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as i32;
    let mut configs = (0..).map_while(|at| {
        // SAFETY: the codec is one of FFmpeg's static ones; a configuration is static, too, or null after the last.
        unsafe { ffi::avcodec_get_hw_config(codec.as_ptr(), at).as_ref() }
    });
    configs.any(|config| config.device_type == CUDA && config.methods & wanted != 0)
}

/// Makes a decoder that is not open yet use `gpu`.
///
/// # Safety
/// `context` must be a valid codec context that is not open.
#[expect(unsafe_code, reason = "FFI")]
pub(crate) unsafe fn attach(context: *mut ffi::AVCodecContext, gpu: &Gpu) {
    // SAFETY: the caller's promise; the new reference belongs to the context, which gives it back when it is freed.
    unsafe {
        (*context).hw_device_ctx = ffi::av_buffer_ref(gpu.0.0.as_ptr());
        (*context).get_format = Some(prefer_cuda);
    }
}

/// Takes CUDA where the decoder offers it for this stream, else what FFmpeg would take.
#[expect(unsafe_code, reason = "FFI")]
unsafe extern "C" fn prefer_cuda(
    context: *mut ffi::AVCodecContext,
    formats: *const ffi::AVPixelFormat,
) -> ffi::AVPixelFormat {
    // SAFETY: FFmpeg gives a list that ends with NONE.
    unsafe {
        let mut at = formats;
        while *at != ffi::AVPixelFormat::AV_PIX_FMT_NONE {
            if *at == CUDA_PIXELS {
                return CUDA_PIXELS;
            }
            at = at.add(1);
        }
        ffi::avcodec_default_get_format(context, formats)
    }
}

/// Brings a picture that lies on the GPU into memory, in the layout in which the CPU would have decoded it, where that
/// is `planar`. Any other picture stays as it is.
#[expect(unsafe_code, reason = "FFI")]
pub(crate) fn download(picture: &mut frame::Video, planar: ff::format::Pixel) -> Result<(), DecodeError> {
    if ffi::AVPixelFormat::from(picture.format()) != CUDA_PIXELS {
        return Ok(());
    }
    let failed = |code: i32| DecodeError::Internal {
        detail: format!(
            "a picture cannot be taken from the GPU: {}",
            ff::Error::from(code)
        ),
    };
    let mut here = frame::Video::empty();
    // SAFETY: both frames are valid; the destination is empty, so that FFmpeg chooses its format and allocates it.
    let code = unsafe {
        match ffi::av_hwframe_transfer_data(here.as_mut_ptr(), picture.as_ptr(), 0) {
            0 => ffi::av_frame_copy_props(here.as_mut_ptr(), picture.as_ptr()),
            code => code,
        }
    };
    if code < 0 {
        return Err(failed(code));
    }
    *picture = match split_chroma(&here, planar) {
        Some(mut split) => {
            // SAFETY: both frames are valid; properties are all but the samples.
            let code = unsafe { ffi::av_frame_copy_props(split.as_mut_ptr(), here.as_ptr()) };
            if code < 0 {
                return Err(failed(code));
            }
            split
        }
        None => here,
    };
    Ok(())
}

/// NV12 or P010 with its chroma in planes of their own, and 10-bit samples in the low bits. `None` for another layout.
fn split_chroma(from: &frame::Video, planar: ff::format::Pixel) -> Option<frame::Video> {
    use ff::format::Pixel;
    let (bytes, shift) = match (from.format(), planar) {
        (Pixel::NV12, Pixel::YUV420P | Pixel::YUVJ420P) => (1, 0),
        (Pixel::P010LE, Pixel::YUV420P10LE) => (2, 6),
        _ => return None,
    };
    let (width, height) = (from.width() as usize, from.height() as usize);
    let mut to = frame::Video::new(planar, from.width(), from.height());
    let half = (width.div_ceil(2), height.div_ceil(2));
    for (plane, source, (columns, rows), step, first) in [
        (0, 0, (width, height), 1, 0),
        (1, 1, half, 2, 0),
        (2, 1, half, 2, 1),
    ] {
        let (from_stride, to_stride) = (from.stride(source), to.stride(plane));
        let (source, target) = (from.data(source), to.data_mut(plane));
        for row in 0..rows {
            let line = &source[row * from_stride..][..columns * step * bytes];
            let target = &mut target[row * to_stride..][..columns * bytes];
            let samples = line.chunks_exact(bytes).skip(first).step_by(step);
            for (to, sample) in target.chunks_exact_mut(bytes).zip(samples) {
                match (to, sample) {
                    ([to], &[sample]) => *to = sample,
                    ([low, high], &[a, b]) => {
                        [*low, *high] = (u16::from_le_bytes([a, b]) >> shift).to_le_bytes();
                    }
                    _ => {}
                }
            }
        }
    }
    Some(to)
}

/// Names of the codecs that this FFmpeg can decode with CUDA, whether or not a device is there.
#[must_use]
pub fn hardware_codecs() -> Vec<String> {
    let known = crate::about::common_codecs();
    let able = known.filter(|&id| ff::decoder::find(id).is_some_and(|codec| decodes(&codec)));
    able.map(|id| id.name().to_owned()).collect()
}

/// The names of all kinds of devices that this FFmpeg knows.
#[must_use]
pub fn hardware_kinds() -> Vec<String> {
    let name = |kind: ffi::AVHWDeviceType| {
        #[expect(unsafe_code, reason = "FFI")]
        // SAFETY: the name of a kind that FFmpeg just gave is a static string.
        let name = unsafe { CStr::from_ptr(ffi::av_hwdevice_get_type_name(kind)) };
        name.to_string_lossy().into_owned()
    };
    device_types().into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use ff::format::Pixel;
    use reelsight_media::{MediaTime, Pts, TimeBase};

    use super::*;

    fn picture(value: u8) -> PlanarFrame {
        let time = MediaTime {
            pts: Pts(0),
            base: TimeBase::new(1, 25).unwrap(),
        };
        PlanarFrame {
            format: "yuv420p".into(),
            width: 2,
            height: 2,
            data: vec![value; 6],
            index: 0,
            time,
            damaged: false,
        }
    }

    #[test]
    fn a_gpu_must_be_right_and_quicker_than_all_threads_together() {
        let ms = Duration::from_millis;
        let (one, two) = ([picture(1)], [picture(2)]);
        assert!(judge(&one, &one, ms(100), ms(20), 4).is_ok());
        for (right, got) in [(&one[..], &two[..]), (&one, &[]), (&[], &[])] {
            let refused = judge(right, got, ms(100), ms(20), 4);
            assert!(matches!(refused, Err(NoHardware::Differs)));
        }
        let slower = judge(&one, &one, ms(100), ms(30), 4).unwrap_err();
        assert_eq!(
            slower.to_string(),
            "the GPU took 30ms for what 4 CPU threads do in 25ms"
        );
    }

    #[test]
    fn a_gpu_that_is_not_there_is_no_error_but_a_reason() {
        match Gpu::open() {
            Ok(_) => {}
            Err(reason @ (NoHardware::NotBuilt | NoHardware::NoDevice { .. })) => {
                assert!(!reason.to_string().is_empty());
            }
            Err(other) => panic!("{other}"),
        }
        if hardware_kinds().iter().any(|kind| kind == "cuda") {
            assert!(hardware_codecs().iter().any(|codec| codec == "h264"));
            assert!(!hardware_codecs().iter().any(|codec| codec == "prores"));
        }
    }

    #[test]
    fn chroma_is_split_as_swscale_does() {
        for (packed, planar) in [(Pixel::NV12, Pixel::YUV420P), (Pixel::P010LE, Pixel::YUV420P10LE)] {
            for (width, height) in [(64, 48), (35, 21)] {
                let mut from = frame::Video::new(packed, width, height);
                for plane in 0..2 {
                    let mut state = 99_u32;
                    for byte in from.data_mut(plane) {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        *byte = state.to_le_bytes()[3];
                    }
                    if packed == Pixel::P010LE {
                        // The low six bits of a sample are zero.
                        from.data_mut(plane)
                            .chunks_exact_mut(2)
                            .for_each(|sample| sample[0] &= 0xc0);
                    }
                }
                let got = split_chroma(&from, planar).unwrap();
                let flags = ff::software::scaling::Flags::POINT;
                let mut swscale =
                    ff::software::scaling::Context::get(packed, width, height, planar, width, height, flags)
                        .unwrap();
                let mut expected = frame::Video::empty();
                swscale.run(&from, &mut expected).unwrap();
                for plane in 0..3 {
                    let rows = if plane == 0 { height } else { height.div_ceil(2) } as usize;
                    let columns = if plane == 0 { width } else { width.div_ceil(2) } as usize;
                    let bytes = columns * if packed == Pixel::NV12 { 1 } else { 2 };
                    for row in 0..rows {
                        let line =
                            |of: &frame::Video| of.data(plane)[row * of.stride(plane)..][..bytes].to_vec();
                        assert_eq!(line(&got), line(&expected), "{packed:?} {planar:?} {plane} {row}");
                    }
                }
            }
        }
        let rgb = frame::Video::new(Pixel::RGB24, 4, 4);
        assert!(split_chroma(&rgb, Pixel::YUV420P).is_none());
    }
}
