//! Reads bits and NAL units out of untrusted bytes: every read past the end gives `None`.

/// A most-significant-bit-first reader.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// The next bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// The next `count` bits, at most 32.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count.min(32) {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Skips `count` bits.
    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.data.len() * 8).then_some(())
    }

    /// An unsigned Exp-Golomb code.
    pub(crate) fn unsigned_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.take(zeros)?;
        Some((1_u32 << zeros) - 1 + rest)
    }

    /// A signed Exp-Golomb code.
    pub(crate) fn signed_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.unsigned_golomb()?);
        Some(if code % 2 == 0 {
            -(code / 2)
        } else {
            (code + 1) / 2
        })
    }
}

/// How NAL units are packed into a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Start codes.
    AnnexB,
    /// A big-endian length of so many bytes before each unit.
    Length(usize),
}

/// The NAL units of a packet, headers included. A unit that is cut off ends the list.
pub(crate) fn units(data: &[u8], framing: Framing) -> Vec<&[u8]> {
    match framing {
        Framing::AnnexB => annex_b_units(data),
        Framing::Length(bytes) => length_units(data, bytes),
    }
}

fn length_units(mut data: &[u8], bytes: usize) -> Vec<&[u8]> {
    let mut units = Vec::new();
    while let Some((length, rest)) = data.split_at_checked(bytes) {
        let length = length
            .iter()
            .fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
        let Some((unit, rest)) = rest.split_at_checked(length) else {
            break;
        };
        if !unit.is_empty() {
            units.push(unit);
        }
        data = rest;
    }
    units
}

fn annex_b_units(data: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let Some(mut start) = start_code(data, 0) else {
        return units;
    };
    loop {
        let begin = start + 3;
        let next = start_code(data, begin);
        let unit = &data[begin..next.unwrap_or(data.len())];
        // Zeros between units belong to the next start code.
        let end = unit
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        if end > 0 {
            units.push(&unit[..end]);
        }
        match next {
            Some(next) => start = next,
            None => return units,
        }
    }
}

/// Where each `00 00 01` that is followed by a code begins.
pub(crate) fn start_codes(data: &[u8]) -> impl Iterator<Item = usize> {
    let whole = &data[..data.len().saturating_sub(1)];
    std::iter::successors(start_code(whole, 0), move |&at| start_code(whole, at + 3))
}

/// Where the next `00 00 01` begins, at or after `from`.
fn start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + 2 < data.len() {
        match data[at + 2] {
            0 => at += 1,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 3,
        }
    }
    None
}

/// The payload of a NAL unit without emulation prevention bytes, at most `limit` bytes of it.
pub(crate) fn unescaped(unit: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len().min(limit));
    let mut zeros = 0;
    for &byte in unit {
        if out.len() == limit {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_golomb_codes_of_the_standard() {
        // 1, 010, 011, 00100, 00101: the values 0 to 4.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!(
            (0..5)
                .map(|_| bits.unsigned_golomb().unwrap())
                .collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!(
            (0..5).map(|_| bits.signed_golomb().unwrap()).collect::<Vec<_>>(),
            [0, 1, -1, 2, -2]
        );
    }

    #[test]
    fn splits_both_framings_alike() {
        let annex_b = [0, 0, 0, 1, 0x65, 1, 2, 0, 0, 1, 0x41, 9, 0];
        let lengths = [0, 0, 0, 3, 0x65, 1, 2, 0, 0, 0, 2, 0x41, 9];
        let expected: Vec<&[u8]> = vec![&[0x65, 1, 2], &[0x41, 9]];
        assert_eq!(units(&annex_b, Framing::AnnexB), expected);
        assert_eq!(units(&lengths, Framing::Length(4)), expected);
    }

    #[test]
    fn removes_emulation_prevention() {
        assert_eq!(unescaped(&[1, 0, 0, 3, 1, 0, 0, 3], 99), [1, 0, 0, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn finds_every_start_code_that_a_plain_search_finds(data in proptest::collection::vec(0_u8..3, 0..64)) {
            let plain = data.windows(3).position(|three| three == [0, 0, 1]);
            prop_assert_eq!(start_code(&data, 0), plain);
        }

        #[test]
        fn survives_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..200), bytes in 1_usize..=4) {
            let total: usize = units(&data, Framing::Length(bytes)).iter().map(|unit| unit.len()).sum();
            prop_assert!(total <= data.len());
            units(&data, Framing::AnnexB);
            let mut bits = Bits::new(&data);
            while bits.unsigned_golomb().is_some() {}
        }
    }
}
