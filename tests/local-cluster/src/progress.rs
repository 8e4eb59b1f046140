//! What a person sees while they wait: lines on standard error with the seconds since the start.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Says that a step begins or something happened.
pub(crate) fn say(text: &str) {
    let elapsed = START.get_or_init(Instant::now).elapsed();
    // Progress that nobody can see must not stop the work.
    let _ = writeln!(std::io::stderr(), "[{:>5.1}s] {text}", elapsed.as_secs_f64());
}

/// Prints a result on standard output. Whoever reads it may have read enough and gone: that is no error.
pub(crate) fn show(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
