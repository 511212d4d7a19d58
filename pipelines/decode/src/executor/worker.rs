//! One worker: a cursor, a decoder and a converter, used for one interval after another.

use std::{sync::Arc, time::Duration};

use reelsight_media::{ByteSender, Weighted};

use super::{
    Item, Message, Shared,
    attempt::{Attempt, Outcome},
};
use crate::{
    convert::Convert,
    cursor::Cursor,
    decoder::Decoder,
    error::DecodeError,
    hardware::Gpu,
    input::Input,
    plan::DecodePlan,
    stats::{self, DecodeStats},
};

/// Why an interval is left early.
pub(super) enum Stop {
    /// Nobody wants the rest.
    Gone,
    /// It cannot be decoded.
    Failed(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Failed(error)
    }
}

/// A worker's tools.
pub(super) struct Tools<C> {
    pub(super) cursor: Cursor,
    pub(super) decoder: Decoder,
    pub(super) converter: C,
    pub(super) stats: DecodeStats,
}

/// Decodes intervals until there are none left.
pub(super) fn work<C: Convert>(shared: &Arc<Shared<C::Out>>, input: Input, converter: C) {
    let mut tools = None;
    let mut source = Some((input, converter));
    while let Some(_turn) = shared.turn() {
        let Some((number, sender)) = shared.take() else {
            return;
        };
        let outcome = match (&mut tools, source.take()) {
            (Some(tools), _) => run(shared, tools, number, &sender),
            (empty, Some((input, converter))) => match open(shared, input, converter) {
                Ok(opened) => run(shared, empty.insert(opened), number, &sender),
                Err(error) => Err(Stop::Failed(error)),
            },
            (None, None) => return,
        };
        match outcome {
            Ok(()) => {}
            Err(Stop::Gone) => return,
            Err(Stop::Failed(error)) => {
                // The consumer may be gone, too: then nobody needs to know.
                sender.send(Err(error)).ok();
                return;
            }
        }
    }
}

fn open<C: Convert>(shared: &Shared<C::Out>, input: Input, converter: C) -> Result<Tools<C>, DecodeError> {
    let cursor = Cursor::open(input, Arc::clone(&shared.index), &shared.limits, &shared.cancel)?;
    let decoder = decoder(shared, &cursor, shared.gpu.as_ref())?;
    Ok(Tools {
        cursor,
        decoder,
        converter,
        stats: DecodeStats::default(),
    })
}

fn decoder<T: Weighted>(
    shared: &Shared<T>,
    cursor: &Cursor,
    gpu: Option<&Gpu>,
) -> Result<Decoder, DecodeError> {
    let threads = shared.inner_threads.max(1);
    let mut decoder = Decoder::open(cursor.demuxer(), threads, &shared.limits, gpu)?;
    decoder.show_unrecovered();
    Ok(decoder)
}

fn run<C: Convert>(
    shared: &Shared<C::Out>,
    tools: &mut Tools<C>,
    number: usize,
    sender: &ByteSender<Message<C::Out>>,
) -> Result<(), Stop> {
    let cpu = stats::thread_cpu();
    let interval = &shared.plan.intervals[number];
    let mut delivered = 0;
    let mut outcome = Attempt::new(shared, interval, &mut delivered, false).run(tools, sender);
    if matches!(outcome, Ok(Outcome::Missing)) {
        tools.stats.redone += 1;
        if tools.decoder.is_on_gpu() {
            tools.decoder = decoder(shared, &tools.cursor, None)?;
        }
        let whole = DecodePlan::retry(&shared.index.packets, interval);
        outcome = Attempt::new(shared, &whole, &mut delivered, true).run(tools, sender);
    }
    record(shared, tools, stats::thread_cpu().saturating_sub(cpu));
    outcome?;
    send(sender, Item::Done)
}

/// Adds what the tools did since the last time.
fn record<C: Convert>(shared: &Shared<C::Out>, tools: &mut Tools<C>, cpu: Duration) {
    let mut done = std::mem::take(&mut tools.stats);
    done.packets_seen = std::mem::take(&mut tools.cursor.packets);
    done.packets_dropped = done.packets_seen.saturating_sub(done.packets_decoded);
    done.seeks = std::mem::take(&mut tools.cursor.seeks);
    let time = tools.converter.take_time();
    (done.convert, done.resize, done.cpu) = (time.convert, time.resize, cpu);
    done.decode = done.decode.saturating_sub(time.convert + time.resize);
    shared.stats.lock().add(&done);
}

/// Gives an item to the consumer.
pub(super) fn send<T: Weighted>(sender: &ByteSender<Message<T>>, item: Item<T>) -> Result<(), Stop> {
    sender.send(Ok(item)).map_err(|_closed| Stop::Gone)
}
