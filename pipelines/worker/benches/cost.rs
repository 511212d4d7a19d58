//! What decoding in a worker process costs: CPU-seconds of this process and all its children, beside decoding in this
//! process, over the same index and the same frames. First what starting and reaping a worker takes; then what requests
//! cost in one that serves all runs, as in a server, with its start taken off.
//!
//! ```text
//! cargo bench -p reelsight-worker --bench cost -- [--runs 5] FILE...
//! ```
#![expect(clippy::print_stdout, reason = "a measurement prints")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails is over")]

use std::{env, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use reelsight_decode::{DecodeOptions, Input, PacketIndex, index, read_frames};
use reelsight_media::{CancelFlag, FrameSource};
use reelsight_worker::{WorkerOptions, WorkerPool, run_worker};

const AS_WORKER: &str = "decode-worker";

/// Name, frames per second, and size.
type Work = (&'static str, f64, Option<(u32, u32)>);

const WORK: [Work; 3] = [
    ("1 fps, 336x336", 1.0, Some((336, 336))),
    ("1 fps, full size", 1.0, None),
    ("every frame, 64x36", f64::INFINITY, Some((64, 36))),
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if arguments.first().is_some_and(|word| word == AS_WORKER) {
        return run_worker();
    }
    let mut runs = 5;
    if let Some(at) = arguments.iter().position(|word| word == "--runs") {
        runs = arguments[at + 1].parse().unwrap();
        arguments.drain(at..at + 2);
    }
    let start = median((0..9).map(|_| cost(|| drop(pool()))).collect());
    println!("starting and reaping a worker: {:.0} ms of CPU", start * 1000.0);
    println!("| file | work | frames | in process, CPU s | in a worker, CPU s | difference |");
    println!("|---|---|---|---|---|---|");
    for file in arguments.into_iter().map(PathBuf::from) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for (work, fps, size) in WORK {
            let (frames, here, there) = compare(&Input::Path(file.clone()), fps, size, runs, start);
            let percent = 100.0 * (there / here - 1.0);
            println!("| {name} | {work} | {frames} | {here:.3} | {there:.3} | {percent:+.1} % |");
        }
    }
    ExitCode::SUCCESS
}

/// A pool whose worker is ready.
fn pool() -> WorkerPool {
    let pool = WorkerPool::start(WorkerOptions {
        workers: 1,
        ..WorkerOptions::default()
    });
    let pool = pool.unwrap();
    pool.sandbox_gaps().unwrap();
    pool
}

/// Frames, and what one run costs in both ways.
fn compare(input: &Input, fps: f64, size: Option<(u32, u32)>, runs: u32, start: f64) -> (usize, f64, f64) {
    let options = || DecodeOptions {
        threads: 2,
        size,
        ..DecodeOptions::default()
    };
    let mut frames = 0;
    let here = cost(|| {
        for _ in 0..runs {
            let packets = index(input, &options().limits, &CancelFlag::new()).unwrap();
            let wanted = every(&packets, fps);
            frames = drain(&mut read_frames(input, packets, wanted, options()).unwrap());
        }
    });
    let there = cost(|| {
        let pool = pool();
        for _ in 0..runs {
            let packets = pool.index(input, &options().limits, &CancelFlag::new()).unwrap();
            let wanted = every(&packets, fps);
            let mut reader = pool.read_frames(input, packets, wanted, &options()).unwrap();
            assert_eq!(drain(&mut reader), frames);
        }
    });
    (frames, here / f64::from(runs), (there - start) / f64::from(runs))
}

fn every(packets: &Arc<PacketIndex>, fps: f64) -> Vec<u64> {
    let timeline = &packets.timeline;
    let mut frames: Vec<u64> = if fps.is_finite() {
        let mut at = 0.0;
        let times = std::iter::from_fn(|| {
            at += 1.0 / fps;
            (at <= timeline.duration_secs()).then_some(at)
        });
        times.map(|secs| timeline.index_at_secs(secs) as u64).collect()
    } else {
        (0..timeline.len() as u64).collect()
    };
    frames.dedup();
    frames
}

fn drain(reader: &mut impl FrameSource) -> usize {
    std::iter::from_fn(|| reader.next_frame().unwrap()).count()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// CPU-seconds that `work` takes, with the children that end in it.
fn cost(work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    cpu().saturating_sub(before).as_secs_f64()
}

#[expect(
    unsafe_code,
    reason = "the standard library does not know what processes cost"
)]
fn cpu() -> Duration {
    let usage = |who| {
        // SAFETY: all zeros is a valid value, and the call only writes to it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        [usage.ru_utime, usage.ru_stime]
            .map(|time| {
                let [secs, micros] = [time.tv_sec, time.tv_usec].map(|part| u64::try_from(part).unwrap_or(0));
                Duration::from_micros(secs * 1_000_000 + micros)
            })
            .iter()
            .sum::<Duration>()
    };
    usage(libc::RUSAGE_SELF) + usage(libc::RUSAGE_CHILDREN)
}
