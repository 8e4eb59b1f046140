//! Cluster tests.
fn main() {}
