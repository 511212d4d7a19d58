//! Memory that a graph reads its past from and writes its present into.
#![expect(
    unsafe_code,
    reason = "several tensors view one allocation, which the safe layer cannot say"
)]

use std::{fmt, ptr::NonNull};

use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    sys,
    value::Shape,
};

use crate::{Element, OrtError};

/// Host memory of fixed size. It begins as zeros, and pages that nobody wrote take no memory.
///
/// Graphs with in-place caches (`GroupQueryAttention` over a buffer of fixed capacity) get a part of it as past and as
/// present at the same time, see [`crate::InPlace`]. Nobody else can touch it meanwhile: a run borrows it mutably.
pub struct Buffer {
    data: NonNull<u8>,
    bytes: usize,
    element: Element,
}

// SAFETY: the allocation belongs to this value alone; access goes through `&self` and `&mut self`.
unsafe impl Send for Buffer {}
// SAFETY: as above; `&self` only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`OrtError::OutOfMemory`] when there is no room for it.
    pub fn zeroed(element: Element, len: usize) -> Result<Self, OrtError> {
        let full = || OrtError::OutOfMemory {
            session: "KV buffer".into(),
            why: format!("{len} elements are more than there is room for"),
        };
        let bytes = len.checked_mul(element.size()).ok_or_else(full)?;
        // SAFETY: a new private mapping, which touches nothing else. The allocator would write its zeros at once.
        let data = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes.max(1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if data == libc::MAP_FAILED {
            return Err(full());
        }
        // Huge pages would take the room behind each head's tokens, too. Where the advice is not taken, they do.
        // SAFETY: advice about memory that is ours; it changes no contents.
        unsafe { libc::madvise(data, bytes.max(1), libc::MADV_NOHUGEPAGE) };
        let data = NonNull::new(data.cast()).ok_or_else(full)?;
        Ok(Self { data, bytes, element })
    }

    /// Element type.
    #[must_use]
    pub fn element(&self) -> Element {
        self.element
    }

    /// Bytes of address space; memory is taken where something was written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `bytes` initialised bytes begin at `data` and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.bytes) }
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.bytes) }
    }

    /// A value over `shape` elements from element `offset` on. The caller releases it before the borrow ends.
    pub(crate) fn value(&mut self, offset: usize, shape: &[usize]) -> Result<RawValue, OrtError> {
        let size = self.element.size();
        let len = shape.iter().product::<usize>() * size;
        if offset * size + len > self.bytes {
            return Err(OrtError::Run {
                session: "KV buffer".into(),
                why: format!("{shape:?} from {offset} on is beyond {} bytes", self.bytes),
            });
        }
        let failed = |error: ort::Error| OrtError::run("KV buffer", &error);
        let info = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::Default,
        )
        .map_err(failed)?;
        let shape: Shape = shape
            .iter()
            .map(|&size| i64::try_from(size).unwrap_or(i64::MAX))
            .collect();
        let mut value = std::ptr::null_mut();
        // SAFETY: the part lies within the allocation (checked above); all pointers are valid for the call.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                ort::AsPointer::ptr(&info),
                self.data.as_ptr().add(offset * size).cast(),
                len,
                shape.as_ptr(),
                shape.len(),
                self.element.to_ort().into(),
                &raw mut value,
            )
        };
        check("KV buffer", status)?;
        NonNull::new(value).map(RawValue).ok_or_else(|| OrtError::Run {
            session: "KV buffer".into(),
            why: "no tensor was made".into(),
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: mapped in `zeroed` with the same length, unmapped once.
        unsafe { libc::munmap(self.data.as_ptr().cast(), self.bytes.max(1)) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?}, {} bytes)", self.element, self.bytes)
    }
}

/// A tensor that does not own its memory.
pub(crate) struct RawValue(NonNull<sys::OrtValue>);

impl RawValue {
    pub(crate) fn as_ptr(&self) -> *mut sys::OrtValue {
        self.0.as_ptr()
    }
}

impl Drop for RawValue {
    fn drop(&mut self) {
        // SAFETY: made by `Buffer::value`, released once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

/// Takes what ONNX Runtime says, and frees it.
pub(crate) fn check(session: &str, status: sys::OrtStatusPtr) -> Result<(), OrtError> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: a status that is not null is valid until it is released; its message is a C string inside it.
    let why = unsafe {
        let message = std::ffi::CStr::from_ptr((ort::api().GetErrorMessage)(status.0));
        let why = message.to_string_lossy().into_owned();
        (ort::api().ReleaseStatus)(status.0);
        why
    };
    Err(OrtError::said(session, why))
}
