//! Every frame of many kinds of files equals PyAV's whole decode: times, samples and RGB, whichever frames are asked.

use std::{collections::BTreeSet, path::Path};

use reelsight_decode::DecodeOptions;
use serde_json::Value;

use super::support::{self, ffmpeg, folder};

/// A moving picture with detail.
const TEST: &str = "-f lavfi -i testsrc2=s=192x144:r=25:d=4";

/// Compares all frames, then several sparse choices, with `threads`.
fn check(file: &Path) {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let Some(reference) = support::reference(file) else {
        return;
    };
    let index = support::index_of(file);
    assert_eq!(index.timeline.len(), reference.len(), "{name}: number of frames");
    let offset = index.pts_offset;
    // AVI stores decoding times only, and FFmpeg's versions make different presentation times of them.
    let timed = index.info.container != "avi";
    for (at, (ours, theirs)) in index.timeline.all_pts().iter().zip(&reference).enumerate() {
        if let Some(pts) = theirs["pts"].as_i64().filter(|_| timed) {
            assert_eq!(ours + offset, pts, "{name}: time of frame {at}");
        }
    }
    let count = reference.len() as u64;
    let all: Vec<u64> = (0..count).collect();
    check_frames(&name, file, &index, &all, &reference, 1);
    for (step, start, threads) in [
        (1, 0, 2),
        (7, 0, 2),
        (25, 3, 1),
        (40, count.saturating_sub(1) % 40, 2),
        (2, 1, 1),
    ] {
        let frames: Vec<u64> = all
            .iter()
            .copied()
            .filter(|frame| frame % step == start % step)
            .collect();
        check_frames(&name, file, &index, &frames, &reference, threads);
    }
    check_frames(&name, file, &index, &[count - 1], &reference, 2);
}

fn check_frames(
    name: &str,
    file: &Path,
    index: &std::sync::Arc<reelsight_decode::PacketIndex>,
    frames: &[u64],
    reference: &[Value],
    threads: usize,
) {
    let planes = support::planes(file, index, frames, threads);
    let got: Vec<u64> = planes.iter().map(|frame| frame.index).collect();
    assert_eq!(got, frames, "{name}: frames, {threads} threads");
    for frame in &planes {
        let theirs = &reference[usize::try_from(frame.index).unwrap()];
        assert_eq!(
            support::sha256(&frame.data),
            theirs["planes"],
            "{name}: samples of frame {}",
            frame.index
        );
        assert!(!frame.damaged, "{name}: frame {} is not damaged", frame.index);
    }
    let options = DecodeOptions {
        threads,
        ..DecodeOptions::default()
    };
    let turned = index.info.rotation_degrees != 0;
    for frame in support::rgb(file, index, frames, options) {
        let theirs = &reference[usize::try_from(frame.index).unwrap()];
        if !turned {
            assert_eq!(
                support::sha256(&frame.data),
                theirs["rgb"],
                "{name}: RGB of frame {}",
                frame.index
            );
        }
    }
}

/// One test per file, so that each can fail by itself.
macro_rules! corpus {
    ($($name:ident: $file:literal, $arguments:expr;)+) => {$(
        #[test]
        fn $name() {
            let folder = folder();
            check(&ffmpeg(folder.path(), $file, &format!("{TEST} {}", $arguments)));
        }
    )+};
}

corpus! {
    h264_b_pyramid: "a.mp4", "-c:v libx264 -g 25 -bf 3 -b_strategy 0 -pix_fmt yuv420p";
    h264_one_gop: "a.mp4", "-c:v libx264 -g 999 -keyint_min 999 -sc_threshold 0 -pix_fmt yuv420p";
    h264_open_gop: "a.mkv", "-c:v libx264 -g 25 -bf 3 -x264-params open-gop=1:keyint=25:min-keyint=25:scenecut=0 -pix_fmt yuv420p";
    h264_open_gop_ts: "a.ts", "-c:v libx264 -g 25 -bf 3 -x264-params open-gop=1:keyint=25:min-keyint=25:scenecut=0 -pix_fmt yuv420p";
    h264_intra_refresh: "a.mp4", "-c:v libx264 -g 25 -x264-params intra-refresh=1:keyint=25:scenecut=0 -bf 0 -pix_fmt yuv420p";
    h264_intra_refresh_ts: "a.ts", "-c:v libx264 -g 25 -x264-params intra-refresh=1:keyint=25:scenecut=0 -bf 2 -pix_fmt yuv420p";
    h264_full_range: "a.mp4", "-vf scale=out_range=pc -color_range pc -c:v libx264 -pix_fmt yuvj420p";
    h264_bt709: "a.mp4", "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -c:v libx264 -pix_fmt yuv420p";
    h264_444: "a.mp4", "-c:v libx264 -pix_fmt yuv444p";
    h264_422: "a.mp4", "-c:v libx264 -pix_fmt yuv422p";
    h264_10_bit: "a.mp4", "-c:v libx264 -pix_fmt yuv420p10le";
    h264_gray: "a.mp4", "-c:v libx264 -pix_fmt gray";
    h264_interlaced: "a.mp4", "-c:v libx264 -flags +ildct+ilme -x264-params interlaced=1:tff=1 -g 25 -bf 2 -pix_fmt yuv420p";
    h264_interlaced_ts: "a.ts", "-c:v libx264 -flags +ildct+ilme -x264-params interlaced=1:tff=1 -g 25 -bf 2 -pix_fmt yuv420p";
    h264_slices_ts: "a.ts", "-c:v libx264 -x264-params slices=4:aud=1 -g 30 -pix_fmt yuv420p";
    h264_avi: "a.avi", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p";
    h264_avi_no_b: "a.avi", "-c:v libx264 -bf 0 -g 25 -pix_fmt yuv420p";
    h264_raw: "a.h264", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p";
    h264_flv: "a.flv", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p";
    h264_fragmented: "a.mp4", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p -movflags frag_keyframe+empty_moov";
    h264_odd_size: "a.mp4", "-vf scale=161:91 -c:v libx264 -pix_fmt yuv444p";
    h264_cropped: "a.mkv", "-vf scale=178:90 -c:v libx264 -pix_fmt yuv420p";
    h264_with_audio: "a.mp4", "-f lavfi -i sine=d=4 -c:v libx264 -bf 2 -g 30 -pix_fmt yuv420p -c:a aac";
    h264_late_start: "a.mp4", "-f lavfi -i sine=d=4 -c:v libx264 -bf 2 -g 30 -pix_fmt yuv420p -c:a aac -filter_complex [0:v]setpts=PTS+0.7/TB[v] -map [v] -map 1:a -vsync passthrough";
    h264_vfr: "a.mkv", "-vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr -c:v libx264 -bf 2 -g 20 -pix_fmt yuv420p";
    hevc: "a.mp4", "-c:v libx265 -x265-params log-level=error:keyint=25:bframes=3:open-gop=0 -pix_fmt yuv420p";
    hevc_open_gop: "a.mkv", "-c:v libx265 -x265-params log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=4:b-pyramid=1:open-gop=1 -pix_fmt yuv420p";
    hevc_open_gop_ts: "a.ts", "-c:v libx265 -x265-params log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=4:open-gop=1 -pix_fmt yuv420p";
    hevc_temporal_layers: "a.mp4", "-c:v libx265 -x265-params log-level=error:keyint=50:bframes=3:temporal-layers=3 -pix_fmt yuv420p";
    hevc_10_bit: "a.mkv", "-c:v libx265 -x265-params log-level=error:keyint=25 -pix_fmt yuv420p10le";
    vp8: "a.webm", "-c:v libvpx -g 25 -auto-alt-ref 1 -lag-in-frames 16 -b:v 300k -cpu-used 8 -pix_fmt yuv420p";
    vp9: "a.webm", "-c:v libvpx-vp9 -g 25 -lag-in-frames 16 -auto-alt-ref 1 -b:v 200k -cpu-used 8 -pix_fmt yuv420p";
    av1: "a.mkv", "-c:v libaom-av1 -g 25 -cpu-used 8 -lag-in-frames 16 -b:v 200k -pix_fmt yuv420p";
    av1_svt: "a.mp4", "-c:v libsvtav1 -g 25 -preset 12 -pix_fmt yuv420p";
    mpeg2_ts: "a.ts", "-c:v mpeg2video -g 15 -bf 2 -pix_fmt yuv420p";
    mpeg2_ps: "a.mpg", "-c:v mpeg2video -g 15 -bf 2 -pix_fmt yuv420p";
    mpeg4: "a.mp4", "-c:v mpeg4 -g 25 -bf 2 -pix_fmt yuv420p";
    mpeg4_avi: "a.avi", "-c:v mpeg4 -g 25 -bf 2 -pix_fmt yuv420p";
    mjpeg: "a.avi", "-c:v mjpeg -pix_fmt yuvj422p";
    prores: "a.mov", "-c:v prores_ks -profile:v 1 -pix_fmt yuv422p10le";
    gif: "a.gif", "-r 10";
    ffv1: "a.mkv", "-c:v ffv1 -g 5 -pix_fmt yuv420p";
    theora: "a.ogv", "-c:v libtheora -g 25 -pix_fmt yuv420p";
    flv1: "a.flv", "-c:v flv -g 25 -pix_fmt yuv420p";
}

#[test]
fn wanted_frames_may_be_any_subset() {
    let folder = folder();
    let file = ffmpeg(
        folder.path(),
        "a.mkv",
        &format!(
            "{TEST} -c:v libx264 -g 25 -bf 3 -x264-params open-gop=1:keyint=25:min-keyint=25:scenecut=0 -pix_fmt yuv420p"
        ),
    );
    let Some(reference) = support::reference(&file) else {
        return;
    };
    let index = support::index_of(&file);
    let mut state = 12_345;
    for _ in 0..20 {
        let frames: BTreeSet<u64> = (0..5)
            .map(|_| support::random(&mut state, reference.len()) as u64)
            .collect();
        let frames: Vec<u64> = frames.into_iter().collect();
        check_frames("any subset", &file, &index, &frames, &reference, 2);
    }
}

/// Clips from cameras and generators, where the shared data is at hand.
#[test]
fn real_clips_equal_pyav() {
    let shared = std::env::var("REELSIGHT_SHARED").unwrap_or_else(|_| "../../../shared".to_owned());
    let clips = Path::new(&shared).join("data/genvid-mini/clips");
    let mut files = Vec::new();
    let mut folders = vec![clips];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        eprintln!("SKIPPED: no clips under REELSIGHT_SHARED ({shared})");
    }
    files.sort();
    for file in files.iter().step_by(100) {
        check(file);
    }
}

/// Recordings begin anywhere: nothing is shown before the first place where decoding may begin.
#[test]
fn streams_cut_in_the_middle_equal_pyav() {
    let folder = folder();
    let codecs = [
        (
            "h264",
            "-c:v libx264 -g 25 -bf 3 -x264-params open-gop=1:keyint=25:min-keyint=25:scenecut=0",
        ),
        (
            "hevc",
            "-c:v libx265 -x265-params log-level=error:keyint=25:min-keyint=25:scenecut=0:open-gop=1",
        ),
        ("mpeg2", "-c:v mpeg2video -g 15 -bf 2"),
    ];
    for (name, codec) in codecs {
        let whole = ffmpeg(
            folder.path(),
            &format!("{name}.ts"),
            &format!("{TEST} {codec} -pix_fmt yuv420p"),
        );
        let bytes = std::fs::read(whole).unwrap();
        for share in [5, 3] {
            let cut = folder.path().join(format!("{name}-{share}.ts"));
            std::fs::write(&cut, &bytes[bytes.len() / share / 188 * 188..]).unwrap();
            check(&cut);
        }
    }
}
