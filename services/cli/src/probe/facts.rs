//! What the file and its index say.

use serde_json::{Value, json};

use crate::frames::{Video, spread_json};

/// Everything but the plan.
pub(super) fn document(video: &Video) -> Value {
    let info = &video.index.info;
    let tracks: Vec<_> = info
        .tracks
        .iter()
        .map(|track| {
            json!({
                "index": track.index, "kind": track.kind, "codec": track.codec, "language": track.language,
                "default": track.default, "attached_picture": track.attached_picture,
            })
        })
        .collect();
    json!({
        "container": info.container,
        "duration_s": info.duration_secs,
        "video": video_json(video),
        "tracks": tracks,
        "structure": structure_json(video),
        "index": {"time_s": video.index_time.as_secs_f64(), "from_cache": video.index_cached},
        "warnings": video.warnings(),
    })
}

fn video_json(video: &Video) -> Value {
    let (info, details) = (&video.index.info, &video.index.info.video);
    let base = video.index.timeline.base();
    let structure = video.index.structure();
    let secs = |units: u64| base.secs(i64::try_from(units).unwrap_or(i64::MAX));
    let gaps = structure.frame_units;
    json!({
        "track": details.track,
        "codec": info.video_codec,
        "profile": details.profile,
        "level": details.level,
        "pixel_format": details.pixel_format,
        "width": info.width,
        "height": info.height,
        "stored_width": details.stored_size.0,
        "stored_height": details.stored_size.1,
        "pixel_aspect": format!("{}/{}", details.pixel_aspect.0, details.pixel_aspect.1),
        "rotation_degrees": info.rotation_degrees,
        "field_order": details.field_order,
        "color_range": details.color_range,
        "color_space": details.color_space,
        "color_transfer": details.color_transfer,
        "color_primaries": details.color_primaries,
        "bit_rate": details.bit_rate,
        "frames": info.frame_count,
        "fps": info.fps,
        "frame_rate": if structure.constant_rate { "constant" } else { "variable" },
        "frame_interval_s": {"min": secs(gaps.min), "median": secs(gaps.median), "max": secs(gaps.max)},
        "time_base": format!("{}/{}", base.num(), base.den()),
        "start_s": base.secs(video.index.timeline.start()),
        "duration_s": info.duration_secs,
    })
}

fn structure_json(video: &Video) -> Value {
    let structure = video.index.structure();
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    json!({
        "packets": structure.packets,
        "bytes": structure.bytes,
        "keyframes": structure.keyframes,
        "clean_keyframes": structure.clean_keyframes,
        "refreshes": structure.refreshes,
        "open_gops": structure.open_gops,
        "gop_packets": spread_json(structure.gop_packets),
        "droppable_packets": structure.droppable,
        "droppable_share": share(structure.droppable, structure.packets),
        "droppable_bytes_share": share(structure.droppable_bytes, structure.bytes),
        "hidden_packets": structure.hidden,
        "layers": structure.layers,
        "references_known": structure.references_known,
    })
}
