//! Why a test failed: text for a person, made from any error or from a claim that does not hold.

use std::fmt;

/// Why a test failed. Not a [`std::error::Error`], so that `?` turns every error into one.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

/// What a step of a test comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this explanation.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// The error and its causes, one after the other.
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        Self(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when something failed.
pub trait While<T> {
    /// Puts `doing` before the explanation.
    ///
    /// # Errors
    /// The same failure, explained.
    fn doing(self, doing: &str) -> Outcome<T>;
}

impl<T, E: Into<Failure>> While<T> for Result<T, E> {
    fn doing(self, doing: &str) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{doing}: {}", error.into())))
    }
}

/// Ends the test with an explanation.
#[macro_export]
macro_rules! fail {
    ($($why:tt)+) => {
        return Err($crate::Failure::new(format!($($why)+)))
    };
}

/// Ends the test unless the condition holds.
#[macro_export]
macro_rules! claim {
    ($holds:expr, $($otherwise:tt)+) => {
        if !$holds {
            $crate::fail!($($otherwise)+);
        }
    };
}

/// Ends the test unless both sides are equal.
#[macro_export]
macro_rules! claim_eq {
    ($found:expr, $expected:expr, $($about:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if *found != *expected {
                    $crate::fail!("{}: expected {:?}, found {:?}", format!($($about)+), expected, found);
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_failure_names_every_cause_once() {
        let failure: Failure = Outer(std::io::Error::other("inner")).into();
        assert_eq!(failure.to_string(), "outer: inner");
    }

    #[test]
    fn a_claim_that_does_not_hold_ends_the_test() {
        let judge = |n: u8| -> Outcome {
            claim_eq!(n, 2, "count of {}", "shards");
            Ok(())
        };
        assert_eq!(judge(2), Ok(()));
        assert_eq!(judge(3).unwrap_err().to_string(), "count of shards: expected 2, found 3");
    }
}
