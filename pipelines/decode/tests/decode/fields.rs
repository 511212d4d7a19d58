//! Pictures in two fields of their own, which no encoder of FFmpeg's command line writes: streams made here, bit by bit.
//!
//! Every fifth frame is intra-coded and differs from all others; the frames between are copies of their references, so
//! that a reference too few shows.

use std::{fs, path::Path};

use super::{conformance, support};

const GOP: u32 = 5;
const FRAMES: u32 = 20;

/// Writes bits, most significant first.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    used: u32,
}

impl Writer {
    fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= u8::from(value >> bit & 1 == 1) << (7 - self.used % 8);
            self.used += 1;
        }
    }

    /// Bits as text.
    fn text(&mut self, bits: &str) {
        bits.bytes().for_each(|bit| self.put(u32::from(bit == b'1'), 1));
    }

    /// Unsigned Exp-Golomb codes.
    fn golomb(&mut self, values: &[u32]) {
        for value in values {
            let length = (value + 1).ilog2();
            self.put(0, length);
            self.put(value + 1, length + 1);
        }
    }

    fn align(&mut self) {
        self.used = self.used.next_multiple_of(8);
    }
}

/// A NAL unit in Annex B.
fn nal(header: u8, mut payload: Writer) -> Vec<u8> {
    payload.put(1, 1);
    let mut out = vec![0, 0, 0, 1, header];
    let mut zeros = 0;
    for byte in payload.bytes {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// H.264, 32x64, fields of 2 x 2 macroblocks, raw samples and copies.
fn h264() -> Vec<u8> {
    let (mut sequence, mut picture) = (Writer::default(), Writer::default());
    sequence.put(77, 8);
    sequence.put(30, 16);
    sequence.golomb(&[0, 0, 2, 2]);
    sequence.put(0, 1);
    sequence.golomb(&[1, 1]);
    // Fields allowed, not within a frame; direct inference; neither cropping nor usability information.
    sequence.text("00100");
    picture.golomb(&[0, 0]);
    picture.text("00");
    picture.golomb(&[0, 0, 0]);
    picture.text("000");
    picture.golomb(&[0, 0, 0]);
    picture.text("100");
    let mut out = [nal(0x67, sequence), nal(0x68, picture)].concat();
    let mut frame_num = 0;
    for frame in 0..FRAMES {
        let (intra, kept) = (frame % GOP == 0, frame % GOP != 1 && frame % GOP != 3);
        if intra {
            frame_num = 0;
        }
        for bottom in 0..2 {
            let idr = intra && bottom == 0;
            let mut slice = Writer::default();
            slice.golomb(&[0, if intra { 7 } else { 5 }, 0]);
            slice.put(frame_num, 4);
            slice.put(2 | bottom, 2);
            if idr {
                slice.golomb(&[frame / GOP % 2]);
            }
            if !intra {
                slice.put(0, 2);
            }
            if kept {
                slice.put(0, if idr { 2 } else { 1 });
            }
            slice.golomb(&[0, 1]);
            // An intra field is raw; of a kept field the first macroblock is raw and the others are copies.
            let raw = if intra { 4 } else { u32::from(kept) };
            for block in 0..raw {
                slice.golomb(if intra { &[25] } else { &[0, 30] });
                slice.align();
                let sample = |at: u32| 16 + (frame * 29 + bottom * 7 + block * 13 + at / 16 * 3) % 200;
                (0..384).for_each(|at| slice.put(sample(at), 8));
            }
            if !intra {
                slice.golomb(&[4 - raw]);
            }
            let header = if idr { 5 } else { 1 } | if kept { 0x60 } else { 0 };
            out.extend(nal(header, slice));
        }
        frame_num += u32::from(kept);
    }
    out
}

/// MPEG-2, 32x64, flat intra fields, copies forward, and B-fields between their references.
fn mpeg2() -> Vec<u8> {
    let start = |code: u8, payload: Writer| [vec![0, 0, 1, code], payload.bytes].concat();
    let mut out = Vec::new();
    for group in 0..FRAMES / GOP {
        let mut sequence = Writer::default();
        sequence.put(32 << 12 | 64, 24);
        sequence.put(1 << 4 | 3, 8);
        sequence.put(1000 << 14 | 1 << 13 | 16 << 3, 32);
        let mut extension = Writer::default();
        extension.put(1 << 8 | 0x48, 12);
        extension.text("0010000");
        extension.put(1, 13);
        extension.put(0, 16);
        let mut closed = Writer::default();
        closed.put(1 << 12, 25);
        closed.text("1000000");
        for (code, payload) in [(0xb3, sequence), (0xb5, extension), (0xb8, closed)] {
            out.extend(start(code, payload));
        }
        // Decoding order: I P B P B, shown as I B P B P.
        for (kind, shown) in [(1, 0), (2, 2), (3, 1), (2, 4), (3, 3)] {
            for bottom in 0..2 {
                out.extend(mpeg2_field(
                    &start,
                    kind,
                    shown,
                    bottom,
                    25 * group + 20 + 10 * bottom,
                ));
            }
        }
    }
    out.extend([0, 0, 1, 0xb7]);
    out
}

fn mpeg2_field(
    start: &dyn Fn(u8, Writer) -> Vec<u8>,
    kind: u32,
    shown: u32,
    bottom: u32,
    level: u32,
) -> Vec<u8> {
    let (mut picture, mut coding) = (Writer::default(), Writer::default());
    picture.put(shown << 3 | kind, 13);
    picture.put(0xffff, 16);
    (1..kind).for_each(|_| picture.text("0111"));
    picture.put(0, 1);
    coding.put(8, 4);
    coding.put(
        if kind == 1 {
            0xffff
        } else if kind == 2 {
            0x11ff
        } else {
            0x1111
        },
        16,
    );
    coding.put(1 + bottom, 4);
    coding.put(0, 10);
    let mut out = [start(0, picture), start(0xb5, coding)].concat();
    for row in 0..2_u8 {
        let mut slice = Writer::default();
        slice.put(1 << 1, 6);
        for block in 0..2 {
            match kind {
                1 => {
                    slice.text("11");
                    let first = block == 0;
                    // The difference to 128 once, in 8 bits; a copy of it afterwards. Levels stay below 128.
                    if first {
                        slice.text("111110");
                        slice.put(127 - (128 - level), 7);
                        slice.text("10");
                    }
                    (usize::from(first)..4).for_each(|_| slice.text("10010"));
                    slice.text("00100010");
                }
                // Forward, from the field of the same parity, no motion; B-fields from both sides.
                2 => slice.text(if bottom == 1 { "100101111" } else { "100101011" }),
                _ => slice.text(if bottom == 1 { "11001111111" } else { "11001011011" }),
            }
        }
        out.extend(start(row + 1, slice));
    }
    out
}

/// Writes a stream, remuxes it, and compares all.
fn check(group: &str, name: &str, stream: &[u8], remuxes: &[(&str, &str)]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("conformance")
        .join(group);
    fs::create_dir_all(&folder).unwrap();
    let bare = folder.join(name);
    fs::write(&bare, stream).unwrap();
    let remux = |(name, options): &(&str, &str)| {
        support::ffmpeg(&folder, name, &format!("-i {} -c copy {options}", bare.display()))
    };
    let mut files: Vec<_> = remuxes.iter().map(remux).collect();
    files.push(bare);
    for file in &files {
        assert_eq!(
            support::index_of(file).info.frame_count,
            u64::from(FRAMES),
            "{}",
            file.display()
        );
    }
    conformance::check(&files);
}

#[test]
fn h264_fields() {
    let times = |units: u32| format!("-bsf:v setts=pts=N*{units}:dts=N*{units}");
    let remuxes = [("a.ts", &*times(1800)), ("a.mkv", &*times(20))];
    check("h264-fields", "a.h264", &h264(), &remuxes);
}

#[test]
fn mpeg2_fields() {
    // Frames are decoded as 0 2 1 4 3.
    let shown = r"(N+if(eq(mod(N\,5)\,0)\,0\,if(mod(mod(N\,5)\,2)\,1\,-1)))";
    let times = |units: u32| format!("-bsf:v setts=pts={shown}*{units}:dts=(N-1)*{units}");
    let remuxes = [("a.mkv", &*times(40)), ("a.ts", &*times(3600))];
    check("mpeg2-fields", "a.m2v", &mpeg2(), &remuxes);
}
