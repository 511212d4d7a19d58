//! What the header says about the tracks, for people who look into a file.

use std::{borrow::Cow, ffi::CStr};

use ff::ffi;
use ffmpeg_next as ff;
use serde::{Deserialize, Serialize};

use super::Orientation;
use crate::demux::Demuxer;

/// What the container and the codec's parameters say about the video track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoDetails {
    /// Number of the track in the file.
    pub track: usize,
    /// The codec's profile, for example `High`.
    pub profile: Option<String>,
    /// The codec's level as its headers write it, for example 31 for H.264's 3.1.
    pub level: Option<i32>,
    /// FFmpeg's name of the samples' layout, for example `yuv420p`.
    pub pixel_format: Option<String>,
    /// Width and height as stored, before rotation.
    pub stored_size: (u32, u32),
    /// Width to height of one pixel as shown, after rotation; 1:1 where the file does not say.
    pub pixel_aspect: (u32, u32),
    /// `progressive`, or which field comes first; `None` where the file does not say.
    pub field_order: Option<Cow<'static, str>>,
    /// `tv` or `pc`, as FFmpeg names ranges.
    pub color_range: Option<String>,
    /// The matrix, for example `bt709`.
    pub color_space: Option<String>,
    /// The transfer function, for example `smpte2084`.
    pub color_transfer: Option<String>,
    /// The primaries, for example `bt2020`.
    pub color_primaries: Option<String>,
    /// Bits per second, where the header says so.
    pub bit_rate: Option<u64>,
}

/// One track of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackInfo {
    /// Number of the track in the file.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data` or `attachment`.
    pub kind: String,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// The language tag.
    pub language: Option<String>,
    /// Whether players choose it by themselves.
    pub default: bool,
    /// Whether it is cover art.
    pub attached_picture: bool,
}

/// What the header says about the video track.
#[expect(unsafe_code, reason = "the safe layer does not show codec parameters")]
pub(super) fn video(demuxer: &Demuxer, stream: &ff::Stream<'_>, orientation: Orientation) -> VideoDetails {
    let parameters = stream.parameters();
    // SAFETY: both pointers are valid while `stream` is borrowed; the fields are plain values, and the function
    // reads them alone when it is given no frame.
    let (raw, aspect) = unsafe {
        let context = demuxer.context().as_ptr().cast_mut();
        let aspect =
            ffi::av_guess_sample_aspect_ratio(context, stream.as_ptr().cast_mut(), std::ptr::null_mut());
        (&*parameters.as_ptr(), (aspect.num, aspect.den))
    };
    // SAFETY: the functions take any value and give a static string or null.
    let names = unsafe {
        [
            text(ffi::avcodec_profile_name(raw.codec_id, raw.profile)),
            text(ffi::av_color_range_name(raw.color_range)),
            text(ffi::av_color_space_name(raw.color_space)),
            text(ffi::av_color_transfer_name(raw.color_trc)),
            text(ffi::av_color_primaries_name(raw.color_primaries)),
        ]
    };
    let [profile, color_range, color_space, color_transfer, color_primaries] =
        names.map(|name| name.filter(|name| name != "unknown"));
    VideoDetails {
        track: stream.index(),
        profile,
        level: (raw.level > 0).then_some(raw.level),
        pixel_format: pixel_format(&parameters),
        stored_size: crate::demux::stored_size(&parameters),
        pixel_aspect: pixel_aspect(aspect, orientation),
        field_order: field_order(raw.field_order).map(Cow::Borrowed),
        color_range,
        color_space,
        color_transfer,
        color_primaries,
        bit_rate: u64::try_from(raw.bit_rate).ok().filter(|&rate| rate > 0),
    }
}

/// All tracks of the file.
pub(super) fn tracks(demuxer: &Demuxer) -> Vec<TrackInfo> {
    use ff::{format::stream::Disposition, media::Type};
    let streams = demuxer.context().streams();
    streams
        .map(|stream| {
            let kind = match stream.parameters().medium() {
                Type::Video => "video",
                Type::Audio => "audio",
                Type::Subtitle => "subtitle",
                Type::Attachment => "attachment",
                _ => "data",
            };
            TrackInfo {
                index: stream.index(),
                kind: kind.to_owned(),
                codec: stream.parameters().id().name().to_owned(),
                language: stream.metadata().get("language").map(str::to_owned),
                default: stream.disposition().contains(Disposition::DEFAULT),
                attached_picture: stream.disposition().contains(Disposition::ATTACHED_PIC),
            }
        })
        .collect()
}

/// The name of the samples' layout.
#[expect(
    unsafe_code,
    reason = "the safe layer does not show the format of a closed codec"
)]
fn pixel_format(parameters: &ff::codec::Parameters) -> Option<String> {
    let context = ff::codec::Context::from_parameters(parameters.clone()).ok()?;
    // SAFETY: the context is allocated; the field is a plain value.
    let format = ff::format::Pixel::from(unsafe { (*context.as_ptr()).pix_fmt });
    format.descriptor().map(|descriptor| descriptor.name().to_owned())
}

#[expect(unsafe_code, reason = "FFI")]
fn text(name: *const libc::c_char) -> Option<String> {
    // SAFETY: names are static strings; null means that there is none.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

/// The shape of a pixel as shown.
fn pixel_aspect((num, den): (i32, i32), orientation: Orientation) -> (u32, u32) {
    let stored = u32::try_from(num).ok().zip(u32::try_from(den).ok());
    match stored.filter(|&(num, den)| num > 0 && den > 0) {
        Some((num, den)) if orientation.transpose => (den, num),
        Some(stored) => stored,
        None => (1, 1),
    }
}

fn field_order(order: ffi::AVFieldOrder) -> Option<&'static str> {
    use ffi::AVFieldOrder as Order;
    match order {
        Order::AV_FIELD_PROGRESSIVE => Some("progressive"),
        Order::AV_FIELD_TT => Some("tt"),
        Order::AV_FIELD_BB => Some("bb"),
        Order::AV_FIELD_TB => Some("tb"),
        Order::AV_FIELD_BT => Some("bt"),
        Order::AV_FIELD_UNKNOWN => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_turn_with_the_picture() {
        let turned = Orientation {
            transpose: true,
            ..Orientation::default()
        };
        assert_eq!(pixel_aspect((8, 9), Orientation::default()), (8, 9));
        assert_eq!(pixel_aspect((8, 9), turned), (9, 8));
        assert_eq!(pixel_aspect((0, 1), turned), (1, 1));
    }
}
