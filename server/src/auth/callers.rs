//! Callers that are known beforehand, each by one bearer token: for tests, for load, and for a program on a closed network.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::{Authenticator, Principal, Unauthenticated};

/// A fixed list of callers (RFC 6750, 2.1: `Authorization: Bearer TOKEN`).
///
/// Tokens are found by their digest, so that the time a look-up takes says nothing about them.
#[derive(Clone, Default)]
pub struct Callers(HashMap<[u8; SHA256_OUTPUT_LEN], String>);

// === impl Callers ===

impl Callers {
    /// Pairs of a token and the name of who has it. A name may have several tokens; of one token given twice the last counts.
    /// A caller without a name would be anonymous, and is left out.
    pub fn new<T: AsRef<str>, N: Into<String>>(callers: impl IntoIterator<Item = (T, N)>) -> Self {
        let named = callers.into_iter().map(|(token, name)| (sum(token.as_ref()), name.into()));
        Self(named.filter(|(_, name)| !name.is_empty()).collect())
    }
}

impl Authenticator for Callers {
    fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Unauthenticated> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let refused = |error: &str| Unauthenticated { challenge: format!("Bearer realm=\"mcp\"{error}") };
        let Some(value) = values.next() else { return Err(refused("")) };
        let token = value.to_str().ok().and_then(bearer).filter(|_| values.next().is_none());
        let name = token.and_then(|token| self.0.get(&sum(token)));
        let name = name.ok_or_else(|| refused(", error=\"invalid_token\""))?;
        Ok(Principal { name: name.clone() })
    }
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.values()).finish()
    }
}

/// The scheme is compared without regard to case (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn sum(token: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = [0; SHA256_OUTPUT_LEN];
    sum.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(values: &[&'static str]) -> Result<String, String> {
        let callers = Callers::new([("red", "ada"), ("blue", "bob"), ("green", "ada"), ("none", "")]);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        callers.authenticate(&headers).map(|principal| principal.name).map_err(|refused| refused.challenge)
    }

    #[test]
    fn each_token_is_of_one_caller() {
        assert_eq!(who(&["Bearer red"]).unwrap(), "ada");
        assert_eq!(who(&["bEARER  green"]).unwrap(), "ada");
        assert_eq!(who(&["Bearer blue"]).unwrap(), "bob");
    }

    #[test]
    fn what_is_no_token_of_anyone_is_asked_for_one() {
        assert_eq!(who(&[]).unwrap_err(), "Bearer realm=\"mcp\"");
        for values in [&["Bearer"][..], &["Bearer "], &["Basic red"], &["red"], &["Bearer Red"], &["Bearer none"]] {
            assert!(who(values).unwrap_err().contains("invalid_token"), "{values:?}");
        }
        assert!(who(&["Bearer red", "Bearer blue"]).is_err(), "of two, neither");
    }

    #[test]
    fn tokens_are_not_shown() {
        let shown = format!("{:?}", Callers::new([("red", "ada")]));
        assert_eq!(shown, r#"{"ada"}"#);
    }
}
