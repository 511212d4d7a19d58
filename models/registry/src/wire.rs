//! The protobuf wire format, as a walk over fields that seeks past what nobody asked for.

use std::io::{Read, Seek};

/// The bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Position and length of a stream of protobuf fields.
pub(crate) struct Reader<R> {
    inner: R,
    at: u64,
    len: u64,
}

/// What a field's visitor gets: its number, the reader at its value and the value's end. A varint's visitor reads it
/// with [`Reader::varint`]; every visitor may leave the value unread.
pub(crate) type Visit<'v, R> = dyn FnMut(u64, &mut Reader<R>, u64) -> Result<(), WireError> + 'v;

impl<R: Read + Seek> Reader<std::io::BufReader<R>> {
    pub(crate) fn new(inner: std::io::BufReader<R>, len: u64) -> Self {
        Self { inner, at: 0, len }
    }

    /// Calls `visit` for each field up to `end`.
    pub(crate) fn fields(
        &mut self,
        end: u64,
        visit: &mut Visit<'_, std::io::BufReader<R>>,
    ) -> Result<(), WireError> {
        while self.at < end {
            let key = self.varint()?;
            let value_end = match key & 7 {
                // The end of a varint is only known once it is read; visitors that want it read it here.
                0 => self.at + self.varint_len()?,
                1 => self.at + 8,
                2 => {
                    let len = self.varint()?;
                    self.at
                        .checked_add(len)
                        .ok_or(WireError::Malformed("a length overflows"))?
                }
                5 => self.at + 4,
                _ => return Err(WireError::Malformed("it is not a protobuf message")),
            };
            if value_end > end || value_end > self.len {
                return Err(WireError::Malformed("it ends in the middle of a field"));
            }
            visit(key >> 3, self, value_end)?;
            self.skip(value_end)?;
        }
        Ok(())
    }

    /// Goes to `end`.
    pub(crate) fn skip(&mut self, end: u64) -> Result<(), WireError> {
        let distance = end
            .checked_sub(self.at)
            .ok_or(WireError::Malformed("a field overlaps the next"))?;
        let distance = i64::try_from(distance)
            .ok()
            .ok_or(WireError::Malformed("a length overflows"))?;
        self.inner.seek_relative(distance)?;
        self.at = end;
        Ok(())
    }

    /// The varint here.
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed("a number is too long"))
    }

    /// The text up to `end`.
    pub(crate) fn text(&mut self, end: u64, limit: u64) -> Result<String, WireError> {
        let len = end.checked_sub(self.at).filter(|len| *len <= limit);
        let len = len.ok_or(WireError::Malformed("a name is too long"))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.inner.read_exact(&mut bytes)?;
        self.at = end;
        String::from_utf8(bytes)
            .ok()
            .ok_or(WireError::Malformed("a name is not UTF-8"))
    }

    /// Length of the varint here, which stays unread.
    fn varint_len(&mut self) -> Result<u64, WireError> {
        let start = self.at;
        self.varint()?;
        let len = self.at - start;
        self.inner.seek_relative(-i64::try_from(len).unwrap_or(0))?;
        self.at = start;
        Ok(len)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        let mut byte = [0];
        self.inner.read_exact(&mut byte)?;
        self.at += 1;
        Ok(byte[0])
    }
}
