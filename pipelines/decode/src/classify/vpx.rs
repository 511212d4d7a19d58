//! VP8 and VP9. Their headers tell key frames and hidden frames; references are in compressed state, so nothing is
//! ever dropped.

use super::{Class, Entry};
use crate::bits::Bits;

fn class(key: bool, shown: bool) -> Class {
    Class {
        entry: if key { Entry::Clean } else { Entry::None },
        hidden: !shown,
        ..Class::default()
    }
}

/// # Source
/// RFC 6386, section 9.1.
pub(super) fn vp8(data: &[u8]) -> Class {
    match data.first() {
        Some(tag) => class(tag & 1 == 0, tag >> 4 & 1 == 1),
        None => class(false, false),
    }
}

/// # Source
/// VP9 bitstream specification 0.6, sections 6.2 and Annex B. A superframe always ends with a shown frame.
pub(super) fn vp9(data: &[u8]) -> Class {
    let superframe = data.last().is_some_and(|marker| marker & 0xe0 == 0xc0);
    match vp9_header(data) {
        Some((key, shown)) => class(key, shown || superframe),
        None => class(false, true),
    }
}

/// Whether the first frame is a key frame, and whether it is shown.
fn vp9_header(data: &[u8]) -> Option<(bool, bool)> {
    let mut bits = Bits::new(data);
    if bits.take(2)? != 2 {
        return None;
    }
    let (low, high) = (bits.flag()?, bits.flag()?);
    if low && high {
        bits.skip(1)?;
    }
    if bits.flag()? {
        return Some((false, true));
    }
    let inter = bits.flag()?;
    Some((!inter, bits.flag()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_key_and_hidden_frames() {
        assert_eq!(vp8(&[0x10, 0, 0]), class(true, true));
        assert_eq!(vp8(&[0x01, 0, 0]), class(false, false));
        // Frame marker 2, profile 0, not an existing frame, key, shown.
        assert_eq!(vp9(&[0b1000_0010, 0]), class(true, true));
        assert_eq!(vp9(&[0b1000_0100, 0]), class(false, false));
        assert_eq!(
            vp9(&[0b1000_0100, 0, 0xc1]),
            class(false, true),
            "a superframe shows its last frame"
        );
        assert_eq!(
            vp9(&[0b1000_1000]),
            class(false, true),
            "an existing frame is shown"
        );
    }
}
