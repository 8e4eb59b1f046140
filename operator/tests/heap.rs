//! What is free goes back to the kernel. A binary of its own: nothing else allocates here.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/resident.rs"]
mod resident;

use resident::resident;

/// Objects of the size of a pod as it is listed.
const OBJECTS: usize = 8_000;
const BYTES: usize = 8 << 10;
/// One of so many stays.
const ONE_OF: usize = 16;

#[test]
fn what_a_list_took_is_given_back_though_what_was_kept_of_it_lies_between() {
    mcp_operator::heap::settle();
    let before = resident();
    let mut listed: Vec<_> = (0..OBJECTS).map(|_| vec![1_u8; BYTES]).collect();
    assert!(resident() >= before + OBJECTS * BYTES / 8 * 7);
    let mut place = 0;
    listed.retain(|_| {
        place += 1;
        place % ONE_OF == 0
    });
    mcp_operator::heap::trim();
    let left = resident().saturating_sub(before);
    println!("{left} bytes are left of {}", OBJECTS * BYTES);
    assert!(left < OBJECTS * BYTES / 8, "{left} bytes are left, and {} are kept", listed.len() * BYTES);
}
