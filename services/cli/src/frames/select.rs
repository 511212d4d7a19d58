//! From the command line to the frames that are taken.

use reelsight_sampling::{Rule, Sampled};

use super::{
    shots::{self, Cuts},
    video::Video,
};
use crate::{
    args::{RuleArgs, SceneArgs, SceneModel},
    exit::Failure,
};

/// The frames that are taken.
pub(crate) struct Selection {
    pub(crate) sampled: Sampled,
    /// The cuts, when frames are taken by shot.
    pub(crate) cuts: Option<Cuts>,
}

impl Selection {
    /// How many samples fell on a chosen frame.
    pub(crate) fn samples_of(&self, frame: u64) -> usize {
        let at = self.sampled.frames.binary_search(&frame);
        at.map_or(1, |at| self.sampled.samples[at])
    }
}

/// Applies the one rule that was given. Only `--scene` decodes for it.
pub(crate) fn select(
    video: &Video,
    rule: &RuleArgs,
    range_secs: Option<(f64, f64)>,
    scene: &SceneArgs,
    threads: usize,
    quiet: bool,
) -> Result<Selection, Failure> {
    if rule.scene.is_none() && scene.scene_model != SceneModel::Auto {
        // clap lets it pass, because the other rules exclude --scene.
        return Err(Failure::usage("--scene-model is for --scene"));
    }
    let mut cuts = None;
    let rule = match rule {
        RuleArgs { fps: Some(fps), .. } => Rule::Fps(*fps),
        RuleArgs {
            count: Some(count), ..
        } => Rule::Count(*count as usize),
        RuleArgs { at: Some(times), .. } => Rule::At(times.clone()),
        RuleArgs {
            scene: Some(threshold),
            ..
        } => {
            let found = shots::find(video, range_secs, *threshold, scene, threads, quiet)?;
            let middles = found.middles(&video.index);
            cuts = Some(found);
            Rule::Frames(middles)
        }
        _ => Rule::Frames(video.index.keyframes()),
    };
    let sampled = reelsight_sampling::sample(&video.index.timeline, &rule, range_secs)?;
    Ok(Selection { sampled, cuts })
}
