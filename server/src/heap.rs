//! The allocator of a server process, and giving back what it keeps for later.
//!
//! mimalloc, chosen by measurement (docs/benchmarks.md, Allocators): it keeps blocks of one size together, so the large buffers of a
//! wave of connections leave no holes between what stays of them. A program on the library says so itself, since there is one
//! allocator in a process:
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: mcp_server::heap::Allocator = mcp_server::heap::Allocator;
//! ```

use std::fs;

pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay` of mimalloc 2 and 3, which the bindings have no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has the kernel give this process ordinary pages only, since mimalloc could not give back the free part of a huge one, and has
/// mimalloc give back at once what becomes free: later it does so only where something is freed again, and what a wave of
/// connections took stayed. To be called before threads are started. Without [`Allocator`], or huge pages, it changes nothing.
pub fn settle() {
    let _ = nix::sys::prctl::set_thp_disable(true);
    set(PURGE_DELAY, 0);
}

#[allow(unsafe_code, reason = "a C function that stores a number")]
fn set(option: libmimalloc_sys::mi_option_t, value: std::ffi::c_long) {
    // SAFETY: an option that does not exist is ignored, and no value is a pointer.
    unsafe { libmimalloc_sys::mi_option_set(option, value) }
}

/// Gives memory that is free, and kept for what comes next, back to the kernel: that of this thread, which is all of it where one
/// worker serves, and of threads that have ended. Returns the bytes by which the process shrank.
///
/// Without [`Allocator`] it gives back nothing.
pub fn purge() -> u64 {
    let before = resident();
    collect();
    before.saturating_sub(resident())
}

#[allow(unsafe_code, reason = "a C function without arguments that matter: safe at any time, on any thread")]
fn collect() {
    // SAFETY: it only looks at the allocator's own heap of this thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Memory of the process that is in RAM, bytes; 0 when the kernel does not tell.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages.unwrap_or(0) * page.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096)
}
