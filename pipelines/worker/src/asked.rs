//! Bytes that the worker asks its parent for, so that a source behind the network needs no network in the worker.
//!
//! On a socket of their own: 12 bytes ask (offset, length), 4 bytes answer (length, or [`FAILED`]) and the bytes follow.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
    thread::JoinHandle,
};

use parking_lot::Mutex;
use reelsight_media::{ByteSource, CancelFlag};

/// Longest answer.
const MAX_READ: usize = 1 << 20;
/// Answers that reading failed; the parent knows why.
const FAILED: u32 = u32::MAX;

/// The worker's side.
#[derive(Debug)]
pub(crate) struct AskedBytes {
    socket: Mutex<UnixStream>,
    len: Option<u64>,
    remote: bool,
}

impl AskedBytes {
    /// A source of `len` bytes that are asked for on `socket`.
    pub(crate) fn new(socket: OwnedFd, len: Option<u64>, remote: bool) -> Self {
        Self {
            socket: Mutex::new(UnixStream::from(socket)),
            len,
            remote,
        }
    }
}

impl ByteSource for AskedBytes {
    fn read_at(&self, offset: u64, buffer: &mut [u8], _cancel: &CancelFlag) -> io::Result<usize> {
        let wanted = buffer.len().min(MAX_READ);
        let mut question = [0; 12];
        question[..8].copy_from_slice(&offset.to_le_bytes());
        question[8..].copy_from_slice(&u32::try_from(wanted).unwrap_or(0).to_le_bytes());
        let mut socket = self.socket.lock();
        socket.write_all(&question)?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer)?;
        let count = u32::from_le_bytes(answer);
        if count == FAILED {
            return Err(io::Error::other("the source cannot be read"));
        }
        let place = buffer.get_mut(..count as usize);
        let place = place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        socket.read_exact(place)?;
        Ok(place.len())
    }

    fn len(&self) -> io::Result<Option<u64>> {
        Ok(self.len)
    }

    fn is_remote(&self) -> bool {
        self.remote
    }
}

/// The parent's side: a thread that answers until the worker is done or `stop` is raised.
#[derive(Debug)]
pub(crate) struct Answering {
    socket: UnixStream,
    failure: Arc<Mutex<Option<io::Error>>>,
    stop: CancelFlag,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Answers for `source`; the descriptor is for the worker.
    pub(crate) fn start(source: Arc<dyn ByteSource>, stop: CancelFlag) -> io::Result<(Self, OwnedFd)> {
        let (here, there) = UnixStream::pair()?;
        let failure = Arc::new(Mutex::new(None));
        let thread = std::thread::Builder::new()
            .name("decode-bytes".to_owned())
            .spawn({
                let (socket, failure, stop) = (here.try_clone()?, Arc::clone(&failure), stop.clone());
                move || answer(socket, &*source, &failure, &stop)
            })?;
        let answering = Self {
            socket: here,
            failure,
            stop,
            thread: Some(thread),
        };
        Ok((answering, there.into()))
    }

    /// Why the source could not be read, when it could not.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.cancel();
        // The worker may have closed its end already.
        self.socket.shutdown(Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Ends with the socket.
fn answer(
    mut socket: UnixStream,
    source: &dyn ByteSource,
    failure: &Mutex<Option<io::Error>>,
    stop: &CancelFlag,
) {
    let (mut question, mut answer) = ([0; 12], vec![0; 4]);
    while socket.read_exact(&mut question).is_ok() {
        let (offset, wanted) = question.split_at(8);
        let offset = u64::from_le_bytes(offset.try_into().unwrap_or_default());
        let wanted = u32::from_le_bytes(wanted.try_into().unwrap_or_default()) as usize;
        answer.resize(4 + wanted.min(MAX_READ), 0);
        let read = loop {
            match source.read_at(offset, &mut answer[4..], stop) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = match read {
            Ok(count) => u32::try_from(count).unwrap_or(FAILED),
            Err(error) => {
                failure.lock().get_or_insert(error);
                FAILED
            }
        };
        answer[..4].copy_from_slice(&count.to_le_bytes());
        answer.truncate(if count == FAILED { 4 } else { 4 + count as usize });
        if socket.write_all(&answer).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[derive(Debug)]
    struct Broken;

    impl ByteSource for Broken {
        fn read_at(&self, _: u64, _: &mut [u8], _: &CancelFlag) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "gone"))
        }
        fn len(&self) -> io::Result<Option<u64>> {
            Ok(None)
        }
    }

    #[test]
    fn bytes_come_from_the_other_side() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        file.write_all(&bytes).unwrap();
        let source: Arc<File> = Arc::new(file);
        let (answering, socket) = Answering::start(source, CancelFlag::new()).unwrap();
        let asked = AskedBytes::new(socket, Some(bytes.len() as u64), false);
        let (cancel, mut buffer) = (CancelFlag::new(), vec![0; 5_000_000]);
        let mut at = 0;
        loop {
            let end = buffer.len();
            match asked.read_at(at as u64, &mut buffer[at..end], &cancel).unwrap() {
                0 => break,
                count => at += count,
            }
        }
        assert_eq!(at, bytes.len());
        assert!(buffer[..at] == bytes[..]);
        assert!(answering.take_failure().is_none());
    }

    #[test]
    fn a_failure_is_told_and_its_reason_kept() {
        let (answering, socket) = Answering::start(Arc::new(Broken), CancelFlag::new()).unwrap();
        let asked = AskedBytes::new(socket, None, true);
        assert!(asked.read_at(0, &mut [0; 9], &CancelFlag::new()).is_err());
        let failure = answering.take_failure().unwrap();
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionReset);
        drop(answering);
        assert!(
            asked.read_at(0, &mut [0; 9], &CancelFlag::new()).is_err(),
            "nobody answers any more"
        );
    }
}
