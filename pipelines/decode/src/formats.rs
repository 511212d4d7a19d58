//! Which containers are opened. Everything that is not listed is refused before its demuxer runs, above all those that
//! open other files or sockets by themselves: playlists, manifests, scripts and devices.

/// Containers that can hold video, and bare video streams. Names as FFmpeg spells them.
const VIDEO: &[&str] = &[
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "avi",
    "flv",
    "live_flv",
    "kux",
    "asf",
    "asf_o",
    "ogg",
    "mxf",
    "mxf_opatom",
    "gxf",
    "wtv",
    "nut",
    "rm",
    "ivf",
    "obu",
    "av1",
    "h264",
    "hevc",
    "vvc",
    "h263",
    "h261",
    "m4v",
    "mjpeg",
    "dv",
    "vc1",
    "vc1test",
    "dirac",
    "cavsvideo",
    "gif",
    "apng",
    "yuv4mpegpipe",
    "swf",
    "nsv",
    "bink",
    "smk",
    "roq",
    "flic",
    "4xm",
    "amv",
    "r3d",
];

/// Sound files: opened only to say that they have no pictures.
const AUDIO: &[&str] = &[
    "mp3", "wav", "w64", "flac", "aac", "ac3", "eac3", "dts", "dtshd", "amr", "aiff", "au", "ape", "wv",
    "tta", "caf", "truehd", "mlp", "loas", "oma", "mpc", "mpc8", "tak", "dsf", "shn", "sox", "voc", "xwma",
];

/// What to do with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Open it.
    Media,
    /// A still picture.
    Still,
    /// It names other files or addresses.
    Playlist,
    /// Something else.
    Other,
}

/// Classifies a demuxer by FFmpeg's short name.
pub(crate) fn kind(name: &str) -> Kind {
    if VIDEO.contains(&name) || AUDIO.contains(&name) {
        return Kind::Media;
    }
    if name.starts_with("image2") || name.ends_with("_pipe") || name == "ico" {
        return Kind::Still;
    }
    match name.split(',').next().unwrap_or(name) {
        "hls" | "dash" | "concat" | "sdp" | "rtsp" | "rtp" | "imf" | "webm_dash_manifest" | "sap" => {
            Kind::Playlist
        }
        _ => Kind::Other,
    }
}

/// All allowed names, for FFmpeg's own check of nested demuxers.
pub(crate) fn allowed() -> String {
    [VIDEO, AUDIO].concat().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_media_and_nothing_that_opens_other_things() {
        assert_eq!(kind("mov,mp4,m4a,3gp,3g2,mj2"), Kind::Media);
        assert_eq!(kind("mp3"), Kind::Media);
        assert_eq!(kind("jpeg_pipe"), Kind::Still);
        for name in ["hls", "hls,applehttp", "dash", "concat", "sdp", "imf"] {
            assert_eq!(kind(name), Kind::Playlist, "{name}");
        }
        for name in ["tty", "lavfi", "ffmetadata", "srt", "v4l2", "avisynth"] {
            assert_eq!(kind(name), Kind::Other, "{name}");
        }
    }
}
