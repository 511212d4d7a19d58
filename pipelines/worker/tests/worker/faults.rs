//! A request pays for its own faults, and nobody else does.

use std::{
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use reelsight_decode::{DecodeError, DecodeLimits, DecodeOptions, Input};
use reelsight_media::{ByteSource, CancelFlag, FrameErrorKind, FrameSource as _};
use reelsight_worker::{WorkerOptions, WorkerPool};

use crate::support::{
    children, descriptors, ffmpeg, folder, index, options, pool, reader, rest, signal, slow_clip,
};

/// Keeps the worker waiting for its reader.
fn one_at_a_time() -> DecodeOptions {
    DecodeOptions {
        budget_bytes: 1,
        ..DecodeOptions::default()
    }
}

#[test]
fn a_killed_worker_fails_its_request_alone() {
    let at = folder();
    let file = slow_clip(at.path());
    let pool = pool();
    let mut reading = reader(&pool, &file, &one_at_a_time());
    let mut other = reader(&pool, &file, &one_at_a_time());
    reading.next_frame().unwrap().unwrap();
    other.next_frame().unwrap().unwrap();
    signal(reading.worker_pid().unwrap(), "-KILL");
    let error = loop {
        match reading.next_frame() {
            Ok(frame) => assert!(frame.is_some(), "frames that were there already"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error.kind, error.reason),
        (FrameErrorKind::Io, "DECODER_CRASHED")
    );
    assert!(error.message.contains("signal: 9"), "{}", error.message);
    assert!(reading.next_frame().unwrap().is_none(), "nothing after an error");
    assert_eq!(rest(&mut other).unwrap().len(), 199);
    assert_eq!(
        rest(&mut reader(&pool, &file, &one_at_a_time())).unwrap().len(),
        200
    );
}

#[test]
fn a_worker_that_dies_between_requests_is_replaced_unseen() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=1 -c:v libx264",
    );
    let (pool, input) = (pool(), Input::Path(file));
    index(&pool, &input).unwrap();
    let [before] = pool.idle_pids()[..] else {
        panic!("one worker")
    };
    signal(before, "-KILL");
    let begun = Instant::now();
    while children().contains(&before) {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "buried without being asked"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    index(&pool, &input).unwrap();
    assert!(!pool.idle_pids().contains(&before));
}

#[test]
fn a_worker_that_stands_still_is_a_timeout() {
    let at = folder();
    let file = slow_clip(at.path());
    let pool = pool();
    let limits = DecodeLimits {
        max_wall: Duration::from_secs(2),
        ..DecodeLimits::default()
    };
    let mut reading = reader(
        &pool,
        &file,
        &DecodeOptions {
            limits,
            ..one_at_a_time()
        },
    );
    reading.next_frame().unwrap().unwrap();
    let pid = reading.worker_pid().unwrap();
    signal(pid, "-STOP");
    let begun = Instant::now();
    let error = loop {
        match reading.try_next() {
            Ok(frame) => assert!(frame.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "DECODER_TIMEOUT");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!children().contains(&pid), "killed and reaped");
}

#[test]
fn an_index_that_takes_too_long_is_a_timeout() {
    /// Never has its bytes.
    #[derive(Debug)]
    struct Slow;
    impl ByteSource for Slow {
        fn read_at(&self, _: u64, _: &mut [u8], cancel: &CancelFlag) -> io::Result<usize> {
            while !cancel.is_cancelled() {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(reelsight_media::cancelled())
        }
        fn len(&self) -> io::Result<Option<u64>> {
            Ok(Some(1 << 20))
        }
    }
    let limits = DecodeLimits {
        max_wall: Duration::from_millis(400),
        ..DecodeLimits::default()
    };
    let (pool, input) = (pool(), Input::Bytes(Arc::new(Slow)));
    let error = pool.index(&input, &limits, &CancelFlag::new()).unwrap_err();
    assert_eq!(error.reason(), "DECODER_TIMEOUT");
    let cancel = CancelFlag::new();
    let waiting = std::thread::spawn({
        let cancel = cancel.clone();
        move || pool.index(&input, &DecodeLimits::default(), &cancel).unwrap_err()
    });
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    cancel.cancel();
    assert_eq!(waiting.join().unwrap().reason(), "CANCELLED");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn too_much_cpu_time_is_a_timeout() {
    let at = folder();
    let file = slow_clip(at.path());
    let pool = pool();
    let mut reading = reader(&pool, &file, &one_at_a_time());
    reading.next_frame().unwrap().unwrap();
    // What the kernel sends at the limit.
    signal(reading.worker_pid().unwrap(), "-XCPU");
    assert_eq!(rest(&mut reading).unwrap_err().reason(), "DECODER_TIMEOUT");
}

#[test]
fn memory_beyond_the_limit_is_refused_and_told() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "large.mp4",
        "-f lavfi -i testsrc2=s=7680x4320:r=1:d=3 -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p",
    );
    let pool = pool();
    let limits = DecodeLimits {
        max_memory_bytes: 150 << 20,
        ..DecodeLimits::default()
    };
    let options = DecodeOptions {
        size: Some((64, 64)),
        limits,
        ..DecodeOptions::default()
    };
    let error = rest(&mut reader(&pool, &file, &options)).unwrap_err();
    assert_eq!(error.reason(), "DECODER_MEMORY", "{error}");
    assert!(error.to_string().contains("157286400"), "{error}");
    let options = DecodeOptions {
        limits: DecodeLimits::default(),
        ..options
    };
    assert_eq!(
        rest(&mut reader(&pool, &file, &options)).unwrap().len(),
        3,
        "the same worker, with more"
    );
}

#[test]
fn dropping_and_cancelling_free_the_worker_at_once() {
    let at = folder();
    let file = slow_clip(at.path());
    let pool = pool();
    for threads in [1, 2] {
        let options = DecodeOptions {
            threads,
            ..one_at_a_time()
        };
        let mut reading = reader(&pool, &file, &options);
        reading.next_frame().unwrap().unwrap();
        let begun = Instant::now();
        drop(reading);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let cancel = CancelFlag::new();
        let mut reading = reader(
            &pool,
            &file,
            &DecodeOptions {
                cancel: cancel.clone(),
                ..options
            },
        );
        reading.next_frame().unwrap().unwrap();
        let begun = Instant::now();
        cancel.cancel();
        let error = reading.next_frame().unwrap_err();
        assert_eq!(
            (error.kind, error.reason),
            (FrameErrorKind::Cancelled, "CANCELLED")
        );
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    // One that cannot obey is killed.
    let mut reading = reader(&pool, &file, &one_at_a_time());
    reading.next_frame().unwrap().unwrap();
    let pid = reading.worker_pid().unwrap();
    signal(pid, "-STOP");
    drop(reading);
    assert!(!children().contains(&pid));
}

#[test]
fn nothing_is_left_behind_by_many_requests_and_many_deaths() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -g 10",
    );
    let input = Input::Bytes(Arc::new(File::open(&file).unwrap()));
    let pool = pool();
    let index = index(&pool, &input).unwrap();
    let all: Vec<u64> = (0..50).collect();
    let (files, mut crashes) = (descriptors(), 0);
    for round in 0..60 {
        let mut reading = pool
            .read_frames(&input, Arc::clone(&index), all.clone(), &one_at_a_time())
            .unwrap();
        reading.next_frame().unwrap().unwrap();
        match round % 4 {
            0 => {
                signal(reading.worker_pid().unwrap(), "-KILL");
                crashes += u32::from(rest(&mut reading).is_err());
            }
            1 => drop(reading),
            _ => assert_eq!(rest(&mut reading).unwrap().len(), 49),
        }
    }
    assert_eq!(crashes, 15);
    let begun = Instant::now();
    while pool.idle_pids().is_empty() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        descriptors() <= files + 2,
        "{files} descriptors became {}",
        descriptors()
    );
    let pids = pool.idle_pids();
    drop(pool);
    assert!(children().iter().all(|child| !pids.contains(child)), "reaped");
}

#[test]
fn a_source_that_fails_is_told_with_its_own_error() {
    #[derive(Debug)]
    struct Broken(File);
    impl ByteSource for Broken {
        fn read_at(&self, offset: u64, buffer: &mut [u8], cancel: &CancelFlag) -> io::Result<usize> {
            if offset > 100_000 {
                return Err(io::Error::other("the server hung up"));
            }
            ByteSource::read_at(&self.0, offset, buffer, cancel)
        }
        fn len(&self) -> io::Result<Option<u64>> {
            self.0.len()
        }
    }
    let at = folder();
    let file = slow_clip(at.path());
    let input = Input::Bytes(Arc::new(Broken(File::open(file).unwrap())));
    let error = index(&pool(), &input).unwrap_err();
    let DecodeError::Unreadable {
        source: Some(source), ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("hung up"));
}

#[test]
fn a_program_that_is_no_worker_is_told_to_who_waits_for_it() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=1 -c:v libx264",
    );
    let input = Input::Path(file);
    for (program, reason) in [
        ("/nonexistent", "DECODER_FAILED"),
        ("/bin/true", "DECODER_CRASHED"),
    ] {
        let pool = WorkerPool::start(WorkerOptions {
            program: program.into(),
            ..options()
        })
        .unwrap();
        let error = index(&pool, &input).unwrap_err();
        assert_eq!(error.reason(), reason, "{program}: {error}");
    }
}

#[test]
fn more_requests_than_workers_wait_for_one() {
    let at = folder();
    let file = slow_clip(at.path());
    let pool = WorkerPool::start(WorkerOptions {
        workers: 1,
        ..options()
    })
    .unwrap();
    let mut first = reader(&pool, &file, &one_at_a_time());
    first.next_frame().unwrap().unwrap();
    let limits = DecodeLimits {
        max_wall: Duration::from_millis(300),
        ..DecodeLimits::default()
    };
    let input = Input::Path(file.clone());
    let error = pool.index(&input, &limits, &CancelFlag::new()).unwrap_err();
    assert_eq!(error.reason(), "DECODER_TIMEOUT", "none was free");
    let waiting = std::thread::spawn({
        let pool = pool.clone();
        move || index(&pool, &Input::Path(file)).map(|index| index.timeline.len())
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(first);
    assert_eq!(waiting.join().unwrap().unwrap(), 200);
}

#[test]
fn workers_that_nobody_needs_end_after_a_while() {
    let at = folder();
    let file = slow_clip(at.path());
    let pool = WorkerPool::start(WorkerOptions {
        rest: Duration::from_millis(100),
        ..options()
    })
    .unwrap();
    let mut readers = [0, 1].map(|_| {
        let mut reading = reader(&pool, &file, &one_at_a_time());
        reading.next_frame().unwrap().unwrap();
        reading
    });
    let pids = readers.each_ref().map(|reading| reading.worker_pid().unwrap());
    for reading in &mut readers {
        rest(reading).unwrap();
    }
    let begun = Instant::now();
    let alive = || pids.into_iter().filter(|pid| children().contains(pid)).count();
    while alive() > 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the second one ends");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((alive(), pool.idle_pids().len()), (1, 1), "one is kept ready");
}

#[test]
fn workers_are_replaced_after_their_uses() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=1 -c:v libx264",
    );
    let pool = WorkerPool::start(WorkerOptions { uses: 2, ..options() }).unwrap();
    let input = Input::Path(file);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let mut reading = pool
            .read_frames(
                &input,
                index(&pool, &input).unwrap(),
                vec![0],
                &DecodeOptions::default(),
            )
            .unwrap();
        seen.insert(reading.worker_pid().unwrap());
        rest(&mut reading).unwrap();
    }
    assert_eq!(seen.len(), 6);
}
