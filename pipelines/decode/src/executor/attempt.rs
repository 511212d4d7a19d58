//! One walk through an interval.

use std::collections::BTreeMap;

use ffmpeg_next::frame;
use reelsight_media::{ByteSender, MediaTime, Pts};

use super::{
    Item, Message, Shared,
    worker::{Stop, Tools, send},
};
use crate::{
    classify::Entry,
    convert::{Convert, Label},
    decoder::Received,
    error::DecodeError,
    plan::Interval,
    stats::thread_cpu,
};

/// Pictures that may come out too early before an earlier one counts as missing.
const REORDER_SLACK: usize = 4;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every wanted frame was delivered, or none better exists.
    Complete,
    /// A wanted frame did not come out.
    Missing,
}

/// State of one walk.
pub(super) struct Attempt<'a, C: Convert> {
    shared: &'a Shared<C::Out>,
    interval: &'a Interval,
    /// Wanted frames that were handed out, in this walk or one before.
    delivered: &'a mut usize,
    /// A missing frame is replaced by the best there is.
    substitute: bool,
    /// Packet to position among the wanted frames, sorted.
    places: Vec<(u32, usize)>,
    /// Pictures that came before their turn.
    early: BTreeMap<usize, C::Out>,
    /// Latest picture that is shown no later than the next wanted one.
    best: Option<frame::Video>,
    /// Packets from the first to before the second may build on damaged ones.
    tainted: Option<(u32, u32)>,
    /// Damaged packets that nothing builds on.
    broken: Vec<u32>,
}

impl<'a, C: Convert> Attempt<'a, C> {
    pub(super) fn new(
        shared: &'a Shared<C::Out>,
        interval: &'a Interval,
        delivered: &'a mut usize,
        substitute: bool,
    ) -> Self {
        let mut places: Vec<_> = interval
            .wanted
            .iter()
            .zip(0..)
            .map(|(wanted, at)| (wanted.packet, at))
            .collect();
        places.sort_unstable();
        Self {
            shared,
            interval,
            delivered,
            substitute,
            places,
            early: BTreeMap::new(),
            best: None,
            tainted: None,
            broken: Vec::new(),
        }
    }

    /// Decodes the interval and hands its wanted frames out in order.
    pub(super) fn run(
        mut self,
        tools: &mut Tools<C>,
        sender: &ByteSender<Message<C::Out>>,
    ) -> Result<Outcome, Stop> {
        tools.decoder.flush();
        let begun = thread_cpu();
        tools.cursor.go_to(self.interval.start)?;
        tools.stats.demux += thread_cpu().saturating_sub(begun);
        while *self.delivered < self.interval.wanted.len() {
            if self.shared.is_stopped() {
                return Err(self.stopped());
            }
            let begun = thread_cpu();
            let next = tools.cursor.next()?;
            tools.stats.demux += thread_cpu().saturating_sub(begun);
            let Some((ordinal, mut packet)) = next else { break };
            if ordinal >= self.interval.end() {
                tools.cursor.hold(ordinal, packet);
                break;
            }
            let place = ordinal
                .checked_sub(self.interval.start)
                .map(|place| place as usize);
            if !place.is_some_and(|place| self.interval.keep[place]) {
                continue;
            }
            tools.stats.packets_decoded += 1;
            let begun = thread_cpu();
            let damaged = packet.is_corrupt();
            let accepted = tools.decoder.send(&mut packet, ordinal)?;
            self.judge(ordinal, damaged || !accepted);
            let outcome = self.drain(tools, sender);
            tools.stats.decode += thread_cpu().saturating_sub(begun);
            if outcome? == Outcome::Missing {
                return Ok(Outcome::Missing);
            }
        }
        let begun = thread_cpu();
        tools.decoder.finish();
        let outcome = self.drain(tools, sender).and_then(|_| self.end(tools, sender));
        tools.stats.decode += thread_cpu().saturating_sub(begun);
        outcome
    }

    fn stopped(&self) -> Stop {
        if self.shared.cancel.is_cancelled() {
            Stop::Failed(DecodeError::Cancelled)
        } else {
            Stop::Gone
        }
    }

    /// Remembers whether what is decoded from `ordinal` on can be trusted.
    fn judge(&mut self, ordinal: u32, damaged: bool) {
        let class = self.shared.index.packets[ordinal as usize].class;
        match &mut self.tainted {
            Some((from, to)) if class.entry == Entry::Clean && *to == u32::MAX && *from < ordinal => {
                *to = ordinal;
            }
            _ => {}
        }
        if damaged && class.disposable {
            self.broken.push(ordinal);
        } else if damaged {
            self.tainted = Some((ordinal, u32::MAX));
        }
    }

    /// Takes every picture that the decoder has ready.
    fn drain(&mut self, tools: &mut Tools<C>, sender: &ByteSender<Message<C::Out>>) -> Result<Outcome, Stop> {
        let mut picture = frame::Video::empty();
        loop {
            match tools.decoder.receive(&mut picture)? {
                Received::Nothing => return Ok(Outcome::Complete),
                Received::Damaged => {}
                Received::Picture(ordinal) => {
                    tools.stats.frames_decoded += 1;
                    if self.take(ordinal, &picture, tools, sender)? == Outcome::Missing {
                        return Ok(Outcome::Missing);
                    }
                }
            }
        }
    }

    /// Delivers a picture when it is wanted.
    fn take(
        &mut self,
        ordinal: u32,
        picture: &frame::Video,
        tools: &mut Tools<C>,
        sender: &ByteSender<Message<C::Out>>,
    ) -> Result<Outcome, Stop> {
        crate::demux::check_size(picture.width(), picture.height(), &self.shared.limits)?;
        let place = self.places.binary_search_by_key(&ordinal, |(packet, _)| *packet);
        let place = place
            .ok()
            .map(|at| self.places[at].1)
            .filter(|place| place >= self.delivered);
        if let Some(place) = place {
            let tainted = self
                .tainted
                .is_some_and(|(from, to)| (from..to).contains(&ordinal));
            let damaged = tainted || self.broken.contains(&ordinal) || tools.decoder.is_damaged(picture);
            let out = self.convert(place, picture, damaged, tools)?;
            self.early.insert(place, out);
            self.deliver_ready(sender)?;
        }
        if self.early.len() > REORDER_SLACK {
            if !self.substitute {
                return Ok(Outcome::Missing);
            }
            self.fill(Some(picture), tools, sender)?;
        }
        if self.substitute && self.is_shown_before_next(ordinal) {
            self.best = Some(reference(picture));
        }
        Ok(Outcome::Complete)
    }

    fn is_shown_before_next(&self, ordinal: u32) -> bool {
        let packets = &self.shared.index.packets;
        let next = self.interval.wanted.get(*self.delivered);
        next.is_some_and(|next| packets[ordinal as usize].pts <= packets[next.packet as usize].pts)
    }

    fn deliver_ready(&mut self, sender: &ByteSender<Message<C::Out>>) -> Result<(), Stop> {
        while let Some(out) = self.early.remove(self.delivered) {
            send(sender, Item::Frame(out))?;
            *self.delivered += 1;
        }
        Ok(())
    }

    /// Puts the best picture there is in the place of every missing one before the next early one.
    fn fill(
        &mut self,
        later: Option<&frame::Video>,
        tools: &mut Tools<C>,
        sender: &ByteSender<Message<C::Out>>,
    ) -> Result<(), Stop> {
        let until = self
            .early
            .keys()
            .next()
            .copied()
            .unwrap_or(self.interval.wanted.len());
        let best = self.best.take();
        if let Some(picture) = best.as_ref().or(later) {
            for place in *self.delivered..until {
                let out = self.convert(place, picture, true, tools)?;
                self.early.insert(place, out);
            }
        }
        self.best = best;
        self.deliver_ready(sender)
    }

    /// Nothing more comes out: settles what is still missing.
    fn end(&mut self, tools: &mut Tools<C>, sender: &ByteSender<Message<C::Out>>) -> Result<Outcome, Stop> {
        while *self.delivered < self.interval.wanted.len() {
            if !self.substitute {
                return Ok(Outcome::Missing);
            }
            let ends_the_file = self.interval.end() as usize >= self.shared.index.packets.len();
            let at_the_tail = self.early.is_empty() && ends_the_file;
            if at_the_tail || (self.best.is_none() && self.early.is_empty()) {
                // The video ends before these frames: there is nothing to show instead.
                return Ok(Outcome::Complete);
            }
            if self.best.is_none() {
                *self.delivered = self.early.keys().next().copied().unwrap_or(*self.delivered);
                self.deliver_ready(sender)?;
                continue;
            }
            self.fill(None, tools, sender)?;
        }
        Ok(Outcome::Complete)
    }

    fn convert(
        &self,
        place: usize,
        picture: &frame::Video,
        damaged: bool,
        tools: &mut Tools<C>,
    ) -> Result<C::Out, DecodeError> {
        let index = self.interval.wanted[place].frame;
        let timeline = &self.shared.index.timeline;
        let time = usize::try_from(index).ok().and_then(|index| timeline.time(index));
        let time = time.unwrap_or(MediaTime {
            pts: Pts(timeline.end()),
            base: timeline.base(),
        });
        tools.stats.frames_damaged += u64::from(damaged);
        tools.converter.convert(picture, Label { index, time, damaged })
    }
}

/// Another handle to the same picture.
#[expect(unsafe_code, reason = "the safe layer can only copy pixels")]
fn reference(picture: &frame::Video) -> frame::Video {
    let mut out = frame::Video::empty();
    // SAFETY: `out` is an empty frame, which is what the call wants; on failure it stays empty, and an empty picture
    // is refused by every converter.
    unsafe { ffmpeg_next::ffi::av_frame_ref(out.as_mut_ptr(), picture.as_ptr()) };
    out
}
