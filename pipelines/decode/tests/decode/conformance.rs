//! More than a hundred files of every kind that FFmpeg's command line can make, five requests each: every frame that
//! comes out is the one that PyAV's whole decode shows at that time, to the last sample.
//!
//! The files are made once and kept in the build folder. Pictures are small: what is tested here is which packets are
//! decoded, not how fast.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use reelsight_decode::PacketIndex;
use reelsight_sampling::{Rule, sample};
use serde_json::Value;

use super::{
    recipes::{self, Recipe},
    support,
};

/// Two seconds of a moving picture with detail and sharp edges.
const IN: &str = "-f lavfi -i testsrc2=s=96x64:r=25:d=2 -pix_fmt yuv420p";

/// The files of a group, made where they are missing or made by another recipe.
fn files(group: &str, recipes: &[Recipe]) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("conformance")
        .join(group);
    fs::create_dir_all(&folder).unwrap();
    let make = |(name, recipe): &Recipe| {
        let (file, note) = (folder.join(name), folder.join(format!("{name}.recipe")));
        let inputs = format!("-i {}/", folder.display());
        let arguments = recipe
            .replace("IN", IN)
            .replace("-i plain", &format!("{inputs}plain"));
        if fs::read_to_string(&note).ok().as_ref() != Some(&arguments) {
            // Under another name first: a test run that ends here leaves nothing half made.
            let part = folder.join(format!("part-{name}"));
            support::try_ffmpeg(&arguments, &part).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            fs::rename(part, &file).unwrap();
            fs::write(note, arguments).unwrap();
        }
        file
    };
    recipes.iter().map(make).collect()
}

/// What is asked, and the frames that must come.
struct Request {
    what: &'static str,
    rule: Rule,
    range: Option<(f64, f64)>,
    frames: Vec<u64>,
}

/// Five requests. Which frames must come is worked out here, in exact arithmetic, from PyAV's times.
fn requests(index: &PacketIndex, reference: &[Value]) -> Vec<Request> {
    let base = index.timeline.base();
    let (num, den) = (i128::from(base.num()), i128::from(base.den()));
    let theirs: Option<Vec<i64>> = reference.iter().map(|frame| frame["pts"].as_i64()).collect();
    let pts = match theirs {
        Some(pts) if !lacks_times(index) => pts,
        _ => index.timeline.all_pts().to_vec(),
    };
    let since_first: Vec<i128> = pts.iter().map(|at| i128::from(at - pts[0])).collect();
    let end = i128::from(index.timeline.end() - index.timeline.start());
    // The frame that is shown at so many units, times `parts`, after the first.
    let shown = |units: i128, parts: i128| {
        let due = since_first.iter().filter(|&&at| at * parts <= units).count();
        due.saturating_sub(1) as u64
    };
    let unique = |frames: Vec<u64>| {
        frames
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    let seconds = (0..)
        .map(|second| second * den)
        .take_while(|&units| units < end * num);
    // Thousandths of a second after the first frame, as far as the video goes and times are not negative.
    let zero = index.timeline.base().secs(index.timeline.start());
    let secs = |thousandths: i128| zero + thousandths as f64 / 1000.0;
    let inside = |&thousandths: &i128| secs(thousandths) >= 0.0 && thousandths * den < end * num * 1000;
    let odd: Vec<i128> = [123, 777, 1083, 1391].into_iter().filter(inside).collect();
    let in_range = |at: i128| (701 * den..1301 * den).contains(&(at * num * 1000));
    let all: Vec<u64> = (0..pts.len() as u64).collect();
    let middle = all.iter().zip(&since_first).filter(|(_, at)| in_range(**at));
    let request = |what, rule, frames| Request {
        what,
        rule,
        range: None,
        frames,
    };
    vec![
        request(
            "one a second",
            Rule::Fps(1.0),
            unique(seconds.map(|units| shown(units, num)).collect()),
        ),
        request(
            "eight",
            Rule::Count(8),
            unique((0..8).map(|k| shown((2 * k + 1) * end, 16)).collect()),
        ),
        request("all", Rule::Frames(all.clone()), all.clone()),
        Request {
            range: Some((secs(701), secs(1301))),
            ..request(
                "the middle",
                Rule::Frames(all.clone()),
                middle.map(|(frame, _)| *frame).collect(),
            )
        },
        request(
            "odd times",
            Rule::At(odd.iter().map(|&at| secs(at)).collect()),
            unique(odd.iter().map(|&at| shown(at * den, 1000 * num)).collect()),
        ),
    ]
}

/// AVI and bare streams: FFmpeg's versions make different times of them.
fn lacks_times(index: &PacketIndex) -> bool {
    ["avi", "h264", "hevc", "m4v", "mpegvideo"].contains(&index.info.container.as_str())
}

/// Problems of one file, in words.
fn problems(file: &Path, reference: &[Value]) -> Vec<String> {
    let index = support::index_of(file);
    let name = file.file_name().unwrap().to_string_lossy();
    if index.timeline.len() != reference.len() {
        return vec![format!(
            "{name}: {} frames, PyAV shows {}",
            index.timeline.len(),
            reference.len()
        )];
    }
    let mut problems = Vec::new();
    for (at, (ours, theirs)) in index.timeline.all_pts().iter().zip(reference).enumerate() {
        let theirs = theirs["pts"].as_i64().filter(|_| !lacks_times(&index));
        if theirs.is_some_and(|theirs| ours + index.pts_offset != theirs) {
            problems.push(format!(
                "{name}: time of frame {at}: {}, PyAV {theirs:?}",
                ours + index.pts_offset
            ));
            break;
        }
    }
    for (number, request) in requests(&index, reference).into_iter().enumerate() {
        let Request {
            what,
            rule,
            range,
            frames: expected,
        } = request;
        let chosen = match sample(&index.timeline, &rule, range) {
            Ok(chosen) => chosen.frames,
            Err(error) => {
                problems.push(format!("{name}, {what}: {error}"));
                continue;
            }
        };
        if chosen != expected {
            problems.push(format!("{name}, {what}: chosen {chosen:?}, shown {expected:?}"));
        }
        let planes = support::planes(file, &index, &chosen, 1 + number % 2);
        let same = |frame: &&reelsight_decode::PlanarFrame| {
            let theirs = &reference[usize::try_from(frame.index).unwrap()]["planes"];
            !frame.damaged && support::sha256(&frame.data) == *theirs
        };
        let wrong: Vec<u64> = planes
            .iter()
            .filter(|frame| !same(frame))
            .map(|frame| frame.index)
            .collect();
        if !wrong.is_empty() || planes.len() != chosen.len() {
            problems.push(format!(
                "{name}, {what}: {} of {} frames, wrong {wrong:?}",
                planes.len(),
                chosen.len()
            ));
        }
    }
    problems
}

pub(super) fn check(files: &[PathBuf]) {
    let Some(references) = support::references(files) else {
        return;
    };
    let both = files.iter().zip(&references);
    let problems: Vec<String> = both
        .flat_map(|(file, reference)| problems(file, reference))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn h264() {
    check(&files("h264", recipes::H264));
}

#[test]
fn containers() {
    check(&files("containers", recipes::CONTAINERS));
}

#[test]
fn hevc() {
    check(&files("hevc", recipes::HEVC));
}

#[test]
fn av1_vp8_vp9() {
    check(&files("open", recipes::OPEN_CODECS));
}

#[test]
fn mpeg() {
    check(&files("mpeg", recipes::MPEG));
}

#[test]
fn others() {
    check(&files("others", recipes::OTHERS));
}

/// Clips of cameras and generators, where the shared data is at hand: a few, or all with `REELSIGHT_ALL_CLIPS` set.
#[test]
fn shared_clips() {
    let shared = std::env::var("REELSIGHT_SHARED").unwrap_or_else(|_| "../../../shared".to_owned());
    let mut folders = vec![Path::new(&shared).join("data/genvid-mini/clips")];
    let mut clips = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten();
        for path in entries.map(|entry| entry.unwrap().path()) {
            let list = if path.is_dir() { &mut folders } else { &mut clips };
            list.push(path);
        }
    }
    if clips.is_empty() {
        eprintln!("SKIPPED: no clips under REELSIGHT_SHARED ({shared})");
    }
    clips.sort();
    let step = if std::env::var_os("REELSIGHT_ALL_CLIPS").is_some() {
        1
    } else {
        200
    };
    let clips: Vec<_> = clips.into_iter().step_by(step).collect();
    clips.chunks(32).for_each(check);
}
