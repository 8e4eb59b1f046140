//! What a person sees while they wait: lines on standard error with the seconds since the start.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Says that a step begins or something happened.
pub(crate) fn say(text: &str) {
    let elapsed = START.get_or_init(Instant::now).elapsed();
    eprintln!("[{:>5.1}s] {text}", elapsed.as_secs_f64());
}
