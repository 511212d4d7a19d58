//! A picture of a stream: packets by time, size and kind, and which of them a selection decodes. Pure: numbers in, SVG
//! out, nothing fetched, readable on light and dark ground.

use std::fmt::Write as _;

use reelsight_media::label_from_secs;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 56.0;
/// Bottom of the bars.
const BASE: f64 = 284.0;
/// The strip of decoded packets.
const STRIP: (f64, f64) = (294.0, 304.0);
/// The marks of chosen frames.
const MARKS: (f64, f64) = (310.0, 322.0);
/// Labels of the time axis.
const AXIS: f64 = 342.0;
/// Bars are drawn at most so close: beyond that, the largest of each kind stands for its neighbours.
const COLUMNS: usize = 1112;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#3f3f46}\
.head{font-size:14px;font-weight:600;fill:#18181b}\
.ground{fill:#fff}.grid{stroke:#e4e4e7;fill:none}.strip{fill:#f4f4f5}\
.key{stroke:#c2410c;fill:#c2410c}.open{stroke:#a21caf;fill:#a21caf}\
.ref{stroke:#2563eb;fill:#2563eb}.drop{stroke:#8fb4e8;fill:#8fb4e8}\
.used{stroke:#15803d;fill:#15803d}.cut{stroke:#71717a;stroke-dasharray:3 3;fill:none}\
@media(prefers-color-scheme:dark){text{fill:#a1a1aa}.head{fill:#f4f4f5}.ground{fill:#18181b}\
.grid{stroke:#3f3f46}.strip{fill:#27272a}.key{stroke:#fb923c;fill:#fb923c}.open{stroke:#e879f9;fill:#e879f9}\
.ref{stroke:#60a5fa;fill:#60a5fa}.drop{stroke:#41608f;fill:#41608f}.used{stroke:#4ade80;fill:#4ade80}}";

/// What a packet is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    OpenKey,
    Reference,
    Droppable,
}

impl Kind {
    /// Those behind first: they are the largest.
    const ALL: [Self; 4] = [Self::Key, Self::OpenKey, Self::Reference, Self::Droppable];

    fn class(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::OpenKey => "open",
            Self::Reference => "ref",
            Self::Droppable => "drop",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Key => "key frame",
            Self::OpenKey => "open key frame or refresh",
            Self::Reference => "referred to",
            Self::Droppable => "referred to by none",
        }
    }
}

/// One packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    pub(super) secs: f64,
    pub(super) bytes: u32,
    pub(super) kind: Kind,
    /// Whether the selection needs it; `None` without a selection.
    pub(super) decoded: Option<bool>,
}

/// What is drawn.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) start_secs: f64,
    pub(super) end_secs: f64,
    pub(super) bars: Vec<Bar>,
    pub(super) chosen_secs: Vec<f64>,
    pub(super) cut_secs: Vec<f64>,
}

impl Plot {
    fn x(&self, secs: f64) -> f64 {
        let length = (self.end_secs - self.start_secs).max(1e-9);
        LEFT + ((secs - self.start_secs) / length).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "x lies between the margins"
    )]
    fn column(&self, secs: f64) -> usize {
        ((self.x(secs) - LEFT) as usize).min(COLUMNS - 1)
    }

    fn largest(&self) -> f64 {
        f64::from(self.bars.iter().map(|bar| bar.bytes).max().unwrap_or(1).max(1))
    }
}

/// The drawing.
pub(super) fn svg(plot: &Plot) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    draw(plot, &mut out).ok();
    out
}

fn draw(plot: &Plot, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">"#
    )?;
    let title = escaped(&plot.title);
    write!(
        out,
        r#"<title>{title}</title><style>{STYLE}</style><rect class="ground" width="100%" height="100%"/>"#
    )?;
    write!(out, r#"<text class="head" x="{LEFT}" y="22">{title}</text>"#)?;
    legend(plot, out)?;
    sizes(plot, out)?;
    times(plot, out)?;
    for kind in Kind::ALL {
        bars(plot, kind, out)?;
    }
    decoded(plot, out)?;
    chosen(plot, out)?;
    out.write_str("</svg>\n")
}

fn legend(plot: &Plot, out: &mut String) -> std::fmt::Result {
    let mut x = LEFT;
    let mut entry = |out: &mut String, class: &str, label: &str, count: usize| {
        let text = format!("{label} ({count})");
        write!(
            out,
            r#"<rect class="{class}" x="{x}" y="34" width="10" height="10"/><text x="{:.0}" y="43">{text}</text>"#,
            x + 15.0
        )?;
        x += 36.0 + 6.4 * text.len() as f64;
        Ok(())
    };
    for kind in Kind::ALL {
        let count = plot.bars.iter().filter(|bar| bar.kind == kind).count();
        if count > 0 {
            entry(out, kind.class(), kind.label(), count)?;
        }
    }
    let used = plot.bars.iter().filter(|bar| bar.decoded == Some(true)).count();
    if used > 0 {
        entry(out, "used", "decoded for the chosen frames", used)?;
    }
    Ok(())
}

/// Heights grow with the square root of the size, so that small packets are seen beside key frames.
fn height(bytes: f64, largest: f64) -> f64 {
    (BASE - TOP) * (bytes / largest).sqrt()
}

fn sizes(plot: &Plot, out: &mut String) -> std::fmt::Result {
    let largest = plot.largest();
    for part in [1.0, 0.25, 0.0625] {
        let y = BASE - height(largest * part, largest);
        write!(
            out,
            r#"<path class="grid" d="M{LEFT} {y:.1}H{:.0}"/><text x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            size(largest * part)
        )?;
    }
    write!(
        out,
        r#"<path class="grid" d="M{LEFT} {BASE}H{:.0}"/>"#,
        WIDTH - RIGHT
    )
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{:.1} kB", bytes / 1e3),
        bytes => format!("{bytes:.0} B"),
    }
}

fn times(plot: &Plot, out: &mut String) -> std::fmt::Result {
    const STEPS: [f64; 18] = [
        0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
        3600.0, 7200.0,
    ];
    let length = plot.end_secs - plot.start_secs;
    let step = STEPS
        .into_iter()
        .find(|step| length / step <= 9.0)
        .unwrap_or(length / 9.0);
    let first = (plot.start_secs / step).ceil();
    let ticks = (0..=10_u32).map(|tick| (first + f64::from(tick)) * step);
    for secs in ticks.take_while(|&secs| secs <= plot.end_secs + 1e-9) {
        let x = plot.x(secs);
        let label = label_from_secs(secs);
        let label = label.strip_prefix("00:").unwrap_or(&label);
        let label = if step < 1.0 {
            label
        } else {
            label.split('.').next().unwrap_or(label)
        };
        write!(
            out,
            r#"<path class="grid" d="M{x:.1} {TOP}V{AXIS}"/><text x="{x:.1}" y="{:.0}" text-anchor="middle">{label}</text>"#,
            AXIS + 16.0
        )?;
    }
    Ok(())
}

fn bars(plot: &Plot, kind: Kind, out: &mut String) -> std::fmt::Result {
    let mut tallest = vec![0_u32; COLUMNS];
    for bar in plot.bars.iter().filter(|bar| bar.kind == kind) {
        let column = &mut tallest[plot.column(bar.secs)];
        *column = (*column).max(bar.bytes);
    }
    if tallest.iter().all(|&bytes| bytes == 0) {
        return Ok(());
    }
    let largest = plot.largest();
    // Few packets get broad bars.
    let width = (0.6 * COLUMNS as f64 / plot.bars.len().max(1) as f64).clamp(1.0, 6.0);
    write!(
        out,
        r#"<path class="{}" stroke-width="{width:.1}" d=""#,
        kind.class()
    )?;
    for (column, &bytes) in tallest.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
        let x = LEFT + column as f64 + 0.5;
        write!(
            out,
            "M{x:.1} {BASE}V{:.1}",
            BASE - height(f64::from(bytes), largest).max(1.0)
        )?;
    }
    out.write_str("\"/>")
}

/// Where packets are decoded.
fn decoded(plot: &Plot, out: &mut String) -> std::fmt::Result {
    if plot.bars.iter().all(|bar| bar.decoded.is_none()) {
        return Ok(());
    }
    let (top, bottom) = STRIP;
    write!(
        out,
        r#"<rect class="strip" x="{LEFT}" y="{top}" width="{:.0}" height="{:.0}"/>"#,
        WIDTH - LEFT - RIGHT,
        bottom - top
    )?;
    let mut used = vec![false; COLUMNS];
    for bar in plot.bars.iter().filter(|bar| bar.decoded == Some(true)) {
        used[plot.column(bar.secs)] = true;
    }
    write!(out, r#"<path class="used" stroke-width="1" d=""#)?;
    for (column, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        write!(out, "M{:.1} {bottom}V{top}", LEFT + column as f64 + 0.5)?;
    }
    write!(
        out,
        r#""/><text x="{:.0}" y="{:.0}" text-anchor="end">decoded</text>"#,
        LEFT - 8.0,
        bottom
    )
}

/// The chosen frames and the cuts.
fn chosen(plot: &Plot, out: &mut String) -> std::fmt::Result {
    for &secs in &plot.cut_secs {
        write!(
            out,
            r#"<path class="cut" d="M{:.1} {TOP}V{BASE}"/>"#,
            plot.x(secs)
        )?;
    }
    if plot.chosen_secs.is_empty() {
        return Ok(());
    }
    let (top, bottom) = MARKS;
    write!(out, r#"<path class="used" d=""#)?;
    for &secs in &plot.chosen_secs {
        write!(
            out,
            "M{:.1} {top}l3.5 {rise}h-7z",
            plot.x(secs),
            rise = bottom - top
        )?;
    }
    write!(
        out,
        r#""/><text x="{:.0}" y="{:.0}" text-anchor="end">chosen</text>"#,
        LEFT - 8.0,
        bottom
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(packets: u32) -> Plot {
        let bar = |at: u32| Bar {
            secs: f64::from(at) / 25.0,
            bytes: if at.is_multiple_of(50) { 40_000 } else { 900 },
            kind: if at.is_multiple_of(50) {
                Kind::Key
            } else {
                Kind::Droppable
            },
            decoded: Some(at.is_multiple_of(50)),
        };
        Plot {
            title: "a < b".to_owned(),
            start_secs: 0.0,
            end_secs: f64::from(packets) / 25.0,
            bars: (0..packets).map(bar).collect(),
            chosen_secs: vec![0.0, 2.0],
            cut_secs: vec![1.0],
        }
    }

    #[test]
    fn every_chosen_frame_and_key_frame_is_drawn() {
        let drawn = svg(&plot(100));
        assert_eq!(drawn.matches("l3.5").count(), 2);
        let keys = drawn.split("class=\"key\" stroke-width").nth(1).unwrap();
        assert_eq!(keys.split("\"/>").next().unwrap().matches('M').count(), 2);
        assert!(
            drawn.contains("a &lt; b") && !drawn.contains("href"),
            "nothing is fetched"
        );
    }

    #[test]
    fn long_videos_give_small_drawings() {
        let drawn = svg(&plot(200_000));
        assert!(drawn.len() < 120_000, "{} bytes", drawn.len());
    }

    #[test]
    fn heights_stay_inside() {
        assert!(height(40_000.0, 40_000.0) <= BASE - TOP);
        assert_eq!(size(1234.0), "1.2 kB");
    }
}
