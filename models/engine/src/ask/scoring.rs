//! What an answer rests on, by its likelihood while other frames are hidden: one pass of the decoder at a time.

use std::ops::Range;

use reelsight_families::Prompt;

use crate::{
    EngineError, EvidenceSpan,
    evidence::{EvidenceMethod, Likelihood, ShownFrame, group_size, likeliest},
    graphs::Tokens,
    kv::{Append, Pages, Rows},
    sampling::log_probability,
};

/// The question and the answer, run again and again after the video's part of the cache.
#[derive(Debug)]
pub(crate) struct Scoring {
    method: Likelihood,
    /// Frames per group.
    size: usize,
    video_tokens: usize,
    /// Question and answer, without the answer's last token: it predicts nothing that is scored.
    tokens: Tokens,
    positions: Vec<[u32; 3]>,
    /// The answer without its end-of-turn token.
    answer: Vec<u32>,
    /// The video's KV at rest, for graphs whose masks cannot hide.
    video: Option<Pages>,
}

impl Scoring {
    /// `embed` turns ids into the decoder's input. `video` is given where hiding means leaving out.
    pub(crate) fn new(
        prompt: &Prompt,
        frames: usize,
        per_slot: usize,
        answer: &[u32],
        video: Option<Pages>,
        embed: impl FnOnce(&[u32]) -> Result<Tokens, EngineError>,
    ) -> Result<Self, EngineError> {
        let size = group_size(frames, per_slot);
        let video_tokens = prompt.video_tokens();
        let mut tail = prompt.ids[video_tokens..].to_vec();
        tail.extend(&answer[..answer.len() - 1]);
        let positions = (video_tokens..video_tokens + tail.len()).map(|at| prompt.positions.at(at));
        Ok(Self {
            method: Likelihood::new(frames.div_ceil(size)),
            size,
            video_tokens,
            positions: positions.collect(),
            tokens: embed(&tail)?,
            answer: answer.to_vec(),
            video,
        })
    }

    /// One pass in the cache of `sequence`, of which only the video's part is kept. `false` when the scores are there.
    pub(super) fn step(
        &mut self,
        sequence: u64,
        prompt: &Prompt,
        rows: &mut Rows,
    ) -> Result<bool, reelsight_ort::OrtError> {
        let Some(groups) = self.method.next() else {
            return Ok(false);
        };
        let likelihood = self.likelihood(sequence, prompt, rows, |frame| groups[frame / self.size])?;
        self.method.observe(likelihood);
        Ok(self.method.next().is_some())
    }

    /// Logarithm of the answer's probability when only the frames that satisfy `shown` can be seen.
    pub(crate) fn likelihood(
        &self,
        sequence: u64,
        prompt: &Prompt,
        rows: &mut Rows,
        shown: impl Fn(usize) -> bool,
    ) -> Result<f64, reelsight_ort::OrtError> {
        let mut mask = vec![true; self.video_tokens];
        // A slot without pictures is a marker of the whole video.
        for slot in prompt.frames.iter().filter(|slot| !slot.pictures.is_empty()) {
            mask[slot.block.clone()].fill(shown(slot.pictures.start));
        }
        let new = Append {
            tokens: self.tokens.clone(),
            positions: &self.positions,
            shown: None,
            keep: self.answer.len(),
            states: false,
        };
        let logits = match &self.video {
            Some(pages) => {
                rows.load_parts(sequence, pages, &shown_parts(&mask))?;
                rows.append(sequence, new)?
            }
            None => rows.probe(
                sequence,
                self.video_tokens,
                Append {
                    shown: Some(&mask),
                    ..new
                },
            )?,
        };
        let answer = self.answer.iter().enumerate();
        Ok(answer.map(|(at, &id)| log_probability(logits.row(at), id)).sum())
    }

    /// Time ranges that carry the answer, best first.
    pub(super) fn spans(&self, frames: &[ShownFrame]) -> Vec<EvidenceSpan> {
        likeliest(frames, &self.method.scores(), self.size)
    }
}

/// Runs of `true`.
fn shown_parts(mask: &[bool]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for at in (0..mask.len()).filter(|&at| mask[at]) {
        match parts.last_mut() {
            Some(part) if part.end == at => part.end += 1,
            _ => parts.push(at..at + 1),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #[test]
    fn parts_are_the_runs_that_are_shown() {
        let parts = |mask: &str| super::shown_parts(&mask.chars().map(|bit| bit == '1').collect::<Vec<_>>());
        assert_eq!(parts("1101001"), [0..2, 3..4, 6..7]);
        assert!(parts("000").is_empty());
    }
}
