//! An allocator that counts, for test binaries that say what something keeps on the heap. They include this file, name it their
//! global allocator, and hold one test each: nothing else allocates there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// That of the system, counted.
pub(crate) struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Bytes on the heap at this moment.
pub(crate) fn live() -> isize {
    LIVE.load(Relaxed)
}

#[allow(unsafe_code, reason = "the trait is unsafe; each call is handed on as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size().cast_signed(), Relaxed);
        // SAFETY: as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size().cast_signed(), Relaxed);
        // SAFETY: as it came.
        unsafe { System.dealloc(at, layout) }
    }
}
