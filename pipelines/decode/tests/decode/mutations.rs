//! A few hundred broken files.

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use reelsight_decode::{DecodeLimits, DecodeOptions, Input, index, read_frames};
use reelsight_media::{CancelFlag, FrameSource as _};

use super::support::{self, ffmpeg, folder};

/// Broken in many ways, a file gives frames or a typed error, soon.
#[test]
fn mutated_files_give_frames_or_typed_errors() {
    let folder = folder();
    let at = folder.path();
    let small = "-f lavfi -i testsrc2=s=64x48:r=10:d=1";
    let seeds = [
        ffmpeg(at, "a.mp4", &format!("{small} -c:v libx264 -bf 2 -g 5")),
        ffmpeg(
            at,
            "f.mp4",
            &format!("{small} -c:v libx264 -g 5 -movflags frag_keyframe+empty_moov"),
        ),
        ffmpeg(
            at,
            "a.mkv",
            &format!("{small} -c:v libx265 -x265-params log-level=error:keyint=5"),
        ),
        ffmpeg(at, "a.ts", &format!("{small} -c:v libx264 -bf 2 -g 5")),
        ffmpeg(at, "a.webm", &format!("{small} -c:v libvpx-vp9 -g 5 -cpu-used 8")),
        ffmpeg(at, "a.avi", &format!("{small} -c:v mpeg4 -bf 2 -g 5")),
        ffmpeg(at, "a.gif", small),
    ];
    let mut state = 42;
    let limits = DecodeLimits {
        max_pixels: 1_000_000,
        max_frames: 10_000,
        ..DecodeLimits::default()
    };
    for (number, seed) in seeds.iter().enumerate() {
        let bytes = fs::read(seed).unwrap();
        for round in 0..40 {
            let broken = mutated(&bytes, &mut state);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&broken).unwrap();
            let begun = Instant::now();
            let outcome = frames_of(&Input::File(file), &limits);
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "seed {number}, round {round}: {:?}",
                begun.elapsed()
            );
            if let Err(reason) = outcome {
                assert!(
                    reason != "DECODER_FAILED",
                    "seed {number}, round {round}: {reason}"
                );
            }
        }
    }
}

fn frames_of(input: &Input, limits: &DecodeLimits) -> Result<usize, &'static str> {
    let index = index(input, limits, &CancelFlag::new()).map_err(|error| error.reason())?;
    let count = index.timeline.len() as u64;
    let frames = (0..count).step_by(3).take(50).collect();
    let options = DecodeOptions {
        threads: 2,
        limits: limits.clone(),
        size: Some((32, 24)),
        ..DecodeOptions::default()
    };
    let mut reader = read_frames(input, index, frames, options).map_err(|error| error.reason())?;
    let mut got = 0;
    while reader.next_frame().map_err(|error| error.reason)?.is_some() {
        got += 1;
    }
    Ok(got)
}

/// Flips, zeroes, moves or cuts a few places.
fn mutated(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=support::random(state, 8) {
        let (at, length) = (support::random(state, out.len()), support::random(state, 64));
        let end = (at + length).min(out.len());
        match support::random(state, 5) {
            0 => out[at] ^= 1 << support::random(state, 8),
            1 => out[at..end].fill(0),
            2 => out[at..end].fill(0xff),
            3 => out[at..end].reverse(),
            _ => out.truncate(at.max(100).min(out.len())),
        }
    }
    out
}
