//! The memory through which frames come back: a sealed memfd that both sides map. The worker puts frames into free
//! places and says where; the parent copies them out, once, and says that the place is free again.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    ptr::{self, NonNull},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use reelsight_media::CancelFlag;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// How often a worker that waits for a free place looks whether it should stop.
const POLL: Duration = Duration::from_millis(20);
/// Places begin at multiples of this.
const ALIGN: usize = 64;

/// A mapped memfd.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone; every access through it is bounds-checked and copies bytes.
#[expect(unsafe_code, reason = "shared memory")]
unsafe impl Send for Mapping {}
// SAFETY: as above; concurrent copies of bytes may tear a frame but nothing else.
#[expect(unsafe_code, reason = "shared memory")]
unsafe impl Sync for Mapping {}

impl Mapping {
    #[expect(unsafe_code, reason = "shared memory")]
    fn new(memory: impl AsFd, len: usize, access: ProtFlags) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address that the kernel chooses aliases nothing of ours.
        let start = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, memory, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at null"))?;
        Ok(Self { start, len })
    }

    fn holds(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "shared memory")]
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and no pointer into it outlives `self`.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "the mapping was ours");
    }
}

/// The parent's side: only read.
#[derive(Debug)]
pub(crate) struct FrameMemory(Mapping);

impl FrameMemory {
    /// Memory of `len` bytes, and the descriptor for the worker. Pages that are never used cost nothing. The size is
    /// sealed, so that no worker can make the parent read behind its end.
    pub(crate) fn new(len: usize) -> io::Result<(Self, OwnedFd)> {
        let memory = memfd_create(
            "reelsight-frames",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&memory, len as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self(Mapping::new(&memory, len, ProtFlags::READ)?), memory))
    }

    /// A copy of the bytes at `offset`; `None` when they are not all inside.
    #[expect(unsafe_code, reason = "shared memory")]
    pub(crate) fn copy(&self, offset: u64, len: usize) -> Option<Bytes> {
        let offset = usize::try_from(offset)
            .ok()
            .filter(|&offset| self.0.holds(offset, len))?;
        let mut out = Vec::with_capacity(len);
        // SAFETY: `offset..offset + len` lies in the mapping, which cannot shrink; `out` has room for `len` bytes, all of
        // which are written. A worker that writes meanwhile changes pixels and nothing else.
        unsafe {
            ptr::copy_nonoverlapping(self.0.start.as_ptr().add(offset), out.as_mut_ptr(), len);
            out.set_len(len);
        }
        Some(out.into())
    }
}

/// The worker's side: places for frames. Low addresses are used first, so that few pages are ever touched.
#[derive(Debug)]
pub(crate) struct Slots {
    mapping: Mapping,
    budget: usize,
    /// Where places begin, and how long they are.
    used: Mutex<BTreeMap<usize, usize>>,
    freed: Condvar,
}

impl Slots {
    /// Maps `memory` of `len` bytes, of which at most `budget` are used unless a single frame is larger.
    pub(crate) fn new(memory: impl AsFd, len: usize, budget: usize) -> io::Result<Self> {
        Ok(Self {
            mapping: Mapping::new(memory, len, ProtFlags::READ | ProtFlags::WRITE)?,
            budget,
            used: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    /// Copies `data` to a free place and says where. Waits for one; `None` when `stop` was raised or nothing of this
    /// length ever fits.
    #[expect(unsafe_code, reason = "shared memory")]
    pub(crate) fn put(&self, data: &[u8], stop: &CancelFlag) -> Option<usize> {
        if data.len() > self.mapping.len {
            return None;
        }
        let mut used = self.used.lock();
        let offset = loop {
            if stop.is_cancelled() {
                return None;
            }
            if let Some(offset) = free_place(&used, data.len(), self.mapping.len, self.budget) {
                break offset;
            }
            self.freed.wait_for(&mut used, POLL);
        };
        used.insert(offset, data.len());
        drop(used);
        // SAFETY: `free_place` gives a place inside the mapping that nobody else uses until it is released.
        unsafe {
            ptr::copy_nonoverlapping(data.as_ptr(), self.mapping.start.as_ptr().add(offset), data.len());
        };
        Some(offset)
    }

    /// The frame at `offset` was taken.
    pub(crate) fn release(&self, offset: usize) {
        self.used.lock().remove(&offset);
        self.freed.notify_all();
    }
}

/// The lowest place for `len` bytes.
fn free_place(used: &BTreeMap<usize, usize>, len: usize, total: usize, budget: usize) -> Option<usize> {
    let taken: usize = used.values().sum();
    if !used.is_empty() && taken + len > budget {
        return None;
    }
    let mut at = 0;
    for (&start, &length) in used {
        if at + len <= start {
            break;
        }
        at = (start + length).next_multiple_of(ALIGN);
    }
    (at + len <= total).then_some(at)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn both(len: usize, budget: usize) -> (FrameMemory, Slots) {
        let (memory, fd) = FrameMemory::new(len).unwrap();
        (memory, Slots::new(fd, len, budget).unwrap())
    }

    #[test]
    fn bytes_cross_and_places_are_used_again() {
        let (memory, slots) = both(4096, 1000);
        let stop = CancelFlag::new();
        let first = slots.put(&[1; 300], &stop).unwrap();
        let second = slots.put(&[2; 300], &stop).unwrap();
        assert_eq!(memory.copy(first as u64, 300).unwrap(), vec![1; 300]);
        slots.release(first);
        assert_eq!(slots.put(&[3; 200], &stop), Some(first), "the lowest free place");
        assert_eq!(memory.copy(second as u64, 300).unwrap(), vec![2; 300]);
    }

    #[test]
    fn nothing_outside_is_copied() {
        let (memory, _slots) = both(4096, 4096);
        for (offset, len) in [(4000, 97), (4097, 0), (u64::MAX, 1), (0, 4097), (1, usize::MAX)] {
            assert!(memory.copy(offset, len).is_none(), "{offset} {len}");
        }
        assert!(memory.copy(4000, 96).is_some());
    }

    #[test]
    fn the_size_cannot_be_changed() {
        let (_memory, fd) = FrameMemory::new(4096).unwrap();
        assert!(ftruncate(&fd, 0).is_err() && ftruncate(&fd, 8192).is_err());
        assert!(fcntl_add_seals(&fd, SealFlags::WRITE).is_err());
    }

    #[test]
    fn a_full_memory_waits_for_its_reader_and_for_the_flag() {
        let (_memory, slots) = both(4096, 500);
        let (slots, stop) = (Arc::new(slots), CancelFlag::new());
        let first = slots.put(&[1; 400], &stop).unwrap();
        let waiting = thread::spawn({
            let (slots, stop) = (Arc::clone(&slots), stop.clone());
            move || (slots.put(&[2; 400], &stop), slots.put(&[3; 400], &stop))
        });
        thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished());
        slots.release(first);
        thread::sleep(Duration::from_millis(30));
        stop.cancel();
        let (second, third) = waiting.join().unwrap();
        assert_eq!((second, third), (Some(0), None));
        assert!(slots.put(&[0; 5000], &CancelFlag::new()).is_none(), "never fits");
    }

    #[test]
    fn one_frame_may_be_larger_than_the_budget() {
        let (_memory, slots) = both(4096, 10);
        assert_eq!(slots.put(&[1; 400], &CancelFlag::new()), Some(0));
    }
}
