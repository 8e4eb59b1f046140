//! What is free goes back to the kernel at once. A binary of its own: nothing else allocates here.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/resident.rs"]
mod resident;

use mimalloc::MiMalloc;
use resident::resident;

/// That of the operator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Objects of the size of a pod as it is listed.
const OBJECTS: usize = 8_000;
const BYTES: usize = 8 << 10;

#[test]
fn what_a_list_took_is_given_back_when_it_was_read() {
    mcp_operator::heap::settle();
    let before = resident();
    let listed: Vec<_> = (0..OBJECTS).map(|_| vec![1_u8; BYTES]).collect();
    assert!(resident() >= before + OBJECTS * BYTES / 8 * 7);
    drop(listed);
    let left = resident().saturating_sub(before);
    println!("{left} bytes are left of {}", OBJECTS * BYTES);
    assert!(left < OBJECTS * BYTES / 8, "{left} bytes are left");
}
