//! docs/api.md.

/// The reference.
pub fn reference() -> String {
    String::new()
}
