//! Waiting: one place that retries, and always says what it saw last.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::{Failure, Outcome};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// Looks until `look` succeeds, at most for `within`.
///
/// # Errors
/// What was waited for, and why the last look failed.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, mut look: F) -> Outcome<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Outcome<T>>,
{
    let deadline = Instant::now() + within;
    let mut last = "nothing was seen".to_owned();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(why)) => last = why.to_string(),
            Err(_) => break,
        }
        if Instant::now() + INTERVAL >= deadline {
            break;
        }
        sleep(INTERVAL).await;
    }
    Err(Failure::new(format!("within {within:?}, not seen: {what}. Last look: {last}")))
}

/// Looks again and again `during` that time, and ends with the first look that fails: for what must stay so.
///
/// # Errors
/// Why a look failed, and how long it had been so.
pub async fn throughout<F, Fut>(what: &str, during: Duration, mut look: F) -> Outcome
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Outcome>,
{
    let begun = Instant::now();
    loop {
        look().await.map_err(|why| Failure::new(format!("{what}: held for {:.0?} of {during:?}. {why}", begun.elapsed())))?;
        if begun.elapsed() >= during {
            return Ok(());
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim;

    fn paused<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn what_comes_true_is_returned() {
        let mut looks = 0;
        let seen = paused(eventually("three", Duration::from_secs(5), || {
            looks += 1;
            async move {
                claim!(looks == 3, "{looks}");
                Ok(looks)
            }
        }));
        assert_eq!(seen, Ok(3));
    }

    #[test]
    fn what_never_comes_true_is_explained_by_the_last_look() {
        let seen: Outcome = paused(eventually("rain", Duration::from_millis(300), || async { Err(Failure::new("sunshine")) }));
        assert_eq!(seen.unwrap_err().to_string(), "within 300ms, not seen: rain. Last look: sunshine");
    }

    #[test]
    fn what_must_stay_so_fails_with_the_first_look_that_differs() {
        let mut looks = 0;
        let mut look = |good: u32| {
            looks += 1;
            let holds = looks <= good;
            async move {
                claim!(holds, "rain");
                Ok(())
            }
        };
        assert_eq!(paused(throughout("sunshine", Duration::from_millis(300), || look(9))), Ok(()));
        let seen = paused(throughout("sunshine", Duration::from_millis(300), || look(0)));
        assert!(seen.unwrap_err().to_string().ends_with("of 300ms. rain"));
    }

    #[test]
    fn a_look_that_hangs_does_not_hang_the_test() {
        let seen: Outcome = paused(eventually("an end", Duration::from_millis(50), std::future::pending));
        assert!(seen.unwrap_err().to_string().contains("nothing was seen"));
    }
}
