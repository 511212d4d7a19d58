//! What this build of FFmpeg is and can do, for `doctor`.

use ffmpeg_next as ff;

/// Codecs that people meet, in the order in which `doctor` lists them.
const COMMON: [ff::codec::Id; 16] = [
    ff::codec::Id::H264,
    ff::codec::Id::HEVC,
    ff::codec::Id::AV1,
    ff::codec::Id::VP9,
    ff::codec::Id::VP8,
    ff::codec::Id::MPEG4,
    ff::codec::Id::MPEG2VIDEO,
    ff::codec::Id::MPEG1VIDEO,
    ff::codec::Id::MJPEG,
    ff::codec::Id::PRORES,
    ff::codec::Id::DNXHD,
    ff::codec::Id::THEORA,
    ff::codec::Id::VC1,
    ff::codec::Id::FLV1,
    ff::codec::Id::H263,
    ff::codec::Id::GIF,
];

/// Version of the FFmpeg that is linked, for example `5.1.9-0+deb12u1 (libavcodec 59.37.100)`.
#[must_use]
#[expect(unsafe_code, reason = "the safe layer does not show the version's name")]
pub fn ffmpeg_version() -> String {
    // SAFETY: the function returns a static, terminated string.
    let name = unsafe { std::ffi::CStr::from_ptr(ff::ffi::av_version_info()) }.to_string_lossy();
    let codec = ff::codec::version();
    format!(
        "{name} (libavcodec {}.{}.{})",
        codec >> 16,
        codec >> 8 & 0xff,
        codec & 0xff
    )
}

/// Names of the common video codecs that this FFmpeg decodes.
#[must_use]
pub fn codecs() -> Vec<String> {
    COMMON
        .into_iter()
        .filter(|&id| ff::decoder::find(id).is_some())
        .map(|id| id.name().to_owned())
        .collect()
}

/// Codecs that people meet.
pub(crate) fn common_codecs() -> impl Iterator<Item = ff::codec::Id> {
    COMMON.into_iter()
}

/// Sets FFmpeg up once: silent, as everything that it says comes back as typed errors.
pub(crate) fn quieten() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| ff::util::log::set_level(ff::util::log::Level::Quiet));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_itself() {
        assert!(ffmpeg_version().contains("libavcodec "), "{}", ffmpeg_version());
        for codec in ["h264", "hevc", "vp9"] {
            assert!(codecs().iter().any(|known| known == codec), "{codec}");
        }
    }
}
