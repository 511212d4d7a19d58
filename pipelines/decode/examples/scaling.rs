//! How a request scales over threads: predicted from the plan, and measured on one and two threads.
//!
//! ```text
//! cargo run --release -p reelsight-decode --example scaling -- clip.mp4 64
//! ```
#![expect(clippy::print_stdout, reason = "the result")]

use std::time::Instant;

use reelsight_decode::{DecodeLimits, DecodeOptions, Input, index, read_frames};
use reelsight_media::{CancelFlag, FrameSource as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give a file, and how many frames")?;
    let count: u64 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let input = Input::Path(path.into());
    let begun = Instant::now();
    let packets = index(&input, &DecodeLimits::default(), &CancelFlag::new())?;
    println!(
        "index: {:.3} s, {} frames",
        begun.elapsed().as_secs_f64(),
        packets.info.frame_count
    );
    let total = packets.info.frame_count;
    let mut frames: Vec<u64> = (0..count).map(|k| (2 * k + 1) * total / (2 * count)).collect();
    frames.dedup();
    for workers in [1, 2, 4, 8, 16] {
        println!(
            "{workers:2} threads: {:.2} times as fast, predicted",
            packets.predicted_speedup(&frames, workers)
        );
    }
    for threads in [1, 2] {
        let options = DecodeOptions {
            threads,
            size: Some((336, 336)),
            ..DecodeOptions::default()
        };
        let begun = Instant::now();
        let mut reader = read_frames(&input, packets.clone(), frames.clone(), options)?;
        let mut first = None;
        while reader.next_frame()?.is_some() {
            first.get_or_insert(begun.elapsed());
        }
        let first = first.unwrap_or_default().as_secs_f64();
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), reader.stats().cpu.as_secs_f64());
        println!(
            "{threads} threads: first frame after {first:.3} s, all after {wall:.3} s, {cpu:.3} s of CPU"
        );
    }
    Ok(())
}
