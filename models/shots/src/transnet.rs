//! `TransNetV2` over windows of frames.

use std::path::Path;

use reelsight_media::CancelFlag;
use reelsight_ort::{Session, SessionOptions, Tensor, runtime};
use reelsight_sampling::{ShotDetector, ShotError, Transition};

use crate::manifest::{Manifest, ShotsError};

const CHANNELS: usize = 3;
/// A run of likely pictures up to this length is a hard cut that the network is not sure how to place.
const CUT_RUN: usize = 2;

/// A network that finds shot changes.
///
/// # Source
/// Soucek and Lokoc, *Fast shot transition detection* (`TransNet` V2), 2020: windows of 100 pictures every 50, of which the middle 50 count; the first and
/// the last picture repeat beyond the ends.
#[derive(Debug)]
pub struct TransNetV2 {
    manifest: Manifest,
    session: Session,
    cancel: CancelFlag,
    /// Pictures of the next window, from its first.
    window: Vec<f32>,
    last: Vec<f32>,
    /// Pictures that were pushed.
    count: usize,
    /// For each picture, how likely a shot ends with it.
    likely: Vec<f32>,
}

impl TransNetV2 {
    /// The detector in `folder`, with `threads` inside its operators. Raising `cancel` makes pushing fail.
    ///
    /// # Errors
    /// [`ShotsError`] when it is not installed, damaged, or ONNX Runtime cannot load it.
    pub fn load(folder: &Path, threads: usize, cancel: CancelFlag) -> Result<Self, ShotsError> {
        let manifest = Manifest::read(folder)?;
        let graph = manifest.graph(folder)?;
        let options = SessionOptions {
            name: manifest.name.clone(),
            intra_threads: threads,
            queue: 1,
        };
        let session = Session::load(runtime(None)?, &graph, &options)?;
        Ok(Self {
            manifest,
            session,
            cancel,
            window: Vec::new(),
            last: Vec::new(),
            count: 0,
            likely: Vec::new(),
        })
    }

    fn picture_len(&self) -> usize {
        self.manifest.width as usize * self.manifest.height as usize * CHANNELS
    }

    /// Adds a picture and runs the network when the window is full.
    fn add(&mut self, picture: &[f32]) -> Result<(), ShotError> {
        self.window.extend_from_slice(picture);
        let Manifest { window, margin, .. } = self.manifest;
        if self.window.len() < window * self.picture_len() {
            return Ok(());
        }
        let likely = self.run()?;
        let middle = likely
            .get(margin..window - margin)
            .ok_or_else(|| ShotError::Failed {
                why: format!("the graph gave {} values for {window} pictures", likely.len()),
            })?;
        self.likely.extend_from_slice(middle);
        self.window.drain(..(window - 2 * margin) * self.picture_len());
        Ok(())
    }

    fn run(&self) -> Result<Vec<f32>, ShotError> {
        let Manifest {
            width,
            height,
            window,
            ..
        } = self.manifest;
        let shape = [1, window, height as usize, width as usize, CHANNELS];
        let failed = |error: reelsight_ort::OrtError| ShotError::Failed {
            why: error.to_string(),
        };
        let frames = Tensor::from_f32(&shape, self.window.clone()).map_err(failed)?;
        let stop = || self.cancel.is_cancelled();
        let mut outputs = self
            .session
            .run(vec![("frames".into(), frames)], &stop)
            .map_err(failed)?;
        let cut = outputs.take("cut").map_err(failed)?;
        Ok(cut.to_f32().map_err(failed)?.into_owned())
    }
}

impl ShotDetector for TransNetV2 {
    fn name(&self) -> &str {
        &self.manifest.name
    }

    fn size(&self) -> (u32, u32) {
        (self.manifest.width, self.manifest.height)
    }

    fn push(&mut self, rgb: &[u8]) -> Result<(), ShotError> {
        let expected = self.picture_len();
        if rgb.len() != expected {
            return Err(ShotError::WrongSize {
                expected,
                actual: rgb.len(),
            });
        }
        let picture: Vec<f32> = rgb.iter().map(|&byte| f32::from(byte)).collect();
        let copies = if self.count == 0 {
            self.manifest.margin + 1
        } else {
            1
        };
        for _ in 0..copies {
            self.add(&picture)?;
        }
        self.last = picture;
        self.count += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>, threshold: f64) -> Result<Vec<Transition>, ShotError> {
        let last = std::mem::take(&mut self.last);
        while self.likely.len() < self.count {
            self.add(&last)?;
        }
        Ok(transitions(&self.likely[..self.count], threshold))
    }
}

/// Runs of likely pictures. A shot ends where a run begins, the next begins after the run.
fn transitions(likely: &[f32], threshold: f64) -> Vec<Transition> {
    let mut out = Vec::new();
    let mut at = 0;
    let is_likely = |at: usize| likely.get(at).is_some_and(|&value| f64::from(value) >= threshold);
    while at < likely.len() {
        let run = (at..likely.len()).take_while(|&at| is_likely(at)).count();
        let best = (at..at + run).max_by(|&a, &b| likely[a].total_cmp(&likely[b]));
        if let Some(best) = best {
            let (from, to) = if run <= CUT_RUN {
                (best, best + 1)
            } else {
                (at, at + run)
            };
            if to < likely.len() {
                let score = f64::from(likely[best]);
                out.push(Transition { from, to, score });
            }
        }
        at += run.max(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_transitions() {
        let likely = [0.0, 0.9, 0.1, 0.6, 0.8, 0.0, 0.7, 0.9, 0.6, 0.0, 0.9];
        let found: Vec<_> = transitions(&likely, 0.5)
            .iter()
            .map(|transition| (transition.from, transition.to))
            .collect();
        assert_eq!(
            found,
            [(1, 2), (4, 5), (6, 9)],
            "and nothing begins after the last picture"
        );
        assert!(transitions(&[], 0.5).is_empty());
    }
}
