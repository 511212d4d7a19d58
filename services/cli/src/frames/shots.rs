//! Where shots change: every frame of a range, decoded small, through a detector.

use std::path::PathBuf;

use reelsight_decode::PacketIndex;
use reelsight_media::{FrameSource as _, MediaTime};
use reelsight_sampling::{ContentDetector, Rule, ShotDetector, ShotError, Transition};
use reelsight_shots::{MANIFEST_FILE, TransNetV2};
use serde_json::{Value, json};

use super::{row::add_time, video::Video};
use crate::{
    args::{SceneArgs, SceneModel},
    exit::{Failure, FailureKind},
    models, terminal,
};

/// The shot changes of a range.
pub(crate) struct Cuts {
    /// Which detector found them.
    detector: String,
    /// The frames that it saw.
    seen: Vec<u64>,
    /// Counted in the frames that it saw.
    transitions: Vec<Transition>,
}

/// Decodes the range and finds its shot changes of at least `threshold`.
pub(super) fn find(
    video: &Video,
    range_secs: Option<(f64, f64)>,
    threshold: f64,
    scene: &SceneArgs,
    threads: usize,
    quiet: bool,
) -> Result<Cuts, Failure> {
    let mut detector = detector(scene, video, threads)?;
    let everything = Rule::Frames((0..video.index.timeline.len() as u64).collect());
    let seen = reelsight_sampling::sample(&video.index.timeline, &everything, range_secs)?.frames;
    let mut options = video.options(threads);
    (options.size, options.scale_in_yuv) = (Some(detector.size()), true);
    let mut reader = video.read(seen.clone(), &options)?;
    let bar = terminal::progress(seen.len() as u64, quiet).with_message("shots");
    let mut count = 0;
    while let Some(frame) = reader.next_frame()? {
        detector
            .push(&frame.data)
            .map_err(|error| failed(&error, video))?;
        count += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let name = detector.name().to_owned();
    let transitions = detector
        .finish(threshold)
        .map_err(|error| failed(&error, video))?;
    // A file that is cut off shows fewer frames than its index lists.
    let seen = seen[..count.min(seen.len())].to_vec();
    Ok(Cuts {
        detector: name,
        seen,
        transitions,
    })
}

fn failed(error: &ShotError, video: &Video) -> Failure {
    if video.cancel.is_cancelled() {
        return Failure::new(
            FailureKind::Interrupted,
            "CANCELLED",
            "looking for shots was cancelled",
        );
    }
    Failure::new(FailureKind::Internal, "SHOT_DETECTOR_FAILED", error)
}

/// The folder of the network under a root of models.
const NETWORK: &str = "transnetv2";

/// The network's folder, when it is installed.
pub(crate) fn installed_network(roots: &[PathBuf]) -> Option<PathBuf> {
    let mut folders = roots.iter().map(|root| root.join(NETWORK));
    folders.find(|folder| folder.join(MANIFEST_FILE).is_file())
}

fn detector(scene: &SceneArgs, video: &Video, threads: usize) -> Result<Box<dyn ShotDetector>, Failure> {
    let roots = models::roots(&scene.model_root);
    let folder = match (scene.scene_model, installed_network(&roots)) {
        (SceneModel::Content, _) | (SceneModel::Auto, None) => return Ok(Box::new(ContentDetector::new())),
        (_, Some(folder)) => folder,
        (SceneModel::Transnetv2, None) => roots
            .first()
            .map_or_else(|| NETWORK.into(), |root| root.join(NETWORK)),
    };
    let network = TransNetV2::load(&folder, threads, video.cancel.clone());
    match network {
        Ok(network) => Ok(Box::new(network)),
        Err(error) => Err(Failure::new(FailureKind::Setup, "MODEL_NOT_LOADED", error)),
    }
}

impl Cuts {
    /// First and last frame of each shot.
    fn shots(&self) -> Vec<(u64, u64)> {
        let shots = reelsight_sampling::shots(self.seen.len(), &self.transitions);
        let frame = |at: usize| self.seen.get(at).copied().unwrap_or_default();
        shots
            .into_iter()
            .map(|(first, last)| (frame(first), frame(last)))
            .collect()
    }

    /// The frame shown in the middle of each shot.
    pub(super) fn middles(&self, index: &PacketIndex) -> Vec<u64> {
        let timeline = &index.timeline;
        let pts = |frame: u64| {
            usize::try_from(frame)
                .ok()
                .and_then(|frame| timeline.pts(frame))
                .map_or(0, |pts| pts.0)
        };
        self.shots()
            .into_iter()
            .map(|(first, last)| {
                (timeline.index_at(pts(first).midpoint(pts(last))) as u64).clamp(first, last)
            })
            .collect()
    }

    /// The frames at which new shots take over.
    pub(crate) fn frames(&self) -> impl Iterator<Item = u64> + '_ {
        let seen = |transition: &Transition| self.seen.get(transition.at()).copied();
        self.transitions.iter().filter_map(seen)
    }

    /// Adds `cuts`, `shots` and `scene_model` to a document.
    pub(crate) fn add_to(&self, document: &mut Value, index: &PacketIndex) {
        let cuts: Vec<_> = self
            .transitions
            .iter()
            .map(|transition| self.cut(transition, index))
            .collect();
        let shots: Vec<_> = self
            .shots()
            .into_iter()
            .map(|(first, last)| shot(first, last, index))
            .collect();
        document["scene_model"] = self.detector.clone().into();
        document["cuts"] = cuts.into();
        document["shots"] = shots.into();
    }

    fn cut(&self, transition: &Transition, index: &PacketIndex) -> Value {
        let frame = |at: usize| {
            self.seen
                .get(at)
                .or(self.seen.last())
                .copied()
                .unwrap_or_default()
        };
        let at = frame(transition.at());
        let mut row = json!({ "index": at });
        add_frame_time(&mut row, at, index);
        row["score"] = transition.score.into();
        row["kind"] = if transition.is_cut() { "cut" } else { "gradual" }.into();
        row["last_frame_before"] = frame(transition.from).into();
        row["first_frame_after"] = frame(transition.to).into();
        row
    }
}

fn shot(first: u64, last: u64, index: &PacketIndex) -> Value {
    let secs = |frame: u64| {
        usize::try_from(frame)
            .ok()
            .and_then(|frame| index.timeline.time(frame))
            .map(MediaTime::secs)
    };
    let end = usize::try_from(last)
        .map(|last| index.timeline.frame_end_secs(last))
        .ok();
    json!({"first_frame": first, "last_frame": last, "start_s": secs(first), "end_s": end})
}

/// Adds the time of a frame.
pub(crate) fn add_frame_time(row: &mut Value, frame: u64, index: &PacketIndex) {
    let time = usize::try_from(frame)
        .ok()
        .and_then(|frame| index.timeline.time(frame));
    if let Some(time) = time {
        add_time(row, time, index);
    }
}
