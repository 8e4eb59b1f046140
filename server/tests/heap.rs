//! What is freed goes back to the kernel when the memory guard asks for it. A binary of its own: nothing else allocates here.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/resident.rs"]
mod resident;

use mcp_server::heap::{Allocator, purge};
use resident::resident;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Blocks of the size of a read buffer, and one that stays between each two.
const BLOCKS: usize = 8_000;
const BYTES: usize = 8 << 10;

#[test]
fn buffers_of_a_wave_go_back_to_the_kernel_though_something_small_was_kept_beside_each() {
    let before = resident();
    let (buffers, kept): (Vec<_>, Vec<_>) = (0..BLOCKS).map(|n| (vec![1_u8; BYTES], Box::new(n))).unzip();
    assert!(resident() >= before + BLOCKS * BYTES);
    drop(buffers);
    let freed = purge();
    let left = resident().saturating_sub(before);
    println!("purged {freed} bytes, {left} are left of {}", BLOCKS * BYTES);
    assert!(left < BLOCKS * BYTES / 8, "{left} bytes are left");
    assert_eq!(kept.iter().map(|n| **n).sum::<usize>(), (0..BLOCKS).sum::<usize>());
}
