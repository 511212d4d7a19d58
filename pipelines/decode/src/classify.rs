//! What a packet means to the packets after it, read from the codec's own headers and not from the container's flags,
//! which too few muxers set well.

mod av1;
mod avc;
mod hevc;
mod mpeg;
mod vpx;

use ffmpeg_next::codec::Id;

use crate::bits::Framing;

/// Whether decoding may begin at a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Entry {
    /// It may not.
    #[default]
    None,
    /// Nothing at or after it refers to anything before it.
    Clean,
    /// The same, except for pictures that are decoded after it and shown before it.
    Open,
    /// A decoder that begins here shows pictures once so many reference pictures have been decoded. Good enough to
    /// begin a file, and to skip a part of one whose pictures are not reordered (see `plan`).
    Gradual(u32),
}

/// A packet's part in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one packet")]
pub(crate) struct Class {
    /// Whether decoding may begin here.
    pub(crate) entry: Entry,
    /// No other packet refers to it, or only packets of its own or a higher temporal layer when `layer` is above 0.
    pub(crate) disposable: bool,
    /// Temporal sub-layer. Packets refer to their own and lower layers only.
    pub(crate) layer: u8,
    /// It holds no picture that is ever shown.
    pub(crate) hidden: bool,
    /// Cannot be decoded right when decoding began at the entry before it (HEVC RASL).
    pub(crate) skipped_leading: bool,
    /// Leads an entry and can be decoded with it alone (HEVC RADL).
    pub(crate) decodable_leading: bool,
    /// The references before this entry are not available even in a whole decode: leading pictures are never shown.
    pub(crate) broken_link: bool,
    /// The second field of the picture in the packet before it.
    pub(crate) second_field: bool,
    /// Its data were not read yet: all this is what the container says.
    pub(crate) unread: bool,
}

impl Class {
    /// Whether it cannot be decoded when it leads an entry at which decoding began. HEVC says so by itself
    /// (RADL pictures can); elsewhere every leading picture builds on both sides.
    pub(crate) fn is_undecodable_leading(self) -> bool {
        self.skipped_leading || !self.decodable_leading
    }
}

/// Reads [`Class`]es from the packets of one track, in decoding order.
pub(crate) enum Classifier {
    Avc(avc::Avc),
    Hevc(hevc::Hevc),
    Av1(av1::Av1),
    Mpeg(mpeg::Mpeg),
    Mpeg4(mpeg::Mpeg4),
    Vp8,
    Vp9,
    /// Every packet stands alone.
    Intra,
    /// The container's key flags are believed, and nothing is dropped.
    Keys,
    /// Nothing is known: decoding begins at the first packet.
    Opaque {
        first: bool,
    },
}

impl Classifier {
    /// A reader for `codec` with the track's `extradata`; `intra_only` is what FFmpeg says about the codec.
    pub(crate) fn new(codec: Id, extradata: &[u8], intra_only: bool) -> Self {
        match codec {
            Id::H264 => Self::Avc(avc::Avc::new(extradata)),
            Id::HEVC => Self::Hevc(hevc::Hevc::new(extradata)),
            Id::AV1 => Self::Av1(av1::Av1::new(extradata)),
            Id::MPEG1VIDEO | Id::MPEG2VIDEO => Self::Mpeg(mpeg::Mpeg::default()),
            Id::MPEG4 => Self::Mpeg4(mpeg::Mpeg4::default()),
            Id::VP8 => Self::Vp8,
            Id::VP9 => Self::Vp9,
            _ if intra_only => Self::Intra,
            _ if marks_keys(codec) => Self::Keys,
            _ => Self::Opaque { first: true },
        }
    }

    /// The class of the next packet in decoding order; `key` is the container's flag.
    pub(crate) fn classify(&mut self, data: &[u8], key: bool) -> Class {
        match self {
            Self::Avc(avc) => avc.classify(data),
            Self::Hevc(hevc) => hevc.classify(data),
            Self::Av1(av1) => av1.classify(data, key),
            Self::Mpeg(mpeg) => mpeg.classify(data, key),
            Self::Mpeg4(mpeg4) => mpeg4.classify(data, key),
            Self::Vp8 => vpx::vp8(data),
            Self::Vp9 => vpx::vp9(data),
            Self::Intra => Class {
                entry: Entry::Clean,
                disposable: true,
                ..Class::default()
            },
            Self::Keys => by_key(key),
            Self::Opaque { first } => {
                let entry = if std::mem::take(first) {
                    Entry::Clean
                } else {
                    Entry::None
                };
                Class {
                    entry,
                    ..Class::default()
                }
            }
        }
    }
}

impl Classifier {
    /// Earlier packets that the last classified packet refers to, where the codec says; `None` where it does not, or
    /// once a packet was not understood.
    pub(crate) fn references(&self) -> Option<&[u32]> {
        match self {
            Self::Av1(av1) => av1.references(),
            _ => None,
        }
    }
}

/// Nothing is known but the container's flag.
fn by_key(key: bool) -> Class {
    Class {
        entry: if key { Entry::Open } else { Entry::None },
        ..Class::default()
    }
}

/// Codecs whose key frames are marked reliably by FFmpeg's demuxers and parsers. The others, GIF among them, mark
/// frames that build on earlier ones.
fn marks_keys(codec: Id) -> bool {
    matches!(
        codec,
        Id::MSMPEG4V1
            | Id::MSMPEG4V2
            | Id::MSMPEG4V3
            | Id::WMV1
            | Id::WMV2
            | Id::WMV3
            | Id::VC1
            | Id::H263
            | Id::H263P
            | Id::FLV1
            | Id::VP6
            | Id::VP6F
            | Id::THEORA
            | Id::RV30
            | Id::RV40
            | Id::FFV1
    )
}

/// How NAL units are packed, from an `avcC` or `hvcC` record: `length_at` is where it keeps the length's size.
fn framing(extradata: &[u8], length_at: usize) -> Framing {
    match (extradata.first(), extradata.get(length_at)) {
        (Some(1), Some(&sizes)) => Framing::Length(usize::from(sizes & 3) + 1),
        _ => Framing::AnnexB,
    }
}
