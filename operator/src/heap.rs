//! What the allocator does with memory that is free again. Thousands of pods and their events come at one time, when a watch
//! begins or a leader takes over; what they took is not to be kept for the next thousands.
//!
//! The allocator is the C library's. Between what stays of a burst lies what was free again, and glibc gives back each page of
//! it ([`trim`]). mimalloc, which the server has, keeps blocks of one size together, in pieces of which one block that stays
//! keeps 64 KiB (docs/benchmarks.md). With another C library none of this changes anything.

use std::time::Duration;

use nix::libc;

/// Between two looks for pages that are free.
const TRIM_EVERY: Duration = Duration::from_secs(30);
/// A block of this size or more has pages of its own, which go back when it is freed. It is glibc's own first value, which grows
/// with what is freed unless it is set.
const PAGES_OF_ITS_OWN: libc::c_int = 128 << 10;

/// Has the kernel give this process ordinary pages only, since the free part of a huge one cannot be given back, and has all threads
/// take their memory from one place, so that it is used again before more is asked for. To be called before threads are started.
pub fn settle() {
    let _ = nix::sys::prctl::set_thp_disable(true);
    #[cfg(target_env = "gnu")]
    {
        set(libc::M_ARENA_MAX, 1);
        set(libc::M_MMAP_THRESHOLD, PAGES_OF_ITS_OWN);
    }
}

/// Gives pages that are free back to the kernel, now and then, until dropped.
pub async fn keep_trimmed() {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        trim();
    }
}

/// Gives every page that is free back to the kernel.
#[cfg_attr(target_env = "gnu", allow(unsafe_code, reason = "a C function without an argument that matters"))]
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, on any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "a C function that stores a number")]
fn set(parameter: libc::c_int, value: libc::c_int) {
    // SAFETY: a parameter that does not exist is ignored, and no value is a pointer.
    unsafe {
        libc::mallopt(parameter, value);
    }
}
