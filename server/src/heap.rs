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

/// Has the kernel give this process ordinary pages only: of a huge one, mimalloc could not give back the part that is free. To be
/// called before threads are started. Where the kernel has none it changes nothing.
pub fn settle() {
    let _ = nix::sys::prctl::set_thp_disable(true);
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
