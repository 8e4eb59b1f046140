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

use std::alloc::{GlobalAlloc, Layout};
use std::fs;

use mimalloc::MiMalloc;

/// What all blocks of mimalloc are aligned to that are no smaller (`MI_MAX_ALIGN_SIZE`).
const ALIGNED: usize = 16;

/// mimalloc. Blocks that are aligned as all are take the short way: asked for an alignment, mimalloc makes sure of it, which for
/// one block in four costs as much as five others, and room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

#[allow(unsafe_code, reason = "a global allocator is unsafe to write: this one hands on")]
// SAFETY: what mimalloc gives, changes and takes back by `MiMalloc`, it may also by the functions beside it: all free with
// `mi_free`. Of a block no smaller than its alignment it promises 16 bytes, and of a smaller one its size.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_plain(layout) {
            // SAFETY: any size may be asked for.
            unsafe { libmimalloc_sys::mi_malloc(layout.size()).cast() }
        } else {
            // SAFETY: the caller's promise.
            unsafe { MiMalloc.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_plain(layout) {
            // SAFETY: any size may be asked for.
            unsafe { libmimalloc_sys::mi_zalloc(layout.size()).cast() }
        } else {
            // SAFETY: the caller's promise.
            unsafe { MiMalloc.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_plain(layout) && size >= layout.align() {
            // SAFETY: the block is mimalloc's, by the caller's promise.
            unsafe { libmimalloc_sys::mi_realloc(block.cast(), size).cast() }
        } else {
            // SAFETY: the caller's promise.
            unsafe { MiMalloc.realloc(block, layout, size) }
        }
    }
}

/// Whether a block of this layout is aligned as it must be without asking.
fn is_plain(layout: Layout) -> bool {
    layout.align() <= ALIGNED && layout.align() <= layout.size()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of each size and alignment, which grows and shrinks.
    #[test]
    #[allow(unsafe_code, reason = "an allocator has no other interface")]
    fn every_block_is_aligned_as_it_was_asked_for_and_keeps_its_bytes() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in (1..=300).chain([1000, 1024, 1025, 4095, 4096, 5000, 70_000]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                let aligned = |block: *mut u8| assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
                // SAFETY: the sizes are not zero, each block is used with its layout, and what is read was written.
                unsafe {
                    let block = Allocator.alloc_zeroed(layout);
                    aligned(block);
                    assert!((0..size).all(|n| *block.add(n) == 0), "{layout:?}");
                    block.write_bytes(7, size);
                    let block = Allocator.realloc(block, layout, size * 3);
                    aligned(block);
                    assert!((0..size).all(|n| *block.add(n) == 7), "{layout:?}");
                    let layout = Layout::from_size_align(size * 3, align).unwrap();
                    let block = Allocator.realloc(block, layout, 1);
                    aligned(block);
                    Allocator.dealloc(block, Layout::from_size_align(1, align).unwrap());
                    let block = Allocator.alloc(layout);
                    aligned(block);
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }
}
