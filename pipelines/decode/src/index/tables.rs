//! Whether an MP4 file's tables say everything about its packets, so that a remote one need not be read whole.

use std::io;

use reelsight_media::{ByteSource, CancelFlag};

/// Boxes at one level that are looked at; files with more are read whole.
const MAX_BOXES: usize = 256;

/// Whether the top level holds one `moov` without `mvex` and no fragments: then all samples are in its tables.
///
/// # Source
/// ISO/IEC 14496-12, 4.2 (boxes) and 8.8 (fragments).
pub(super) fn are_complete(bytes: &dyn ByteSource, cancel: &CancelFlag) -> io::Result<bool> {
    let Some(len) = bytes.len()? else { return Ok(false) };
    let Some(top) = boxes(bytes, 0, len, cancel)? else {
        return Ok(false);
    };
    let of = |kind: [u8; 4]| top.iter().filter(move |found| found.kind == kind);
    if of(*b"moof")
        .chain(of(*b"sidx"))
        .chain(of(*b"styp"))
        .next()
        .is_some()
    {
        return Ok(false);
    }
    let mut movies = of(*b"moov");
    let (Some(movie), None) = (movies.next(), movies.next()) else {
        return Ok(false);
    };
    let inner = boxes(bytes, movie.body, movie.end, cancel)?;
    Ok(inner.is_some_and(|inner| {
        inner
            .iter()
            .all(|found| found.kind != *b"mvex" && found.kind != *b"cmov")
    }))
}

struct Found {
    kind: [u8; 4],
    body: u64,
    end: u64,
}

/// The boxes from `at` to `end`; `None` when they do not add up.
fn boxes(
    bytes: &dyn ByteSource,
    mut at: u64,
    end: u64,
    cancel: &CancelFlag,
) -> io::Result<Option<Vec<Found>>> {
    let mut found = Vec::new();
    while at < end {
        let mut head = [0; 16];
        let got = read(bytes, at, &mut head, cancel)?;
        let Some((size, body)) = header(&head[..got], end - at) else {
            return Ok(None);
        };
        let next = at.checked_add(size).filter(|&next| next <= end);
        let (Some(next), true) = (next, found.len() < MAX_BOXES) else {
            return Ok(None);
        };
        let kind = [head[4], head[5], head[6], head[7]];
        found.push(Found {
            kind,
            body: at + body,
            end: next,
        });
        at = next;
    }
    Ok(Some(found))
}

/// A box's size, and where its body begins.
fn header(head: &[u8], rest: u64) -> Option<(u64, u64)> {
    let short = u32::from_be_bytes(head.get(..4)?.try_into().ok()?);
    match short {
        0 => Some((rest, 8)),
        1 => Some((u64::from_be_bytes(head.get(8..16)?.try_into().ok()?), 16)),
        _ => Some((u64::from(short), 8)),
    }
    .filter(|(size, body)| size >= body && head.len() >= 8)
}

fn read(bytes: &dyn ByteSource, at: u64, buffer: &mut [u8], cancel: &CancelFlag) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match bytes.read_at(at + filled as u64, &mut buffer[filled..], cancel) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;

    fn atom(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 8).unwrap();
        [&size.to_be_bytes()[..], &kind, body].concat()
    }

    fn complete(bytes: &[u8]) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        are_complete(&file as &File, &CancelFlag::new()).unwrap()
    }

    #[test]
    fn fragments_and_oddities_are_not_trusted() {
        let (ftyp, mdat) = (atom(*b"ftyp", b"isom"), atom(*b"mdat", &[7; 100]));
        let moov = atom(
            *b"moov",
            &[atom(*b"mvhd", &[0; 9]), atom(*b"trak", &[1; 30])].concat(),
        );
        let extended = atom(*b"moov", &[atom(*b"mvhd", &[0; 9]), atom(*b"mvex", &[])].concat());
        let join = |parts: &[&[u8]]| parts.concat();
        assert!(complete(&join(&[&ftyp, &mdat, &moov])));
        assert!(complete(&join(&[&ftyp, &moov, &mdat])));
        let mut open_ended = mdat.clone();
        open_ended[..4].fill(0);
        assert!(
            complete(&join(&[&ftyp, &moov, &open_ended])),
            "the last box may reach to the end"
        );
        let large = [&[0, 0, 0, 1][..], b"mdat", &26_u64.to_be_bytes(), &[3; 10]].concat();
        assert!(complete(&join(&[&moov, &large])));
        for wrong in [
            join(&[&ftyp, &mdat]),
            join(&[&ftyp, &moov, &mdat, &moov]),
            join(&[&ftyp, &extended, &mdat]),
            join(&[&ftyp, &moov, &atom(*b"moof", &[0; 8]), &mdat]),
            join(&[&ftyp, &moov, &mdat[..50]]),
            join(&[&ftyp, &moov, &[0, 0, 0, 4], b"free"]),
            join(&[&ftyp, &moov, &[0, 0]]),
            b"RIFF....AVI LIST".to_vec(),
            Vec::new(),
        ] {
            assert!(!complete(&wrong), "{wrong:?}");
        }
    }
}
