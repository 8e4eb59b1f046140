//! Ids that this server gives out and gets back: `{incarnation}.{number}….{tag}`. Any shard reads from one where it belongs, and
//! there is one spelling only.

use mcp_crds::control::hex;

use crate::session::Incarnation;

/// An id as text.
pub fn write(incarnation: Incarnation, numbers: &[u64], tag: &[u8; 16]) -> String {
    let mut id = hex(&incarnation);
    for number in numbers {
        id.push('.');
        id.push_str(&number.to_string());
    }
    id.push('.');
    id.push_str(&hex(tag));
    id
}

/// Reads an id with so many numbers. No sign, no leading zero, no upper case, nothing behind.
pub fn read<const N: usize>(id: &str) -> Option<(Incarnation, [u64; N], [u8; 16])> {
    let mut parts = id.split('.');
    let incarnation: Incarnation = unhex(parts.next()?)?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = parts.next()?.parse().ok()?;
    }
    let tag = unhex(parts.next()?)?;
    (write(incarnation, &numbers, &tag) == id).then_some((incarnation, numbers, tag))
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let exact = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    exact.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}
