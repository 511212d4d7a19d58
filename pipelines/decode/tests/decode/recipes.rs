//! The conformance corpus: files made at test time, one line each. `IN` is the moving picture; every recipe but the
//! remuxed ones begins with it.

/// A file and how FFmpeg makes it.
pub(super) type Recipe = (&'static str, &'static str);

/// GOP shapes, references, fields and sample formats of H.264.
pub(super) const H264: &[Recipe] = &[
    ("defaults.mp4", "IN -c:v libx264"),
    (
        "b-pyramid-strict.mp4",
        "IN -c:v libx264 -g 999 -bf 3 -x264-params b-pyramid=strict:b-adapt=0",
    ),
    (
        "bf16-ref6.mp4",
        "IN -c:v libx264 -g 40 -bf 16 -refs 6 -x264-params b-adapt=2:b-pyramid=normal",
    ),
    (
        "open-gop.mkv",
        "IN -c:v libx264 -bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0",
    ),
    (
        "open-gop.mp4",
        "IN -c:v libx264 -bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0",
    ),
    (
        "open-gop.ts",
        "IN -c:v libx264 -bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0",
    ),
    (
        "refresh.mp4",
        "IN -c:v libx264 -bf 0 -x264-params intra-refresh=1:keyint=10:scenecut=0",
    ),
    (
        "refresh-b.ts",
        "IN -c:v libx264 -bf 2 -x264-params intra-refresh=1:keyint=10:scenecut=0",
    ),
    (
        "refresh-long.flv",
        "IN -c:v libx264 -bf 0 -x264-params intra-refresh=1:keyint=25:scenecut=0",
    ),
    ("baseline.mp4", "IN -c:v libx264 -profile:v baseline -g 20"),
    (
        "weighted.mp4",
        "IN -vf fade=in:0:25,fade=out:25:25 -c:v libx264 -x264-params weightp=2:weightb=1 -bf 3 -g 30",
    ),
    (
        "scene-cuts.mp4",
        "IN -vf hue=h='floor(n/11)*90' -c:v libx264 -g 60 -bf 2",
    ),
    (
        "mbaff.mp4",
        "IN -c:v libx264 -flags +ildct+ilme -x264-params interlaced=1:tff=1 -g 20 -bf 2",
    ),
    (
        "mbaff-bottom.ts",
        "IN -c:v libx264 -flags +ildct+ilme -x264-params interlaced=1:bff=1 -g 20 -bf 3",
    ),
    (
        "fake-interlaced.mkv",
        "IN -c:v libx264 -x264-params fake-interlaced=1:tff=1 -g 20",
    ),
    ("slices.ts", "IN -c:v libx264 -x264-params slices=4:aud=1 -g 20"),
    (
        "filler.ts",
        "IN -c:v libx264 -b:v 200k -maxrate 200k -bufsize 100k -x264-params nal-hrd=cbr:filler=1 -g 20",
    ),
    (
        "cavlc-constrained.mp4",
        "IN -c:v libx264 -x264-params cabac=0:constrained-intra=1:8x8dct=0 -g 20",
    ),
    ("10-bit.mp4", "IN -pix_fmt yuv420p10le -c:v libx264 -g 20"),
    ("422.mp4", "IN -pix_fmt yuv422p -c:v libx264 -g 20"),
    ("422-10-bit.mkv", "IN -pix_fmt yuv422p10le -c:v libx264 -g 20"),
    ("444.mp4", "IN -pix_fmt yuv444p -c:v libx264 -g 20"),
    ("lossless.mkv", "IN -pix_fmt yuv444p -c:v libx264 -qp 0 -g 20"),
    ("rgb.mkv", "IN -pix_fmt rgb24 -c:v libx264rgb -g 20"),
    ("gray.mp4", "IN -pix_fmt gray -c:v libx264 -g 20"),
    (
        "full-range.mp4",
        "IN -vf scale=out_range=pc -color_range pc -pix_fmt yuvj420p -c:v libx264 -g 20",
    ),
    (
        "odd-size.mp4",
        "IN -vf scale=97:67 -pix_fmt yuv444p -c:v libx264 -g 20",
    ),
    ("cropped.mp4", "IN -vf scale=98:66 -c:v libx264 -g 20"),
];

/// What containers do to H.264.
pub(super) const CONTAINERS: &[Recipe] = &[
    ("plain.mp4", "IN -c:v libx264 -g 20 -bf 2"),
    ("rotated.mp4", "-i plain.mp4 -c copy -metadata:s:v rotate=90"),
    ("wide-pixels.mp4", "IN -vf setsar=4/3 -c:v libx264 -g 20"),
    (
        "vfr.mkv",
        "IN -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr -c:v libx264 -bf 2 -g 12",
    ),
    (
        "vfr.mp4",
        "IN -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr -c:v libx264 -bf 2 -g 12",
    ),
    ("edit-list.mp4", "-ss 0.5 -i plain.mp4 -c copy"),
    (
        "late-start.mp4",
        "-itsoffset 0.72 -i plain.mp4 -f lavfi -i sine=d=2 -c:v copy -c:a aac",
    ),
    ("wraps.ts", "-i plain.mp4 -c copy -output_ts_offset 95442.6"),
    (
        "negative.mkv",
        "-i plain.mp4 -c copy -output_ts_offset -0.7 -avoid_negative_ts disabled",
    ),
    (
        "negative.mp4",
        "-i plain.mp4 -c copy -output_ts_offset -0.7 -avoid_negative_ts disabled",
    ),
    ("late.ts", "-i plain.mp4 -c copy -output_ts_offset 1000"),
    ("b-frames.avi", "IN -c:v libx264 -g 20 -bf 2"),
    ("no-b-frames.avi", "IN -c:v libx264 -g 20 -bf 0"),
    ("bare.h264", "IN -c:v libx264 -g 20 -bf 2"),
    ("bare-no-b.h264", "IN -c:v libx264 -g 20 -bf 0"),
    (
        "twice.mkv",
        "IN -c:v libx264 -g 20 -bf 0 -bsf:v setts=pts=floor(PTS/80)*80:dts=floor(DTS/80)*80",
    ),
    (
        "fragmented.mp4",
        "-i plain.mp4 -c copy -movflags frag_keyframe+empty_moov",
    ),
    (
        "fragments-of-one.mp4",
        "-i plain.mp4 -c copy -movflags frag_every_frame+empty_moov+default_base_moof",
    ),
    ("faststart.mov", "-i plain.mp4 -c copy -movflags +faststart"),
    ("flash.flv", "-i plain.mp4 -c copy"),
    ("live.mkv", "-i plain.mp4 -c copy -f matroska -live 1"),
    ("blu-ray.m2ts", "-i plain.mp4 -c copy -mpegts_m2ts_mode 1"),
    (
        "with-sound.mkv",
        "-f lavfi -i sine=d=2 IN -c:v libx264 -g 20 -c:a libopus",
    ),
    ("general.nut", "-i plain.mp4 -c copy"),
    (
        "exchange.mxf",
        "IN -c:v libx264 -profile:v high422 -pix_fmt yuv422p10le -g 1",
    ),
];

/// HEVC.
pub(super) const HEVC: &[Recipe] = &[
    (
        "closed.mp4",
        "IN -c:v libx265 -x265-params log-level=error:keyint=20:open-gop=0",
    ),
    (
        "open.mkv",
        "IN -c:v libx265 -x265-params log-level=error:keyint=12:min-keyint=12:scenecut=0:bframes=4:open-gop=1",
    ),
    (
        "open.ts",
        "IN -c:v libx265 -x265-params log-level=error:keyint=12:min-keyint=12:scenecut=0:bframes=4:open-gop=1",
    ),
    (
        "open-hvc1.mp4",
        "IN -c:v libx265 -tag:v hvc1 -x265-params log-level=error:keyint=12:min-keyint=12:scenecut=0:bframes=4:open-gop=1",
    ),
    (
        "radl.mp4",
        "IN -c:v libx265 -x265-params log-level=error:keyint=12:min-keyint=12:scenecut=0:bframes=4:open-gop=0:radl=2",
    ),
    (
        "layers.mp4",
        "IN -c:v libx265 -x265-params log-level=error:keyint=30:bframes=3:temporal-layers=3",
    ),
    (
        "deep-pyramid.mkv",
        "IN -c:v libx265 -x265-params log-level=error:keyint=40:bframes=8:b-adapt=0:b-pyramid=1:ref=4",
    ),
    (
        "10-bit.mkv",
        "IN -pix_fmt yuv420p10le -c:v libx265 -x265-params log-level=error:keyint=20",
    ),
    (
        "422-10-bit.mp4",
        "IN -pix_fmt yuv422p10le -c:v libx265 -x265-params log-level=error:keyint=20",
    ),
    (
        "444.mkv",
        "IN -pix_fmt yuv444p -c:v libx265 -x265-params log-level=error:keyint=20",
    ),
    (
        "full-range.mp4",
        "IN -vf scale=out_range=pc -color_range pc -c:v libx265 -x265-params log-level=error:keyint=20:range=full",
    ),
    (
        "refresh.mkv",
        "IN -c:v libx265 -x265-params log-level=error:keyint=10:intra-refresh=1:bframes=0:scenecut=0",
    ),
    (
        "low-delay.ts",
        "IN -c:v libx265 -x265-params log-level=error:keyint=20:bframes=0:slices=2",
    ),
    (
        "lossless.mkv",
        "IN -c:v libx265 -x265-params log-level=error:keyint=20:lossless=1",
    ),
    (
        "bare.hevc",
        "IN -c:v libx265 -x265-params log-level=error:keyint=20:bframes=3",
    ),
];

/// AV1, VP8 and VP9.
pub(super) const OPEN_CODECS: &[Recipe] = &[
    ("svt.mp4", "IN -c:v libsvtav1 -g 20 -preset 12"),
    ("svt-long.mkv", "IN -c:v libsvtav1 -g 240 -preset 10"),
    (
        "svt-low-delay.mp4",
        "IN -c:v libsvtav1 -g 20 -preset 12 -svtav1-params pred-struct=1",
    ),
    (
        "svt-grain.mp4",
        "IN -c:v libsvtav1 -g 20 -preset 12 -svtav1-params film-grain=8",
    ),
    (
        "svt-10-bit.mkv",
        "IN -pix_fmt yuv420p10le -c:v libsvtav1 -g 20 -preset 12",
    ),
    (
        "aom-alt-ref.mkv",
        "IN -c:v libaom-av1 -g 20 -cpu-used 8 -lag-in-frames 16 -b:v 100k",
    ),
    (
        "aom-real-time.webm",
        "IN -c:v libaom-av1 -g 20 -usage realtime -cpu-used 8 -b:v 100k",
    ),
    (
        "aom-resilient.ivf",
        "IN -c:v libaom-av1 -g 20 -usage realtime -cpu-used 8 -b:v 100k -aom-params error-resilient=1",
    ),
    (
        "aom-444.mkv",
        "IN -pix_fmt yuv444p -c:v libaom-av1 -g 20 -usage realtime -cpu-used 8 -b:v 100k",
    ),
    (
        "aom.obu",
        "IN -c:v libaom-av1 -g 20 -usage realtime -cpu-used 8 -b:v 100k",
    ),
    ("rav1e.mp4", "IN -c:v librav1e -g 20 -speed 10 -qp 120"),
    (
        "vp8-alt-ref.webm",
        "IN -c:v libvpx -g 20 -auto-alt-ref 1 -lag-in-frames 16 -b:v 100k -cpu-used 8",
    ),
    (
        "vp8-resilient.ivf",
        "IN -c:v libvpx -g 20 -error-resilient 1 -lag-in-frames 0 -deadline realtime -cpu-used 8 -b:v 100k",
    ),
    (
        "vp9-alt-ref.webm",
        "IN -c:v libvpx-vp9 -g 20 -auto-alt-ref 1 -lag-in-frames 16 -b:v 100k -cpu-used 8",
    ),
    (
        "vp9-real-time.mkv",
        "IN -c:v libvpx-vp9 -g 20 -deadline realtime -cpu-used 8 -b:v 100k",
    ),
    (
        "vp9-10-bit.webm",
        "IN -pix_fmt yuv420p10le -c:v libvpx-vp9 -profile:v 2 -g 20 -deadline realtime -cpu-used 8 -b:v 100k",
    ),
    (
        "vp9-444.mp4",
        "IN -pix_fmt yuv444p -c:v libvpx-vp9 -profile:v 1 -g 20 -deadline realtime -cpu-used 8 -b:v 100k",
    ),
];

/// MPEG-1, MPEG-2 and MPEG-4 part 2 and their kin.
pub(super) const MPEG: &[Recipe] = &[
    ("mpeg1.mpg", "IN -c:v mpeg1video -g 12 -bf 2"),
    ("mpeg2.ts", "IN -c:v mpeg2video -g 12 -bf 2"),
    (
        "mpeg2-closed.ts",
        "IN -c:v mpeg2video -g 12 -bf 2 -flags +cgop -sc_threshold 1000000000",
    ),
    (
        "mpeg2-interlaced.ts",
        "IN -c:v mpeg2video -g 12 -bf 2 -flags +ildct+ilme -alternate_scan 1",
    ),
    ("mpeg2-422.mkv", "IN -pix_fmt yuv422p -c:v mpeg2video -g 12 -bf 2"),
    ("mpeg2.mov", "IN -c:v mpeg2video -g 12 -bf 2"),
    ("mpeg2.mxf", "IN -c:v mpeg2video -g 12 -bf 2"),
    (
        "mpeg2.vob",
        "-f lavfi -i sine=d=2 IN -c:v mpeg2video -g 12 -bf 2 -c:a mp2",
    ),
    ("mpeg2.m2v", "IN -c:v mpeg2video -g 12 -bf 2"),
    ("mpeg4.mp4", "IN -c:v mpeg4 -g 20 -bf 2"),
    ("mpeg4.avi", "IN -c:v mpeg4 -g 20 -bf 2"),
    ("mpeg4-qpel.mkv", "IN -c:v mpeg4 -g 20 -bf 2 -flags +qpel+mv4"),
    (
        "mpeg4-interlaced.mp4",
        "IN -c:v mpeg4 -g 20 -bf 2 -flags +ildct+ilme",
    ),
    ("mpeg4.m4v", "IN -c:v mpeg4 -g 20 -bf 0"),
    ("xvid.avi", "IN -c:v libxvid -g 20 -bf 2"),
    ("h263.3gp", "IN -s 176x144 -c:v h263 -g 20"),
    ("flv1.flv", "IN -c:v flv -g 20"),
    ("wmv2.asf", "IN -c:v wmv2 -g 20"),
    ("msmpeg4.avi", "IN -c:v msmpeg4 -g 20"),
];

/// Codecs whose every picture stands alone, and odd ones.
pub(super) const OTHERS: &[Recipe] = &[
    ("mjpeg.avi", "IN -pix_fmt yuvj422p -c:v mjpeg"),
    ("mjpeg.mov", "IN -pix_fmt yuvj420p -c:v mjpeg"),
    (
        "prores.mov",
        "IN -pix_fmt yuv422p10le -c:v prores_ks -profile:v 1",
    ),
    (
        "prores-alpha.mov",
        "IN -pix_fmt yuva444p10le -c:v prores_ks -profile:v 4",
    ),
    (
        "dnxhr.mov",
        "IN -s 256x128 -pix_fmt yuv422p -c:v dnxhd -profile:v dnxhr_sq",
    ),
    ("animation.gif", "IN -r 10"),
    ("animation.apng", "IN -r 10 -pix_fmt rgb24 -plays 0"),
    ("ffv1.mkv", "IN -c:v ffv1 -g 5"),
    ("huffyuv.avi", "IN -pix_fmt yuv422p -c:v huffyuv"),
    ("utvideo.avi", "IN -c:v utvideo"),
    ("theora.ogv", "IN -c:v libtheora -g 20"),
    ("jpeg2000.mov", "IN -c:v jpeg2000"),
    ("svq1.mov", "IN -pix_fmt yuv410p -c:v svq1 -g 20"),
    ("raw.nut", "IN -c:v rawvideo"),
    ("raw.y4m", "IN"),
    ("dirac.mkv", "IN -c:v vc2 -strict -1"),
];
