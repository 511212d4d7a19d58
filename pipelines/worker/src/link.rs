//! Messages over a socket between the two sides: a length, the message, and now and then file descriptors.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

/// Bytes of one message; what is longer travels in parts of [`PART_BYTES`].
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes of one part of something long.
pub(crate) const PART_BYTES: usize = 256 << 10;
/// Descriptors that one message may carry.
const MAX_FDS: usize = 2;
/// Descriptors that may have come without their message.
const MAX_WAITING_FDS: usize = 4;

/// Decides whether waiting goes on.
pub(crate) trait Patience {
    /// Why to stop.
    type Stop: From<io::Error>;
    /// How often to ask.
    const EVERY: Option<Duration>;

    /// `Err` to stop; `waited` is the time since the last call.
    fn go_on(&mut self, waited: Duration) -> Result<(), Self::Stop>;
}

/// Waits as long as it takes.
pub(crate) struct Forever;

impl Patience for Forever {
    type Stop = io::Error;
    const EVERY: Option<Duration> = None;

    fn go_on(&mut self, _waited: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// The sending half.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<UnixStream>);

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: Arc<UnixStream>,
    buffer: Vec<u8>,
    /// Where the unread bytes of `buffer` begin.
    start: usize,
    fds: VecDeque<OwnedFd>,
}

/// Both halves over one end of a socket pair.
pub(crate) fn link(socket: UnixStream) -> io::Result<(Sender, Receiver)> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(socket);
    let receiver = Receiver {
        socket: Arc::clone(&socket),
        buffer: Vec::new(),
        start: 0,
        fds: VecDeque::new(),
    };
    Ok((Sender(socket), receiver))
}

impl Sender {
    /// Sends a message with `fds`.
    pub(crate) fn send<P: Patience>(
        &self,
        message: &impl Message,
        fds: &[BorrowedFd<'_>],
        patience: &mut P,
    ) -> Result<(), P::Stop> {
        let body = message.encoded_len();
        let mut bytes = Vec::with_capacity(4 + body);
        bytes.extend_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
        message.encode(&mut bytes).map_err(io::Error::other)?;
        let mut sent = 0;
        while sent < bytes.len() {
            // Descriptors travel with the first byte.
            let fds = if sent == 0 { fds } else { &[] };
            match send_some(&self.0, &bytes[sent..], fds) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN) => wait(&self.0, PollFlags::OUT, patience)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Ok(())
    }
}

fn send_some(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

fn wait<P: Patience>(socket: &UnixStream, what: PollFlags, patience: &mut P) -> Result<(), P::Stop> {
    let begun = Instant::now();
    let timeout = P::EVERY
        .map(Timespec::try_from)
        .transpose()
        .map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(socket, what)], timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => patience.go_on(begun.elapsed()),
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}

impl Receiver {
    /// The next message; `None` when the other side is gone.
    pub(crate) fn receive<M: Message + Default, P: Patience>(
        &mut self,
        patience: &mut P,
    ) -> Result<Option<M>, P::Stop> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.receive_some() {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(None),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(&self.socket, PollFlags::IN, patience)?,
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    /// The next descriptor that came with a message.
    pub(crate) fn take_fd(&mut self) -> io::Result<OwnedFd> {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing");
        self.fds.pop_front().ok_or_else(missing)
    }

    fn take<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let unread = &self.buffer[self.start..];
        let Some((length, rest)) = unread.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message is too long",
            ));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = M::decode(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.start += 4 + length;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(Some(message))
    }

    fn receive_some(&mut self) -> rustix::io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + (64 << 10), 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &*self.socket,
            &mut [IoSliceMut::new(&mut self.buffer[filled..])],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let count = received.as_ref().map_or(0, |message| message.bytes);
        self.buffer.truncate(filled + count);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                // Descriptors that nobody asked for are closed.
                let room = MAX_WAITING_FDS.saturating_sub(self.fds.len());
                self.fds.extend(fds.take(room));
            }
        }
        received.map(|message| message.bytes)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, Write as _},
        thread,
    };

    use super::*;

    #[test]
    fn messages_longer_than_the_socket_holds_come_whole_and_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let ((sender, _), (_, mut receiver)) = (link(here).unwrap(), link(there).unwrap());
        let sending = thread::spawn(move || {
            for number in 0..40_u8 {
                sender.send(&vec![number; PART_BYTES], &[], &mut Forever).unwrap();
            }
        });
        for number in 0..40_u8 {
            let message: Vec<u8> = receiver.receive(&mut Forever).unwrap().unwrap();
            assert_eq!(message, vec![number; PART_BYTES]);
        }
        sending.join().unwrap();
        assert!(
            receiver.receive::<Vec<u8>, _>(&mut Forever).unwrap().is_none(),
            "the end is told"
        );
    }

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let ((sender, _), (_, mut receiver)) = (link(here).unwrap(), link(there).unwrap());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"bytes").unwrap();
        sender.send(&vec![1_u8], &[file.as_fd()], &mut Forever).unwrap();
        assert!(receiver.take_fd().is_err(), "not before its message");
        assert_eq!(
            receiver.receive::<Vec<u8>, _>(&mut Forever).unwrap(),
            Some(vec![1])
        );
        let mut same = File::from(receiver.take_fd().unwrap());
        let mut text = String::new();
        same.rewind().unwrap();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bytes");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let (_, mut receiver) = link(there).unwrap();
        here.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receiver.receive::<Vec<u8>, _>(&mut Forever).is_err());
    }
}
