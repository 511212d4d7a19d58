//! The facts for people: one per line.

use std::fmt::Write as _;

use serde_json::Value;

/// The document of [`super::facts`] in words.
pub(super) fn text(document: &Value) -> String {
    let mut text = String::new();
    let container = [word(&document["container"]), secs(&document["duration_s"])].join(", ");
    let mut line = |name: &str, value: &str| {
        let value = if value.is_empty() { "not said" } else { value };
        // Writing to a string cannot fail.
        writeln!(text, "{name:10}  {value}").ok();
    };
    line("container", &container);
    picture(&document["video"], &mut line);
    structure(&document["structure"], &mut line);
    for track in document["tracks"].as_array().into_iter().flatten() {
        line("track", &self::track(track));
    }
    text
}

fn picture(video: &Value, line: &mut impl FnMut(&str, &str)) {
    let known = |names: &[&str]| {
        let values = names.iter().map(|name| &video[*name]);
        let known = values.filter(|value| !value.is_null()).map(word);
        known.collect::<Vec<_>>().join(", ")
    };
    line(
        "video",
        &known(&["codec", "profile", "pixel_format", "field_order"]),
    );
    let shape = format!(
        "{}x{}, pixels {}, turned by {} degrees",
        video["width"],
        video["height"],
        word(&video["pixel_aspect"]),
        video["rotation_degrees"]
    );
    line("picture", &shape);
    line(
        "colour",
        &known(&["color_range", "color_space", "color_transfer", "color_primaries"]),
    );
    let rate = format!(
        "{:.3} frames/s, {}, {} frames, {} to {} apart",
        video["fps"].as_f64().unwrap_or_default(),
        word(&video["frame_rate"]),
        video["frames"],
        secs(&video["frame_interval_s"]["min"]),
        secs(&video["frame_interval_s"]["max"])
    );
    line("rate", &rate);
}

fn structure(structure: &Value, line: &mut impl FnMut(&str, &str)) {
    let packets = &structure["gop_packets"];
    let groups = format!(
        "{} key frames ({} clean), {} open groups, {} refreshes; packets per group {} / {} / {} (min / median / max)",
        structure["keyframes"],
        structure["clean_keyframes"],
        structure["open_gops"],
        structure["refreshes"],
        packets["min"],
        packets["median"],
        packets["max"]
    );
    line("groups", &groups);
    let percent = |value: &Value| format!("{:.1} %", value.as_f64().unwrap_or_default() * 100.0);
    let known = if structure["references_known"] == true {
        "all references are known"
    } else {
        "which packet refers to which is not written"
    };
    let references = format!(
        "{} of {} packets are referred to by none ({}, {} of the bytes); {known}",
        structure["droppable_packets"],
        structure["packets"],
        percent(&structure["droppable_share"]),
        percent(&structure["droppable_bytes_share"]),
    );
    line("references", &references);
}

fn track(track: &Value) -> String {
    let mut text = format!(
        "{} {}, {}",
        track["index"],
        word(&track["kind"]),
        word(&track["codec"])
    );
    if let Some(language) = track["language"].as_str() {
        text.push_str(", ");
        text.push_str(language);
    }
    text
}

/// A text without its quotes.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn secs(value: &Value) -> String {
    format!("{:.3} s", value.as_f64().unwrap_or_default())
}
