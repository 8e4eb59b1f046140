//! All waiting, in one place: a condition is asked for until it holds or its time is up.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a condition is asked for: often enough that nobody notices, seldom enough that asking
/// does not slow down what is waited for on two cores.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a condition says when it is asked.
pub(crate) enum Poll<T> {
    Ready(T),
    /// Not yet, with what was seen instead.
    Pending(String),
}

/// Waits until `condition` is ready; an error of the condition ends the wait.
///
/// # Errors
/// [`Error::TimedOut`] with what was seen last.
pub(crate) fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Poll<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let detail = match condition()? {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending(detail) => detail,
        };
        if start.elapsed() >= limit {
            return Err(Error::TimedOut { what: what.to_owned(), seconds: limit.as_secs(), detail });
        }
        std::thread::sleep(INTERVAL);
    }
}

/// The condition "this step succeeds", with its error as what was seen.
pub(crate) fn succeeds<T>(result: Result<T>) -> Poll<T> {
    match result {
        Ok(value) => Poll::Ready(value),
        Err(error) => Poll::Pending(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_holds_later_is_waited_for() {
        let mut asked = 0;
        let value = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok(if asked == 3 { Poll::Ready(asked) } else { Poll::Pending(String::new()) })
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_timeout_tells_what_was_seen_last() {
        let result: Result<()> = until("the moon", Duration::ZERO, || Ok(Poll::Pending("clouds".into())));
        let text = result.unwrap_err().to_string();
        assert!(text.contains("the moon") && text.contains("clouds"), "{text}");
    }

    #[test]
    fn an_error_ends_the_wait() {
        let result: Result<()> = until("x", Duration::from_mins(1), || Err(Error::Refused("no".into())));
        assert!(matches!(result, Err(Error::Refused(_))));
    }
}
