//! A session as a file.
//!
//! ```text
//! "RSKV\0\0\0\1"  u64 length of the header  header (JSON)  payload
//! ```
//! The header names the entry, the model and its cache layout, tells the conversation and the ledger, and has the sha256
//! of the payload: each cache tensor in the graph's order, `[outer, tokens, inner]`, as it lies in memory.

use std::io::{self, Read, Write};

use reelsight_families::{Turn, VideoShown};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    evidence::ShownFrame,
    kv::{Pages, Plane, ledger::Entry, ledger::Kind, ledger::Ledger, pages::Segment, token_bytes},
    session::KvSnapshot,
};

/// The last byte is the version.
const MAGIC: [u8; 8] = *b"RSKV\0\0\0\x01";
/// Longest header that is read.
const MAX_HEADER: u64 = 256 << 20;

/// Whose KV it is: other weights, another precision or another layout cannot use it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    pub(super) model: String,
    pub(super) planes: Vec<Plane>,
}

impl Owner {
    fn json(&self) -> Value {
        let plane = |plane: &Plane| json!([plane.outer, plane.inner, plane.element.size()]);
        json!({ "model": self.model, "planes": self.planes.iter().map(plane).collect::<Vec<_>>() })
    }
}

/// The header of a file.
#[derive(Debug)]
pub(super) struct Header(Value);

impl Header {
    /// Under which name the entry is kept.
    pub(super) fn name(&self) -> Option<&str> {
        self.0["name"].as_str()
    }

    /// Whether `owner` can use it.
    pub(super) fn is_of(&self, owner: &Owner) -> bool {
        self.0["owner"] == owner.json()
    }
}

/// Writes `session` as `name`.
pub(super) fn write(out: &mut impl Write, name: &str, owner: &Owner, session: &KvSnapshot) -> io::Result<()> {
    let planes = payload(owner, &session.pages);
    let mut hasher = Sha256::new();
    for plane in &planes {
        hasher.update(plane);
    }
    let header = json!({
        "name": name,
        "owner": owner.json(),
        "tokens": session.pages.len(),
        "sha256": hex::encode(hasher.finalize()),
        "video": session.video.as_ref().map(|video| json!({
            "stamps": video.stamps_secs, "duration": video.duration_secs, "size": video.size,
        })),
        "frames": session.frames.iter().map(|frame| json!([frame.index, frame.start_secs, frame.end_secs])).collect::<Vec<_>>(),
        "damaged": session.damaged,
        "turns": session.turns.iter().map(|turn| json!([turn.question, turn.answer])).collect::<Vec<_>>(),
        "ledger": session.ledger.entries().iter().map(entry).collect::<Vec<_>>(),
    });
    let header = serde_json::to_vec(&header)?;
    out.write_all(&MAGIC)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    planes.iter().try_for_each(|plane| out.write_all(plane))
}

/// The pieces of `pages` as one.
fn payload(owner: &Owner, pages: &Pages) -> Vec<Vec<u8>> {
    let len = pages.len();
    let planes = owner.planes.iter().enumerate().map(|(at, &plane)| {
        let mut data = vec![0; plane.token_bytes() * len];
        for (outer, token, bytes) in pages.runs(at, plane, 0..len) {
            let to = (outer * len + token) * plane.stride();
            data[to..to + bytes.len()].copy_from_slice(bytes);
        }
        data
    });
    planes.collect()
}

fn entry(entry: &Entry) -> Value {
    let kind: i64 = match entry.kind {
        Kind::Visual(frame) => i64::from(frame),
        Kind::Sink => -1,
        Kind::System => -2,
        Kind::Timestamp => -3,
        Kind::Text => -4,
        Kind::Generated => -5,
    };
    let [time, row, column] = entry.position;
    json!([entry.id, kind, time, row, column])
}

/// Reads up to the payload.
pub(super) fn read_header(file: &mut impl Read) -> io::Result<Header> {
    let mut start = [0; 16];
    file.read_exact(&mut start)?;
    let (magic, length) = start.split_at(8);
    let length = u64::from_le_bytes(length.try_into().map_err(|_never| damaged("its start"))?);
    if magic != MAGIC || length > MAX_HEADER {
        return Err(damaged("its start, or its version"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    Ok(Header(serde_json::from_slice(&header)?))
}

/// Reads the payload after `header`, as the session of the loaded model `id`.
pub(super) fn read(file: &mut impl Read, header: &Header, owner: &Owner, id: u64) -> io::Result<KvSnapshot> {
    let Header(header) = header;
    let tokens = number(&header["tokens"])?;
    let mut hasher = Sha256::new();
    let mut planes = Vec::with_capacity(owner.planes.len());
    for plane in &owner.planes {
        let mut data = vec![0; plane.token_bytes() * tokens];
        file.read_exact(&mut data)?;
        hasher.update(&data);
        planes.push(data.into_boxed_slice());
    }
    if header["sha256"].as_str() != Some(&hex::encode(hasher.finalize())) {
        return Err(damaged("its payload"));
    }
    let mut pages = Pages::default();
    pages.push(Segment::new(tokens, planes), tokens);
    let ledger = list(&header["ledger"])?
        .iter()
        .map(read_entry)
        .collect::<io::Result<Vec<_>>>()?;
    if ledger.len() != tokens {
        return Err(damaged("its ledger"));
    }
    Ok(KvSnapshot {
        model: id,
        video: video(&header["video"])?,
        frames: list(&header["frames"])?
            .iter()
            .map(frame)
            .collect::<io::Result<_>>()?,
        damaged: number(&header["damaged"])?,
        turns: list(&header["turns"])?
            .iter()
            .map(turn)
            .collect::<io::Result<_>>()?,
        ledger: Ledger::from_entries(ledger),
        pages,
        token_bytes: token_bytes(&owner.planes),
    })
}

fn read_entry(value: &Value) -> io::Result<Entry> {
    let part = |at: usize| value[at].as_i64().ok_or_else(|| damaged("its ledger"));
    let small = |at: usize| u32::try_from(part(at)?).map_err(|_large| damaged("its ledger"));
    let kind = match part(1)? {
        -1 => Kind::Sink,
        -2 => Kind::System,
        -3 => Kind::Timestamp,
        -4 => Kind::Text,
        -5 => Kind::Generated,
        _ => Kind::Visual(small(1)?),
    };
    Ok(Entry {
        id: small(0)?,
        kind,
        position: [small(2)?, small(3)?, small(4)?],
    })
}

fn video(value: &Value) -> io::Result<Option<VideoShown>> {
    if value.is_null() {
        return Ok(None);
    }
    let stamps = list(&value["stamps"])?.iter().map(float);
    let side = |at: usize| {
        value["size"][at]
            .as_u64()
            .and_then(|side| u32::try_from(side).ok())
    };
    Ok(Some(VideoShown {
        stamps_secs: stamps.collect::<io::Result<_>>()?,
        duration_secs: float(&value["duration"])?,
        size: side(0).zip(side(1)),
    }))
}

fn frame(value: &Value) -> io::Result<ShownFrame> {
    Ok(ShownFrame {
        index: value[0].as_u64().ok_or_else(|| damaged("a frame"))?,
        start_secs: float(&value[1])?,
        end_secs: float(&value[2])?,
    })
}

fn turn(value: &Value) -> io::Result<Turn> {
    let question = value[0].as_str().ok_or_else(|| damaged("a turn"))?;
    Ok(Turn {
        question: question.to_owned(),
        answer: value[1].as_str().map(str::to_owned),
    })
}

fn list(value: &Value) -> io::Result<&Vec<Value>> {
    value.as_array().ok_or_else(|| damaged("its header"))
}

fn float(value: &Value) -> io::Result<f64> {
    value.as_f64().ok_or_else(|| damaged("a number"))
}

fn number(value: &Value) -> io::Result<usize> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| damaged("a number"))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is damaged"))
}

/// Whether what was read is what was written.
#[cfg(test)]
pub(super) fn same(one: &KvSnapshot, other: &KvSnapshot, owner: &Owner) -> bool {
    payload(owner, &one.pages) == payload(owner, &other.pages)
        && one.ledger == other.ledger
        && one.turns == other.turns
        && one.frames == other.frames
        && one.video == other.video
        && one.damaged == other.damaged
}
