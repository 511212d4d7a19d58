//! How many threads decode, and how soon they stop.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use reelsight_decode::{DecodeOptions, ThreadBudget, read_frames};
use reelsight_media::{CancelFlag, FrameErrorKind, FrameSource as _};

use super::support::{ffmpeg, folder, index_of, input};

const CLIP: &str = "-f lavfi -i testsrc2=s=640x360:r=25:d=8 -c:v libx264 -preset ultrafast -g 10";

#[test]
fn readers_share_one_budget() {
    let folder = folder();
    let file = ffmpeg(folder.path(), "a.mp4", CLIP);
    let index = index_of(&file);
    let read = |budget: &ThreadBudget, threads| {
        let options = DecodeOptions {
            threads,
            budget: budget.clone(),
            ..DecodeOptions::default()
        };
        let wanted = (0..200).step_by(3).collect();
        let mut reader = read_frames(&input(&file), Arc::clone(&index), wanted, options).unwrap();
        let mut got = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            got.push(frame.data);
        }
        got
    };
    let expected = read(&ThreadBudget::new(1), 1);
    let budget = ThreadBudget::new(3);
    assert!(read(&budget, 64) == expected);
    assert!(budget.peak() <= 3, "{}", budget.peak());
    // One more than the budget may work for a moment when a reader comes; it takes an interval to make room.
    let (readers, budget) = (6, ThreadBudget::new(4));
    thread::scope(|scope| {
        let reading: Vec<_> = (0..readers).map(|_| scope.spawn(|| read(&budget, 64))).collect();
        for reading in reading {
            assert!(reading.join().unwrap() == expected);
        }
    });
    let peak = budget.peak();
    println!("{readers} readers of 4 threads: at most {peak} decoded at a time");
    assert!(peak < 4 + readers, "{peak}");
    // A reader that nobody empties keeps its turns; the others go on.
    let options = DecodeOptions {
        threads: 4,
        budget: budget.clone(),
        budget_bytes: 1,
        ..DecodeOptions::default()
    };
    let stuck = read_frames(&input(&file), Arc::clone(&index), (0..200).collect(), options).unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(read(&budget, 4) == expected);
    drop(stuck);
}

#[test]
fn everything_stops_soon_after_the_flag() {
    let folder = folder();
    let clip = "-f lavfi -i testsrc2=s=1280x720:r=25:d=20 -c:v libx264 -preset ultrafast -g 250";
    let file = ffmpeg(folder.path(), "a.mp4", clip);
    let index = index_of(&file);
    let mut slowest = Duration::ZERO;
    for threads in [1, 2, 4] {
        let cancel = CancelFlag::new();
        let options = DecodeOptions {
            threads,
            budget: ThreadBudget::new(threads),
            cancel: cancel.clone(),
            ..DecodeOptions::default()
        };
        let mut reader =
            read_frames(&input(&file), Arc::clone(&index), vec![200, 480, 499], options).unwrap();
        thread::sleep(Duration::from_millis(60));
        cancel.cancel();
        let begun = Instant::now();
        let error = loop {
            match reader.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("20 s of video were decoded in 60 ms"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, FrameErrorKind::Cancelled);
        drop(reader);
        slowest = slowest.max(begun.elapsed());
    }
    println!("all decode threads were gone {slowest:?} after the flag");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
