//! Turns packed RGB upright.

use std::collections::TryReserveError;

use crate::index::Orientation;

const CHANNELS: usize = 3;

/// Copies a `width` x `height` picture with rows of `stride` bytes into packed rows, turned by `orientation`.
pub(super) fn upright(
    src: &[u8],
    stride: usize,
    (width, height): (usize, usize),
    orientation: Orientation,
) -> Result<Vec<u8>, TryReserveError> {
    let mut out = Vec::new();
    // Pictures are the one thing that is large enough to meet a memory limit.
    out.try_reserve_exact(width * height * CHANNELS)?;
    let row = |y: usize| &src[y * stride..][..width * CHANNELS];
    let column = |x: usize| if orientation.from_right { width - 1 - x } else { x };
    let line = |y: usize| {
        if orientation.from_bottom {
            height - 1 - y
        } else {
            y
        }
    };
    if orientation.transpose {
        for x in 0..width {
            let at = column(x) * CHANNELS;
            for y in 0..height {
                out.extend_from_slice(&row(line(y))[at..at + CHANNELS]);
            }
        }
    } else if orientation.from_right {
        for y in 0..height {
            row(line(y))
                .chunks_exact(CHANNELS)
                .rev()
                .for_each(|pixel| out.extend_from_slice(pixel));
        }
    } else {
        (0..height).for_each(|y| out.extend_from_slice(row(line(y))));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two columns, three rows, named a to f; each row is followed by one byte of padding.
    fn turned(transpose: bool, from_right: bool, from_bottom: bool) -> String {
        let src: Vec<u8> = ["ab", "cd", "ef"]
            .iter()
            .flat_map(|row| row.bytes().flat_map(|name| [name; 3]).chain([b'!']))
            .collect();
        let orientation = Orientation {
            transpose,
            from_right,
            from_bottom,
        };
        let out = upright(&src, 7, (2, 3), orientation).unwrap();
        out.iter().step_by(3).map(|&name| char::from(name)).collect()
    }

    #[test]
    fn turns_and_mirrors() {
        assert_eq!(turned(false, false, false), "abcdef");
        assert_eq!(turned(true, false, true), "ecafdb", "a quarter clockwise");
        assert_eq!(turned(false, true, true), "fedcba", "half a turn");
        assert_eq!(turned(true, true, false), "bdface", "a quarter back");
        assert_eq!(turned(false, true, false), "badcfe", "mirrored");
        assert_eq!(turned(true, false, false), "acebdf", "transposed");
    }
}
